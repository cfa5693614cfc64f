# SPDX-License-Identifier: MIT
"""Observations of single values of the state, anywhere in a window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pybridge import _kernels, errors
from pybridge import _validation as validate
from pybridge._handles import freed_with
from pybridge._validation import Array


class _Layout:
    """When, what and how well is observed. Immutable, and shared by windows observed alike."""

    def __init__(self, steps: list[int], indices: list[NDArray[np.int32]], sigmas: list[Array]):
        self.steps = steps
        self.indices = indices
        self.sigmas = sigmas
        self.counts = [sigma.size for sigma in sigmas]
        self.size = sum(self.counts)
        self.last_step = max(steps, default=0)
        self._key = (
            tuple(steps),
            tuple(group.tobytes() for group in indices),
            tuple(group.tobytes() for group in sigmas),
        )
        self._handles: dict[int, int] = {}

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, _Layout) and self._key == other._key)

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> tuple[Callable[..., _Layout], tuple[Any, ...]]:
        return _Layout, (self.steps, self.indices, self.sigmas)

    def handle(self, n: int) -> int:
        """Return the core's address of this layout for a state of n values."""
        if n not in self._handles:
            for step, group in zip(self.steps, self.indices, strict=True):
                if group.size and group.max() >= n:
                    raise errors.ObservationError(
                        f"indices: expected values below {n}, the size of the state, got "
                        f"{group.max()} at step {step}"
                    )
            status, handle = _kernels.pybridge_observations_new(n)
            errors.check(status)
            freed_with(self, _kernels.pybridge_observations_free, handle)
            for step, group, sigma in zip(self.steps, self.indices, self.sigmas, strict=True):
                errors.check(
                    _kernels.pybridge_observations_add_selection(handle, step, group, sigma)
                )
            self._handles[n] = handle
        return self._handles[n]


class Observations:
    """Observations of values of the state, in groups of one time each.

    Parameters
    ----------
    steps : sequence of int, shape (n_groups,)
        Step within the window after which each group is observed; 0 is the window's start.
    indices : None, array_like of int, shape (n_observations,), or sequence of these
        Which values of the state are observed, counted from zero, by all groups alike or by each.
        None: all of them.
    values : array_like, shape (n_groups, n_observations), or sequence of arrays
        What was observed, in the state's units.
    sigma : float, array_like, shape (n_observations,) or that of `values`, or sequence of arrays
        Standard deviations of the errors, which are taken to be uncorrelated.

    Raises
    ------
    ObservationError
        A value is not finite, a standard deviation not positive, a step or an index negative. (That
        they lie within window and state is checked where they are used.)
    InvalidArgumentError, ShapeError
        An argument has a wrong type or shape.

    Examples
    --------
    Every variable at steps 1 to 8, with errors of variance one:

    >>> Observations(range(1, 9), None, np.zeros((8, 40)), 1.0)
    <Observations: 320 values in 8 groups, steps 1 to 8>
    """

    def __init__(
        self,
        steps: Iterable[int],
        indices: ArrayLike | Sequence[ArrayLike] | None,
        values: ArrayLike | Sequence[ArrayLike],
        sigma: ArrayLike | Sequence[ArrayLike],
    ) -> None:
        if not np.iterable(steps):
            raise errors.InvalidArgumentError(f"steps: expected a sequence, got {steps!r}")
        step_list = [validate.integer("steps", step) for step in steps]
        for step in step_list:
            if step < 0:
                raise errors.ObservationError(f"steps: expected 0 or more, got {step}")
        groups = _split(values, step_list)
        counts = [group.size for group in groups]
        layout = _Layout(
            step_list, _split_indices(indices, counts), _split_sigma(sigma, step_list, counts)
        )
        self._set(layout, groups)

    def _set(self, layout: _Layout, groups: list[Array]) -> None:
        self.layout = layout
        self.values = np.concatenate(groups) if groups else np.empty(0)
        if not np.isfinite(self.values).all():
            bad = int(np.argmin(np.isfinite(self.values)))
            group = int(np.searchsorted(np.cumsum(layout.counts), bad, side="right"))
            within = bad - sum(layout.counts[:group])
            raise errors.ObservationError(
                f"values: expected finite numbers, got {self.values[bad]} at index {within} of "
                f"group {group}, step {layout.steps[group]}"
            )
        self.values.flags.writeable = False

    def with_values(self, values: ArrayLike | Sequence[ArrayLike]) -> Observations:
        """Return observations made at the same times and places with the same errors.

        Cheaper than new ones, and a `FourDVar` that has seen the one need not be told again.
        """
        groups = _split(values, self.layout.steps)
        for step, group, count in zip(self.layout.steps, groups, self.layout.counts, strict=True):
            if group.size != count:
                raise errors.ShapeError(
                    f"values: expected {count} values at step {step}, got {group.size}"
                )
        result = object.__new__(Observations)
        result._set(self.layout, groups)
        return result

    @property
    def steps(self) -> list[int]:
        """Step within the window of each group."""
        return list(self.layout.steps)

    def __len__(self) -> int:
        return self.layout.size

    def __repr__(self) -> str:
        layout = self.layout
        if not layout.steps:
            return "<Observations: none>"
        return (
            f"<Observations: {layout.size} values in {len(layout.steps)} groups, steps "
            f"{min(layout.steps)} to {layout.last_step}>"
        )


