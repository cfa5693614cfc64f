# SPDX-License-Identifier: MIT
"""The exceptions that pybridge raises; all derive from `PybridgeError`."""

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BlowUpError",
    "ChecksumError",
    "ConfigurationError",
    "DerivativeError",
    "FileAccessError",
    "FileFormatError",
    "InvalidArgumentError",
    "NotAvailableError",
    "NotConvergedWarning",
    "NotPositiveDefiniteError",
    "ObservationError",
    "PybridgeError",
    "PybridgeWarning",
    "SelfTestError",
    "ShapeError",
    "UnsupportedLayerError",
    "UserModelError",
    "check",
    "from_status",
    "text_of",
]


class PybridgeError(Exception):
    """Base of all errors of this package."""


class PybridgeWarning(UserWarning):
    """Base of all warnings of this package."""


class NotConvergedWarning(PybridgeWarning):
    """A minimisation ended without reaching what was asked of it."""


class InvalidArgumentError(PybridgeError, ValueError):
    """An argument has a wrong type or value."""


class ShapeError(InvalidArgumentError):
    """An array has a wrong shape."""


class ConfigurationError(InvalidArgumentError):
    """An experiment file holds a wrong or unknown key."""


class BlowUpError(PybridgeError, ArithmeticError):
    """A model's state became NaN, infinite, or larger than its blow-up limit."""


class UserModelError(PybridgeError):
    """A procedure supplied by the user reported a failure or raised an exception."""


class FileAccessError(PybridgeError, OSError):
    """A file could not be opened, read or written."""


class FileFormatError(PybridgeError, ValueError):
    """A file's content is not what its format asks for."""


class ChecksumError(FileFormatError):
    """A file's checksum does not match its content."""


class SelfTestError(FileFormatError):
    """A reference result stored in a file is not reproduced."""


class UnsupportedLayerError(PybridgeError, NotImplementedError):
    """A network holds a layer that the native engine does not have."""


class NotPositiveDefiniteError(PybridgeError, ValueError):
    """A covariance is not positive definite."""


class ObservationError(InvalidArgumentError):
    """An observation lies outside the window or the state, or its error is not positive."""


class DerivativeError(PybridgeError):
    """A tangent linear and an adjoint do not belong together, or to their operator."""


class NotAvailableError(PybridgeError):
    """This part was not built, or a package it needs is not installed."""


# The codes of `fortran/core/pybridge_status.f90`; null handles and memory are nobody's argument
_CLASSES: dict[int, type[PybridgeError]] = {
    1: InvalidArgumentError,
    2: ShapeError,
    3: BlowUpError,
    4: UserModelError,
    5: FileAccessError,
    6: FileFormatError,
    7: ChecksumError,
    8: UnsupportedLayerError,
    9: NotPositiveDefiniteError,
    10: ObservationError,
    14: SelfTestError,
    15: NotAvailableError,
}
BLOW_UP = 3
USER_PROCEDURE = 4
NOT_POSITIVE_DEFINITE = 9
NOT_CONVERGED = 11
NOT_AVAILABLE = 15


def status_text(status: int) -> str:
    """Return the core's one sentence for a status code."""
    from pybridge import _kernels

    buffer = np.zeros(200, np.int8)
    _kernels.pybridge_status_message(status, buffer)
    return text_of(buffer)


def text_of(buffer: NDArray[np.int8]) -> str:
    """Return the null-terminated text that the core wrote into a buffer of bytes."""
    return buffer.tobytes().split(b"\0", 1)[0].decode(errors="replace")


def from_status(status: int, message: str = "") -> PybridgeError:
    """Make the exception for a status code of the core.

    Parameters
    ----------
    status : int
        Code returned by the core; not zero.
    message : str
        What is known beyond the code; replaces the code's own sentence.
    """
    return _CLASSES.get(status, PybridgeError)(message or status_text(status))


def check(status: int, message: str = "") -> None:
    """Raise the exception that a status code stands for; zero raises nothing."""
    if status:
        raise from_status(status, message)
