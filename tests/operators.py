# SPDX-License-Identifier: MIT
"""Every operator that has a tangent linear and an adjoint, registered once.

`TRIPLES` is what `test_operators.py` goes through. A triple claims the derivatives that it runs, by
module and name without suffix: ``pybridge_lorenz96.forward`` claims ``forward_tl`` and
``forward_ad`` of that Fortran module, ``pybridge.models.Model.step`` those of that class.
Derivatives that only a program in Fortran or C can reach are claimed by `PROGRAMS`. `fortran` and
`python` find all that there are in the sources; what nobody claims is an error.
"""

import ast
import functools
import importlib.util
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import pybridge as pb
from pybridge._network_file import LayerRecord, NetworkFile, Node, Weight, encode
from pybridge.assimilation import DiagonalCovariance, FourDVar, FullCovariance, Observations

ROOT = Path(__file__).parents[1]


class Operator:
    """A differentiable function of flat vectors, with a point to take its derivatives at.

    Attributes
    ----------
    x : numpy.ndarray
        The point: inputs, then parameters where there are any.
    linear : bool
        Whether the Taylor remainder vanishes altogether.
    kinks : bool
        Whether there are points, met by no chance, that have no derivative.
    """

    x: np.ndarray
    linear = False
    kinks = False

    def forward(self, x):
        raise NotImplementedError

    def tl(self, x, dx):
        raise NotImplementedError

    def ad(self, x, y_ad):
        raise NotImplementedError

    def direction(self, rng):
        """Return a perturbation that is not small, in proportion to the point."""
        return rng.standard_normal(self.x.size) * (0.1 + 0.3 * np.abs(self.x))


class ModelRun(Operator):
    """An ensemble's run, of its states and the parameters."""

    def __init__(self, model, states, steps, start=0, threads=1):
        self.model, self.steps = model, steps
        self.shape = states.shape
        self.options = {"start": start, "threads": threads}
        self.x = np.concatenate([states.ravel(), model.parameters])

    def split(self, x):
        n = x.size - self.model.n_parameters
        return x[:n].reshape(self.shape), x[n:]

    def forward(self, x):
        states, p = self.split(x)
        return self.model.step(states, self.steps, parameters=p, **self.options).ravel()

    def tl(self, x, dx):
        (states, p), (perturbations, dp) = self.split(x), self.split(dx)
        options = self.options | {"parameters": p, "dp": dp}
        return self.model.step_tl(states, perturbations, self.steps, **options).ravel()

    def ad(self, x, y_ad):
        states, p = self.split(x)
        options = self.options | {"parameters": p}
        x_ad, p_ad = self.model.step_ad(states, y_ad.reshape(self.shape), self.steps, **options)
        return np.concatenate([x_ad.ravel(), p_ad])


class NetworkRun(Operator):
    """A network's output for a batch, of its inputs and weights."""

    def __init__(self, network, rng, members, kinks=False, linearise=False):
        self.network, self.kinks, self.linearise = network, kinks, linearise
        self.members = members
        inputs = rng.standard_normal(members * network.n_inputs)
        self.x = np.concatenate([inputs, network.parameters])

    def split(self, x):
        n = self.members * self.network.n_inputs
        return x[:n].reshape(self.members, -1), x[n:]

    def forward(self, x):
        inputs, p = self.split(x)
        if self.linearise:
            return self.network.linearise(inputs, parameters=p).y.ravel()
        return self.network.forward(inputs, parameters=p).ravel()

    def tl(self, x, dx):
        (inputs, p), (d_inputs, dp) = self.split(x), self.split(dx)
        if self.linearise:
            return self.network.linearise(inputs, parameters=p).tl(d_inputs, dp).ravel()
        return self.network.forward_tl(inputs, d_inputs, dp, parameters=p).ravel()

    def ad(self, x, y_ad):
        inputs, p = self.split(x)
        y_ad = y_ad.reshape(self.members, -1)
        if self.linearise:
            x_ad, p_ad = self.network.linearise(inputs, parameters=p).ad(y_ad)
        else:
            x_ad, p_ad = self.network.forward_ad(inputs, y_ad, parameters=p)
        return np.concatenate([x_ad.ravel(), p_ad])


