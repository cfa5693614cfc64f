# SPDX-License-Identifier: MIT
"""Networks in the core against Keras on TensorFlow; files; threads; errors."""

from __future__ import annotations

import itertools
import math
import os
import pickle
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from pybridge import errors
from pybridge._network_file import HEADER, decode, encode
from pybridge.keras import PeriodicPadding1D
from pybridge.keras._convert import _ACTIVATIONS
from pybridge.network import Network

layers = keras.layers
D = "float64"
ELEMENTWISE = [name for name in _ACTIVATIONS if name != "softmax"]
SMOOTH = ["tanh", "sigmoid", "softplus", "silu", "gelu", "mish", "exponential", "squareplus"]


def randomise(model: keras.Model, seed: int) -> keras.Model:
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(0.7 * rng.standard_normal(tuple(variable.shape)))
    return model


def dense_model(dtype: str = D) -> keras.Model:
    return randomise(
        keras.Sequential(
            [
                keras.Input((40,), dtype=dtype),
                layers.Dense(64, activation="tanh", dtype=dtype),
                layers.Dense(64, activation="tanh", dtype=dtype),
                layers.Dense(40, dtype=dtype),
            ]
        ),
        1,
    )


def stencil_model() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((36,), dtype=D),
            layers.Reshape((36, 1), dtype=D),
            layers.Rescaling(1 / 3.6, -2.5 / 3.6, dtype=D),
            PeriodicPadding1D(2, dtype=D),
            layers.Conv1D(16, 5, activation="tanh", dtype=D),
            layers.Conv1D(1, 1, dtype=D),
            layers.Reshape((36,), dtype=D),
        ]
    )


def train(model: keras.Model, seed: int = 0) -> keras.Model:
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    x = 2.5 + 3.6 * rng.standard_normal((256, *model.input_shape[1:]))
    model.compile(keras.optimizers.Adam(3e-3), "mse")
    before = model.evaluate(x, -0.3 * x, verbose=0)
    model.fit(x, -0.3 * x, epochs=4, batch_size=32, verbose=0)
    assert model.evaluate(x, -0.3 * x, verbose=0) < before
    return model


@pytest.fixture(scope="module")
def network() -> Network:
    return Network.from_keras(dense_model())


@pytest.fixture(scope="module")
def small() -> Network:
    return Network.from_keras(
        randomise(
            keras.Sequential(
                [
                    keras.Input((5, 2), dtype=D),
                    PeriodicPadding1D(1, dtype=D),
                    layers.Conv1D(3, 3, activation="tanh", padding="same", dtype=D),
                    layers.Flatten(dtype=D),
                    layers.Dense(2, dtype=D),
                ]
            ),
            3,
        )
    )


def compare(model: keras.Model, samples: int = 5, seed: int = 0) -> Network:
    """Require Keras's output, JVP and VJP, and a dot product that holds."""
    network = Network.from_keras(model)
    report = network.verify(model, samples=samples, seed=seed)
    assert report.forward <= report.tolerance, report
    assert report.tangent_linear <= report.tolerance, report
    assert report.adjoint <= report.tolerance, report
    assert report.adjoint_of_parameters <= report.tolerance, report
    assert report.dot_product <= 1e-13, report
    network.self_test()
    return network


# ---- against Keras ----


@pytest.mark.parametrize("samples", [1, 2, 7, 8, 13, 300])
def test_a_trained_dense_network_gives_the_results_and_derivatives_of_keras(samples):
    compare(train(dense_model()), samples)


def test_a_trained_periodic_stencil_gives_the_results_and_derivatives_of_keras():
    compare(train(stencil_model()), 9)


