# SPDX-License-Identifier: MIT
"""Fixtures that several test files share."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command, **options):
    """Run a command outside the source tree, and return its standard output.

    Where it fails, the test fails with what the command printed.
    """
    options = {"cwd": ROOT.anchor} | options
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """A wheel built from this tree, by the build requirements of this environment."""
    directory = tmp_path_factory.mktemp("wheel")
    environment = os.environ | {
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    }
    build = f"--config-settings=build-dir={directory / 'build'}"
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", build]
    run(sys.executable, "-m", "pip", "wheel", *options, "-w", directory, ROOT, env=environment)
    (found,) = directory.glob("pybridge-*.whl")
    return found


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """The scripts' directory of an environment with that wheel alone, without even NumPy."""
    directory = tmp_path_factory.mktemp("installed")
    venv.create(directory)
    options = ["--no-deps", "--no-index", "--disable-pip-version-check"]
    python = directory / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel)
    return directory / "bin"
