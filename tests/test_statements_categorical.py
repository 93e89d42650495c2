from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mp
from strategies import (
    DTYPES,
    as_double,
    assert_within,
    exact_softmax,
    shares,
    softmax_bound,
    total,
    unit,
)
from torch.nn import functional

from omnivault.distributions import Bernoulli, Categorical, Multinomial
from omnivault.softmax import softmax, softmax_jacobian

Row = tuple[Fraction, ...]
Counts = tuple[int, ...]
Law = dict[Counts, Fraction]
U = unit(torch.float64)
HALF = Fraction(1, 2)


# One outcome, fair and unfair coins, uniform, the example, rare ones, four outcomes.
POSITIVE = [(1,), (1, 1), (1, 2), (1, 1, 1), (5, 3, 2), (999, 1, 1), (1, 2, 3, 4)]
ANY = [*POSITIVE, (1, 0), (1, 0, 1), (0, 0, 1, 0)]
on_positive = pytest.mark.parametrize("pi", [pytest.param(shares(*w), id=str(w)) for w in POSITIVE])
on_the_simplex = pytest.mark.parametrize("pi", [pytest.param(shares(*w), id=str(w)) for w in ANY])
few_draws = pytest.mark.parametrize("n", [1, 2, 3, 4])


def product(values: Any) -> Fraction:
    return math.prod(values, start=Fraction(1))


def independent(pi: Row, n: int) -> Law:
    """The law of the counts of n independent draws, one sequence after the other."""
    law: Law = {}
    for sequence in itertools.product(range(len(pi)), repeat=n):
        c = tuple(sequence.count(i) for i in range(len(pi)))
        law[c] = law.get(c, Fraction(0)) + product(pi[y] for y in sequence)
    return law


def stuck(pi: Row, n: int) -> Law:
    """Each draw has the law pi, but all are equal: what independence excludes."""
    return {tuple(n * (i == y) for i in range(len(pi))): p for y, p in enumerate(pi)}


def mean(law: Law, value: Callable[[Counts], Fraction]) -> Fraction:
    return total(p * value(c) for c, p in law.items())


def means(law: Law) -> Row:
    return tuple(total(p * c[i] for c, p in law.items()) for i in range(len(next(iter(law)))))


def covariance(law: Law) -> list[Row]:
    mu = means(law)
    k = range(len(mu))
    centered = [([x - m for x, m in zip(c, mu, strict=True)], p) for c, p in law.items()]
    return [tuple(total(p * d[i] * d[j] for d, p in centered) for j in k) for i in k]


def stated_covariance(pi: Row, n: int = 1) -> list[Row]:
    k = range(len(pi))
    return [tuple(n * (pi[i] * (i == j) - pi[i] * pi[j]) for j in k) for i in k]


def formula(c: Sequence[int], pi: Row) -> Fraction:
    """The multinomial probability; a fraction to the power 0 is 1, that of 0 too."""
    orders = math.factorial(sum(c)) // math.prod(math.factorial(i) for i in c)
    return orders * product(p**i for p, i in zip(pi, c, strict=True))


def relative_error(c: Sequence[int], pi: Row) -> float:
    """Of the formula, computed from logarithms in float64, at most."""
    # The logarithms are off by 4 ulp and added up; then come exp and the rounded probabilities.
    size = 2 * math.lgamma(sum(c) + 1)
    size -= sum(i * math.log(p) for p, i in zip(pi, c, strict=True) if i and p)
    return (16 * size + 8 + sum(c)) * U


@pytest.mark.statement("bernoulli", "exact", "scipy")
@pytest.mark.parametrize("pi", [Fraction(i, 8) for i in range(-1, 10)])
def test_one_formula_holds_both_probabilities(pi: Fraction) -> None:
    one_formula = [pi**y * (1 - pi) ** (1 - y) for y in (0, 1)]
    assert one_formula == [1 - pi, pi]  # at 0 and 1 too, by 0^0 = 1
    assert sum(one_formula) == 1
    assert (min(one_formula) >= 0) == (0 <= pi <= 1)
    if 0 <= pi <= 1:
        assert_within(scipy.stats.bernoulli(float(pi)).pmf([0, 1]), one_formula, rel=4 * U)
        for dtype in DTYPES:  # eighths have no rounding
            coin = Bernoulli(torch.tensor(float(pi), dtype=dtype))
            assert coin.pmf(torch.tensor([0, 1])).tolist() == one_formula


@pytest.mark.statement("bernoulli-moments", "exact")
@given(st.fractions(0, 1, max_denominator=1000) | st.sampled_from(shares(0, 1, 1)))
def test_mean_and_variance_of_an_event(pi: Fraction) -> None:
    law: Law = {(1,): pi, (0,): 1 - pi}
    assert means(law) == (pi,)
    [[variance]] = covariance(law)
    assert variance == pi * (1 - pi) == Fraction(1, 4) - (pi - HALF) ** 2 <= Fraction(1, 4)
    assert (variance == Fraction(1, 4)) == (pi == HALF)
    coin = Bernoulli(as_double([pi]))
    assert coin.mean.item() == float(pi)
    assert_within(coin.variance, [variance], U)


