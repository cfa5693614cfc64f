# SPDX-License-Identifier: MIT
"""Scores of forecasts by lead, with confidence intervals by a block bootstrap over their starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from pybridge._validation import Array


def block_counts(n: int, block: int, samples: int, seed: int) -> Array:
    """Draw moving-block bootstrap samples of n times.

    Parameters
    ----------
    n : int
        Times, one after the other.
    block : int
        Length of a block; at most n of it is used.
    samples : int
        Samples drawn.
    seed : int
        Of the random numbers.

    Returns
    -------
    numpy.ndarray, shape (samples, n)
        How often each time is in each sample; rows sum to n.
    """
    block = min(block, n)
    generator = np.random.default_rng(seed)
    firsts = generator.integers(0, n - block + 1, (samples, -(-n // block)))
    times = (firsts[:, :, None] + np.arange(block)).reshape(samples, -1)[:, :n]
    counts = np.zeros((samples, n))
    np.add.at(counts, (np.arange(samples)[:, None], times), 1.0)
    return counts


def verify(
    forecast: xr.DataArray,
    truth: xr.DataArray,
    pairs: Mapping[str, str],
    *,
    reference: str,
    rival: str,
    block: int,
    samples: int,
    level: float,
    seed: int,
) -> xr.Dataset:
    """Score forecasts of anomalies.

    Parameters
    ----------
    forecast : xarray.DataArray, dimensions (system, member, start, lead)
        Forecasts. Members that a system does not have are NaN: scores are those of a single
        member, averaged over members.
    truth : xarray.DataArray, dimensions (start, lead)
        What was observed.
    pairs : mapping
        For each system, the name of the one it is compared with; empty: none.
    reference : str
        The system against which skill is measured.
    rival : str
        The simple forecast that has to be beaten.
    block, samples, level, seed
        Of the bootstrap, and of its intervals.

    Returns
    -------
    xarray.Dataset
        By system and lead: ``rmse``; ``skill``, one minus the mean squared error over the
        reference's; ``correlation``, centred over the starts; ``gain``, skill minus that of the
        system's partner; ``advantage``, skill minus the rival's; each with its interval
        (``…_interval``, dimension bound), the skills and their differences also for the mean over
        leads (``mean_…``). ``member_rmse`` and ``member_skill`` are those of each member.
    """
    f = forecast.transpose("system", "member", "start", "lead").to_numpy()
    o = truth.transpose("start", "lead").to_numpy()
    systems = [str(name) for name in forecast["system"].to_numpy()]
    n = o.shape[0]
    # The first row is the sample itself
    weights = np.concatenate([np.ones((1, n)), block_counts(n, block, samples, seed)]) / n

    def mean(values: Array) -> Array:
        """Return weighted means over starts, shape (samples + 1, …)."""
        moved = np.moveaxis(values, -2, 0)
        return np.asarray((weights @ moved.reshape(n, -1)).reshape(-1, *moved.shape[1:]))

    square_error = mean((f - o) ** 2)  # (samples + 1, system, member, lead)
    mse = np.nanmean(square_error, axis=2)
    base = mse[:, [systems.index(reference)]]
    skill = 1.0 - mse / base
    covariance = mean(f * o) - mean(f) * mean(o)[:, None, None]
    variance = mean(f**2) - mean(f) ** 2
    observed = (mean(o**2) - mean(o) ** 2)[:, None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.where(variance > 1e-12, covariance / np.sqrt(variance * observed), np.nan)
    has_member = np.asarray(np.isfinite(correlation).any(axis=(0, 3)))
    mean_correlation = np.full(mse.shape, np.nan)
    for number in range(len(systems)):
        if has_member[number].any():
            mean_correlation[:, number] = correlation[:, number, has_member[number]].mean(1)
    gain = np.full(skill.shape, np.nan)
    for name, partner in pairs.items():
        if not partner:
            continue
        gain[:, systems.index(name)] = skill[:, systems.index(name)]
        gain[:, systems.index(name)] -= skill[:, systems.index(partner)]

    advantage = skill - skill[:, [systems.index(rival)]]

    result = xr.Dataset(coords={"system": systems, "lead": forecast["lead"].to_numpy()})
    bounds = [0.5 * (1.0 - level), 0.5 * (1.0 + level)]

    def add(name: str, values: Array, dims: Sequence[str]) -> None:
        result[name] = (dims, values[0])
        result[f"{name}_interval"] = (("bound", *dims), np.quantile(values[1:], bounds, axis=0))

    add("rmse", np.sqrt(mse), ("system", "lead"))
    add("skill", skill, ("system", "lead"))
    add("correlation", mean_correlation, ("system", "lead"))
    add("gain", gain, ("system", "lead"))
    add("advantage", advantage, ("system", "lead"))
    add("mean_skill", skill.mean(2), ("system",))
    add("mean_gain", gain.mean(2), ("system",))
    add("mean_advantage", advantage.mean(2), ("system",))
    member_skill = 1.0 - square_error[0] / base[0][:, None]
    result["member_rmse"] = (("system", "member", "lead"), np.sqrt(square_error[0]))
    result["member_skill"] = (("system", "member", "lead"), member_skill)
    result["bound"] = ["low", "high"]
    return result
