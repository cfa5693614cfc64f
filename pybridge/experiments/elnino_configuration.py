# SPDX-License-Identifier: MIT
"""Configuration of the experiment with observed temperatures of the tropical Pacific."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from pybridge.experiments._configuration import Configuration

Positive = Annotated[float, pydantic.Field(gt=0.0)]
NotNegative = Annotated[float, pydantic.Field(ge=0.0)]
Count = Annotated[int, pydantic.Field(ge=1)]

#: Years of the observations
FIRST_YEAR, LAST_YEAR = 1950, 2010

#: Where mu and e_n come from: Jin (1997); 4D-Var on the training years; the forecasts of these
Physics = Literal["default", "estimated", "fitted"]
PHYSICS: tuple[Physics, ...] = Physics.__args__  # type: ignore[attr-defined]


class Years(Configuration):
    """A segment of whole years, both ends included."""

    first: Annotated[int, pydantic.Field(ge=FIRST_YEAR, le=LAST_YEAR)]
    last: Annotated[int, pydantic.Field(ge=FIRST_YEAR, le=LAST_YEAR)]

    @pydantic.model_validator(mode="after")
    def _check(self) -> Years:
        if self.last < self.first + 2:
            raise ValueError("expected at least three years, from first to last")
        return self


class Oscillator(Configuration):
    """The recharge oscillator; its other constants are those of Jin (1997)."""

    mu: float = 0.7
    e_n: float = 3.0
    steps_per_month: Count = 4


class Window(Configuration):
    """Cycling 4D-Var. Standard deviations in the model's units (7.5 K and 150 m)."""

    #: A window has the observations of this many months, and ends at the last
    months: Count
    #: Background error of the temperature
    sigma_t: Positive
    #: Background error of the thermocline depth
    sigma_h: Positive


class Assimilation(Configuration):
    """What windows have in common, and the windows among which validation chooses."""

    observation_error: Positive = 0.03
    outer: Count = 10
    inner: Count = 10
    tolerance: Annotated[float, pydantic.Field(ge=0.0, lt=1.0)] = 1e-6
    outer_tolerance: NotNegative = 1e-4
    candidates: tuple[Window, ...] = tuple(
        Window(months=months, sigma_t=sigma_t, sigma_h=sigma_h)
        for months in (1, 2, 3, 6)
        for sigma_t, sigma_h in ((0.03, 0.02), (0.05, 0.02), (0.05, 0.05), (0.1, 0.1))
    )

    @pydantic.field_validator("candidates")
    @classmethod
    def _check(cls, value: tuple[Window, ...]) -> tuple[Window, ...]:
        if not value:
            raise ValueError("expected at least one window")
        return value


class Estimation(Configuration):
    """How mu and e_n are found on the training years."""

    #: In 4D-Var, with the state: the window, and background errors of mu and e_n in each
    window: Window = Window(months=3, sigma_t=0.05, sigma_h=0.05)
    sigma_mu: NotNegative = 0.03
    sigma_e_n: NotNegative = 0.3
    #: The estimate is the mean over the last of the training years
    years: Count = 20
    #: By their forecasts: values that are tried
    mu: tuple[float, ...] = (0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
    e_n: tuple[NotNegative, ...] = (0.0, 0.3, 1.0, 3.0)


class Learning(Configuration):
    """The networks and their training."""

    #: Versions of the model that are corrected
    corrected: tuple[Physics, ...] = ("default", "fitted")
    #: Networks trained for each, from different seeds
    networks: Count = 5
    hidden: Count = 8
    #: The network's output is scaled by this: a tendency of the state, in the model's units
    output_scale: Positive = 0.1
    #: Turns of the circle: assimilate, train, put the network into the model
    passes: Count = 3
    #: Lead in months up to which forecasts are compared with observations
    horizon: Count = 12
    epochs: Count = 30
    batch: Count = 64
    learning_rate: Positive = 3e-3
    weight_decay: NotNegative = 0.02
    #: Epochs without a better validation loss after which training ends
    patience: Count = 10
    #: Whether a network fitted to the increments alone is shown too
    increments: bool = True


class Verification(Configuration):
    """Forecasts and their scores."""

    #: Longest lead, in months
    leads: Annotated[int, pydantic.Field(ge=1, le=24)] = 12
    #: Block bootstrap over the months in which forecasts start
    samples: Count = 2000
    block: Count = 24
    #: Probability that the intervals hold
    level: Annotated[float, pydantic.Field(gt=0.0, lt=1.0)] = 0.95


class ElNinoConfiguration(Configuration):
    """Forecasts of El Niño by the recharge oscillator, with its error learnt from analyses."""

    experiment: Literal["elnino"]
    seed: Annotated[int, pydantic.Field(ge=0)] = 1
    training: Years = Years(first=1950, last=1984)
    validation: Years = Years(first=1985, last=1992)
    test: Years = Years(first=1993, last=2010)
    model: Oscillator = Oscillator()
    assimilation: Assimilation = Assimilation()
    estimation: Estimation = Estimation()
    learning: Learning = Learning()
    verification: Verification = Verification()

    @pydantic.model_validator(mode="after")
    def _check(self) -> ElNinoConfiguration:
        if self.training.first != FIRST_YEAR:
            raise ValueError(f"training.first: expected {FIRST_YEAR}, where the observations begin")
        for earlier, later in (("training", "validation"), ("validation", "test")):
            if getattr(self, later).first <= getattr(self, earlier).last:
                raise ValueError(f"{later}.first: expected a year after {earlier}.last")
        horizon = max(self.learning.horizon, self.verification.leads)
        for name in ("training", "validation", "test"):
            years: Years = getattr(self, name)
            if 12 * (years.last - years.first) < horizon:
                raise ValueError(f"{name}: too short for a lead of {horizon} months")
        return self
