# SPDX-License-Identifier: MIT
"""Every example runs, and what it prints is right."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from conftest import run

EXAMPLES = Path(__file__).parents[1] / "examples"
needs_gfortran = pytest.mark.skipif(not shutil.which("gfortran"), reason="needs gfortran")
NUMBER = r"-?\d+\.?\d*(?:[eE][-+]?\d+)?"


@pytest.fixture
def printed(tmp_path):
    """Run an example elsewhere than in its directory, and return what it prints."""

    def of(name):
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        return run(sys.executable, EXAMPLES / name, cwd=tmp_path, env=environment)

    return of


def numbers(text, pattern):
    """Return the numbers of the line that begins with a pattern."""
    (line,) = re.findall(f"^{pattern}(.*)$", text, re.MULTILINE)
    return [float(number) for number in re.findall(NUMBER, line)]


def test_each_example_is_numbered_and_tested():
    names = sorted(path.name for path in EXAMPLES.iterdir() if path.name[0].isdigit())
    assert [int(name[:2]) for name in names] == list(range(1, len(names) + 1))
    source = Path(__file__).read_text()
    for name in names:
        assert f'printed("{name}' in source, f"{name} is not tested"


def test_01_three_python_callables(printed):
    text = printed("01_python_model.py")
    assert numbers(text, "the adjoint gives the gradient to")[0] < 1e-5
    before, after = numbers(text, "cost")
    # Twelve counts with errors of their standard deviation leave a cost of about six
    assert after < 12.0 < before
    truth, background, analysis = (
        numbers(text, name) for name in ("truth", "background", "analysis")
    )
    # Predators were never seen, and the rate of predation was wrong by a quarter
    for i in range(3):
        assert abs(analysis[i] - truth[i]) < 0.25 * abs(background[i] - truth[i])


@needs_gfortran
def test_02_three_procedures_in_a_shared_library(printed):
    text = printed("02_library_model/run.py")
    assert numbers(text, "the adjoint gives the gradient to")[0] < 1e-5
    before, after = numbers(text, "cost")
    assert after < 72.0 < before
    assert (
        numbers(text, "error of the analysis")[0]
        < 0.3 * numbers(text, "error of the background")[0]
    )


@needs_gfortran
def test_03_a_fortran_type_for_python_and_without_it(printed):
    text = printed("03_extends_forecast_model/run.py")
    assert numbers(text, "64 values, parameters g =") == [1.0, 0.02]
    before, after = numbers(text, "height of the hill:")
    assert 1.0 < after < before
    before, after = numbers(text, "volume of water:")
    assert before == after
    assert numbers(text, "<TL dx, y> - <dx, AD y> =")[0] < 1e-13
    before, after = numbers(text, "cost")
    assert after < 50.0 < before
    # The currents were never observed
    before, after = numbers(text, "error of the currents:")
    assert after < 0.3 * before
    before, after = numbers(text, "error of the heights:")
    assert after < 0.1 * before


@needs_gfortran
@pytest.mark.parametrize("standard", ["f2018", "f2008"])
def test_the_fortran_of_the_examples_compiles_without_warnings(standard, tmp_path):
    command = [sys.executable, "-c", "from pybridge.config import main; main(['--fflags'])"]
    modules = run(*command, cwd=tmp_path).split()
    strict = [f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-fcheck=all", "-c"]
    third = EXAMPLES / "03_extends_forecast_model"
    for source in (
        EXAMPLES / "02_library_model" / "burgers.f90",
        third / "shallow_water.f90",
        third / "for_python.f90",
        third / "fourdvar.f90",
    ):
        run("gfortran", *strict, *modules, source, cwd=tmp_path)


def test_04_a_twin_experiment(printed):
    text = printed("04_twin_experiment.py")
    (free,) = numbers(text, "root-mean-square error without observations:")
    analyses, forecasts = numbers(text, "of the analyses:")
    # Observations of half the variables have errors of 0.5
    assert analyses < forecasts < 0.5 < 3.0 < free


def test_05_from_keras_to_fortran_and_back(printed):
    pytest.importorskip("tensorflow")
    text = printed("05_keras_to_fortran.py")
    assert "\npassed\n" in text
    (model,) = numbers(text, "error of the model after 20 steps:")
    (hybrid,) = numbers(text, "error of the model with network after 20 steps:")
    assert hybrid < 0.5 * model
    assert "back in Keras: 57 weights, the same" in text
