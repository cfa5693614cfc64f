"""A Lorenz-96 step (n = 40) inside a TensorFlow graph. `python benchmarks/keras_layer.py`

The same steps three ways: the operation in C over the Fortran core, the fallback through
`tf.numpy_function`, and the model written in TensorFlow's own operations. Each graph holds a chain
of single steps, as a recurrent network or a loop of one's own does; "one call" is all steps in one
operation. Microseconds a step on one thread: what a run of 100 steps takes longer than one of 20,
minima over repetitions, so that the call of the graph itself is left out. XLA is not in the table:
it did not get a chain of 50 steps in TensorFlow's operations compiled within eight minutes.
"""

import os
import platform
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

import pybridge as pb
from pybridge.keras import forecast

N = 40
SHORT, LONG = 20, 100
LONGER = 10  # So many times as many steps where all are one operation
DT = 0.05


def seconds(function, argument, repetitions=300):
    """Return the time of a call of a graph, the best of many."""
    function(argument)
    best = np.inf
    for _ in range(repetitions):
        begin = time.perf_counter()
        function(argument)
        best = min(best, time.perf_counter() - begin)
    return best


def tensorflow_step(x, forcing):
    """A Runge-Kutta step of Lorenz-96 in TensorFlow."""

    def tendency(x):
        ahead, behind, further = (tf.roll(x, shift, axis=-1) for shift in (-1, 1, 2))
        return (ahead - further) * behind - x + forcing

    k1 = tendency(x)
    k2 = tendency(x + 0.5 * DT * k1)
    k3 = tendency(x + 0.5 * DT * k2)
    k4 = tendency(x + DT * k3)
    return x + DT / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)


def chain(step):
    """Make a step into a run."""

    def run(x, p, steps):
        for _ in range(steps):
            x = step(x, p)
        return x

    return run


def main():
    """Measure and print one table."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = pb.Lorenz96(N, dt=DT)
    p = tf.constant(model.parameters)
    runs = {
        "op": chain(lambda x, p: forecast(model, x, parameters=p, backend="op")),
        "op, one call": lambda x, p, n: forecast(model, x, n, parameters=p, backend="op"),
        "numpy_function": chain(lambda x, p: forecast(model, x, parameters=p, backend="numpy")),
        "TensorFlow": chain(tensorflow_step),
    }

    def gradients(run):
        def gradient(x, p, steps):
            with tf.GradientTape() as tape:
                tape.watch([x, p])
                target = tf.reduce_sum(run(x, p, steps))
            return tape.gradient(target, [x, p])

        return gradient

    def microseconds(run, x, factor):
        """Return the time of a step."""
        short, long = (
            seconds(tf.function(lambda x, n=n: run(x, p, n)), x)
            for n in (factor * SHORT, factor * LONG)
        )
        return (long - short) / (factor * (LONG - SHORT)) * 1e6

    print(f"{platform.processor() or platform.machine()}, TensorFlow {tf.__version__}")
    print(f"{'microseconds a step':24}{'batch':>7}{'forward':>10}{'with gradients':>16}")
    for batch in (1, 32):
        rng = np.random.default_rng(0)
        x = tf.constant(model.step(8.0 + rng.standard_normal((batch, N)), 500))
        reference = model.step(np.asarray(x), LONG)
        for name, run in runs.items():
            error = np.abs(np.asarray(run(x, p, LONG)) - reference).max()
            assert error < 1e-5, f"{name}: {error}"  # Rounding grows in a chaotic run
            factor = LONGER if name.endswith("one call") else 1
            times = microseconds(run, x, factor), microseconds(gradients(run), x, factor)
            print(f"{name:24}{batch:7d}{times[0]:10.2f}{times[1]:16.2f}")


if __name__ == "__main__":
    main()
