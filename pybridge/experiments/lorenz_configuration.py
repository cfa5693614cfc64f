# SPDX-License-Identifier: MIT
"""Configuration of the experiment with the two-scale Lorenz-96 model."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from pybridge.experiments._configuration import Configuration

Positive = Annotated[float, pydantic.Field(gt=0.0)]
Count = Annotated[int, pydantic.Field(ge=1)]

#: The corrections that are compared, in the order in which they depend on one another
Row = Literal[
    "none",
    "constant",
    "linear",
    "cubic",
    "network, truth",
    "network, increments",
    "network, trajectories",
    "network, second pass",
]
ROWS: tuple[Row, ...] = Row.__args__  # type: ignore[attr-defined]


class Truth(Configuration):
    """The two-scale model that makes truth and observations."""

    n_slow: Annotated[int, pydantic.Field(ge=4)] = 36
    n_fast: Count = 10
    forcing: float = 10.0
    h: float = 1.0
    b: Positive = 10.0
    c: Positive = 10.0
    dt: Positive = 0.005
    #: Time before the first window
    spin_up: Positive = 20.0


class Window(Configuration):
    """Cycling 4D-Var with the one-scale model."""

    forcing: float = 10.0
    #: Time step of the one-scale model, a multiple of the truth's
    dt: Positive = 0.05
    #: Steps from one window to the next; observations at steps 0 to steps - 1
    steps: Count = 10
    observation_error: Positive = 1.0
    outer: Count = 8
    inner: Count = 40
    tolerance: Annotated[float, pydantic.Field(ge=0.0, lt=1.0)] = 1e-2
    outer_tolerance: Annotated[float, pydantic.Field(ge=0.0)] = 1e-3


class Segment(Configuration):
    """Replicas of the truth, each with a number of windows; the first ones are spin-up."""

    replicas: Count
    windows: Count
    spin_up: Annotated[int, pydantic.Field(ge=0)]


class Learning(Configuration):
    """The network and its training."""

    #: Networks trained, each from its own seed; test replicas take turns
    networks: Count = 1
    stencil: Annotated[int, pydantic.Field(ge=1)] = 5
    hidden: Count = 16
    centre: float = 2.5
    scale: Positive = 3.6
    epochs: Count = 80
    batch: Count = 256
    learning_rate: Positive = 3e-3
    validation: Annotated[float, pydantic.Field(gt=0.0, lt=1.0)] = 0.1
    patience: Annotated[int, pydantic.Field(ge=0)] = 0


class Tuning(Configuration):
    """The background error standard deviation of each correction, chosen where it is not given."""

    segment: Segment = Segment(replicas=4, windows=60, spin_up=20)
    candidates: tuple[Positive, ...] = (0.2, 0.3, 0.4, 0.6, 0.9, 1.2, 2.0, 3.0, 5.0, 8.0)


class Forecasts(Configuration):
    """Forecasts from perfect initial states."""

    starts: Count = 200
    replicas: Count = 5
    horizon: Positive = 2.0


class LorenzConfiguration(Configuration):
    """Two-scale Lorenz-96 as truth, one-scale Lorenz-96 as model, and its error learnt."""

    experiment: Literal["lorenz"]
    seed: Annotated[int, pydantic.Field(ge=0)] = 1
    workers: Count = 2
    truth: Truth = Truth()
    window: Window = Window()
    training: Segment = Segment(replicas=8, windows=410, spin_up=30)
    test: Segment = Segment(replicas=8, windows=280, spin_up=30)
    learning: Learning = Learning()
    tuning: Tuning = Tuning()
    forecasts: Forecasts = Forecasts()
    #: Lead times at which forecasts from analyses are verified
    leads: tuple[Positive, ...] = (0.5, 1.0, 2.0)
    rows: tuple[Row, ...] = ROWS
    #: Background error standard deviations that are not to be tuned, by correction
    sigma_b: dict[Row, Positive] = pydantic.Field(default_factory=dict)

    @pydantic.model_validator(mode="after")
    def _check(self) -> LorenzConfiguration:
        for name in ("training", "test"):
            segment: Segment = getattr(self, name)
            if segment.spin_up >= segment.windows:
                raise ValueError(f"{name}: spin_up leaves no windows")
        ratio = self.window.dt / self.truth.dt
        if abs(ratio - round(ratio)) > 1e-9 * ratio or ratio < 1.0:
            raise ValueError("window.dt: expected a multiple of truth.dt")
        if self.learning.stencil % 2 == 0:
            raise ValueError("learning.stencil: expected an odd number")
        if len(set(self.rows)) < len(self.rows):
            raise ValueError("rows: a correction is named twice")
        if "none" not in self.rows:
            raise ValueError('rows: "none", whose analyses are the training data, is missing')
        if "network, second pass" in self.rows and "network, trajectories" not in self.rows:
            raise ValueError('rows: "network, second pass" needs "network, trajectories"')
        return self
