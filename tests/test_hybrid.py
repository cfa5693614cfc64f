# SPDX-License-Identifier: MIT
"""Hybrid models against the same written in NumPy, and everything that can be done wrong."""

import gc
import json
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import operators
import pytest
import reference_models as reference

import pybridge as pb
from pybridge import errors
from pybridge.assimilation import DiagonalCovariance, FourDVar, Observations
from pybridge.models import from_config

N, HIDDEN, DT = 8, 11, 0.04
MODES = ("tendency", "increment", "forcing")
each_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
def rng():
    return np.random.default_rng(2021)


def make_network(rng, n_inputs=N, n_outputs=N):
    return operators.dense_network(rng, n_inputs, n_outputs, HIDDEN)


def in_numpy(weights, inputs, n_outputs=N):
    """The network of `make_network`, for one sample, from its flat weights."""
    shapes = [(inputs.size, HIDDEN), (HIDDEN,), (HIDDEN, n_outputs), (n_outputs,)]
    parts = np.split(weights, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
    w1, b1, w2, b2 = (part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))
    return np.tanh(inputs @ w1 + b1) @ w2 + b2


def hybrid_in_numpy(mode, x, forcing, weights, start, steps, *, every=1, fixed=(), periods=()):
    """A run of Lorenz-96 with a correction, with nothing of pybridge."""
    phases = 2.0 * np.pi / np.asarray(periods, float)

    def correction(x, t):
        waves = np.ravel(np.column_stack([np.cos(phases * t), np.sin(phases * t)]))
        return in_numpy(weights, np.concatenate([x, fixed, waves]))

    def tendency(x, t):
        physics = reference.lorenz96(x, [forcing])
        return physics + correction(x, t) if mode == "tendency" else physics

    held = correction(x, start * DT)
    for k in range(start, start + steps):
        k1 = tendency(x, k * DT)
        k2 = tendency(x + DT / 2 * k1, (k + 0.5) * DT)
        k3 = tendency(x + DT / 2 * k2, (k + 0.5) * DT)
        k4 = tendency(x + DT * k3, (k + 1) * DT)
        x = x + DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        if mode == "increment" and (k + 1) % every == 0:
            x = x + correction(x, (k + 1) * DT)
        if mode == "forcing":
            x = x + DT * held
    return x


def assert_close(actual, expected, tolerance=1e-14):
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


# ---- numbers ----


@each_mode
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("start", [-7, 0, 2])
@pytest.mark.parametrize(("n_fixed", "periods"), [(0, ()), (3, ()), (2, (0.5, 1.7))])
def test_a_hybrid_is_the_one_written_in_numpy(mode, every, start, n_fixed, periods, rng):
    network = make_network(rng, N + n_fixed + 2 * len(periods))
    fixed = rng.standard_normal(n_fixed)
    model = pb.Lorenz96(N, forcing=7.0, dt=DT)
    options = {"every": every, "fixed": fixed, "periods": periods}
    hybrid = pb.HybridModel(model, network, mode, **options)
    assert (hybrid.n, hybrid.dt) == (N, DT)
    assert hybrid.n_parameters == 1 + network.n_parameters
    assert hybrid.n_carry == (N if mode == "forcing" else 0)
    assert np.array_equal(hybrid.parameters, [7.0, *network.parameters])
    x = rng.standard_normal(N)
    for steps in (1, 2, 3, 7):
        expected = hybrid_in_numpy(mode, x, 7.0, network.parameters, start, steps, **options)
        assert_close(hybrid.step(x, steps, start=start), expected, 2e-14)
    # Parameters and weights are an argument
    p = hybrid.parameters + 0.1 * rng.standard_normal(hybrid.n_parameters)
    expected = hybrid_in_numpy(mode, x, p[0], p[1:], start, 5, **options)
    assert_close(hybrid.step(x, 5, start=start, parameters=p), expected, 2e-14)


