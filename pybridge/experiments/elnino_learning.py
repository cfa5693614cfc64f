# SPDX-License-Identifier: MIT
"""Training of the El Niño experiment's networks. Importing this module loads TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from pybridge._validation import Array
from pybridge.experiments.elnino_configuration import Learning
from pybridge.hybrid import HybridModel
from pybridge.keras import HybridLayer
from pybridge.models import Model
from pybridge.network import Network

_DTYPE = "float64"


@dataclass(frozen=True)
class Samples:
    """What a network learns from.

    Attributes
    ----------
    states : numpy.ndarray, shape (samples, 2)
        States of the model, in its units.
    first : numpy.ndarray of int, shape (samples,)
        Number of the step at which each begins, or its month, within the year.
    targets : numpy.ndarray, shape (samples, leads) or (samples, 2)
        Temperatures after 1, 2, … months; or tendencies.
    """

    states: Array
    first: Array
    targets: Array


def correction_network(hidden: int, input_scale: Array, output_scale: float, seed: int) -> Any:
    """Return a network from (T, h, cos, sin of the time of year) to a tendency of (T, h).

    Parameters
    ----------
    hidden : int
        Hidden units.
    input_scale : numpy.ndarray, shape (2,)
        Standard deviations of T and h.
    output_scale : float
        Size of a large correction.
    seed : int
        Of the hidden weights; those of the output layer start at zero: no correction.
    """
    variance = np.concatenate([np.square(input_scale), [0.5, 0.5]])
    return keras.Sequential(
        [
            keras.Input((4,), dtype=_DTYPE),
            keras.layers.Normalization(mean=np.zeros(4), variance=variance, dtype=_DTYPE),
            keras.layers.Dense(
                hidden,
                activation="tanh",
                kernel_initializer=keras.initializers.GlorotUniform(seed),
                dtype=_DTYPE,
                name="hidden",
            ),
            keras.layers.Dense(2, kernel_initializer="zeros", dtype=_DTYPE, name="output"),
            keras.layers.Rescaling(output_scale, dtype=_DTYPE),
        ],
        name="correction",
    )


def train_through_model(
    model: Model,
    training: Samples,
    validation: Samples,
    settings: Learning,
    *,
    seed: int,
    per_month: int,
    period: float,
    weights: Network | None,
    advance: Callable[[], Any],
) -> tuple[Network, tuple[float, float]]:
    """Train a network by the forecasts of the hybrid model, compared with later observations.

    The loss is the mean squared error of the temperature at all leads, relative to the training
    samples' variance; its gradient comes from the adjoint of the Fortran time loop.

    Parameters
    ----------
    model : Model
        The model that is corrected.
    training, validation : Samples
        With temperatures as targets.
    settings : Learning
        How the network is trained.
    seed : int
        Of the initial weights and of the order of samples.
    per_month : int
        Time steps in a month.
    period : float
        The year, in the model's unit of time.
    weights : Network, optional
        Weights to begin from.
    advance : callable
        Called after each epoch.

    Returns
    -------
    Network
        With the weights of the best validation loss.
    tuple of float
        Training and validation loss there.
    """
    network = _new_network(training.states, settings, seed)
    if weights is not None:
        network.set_weights(weights.to_keras().get_weights())
    hybrid = HybridModel(model, Network.from_keras(network), "tendency", periods=[period])
    leads = training.targets.shape[1]
    layer = HybridLayer(
        hybrid,
        network,
        steps=leads * per_month,
        every=per_month,
        return_sequences=True,
        dtype=_DTYPE,
    )
    state = keras.Input((2,), dtype=_DTYPE)
    first = keras.Input((1,), dtype="int32")
    trained = keras.Model([state, first], layer(state, first_step=first)[:, :, 0])
    scale = float(training.targets.std())

    def loss(y: Any, y_predicted: Any) -> Any:
        return keras.ops.mean(keras.ops.square((y - y_predicted) / scale), axis=-1)

    losses = _fit(trained, training, validation, settings, seed, loss, advance)
    return Network.from_keras(network), losses


def train_on_tendencies(
    training: Samples, validation: Samples, settings: Learning, *, seed: int
) -> Network:
    """Train a network to give tendencies from state and month.

    Parameters are those of `train_through_model`; targets are tendencies.
    """
    network = _new_network(training.states, settings, seed)
    scale = training.targets.std(0)

    def inputs(samples: Samples) -> Samples:
        angle = 2.0 * np.pi * samples.first / 12.0
        predictors = [samples.states, np.cos(angle)[:, None], np.sin(angle)[:, None]]
        return Samples(np.concatenate(predictors, 1), samples.first, samples.targets)

    def loss(y: Any, y_predicted: Any) -> Any:
        return keras.ops.mean(keras.ops.square((y - y_predicted) / scale), axis=-1)

    _fit(network, inputs(training), inputs(validation), settings, seed, loss, lambda: None)
    return Network.from_keras(network)


def _new_network(states: Array, settings: Learning, seed: int) -> Any:
    return correction_network(settings.hidden, states.std(0), settings.output_scale, seed)


def _fit(
    trained: Any,
    training: Samples,
    validation: Samples,
    settings: Learning,
    seed: int,
    loss: Callable[[Any, Any], Any],
    advance: Callable[[], Any],
) -> tuple[float, float]:
    """Fit, and return training and validation loss of the best epoch, whose weights are kept."""

    def data(samples: Samples) -> tuple[Any, Array]:
        if len(trained.inputs) == 1:
            return samples.states, samples.targets
        return [samples.states, samples.first[:, None].astype(np.int32)], samples.targets

    keras.utils.set_random_seed(seed)
    # A Fortran step cannot be compiled by XLA
    trained.compile(
        keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay),
        loss=loss,
        jit_compile=False,
        steps_per_execution=-(-len(training.states) // settings.batch),
    )
    x, y = data(training)
    history = trained.fit(
        x,
        y,
        batch_size=settings.batch,
        epochs=settings.epochs,
        validation_data=data(validation),
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping(
                monitor="val_loss",
                patience=settings.patience,
                restore_best_weights=True,
                start_from_epoch=0,
            ),
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: advance()),
        ],
    ).history
    best = int(np.argmin(history["val_loss"]))
    return float(history["loss"][best]), float(history["val_loss"][best])
