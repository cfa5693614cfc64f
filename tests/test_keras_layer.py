# SPDX-License-Identifier: MIT
"""Forecast models as TensorFlow operations and Keras layers."""

import gc
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import pybridge as pb

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

import pybridge.keras as pbk  # noqa: E402
from pybridge.keras import _step  # noqa: E402

N = 40
BACKENDS = ("op", "numpy")


@pytest.fixture
def rng():
    return np.random.default_rng(20240229)


@pytest.fixture
def model():
    return pb.Lorenz96(n=N, forcing=8.0)


@pytest.fixture
def states(rng):
    """States on the attractor."""
    return pb.Lorenz96(n=N).step(8.0 + rng.normal(size=(6, N)), 200)


def lorenz96_in_tensorflow(x, forcing, steps, dt=0.05, correction=None):
    """Lorenz-96 by the same scheme, written in TensorFlow and differentiated by it."""

    def tendency(x):
        ahead, behind, further = (tf.roll(x, shift, axis=-1) for shift in (-1, 1, 2))
        uncorrected = (ahead - further) * behind - x + forcing
        return uncorrected if correction is None else uncorrected + correction(x)

    for _ in range(steps):
        k1 = tendency(x)
        k2 = tendency(x + 0.5 * dt * k1)
        k3 = tendency(x + 0.5 * dt * k2)
        k4 = tendency(x + dt * k3)
        x = x + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
    return x


def assert_close(actual, expected, tolerance=1e-12):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


def reverse(run, x, p, weight):
    with tf.GradientTape() as tape:
        tape.watch([x, p])
        target = tf.reduce_sum(weight * run(x, p))
    return tape.gradient(target, [x, p])


def forward(run, x, p, dx, dp):
    with tf.autodiff.ForwardAccumulator([x, p], [dx, dp]) as accumulator:
        y = run(x, p)
    return accumulator.jvp(y)


@pytest.fixture
def problem(rng, states):
    """What a derivative is taken of: x, p, an adjoint variable, and perturbations."""
    return {
        "x": tf.constant(states),
        "p": tf.constant([8.3], tf.float64),
        "weight": tf.constant(rng.normal(size=states.shape)),
        "dx": tf.constant(rng.normal(size=states.shape)),
        "dp": tf.constant(rng.normal(size=1)),
    }


def test_the_operation_loads_here():
    assert pbk.op_is_available(), _step._operations.reason


# ---- the run itself ----


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_in_a_graph_is_bitwise_the_run_of_the_model(model, states, backend):
    run = tf.function(lambda x: pbk.forecast(model, x, 7, start=3, backend=backend))
    expected = model.step(states, 7, start=3)
    assert np.array_equal(pbk.forecast(model, states, 7, start=3, backend=backend), expected)
    assert np.array_equal(run(tf.constant(states)), expected)


def test_one_graph_serves_any_batch_size(model, states):
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([None, N], tf.float64)])
    def run(x):
        traces.append(x.shape)
        y = pbk.forecast(model, x, 2)
        assert y.shape.as_list() == [None, N]
        return y

    for members in (1, 6, 0, 3):
        assert np.array_equal(run(states[:members]), model.step(states[:members], 2))
    assert len(traces) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_change_nothing(model, rng, backend):
    x = tf.constant(8.0 + rng.normal(size=(67, N)))
    p = tf.constant([8.0], tf.float64)
    weight = tf.constant(rng.normal(size=x.shape))

    def run(threads):
        def forecast(x, p):
            return pbk.forecast(model, x, 5, parameters=p, threads=threads, backend=backend)

        return [forecast(x, p), *reverse(forecast, x, p, weight)]

    for serial, shared in zip(run(1), run(3), strict=True):
        assert np.array_equal(serial, shared)


def test_a_dataset_maps_the_model_in_parallel(model, rng):
    x = 8.0 + rng.normal(size=(64, 3, N))
    mapped = tf.data.Dataset.from_tensor_slices(x).map(
        lambda x: pbk.forecast(model, x, 30, backend="op"), num_parallel_calls=4
    )
    assert np.array_equal(list(mapped.as_numpy_iterator()), model.step(x, 30))


