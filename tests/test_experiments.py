"""Experiment files, the store of results, and the Lorenz experiment from end to end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pybridge import errors, experiments
from pybridge._files import replacing
from pybridge.cli import main
from pybridge.experiments import lorenz_cycling as cycling
from pybridge.experiments._configuration import parse_configuration
from pybridge.experiments._replicas import map_replicas
from pybridge.experiments._store import Store, write_dataset

ROOT = Path(__file__).parent.parent
SMALL = """
experiment = "lorenz"
workers = 2
leads = [0.5, 1.0]
rows = ["none", "cubic", "network, increments", "network, trajectories", "network, second pass"]
training = { replicas = 2, windows = 40, spin_up = 10 }
test = { replicas = 2, windows = 30, spin_up = 10 }
learning = { epochs = 2, networks = 2 }
forecasts = { starts = 10, replicas = 2, horizon = 1.0 }
sigma_b = { none = 5.0, "network, trajectories" = 0.5 }
[tuning]
segment = { replicas = 1, windows = 12, spin_up = 4 }
candidates = [0.3, 1.0, 5.0]
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    directory = tmp_path_factory.mktemp("small")
    file = directory / "small.toml"
    file.write_text(SMALL)
    return file, directory / "run", experiments.run(file, directory / "run", quiet=True)


def test_every_shipped_experiment_file_is_valid():
    files = [*ROOT.glob("examples/*.toml"), *ROOT.glob("benchmarks/*.toml")]
    assert len(files) >= 2
    for file in files:
        experiments.load_configuration(file)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"experiment": "weather"}, "experiment: expected"),
        ({"sead": 3}, "sead"),
        ({"window": {"dt": -1.0}}, "window.dt"),
        ({"window": {"dt": 0.0501}}, "window.dt"),
        ({"window": {"steps": 1.5}}, "window.steps"),
        ({"training": {"replicas": 1, "windows": 5, "spin_up": 5}}, "training: spin_up"),
        ({"training": {"replicas": 1, "windows": 5}}, "training.spin_up"),
        ({"learning": {"stencil": 4}}, "learning.stencil"),
        ({"learning": {"learning_rate": float("nan")}}, "learning.learning_rate"),
        ({"rows": ["cubic"]}, '"none"'),
        ({"rows": ["none", "none"]}, "named twice"),
        ({"rows": ["none", "network, second pass"]}, "needs"),
        ({"rows": ["none", "magic"]}, "rows.1"),
        ({"sigma_b": {"none": 0.0}}, "sigma_b.none"),
    ],
)
def test_a_wrong_key_is_named(change, named):
    with pytest.raises(errors.ConfigurationError, match=r"somewhere\.toml") as caught:
        parse_configuration({"experiment": "lorenz", **change}, "somewhere.toml")
    assert named in str(caught.value)


def test_a_file_that_is_no_toml_or_not_there_is_refused(tmp_path, capsys):
    file = tmp_path / "a.toml"
    assert main(["run", str(file)]) == 1
    assert "a.toml" in capsys.readouterr().err
    file.write_text("experiment = ")
    assert main(["run", str(file)]) == 2
    assert "not valid TOML" in capsys.readouterr().err
    file.write_bytes(b"\xff\xfe")
    assert main(["run", str(file)]) == 2
    assert "UTF-8" in capsys.readouterr().err


def test_results_of_another_configuration_are_not_overwritten_unasked(tmp_path):
    store = Store(tmp_path / "run", '{"a": 1}')
    store.keep("x", {"a": np.arange(3.0)})
    with pytest.raises(errors.ConfigurationError, match="--overwrite"):
        Store(tmp_path / "run", '{"a": 2}')
    assert Store(tmp_path / "run", '{"a": 1}').arrays("x")["a"].tolist() == [0.0, 1.0, 2.0]
    assert Store(tmp_path / "run", '{"a": 2}', overwrite=True).arrays("x") is None


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.nc"
    write_dataset(xr.Dataset({"a": ("x", [1.0])}), path)

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half a f")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert xr.load_dataset(path, engine="h5netcdf")["a"].item() == 1.0
    assert [file.name for file in tmp_path.iterdir()] == ["a.nc"]


