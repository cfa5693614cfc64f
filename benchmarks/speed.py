"""Speed of the parts: border, model, hybrid, 4D-Var window. `python benchmarks/speed.py`

Each figure is the minimum over repetitions of the mean over many calls, on one thread. Figures on a
shared machine drift: the ratios, whose parts are measured in one run, are what counts.
"""

import os
import platform
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import pybridge as pb
from pybridge import _kernels
from pybridge.assimilation import FourDVar, FullCovariance, Observations

N = 40
STEPS = 1000


def microseconds(function, calls, repetitions=40):
    """Return the time of one call."""
    function()
    best = np.inf
    for _ in range(repetitions):
        begin = time.perf_counter()
        for _ in range(calls):
            function()
        best = min(best, time.perf_counter() - begin)
    return best / calls * 1e6


def main():
    """Measure and print one table."""
    keras.config.set_dtype_policy("float64")
    rng = np.random.default_rng(0)
    model = pb.Lorenz96(N)
    x = model.step(8.0 + rng.standard_normal(N), 1000)
    none = np.empty(0)
    rows = []

    def add(name, value, target=""):
        rows.append((name, value, target))

    # The border: a call that steps nothing, through f2py alone and through the package
    state = x.copy()
    work = np.empty(_kernels.pybridge_model_workspace(model.handle, 0, 1, 1, 1))
    call, handle = _kernels.pybridge_model_forecast, model.handle
    add(
        "call across the border (f2py, all buffers given)",
        microseconds(lambda: call(handle, 0, 0, 1, 1, 1, none, state, none, work), 20000),
        "<= 0.5",
    )
    add("Model.step with all its checks, zero steps", microseconds(lambda: model.step(x, 0), 5000))

    step = microseconds(lambda: model.step(x, STEPS), 20) / STEPS
    add("Lorenz-96 (40): a step", step, "<= 0.15")
    # Tangent linear and adjoint linearise about a run that they make first, and whose time is
    # subtracted. Few steps, since perturbations of a chaotic run overflow after many; the same
    # buffers in every call, since fresh memory costs as much as the adjoint itself.
    few = 100
    work = np.empty(_kernels.pybridge_model_workspace(handle, 2, few, 1, 1))
    dx, p_ad = np.empty(N), np.zeros(1)

    def run():
        state[:] = x
        call(handle, 0, few, 1, 1, 1, none, state, none, work)

    def run_tl():
        dx[:] = 1e-3
        _kernels.pybridge_model_forecast_tl(handle, 0, few, 1, 1, none, x, none, dx, work)

    def run_ad():
        dx[:] = 1e-3
        _kernels.pybridge_model_forecast_ad(handle, 0, few, 1, 1, none, x, dx, p_ad, work)

    short = microseconds(run, 200)
    add("  tangent linear / step", (microseconds(run_tl, 200) - short) / short)
    add(
        "  adjoint (of state and parameters) / step",
        (microseconds(run_ad, 200) - short) / short,
        "<= 2.5",
    )

    network = keras.Sequential(
        [
            keras.Input((N,)),
            keras.layers.Dense(64, "tanh"),
            keras.layers.Dense(64, "tanh"),
            keras.layers.Dense(N, kernel_initializer=keras.initializers.RandomNormal(stddev=1e-3)),
        ]
    )
    native = pb.Network.from_keras(network)
    hybrid = pb.HybridModel(model, native, "increment")
    hybrid_step = microseconds(lambda: hybrid.step(x, STEPS), 20) / STEPS
    add("hybrid step, network 40-64-64-40 as increment", hybrid_step)
    add("  beyond the model's step", hybrid_step - step, "<= 1.5")
    by_stage = pb.HybridModel(model, native, "tendency")
    add(
        "hybrid step, the same network at each of four stages",
        microseconds(lambda: by_stage.step(x, STEPS), 20) / STEPS,
    )

    def in_python(function):
        state = model.step(x)
        return state + np.asarray(function(state[None]))[0]

    compiled = __import__("tensorflow").function(network, autograph=False)
    for name, function, calls in (
        ("tf.function", compiled, 500),
        ("model(x)", network, 100),
        ("predict", lambda state: network.predict(state, verbose=0), 5),
    ):
        loop = microseconds(lambda function=function: in_python(function), calls, 3)
        add(f"the same step in Python, Keras by {name}", loop)
        add("  times the hybrid step in Fortran", loop / hybrid_step)

    climate = model.trajectory(x, 20000, every=20)
    fourdvar = FourDVar(
        model, FullCovariance(0.005 * np.cov(climate.T)), steps=8, outer=3, tolerance=1e-3
    )
    truth = model.trajectory(climate[-1], 8)
    observations = Observations(range(1, 9), None, truth[1:] + rng.standard_normal((8, N)), 1.0)
    background = truth[0] + 0.2 * rng.standard_normal(N)
    window = microseconds(lambda: fourdvar.analyse(background, observations), 100)
    add("4D-Var, a window of 8 steps, 3 outer iterations (ms)", window / 1000, "<= 2 (later 0.5)")

    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}")
    print("| what | microseconds | target |\n|---|---|---|")
    for name, value, target in rows:
        print(f"| {name} | {value:.3g} | {target} |")


if __name__ == "__main__":
    main()
