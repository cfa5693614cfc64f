# SPDX-License-Identifier: MIT
"""Keras models to the core's description of a network, and weights back."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pybridge._network_file import LayerRecord, NetworkFile, Node, Reference, Shape, Weight
from pybridge.errors import FileFormatError, InvalidArgumentError, ShapeError, UnsupportedLayerError
from pybridge.keras._layers import PeriodicPadding1D

__all__ = ["build_keras", "describe", "flat_results", "precision_of", "set_parameters"]

# Reference results of all parameters are stored up to this number of them
_REFERENCE_PARAMETERS = 100_000
_N_REFERENCES = 2
_WAY_OUT = (
    "The native engine does not have it: replace it by supported layers, or run this model in "
    "TensorFlow"
)


def _refuse(layer: Any, reason: str) -> UnsupportedLayerError:
    return UnsupportedLayerError(f"layer {layer.name!r} ({type(layer).__name__}): {reason}")


# ---- activations ----

_ACTIVATIONS = (
    *("linear", "relu", "leaky_relu", "elu", "selu", "celu", "sigmoid", "hard_sigmoid", "tanh"),
    *("softplus", "softsign", "silu", "hard_silu", "exponential", "gelu", "mish", "relu6"),
    *("log_sigmoid", "tanh_shrink", "soft_shrink", "hard_shrink", "hard_tanh", "squareplus"),
    "softmax",
)


def _activation(layer: Any, function: Any) -> tuple[str, list[float]]:
    """Return the core's name and constants of an activation."""
    if isinstance(function, keras.layers.Layer):
        handler = _ACTIVATION_LAYERS.get(type(function))
        if handler is None:
            raise _refuse(layer, f"its activation is a {type(function).__name__}. {_WAY_OUT}.")
        if function.compute_dtype != layer.compute_dtype:
            raise _refuse(
                layer,
                f"its activation {function.name!r} computes in {function.compute_dtype}; give it "
                f"dtype={layer.compute_dtype!r}.",
            )
        return handler(function)
    name = getattr(function, "__name__", repr(function))
    if name not in _ACTIVATIONS or keras.activations.get(name) is not function:
        raise _refuse(layer, f"activation {name!r} is not supported. {_WAY_OUT}.")
    constants = {"leaky_relu": [_single(0.2)], "gelu": [_single(math.sqrt(0.5))]}
    return name, constants.get(name, [])


def _single(constant: float) -> float:
    """Round a constant as TensorFlow does, in single precision even in a double layer.

    That is so for the slope of its leaky ReLU, for a constant of its GELU, and where Keras clips.
    """
    return float(np.float32(constant)) if keras.backend.backend() == "tensorflow" else constant


def _relu(layer: Any) -> tuple[str, list[float]]:
    largest = np.finfo(np.float64).max if layer.max_value is None else _single(layer.max_value)
    slope, threshold = float(layer.negative_slope), float(layer.threshold)
    if layer.max_value is None and threshold == 0:
        return ("relu", []) if slope == 0 else ("leaky_relu", [_single(slope)])
    return "general_relu", [largest, slope, threshold]


def _softmax(layer: Any) -> tuple[str, list[float]]:
    if layer.axis not in (-1, [-1], (-1,)):
        raise _refuse(layer, f"softmax along axis {layer.axis} is not supported. {_WAY_OUT}.")
    return "softmax", []


_ACTIVATION_LAYERS: dict[type, Callable[[Any], tuple[str, list[float]]]] = {
    keras.layers.Activation: lambda layer: _activation(layer, layer.activation),
    keras.layers.ReLU: _relu,
    keras.layers.LeakyReLU: lambda layer: ("leaky_relu", [_single(layer.negative_slope)]),
    keras.layers.ELU: lambda layer: ("elu", [float(layer.alpha)]),
    keras.layers.Softmax: _softmax,
}


def _activation_record(
    layer: Any, name: str, constants: list[float], suffix: str = ""
) -> LayerRecord:
    if name == "softmax":
        return LayerRecord("softmax", layer.name + suffix, type(layer).__name__)
    return LayerRecord(
        "activation",
        layer.name + suffix,
        type(layer).__name__,
        texts=[name],
        constants=[np.array(constants, np.float64)],
    )


# ---- layers: each handler returns the records of a layer, applied one after the other ----


