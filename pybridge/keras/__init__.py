# SPDX-License-Identifier: MIT
"""Forecast models and their networks in Keras and TensorFlow.

Importing this package imports TensorFlow; after that, `keras.saving.load_model` knows its layers.
"""

from pybridge.keras._forecast import ForecastCell, ForecastLayer, HybridLayer
from pybridge.keras._step import forecast, op_is_available

__all__ = [
    "ForecastCell",
    "ForecastLayer",
    "HybridLayer",
    "forecast",
    "op_is_available",
]
