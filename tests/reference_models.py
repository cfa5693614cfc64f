# SPDX-License-Identifier: MIT
"""The bundled models written again in NumPy, for any precision, real or complex."""

import numpy as np


def lorenz63(x, p):
    sigma, rho, beta = p
    return np.array([sigma * (x[1] - x[0]), x[0] * (rho - x[2]) - x[1], x[0] * x[1] - beta * x[2]])


def lorenz96(x, p):
    return (np.roll(x, -1) - np.roll(x, 2)) * np.roll(x, 1) - x + p[0]


def two_scale_lorenz96(n_slow):
    def tendency(x, p):
        forcing, h, b, c = p
        slow, fast = x[:n_slow], x[n_slow:].reshape(n_slow, -1)
        u = fast.ravel()
        d_slow = lorenz96(slow, [forcing]) - h * c / b * fast.sum(axis=1)
        d_fast = c * b * np.roll(u, -1) * (np.roll(u, 1) - np.roll(u, -2)) - c * u
        return np.concatenate([d_slow, d_fast + h * c / b * np.repeat(slow, fast.shape[1])])

    return tendency


def recharge_oscillator(x, p):
    mu, e_n, c, gamma, r, alpha, b_0 = p
    temperature, depth = x
    b = b_0 * mu
    return np.array(
        [
            (gamma * b - c) * temperature + gamma * depth - e_n * (depth + b * temperature) ** 3,
            -r * depth - alpha * b * temperature,
        ]
    )


def runge_kutta_step(tendency, x, p, h):
    """Advance x by one classical Runge-Kutta step of ``tendency(x, p)``."""
    k1 = tendency(x, p)
    k2 = tendency(x + h / 2 * k1, p)
    k3 = tendency(x + h / 2 * k2, p)
    k4 = tendency(x + h * k3, p)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def run(tendency, x, p, h, steps):
    for _ in range(steps):
        x = runge_kutta_step(tendency, x, p, h)
    return x


def derivative(tendency, x, p, dx, dp, h, steps):
    """The derivative of a run by a complex step in extended precision: no cancellation."""
    tiny = np.longdouble(1e-40)
    x = x.astype(np.clongdouble) + 1j * tiny * dx
    p = p.astype(np.clongdouble) + 1j * tiny * dp
    return (run(tendency, x, p, np.longdouble(h), steps).imag / tiny).astype(float)