def _weights(layer: Any, *names: str) -> list[Weight]:
    return [
        Weight(name, np.array(keras.ops.convert_to_numpy(getattr(layer, name)))) for name in names
    ]


def _with_activation(layer: Any, record: LayerRecord) -> list[LayerRecord]:
    """Give a record its activation, or follow it by one where that does not work by value."""
    name, constants = _activation(layer, layer.activation)
    if name == "softmax":
        record.texts.append("linear")
        record.constants.append(np.zeros(0))
        return [record, _activation_record(layer, name, [], "/softmax")]
    record.texts.append(name)
    record.constants.append(np.array(constants, np.float64))
    return [record]


def _check_plain(layer: Any) -> None:
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        raise _refuse(layer, "LoRA and quantised weights are not supported; merge them first.")


def _dense(layer: Any, shapes: list[Shape]) -> list[LayerRecord]:
    _check_plain(layer)
    names = ("kernel", "bias") if layer.use_bias else ("kernel",)
    record = LayerRecord("dense", layer.name, "Dense", weights=_weights(layer, *names))
    return _with_activation(layer, record)


def _conv1d(layer: Any, shapes: list[Shape]) -> list[LayerRecord]:
    _check_plain(layer)
    if layer.data_format != "channels_last":
        raise _refuse(layer, "channels must come last: use data_format='channels_last'.")
    names = ("kernel", "bias") if layer.use_bias else ("kernel",)
    record = LayerRecord(
        "conv1d",
        layer.name,
        "Conv1D",
        integers=[int(layer.strides[0]), int(layer.dilation_rate[0]), int(layer.groups)],
        texts=[layer.padding],
        weights=_weights(layer, *names),
    )
    return _with_activation(layer, record)


def _activation_layer(layer: Any, shapes: list[Shape]) -> list[LayerRecord]:
    return [_activation_record(layer, *_ACTIVATION_LAYERS[type(layer)](layer))]


def _identity(layer: Any, shapes: list[Shape]) -> list[LayerRecord]:
    if type(layer) is keras.layers.Flatten and layer.data_format != "channels_last":
        raise _refuse(layer, "channels must come last: use data_format='channels_last'.")
    shape = layer.compute_output_shape((None, *shapes[0]))[1:]
    return [LayerRecord("identity", layer.name, type(layer).__name__, integers=list(shape))]


def _padding(layer: Any, shapes: list[Shape]) -> list[LayerRecord]:
    if getattr(layer, "data_format", "channels_last") not in ("channels_last", None):
        raise _refuse(layer, "channels must come last: use data_format='channels_last'.")
    periodic = int(type(layer) is PeriodicPadding1D)
    integers = [periodic, *(int(n) for n in layer.padding)]
    return [LayerRecord("padding1d", layer.name, type(layer).__name__, integers=integers)]


def _spread(layer: Any, arrays: list[NDArray[Any]], shape: Shape) -> list[NDArray[np.float64]]:
    """Bring constants to one length: one value, the last axis, or the whole input."""
    try:
        full = [np.broadcast_to(array, (1, *shape)) for array in arrays]
    except ValueError:
        raise _refuse(layer, "its constants do not fit the shape of its input.") from None
    sizes = [(np.shape(array), np.size(array)) for array in arrays]
    if all(size == 1 for _, size in sizes):
        return [array.ravel()[:1].astype(np.float64) for array in full]
    if all(size == 1 or dims[-1] == size for dims, size in sizes):
        return [array.reshape(-1, shape[-1])[0].astype(np.float64) for array in full]
    return [array.ravel().astype(np.float64) for array in full]


def _normalization(layer: Any, shapes: list[Shape]) -> list[LayerRecord]:
    if layer.invert:
        raise _refuse(layer, "invert=True is not supported; use a Rescaling layer.")
    if layer.mean is None:
        raise _refuse(layer, "it has no mean and variance yet: call its adapt method first.")
    dtype = layer.compute_dtype
    mean = keras.ops.cast(layer.mean, dtype)
    deviation = keras.ops.maximum(
        keras.ops.sqrt(keras.ops.cast(layer.variance, dtype)), keras.config.epsilon()
    )
    arrays = [np.asarray(keras.ops.convert_to_numpy(a), np.float64) for a in (mean, deviation)]
    constants = _spread(layer, arrays, shapes[0])
    return [LayerRecord("affine", layer.name, "Normalization", [1], [], constants)]


