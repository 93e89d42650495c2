"""The theorem `natural-gradient`: The natural gradient."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch.nn import functional

from tests.chapters.categorical_family.common import (
    Row,
    Statistic,
    U,
    Vector,
    at,
    lse,
    minimal,
    on_families,
    shares,
    soft,
    weights_of,
)
from tests.support.strategies import as_double, assert_within, inner, number, total


def rational(x: Fraction) -> Any:
    return sympy.Rational(x.numerator, x.denominator)


def column(values: Sequence[Fraction]) -> Any:
    return sympy.Matrix([rational(x) for x in values])


def moments(law: Row, t: Statistic) -> tuple[Any, Any]:
    """Mean and covariance of the statistic."""
    p, x = column(law), sympy.Matrix(t)
    mean = x.T * p
    return mean, x.T * sympy.diag(*p) * x - mean * mean.T


def decimal(x: Any) -> Any:
    return mp.mpf(int(x.p)) / int(x.q)


def table(matrix: Any) -> Any:
    return mp.matrix([[decimal(x) for x in matrix.row(i)] for i in range(matrix.rows)])


def slopes(f: Any, here: Sequence[Any]) -> list[Any]:
    d = len(here)
    return [mp.diff(f, here, tuple(int(i == j) for j in range(d))) for i in range(d)]


@pytest.mark.statement("natural-gradient", "exact")
@on_families
def test_it_is_the_gradient_in_the_mean_parameter(h: Vector, t: Statistic, k: Vector) -> None:
    mean, fisher = moments(shares(weights_of(h, t, k)), t)
    d = len(k)
    mu = sympy.symbols(f"m:{d}")
    phi = sum(m**2 / (i + 2) + 3 * m for i, m in enumerate(mu)) + mu[0] * mu[-1] ** 2
    there = dict(zip(mu, mean, strict=True))
    by_mean = sympy.Matrix([sympy.diff(phi, m).subs(there) for m in mu])

    def loss(*eta: Any) -> Any:
        p = soft([mp.log(w) + inner(eta, x) for w, x in zip(h, t, strict=True)])
        m = [inner(p, c) for c in zip(*t, strict=True)]
        return sum(x**2 / (i + 2) + 3 * x for i, x in enumerate(m)) + m[0] * m[-1] ** 2

    gradient = mp.matrix(slopes(loss, at(k)))
    assert_within(list(gradient), [decimal(x) for x in fisher * by_mean], mp.mpf(10) ** -25)
    if minimal(t):  # so that there is an inverse
        natural = mp.lu_solve(table(fisher), gradient)
        assert_within(list(natural), [decimal(x) for x in by_mean], mp.mpf(10) ** -22)


@pytest.mark.statement("natural-gradient", "exact")
@on_families
def test_for_the_likelihood_it_is_the_step_of_newton(h: Vector, t: Statistic, k: Vector) -> None:
    mean, fisher = moments(shares(weights_of(h, t, k)), t)
    counts = range(1, len(t) + 1)
    observed = [Fraction(inner(counts, c), sum(counts)) for c in zip(*t, strict=True)]

    def loss(*eta: Any) -> Any:
        a = lse([mp.log(w) + inner(eta, x) for w, x in zip(h, t, strict=True)])
        return a - inner(eta, [number(x) for x in observed])

    gradient = [decimal(x) for x in mean - column(observed)]
    assert_within(slopes(loss, at(k)), gradient, mp.mpf(10) ** -25)
    for i, line in enumerate(table(fisher).tolist()):
        curve = slopes(lambda *eta, i=i: slopes(loss, eta)[i], at(k))
        assert_within(curve, line, mp.mpf(10) ** -10)


def formula(p: Row, f: Row) -> Any:
    v = [a / b for a, b in zip(f, p, strict=True)]
    return column([total(v) / len(v) - x for x in v])


def singular(p: Row) -> Any:
    return sympy.diag(*column(p)) - column(p) * column(p).T


distributions = st.integers(1, 5).flatmap(
    lambda k: st.tuples(
        st.lists(st.integers(1, 1000), min_size=k, max_size=k).map(shares),
        st.lists(st.integers(0, 3), min_size=k, max_size=k).filter(any).map(shares),
    )
)


@pytest.mark.statement("natural-gradient", "exact", "torch")
@given(distributions)
def test_of_softmax_it_needs_no_matrix(pair: tuple[Row, Row]) -> None:
    p, f = pair
    ones, fisher, x = sympy.ones(len(p), 1), singular(p), formula(p, f)
    assert fisher * x == column(p) - column(f)
    assert (ones.T * x)[0] == 0
    # The pseudoinverse: the ones are the kernel, or all of it is, for one outcome.
    ridge = ones * ones.T / len(p)
    inverse = (fisher + ridge).inv() - ridge
    assert fisher * inverse * fisher == fisher
    assert inverse * fisher * inverse == inverse
    assert (fisher * inverse).is_symmetric()
    assert inverse * (column(p) - column(f)) == x
    # And it is the gradient of the cross-entropy of logits that is multiplied by it.
    z = as_double([mp.log(number(a)) for a in p]).requires_grad_()
    functional.cross_entropy(z, as_double([number(a) for a in f])).backward()
    assert z.grad is not None
    # Five logits, below 9, are rounded and shifted, and their exponentials are added.
    assert_within(z.grad, as_double([number(a - b) for a, b in zip(p, f, strict=True)]), 128 * U)


@pytest.mark.statement("natural-gradient", "exact")
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=5).map(shares), st.data())
def test_of_a_label_it_is_inversely_proportional_to_its_probability(p: Row, data: Any) -> None:
    y, k = data.draw(st.integers(0, len(p) - 1)), len(p)
    label = tuple(Fraction(int(i == y)) for i in range(k))
    stated = [(Fraction(1, k) - (i == y)) / p[y] for i in range(k)]
    assert formula(p, label) == column(stated)


@pytest.mark.statement("natural-gradient", "torch")
@pytest.mark.parametrize("weights", [(1, 1), (1, 99), (2, 3, 5), (1, 1000, 1), (7, 1, 1, 1, 5)])
def test_the_pseudoinverse_of_pytorch(weights: Vector) -> None:
    p = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    fisher = p.diag() - p.outer(p)
    f = torch.ones_like(p) / len(p)
    v = f / p
    # The zero is rounded, and no other eigenvalue is below the least p.
    solved = torch.linalg.pinv(fisher, atol=p.min().item() / 2, hermitian=True) @ (p - f)
    # No curvature but that along the ones is below the least p; norms are below 1.
    assert_within(solved, v.mean() - v, 128 * U / p.min().item() ** 2)
