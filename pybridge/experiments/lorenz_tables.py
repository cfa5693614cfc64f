# SPDX-License-Identifier: MIT
"""The tables of the Lorenz experiment."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from pybridge.experiments._report import Report


def tell(result: xr.Dataset, report: Report, directory: Path) -> None:
    """Write the scores, and where results and picture are."""

    def spread(values: xr.DataArray, digits: int = 3) -> str:
        flat = values.to_numpy()
        deviation = flat.std(ddof=1) if flat.size > 1 else 0.0
        return f"{flat.mean():.{digits}f} ± {deviation:.{digits}f}"

    assimilation, forecasts = [], []
    for row in result["row"].to_numpy():
        r = result.sel(row=row)
        assimilation.append(
            [
                str(row),
                f"{float(r['sigma_b']):g}",
                *(spread(r[f"rmse_{name}"]) for name in ("fg", "an", "end")),
            ]
        )
        forecasts.append(
            [
                str(row),
                *(spread(values, 2) for values in r["rmse_forecast"].transpose("lead", ...)),
                spread(r["r_rmse"].isel(perfect_lead=-1)),
            ]
        )
    report.table(
        "Cycling 4D-Var: RMSE, mean ± standard deviation over replicas",
        ["correction", "σ_b", "background", "analysis", "last"],
        assimilation,
    )
    report.table(
        "Forecasts: RMSE by lead, from analyses; R-RMSE, from perfect states",
        [
            "correction",
            *(f"{lead:g}" for lead in result["lead"].to_numpy()),
            f"R, {float(result['perfect_lead'][-1]):g}",
        ],
        forecasts,
    )
    report.tell(f"results: {directory / 'results.nc'}\npicture: {directory / 'lorenz.png'}")
