# SPDX-License-Identifier: MIT
"""Forecast models against NumPy, and everything that can be done wrong with them."""

import gc
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import operators
import pytest
import reference_models as reference
from conftest import run
from scipy.integrate import solve_ivp

import pybridge as pb
from pybridge import errors
from pybridge.models import from_config

# Each model with its tendency written in NumPy, and the scale of its states
CASES = {
    "Lorenz63": (pb.Lorenz63(), reference.lorenz63, 5.0),
    "Lorenz96": (pb.Lorenz96(), reference.lorenz96, 4.0),
    "Lorenz96 of 4": (pb.Lorenz96(4, forcing=3.0, dt=0.02), reference.lorenz96, 2.0),
    "Lorenz96 of 5": (pb.Lorenz96(5), reference.lorenz96, 2.0),
    "TwoScaleLorenz96": (pb.TwoScaleLorenz96(), reference.two_scale_lorenz96(36), 1.0),
    "TwoScaleLorenz96 of 4": (
        pb.TwoScaleLorenz96(4, 1, forcing=6.0, h=0.7, b=8.0, c=5.0),
        reference.two_scale_lorenz96(4),
        1.0,
    ),
    "RechargeOscillator": (pb.RechargeOscillator(), reference.recharge_oscillator, 1.0),
    "RechargeOscillator by other constants": (
        pb.RechargeOscillator(0.8, 2.0, 1.1, 0.6, 0.3, 0.2, 2.2, dt=0.1),
        reference.recharge_oscillator,
        1.0,
    ),
}
MODELS = {name: model for name, (model, _, _) in CASES.items()}
each_case = pytest.mark.parametrize(("model", "tendency", "scale"), CASES.values(), ids=CASES)
each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


# Callables of a module, so that the model made of them can be pickled


def logistic(x, p, t):
    return x + 0.1 * p[0] * x * (1.0 - x) + 0.01 * np.sin(t)


def logistic_tl(x, dx, p, dp, t):
    return dx + 0.1 * p[0] * (1.0 - 2.0 * x) * dx + 0.1 * dp[0] * x * (1.0 - x)


def logistic_ad(x, x_ad, p, t):
    return x_ad + 0.1 * p[0] * (1.0 - 2.0 * x) * x_ad, [np.sum(0.1 * x * (1.0 - x) * x_ad)]


def logistic_model():
    return pb.PythonModel(logistic, logistic_tl, logistic_ad, n=3, dt=0.5, parameters=[1.2])


@pytest.fixture
def rng():
    return np.random.default_rng(96)


def states(model, rng, *shape, scale=1.0):
    unit = 0.2 if isinstance(model, pb.RechargeOscillator) else 1.0
    return unit * (1.0 + scale * rng.standard_normal((*shape, model.n)))


def assert_close(actual, expected, tolerance):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


# ---- numbers ----


def test_lorenz96_gives_the_published_reference_values():
    """Of the OOPS system: 16 steps of 5400/432000 from 8 with one component 9."""
    x = np.full(40, 8.0)
    x[0] = 9.0
    y = pb.Lorenz96(dt=5400 / 432000).step(x, 16)
    assert y.min() == pytest.approx(6.5589469828665576, rel=1e-14)
    assert y.max() == pytest.approx(9.2781169031407753, rel=1e-14)
    assert y.mean() == pytest.approx(8.0114870375908573, rel=1e-14)


@each_case
def test_a_run_is_that_of_numpy_in_extended_precision(model, tendency, scale, rng):
    for _ in range(5):
        x = states(model, rng, scale=scale)
        p = model.parameters * (1.0 + 0.1 * rng.standard_normal(model.n_parameters))
        expected = reference.run(
            tendency, x.astype(np.longdouble), p.astype(np.longdouble), np.longdouble(model.dt), 10
        )
        assert_close(model.step(x, 10, parameters=p), expected.astype(float), 1e-13)
        # The defaults are the constants of the constructor, in the order of the docstring
        named = list(model.get_config().values())[-1 - model.n_parameters : -1]
        assert model.parameters.tolist() == named
        expected = reference.run(tendency, x, model.parameters, model.dt, 1)
        assert_close(model.step(x), expected, 1e-14)


@each_case
def test_derivatives_are_those_of_a_complex_step_in_extended_precision(model, tendency, scale, rng):
    x, dx = states(model, rng, scale=scale), rng.standard_normal(model.n)
    p, dp = model.parameters, rng.standard_normal(model.n_parameters)
    zero = np.zeros_like(dp)
    for steps in (1, 10):
        expected = reference.derivative(tendency, x, p, dx, zero, model.dt, steps)
        assert_close(model.step_tl(x, dx, steps), expected, 1e-13)
        # Each parameter by itself: one of them wrong would hide behind the state's part
        for i in range(dp.size):
            alone = np.eye(dp.size)[i]
            expected = reference.derivative(tendency, x, p, 0.0 * dx, alone, model.dt, steps)
            assert_close(model.step_tl(x, 0.0 * dx, steps, dp=alone), expected, 2e-13)
        expected = reference.derivative(tendency, x, p, dx, dp, model.dt, steps)
        assert_close(model.step_tl(x, dx, steps, dp=dp), expected, 1e-13)
        # The adjoint gives the rows of the same matrix
        y_ad = rng.standard_normal(model.n)
        x_ad, p_ad = model.step_ad(x, y_ad, steps)
        by_column = np.array(
            [reference.derivative(tendency, x, p, e, zero, model.dt, steps) for e in np.eye(x.size)]
            if x.size <= 40
            else [model.step_tl(x, e, steps) for e in np.eye(x.size)]
        )
        assert_close(x_ad, by_column @ y_ad, 1e-12)
        by_parameter = np.array(
            [
                reference.derivative(tendency, x, p, 0.0 * x, e, model.dt, steps)
                for e in np.eye(p.size)
            ]
        )
        assert_close(p_ad, by_parameter @ y_ad, 1e-12)


