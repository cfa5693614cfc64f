# SPDX-License-Identifier: MIT
"""Runs of a forecast model as differentiable operations of TensorFlow.

Two back ends give the same numbers. "op" calls the Fortran core from TensorFlow's own threads
(`_op.c`). "numpy" goes through `tf.numpy_function`, and serves where that library cannot load; its
forward mode works in eager execution only. Reverse mode runs the model's adjoint, forward mode its
tangent linear. There are no second derivatives of a model: where one is asked for, an error says
so. (Reverse over forward mode has the derivative with respect to the perturbation, in a
`tf.function`; eagerly TensorFlow asks for the others too, and gets the error.)
"""

from __future__ import annotations

import ctypes
import importlib.resources
import itertools
import threading
import weakref
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import forwardprop_util

from pybridge import _validation as validate
from pybridge import errors
from pybridge.models import Model, PythonModel

__all__ = ["Backend", "check_backend", "forecast", "op_is_available"]

Backend = Literal["auto", "op", "numpy"]

# How long a model that goes away waits for a run of it on another thread
_PATIENCE_SECONDS = 10

_NO_SECOND = (
    "a forecast model has first derivatives only: the gradient of its adjoint or tangent linear "
    "with respect to state or parameters is not available"
)


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def forecast(
    model: Model,
    x: Any,
    steps: int = 1,
    *,
    parameters: Any = None,
    start: Any = 0,
    threads: int = 1,
    backend: Backend = "auto",
) -> Any:
    """Advance states by some time steps, as one operation of a TensorFlow graph.

    Gradients with respect to `x` and `parameters` are exact, in reverse mode (`tf.GradientTape`)
    and in forward mode (`tf.autodiff.ForwardAccumulator`).

    Parameters
    ----------
    model : Model
        Any forecast model.
    x : tensor, shape (batch, n)
        States. The run is in double precision, the result has the type of `x`.
    steps : int
        Number of time steps.
    parameters : tensor, shape (n_parameters,), optional
        Parameters in place of the model's own.
    start : integer tensor, shape () or (batch,)
        Number of the first step, for all members or for each.
    threads : int
        OpenMP threads among which members are shared; the result does not depend on it.
    backend : {"auto", "op", "numpy"}
        "auto" takes the operation in C where it loads, except for a model made of Python
        callables: through "numpy", their exceptions reach the error message.

    Returns
    -------
    tensor, shape (batch, n)
        States after the run.

    Raises
    ------
    tf.errors.InvalidArgumentError
        A state became NaN, infinite or too large; the message names member and step. Raised when
        the operation runs. Back end "numpy" raises `tf.errors.UnknownError` instead.
    NotAvailableError
        Back end "op" is asked for, and cannot be loaded.
    """
    steps = validate.integer("steps", steps, 0)
    threads = validate.integer("threads", threads, 1, 4096)
    x = tf.convert_to_tensor(x)
    states = tf.cast(x, tf.float64)
    p = tf.cast(model.parameters if parameters is None else parameters, tf.float64)
    k = tf.cast(start, tf.int32)
    if states.shape.rank not in (None, 2) or states.shape[-1:].as_list() not in ([None], [model.n]):
        raise errors.ShapeError(f"x: expected shape (batch, {model.n}), got {tuple(states.shape)}")
    run = _run_by_op if _chosen(model, backend) == "op" else _run_by_numpy
    return tf.cast(run(model, states, p, k, steps, threads), x.dtype)


def check_backend(backend: Any) -> Backend:
    """Return a back end's name, or raise."""
    if backend not in get_args(Backend):
        raise errors.InvalidArgumentError(
            f"backend: expected one of {get_args(Backend)}, got {backend!r}"
        )
    chosen: Backend = backend
    return chosen


def op_is_available() -> bool:
    """Whether the operation in C loads here."""
    return _operations.load() is not None


def _chosen(model: Model, backend: Backend) -> Backend:
    check_backend(backend)
    if backend == "auto":
        return "op" if op_is_available() and not isinstance(model, PythonModel) else "numpy"
    if backend == "op" and not op_is_available():
        raise errors.NotAvailableError(
            f"backend: the TensorFlow operation cannot be loaded: {_operations.reason}"
        )
    return backend


# ---- the operation in C ----