def _split(values: Any, steps: list[int]) -> list[Array]:
    """Return one array of values for each group."""
    if hasattr(values, "__array__"):
        # Tables too: what they iterate over are not their rows
        array = validate.real_array("values", values, finite=False)
        if array.ndim != 2 or array.shape[0] != len(steps):
            raise errors.ShapeError(
                f"values: expected shape ({len(steps)}, n_observations), one row for each step, "
                f"got {array.shape}"
            )
        return list(array)
    if not np.iterable(values):
        raise errors.InvalidArgumentError(f"values: expected a sequence, got {values!r}")
    groups = [_flat("values", group, finite=False) for group in values]
    if len(groups) != len(steps):
        raise errors.ShapeError(f"values: expected {len(steps)} groups, got {len(groups)}")
    return groups


def _flat(name: str, value: ArrayLike, *, finite: bool = True) -> Array:
    array = validate.real_array(name, value, finite=finite)
    if array.ndim != 1:
        raise errors.ShapeError(
            f"{name}: expected groups of shape (n_observations,), got {array.shape}"
        )
    return array


def _split_indices(indices: Any, counts: list[int]) -> list[NDArray[np.int32]]:
    """Return the indices of each group."""
    if indices is None:
        return [np.arange(count, dtype=np.int32) for count in counts]
    if not np.iterable(indices):
        raise errors.InvalidArgumentError(f"indices: expected a sequence, got {indices!r}")
    if hasattr(indices, "__array__"):
        indices = np.asarray(indices)
    each = not isinstance(indices, np.ndarray) and any(np.ndim(group) for group in indices)
    groups = list(indices) if each or np.ndim(indices) == 2 else [indices] * len(counts)
    if len(groups) != len(counts):
        raise errors.ShapeError(f"indices: expected {len(counts)} groups, got {len(groups)}")
    result = []
    for group, count in zip(groups, counts, strict=True):
        array = np.asarray(group)
        if array.size == 0:
            array = array.astype(np.int32)
        if array.dtype.kind not in "iu":
            raise errors.InvalidArgumentError(
                f"indices: expected integers, got dtype {array.dtype}"
            )
        if array.shape != (count,):
            raise errors.ShapeError(
                f"indices: expected shape ({count},) as the values have, got {array.shape}"
            )
        if array.size and (array.min() < 0 or array.max() > 2**31 - 2):
            raise errors.ObservationError(
                f"indices: expected 0 or more, got {array.min()} to {array.max()}"
            )
        result.append(array.astype(np.int32))
    return result


def _split_sigma(sigma: Any, steps: list[int], counts: list[int]) -> list[Array]:
    """Return the standard deviations of each group."""
    if hasattr(sigma, "__array__"):
        # With its mask, which a plain array would drop
        sigma = np.asanyarray(sigma)
    each = not isinstance(sigma, np.ndarray) and np.iterable(sigma) and any(map(np.ndim, sigma))
    if each or np.ndim(sigma) == 2:
        groups = [validate.real_array("sigma", group, finite=False) for group in sigma]
        if len(groups) != len(steps):
            raise errors.ShapeError(f"sigma: expected {len(steps)} groups, got {len(groups)}")
    else:
        groups = [validate.real_array("sigma", sigma, finite=False)] * len(steps)
    result = []
    for group, step, count in zip(groups, steps, counts, strict=True):
        if group.shape not in ((), (count,)):
            raise errors.ShapeError(
                f"sigma: expected a number or shape ({count},) at step {step}, got {group.shape}"
            )
        full = np.broadcast_to(group, (count,)).copy()
        good = (full > 0.0) & np.isfinite(full)
        if not good.all():
            raise errors.ObservationError(
                f"sigma: expected positive finite numbers, got {full[np.argmin(good)]} at step "
                f"{step}"
            )
        result.append(full)
    return result
