# SPDX-License-Identifier: MIT
"""Background error covariances B as control-variable transforms: B = U Uᵀ, dx = U v."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pybridge import _kernels, errors
from pybridge import _validation as validate
from pybridge._handles import freed_with
from pybridge._validation import Array


class Covariance:
    """A background error covariance of the Fortran core, known by its transform U and Uᵀ.

    Covariances are immutable and may be shared among threads and 4D-Vars.

    Attributes
    ----------
    n : int
        Size of the state.
    n_control : int
        Size of the control variable v.
    """

    def __init__(self, handle: int, arguments: tuple[Any, ...]) -> None:
        self._handle = handle
        self._arguments = arguments
        self._finalizer = freed_with(self, _kernels.pybridge_covariance_free, handle)
        status, self.n, self.n_control = _kernels.pybridge_covariance_sizes(handle)
        errors.check(status)

    @property
    def handle(self) -> int:
        """The core's address of this covariance, valid while it lives."""
        return self._handle

    def __reduce__(self) -> tuple[Callable[..., Covariance], tuple[Any, ...]]:
        return type(self), self._arguments

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, n={self.n}>"

    def forward(self, v: ArrayLike) -> Array:
        """Return U v.

        Parameters
        ----------
        v : array_like, shape (…, n_control)
            Control variables.

        Returns
        -------
        numpy.ndarray, shape (…, n)
            Perturbations of the state, in its units.
        """
        control = validate.states("v", v, self.n_control)
        dx = np.empty((*control.shape[:-1], self.n))
        errors.check(
            _kernels.pybridge_covariance_forward(
                self._handle, dx.size // self.n, control.reshape(-1), dx.reshape(-1)
            )
        )
        return dx

    def forward_tl(self, dv: ArrayLike) -> Array:
        """Return U dv: the transform is linear, and its own tangent linear."""
        return self.forward(dv)

    def forward_ad(self, dx_ad: ArrayLike) -> Array:
        """Return Uᵀ dx_ad.

        Parameters
        ----------
        dx_ad : array_like, shape (…, n)
            Adjoint variables of the perturbations.

        Returns
        -------
        numpy.ndarray, shape (…, n_control)
            Adjoint variables of the control variables.
        """
        adjoint = validate.states("dx_ad", dx_ad, self.n)
        v_ad = np.zeros((*adjoint.shape[:-1], self.n_control))
        errors.check(
            _kernels.pybridge_covariance_forward_ad(
                self._handle, adjoint.size // self.n, adjoint.reshape(-1), v_ad.reshape(-1)
            )
        )
        return v_ad

    def apply(self, x: ArrayLike) -> Array:
        """Return B x, of the shape of `x`, (…, n)."""
        return self.forward(self.forward_ad(x))


class DiagonalCovariance(Covariance):
    """Uncorrelated background errors.

    Parameters
    ----------
    sigma : float or array_like, shape (n,)
        Standard deviations, in the state's units.
    n : int, optional
        Size of the state; needed where `sigma` is a number.

    Raises
    ------
    NotPositiveDefiniteError
        A standard deviation is not positive.
    InvalidArgumentError, ShapeError
        An argument has a wrong type, value or shape.
    """

    def __init__(self, sigma: ArrayLike, n: int | None = None) -> None:
        values = validate.real_array("sigma", sigma)
        if values.ndim == 0:
            if n is None:
                raise errors.InvalidArgumentError("n: needed where sigma is a single number")
            values = np.full(validate.integer("n", n, 1), float(values))
        elif n is not None:
            values = validate.vector("sigma", values, validate.integer("n", n, 1))
        values = validate.vector("sigma", values)
        if values.size == 0:
            raise errors.ShapeError("sigma: expected at least one number, got none")
        if (values <= 0.0).any():
            bad = int(np.argmax(values <= 0.0))
            raise errors.NotPositiveDefiniteError(
                f"sigma: expected positive numbers, got {values[bad]} at index {bad}"
            )
        status, handle = _kernels.pybridge_covariance_diagonal(values)
        errors.check(status)
        values.flags.writeable = False
        self.sigma = values
        super().__init__(handle, (values,))


class FullCovariance(Covariance):
    """A covariance matrix held whole; U is its Cholesky factor.

    Parameters
    ----------
    matrix : array_like, shape (n, n)
        Symmetric positive definite matrix, in the state's units squared.

    Raises
    ------
    NotPositiveDefiniteError
        The matrix is not positive definite beyond rounding error.
    InvalidArgumentError, ShapeError
        The matrix is not square, not symmetric, or holds values that are not finite.
    """

    def __init__(self, matrix: ArrayLike) -> None:
        values = validate.real_array("matrix", matrix)
        if values.ndim != 2 or values.shape[0] != values.shape[1] or values.size == 0:
            raise errors.ShapeError(f"matrix: expected shape (n, n), got {values.shape}")
        asymmetry = np.abs(values - values.T).max()
        if asymmetry > 1e-10 * np.abs(values.diagonal()).max():
            raise errors.InvalidArgumentError(
                f"matrix: expected a symmetric matrix, got differences up to {asymmetry:.3g} "
                "from its transpose"
            )
        status, handle = _kernels.pybridge_covariance_full(values.shape[0], values.reshape(-1))
        errors.check(
            status,
            "matrix: expected a positive definite matrix, got one whose smallest eigenvalue is "
            f"{np.linalg.eigvalsh(values)[0]:.3g}"
            if status == errors.NOT_POSITIVE_DEFINITE
            else "",
        )
        values.flags.writeable = False
        self.matrix = values
        super().__init__(handle, (values,))
