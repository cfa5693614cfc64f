# SPDX-License-Identifier: MIT
"""Your own model by the third door: a Fortran type, linked with pybridge's library.

Compiles it twice: into a shared library for Python, and into a program that runs 4D-Var without
Python. `pybridge-config` tells the compiler where pybridge's modules and library are.
"""

import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pybridge import CompiledModel

HERE = Path(__file__).parent


def compile_with_pybridge(output, *sources, shared=False):
    """Compile sources of this directory by the options that `pybridge-config` prints."""
    config = Path(sysconfig.get_path("scripts"), "pybridge-config")
    options = subprocess.run(
        [config, "--fflags", "--libs"], capture_output=True, text=True, check=True
    ).stdout
    kind = ["-shared", "-fPIC"] if shared else []
    files = [HERE / source for source in sources]
    modules = f"-J{Path(output).parent}"
    command = ["gfortran", "-O2", *kind, modules, *files, *shlex.split(options), "-o", output]
    subprocess.run(command, check=True)
    return output


def main():
    """Use the model from Python, then run the Fortran program."""
    with TemporaryDirectory() as directory:
        library = compile_with_pybridge(
            Path(directory, "shallow_water.so"), "shallow_water.f90", "for_python.f90", shared=True
        )
        model = CompiledModel(library)
        print(f"{model.n} values, parameters g = {model.parameters[0]}, r = {model.parameters[1]}")

        # A hill of water flows apart; nothing of it is lost
        x = np.concatenate([np.zeros(32), 1.0 + 0.2 * np.exp(-((np.arange(32) - 16.0) ** 2) / 8)])
        after = model.step(x, 100)
        print(f"height of the hill: {x[32:].max():.3f} -> {after[32:].max():.3f}")
        print(f"volume of water: {x[32:].sum():.6f} -> {after[32:].sum():.6f}")
        rng = np.random.default_rng(3)
        dx, y_ad = rng.standard_normal((2, model.n))
        left = model.step_tl(x, dx, 100) @ y_ad
        right = dx @ model.step_ad(x, y_ad, 100)[0]
        print(f"<TL dx, y> - <dx, AD y> = {abs(left - right) / abs(left):.0e} relative")

        program = compile_with_pybridge(
            Path(directory, "fourdvar"), "shallow_water.f90", "fourdvar.f90"
        )
        print("\n4D-Var in Fortran:", flush=True)
        subprocess.run([program], check=True)


if __name__ == "__main__":
    sys.exit(main())