class _Operations:
    """The library of operations, opened once, and the models it knows by number."""

    def __init__(self) -> None:
        self.reason = ""
        self._lock = threading.Lock()
        self._module: Any = None
        self._functions: Any = None
        self._numbers: weakref.WeakKeyDictionary[Model, int] = weakref.WeakKeyDictionary()

    def load(self) -> Any:
        """Return TensorFlow's module for the operations; None where they do not load."""
        with self._lock:
            if self._module is None and not self.reason:
                try:
                    self._open()
                except (OSError, tf.errors.OpError) as error:
                    self.reason = str(error)
            return self._module

    def _open(self) -> None:
        path = str(importlib.resources.files("pybridge.keras").joinpath("_op.so"))
        # TensorFlow first: it sees what is registered only while the library is opened
        module = tf.load_op_library(path)
        functions = ctypes.CDLL(path)
        functions.pybridge_tensorflow_register.argtypes = [ctypes.c_void_p]
        functions.pybridge_tensorflow_register.restype = ctypes.c_int64
        functions.pybridge_tensorflow_unregister.argtypes = [ctypes.c_int64, ctypes.c_int]
        functions.pybridge_tensorflow_unregister.restype = ctypes.c_int
        _register_gradients(module)
        self._functions = functions
        self._module = module

    def number(self, model: Model) -> int:
        """Return the number that stands for a model in graphs."""
        with self._lock:
            number = self._numbers.get(model)
            if number is None:
                number = int(self._functions.pybridge_tensorflow_register(model.handle))
                if not number:
                    raise errors.PybridgeError(f"{model!r} could not be registered")
                self._numbers[model] = number
                # Finalizers run latest first: this one before the one that frees the model
                forget = weakref.finalize(model, self._forget, number, model._finalizer)
                forget.atexit = False
            return number

    def _forget(self, number: int, free: weakref.finalize[Any, Any]) -> None:
        if self._functions.pybridge_tensorflow_unregister(number, _PATIENCE_SECONDS):
            # A run still uses the model: leak it rather than pull it away
            free.detach()


_operations = _Operations()


def _run_by_op(model: Model, x: Any, p: Any, k: Any, steps: int, threads: int) -> Any:
    if not tf.executing_eagerly():
        # A graph names the model by number: whoever keeps the graph keeps the model
        graph = tf.compat.v1.get_default_graph()
        if not hasattr(graph, "_pybridge_models"):
            graph._pybridge_models = set()
        graph._pybridge_models.add(model)
    return _operations.load().pybridge_forecast(
        x=x, p=p, k=k, model=_operations.number(model), steps=steps, threads=threads
    )


def _register_gradients(module: Any) -> None:
    """Tell TensorFlow how the operations are differentiated.

    The adjoint is linear in what it carries back, and its transpose is the tangent linear. From
    that TensorFlow's forward mode finds the tangent linear by itself.
    """

    def attributes(op: Any) -> dict[str, Any]:
        return {name: op.get_attr(name) for name in ("model", "steps", "threads")}

    def no_derivative(op: Any, i: int, upstream: Any) -> Any:
        # A tape says which gradients it does not need. A graph builds them all, and runs the needed
        if i in (getattr(op, "skip_input_indices", None) or ()):
            return None
        if tf.executing_eagerly():
            raise errors.NotAvailableError(_NO_SECOND)
        return module.pybridge_no_derivative(x=op.inputs[i], upstream=upstream)

    @tf.RegisterGradient("PybridgeForecast")  # type: ignore[untyped-decorator]
    def _forecast(op: Any, y_ad: Any) -> list[Any]:
        x, p, k = op.inputs
        x_ad, p_ad = module.pybridge_forecast_adjoint(x=x, p=p, k=k, y_ad=y_ad, **attributes(op))
        return [x_ad, p_ad, None]

    @tf.RegisterGradient("PybridgeForecastAdjoint")  # type: ignore[untyped-decorator]
    def _adjoint(op: Any, dx: Any, dp: Any) -> list[Any]:
        x, p, k, _ = op.inputs
        dy = module.pybridge_forecast_tangent_linear(x=x, p=p, k=k, dx=dx, dp=dp, **attributes(op))
        return [no_derivative(op, 0, dx), no_derivative(op, 1, dx), None, dy]

    @tf.RegisterGradient("PybridgeForecastTangentLinear")  # type: ignore[untyped-decorator]
    def _tangent_linear(op: Any, y_ad: Any) -> list[Any]:
        x, p, k, _, _ = op.inputs
        x_ad, p_ad = module.pybridge_forecast_adjoint(x=x, p=p, k=k, y_ad=y_ad, **attributes(op))
        return [no_derivative(op, 0, y_ad), no_derivative(op, 1, y_ad), None, x_ad, p_ad]

    @tf.RegisterGradient("PybridgeNoDerivative")  # type: ignore[untyped-decorator]
    def _no_derivative(op: Any, upstream: Any) -> list[Any]:
        return [no_derivative(op, 0, upstream), no_derivative(op, 1, upstream)]


