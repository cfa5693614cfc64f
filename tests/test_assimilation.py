# SPDX-License-Identifier: MIT
"""4D-Var against independent NumPy: gradients, minima, exact solutions, and refusals."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybridge import errors
from pybridge.assimilation import (
    DiagonalCovariance,
    FourDVar,
    FullCovariance,
    Observations,
    cycle,
)
from pybridge.models import Lorenz63, Lorenz96, PythonModel

seeds = st.integers(0, 2**32 - 1)


# ---- an independent 4D-Var: NumPy, dense matrices, no pybridge ----


def lorenz96_tendency(x, forcing):
    return (np.roll(x, -1) - np.roll(x, 2)) * np.roll(x, 1) - x + forcing


def lorenz96_jacobian(x):
    n = x.size
    jacobian = -np.eye(n)
    for i in range(n):
        jacobian[i, (i + 1) % n] += x[i - 1]
        jacobian[i, i - 2] -= x[i - 1]
        jacobian[i, i - 1] += x[(i + 1) % n] - x[i - 2]
    return jacobian


def lorenz96_step(x, forcing, h):
    """One Runge-Kutta step with its derivatives, dense, with respect to state and forcing."""
    n = x.size
    k, k_x, k_f = [], [], []
    for a in (0.0, 0.5, 0.5, 1.0):
        stage = x + a * h * (k[-1] if k else np.zeros(n))
        d_x = np.eye(n) + a * h * (k_x[-1] if k else np.zeros((n, n)))
        d_f = a * h * (k_f[-1] if k else np.zeros(n))
        jacobian = lorenz96_jacobian(stage)
        k.append(lorenz96_tendency(stage, forcing))
        k_x.append(jacobian @ d_x)
        k_f.append(jacobian @ d_f + 1.0)
    b = np.array([1.0, 2.0, 2.0, 1.0]) * h / 6.0
    return (
        x + sum(w * f for w, f in zip(b, k, strict=True)),
        np.eye(n) + sum(w * f for w, f in zip(b, k_x, strict=True)),
        sum(w * f for w, f in zip(b, k_f, strict=True)),
    )


def reference_window(x, forcing, steps, groups, h=0.05):
    """Equivalents of the observations and their derivative with respect to (state, forcing)."""
    n = x.size
    d_x, d_f = np.eye(n), np.zeros(n)
    states, derivatives = [x], [np.column_stack([d_x, d_f])]
    for _ in range(steps):
        x, m_x, m_f = lorenz96_step(x, forcing, h)
        d_x, d_f = m_x @ d_x, m_x @ d_f + m_f
        states.append(x)
        derivatives.append(np.column_stack([d_x, d_f]))
    y = np.concatenate([states[step][index] for step, index in groups])
    jacobian = np.concatenate([derivatives[step][index] for step, index in groups])
    return y, jacobian


def reference_analysis(x_b, forcing_b, b_matrix, sigma_f, steps, groups, y, sigma, iterations):
    """Gauss-Newton in physical space with explicit inverses: nothing shared with the core."""
    free = np.arange(x_b.size + (sigma_f > 0))
    z_b = np.append(x_b, forcing_b)
    inverse_b = np.zeros((z_b.size, z_b.size))
    inverse_b[:-1, :-1] = np.linalg.inv(b_matrix)
    inverse_b[-1, -1] = sigma_f**-2 if sigma_f > 0 else 0.0
    z = z_b.copy()

    def cost(z):
        equivalents, _ = reference_window(z[:-1], z[-1], steps, groups)
        return 0.5 * (z - z_b) @ inverse_b @ (z - z_b) + 0.5 * np.sum(
            ((y - equivalents) / sigma) ** 2
        )

    for _ in range(iterations):
        equivalents, jacobian = reference_window(z[:-1], z[-1], steps, groups)
        weighted = jacobian / sigma[:, None] ** 2
        hessian = (inverse_b + weighted.T @ jacobian)[np.ix_(free, free)]
        gradient = (inverse_b @ (z - z_b) - weighted.T @ (y - equivalents))[free]
        step = np.linalg.solve(hessian, -gradient)
        length = 1.0
        trial = z.copy()
        trial[free] = z[free] + step
        while cost(trial) > cost(z) * (1 + 1e-13) and length > 1e-4:
            length *= 0.5
            trial[free] = z[free] + length * step
        z = trial
    return z, cost(z)


def random_covariance(random, n):
    root = random.standard_normal((n, n))
    return 0.3 * (root @ root.T / n + 0.1 * np.eye(n))


def attractor(n, random):
    return Lorenz96(n).step(8.0 + random.standard_normal(n), 400)


def scattered(random, n, steps, groups):
    """Groups at random steps, unsorted, of random values, some observed twice."""
    times = random.integers(0, steps + 1, groups)
    indices = [random.integers(0, n, random.integers(1, 2 * n)) for _ in times]
    sigmas = [random.uniform(0.5, 2.0, index.size) for index in indices]
    return times.tolist(), indices, sigmas


# ---- covariances ----


@given(seeds, st.integers(1, 23), st.booleans())
def test_a_covariance_is_the_product_of_its_transform_and_the_adjoint(seed, n, full):
    random = np.random.default_rng(seed)
    if full:
        matrix = random_covariance(random, n)
        covariance = FullCovariance(matrix)
    else:
        sigma = random.uniform(0.1, 3.0, n)
        matrix = np.diag(sigma**2)
        covariance = DiagonalCovariance(sigma)
    v, dx_ad = random.standard_normal((2, 3, n))
    left = np.sum(covariance.forward_tl(v) * dx_ad)
    right = np.sum(v * covariance.forward_ad(dx_ad))
    scale = np.linalg.norm(covariance.forward(v)) * np.linalg.norm(dx_ad)
    assert abs(left - right) <= 1e-13 * scale
    np.testing.assert_allclose(
        covariance.apply(dx_ad), dx_ad @ matrix, rtol=0, atol=1e-13 * n * np.abs(matrix).max() * 9
    )


def test_a_covariance_survives_pickling():
    random = np.random.default_rng(0)
    for covariance in (
        DiagonalCovariance(0.5, n=4),
        FullCovariance(random_covariance(random, 4)),
    ):
        v = random.standard_normal(4)
        np.testing.assert_array_equal(
            pickle.loads(pickle.dumps(covariance)).forward(v), covariance.forward(v)
        )


def test_a_matrix_that_is_no_covariance_is_refused_with_its_smallest_eigenvalue():
    with pytest.raises(errors.NotPositiveDefiniteError, match="smallest eigenvalue is -1"):
        FullCovariance([[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(errors.NotPositiveDefiniteError):
        FullCovariance(np.ones((3, 3)))
    with pytest.raises(errors.InvalidArgumentError, match="symmetric"):
        FullCovariance([[1.0, 0.5], [0.4, 1.0]])
    with pytest.raises(errors.ShapeError, match=r"\(2, 3\)"):
        FullCovariance(np.ones((2, 3)))
    with pytest.raises(errors.InvalidArgumentError, match="nan at index"):
        FullCovariance([[1.0, np.nan], [np.nan, 1.0]])
    with pytest.raises(errors.NotPositiveDefiniteError, match="at index 1"):
        DiagonalCovariance([1.0, 0.0])
    with pytest.raises(errors.InvalidArgumentError, match="n: needed"):
        DiagonalCovariance(1.0)
    with pytest.raises(errors.ShapeError):
        DiagonalCovariance([1.0, 2.0], n=3)


# ---- gradients ----


@settings(deadline=None, max_examples=25)
@given(seeds, st.integers(4, 15), st.integers(0, 6), st.booleans())
def test_the_gradient_and_the_hessian_are_those_of_the_dense_reference(seed, n, steps, forcing):
    random = np.random.default_rng(seed)
    times, indices, sigmas = scattered(random, n, steps, 3)
    x_b = attractor(n, random)
    values = [random.normal(3.0, 3.0, index.size) for index in indices]
    observations = Observations(times, indices, values, sigmas)
    matrix = random_covariance(random, n)
    fourdvar = FourDVar(
        Lorenz96(n),
        FullCovariance(matrix),
        steps=steps,
        parameter_sigma=0.7 if forcing else None,
    )
    assert fourdvar.n_control == n + forcing
    v = 0.3 * random.standard_normal(n + forcing)
    cost, gradient = fourdvar.cost_and_gradient(v, x_b, observations)

    transform = np.zeros((n + 1, n + forcing))
    transform[:n, :n] = np.linalg.cholesky(matrix)
    if forcing:
        transform[n, n] = 0.7
    z = np.append(x_b, 8.0) + transform @ v
    groups = list(zip(times, indices, strict=True))
    y, jacobian = reference_window(z[:n], z[n], steps, groups)
    sigma = np.concatenate(sigmas)
    departure = (np.concatenate(values) - y) / sigma
    weighted = jacobian @ transform / sigma[:, None]
    expected = v - weighted.T @ departure
    assert cost == pytest.approx(0.5 * v @ v + 0.5 * departure @ departure, rel=1e-12)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    hessian = np.eye(n + forcing) + weighted.T @ weighted
    np.testing.assert_allclose(
        fourdvar.hessian_product(np.eye(n + forcing), v, x_b, observations),
        hessian,
        rtol=0,
        atol=1e-12 * np.abs(hessian).max(),
    )
    x, p = fourdvar.to_physical(v, x_b)
    np.testing.assert_allclose(x, z[:n], rtol=0, atol=1e-13 * np.abs(z).max())
    np.testing.assert_allclose(p, z[n:], rtol=1e-14)
    observation_cost, x_ad, p_ad = fourdvar.observation_cost_and_gradient(
        x, observations, parameters=p
    )
    expected = -jacobian.T @ (departure / sigma)
    assert observation_cost == pytest.approx(0.5 * departure @ departure, rel=1e-12)
    np.testing.assert_allclose(
        np.append(x_ad, p_ad), expected, rtol=0, atol=1e-12 * np.abs(expected).max()
    )


def test_the_gradient_test_passes_for_right_and_fails_for_wrong_derivatives():
    random = np.random.default_rng(1)
    observations = Observations([1, 3], None, random.standard_normal((2, 3)), 1.0)

    def step(x, p, t):
        return x + 0.1 * np.array([x[1] * x[2], -x[0], np.sin(x[0])])

    def step_tl(x, dx, p, dp, t):
        return dx + 0.1 * np.array([x[1] * dx[2] + dx[1] * x[2], -dx[0], np.cos(x[0]) * dx[0]])

    def step_ad(x, x_ad, p, t):
        return x_ad + 0.1 * np.array(
            [-x_ad[1] + np.cos(x[0]) * x_ad[2], x[2] * x_ad[0], x[1] * x_ad[0]]
        )

    def wrong_step_tl(x, dx, p, dp, t):
        return step_tl(x, dx, p, dp, t) + 1e-3 * dx

    def wrong_step_ad(x, x_ad, p, t):
        return step_ad(x, x_ad, p, t) + 1e-3 * x_ad

    def fourdvar(*procedures):
        model = PythonModel(*procedures, n=3, dt=0.1)
        return FourDVar(model, DiagonalCovariance(1.0, n=3), steps=3)

    x_b = np.array([1.0, 2.0, 0.5])
    result = fourdvar(step, step_tl, step_ad).check(x_b, observations)
    ratios = result.remainders[:4] / result.remainders[1:5]
    assert np.all(np.abs(ratios - 10.0) < 2.0)
    assert result.asymmetry < 1e-14
    with pytest.raises(errors.DerivativeError, match="adjoint does not give the gradient"):
        fourdvar(step, step_tl, wrong_step_ad).check(x_b, observations)
    with pytest.raises(errors.DerivativeError, match="asymmetric"):
        fourdvar(step, wrong_step_tl, step_ad).check(x_b, observations)


# ---- minima ----


@pytest.mark.parametrize("sigma_forcing", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_the_analysis_is_the_minimum_that_an_independent_dense_4dvar_finds(seed, sigma_forcing):
    random = np.random.default_rng(seed)
    n, steps = 12, 6
    times, indices, sigmas = scattered(random, n, steps, 5)
    groups = list(zip(times, indices, strict=True))
    truth = attractor(n, random)
    matrix = random_covariance(random, n)
    x_b = truth + np.linalg.cholesky(matrix) @ random.standard_normal(n)
    y, _ = reference_window(truth, 8.3, steps, groups)
    sigma = np.concatenate(sigmas)
    y += sigma * random.standard_normal(y.size)
    ends = np.cumsum([index.size for index in indices])[:-1]
    observations = Observations(times, indices, np.split(y, ends), sigmas)
    z, cost = reference_analysis(x_b, 8.0, matrix, sigma_forcing, steps, groups, y, sigma, 60)

    fourdvar = FourDVar(
        Lorenz96(n),
        FullCovariance(matrix),
        steps=steps,
        outer=60,
        inner=200,
        tolerance=1e-10,
        outer_tolerance=1e-12,
        parameter_sigma=[sigma_forcing],
        reorthogonalise=True,
    )
    analysis = fourdvar.analyse(x_b, observations, trajectory=True)
    assert analysis.converged
    assert analysis.succeeded
    np.testing.assert_allclose(analysis.analysis, z[:n], rtol=0, atol=1e-10 * np.abs(z).max())
    np.testing.assert_allclose(analysis.parameters, z[n:], rtol=1e-10)
    assert analysis.cost[-1] == pytest.approx(cost, rel=1e-12)
    assert np.all(np.diff(analysis.cost) <= 1e-13 * analysis.cost[:-1])
    expected = Lorenz96(n).trajectory(analysis.analysis, steps, parameters=analysis.parameters)
    np.testing.assert_array_equal(analysis.trajectory, expected)
    np.testing.assert_array_equal(analysis.final, expected[-1])
    np.testing.assert_array_equal(analysis.increment, analysis.analysis - x_b)


def test_inner_costs_are_those_of_the_quadratic_problem_and_fall():
    random = np.random.default_rng(5)
    n, steps = 10, 4
    x_b = attractor(n, random)
    observations = Observations(range(1, 5), None, x_b + random.standard_normal((4, n)), 1.0)
    matrix = random_covariance(random, n)
    fourdvar = FourDVar(
        Lorenz96(n), FullCovariance(matrix), steps=steps, outer=1, inner=4, tolerance=0.0
    )
    analysis = fourdvar.analyse(x_b, observations)
    groups = [(step, np.arange(n)) for step in range(1, 5)]
    y, jacobian = reference_window(x_b, 8.0, steps, groups)
    linear = jacobian[:, :n] @ np.linalg.cholesky(matrix)
    v = analysis.control
    quadratic = 0.5 * v @ v + 0.5 * np.sum((observations.values - y - linear @ v) ** 2)
    assert analysis.inner_iterations.tolist() == [4]
    assert analysis.step_lengths.tolist() == [1.0]
    assert analysis.inner_costs[0][0] == pytest.approx(analysis.cost[0], rel=1e-14)
    assert analysis.inner_costs[0][-1] == pytest.approx(quadratic, rel=1e-12)
    assert np.all(np.diff(analysis.inner_costs[0]) < 0)
    gradient = v - linear.T @ (observations.values - y - linear @ v)
    assert analysis.gradient_norms[0][-1] == pytest.approx(np.linalg.norm(gradient), rel=1e-9)


def linear_model(matrix, forcing):
    """x <- A x + p, as three callables."""
    return PythonModel(
        lambda x, p, t: matrix @ x + p,
        lambda x, dx, p, dp, t: matrix @ dx + dp,
        lambda x, x_ad, p, t: (matrix.T @ x_ad, x_ad),
        n=matrix.shape[0],
        dt=1.0,
        parameters=forcing,
    )


def test_with_a_linear_model_one_iteration_is_the_kalman_smoother():
    random = np.random.default_rng(2)
    n, steps = 5, 4
    a = 0.9 * np.linalg.qr(random.standard_normal((n, n)))[0]
    forcing = random.standard_normal(n)
    h = np.array([0, 2])
    b = random_covariance(random, n)
    x_b = random.standard_normal(n)
    values = random.standard_normal((steps, 2))
    sigma = np.array([0.3, 0.8])

    # Rauch-Tung-Striebel smoother: filter forward without model error, then back to the start
    x, p = x_b, b
    smoother = np.eye(n)
    select, r = np.eye(n)[h], np.diag(sigma**2)
    for y in values:
        x, p = a @ x + forcing, a @ p @ a.T
        smoother = smoother @ np.linalg.inv(a)
        gain = p @ select.T @ np.linalg.inv(select @ p @ select.T + r)
        x, p = x + gain @ (y - select @ x), p - gain @ select @ p
    at_start = x
    for _ in range(steps):
        at_start = np.linalg.solve(a, at_start - forcing)

    fourdvar = FourDVar(
        linear_model(a, forcing), FullCovariance(b), steps=steps, outer=1, tolerance=1e-13
    )
    analysis = fourdvar.analyse(x_b, Observations(range(1, 5), h, values, sigma))
    np.testing.assert_allclose(analysis.final, x, rtol=0, atol=1e-11)
    np.testing.assert_allclose(analysis.analysis, at_start, rtol=0, atol=1e-11)
    # The inverse Hessian is the analysis error covariance
    hessian = fourdvar.hessian_product(
        np.eye(n), np.zeros(n), x_b, Observations(range(1, 5), h, values, sigma)
    )
    u = np.linalg.cholesky(b)
    np.testing.assert_allclose(
        u @ np.linalg.inv(hessian) @ u.T, smoother @ p @ smoother.T, rtol=0, atol=1e-11
    )


def test_without_observations_the_analysis_is_the_background():
    x_b = attractor(10, np.random.default_rng(3))
    fourdvar = FourDVar(Lorenz96(10), DiagonalCovariance(1.0, n=10), steps=5)
    analysis = fourdvar.analyse(x_b, Observations([], None, [], 1.0))
    np.testing.assert_array_equal(analysis.analysis, x_b)
    np.testing.assert_array_equal(analysis.final, Lorenz96(10).step(x_b, 5))
    assert analysis.converged


def test_the_forcing_of_lorenz96_is_recovered_with_the_state():
    random = np.random.default_rng(4)
    model = Lorenz96(40, forcing=8.0)
    truth = attractor(40, random)
    states = model.trajectory(truth, 8 * 50)
    observed = states + random.standard_normal(states.shape)
    first = Observations(range(1, 9), None, observed[1:9], 1.0)
    windows = [first.with_values(observed[8 * w + 1 : 8 * w + 9]) for w in range(50)]
    fourdvar = FourDVar(model, DiagonalCovariance(0.3, n=40), steps=8, parameter_sigma=0.1)
    estimates = [
        analysis.parameters[0]
        for analysis in cycle(fourdvar, truth + 0.3, windows, parameters=[7.0])
    ]
    assert np.mean(estimates[10:]) == pytest.approx(8.0, rel=0.005)


def test_parameters_that_are_fixed_give_plain_4dvar_to_the_last_bit():
    random = np.random.default_rng(6)
    x_b = attractor(12, random)
    observations = Observations([2, 4], None, x_b + random.standard_normal((2, 12)), 1.0)
    covariance = DiagonalCovariance(0.5, n=12)
    plain = FourDVar(Lorenz96(12), covariance, steps=4).analyse(x_b, observations)
    fixed = FourDVar(Lorenz96(12), covariance, steps=4, parameter_sigma=0.0)
    np.testing.assert_array_equal(fixed.analyse(x_b, observations).analysis, plain.analysis)


def test_one_parameter_of_several_can_be_controlled():
    random = np.random.default_rng(7)
    truth = Lorenz63(rho=30.0)
    x = truth.step([1.0, 1.0, 20.0], 1000)
    states = truth.trajectory(x, 40)
    steps = range(5, 41, 5)
    values = states[5::5] + 0.01 * random.standard_normal((8, 3))
    fourdvar = FourDVar(
        Lorenz63(), DiagonalCovariance(1.0, n=3), steps=40, outer=10, parameter_sigma=[0, 2.0, 0]
    )
    analysis = fourdvar.analyse(x + 0.1, Observations(steps, None, values, 0.01))
    assert analysis.parameters[1] == pytest.approx(30.0, rel=1e-3)
    np.testing.assert_array_equal(analysis.parameters[[0, 2]], [10.0, 8.0 / 3.0])
    assert fourdvar.n_control == 4


# ---- windows ----


def small_cycle(windows=6):
    random = np.random.default_rng(8)
    model = Lorenz96(20)
    truth = model.trajectory(attractor(20, random), 4 * windows)
    observed = truth + random.standard_normal(truth.shape)
    first = Observations(range(1, 5), None, observed[1:5], 1.0)
    sets = [first.with_values(observed[4 * w + 1 : 4 * w + 5]) for w in range(windows)]
    fourdvar = FourDVar(model, DiagonalCovariance(0.4, n=20), steps=4)
    return fourdvar, truth, sets


def test_a_cycle_stays_near_the_truth_and_resumes_bit_for_bit():
    fourdvar, truth, windows = small_cycle(60)
    analyses = list(cycle(fourdvar, truth[0] + 0.5, windows))
    rmse = [np.sqrt(np.mean((a.analysis - truth[4 * w]) ** 2)) for w, a in enumerate(analyses)]
    assert np.mean(rmse[20:]) < 0.4
    half = analyses[29]
    resumed = list(cycle(fourdvar, half.final, windows[30:], start=120))
    np.testing.assert_array_equal(resumed[-1].final, analyses[-1].final)


def test_the_number_of_the_first_step_reaches_the_model():
    seen = []

    def step(x, p, t):
        seen.append(t)
        return x

    model = PythonModel(step, lambda x, dx, p, dp, t: dx, lambda x, x_ad, p, t: x_ad, n=2, dt=0.5)
    fourdvar = FourDVar(model, DiagonalCovariance(1.0, n=2), steps=2, outer=1)
    windows = [Observations([2], None, np.ones((1, 2)), 1.0)] * 2
    list(cycle(fourdvar, np.zeros(2), windows, start=10))
    assert sorted(set(seen)) == [5.0, 5.5, 6.0, 6.5]


def test_a_first_guess_is_where_the_minimisation_begins():
    fourdvar, truth, windows = small_cycle()
    cold = fourdvar.analyse(truth[0] + 0.5, windows[0])
    warm = fourdvar.analyse(truth[0] + 0.5, windows[0], control=cold.control)
    assert warm.cost[0] == pytest.approx(cold.cost[-1], rel=1e-14)
    assert warm.gradient_norms[0][0] < 1e-2 * cold.gradient_norms[0][0]


def test_one_object_serves_windows_of_different_layouts():
    random = np.random.default_rng(9)
    fourdvar, truth, windows = small_cycle()
    every_third = Observations([4, 0], np.arange(0, 20, 3), random.standard_normal((2, 7)), 0.5)
    before = fourdvar.analyse(truth[0], windows[0])
    other = fourdvar.analyse(truth[0], every_third)
    after = fourdvar.analyse(truth[0], windows[0])
    np.testing.assert_array_equal(before.analysis, after.analysis)
    fresh = FourDVar(fourdvar.model, fourdvar.covariance, steps=4)
    np.testing.assert_array_equal(other.analysis, fresh.analyse(truth[0], every_third).analysis)


def test_threads_and_processes_get_the_same_analyses():
    fourdvar, truth, windows = small_cycle()
    expected = [fourdvar.analyse(truth[4 * w], o).analysis for w, o in enumerate(windows)]

    def own(w):
        mine = pickle.loads(pickle.dumps(fourdvar))
        window = pickle.loads(pickle.dumps(windows[w]))
        return mine.analyse(truth[4 * w], window).analysis

    def shared(w):
        return fourdvar.analyse(truth[4 * w], windows[w]).analysis

    with ThreadPoolExecutor(4) as pool:
        for work in (own, shared):
            for got, wanted in zip(pool.map(work, range(6)), expected, strict=True):
                np.testing.assert_array_equal(got, wanted)


def test_the_callers_arrays_are_left_alone():
    fourdvar, truth, windows = small_cycle()
    background = truth[0].copy()
    background.flags.writeable = False
    control = np.ones(20)
    fourdvar.analyse(background, windows[0], control=control)
    np.testing.assert_array_equal(control, 1.0)
    big_endian = truth[0].astype(">f8")
    np.testing.assert_array_equal(
        fourdvar.analyse(big_endian, windows[0]).analysis,
        fourdvar.analyse(truth[0], windows[0]).analysis,
    )


# ---- what must be refused ----


def test_observations_that_cannot_be_are_refused_with_what_is_wrong():
    values = np.zeros((2, 3))
    values[1, 2] = np.nan
    with pytest.raises(errors.ObservationError, match=r"nan at index 2 of group 1, step 4"):
        Observations([2, 4], None, values, 1.0)
    with pytest.raises(errors.ObservationError, match=r"sigma: .* got 0.0 at step 2"):
        Observations([2, 4], None, np.zeros((2, 3)), 0.0)
    with pytest.raises(errors.ObservationError, match="sigma"):
        Observations([2, 4], None, np.zeros((2, 3)), [1.0, np.inf, 1.0])
    with pytest.raises(errors.ObservationError, match="steps: expected 0 or more, got -1"):
        Observations([-1], None, np.zeros((1, 3)), 1.0)
    with pytest.raises(errors.ObservationError, match="indices"):
        Observations([1], [-1, 0, 1], np.zeros((1, 3)), 1.0)
    with pytest.raises(errors.InvalidArgumentError, match="integers"):
        Observations([1], [0.0, 1.0, 2.0], np.zeros((1, 3)), 1.0)
    with pytest.raises(errors.ShapeError, match="values"):
        Observations([1, 2], None, np.zeros((3, 3)), 1.0)
    with pytest.raises(errors.ShapeError, match="indices"):
        Observations([1, 2], [0, 1], np.zeros((2, 3)), 1.0)
    with pytest.raises(errors.ShapeError, match="sigma"):
        Observations([1, 2], None, np.zeros((2, 3)), [1.0, 1.0])
    with pytest.raises(errors.ShapeError, match="expected 3 values at step 2, got 4"):
        Observations([1, 2], None, np.zeros((2, 3)), 1.0).with_values([np.zeros(3), np.zeros(4)])


def test_observations_outside_window_or_state_are_refused():
    fourdvar, truth, _ = small_cycle()
    with pytest.raises(errors.ObservationError, match="steps 0 to 4, the window, got 5"):
        fourdvar.analyse(truth[0], Observations([5], None, np.zeros((1, 20)), 1.0))
    with pytest.raises(errors.ObservationError, match=r"below 20.*got 20 at step 2"):
        fourdvar.analyse(truth[0], Observations([2], [3, 20], np.zeros((1, 2)), 1.0))


def test_arguments_of_wrong_type_or_size_are_refused_by_name():
    fourdvar, truth, windows = small_cycle()
    model, covariance = fourdvar.model, fourdvar.covariance
    with pytest.raises(errors.ShapeError, match="covariance: expected one of size 20"):
        FourDVar(model, DiagonalCovariance(1.0, n=19), steps=4)
    for argument in ({"steps": -1}, {"outer": 0}, {"inner": 0}, {"tolerance": 1.0}):
        with pytest.raises(errors.InvalidArgumentError, match=next(iter(argument))):
            FourDVar(model, covariance, **{"steps": 4, **argument})
    with pytest.raises(errors.InvalidArgumentError, match="parameter_sigma"):
        FourDVar(model, covariance, steps=4, parameter_sigma=-1.0)
    with pytest.raises(errors.InvalidArgumentError, match="outer_tolerance"):
        FourDVar(model, covariance, steps=4, outer_tolerance=-1.0)
    with pytest.raises(errors.ShapeError, match="background"):
        fourdvar.analyse(truth[0, :5], windows[0])
    with pytest.raises(errors.InvalidArgumentError, match="background: expected finite"):
        fourdvar.analyse(np.full(20, np.inf), windows[0])
    with pytest.raises(errors.ShapeError, match="parameters"):
        fourdvar.analyse(truth[0], windows[0], parameters=[1.0, 2.0])
    with pytest.raises(errors.ShapeError, match="control"):
        fourdvar.analyse(truth[0], windows[0], control=[1.0])
    with pytest.raises(errors.InvalidArgumentError, match="observations"):
        fourdvar.analyse(truth[0], windows[0].values)


def test_a_model_that_blows_up_from_the_background_is_reported_with_its_step():
    fourdvar, truth, windows = small_cycle()
    background = truth[0].copy()
    background[3] = 1e5
    with pytest.raises(errors.BlowUpError, match=r"step \d of the window at k = 8"):
        fourdvar.analyse(background, windows[0], start=8)
    with pytest.raises(errors.BlowUpError):
        fourdvar.cost_and_gradient(np.zeros(20), background, windows[0])
    # and the object is as good as before
    fourdvar.analyse(truth[0], windows[0])


def test_a_wrong_adjoint_is_never_a_silent_bad_analysis():
    random = np.random.default_rng(10)
    matrix = np.linalg.qr(random.standard_normal((4, 4)))[0]
    model = PythonModel(
        lambda x, p, t: matrix @ x,
        lambda x, dx, p, dp, t: matrix @ dx,
        lambda x, x_ad, p, t: -(matrix.T @ x_ad),
        n=4,
        dt=1.0,
    )
    fourdvar = FourDVar(model, DiagonalCovariance(1.0, n=4), steps=1)
    x_b = random.standard_normal(4)
    observations = Observations([1], None, random.standard_normal((1, 4)), 0.1)
    with pytest.warns(errors.NotConvergedWarning, match="is the adjoint right"):
        analysis = fourdvar.analyse(x_b, observations)
    assert not analysis.succeeded
    assert np.all(np.diff(analysis.cost) <= 0)
    np.testing.assert_array_equal(analysis.analysis, x_b)


def test_what_a_users_procedure_raises_arrives_as_the_cause():
    def step(x, p, t):
        raise RuntimeError("no fuel")

    model = PythonModel(step, lambda *a: a[1], lambda *a: a[1], n=2, dt=1.0)
    fourdvar = FourDVar(model, DiagonalCovariance(1.0, n=2), steps=1)
    with pytest.raises(errors.UserModelError, match="no fuel") as caught:
        fourdvar.analyse(np.zeros(2), Observations([1], None, np.zeros((1, 2)), 1.0))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_callable_that_calls_its_own_4dvar_is_refused():
    def step(x, p, t):
        fourdvar.cost_and_gradient([0.0], [0.0], observations)
        return x

    model = PythonModel(step, n=1, dt=1.0)
    fourdvar = FourDVar(model, DiagonalCovariance(1.0, 1), steps=1)
    observations = Observations([1], None, [[1.0]], 1.0)
    with pytest.raises(errors.UserModelError, match="from within its own run"):
        fourdvar.analyse([0.0], observations)
    # And afterwards it is as before
    with pytest.raises(errors.UserModelError, match="from within its own run"):
        fourdvar.analyse([0.0], observations)


def test_a_window_beyond_memory_is_an_exception():
    with pytest.raises(MemoryError, match="1000000000 steps"):
        FourDVar(Lorenz96(2**20), DiagonalCovariance(1.0, 2**20), steps=10**9)


def test_tables_are_rows_of_values():
    frame = pytest.importorskip("pandas").DataFrame
    values, indices = np.arange(6.0).reshape(2, 3), np.array([[0, 2, 1], [1, 3, 2]])
    sigma = values + 1.0
    observations = Observations([1, 2], frame(indices), frame(values), frame(sigma))
    expected = Observations([1, 2], indices, values, sigma)
    assert observations.layout == expected.layout
    assert (observations.values == expected.values).all()
    masked = np.ma.array([1.0, 2.0], mask=[True, False])
    with pytest.raises(errors.InvalidArgumentError, match="masked"):
        Observations([1], None, [[1.0, 2.0]], masked)


@pytest.mark.parametrize(
    ("steps", "indices", "values", "name"),
    [(1, None, [[1.0]], "steps"), ([1], None, 1.0, "values"), ([1], 0, [[1.0]], "indices")],
)
def test_a_number_is_no_sequence(steps, indices, values, name):
    with pytest.raises(errors.InvalidArgumentError, match=f"{name}: expected a sequence"):
        Observations(steps, indices, values, 1.0)
