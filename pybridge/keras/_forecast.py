# SPDX-License-Identifier: MIT
"""Forecast models as Keras layers."""

from __future__ import annotations

from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from pybridge import _validation as validate
from pybridge import errors
from pybridge._validation import Array
from pybridge.keras._step import Backend, check_backend, forecast
from pybridge.models import Model, from_config

__all__ = ["ForecastCell", "ForecastLayer", "HybridLayer"]


@keras.saving.register_keras_serializable(package="pybridge")
class ForecastLayer(keras.layers.Layer):  # type: ignore[misc]
    """A forecast model as a layer: states in, states some time steps later out.

    Gradients are exact: the model's adjoint in reverse mode, its tangent linear in forward mode.
    The run is in double precision whatever the layer's dtype; weights are kept in double too.

    Parameters
    ----------
    model : Model
        Any forecast model.
    steps : int
        Time steps of a call.
    every : int, optional
        With `return_sequences`: steps from one returned state to the next, a divisor of `steps`.
    start : int
        Number of the first step, where a call does not say.
    threads : int
        OpenMP threads among which the batch is shared; the result does not depend on it.
    trainable_parameters : bool
        Whether the model's parameters are trainable weights.
    return_sequences : bool
        Return the states after `every`, 2 `every`, … steps rather than the last alone.
    backend : {"auto", "op", "numpy"}
        As for `pybridge.keras.forecast`.

    Attributes
    ----------
    model : Model
    model_parameters : keras.Variable, shape (n_parameters,)
        The model's parameters, None where it has none.

    Notes
    -----
    Input of shape (batch, n); output of shape (batch, n), or (batch, steps // every, n) with
    `return_sequences`. A call takes ``first_step``, an integer tensor of shape (), (batch,) or
    (batch, 1), for models that depend on time. XLA does not compile it (``supports_jit`` is False).
    """

    def __init__(
        self,
        model: Model,
        steps: int = 1,
        *,
        every: int = 1,
        start: int = 0,
        threads: int = 1,
        trainable_parameters: bool = False,
        return_sequences: bool = False,
        backend: Backend = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if keras.backend.backend() != "tensorflow":
            raise errors.NotAvailableError(
                f"this layer needs Keras on TensorFlow, got backend {keras.backend.backend()!r}; "
                "set KERAS_BACKEND=tensorflow before Keras is imported"
            )
        if not isinstance(model, Model):
            raise errors.InvalidArgumentError(f"model: expected a pybridge model, got {model!r}")
        self.model = model
        self.steps = validate.integer("steps", steps, 0)
        self.every = validate.integer("every", every, 1)
        self.start = validate.integer("start", start, -(2**31))
        self.threads = validate.integer("threads", threads, 1, 4096)
        self.trainable_parameters = bool(trainable_parameters)
        self.return_sequences = bool(return_sequences)
        if self.return_sequences and (self.steps == 0 or self.steps % self.every):
            raise errors.InvalidArgumentError(
                f"every: expected a divisor of steps, got {every} for {steps} steps"
            )
        self.run_by = check_backend(backend)
        self.supports_jit = False
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: model.n})
        self.model_parameters = self._add_model_parameters(model.parameters)

    def _add_model_parameters(self, values: Array) -> Any:
        if not values.size:
            return None
        return self.add_weight(
            name="model_parameters",
            shape=values.shape,
            dtype="float64",
            initializer=lambda shape, dtype: keras.ops.convert_to_tensor(values, dtype),
            trainable=self.trainable_parameters,
            autocast=False,
        )

    def parameter_vector(self) -> Array:
        """Return the parameter vector that calls use now, shape (n_parameters,)."""
        return np.array(self._parameters(), dtype=np.float64)

    def _parameters(self) -> Any:
        if self.model_parameters is None:
            return tf.zeros([0], tf.float64)
        return tf.convert_to_tensor(self.model_parameters)

    def call(self, inputs: Any, first_step: Any = None) -> Any:
        start = self.start if first_step is None else first_step
        start = tf.cast(start, tf.int32)
        if start.shape.rank == 2:
            start = tf.squeeze(start, -1)
        parameters = self._parameters()

        def run(x: Any, start: Any, steps: int) -> Any:
            return forecast(
                self.model,
                x,
                steps,
                parameters=parameters,
                start=start,
                threads=self.threads,
                backend=self.run_by,
            )

        x = tf.cast(inputs, tf.float64)
        if not self.return_sequences:
            return tf.cast(run(x, start, self.steps), self.compute_dtype)
        counts = range(self.every, self.steps + 1, self.every)
        if self.model.n_carry:
            # What is carried is set when a run starts: a run in pieces would be another run
            states = [run(x, start, count) for count in counts]
        else:
            states = []
            for count in counts:
                x = run(x, start + (count - self.every), self.every)
                states.append(x)
        return tf.cast(tf.stack(states, axis=1), self.compute_dtype)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...], first_step_shape: Any = None
    ) -> tuple[int | None, ...]:
        if self.return_sequences:
            return input_shape[0], self.steps // self.every, self.model.n
        return input_shape[0], self.model.n

    def compute_output_spec(self, inputs: Any, first_step: Any = None) -> Any:
        return keras.KerasTensor(
            self.compute_output_shape(tuple(inputs.shape)), dtype=self.compute_dtype
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "model": self.model.get_config(),
            "steps": self.steps,
            "every": self.every,
            "start": self.start,
            "threads": self.threads,
            "trainable_parameters": self.trainable_parameters,
            "return_sequences": self.return_sequences,
            "backend": self.run_by,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        arguments = dict(config)
        model = from_config(arguments.pop("model"))
        return cls(model, **arguments)


@keras.saving.register_keras_serializable(package="pybridge")
class HybridLayer(ForecastLayer):
    """A forecast model corrected by a Keras network, which is trained through the model.

    At every call the weights of the Keras network are handed to the hybrid model as the tail of
    its parameter vector, so that gradients pass through the whole run, in Fortran, to the network's
    own weights.

    Parameters
    ----------
    model : Model
        A `HybridModel`, or any model whose parameter vector is `n_model_parameters` numbers
        followed by the network's weights.
    network : keras.Model or keras.layers.Layer
        Built network, whose trainable weights, flattened in Keras's order, are the tail of the
        parameter vector. It is not called: its weights are used.
    n_model_parameters : int, optional
        Leading parameters that are not the network's; ``model.n_model_parameters`` by default.
    steps, every, start, threads, return_sequences, backend
        As for `ForecastLayer`.
    trainable_parameters : bool
        Whether the leading parameters are trainable weights too.

    Attributes
    ----------
    network : keras.Model or keras.layers.Layer
    model_parameters : keras.Variable, shape (n_model_parameters,)
        The leading parameters, None where there are none.

    Raises
    ------
    ShapeError
        The network's weights are not as many as the model's parameter vector needs.
    """

    def __init__(
        self,
        model: Model,
        network: Any,
        steps: int = 1,
        *,
        n_model_parameters: int | None = None,
        **kwargs: Any,
    ) -> None:
        if n_model_parameters is None:
            n_model_parameters = getattr(model, "n_model_parameters", None)
        if n_model_parameters is None:
            raise errors.InvalidArgumentError(
                f"n_model_parameters: {model!r} does not tell how many of its parameters are not "
                "the network's"
            )
        # ForecastLayer makes the weight of the leading parameters
        self.n_model_parameters = validate.integer(
            "n_model_parameters", n_model_parameters, 0, model.n_parameters
        )
        super().__init__(model, steps, **kwargs)
        weights = list(network.trainable_variables)
        sizes = [int(np.prod(weight.shape)) for weight in weights]
        if sum(sizes) != model.n_parameters - self.n_model_parameters:
            raise errors.ShapeError(
                f"network: expected {model.n_parameters - self.n_model_parameters} trainable "
                f"weights, which the hybrid model takes, got {sum(sizes)}"
                + ("; build the network first, and freeze its layers after" if weights else "")
            )
        self.network = network

        # In a closure, where Keras does not see these variables a second time; taken now, they
        # stay the same when layers are frozen
        def flat_weights() -> list[Any]:
            return [tf.reshape(weight, [-1]) for weight in weights]

        self._flat_weights = flat_weights

    def _add_model_parameters(self, values: Array) -> Any:
        return super()._add_model_parameters(values[: self.n_model_parameters])

    def _parameters(self) -> Any:
        parts = [tf.cast(part, tf.float64) for part in self._flat_weights()]
        return tf.concat([super()._parameters(), *parts], axis=0)

    def hybrid(self) -> Model:
        """Return the hybrid model with the network's weights as they are now.

        The leading parameters stay the model's own.
        """
        if not hasattr(self.model, "with_parameters"):
            raise errors.NotAvailableError(f"{self.model!r} cannot be given other weights")
        model: Model = self.model.with_parameters(self.parameter_vector())
        return model

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "n_model_parameters": self.n_model_parameters,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        arguments = dict(config)
        model = from_config(arguments.pop("model"))
        network = keras.saving.deserialize_keras_object(arguments.pop("network"))
        return cls(model, network, **arguments)


@keras.saving.register_keras_serializable(package="pybridge")
class ForecastCell(keras.layers.Layer):  # type: ignore[misc]
    """A forecast model as a cell for `keras.layers.RNN`.

    One call of the cell is one call of the layer within; the inputs, of shape (batch, n), are
    increments added to the forecast (forcing, model error, nudging): zeros for a free run.

    Parameters
    ----------
    layer : Model, ForecastLayer or HybridLayer
        What is run; a model stands for ``ForecastLayer(model)``. A layer's dtype is the cell's.

    Notes
    -----
    States: the model's state (batch, n), and how often the cell was called (batch, 1), which gives
    the number of the first step of each call. ``initial_state=cell.initial_state(x)`` starts a run
    at x.
    """

    def __init__(self, layer: Model | ForecastLayer, **kwargs: Any) -> None:
        if isinstance(layer, ForecastLayer):
            kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(**kwargs)
        if isinstance(layer, Model):
            layer = ForecastLayer(layer, dtype=self.dtype_policy)
        self.layer = layer
        if not isinstance(self.layer, ForecastLayer) or self.layer.return_sequences:
            raise errors.InvalidArgumentError(
                "layer: expected a model, or a ForecastLayer or HybridLayer that returns its last "
                f"state, got {layer!r}"
            )
        self.supports_jit = False
        self.state_size = (self.layer.model.n, 1)
        self.output_size = self.layer.model.n

    def initial_state(self, x: Any) -> list[Any]:
        """Return the cell's states at the start of a run from states x, shape (batch, n)."""
        return [x, keras.ops.zeros_like(x[:, :1])]

    def build(self, input_shape: Any, states_shape: Any = None) -> None:
        if not self.layer.built:
            self.layer.build((None, self.output_size))

    def call(self, inputs: Any, states: Any) -> tuple[Any, list[Any]]:
        x, calls = states
        first = tf.cast(calls[:, 0], tf.int32) * self.layer.steps + self.layer.start
        x = tf.cast(self.layer(x, first_step=first), inputs.dtype) + inputs
        return x, [x, calls + 1]

    def compute_output_spec(self, inputs: Any, states: Any) -> Any:
        output = keras.KerasTensor((inputs.shape[0], self.output_size), dtype=self.compute_dtype)
        counter = keras.KerasTensor((inputs.shape[0], 1), dtype=self.compute_dtype)
        return output, [output, counter]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "layer": keras.saving.serialize_keras_object(self.layer),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        arguments = dict(config)
        layer = keras.saving.deserialize_keras_object(arguments.pop("layer"))
        return cls(layer, **arguments)