def test_a_trained_functional_graph_gives_the_results_and_derivatives_of_keras():
    state = keras.Input((12,), dtype=D, name="state")
    season = keras.Input((2,), dtype=D, name="season")
    normal = layers.Normalization(dtype=D)
    rng = np.random.default_rng(0)
    x = [3 + 2 * rng.standard_normal((200, 12)), rng.standard_normal((200, 2))]
    normal.adapt(x[0])
    scaled = normal(state)
    hidden = layers.Dense(9, activation="silu", dtype=D)(
        layers.Concatenate(dtype=D)([scaled, season])
    )
    hidden = layers.Dropout(0.3, dtype=D)(hidden)
    skip = layers.Add(dtype=D)([layers.Dense(12, dtype=D)(hidden), state])
    gate = layers.Dense(12, activation="sigmoid", dtype=D)(hidden)
    model = keras.Model(
        [state, season], [layers.Multiply(dtype=D)([skip, gate]), skip + scaled, hidden]
    )
    y = [np.zeros((200, 12)), np.ones((200, 12)), np.zeros((200, 9))]
    model.compile("adam", ["mse", "mse", "mse"])
    model.fit(x, y, epochs=2, verbose=0)
    network = compare(model)
    assert (network.n_inputs, network.n_outputs) == (14, 33)
    again = network.to_keras()
    for a, b in zip(again(x), model(x), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", [*ELEMENTWISE, "softmax"])
def test_every_activation_gives_the_results_and_derivatives_of_keras(name):
    model = keras.Sequential(
        [keras.Input((50,), dtype=D), layers.Activation(name, dtype=D)], name=name
    )
    compare(model, 12)
    dense = [keras.Input((4,), dtype=D), layers.Dense(7, activation=name, dtype=D)]
    compare(randomise(keras.Sequential(dense), 2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.ReLU(1.2, 0.1, 0.3, dtype=D),
        lambda: layers.ReLU(6.0, dtype=D),
        lambda: layers.ReLU(negative_slope=0.1, dtype=D),
        lambda: layers.ReLU(threshold=0.4, dtype=D),
        lambda: layers.LeakyReLU(0.3, dtype=D),
        lambda: layers.ELU(0.7, dtype=D),
        lambda: layers.Softmax(dtype=D),
        lambda: layers.Dense(3, activation=layers.LeakyReLU(0.1, dtype=D), dtype=D),
        lambda: layers.Normalization(mean=0.1, variance=3.3, dtype=D),
        lambda: layers.Rescaling([0.1, 0.2, 0.3, 0.4], 0.7, dtype=D),
        lambda: layers.Rescaling(np.arange(24.0).reshape(6, 4), dtype=D),
        lambda: layers.ZeroPadding1D((0, 3), dtype=D),
        lambda: PeriodicPadding1D((8, 1), dtype=D),
        lambda: layers.Dense(1, use_bias=False, dtype=D),
        lambda: layers.Conv1D(1, 3, padding="same", dtype=D),
        lambda: layers.Conv1D(2, 3, padding="causal", dilation_rate=2, dtype=D),
        lambda: layers.Conv1D(6, 2, groups=2, strides=2, padding="same", dtype=D),
        lambda: layers.Conv1D(9, 6, padding="valid", dtype=D),
        lambda: layers.Conv1D(9, 11, padding="same", strides=3, dtype=D),
        lambda: layers.SpatialDropout1D(0.4, dtype=D),
        lambda: layers.GaussianNoise(0.4, dtype=D),
    ],
)
def test_every_option_of_a_layer_gives_the_results_and_derivatives_of_keras(make):
    compare(randomise(keras.Sequential([keras.Input((6, 4), dtype=D), make()]), 4))


def test_a_layer_used_twice_and_a_model_within_a_model_share_their_weights():
    inner = keras.Sequential(
        [keras.Input((6,), dtype=D), layers.Dense(6, activation="tanh", dtype=D)], name="inner"
    )
    x = keras.Input((6,), dtype=D)
    shared = layers.Dense(6, activation="elu", dtype=D)
    y = layers.Average(dtype=D)([shared(inner(x)), inner(shared(x)), x])
    model = randomise(keras.Model(x, y), 5)
    network = compare(model)
    assert network.n_parameters == 2 * (36 + 6)


def test_a_single_precision_network_keeps_its_weights_bit_for_bit():
    model = dense_model("float32")
    network = compare(model)
    weights = np.concatenate([w.ravel() for w in model.get_weights()])
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(network.parameters.astype(np.float32), weights)
    np.testing.assert_array_equal(network.parameters, weights.astype(np.float64))
    assert network.to_bytes().count(weights[: 40 * 64].tobytes()) == 1
    other = network.with_parameters(network.parameters + 1e-12)
    np.testing.assert_array_equal(other.parameters, network.parameters + 1e-12)


@st.composite
def architectures(draw):
    """A random graph of all layers that keep two axes, then perhaps a dense end."""
    n, channels = draw(st.integers(1, 9)), draw(st.integers(1, 5))
    inputs = keras.Input((n, channels), dtype=D)
    x = inputs
    for _ in range(draw(st.integers(1, 4))):
        steps, width = x.shape[1:]
        kind = draw(
            st.sampled_from(
                ["dense", "conv", "conv", "pad", "ring", "act", "skip", "concat", "scale", "merge"]
            )
        )
        activation = draw(st.sampled_from([a for a in ELEMENTWISE if a != "softsign"]))
        if kind == "dense":
            x = layers.Dense(
                draw(st.integers(1, 19)),
                activation=activation,
                use_bias=draw(st.booleans()),
                dtype=D,
            )(x)
        elif kind == "conv":
            padding = draw(st.sampled_from(["valid", "same", "causal"]))
            size = draw(st.integers(1, steps if padding == "valid" else 6))
            strided = draw(st.booleans())
            groups = draw(st.sampled_from([g for g in range(1, width + 1) if width % g == 0]))
            dilation = 1 if strided or padding == "valid" else draw(st.integers(1, 3))
            x = layers.Conv1D(
                groups * draw(st.integers(1, 9 // groups or 1)),
                size,
                strides=draw(st.integers(1, 3)) if strided else 1,
                dilation_rate=dilation,
                padding=padding,
                groups=groups,
                activation=activation,
                use_bias=draw(st.booleans()),
                dtype=D,
            )(x)
        elif kind == "pad":
            x = layers.ZeroPadding1D(draw(st.tuples(*[st.integers(0, 3)] * 2)), dtype=D)(x)
        elif kind == "ring":
            x = PeriodicPadding1D(draw(st.tuples(*[st.integers(0, 12)] * 2)), dtype=D)(x)
        elif kind == "act":
            x = layers.Activation(activation, dtype=D)(x)
        elif kind == "scale":
            x = layers.Rescaling(draw(st.floats(-2, 2)), draw(st.floats(-1, 1)), dtype=D)(x)
        elif kind == "skip":
            x = layers.Add(dtype=D)([x, layers.Dense(width, activation=activation, dtype=D)(x)])
        elif kind == "concat":
            axis = draw(st.sampled_from([1, 2, -1]))
            x = layers.Concatenate(axis=axis, dtype=D)([x, layers.Activation("tanh", dtype=D)(x)])
        else:
            merge = draw(st.sampled_from(["Subtract", "Multiply", "Average", "Maximum", "Minimum"]))
            x = getattr(layers, merge)(dtype=D)([x, layers.Dense(width, dtype=D)(x)])
    outputs = [x]
    if draw(st.booleans()):
        flat = layers.Flatten(dtype=D)(x)
        outputs.append(layers.Dense(3, activation="tanh", dtype=D)(flat))
    return randomise(keras.Model(inputs, outputs), draw(st.integers(0, 2**31)))


@settings(
    max_examples=int(os.environ.get("PYBRIDGE_EXAMPLES", "25")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(architectures(), st.integers(1, 11), st.integers(0, 1000))
def test_random_architectures_give_the_results_and_derivatives_of_keras(model, samples, seed):
    compare(model, samples, seed)
    keras.backend.clear_session()


# ---- derivatives ----


@pytest.mark.parametrize("activation", SMOOTH)
def test_the_taylor_remainder_is_of_second_order_over_five_decades(activation):
    model = keras.Sequential(
        [
            keras.Input((6,), dtype=D),
            layers.Dense(8, activation=activation, dtype=D),
            layers.Dense(3, activation="tanh", dtype=D),
        ]
    )
    network = Network.from_keras(randomise(model, 6))
    rng = np.random.default_rng(0)
    x, dx = 0.5 * rng.standard_normal((2, 6))
    p, dp = network.parameters, 0.5 * rng.standard_normal(network.n_parameters)
    y, dy = network(x), network.forward_tl(x, dx, dp)
    remainders = [
        np.linalg.norm(network.forward(x + h * dx, parameters=p + h * dp) - y - h * dy)
        for h in 10.0 ** -np.arange(1.0, 7.0)
    ]
    orders = np.log10(np.array(remainders[:-1]) / remainders[1:])
    # Five decades, less the first whose step is large
    assert (orders[1:] > 1.9).all(), orders
    assert (orders[1:] < 2.1).all(), orders


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(-6, 3))
def test_tangent_linear_and_adjoint_agree_for_any_perturbation(network, seed, batch, exponent):
    rng = np.random.default_rng(seed)
    x, dx = rng.standard_normal((2, batch, network.n_inputs))
    dx *= 10.0**exponent
    dp = rng.standard_normal(network.n_parameters)
    y_ad = rng.standard_normal((batch, network.n_outputs))
    run = network.linearise(x)
    dy = run.tl(dx, dp)
    x_ad, p_ad = run.ad(y_ad)
    size = np.sum(np.abs(dx * x_ad)) + np.sum(np.abs(dp * p_ad))
    assert abs(np.sum(dy * y_ad) - np.sum(dx * x_ad) - dp @ p_ad) <= 1e-13 * size
    np.testing.assert_array_equal(run.y, network.linearise(x).y)


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("tanh", math.tanh),
        ("exponential", lambda x: math.exp(x) if x < 709.7 else math.inf),
        ("sigmoid", lambda x: 1 / (1 + math.exp(-x)) if x > -700 else math.exp(max(x, -1e4))),
        ("elu", lambda x: x if x > 0 else math.expm1(x)),
    ],
)
def test_an_activation_has_the_right_limits_also_among_subnormal_numbers(name, exact):
    model = keras.Sequential([keras.Input((1,), dtype=D), layers.Activation(name, dtype=D)])
    special = [1e300, -1e300, 800.0, -800.0, 0.0, -740.0, -744.9, 709.5, 1e-310, -1e-310, -1e-17]
    result = Network.from_keras(model)(np.reshape(special, (-1, 1)))[:, 0]
    expected = np.array([exact(x) for x in special])
    # One step of the subnormal numbers
    np.testing.assert_allclose(result, expected, rtol=4e-16, atol=5e-324)


def test_nan_is_refused_by_name(network):
    with pytest.raises(errors.InvalidArgumentError, match="x: expected finite"):
        network(np.full(40, np.nan))


def test_ten_thousand_random_arguments_are_within_three_units_in_the_last_place():
    rng = np.random.default_rng(0)
    x = np.concatenate([s * rng.standard_normal(2000) for s in (1e-8, 1e-2, 1, 10, 300)])
    for name, exact in (("tanh", np.tanh), ("exponential", np.exp)):
        model = keras.Sequential([keras.Input((1,), dtype=D), layers.Activation(name, dtype=D)])
        # x87 extended precision where there is any
        expected = exact(x.astype(np.longdouble))
        finite = np.abs(expected) < 1e308
        y = Network.from_keras(model)(x[:, None])[:, 0]
        ulp = np.abs(y - expected)[finite] / np.spacing(np.abs(y[finite]))
        assert ulp.max() <= 3, (name, ulp.max())


# ---- files ----


def test_a_round_trip_through_a_file_changes_no_bit(network, tmp_path):
    path = tmp_path / "network.pbn"
    network.save(path)
    again = Network.load(path)
    assert again.to_bytes() == network.to_bytes() == path.read_bytes()
    assert encode(decode(path.read_bytes())) == path.read_bytes()
    np.testing.assert_array_equal(again.parameters, network.parameters)
    x = np.random.default_rng(0).standard_normal((3, 40))
    np.testing.assert_array_equal(again(x), network(x))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(network))(x), network(x))
    np.testing.assert_array_equal(Network.from_config(network.get_config())(x), network(x))
    assert list(tmp_path.iterdir()) == [path]


