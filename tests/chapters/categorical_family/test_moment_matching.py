"""The theorem `moment-matching`: Maximum likelihood is moment matching."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from mpmath import mp
from torch import Tensor
from torch.nn import functional

from omnivault.distributions import Categorical
from omnivault.information import entropy
from omnivault.softmax import softmax
from tests.chapters.categorical_family.common import (
    EXACT,
    Statistic,
    U,
    Vector,
    at,
    exact_entropy,
    lse,
    powers,
    shares,
    weights_of,
)
from tests.support.strategies import as_double, assert_within, double, inner, number, whole_rows


def in_proportion(weights: Sequence[Fraction]) -> list[int]:
    """Observed counts that are exactly as the law says."""
    common = math.lcm(*(w.denominator for w in weights))
    return [int(w * common) for w in weights]


def log_likelihood(h: Vector, t: Statistic, counts: Sequence[int], eta: Sequence[Any]) -> Any:
    """Mean of log P over the observations, P by its definition."""
    terms = [w * mp.exp(inner(eta, x)) for w, x in zip(h, t, strict=True)]
    logs = [mp.log(x / mp.fsum(terms)) for x in terms]
    return inner(counts, logs) / sum(counts)


@st.composite
def observed(draw: DrawFn) -> tuple[Vector, Statistic, Vector, list[int]]:
    d, size = draw(st.integers(1, 2)), draw(st.integers(2, 4))
    vectors = st.tuples(*[st.integers(-1, 2)] * d)
    t = draw(st.lists(vectors, min_size=size, max_size=size))
    h = draw(st.lists(st.integers(1, 3), min_size=size, max_size=size))
    k = draw(st.tuples(*[st.integers(-2, 2)] * d))
    counts = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size).filter(any))
    if draw(st.booleans()):  # those that k fits
        counts = in_proportion(weights_of(tuple(h), tuple(t), k))
    return tuple(h), tuple(t), k, counts


@pytest.mark.statement("moment-matching", "exact")
@given(observed())
def test_the_likelihood_its_gradient_and_where_it_is_largest(
    case: tuple[Vector, Statistic, Vector, list[int]],
) -> None:
    h, t, k, counts = case
    n, eta, columns = sum(counts), at(k), list(zip(*t, strict=True))
    t_bar = [Fraction(inner(counts, c), n) for c in columns]
    law = shares(weights_of(h, t, k))
    gradient = [a - inner(law, c) for a, c in zip(t_bar, columns, strict=True)]

    def value(*eta: Any) -> Any:
        return log_likelihood(h, t, counts, eta)

    a = lse([mp.log(w) + inner(eta, x) for w, x in zip(h, t, strict=True)])
    base = inner(counts, [mp.log(w) for w in h]) / n
    here = value(*eta)
    assert_within(inner(eta, [number(x) for x in t_bar]) - a + base, here, EXACT)
    step = mp.mpf(10) ** -12
    for i, slope in enumerate(gradient):
        ahead, behind = ([x + s * (i == j) for j, x in enumerate(eta)] for s in (step, -step))
        assert_within((value(*ahead) - value(*behind)) / (2 * step), slope, 1e-20)
    # The largest value if and only if the means agree.
    others = [at(o) for o in product(range(-3, 4), repeat=len(k))]
    if any(gradient):
        uphill = [x + number(g) / 64 for x, g in zip(eta, gradient, strict=True)]
        assert value(*uphill) > here
    else:
        assert all(value(*other) <= here + EXACT for other in others)
    for other in others[::5]:  # concave
        middle = [(x + y) / 2 for x, y in zip(eta, other, strict=True)]
        assert value(*middle) >= (here + value(*other)) / 2 - EXACT


def mean_log_softmax(counts: Sequence[int], z: Sequence[Any]) -> Any:
    return inner(counts, z) / mp.mpf(sum(counts)) - lse(z)


@pytest.mark.statement("moment-matching", "exact")
@given(st.lists(st.integers(0, 6), min_size=2, max_size=5).filter(any), whole_rows(5, 5, bound=3))
def test_frequencies_are_the_fit_and_an_unseen_outcome_leaves_none(
    counts: list[int], row: Tensor
) -> None:
    f = shares(counts)
    least = -exact_entropy([number(x) for x in f])
    z = [int(x) for x in row.tolist()][: len(counts)]
    value = mean_log_softmax(counts, at(z))
    if all(counts):
        best = [mp.log(number(x)) + 7 for x in f]  # any constant
        assert_within(mean_log_softmax(counts, best), least, EXACT)
        assert (abs(value - least) < EXACT) == (powers(z) == f)
        assert value <= least + EXACT
        fitted = Categorical(as_double([number(x) for x in f]))
        # Logits of size 7, rounded, and 50 u for a softmax of five that are log 6 apart.
        assert_within(Categorical.from_natural(as_double(best)).probs, fitted.probs, 64 * U)
        return
    assert value < least
    assert powers(z) != f
    lower = [x - (n == 0) for x, n in zip(z, counts, strict=True)]  # always better
    assert mean_log_softmax(counts, at(lower)) > value
    for digits in (5, 20, 35):  # and the supremum is not attained
        s = mp.mpf(10) ** -digits
        near = [mp.log((1 - s) * number(x) + s / len(f)) for x in f]
        gap = least - mean_log_softmax(counts, near)
        assert 0 < gap < 2 * s


@pytest.mark.statement("moment-matching", "scipy")
@pytest.mark.parametrize("counts", [(3, 1), (1, 1, 1), (10, 1, 5, 4), (1000, 1)])
@pytest.mark.parametrize("start", [0.0, 2.0])
def test_an_optimizer_finds_the_frequencies(counts: Vector, start: float) -> None:
    labels = torch.tensor([k for k, n in enumerate(counts) for _ in range(n)])

    def loss(z: Any) -> tuple[float, Any]:
        leaf = double(z).requires_grad_()
        value = functional.cross_entropy(leaf.expand(len(labels), -1), labels)
        value.backward()
        assert leaf.grad is not None
        return value.item(), leaf.grad.numpy()

    z0, tol = start * np.arange(len(counts)), 1e-6
    found = scipy.optimize.minimize(loss, z0, jac=True, method="BFGS", options={"gtol": tol})
    assert found.success
    f = as_double([number(x) for x in shares(counts)])
    # It stops where no component of the gradient, p - f, is above tol.
    off = tol + 2 * len(labels) * U
    p = softmax(double(found.x))
    assert_within(p, f, off)
    # The divergence is below the chi-square distance; the loss itself is a mean of rounded terms.
    assert_within(found.fun, entropy(f), (off**2 / p).sum().item() + 16 * len(labels) * U)
    spread = double(found.x) - f.log()
    # One constant, that of the start: p / f is 1 but for off / f, and no gradient moves the sum.
    assert_within(spread, spread[:1].expand(len(f)), 2 * off / (f.min() - off))
    assert_within(found.x.sum(), z0.sum(), tol)