def test_replicas_come_in_order_and_errors_come_out():
    def slow_if_even(number):
        time.sleep(0.01 * (number % 2))
        return number * number

    for workers in (1, 3):
        assert map_replicas(slow_if_even, range(9), workers=workers) == [n * n for n in range(9)]
        with pytest.raises(ZeroDivisionError):
            map_replicas(lambda n: 1 // n, range(3), workers=workers)


def test_replicas_run_in_other_processes_by_the_same_call(small):
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    configuration = experiments.load_configuration(small[0])
    tasks = [
        cycling.Cycling(
            configuration,
            "test",
            configuration.tuning.segment,
            replica,
            cycling.forecast_model(configuration),
            5.0,
        )
        for replica in range(2)
    ]
    here = map_replicas(cycling.assimilate, tasks)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        there = map_replicas(cycling.assimilate, tasks, executor=pool)
    for one, other in zip(here, there, strict=True):
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])


def test_the_circle_runs_and_its_scores_are_those_of_its_files(small):
    _, directory, result = small
    assert list(result["row"]) == [
        "none", "cubic", "network, increments", "network, trajectories", "network, second pass",
    ]  # fmt: skip
    stored = xr.load_dataset(directory / "results.nc", engine="h5netcdf")
    xr.testing.assert_equal(stored, result)
    # Recomputed from the truth and the stored states of one replica
    configuration = experiments.load_configuration(directory.parent / "small.toml")
    cycled = xr.load_dataset(directory / "stages" / "test-cubic.nc", engine="h5netcdf")
    task = cycling.Cycling(
        configuration, "test", configuration.test, 1, cycling.forecast_model(configuration), 1.0
    )
    truth, _, _ = cycling.observed(task)
    error = cycled["background"][1, 10:] - truth[100:300:10]
    assert float(np.sqrt((error**2).mean())) == pytest.approx(
        float(stored["rmse_fg"].sel(row="cubic")[1]), rel=1e-12
    )
    # A closure fitted to the truth helps, already in this small experiment
    assert (stored["rmse_fg"].sel(row="cubic") < 0.7 * stored["rmse_fg"].sel(row="none")).all()
    assert (directory / "lorenz.png").stat().st_size > 20_000


def test_a_finished_run_is_not_made_again(small):
    file, directory, result = small
    stages = {path: path.stat().st_mtime_ns for path in (directory / "stages").iterdir()}
    again = experiments.run(file, directory, quiet=True)
    assert {path: path.stat().st_mtime_ns for path in (directory / "stages").iterdir()} == stages
    np.testing.assert_array_equal(again["rmse_forecast"], result["rmse_forecast"])


def test_cycling_that_is_resumed_ends_with_the_same_bits(small):
    configuration = experiments.load_configuration(small[0])
    size = configuration.test.model_copy(update={"windows": 75})
    task = cycling.Cycling(
        configuration, "test", size, 0, cycling.forecast_model(configuration), 5.0
    )
    kept = []

    class Interrupted(Exception):
        pass

    def keep(arrays):
        kept.append({name: values.copy() for name, values in arrays.items()})
        if len(kept) == 5:
            raise Interrupted

    with pytest.raises(Interrupted):
        cycling.assimilate(task, keep=keep)
    assert kept[-1]["done"] == 50
    resumed = cycling.assimilate(task, kept[-1])
    for name, values in cycling.assimilate(task).items():
        np.testing.assert_array_equal(resumed[name], values, err_msg=name)


@pytest.mark.slow
def test_a_killed_run_goes_on_with_identical_results(small, tmp_path):
    file, _, result = small
    run = ["-P", "-m", "pybridge.cli", "run"]
    command = [sys.executable, *run, str(file), "--output", str(tmp_path)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    for stage in ("test-none.nc", "network-increments-1.pbn"):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)
        for _ in range(1200):
            if (tmp_path / "stages" / stage).exists():
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (tmp_path / "results.nc").exists()
    finished = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "network, second pass" in finished.stdout
    assert "identity, state and weights" in finished.stdout
    again = xr.load_dataset(tmp_path / "results.nc", engine="h5netcdf")
    for name in ("rmse_fg", "rmse_an", "rmse_forecast", "r_rmse"):
        np.testing.assert_array_equal(again[name], result[name], err_msg=name)
