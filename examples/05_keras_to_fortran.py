# SPDX-License-Identifier: MIT
"""A Keras network into the Fortran time loop, through 4D-Var, and back to Keras."""

import keras
import numpy as np

from pybridge import HybridModel, Lorenz96, Network
from pybridge.learning import stencil_network


def main():
    """Learn the tendency that a model lacks, correct it, and compare forecasts."""
    keras.utils.set_random_seed(5)
    rng = np.random.default_rng(5)
    nature, model = Lorenz96(n=40, forcing=10.0), Lorenz96(n=40, forcing=8.0)
    x = nature.trajectory(nature.step(8.0 + rng.standard_normal(40), 500), 4000, every=20)

    # What the model misses in a step of truth is what the network is to give
    missing = (nature.step(x) - model.step(x)) / model.dt
    network = stencil_network(40, hidden=8, centre=2.5, scale=3.5, seed=5)
    network.compile(keras.optimizers.Adam(0.01), "mse")
    network.fit(x, missing, epochs=60, batch_size=20, verbose=0)

    # Into Fortran, where it is verified against Keras: values, tangent linear and adjoint
    fortran = Network.from_keras(network)
    report = fortran.verify(network)
    print(report)
    hybrid = HybridModel(model, fortran, mode="tendency")
    later = nature.step(x, 20)
    for name, forecast in (("model", model), ("model with network", hybrid)):
        error = np.sqrt(np.mean((forecast.step(x, 20) - later) ** 2))
        print(f"error of the {name} after 20 steps: {error:.3f}")

    # And back, with the weights that the hybrid has: bit for bit
    again = hybrid.network.to_keras()
    same = all(
        np.array_equal(a, b)
        for a, b in zip(again.get_weights(), network.get_weights(), strict=True)
    )
    print(f"back in Keras: {again.count_params()} weights, {'the same' if same else 'different'}")


if __name__ == "__main__":
    main()
