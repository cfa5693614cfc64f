# SPDX-License-Identifier: MIT
"""Keras networks that correct a model on a ring of points, in double precision."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from pybridge import _validation as validate
from pybridge import errors
from pybridge.keras import PeriodicPadding1D

_DTYPE = "float64"


def stencil_network(
    n: int,
    *,
    stencil: int = 5,
    hidden: int = 16,
    centre: float = 0.0,
    scale: float = 1.0,
    activation: str = "tanh",
    seed: int | None = None,
) -> Any:
    """Return a network that is the same at every point of a ring, and sees its neighbours.

    Parameters
    ----------
    n : int
        Points on the ring: inputs and outputs.
    stencil : int
        Points that each output depends on; odd.
    hidden : int
        Hidden units at each point.
    centre, scale : float
        The input is (x - centre) / scale.
    activation : str
        Keras's name of the hidden activation.
    seed : int, optional
        Seed of the initial weights. The output layer starts at zero: no correction.

    Returns
    -------
    keras.Model
        From shape (batch, n) to (batch, n); ``stencil * hidden + 2 * hidden + 1`` weights.
    """
    n = validate.integer("n", n, 1)
    stencil = validate.integer("stencil", stencil, 1)
    if stencil % 2 == 0:
        raise errors.InvalidArgumentError(f"stencil: expected an odd number, got {stencil}")
    scale = validate.real("scale", scale, positive=True)
    layers = [
        keras.Input((n,), dtype=_DTYPE),
        keras.layers.Reshape((n, 1), dtype=_DTYPE),
        keras.layers.Rescaling(1.0 / scale, -centre / scale, dtype=_DTYPE),
        PeriodicPadding1D(stencil // 2, dtype=_DTYPE),
        keras.layers.Conv1D(
            hidden,
            stencil,
            activation=activation,
            kernel_initializer=keras.initializers.GlorotUniform(seed),
            dtype=_DTYPE,
            name="hidden",
        ),
        keras.layers.Conv1D(1, 1, kernel_initializer="zeros", dtype=_DTYPE, name="output"),
        keras.layers.Reshape((n,), dtype=_DTYPE),
    ]
    return keras.Sequential(layers, name="stencil")


def polynomial_network(n: int, coefficients: ArrayLike) -> Any:
    """Return a polynomial of each value as a network: a closure in the classical sense.

    Parameters
    ----------
    n : int
        Values of the state.
    coefficients : array_like, shape (degree + 1,)
        Coefficients of 1, x, x², …

    Returns
    -------
    keras.Model
        From shape (batch, n) to (batch, n); the coefficients are its weights.
    """
    n = validate.integer("n", n, 1)
    values = validate.vector("coefficients", coefficients)
    if values.size == 0:
        raise errors.ShapeError("coefficients: expected at least one number, got none")
    state = keras.Input((n,), dtype=_DTYPE)
    x = keras.layers.Reshape((n, 1), dtype=_DTYPE)(state)
    powers = [x]
    for _ in range(values.size - 2):
        powers.append(keras.layers.Multiply(dtype=_DTYPE)([powers[-1], x]))
    features = keras.layers.Concatenate(dtype=_DTYPE)(powers) if len(powers) > 1 else x
    polynomial = keras.layers.Conv1D(1, 1, dtype=_DTYPE, name="polynomial")
    result = keras.layers.Reshape((n,), dtype=_DTYPE)(polynomial(features))
    slopes = np.zeros(max(values.size - 1, 1))
    slopes[: values.size - 1] = values[1:]
    polynomial.set_weights([slopes.reshape(1, -1, 1), values[:1]])
    return keras.Model(state, result, name="polynomial")