@each_case
def test_a_run_converges_to_scipys_solution_with_fourth_order(model, tendency, scale, rng):
    x = states(model, rng, scale=0.3 * scale)
    span = 8 * model.dt
    exact = solve_ivp(
        lambda _, y: tendency(y, model.parameters),
        (0.0, span),
        x,
        method="DOP853",
        rtol=3e-14,
        atol=1e-14,
    ).y[:, -1]
    config = model.get_config()
    found = []
    for halvings in range(4):
        finer = from_config(config | {"dt": model.dt / 2**halvings})
        found.append(np.abs(finer.step(x, 8 * 2**halvings) - exact).max())
    order = np.log2(np.array(found[:-1]) / found[1:])
    assert found[0] > 1e-11
    assert order[-2:] == pytest.approx(4.0, abs=0.35)


# ---- ensembles, threads, resumption ----


@each_model
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_an_ensemble_is_bitwise_its_members(model, threads, rng):
    shape = (7, 3)
    x, dx, y_ad = (states(model, rng, *shape, scale=0.3) for _ in range(3))
    dp = rng.standard_normal(model.n_parameters)
    y = model.step(x, 6, start=3, threads=threads)
    dy = model.step_tl(x, dx, 6, dp=dp, start=3, threads=threads)
    x_ad, p_ad = model.step_ad(x, y_ad, 6, start=3, threads=threads)
    kept = model.trajectory(x, 6, every=2, start=3, threads=threads)
    assert kept.shape == (*shape, 4, model.n)
    alone_p_ad = 0.0
    for member in np.ndindex(shape):
        assert np.array_equal(y[member], model.step(x[member], 6, start=3))
        alone = model.step_tl(x[member], dx[member], 6, dp=dp, start=3)
        assert np.array_equal(dy[member], alone)
        alone, alone_p = model.step_ad(x[member], y_ad[member], 6, start=3)
        assert np.array_equal(x_ad[member], alone)
        alone_p_ad = alone_p_ad + alone_p
        assert np.array_equal(kept[member], model.trajectory(x[member], 6, every=2, start=3))
    np.testing.assert_allclose(p_ad, alone_p_ad, rtol=1e-12, atol=1e-13)
    # The parameters' adjoint is a sum, whose order does not depend on the threads
    assert np.array_equal(p_ad, model.step_ad(x, y_ad, 6, start=3)[1])


def test_members_keep_their_order_over_many_chunks_of_threads(rng):
    model = pb.Lorenz96(8)
    x, y_ad = rng.standard_normal((2, 101, 8))
    serial = model.step_ad(x, y_ad, 4)
    for threads in (2, 3, 16, 200):
        for one, other in zip(serial, model.step_ad(x, y_ad, 4, threads=threads), strict=True):
            assert np.array_equal(one, other)
        assert np.array_equal(model.step(x, 4), model.step(x, 4, threads=threads))


def test_threads_beyond_the_members_cost_neither_memory_nor_threads(rng):
    model = pb.Lorenz96(8)
    x = rng.standard_normal((2, 8))
    few = model._workspace(2, 10, 2, 2).size
    assert model._workspace(2, 10, 2, 4096).size == few
    assert np.array_equal(model.step(x, 10, threads=4096), model.step(x, 10))


@pytest.mark.parametrize(
    "model", [*MODELS.values(), logistic_model()], ids=[*MODELS, "PythonModel"]
)
def test_an_interrupted_run_that_resumes_is_bitwise_the_same(model, rng):
    x = states(model, rng, 2, scale=0.3)
    whole = model.step(x, 11, start=-4)
    part = model.step(model.step(x, 5, start=-4), 6, start=1)
    assert np.array_equal(whole, part)


@each_model
def test_a_trajectory_holds_the_states_of_single_runs(model, rng):
    x = states(model, rng, 2, scale=0.3)
    kept = model.trajectory(x, 7, every=3)
    assert kept.shape == (2, 3, model.n)
    for row in range(3):
        assert np.array_equal(kept[:, row], model.step(x, 3 * row))
    assert np.array_equal(model.trajectory(x, 2, every=5), x[:, None])
    assert np.array_equal(model.trajectory(x[0], 0), x[:1])
    assert np.array_equal(model.trajectory(x, 4)[:, -1], model.step(x, 4))