def test_weights_changed_in_the_core_go_back_to_keras(network):
    model = dense_model()
    p = network.parameters + 0.01
    changed = network.with_parameters(p)
    for result in (changed.to_keras(model), changed.to_keras()):
        weights = np.concatenate([w.ravel() for w in result.get_weights()])
        np.testing.assert_array_equal(weights, p)
        compare(result)
    assert model.layers[0].kernel.numpy()[0, 0] == p[0]
    mutable = Network.from_bytes(network.to_bytes())
    mutable.parameters = p
    np.testing.assert_array_equal(mutable.parameters, p)
    np.testing.assert_array_equal(Network.from_bytes(mutable.to_bytes()).parameters, p)
    with pytest.raises(errors.ShapeError):
        network.to_keras(keras.Sequential([keras.Input((3,)), layers.Dense(2)]))


def test_the_parameter_map_names_every_part_of_the_parameter_vector(network):
    entries = network.parameter_map
    assert [(e.layer.split("_")[0], e.name, e.shape) for e in entries[:3]] == [
        ("dense", "kernel", (40, 64)),
        ("dense", "bias", (64,)),
        ("dense", "kernel", (64, 64)),
    ]
    assert entries[0].start == 0
    assert entries[-1].stop == network.n_parameters
    assert all(a.stop == b.start for a, b in itertools.pairwise(entries))
    model = dense_model()
    np.testing.assert_array_equal(
        network.parameters[entries[2].slice].reshape(entries[2].shape),
        model.layers[1].kernel.numpy(),
    )