def test_without_the_operation_numpy_serves(model, states, tmp_path, monkeypatch):
    monkeypatch.setattr(_step, "_operations", _step._Operations())
    monkeypatch.setattr(_step.importlib.resources, "files", lambda package: tmp_path)
    assert not pbk.op_is_available()
    assert np.array_equal(pbk.forecast(model, states, 3), model.step(states, 3))
    with pytest.raises(pb.errors.NotAvailableError, match=r"cannot be loaded: .*_op\.so"):
        pbk.forecast(model, states, 3, backend="op")


def clock_step(x, p, t):
    return x + 0.5 * t * p * x * x


def clock_step_tl(x, dx, p, dp, t):
    return dx + 0.5 * t * (2.0 * p * x * dx + dp * x * x)


def clock_step_ad(x, x_ad, p, t):
    return x_ad + t * p * x * x_ad, np.array([0.5 * t * np.sum(x * x * x_ad)])


@pytest.fixture
def clock():
    """A model that depends on time."""
    return pb.PythonModel(clock_step, clock_step_tl, clock_step_ad, n=3, dt=0.1, parameters=[0.1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_member_may_start_at_its_own_step(clock, rng, backend):
    x = tf.constant(rng.normal(size=(5, 3)))
    p = tf.constant([0.2], tf.float64)
    first = [4, 4, 0, 9, 9]
    weight = tf.constant(rng.normal(size=(5, 3)))

    def run(x, p):
        return pbk.forecast(clock, x, 3, parameters=p, start=first, backend=backend)

    expected = [clock.step(x[i], 3, start=k, parameters=[0.2]) for i, k in enumerate(first)]
    assert np.array_equal(run(x, p), expected)
    x_ad, p_ad = reverse(run, x, p, weight)
    parts = [
        clock.step_ad(x[i], weight[i], 3, start=k, parameters=[0.2]) for i, k in enumerate(first)
    ]
    assert np.array_equal(x_ad, [part[0] for part in parts])
    assert_close(p_ad, sum(part[1] for part in parts))


# ---- derivatives ----


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "tf.function"])
def test_gradients_are_those_of_the_model_written_in_tensorflow(model, problem, backend, compiled):
    def fortran(x, p):
        return pbk.forecast(model, x, 6, parameters=p, backend=backend)

    wrap = tf.function if compiled else lambda f: f
    arguments = [problem[name] for name in ("x", "p", "weight")]
    expected = reverse(lambda x, p: lorenz96_in_tensorflow(x, p, 6), *arguments)
    for run in (
        lambda *a: reverse(wrap(fortran), *a),
        wrap(lambda *a: reverse(fortran, *a)),
        wrap(lambda *a: reverse(wrap(fortran), *a)),
    ):
        for actual, reference in zip(run(*arguments), expected, strict=True):
            assert_close(actual, reference)


@pytest.mark.parametrize("where", ["eager", "of a function", "in a function", "both"])
def test_forward_mode_is_that_of_the_model_written_in_tensorflow(model, problem, where):
    def fortran(x, p):
        return pbk.forecast(model, x, 6, parameters=p, backend="op")

    inner = tf.function(fortran) if where in ("of a function", "both") else fortran
    arguments = [problem[name] for name in ("x", "p", "dx", "dp")]
    expected = forward(lambda x, p: lorenz96_in_tensorflow(x, p, 6), *arguments)

    def run(*arguments):
        return forward(inner, *arguments)

    run = tf.function(run) if where in ("in a function", "both") else run
    assert_close(run(*arguments), expected)


def test_forward_mode_of_the_fallback_is_exact_eagerly_and_refused_in_a_function(model, problem):
    def run(x, p):
        return pbk.forecast(model, x, 6, parameters=p, backend="numpy")

    arguments = [problem[name] for name in ("x", "p", "dx", "dp")]
    expected = model.step_tl(
        problem["x"], problem["dx"], 6, dp=problem["dp"], parameters=problem["p"]
    )
    assert np.array_equal(forward(run, *arguments), expected)
    with pytest.raises(pb.errors.NotAvailableError, match="no forward mode in a"):
        tf.function(lambda *a: forward(run, *a))(*arguments)


def test_reverse_over_forward_mode_transposes_the_tangent_linear(model, problem):
    """The gradient with respect to the perturbation: exact, as no second derivative is in it."""
    x, dx, weight = problem["x"], problem["dx"], problem["weight"]

    @tf.function
    def run(dx):
        with tf.GradientTape() as tape:
            tape.watch(dx)
            with tf.autodiff.ForwardAccumulator(x, dx) as accumulator:
                y = pbk.forecast(model, x, 6, backend="op")
            target = tf.reduce_sum(weight * accumulator.jvp(y))
        return tape.gradient(target, dx)

    assert_close(run(dx), model.step_ad(x, weight, 6)[0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "tf.function"])
