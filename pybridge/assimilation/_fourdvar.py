# SPDX-License-Identifier: MIT
"""Incremental strong-constraint 4D-Var over any forecast model."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pybridge import _kernels, errors
from pybridge import _validation as validate
from pybridge._handles import freed_with
from pybridge._validation import Array
from pybridge.assimilation._covariance import Covariance
from pybridge.assimilation._observations import Observations
from pybridge.models import _AD, Model

_NONE = np.empty(0)


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """What 4D-Var made of one window.

    Attributes
    ----------
    background, analysis : numpy.ndarray, shape (n,)
        State at the window's start before and after.
    final : numpy.ndarray, shape (n,)
        Analysed trajectory's end: the next window's background.
    trajectory : numpy.ndarray, shape (steps + 1, n), or None
        Analysed states at the window's start and after each step, where asked for.
    parameters : numpy.ndarray, shape (n_parameters,)
        Analysed parameters; the background's where none are controlled.
    control : numpy.ndarray, shape (n_control,)
        Control vector: the state's block, then that of the parameters controlled.
    jb, jo : numpy.ndarray, shape (outer + 1,)
        Background and observation term of the cost function at the start and after each outer
        iteration made.
    step_lengths : numpy.ndarray, shape (outer,)
        Length of each step taken, in units of the inner minimisation's; less than one where the
        full step did not reduce the cost function, zero where none did.
    inner_iterations : numpy.ndarray of int, shape (outer,)
        Inner iterations of each outer one.
    gradient_norms, inner_costs : list of numpy.ndarray, shapes (inner + 1,)
        Norm of the gradient in control space, and the quadratic cost function, at the start and
        after each inner iteration, for each outer iteration.
    runs : tuple of int
        Runs of the window made: nonlinear, tangent linear, adjoint.
    converged : bool
        Whether the last step was within the outer tolerance.
    succeeded : bool
        False where an outer iteration found no smaller cost function: then this is the best that
        was found, and a `NotConvergedWarning` was given.
    """

    background: Array
    analysis: Array
    final: Array
    trajectory: Array | None
    parameters: Array
    control: Array
    jb: Array
    jo: Array
    step_lengths: Array
    inner_iterations: np.ndarray[Any, np.dtype[np.int32]]
    gradient_norms: list[Array]
    inner_costs: list[Array]
    runs: tuple[int, int, int]
    converged: bool
    succeeded: bool

    @property
    def increment(self) -> Array:
        """Analysis minus background, shape (n,)."""
        return self.analysis - self.background

    @property
    def cost(self) -> Array:
        """Cost function at the start and after each outer iteration, shape (outer + 1,)."""
        return self.jb + self.jo


@dataclass(frozen=True, slots=True, eq=False)
class GradientTest:
    """Outcome of `FourDVar.check`.

    Attributes
    ----------
    steps : numpy.ndarray
        Lengths of the perturbations.
    remainders : numpy.ndarray
        |(J(v + step dv) - J(v)) / (step ∇J·dv) - 1|; falls with the step, down to rounding error.
    asymmetry : float
        |a·Hb - b·Ha| / |a·Hb| of the Gauss-Newton Hessian H, made of tangent linear and adjoint.
    """

    steps: Array
    remainders: Array
    asymmetry: float


class FourDVar:
    """Incremental strong-constraint 4D-Var (Courtier, Thépaut and Hollingsworth 1994).

    Minimises J(v) = ½ |v|² + ½ |R^(-1/2) (y - G(v))|², where G runs the model from the background
    plus U v (with B = U Uᵀ) and observes it. Each outer iteration linearises G, minimises the
    quadratic function by conjugate gradients, and searches along the step found, so that J never
    increases.

    Parameters
    ----------
    model : Model
        Any model with tangent linear and adjoint.
    covariance : Covariance
        Background error covariance of the state.
    steps : int
        Time steps in a window.
    outer : int
        Most outer iterations.
    inner : int
        Most inner iterations of each.
    tolerance : float
        Inner iterations stop when the gradient norm is below this times that at their start.
    outer_tolerance : float
        Outer iterations stop when the step's norm is below this times the control vector's (or
        one, if larger). With 0 all are made.
    parameter_sigma : float or array_like, shape (n_parameters,), optional
        Background standard deviations of the model's parameters, which then are estimated with the
        state; zero keeps a parameter fixed. Not given, all are fixed.
    step_reductions : int
        Most reductions of a step that does not reduce J.
    reorthogonalise : bool
        Whether to reorthogonalise the residuals of the conjugate gradients.

    Attributes
    ----------
    n_control : int
        Size of the control vector.

    Raises
    ------
    InvalidArgumentError, ShapeError
        An argument has a wrong type, value or size.

    Notes
    -----
    One object serves one thread at a time (calls from others wait); make one for each.
    """

    def __init__(
        self,
        model: Model,
        covariance: Covariance,
        *,
        steps: int,
        outer: int = 3,
        inner: int = 50,
        tolerance: float = 1e-3,
        outer_tolerance: float = 0.0,
        parameter_sigma: ArrayLike | None = None,
        step_reductions: int = 10,
        reorthogonalise: bool = False,
    ) -> None:
        if not isinstance(model, Model):
            raise errors.InvalidArgumentError(f"model: expected a Model, got {model!r}")
        if not isinstance(covariance, Covariance):
            raise errors.InvalidArgumentError(
                f"covariance: expected a Covariance, got {covariance!r}"
            )
        if covariance.n != model.n:
            raise errors.ShapeError(
                f"covariance: expected one of size {model.n}, as the model's state, got "
                f"{covariance.n}"
            )
        self.model = model
        self.covariance = covariance
        self.steps = validate.integer("steps", steps, 0)
        self.outer = validate.integer("outer", outer, 1)
        self.inner = validate.integer("inner", inner, 1)
        self.tolerance = validate.real("tolerance", tolerance)
        if not 0.0 <= self.tolerance < 1.0:
            raise errors.InvalidArgumentError(
                f"tolerance: expected a number from 0 to 1, got {self.tolerance}"
            )
        self.outer_tolerance = validate.real("outer_tolerance", outer_tolerance)
        if self.outer_tolerance < 0.0:
            raise errors.InvalidArgumentError(
                f"outer_tolerance: expected 0 or more, got {self.outer_tolerance}"
            )
        self.step_reductions = validate.integer("step_reductions", step_reductions, 0)
        self.reorthogonalise = bool(reorthogonalise)
        self.parameter_sigma = self._check_parameter_sigma(parameter_sigma)
        self._layout = Observations([], None, [], 1.0).layout
        # A window that does not fit into memory is found here, by an exception
        model._workspace(_AD, self.steps, 1, 1)
        message = np.zeros(200, np.int8)
        status, self._handle = _kernels.pybridge_fourdvar_new(
            model.handle,
            covariance.handle,
            self._layout.handle(model.n),
            self.steps,
            self.outer,
            self.inner,
            self.step_reductions,
            int(self.reorthogonalise),
            self.tolerance,
            self.outer_tolerance,
            self.parameter_sigma,
            message,
        )
        errors.check(status, errors.text_of(message))
        freed_with(self, _kernels.pybridge_fourdvar_free, self._handle)
        status, self.n_control, _ = _kernels.pybridge_fourdvar_sizes(self._handle)
        errors.check(status)
        self._lock = threading.RLock()
        self._busy = False
        # The history's buffers, reused: (outer + 1), (outer), (outer, inner + 1)
        self._terms = np.empty((2, self.outer + 1))
        self._step_lengths = np.empty(self.outer)
        self._inner_iterations = np.empty(self.outer, np.int32)
        self._inner_history = np.empty((2, self.outer, self.inner + 1))

    def _check_parameter_sigma(self, value: ArrayLike | None) -> Array:
        if value is None:
            return _NONE
        sigma = validate.real_array("parameter_sigma", value)
        if sigma.ndim == 0:
            sigma = np.full(self.model.n_parameters, float(sigma))
        sigma = validate.vector("parameter_sigma", sigma, self.model.n_parameters)
        if (sigma < 0.0).any():
            raise errors.InvalidArgumentError(
                f"parameter_sigma: expected 0 or more, got {sigma.min()}"
            )
        return sigma

    def __reduce__(self) -> tuple[Callable[..., FourDVar], tuple[Any, ...]]:
        options = {
            "steps": self.steps,
            "outer": self.outer,
            "inner": self.inner,
            "tolerance": self.tolerance,
            "outer_tolerance": self.outer_tolerance,
            "parameter_sigma": self.parameter_sigma if self.parameter_sigma.size else None,
            "step_reductions": self.step_reductions,
            "reorthogonalise": self.reorthogonalise,
        }
        return _make, (self.model, self.covariance, options)

    def __repr__(self) -> str:
        return f"FourDVar({self.model!r}, {self.covariance!r}, steps={self.steps})"

    def analyse(
        self,
        background: ArrayLike,
        observations: Observations,
        *,
        start: int = 0,
        parameters: ArrayLike | None = None,
        control: ArrayLike | None = None,
        trajectory: bool = False,
    ) -> Analysis:
        """Analyse one window.

        Parameters
        ----------
        background : array_like, shape (n,)
            State at the window's start, before the observations are known.
        observations : Observations
            The window's observations.
        start : int
            Number of the window's first step, which begins at time ``start * dt``.
        parameters : array_like, shape (n_parameters,), optional
            Background parameters; the model's own if not given.
        control : array_like, shape (n_control,), optional
            Control vector to begin from; zero, the background, if not given.
        trajectory : bool
            Whether to return the analysed trajectory, which costs one more run.

        Returns
        -------
        Analysis

        Raises
        ------
        BlowUpError
            The model blew up from the first guess; the message names the step.
        ObservationError
            An observation lies outside the window or the state.
        InvalidArgumentError, ShapeError
            An argument has a wrong type, value or shape.

        Warns
        -----
        NotConvergedWarning
            An outer iteration found no smaller cost function; the best found is returned.
        """
        x_b = validate.vector("background", background, self.model.n)
        p_b = self._parameters(parameters)
        v = (
            np.zeros(self.n_control)
            if control is None
            else validate.vector("control", control, self.n_control)
        )
        start = self._start(start)
        n = self.model.n
        x_a, x_end, p_a = np.empty(n), np.empty(n), np.empty(self.model.n_parameters)
        states = np.empty((self.steps + 1, n)) if trajectory else None
        with self._alone():
            self._observe(observations)
            status, failed_step = _kernels.pybridge_fourdvar_analyse(
                self._handle,
                start,
                x_b,
                p_b,
                observations.values,
                v,
                x_a,
                p_a,
                x_end,
                _NONE if states is None else states.reshape(-1),
            )
            if status and status != errors.NOT_CONVERGED:
                raise self._error(status, failed_step, start, "the first guess")
            _, outer, converged, forward, tangent, adjoint = _kernels.pybridge_fourdvar_history(
                self._handle,
                self._terms[0],
                self._terms[1],
                self._step_lengths,
                self._inner_iterations,
                self._inner_history[0].reshape(-1),
                self._inner_history[1].reshape(-1),
            )
            inner = self._inner_iterations[:outer].copy()
            result = Analysis(
                background=x_b,
                analysis=x_a,
                final=x_end,
                trajectory=states,
                parameters=p_a,
                control=v,
                jb=self._terms[0, : outer + 1].copy(),
                jo=self._terms[1, : outer + 1].copy(),
                step_lengths=self._step_lengths[:outer].copy(),
                inner_iterations=inner,
                gradient_norms=[
                    self._inner_history[0, i, : count + 1].copy() for i, count in enumerate(inner)
                ],
                inner_costs=[
                    self._inner_history[1, i, : count + 1].copy() for i, count in enumerate(inner)
                ],
                runs=(forward, tangent, adjoint),
                converged=bool(converged),
                succeeded=status == 0,
            )
        if status:
            warnings.warn(
                f"{self!r}: outer iteration {outer} of the window at k = {start} found no smaller "
                "cost function; is the adjoint right?",
                errors.NotConvergedWarning,
                stacklevel=2,
            )
        return result

    def cost_and_gradient(
        self,
        control: ArrayLike,
        background: ArrayLike,
        observations: Observations,
        *,
        start: int = 0,
        parameters: ArrayLike | None = None,
    ) -> tuple[float, Array]:
        """Return the full nonlinear J and its gradient, by one forward and one adjoint run.

        Of this form SciPy's minimisers take them (``jac=True``).

        Parameters
        ----------
        control : array_like, shape (n_control,)
            Control vector.
        background, observations, start, parameters
            As in `analyse`.

        Returns
        -------
        cost : float
            J = Jb + Jo, where Jb = ½ |v|².
        gradient : numpy.ndarray, shape (n_control,)
            Its gradient with respect to the control vector.

        Raises
        ------
        BlowUpError
            The model blew up.
        """
        v = validate.vector("control", control, self.n_control)
        x_b = validate.vector("background", background, self.model.n)
        p_b = self._parameters(parameters)
        with self._alone():
            return self._cost_and_gradient(v, x_b, p_b, observations, self._start(start))

    def _cost_and_gradient(
        self, v: Array, x_b: Array, p_b: Array, observations: Observations, start: int
    ) -> tuple[float, Array]:
        gradient = np.empty(self.n_control)
        self._observe(observations)
        status, jb, jo, failed_step = _kernels.pybridge_fourdvar_cost_and_gradient(
            self._handle, start, x_b, p_b, observations.values, v, gradient
        )
        if status:
            raise self._error(status, failed_step, start, "the control vector")
        return jb + jo, gradient

    def observation_cost_and_gradient(
        self,
        x: ArrayLike,
        observations: Observations,
        *,
        start: int = 0,
        parameters: ArrayLike | None = None,
    ) -> tuple[float, Array, Array]:
        """Return Jo of a state and parameters, and its gradient with respect to both.

        This is the loss of a recurrent network whose cell is the model, and back-propagation
        through time. The background plays no part.

        Parameters
        ----------
        x : array_like, shape (n,)
            State at the window's start.
        observations, start, parameters
            As in `analyse`.

        Returns
        -------
        cost : float
            Jo = ½ |R^(-1/2) (y - G(x, p))|².
        x_ad : numpy.ndarray, shape (n,)
            Gradient with respect to the state.
        p_ad : numpy.ndarray, shape (n_parameters,)
            Gradient with respect to all of the model's parameters.
        """
        state = validate.vector("x", x, self.model.n)
        p = self._parameters(parameters)
        start = self._start(start)
        x_ad, p_ad = np.empty(self.model.n), np.empty(self.model.n_parameters)
        with self._alone():
            self._observe(observations)
            status, jo, failed_step = _kernels.pybridge_fourdvar_observation_cost_and_gradient(
                self._handle, start, state, p, observations.values, x_ad, p_ad
            )
        if status:
            raise self._error(status, failed_step, start, "x")
        return jo, x_ad, p_ad

    def hessian_product(
        self,
        directions: ArrayLike,
        control: ArrayLike,
        background: ArrayLike,
        observations: Observations,
        *,
        start: int = 0,
        parameters: ArrayLike | None = None,
    ) -> Array:
        """Return the Gauss-Newton Hessian I + Uᵀ G'ᵀ R⁻¹ G' U at a point, times directions.

        Parameters
        ----------
        directions : array_like, shape (…, n_control)
            What it is multiplied with.
        control : array_like, shape (n_control,)
            Point about which G is linearised.
        background, observations, start, parameters
            As in `analyse`.

        Returns
        -------
        numpy.ndarray, shape (…, n_control)
        """
        dv = validate.states("directions", directions, self.n_control)
        v = validate.vector("control", control, self.n_control)
        x_b = validate.vector("background", background, self.model.n)
        p_b = self._parameters(parameters)
        start = self._start(start)
        products = np.empty_like(dv)
        with self._alone():
            self._cost_and_gradient(v, x_b, p_b, observations, start)
            for direction, product in zip(
                dv.reshape(-1, self.n_control), products.reshape(-1, self.n_control), strict=True
            ):
                status = _kernels.pybridge_fourdvar_hessian(self._handle, start, direction, product)
                if status:
                    raise self._error(status, 0, start, "the control vector")
        return products

    def to_physical(
        self, control: ArrayLike, background: ArrayLike, parameters: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        """Return state, shape (n,), and parameters, shape (n_parameters,), of a control vector."""
        v = validate.vector("control", control, self.n_control)
        x_b = validate.vector("background", background, self.model.n)
        x, p = np.empty(self.model.n), np.empty(self.model.n_parameters)
        p_b = self._parameters(parameters)
        with self._alone():
            errors.check(_kernels.pybridge_fourdvar_to_physical(self._handle, x_b, p_b, v, x, p))
        return x, p

    def check(
        self,
        background: ArrayLike,
        observations: Observations,
        *,
        start: int = 0,
        parameters: ArrayLike | None = None,
        seed: int = 0,
    ) -> GradientTest:
        """Test gradient, tangent linear and adjoint at a random point near the background.

        Returns
        -------
        GradientTest

        Raises
        ------
        DerivativeError
            No step length gives a remainder below 1e-5, or the Hessian is asymmetric beyond 1e-9:
            the model's tangent linear or adjoint is wrong.
        """
        random = np.random.default_rng(seed)
        point = 0.1 * random.standard_normal(self.n_control)

        def evaluate(v: Array) -> tuple[float, Array]:
            return self.cost_and_gradient(
                v, background, observations, start=start, parameters=parameters
            )

        cost, gradient = evaluate(point)
        # A random direction alone may be nearly orthogonal to the gradient
        direction = random.standard_normal(self.n_control)
        direction /= np.linalg.norm(direction)
        direction += gradient / max(float(np.linalg.norm(gradient)), np.finfo(float).tiny)
        slope = float(gradient @ direction)
        lengths = 10.0 ** -np.arange(1.0, 9.0)
        remainders = np.array(
            [
                abs((evaluate(point + length * direction)[0] - cost) / (length * slope) - 1.0)
                for length in lengths
            ]
        )
        pair = random.standard_normal((2, self.n_control))
        products = self.hessian_product(
            pair, point, background, observations, start=start, parameters=parameters
        )
        left, right = float(pair[0] @ products[1]), float(pair[1] @ products[0])
        scale = float(np.linalg.norm(pair[0]) * np.linalg.norm(products[1]))
        result = GradientTest(lengths, remainders, abs(left - right) / scale)
        if not remainders.min() < 1e-5:
            raise errors.DerivativeError(
                f"{self.model!r}: the adjoint does not give the gradient of the cost function; "
                f"the best of the remainders for steps 1e-1 to 1e-8 is {remainders.min():.3g}"
            )
        if not result.asymmetry < 1e-9:
            raise errors.DerivativeError(
                f"{self.model!r}: the adjoint is not that of the tangent linear; the Hessian is "
                f"asymmetric by {result.asymmetry:.3g}"
            )
        return result

    def _parameters(self, value: ArrayLike | None) -> Array:
        """Return a parameter vector; one of no length where there is none, as the core wants it."""
        if value is None:
            return _NONE
        return validate.vector("parameters", value, self.model.n_parameters)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other threads out; refuse a callable of this run, which would wait for ever."""
        with self._lock:
            if self._busy:
                raise errors.InvalidArgumentError(
                    f"{self!r}: called from within its own run; make another for that"
                )
            self._busy = True
            try:
                yield
            finally:
                self._busy = False

    def _start(self, start: int) -> int:
        # What a callback raised in an earlier run is not of this one
        self.model._pending_exception()
        return validate.integer("start", start, -(2**31), 2**31 - 1 - self.steps)

    def _observe(self, observations: Observations) -> None:
        """Tell the core the observations' layout, unless it has it."""
        if not isinstance(observations, Observations):
            raise errors.InvalidArgumentError(
                f"observations: expected Observations, got {observations!r}"
            )
        layout = observations.layout
        if layout is self._layout:
            return
        if layout.last_step > self.steps:
            raise errors.ObservationError(
                f"observations: expected steps 0 to {self.steps}, the window, got "
                f"{layout.last_step}"
            )
        if layout != self._layout:
            message = np.zeros(200, np.int8)
            status = _kernels.pybridge_fourdvar_set_observations(
                self._handle, layout.handle(self.model.n), message
            )
            errors.check(status, errors.text_of(message))
        self._layout = layout

    def _error(
        self, status: int, failed_step: int, start: int, origin: str
    ) -> errors.PybridgeError:
        """Make the exception for a run that failed."""
        where = f"step {failed_step} of the window at k = {start}, begun from {origin}"
        cause = self.model._pending_exception()
        if status == errors.BLOW_UP:
            message = f"{self.model!r} blew up: {where}, gave NaN, infinity or a value out of range"
        elif cause is not None:
            message = f"{self.model!r}: a procedure of the user's raised {cause!r} at {where}"
        else:
            self.model._interrupted(status)
            message = f"{self.model!r}: {errors.status_text(status)}; {where}"
        error = errors.from_status(status, message)
        error.__cause__ = cause
        return error


def _make(model: Model, covariance: Covariance, options: dict[str, Any]) -> FourDVar:
    return FourDVar(model, covariance, **options)
