# SPDX-License-Identifier: MIT
"""The bridge is exact, and 4D-Var is back-propagation through time.

Keras on TensorFlow against the Fortran core, in double precision: a network's values and
derivatives, those of a hybrid's step and of a whole window, and the gradient of the 4D-Var cost
with respect to state and weights, against that of the same recurrent network in TensorFlow.
"""

import numpy as np
import pytest

import pybridge as pb
from pybridge.assimilation import FourDVar, FullCovariance, Observations

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

from pybridge.learning import stencil_network  # noqa: E402

N, STEPS, START, DT = 12, 8, 5, 0.05
EVERY, PERIOD = 3, 0.7
FIXED = np.array([0.3, -1.1])
MODES = ("tendency", "increment", "forcing")
DTYPE = "float64"
layers = keras.layers


def dense(n_inputs=N):
    return keras.Sequential(
        [
            keras.Input((n_inputs,), dtype=DTYPE),
            layers.Dense(20, activation="tanh", dtype=DTYPE),
            layers.Dense(16, activation="gelu", dtype=DTYPE),
            layers.Dense(N, dtype=DTYPE),
        ]
    )


def stencil(n_inputs=N):
    assert n_inputs == N
    return stencil_network(N, hidden=7, centre=2.0, scale=3.0, activation="silu")


def residual(n_inputs=N):
    inputs = keras.Input((n_inputs,), dtype=DTYPE)
    scaled = layers.Normalization(
        mean=np.linspace(0.0, 3.0, n_inputs), variance=np.linspace(4.0, 9.0, n_inputs), dtype=DTYPE
    )(inputs)
    hidden = layers.Dense(18, activation="softplus", dtype=DTYPE)(scaled)
    branch = layers.Dense(18, activation="sigmoid", dtype=DTYPE)(hidden)
    joined = layers.Concatenate(dtype=DTYPE)([layers.Add(dtype=DTYPE)([hidden, branch]), scaled])
    return keras.Model(inputs, layers.Dense(N, dtype=DTYPE)(joined))


NETWORKS = {"dense": dense, "stencil": stencil, "residual": residual}
each_network = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
each_mode = pytest.mark.parametrize("mode", MODES)


def randomised(network, rng, size=1.0):
    """Give a Keras network random weights, biases included."""
    for variable in network.trainable_variables:
        shape = tuple(variable.shape)
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]) if shape[1:] else 4.0)
        variable.assign(size * values)
    return network


def split(network, flat):
    """Cut a flat tensor of weights into those of a Keras network, in its own order."""
    shapes = [tuple(v.shape) for v in network.trainable_variables]
    parts = tf.split(flat, [int(np.prod(shape)) for shape in shapes])
    return [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]


def run_in_tensorflow(mode, network, x, forcing, weights, *, auxiliary=False):
    """The hybrid as a recurrent network: Lorenz-96, Runge-Kutta, and Keras's own layers."""
    weights = split(network, weights)
    fixed_variables = [v.value for v in network.non_trainable_variables]

    def correction(x, t):
        inputs = x
        if auxiliary:
            phase = 2.0 * np.pi * t / PERIOD
            inputs = tf.concat([x, FIXED, [np.cos(phase), np.sin(phase)]], axis=0)
        outputs, _ = network.stateless_call(weights, fixed_variables, inputs[None])
        return outputs[0]

    def tendency(x, t):
        ahead, behind, further = (tf.roll(x, shift, 0) for shift in (-1, 1, 2))
        physics = (ahead - further) * behind - x + forcing
        return physics + correction(x, t) if mode == "tendency" else physics

    states = [x]
    held = correction(x, START * DT) if mode == "forcing" else None
    for k in range(START, START + STEPS):
        k1 = tendency(x, k * DT)
        k2 = tendency(x + 0.5 * DT * k1, (k + 0.5) * DT)
        k3 = tendency(x + 0.5 * DT * k2, (k + 0.5) * DT)
        k4 = tendency(x + DT * k3, (k + 1) * DT)
        x = x + DT / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
        if mode == "increment" and (k + 1) % EVERY == 0:
            x = x + correction(x, (k + 1) * DT)
        if mode == "forcing":
            x = x + DT * held
        states.append(x)
    return states


def make_hybrid(mode, network, auxiliary=False):
    options = {"fixed": FIXED, "periods": [PERIOD]} if auxiliary else {}
    every = EVERY if mode == "increment" else 1
    model = pb.Lorenz96(N, forcing=8.0, dt=DT)
    return pb.HybridModel(model, pb.Network.from_keras(network), mode, every=every, **options)