@each_model
def test_no_steps_change_nothing(model, rng):
    x, dx = states(model, rng, 2), states(model, rng, 2)
    assert np.array_equal(model.step(x, 0), x)
    assert np.array_equal(model.step_tl(x, dx, 0), dx)
    x_ad, p_ad = model.step_ad(x, dx, 0)
    assert np.array_equal(x_ad, dx)
    assert np.array_equal(p_ad, np.zeros(model.n_parameters))


@each_model
@pytest.mark.parametrize("threads", [1, 3])
def test_an_empty_ensemble_gives_an_empty_ensemble(model, threads):
    for shape in ((0,), (2, 0), (0, 3)):
        x = np.empty((*shape, model.n))
        assert model.step(x, 3, threads=threads).shape == x.shape
        assert model.step_tl(x, x, 3, threads=threads).shape == x.shape
        x_ad, p_ad = model.step_ad(x, x, 3, threads=threads)
        assert x_ad.shape == x.shape
        assert np.array_equal(p_ad, np.zeros(model.n_parameters))
        kept = model.trajectory(x, 3, threads=threads)
        assert kept.shape == (*shape, 4, model.n)


@each_model
def test_one_model_serves_eight_threads_at_once(model, rng):
    x, y_ad = states(model, rng, 8, 5, scale=0.3), states(model, rng, 8, 5)

    def work(i):
        results = []
        for _ in range(20):
            results = [model.step(x[i], 20), *model.step_ad(x[i], y_ad[i], 20)]
        return results

    expected = [work(i) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(expected, pool.map(work, range(8)), strict=True):
            for a, b in zip(one, other, strict=True):
                assert np.array_equal(a, b)


# ---- what goes in ----


@each_model
def test_any_layout_and_dtype_of_the_same_numbers_gives_the_same(model, rng):
    x = np.round(states(model, rng, 4), 2)
    expected = model.step(x, 3)
    read_only = x.copy()
    read_only.flags.writeable = False
    strided = np.empty((8, 2 * model.n))[::2, ::2]
    strided[:] = x
    negative = np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1]
    swapped = x.astype(x.dtype.newbyteorder())
    for same in (read_only, strided, negative, swapped, np.asfortranarray(x), x.tolist()):
        before = np.array(same)
        assert np.array_equal(model.step(same, 3), expected)
        assert np.array_equal(model.step_tl(same, same, 3), model.step_tl(x, x, 3))
        assert np.array_equal(model.step_ad(same, same, 3)[0], model.step_ad(x, x, 3)[0])
        assert np.array_equal(same, before)
    assert np.array_equal(
        model.step(x.astype(np.float32), 3), model.step(x.astype(np.float32).astype(float), 3)
    )
    whole = np.arange(4 * model.n).reshape(4, model.n) % 3
    for kind in (np.int8, np.uint64, np.float16, np.longdouble, bool):
        assert np.array_equal(
            model.step(whole.astype(kind)), model.step(whole.astype(kind).astype(float))
        )


def test_results_are_new_arrays_and_arguments_are_left_alone(rng):
    model = pb.Lorenz96(8)
    x, dx = rng.standard_normal((2, 8))
    before = x.copy(), dx.copy()
    for result in (model.step(x, 0), model.step_tl(x, dx, 0), *model.step_ad(x, dx, 0)):
        assert result.flags.writeable
        assert result.flags.c_contiguous
        assert not np.shares_memory(result, x)
        assert not np.shares_memory(result, dx)
        result[:] = np.nan
    assert np.array_equal(x, before[0])
    assert np.array_equal(dx, before[1])