class Linear(Operator):
    """A linear operator and its adjoint."""

    linear = True

    def __init__(self, n, rng, forward, adjoint):
        self.x = rng.standard_normal(n)
        self._forward, self._adjoint = forward, adjoint

    def forward(self, x):
        return self._forward(x)

    def tl(self, x, dx):
        return self._forward(dx)

    def ad(self, x, y_ad):
        return self._adjoint(y_ad)


@dataclass(frozen=True)
class Triple:
    """An operator with tangent linear and adjoint, to be made at random."""

    name: str
    make: Callable[[np.random.Generator], Operator]
    claims: frozenset[str] = field(default_factory=frozenset)


TRIPLES: dict[str, Triple] = {}


def triple(name, *claims):
    """Register the function below, which makes an operator of a random generator."""

    def register(make):
        assert name not in TRIPLES, f"two triples are named {name!r}"
        TRIPLES[name] = Triple(name, make, frozenset(claims))
        return make

    return register


# ---- models ----


def members(rng):
    """Return the shape of an ensemble: one state, or some."""
    return [(), (1,), (3,), (2, 2), (17,)][rng.integers(5)]


def run(model, rng, centre=1.0, scale=1.5, steps=8):
    states = centre + scale * rng.standard_normal((*members(rng), model.n))
    return ModelRun(
        model,
        states,
        int(rng.integers(1, steps)),
        start=int(rng.integers(-50, 50)),
        threads=int(rng.integers(1, 4)),
    )


EVERY_MODEL = (
    "pybridge.models.Model.step",
    "pybridge_trajectory.forecast",
    "pybridge_forecast_model.start",
)


@triple("Lorenz-63", "pybridge_lorenz63.forward", "pybridge_runge_kutta.step", *EVERY_MODEL)
def _(rng):
    return run(pb.Lorenz63(dt=rng.uniform(0.001, 0.02)), rng, 1.0, 5.0)


@triple("Lorenz-96", "pybridge_lorenz96.forward")
def _(rng):
    n = int(rng.choice([4, 5, 6, 7, 40, 41]))
    return run(pb.Lorenz96(n, rng.uniform(4.0, 10.0), rng.uniform(0.01, 0.05)), rng, 2.0, 2.0)


@triple(
    "two-scale Lorenz-96",
    "pybridge_two_scale_lorenz96.forward",
    "pybridge_ring_advection.ring_advection",
)
def _(rng):
    n_slow, n_fast = int(rng.choice([4, 5, 6, 9])), int(rng.integers(1, 6))
    model = pb.TwoScaleLorenz96(n_slow, n_fast, h=rng.uniform(0.1, 1.0))
    return run(model, rng, 0.3, 0.5)


@triple("recharge oscillator", "pybridge_recharge_oscillator.forward")
def _(rng):
    return run(pb.RechargeOscillator(mu=rng.uniform(0.4, 0.9)), rng, 0.0, 0.12)


# ---- a user's own models, by the three doors ----


def _python_step(x, p, t):
    return x + 0.1 * p[0] * np.sin(x) + 0.1 * p[1] * np.cos(t) * np.roll(x, 1) * x


def _python_step_tl(x, dx, p, dp, t):
    return (
        dx
        + 0.1 * (dp[0] * np.sin(x) + p[0] * np.cos(x) * dx)
        + 0.1 * np.cos(t) * (dp[1] * np.roll(x, 1) * x)
        + 0.1 * np.cos(t) * p[1] * (np.roll(dx, 1) * x + np.roll(x, 1) * dx)
    )


def _python_step_ad(x, x_ad, p, t):
    shifted, c = np.roll(x, 1), 0.1 * np.cos(t)
    p_ad = [0.1 * np.sin(x) @ x_ad, c * (shifted * x) @ x_ad]
    own = (1.0 + 0.1 * p[0] * np.cos(x) + c * p[1] * shifted) * x_ad
    return own + c * p[1] * np.roll(x * x_ad, -1), p_ad


def python_model(n=3):
    return pb.PythonModel(
        _python_step, _python_step_tl, _python_step_ad, n=n, dt=0.3, parameters=[0.7, 0.4]
    )


@triple("three Python callables", "pybridge_user_model.step")
def _(rng):
    return run(python_model(int(rng.integers(2, 7))), rng, 0.0, 1.0)


def compiler():
    return shutil.which("gfortran")


