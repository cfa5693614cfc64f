# SPDX-License-Identifier: MIT
"""Fortran forecast models, 4D-Var and Keras networks in one circle."""

from pybridge import errors
from pybridge.models import (
    CompiledModel,
    LibraryModel,
    Lorenz63,
    Lorenz96,
    Model,
    PythonModel,
    RechargeOscillator,
    TwoScaleLorenz96,
)

__all__ = [
    "CompiledModel",
    "LibraryModel",
    "Lorenz63",
    "Lorenz96",
    "Model",
    "PythonModel",
    "RechargeOscillator",
    "TwoScaleLorenz96",
    "errors",
]

__version__ = "0.1.0"