def test_default_parameters_cannot_be_changed_from_outside():
    with pytest.raises(ValueError, match="read-only"):
        pb.Lorenz63().parameters[0] = 1.0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": np.ones(39)}, errors.ShapeError, r"x: expected shape \(…, 40\), got \(39,\)"),
        ({"x": np.ones((40, 3))}, errors.ShapeError, r"x: .*got \(40, 3\)"),
        ({"x": 1.0}, errors.ShapeError, r"x: .*got \(\)"),
        ({"x": []}, errors.ShapeError, r"x: .*got \(0,\)"),
        ({"x": np.ones(40, complex)}, errors.InvalidArgumentError, "x: .*complex128"),
        ({"x": ["a"] * 40}, errors.InvalidArgumentError, "x: .*<U1"),
        ({"x": [None] * 40}, errors.InvalidArgumentError, "x: .*object"),
        ({"x": [[1.0], [1.0, 2.0]]}, errors.InvalidArgumentError, "x: expected an array"),
        ({"x": np.full(40, np.nan)}, errors.InvalidArgumentError, r"x: .*nan at index \(0,\)"),
        ({"x": np.r_[np.ones(39), np.inf]}, errors.InvalidArgumentError, r"inf at index \(39,\)"),
        ({"x": np.ma.masked_equal(np.arange(40), 7)}, errors.InvalidArgumentError, "x: .*masked"),
        ({"steps": -1}, errors.InvalidArgumentError, "steps: expected at least 0, got -1"),
        ({"steps": 1.0}, errors.InvalidArgumentError, "steps: expected an integer, got 1.0"),
        ({"steps": True}, errors.InvalidArgumentError, "steps: expected an integer, got True"),
        ({"steps": None}, errors.InvalidArgumentError, "steps: expected an integer, got None"),
        ({"steps": 2**31}, errors.InvalidArgumentError, "steps: expected at most 2147483647"),
        ({"steps": 10**30}, errors.InvalidArgumentError, "steps: expected at most 2147483647"),
        ({"start": 2**31 - 1}, errors.InvalidArgumentError, "start: expected at most 2147483646"),
        ({"start": -(2**31) - 1}, errors.InvalidArgumentError, "start: expected at least"),
        ({"start": 0.5}, errors.InvalidArgumentError, "start: expected an integer, got 0.5"),
        ({"threads": 0}, errors.InvalidArgumentError, "threads: expected at least 1, got 0"),
        ({"threads": 10**6}, errors.InvalidArgumentError, "threads: expected at most"),
        ({"parameters": [1.0, 2.0]}, errors.ShapeError, r"parameters: .*\(1,\), got \(2,\)"),
        ({"parameters": [np.nan]}, errors.InvalidArgumentError, "parameters: .*nan"),
        ({"parameters": 8.0}, errors.ShapeError, r"parameters: .*got \(\)"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_got_and_what_is_needed(arguments, error, message):
    model = pb.Lorenz96()
    given = {"x": np.ones(40)} | arguments
    x = given.pop("x")
    with pytest.raises(error, match=message):
        model.step(x, **given)
    good = np.ones(40)
    with pytest.raises(error, match=message):
        model.step_tl(x, good, **given)
    with pytest.raises(error, match=message):
        model.step_ad(x, good, **given)
    with pytest.raises(error, match=message):
        model.trajectory(x, **({"steps": 1} | given))


def test_perturbations_must_fit_the_states():
    model = pb.Lorenz96()
    with pytest.raises(errors.ShapeError, match=r"dx: expected the shape of x, \(2, 40\), got"):
        model.step_tl(np.ones((2, 40)), np.ones(40))
    with pytest.raises(errors.ShapeError, match=r"x_ad: expected the shape of x, \(40,\), got"):
        model.step_ad(np.ones(40), np.ones((1, 40)))
    with pytest.raises(errors.InvalidArgumentError, match="dx: expected finite numbers"):
        model.step_tl(np.ones(40), np.full(40, np.inf))
    with pytest.raises(errors.ShapeError, match=r"dp: expected shape \(1,\), got \(40,\)"):
        model.step_tl(np.ones(40), np.ones(40), dp=np.ones(40))
    with pytest.raises(errors.InvalidArgumentError, match="every: expected at least 1, got 0"):
        model.trajectory(np.ones(40), 3, every=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pb.Lorenz96(3), "n: expected at least 4, got 3"),
        (lambda: pb.Lorenz96(40.0), "n: expected an integer, got 40.0"),
        (lambda: pb.Lorenz96(2**31), "n: expected at most"),
        (lambda: pb.Lorenz96(2**28), "n: expected at most 268435455, got 268435456"),
        (lambda: pb.Lorenz96(dt=0.0), "dt: expected a positive number, got 0.0"),
        (lambda: pb.Lorenz96(dt=np.nan), "dt: expected a finite number, got nan"),
        (lambda: pb.Lorenz96(forcing="8"), "forcing: expected a real number, got '8'"),
        (lambda: pb.Lorenz63(sigma=np.inf), "sigma: expected a finite number, got inf"),
        (lambda: pb.TwoScaleLorenz96(3), "n_slow: expected at least 4, got 3"),
        (lambda: pb.TwoScaleLorenz96(n_fast=0), "n_fast: expected at least 1, got 0"),
        (lambda: pb.TwoScaleLorenz96(n_fast=10**8), "n_fast: expected at most"),
        (lambda: pb.TwoScaleLorenz96(2**27 - 1, 2), "n_fast: expected at most 1, got 2"),
        (lambda: pb.TwoScaleLorenz96(b=0.0), "b: expected a number other than zero"),
        (lambda: pb.RechargeOscillator(mu=True), "mu: expected a real number, got True"),
        (lambda: pb.PythonModel(3, n=1, dt=1.0), "step: expected a callable, got 3"),
        (lambda: pb.PythonModel(logistic, 3, n=1, dt=1.0), "step_tl: expected a callable"),
        (lambda: pb.PythonModel(logistic, n=0, dt=1.0), "n: expected at least 1, got 0"),
        (lambda: pb.PythonModel(logistic, n=1, dt=-1.0), "dt: expected a positive number"),
        (lambda: from_config({"kind": "Nobody"}), "kind: expected one of .*got 'Nobody'"),
        (lambda: from_config({}), "kind: expected one of .*got None"),
    ],
)
def test_a_model_that_cannot_be_is_refused(make, message):
    with pytest.raises(errors.InvalidArgumentError, match=message):
        make()


def test_the_core_too_refuses_states_whose_buffers_it_cannot_count():
    from pybridge import _kernels

    for n in (3, 2**28, 2**31 - 1):
        assert _kernels.pybridge_model_lorenz96(n, 0.05, 8.0) == (1, 0)
    for n_slow, n_fast in ((2**28, 1), (2**15, 2**15), (2**31 - 1, 2**31 - 1)):
        arguments = (0.005, 10.0, 1.0, 10.0, 10.0)
        assert _kernels.pybridge_model_two_scale_lorenz96(n_slow, n_fast, *arguments) == (1, 0)


