# SPDX-License-Identifier: MIT
"""Keras layers that Keras lacks and the core has."""

from __future__ import annotations

from typing import Any

import keras

from pybridge.errors import InvalidArgumentError, ShapeError

__all__ = ["PeriodicPadding1D"]


@keras.saving.register_keras_serializable(package="pybridge")
class PeriodicPadding1D(keras.layers.Layer):  # type: ignore[misc]
    """Continue a ring of points beyond its ends, by the values from the other end.

    Parameters
    ----------
    padding : int or (int, int)
        Points to add on both sides, or on the left and on the right. More than the ring has is
        allowed: it goes round again.
    **kwargs
        Of `keras.layers.Layer`, as ``name`` and ``dtype``.

    Notes
    -----
    Input of shape (batch, n, channels), output of shape (batch, left + n + right, channels).
    """

    def __init__(self, padding: int | tuple[int, int] = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        pair = (padding, padding) if isinstance(padding, int) else tuple(padding)
        if len(pair) != 2 or not all(isinstance(n, int) and n >= 0 for n in pair):
            raise InvalidArgumentError(
                f"padding: expected a number of points that is not negative, or two, "
                f"got {padding!r}"
            )
        self.padding = pair
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def call(self, inputs: Any) -> Any:
        """Return the padded input."""
        n = inputs.shape[1]
        if n is None:
            raise ShapeError("PeriodicPadding1D: the number of points must be known, got None")
        left, right = self.padding
        points = [point % n for point in range(-left, n + right)]
        if max(left, right) <= n:
            parts = [inputs[:, n - left :]] if left else []
            parts.append(inputs)
            parts += [inputs[:, :right]] if right else []
            return keras.ops.concatenate(parts, axis=1) if len(parts) > 1 else inputs
        return keras.ops.take(inputs, points, axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[Any, ...]:
        """Return the shape of the output."""
        batch, n, channels = input_shape
        return batch, None if n is None else n + sum(self.padding), channels

    def get_config(self) -> dict[str, Any]:
        """Return what makes this layer again."""
        return {**super().get_config(), "padding": list(self.padding)}