def test_a_second_derivative_is_refused(model, problem, backend, compiled):
    x, p, weight = problem["x"], problem["p"], problem["weight"]

    def run(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            gradient = reverse(
                lambda x, p: pbk.forecast(model, x, 2, parameters=p, backend=backend), x, p, weight
            )[0]
            target = tf.reduce_sum(gradient * gradient)
        return outer.gradient(target, x)

    run = tf.function(run) if compiled else run
    with pytest.raises((pb.errors.NotAvailableError, tf.errors.OpError), match="first derivatives"):
        run(x)


def test_a_hessian_by_forward_over_reverse_mode_is_refused(model, problem):
    x, p, weight = problem["x"], problem["p"], problem["weight"]

    def hessian_times_dx():
        with tf.autodiff.ForwardAccumulator(x, problem["dx"]) as accumulator:
            gradient = reverse(
                lambda x, p: pbk.forecast(model, x, 2, parameters=p, backend="op"), x, p, weight
            )[0]
        return accumulator.jvp(gradient)

    with pytest.raises(tf.errors.UnimplementedError, match="first derivatives"):
        hessian_times_dx()


def test_an_unused_second_derivative_does_no_harm(model, problem):
    """An outer tape over a gradient may be asked for what does not need the model again."""
    x, p, weight = problem["x"], problem["p"], problem["weight"]
    with tf.GradientTape() as outer:
        outer.watch(weight)
        x_ad = reverse(
            lambda x, p: pbk.forecast(model, x, 2, parameters=p, backend="op"), x, p, weight
        )[0]
        target = tf.reduce_sum(x_ad * problem["dx"])
    assert_close(outer.gradient(target, weight), model.step_tl(x, problem["dx"], 2, parameters=p))


# ---- failures ----


def test_a_blow_up_names_member_and_step(model, states):
    x = states.copy()
    x[4] *= 1.0e4
    with pytest.raises(pb.errors.BlowUpError) as expected:
        model.step(x, 20, start=100)
    where = str(expected.value).split(": ")[-1].split(" gave")[0]
    assert where.startswith("member 4, step")
    with pytest.raises(tf.errors.InvalidArgumentError, match="blew up") as error:
        tf.function(lambda x: pbk.forecast(model, x, 20, start=100, backend="op"))(x)
    assert where in str(error.value)
    with pytest.raises(pb.errors.BlowUpError, match="member 4"):
        pbk.forecast(model, x, 20, start=100, backend="numpy")


def test_a_blow_up_stops_training_rather_than_ending_an_epoch(states):
    """Keras takes one of TensorFlow's errors for the end of its data."""
    layer = pbk.ForecastLayer(pb.Lorenz96(n=N), 20, trainable_parameters=True, backend="op")
    network = keras.Sequential([keras.Input((N,)), layer])
    network.compile(loss="mse")
    with pytest.raises(tf.errors.InvalidArgumentError, match="blew up"):
        network.fit(1.0e6 * states, states, verbose=0)


def failing_step(x, p, t):
    raise ZeroDivisionError("of the user's")


def test_an_exception_of_the_users_reaches_the_message():
    model = pb.PythonModel(failing_step, n=2, dt=1.0)
    run = tf.function(lambda x: pbk.forecast(model, x))
    with pytest.raises(tf.errors.UnknownError, match="ZeroDivisionError"):
        run(np.zeros((1, 2)))
    with pytest.raises(tf.errors.InternalError, match="supplied by the user"):
        pbk.forecast(model, np.zeros((1, 2)), backend="op")


def test_a_model_without_an_adjoint_has_no_gradient():
    model = pb.PythonModel(clock_step, n=3, dt=0.1, parameters=[0.1])
    x, p = tf.ones([2, 3], tf.float64), tf.constant([0.1], tf.float64)
    with pytest.raises(tf.errors.InvalidArgumentError, match="without this part"):
        reverse(lambda x, p: pbk.forecast(model, x, parameters=p, backend="op"), x, p, x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((2, N + 1))}, r"x: expected shape \(members, 40\), got \(2, 41\)"),
        ({"p": np.zeros(2)}, r"p: expected shape \(1,\), got 2 values"),
        ({"k": [0, 1, 2]}, r"k: expected shape \(\) or \(2,\), got 3 values"),
        ({"k": 2**31 - 1, "steps": 2}, "steps are counted up to"),
        ({"threads": 5000}, "threads: expected 1 to 4096"),
    ],
)
def test_the_operation_checks_what_it_gets(model, change, message):
    arguments = {"x": np.zeros((2, N)), "p": [8.0], "k": 0, "steps": 1, "threads": 1}
    arguments |= {"model": _step._operations.number(model), **change}
    operations = _step._operations.load()
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        operations.pybridge_forecast(**arguments)


