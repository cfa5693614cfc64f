# SPDX-License-Identifier: MIT
"""The Lorenz experiment by replica: truth, observations, cycling 4D-Var and forecasts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pybridge._validation import Array
from pybridge.assimilation import DiagonalCovariance, FourDVar, Observations
from pybridge.experiments.lorenz_configuration import LorenzConfiguration, Segment
from pybridge.models import Lorenz96, Model, TwoScaleLorenz96

# Independent random numbers for each use of a seed
_SEGMENTS = {"training": 1, "tuning": 2, "test": 3, "forecasts": 4}
# Cycles between two writes of what has been done
_KEPT_CYCLES = 10


@dataclass(frozen=True)
class Cycling:
    """One replica of cycling 4D-Var: all that its result depends on."""

    configuration: LorenzConfiguration
    segment: str
    size: Segment
    replica: int
    model: Model
    sigma_b: float


def truth_model(configuration: LorenzConfiguration) -> TwoScaleLorenz96:
    """Return the model that makes the truth."""
    truth = configuration.truth
    return TwoScaleLorenz96(
        truth.n_slow, truth.n_fast, truth.forcing, truth.h, truth.b, truth.c, truth.dt
    )


def forecast_model(configuration: LorenzConfiguration) -> Lorenz96:
    """Return the model without the fast variables."""
    return Lorenz96(
        configuration.truth.n_slow, configuration.window.forcing, configuration.window.dt
    )


def truth_states(
    configuration: LorenzConfiguration, segment: str, replica: int, steps: int
) -> tuple[Array, np.random.Generator]:
    """Return all variables of the truth after 0, 1, … steps of the forecast model.

    Returns
    -------
    states : numpy.ndarray, shape (steps + 1, n_slow * (1 + n_fast))
        Slow variables, then fast ones.
    generator : numpy.random.Generator
        The replica's random numbers, for what is drawn next.
    """
    truth = configuration.truth
    generator = np.random.default_rng([configuration.seed, _SEGMENTS[segment], replica])
    model = truth_model(configuration)
    x = np.concatenate(
        [
            truth.forcing * (1.0 + 0.1 * generator.standard_normal(truth.n_slow)),
            0.1 * generator.standard_normal(truth.n_slow * truth.n_fast),
        ]
    )
    x = model.step(x, round(truth.spin_up / truth.dt))
    every = round(configuration.window.dt / truth.dt)
    return model.trajectory(x, steps * every, every=every), generator


def unresolved_tendency(configuration: LorenzConfiguration, states: Array) -> Array:
    """Return the tendency of the slow variables that the forecast model lacks.

    Parameters
    ----------
    states : numpy.ndarray, shape (…, n_slow * (1 + n_fast))
        All variables of the truth.

    Returns
    -------
    numpy.ndarray, shape (…, n_slow)
        - (h c / b) times the sum of each point's fast variables, and the forcings' difference.
    """
    truth = configuration.truth
    fast = states[..., truth.n_slow :].reshape(*states.shape[:-1], truth.n_slow, truth.n_fast)
    coupling = truth.h * truth.c / truth.b * fast.sum(-1)
    return np.asarray(truth.forcing - configuration.window.forcing - coupling)


def observed(task: Cycling) -> tuple[Array, list[Observations], np.random.Generator]:
    """Return a replica's truth and its observations.

    Returns
    -------
    truth : numpy.ndarray, shape (times, n)
        Slow variables at each step of the forecast model, to the last window's longest lead.
    observations : list of Observations
        Of each window.
    generator : numpy.random.Generator
        The replica's random numbers, for what is drawn next.
    """
    window = task.configuration.window
    steps = task.size.windows * window.steps
    states, generator = truth_states(
        task.configuration,
        task.segment,
        task.replica,
        steps + int(_lead_steps(task.configuration).max()),
    )
    truth = states[:, : task.configuration.truth.n_slow]
    values = truth[:steps] + window.observation_error * generator.standard_normal(
        truth[:steps].shape
    )
    by_window = values.reshape(task.size.windows, window.steps, -1)
    first = Observations(range(window.steps), None, by_window[0], window.observation_error)
    return truth, [first.with_values(part) for part in by_window], generator


def fourdvar(task: Cycling) -> FourDVar:
    """Return the 4D-Var that analyses a replica's windows."""
    window = task.configuration.window
    return FourDVar(
        task.model,
        DiagonalCovariance(task.sigma_b, task.model.n),
        steps=window.steps,
        outer=window.outer,
        inner=window.inner,
        tolerance=window.tolerance,
        outer_tolerance=window.outer_tolerance,
    )