def test_saving_replaces_no_device_and_no_link(network, tmp_path):
    pipe, link, real = (tmp_path / name for name in ("pipe", "link.pbn", "real.pbn"))
    os.mkfifo(pipe)
    with pytest.raises(errors.FileAccessError, match="no regular file"):
        network.save(pipe)
    assert pipe.is_fifo()
    link.symlink_to(real)
    network.save(link)
    assert link.is_symlink()
    assert real.read_bytes() == network.to_bytes()


def test_an_old_file_survives_a_failed_save(network, tmp_path, monkeypatch):
    path = tmp_path / "network.pbn"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(errors.FileAccessError, match="disk full"):
        network.save(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def seal(body: bytes) -> bytes:
    """Give a mutated body a header that fits, so that the parser proper has to cope."""
    magic, version, mark, _, _ = HEADER.unpack_from(small_bytes())
    return HEADER.pack(magic, version, mark, HEADER.size + len(body), zlib.crc32(body)) + body


_small: list[bytes] = []


def small_bytes() -> bytes:
    return _small[0]


def test_damaged_files_give_typed_errors_and_never_crash(small):
    raw = small.to_bytes()
    _small[:] = [raw]
    with pytest.raises(errors.ChecksumError):
        Network.from_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    for cut in range(0, len(raw), 97):
        with pytest.raises(errors.FileFormatError):
            Network.from_bytes(raw[:cut])
        with pytest.raises(errors.FileFormatError):
            Network.from_bytes(seal(raw[HEADER.size : max(cut, HEADER.size)]))
    for raw_header in (b"", b"text", raw + b"\0"):
        with pytest.raises(errors.FileFormatError):
            Network.from_bytes(raw_header)
    with pytest.raises(errors.FileFormatError, match="left over"):
        Network.from_bytes(seal(raw[HEADER.size :] + b"\0"))
    with pytest.raises(errors.FileFormatError, match="version"):
        Network.from_bytes(raw[:8] + struct.pack("<I", 9) + raw[12:])


def test_mutated_files_with_a_right_checksum_give_typed_errors_or_a_network(small):
    raw = small.to_bytes()
    _small[:] = [raw]
    body = raw[HEADER.size :]
    rng = np.random.default_rng(0)
    metadata = 8 + struct.unpack_from("<i", body, 4)[0]
    accepted = 0
    for _ in range(4000):
        mutated = bytearray(body)
        for _ in range(rng.integers(1, 4)):
            where = int(rng.integers(metadata, len(mutated) - 8))
            kind = rng.integers(4)
            if kind == 0:
                mutated[where] = int(rng.integers(256))
            elif kind == 1:
                value = int(rng.choice([-1, 0, 1, 2, 3, 16, 255, 2**16, 2**31 - 1, -(2**31)]))
                mutated[where : where + 4] = struct.pack("<i", value)
            elif kind == 2:
                del mutated[where : where + int(rng.integers(1, 9))]
            else:
                mutated[where:where] = bytes(rng.integers(256, size=int(rng.integers(1, 9))))
        try:
            network = Network.from_bytes(seal(bytes(mutated)))
        except (errors.FileFormatError, errors.UnsupportedLayerError):
            continue
        accepted += 1
        if network.n_inputs < 10**6 and network.n_outputs < 10**6:
            y, _ = network.forward_ad(np.ones(network.n_inputs), np.ones(network.n_outputs))
            assert y.shape == (network.n_inputs,)
    # Mutated weights and references are as good as others
    assert 0 < accepted < 4000


def test_a_cycle_in_the_graph_is_refused(small):
    file = decode(small.to_bytes())
    file.nodes[2].sources = [(3, 0)]
    with pytest.raises(errors.FileFormatError, match="no tensor that comes before it"):
        Network.from_bytes(encode(file))


def test_a_reference_that_is_not_reproduced_fails_the_self_test(small):
    file = decode(small.to_bytes())
    file.references[1].x_ad = file.references[1].x_ad + 1e-6
    with pytest.raises(errors.SelfTestError, match="adjoint differs from reference 2"):
        Network.from_bytes(encode(file)).self_test()


def test_a_missing_file_and_a_directory_are_named(tmp_path):
    for path in (tmp_path / "none.pbn", tmp_path):
        with pytest.raises(errors.FileAccessError, match=path.name):
            Network.load(path)
    (tmp_path / "bad.pbn").write_bytes(b"x" * 50)
    with pytest.raises(errors.FileFormatError, match=r"bad\.pbn"):
        Network.load(tmp_path / "bad.pbn")


# ---- threads ----


def test_eight_threads_share_a_network_bitwise_equal_to_serial(network):
    rng = np.random.default_rng(0)
    xs = rng.standard_normal((64, 9, network.n_inputs))
    serial = [(network(x), network.forward_tl(x, x), *network.forward_ad(x, x)) for x in xs]
    wrong: list[int] = []

    def work(first: int) -> None:
        for _ in range(5):
            for number in range(first, 64, 8):
                x = xs[number]
                found = (network(x), network.forward_tl(x, x), *network.forward_ad(x, x))
                if not all(
                    np.array_equal(*pair) for pair in zip(found, serial[number], strict=True)
                ):
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# ---- errors ----


def subclass_of_dense() -> keras.layers.Layer:
    class Dense(keras.layers.Dense):
        def call(self, inputs):
            return 2 * super().call(inputs)

    return Dense(3, dtype=D, name="odd")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: layers.LSTM(3, dtype=D, name="odd"), "LSTM"),
        (lambda: layers.Lambda(lambda x: x, dtype=D, name="odd"), "Lambda"),
        (subclass_of_dense, "Dense"),
        (lambda: layers.Dense(3, activation=lambda x: x, dtype=D, name="odd"), "<lambda>"),
        (lambda: layers.Dense(3, activation=layers.ReLU(), dtype=D, name="odd"), "float32"),
        (lambda: layers.Activation("log_softmax", dtype=D, name="odd"), "log_softmax"),
        (lambda: layers.Softmax(axis=1, dtype=D, name="odd"), "axis 1"),
        (
            lambda: layers.Normalization(mean=0.0, variance=1.0, invert=True, dtype=D, name="odd"),
            "invert",
        ),
        (lambda: layers.Dense(3, dtype="float32", name="odd"), "float32"),
    ],
)
def test_an_unsupported_layer_is_an_error_that_names_it(make, words):
    x = keras.Input((4, 2), dtype=D)
    model = keras.Model(x, make()(layers.Dense(2, dtype=D)(x)))
    with pytest.raises(errors.UnsupportedLayerError, match="odd") as caught:
        Network.from_keras(model)
    assert words in str(caught.value)