@pytest.mark.statement("categorical-distribution", "exact")
@on_the_simplex
def test_the_product_picks_the_probability_of_the_outcome(pi: Row) -> None:
    y = range(len(pi))
    assert tuple(product(p ** int(i == k) for i, p in enumerate(pi)) for k in y) == pi
    for dtype in DTYPES:
        probs = as_double(pi).to(dtype)
        assert torch.equal(Categorical(probs).pmf(torch.tensor(y)), probs)


@pytest.mark.statement("categorical-moments", "exact", "torch")
@pytest.mark.parametrize("temperature", [0.25, 0.7, 1.0, 3.0])
@pytest.mark.parametrize("values", [[2.0], [1.0, -1.0], [0.5, 0.5, 0.5], [1.0, 2.0, 0.5, 1.5]])
def test_it_is_the_temperature_times_the_jacobian(values: list[float], temperature: float) -> None:
    z = torch.tensor(values, dtype=torch.float64)
    slopes = torch.func.jacrev(lambda x: torch.softmax(x / temperature, -1))(z)
    p = exact_softmax(z, temperature)
    exact = torch.stack([as_double([a * (a is b) - a * b for b in p]) for a in p])
    # On the diagonal p (1 - p), or p times the sum of the others; and a few roundings.
    error, q = softmax_bound(z, temperature), as_double(p)
    bound = torch.outer(q, error) + torch.outer(error, q) + 4 * U
    bound += torch.diag(error + q * error.sum())
    assert_within(temperature * slopes, exact, bound)
    if len(values) > 1 and temperature != 1:  # the factor T is needed
        assert (slopes - exact).abs().max() > 1e-4
    assert_within(Categorical(softmax(z, temperature=temperature)).covariance, exact, bound)
    assert_within(temperature * softmax_jacobian(z, temperature=temperature), exact, bound)


@pytest.mark.statement("multinomial-pmf", "exact", "scipy")
@on_the_simplex
@few_draws
def test_the_formula_adds_up_the_sequences(pi: Row, n: int) -> None:
    law = independent(pi, n)
    vectors = list(itertools.product(range(n + 2), repeat=len(pi)))
    exact = [law.get(c, Fraction(0)) for c in vectors]
    assert exact == [formula(c, pi) if sum(c) == n else 0 for c in vectors]
    assert sum(exact) == 1
    pmf = Multinomial(n, as_double(pi)).pmf(torch.tensor(vectors))
    errors = [p * relative_error(c, pi) for p, c in zip(exact, vectors, strict=True)]
    assert_within(pmf, as_double(exact), as_double(errors))
    # Independence is used: equal draws have another law of counts, but for n = 1 or a vertex.
    nonzero = {c: p for c, p in law.items() if p}
    assert (nonzero.items() <= stuck(pi, n).items()) == (n == 1 or max(pi) == 1)
    if len(pi) == 2:
        for c in range(n + 1):
            binomial = float(scipy.stats.binom.pmf(c, n, float(pi[0])))
            assert_within(binomial, law[c, n - c], rel=128 * U)  # Boost: some tens of u


@pytest.mark.statement("categorical-moments", "exact")  # n = 1
@pytest.mark.statement("multinomial-moments", "exact")
@on_the_simplex
@few_draws
def test_mean_and_covariance_of_counts(pi: Row, n: int) -> None:
    law = independent(pi, n)
    exact = covariance(law)
    assert means(law) == tuple(n * p for p in pi)
    assert exact == stated_covariance(pi, n)
    for i, j in itertools.permutations(range(len(pi)), 2):
        assert exact[i][j] <= 0
        assert (exact[i][j] == 0) == (pi[i] * pi[j] == 0)
    assert all(sum(r) == 0 for r in exact)  # no inverse
    many, one = Multinomial(n, as_double(pi)), Categorical(as_double(pi))
    assert_within(many.mean, n * one.mean, 0.0)
    assert_within(many.mean, as_double(means(law)), n * U)
    matrix = torch.stack([as_double(r) for r in exact])
    assert_within(many.covariance, matrix, 4 * n * U)
    assert_within(n * one.covariance, matrix, 4 * n * U)
    # Equal draws vary n times as much, and other dependent ones are positively correlated.
    assert covariance(stuck(pi, n)) == stated_covariance(pi, n**2)
    assert covariance({(1, 1, 0): HALF, (0, 0, 2): HALF})[0][1] > 0


def squared_error(c: Counts, pi: Row) -> Fraction:
    return total((Fraction(i, sum(c)) - p) ** 2 for i, p in zip(c, pi, strict=True))


