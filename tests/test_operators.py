# SPDX-License-Identifier: MIT
"""Tangent linear and adjoint of every operator there is, and that none is forgotten."""

import re

import numpy as np
import operators
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

EPSILON = np.finfo(float).eps
NEEDS_COMPILER = {"three procedures in a shared library", "a Fortran type from a shared library"}


def parameters(names):
    missing = pytest.mark.skipif(not operators.compiler(), reason="needs gfortran")
    return [pytest.param(n, marks=[missing] if n in NEEDS_COMPILER else []) for n in names]


def remainder(operator, dx, h):
    """Return what the tangent linear misses in a step of h dx."""
    x = operator.x
    return np.linalg.norm(
        operator.forward(x + h * dx) - operator.forward(x) - operator.tl(x, h * dx)
    )


@pytest.mark.parametrize("name", parameters(operators.TRIPLES))
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_tangent_linear_and_adjoint_are_those_of_the_operator(name, seed):
    rng = np.random.default_rng(seed)
    operator = operators.TRIPLES[name].make(rng)
    x, dx, other = operator.x, operator.direction(rng), operator.direction(rng)
    y = operator.forward(x)
    dy = operator.tl(x, dx)
    y_ad = rng.standard_normal(y.size)
    x_ad = operator.ad(x, y_ad)
    assert dy.shape == y.shape
    assert x_ad.shape == x.shape

    # The adjoint is that of the tangent linear
    difference = abs(dy @ y_ad - dx @ x_ad)
    size = np.linalg.norm(dy) * np.linalg.norm(y_ad) + np.linalg.norm(dx) * np.linalg.norm(x_ad)
    assert difference <= 1e-13 * size

    # Both are linear
    a, b = rng.standard_normal(2)
    d_other = operator.tl(x, other)
    error = np.linalg.norm(operator.tl(x, a * dx + b * other) - a * dy - b * d_other)
    assert (
        error <= 1e-13 * (abs(a) * np.linalg.norm(dy) + abs(b) * np.linalg.norm(d_other)) + 1e-300
    )
    other_ad = rng.standard_normal(y.size)
    x_other_ad = operator.ad(x, other_ad)
    error = np.linalg.norm(operator.ad(x, a * y_ad + b * other_ad) - a * x_ad - b * x_other_ad)
    size = abs(a) * np.linalg.norm(x_ad) + abs(b) * np.linalg.norm(x_other_ad)
    assert error <= 1e-13 * size + 1e-300
    assert not operator.tl(x, np.zeros_like(dx)).any()

    # The tangent linear is that of the operator
    rounding = 300 * EPSILON * (np.linalg.norm(y) + np.linalg.norm(dy) + np.linalg.norm(x))
    steps = 10.0 ** -np.arange(1.0, 8.5, 0.5)
    if operator.kinks:
        # Between kinks such an operator is smooth; across one, differences to both sides disagree
        steps = steps[steps < 1e-3]
        h = steps[0]
        curvature = operator.forward(x + h * dx) - 2 * y + operator.forward(x - h * dx)
        assume(np.linalg.norm(curvature) <= 100 * h**2 * np.linalg.norm(dy) + rounding)
    remainders = np.array([remainder(operator, dx, h) for h in steps])
    if operator.linear:
        assert (remainders <= rounding * 10.0).all()
    else:
        second = (remainders[:6] / steps[:6] ** 2).max()
        assert (remainders <= 4.0 * second * steps**2 + rounding).all()
        # A tangent linear wrong by 1e-6 of itself would not get through
        assert remainders[-1] <= 1e-6 * steps[-1] * np.linalg.norm(dy) + rounding


def decades(operator, dx):
    """Return over how many decades in a row the remainder falls a hundredfold for each."""
    steps = 10.0 ** np.arange(0.5, -9.0, -1.0)
    with np.errstate(all="ignore"):
        remainders = np.array([remainder_or_nan(operator, dx, h) for h in steps])
        ratios = remainders[:-1] / remainders[1:]
    longest = current = 0
    for ratio in ratios:
        current = current + 1 if 80.0 < ratio < 125.0 else 0
        longest = max(longest, current)
    return longest


def remainder_or_nan(operator, dx, h):
    try:
        return remainder(operator, dx, h)
    except ArithmeticError:
        return np.nan


NONLINEAR = [
    name
    for name in operators.TRIPLES
    if "covariance" not in name
    and "Hessian" not in name
    and "kinks" not in name
    and "maximum" not in name
]


@pytest.mark.parametrize("name", parameters(NONLINEAR))
def test_the_taylor_remainder_is_of_second_order_over_five_decades(name):
    found = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        operator = operators.TRIPLES[name].make(rng)
        assert not operator.linear
        assert not operator.kinks
        found.append(decades(operator, operator.direction(rng)))
    assert min(found) >= 5, found


# ---- completeness ----


def test_every_derivative_in_the_sources_is_claimed_by_a_triple_or_a_program():
    there = set(operators.fortran()) | set(operators.python())
    forgotten = there - operators.claimed()
    assert not forgotten, f"register these in tests/operators.py: {sorted(forgotten)}"
    gone = operators.claimed() - there
    assert not gone, f"claimed in tests/operators.py, and not there: {sorted(gone)}"


