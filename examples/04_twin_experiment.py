# SPDX-License-Identifier: MIT
"""A 4D-Var twin experiment: Lorenz-96, every second variable observed, sixty windows."""

import numpy as np

from pybridge import Lorenz96
from pybridge.assimilation import DiagonalCovariance, FourDVar, Observations, cycle


def main():
    """Print the errors of analyses and forecasts, and of observing nothing."""
    rng, steps, windows, seen = np.random.default_rng(4), 4, 60, np.arange(0, 40, 2)
    model = Lorenz96(n=40, forcing=8.0, dt=0.05)
    start = model.step(8.0 + 0.1 * rng.standard_normal(40), 1000)
    truth = model.trajectory(start, steps * windows)
    y = truth[:, seen] + 0.5 * rng.standard_normal((len(truth), seen.size))
    observations = [
        Observations(range(1, steps + 1), seen, y[k + 1 : k + steps + 1], 0.5)
        for k in range(0, steps * windows, steps)
    ]

    fourdvar = FourDVar(model, DiagonalCovariance(0.4, n=40), steps=steps)
    analyses = list(cycle(fourdvar, start + rng.standard_normal(40), observations))

    def error(state, k):
        return np.sqrt(np.mean((state - truth[k]) ** 2))

    late = range(20, windows)
    analysed = np.mean([error(analyses[w].analysis, w * steps) for w in late])
    forecast = np.mean([error(analyses[w].final, (w + 1) * steps) for w in late])
    free = model.trajectory(start + rng.standard_normal(40), steps * windows)
    unobserved = np.mean([error(free[w * steps], w * steps) for w in late])
    print(f"root-mean-square error without observations: {unobserved:.2f}")
    print(
        f"of the analyses: {analysed:.2f}; of their forecasts to the window's end: {forecast:.2f}"
    )


if __name__ == "__main__":
    main()