@each_mode
def test_derivatives_are_those_of_numpy(mode, rng):
    """By central differences of sixth order of the NumPy model, at their own accuracy."""
    network = make_network(rng, N + 2)
    options = {"every": 2, "periods": [0.9]}
    hybrid = pb.HybridModel(pb.Lorenz96(N, forcing=7.0, dt=DT), network, mode, **options)
    x, p = rng.standard_normal(N), hybrid.parameters
    dx, dp = rng.standard_normal(N), rng.standard_normal(hybrid.n_parameters)

    def run(h):
        moved = p + h * dp
        return hybrid_in_numpy(mode, x + h * dx, moved[0], moved[1:], 3, 6, **options)

    h = 2e-3
    weights = {1: 45.0, 2: -9.0, 3: 1.0}
    expected = sum(w * (run(i * h) - run(-i * h)) for i, w in weights.items()) / (60.0 * h)
    dy = hybrid.step_tl(x, dx, 6, dp=dp, start=3)
    assert_close(dy, expected, 1e-10)
    y_ad = rng.standard_normal(N)
    x_ad, p_ad = hybrid.step_ad(x, y_ad, 6, start=3)
    assert dx @ x_ad + dp @ p_ad == pytest.approx(dy @ y_ad, rel=1e-12)


@each_mode
@pytest.mark.parametrize(
    "model", [pb.Lorenz63(), pb.Lorenz96(N), pb.TwoScaleLorenz96(4, 1), pb.RechargeOscillator()]
)
def test_a_network_that_gives_zero_changes_no_bit(mode, model, rng):
    network = make_network(rng, model.n, model.n)
    zero = network.with_parameters(np.zeros(network.n_parameters))
    hybrid = pb.HybridModel(model, zero, mode)
    x, dx = 0.3 * rng.standard_normal((2, 5, model.n))
    assert np.array_equal(hybrid.step(x, 20, start=4), model.step(x, 20, start=4))
    assert np.array_equal(hybrid.step_tl(x, dx, 20), model.step_tl(x, dx, 20))
    x_ad, p_ad = hybrid.step_ad(x, dx, 20)
    expected_x_ad, expected_p_ad = model.step_ad(x, dx, 20)
    assert np.array_equal(x_ad, expected_x_ad)
    assert np.array_equal(p_ad[: model.n_parameters], expected_p_ad)


@each_mode
def test_weights_as_parameters_are_a_network_with_those_weights(mode, rng):
    hybrid = pb.HybridModel(pb.Lorenz96(N), make_network(rng), mode, every=2)
    p = hybrid.parameters + 0.1 * rng.standard_normal(hybrid.n_parameters)
    p[0] = hybrid.parameters[0]
    other = hybrid.with_parameters(p)
    x, y_ad = rng.standard_normal((2, 3, N))
    assert np.array_equal(other.parameters, p)
    assert np.array_equal(other.network.parameters, p[1:])
    assert np.array_equal(hybrid.step(x, 9, parameters=p), other.step(x, 9))
    for a, b in zip(
        hybrid.step_ad(x, y_ad, 9, parameters=p), other.step_ad(x, y_ad, 9), strict=True
    ):
        assert np.array_equal(a, b)
    # The first is as it was
    assert not np.array_equal(hybrid.step(x, 9), other.step(x, 9))


def test_increments_follow_the_steps_that_end_at_multiples_counted_from_time_zero(rng):
    model, network = pb.Lorenz96(N), make_network(rng)
    hybrid = pb.HybridModel(model, network, "increment", every=4)
    x = rng.standard_normal(N)
    for start in range(-9, 9):
        corrected = not np.array_equal(hybrid.step(x, 1, start=start), model.step(x, 1))
        assert corrected == ((start + 1) % 4 == 0)
        # Where a run is interrupted changes nothing
        whole = hybrid.step(x, 10, start=start)
        assert np.array_equal(
            whole, hybrid.step(hybrid.step(x, 3, start=start), 7, start=start + 3)
        )


def test_a_forcing_is_held_from_the_start_of_each_run(rng):
    model, network = pb.Lorenz96(N), make_network(rng)
    hybrid = pb.HybridModel(model, network, "forcing")
    x = rng.standard_normal(N)
    held = model.dt * network(x)
    y = x
    for _ in range(4):
        y = model.step(y) + held
    assert_close(hybrid.step(x, 4), y, 1e-15)
    # Runs that begin anew evaluate it anew
    assert not np.allclose(hybrid.step(hybrid.step(x, 2), 2, start=2), y, rtol=1e-6)