def test_a_wrong_size_is_found_before_the_run(model):
    with pytest.raises(
        pb.errors.ShapeError, match=r"x: expected shape \(batch, 40\), got \(2, 3\)"
    ):
        pbk.forecast(model, np.zeros((2, 3)))


# ---- the life of a model ----


def test_a_model_that_is_gone_is_an_error_and_no_crash(states):
    model = pb.Lorenz96(n=N)
    number = _step._operations.number(model)
    operations = _step._operations.load()
    arguments = {"x": states, "p": [8.0], "k": 0, "steps": 1, "model": number}
    assert np.array_equal(operations.pybridge_forecast(**arguments), model.step(states))
    del model
    gc.collect()
    with pytest.raises(tf.errors.NotFoundError, match="no longer exists"):
        operations.pybridge_forecast(**arguments)
    assert _step._operations.number(pb.Lorenz96(n=N)) != number


def test_a_graph_keeps_its_models_alive(states):
    model = pb.Lorenz96(n=N, forcing=7.0)
    expected = model.step(states)
    spec = tf.TensorSpec([None, N], tf.float64)

    def trace(model):
        return tf.function(lambda x: pbk.forecast(model, x, backend="op")).get_concrete_function(
            spec
        )

    run = trace(model)
    del model
    gc.collect()
    assert np.array_equal(run(tf.constant(states)), expected)


def test_a_model_is_not_freed_under_a_run():
    entered = threading.Event()

    def slow(x, p, t):
        entered.set()
        time.sleep(0.5)
        return x

    model = pb.PythonModel(slow, n=2, dt=1.0)
    number = _step._operations.number(model)
    results = []
    thread = threading.Thread(
        target=lambda: results.append(pbk.forecast(model, np.ones((1, 2)), backend="op"))
    )
    thread.start()
    entered.wait()
    unregister = _step._operations._functions.pybridge_tensorflow_unregister
    start = time.perf_counter()
    assert unregister(number, 30) == 0  # Returned when the run was over
    waited = time.perf_counter() - start
    thread.join()
    assert 0.2 < waited < 20.0
    assert np.array_equal(results[0], np.ones((1, 2)))


# ---- layers ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_layer_runs_in_double_and_returns_its_own_type(model, states, dtype):
    x = states.astype(dtype)
    layer = pbk.ForecastLayer(model, 12, dtype=dtype)
    y = layer(x)
    assert y.dtype == dtype
    assert np.array_equal(y, model.step(x, 12).astype(dtype))
    assert layer.model_parameters.dtype == "float64"


@pytest.mark.parametrize("backend", BACKENDS)
def test_sequences_are_the_trajectory_without_its_start(model, states, backend):
    layer = pbk.ForecastLayer(
        model, 12, every=3, return_sequences=True, dtype="float64", backend=backend
    )
    y = layer(states)
    assert np.array_equal(y, model.trajectory(states, 12, every=3)[:, 1:])
    assert layer.compute_output_shape((None, N)) == (None, 4, N)


