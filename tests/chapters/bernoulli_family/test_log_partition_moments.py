"""The theorem `log-partition-moments`: Derivatives of the log-partition."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import pytest
import sympy
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mpmath import mp
from torch.func import jacrev

from omnivault.distributions import Bernoulli, Multinomial
from tests.chapters.bernoulli_family.common import EXACT, Family, U, at, families, parameters
from tests.support.strategies import assert_within, double, inner, sigma, total


@pytest.mark.statement("log-partition-moments", "exact")
@settings(max_examples=25)
@given(families(max_d=2), st.data())
def test_gradient_and_hessian_are_mean_and_covariance(family: Family, data: st.DataObject) -> None:
    k = data.draw(parameters(family))
    unit_vectors = [tuple(int(i == j) for j in range(len(k))) for i in range(len(k))]
    for e, mean in zip(unit_vectors, family.mean(k), strict=True):
        slope = mp.diff(family.log_partition, tuple(at(k)), e)
        assert_within(slope, mean, mp.mpf(10) ** -25)
    covariance = family.covariance(k)
    for (i, e), (j, f) in product(enumerate(unit_vectors), repeat=2):
        order = tuple(a + b for a, b in zip(e, f, strict=True))
        curve = mp.diff(family.log_partition, tuple(at(k)), order)
        assert_within(curve, Fraction(str(covariance[i, j])), mp.mpf(10) ** -20)


@pytest.mark.statement("log-partition-moments", "exact")
@given(families(max_d=1), st.data())
def test_higher_derivatives_are_the_next_cumulants(family: Family, data: st.DataObject) -> None:
    k = data.draw(parameters(family))
    [mean], p = family.mean(k), family.law(k)
    moment = [
        total(q * (t - mean) ** n for q, (t,) in zip(p, family.t, strict=True)) for n in range(5)
    ]
    expected = {3: moment[3], 4: moment[4] - 3 * moment[2] ** 2}
    for order, exact in expected.items():
        slope = mp.diff(family.log_partition, at(k)[0], order)
        assert_within(slope, exact, mp.mpf(10) ** -20)


@pytest.mark.statement("log-partition-moments", "exact")
@given(families(), st.data())
def test_minimal_means_positive_definite_and_no_two_parameters_of_one_mean(
    family: Family, data: st.DataObject
) -> None:
    k, other = (data.draw(parameters(family)) for _ in range(2))
    free = family.free_directions()
    # Positive definite if and only if minimal; the kernel is made of the free directions.
    covariance = family.covariance(k)
    minors = [covariance[:n, :n].det() for n in range(1, len(k) + 1)]
    assert all(m > 0 for m in minors) == (not free)
    assert covariance.rank() == len(k) - len(free)
    assert all(not any(covariance * sympy.Matrix(a)) for a in free)
    step = tuple(b - a for a, b in zip(k, other, strict=True))
    rise = inner([b - a for a, b in zip(family.mean(k), family.mean(other), strict=True)], step)
    assert rise >= 0
    assert (rise > 0) == (not family.is_constant(step))
    same_law, same_mean = (f(k) == f(other) for f in (family.law, family.mean))
    assert same_law == same_mean == family.is_constant(step)
    if not free:
        assert same_mean == (k == other)


@pytest.mark.statement("log-partition-moments", "exact")
@given(families(), st.data(), st.integers(1, 7))
def test_the_log_partition_is_below_its_chords_strictly_if_minimal(
    family: Family, data: st.DataObject, eighths: int
) -> None:
    k, other = (data.draw(parameters(family)) for _ in range(2))
    s = mp.mpf(eighths) / 8
    between = [s * a + (1 - s) * b for a, b in zip(at(k), at(other), strict=True)]
    chord = s * family.log_partition(*at(k)) + (1 - s) * family.log_partition(*at(other))
    gap = chord - family.log_partition(*between)
    if family.is_constant(tuple(a - b for a, b in zip(k, other, strict=True))):
        assert_within(gap, 0, EXACT)  # a straight line
    else:
        assert gap > mp.mpf(10) ** -10
    if not family.free_directions() and k != other:
        assert gap > 0


@pytest.mark.statement("log-partition-moments", "exact")
@given(families(), st.data(), st.integers(-5, 5))
def test_overcomplete_means_a_line_of_parameters_of_one_distribution(
    family: Family, data: st.DataObject, s: int
) -> None:
    k = data.draw(parameters(family))
    free = family.free_directions()
    assume(free)
    for a in free:
        assert any(a)
        moved = tuple(x + s * y for x, y in zip(k, a, strict=True))
        assert family.law(moved) == family.law(k)
        # s need not be whole, and A is a straight line there.
        third = [x + y / mp.mpf(3) for x, y in zip(at(k), a, strict=True)]
        rise = family.log_partition(*third) - family.log_partition(*at(k))
        assert_within(rise, Fraction(inner(a, family.t[0]), 3), EXACT)


@pytest.mark.statement("log-partition-moments", "exact", "torch")
@pytest.mark.parametrize("eta", [-700.0, -40.0, -2.0, 0.0, 0.5, 20.5, 40.0, 700.0])
def test_mean_and_variance_of_a_coin_far_out(eta: float) -> None:
    with mp.workdps(400):
        p = sigma(mp.mpf(eta))
        mean, variance = p, p * (1 - p)
    x = double(eta)
    slope, curve = jacrev(Bernoulli.log_partition), jacrev(jacrev(Bernoulli.log_partition))
    # 1 / (1 + exp(-x)), with exp to 8 u; the next derivative has it three times.
    assert_within(slope(x), mean, rel=16 * U)
    # Where exp(-2 x) underflows, the variance, which is next to nothing, becomes 0.
    assert_within(curve(x), variance, 4 * U, rel=64 * U)


@pytest.mark.statement("log-partition-moments", "statistical", false_alarm=1e-5)
def test_draws_have_the_mean_and_the_covariance_that_the_derivatives_say() -> None:
    eta, n, draws = double([0.3, -1.2, 0.8]), 4, 100_000
    rolls = Multinomial.from_natural(n, eta)
    t = rolls.sample(draws, generator=torch.Generator().manual_seed(0)).double()
    slope = jacrev(lambda z: Multinomial.log_partition(n, z))
    mean, covariance = slope(eta), jacrev(slope)(eta)
    centered = t - mean
    products = centered.unsqueeze(-1) * centered.unsqueeze(-2)
    # Five standard errors in nine places: other seeds would fail with a probability of 1e-5.
    assert_within(t.mean(0), mean, 5 * (covariance.diagonal() / draws).sqrt())
    assert_within(products.mean(0), covariance, 5 * products.std(0) / math.sqrt(draws))
