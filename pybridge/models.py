# SPDX-License-Identifier: MIT
"""Forecast models: one time step or many, with tangent linear and adjoint.

States are arrays of shape ``(n,)`` or, for an ensemble, ``(…, n)``; a run with many members is one
call. Models are immutable and may be shared among threads.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

import pybridge
from pybridge import _kernels, errors
from pybridge import _validation as validate
from pybridge._handles import freed_with
from pybridge._validation import Array

__all__ = [
    "CompiledModel",
    "LibraryModel",
    "Lorenz63",
    "Lorenz96",
    "Model",
    "PythonModel",
    "RechargeOscillator",
    "TwoScaleLorenz96",
    "from_config",
]

# What the core's workspace is for
_FORECAST, _TL, _AD = 0, 1, 2
_NONE = np.empty(0)
# The largest state whose buffers for a Runge-Kutta step the core can count
_LARGEST = 2**28 - 1


class Model:
    """A forecast model of the Fortran core.

    Attributes
    ----------
    n : int
        Size of the state.
    n_parameters : int
        Size of the parameter vector.
    n_carry : int
        Values that the model integrates beside its state.
    dt : float
        Time step, in the model's unit of time.
    parameters : numpy.ndarray
        Default parameter vector, shape (n_parameters,); read-only.
    """

    _kinds: ClassVar[dict[str, type[Model]]] = {}
    # Whether members are run one after another, whatever the number of threads asked for
    _serial = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Model._kinds[cls.__name__] = cls

    def __init__(self, handle: int, config: dict[str, Any]) -> None:
        self._handle = handle
        self._config = config
        self._finalizer = freed_with(self, _kernels.pybridge_model_free, handle)
        status, self.n, self.n_parameters, self.n_carry, self.dt = _kernels.pybridge_model_sizes(
            handle
        )
        errors.check(status)
        self.parameters = np.empty(self.n_parameters)
        errors.check(_kernels.pybridge_model_parameters(handle, self.parameters))
        self.parameters.flags.writeable = False

    @property
    def handle(self) -> int:
        """The core's address of this model, valid while the model lives."""
        return self._handle

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs to make this model again, as JSON types."""
        return {"kind": type(self).__name__, **self._config}

    @classmethod
    def _from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[type[Model], dict[str, Any]]]:
        # By class, whose module pickle imports; a kind may live in one that is not imported yet
        config = self.get_config()
        del config["kind"]
        return _rebuilt, (type(self), config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self._config.items())
        return f"{type(self).__name__}({arguments})"

    def step(
        self,
        x: ArrayLike,
        steps: int = 1,
        *,
        start: int = 0,
        parameters: ArrayLike | None = None,
        threads: int = 1,
    ) -> Array:
        """Advance states by some time steps.

        Parameters
        ----------
        x : array_like, shape (…, n)
            States.
        steps : int
            Number of time steps.
        start : int
            Number of the first step: it begins at time ``start * dt``.
        parameters : array_like, shape (n_parameters,), optional
            Parameters in place of the model's own.
        threads : int
            OpenMP threads among which members are shared; the result does not depend on it.

        Returns
        -------
        numpy.ndarray, shape (…, n)
            States after the run.

        Raises
        ------
        BlowUpError
            A state became NaN, infinite or too large; the message names member and step.
        InvalidArgumentError, ShapeError
            An argument has a wrong type, value or shape.
        """
        states = validate.states("x", x, self.n)
        self._forecast(states, steps, 1, start, parameters, threads, _NONE)
        return states

    def trajectory(
        self,
        x: ArrayLike,
        steps: int,
        *,
        every: int = 1,
        start: int = 0,
        parameters: ArrayLike | None = None,
        threads: int = 1,
    ) -> Array:
        """Run the model and keep the states after 0, ``every``, 2 ``every``, … steps.

        Parameters are those of `step`.

        Returns
        -------
        numpy.ndarray, shape (…, steps // every + 1, n)
            States, the first being `x`.
        """
        states = validate.states("x", x, self.n)
        steps = validate.integer("steps", steps, 0)
        every = validate.integer("every", every, 1)
        kept = np.empty((*states.shape[:-1], steps // every + 1, self.n))
        self._forecast(states, steps, every, start, parameters, threads, kept.reshape(-1))
        return kept

    def step_tl(
        self,
        x: ArrayLike,
        dx: ArrayLike,
        steps: int = 1,
        *,
        dp: ArrayLike | None = None,
        start: int = 0,
        parameters: ArrayLike | None = None,
        threads: int = 1,
    ) -> Array:
        """Advance perturbations by the tangent linear of `step` about the run that starts at `x`.

        Parameters
        ----------
        x : array_like, shape (…, n)
            States before the run.
        dx : array_like, shape (…, n)
            Perturbations of the states before the run.
        dp : array_like, shape (n_parameters,), optional
            Perturbation of the parameters, one for all members; zero if not given.

        Returns
        -------
        numpy.ndarray, shape (…, n)
            Perturbations after the run.
        """
        states = validate.states("x", x, self.n)
        perturbations = validate.like("dx", dx, states.shape, "x")
        steps, start, threads = self._run("steps", steps, start, threads)
        members = states.size // self.n
        status, member, step = _kernels.pybridge_model_forecast_tl(
            self._handle,
            start,
            steps,
            members,
            threads,
            self._parameters("parameters", parameters),
            states.reshape(-1),
            self._parameters("dp", dp),
            perturbations.reshape(-1),
            self._workspace(_TL, steps, members, threads),
        )
        if status:
            raise self._error(status, member, step, start)
        return perturbations

    def step_ad(
        self,
        x: ArrayLike,
        x_ad: ArrayLike,
        steps: int = 1,
        *,
        start: int = 0,
        parameters: ArrayLike | None = None,
        threads: int = 1,
    ) -> tuple[Array, Array]:
        """Carry adjoint variables back by the adjoint of `step` about the run that starts at `x`.

        Parameters
        ----------
        x : array_like, shape (…, n)
            States before the run.
        x_ad : array_like, shape (…, n)
            Adjoint variables of the states after the run.

        Returns
        -------
        x_ad : numpy.ndarray, shape (…, n)
            Adjoint variables of the states before the run.
        p_ad : numpy.ndarray, shape (n_parameters,)
            Adjoint variable of the parameters, summed over members.
        """
        states = validate.states("x", x, self.n)
        adjoints = validate.like("x_ad", x_ad, states.shape, "x")
        steps, start, threads = self._run("steps", steps, start, threads)
        members = states.size // self.n
        p_ad = np.zeros(self.n_parameters)
        status, member, step = _kernels.pybridge_model_forecast_ad(
            self._handle,
            start,
            steps,
            members,
            threads,
            self._parameters("parameters", parameters),
            states.reshape(-1),
            adjoints.reshape(-1),
            p_ad,
            self._workspace(_AD, steps, members, threads),
        )
        if status:
            raise self._error(status, member, step, start)
        return adjoints, p_ad

    def _forecast(
        self,
        states: Array,
        steps: int,
        every: int,
        start: int,
        parameters: ArrayLike | None,
        threads: int,
        kept: Array,
    ) -> None:
        steps, start, threads = self._run("steps", steps, start, threads)
        members = states.size // self.n
        status, member, step = _kernels.pybridge_model_forecast(
            self._handle,
            start,
            steps,
            every,
            members,
            threads,
            self._parameters("parameters", parameters),
            states.reshape(-1),
            kept,
            self._workspace(_FORECAST, steps, members, threads),
        )
        if status:
            raise self._error(status, member, step, start)

    def _run(self, name: str, steps: int, start: int, threads: int) -> tuple[int, int, int]:
        steps = validate.integer(name, steps, 0)
        start = validate.integer("start", start, -(2**31), 2**31 - 1 - steps)
        threads = validate.integer("threads", threads, 1, 4096)
        self._pending_exception()
        return steps, start, 1 if self._serial else threads

    def _parameters(self, name: str, value: ArrayLike | None) -> Array:
        """Return a parameter vector; one of no length where there is none, as the core wants it."""
        return _NONE if value is None else validate.vector(name, value, self.n_parameters)

    def _workspace(self, purpose: int, steps: int, members: int, threads: int) -> Array:
        size = _kernels.pybridge_model_workspace(self._handle, purpose, steps, members, threads)
        try:
            return np.empty(size)
        except (MemoryError, ValueError):
            raise MemoryError(
                f"{self!r}: {steps} steps of {members} members on {threads} threads need a "
                f"workspace of {size * 8 / 2**30:.3g} GiB"
            ) from None

    def _pending_exception(self) -> BaseException | None:
        """Return, once, the first exception that a callback raised in this thread's run."""
        return None

    def _interrupted(self, status: int) -> None:
        """Raise the interruption that ended a run and left no exception behind, if one may have."""

    def _error(self, status: int, member: int, step: int, start: int) -> errors.PybridgeError:
        """Make the exception for a run that failed."""
        where = f"member {member - 1}, step {step} of the run (k = {start + step - 1})"
        cause = self._pending_exception()
        if status != errors.USER_PROCEDURE:
            cause = None
        if status == errors.BLOW_UP:
            message = f"{self!r} blew up: {where} gave NaN, infinity or a value out of range"
        elif status == errors.NOT_AVAILABLE:
            message = f"{self!r} was made without this derivative of its step"
        elif cause is not None:
            message = f"{self!r}: a procedure of the user's raised {cause!r} at {where}"
        else:
            self._interrupted(status)
            message = f"{self!r}: {errors.status_text(status)}; {where}" if step else ""
        error = errors.from_status(status, message)
        error.__cause__ = cause
        return error


class Lorenz63(Model):
    """The Lorenz-63 model (Lorenz 1963), integrated by a fourth-order Runge-Kutta scheme.

    State (x, y, z); parameters (sigma, rho, beta).
    """

    def __init__(
        self,
        sigma: float = 10.0,
        rho: float = 28.0,
        beta: float = 8.0 / 3.0,
        dt: float = 0.01,
    ) -> None:
        config = {
            "sigma": validate.real("sigma", sigma),
            "rho": validate.real("rho", rho),
            "beta": validate.real("beta", beta),
            "dt": validate.real("dt", dt, positive=True),
        }
        status, handle = _kernels.pybridge_model_lorenz63(
            config["dt"], config["sigma"], config["rho"], config["beta"]
        )
        errors.check(status)
        super().__init__(handle, config)


class Lorenz96(Model):
    """The Lorenz-96 model on a ring of n points (Lorenz 1996), fourth-order Runge-Kutta.

    Parameters (forcing,).
    """

    def __init__(self, n: int = 40, forcing: float = 8.0, dt: float = 0.05) -> None:
        config = {
            "n": validate.integer("n", n, 4, _LARGEST),
            "forcing": validate.real("forcing", forcing),
            "dt": validate.real("dt", dt, positive=True),
        }
        status, handle = _kernels.pybridge_model_lorenz96(n, config["dt"], config["forcing"])
        errors.check(status)
        super().__init__(handle, config)


class TwoScaleLorenz96(Model):
    """The two-scale Lorenz-96 model (Lorenz 1996), fourth-order Runge-Kutta.

    State: `n_slow` slow variables, then `n_fast` fast ones to each; parameters (forcing, h, b, c).
    """

    def __init__(
        self,
        n_slow: int = 36,
        n_fast: int = 10,
        forcing: float = 10.0,
        h: float = 1.0,
        b: float = 10.0,
        c: float = 10.0,
        dt: float = 0.005,
    ) -> None:
        config = {
            "n_slow": validate.integer("n_slow", n_slow, 4, _LARGEST // 2),
            "n_fast": validate.integer("n_fast", n_fast, 1, _LARGEST // n_slow - 1),
            "forcing": validate.real("forcing", forcing),
            "h": validate.real("h", h),
            "b": validate.real("b", b),
            "c": validate.real("c", c),
            "dt": validate.real("dt", dt, positive=True),
        }
        if config["b"] == 0.0:
            raise errors.InvalidArgumentError("b: expected a number other than zero, got 0.0")
        status, handle = _kernels.pybridge_model_two_scale_lorenz96(
            n_slow, n_fast, config["dt"], config["forcing"], config["h"], config["b"], config["c"]
        )
        errors.check(status)
        super().__init__(handle, config)


class RechargeOscillator(Model):
    """The recharge oscillator of El Niño (Jin 1997), fourth-order Runge-Kutta.

    State (T, h): sea-surface temperature anomaly of the eastern Pacific in units of 7.5 K, and
    thermocline depth anomaly of the western Pacific in units of 150 m. The unit of time is two
    months. Parameters (mu, e_n, c, gamma, r, alpha, b_0).
    """

    def __init__(
        self,
        mu: float = 0.7,
        e_n: float = 3.0,
        c: float = 1.0,
        gamma: float = 0.75,
        r: float = 0.25,
        alpha: float = 0.125,
        b_0: float = 2.5,
        dt: float = 0.05,
    ) -> None:
        config = {
            "mu": validate.real("mu", mu),
            "e_n": validate.real("e_n", e_n),
            "c": validate.real("c", c),
            "gamma": validate.real("gamma", gamma),
            "r": validate.real("r", r),
            "alpha": validate.real("alpha", alpha),
            "b_0": validate.real("b_0", b_0),
            "dt": validate.real("dt", dt, positive=True),
        }
        parameters = np.array([value for key, value in config.items() if key != "dt"])
        status, handle = _kernels.pybridge_model_recharge_oscillator(config["dt"], parameters)
        errors.check(status)
        super().__init__(handle, config)


_DOUBLES = ctypes.POINTER(ctypes.c_double)
_INTEGERS = ctypes.POINTER(ctypes.c_int)
_PROLOGUE: list[Any] = [_INTEGERS, ctypes.c_int, ctypes.c_double, ctypes.c_int, ctypes.c_int]
_STEP = ctypes.CFUNCTYPE(ctypes.c_int, *_PROLOGUE, _DOUBLES, _DOUBLES)
_STEP_DERIVATIVE = ctypes.CFUNCTYPE(
    ctypes.c_int, *_PROLOGUE, _DOUBLES, _DOUBLES, _DOUBLES, _DOUBLES
)


class PythonModel(Model):
    """A model made of Python callables.

    Parameters
    ----------
    step : callable
        ``step(x, p, t) -> x``: the state after one step from time t.
    step_tl : callable, optional
        ``step_tl(x, dx, p, dp, t) -> dx``: the tangent linear about x.
    step_ad : callable, optional
        ``step_ad(x, x_ad, p, t) -> (x_ad, p_ad)``: the adjoint about x; without parameters it may
        return ``x_ad`` alone.
    n : int
        Size of the state.
    dt : float
        Time step.
    parameters : array_like, shape (n_parameters,)
        Default parameters.

    Notes
    -----
    The callables get arrays of their own, which they may change and keep. They run under Python's
    interpreter lock, and members one after another whatever `threads` is. To be saved or sent to
    another process they must be importable functions.
    """

    _serial = True

    def __init__(
        self,
        step: Callable[[Array, Array, float], ArrayLike],
        step_tl: Callable[[Array, Array, Array, Array, float], ArrayLike] | None = None,
        step_ad: Callable[[Array, Array, Array, float], Any] | None = None,
        *,
        n: int,
        dt: float,
        parameters: ArrayLike = (),
    ) -> None:
        for name, function in (("step", step), ("step_tl", step_tl), ("step_ad", step_ad)):
            if not (callable(function) or (function is None and name != "step")):
                raise errors.InvalidArgumentError(f"{name}: expected a callable, got {function!r}")
        self._functions = {"step": step, "step_tl": step_tl, "step_ad": step_ad}
        # A run stays on its thread, and so does the exception that ends it
        self._raised = threading.local()
        n = validate.integer("n", n, 1, _LARGEST)
        dt = validate.real("dt", dt, positive=True)
        defaults = validate.vector("parameters", parameters)
        # The callbacks must not keep the model alive, which would never be collected
        model = weakref.ref(self)

        def view(pointer: Any, size: int) -> Array:
            return np.ctypeslib.as_array(pointer, (size,)) if size else np.empty(0)

        def copy(pointer: Any, size: int) -> Array:
            # The core's memory is gone, or another's, when the callable has returned
            return view(pointer, size).copy()

        def guarded(done: Any, work: Callable[[], None]) -> int:
            try:
                work()
                # ctypes drops an exception that a signal's handler raises before a callback's first
                # line, and returns anything: that must not pass for a step that was made
                done[0] = 1
            except BaseException as error:
                owner = model()
                if owner is not None and not hasattr(owner._raised, "exception"):
                    owner._raised.exception = error
            return 0

        def on_step(done: Any, k: int, t: float, n: int, n_p: int, p: Any, x: Any) -> int:
            def work() -> None:
                result = validate.real_array(
                    "step", step(copy(x, n), copy(p, n_p), t), finite=False
                )
                if result.shape != (n,):
                    raise errors.ShapeError(f"step: expected shape ({n},), got {result.shape}")
                # Not finite is for the core to find: that is a blow-up
                view(x, n)[:] = result

            return guarded(done, work)

        def on_step_tl(
            done: Any, k: int, t: float, n: int, n_p: int, p: Any, x: Any, dp: Any, dx: Any
        ) -> int:
            def work() -> None:
                assert step_tl is not None
                result = step_tl(copy(x, n), copy(dx, n), copy(p, n_p), copy(dp, n_p), t)
                view(dx, n)[:] = validate.vector("step_tl", result, n)

            return guarded(done, work)

        def on_step_ad(
            done: Any, k: int, t: float, n: int, n_p: int, p: Any, x: Any, x_ad: Any, p_ad: Any
        ) -> int:
            def work() -> None:
                assert step_ad is not None
                result = step_ad(copy(x, n), copy(x_ad, n), copy(p, n_p), t)
                parameter_part: ArrayLike | None = None
                if isinstance(result, tuple):
                    result, parameter_part = result
                view(x_ad, n)[:] = validate.vector("step_ad", result, n)
                if n_p and parameter_part is None:
                    raise errors.ShapeError("step_ad: expected (x_ad, p_ad), got x_ad alone")
                if n_p and parameter_part is not None:
                    view(p_ad, n_p)[:] += validate.vector("step_ad", parameter_part, n_p)

            return guarded(done, work)

        self._callbacks = (
            _STEP(on_step),
            _STEP_DERIVATIVE(on_step_tl) if step_tl else None,
            _STEP_DERIVATIVE(on_step_ad) if step_ad else None,
        )
        addresses = [
            (ctypes.cast(callback, ctypes.c_void_p).value or 0) if callback else 0
            for callback in self._callbacks
        ]
        status, handle = _kernels.pybridge_model_user(n, defaults, dt, 0, *addresses)
        errors.check(status)
        super().__init__(handle, {"n": n, "dt": dt, "parameters": defaults.tolist()})
        errors.check(_kernels.pybridge_model_user_acknowledges(handle))

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs; the callables must be importable by name."""
        config = super().get_config()
        for name, function in self._functions.items():
            config[name] = None if function is None else _import_name(name, function)
        return config

    @classmethod
    def _from_config(cls, config: dict[str, Any]) -> Self:
        functions: dict[str, Any] = {
            name: None if path is None else _imported(path)
            for name, path in ((name, config.pop(name)) for name in ("step", "step_tl", "step_ad"))
        }
        return cls(**functions, **config)

    def __repr__(self) -> str:
        return f"PythonModel({self._functions['step']!r}, n={self.n})"

    def _pending_exception(self) -> BaseException | None:
        exception: BaseException | None = self._raised.__dict__.pop("exception", None)
        if exception is not None and not isinstance(exception, Exception):
            # An interruption of the program, not a failure of the model
            raise exception
        return exception

    def _interrupted(self, status: int) -> None:
        # Only what arrives from outside, as Ctrl-C, ends a callback that has not begun
        if (
            status == errors.USER_PROCEDURE
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            raise KeyboardInterrupt


class LibraryModel(Model):
    """A model made of three procedures with C linkage in a shared library.

    Their interfaces are `pybridge_user_step`, `pybridge_user_step_tl` and `pybridge_user_step_ad`
    of ``pybridge.h``; in Fortran they are ``bind(c)`` functions.

    Parameters
    ----------
    path : path-like
        The shared library.
    step, step_tl, step_ad : str
        Names of the procedures; None for a model without derivatives.
    n, dt, parameters
        As for `PythonModel`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        n: int,
        dt: float,
        parameters: ArrayLike = (),
        step: str = "step",
        step_tl: str | None = "step_tl",
        step_ad: str | None = "step_ad",
    ) -> None:
        library = _open_library(path)
        addresses = [_address(library, path, name) for name in (step, step_tl, step_ad)]
        defaults = validate.vector("parameters", parameters)
        config = {
            "path": os.path.abspath(path),
            "n": validate.integer("n", n, 1, _LARGEST),
            "dt": validate.real("dt", dt, positive=True),
            "parameters": defaults.tolist(),
            "step": step,
            "step_tl": step_tl,
            "step_ad": step_ad,
        }
        status, handle = _kernels.pybridge_model_user(n, defaults, dt, 0, *addresses)
        errors.check(status)
        self._library = library
        super().__init__(handle, config)


class CompiledModel(Model):
    """A Fortran type that extends ``forecast_model``, from a shared library of the user's.

    Parameters
    ----------
    path : path-like
        The shared library, which links pybridge's library.
    constructor : str
        Name of a ``bind(c)`` function without arguments that returns a ``type(c_ptr)`` made by
        ``new_model_handle``.
    """

    def __init__(self, path: str | os.PathLike[str], constructor: str = "new_model") -> None:
        self._library = _open_library(path)
        address = _address(self._library, path, constructor)
        handle = ctypes.CFUNCTYPE(ctypes.c_void_p)(address)()
        if not handle:
            raise errors.UserModelError(f"{constructor} of {path}: returned a null handle")
        super().__init__(handle, {"path": os.path.abspath(path), "constructor": constructor})


def from_config(config: dict[str, Any]) -> Model:
    """Make a model again from what its `get_config` returned."""
    arguments = dict(config)
    kind = arguments.pop("kind", None)
    if kind not in Model._kinds and kind in pybridge.__all__:
        # Its module is loaded by the first use of its name
        getattr(pybridge, kind)
    if kind not in Model._kinds:
        known = ", ".join(sorted(Model._kinds))
        raise errors.InvalidArgumentError(f"kind: expected one of {known}, got {kind!r}")
    return Model._kinds[kind]._from_config(arguments)


def _rebuilt(kind: type[Model], config: dict[str, Any]) -> Model:
    return kind._from_config(config)


def _open_library(path: str | os.PathLike[str]) -> ctypes.CDLL:
    if not Path(path).is_file():
        raise errors.FileAccessError(f"{path}: no such shared library")
    try:
        return ctypes.CDLL(os.path.abspath(path))
    except OSError as error:
        raise errors.FileAccessError(f"{path}: {error}") from None


def _address(library: ctypes.CDLL, path: str | os.PathLike[str], name: str | None) -> int:
    if name is None:
        return 0
    try:
        return ctypes.cast(library[name], ctypes.c_void_p).value or 0
    except AttributeError:
        raise errors.InvalidArgumentError(f"{path} has no procedure named {name!r}") from None


def _import_name(argument: str, function: Any) -> str:
    name = f"{function.__module__}:{getattr(function, '__qualname__', '')}"
    try:
        found = _imported(name)
    except (ImportError, AttributeError):
        found = None
    if found is not function:
        raise errors.InvalidArgumentError(
            f"{argument}: {function!r} cannot be imported by name, so this model cannot be saved "
            "or sent to another process; define it as a function of a module"
        )
    return name


def _imported(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found
