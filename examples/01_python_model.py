# SPDX-License-Identifier: MIT
"""Your own model by the first door: three Python callables.

Predator and prey (Lotka 1925, Volterra 1926). The state holds the logarithms of both populations,
the parameters their four rates. Only the prey is counted, once a month and with errors; 4D-Var
finds both populations at the start and corrects a wrong rate.
"""

import numpy as np

from pybridge import PythonModel
from pybridge.assimilation import DiagonalCovariance, FourDVar, Observations

DT = 0.05


def step(x, p, t):
    """Return the state one step after x: the prey first, then the predators with the new prey."""
    growth, predation, reproduction, death = p
    prey = x[0] + DT * (growth - predation * np.exp(x[1]))
    predators = x[1] + DT * (reproduction * np.exp(prey) - death)
    return [prey, predators]


def step_tl(x, dx, p, dp, t):
    """Return the tangent linear of `step`: every line of it, differentiated."""
    prey, _ = step(x, p, t)
    d_prey = dx[0] + DT * (dp[0] - dp[1] * np.exp(x[1]) - p[1] * np.exp(x[1]) * dx[1])
    d_predators = dx[1] + DT * (dp[2] * np.exp(prey) + p[2] * np.exp(prey) * d_prey - dp[3])
    return [d_prey, d_predators]


def step_ad(x, x_ad, p, t):
    """Return the adjoint of `step`: the lines of `step_tl` transposed, in reverse order."""
    prey, _ = step(x, p, t)
    prey_ad, predators_ad = x_ad
    prey_ad = prey_ad + DT * p[2] * np.exp(prey) * predators_ad
    return (
        [prey_ad, predators_ad - DT * p[1] * np.exp(x[1]) * prey_ad],
        [
            DT * prey_ad,
            -DT * np.exp(x[1]) * prey_ad,
            DT * np.exp(prey) * predators_ad,
            -DT * predators_ad,
        ],
    )


RATES = np.array([1.0, 0.6, 0.5, 0.8])
model = PythonModel(step, step_tl, step_ad, n=2, dt=DT, parameters=RATES)


def main():
    """Count the prey in twelve months of a true world, and analyse them."""
    rng = np.random.default_rng(1)
    months, steps, sigma = np.arange(1, 13), 20 * 12, 0.05
    truth = np.log([2.0, 1.0])
    counted = model.trajectory(truth, steps)[20 * months, :1]
    counts = Observations(20 * months, [0], counted + sigma * rng.standard_normal((12, 1)), sigma)

    # What we believe beforehand: wrong populations, and predators that are too greedy
    background, rates = np.log([1.5, 1.6]), RATES * [1.0, 1.25, 1.0, 1.0]
    fourdvar = FourDVar(
        model,
        DiagonalCovariance(0.5, n=2),
        steps=steps,
        outer=8,
        parameter_sigma=[0.0, 0.2, 0.0, 0.0],
    )
    test = fourdvar.check(background, counts, parameters=rates)
    print(f"the adjoint gives the gradient to {test.remainders.min():.1e}")
    analysis = fourdvar.analyse(background, counts, parameters=rates)
    print(f"cost {analysis.cost[0]:.1f} -> {analysis.cost[-1]:.1f}")
    for name, x, p in (
        ("truth", truth, RATES),
        ("background", background, rates),
        ("analysis", analysis.analysis, analysis.parameters),
    ):
        prey, predators = np.exp(x)
        print(f"{name:<10}  prey {prey:.2f}  predators {predators:.2f}  predation {p[1]:.3f}")


if __name__ == "__main__":
    main()
