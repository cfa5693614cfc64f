# SPDX-License-Identifier: MIT
"""Tables of the El Niño experiment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from pybridge.experiments._report import Report

# Climatology, persistence, damped persistence and regression come first
_N_BASELINES = 4


def tell(result: xr.Dataset, report: Report, files: Sequence[Path]) -> None:
    """Write scores of the test years, what was chosen, and where the files are."""
    test = result["start"].to_numpy()[result["segment"].to_numpy() == "test"]
    level = json.loads(result.attrs["configuration"])["verification"]["level"]
    note = f"{test.size} forecasts from {str(test[0])[:7]} to {str(test[-1])[:7]}"
    leads = [lead for lead in (1, 2, 3, 4, 6, 9, 12) if lead in result["lead"]]
    systems = [str(name) for name in result["system"].to_numpy()]

    def cell(variable: str, **where: object) -> str:
        value = float(result[variable].sel(where))
        return f"{value:.2f}" if np.isfinite(value) else ""

    def bounds(variable: str, **where: object) -> str:
        value = cell(variable, **where)
        low, high = result[f"{variable}_interval"].sel(where).to_numpy()
        return f"{value} [{low:.2f}, {high:.2f}]" if value else ""

    networks = [
        name for name in systems if np.isfinite(result["member_rmse"].sel(system=name)[1:]).any()
    ]

    for variable, title in (
        ("rmse", "RMSE in K"),
        ("skill", "Skill against climatology"),
        ("correlation", "Anomaly correlation, centred"),
    ):
        rows = [
            [name, *(cell(variable, system=name, lead=lead) for lead in leads)] for name in systems
        ]
        if variable == "skill":
            for name, row in zip(systems, rows, strict=True):
                row.append(cell("mean_skill", system=name))
        columns = ["", *(f"{lead} mo" for lead in leads), *(["mean"] * (variable == "skill"))]
        report.table(f"{title} by lead; {note}", columns, [row for row in rows if any(row[1:])])
    some = [lead for lead in (1, 6, 12) if lead in result["lead"]]
    for variable, title, shown in (
        ("skill", "Skill against climatology", systems),
        ("gain", "Skill gained over the uncorrected model, paired", systems),
        ("advantage", "Skill beyond damped persistence, paired", systems[_N_BASELINES:]),
    ):
        rows = [
            [name]
            + [bounds(variable, system=name, lead=lead) for lead in some]
            + [bounds(f"mean_{variable}", system=name)]
            for name in shown
        ]
        columns = ["", *(f"{lead} mo" for lead in some), "mean of all leads"]
        report.table(f"{title}; {level:.0%} intervals", columns, [r for r in rows if any(r[1:])])
    rows = []
    for name in networks:
        skill = result["member_skill"].sel(system=name).mean("lead").to_numpy()
        skill = skill[np.isfinite(skill)]
        rows.append([name, *(f"{value:.2f}" for value in skill), f"{skill.std(ddof=1):.2f}"])
    if rows:
        columns = ["", *(f"seed {number}" for number in range(1, len(rows[0]) - 1)), "spread"]
        report.table("Skill of each network, mean of all leads", columns, rows)
    for physics in result["physics"].to_numpy():
        mu, e_n = result["parameters"].sel(physics=physics).to_numpy()
        window = json.loads(result.attrs["windows"])[physics]
        report.tell(
            f"{physics}: mu = {mu:.3g}, e_n = {e_n:.3g}; windows of {window['months']} months, "
            f"background errors {window['sigma_t']:g} and {window['sigma_h']:g}"
        )
    report.tell("results: " + ", ".join(str(path) for path in files))