# ---- blow-up ----


@pytest.mark.parametrize("threads", [1, 3])
def test_a_blow_up_names_member_and_step_and_leaves_the_input_alone(threads):
    model = pb.Lorenz96(dt=0.05)
    x = np.ones((6, 40))
    x[2] = 1e6 * np.sin(np.arange(40))
    x[4] = 1e9 * np.sin(np.arange(40))
    before = x.copy()
    # The step, found by NumPy
    with np.errstate(all="ignore"):
        states = [x[2]]
        while np.abs(states[-1]).max() <= 1e30:
            states.append(reference.runge_kutta_step(reference.lorenz96, states[-1], [8.0], 0.05))
    step = len(states) - 1
    expected = rf"blew up: member 2, step {step} of the run \(k = {step + 6}\)"
    verbs = (
        lambda: model.step(x, 50, start=7, threads=threads),
        lambda: model.trajectory(x, 50, start=7, threads=threads),
        lambda: model.step_tl(x, x, 50, start=7, threads=threads),
        lambda: model.step_ad(x, x, 50, start=7, threads=threads),
    )
    for verb in verbs:
        with pytest.raises(errors.BlowUpError, match=expected):
            verb()
        assert np.array_equal(x, before)
    # One step less is fine
    model.step(x[2], step - 1)


def test_a_blow_up_is_an_arithmetic_error():
    with pytest.raises(ArithmeticError):
        pb.Lorenz63().step([1e20, 1e20, 1e20], 100)
    # NaN, not only large: infinity minus infinity
    with pytest.raises(errors.BlowUpError):
        pb.Lorenz63().step([1e300, -1e300, 1e300])


def test_a_tangent_linear_or_adjoint_that_overflows_is_a_blow_up():
    model = pb.Lorenz96(dt=0.05)
    x, large = 8.0 + np.sin(np.arange(40.0)), np.full(40, 1.7e308)
    large[::2] *= -1.0
    with pytest.raises(errors.BlowUpError, match="member 0"):
        model.step_tl(x, large, 5)
    with pytest.raises(errors.BlowUpError, match="member 0"):
        model.step_ad(x, large, 5)


# ---- too much ----


def test_more_workspace_than_there_is_raises_a_memory_error_that_says_so():
    model = pb.Lorenz96(2**19)
    with pytest.raises(MemoryError, match="2147483646 steps .* workspace"):
        model._workspace(2, 2**31 - 2, 4096, 4096)
    with pytest.raises(MemoryError, match="workspace"):
        model.step_ad(np.ones(2**19), np.ones(2**19), 2**31 - 2)


# ---- life ----


@pytest.mark.parametrize(
    "model", [*MODELS.values(), logistic_model()], ids=[*MODELS, "PythonModel"]
)
def test_a_model_survives_pickling_and_its_configuration(model, rng):
    x = states(model, rng, 2, scale=0.3)
    config = json.loads(json.dumps(model.get_config()))
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(model, protocol))
        assert type(again) is type(model)
        assert again.handle != model.handle
        assert np.array_equal(again.step(x, 5), model.step(x, 5))
    rebuilt = from_config(config)
    assert rebuilt.get_config() == model.get_config()
    assert config["kind"] == type(model).__name__
    assert np.array_equal(rebuilt.step_ad(x, x, 5)[1], model.step_ad(x, x, 5)[1])
    assert repr(rebuilt) == repr(model)