@functools.cache
def _scratch():
    return tempfile.TemporaryDirectory(prefix="pybridge-operators-")


def scratch():
    """Return a directory that lives as long as the process."""
    return Path(_scratch().name)


@functools.cache
def example(number):
    """Return the module of an example, loaded by its path."""
    (path,) = (ROOT / "examples").glob(f"{number:02}_*/run.py")
    spec = importlib.util.spec_from_file_location(f"example_{number}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def library_model():
    """Return the example's three procedures in a shared library as a model."""
    return example(2).burgers(example(2).build(scratch()))


@functools.cache
def compiled_model():
    """Return the example's type that extends `tendency_term` as a model."""
    return pb.CompiledModel(
        example(3).compile_with_pybridge(
            scratch() / "shallow_water.so", "shallow_water.f90", "for_python.f90", shared=True
        )
    )


@triple("three procedures in a shared library")
def _(rng):
    return run(library_model(), rng, 1.0, 0.3)


@triple("a Fortran type from a shared library")
def _(rng):
    return run(compiled_model(), rng, 1.0, 0.2)


# ---- networks ----

SMOOTH = [
    "linear",
    "celu",
    "sigmoid",
    "tanh",
    "softplus",
    "softsign",
    "silu",
    "exponential",
    "gelu",
    "gelu_tanh",
    "mish",
    "log_sigmoid",
    "tanh_shrink",
    "squareplus",
]
KINKED = [
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "hard_sigmoid",
    "hard_silu",
    "relu6",
    "soft_shrink",
    "hard_shrink",
    "hard_tanh",
    "general_relu",
    "threshold",
]
CONSTANTS = {
    "leaky_relu": [0.2],
    "elu": [0.8],
    "celu": [1.3],
    "gelu": [0.7],
    "gelu_tanh": [0.044715],
    "soft_shrink": [0.5],
    "hard_shrink": [0.4],
    "squareplus": [4.0],
    "general_relu": [1.5, 0.1, 0.2],
    "threshold": [0.1, -0.3],
}


class Graph:
    """A network under construction, in the terms of its file."""

    def __init__(self, rng, *inputs):
        self.rng = rng
        self.layers = []
        self.nodes = [Node(None, [shape], name=f"input_{i}") for i, shape in enumerate(inputs)]

    def add(self, record, shape, *sources):
        """Apply a new layer, or the number of an earlier one, to nodes; the last by default."""
        if isinstance(record, LayerRecord):
            self.layers.append(record)
            record = len(self.layers) - 1
        sources = [(source, 0) for source in sources or (len(self.nodes) - 1,)]
        self.nodes.append(Node(record, [shape], sources))
        return len(self.nodes) - 1

    def weights(self, *shapes):
        names = ("kernel", "bias")
        return [
            Weight(name, self.rng.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[:-1]))))
            for name, shape in zip(names, shapes, strict=False)
        ]

    def activation(self, name):
        return {"texts": [name], "constants": [np.array(CONSTANTS.get(name, []))]}

    def dense(self, units, activation="tanh", bias=True, source=None):
        sources = (len(self.nodes) - 1 if source is None else source,)
        shape = self.nodes[sources[0]].shapes[0]
        shapes = [(shape[-1], units), (units,)][: 1 + bias]
        record = LayerRecord("dense", "dense", "Dense", weights=self.weights(*shapes))
        return self.add(_with(record, self.activation(activation)), (*shape[:-1], units), *sources)

    def conv1d(self, filters, size, activation="tanh", stride=1, dilation=1, groups=1):
        length, channels = self.nodes[-1].shapes[0]
        shapes = [(size, channels // groups, filters), (filters,)]
        record = LayerRecord(
            "conv1d",
            "conv",
            "Conv1D",
            [stride, dilation, groups],
            ["valid"],
            [],
            self.weights(*shapes),
        )
        out = (length - (size - 1) * dilation - 1) // stride + 1
        return self.add(_with(record, self.activation(activation)), (out, filters))

    def network(self, *outputs):
        outputs = [(node, 0) for node in outputs or (len(self.nodes) - 1,)]
        return pb.Network(encode(NetworkFile(8, {}, self.layers, self.nodes, outputs)))


def _with(record, more):
    record.texts += more["texts"]
    record.constants += more["constants"]
    return record


def dense_network(rng, n_inputs, n_outputs, hidden=None):
    graph = Graph(rng, (n_inputs,))
    graph.dense(hidden or int(rng.integers(1, 20)))
    graph.dense(n_outputs, "linear")
    return graph.network()


EVERY_NETWORK = (
    "pybridge.network.Network.forward",
    "pybridge_network_api.forward",
    "pybridge_network.forward",
    "pybridge_network.gather",
    "pybridge_network.split_inputs",
    "pybridge_network.join_outputs",
    "pybridge_dense_layer.forward",
)


@triple("dense network", *EVERY_NETWORK)
def _(rng):
    graph = Graph(rng, (int(rng.integers(1, 12)),))
    for _ in range(rng.integers(1, 4)):
        graph.dense(int(rng.integers(1, 12)), str(rng.choice(SMOOTH)), bias=bool(rng.integers(2)))
    return NetworkRun(graph.network(), rng, int(rng.choice([1, 3, 300])))


@triple("dense network with kinks")
def _(rng):
    graph = Graph(rng, (int(rng.integers(1, 6)),))
    graph.dense(int(rng.integers(1, 6)), str(rng.choice(KINKED)))
    graph.dense(int(rng.integers(1, 6)), str(rng.choice(KINKED)))
    return NetworkRun(graph.network(), rng, int(rng.integers(1, 3)), kinks=True)


@triple(
    "convolution on a ring",
    "pybridge_conv1d_layer.forward",
    "pybridge_padding1d_layer.forward",
    "pybridge_padding1d_layer.pad",
    "pybridge_affine_layer.forward",
    "pybridge_identity_layer.forward",
    "pybridge.network.Linearisation",
)
def _(rng):
    n, channels = int(rng.integers(5, 20)), int(rng.integers(1, 4))
    graph = Graph(rng, (n * channels,))
    graph.add(LayerRecord("identity", "reshape", "Reshape", [n, channels]), (n, channels))
    scale = [rng.standard_normal(channels), 0.5 + rng.random(channels)]
    kind = int(rng.integers(2))
    graph.add(LayerRecord("affine", "scale", "Normalization", [kind], [], scale), (n, channels))
    left, right = (int(k) for k in rng.integers(0, 4, 2))
    graph.add(
        LayerRecord("padding1d", "pad", "Padding", [int(rng.integers(2)), left, right]),
        (n + left + right, channels),
    )
    # Keras refuses both together
    stride, dilation = [(1, 1), (2, 1), (1, 2)][rng.integers(3)]
    groups = int(rng.choice([1, channels]))
    graph.conv1d(2 * channels, 2, str(rng.choice(SMOOTH)), stride, dilation, groups)
    length, _ = graph.nodes[-1].shapes[0]
    graph.dense(2, "sigmoid")
    graph.add(LayerRecord("identity", "flat", "Flatten", [2 * length]), (2 * length,))
    graph.dense(n, "linear")
    return NetworkRun(graph.network(), rng, int(rng.integers(1, 4)), linearise=True)


@triple(
    "graph with merges, shared layers, several inputs and outputs",
    "pybridge_merge_layer.forward",
    "pybridge_merge_layer.merge_values",
    "pybridge_concatenate_layer.forward",
    "pybridge_concatenate_layer.join",
    "pybridge_softmax_layer.forward",
    "pybridge_activation_layer.forward",
)
def _(rng):
    m, n = (int(k) for k in rng.integers(2, 7, 2))
    graph = Graph(rng, (m,), (m,), (n,))
    shared = graph.dense(n, "tanh", source=0)
    again = graph.add(graph.nodes[shared].layer, (n,), 1)
    merged = graph.add(
        LayerRecord("merge", "merge", "Merge", texts=[str(rng.choice(["add", "multiply"]))]),
        (n,),
        shared,
        again,
        2,
    )
    difference = graph.add(
        LayerRecord("merge", "difference", "Subtract", texts=["subtract"]), (n,), merged, again
    )
    mean = graph.add(
        LayerRecord("merge", "mean", "Average", texts=["average"]), (n,), difference, 2, shared
    )
    joined = graph.add(
        LayerRecord("concatenate", "join", "Concatenate", [1]), (2 * n,), mean, difference
    )
    soft = graph.add(LayerRecord("softmax", "soft", "Softmax"), (2 * n,), joined)
    name = str(rng.choice(SMOOTH))
    alone = LayerRecord("activation", "alone", "Activation")
    last = graph.add(_with(alone, graph.activation(name)), (2 * n,), soft)
    return NetworkRun(graph.network(last, merged, shared), rng, int(rng.integers(1, 4)))


@triple("graph with maximum and minimum")
def _(rng):
    n = int(rng.integers(2, 7))
    graph = Graph(rng, (n,))
    first, second, third = (graph.dense(n, "tanh", source=0) for _ in range(3))
    largest = LayerRecord("merge", "largest", "Maximum", texts=["maximum"])
    node = graph.add(largest, (n,), first, second)
    graph.add(LayerRecord("merge", "least", "Minimum", texts=["minimum"]), (n,), node, third)
    return NetworkRun(graph.network(), rng, int(rng.integers(1, 4)), kinks=True)


# ---- hybrids ----


def hybrid(rng, model, mode):
    """Correct a model by a random network with random auxiliary predictors."""
    n_fixed, n_periods = (int(k) for k in rng.integers(0, 3, 2))
    network = dense_network(rng, model.n + n_fixed + 2 * n_periods, model.n)
    return pb.HybridModel(
        model,
        network.with_parameters(0.3 * network.parameters),
        mode,
        every=int(rng.integers(1, 4)),
        fixed=rng.standard_normal(n_fixed),
        periods=rng.uniform(0.1, 3.0, n_periods),
    )


def physics(rng):
    """Return any model, and its scale."""
    makers = [
        lambda: (pb.Lorenz96(int(rng.integers(4, 9)), dt=0.03), 1.5),
        lambda: (pb.Lorenz63(), 3.0),
        lambda: (python_model(int(rng.integers(2, 5))), 1.0),
    ]
    if compiler():
        makers += [lambda: (library_model(), 0.3), lambda: (compiled_model(), 0.2)]
    return makers[rng.integers(len(makers))]()


@triple(
    "hybrid: tendency",
    "pybridge_hybrid_tendency.forward",
    "pybridge_correction.forward",
)
def _(rng):
    models = [pb.Lorenz96(int(rng.integers(4, 9)), dt=0.03), pb.Lorenz63(), pb.RechargeOscillator()]
    model = models[rng.integers(3)]
    scale = 0.1 if isinstance(model, pb.RechargeOscillator) else 1.5
    return run(hybrid(rng, model, "tendency"), rng, scale, scale)


@triple(
    "hybrid: increment",
    "pybridge_hybrid_increment.step",
    "pybridge_hybrid_model.physics_step",
    "pybridge_hybrid_model.physics_start",
    "pybridge_hybrid_model.correct",
)
def _(rng):
    model, scale = physics(rng)
    return run(hybrid(rng, model, "increment"), rng, 1.0, scale)


@triple(
    "hybrid: constant forcing",
    "pybridge_hybrid_forcing.step",
    "pybridge_hybrid_forcing.start",
)
def _(rng):
    model, scale = physics(rng)
    return run(hybrid(rng, model, "forcing"), rng, 1.0, scale)


@triple("hybrid of a hybrid of a hybrid")
def _(rng):
    model = pb.Lorenz96(int(rng.integers(4, 7)), dt=0.03)
    if rng.integers(2):
        model = hybrid(rng, model, "tendency")
    for _ in range(2):
        model = hybrid(rng, model, str(rng.choice(["increment", "forcing"])))
    return run(model, rng, 1.0, 1.5)


# ---- assimilation ----


@triple(
    "diagonal covariance",
    "pybridge_background.diagonal_forward",
    "pybridge_assimilation_api.covariance_forward",
    "pybridge.assimilation._covariance.Covariance.forward",
)
def _(rng):
    n = int(rng.integers(1, 60))
    covariance = DiagonalCovariance(0.1 + rng.random(n))
    return Linear(n, rng, covariance.forward, covariance.forward_ad)


@triple("full covariance", "pybridge_background.full_forward")
def _(rng):
    n = int(rng.integers(1, 60))
    root = rng.standard_normal((n, n))
    covariance = FullCovariance(root @ root.T + np.eye(n))
    return Linear(n, rng, covariance.forward, covariance.forward_ad)


@triple(
    "Gauss-Newton Hessian of 4D-Var",
    "pybridge_observed_forecast.forward",
    "pybridge_control_vector.forward",
    "pybridge_background.forward",
    "pybridge_observation_operator.selection_forward",
    "pybridge_observations.whiten",
    "pybridge_observation_error.diagonal_whiten",
)
def _(rng):
    """I + U^T G'^T R^-1 G' U: as exact an adjoint of itself as G'^T is of G'."""
    inner = pb.Lorenz96(int(rng.integers(4, 9)), dt=0.03)
    model = hybrid(rng, inner, str(rng.choice(["tendency", "increment", "forcing"])))
    root = rng.standard_normal((model.n, model.n))
    sigma = rng.choice([0.0, 0.1], model.n_parameters)
    steps = int(rng.integers(1, 6))
    fourdvar = FourDVar(
        model, FullCovariance(root @ root.T + np.eye(model.n)), steps=steps, parameter_sigma=sigma
    )
    times = [int(k) for k in rng.integers(0, steps + 1, 3)]
    indices = [rng.integers(0, model.n, rng.integers(1, 2 * model.n)) for _ in times]
    values = [rng.standard_normal(index.size) for index in indices]
    errors = [0.5 + rng.random(index.size) for index in indices]
    observations = Observations(times, indices, values, errors)
    background, control = (
        rng.standard_normal(model.n),
        0.1 * rng.standard_normal(fourdvar.n_control),
    )

    def product(v):
        return fourdvar.hessian_product(v, control, background, observations, start=-3)

    return Linear(fourdvar.n_control, rng, product, product)


# ---- what only a program can reach: file and the words in it that run the derivative ----

PROGRAMS = {
    "pybridge_network_api.evaluate": ("tests/consumers/legacy.f", "pbntl", "pbnad"),
    "pybridge_f77.network": ("tests/consumers/legacy.f", "pbntl", "pbnad"),
    "pybridge_f77.model": ("tests/consumers/legacy.f", "pbmtl", "pbmad"),
    "pybridge_f77.on_step": ("tests/consumers/legacy.f", "steptl", "stepad", "pbusr"),
}

# ---- what there is ----

_DEFINITION = re.compile(
    r"^\s*(?:(?:pure|impure|elemental|recursive|module|non_recursive)\s+)*"
    r"(?:subroutine|(?:[\w()=,* ]+\s)?function)\s+(\w+)",
    re.IGNORECASE,
)
_INTERFACE = re.compile(r"^\s*(?:abstract\s+)?interface\b", re.IGNORECASE)
_END_INTERFACE = re.compile(r"^\s*end\s*interface\b", re.IGNORECASE)
_SUFFIX = re.compile(r"^(?:(?P<stem>\w+)_)?(?P<kind>tl|ad)$", re.IGNORECASE)


def procedures(path):
    """Return the names of the procedures that a Fortran file defines; interfaces define none."""
    names, within = set(), False
    for line in path.read_text().splitlines():
        if _END_INTERFACE.match(line):
            within = False
        elif _INTERFACE.match(line):
            within = True
        elif not within and (found := _DEFINITION.match(line)):
            names.add(found[1].lower())
    return names


def fortran(root=ROOT / "fortran"):
    """Return the derivatives of all Fortran files: name, and which of tl and ad there are."""
    found = {}
    for path in sorted(root.rglob("*.[fF]*")):
        if path.suffix.lower() not in (".f90", ".f", ".f08", ".f03", ".for"):
            continue
        for name in procedures(path):
            if (match := _SUFFIX.match(name)) and match["stem"]:
                found.setdefault(f"{path.stem}.{match['stem']}", set()).add(match["kind"].lower())
    return found


def python(root=ROOT / "pybridge"):
    """Return the derivatives of all classes of the package, named in the same way."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        module = ".".join(path.relative_to(root.parent).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ClassDef):
                continue
            for item in node.body:
                if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and (
                    match := _SUFFIX.match(item.name)
                ):
                    name = f"{module}.{node.name}" + (f".{match['stem']}" if match["stem"] else "")
                    found.setdefault(name, set()).add(match["kind"])
    return found


def claimed():
    """Return all that triples and programs claim."""
    return set(PROGRAMS).union(*(triple.claims for triple in TRIPLES.values()))