@pytest.fixture
def rng():
    return np.random.default_rng(1994)


def attractor(rng, *shape):
    return pb.Lorenz96(N, dt=DT).step(8.0 + rng.standard_normal((*shape, N)), 200)


def relative(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


# ---- through a network ----


@each_network
def test_weights_cross_bit_for_bit_in_keras_order(make, rng):
    network = randomised(make(), rng)
    crossed = pb.Network.from_keras(network)
    flat = np.concatenate([np.ravel(v.numpy()) for v in network.trainable_variables])
    assert np.array_equal(crossed.parameters, flat)
    back = crossed.to_keras()
    for ours, theirs in zip(back.get_weights(), network.get_weights(), strict=True):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)


@each_network
def test_a_network_in_fortran_is_that_of_keras(make, rng):
    """Values, tangent linear and adjoint for inputs and weights: 1e-13 relative."""
    network = randomised(make(), rng)
    fortran = pb.Network.from_keras(network)
    x, dx, y_ad = attractor(rng, 64), rng.standard_normal((64, N)), rng.standard_normal((64, N))
    dp = rng.standard_normal(fortran.n_parameters)
    variables = [v.value for v in network.trainable_variables]
    inputs = tf.constant(x)
    assert relative(fortran(x), network(inputs)) <= 1e-13
    with tf.autodiff.ForwardAccumulator(
        [inputs, *variables], [tf.constant(dx), *split(network, tf.constant(dp))]
    ) as accumulator:
        y = network(inputs)
    assert relative(fortran.forward_tl(x, dx, dp), accumulator.jvp(y)) <= 1e-13
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = network(inputs)
    expected_x, *expected_p = tape.gradient(y, [inputs, *variables], tf.constant(y_ad))
    x_ad, p_ad = fortran.forward_ad(x, y_ad)
    assert relative(x_ad, expected_x) <= 1e-13
    expected_p = np.concatenate([np.ravel(part) for part in expected_p])
    assert relative(p_ad, expected_p) <= 1e-13
    left, right = np.sum(fortran.forward_tl(x, dx, dp) * y_ad), np.sum(dx * x_ad) + dp @ p_ad
    assert abs(left - right) <= 1e-13 * np.linalg.norm(y_ad) * np.linalg.norm(y)


# ---- through a step, and through a window ----


def taylor_decades(run, run_tl):
    """Decades in a row, by halves, over which the remainder falls as the square of the step."""
    steps = 10.0 ** np.arange(0.0, -8.5, -0.5)
    reference, slope = run(0.0), run_tl()
    found = np.array([np.linalg.norm(run(h) - reference - h * slope) for h in steps])
    longest = current = 0
    for ratio in found[:-1] / found[1:]:
        current = current + 1 if 8.0 < ratio < 12.5 else 0
        longest = max(longest, current)
    return longest / 2


@each_mode
@each_network
@pytest.mark.parametrize("steps", [1, STEPS])
def test_taylor_and_dot_product_hold_for_state_and_weights(make, mode, steps, rng):
    hybrid = make_hybrid(mode, randomised(make(), rng, 0.3))
    start = 2 if steps == 1 else START
    x = attractor(rng)
    dx, y_ad = rng.standard_normal((2, N))
    p = hybrid.parameters
    dp = 0.3 * rng.standard_normal(p.size)
    for d_state, d_parameters in ((dx, 0.0 * dp), (0.0 * dx, dp), (dx, dp)):

        def run(h, d_state=d_state, d_parameters=d_parameters):
            moved = p + h * d_parameters
            return hybrid.step(x + h * d_state, steps, start=start, parameters=moved)

        def run_tl(d_state=d_state, d_parameters=d_parameters):
            return hybrid.step_tl(x, d_state, steps, start=start, dp=d_parameters)

        assert taylor_decades(run, run_tl) >= 5
        dy = run_tl()
        x_ad, p_ad = hybrid.step_ad(x, y_ad, steps, start=start)
        difference = abs(dy @ y_ad - d_state @ x_ad - d_parameters @ p_ad)
        assert difference <= 1e-13 * np.linalg.norm(dy) * np.linalg.norm(y_ad)


@each_mode
@each_network
def test_a_window_of_the_hybrid_is_that_of_the_recurrent_network(make, mode, rng):
    network = randomised(make(), rng, 0.3)
    hybrid = make_hybrid(mode, network)
    x = attractor(rng)
    p = tf.constant(hybrid.parameters)
    states = run_in_tensorflow(mode, network, tf.constant(x), p[0], p[1:])
    assert relative(hybrid.trajectory(x, STEPS, start=START), tf.stack(states)) <= 1e-13


