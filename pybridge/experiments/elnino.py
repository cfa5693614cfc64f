# SPDX-License-Identifier: MIT
"""El Niño with real observations: assimilate, learn the model's error, forecast withheld years.

The recharge oscillator of Jin (1997) assimilates the observed anomaly of the sea-surface
temperature alone; 4D-Var finds the thermocline depth that nobody observed. A network learns the
model's error on the first decades, and forecasts of the last ones are verified against
persistence, climatology, a regression and the uncorrected model.

A forecast that starts in a month knows the observations up to this month and nothing later: each
analysis is the end of a window that ends there, and the window's background is the end of the
window that ended where this one begins. So no observation is used twice, nor ahead of its time.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pybridge import errors
from pybridge._files import replacing
from pybridge._validation import Array
from pybridge.assimilation import DiagonalCovariance, FourDVar, Observations
from pybridge.experiments import elnino_plot, elnino_tables
from pybridge.experiments._report import Report
from pybridge.experiments._skill import verify
from pybridge.experiments._store import Store, write_dataset
from pybridge.experiments.elnino_configuration import (
    FIRST_YEAR,
    PHYSICS,
    ElNinoConfiguration,
    Physics,
    Window,
    Years,
)
from pybridge.hybrid import HybridModel
from pybridge.models import Model, RechargeOscillator
from pybridge.network import Network

#: Units of the model's state (Jin 1997): kelvin and metres
UNITS = np.array([7.5, 150.0])
#: A year in the model's unit of time, two months
YEAR = 6.0
_MONTH = YEAR / 12.0

# Years after the first, in which the state has found to the observations; they are not scored
_SPIN_UP = 5
_DAMPED, _PERSISTENCE, _CLIMATOLOGY = "damped persistence", "persistence", "climatology"
_REGRESSION = "regression"
_RIDGE = (0.0, 10.0, 30.0, 100.0, 300.0, 1000.0)

#: Months, counted from January of the first year observed
Months = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Cycled:
    """What cycling 4D-Var made of a series of months, in the model's units.

    Attributes
    ----------
    background, analysis : numpy.ndarray, shape (months, 2)
        State at the beginning of the window that ends with each month, before and after.
    state : numpy.ndarray, shape (months, 2)
        State in each month, from the observations up to this month: where forecasts start.
    parameters : numpy.ndarray, shape (months, n_parameters)
        Parameters after each window.
    """

    background: Array
    analysis: Array
    state: Array
    parameters: Array


@dataclass(frozen=True)
class System:
    """A version of the model, with or without a network, that assimilates and forecasts."""

    physics: Physics
    correction: Literal["none", "increments", "network"]
    members: int

    @property
    def name(self) -> str:
        """The system's name in tables."""
        return self.physics if self.correction == "none" else f"{self.physics} + {self.correction}"


# ---- observations ----


def observations(training: Years) -> xr.Dataset:
    """Return the observed temperatures, and anomalies from the climatology of some years.

    Parameters
    ----------
    training : Years
        The climatology is the mean over these years alone.

    Returns
    -------
    xarray.Dataset
        ``sst`` and ``anomaly`` by ``time`` (the middle of each month), ``climatology`` by
        ``month``, in °C and kelvin. Monthly means of the Niño 1+2 region (0-10°S, 90-80°W), NOAA
        ERSST, as they come with statsmodels; public domain.
    """
    from statsmodels.datasets import elnino

    table = elnino.load_pandas().data
    years = table["YEAR"].to_numpy().astype(int)
    if years[0] != FIRST_YEAR or (np.diff(years) != 1).any():
        raise errors.FileFormatError("statsmodels' data set elnino is not the one of 1950 to 2010")
    sst = table.drop(columns="YEAR").to_numpy(float)
    if sst.shape[1] != 12 or not np.isfinite(sst).all():
        raise errors.FileFormatError("statsmodels' data set elnino has months missing")
    chosen = (years >= training.first) & (years <= training.last)
    climatology = sst[chosen].mean(0)
    first = np.datetime64(f"{years[0]}-01", "M")
    time = (first + np.arange(sst.size)).astype("datetime64[D]") + np.timedelta64(14, "D")
    return xr.Dataset(
        {
            "sst": ("time", sst.ravel(), {"units": "degC"}),
            "anomaly": ("time", (sst - climatology).ravel(), {"units": "K"}),
            "climatology": ("month", climatology, {"units": "degC"}),
        },
        {"time": time.astype("datetime64[ns]"), "month": np.arange(1, 13)},
    )