def test_periods_are_cosine_and_sine_of_the_time_within_them(rng):
    """A network that passes on one input shows which it is."""
    model = pb.Lorenz96(4, dt=0.1)
    for column, expected in enumerate(
        [lambda t: 5.0, np.cos, np.sin, lambda t: np.cos(t / 3), lambda t: np.sin(t / 3)]
    ):
        graph = operators.Graph(rng, (9,))
        graph.dense(4, "linear", bias=False)
        kernel = np.zeros((9, 4))
        kernel[4 + column] = 1.0
        network = graph.network().with_parameters(kernel.ravel())
        hybrid = pb.HybridModel(
            model, network, "increment", fixed=[5.0], periods=[2 * np.pi, 6 * np.pi]
        )
        x = rng.standard_normal(4)
        for k in (0, 17, -5):
            increment = hybrid.step(x, start=k) - model.step(x)
            np.testing.assert_allclose(increment, expected((k + 1) * 0.1), rtol=1e-13, atol=1e-14)


# ---- any model, and hybrids of hybrids ----


@pytest.mark.parametrize("mode", ["increment", "forcing"])
def test_models_of_the_users_are_corrected_after_their_steps(mode, rng):
    models = [operators.python_model(4)]
    if operators.compiler():
        models += [operators.library_model(), operators.compiled_model()]
    for model in models:
        network = make_network(rng, model.n, model.n)
        hybrid = pb.HybridModel(model, network, mode, every=2)
        x = 1.0 + 0.1 * rng.standard_normal(model.n)
        held = model.dt * network(x)
        y = x
        for k in range(5):
            y = model.step(y, start=k)
            if mode == "forcing":
                y = y + held
            elif (k + 1) % 2 == 0:
                y = y + network(y)
        assert_close(hybrid.step(x, 5), y, 1e-14)
        assert np.array_equal(hybrid.parameters[: model.n_parameters], model.parameters)


def test_a_correction_of_the_tendency_needs_a_tendency(rng):
    models = [operators.python_model(4)]
    if operators.compiler():
        models.append(operators.library_model())
    for model in models:
        network = make_network(rng, model.n, model.n)
        with pytest.raises(errors.UnsupportedLayerError, match="integrated tendency"):
            pb.HybridModel(model, network, "tendency")
    inner = pb.HybridModel(pb.Lorenz96(N), make_network(rng), "increment")
    with pytest.raises(errors.UnsupportedLayerError, match="integrated tendency"):
        pb.HybridModel(inner, make_network(rng), "tendency")


@pytest.mark.skipif(not operators.compiler(), reason="needs gfortran")
def test_a_tendency_from_a_library_of_the_users_is_corrected_within_its_scheme(rng):
    model = operators.compiled_model()
    network = make_network(rng, model.n, model.n)
    small = network.with_parameters(0.1 * network.parameters)
    hybrid = pb.HybridModel(model, small, "tendency")
    m, c = 32, 1.0

    def tendency(x, p):
        u, h = x[:m], x[m:]

        def gradient(y):
            return c * (np.roll(y, -1) - np.roll(y, 1))

        physics = [-gradient(u**2 / 2 + p[0] * h) - p[1] * u, -gradient(h * u)]
        return np.concatenate(physics) + in_numpy(small.parameters, x, model.n)

    x = np.concatenate([0.1 * rng.standard_normal(m), 1.0 + 0.1 * rng.standard_normal(m)])
    expected = reference.run(tendency, x, model.parameters, model.dt, 10)
    assert_close(hybrid.step(x, 10), expected, 1e-13)


def test_a_hybrid_of_a_hybrid_applies_both_corrections(rng):
    model = pb.Lorenz96(N, dt=DT)
    first, second, third = (make_network(rng) for _ in range(3))
    inner = pb.HybridModel(model, first, "tendency")
    middle = pb.HybridModel(inner, second, "forcing")
    outer = pb.HybridModel(middle, third, "increment", every=2)
    expected_p = [8.0, *first.parameters, *second.parameters, *third.parameters]
    assert np.array_equal(outer.parameters, expected_p)
    assert outer.n_carry == N
    x = rng.standard_normal(N)
    y, held = x, DT * second(x)
    for k in range(6):
        y = inner.step(y, start=k) + held
        if (k + 1) % 2 == 0:
            y = y + third(y)
    assert_close(outer.step(x, 6), y, 1e-14)
    # Two tendencies add
    twice = pb.HybridModel(inner, second, "tendency")

    def tendency(x, p):
        return reference.lorenz96(x, p) + sum(in_numpy(n.parameters, x) for n in (first, second))

    assert_close(twice.step(x, 6), reference.run(tendency, x, [8.0], DT, 6), 1e-14)