def test_any_kind_is_found_in_a_fresh_process():
    code = (
        "from pybridge.models import from_config\n"
        "try:\n    from_config({'kind': 'HybridModel'})\n"
        "except KeyError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "'model'"


def test_models_are_collected_and_their_handles_freed(monkeypatch):
    from pybridge import models

    freed = []
    free = models._kernels.pybridge_model_free
    monkeypatch.setattr(
        models._kernels, "pybridge_model_free", lambda h: (freed.append(h), free(h))
    )
    for make in (pb.Lorenz63, pb.Lorenz96, pb.TwoScaleLorenz96, pb.RechargeOscillator):
        model = make()
        model.step(np.ones((2, model.n)), 2)
        handle, alive = model.handle, weakref.ref(model)
        del model
        assert alive() is None
        assert freed[-1] == handle
    model = logistic_model()
    model.step(np.ones(3), 2)
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
    assert len(freed) == 5


def test_making_and_running_models_leaks_no_memory():
    import resource

    def work(times):
        for _ in range(times):
            pb.TwoScaleLorenz96(64, 32).step_ad(np.ones((4, 64 * 33)), np.ones((4, 64 * 33)), 5)

    work(50)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work(500)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


# ---- models made of Python callables ----


def test_a_python_model_runs_its_callables(rng):
    model = logistic_model()
    x, dx, y_ad = rng.random((3, 4, 3))
    p, dp = np.array([0.9]), np.array([0.3])
    expected, d_expected = x, dx
    for k in range(2, 7):
        d_expected = logistic_tl(expected, d_expected, p, dp, 0.5 * k)
        expected = logistic(expected, p, 0.5 * k)
    for threads in (1, 3):
        assert np.array_equal(model.step(x, 5, start=2, parameters=p, threads=threads), expected)
        dy = model.step_tl(x, dx, 5, dp=dp, start=2, parameters=p, threads=threads)
        assert np.array_equal(dy, d_expected)
        x_ad, p_ad = model.step_ad(x, y_ad, 5, start=2, parameters=p, threads=threads)
        assert np.sum(dy * y_ad) == pytest.approx(np.sum(dx * x_ad) + dp @ p_ad, rel=1e-13)


class Broken(Exception):
    pass


@pytest.mark.parametrize("threads", [1, 4])
def test_the_exception_of_a_callable_is_the_cause_of_the_error(threads):
    def step(x, p, t):
        if x[0] >= 3.0:
            raise Broken(f"at {x[0]:.0f} and {t}")
        return x + 1.0

    def broken_tl(x, dx, p, dp, t):
        raise Broken("tangent linear")

    def broken_ad(x, x_ad, p, t):
        raise Broken("adjoint")

    model = pb.PythonModel(step, broken_tl, broken_ad, n=1, dt=0.5)
    x = np.array([[-50.0], [1.0], [2.0], [3.0]])
    with pytest.raises(errors.UserModelError, match="member 1, step 3 of the run") as caught:
        model.step(x, 8, threads=threads)
    # The exception of that member at that step, whoever else failed
    assert isinstance(caught.value.__cause__, Broken)
    assert str(caught.value.__cause__) == "at 3 and 1.0"
    with pytest.raises(errors.UserModelError, match="raised Broken") as caught:
        model.step_tl(x[:2], x[:2], 1, threads=threads)
    assert str(caught.value.__cause__) == "tangent linear"
    with pytest.raises(errors.UserModelError) as caught:
        model.step_ad(x[:2], x[:2], 1, threads=threads)
    assert str(caught.value.__cause__) == "adjoint"
    # Nothing of it remains
    assert np.array_equal(model.step(x[:1], 8), [[-42.0]])


def test_exceptions_of_runs_at_the_same_time_are_not_mixed_up():
    def step(x, p, t):
        if t > 20.0:
            raise Broken(int(x[0]))
        return x

    model = pb.PythonModel(step, n=1, dt=1.0)

    def work(i):
        with pytest.raises(errors.UserModelError) as caught:
            model.step([float(i)], 100)
        return caught.value.__cause__.args[0]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(200))) == list(range(200))


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_within_a_callable_interrupts_the_program(interruption):
    def step(x, p, t):
        raise interruption

    with pytest.raises(interruption):
        pb.PythonModel(step, n=1, dt=1.0).step([1.0])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_before_a_callable_begins_is_no_step_that_was_made():
    """ctypes drops the exception of a signal that arrives as the callback is entered."""
    model = pb.PythonModel(lambda x, p, t: x + 1.0, n=1, dt=1.0)
    for _ in range(10):
        timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        # Long enough for every machine: the interruption ends it
        with pytest.raises(KeyboardInterrupt):
            model.step([0.0], 10**7)
        timer.join()
    assert model.step([0.0], 3) == [3.0]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda x, p, t: np.ones(3), r"step: expected shape \(2,\), got \(3,\)"),
        (lambda x, p, t: None, "step: expected an array of real numbers"),
        (lambda x, p, t: x * 1j, "step: .*complex"),
        (lambda x: x, "positional argument"),
    ],
)
def test_what_a_callable_returns_is_checked(step, message):
    with pytest.raises(errors.UserModelError, match=message):
        pb.PythonModel(step, n=2, dt=1.0).step([1.0, 1.0])


def test_a_python_model_that_blows_up_is_a_blow_up():
    def step(x, p, t):
        return x * np.nan if t == 3.0 and x[0] > 0.0 else x

    model = pb.PythonModel(step, n=2, dt=1.0)
    with pytest.raises(errors.BlowUpError, match=r"member 1, step 4 of the run \(k = 3\)"):
        model.step([[0.0, 0.0], [1.0, 1.0]], 10)


def test_an_adjoint_without_its_parameters_part_is_refused():
    model = pb.PythonModel(
        logistic, logistic_tl, lambda x, x_ad, p, t: x_ad, n=3, dt=1.0, parameters=[1.0]
    )
    with pytest.raises(errors.UserModelError, match=r"step_ad: expected \(x_ad, p_ad\)"):
        model.step_ad(np.ones(3), np.ones(3))


def test_a_model_without_derivatives_runs_and_says_what_it_lacks():
    model = pb.PythonModel(logistic, n=3, dt=1.0, parameters=[1.0])
    model.step(np.ones(3), 3)
    for verb in (model.step_tl, model.step_ad):
        with pytest.raises(errors.NotAvailableError, match="made without this derivative"):
            verb(np.ones(3), np.ones(3))