def test_gradients_of_sequences_are_exact(model, states, rng):
    layer = pbk.ForecastLayer(
        model, 6, every=2, return_sequences=True, trainable_parameters=True, dtype="float64"
    )
    x, weight = tf.constant(states), tf.constant(rng.normal(size=(6, 3, N)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        target = tf.reduce_sum(weight * layer(x))
    actual = tape.gradient(target, [x, layer.model_parameters.value])
    forcing = tf.constant([8.0], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch([x, forcing])
        parts = [lorenz96_in_tensorflow(x, forcing, count) for count in (2, 4, 6)]
        target = tf.reduce_sum(weight * tf.stack(parts, axis=1))
    for gradient, expected in zip(actual, tape.gradient(target, [x, forcing]), strict=True):
        assert_close(gradient, expected)


def test_a_layer_takes_the_first_step_of_each_member(clock, rng):
    x, first = rng.normal(size=(4, 3)), np.array([0, 5, 5, 2])
    inputs = keras.Input((3,), dtype="float64"), keras.Input((), dtype="int32")
    layer = pbk.ForecastLayer(clock, 2, return_sequences=True, dtype="float64")
    network = keras.Model(inputs, layer(inputs[0], first_step=inputs[1]))
    expected = [clock.trajectory(x[i], 2, start=k)[1:] for i, k in enumerate(first)]
    assert np.array_equal(network([x, first]), expected)
    assert np.array_equal(layer(x, first_step=first[:, None]), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_fit_recovers_the_forcing_from_data(rng, backend):
    truth = pb.Lorenz96(n=N, forcing=8.0)
    x = truth.trajectory(rng.normal(size=(48, N)), 200, every=200)[:, -1]
    y = truth.step(x, 4)
    layer = pbk.ForecastLayer(
        pb.Lorenz96(n=N, forcing=6.5),
        4,
        trainable_parameters=True,
        dtype="float64",
        backend=backend,
    )
    network = keras.Sequential([keras.Input((N,), dtype="float64"), layer])
    network.compile(optimizer=keras.optimizers.Adam(0.05), loss="mse")
    assert not network.jit_compile
    network.fit(x, y, epochs=80, batch_size=16, shuffle=False, verbose=0)
    assert layer.parameter_vector() == pytest.approx([8.0], abs=1e-4)


def test_parameters_stay_where_they_are_unless_asked(model, states):
    layer = pbk.ForecastLayer(model)
    assert layer.trainable_variables == []
    assert np.array_equal(layer.parameter_vector(), model.parameters)


def test_a_layer_trains_among_others_under_a_float32_policy(model, states):
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        keras.utils.set_random_seed(1)
        layer = pbk.ForecastLayer(model, 2, trainable_parameters=True)
        network = keras.Sequential([keras.Input((N,)), layer, keras.layers.Dense(N)])
        network.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
        loss = network.fit(states, states, epochs=20, verbose=0).history["loss"]
    finally:
        keras.config.set_dtype_policy(previous)
    assert loss[-1] < 0.5 * loss[0]
    assert layer.parameter_vector()[0] != 8.0


def test_a_saved_layer_is_read_again_by_a_fresh_process(states, tmp_path):
    layer = pbk.ForecastLayer(
        pb.Lorenz96(n=N, forcing=7.5),
        4,
        every=2,
        start=3,
        trainable_parameters=True,
        return_sequences=True,
        dtype="float64",
    )
    network = keras.Sequential([keras.Input((N,), dtype="float64"), layer])
    layer.model_parameters.assign([7.625])
    network.save(tmp_path / "network.keras")
    np.save(tmp_path / "x.npy", states)
    np.save(tmp_path / "y.npy", network(states))
    again = keras.models.load_model(tmp_path / "network.keras")
    assert again.layers[0].get_config() == layer.get_config()
    assert np.array_equal(again(states), network(states))
    program = (
        "import keras, numpy as np, pybridge.keras\n"
        "network = keras.models.load_model('network.keras')\n"
        "assert network.layers[0].parameter_vector() == [7.625]\n"
        "assert np.array_equal(network(np.load('x.npy')), np.load('y.npy'))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "lorenz"}, "model: expected a pybridge model"),
        ({"steps": -1}, "steps: expected at least 0"),
        ({"steps": 5, "every": 2, "return_sequences": True}, "every: expected a divisor of steps"),
        ({"threads": 0}, "threads: expected at least 1"),
        ({"backend": "cuda"}, "backend: expected one of"),
    ],
)
def test_a_layer_names_the_argument_that_is_wrong(model, arguments, message):
    with pytest.raises(pb.errors.InvalidArgumentError, match=message):
        pbk.ForecastLayer(**{"model": model, **arguments})


# ---- recurrent ----


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cell_in_an_rnn_runs_the_model_and_adds_its_inputs(model, states, rng, backend):
    cell = pbk.ForecastCell(pbk.ForecastLayer(model, 2, dtype="float64", backend=backend))
    recurrent = keras.layers.RNN(cell, return_sequences=True, dtype="float64")
    increments = 0.1 * rng.normal(size=(6, 5, N))
    x, expected = states, []
    for i in range(5):
        x = model.step(x, 2) + increments[:, i]
        expected.append(x)
    y = recurrent(tf.constant(increments), initial_state=cell.initial_state(tf.constant(states)))
    assert np.array_equal(y, np.stack(expected, axis=1))


def test_a_cell_counts_steps(clock, rng):
    x = rng.normal(size=(2, 3))
    cell = pbk.ForecastCell(pbk.ForecastLayer(clock, 3, start=4, dtype="float64"))
    y = keras.layers.RNN(cell, dtype="float64")(
        tf.zeros([2, 5, 3], tf.float64), initial_state=cell.initial_state(tf.constant(x))
    )
    assert np.array_equal(y, clock.step(x, 15, start=4))


def test_gradients_through_an_rnn_are_exact(model, states, rng):
    layer = pbk.ForecastLayer(model, 2, trainable_parameters=True, dtype="float64")
    cell = pbk.ForecastCell(layer)
    recurrent = keras.layers.RNN(cell, return_sequences=True, dtype="float64")
    increments = tf.constant(0.1 * rng.normal(size=(6, 4, N)))
    weight = tf.constant(rng.normal(size=(6, 4, N)))
    x, forcing = tf.constant(states), tf.constant([8.0], tf.float64)

    @tf.function
    def fortran(x, increments):
        with tf.GradientTape() as tape:
            tape.watch([x, increments])
            y = recurrent(increments, initial_state=cell.initial_state(x))
            target = tf.reduce_sum(weight * y)
        return tape.gradient(target, [x, increments, layer.model_parameters.value])

    with tf.GradientTape() as tape:
        tape.watch([x, increments, forcing])
        state, parts = x, []
        for i in range(4):
            state = lorenz96_in_tensorflow(state, forcing, 2) + increments[:, i]
            parts.append(state)
        target = tf.reduce_sum(weight * tf.stack(parts, axis=1))
    expected = tape.gradient(target, [x, increments, forcing])
    for actual, reference in zip(fortran(x, increments), expected, strict=True):
        assert_close(actual, reference)


def test_an_rnn_with_a_cell_is_trained_saved_and_loaded(states, tmp_path):
    truth = pb.Lorenz96(n=N, forcing=8.0)
    cell = pbk.ForecastCell(
        pbk.ForecastLayer(
            pb.Lorenz96(n=N, forcing=7.0), trainable_parameters=True, dtype="float64"
        ),
        dtype="float64",
    )
    start = keras.Input((N,), dtype="float64")
    increments = keras.Input((4, N), dtype="float64")
    recurrent = keras.layers.RNN(cell, return_sequences=True, dtype="float64")
    network = keras.Model(
        [start, increments], recurrent(increments, initial_state=cell.initial_state(start))
    )
    network.compile(optimizer=keras.optimizers.Adam(0.05), loss="mse")
    inputs = [states, np.zeros((6, 4, N))]
    network.fit(inputs, truth.trajectory(states, 4)[:, 1:], epochs=100, verbose=0)
    assert cell.layer.parameter_vector() == pytest.approx([8.0], abs=1e-2)
    network.save(tmp_path / "network.keras")
    again = keras.models.load_model(tmp_path / "network.keras")
    assert np.array_equal(again(inputs), network(inputs))


# ---- a network trained through the model ----

HIDDEN = 5
DT = 0.1
DAMPING = 0.3


def split(p):
    sizes = np.cumsum([1, 3 * HIDDEN, HIDDEN, HIDDEN * 3])
    damping, w1, b1, w2, b2 = np.split(p, sizes)
    return damping, w1.reshape(3, HIDDEN), b1, w2.reshape(HIDDEN, 3), b2


def corrected_step(x, p, t):
    damping, w1, b1, w2, b2 = split(p)
    return x - DT * damping * x + DT * (np.tanh(x @ w1 + b1) @ w2 + b2)


def corrected_step_ad(x, x_ad, p, t):
    damping, w1, b1, w2, _ = split(p)
    hidden = np.tanh(x @ w1 + b1)
    hidden_ad = DT * (w2 @ x_ad) * (1.0 - hidden**2)
    p_ad = np.concatenate(
        [
            [-DT * np.sum(x * x_ad)],
            np.outer(x, hidden_ad).ravel(),
            hidden_ad,
            DT * np.outer(hidden, x_ad).ravel(),
            DT * x_ad,
        ]
    )
    return (1.0 - DT * damping) * x_ad + w1 @ hidden_ad, p_ad


def make_network(dtype="float64"):
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((3,), dtype=dtype),
            keras.layers.Normalization(mean=np.zeros(3), variance=np.ones(3), dtype=dtype),
            keras.layers.Dense(
                HIDDEN, activation="tanh", bias_initializer="glorot_normal", dtype=dtype
            ),
            keras.layers.Dense(3, bias_initializer="glorot_normal", dtype=dtype),
        ]
    )


@pytest.fixture
def corrected():
    """Damping and a network's correction, whose weights are parameters."""
    n_weights = 3 * HIDDEN + HIDDEN + HIDDEN * 3 + 3
    return pb.PythonModel(
        corrected_step,
        None,
        corrected_step_ad,
        n=3,
        dt=DT,
        parameters=[DAMPING, *np.zeros(n_weights)],
    )


def corrected_by_keras(network, x, damping, steps):
    for _ in range(steps):
        x = x - DT * damping * x + DT * network(x)
    return x


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_reach_the_keras_network_through_the_model(corrected, rng, backend):
    network = make_network()
    layer = pbk.HybridLayer(
        corrected,
        network,
        4,
        n_model_parameters=1,
        trainable_parameters=True,
        dtype="float64",
        backend=backend,
    )
    assert len(layer.trainable_variables) == 5
    x = tf.constant(rng.normal(size=(7, 3)))
    weight = tf.constant(rng.normal(size=(7, 3)))
    damping = tf.Variable([DAMPING], dtype=tf.float64)
    sources = [x, *[variable.value for variable in network.trainable_variables]]

    def gradients(run, parameter):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = run(x)
            target = tf.reduce_sum(weight * y)
        return [y, *tape.gradient(target, [*sources, parameter])]

    actual = gradients(layer, layer.model_parameters.value)
    expected = gradients(lambda x: corrected_by_keras(network, x, damping, 4), damping)
    for gradient, reference in zip(actual, expected, strict=True):
        assert_close(gradient, reference)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_network_is_trained_through_the_model(corrected, rng, dtype):
    x = rng.normal(size=(64, 3))
    y = corrected.step(x, 3, parameters=rng.normal(size=corrected.n_parameters) * 0.5 + 0.2)
    network = make_network(dtype)
    layer = pbk.HybridLayer(corrected, network, 3, n_model_parameters=1, dtype=dtype)
    before = layer.parameter_vector()
    assert before[0] == DAMPING
    trainer = keras.Sequential([keras.Input((3,), dtype=dtype), layer])
    trainer.compile(optimizer=keras.optimizers.Adam(0.02), loss="mse")
    loss = trainer.fit(x, y, epochs=60, batch_size=16, verbose=0).history["loss"]
    assert loss[-1] < 0.02 * loss[0]
    after = layer.parameter_vector()
    assert after[0] == DAMPING
    flat = np.concatenate([np.ravel(variable) for variable in network.trainable_variables])
    assert np.array_equal(after[1:], flat.astype(np.float64))
    assert not np.array_equal(after[1:], before[1:])


def test_a_frozen_layer_of_the_network_still_corrects_and_does_not_learn(corrected, rng):
    network = make_network()
    layer = pbk.HybridLayer(corrected, network, n_model_parameters=1, dtype="float64")
    x = tf.constant(rng.normal(size=(2, 3)))
    before = layer(x)
    network.layers[-1].trainable = False
    assert np.array_equal(layer(x), before)
    assert len(layer.trainable_variables) == 2


def test_a_network_of_another_size_is_refused(corrected):
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    with pytest.raises(pb.errors.ShapeError, match=r"expected 38 trainable weights.*got 12"):
        pbk.HybridLayer(corrected, network, n_model_parameters=1)
    with pytest.raises(pb.errors.InvalidArgumentError, match="n_model_parameters"):
        pbk.HybridLayer(corrected, network)


def test_a_hybrid_layer_is_saved_with_its_network(corrected, rng, tmp_path):
    layer = pbk.HybridLayer(corrected, make_network(), 2, n_model_parameters=1, dtype="float64")
    trainer = keras.Sequential([keras.Input((3,), dtype="float64"), layer])
    for variable in layer.network.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    x = rng.normal(size=(4, 3))
    trainer.save(tmp_path / "hybrid.keras")
    again = keras.models.load_model(tmp_path / "hybrid.keras")
    assert np.array_equal(again(x), trainer(x))
    assert np.array_equal(again.layers[0].parameter_vector(), layer.parameter_vector())
    assert len(again.layers[0].trainable_variables) == 4


# ---- the hybrid model of the core ----


def hybrid_in_tensorflow(mode, network, x, forcing, steps):
    """The states after each step of Lorenz-96 with a network's correction."""
    constant, states = network(x), []
    for _ in range(steps):
        if mode == "tendency":
            x = lorenz96_in_tensorflow(x, forcing, 1, correction=network)
        else:
            x = lorenz96_in_tensorflow(x, forcing, 1)
            x = x + (network(x) if mode == "increment" else 0.05 * constant)
        states.append(x)
    return tf.stack(states, axis=1)


def make_correction():
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.Input((8,), dtype="float64"),
            keras.layers.Normalization(
                mean=np.full(8, 2.0), variance=np.full(8, 9.0), dtype="float64"
            ),
            keras.layers.Dense(6, activation="tanh", dtype="float64"),
            keras.layers.Dense(8, bias_initializer="glorot_normal", dtype="float64"),
        ]
    )