def _rescaling(layer: Any, shapes: list[Shape]) -> list[LayerRecord]:
    # By Keras's own cast, which rounds Python numbers to single precision even in a double layer
    arrays = [
        np.asarray(keras.ops.convert_to_numpy(layer.backend.cast(value, layer.compute_dtype)))
        for value in (layer.offset, layer.scale)
    ]
    constants = _spread(layer, arrays, shapes[0])
    return [LayerRecord("affine", layer.name, "Rescaling", [0], [], constants)]


def _merge(layer: Any, shapes: list[Shape]) -> list[LayerRecord]:
    name = type(layer).__name__
    if len(set(shapes)) != 1:
        raise _refuse(layer, f"inputs of different shapes {shapes} are not supported; repeat them.")
    return [LayerRecord("merge", layer.name, name, texts=[name.lower()])]


def _concatenate(layer: Any, shapes: list[Shape]) -> list[LayerRecord]:
    axis = layer.axis if layer.axis >= 0 else layer.axis + len(shapes[0]) + 1
    if not 1 <= axis <= len(shapes[0]):
        raise _refuse(layer, f"concatenation along axis {layer.axis} is not supported.")
    return [LayerRecord("concatenate", layer.name, "Concatenate", integers=[axis])]


_Handler = Callable[[Any, list[Shape]], list[LayerRecord]]
# By exact class: a subclass may do something else
_HANDLERS: dict[type, _Handler] = {
    keras.layers.Dense: _dense,
    keras.layers.Conv1D: _conv1d,
    keras.layers.Normalization: _normalization,
    keras.layers.Rescaling: _rescaling,
    keras.layers.Concatenate: _concatenate,
    keras.layers.ZeroPadding1D: _padding,
    PeriodicPadding1D: _padding,
    **dict.fromkeys(_ACTIVATION_LAYERS, _activation_layer),
    **dict.fromkeys(
        (
            keras.layers.Flatten,
            keras.layers.Reshape,
            keras.layers.Identity,
            keras.layers.Dropout,
            keras.layers.SpatialDropout1D,
            keras.layers.AlphaDropout,
            keras.layers.GaussianDropout,
            keras.layers.GaussianNoise,
            keras.layers.ActivityRegularization,
        ),
        _identity,
    ),
    **dict.fromkeys(
        (
            keras.layers.Add,
            keras.layers.Subtract,
            keras.layers.Multiply,
            keras.layers.Average,
            keras.layers.Maximum,
            keras.layers.Minimum,
        ),
        _merge,
    ),
}
# `x + y` and the like on symbolic tensors, which are operations and no layers
_OPERATIONS = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")


# ---- the graph ----


def _functional(model: Any) -> Any:
    """Return the graph of a model."""
    if isinstance(model, keras.Sequential):
        if not model.built or getattr(model, "_functional", None) is None:
            raise ShapeError(
                f"model {model.name!r}: its input shape is not known; give it a keras.Input, or "
                "call model.build"
            )
        model = model._functional
    if not hasattr(model, "_nodes") or not getattr(model, "inputs", None):
        raise UnsupportedLayerError(
            f"model {model.name!r} ({type(model).__name__}): a subclassed model has no graph to "
            "read. Write it with the functional interface, or run it in TensorFlow."
        )
    return model


def _is_model(operation: Any) -> bool:
    return isinstance(operation, keras.Model)


def _leaves(model: Any) -> Iterator[Any]:
    """Yield the layers of a model and of the models in it, in Keras's order."""
    for layer in model.layers:
        if _is_model(layer):
            yield from _leaves(layer)
        elif not isinstance(layer, keras.layers.InputLayer):
            yield layer