def test_callables_may_change_and_keep_what_they_are_given(rng):
    kept = []

    def step(x, p, t):
        kept.extend([x, p])
        x += p[0]
        p[:] = np.nan
        return x

    def step_tl(x, dx, p, dp, t):
        kept.extend([x, dx, p, dp])
        x[:] = np.nan
        dx += dp[0]
        return dx

    def step_ad(x, x_ad, p, t):
        kept.extend([x, x_ad, p])
        p_ad = [x_ad.sum()]
        x[:] = np.nan
        return x_ad, p_ad

    model = pb.PythonModel(step, step_tl, step_ad, n=2, dt=1.0, parameters=[0.5])
    assert np.array_equal(model.step([1.0, 2.0], 4), [3.0, 4.0])
    assert np.array_equal(model.step_tl([1.0, 2.0], [0.0, 1.0], 4, dp=[1.0]), [4.0, 5.0])
    x_ad, p_ad = model.step_ad([1.0, 2.0], [1.0, 2.0], 4)
    assert np.array_equal(x_ad, [1.0, 2.0])
    assert p_ad == 12.0
    assert np.array_equal(model.parameters, [0.5])
    # They are arrays of their own, not windows on memory that is gone
    assert all(array.base is None for array in kept)


def test_a_python_model_of_callables_that_have_no_name_says_so():
    model = pb.PythonModel(lambda x, p, t: x, n=1, dt=1.0)
    for save in (model.get_config, lambda: pickle.dumps(model)):
        with pytest.raises(errors.InvalidArgumentError, match="step: .*cannot be imported by name"):
            save()


def test_a_python_model_may_use_another_model_in_its_step(rng):
    inner = pb.Lorenz96(8)
    model = pb.PythonModel(
        lambda x, p, t: inner.step(x, 2),
        lambda x, dx, p, dp, t: inner.step_tl(x, dx, 2),
        lambda x, x_ad, p, t: inner.step_ad(x, x_ad, 2)[0],
        n=8,
        dt=0.1,
    )
    x, dx = rng.standard_normal((2, 5, 8))
    for threads in (1, 4):
        assert np.array_equal(model.step(x, 3, threads=threads), inner.step(x, 6))
        assert np.array_equal(model.step_tl(x, dx, 3, threads=threads), inner.step_tl(x, dx, 6))
        x_ad, p_ad = model.step_ad(x, dx, 3, threads=threads)
        assert np.array_equal(x_ad, inner.step_ad(x, dx, 6)[0])
        assert p_ad.size == 0


# ---- libraries ----


def test_a_library_that_is_not_there_or_not_one_is_refused(tmp_path):
    with pytest.raises(errors.FileAccessError, match="no such shared library"):
        pb.LibraryModel(tmp_path / "none.so", n=1, dt=1.0)
    text = tmp_path / "text.so"
    text.write_text("not a library")
    for make in (lambda: pb.LibraryModel(text, n=1, dt=1.0), lambda: pb.CompiledModel(text)):
        with pytest.raises(errors.FileAccessError, match="text.so"):
            make()


needs_compiler = pytest.mark.skipif(not operators.compiler(), reason="needs gfortran")


@needs_compiler
def test_a_library_model_is_its_equation(rng):
    """Burgers' equation of the example, in NumPy."""
    model = operators.library_model()
    x = 1.0 + 0.3 * rng.standard_normal((3, model.n))
    expected, (nu, r) = x, model.parameters
    for _ in range(7):
        east, west = np.roll(expected, -1, -1), np.roll(expected, 1, -1)
        advection = expected * (east - west) / 0.5
        diffusion = nu * (east - 2 * expected + west) / 0.25**2
        expected = expected + 0.02 * (diffusion - advection - r * expected)
    for threads in (1, 2):
        assert_close(model.step(x, 7, threads=threads), expected, 1e-13)


@needs_compiler
def test_models_of_libraries_survive_pickling_in_another_directory(rng, tmp_path, monkeypatch):
    library = operators.scratch() / "burgers.so"
    operators.library_model()
    monkeypatch.chdir(operators.scratch())
    by_relative_path = pb.LibraryModel(library.name, n=8, dt=0.02, parameters=[0.1, 0.05])
    models = [by_relative_path, operators.compiled_model()]
    saved = [pickle.dumps(model) for model in models]
    monkeypatch.chdir(tmp_path)
    for model, text in zip(models, saved, strict=True):
        x = 1.0 + 0.1 * rng.standard_normal(model.n)
        for again in (pickle.loads(text), from_config(json.loads(json.dumps(model.get_config())))):
            assert np.array_equal(again.step(x, 5), model.step(x, 5))


@needs_compiler
def test_a_library_without_what_is_asked_for_is_refused_by_name():
    operators.library_model()
    operators.compiled_model()
    with pytest.raises(errors.InvalidArgumentError, match="no procedure named 'forward'"):
        pb.LibraryModel(operators.scratch() / "burgers.so", n=4, dt=1.0, step="forward")
    with pytest.raises(errors.InvalidArgumentError, match="no procedure named 'new'"):
        pb.CompiledModel(operators.scratch() / "shallow_water.so", "new")
    model = pb.LibraryModel(
        operators.scratch() / "burgers.so",
        n=8,
        dt=0.02,
        parameters=[0.1, 0.05],
        step_tl=None,
        step_ad=None,
    )
    model.step(np.ones(8), 3)
    with pytest.raises(errors.NotAvailableError, match="made without this derivative"):
        model.step_ad(np.ones(8), np.ones(8))