@pytest.mark.parametrize("mode", ["tendency", "increment", "forcing"])
def test_a_network_within_the_core_has_the_gradients_of_its_keras_original(mode, rng):
    network = make_correction()
    model = pb.Lorenz96(n=8)
    hybrid = pb.HybridModel(model, pb.Network.from_keras(network), mode)
    layer = pbk.HybridLayer(
        hybrid, network, 4, return_sequences=True, trainable_parameters=True, dtype="float64"
    )
    # The weights are those of the Keras network, not those that the hybrid model was made with
    for variable in network.trainable_variables:
        variable.assign(variable + 0.1 * rng.normal(size=variable.shape))
    x = tf.constant(model.step(8.0 + rng.normal(size=(5, 8)), 100))
    weight = tf.constant(rng.normal(size=(5, 4, 8)))
    forcing = tf.Variable([8.0], dtype=tf.float64)

    def gradients(run, parameter):
        sources = [x, parameter, *[variable.value for variable in network.trainable_variables]]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = run(x)
            target = tf.reduce_sum(weight * y)
        return [y, *tape.gradient(target, sources)]

    actual = gradients(layer, layer.model_parameters.value)
    expected = gradients(lambda x: hybrid_in_tensorflow(mode, network, x, forcing, 4), forcing)
    for gradient, reference in zip(actual, expected, strict=True):
        assert_close(gradient, reference)