class _Graph:
    """Collects layers and nodes while walking through a model."""

    def __init__(self, model: Any) -> None:
        # Layers keep Keras's order, in which the weights are numbered
        self.order: dict[int, int] = {}
        for layer in _leaves(model):
            self.order.setdefault(id(layer), len(self.order))
        self.nodes: list[Node] = []
        self.records: dict[tuple[int, int], LayerRecord] = {}
        self.keys: list[tuple[int, int] | None] = []
        self.operations: dict[int, Any] = {}

    def shape(self, tensor: tuple[int, int]) -> Shape:
        return self.nodes[tensor[0]].shapes[tensor[1]]

    def add_input(self, tensor: Any) -> tuple[int, int]:
        operation = tensor._keras_history.operation
        self.nodes.append(Node(None, [_shape(operation, tensor)], name=operation.name))
        self.keys.append(None)
        return len(self.nodes) - 1, 0

    def walk(self, model: Any, inputs: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Apply a model to tensors of the graph; returns its outputs."""
        graph = _functional(model)
        known = {id(tensor): source for tensor, source in zip(graph.inputs, inputs, strict=True)}
        pending = list(reversed(graph.outputs))
        while pending:
            tensor = pending[-1]
            if id(tensor) in known:
                pending.pop()
                continue
            history = tensor._keras_history
            node = history.operation._inbound_nodes[history.node_index]
            missing = [needed for needed in node.input_tensors if id(needed) not in known]
            if missing:
                pending.extend(reversed(missing))
                continue
            sources = [known[id(needed)] for needed in node.input_tensors]
            results = self.apply(history.operation, node, sources)
            for output, result in zip(node.output_tensors, results, strict=True):
                known[id(output)] = result
        return [known[id(tensor)] for tensor in graph.outputs]

    def apply(
        self, operation: Any, node: Any, sources: list[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """Apply one layer, or a model in place of one."""
        if _is_model(operation):
            return self.walk(operation, sources)
        shapes = [self.shape(source) for source in sources]
        self.operations[id(operation)] = operation
        if isinstance(operation, keras.layers.Layer):
            handler = _HANDLERS.get(type(operation))
            if handler is None:
                raise _refuse(operation, f"this class is not supported. {_WAY_OUT}.")
            records = handler(operation, shapes)
        elif type(operation).__name__ in _OPERATIONS and len(sources) == 2:
            records = _merge(operation, shapes)
        else:
            raise _refuse(operation, f"this operation is not supported. {_WAY_OUT}.")
        self.order.setdefault(id(operation), len(self.order))
        final = [_shape(operation, tensor) for tensor in node.output_tensors]
        for part, record in enumerate(records):
            key = (id(operation), part)
            if self.records.setdefault(key, record) is not record and not _same(
                self.records[key], record
            ):
                raise _refuse(operation, "it is applied to tensors of different shapes.")
            self.keys.append(key)
            # All layers in several parts end in one that keeps the shape
            self.nodes.append(Node(-1, final, sources))
            sources = [(len(self.nodes) - 1, 0)]
        return [(len(self.nodes) - 1, output) for output in range(len(final))]

    def number_layers(self) -> list[LayerRecord]:
        """Return the layers in Keras's order, and refer the nodes to them."""
        keys = sorted(self.records, key=lambda key: (self.order[key[0]], key[1]))
        for node, key in zip(self.nodes, self.keys, strict=True):
            node.layer = None if key is None else keys.index(key)
        return [self.records[key] for key in keys]


def _same(a: LayerRecord, b: LayerRecord) -> bool:
    return (
        (a.kind, a.integers, a.texts) == (b.kind, b.integers, b.texts)
        and len(a.constants) == len(b.constants)
        and all(np.array_equal(x, y) for x, y in zip(a.constants, b.constants, strict=True))
    )


def _shape(operation: Any, tensor: Any) -> Shape:
    shape = tuple(tensor.shape[1:])
    if any(n is None for n in shape):
        raise ShapeError(
            f"layer {operation.name!r} ({type(operation).__name__}): its shape {shape} is not "
            "fixed; the native engine needs all dimensions but the batch"
        )
    return tuple(int(n) for n in shape)


def precision_of(model: Any) -> int:
    """Return the bytes of the one precision that all layers of a Keras model use."""
    layers = list(_leaves(_functional(model)))
    found = {layer.compute_dtype for layer in layers} | {
        str(variable.dtype)
        for layer in layers
        if not isinstance(layer, keras.layers.Normalization)
        for variable in layer.trainable_variables
    }
    if len(found) > 1 or not found <= {"float32", "float64"}:
        odd = next((la for la in layers if la.compute_dtype != layers[0].compute_dtype), layers[0])
        raise _refuse(
            odd,
            f"the model mixes or uses the precisions {sorted(found)}; all layers must have "
            "dtype='float64', or all 'float32'.",
        )
    return 8 if found == {"float64"} else 4


def _parameter_variables(model: Any) -> list[tuple[str, str, Any]]:
    """Return layer name, weight name and variable of all parameters, in the order of the file."""
    result = []
    seen: set[int] = set()
    for layer in _leaves(model):
        if type(layer) in (keras.layers.Dense, keras.layers.Conv1D) and id(layer) not in seen:
            seen.add(id(layer))
            result.append((layer.name, "kernel", layer.kernel))
            if layer.use_bias:
                result.append((layer.name, "bias", layer.bias))
    return result


def describe(model: Any) -> NetworkFile:
    """Return a Keras model as the description of a network.

    Raises
    ------
    UnsupportedLayerError
        The core does not have a layer, an activation or an option.
    ShapeError
        A shape is not fixed.
    InvalidArgumentError
        This is no Keras model.
    """
    if not isinstance(model, keras.Model):
        raise InvalidArgumentError(f"model: expected a Keras model, got {model!r}")
    functional = _functional(model)
    precision = precision_of(model)
    graph = _Graph(functional)
    inputs = [graph.add_input(tensor) for tensor in functional.inputs]
    outputs = graph.walk(functional, inputs)
    layers = graph.number_layers()
    network = NetworkFile(precision, _metadata(model), layers, graph.nodes, outputs)
    if keras.backend.backend() == "tensorflow":
        network.references = _references(model, network)
    return network


# ---- what the file carries along for Keras ----


def _metadata(model: Any) -> dict[str, Any]:
    try:
        config = model.to_json()
    except (NotImplementedError, TypeError, ValueError):
        config = None
    state = []
    for layer in _leaves(_functional(model)):
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
            for variable in (layer.adapt_mean, layer.adapt_variance):
                values = np.asarray(keras.ops.convert_to_numpy(variable), "<f8")
                state.append(base64.b64encode(values.tobytes()).decode())
    return {"name": model.name, "keras": keras.__version__, "model": config, "state": state}


def set_parameters(model: Any, file: NetworkFile, parameters: NDArray[np.float64]) -> None:
    """Write a flat vector of parameters into a Keras model of the same layers."""
    variables = _parameter_variables(_functional(model))
    wanted = [(la.name, w.name, w.values.shape) for la in file.layers for w in la.weights]
    found = [(layer, name, tuple(variable.shape)) for layer, name, variable in variables]
    if [shape for _, _, shape in wanted] != [shape for _, _, shape in found]:
        raise ShapeError(f"model: expected weights {wanted}, got {found}")
    start = 0
    for _, _, variable in variables:
        size = math.prod(variable.shape)
        variable.assign(parameters[start : start + size].reshape(tuple(variable.shape)))
        start += size


def build_keras(file: NetworkFile) -> Any:
    """Return the Keras model from which a file was made, with the weights of that time."""
    config = file.metadata.get("model")
    if not isinstance(config, str):
        raise FileFormatError("the network file does not hold its Keras model's configuration")
    model = keras.models.model_from_json(config)
    _functional(model)
    state = list(file.metadata.get("state", []))
    for layer in _leaves(_functional(model)):
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
            if len(state) < 2:
                raise FileFormatError("the network file lacks the state of a Normalization layer")
            for variable in (layer.adapt_mean, layer.adapt_variance):
                raw = np.frombuffer(base64.b64decode(state.pop(0)), "<f8")
                variable.assign(raw.reshape(tuple(variable.shape)))
            layer.finalize_state()
    set_parameters(model, file, file.parameters())
    return model


# ---- results of TensorFlow ----


def flat_results(
    model: Any,
    precision: int,
    x: NDArray[np.float64],
    dx: NDArray[np.float64],
    dp: NDArray[np.float64],
    y_ad: NDArray[np.float64],
) -> tuple[NDArray[np.float64], ...]:
    """Return TensorFlow's own output, JVP and VJP, all as flat vectors.

    Parameters
    ----------
    model : keras.Model
        In TensorFlow.
    precision : int
        Bytes of a number in it.
    x, dx : numpy.ndarray, shape (batch, n_inputs)
        Input and its perturbation.
    dp : numpy.ndarray, shape (n_parameters,)
        Perturbation of the parameters.
    y_ad : numpy.ndarray, shape (batch, n_outputs)
        Adjoint of the output.

    Returns
    -------
    y, dy : numpy.ndarray, shape (batch, n_outputs)
        Output, and its perturbation from dx and dp.
    x_ad, p_ad : numpy.ndarray, shapes (batch, n_inputs) and (n_parameters,)
        Adjoints of input and parameters.
    """
    import tensorflow as tf

    functional = _functional(model)
    dtype = tf.float64 if precision == 8 else tf.float32
    variables = [variable.value for _, _, variable in _parameter_variables(functional)]
    raw = [getattr(variable, "_value", variable) for variable in variables]

    def split(flat: NDArray[np.float64], tensors: list[Any]) -> list[Any]:
        parts, start = [], 0
        for tensor in tensors:
            shape = tuple(int(n) for n in tensor.shape[1:])
            size = math.prod(shape)
            part = flat[:, start : start + size].reshape(-1, *shape)
            parts.append(tf.constant(part, dtype))
            start += size
        return parts

    def join(parts: Any) -> NDArray[np.float64]:
        parts = parts if isinstance(parts, (list, tuple)) else [parts]
        return np.concatenate(
            [part.numpy().reshape(part.shape[0], -1).astype(np.float64) for part in parts], axis=1
        )

    def run(parts: list[Any]) -> list[Any]:
        result = functional(parts if len(parts) > 1 else parts[0], training=False)
        return list(keras.tree.flatten(result))

    xs, dxs = split(x, functional.inputs), split(dx, functional.inputs)
    y_ads = split(y_ad, functional.outputs)
    dps, start = [], 0
    for variable in raw:
        size = math.prod(variable.shape)
        dps.append(tf.constant(dp[start : start + size].reshape(tuple(variable.shape)), dtype))
        start += size
    zero = tf.UnconnectedGradients.ZERO

    def adjoint(xs: list[Any], y_ads: list[Any]) -> tuple[Any, ...]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([*xs, *raw])
            ys = run(xs)
        gradients = tape.gradient(
            ys, [*xs, *raw], output_gradients=y_ads, unconnected_gradients=zero
        )
        p_ads = [tf.reshape(g, -1).numpy().astype(np.float64) for g in gradients[len(xs) :]]
        return join(ys), join(gradients[: len(xs)]), np.concatenate([np.zeros(0), *p_ads])

    try:
        with tf.autodiff.ForwardAccumulator([*xs, *raw], [*dxs, *dps]) as accumulator:
            ys = run(xs)
        dy = join([accumulator.jvp(y, zero) for y in ys])
    except LookupError:
        # Some operations (softsign) have no forward mode in TensorFlow: row by row of the Jacobian
        dy = np.empty_like(y_ad)
        for sample, output in np.ndindex(*dy.shape):
            one = np.zeros((1, dy.shape[1]))
            one[0, output] = 1.0
            part = slice(sample, sample + 1)
            _, row, p_row = adjoint(
                split(x[part], functional.inputs), split(one, functional.outputs)
            )
            dy[sample, output] = np.sum(row * dx[part]) + np.sum(p_row * dp)
    y, x_ad, p_ad = adjoint(xs, y_ads)
    return y, dy, x_ad, p_ad


def _references(model: Any, file: NetworkFile) -> list[Reference]:
    rng = np.random.default_rng(20240101)
    references = []
    for number in range(_N_REFERENCES):
        with_parameters = number == 0 and file.n_parameters <= _REFERENCE_PARAMETERS
        x, dx = rng.standard_normal((2, 1, file.n_inputs))
        y_ad = rng.standard_normal((1, file.n_outputs))
        dp = rng.standard_normal(file.n_parameters) * with_parameters
        if file.precision == 4:
            x, dx, y_ad, dp = (a.astype(np.float32).astype(np.float64) for a in (x, dx, y_ad, dp))
        y, dy, x_ad, p_ad = flat_results(model, file.precision, x, dx, dp, y_ad)
        if not with_parameters:
            dp, p_ad = np.zeros(0), np.zeros(0)
        references.append(Reference(x[0], dx[0], dp, y_ad[0], y[0], dy[0], x_ad[0], p_ad))
    return references
