# SPDX-License-Identifier: MIT
"""Programs outside the source tree, linked to an installed wheel by plain compiler calls."""

import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import run

pytestmark = pytest.mark.slow

CONSUMERS = Path(__file__).parent / "consumers"
STEPS = 10


def needs(*programs):
    missing = [program for program in programs if not shutil.which(program)]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


@pytest.fixture(scope="module")
def network():
    """A small network with random weights, as Keras would train it."""
    keras = pytest.importorskip("keras")
    from pybridge import Network

    dtype = "float64"
    layers = [
        keras.Input((8,), dtype=dtype),
        keras.layers.Dense(16, activation="tanh", dtype=dtype),
        keras.layers.Dense(8, dtype=dtype),
    ]
    keras.utils.set_random_seed(1)
    return Network.from_keras(keras.Sequential(layers))


@pytest.fixture(scope="module")
def network_file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "a network.pbn"
    network.save(path)
    return path


@pytest.fixture(scope="module")
def expected(network):
    """What Python makes of the same network and hybrid model, in this process."""
    from pybridge import HybridModel, Lorenz96

    i = np.arange(1.0, 9.0)
    x, dx, x_ad = 3.0 + np.sin(i), np.cos(i), 1.0 / i
    model = HybridModel(Lorenz96(8, forcing=8.0, dt=0.05), network, "increment")
    return {
        "network": network(x),
        "network_tl": network.forward_tl(x, dx),
        "network_ad": network.forward_ad(x, x_ad)[0],
        "hybrid": model.step(x, STEPS),
        "hybrid_tl": model.step_tl(x, dx, STEPS),
        "hybrid_ad": model.step_ad(x, x_ad, STEPS)[0],
    }


def read(printed):
    results = {}
    for line in printed.splitlines():
        name, *values = line.split()
        results[name] = values if name == "message" else np.array(values, float)
    return results


def check(results, expected):
    for name, values in expected.items():
        np.testing.assert_allclose(results[name], values, rtol=1e-11, atol=1e-12, err_msg=name)


@pytest.fixture
def config(installed):
    """Ask the installed `pybridge-config`, as a shell would."""

    def ask(*options):
        return shlex.split(run(installed / "pybridge-config", *options))

    return ask


@needs("gfortran")
@pytest.mark.parametrize("kind", ["--static", "--shared"])
def test_fortran_2008_uses_objects_through_the_module(
    config, kind, network_file, expected, tmp_path
):
    program = tmp_path / "modern"
    strict = ["-std=f2008", "-Wall", "-Wextra", "-Werror"]
    options = config("--fflags", "--libs", kind)
    run("gfortran", *strict, CONSUMERS / "modern.f90", *options, "-o", program)
    check(read(run(program, network_file)), expected)


@needs("gfortran")
def test_another_compiler_uses_the_interface_source(config, network_file, expected, tmp_path):
    program = tmp_path / "other"
    interface = config("--interface")
    source = CONSUMERS / "other_compiler.f90"
    strict = ["-std=f2018", "-Wall", "-Wextra", "-Werror", f"-J{tmp_path}"]
    run("gfortran", *strict, *interface, source, *config("--libs"), "-o", program)
    check(read(run(program, network_file)), expected)


def another_compiler():
    names = ["flang-new", "flang", *(f"flang-new-{n}" for n in range(18, 30)), "ifx", "nvfortran"]
    return next((name for name in names if shutil.which(name)), None)


@pytest.mark.skipif(not another_compiler(), reason="needs flang, ifx or nvfortran")
def test_a_compiler_that_is_not_gfortran_links_the_same_library(
    config, network_file, expected, tmp_path
):
    compiler = another_compiler()
    program = tmp_path / "other"
    objects = []
    for source in [*config("--interface"), CONSUMERS / "other_compiler.f90"]:
        objects.append(tmp_path / f"{Path(source).stem}.o")
        run(compiler, "-c", source, "-o", objects[-1], cwd=tmp_path)
    run(compiler, *objects, *config("--libs"), "-o", program)
    check(read(run(program, network_file)), expected)


@needs("gfortran")
def test_fortran_77_corrects_its_own_model(config, network_file, network, expected, tmp_path):
    program = tmp_path / "legacy"
    options = ["-std=legacy", "-ffixed-form"]
    run("gfortran", *options, CONSUMERS / "legacy.f", *config("--libs"), "-o", program)
    results = read(run(program, input=f"{network_file}\n"))
    check(results, expected)
    x = 3.0 + np.sin(np.arange(1.0, 9.0))
    for _ in range(STEPS):
        x = x - 0.05 * (0.1 * x + 0.01 * x**3)
        x = x + network(x)
    np.testing.assert_allclose(results["own"], x, rtol=1e-11)
    # <TL dx, x_ad> = <dx, AD x_ad>
    i = np.arange(1.0, 9.0)
    forward, backward = results["own_tl"] @ (1.0 / i), np.cos(i) @ results["own_ad"]
    np.testing.assert_allclose(forward, backward, rtol=1e-11)
    assert " ".join(results["message"]) == "a file could not be opened, read or written"


@needs("cc")
@pytest.mark.parametrize("kind", ["--static", "--shared"])
def test_c_links_without_a_fortran_compiler_driver(config, kind, network_file, expected, tmp_path):
    program = tmp_path / "program"
    strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
    options = config("--cflags", "--libs", kind)
    extra = ["-lm"]
    run("cc", *strict, CONSUMERS / "program.c", *options, *extra, "-o", program)
    check(read(run(program, network_file)), expected)


@needs("c++")
def test_cpp_compiles_the_header_as_it_is(config, network_file, expected, tmp_path):
    program = tmp_path / "program"
    source = ["-x", "c++", CONSUMERS / "program.c", "-x", "none"]
    strict = ["-std=c++11", "-pedantic", "-Wall", "-Wextra", "-Werror"]
    run("c++", *strict, *source, *config("--cflags", "--libs"), "-o", program)
    check(read(run(program, network_file)), expected)


@needs("pkg-config", "gfortran", "cc")
def test_pkg_config_serves_c_and_fortran(config, network_file, expected, tmp_path):
    (directory,) = config("--pkgconfigdir")
    environment = os.environ | {"PKG_CONFIG_PATH": directory}
    flags = shlex.split(run("pkg-config", "--cflags", "--libs", "pybridge", env=environment))
    for compiler, source in [("cc", "program.c"), ("gfortran", "modern.f90")]:
        program = tmp_path / source.split(".")[0]
        run(compiler, CONSUMERS / source, *flags, "-o", program)
        check(read(run(program, network_file)), expected)


@needs("pkg-config")
def test_pkg_config_knows_the_version(config):
    from pybridge import __version__

    (directory,) = config("--pkgconfigdir")
    environment = os.environ | {"PKG_CONFIG_PATH": directory}
    assert run("pkg-config", "--modversion", "pybridge", env=environment).strip() == __version__
    assert config("--version") == [__version__]
