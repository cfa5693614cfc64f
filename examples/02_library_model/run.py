# SPDX-License-Identifier: MIT
"""Your own model by the second door: a shared library with three procedures (`burgers.f90`).

Builds the library by one compiler command, and assimilates observations of a steepening wave at
every fourth point with it.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pybridge import LibraryModel
from pybridge.assimilation import FourDVar, FullCovariance, Observations

SOURCE = Path(__file__).with_name("burgers.f90")
N, STEPS = 48, 60


def build(directory):
    """Compile the library into a directory, and return its path."""
    library = Path(directory, "burgers.so")
    subprocess.run(
        ["gfortran", "-O2", "-shared", "-fPIC", f"-J{directory}", SOURCE, "-o", library], check=True
    )
    return library


def burgers(library):
    """Return the model: its viscosity and damping are parameters."""
    return LibraryModel(library, n=N, dt=0.02, parameters=[0.1, 0.05])


def twin(model):
    """Observe a true run, and analyse the observations from a wrong background."""
    rng = np.random.default_rng(2)
    angle = 2.0 * np.pi * np.arange(N) / N
    truth = 1.0 + np.sin(angle) + 0.3 * np.cos(3.0 * angle)
    times, points, sigma = range(10, STEPS + 1, 10), np.arange(0, N, 4), 0.05
    observed = model.trajectory(truth, STEPS)[10::10, points]
    observations = Observations(
        times, points, observed + sigma * rng.standard_normal(observed.shape), sigma
    )

    # Errors of the background are correlated along the ring
    distance = np.minimum(np.arange(N), N - np.arange(N))
    shift = (np.arange(N)[:, None] - np.arange(N)) % N
    covariance = 0.2**2 * (np.exp(-((distance / 4.0) ** 2)) + 1e-3 * (distance == 0))[shift]
    background = truth + np.linalg.cholesky(covariance) @ rng.standard_normal(N)
    fourdvar = FourDVar(model, FullCovariance(covariance), steps=STEPS, outer=4)
    test = fourdvar.check(background, observations)
    return truth, background, fourdvar.analyse(background, observations), test


def main():
    """Build, check and run it."""
    with TemporaryDirectory() as directory:
        truth, background, analysis, test = twin(burgers(build(directory)))
    print(f"the adjoint gives the gradient to {test.remainders.min():.1e}")
    print(f"cost {analysis.cost[0]:.1f} -> {analysis.cost[-1]:.1f}")
    for name, x in (("background", background), ("analysis", analysis.analysis)):
        print(f"error of the {name}: {np.sqrt(np.mean((x - truth) ** 2)):.4f}")


if __name__ == "__main__":
    sys.exit(main())