@pytest.mark.skipif(not shutil.which("cc"), reason="needs cc")
def test_what_a_procedure_of_a_library_reports_is_an_error_with_its_step(tmp_path):
    source = tmp_path / "failing.c"
    source.write_text(
        "int step(void *c, int k, double t, int n, int m, const double *p, double *x) {\n"
        "  if (x[0] > 2.5) return 7;\n  x[0] += 1.0;\n  return 0;\n}\n"
        "void *nothing(void) { return 0; }\n"
    )
    library = tmp_path / "failing.so"
    run("cc", "-shared", "-fPIC", source, "-o", library)
    model = pb.LibraryModel(library, n=1, dt=1.0, step_tl=None, step_ad=None)
    x = np.array([[-9.0], [0.0], [2.0]])
    with pytest.raises(errors.UserModelError, match="member 1, step 4 of the run"):
        model.step(x, 6)
    assert x.tolist() == [[-9.0], [0.0], [2.0]]
    with pytest.raises(errors.UserModelError, match="nothing of .*null handle"):
        pb.CompiledModel(library, "nothing")


@needs_compiler
def test_a_fortran_type_may_leave_out_its_parameters_and_must_not_miscount_them(tmp_path):
    """By `forecast_model` itself, with a time scheme of its own."""
    source = tmp_path / "decay.f90"
    source.write_text(
        """
module decay
  use, intrinsic :: iso_c_binding, only: c_ptr
  use pybridge, only: forecast_model, new_model_handle, rk
  implicit none
  type, extends(forecast_model) :: decay_model
  contains
    procedure :: step
    procedure :: step_tl
    procedure :: step_ad
  end type decay_model
contains
  subroutine step(self, k, p, x, linearisation, work, status)
    class(decay_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(inout) :: x(self%n), linearisation(self%n_linearisation), work(self%n_work)
    integer, intent(out) :: status
    linearisation = x
    x = x - 0.1_rk*x**2
    status = 0
  end subroutine step
  subroutine step_tl(self, k, p, linearisation, dx, work, status, dp)
    class(decay_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters), linearisation(self%n_linearisation)
    real(rk), intent(inout) :: dx(self%n), work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(in), optional :: dp(self%n_parameters)
    dx = dx - 0.2_rk*linearisation*dx
    status = 0
  end subroutine step_tl
  subroutine step_ad(self, k, p, linearisation, x_ad, work, status, p_ad)
    class(decay_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters), linearisation(self%n_linearisation)
    real(rk), intent(inout) :: x_ad(self%n), work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)
    x_ad = x_ad - 0.2_rk*linearisation*x_ad
    status = 0
  end subroutine step_ad
  function without() result(handle) bind(c, name="without")
    type(c_ptr) :: handle
    type(decay_model) :: model
    model%dt = 1.0_rk
    model%blow_up_limit = 50.0_rk
    call model%set_sizes(n_state=3, n_parameters=0, n_linearisation=3, n_work=0)
    handle = new_model_handle(model)
  end function without
  function miscounted() result(handle) bind(c, name="miscounted")
    type(c_ptr) :: handle
    type(decay_model) :: model
    model%dt = 1.0_rk
    call model%set_sizes(n_state=3, n_parameters=2, n_linearisation=3, n_work=0)
    model%parameters = [1.0_rk]
    handle = new_model_handle(model)
  end function miscounted
end module decay
"""
    )
    library = operators.example(3).compile_with_pybridge(tmp_path / "decay.so", source, shared=True)
    model = pb.CompiledModel(library, "without")
    assert (model.n, model.n_parameters, model.n_carry) == (3, 0, 0)
    x = np.array([1.0, 2.0, 3.0])
    assert_close(model.step(x, 1), x - 0.1 * x**2, 1e-15)
    assert_close(model.step_tl(x, x, 1), x - 0.2 * x**2, 1e-15)
    x_ad, p_ad = model.step_ad(x, x, 1)
    assert_close(x_ad, x - 0.2 * x**2, 1e-15)
    assert p_ad.size == 0
    with pytest.raises(errors.BlowUpError, match="member 0, step 1"):
        model.step(-20.0 * x)
    network = operators.dense_network(np.random.default_rng(1), 3, 3)
    hybrid = pb.HybridModel(model, network, "increment")
    assert_close(hybrid.step(x), model.step(x) + network(model.step(x)), 1e-14)
    with pytest.raises(errors.BlowUpError):
        hybrid.step(-20.0 * x)
    with pytest.raises(errors.UserModelError, match="miscounted of .*null handle"):
        pb.CompiledModel(library, "miscounted")


def test_a_number_too_large_for_a_double_is_refused_by_name():
    with pytest.raises(errors.InvalidArgumentError, match="dt: expected a finite number"):
        pb.Lorenz63(dt=10**400)


def test_the_core_refuses_steps_whose_numbers_overflow():
    from pybridge import _kernels

    model = pb.Lorenz96()
    x, work, none = np.ones(40), np.empty(10_000), np.empty(0)
    for first, expected in ((2**31 - 6, 0), (2**31 - 5, 1)):
        status, *_ = _kernels.pybridge_model_forecast(
            model.handle, first, 5, 1, 1, 1, none, x, none, work
        )
        assert status == expected
