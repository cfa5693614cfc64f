# SPDX-License-Identifier: MIT
"""The picture of the Lorenz experiment."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from pybridge._files import replacing

mpl.use("Agg")


def plot(result: xr.Dataset, directory: Path) -> Path:
    """Draw errors of assimilation and forecasts, and what was learnt.

    Returns
    -------
    Path
        ``lorenz.png`` in the directory.
    """
    rows = [str(row) for row in result["row"].to_numpy()]
    colours = {row: mpl.colormaps["tab10"](number % 10) for number, row in enumerate(rows)}
    figure = Figure(figsize=(12.0, 9.0), layout="constrained")
    axes = figure.subplots(2, 2)

    axis = axes[0, 0]
    for number, (name, label) in enumerate(
        (("rmse_fg", "background"), ("rmse_an", "analysis"), ("rmse_end", "last observation time"))
    ):
        values = result[name]
        axis.errorbar(
            values.mean("replica"),
            np.arange(len(rows)) + 0.2 * (number - 1),
            xerr=values.std("replica"),
            fmt="o^s"[number],
            color=f"C{number}",
            label=label,
            capsize=2,
        )
    axis.set_yticks(np.arange(len(rows)), rows)
    axis.invert_yaxis()
    axis.set(xlabel="RMSE", title="Cycling 4D-Var", xlim=(0.0, None))
    axis.legend()

    axis = axes[0, 1]
    for row in rows:
        values = result["rmse_forecast"].sel(row=row)
        axis.errorbar(
            result["lead"],
            values.mean("replica"),
            yerr=values.std("replica"),
            marker="o",
            color=colours[row],
            label=row,
            capsize=2,
        )
    axis.set(
        xlabel="lead (model time units)",
        ylabel="RMSE",
        title="Forecasts from analyses",
        ylim=(0, None),
    )
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4)

    axis = axes[1, 0]
    for row in rows:
        values = result["r_rmse"].sel(row=row)
        mean, spread = values.mean("forecast_replica"), values.std("forecast_replica")
        axis.plot(result["perfect_lead"], mean, color=colours[row], label=row)
        axis.fill_between(
            result["perfect_lead"], mean - spread, mean + spread, color=colours[row], alpha=0.2
        )
    axis.set(
        xlabel="lead (model time units)",
        ylabel="R-RMSE",
        title="Forecasts from perfect states",
        ylim=(0, None),
    )

    axis = axes[1, 1]
    axis.plot(
        result["truth_x"], result["truth_tendency"], ".", color="0.8", ms=2, label="truth", zorder=0
    )
    if "correction" in result:
        for row in rows:
            if row != "none":
                axis.plot(
                    result["x_value"],
                    result["correction"].sel(row=row),
                    color=colours[row],
                    label=row,
                )
    low, high = np.percentile(result["truth_tendency"], [0.1, 99.9])
    axis.set(
        xlabel="x",
        ylabel="tendency",
        title="Unresolved tendency (dots), and mean corrections",
        xlim=np.percentile(result["truth_x"], [0.1, 99.9]),
        ylim=(low - 1.0, high + 1.0),
    )
    path = directory / "lorenz.png"
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path
