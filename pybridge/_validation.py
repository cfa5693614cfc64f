# SPDX-License-Identifier: MIT
"""Checks of arguments, with messages that name the argument, what was got, and what is needed."""

import math
import numbers
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pybridge.errors import InvalidArgumentError, ShapeError

Array = NDArray[np.float64]


def real_array(name: str, value: ArrayLike, *, finite: bool = True) -> Array:
    """Return a new C-ordered double-precision copy of real, finite numbers."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"{name}: expected an array of numbers, got {error}") from None
    if array.dtype.kind not in "fiub":
        raise InvalidArgumentError(
            f"{name}: expected an array of real numbers, got dtype {array.dtype}"
        )
    if np.ma.is_masked(value):
        raise InvalidArgumentError(f"{name}: expected numbers everywhere, got masked ones")
    result = np.array(array, dtype=np.float64, order="C")
    if finite and not np.isfinite(result).all():
        bad = np.argwhere(~np.isfinite(result))[0].tolist()
        raise InvalidArgumentError(
            f"{name}: expected finite numbers, got {result[tuple(bad)]} at index {tuple(bad)}"
        )
    return result


def states(name: str, value: ArrayLike, n: int, *, finite: bool = True) -> Array:
    """Return a copy of an array of shape (…, n)."""
    array = real_array(name, value, finite=finite)
    if array.ndim == 0 or array.shape[-1] != n:
        raise ShapeError(f"{name}: expected shape (…, {n}), got {array.shape}")
    return array


def like(name: str, value: ArrayLike, shape: tuple[int, ...], reference: str) -> Array:
    """Return a copy of an array that must have the shape of another argument."""
    array = real_array(name, value)
    if array.shape != shape:
        raise ShapeError(f"{name}: expected the shape of {reference}, {shape}, got {array.shape}")
    return array


def vector(name: str, value: ArrayLike, n: int | None = None) -> Array:
    """Return a copy of an array of shape (n,); any length where n is None."""
    array = real_array(name, value)
    if array.ndim != 1 or (n is not None and array.size != n):
        wanted = "(n,)" if n is None else f"({n},)"
        raise ShapeError(f"{name}: expected shape {wanted}, got {array.shape}")
    return array


def integer(name: str, value: Any, minimum: int | None = None, maximum: int = 2**31 - 1) -> int:
    """Return an integer between two bounds."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InvalidArgumentError(f"{name}: expected an integer, got {value!r}")
    number = int(value)
    if minimum is not None and number < minimum:
        raise InvalidArgumentError(f"{name}: expected at least {minimum}, got {number}")
    if number > maximum:
        raise InvalidArgumentError(f"{name}: expected at most {maximum}, got {number}")
    return number


def real(name: str, value: Any, *, positive: bool = False) -> float:
    """Return a finite real number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidArgumentError(f"{name}: expected a real number, got {value!r}")
    try:
        number = float(value)
    except OverflowError:
        raise InvalidArgumentError(f"{name}: expected a finite number, got a larger one") from None
    if not math.isfinite(number):
        raise InvalidArgumentError(f"{name}: expected a finite number, got {number}")
    if positive and number <= 0.0:
        raise InvalidArgumentError(f"{name}: expected a positive number, got {number}")
    return number