@pytest.mark.statement("frequency-error", "exact")
@on_the_simplex
@few_draws
def test_expected_squared_error_and_the_probability_of_a_miss(pi: Row, n: int) -> None:
    law = independent(pi, n)
    error = mean(law, lambda c: squared_error(c, pi))
    assert error == (1 - sum(p * p for p in pi)) / n < Fraction(1, n)
    assert (error == 0) == (max(pi) == 1)
    # The largest is that of the uniform distribution, (1 - 1/K) / n: 1/n is approached.
    assert (error == (1 - Fraction(1, len(pi))) / n) == (len(set(pi)) == 1)
    for k, p in enumerate(pi):
        missed = total(share for c, share in law.items() if c[k] == 0)
        assert missed == (1 - p) ** n
        exact = mp.mpf(missed.numerator) / missed.denominator
        bound = mp.exp(-n * mp.mpf(p.numerator) / p.denominator)
        assert exact == bound == 1 if p == 0 else exact < bound
    # Equal draws do not get better with their number, and miss as one draw does.
    assert mean(stuck(pi, n), lambda c: squared_error(c, pi)) == n * error


def statistic(c: Sequence[int], pi: Row) -> Fraction:
    n = sum(c)
    return total((i - n * p) ** 2 / (n * p) for i, p in zip(c, pi, strict=True))


def grid(pi: Row, n: int) -> tuple[Any, Any]:
    """All values of the statistic and their probabilities."""
    rest = itertools.product(range(n + 1), repeat=len(pi) - 1)
    c = np.array([(*r, n - sum(r)) for r in rest if sum(r) <= n])
    p = np.array([float(x) for x in pi])
    return ((c - n * p) ** 2 / (n * p)).sum(-1), scipy.stats.multinomial.pmf(c, n, p)


@pytest.mark.statement("chi-square", "exact")
@on_positive
@few_draws
def test_the_mean_of_the_statistic_is_one_less_than_the_outcomes(pi: Row, n: int) -> None:
    k = len(pi)
    assert mean(independent(pi, n), lambda c: statistic(c, pi)) == k - 1
    # Not for draws that are all equal; and no probability may be zero.
    assert mean(stuck(pi, n), lambda c: statistic(c, pi)) == n * (k - 1)
    with pytest.raises(ZeroDivisionError):
        statistic((n, *[0] * k), (*pi, Fraction(0)))


@pytest.mark.statement("chi-square", "exact")
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=4),
    st.integers(1, 3),
)
def test_draws_from_another_distribution(weights: list[tuple[int, int]], n: int) -> None:
    assume(any(w for _, w in weights))
    pi, other = (shares(*w) for w in zip(*weights, strict=True))
    x2 = mean(independent(other, n), lambda c: statistic(c, pi))
    bound = n * total((q - p) ** 2 / p for p, q in zip(pi, other, strict=True))
    assert x2 >= bound
    assert (x2 == bound) == (max(other) == 1)  # what is left is a variance
    assert (bound > 0) == (other != pi)  # so it grows without limit


@pytest.mark.statement("chi-square", "statistical", false_alarm=4e-7)
def test_from_another_distribution_it_grows_like_the_sum_of_squares() -> None:
    pi, other = as_double(shares(1, 2, 3, 4)), as_double(shares(2, 2, 3, 3))
    draws = Categorical(other).sample(200_000, generator=torch.Generator().manual_seed(0))
    frequencies = functional.one_hot(draws).cumsum(0) / torch.arange(1, len(draws) + 1)[:, None]
    ratio = ((frequencies - pi) ** 2 / pi).sum(-1)  # X^2 / n
    limit = ((other - pi) ** 2 / pi).sum()
    # By Hoeffding's inequality a frequency is off by more than e with a probability of at most
    # 2 exp(-2 n e^2), and at some n from m on, 2 exp(-2 m e^2) / (1 - exp(-2 e^2)).
    for error, m in ((0.02, 32_000), (0.01, 128_000)):
        allowed = ((error**2 + 2 * error * (other - pi).abs()) / pi).sum()
        assert_within(ratio[m:], limit.expand(len(draws) - m), allowed)
        assert allowed < limit  # which is not zero


@pytest.mark.statement("chi-square", "scipy")
@pytest.mark.parametrize(
    ("weights", "draws"),
    [((1, 4), (10, 100, 10_000)), ((5, 3, 2), (10, 60, 360)), ((1, 2, 3, 4), (5, 20, 80))],
)
def test_the_limit_is_chi_square_with_one_degree_less(weights: Counts, draws: Counts) -> None:
    distances = []
    for n in draws:
        x2, share = grid(shares(*weights), n)
        order = np.argsort(x2)
        x2, below = x2[order], np.cumsum(share[order])
        # Equal values jump together; others are 1/1600 or more apart.
        last = np.append(np.diff(x2) > 1e-9, True)
        above = below[last]
        cdf, other = (scipy.stats.chi2.cdf(x2[last], len(weights) - i) for i in (1, 0))
        distances.append(max(abs(above - cdf).max(), abs(np.append(0, above[:-1]) - cdf).max()))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.04 < distances[0]
    assert abs(above - other).max() > 0.15  # with K degrees of freedom it is no limit