def test_two_forcings_are_each_held(rng):
    model = pb.Lorenz96(N, dt=DT)
    first, second = make_network(rng), make_network(rng)
    hybrid = pb.HybridModel(pb.HybridModel(model, first, "forcing"), second, "forcing")
    assert hybrid.n_carry == 2 * N
    x = rng.standard_normal(N)
    y, held = x, DT * (first(x) + second(x))
    for _ in range(5):
        y = model.step(y) + held
    assert_close(hybrid.step(x, 5), y, 1e-14)


# ---- what goes in ----


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"network": (7, 8)}, errors.ShapeError, r"takes 7 values; the state \(8\)"),
        ({"network": (8, 7)}, errors.ShapeError, "gives 7 values; the state has 8"),
        ({"fixed": [1.0]}, errors.ShapeError, r"fixed fields \(1\).* make 9"),
        ({"periods": [1.0]}, errors.ShapeError, "1 periods make 10"),
        ({"periods": [0.0]}, errors.InvalidArgumentError, "period"),
        ({"periods": [np.nan]}, errors.InvalidArgumentError, "periods: expected finite"),
        ({"fixed": [np.inf]}, errors.InvalidArgumentError, "fixed: expected finite"),
        ({"fixed": [[1.0]]}, errors.ShapeError, r"fixed: expected shape \(n,\), got \(1, 1\)"),
        ({"fixed": 1.0}, errors.ShapeError, r"fixed: .*got \(\)"),
        ({"every": 0}, errors.InvalidArgumentError, "every: expected at least 1, got 0"),
        ({"every": 1.5}, errors.InvalidArgumentError, "every: expected an integer, got 1.5"),
        ({"mode": "both"}, errors.InvalidArgumentError, "mode: expected one of .*got 'both'"),
        ({"mode": None}, errors.InvalidArgumentError, "mode: expected one of .*got None"),
        ({"model": 3}, errors.InvalidArgumentError, "model: expected a pybridge model, got 3"),
    ],
)
def test_a_hybrid_that_does_not_fit_is_refused(change, error, message, rng):
    change = dict(change)
    network = make_network(rng, *change.pop("network", (N, N)))
    model = change.pop("model", pb.Lorenz96(N))
    if change.get("periods") == [0.0]:
        network = make_network(rng, N + 2)
    with pytest.raises(error, match=message):
        pb.HybridModel(model, network, **({"mode": "increment"} | change))


def test_a_network_must_be_one_of_pybridge():
    with pytest.raises(errors.InvalidArgumentError, match=r"network: .*Network.from_keras"):
        pb.HybridModel(pb.Lorenz96(), "network")


@each_mode
def test_a_correction_that_blows_up_is_named_with_member_and_step(mode, rng):
    network = make_network(rng)
    p = network.parameters
    p[-N:] = 1e29 * rng.standard_normal(N)
    hybrid = pb.HybridModel(pb.Lorenz96(N), network.with_parameters(p), mode, every=3)
    x = rng.standard_normal((2, N))
    before = x.copy()
    with pytest.raises(errors.BlowUpError, match="member 0, step"):
        hybrid.step(x, 60)
    assert np.array_equal(x, before)


def test_an_exception_within_the_physics_is_the_cause_of_the_error(rng):
    def step(x, p, t):
        if t > 2.0:
            raise ZeroDivisionError("here")
        return x

    inner = pb.PythonModel(step, n=2, dt=1.0)
    hybrid = pb.HybridModel(inner, make_network(rng, 2, 2), "increment")
    outer = pb.HybridModel(hybrid, make_network(rng, 2, 2), "forcing")
    for model in (hybrid, outer):
        for threads in (1, 3):
            with pytest.raises(errors.UserModelError, match="member 0, step 4") as caught:
                model.step(np.ones((5, 2)), 9, threads=threads)
            assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(errors.NotAvailableError, match="without this derivative"):
        hybrid.step_tl(np.ones(2), np.ones(2))


# ---- ensembles, threads, life ----