def months_of(years: Years) -> range:
    """Return the months of a segment, counted from January of the first year observed."""
    return range(12 * (years.first - FIRST_YEAR), 12 * (years.last - FIRST_YEAR + 1))


def starts_of(years: Years, horizon: int, *, spin_up: int = 0) -> Months:
    """Return the months whose forecasts over a horizon are verified within a segment."""
    months = months_of(years)
    return np.arange(months.start + 12 * spin_up, months.stop - horizon)


# ---- assimilation and forecasts ----


def assimilate(
    model: Model,
    anomaly: Array,
    window: Window,
    configuration: ElNinoConfiguration,
    *,
    parameter_sigma: Sequence[float] | None = None,
    parameters: Array | None = None,
) -> Cycled:
    """Cycle 4D-Var over months, each window ending one month after the one before.

    The background of a window is the state that the window ending at its beginning gave, so that
    windows of several months make as many cycles, side by side.

    Parameters
    ----------
    model : Model
        The recharge oscillator, or a hybrid of it.
    anomaly : numpy.ndarray, shape (months,)
        Observed anomalies, in kelvin, the first in a January.
    window : Window
        Length and background errors.
    configuration : ElNinoConfiguration
        The rest.
    parameter_sigma : sequence of float, optional
        Background errors of the model's parameters, which are then estimated, from month to month.
    parameters : numpy.ndarray, optional
        Parameters at the beginning; the model's own if not given.
    """
    settings = configuration.assimilation
    per_month = configuration.model.steps_per_month
    observed = anomaly / UNITS[0]
    fourdvar = FourDVar(
        model,
        DiagonalCovariance([window.sigma_t, window.sigma_h]),
        steps=window.months * per_month,
        outer=settings.outer,
        inner=settings.inner,
        tolerance=settings.tolerance,
        outer_tolerance=settings.outer_tolerance,
        parameter_sigma=None if parameter_sigma is None else list(parameter_sigma),
    )
    template = Observations(
        range(per_month, fourdvar.steps + 1, per_month),
        [0],
        observed[: window.months, None],
        settings.observation_error,
    )
    count = observed.size
    state = np.zeros((count, 2))
    # Nothing is known at the beginning but the temperature
    state[: window.months, 0] = observed[: window.months]
    background, analysis = state.copy(), state.copy()
    p = np.array(model.parameters if parameters is None else parameters)
    history = np.tile(p, (count, 1))
    for month in range(window.months, count):
        begin = month - window.months
        background[month] = state[begin]
        result = fourdvar.analyse(
            state[begin],
            template.with_values(observed[begin + 1 : month + 1, None]),
            start=begin * per_month,
            parameters=p if parameter_sigma is not None else None,
        )
        analysis[month], state[month] = result.analysis, result.final
        if parameter_sigma is not None:
            p = result.parameters
            history[month] = p
    return Cycled(background, analysis, state, history)


def forecast(model: Model, states: Array, starts: Months, leads: int, per_month: int) -> Array:
    """Run forecasts of the temperature anomaly.

    Parameters
    ----------
    model : Model
        The recharge oscillator, or a hybrid of it.
    states : numpy.ndarray, shape (months, 2)
        State of each month.
    starts : numpy.ndarray of int, shape (starts,)
        Months in which forecasts start.
    leads : int
        Longest lead, in months.
    per_month : int
        The model's time steps in a month.

    Returns
    -------
    numpy.ndarray, shape (starts, leads)
        Anomalies after 1, 2, … months, in kelvin.
    """
    result = np.empty((starts.size, leads))
    # One run for all years: the model knows the time of year, but not the year
    for month in range(12):
        chosen = starts % 12 == month
        if chosen.any():
            runs = model.trajectory(
                states[starts[chosen]],
                leads * per_month,
                every=per_month,
                start=month * per_month,
            )
            result[chosen] = runs[:, 1:, 0] * UNITS[0]
    return result


def mean_skill(forecasts: Array, anomaly: Array, starts: Months) -> float:
    """Return one minus the mean squared error over climatology's, averaged over leads."""
    truth = anomaly[starts[:, None] + np.arange(1, forecasts.shape[1] + 1)]
    error = ((forecasts - truth) ** 2).mean(0)
    return float((1.0 - error / (truth**2).mean(0)).mean())


# ---- forecasts without the model ----


