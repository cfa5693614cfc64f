# SPDX-License-Identifier: MIT
"""4D-Var on the Lorenz-96 twin: error of the analyses, and time of a window.

Truth from x = F with x_1 + 0.01 after 2000 steps; every variable observed at every step with a unit
Gaussian error; adjoining windows of 8 or 4 steps, observed at steps 1 to the last; analysis of the
state at step 0; the analysed trajectory's end is the next background. B is a multiple of the
climatological covariance of 20,000 steps. The multiple is chosen on a validation twin of its own
seed (``--tune``), never on those reported.

    python benchmarks/fourdvar_lorenz96.py [--windows 1000] [--seeds 5] [--tune]
"""

import argparse
import time

import numpy as np

from pybridge.assimilation import FourDVar, FullCovariance, Observations, cycle
from pybridge.models import Lorenz96

SPIN_UP = 50
VALIDATION_SEED = 1000
SCALES = {8: 0.005, 4: 0.006}
REFERENCES = {
    8: "NumPy, dense TL: 0.196 / 0.247, 13 ms; dabench: 0.202 / 0.235, 42 ms; ADAO: 0.199 / 0.251, "
    "115 ms",
    4: "NumPy, dense TL: 0.235 / 0.278",
}


def start():
    x = np.full(40, 8.0)
    x[0] += 0.01
    return Lorenz96().step(x, 2000)


def climatology():
    return np.cov(Lorenz96().trajectory(start(), 20_000), rowvar=False)


def twin(fourdvar, windows, seed):
    """RMSE at start and end of each window, milliseconds of each, and its inner iterations."""
    random = np.random.default_rng(seed)
    steps = fourdvar.steps
    truth = fourdvar.model.trajectory(start(), windows * steps)
    observed = truth + random.standard_normal(truth.shape)
    rows = observed[1:].reshape(windows, steps, -1)
    layout = Observations(range(1, steps + 1), None, rows[0], 1.0)
    sets = [layout.with_values(row) for row in rows]
    background = truth[0] + random.standard_normal(40)
    errors, times, iterations = np.empty((windows, 2)), np.empty(windows), np.empty(windows)
    before = time.perf_counter()
    for w, analysis in enumerate(cycle(fourdvar, background, sets)):
        times[w] = time.perf_counter() - before
        errors[w, 0] = np.sqrt(np.mean((analysis.analysis - truth[w * steps]) ** 2))
        errors[w, 1] = np.sqrt(np.mean((analysis.final - truth[(w + 1) * steps]) ** 2))
        iterations[w] = analysis.inner_iterations.sum()
        before = time.perf_counter()
    return errors[SPIN_UP:], 1e3 * times[SPIN_UP:], iterations[SPIN_UP:]


def tune(covariance, steps, windows):
    """Print the error of the end of windows, on the validation twin, by the multiple in B."""
    print(f"windows of {steps}, validation twin: RMSE start / end by multiple")
    for scale in (0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05):
        fourdvar = FourDVar(Lorenz96(), FullCovariance(scale * covariance), steps=steps)
        errors = twin(fourdvar, windows, VALIDATION_SEED)[0].mean(axis=0)
        print(f"  {scale:<6} {errors[0]:.4f} / {errors[1]:.4f}")


def gradient_cost(covariance):
    """Print the time of J and its gradient in units of one nonlinear run of the window."""
    x = start()
    observations = Observations(range(1, 9), None, np.tile(x, (8, 1)), 1.0)
    fourdvar = FourDVar(Lorenz96(), FullCovariance(covariance), steps=8)
    v = np.zeros(40)

    def best(work):
        times = []
        for _ in range(20):
            before = time.perf_counter()
            for _ in range(200):
                work()
            times.append((time.perf_counter() - before) / 200)
        return 1e6 * min(times)

    run = best(lambda: fourdvar.model.step(x, 8))
    both = best(lambda: fourdvar.cost_and_gradient(v, x, observations))
    print(
        f"J and gradient, called from Python: {both:.2f} us; a nonlinear run: {run:.2f} us; "
        f"ratio {both / run:.2f}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=1000, help="windows after spin-up")
    parser.add_argument("--seeds", type=int, default=5, help="twins, each of its own seed")
    parser.add_argument("--outer", type=int, default=3, help="outer iterations")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of the inner iterations")
    parser.add_argument("--tune", action="store_true", help="scan the multiple in B instead")
    arguments = parser.parse_args()
    covariance = climatology()
    if arguments.tune:
        for steps in SCALES:
            tune(covariance, steps, arguments.windows + SPIN_UP)
        return
    print(
        f"{arguments.seeds} twins of {arguments.windows} windows after {SPIN_UP}; outer "
        f"{arguments.outer}, inner tolerance {arguments.tolerance}; mean and spread over twins"
    )
    for steps, scale in SCALES.items():
        fourdvar = FourDVar(
            Lorenz96(),
            FullCovariance(scale * covariance),
            steps=steps,
            outer=arguments.outer,
            tolerance=arguments.tolerance,
        )
        results = [
            twin(fourdvar, arguments.windows + SPIN_UP, seed) for seed in range(arguments.seeds)
        ]
        errors = np.array([result[0].mean(axis=0) for result in results])
        times = np.concatenate([result[1] for result in results])
        iterations = np.concatenate([result[2] for result in results])
        mean, spread = errors.mean(axis=0), errors.std(axis=0, ddof=min(1, len(errors) - 1))
        print(
            f"windows of {steps}, B = {scale} C_clim: RMSE start {mean[0]:.4f} ± {spread[0]:.4f}, "
            f"end {mean[1]:.4f} ± {spread[1]:.4f}; {np.median(times):.3f} ms a window (median; "
            f"95 % below {np.percentile(times, 95):.3f}), {iterations.mean():.1f} inner iterations"
        )
        print(f"    beside it: {REFERENCES[steps]}")
    gradient_cost(covariance)


if __name__ == "__main__":
    main()