def assimilate(
    task: Cycling,
    kept: dict[str, Array] | None = None,
    keep: Callable[[dict[str, Array]], None] = lambda arrays: None,
) -> dict[str, Array]:
    """Cycle 4D-Var through a segment of the truth, and forecast from its analyses.

    Parameters
    ----------
    task : Cycling
        What is assimilated.
    kept : dict, optional
        What `keep` was given before an interruption.
    keep : callable
        Called now and then with all that has been done.

    Returns
    -------
    dict
        ``background``, ``analysis``, ``last``: states of shape (windows, n) at the window's start
        before and after, and at its last observation time; ``fg``, ``an``, ``end``: their mean
        squared errors, of shape (windows,); ``forecast``: those at each lead, (windows, leads).
    """
    configuration = task.configuration
    window = configuration.window
    n = configuration.truth.n_slow
    n_windows = task.size.windows
    truth, observations, generator = observed(task)
    leads = _lead_steps(configuration)
    analyser = fourdvar(task)
    states = np.full((4, n_windows, n), np.nan)  # background, analysis, last, next background
    states[3, 0] = truth[0] + generator.standard_normal(n)
    first = 0
    if kept is not None:
        states = kept["states"]
        first = int(kept["done"])
    for cycle in range(first, n_windows):
        begin = cycle * window.steps
        analysis = analyser.analyse(
            states[3, cycle], observations[cycle], start=begin, trajectory=True
        )
        assert analysis.trajectory is not None
        states[0, cycle] = analysis.background
        states[1, cycle] = analysis.analysis
        states[2, cycle] = analysis.trajectory[window.steps - 1]
        if cycle + 1 < n_windows:
            states[3, cycle + 1] = analysis.final
        if (cycle + 1) % _KEPT_CYCLES == 0:
            keep({"states": states, "done": np.array(cycle + 1.0)})
    starts = np.arange(n_windows) * window.steps
    forecasts = task.model.trajectory(states[2], int(leads.max()))[:, leads]
    verification = truth[starts[:, None] + window.steps - 1 + leads]
    return {
        "background": states[0],
        "analysis": states[1],
        "last": states[2],
        "fg": _mean_square(states[0] - truth[starts]),
        "an": _mean_square(states[1] - truth[starts]),
        "end": _mean_square(states[2] - truth[starts + window.steps - 1]),
        "forecast": _mean_square(forecasts - verification),
    }


def perfect_forecasts(
    configuration: LorenzConfiguration, model: Model, replica: int
) -> tuple[Array, Array]:
    """Forecast from perfect initial states of the slow variables.

    Returns
    -------
    numpy.ndarray, shape (steps + 1,)
        Mean squared difference from the truth by lead.
    numpy.ndarray, shape ()
        Climatological variance of the model.
    """
    settings = configuration.forecasts
    n = configuration.truth.n_slow
    steps = round(settings.horizon / configuration.window.dt)
    # Starts one unit of time apart
    apart = round(1.0 / configuration.window.dt)
    states, _ = truth_states(configuration, "forecasts", replica, settings.starts * apart)
    starts = states[:-1:apart]
    every = round(configuration.window.dt / configuration.truth.dt)
    truth = truth_model(configuration).trajectory(starts, steps * every, every=every)[..., :n]
    forecast = model.trajectory(starts[:, :n], steps)
    climate = model.trajectory(model.step(starts[0, :n], 20 * apart), 1000 * apart, every=apart)
    return np.asarray(((forecast - truth) ** 2).mean((0, 2))), np.asarray(climate.var())


def _lead_steps(configuration: LorenzConfiguration) -> NDArray[np.int64]:
    return np.array([round(lead / configuration.window.dt) for lead in configuration.leads])


def _mean_square(difference: Array) -> Array:
    return np.asarray((difference**2).mean(-1))