def damping(anomaly: Array, training: Years, leads: int) -> Array:
    """Return the regression of anomalies on those 1, 2, … months earlier, in the training years."""
    x = anomaly[: months_of(training).stop]
    return np.array(
        [(x[lead:] @ x[:-lead]) / (x[:-lead] @ x[:-lead]) for lead in range(1, leads + 1)]
    )


def regression(
    anomaly: Array, configuration: ElNinoConfiguration
) -> tuple[Array, dict[str, float]]:
    """Forecast by ridge regression on the observed anomalies themselves.

    Predictors are the last anomaly, its changes over 1 and 3 months, that 6 months ago and the
    mean over the last year; or the same, each also times cosine and sine of the time of year.
    Fitted to the training years; ridge and season are chosen on the validation years.

    Returns
    -------
    numpy.ndarray, shape (months, leads)
        Forecasts from every month; NaN in the first ones.
    dict
        What was chosen: ``ridge``, ``season``, and the ``skill`` on the validation years.
    """
    leads = configuration.verification.leads
    months = np.arange(anomaly.size)
    plain = np.full((anomaly.size, 5), np.nan)
    for month in months[11:]:
        x = anomaly[: month + 1]
        plain[month] = (x[-1], x[-1] - x[-2], x[-1] - x[-4], x[-7], x[-12:].mean())
    angle = 2.0 * np.pi * months / 12.0
    season = np.stack([np.ones(months.size), np.cos(angle), np.sin(angle)], -1)
    seasonal = (plain[:, :, None] * season[:, None]).reshape(months.size, -1)
    validation = starts_of(configuration.validation, leads)
    best: tuple[float, Array, dict[str, float]] | None = None
    for use_season, predictors in ((0.0, plain), (1.0, seasonal)):
        for ridge in _RIDGE:
            forecasts = np.full((months.size, leads), np.nan)
            for lead in range(1, leads + 1):
                fitted = starts_of(configuration.training, lead, spin_up=1)
                x, y = predictors[fitted], anomaly[fitted + lead]
                gram = x.T @ x + ridge * np.eye(x.shape[1])
                forecasts[:, lead - 1] = predictors @ np.linalg.solve(gram, x.T @ y)
            skill = mean_skill(forecasts[validation], anomaly, validation)
            if best is None or skill > best[0]:
                best = skill, forecasts, {"ridge": ridge, "season": use_season, "skill": skill}
    assert best is not None
    return best[1], best[2]


# ---- the experiment ----


def run(configuration: ElNinoConfiguration, store: Store, report: Report) -> xr.Dataset:
    """Run the experiment, or what is left of it.

    Returns
    -------
    xarray.Dataset
        Observations, analyses, forecasts and scores, as written to ``results.nc``.
    """
    result = _Experiment(configuration, store, report).results()
    write_dataset(result, store.directory / "results.nc")
    pictures = elnino_plot.plot(result, store.directory)
    elnino_tables.tell(result, report, [store.directory / "results.nc", *pictures])
    return result


