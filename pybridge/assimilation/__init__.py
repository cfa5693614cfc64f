# SPDX-License-Identifier: MIT
"""Variational data assimilation in Fortran, for any model.

`FourDVar` finds the state at a window's start (and, where asked, parameters of the model) that fits
a background and the observations of the window; `cycle` goes from window to window. Backgrounds
errors are a `DiagonalCovariance` or a `FullCovariance`, observations are `Observations`.
"""

from pybridge.assimilation._covariance import Covariance, DiagonalCovariance, FullCovariance
from pybridge.assimilation._cycle import cycle
from pybridge.assimilation._fourdvar import Analysis, FourDVar, GradientTest
from pybridge.assimilation._observations import Observations

__all__ = [
    "Analysis",
    "Covariance",
    "DiagonalCovariance",
    "FourDVar",
    "FullCovariance",
    "GradientTest",
    "Observations",
    "cycle",
]
