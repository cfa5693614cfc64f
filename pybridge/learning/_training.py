# SPDX-License-Identifier: MIT
"""Training of corrections: on given tendencies, or through the forecast model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from pybridge import _validation as validate
from pybridge import errors
from pybridge._validation import Array
from pybridge.hybrid import HybridModel
from pybridge.keras import HybridLayer
from pybridge.models import Model
from pybridge.network import Network


@dataclass(frozen=True, slots=True)
class Training:
    """How a network is trained: Adam with cosine decay, on mean squared differences.

    Attributes
    ----------
    epochs, batch : int
        Most passes through the data, and samples in each step.
    learning_rate : float
        Its initial value, which falls to zero over all epochs.
    validation : float
        The last part of the samples is kept out of training, and measures it.
    patience : int
        Epochs without a better validation loss after which training ends; the best weights are
        kept in any case. 0: never.
    seed : int
        Of the order of the samples.
    """

    epochs: int = 80
    batch: int = 256
    learning_rate: float = 3e-3
    validation: float = 0.1
    patience: int = 20
    seed: int = 0
    on_epoch: Callable[[int, float, float], None] | None = field(default=None, compare=False)


def fit_tendency(network: Any, x: ArrayLike, tendency: ArrayLike, training: Training) -> Any:
    """Train a network, in place, to give a tendency from a state.

    Parameters
    ----------
    network : keras.Model
        From shape (batch, n) to (batch, n).
    x : array_like, shape (samples, n)
        States, in time order: the validation samples are the last ones.
    tendency : array_like, shape (samples, n)
        What the network is to give.
    training : Training
        How it is trained.

    Returns
    -------
    keras.callbacks.History
        Losses by epoch.
    """
    states = validate.real_array("x", x)
    target = validate.like("tendency", tendency, states.shape, "x")
    return _fit(network, states, target, training)


def fit_trajectory(
    network: Any,
    model: Model,
    x: ArrayLike,
    x_later: ArrayLike,
    steps: int,
    training: Training,
    *,
    mode: str = "tendency",
    threads: int = 1,
    **hybrid_options: Any,
) -> Any:
    """Train a correction, in place, through the model: by the forecast that the hybrid makes.

    The loss is the mean squared difference between `x_later` and the state that the corrected
    model reaches from `x`; its gradient comes from the adjoint of the Fortran time loop.

    Parameters
    ----------
    network : keras.Model
        The correction, of shapes (batch, n) to (batch, n).
    model : Model
        The model that it corrects.
    x, x_later : array_like, shape (samples, n)
        States, and the states some steps later; in time order, the last for validation.
    steps : int
        Time steps between them.
    training : Training
        How it is trained.
    mode, hybrid_options
        As in `HybridModel`.
    threads : int
        OpenMP threads for the members of a batch.

    Returns
    -------
    keras.callbacks.History
        Losses by epoch.
    """
    states = validate.states("x", x, model.n)
    target = validate.like("x_later", x_later, states.shape, "x")
    hybrid = HybridModel(
        model,
        Network.from_keras(network),
        mode,  # type: ignore[arg-type]
        **hybrid_options,
    )
    state = keras.Input((model.n,), dtype="float64")
    forecast = HybridLayer(hybrid, network, steps=steps, threads=threads, dtype="float64")(state)
    return _fit(keras.Model(state, forecast), states, target, training)


def _fit(model: Any, x: Array, y: Array, training: Training) -> Any:
    n_validation = round(len(x) * training.validation)
    n_training = len(x) - n_validation
    if n_training < 1 or (training.validation > 0.0 and n_validation < 1):
        raise errors.ShapeError(
            f"x: expected enough samples for training and validation, got {len(x)}"
        )
    keras.utils.set_random_seed(training.seed)
    steps = int(np.ceil(n_training / training.batch)) * training.epochs
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(training.learning_rate, steps)
    )
    # A Fortran step cannot be compiled by XLA
    model.compile(optimizer, loss="mse", jit_compile=False)
    monitor = "val_loss" if n_validation else "loss"
    callbacks: list[Any] = [
        keras.callbacks.EarlyStopping(
            monitor=monitor,
            patience=training.patience or training.epochs,
            restore_best_weights=True,
        ),
        keras.callbacks.TerminateOnNaN(),
    ]
    if training.on_epoch is not None:
        on_epoch = training.on_epoch
        callbacks.append(
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: on_epoch(epoch, logs["loss"], logs[monitor])
            )
        )
    validation = (x[n_training:], y[n_training:]) if n_validation else None
    return model.fit(
        x[:n_training],
        y[:n_training],
        batch_size=training.batch,
        epochs=training.epochs,
        validation_data=validation,
        callbacks=callbacks,
        verbose=0,
    )
