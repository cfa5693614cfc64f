# SPDX-License-Identifier: MIT
"""Learning a model's error with Keras: networks for corrections, and ways to train them.

Importing this package loads TensorFlow.
"""

from pybridge.learning._networks import polynomial_network, stencil_network
from pybridge.learning._training import Training, fit_tendency, fit_trajectory

__all__ = ["Training", "fit_tendency", "fit_trajectory", "polynomial_network", "stencil_network"]