def test_what_is_learnt_through_the_layer_goes_into_the_hybrid_model(rng):
    network = make_correction()
    model = pb.Lorenz96(n=8, forcing=7.0)
    layer = pbk.HybridLayer(
        pb.HybridModel(model, pb.Network.from_keras(network)), network, 2, dtype="float64"
    )
    truth = pb.Lorenz96(n=8, forcing=8.0)
    x = truth.step(8.0 + rng.normal(size=(128, 8)), 200)
    trainer = keras.Sequential([keras.Input((8,), dtype="float64"), layer])
    trainer.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
    loss = trainer.fit(x, truth.step(x, 2), epochs=40, verbose=0).history["loss"]
    assert loss[-1] < 0.1 * loss[0]
    assert np.array_equal(layer.hybrid().step(x, 2), layer(x))


def test_a_hybrid_model_is_saved_and_loaded_as_a_cell(rng, tmp_path):
    network = make_correction()
    hybrid = pb.HybridModel(pb.Lorenz96(n=8), pb.Network.from_keras(network))
    cell = pbk.ForecastCell(pbk.HybridLayer(hybrid, network, 2, dtype="float64"))
    start = keras.Input((8,), dtype="float64")
    increments = keras.Input((3, 8), dtype="float64")
    recurrent = keras.layers.RNN(cell, return_sequences=True, dtype="float64")
    runner = keras.Model(
        [start, increments], recurrent(increments, initial_state=cell.initial_state(start))
    )
    x = 8.0 + rng.normal(size=(2, 8))
    inputs = [x, np.zeros((2, 3, 8))]
    assert np.array_equal(runner(inputs), hybrid.trajectory(x, 6, every=2)[:, 1:])
    for variable in network.trainable_variables:
        variable.assign(0.9 * variable)
    runner.save(tmp_path / "runner.keras")
    again = keras.models.load_model(tmp_path / "runner.keras")
    assert np.array_equal(again(inputs), runner(inputs))
