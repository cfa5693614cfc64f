# SPDX-License-Identifier: MIT
"""Pictures of the El Niño experiment."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from pybridge._files import replacing

mpl.use("Agg")

_EVENT = (np.datetime64("1996-09-01"), np.datetime64("1999-04-01"))
_EVENT_STARTS = ("1996-12", "1997-03", "1997-06", "1997-12")


def plot(result: xr.Dataset, directory: Path) -> list[Path]:
    """Draw the analyses, the skill by lead, and forecasts of 1997/98.

    Returns
    -------
    list of Path
        Of the PNG files in the directory.
    """
    paths = []
    for name, figure in (
        ("analysis", analysis_figure(result)),
        ("skill", skill_figure(result)),
        ("1997", event_figure(result)),
    ):
        path = directory / f"elnino_{name}.png"
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=110)
        paths.append(path)
    return paths


def main_systems(result: xr.Dataset) -> dict[str, str]:
    """Return the systems worth a line in a picture, with a colour each."""
    colours = {
        "persistence": "0.6",
        "damped persistence": "0.3",
        "regression": "C8",
        "default": "C0",
        "default + networks": "C1",
        "estimated": "C5",
        "fitted": "C2",
        "fitted + networks": "C3",
    }
    names = [str(name) for name in result["system"].to_numpy()]
    return {name: colour for name, colour in colours.items() if name in names}


def analysis_figure(result: xr.Dataset) -> Figure:
    """Draw observations, analysed temperature, and the thermocline nobody observed."""
    models = {
        name: colour
        for name, colour in (
            ("default", "C0"),
            ("fitted", "C2"),
            ("fitted + network", "C3"),
        )
        if name in result["model"]
    }
    figure = Figure(figsize=(12.0, 7.0), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True)
    time = result["time"].to_numpy()
    axes[0].plot(time, result["anomaly"], "k.", ms=2, label="observed (NOAA ERSST)")
    for name, colour in models.items():
        state = result["state"].sel(model=name)
        for axis, variable in zip(axes, ("temperature", "thermocline"), strict=True):
            values = state.sel(variable=variable)
            mean = values.mean("member")
            axis.plot(time, mean, color=colour, lw=0.9, label=name)
            if int(values.notnull().all("time").sum()) > 1:
                axis.fill_between(
                    time, values.min("member"), values.max("member"), color=colour, alpha=0.25
                )
    axes[0].set(ylabel="K", title="Niño 1+2 temperature anomaly: observations and analyses")
    axes[1].set(
        ylabel="m", title="Thermocline depth anomaly of the western Pacific: not observed, analysed"
    )
    for axis in axes:
        axis.axhline(0.0, color="0.7", lw=0.5)
        test = result["start"].to_numpy()[result["segment"].to_numpy() == "test"]
        axis.axvspan(test[0], time[-1], color="0.93", zorder=0, label="withheld for the test")
        axis.margins(x=0.01)
    axes[0].legend(fontsize="small", ncols=3)
    return figure


def skill_figure(result: xr.Dataset) -> Figure:
    """Draw skill and correlation by lead, and paired differences of skill with their intervals."""
    figure = Figure(figsize=(12.0, 9.0), layout="constrained")
    axes = figure.subplots(2, 2)
    lead = result["lead"].to_numpy()
    systems = main_systems(result)
    # Intervals of all systems would hide one another
    banded = [name for name in systems if name.endswith("networks")]
    panels = (
        ("skill", "Skill against climatology", systems, banded[-1:]),
        ("correlation", "Anomaly correlation, centred", systems, banded[-1:]),
        ("gain", "Skill gained over the uncorrected model", banded, banded),
        (
            "advantage",
            "Skill beyond damped persistence",
            [name for name in systems if "persistence" not in name],
            banded[-1:],
        ),
    )
    for axis, (variable, title, shown, bands) in zip(axes.flat, panels, strict=True):
        for name in shown:
            value = result[variable].sel(system=name).to_numpy()
            axis.plot(lead, value, color=systems[name], label=name)
            if name in bands:
                low, high = result[f"{variable}_interval"].sel(system=name).to_numpy()
                axis.fill_between(lead, low, high, color=systems[name], alpha=0.15, lw=0.0)
        axis.axhline(0.0, color="0.5", lw=0.7)
        axis.set(title=title, xlabel="lead (months)")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize="x-small")
    axes[0, 0].set_ylim(-0.6, 1.0)
    axes[0, 1].set_ylim(-0.2, 1.0)
    return figure


def event_figure(result: xr.Dataset) -> Figure:
    """Draw forecasts of the El Niño of 1997/98 from some starts."""
    figure = Figure(figsize=(12.0, 7.0), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    time = result["time"].to_numpy()
    shown = (time >= _EVENT[0]) & (time <= _EVENT[1])
    for axis, month in zip(axes.flat, _EVENT_STARTS, strict=True):
        axis.plot(time[shown], result["anomaly"].to_numpy()[shown], "k.-", lw=0.8, label="observed")
        starts = result["start"].to_numpy()
        number = np.flatnonzero(starts.astype("datetime64[M]") == np.datetime64(month))
        axis.set_title(f"forecasts from {month}")
        axis.axhline(0.0, color="0.7", lw=0.5)
        if not number.size:
            continue
        at = int(np.flatnonzero(time == starts[number[0]])[0])
        times = time[at : at + result.sizes["lead"] + 1]
        now = float(result["anomaly"][at])
        for name, colour in main_systems(result).items():
            if "persistence" in name:
                continue
            members = result["forecast"].sel(system=name).isel(start=int(number[0])).to_numpy()
            model = name.removesuffix("s")
            first = now
            if model in result["model"]:
                state = result["state"].sel(model=model, variable="temperature")
                first = float(state.isel(time=at).mean())
            axis.plot(times, [first, *np.nanmean(members, 0)], color=colour, lw=1.2, label=name)
    axes[0, 0].legend(fontsize="x-small")
    for axis in axes[:, 0]:
        axis.set_ylabel("anomaly (K)")
    figure.autofmt_xdate()
    return figure
