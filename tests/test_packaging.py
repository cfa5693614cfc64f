# SPDX-License-Identifier: MIT
"""What is built, what is in it, and how quickly it starts."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run

import pybridge

LIBRARY = "dylib" if sys.platform == "darwin" else "so"


@pytest.mark.slow
def test_the_wheel_holds_all_that_a_consumer_needs(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        f"pybridge/lib/libpybridge.{LIBRARY}",
        "pybridge/lib/libpybridge.a",
        "pybridge/lib/pkgconfig/pybridge.pc",
        "pybridge/include/pybridge.h",
        "pybridge/include/pybridge_interface.f90",
        "pybridge/modules/pybridge.mod",
        "pybridge/modules/pybridge_interface.mod",
        "pybridge/py.typed",
    } <= names
    sources = {path.stem for path in (ROOT / "fortran").rglob("*.f90")}
    assert {Path(name).stem for name in names if name.endswith(".mod")} == sources


@pytest.mark.slow
def test_the_wheel_holds_every_python_module(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith((".py", ".pyi"))}
    tree = (ROOT / "pybridge").rglob("*.py*")
    assert names == {str(path.relative_to(ROOT)) for path in tree if path.suffix in (".py", ".pyi")}


@pytest.mark.slow
def test_no_path_of_the_building_machine_is_in_what_consumers_read(wheel):
    archive = zipfile.ZipFile(wheel)
    for name in ("pybridge/lib/pkgconfig/pybridge.pc", "pybridge/include/pybridge_interface.f90"):
        assert str(ROOT) not in archive.read(name).decode()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="auditwheel is for Linux")
def test_a_repaired_wheel_brings_the_fortran_runtime_along(wheel, tmp_path):
    pytest.importorskip("auditwheel")
    scripts = sysconfig.get_path("scripts")
    search = os.environ | {"PATH": os.pathsep.join([scripts, os.environ["PATH"]])}
    run(sys.executable, "-m", "auditwheel", "repair", "-w", tmp_path, wheel, env=search)
    (repaired,) = tmp_path.glob("pybridge-*.whl")
    venv.create(tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    options = ["--no-deps", "--no-index", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, repaired)
    # NumPy from here, and no more: what a .pth file names comes last, without its own .pth files
    (packages,) = (tmp_path / "env").glob("lib/python*/site-packages")
    packages.joinpath("numpy.pth").write_text(str(Path(np.__file__).parents[1]))
    code = (
        "import pybridge; pybridge.Lorenz96(8).step([1.0] * 8);"
        "print(pybridge.__file__);"
        "print(*{line.split()[-1] for line in open('/proc/self/maps') if '.so' in line}, sep='\\n')"
    )
    imported, *loaded = run(python, "-c", code).splitlines()
    assert imported.startswith(str(packages))
    runtime = [name for name in loaded if "libgfortran" in name or "libgomp" in name]
    assert any(name.startswith(str(packages / "pybridge.libs")) for name in runtime)
    assert not [name for name in runtime if name.startswith(("/usr/lib", "/lib"))]


@pytest.mark.slow
def test_pybridge_config_starts_at_once_and_without_numpy(installed):
    # The environment of `installed` has no NumPy, so that an import of it would fail
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run(installed / "pybridge-config", "--libs")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.15


@pytest.mark.slow
def test_pybridge_config_quotes_for_a_shell_and_rejects_an_empty_question(installed):
    done = subprocess.run([installed / "pybridge-config"], capture_output=True, check=False)
    assert done.returncode == 2
    done = subprocess.run(
        [installed / "pybridge-config", "--nonsense"], capture_output=True, check=False
    )
    assert done.returncode == 2


def test_pybridge_config_resolves_in_this_installation():
    """Editable or not: every path that is printed exists."""
    printed = run(
        sys.executable,
        "-m",
        "pybridge.config",
        "--fflags",
        "--cflags",
        "--interface",
        "--libs",
        "--pkgconfigdir",
    )
    paths = [Path(word.removeprefix("-I")) for word in printed.split() if "/" in word]
    assert len(paths) == 5
    assert all(path.exists() for path in paths)
    shared = run(sys.executable, "-m", "pybridge.config", "--libs", "--shared").split()
    assert Path(shared[0].removeprefix("-L"), f"libpybridge.{LIBRARY}").exists()


@pytest.mark.skipif(not shutil.which("pkg-config"), reason="needs pkg-config")
def test_pkg_config_resolves_in_this_installation():
    directory = run(sys.executable, "-m", "pybridge.config", "--pkgconfigdir").strip()
    printed = run(
        "pkg-config",
        "--cflags",
        "--libs",
        "pybridge",
        env=os.environ | {"PKG_CONFIG_PATH": directory},
    )
    paths = [Path(word.removeprefix("-I")) for word in printed.split() if "/" in word]
    assert len(paths) == 3
    assert all(path.exists() for path in paths)


def test_a_missing_compiler_is_one_sentence_that_tells_what_to_install(tmp_path):
    # A search path with all but a Fortran compiler
    tools = tmp_path / "bin"
    tools.mkdir()
    scripts = sysconfig.get_path("scripts")
    directories = [scripts, *os.environ["PATH"].split(os.pathsep)]
    for name in ("cc", "gcc", "ar", "ld", "as", "meson", "ninja", "sh", "pkg-config"):
        found = shutil.which(name, path=os.pathsep.join(directories))
        if found:
            (tools / name).symlink_to(found)
    environment = {k: v for k, v in os.environ.items() if k != "FC"} | {"PATH": str(tools)}
    done = subprocess.run(
        ["meson", "setup", str(tmp_path / "build"), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        executable=tools / "meson",
    )
    assert done.returncode != 0
    (message,) = re.findall(r"ERROR: Problem encountered: (.*)", done.stdout + done.stderr)
    assert message.startswith("pybridge needs a Fortran compiler")
    for word in ("apt install gfortran", "brew install gcc", "conda-forge"):
        assert word in message


@pytest.mark.slow
def test_import_is_quick_and_needs_neither_numpy_nor_tensorflow(installed):
    code = (
        "import time; start = time.perf_counter(); import pybridge;"
        "print(time.perf_counter() - start)"
    )
    times = [float(run(installed / "python", "-c", code)) for _ in range(5)]
    assert min(times) < 0.1


def test_every_public_name_can_be_imported():
    for name in pybridge.__all__:
        assert getattr(pybridge, name) is not None
    assert set(pybridge.__all__) <= set(dir(pybridge))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = pybridge.nonsense


def test_the_version_is_the_same_everywhere():
    texts = {
        "pyproject.toml": r'^version = "(.*)"',
        "meson.build": r"^  version: '(.*)'",
        "pybridge/__init__.py": r'^__version__ = "(.*)"',
        "fortran/pybridge.f90": r'pybridge_version = "(.*)"',
        "CITATION.cff": r"^version: (.*)",
        "fpm.toml": r'^version = "(.*)"',
    }
    found = {p: re.search(r, (ROOT / p).read_text(), re.M)[1] for p, r in texts.items()}
    assert set(found.values()) == {pybridge.__version__}, found
