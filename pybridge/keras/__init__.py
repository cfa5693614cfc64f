# SPDX-License-Identifier: MIT
"""Forecast models and their networks in Keras and TensorFlow.

Importing this package imports TensorFlow; after that, `keras.saving.load_model` knows its layers.
"""

from pybridge.keras._forecast import ForecastCell, ForecastLayer, HybridLayer
from pybridge.keras._layers import PeriodicPadding1D
from pybridge.keras._step import forecast, op_is_available

__all__ = [
    "ForecastCell",
    "ForecastLayer",
    "HybridLayer",
    "PeriodicPadding1D",
    "forecast",
    "op_is_available",
]
