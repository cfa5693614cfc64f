# SPDX-License-Identifier: MIT
"""Fortran forecast models, 4D-Var and Keras networks in one circle."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pybridge import errors
    from pybridge.hybrid import HybridModel
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
    from pybridge.network import Network

__all__ = [
    "CompiledModel",
    "HybridModel",
    "LibraryModel",
    "Lorenz63",
    "Lorenz96",
    "Model",
    "Network",
    "PythonModel",
    "RechargeOscillator",
    "TwoScaleLorenz96",
    "errors",
]

__version__ = "0.1.0"

# Where each name lives; it is imported at first use, so that `pybridge-config` and the command line
# start without NumPy. A name goes here, among the imports above, and in `__all__`.
_HOMES = {
    "hybrid": ("HybridModel",),
    "models": (
        "CompiledModel",
        "LibraryModel",
        "Lorenz63",
        "Lorenz96",
        "Model",
        "PythonModel",
        "RechargeOscillator",
        "TwoScaleLorenz96",
    ),
    "network": ("Network",),
}
_MODULES = ("errors",)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    for module, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
