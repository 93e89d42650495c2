"""The theorem `categorical-log-partition`: The log-partition of the categorical distribution."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import sympy
import torch
from hypothesis import given
from mpmath import mp
from torch import Tensor
from torch.func import jacrev

from omnivault.distributions import Categorical
from omnivault.softmax import logsumexp
from tests.chapters.categorical_family.common import U, Vector, soft
from tests.support.strategies import as_double, assert_within, exact_softmax, row_pairs


@cache
def symbolic(k: int, minimal: bool) -> tuple[Any, Any, Any]:
    """Variables, gradient and Hessian of A as computer algebra finds them."""
    eta = sympy.symbols(f"z:{k - minimal}", real=True)
    a = sympy.log(sum(sympy.exp(x) for x in eta) + int(minimal))
    return eta, sympy.Matrix([sympy.diff(a, x) for x in eta]), sympy.hessian(a, eta)


@pytest.mark.statement("categorical-log-partition", "exact")
@pytest.mark.parametrize(
    "weights", [(1, 1), (1, 99), (1, 1, 1), (5, 3, 2), (1, 1000, 1), (1, 2, 3, 4), (7, 1, 1, 1, 5)]
)
def test_both_forms_by_computer_algebra(weights: Vector) -> None:
    k = len(weights)
    pi = sympy.Matrix([sympy.Rational(w, sum(weights)) for w in weights])
    full = sympy.diag(*pi) - pi * pi.T
    # e^z is the weight, and in the minimal form its quotient with the last.
    for minimal, last in ((False, 1), (True, weights[-1])):
        eta, gradient, hessian = symbolic(k, minimal)
        there = {sympy.exp(x): sympy.Rational(w, last) for x, w in zip(eta, weights, strict=False)}
        size = k - minimal
        assert sympy.simplify(gradient.subs(there) - pi[:size, :]) == sympy.zeros(size, 1)
        assert sympy.simplify(hessian.subs(there) - full[:size, :size]) == sympy.zeros(size, size)
    assert full.rank() == k - 1
    assert full.nullspace() == [sympy.ones(k, 1)]
    part = full[:-1, :-1]
    assert part.is_positive_definite
    assert not full.is_positive_definite
    assert part.det() == math.prod(pi)
    stated = sympy.diag(*[1 / p for p in pi[:-1]]) + sympy.ones(k - 1, k - 1) / pi[k - 1]
    assert part.inv() == stated


@pytest.mark.statement("categorical-log-partition", "symbolic")
@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_hessians_their_determinant_and_inverse_with_symbols(k: int) -> None:
    weights = sympy.symbols(f"w:{k}", positive=True)
    for minimal, last in ((False, 1), (True, weights[-1])):
        eta, gradient, hessian = symbolic(k, minimal)
        there = {x: sympy.log(w / last) for x, w in zip(eta, weights, strict=False)}
        pi = sympy.Matrix(weights[: len(eta)]) / sum(weights)
        stated = sympy.diag(*pi) - pi * pi.T
        assert (gradient.subs(there) - pi).applyfunc(sympy.simplify).is_zero_matrix
        assert (hessian.subs(there) - stated).applyfunc(sympy.simplify).is_zero_matrix
    assert sympy.cancel(stated.det() - math.prod(weights) / sum(weights) ** k) == 0
    ones = sympy.ones(k - 1, k - 1)
    inverse = sympy.diag(*[1 / p for p in pi]) + ones * sum(weights) / weights[-1]
    assert (stated * inverse).applyfunc(sympy.cancel) == sympy.eye(k - 1)


@pytest.mark.statement("categorical-log-partition", "exact", "torch")
@given(row_pairs(max_size=5, bound=12.0))
def test_automatic_differentiation_of_the_package(pair: tuple[Tensor, Tensor]) -> None:
    z, v = pair
    p = exact_softmax(z)
    exact = torch.stack([as_double([a * (a is b) - a * b for b in p]) for a in p])
    slope = jacrev(Categorical.log_partition)
    # Of five classes a probability is off by 32 u, and a difference p - p p by three times that.
    assert_within(slope(z), as_double(p), 32 * U)
    assert_within(jacrev(slope)(z), exact, 96 * U)
    short = jacrev(lambda eta: Categorical.log_partition(eta, minimal=True))
    eta = z[:-1] - z[-1]  # up to 24, and rounded
    assert_within(short(eta), as_double(p[:-1]), 64 * U)
    assert_within(jacrev(short)(eta), exact[:-1, :-1], 192 * U)
    # Against a difference of the gradient too, in any direction.
    step = mp.mpf(10) ** -15
    pairs = [(mp.mpf(a), mp.mpf(b)) for a, b in zip(z.tolist(), v.tolist(), strict=True)]
    ahead, behind = (soft([a + s * b for a, b in pairs]) for s in (step, -step))
    difference = [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]
    # Five products of entries up to 1/4, rounded a few times, and numbers up to 12.
    assert_within(exact @ v, as_double(difference), 128 * U)


@pytest.mark.statement("categorical-log-partition", "statistical", false_alarm=2e-5)
@pytest.mark.parametrize("k", [2, 3, 5])
def test_draws_have_the_stated_mean_and_covariance(k: int) -> None:
    z, n = torch.linspace(-1, 1, k, dtype=torch.float64), 100_000
    die = Categorical.from_natural(z)
    t = die.sufficient_statistic(die.sample(n, generator=torch.Generator().manual_seed(k)))
    mean = jacrev(logsumexp)(z)
    covariance = jacrev(jacrev(logsumexp))(z)
    centered = t - mean
    products = centered.unsqueeze(-1) * centered.unsqueeze(-2)
    # Five standard errors in up to 25 places: other seeds would fail with a probability of 2e-5.
    assert_within(t.mean(0), mean, 5 * (covariance.diagonal() / n).sqrt())
    assert_within(products.mean(0), covariance, 5 * products.std(0) / math.sqrt(n))
