# SPDX-License-Identifier: MIT
"""The code in README.md runs as it is written there."""

import os
import re
import shutil
import sys

import numpy as np
import pytest
from conftest import ROOT, run

PYTHON_SETUP = """
import numpy as np
random = np.random.default_rng(1)
background = random.standard_normal(40)
y = background + random.standard_normal((8, 40))
"""

FORTRAN_SETUP = """
real(rk) :: x(3), y(2), dx(3), dy(2), y_ad(2), x_ad(3)
x = [0.1_rk, -0.2_rk, 0.3_rk]
dx = [1.0_rk, 2.0_rk, -1.0_rk]
y_ad = [0.5_rk, -1.0_rk]
x_ad = 0.0_rk
"""


def block(language):
    """The one block of a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    return found


@pytest.fixture
def keras():
    pytest.importorskip("tensorflow")
    import keras

    keras.utils.set_random_seed(1)
    return keras


def dense(keras, inputs, outputs):
    layer = keras.layers.Dense(
        outputs, activation="tanh", kernel_initializer=keras.initializers.RandomNormal(stddev=0.1)
    )
    return keras.Sequential([keras.Input((inputs,)), layer])


def test_the_python(keras, tmp_path):
    dense(keras, 40, 40).save(tmp_path / "correction.keras")
    text = run(
        sys.executable,
        "-c",
        PYTHON_SETUP + block("python"),
        cwd=tmp_path,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    cost = [float(value) for value in text.rsplit("[", 1)[1].split("]")[0].split()]
    assert len(cost) > 1
    assert cost[-1] < cost[0]


@pytest.mark.skipif(not shutil.which("gfortran"), reason="no gfortran")
def test_the_fortran(keras, tmp_path):
    import pybridge as pb

    network = pb.Network.from_keras(dense(keras, 3, 2))
    network.save(tmp_path / "correction.pbn")
    used, *rest = block("fortran").splitlines()
    declared = [line for line in rest if "::" in line]
    done = [line for line in rest if "::" not in line]
    # Where README's statements and the values that they need go in one program
    source = "\n".join(
        ["program readme", used, "implicit none", *declared]
        + [line for line in FORTRAN_SETUP.splitlines() if "::" in line]
        + [line for line in FORTRAN_SETUP.splitlines() if "::" not in line]
        + [*done, "print *, y, dy, x_ad", "end program readme", ""]
    )
    (tmp_path / "readme.f90").write_text(source)
    command = [sys.executable, "-c", "from pybridge.config import main; main()"]
    options = run(*command, "--fflags", "--libs", cwd=tmp_path).split()
    strict = ["-std=f2018", "-Wall", "-Wextra", "-Werror", "-fcheck=all"]
    run("gfortran", *strict, "readme.f90", *options, "-o", "readme", cwd=tmp_path)
    got = [float(value) for value in run(tmp_path / "readme", cwd=tmp_path).split()]
    x, dx, y_ad = [0.1, -0.2, 0.3], [1.0, 2.0, -1.0], [0.5, -1.0]
    expected = [network.forward(x), network.forward_tl(x, dx), network.forward_ad(x, y_ad)[0]]
    np.testing.assert_allclose(got, np.concatenate(expected), rtol=1e-12)