@each_mode
def test_threads_and_members_change_no_bit(mode, rng):
    hybrid = pb.HybridModel(
        pb.Lorenz96(N), make_network(rng, N + 3), mode, every=2, fixed=[0.5], periods=[1.3]
    )
    x, dx, y_ad = rng.standard_normal((3, 37, N))
    dp = rng.standard_normal(hybrid.n_parameters)

    def work(threads):
        options = {"start": 3, "threads": threads}
        return [
            hybrid.step(x, 7, **options),
            hybrid.step_tl(x, dx, 7, dp=dp, **options),
            *hybrid.step_ad(x, y_ad, 7, **options),
            hybrid.trajectory(x, 7, every=3, **options),
        ]

    expected = work(1)
    with ThreadPoolExecutor(8) as pool:
        for results in [work(3), *pool.map(work, [1, 2] * 8)]:
            for a, b in zip(expected, results, strict=True):
                assert np.array_equal(a, b)
    for member in (0, 16, 36):
        assert np.array_equal(expected[0][member], hybrid.step(x[member], 7, start=3))


@each_mode
def test_a_hybrid_survives_pickling_and_its_configuration(mode, rng):
    network = make_network(rng, N + 3)
    hybrid = pb.HybridModel(
        pb.HybridModel(pb.Lorenz96(N, forcing=9.0), make_network(rng), "tendency"),
        network,
        "increment" if mode == "tendency" else mode,
        every=2,
        fixed=[0.1],
        periods=[1.0 / 3.0],
    )
    x = rng.standard_normal((2, N))
    config = json.loads(json.dumps(hybrid.get_config()))
    for again in (pickle.loads(pickle.dumps(hybrid)), from_config(config)):
        assert again.get_config() == hybrid.get_config()
        assert np.array_equal(again.parameters, hybrid.parameters)
        assert np.array_equal(again.step(x, 7, start=5), hybrid.step(x, 7, start=5))
        assert repr(again) == repr(hybrid)


def test_a_network_that_changes_later_does_not_change_the_hybrid(rng):
    network = make_network(rng)
    hybrid = pb.HybridModel(pb.Lorenz96(N), network, "increment")
    x = rng.standard_normal(N)
    expected, weights = hybrid.step(x, 3), network.parameters
    network.parameters = 2.0 * weights
    assert np.array_equal(hybrid.step(x, 3), expected)
    assert np.array_equal(hybrid.network.parameters, weights)
    assert np.array_equal(pickle.loads(pickle.dumps(hybrid)).step(x, 3), expected)


def test_a_hybrid_outlives_what_it_was_made_of_and_is_collected(rng):
    model, network = operators.python_model(4), make_network(rng, 4, 4)
    hybrid = pb.HybridModel(model, network, "increment")
    x = rng.standard_normal(4)
    expected = hybrid.step(x, 5)
    parts = weakref.ref(model), weakref.ref(network)
    del model, network
    gc.collect()
    assert np.array_equal(hybrid.step(x, 5), expected)
    alive = weakref.ref(hybrid)
    del hybrid
    gc.collect()
    assert alive() is None
    assert all(part() is None for part in parts)


@each_mode
def test_weights_are_estimated_by_4d_var(mode, rng):
    """A network's weight is a control variable like any other: here the bias of its output."""
    network = make_network(rng)
    p_true = np.zeros(network.n_parameters)
    p_true[-N:] = 0.5 if mode != "increment" else 0.02
    model = pb.Lorenz96(N, dt=DT)
    truth = pb.HybridModel(model, network.with_parameters(p_true), mode)
    hybrid = pb.HybridModel(model, network.with_parameters(0.0 * p_true), mode)
    x = model.step(8.0 + rng.standard_normal(N), 100)
    run = truth.trajectory(x, 12)
    window = Observations(range(1, 13), None, run[1:], 1e-3)
    sigma = np.zeros(hybrid.n_parameters)
    sigma[-N:] = p_true.max()
    fourdvar = FourDVar(
        hybrid, DiagonalCovariance(0.1, n=N), steps=12, outer=6, parameter_sigma=sigma
    )
    analysis = fourdvar.analyse(x + 0.1 * rng.standard_normal(N), window)
    np.testing.assert_allclose(analysis.parameters[-N:], p_true[-N:], rtol=0.05)
    np.testing.assert_allclose(analysis.analysis, x, atol=0.01)
