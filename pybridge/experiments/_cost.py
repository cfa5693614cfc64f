# SPDX-License-Identifier: MIT
"""Where the time of a 4D-Var goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pybridge import _kernels
from pybridge._validation import Array
from pybridge.assimilation import FourDVar, Observations
from pybridge.hybrid import HybridModel
from pybridge.models import Model


def parts_of_time(
    fourdvar: FourDVar, background: Array, observations: Observations
) -> dict[str, float]:
    """Measure the parts of one analysis, in milliseconds.

    The window's runs are counted by 4D-Var itself; what each part of a run takes is measured by
    running that part alone, so parts are estimates, and "minimiser" is what remains of the
    Fortran time.

    Returns
    -------
    dict
        By part: ``model``, ``tangent linear``, ``adjoint``, ``network`` (its share of these three
        taken out), ``observation operator``, ``covariance``, ``minimiser``, ``border``; ``total``.
    """
    model = fourdvar.model
    physics = model.model if isinstance(model, HybridModel) else model
    steps = fourdvar.steps
    analysis = fourdvar.analyse(background, observations)
    forward, tangent, adjoint = analysis.runs
    total = _milliseconds(lambda: fourdvar.analyse(background, observations))
    v, x_a, x_end = np.zeros(fourdvar.n_control), np.empty(model.n), np.empty(model.n)
    p_a, none = np.empty(model.n_parameters), np.empty(0)

    fourdvar.analyse(background, observations)

    def fortran() -> None:
        v[:] = 0.0
        _kernels.pybridge_fourdvar_analyse(
            fourdvar._handle, 0, background, none, observations.values, v, x_a, p_a, x_end, none
        )

    inside = _milliseconds(fortran)
    dx = 1e-3 * np.ones(model.n)
    # Differences of long and short runs, in which a call's own cost drops out
    long = 10 * steps

    def one_run(verb: Callable[[int], Any]) -> float:
        return (_milliseconds(lambda: verb(long)) - _milliseconds(lambda: verb(steps))) / 9.0

    def runs(which: Model) -> Array:
        nonlinear = one_run(lambda n: which.step(background, n))
        linear = one_run(lambda n: which.step_tl(background, dx, n))
        transposed = one_run(lambda n: which.step_ad(background, dx, n))
        return np.array([nonlinear, linear - nonlinear, transposed - nonlinear])

    counts = np.array([forward, tangent, adjoint], float)
    of_physics = counts * runs(physics)
    of_model = counts * runs(model) if model is not physics else of_physics
    covariance = fourdvar.covariance
    transform = _milliseconds(lambda: covariance.forward(v[: covariance.n_control]))
    transform -= _milliseconds(lambda: covariance.forward(np.empty((0, covariance.n_control))))
    # One observation, at the end, has the window run as all of them have
    last = Observations([observations.layout.last_step], [0], [[0.0]], 1.0)
    with_all = _milliseconds(lambda: fourdvar.cost_and_gradient(v, background, observations))
    with_one = _milliseconds(lambda: fourdvar.cost_and_gradient(v, background, last))
    parts = {
        "model": of_physics[0],
        "tangent linear": of_physics[1],
        "adjoint": of_physics[2],
        "network": (of_model - of_physics).sum(),
        "observation operator": counts.sum() * (with_all - with_one) / 2.0,
        "covariance": (tangent + adjoint) * max(transform, 0.0),
    }
    parts = {name: max(float(value), 0.0) for name, value in parts.items()}
    parts["minimiser"] = max(inside - sum(parts.values()), 0.0)
    parts["border"] = max(total - inside, 0.0)
    parts["total"] = total
    return parts


def _milliseconds(function: Callable[[], Any]) -> float:
    function()
    best = np.inf
    for _ in range(5):
        begin = time.perf_counter()
        calls = 0
        while (elapsed := time.perf_counter() - begin) < 0.01:
            function()
            calls += 1
        best = min(best, elapsed / calls)
    return best * 1e3