# ---- 4D-Var is back-propagation through time ----


def window(rng, x):
    """Observations at scattered steps of scattered values, some twice, with unequal errors."""
    times = [0, 2, 3, 3, 7, STEPS]
    indices = [rng.integers(0, N, rng.integers(3, N)) for _ in times]
    values = [x[index] + rng.standard_normal(index.size) for index in indices]
    sigma = [rng.uniform(0.5, 1.5, index.size) for index in indices]
    return times, indices, values, sigma


def check_gradient(mode, network, rng, auxiliary=False):
    hybrid = make_hybrid(mode, network, auxiliary)
    background = attractor(rng)
    root = rng.standard_normal((N, N))
    covariance = 0.5 * (root @ root.T / N + 0.2 * np.eye(N))
    sigma_p = rng.uniform(0.05, 0.2, hybrid.n_parameters)
    # Not every weight is controlled
    sigma_p[rng.integers(0, sigma_p.size, 5)] = 0.0
    times, indices, values, sigma = window(rng, background)
    fourdvar = FourDVar(hybrid, FullCovariance(covariance), steps=STEPS, parameter_sigma=sigma_p)
    v = 0.5 * rng.standard_normal(fourdvar.n_control)
    observations = Observations(times, indices, values, sigma)
    cost, gradient = fourdvar.cost_and_gradient(v, background, observations, start=START)

    # The same, by back-propagation through time
    control = tf.constant(v)
    controlled = np.flatnonzero(sigma_p)
    transform = tf.constant(np.linalg.cholesky(covariance))
    with tf.GradientTape() as tape:
        tape.watch(control)
        x = background + tf.linalg.matvec(transform, control[:N])
        departure = tf.scatter_nd(
            controlled[:, None], sigma_p[controlled] * control[N:], [sigma_p.size]
        )
        p = hybrid.parameters + departure
        states = run_in_tensorflow(mode, network, x, p[0], p[1:], auxiliary=auxiliary)
        loss = 0.5 * tf.reduce_sum(control**2)
        for time, index, value, error in zip(times, indices, values, sigma, strict=True):
            misfit = (tf.gather(states[time], index) - value) / error
            loss += 0.5 * tf.reduce_sum(misfit**2)
    expected = tf.convert_to_tensor(tape.gradient(loss, control)).numpy()
    assert abs(cost - float(loss)) <= 1e-13 * float(loss)
    # State and weights each by themselves: the one must not hide in the other's size
    state, weights = slice(0, N), slice(N, None)
    errors = [relative(gradient[part], expected[part]) for part in (state, weights)]
    assert max(errors) <= 1e-12
    assert np.abs(expected[weights]).max() > 1e-3
    return errors


@each_mode
@each_network
def test_the_gradient_of_4d_var_is_back_propagation_through_time(make, mode, rng):
    check_gradient(mode, randomised(make(), rng, 0.3), rng)


@each_mode
def test_so_it_is_with_auxiliary_predictors(mode, rng):
    network = randomised(dense(N + 4), rng, 0.3)
    check_gradient(mode, network, rng, auxiliary=True)


@each_mode
def test_the_loss_without_a_background_has_that_gradient_too(mode, rng):
    """`observation_cost_and_gradient`: the loss of a recurrent network, nothing else."""
    network = randomised(dense(), rng, 0.3)
    hybrid = make_hybrid(mode, network)
    x = attractor(rng)
    times, indices, values, sigma = window(rng, x)
    fourdvar = FourDVar(hybrid, FullCovariance(np.eye(N)), steps=STEPS)
    observations = Observations(times, indices, values, sigma)
    cost, x_ad, p_ad = fourdvar.observation_cost_and_gradient(x, observations, start=START)
    state, p = tf.constant(x), tf.constant(hybrid.parameters)
    with tf.GradientTape() as tape:
        tape.watch([state, p])
        states = run_in_tensorflow(mode, network, state, p[0], p[1:])
        loss = tf.add_n(
            [
                0.5 * tf.reduce_sum(((tf.gather(states[time], index) - value) / error) ** 2)
                for time, index, value, error in zip(times, indices, values, sigma, strict=True)
            ]
        )
    expected_x, expected_p = tape.gradient(loss, [state, p])
    assert abs(cost - float(loss)) <= 1e-13 * float(loss)
    assert relative(x_ad, tf.convert_to_tensor(expected_x)) <= 1e-12
    assert relative(p_ad, tf.convert_to_tensor(expected_p)) <= 1e-12
