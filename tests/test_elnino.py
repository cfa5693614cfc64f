# SPDX-License-Identifier: MIT
"""The experiment with real observations: nothing of the future is used, and what is found is so."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("pydantic")
pytest.importorskip("statsmodels")

from pybridge import RechargeOscillator, errors
from pybridge.experiments import elnino, load_configuration, run
from pybridge.experiments._skill import block_counts, verify
from pybridge.experiments.elnino_configuration import (
    ElNinoConfiguration,
    Window,
    Years,
)

TRAINING = Years(first=1950, last=1984)
WINDOW = Window(months=2, sigma_t=0.05, sigma_h=0.05)
CONFIGURATION = ElNinoConfiguration(experiment="elnino")

SHORT = """
experiment = "elnino"
[assimilation]
candidates = [{ months = 1, sigma_t = 0.05, sigma_h = 0.05 }]
[estimation]
mu = [0.5]
e_n = [0.0, 1.0]
[learning]
corrected = ["fitted"]
networks = 2
hidden = 3
passes = 2
horizon = 3
epochs = 2
[verification]
leads = 6
samples = 50
"""


@pytest.fixture(scope="module")
def anomaly() -> np.ndarray:
    return elnino.observations(TRAINING)["anomaly"].to_numpy()


def test_observations_are_sixty_one_years_of_monthly_means() -> None:
    observed = elnino.observations(TRAINING)
    assert observed["sst"].shape == (732,)
    assert str(observed["time"].to_numpy()[0])[:10] == "1950-01-15"
    assert str(observed["time"].to_numpy()[-1])[:10] == "2010-12-15"
    # January 1950, and the El Niño of 1997/98, as NOAA has them
    assert observed["sst"][0] == pytest.approx(23.11)
    warmest = str(observed["time"].to_numpy()[int(np.argmax(observed["anomaly"].to_numpy()))])
    assert warmest[:4] in ("1983", "1997", "1998")


def test_anomalies_are_from_the_climatology_of_the_training_years_alone(monkeypatch) -> None:
    from statsmodels.datasets import elnino as source

    table = source.load_pandas()
    before = elnino.observations(TRAINING)
    training = before["anomaly"].to_numpy()[: 35 * 12].reshape(35, 12)
    np.testing.assert_allclose(training.mean(0), 0.0, atol=1e-12)

    changed = table.data.copy()
    changed.iloc[35:, 1:] += 3.0
    table.data = changed
    monkeypatch.setattr(source, "load_pandas", lambda: table)
    after = elnino.observations(TRAINING)
    np.testing.assert_array_equal(before["climatology"], after["climatology"])
    np.testing.assert_array_equal(before["anomaly"][: 35 * 12], after["anomaly"][: 35 * 12])


@pytest.mark.parametrize("months", [1, 3])
def test_analyses_and_forecasts_do_not_depend_on_later_observations(anomaly, months) -> None:
    model = RechargeOscillator(mu=0.6, e_n=1.0, dt=0.125)
    window = WINDOW.model_copy(update={"months": months})
    changed = anomaly.copy()
    changed[300:] += 1.0
    starts = np.arange(100, 300)
    results = []
    for series in (anomaly, changed):
        cycled = elnino.assimilate(model, series, window, CONFIGURATION)
        results.append((cycled, elnino.forecast(model, cycled.state, starts, 12, 4)))
    (one, forecasts), (other, other_forecasts) = results
    np.testing.assert_array_equal(one.state[:300], other.state[:300])
    np.testing.assert_array_equal(forecasts, other_forecasts)
    assert not np.array_equal(one.state[300], other.state[300])


def test_a_windows_background_comes_from_the_window_that_ended_where_it_begins(anomaly) -> None:
    model = RechargeOscillator(mu=0.6, e_n=1.0, dt=0.125)
    cycled = elnino.assimilate(model, anomaly[:60], WINDOW, CONFIGURATION)
    np.testing.assert_array_equal(cycled.background[2:], cycled.state[:-2])
    np.testing.assert_allclose(model.step(cycled.analysis[2:], 8), cycled.state[2:], rtol=1e-12)


def test_baselines_learn_from_training_years_alone(anomaly) -> None:
    changed = anomaly.copy()
    changed[35 * 12 :] *= -2.0
    np.testing.assert_array_equal(
        elnino.damping(anomaly, TRAINING, 12), elnino.damping(changed, TRAINING, 12)
    )
    # The regression is chosen on validation years, and must not see the test years
    changed = anomaly.copy()
    changed[43 * 12 :] *= -2.0
    forecasts, chosen = elnino.regression(anomaly, CONFIGURATION)
    others, other_choice = elnino.regression(changed, CONFIGURATION)
    assert chosen == other_choice
    np.testing.assert_array_equal(forecasts[11 : 43 * 12], others[11 : 43 * 12])
    assert np.isfinite(forecasts[11:]).all()


def test_forecasts_start_at_their_month_and_at_the_time_of_year() -> None:
    model = RechargeOscillator(dt=0.125)
    states = 0.1 * np.random.default_rng(3).standard_normal((40, 2))
    starts = np.array([3, 15, 16, 38])
    result = elnino.forecast(model, states, starts, 2, 4)
    for number, start in enumerate(starts):
        expected = model.trajectory(states[start], 8, every=4)[1:, 0] * 7.5
        np.testing.assert_allclose(result[number], expected, rtol=1e-13)


def test_verifying_months_stay_within_their_segment() -> None:
    starts = elnino.starts_of(Years(first=1993, last=2010), 12)
    assert starts[0] == 43 * 12
    assert starts[-1] + 12 == 61 * 12 - 1
    starts = elnino.starts_of(TRAINING, 12, spin_up=5)
    assert starts[0] == 60
    assert starts[-1] + 12 == 35 * 12 - 1


def test_4dvar_finds_the_unobserved_thermocline_of_a_twin() -> None:
    model = RechargeOscillator(mu=0.7, e_n=3.0, dt=0.125)
    truth = model.trajectory([0.1, 0.05], 4 * 480, every=4)[1:]
    generator = np.random.default_rng(5)
    observed = 7.5 * (truth[:, 0] + 0.02 * generator.standard_normal(480))
    window = Window(months=6, sigma_t=0.02, sigma_h=0.02)
    cycled = elnino.assimilate(model, observed, window, CONFIGURATION)
    error = (cycled.state - truth)[60:]
    deviation = truth[60:, 1].std()
    assert deviation > 0.03
    assert np.sqrt((error[:, 1] ** 2).mean()) < 0.15 * deviation
    assert np.sqrt((error[:, 0] ** 2).mean()) < 0.02  # better than the observations themselves
    assert np.corrcoef(cycled.state[60:, 1], truth[60:, 1])[0, 1] > 0.99


def test_4dvar_finds_the_coupling_of_a_twin_with_the_state() -> None:
    truth = RechargeOscillator(mu=0.7, e_n=3.0, dt=0.125).trajectory([0.1, 0.05], 4 * 420, every=4)
    observed = 7.5 * (truth[1:, 0] + 0.01 * np.random.default_rng(6).standard_normal(420))
    model = RechargeOscillator(mu=0.6, e_n=3.0, dt=0.125)
    cycled = elnino.assimilate(
        model,
        observed,
        Window(months=6, sigma_t=0.02, sigma_h=0.02),
        CONFIGURATION,
        parameter_sigma=[0.02, *[0.0] * 6],
    )
    assert cycled.parameters[-240:, 0].mean() == pytest.approx(0.7, abs=0.02)
    np.testing.assert_array_equal(
        cycled.parameters[:, 1:], model.parameters[1:] * np.ones((420, 6))
    )


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('experiment = "elnino"\nnonsense = 1', "nonsense"),
        ('experiment = "elnino"\n[learning]\nhiden = 1', "learning.hiden"),
        ('experiment = "elnino"\n[learning]\nhidden = 0', "learning.hidden"),
        ('experiment = "elnino"\n[test]\nfirst = 1990\nlast = 2010', "test.first"),
        ('experiment = "elnino"\n[test]\nfirst = 1993\nlast = 2030', "test.last"),
        ('experiment = "elnino"\n[training]\nfirst = 1960\nlast = 1980', "training.first"),
        ('experiment = "elnino"\n[learning]\ncorrected = ["other"]', "learning.corrected"),
        ('experiment = "elnino"\n[assimilation]\ncandidates = []', "assimilation.candidates"),
        ('experiment = "elnino"\n[[assimilation.candidates]]\nmonths = 1', "candidates.0.sigma_t"),
    ],
)
def test_a_wrong_configuration_names_the_key(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(errors.ConfigurationError, match=key.replace(".", r"\.")):
        load_configuration(path)


def test_bootstrap_blocks_are_whole() -> None:
    counts = block_counts(50, 10, 200, seed=1)
    assert counts.shape == (200, 50)
    np.testing.assert_array_equal(counts.sum(1), 50.0)
    # The ends are in fewer blocks than the middle
    assert counts[:, 0].mean() < 0.5 * counts[:, 25].mean()
    np.testing.assert_array_equal(block_counts(7, 24, 3, seed=1), 1.0)


def test_scores_are_those_of_their_definitions() -> None:
    generator = np.random.default_rng(2)
    truth = generator.standard_normal((120, 2))
    good = truth + 0.5 * generator.standard_normal((3, 120, 2))
    values = np.full((3, 3, 120, 2), np.nan)
    values[0, 0] = 0.0
    values[1, 0] = truth + generator.standard_normal((120, 2))
    values[2] = good
    forecast = xr.DataArray(
        values,
        dims=("system", "member", "start", "lead"),
        coords={"system": ["zero", "poor", "good"], "lead": [1, 2]},
    )
    scores = verify(
        forecast,
        xr.DataArray(truth, dims=("start", "lead")),
        {"good": "poor", "zero": ""},
        reference="zero",
        rival="poor",
        block=12,
        samples=400,
        level=0.95,
        seed=1,
    )
    error = ((good - truth) ** 2).mean((0, 1))
    skill = 1.0 - error / (truth**2).mean(0)
    np.testing.assert_allclose(scores["rmse"].sel(system="good"), np.sqrt(error))
    np.testing.assert_allclose(scores["skill"].sel(system="good"), skill)
    expected = np.mean([np.corrcoef(member[:, 0], truth[:, 0])[0, 1] for member in good])
    assert scores["correlation"].sel(system="good", lead=1) == pytest.approx(expected)
    assert np.isnan(scores["correlation"].sel(system="zero")).all()
    gain = skill - scores["skill"].sel(system="poor")
    np.testing.assert_allclose(scores["gain"].sel(system="good"), gain)
    assert np.isnan(scores["gain"].sel(system="poor")).all()
    np.testing.assert_allclose(scores["advantage"].sel(system="good"), gain)
    assert (scores["advantage"].sel(system="poor") == 0.0).all()
    low, high = scores["skill_interval"].sel(system="good", lead=1).to_numpy()
    assert low < scores["skill"].sel(system="good", lead=1) < high
    # Far from no gain
    assert (scores["gain_interval"].sel(system="good", bound="low") > 0.0).all()
    assert np.isfinite(scores["member_rmse"].sel(system="good")).all()
    assert int(np.isfinite(scores["member_rmse"].sel(system="poor")).sum()) == 2


@pytest.fixture(scope="module")
def short_run(tmp_path_factory) -> tuple[Path, Path, xr.Dataset]:
    pytest.importorskip("tensorflow")
    directory = tmp_path_factory.mktemp("elnino")
    file = directory / "short.toml"
    file.write_text(SHORT)
    return file, directory / "run", run(file, directory / "run", quiet=True)


def test_a_short_run_makes_datasets_pictures_and_all_systems(short_run) -> None:
    _, directory, result = short_run
    names = {"results.nc", "elnino_analysis.png", "elnino_skill.png", "elnino_1997.png"}
    assert names <= {path.name for path in directory.iterdir()}
    assert list(result["system"].to_numpy()) == [
        *("climatology", "persistence", "damped persistence", "regression"),
        *("default", "estimated", "fitted"),
        *("fitted + increments", "fitted + network", "fitted + networks"),
    ]
    assert result.sizes["lead"] == 6
    members = np.isfinite(result["forecast"]).all(("start", "lead"))
    assert members.sel(system="fitted + network").all()
    assert list(members.sel(system="default").to_numpy()) == [True, False]
    assert np.isfinite(result["rmse"]).all()
    assert np.isfinite(result["state"].sel(model="fitted + network")).all()
    assert set(np.unique(result["segment"])) == {"test", "validation"}
    # Persistence is what was observed in the month of the start
    at = result["anomaly"].sel(time=result["start"].to_numpy()).to_numpy()
    shown = result["forecast"].sel(system="persistence", member=0)
    np.testing.assert_array_equal(shown, np.repeat(at[:, None], 6, 1))
    with xr.open_dataset(directory / "results.nc", engine="h5netcdf") as stored:
        xr.testing.assert_equal(stored.load(), result)


def test_an_interrupted_run_goes_on_with_identical_results(short_run, tmp_path: Path) -> None:
    file, directory, result = short_run
    copy = tmp_path / "run"
    shutil.copytree(directory, copy)
    (copy / "results.nc").unlink()
    for pattern in ("run-fitted-network.nc", "network-fitted-2-turn-2.pbn", "analyses-*-2-*.npz"):
        found = list((copy / "stages").glob(pattern))
        assert found, pattern
        for path in found:
            path.unlink()
    again = run(file, copy, quiet=True)
    xr.testing.assert_identical(again, result)


def test_results_of_another_configuration_are_not_mixed_in(short_run, tmp_path: Path) -> None:
    _, directory, _ = short_run
    other = tmp_path / "other.toml"
    other.write_text(SHORT.replace("hidden = 3", "hidden = 4"))
    with pytest.raises(errors.ConfigurationError, match="another configuration"):
        run(other, directory, quiet=True)


def test_networks_are_trained_without_the_test_years(short_run) -> None:
    _, directory, _ = short_run
    paths = list((directory / "stages").glob("analyses-*.npz"))
    assert len(paths) == 3
    for path in paths:
        with np.load(path) as kept:
            assert len(kept["state"]) == 43 * 12
