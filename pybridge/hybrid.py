# SPDX-License-Identifier: MIT
"""A forecast model with a network's correction, as one forecast model."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike

from pybridge import _kernels, errors
from pybridge import _validation as validate
from pybridge.models import Model, from_config
from pybridge.network import Network

__all__ = ["HybridModel"]

Mode = Literal["tendency", "increment", "forcing"]


class HybridModel(Model):
    """A forecast model corrected by a network, all in Fortran, with exact TL and adjoint.

    The parameter vector is the model's, followed by the network's weights, so that weights can be
    perturbed, estimated by 4D-Var and learnt like any parameter.

    Parameters
    ----------
    model : Model
        The model that is corrected.
    network : Network
        One value for each state variable, from these inputs in this order: the state; the fixed
        fields; cosine and sine of the time within each period.
    mode : {"tendency", "increment", "forcing"}
        How the correction g is applied. *tendency*: added to the tendency inside the time scheme,
        at every stage; for models that are integrated tendencies. *increment*: ``x <- x + g(x)``
        after every `every`-th step, x being the forecast. *forcing*: evaluated once from the state
        at the start of a run, and ``x <- x + dt g`` after each of its steps.
    every : int
        Steps from one increment to the next; increments follow the steps that end at its
        multiples, counted from time zero.
    fixed : array_like, shape (n_fixed,)
        Auxiliary predictors that do not change, as flat values.
    periods : array_like, shape (n_periods,)
        Periods of the day or year, in the model's unit of time, whose cosine and sine the network
        gets.

    Raises
    ------
    ShapeError
        The network's inputs or outputs do not fit.
    UnsupportedLayerError
        The model does not expose its tendency.
    """

    def __init__(
        self,
        model: Model,
        network: Network,
        mode: Mode = "tendency",
        *,
        every: int = 1,
        fixed: ArrayLike = (),
        periods: ArrayLike = (),
    ) -> None:
        if not isinstance(model, Model):
            raise errors.InvalidArgumentError(f"model: expected a pybridge model, got {model!r}")
        if not isinstance(network, Network):
            raise errors.InvalidArgumentError(
                f"network: expected a pybridge Network, got {network!r}; "
                "Network.from_keras makes one of a Keras model"
            )
        modes = get_args(Mode)
        # The core copies the network; one that gets other weights later is not this hybrid's
        network = Network.from_bytes(network.to_bytes())
        if mode not in modes:
            raise errors.InvalidArgumentError(f"mode: expected one of {modes}, got {mode!r}")
        every = validate.integer("every", every, 1)
        fixed_values = validate.vector("fixed", fixed)
        period_values = validate.vector("periods", periods)
        message = np.zeros(400, np.int8)
        status, handle = _kernels.pybridge_model_hybrid(
            model.handle,
            network.handle,
            modes.index(mode),
            every,
            fixed_values,
            period_values,
            message,
        )
        errors.check(status, errors.text_of(message))
        self.model = model
        self.network = network
        self.mode = mode
        self.n_model_parameters = model.n_parameters
        self._serial = model._serial
        super().__init__(
            handle,
            {
                "mode": mode,
                "every": every,
                "fixed": fixed_values.tolist(),
                "periods": period_values.tolist(),
            },
        )

    def with_parameters(self, parameters: ArrayLike) -> HybridModel:
        """Return this hybrid with other weights: the tail of a parameter vector.

        Parameters
        ----------
        parameters : array_like, shape (n_parameters,)
            Parameters of the model, which are not stored, then the network's weights.
        """
        values = validate.vector("parameters", parameters, self.n_parameters)
        network = self.network.with_parameters(values[self.n_model_parameters :])
        return HybridModel(self.model, network, **self._config)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs; the network is part of it."""
        return {
            "kind": type(self).__name__,
            "model": self.model.get_config(),
            "network": self.network.get_config(),
            **self._config,
        }

    @classmethod
    def _from_config(cls, config: dict[str, Any]) -> Self:
        model = from_config(config.pop("model"))
        network = Network.from_config(config.pop("network"))
        return cls(model, network, **config)

    def __repr__(self) -> str:
        return f"HybridModel({self.model!r}, {self.network!r}, mode={self.mode!r})"

    def _pending_exception(self) -> BaseException | None:
        return self.model._pending_exception()

    def _interrupted(self, status: int) -> None:
        self.model._interrupted(status)