class _Experiment:
    """The experiment's parts, each made when it is first needed, and kept in the store."""

    def __init__(self, configuration: ElNinoConfiguration, store: Store, report: Report) -> None:
        self.configuration = configuration
        self.store = store
        self.report = report
        self.observed = observations(configuration.training)
        self.anomaly = self.observed["anomaly"].to_numpy()
        self.leads = configuration.verification.leads
        self.per_month = configuration.model.steps_per_month

    # The model, and its two parameters

    def physics(self, row: Physics) -> RechargeOscillator:
        """Return the uncorrected model with the parameters of a row."""
        mu, e_n = self.parameters(row)
        return self.oscillator(mu, e_n)

    def oscillator(self, mu: float, e_n: float) -> RechargeOscillator:
        """Return the recharge oscillator with the experiment's time step."""
        return RechargeOscillator(mu=mu, e_n=e_n, dt=_MONTH / self.per_month)

    def parameters(self, row: Physics) -> tuple[float, float]:
        """Return mu and e_n."""
        settings = self.configuration.model
        if row == "default":
            return settings.mu, settings.e_n
        make = self._estimate if row == "estimated" else self._fit
        found = self.store.dataset(f"parameters-{row}", make)
        return float(found["mu"]), float(found["e_n"])

    def _estimate(self) -> xr.Dataset:
        """Estimate mu and e_n by 4D-Var, together with the state, on the training years."""
        settings = self.configuration.estimation
        model = self.oscillator(*self.parameters("default"))
        sigma = [settings.sigma_mu, settings.sigma_e_n, *[0.0] * (model.n_parameters - 2)]
        training = self.anomaly[: months_of(self.configuration.training).stop]
        with self.report.stage("estimated: mu and e_n in 4D-Var"):
            cycled = assimilate(
                model, training, settings.window, self.configuration, parameter_sigma=sigma
            )
        history = cycled.parameters[:, :2]
        mean = history[-12 * settings.years :].mean(0)
        # A negative e_n would make large anomalies grow without bound
        return xr.Dataset(
            {
                "mu": mean[0],
                "e_n": max(mean[1], 0.0),
                "history": (("training_month", "parameter"), history),
            },
            {"parameter": ["mu", "e_n"]},
        )

    def _fit(self) -> xr.Dataset:
        """Choose mu and e_n by the forecasts of the training years that their analyses give."""
        settings = self.configuration.estimation
        window = self.window("default")
        starts = starts_of(self.configuration.training, self.leads, spin_up=_SPIN_UP)
        training = self.anomaly[: months_of(self.configuration.training).stop]
        skill = np.full((len(settings.mu), len(settings.e_n)), -np.inf)
        with self.report.stage("fitted: mu and e_n by forecasts", skill.size) as advance:
            for i, mu in enumerate(settings.mu):
                for j, e_n in enumerate(settings.e_n):
                    skill[i, j] = self.skill_of(self.oscillator(mu, e_n), window, starts, training)
                    advance()
        best = int(skill.argmax())
        i, j = best // skill.shape[1], best % skill.shape[1]
        return xr.Dataset(
            {
                "mu": settings.mu[i],
                "e_n": settings.e_n[j],
                "training_skill": (("mu_tried", "e_n_tried"), skill),
            },
            {"mu_tried": list(settings.mu), "e_n_tried": list(settings.e_n)},
        )

    def skill_of(self, model: Model, window: Window, starts: Months, anomaly: Array) -> float:
        """Return the mean skill of a model's forecasts from its own analyses; -inf: it blew up."""
        try:
            cycled = assimilate(model, anomaly, window, self.configuration)
            forecasts = forecast(model, cycled.state, starts, self.leads, self.per_month)
        except errors.BlowUpError:
            return -np.inf
        return mean_skill(forecasts, anomaly, starts)

    # The window

    def window(self, row: Physics) -> Window:
        """Return the window whose analyses gave the best forecasts of the validation years."""
        candidates = self.configuration.assimilation.candidates
        if len(candidates) == 1:
            return candidates[0]
        tuning = self.store.dataset(f"window-{row}", lambda: self._tune(row))
        return candidates[int(np.argmax(tuning["skill"].to_numpy()))]

    def _tune(self, row: Physics) -> xr.Dataset:
        candidates = self.configuration.assimilation.candidates
        model = self.physics(row)
        starts = starts_of(self.configuration.validation, self.leads)
        past = self.anomaly[: months_of(self.configuration.validation).stop]
        with self.report.stage(f"{row}: choosing the window", len(candidates)) as advance:
            skill = []
            for window in candidates:
                skill.append(self.skill_of(model, window, starts, past))
                advance()
        if not np.isfinite(skill).any():
            raise errors.BlowUpError(f"{row}: the model blew up with every window of candidates")
        return xr.Dataset(
            {
                "skill": ("candidate", skill),
                "months": ("candidate", [w.months for w in candidates]),
                "sigma_t": ("candidate", [w.sigma_t for w in candidates]),
                "sigma_h": ("candidate", [w.sigma_h for w in candidates]),
            }
        )

    # Networks

    def hybrid(
        self, row: Physics, number: int, turn: int, *, increments: bool = False
    ) -> HybridModel:
        """Return the model with a network: that of the last turn of the circle, counted from 1."""
        kind = "increments" if increments else f"turn-{turn}"
        path = self.store.path(f"network-{row}-{number + 1}-{kind}.pbn")
        if not path.exists():
            network = (
                self._train_on_increments(row, number)
                if increments
                else self._train(row, number, turn)
            )
            with replacing(path) as temporary:
                network.save(temporary)
        return HybridModel(self.physics(row), Network.load(path), "tendency", periods=[YEAR])

    def cycled(self, row: Physics, number: int, turn: int) -> Cycled:
        """Return the analyses of a turn's model up to the end of the validation years."""
        name = f"analyses-{row}" + (f"-{number + 1}-turn-{turn}" if turn else "")
        kept = self.store.arrays(name)
        if kept is None:
            model = self.hybrid(row, number, turn) if turn else self.physics(row)
            past = self.anomaly[: months_of(self.configuration.validation).stop]
            made = assimilate(model, past, self.window(row), self.configuration)
            kept = {key: getattr(made, key) for key in Cycled.__dataclass_fields__}
            kept["parameters"] = kept["parameters"][:0]
            self.store.keep(name, kept)
        return Cycled(**kept)

    def _train(self, row: Physics, number: int, turn: int) -> Network:
        """Train a network through the model, from its analyses to later observations."""
        from pybridge.experiments import elnino_learning as learning

        settings = self.configuration.learning
        horizon = settings.horizon
        before = None
        if turn > 1:
            before = self.hybrid(row, number, turn - 1).network
        # From the analyses of the last two turns: those of the model as it is, and as it was
        turns = range(max(turn - 2, 0), turn)
        sets = {}
        for name in ("training", "validation"):
            years: Years = getattr(self.configuration, name)
            starts = starts_of(years, horizon, spin_up=1 if name == "training" else 0)
            states = [self.cycled(row, number, t).state[starts] for t in turns]
            later = self.anomaly[starts[:, None] + np.arange(1, horizon + 1)] / UNITS[0]
            sets[name] = learning.Samples(
                np.concatenate(states),
                np.tile(starts % 12 * self.per_month, len(turns)),
                np.tile(later, (len(turns), 1)),
            )
        seed = self.configuration.seed * 1000 + number
        label = f"{row}: training network {number + 1}, turn {turn}"
        with self.report.stage(label, settings.epochs) as advance:
            network, losses = learning.train_through_model(
                self.physics(row),
                sets["training"],
                sets["validation"],
                settings,
                seed=seed,
                per_month=self.per_month,
                period=YEAR,
                weights=before,
                advance=advance,
            )
        self.report.say(f"{label}: loss {losses[0]:.4f}, validation {losses[1]:.4f}")
        return network

    def _train_on_increments(self, row: Physics, number: int) -> Network:
        """Train a network on the increments alone, as a tendency over the window."""
        from pybridge.experiments import elnino_learning as learning

        window = self.window(row)
        cycled = self.cycled(row, number, 0)
        sets = {}
        for name in ("training", "validation"):
            months = np.array(months_of(getattr(self.configuration, name)))
            months = months[months >= 12 + window.months]
            # The increment corrects what went wrong on the way to the window's beginning
            begin = months - window.months
            tendency = (cycled.analysis - cycled.background)[months] / (window.months * _MONTH)
            sets[name] = learning.Samples(cycled.state[begin], begin % 12, tendency)
        seed = self.configuration.seed * 1000 + number
        with self.report.stage(f"{row}: training network {number + 1} on increments"):
            return learning.train_on_tendencies(
                sets["training"], sets["validation"], self.configuration.learning, seed=seed
            )

    # Results

    def systems(self) -> list[System]:
        """Return all systems that run the model."""
        settings = self.configuration.learning
        systems = [System(physics, "none", 1) for physics in PHYSICS]
        for physics in settings.corrected:
            if settings.increments:
                systems.append(System(physics, "increments", settings.networks))
            systems.append(System(physics, "network", settings.networks))
        return systems

    def models(self, system: System) -> list[Model]:
        """Return the models of a system, one for each member."""
        if system.correction == "none":
            return [self.physics(system.physics)]
        return [
            self.hybrid(
                system.physics,
                number,
                self.configuration.learning.passes,
                increments=system.correction == "increments",
            )
            for number in range(system.members)
        ]

    def starts(self) -> dict[str, Months]:
        """Return the months in which forecasts start, by the segment that verifies them."""
        return {
            "validation": starts_of(self.configuration.validation, self.leads),
            "test": starts_of(self.configuration.test, self.leads),
        }

    def results(self) -> xr.Dataset:
        """Return observations, analyses, forecasts and scores, labelled."""
        runs = {
            system: self.store.dataset(
                f"run-{system.physics}-{system.correction}", functools.partial(self._run, system)
            )
            for system in self.systems()
        }
        result = self._forecasts(runs)
        settings = self.configuration.verification
        for segment in self.starts():
            inside = result["segment"].to_numpy() == segment
            scores = verify(
                result["forecast"].isel(start=inside),
                result["verification"].isel(start=inside),
                {str(name): str(other) for name, other in result["partner"].to_series().items()},
                reference=_CLIMATOLOGY,
                rival=_DAMPED,
                block=settings.block,
                samples=settings.samples,
                level=settings.level,
                seed=self.configuration.seed,
            )
            prefix = "" if segment == "test" else f"{segment}_"
            for key, array in scores.data_vars.items():
                result[f"{prefix}{key}"] = array
        for key in ("state", "background", "increment"):
            result[key] = xr.concat(
                [made[key] for made in runs.values()],
                xr.DataArray([system.name for system in runs], dims="model", name="model"),
                join="outer",
            )
            result[key].attrs["units"] = "K (temperature), m (thermocline)"
        result["parameters"] = (
            ("physics", "parameter"),
            np.array([self.parameters(row) for row in PHYSICS]),
        )
        result = result.assign_coords(physics=list(PHYSICS), parameter=["mu", "e_n"])
        history = self.store.dataset("parameters-estimated", self._estimate)["history"].to_numpy()
        padded = np.full((self.anomaly.size, 2), np.nan)
        padded[: len(history)] = history
        result["estimated_parameters"] = (("time", "parameter"), padded)
        windows = {row: self.window(row).model_dump() for row in PHYSICS}
        result.attrs |= {
            "title": "El Niño forecasts by a recharge oscillator and networks",
            "observations": "NOAA ERSST, Niño 1+2, monthly means, from statsmodels (public domain)",
            "configuration": self.configuration.model_dump_json(),
            "windows": json.dumps(windows),
        }
        return result

    def _forecasts(self, runs: dict[System, xr.Dataset]) -> xr.Dataset:
        """Return the observations, and the forecasts of all systems with what verifies them."""
        segments = self.starts()
        starts = np.concatenate(list(segments.values()))
        leads = np.arange(1, self.leads + 1)
        now = self.anomaly[starts, None]
        fitted, chosen = regression(self.anomaly, self.configuration)
        forecasts = {
            _CLIMATOLOGY: np.zeros((1, starts.size, self.leads)),
            _PERSISTENCE: np.repeat(now, self.leads, 1)[None],
            _DAMPED: (now * damping(self.anomaly, self.configuration.training, self.leads))[None],
            _REGRESSION: fitted[starts][None],
        }
        partners = {}
        for system, made in runs.items():
            members = made["forecast"].to_numpy()
            forecasts[system.name] = members
            if system.correction != "none":
                partners[system.name] = system.physics
            if system.correction == "network":
                # The mean of the networks' forecasts, as a forecast of its own
                forecasts[f"{system.name}s"] = members.mean(0, keepdims=True)
                partners[f"{system.name}s"] = system.physics
        shape = (len(forecasts), self.configuration.learning.networks, starts.size, self.leads)
        values = np.full(shape, np.nan)
        for number, members in enumerate(forecasts.values()):
            values[number, : len(members)] = members
        result = self.observed.assign_coords(
            system=list(forecasts),
            member=np.arange(shape[1]),
            lead=("lead", leads, {"units": "months"}),
            start=self.observed["time"].to_numpy()[starts],
        )
        result["forecast"] = (("system", "member", "start", "lead"), values, {"units": "K"})
        verifying = self.anomaly[starts[:, None] + leads]
        result["verification"] = (("start", "lead"), verifying, {"units": "K"})
        result["partner"] = ("system", [partners.get(name, "") for name in forecasts])
        names = np.concatenate([[name] * months.size for name, months in segments.items()])
        result["segment"] = ("start", names)
        result.attrs["regression"] = json.dumps(chosen)
        return result

    def _run(self, system: System) -> xr.Dataset:
        """Assimilate all years with each member of a system, and forecast."""
        models = self.models(system)
        window = self.window(system.physics)
        starts = np.concatenate(list(self.starts().values()))
        arrays: dict[str, list[Array]] = {
            key: [] for key in ("state", "background", "increment", "forecast")
        }
        with self.report.stage(f"{system.name}: analyses and forecasts", len(models)) as advance:
            for model in models:
                cycled = assimilate(model, self.anomaly, window, self.configuration)
                arrays["state"].append(cycled.state * UNITS)
                arrays["background"].append(cycled.background * UNITS)
                arrays["increment"].append((cycled.analysis - cycled.background) * UNITS)
                arrays["forecast"].append(
                    forecast(model, cycled.state, starts, self.leads, self.per_month)
                )
                advance()
        dims = dict.fromkeys(arrays, ("member", "time", "variable"))
        dims["forecast"] = ("member", "start", "lead")
        return xr.Dataset(
            {key: (dims[key], np.array(value)) for key, value in arrays.items()},
            {
                "member": np.arange(len(models)),
                "time": self.observed["time"].to_numpy(),
                "variable": ["temperature", "thermocline"],
            },
        )