# ---- numpy_function ----


def _run_by_numpy(model: Model, x: Any, p: Any, k: Any, steps: int, threads: int) -> Any:
    def runs(k: Any, members: int) -> list[tuple[slice, int]]:
        """Return which members, in a row, begin with which step."""
        if np.ndim(k) == 0:
            return [(slice(0, members), int(k))]
        if k.shape != (members,):
            raise errors.ShapeError(f"k: expected shape () or ({members},), got {k.shape}")
        edges = [0, *(np.flatnonzero(np.diff(k)) + 1).tolist(), members]
        return [(slice(i, j), int(k[i])) for i, j in itertools.pairwise(edges) if j > i]

    def forward(x: Any, p: Any, k: Any) -> Any:
        y = np.empty_like(x)
        for members, first in runs(k, len(x)):
            y[members] = model.step(x[members], steps, start=first, parameters=p, threads=threads)
        return y

    def backward(x: Any, p: Any, k: Any, y_ad: Any) -> Any:
        x_ad, p_ad = np.empty_like(x), np.zeros_like(p)
        for members, first in runs(k, len(x)):
            x_ad[members], part = model.step_ad(
                x[members], y_ad[members], steps, start=first, parameters=p, threads=threads
            )
            p_ad += part
        return x_ad, p_ad

    def tangent(x: Any, p: Any, k: Any, dx: Any, dp: Any) -> Any:
        dy = np.empty_like(x)
        for members, first in runs(k, len(x)):
            dy[members] = model.step_tl(
                x[members], dx[members], steps, dp=dp, start=first, parameters=p, threads=threads
            )
        return dy

    def call(function: Callable[..., Any], inputs: list[Any], like: list[Any]) -> tuple[Any, ...]:
        types = [tf.float64] * len(like)
        results = tf.nest.flatten(tf.numpy_function(function, inputs, types, stateful=False))
        for i, tensor in enumerate(like):
            results[i] = tf.ensure_shape(results[i], tensor.shape)
        return tuple(results)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def run(x: Any, p: Any, k: Any) -> Any:
        def gradient(y_ad: Any) -> Any:
            return (*adjoint(_once(x), _once(p), k, y_ad), None)

        return call(forward, [x, p, k], [x])[0], gradient

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def adjoint(x: Any, p: Any, k: Any, y_ad: Any) -> Any:
        def gradient(dx: Any, dp: Any) -> Any:
            dy = tangent_linear(_once(x), _once(p), k, dx, dp)
            return tf.zeros_like(x), tf.zeros_like(p), None, dy

        return call(backward, [x, p, k, y_ad], [x, p]), gradient

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def tangent_linear(x: Any, p: Any, k: Any, dx: Any, dp: Any) -> Any:
        def gradient(y_ad: Any) -> Any:
            x_ad, p_ad = adjoint(_once(x), _once(p), k, y_ad)
            return tf.zeros_like(x), tf.zeros_like(p), None, x_ad, p_ad

        return call(tangent, [x, p, k, dx, dp], [x])[0], gradient

    if not tf.executing_eagerly() and forwardprop_util.pack_tangents([x, p]).tangents:
        # TensorFlow would take the identity for the tangent linear of a custom gradient here
        raise errors.NotAvailableError(
            'backend "numpy" has no forward mode in a tf.function: run eagerly, or use backend "op"'
        )
    return run(x, p, k)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _once(x: Any) -> Any:
    """Return x, through which no gradient may pass: the zeros handed back to it are not true."""

    def gradient(upstream: Any) -> Any:
        if tf.executing_eagerly():
            raise errors.NotAvailableError(_NO_SECOND)

        def fail(_: Any) -> Any:
            raise errors.NotAvailableError(_NO_SECOND)

        result = tf.numpy_function(fail, [upstream], upstream.dtype, stateful=False)
        result.set_shape(upstream.shape)
        return result

    return tf.identity(x), gradient
