# SPDX-License-Identifier: MIT
"""Networks in the Fortran core: a Keras model with its exact tangent linear and adjoint."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from pybridge import _kernels, errors
from pybridge import _validation as validate
from pybridge._files import replacing
from pybridge._handles import freed_with
from pybridge._network_file import NetworkFile, Weight, decode, encode
from pybridge._validation import Array

__all__ = ["Linearisation", "Network", "NetworkReport", "ParameterEntry"]

# An array of no length stands for a null pointer
_NONE = np.empty(0)
# Samples run together: larger batches are cut, so that their records stay in the cache
_CHUNK = 256


@dataclass(frozen=True)
class ParameterEntry:
    """Where one weight array lies in the parameter vector."""

    layer: str
    name: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def slice(self) -> slice:
        """The part of the parameter vector."""
        return slice(self.start, self.stop)


class Network:
    """A network of the Fortran core.

    Inputs and outputs are flat vectors: all inputs of a sample one after the other, each in C
    order; all outputs likewise. One network may be used by many threads at the same time; a call
    releases Python's lock.

    Attributes
    ----------
    n_inputs, n_outputs : int
        Values of one sample's input and output.
    n_parameters : int
        Size of the parameter vector: all weights that training changes.
    """

    def __init__(self, raw: bytes) -> None:
        """Make a network from the bytes of a network file; see `load` and `from_keras`."""
        # The core checks what the file says of its layers; without that, the rest means nothing
        message = np.zeros(1000, np.int8)
        status, handle = _kernels.pybridge_network_from_bytes(np.frombuffer(raw, np.int8), message)
        errors.check(status, errors.text_of(message))
        self._handle: int = handle
        self._finalizer = freed_with(self, _kernels.pybridge_network_free, handle)
        self._file = decode(raw)
        self._raw = bytes(raw)
        status, self.n_inputs, self.n_outputs, self.n_parameters = _kernels.pybridge_network_sizes(
            handle
        )
        errors.check(status)

    # ---- ways in and out ----

    @classmethod
    def from_keras(cls, model: Any) -> Self:
        """Make a network from a Keras model.

        Parameters
        ----------
        model : keras.Model
            Sequential or functional, in double or single precision. Its results are computed in
            double precision here.

        Raises
        ------
        UnsupportedLayerError
            The core lacks a layer, an activation or an option; the message names it.
        ShapeError
            A shape is not fixed.
        """
        from pybridge.keras import _convert

        return cls(encode(_convert.describe(model)))

    def to_keras(self, model: Any = None) -> Any:
        """Return the network as a Keras model, with the present parameters.

        Parameters
        ----------
        model : keras.Model, optional
            A model of the same layers, whose weights are replaced. Without it, the model that the
            network was made from is built anew.

        Raises
        ------
        ShapeError
            The model's weights have other shapes.
        FileFormatError
            The network does not know its Keras model.
        """
        from pybridge.keras import _convert

        if model is None:
            model = _convert.build_keras(self._file)
        _convert.set_parameters(model, self._file, self.parameters)
        return model

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Make a network from the bytes of a network file, as a broadcast may bring them."""
        return cls(raw)

    def to_bytes(self) -> bytes:
        """Return the bytes of a network file."""
        return self._raw

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a network file.

        Raises
        ------
        FileAccessError
            The file cannot be read.
        FileFormatError, ChecksumError
            The file is no network file, is of another version, or is damaged.
        """
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise errors.FileAccessError(f"cannot read {os.fspath(path)!r}: {error}") from error
        try:
            return cls(raw)
        except errors.PybridgeError as error:
            raise type(error)(f"{os.fspath(path)}: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a network file; one that is there is replaced when the new one is complete.

        Raises
        ------
        FileAccessError
            The file cannot be written.
        """
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(self._raw)
        except OSError as error:
            raise errors.FileAccessError(f"cannot write {os.fspath(path)!r}: {error}") from error

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs to make this network again, as JSON types."""
        return {"bytes": base64.b64encode(self._raw).decode()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a network from what `get_config` returned."""
        return cls(base64.b64decode(config["bytes"]))

    def __reduce__(self) -> tuple[Callable[[bytes], Network], tuple[bytes]]:
        return type(self), (self._raw,)

    @property
    def handle(self) -> int:
        """The core's address of this network, valid while the network lives."""
        return self._handle

    # ---- parameters ----

    @property
    def parameters(self) -> Array:
        """The parameter vector, shape (n_parameters,): a copy. Assigning replaces it."""
        p = np.empty(self.n_parameters)
        errors.check(_kernels.pybridge_network_parameters(self._handle, p))
        return p

    @parameters.setter
    def parameters(self, value: ArrayLike) -> None:
        p = validate.vector("parameters", value, self.n_parameters)
        self._file = _with_parameters(self._file, p)
        self._raw = encode(self._file)
        errors.check(_kernels.pybridge_network_set_parameters(self._handle, p))

    def with_parameters(self, value: ArrayLike) -> Self:
        """Return the same network with other parameters.

        Parameters
        ----------
        value : array_like, shape (n_parameters,)
        """
        p = validate.vector("parameters", value, self.n_parameters)
        return type(self)(encode(_with_parameters(self._file, p)))

    @property
    def parameter_map(self) -> list[ParameterEntry]:
        """Where each weight array lies in the parameter vector, in C order of Keras's shape."""
        entries, start = [], 0
        for layer in self._file.layers:
            for weight in layer.weights:
                stop = start + weight.values.size
                entries.append(
                    ParameterEntry(layer.name, weight.name, weight.values.shape, start, stop)
                )
                start = stop
        return entries

    # ---- the verbs ----

    def forward(self, x: ArrayLike, *, parameters: ArrayLike | None = None) -> Array:
        """Return the network's output.

        Parameters
        ----------
        x : array_like, shape (…, n_inputs)
            Samples.
        parameters : array_like, shape (n_parameters,), optional
            Parameters in place of the network's own.

        Returns
        -------
        numpy.ndarray, shape (…, n_outputs)
        """
        samples = validate.states("x", x, self.n_inputs)
        return self._run(samples, self._chosen(parameters))

    __call__ = forward

    def forward_tl(
        self,
        x: ArrayLike,
        dx: ArrayLike,
        dp: ArrayLike | None = None,
        *,
        parameters: ArrayLike | None = None,
    ) -> Array:
        """Return the tangent linear ``(df/dx) dx + (df/dp) dp`` at x.

        Parameters
        ----------
        x : array_like, shape (…, n_inputs)
            Samples about which to linearise.
        dx : array_like, shape (…, n_inputs)
            Their perturbations.
        dp : array_like, shape (n_parameters,), optional
            Perturbation of the parameters; none by default.
        parameters : array_like, shape (n_parameters,), optional
            Parameters in place of the network's own.

        Returns
        -------
        numpy.ndarray, shape (…, n_outputs)
        """
        samples = validate.states("x", x, self.n_inputs)
        perturbations = validate.like("dx", dx, samples.shape, "x")
        dp = _NONE if dp is None else validate.vector("dp", dp, self.n_parameters)
        dy = np.empty((*samples.shape[:-1], self.n_outputs))
        self._run(samples, self._chosen(parameters), dx=perturbations, dp=dp, dy=dy)
        return dy

    def forward_ad(
        self, x: ArrayLike, y_ad: ArrayLike, *, parameters: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        """Return the adjoints ``(df/dx)^T y_ad`` and ``(df/dp)^T y_ad`` at x.

        Parameters
        ----------
        x : array_like, shape (…, n_inputs)
            Samples about which to linearise.
        y_ad : array_like, shape (…, n_outputs)
            Adjoint of the output.
        parameters : array_like, shape (n_parameters,), optional
            Parameters in place of the network's own.

        Returns
        -------
        x_ad : numpy.ndarray, shape (…, n_inputs)
        p_ad : numpy.ndarray, shape (n_parameters,)
            Summed over the samples.
        """
        samples = validate.states("x", x, self.n_inputs)
        shape = (*samples.shape[:-1], self.n_outputs)
        y_ad = validate.like("y_ad", y_ad, shape, "the output")
        x_ad, p_ad = np.zeros_like(samples), np.zeros(self.n_parameters)
        self._run(samples, self._chosen(parameters), y_ad=y_ad, x_ad=x_ad, p_ad=p_ad)
        return x_ad, p_ad

    def linearise(self, x: ArrayLike, *, parameters: ArrayLike | None = None) -> Linearisation:
        """Run the network and keep what its derivatives at x need.

        Parameters
        ----------
        x : array_like, shape (…, n_inputs)
            Samples.
        parameters : array_like, shape (n_parameters,), optional
            Parameters in place of the network's own.
        """
        return Linearisation(self, validate.states("x", x, self.n_inputs), self._chosen(parameters))

    def self_test(self) -> None:
        """Replay the reference results that came from Keras.

        Raises
        ------
        SelfTestError
            A result differs.
        """
        message = np.zeros(200, np.int8)
        status = _kernels.pybridge_network_self_test(self._handle, message)
        errors.check(status, errors.text_of(message))

    def _chosen(self, parameters: ArrayLike | None) -> Array:
        if parameters is None:
            return _NONE
        return validate.vector("parameters", parameters, self.n_parameters)

    def _buffers(self, nb: int) -> tuple[Array, Array]:
        sizes = (
            _kernels.pybridge_network_linearisation_size(self._handle, nb),
            _kernels.pybridge_network_work_size(self._handle, nb),
        )
        if min(sizes) < 1:
            raise errors.InvalidArgumentError(f"x: {nb} samples at a time are too many")
        return np.empty(sizes[0]), np.empty(sizes[1])

    def _run(
        self,
        x: Array,
        p: Array,
        *,
        dx: Array = _NONE,
        dp: Array = _NONE,
        dy: Array = _NONE,
        y_ad: Array = _NONE,
        x_ad: Array = _NONE,
        p_ad: Array = _NONE,
    ) -> Array:
        """Run forward and, where their results are given, tangent linear and adjoint."""
        n_x, n_y = self.n_inputs, self.n_outputs
        n = x.size // n_x
        y = np.empty((*x.shape[:-1], n_y))
        if n == 0:
            return y
        chunk = min(n, _CHUNK)
        linearisation, work = self._buffers(chunk)
        flat = [a.reshape(-1) for a in (x, y, dx, dy, y_ad, x_ad)]
        for start in range(0, n, chunk):
            nb = min(chunk, n - start)
            xs = slice(start * n_x, (start + nb) * n_x)
            ys = slice(start * n_y, (start + nb) * n_y)
            errors.check(
                _kernels.pybridge_network_forward(
                    self._handle, nb, p, flat[0][xs], flat[1][ys], linearisation, work
                )
            )
            if dy.size:
                errors.check(
                    _kernels.pybridge_network_forward_tl(
                        *(self._handle, nb, p, linearisation),
                        *(flat[2][xs], dp, flat[3][ys], work),
                    )
                )
            if x_ad.size:
                errors.check(
                    _kernels.pybridge_network_forward_ad(
                        *(self._handle, nb, p, linearisation),
                        *(flat[4][ys], flat[5][xs], p_ad, work),
                    )
                )
        return y

    # ---- words ----

    def verify(self, model: Any, *, samples: int = 8, seed: int = 0) -> NetworkReport:
        """Compare the network with a Keras model on TensorFlow, and its derivatives with it.

        Random inputs go through both. The network's output, tangent linear and adjoint must equal
        TensorFlow's output, JVP and VJP, and each other.

        Parameters
        ----------
        model : keras.Model
            The model, with the same weights.
        samples : int
            Number of random inputs.
        seed : int
            Their seed.
        """
        from pybridge.keras import _convert

        samples = validate.integer("samples", samples, 1)
        rng = np.random.default_rng(seed)
        precision = _convert.precision_of(model)
        number = np.float32 if precision == 4 else np.float64
        x, dx = rng.standard_normal((2, samples, self.n_inputs)).astype(number).astype(np.float64)
        y_ad = rng.standard_normal((samples, self.n_outputs)).astype(number).astype(np.float64)
        dp = rng.standard_normal(self.n_parameters).astype(number).astype(np.float64)
        expected = _convert.flat_results(model, precision, x, dx, dp, y_ad)
        if expected[0].shape[1] != self.n_outputs or expected[3].size != self.n_parameters:
            raise errors.ShapeError("model: its outputs or weights differ in number")
        y, dy = self.forward(x), self.forward_tl(x, dx, dp)
        x_ad, p_ad = self.forward_ad(x, y_ad)
        differences = [
            _difference(a, b) for a, b in zip((y, dy, x_ad, p_ad), expected, strict=True)
        ]
        left = float(np.sum(dy * y_ad))
        right = float(np.sum(dx * x_ad) + np.sum(dp * p_ad))
        size = float(np.sum(np.abs(dy * y_ad)))
        return NetworkReport(
            name=str(self._file.metadata.get("name", "network")),
            dtype=np.dtype(number).name,
            samples=samples,
            forward=differences[0],
            tangent_linear=differences[1],
            adjoint=differences[2],
            adjoint_of_parameters=differences[3],
            dot_product=abs(left - right) / size if size else 0.0,
            taylor=_taylor(self, x, dx, dp),
        )

    def summary(self) -> str:
        """Return a table of the network's layers, to be printed."""
        rows = [("tensor", "layer", "class", "shape", "parameters", "from")]
        counted: set[int] = set()
        for number, node in enumerate(self._file.nodes):
            shapes = " ".join(str(shape) for shape in node.shapes)
            if node.layer is None:
                rows.append((str(number), node.name, "input", shapes, "", ""))
                continue
            layer = self._file.layers[node.layer]
            size = sum(weight.values.size for weight in layer.weights)
            shown = "shared" if node.layer in counted and size else str(size or "")
            counted.add(node.layer)
            sources = " ".join(str(source) for source, _ in node.sources)
            rows.append((str(number), layer.name, layer.class_name, shapes, shown, sources))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        dtype = {4: "float32", 8: "float64"}[self._file.precision]
        return "\n".join([repr(self), f"weights stored as {dtype}", "", *lines])

    def __repr__(self) -> str:
        name = self._file.metadata.get("name", "network")
        return (
            f"<Network {name!r}: {self.n_inputs} inputs, {self.n_outputs} outputs, "
            f"{self.n_parameters} parameters>"
        )


class Linearisation:
    """A network run at given samples, with what its derivatives there need.

    Attributes
    ----------
    y : numpy.ndarray, shape (…, n_outputs)
        The output.
    """

    def __init__(self, network: Network, x: Array, p: Array) -> None:
        self.network = network
        self._shape = x.shape[:-1]
        self._nb = validate.integer("number of samples in x", math.prod(self._shape), 1)
        self._p = p if p.size or not network.n_parameters else network.parameters
        self._record, work = network._buffers(self._nb)
        self.y = np.empty((*self._shape, network.n_outputs))
        errors.check(
            _kernels.pybridge_network_forward(
                *(network.handle, self._nb, self._p),
                *(x.reshape(-1), self.y.reshape(-1), self._record, work),
            )
        )

    def tl(self, dx: ArrayLike, dp: ArrayLike | None = None) -> Array:
        """Return the tangent linear; arguments and result as of `Network.forward_tl`."""
        network = self.network
        values = validate.like("dx", dx, (*self._shape, network.n_inputs), "x")
        dp = _NONE if dp is None else validate.vector("dp", dp, network.n_parameters)
        dy = np.empty((*self._shape, network.n_outputs))
        work = np.empty(_kernels.pybridge_network_work_size(network.handle, self._nb))
        errors.check(
            _kernels.pybridge_network_forward_tl(
                *(network.handle, self._nb, self._p, self._record),
                *(values.reshape(-1), dp, dy.reshape(-1), work),
            )
        )
        return dy

    def ad(self, y_ad: ArrayLike) -> tuple[Array, Array]:
        """Return the adjoints; argument and results as of `Network.forward_ad`."""
        network = self.network
        values = validate.like("y_ad", y_ad, self.y.shape, "the output")
        x_ad, p_ad = np.zeros((*self._shape, network.n_inputs)), np.zeros(network.n_parameters)
        work = np.empty(_kernels.pybridge_network_work_size(network.handle, self._nb))
        errors.check(
            _kernels.pybridge_network_forward_ad(
                *(network.handle, self._nb, self._p, self._record),
                *(values.reshape(-1), x_ad.reshape(-1), p_ad, work),
            )
        )
        return x_ad, p_ad


@dataclass(frozen=True)
class NetworkReport:
    """How a network compares with its Keras model; errors are relative to the largest value."""

    name: str
    dtype: str
    samples: int
    forward: float
    tangent_linear: float
    adjoint: float
    adjoint_of_parameters: float
    dot_product: float
    #: Step sizes, and what the tangent linear misses, relative to the step
    taylor: tuple[tuple[float, float], ...]

    @property
    def tolerance(self) -> float:
        """What the comparison with TensorFlow is allowed: TensorFlow's own rounding."""
        return 1e-12 if self.dtype == "float64" else 1e-4

    @property
    def passed(self) -> bool:
        """Whether all comparisons hold."""
        compared = (
            self.forward,
            self.tangent_linear,
            self.adjoint,
            self.adjoint_of_parameters,
        )
        return (
            all(error <= self.tolerance for error in compared)
            and self.dot_product <= 1e-13
            and min(remainder for _, remainder in self.taylor) <= 1e-6
        )

    def __str__(self) -> str:
        def line(text: str, error: float, limit: float) -> str:
            return f"  {text:<34}{error:9.1e}   {'ok' if error <= limit else 'WRONG'}"

        return "\n".join(
            [
                f"network {self.name!r} against Keras in {self.dtype}, {self.samples} samples",
                line("output", self.forward, self.tolerance),
                line("tangent linear (JVP)", self.tangent_linear, self.tolerance),
                line("adjoint of the input (VJP)", self.adjoint, self.tolerance),
                line("adjoint of the parameters (VJP)", self.adjoint_of_parameters, self.tolerance),
                line("tangent linear against adjoint", self.dot_product, 1e-13),
                line("smallest Taylor remainder", min(r for _, r in self.taylor), 1e-6),
                *(f"    step {step:7.0e}  remainder {r:9.2e}" for step, r in self.taylor),
                "passed" if self.passed else "FAILED",
            ]
        )


def _difference(a: Array, b: Array) -> float:
    """Return the largest difference, relative to the largest value; infinite where one is NaN."""
    if not a.size:
        return 0.0
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.inf
    scale = max(float(np.abs(a).max()), float(np.abs(b).max()))
    return float(np.abs(a - b).max()) / scale if scale else 0.0


def _taylor(network: Network, x: Array, dx: Array, dp: Array) -> tuple[tuple[float, float], ...]:
    p = network.parameters
    y, dy = network.forward(x), network.forward_tl(x, dx, dp)
    size = float(np.linalg.norm(dy))
    result = []
    for exponent in range(1, 9):
        h = 10.0**-exponent
        remainder = network.forward(x + h * dx, parameters=p + h * dp) - y - h * dy
        result.append((h, float(np.linalg.norm(remainder)) / (h * size) if size else 0.0))
    return tuple(result)


def _with_parameters(file: NetworkFile, p: Array) -> NetworkFile:
    """Return the description of a network with other weights.

    Single precision becomes double where it does not hold the new weights exactly. The reference
    results belong to the old weights, and are dropped.
    """
    if np.array_equal(p, file.parameters()):
        return file
    exact = file.precision == 4 and bool((p.astype(np.float32).astype(np.float64) == p).all())
    number = np.float32 if exact else np.float64
    layers, start = [], 0
    for layer in file.layers:
        weights = []
        for weight in layer.weights:
            stop = start + weight.values.size
            values = p[start:stop].astype(number).reshape(weight.values.shape)
            weights.append(Weight(weight.name, values))
            start = stop
        layers.append(replace(layer, weights=weights))
    return replace(file, precision=4 if exact else 8, layers=layers, references=[])
