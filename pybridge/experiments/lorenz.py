# SPDX-License-Identifier: MIT
"""The circle with the two-scale Lorenz-96 model: assimilate, learn, assimilate with the hybrid.

Truth is the two-scale model, the forecast model the one-scale one, which lacks the fast variables.
Cycling 4D-Var analyses noisy observations; networks and classical closures correct the model; the
corrected models assimilate and forecast. The setting is that of Brajard et al. (2021).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pybridge._files import replacing
from pybridge._validation import Array
from pybridge.experiments import lorenz_plot, lorenz_tables
from pybridge.experiments._cost import parts_of_time
from pybridge.experiments._replicas import map_replicas
from pybridge.experiments._report import Report
from pybridge.experiments._store import Store, write_dataset
from pybridge.experiments.lorenz_configuration import LorenzConfiguration, Row, Segment
from pybridge.experiments.lorenz_cycling import (
    Cycling,
    assimilate,
    forecast_model,
    fourdvar,
    observed,
    perfect_forecasts,
    truth_states,
    unresolved_tendency,
)
from pybridge.hybrid import HybridModel
from pybridge.models import Model
from pybridge.network import Network

# Samples of the truth's own unresolved tendency, for closures fitted to it
_TRUTH_SAMPLES = 8000
# Where corrections are drawn
_X_VALUES = np.linspace(-10.0, 16.0, 53)


def run(configuration: LorenzConfiguration, store: Store, report: Report) -> xr.Dataset:
    """Run the experiment, or what is left of it.

    Returns
    -------
    xarray.Dataset
        Scores by correction and replica, as written to ``results.nc``.
    """
    experiment = _Experiment(configuration, store, report)
    for row in configuration.rows:
        experiment.evaluate(row)
    result = experiment.results()
    write_dataset(result, store.directory / "results.nc")
    lorenz_plot.plot(result, store.directory)
    lorenz_tables.tell(result, report, store.directory)
    experiment.tell_exactness()
    experiment.tell_times()
    return result


class _Experiment:
    """The experiment's parts, each made when it is first needed, and kept in the store."""

    def __init__(self, configuration: LorenzConfiguration, store: Store, report: Report) -> None:
        self.configuration = configuration
        self.store = store
        self.report = report
        self.n = configuration.truth.n_slow
        self.physics = forecast_model(configuration)
        self._truth_samples: tuple[Array, Array] | None = None
        self._coefficients: dict[str, Array] = {}

    def evaluate(self, row: Row) -> xr.Dataset:
        """Return a correction's scores on the test segment."""
        return self.store.dataset(f"test-{_name(row)}", lambda: self._evaluate(row))

    def _evaluate(self, row: Row) -> xr.Dataset:
        configuration = self.configuration
        models = self.models(row)
        sigma_b = self.sigma_b(row)
        result = self.cycle("test", row, models, configuration.test, sigma_b)
        replicas = range(configuration.forecasts.replicas)
        with self.report.stage(f"{row}: forecasts from perfect states", len(replicas)) as advance:
            pairs = map_replicas(
                lambda replica: perfect_forecasts(
                    configuration, models[replica % len(models)], replica
                ),
                replicas,
                workers=configuration.workers,
                advance=advance,
            )
        result["perfect_mse"] = (
            ("forecast_replica", "perfect_lead"),
            np.array([error for error, _ in pairs]),
        )
        result["model_variance"] = ("forecast_replica", np.array([var for _, var in pairs]))
        result["sigma_b"] = sigma_b
        if row != "none":
            x, _ = self.truth_samples()
            network = Network.load(self.network_paths(row)[0])
            result["correction"] = ("x_value", _mean_by_x(x, network.forward(x)))
        return result

    def models(self, row: Row) -> list[Model]:
        """Return the models with this correction, one for each network."""
        if row == "none":
            return [self.physics]
        return [
            HybridModel(self.physics, Network.load(path), "tendency")
            for path in self.network_paths(row)
        ]

    def network_paths(self, row: Row) -> list[Path]:
        """Return the files of this correction's networks, which are made where they are not."""
        trained = row.startswith("network")
        count = self.configuration.learning.networks if trained else 1
        paths = [self.store.path(f"{_name(row)}-{number}.pbn") for number in range(count)]
        for number, path in enumerate(paths):
            if not path.exists():
                network = self.train(row, number) if trained else self.closure(row)
                with replacing(path) as temporary:
                    Network.from_keras(network).save(temporary)
        return paths

    def closure(self, row: Row) -> Any:
        """Return a polynomial fitted to the truth's unresolved tendency."""
        from pybridge.learning import polynomial_network

        x, tendency = self.truth_samples()
        degree = {"constant": 0, "linear": 1, "cubic": 3}[row]
        coefficients = np.polynomial.polynomial.polyfit(x.ravel(), tendency.ravel(), degree)
        self.report.say(f"{row}: " + " ".join(f"{value:.5g}" for value in coefficients))
        return polynomial_network(self.n, coefficients)

    def train(self, row: Row, number: int) -> Any:
        """Train one network."""
        from pybridge import learning

        settings = self.configuration.learning
        seed = self.configuration.seed * 1000 + number
        last = (0.0, 0.0)

        def on_epoch(epoch: int, loss: float, validation: float) -> None:
            nonlocal last
            last = (loss, validation)
            advance()

        training = learning.Training(
            epochs=settings.epochs,
            batch=settings.batch,
            learning_rate=settings.learning_rate,
            validation=settings.validation,
            patience=settings.patience,
            seed=seed,
            on_epoch=on_epoch,
        )
        network = learning.stencil_network(
            self.n,
            stencil=settings.stencil,
            hidden=settings.hidden,
            centre=settings.centre,
            scale=settings.scale,
            seed=seed,
        )
        # Data, and weights to begin with, are made before this stage's time is taken
        if row == "network, truth":
            x, target = self.truth_samples()
        elif row == "network, increments":
            x, later = self.analysis_pairs("none", number)
            target = (later - self.physics.step(x, self.configuration.window.steps)) / (
                self.configuration.window.steps * self.configuration.window.dt
            )
        else:
            first = row == "network, trajectories"
            x, target = self.analysis_pairs("none" if first else "network, trajectories", number)
            before: Row = "network, increments" if first else "network, trajectories"
            network.set_weights(
                Network.load(self.network_paths(before)[number]).to_keras().get_weights()
            )
        with self.report.stage(f"{row}: training {number + 1}", settings.epochs) as advance:
            if row in ("network, truth", "network, increments"):
                learning.fit_tendency(network, x, target, training)
            else:
                learning.fit_trajectory(
                    network,
                    self.physics,
                    x,
                    target,
                    self.configuration.window.steps,
                    training,
                    threads=self.configuration.workers,
                )
        self.report.say(f"{row}: loss {last[0]:.5f}, validation {last[1]:.5f}")
        return network

    def truth_samples(self) -> tuple[Array, Array]:
        """Return slow variables of the truth and the tendency they lack, of the training segment.

        Both have shape (samples, n).
        """
        if self._truth_samples is None:
            segment = self.configuration.training
            steps = self.configuration.window.steps
            every = max(1, segment.replicas * segment.windows * steps // _TRUTH_SAMPLES)
            states = np.concatenate(
                [
                    truth_states(self.configuration, "training", replica, segment.windows * steps)[
                        0
                    ][segment.spin_up * steps :: every]
                    for replica in range(segment.replicas)
                ]
            )
            self._truth_samples = (
                states[:, : self.n],
                unresolved_tendency(self.configuration, states),
            )
        return self._truth_samples

    def analysis_pairs(self, row: Row, number: int) -> tuple[Array, Array]:
        """Return analyses of the training segment by a model, and those of the next window."""
        model = self.models(row)[number if row != "none" else 0]
        label = row if row == "none" else f"{row} {number + 1}"
        analyses = self.store.dataset(
            f"training-{_name(label)}",
            lambda: self.cycle(
                "training", label, [model], self.configuration.training, self.sigma_b(row)
            ),
        )["analysis"].to_numpy()[:, self.configuration.training.spin_up :]
        return (
            analyses[:, :-1].reshape(-1, self.n),
            analyses[:, 1:].reshape(-1, self.n),
        )

    def sigma_b(self, row: Row) -> float:
        """Return a correction's background error, tuned on a segment of its own if not given."""
        given = self.configuration.sigma_b.get(row)
        if given is not None:
            return given
        tuned = self.store.dataset(f"tuning-{_name(row)}", lambda: self._tune(row))
        return float(tuned["sigma_b"].to_numpy()[tuned["fg"].to_numpy().argmin()])

    def _tune(self, row: Row) -> xr.Dataset:
        tuning = self.configuration.tuning
        model = self.models(row)[0]
        tasks = [
            Cycling(self.configuration, "tuning", tuning.segment, replica, model, sigma_b)
            for sigma_b in tuning.candidates
            for replica in range(tuning.segment.replicas)
        ]
        with self.report.stage(f"{row}: tuning", len(tasks)) as advance:
            arrays = map_replicas(
                assimilate, tasks, workers=self.configuration.workers, advance=advance
            )
        errors = np.array([a["fg"][tuning.segment.spin_up :].mean() for a in arrays])
        errors = errors.reshape(len(tuning.candidates), -1).mean(1)
        return xr.Dataset(
            {"fg": ("sigma_b", np.sqrt(errors))}, {"sigma_b": list(tuning.candidates)}
        )

    def cycle(
        self, segment: str, label: str, models: list[Model], size: Segment, sigma_b: float
    ) -> xr.Dataset:
        """Cycle all replicas of a segment, going on from what was kept of each."""

        def one(replica: int) -> dict[str, Array]:
            name = f"{segment}-{_name(label)}-{replica}"
            model = models[replica % len(models)]
            task = Cycling(self.configuration, segment, size, replica, model, sigma_b)
            return assimilate(
                task, self.store.arrays(name), lambda arrays: self.store.keep(name, arrays)
            )

        replicas = range(size.replicas)
        with self.report.stage(f"{label}: cycling ({segment})", size.replicas) as advance:
            results = map_replicas(
                one, replicas, workers=self.configuration.workers, advance=advance
            )
        for replica in replicas:
            self.store.drop(f"{segment}-{_name(label)}-{replica}")
        return _cycling_dataset(results, self.configuration)

    def tell_exactness(self) -> None:
        """Write how exactly the last correction went from Keras into the Fortran time loop."""
        row = self.configuration.rows[-1]
        if row == "none":
            return
        network = Network.load(self.network_paths(row)[0])
        keras = network.verify(network.to_keras())
        window = self.configuration.window
        hybrid = self.models(row)[0]
        rng = np.random.default_rng(0)
        x = self.evaluate(row)["analysis"].to_numpy()[0, -1]
        dx, y_ad = rng.standard_normal((2, self.n))
        dp = rng.standard_normal(hybrid.n_parameters)
        dy = hybrid.step_tl(x, dx, window.steps, dp=dp)
        x_ad, p_ad = hybrid.step_ad(x, y_ad, window.steps)
        scale = np.linalg.norm(dy) * np.linalg.norm(y_ad)
        dot_product = abs(dy @ y_ad - dx @ x_ad - dp @ p_ad) / scale
        self.report.table(
            f"Exactness: {row}",
            ["relative difference", "value"],
            [
                ["network in Fortran and in Keras: output", f"{keras.forward:.1e}"],
                ["tangent linear and TensorFlow's JVP", f"{keras.tangent_linear:.1e}"],
                ["adjoint and TensorFlow's VJP, input", f"{keras.adjoint:.1e}"],
                ["adjoint and TensorFlow's VJP, weights", f"{keras.adjoint_of_parameters:.1e}"],
                ["network: adjoint identity", f"{keras.dot_product:.1e}"],
                ["hybrid, a window: identity, state and weights", f"{dot_product:.1e}"],
            ],
        )

    def tell_times(self) -> None:
        """Write where the time of an analysis goes, without a correction and with the last one."""
        columns = {}
        for row in dict.fromkeys((self.configuration.rows[0], self.configuration.rows[-1])):
            task = Cycling(
                self.configuration,
                "test",
                self.configuration.test,
                0,
                self.models(row)[0],
                self.sigma_b(row),
            )
            # An uneventful window: the first after the spin-up
            cycle = self.configuration.test.spin_up
            background = self.evaluate(row)["background"].to_numpy()[0, cycle]
            columns[row] = parts_of_time(fourdvar(task), background, observed(task)[1][cycle])
        parts = list(columns[self.configuration.rows[0]])
        self.report.table(
            "One analysis in ms, each part measured alone",
            ["part", *columns],
            [[part, *(f"{column[part]:.3f}" for column in columns.values())] for part in parts],
        )

    def results(self) -> xr.Dataset:
        """Return the scores of all corrections."""
        skip = ["background", "analysis", "last", "increment"]
        parts = [
            self.evaluate(row).drop_vars(skip, errors="ignore") for row in self.configuration.rows
        ]
        result = xr.concat(
            parts,
            xr.DataArray(list(self.configuration.rows), dims="row", name="row"),
            data_vars="all",
            coords="minimal",
            compat="override",
            join="outer",
        )
        after = {"cycle": slice(self.configuration.test.spin_up, None)}
        for name in ("fg", "an", "end", "forecast"):
            result[f"rmse_{name}"] = np.sqrt(result[name].isel(after).mean("cycle"))
        result["r_rmse"] = np.sqrt(result["perfect_mse"] / (2.0 * result["model_variance"]))
        result["perfect_lead"] = (
            "perfect_lead",
            np.arange(result.sizes["perfect_lead"]) * self.configuration.window.dt,
        )
        x, tendency = self.truth_samples()
        some = slice(None, None, max(1, x.size // 4000))
        result["truth_x"] = ("truth_sample", x.ravel()[some])
        result["truth_tendency"] = ("truth_sample", tendency.ravel()[some])
        result["x_value"] = ("x_value", _X_VALUES)
        result.attrs = {
            "title": "Two-scale Lorenz-96: learning the model error of the one-scale model",
            "configuration": self.configuration.model_dump_json(),
        }
        for name in ("rmse_fg", "rmse_an", "rmse_end", "rmse_forecast"):
            result[name].attrs["long_name"] = _LONG_NAMES[name]
        return result


_LONG_NAMES = {
    "rmse_fg": "RMSE of the background at the window's start",
    "rmse_an": "RMSE of the analysis at the window's start",
    "rmse_end": "RMSE of the analysed state at the last observation time",
    "rmse_forecast": "RMSE of forecasts from the last observation time",
}


def _cycling_dataset(
    results: list[dict[str, Array]], configuration: LorenzConfiguration
) -> xr.Dataset:
    dims = {
        "background": ("replica", "cycle", "x"),
        "analysis": ("replica", "cycle", "x"),
        "last": ("replica", "cycle", "x"),
        "fg": ("replica", "cycle"),
        "an": ("replica", "cycle"),
        "end": ("replica", "cycle"),
        "forecast": ("replica", "cycle", "lead"),
    }
    dataset = xr.Dataset(
        {name: (dim, np.stack([r[name] for r in results])) for name, dim in dims.items()},
        {"lead": ("lead", list(configuration.leads), {"units": "model time units"})},
    )
    dataset["increment"] = dataset["analysis"] - dataset["background"]
    return dataset


def _mean_by_x(x: Array, y: Array) -> Array:
    """Return the mean of y where x is nearest to each of `_X_VALUES`; NaN where it never is."""
    bins = np.round((x.ravel() - _X_VALUES[0]) / (_X_VALUES[1] - _X_VALUES[0])).astype(int)
    inside = (bins >= 0) & (bins < _X_VALUES.size)
    count = np.bincount(bins[inside], minlength=_X_VALUES.size)
    total = np.bincount(bins[inside], y.ravel()[inside], minlength=_X_VALUES.size)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _name(row: str) -> str:
    return row.replace(", ", "-").replace(" ", "-")