def test_an_unknown_kind_or_activation_in_a_file_is_an_error_that_names_the_layer(small):
    file = decode(small.to_bytes())
    file.layers[1].texts[1] = "antigravity"
    with pytest.raises(errors.UnsupportedLayerError, match=r"conv1d.*\(Conv1D\).*antigravity"):
        Network.from_bytes(encode(file))
    file.layers[1].kind = "warp"
    with pytest.raises(errors.UnsupportedLayerError, match=r"conv1d.*warp"):
        Network.from_bytes(encode(file))


def test_a_model_without_fixed_shapes_or_without_a_graph_is_refused():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(errors.UnsupportedLayerError, match="subclassed"):
        Network.from_keras(Own())
    with pytest.raises(errors.ShapeError, match="not fixed"):
        Network.from_keras(keras.Sequential([keras.Input((None, 2)), layers.Conv1D(1, 1)]))
    with pytest.raises(errors.ShapeError, match="input shape is not known"):
        Network.from_keras(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(errors.InvalidArgumentError, match="expected a Keras model"):
        Network.from_keras("model.keras")


def test_arguments_of_wrong_shape_are_named(network):
    with pytest.raises(errors.ShapeError, match="x: "):
        network(np.zeros(39))
    with pytest.raises(errors.ShapeError, match="dx: "):
        network.forward_tl(np.zeros(40), np.zeros((2, 40)))
    with pytest.raises(errors.ShapeError, match="y_ad: "):
        network.forward_ad(np.zeros(40), np.zeros(41))
    with pytest.raises(errors.ShapeError, match="dp: "):
        network.forward_tl(np.zeros(40), np.zeros(40), np.zeros(3))
    with pytest.raises(errors.ShapeError, match="parameters: "):
        network.forward(np.zeros(40), parameters=np.zeros(3))
    assert network(np.zeros((0, 40))).shape == (0, 40)
    assert network(np.zeros((2, 3, 40))).shape == (2, 3, 40)


def test_a_report_says_when_a_model_has_other_weights(network):
    model = dense_model()
    model.layers[0].kernel.assign_add(1e-6 * np.ones((40, 64)))
    report = network.verify(model)
    assert not report.passed
    assert "FAILED" in str(report)
    assert "40 inputs" in network.summary()
    assert math.isclose(report.dot_product, 0, abs_tol=1e-13)


def test_importing_networks_does_not_import_tensorflow():
    code = (
        "import sys, pybridge.network; sys.exit(bool({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code]).returncode == 0


def test_periodic_padding_survives_saving_by_keras(tmp_path):
    model = stencil_model()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).standard_normal((2, 36))
    np.testing.assert_array_equal(again(x), model(x))
    assert Path(tmp_path / "model.keras").exists()
    with pytest.raises(errors.InvalidArgumentError, match="padding"):
        PeriodicPadding1D(-1)