def test_tangent_linear_and_adjoint_live_in_one_file_with_their_operator():
    for path in sorted((operators.ROOT / "fortran").rglob("*.f90")):
        names = operators.procedures(path)
        deferred = set(re.findall(r"deferred\s*::\s*(\w+)", path.read_text()))
        for name in names:
            if name.endswith("_tl"):
                adjoint = f"{name[:-3]}_ad"
                assert adjoint in names | deferred, f"{path.name}: {name} has no adjoint"
            if name.endswith("_ad"):
                # A linear operator is its own tangent linear
                assert {name[:-3], f"{name[:-3]}_tl"} & names, f"{path.name}: {name} of what?"
    for name, kinds in operators.python().items():
        assert kinds == {"tl", "ad"}, name


def test_programs_that_claim_a_derivative_call_it():
    for claim, (path, *words) in operators.PROGRAMS.items():
        text = (operators.ROOT / path).read_text().lower()
        for word in words:
            assert word in text, f"{path} does not mention {word}, which {claim} relies on"


def test_every_bundled_kind_of_model_has_a_triple():
    import pybridge as pb
    from pybridge.models import Model

    made = set()
    for name, triple in operators.TRIPLES.items():
        if name in NEEDS_COMPILER and not operators.compiler():
            continue
        for seed in range(3):
            model = getattr(triple.make(np.random.default_rng(seed)), "model", None)
            made.add(type(model).__name__)
    kinds = {name for name, kind in Model._kinds.items() if kind.__module__.startswith("pybridge")}
    assert pb.HybridModel.__name__ in kinds
    if operators.compiler():
        assert kinds <= made


@pytest.mark.parametrize(
    "source",
    [
        "  subroutine forward_tl(self, x)\n",
        "  pure subroutine forward_tl(self, x)\n",
        "  SUBROUTINE FORWARD_AD(X)\n",
        "  pure elemental function forward_ad(x) result(y)\n",
        "  real(rk) function forward_tl(x)\n",
        "module m\n  interface\n    subroutine other_tl\n    end subroutine other_tl\n"
        "  end interface\ncontains\n  subroutine forward_tl\n",
    ],
)
def test_the_scanner_finds_a_new_fortran_derivative(source, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "pybridge_new.f90").write_text(source)
    assert set(operators.fortran(tmp_path)) == {"pybridge_new.forward"}
    assert not set(operators.fortran(tmp_path)) & operators.claimed()


@pytest.mark.parametrize(
    "source",
    [
        "! subroutine forward_tl\n",
        "  abstract interface\n    subroutine step_ad(x)\n    end subroutine\n  end interface\n",
        "  call forward_tl(x)\n",
        "  end subroutine forward_tl\n",
        "  procedure :: forward_tl\n",
        "  subroutine forward_tl_of_something(x)\n",
    ],
)
def test_the_scanner_takes_nothing_else_for_a_derivative(source, tmp_path):
    (tmp_path / "pybridge_new.f90").write_text(source)
    assert operators.fortran(tmp_path) == {}


def test_the_scanner_finds_a_new_python_derivative(tmp_path):
    package = tmp_path / "pybridge"
    (package / "deep").mkdir(parents=True)
    (package / "deep" / "new.py").write_text(
        "class New:\n    def forward_tl(self): ...\n    def forward_ad(self): ...\n"
        "class Record:\n    def tl(self): ...\n"
        "def step_tl(): ...\n"
    )
    assert operators.python(package) == {
        "pybridge.deep.new.New.forward": {"tl", "ad"},
        "pybridge.deep.new.Record": {"tl"},
    }


def test_a_new_operator_in_a_file_that_is_claimed_is_found_too(tmp_path):
    source = operators.ROOT / "fortran" / "models" / "pybridge_lorenz96.f90"
    new = "subroutine extra_tl\nend subroutine\nsubroutine extra_ad\nend subroutine\n"
    (tmp_path / source.name).write_text(source.read_text() + new)
    assert set(operators.fortran(tmp_path)) - operators.claimed() == {"pybridge_lorenz96.extra"}


@pytest.mark.parametrize("fault", ["tangent linear", "adjoint", "of parameters"])
def test_a_wrong_derivative_does_not_pass(fault, monkeypatch):
    """By one part in a million, in one of its values."""

    class Wrong(operators.ModelRun):
        def tl(self, x, dx):
            result = super().tl(x, dx)
            result[0] *= 1.0 + 3e-6 * (fault == "tangent linear")
            return result

        def ad(self, x, y_ad):
            result = super().ad(x, y_ad)
            result[0] *= 1.0 + 1e-6 * (fault == "adjoint")
            result[-1] *= 1.0 + 1e-6 * (fault == "of parameters")
            return result

    import pybridge as pb

    def make(rng):
        return Wrong(pb.Lorenz63(), 1.0 + 5.0 * rng.standard_normal((1, 3)), 2)

    monkeypatch.setitem(operators.TRIPLES, "wrong", operators.Triple("wrong", make))
    check = test_tangent_linear_and_adjoint_are_those_of_the_operator.hypothesis.inner_test
    with pytest.raises(AssertionError):
        for seed in range(10):
            check("wrong", seed)
