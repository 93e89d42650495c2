"""The theorem `bernoulli-natural`: Natural form of the Bernoulli distribution."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import scipy.special
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp

from omnivault.distributions import Bernoulli
from tests.chapters.bernoulli_family.common import EXACT, Family, U
from tests.support.strategies import assert_within, double, number, sigma

inside = st.fractions(0, 1, max_denominator=10**6).filter(lambda p: 0 < p < 1)
COIN = Family((1, 1), ((0,), (1,)))


@pytest.mark.statement("bernoulli-natural", "exact")
@given(inside, inside)
def test_the_form_the_log_partition_and_the_inverse(pi: Fraction, other: Fraction) -> None:
    p = number(pi)
    eta = mp.log(p / (1 - p))
    a = mp.log(1 + mp.exp(eta))
    assert_within(a, -mp.log(1 - p), EXACT)
    assert_within(a, COIN.log_partition(eta), EXACT)
    for y in (0, 1):
        assert_within(mp.exp(eta * y - a), pi**y * (1 - pi) ** (1 - y), EXACT)
    assert_within(sigma(eta), p, EXACT)
    rounded = double(float(eta))
    # |eta| is below 14, so that its rounding is 14 u for exp, beside 8 u for it and for log1p.
    assert_within(Bernoulli.log_partition(rounded), a, rel=32 * U)
    assert_within(Bernoulli.from_natural(rounded).probs, p, rel=32 * U)
    # 1 - p has lost digits; the logarithm is good to 8 u.
    assert_within(Bernoulli(double(float(p))).to_natural(), eta, 8 * U / (1 - p), rel=16 * U)
    q = number(other)
    assert mp.sign(mp.log(q / (1 - q)) - eta) == (other > pi) - (other < pi)  # one to one


@pytest.mark.statement("bernoulli-natural", "exact")
@given(st.floats(-800, 800))
def test_every_real_number_is_the_log_odds_of_one_probability(eta: float) -> None:
    with mp.workdps(450):  # 1 - pi is down to exp(-800)
        pi = sigma(mp.mpf(eta))
        assert 0 < pi < 1
        assert_within(mp.log(pi / (1 - pi)), eta, EXACT)
        assert sigma(mp.mpf(eta) - mp.mpf(10) ** -30) < pi < sigma(mp.mpf(eta) + mp.mpf(10) ** -30)


@pytest.mark.statement("bernoulli-natural", "symbolic")
def test_computer_algebra_solves_for_the_sigmoid() -> None:
    eta, p = sympy.symbols("eta p", real=True)
    assert COIN.free_directions() == []
    [solution] = sympy.solve(sympy.Eq(sympy.exp(eta), p / (1 - p)), p)
    assert sympy.simplify(solution - 1 / (1 + sympy.exp(-eta))) == 0
    # With twice the weight on y = 1 the same steps end elsewhere.
    [weighted] = sympy.solve(sympy.Eq(2 * sympy.exp(eta), p / (1 - p)), p)
    assert weighted.subs(eta, 0) == sympy.Rational(2, 3)


@pytest.mark.statement("bernoulli-natural", "exact", "scipy")
def test_the_two_certain_coins_are_limits_and_no_members() -> None:
    with mp.workdps(450):
        for eta in (10, 100, 1000):
            assert 0 < sigma(-mp.mpf(eta)) < mp.exp(-eta)
            assert 0 < 1 - sigma(mp.mpf(eta)) < mp.exp(-eta)
    assert scipy.special.logit([0, 1]).tolist() == [-math.inf, math.inf]
    ends = double([0.0, 1.0])
    assert Bernoulli(ends).to_natural().tolist() == [-math.inf, math.inf]
    assert torch.equal(Bernoulli.from_natural(double([-math.inf, math.inf])).probs, ends)
    assert Bernoulli.from_natural(double(-700.0)).probs.item() > 0
