"""The theorem `perturbed-max`: Noise is a regularizer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import logsumexp, softmax
from tests.chapters.one_problem.common import Law, Problem, distributions, pairs, temperatures
from tests.support.strategies import assert_within, double, inner, logsumexp_bound, number

FALSE_ALARM = 1e-9
ERRORS = 6.2
"""Standard errors that a normal mean exceeds with a rate of 6e-10."""
DRAWS = 100_000


# Noise --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Noise:
    """Independent noise of one law, and what is known of the best of two by formula."""

    density: Callable[[Any], Any]
    below: Callable[[Any], Any]
    """Its distribution function."""
    mean: Any
    most: Any
    """The largest density."""
    ends: tuple[Any, ...]
    """Outside, and at these points, it is not smooth."""
    best_of_two: Callable[[Any], Any]
    """E max(d + eps_1, eps_2)."""
    first_of_two: Callable[[Any], Any]
    """The probability of d + eps_1 > eps_2."""
    cost: Callable[[Any], Any]
    """Omega(p, 1 - p)."""


def uniform_best(d: Any) -> Any:
    """A difference of two has the density 1 - |x| from -1 to 1."""
    if abs(d) >= 1:
        return max(d, 0) + mp.mpf(1) / 2
    return max(d, 0) + (1 - abs(d)) ** 3 / 6 + mp.mpf(1) / 2


def uniform_first(d: Any) -> Any:
    less = max(1 - abs(d), 0) ** 2 / 2
    return less if d < 0 else 1 - less


def uniform_cost(p: Any) -> Any:
    less = min(p, 1 - p)
    return mp.sqrt(2 * less) ** 3 / 3 - less - mp.mpf(1) / 2


def normal_cost(p: Any) -> Any:
    """A difference of two has the variance 2."""
    if p in (0, 1):
        return mp.mpf(0)
    return -mp.sqrt(2) * mp.npdf(mp.sqrt(2) * mp.erfinv(2 * p - 1))


def binary(p: Any) -> Any:
    return -mp.fsum(x * mp.log(x) for x in (p, 1 - p) if x)


ROOT = mp.sqrt(2)
NOISES = {
    "Gumbel": Noise(
        density=lambda x: mp.exp(-x - mp.exp(-x)),
        below=lambda x: mp.exp(-mp.exp(-x)),
        mean=mp.euler,
        most=1 / mp.e,
        ends=(-5, -2, 0, 3, 10, 40, 130),
        best_of_two=lambda d: mp.log1p(mp.exp(-abs(d))) + max(d, 0) + mp.euler,
        first_of_two=lambda d: 1 / (1 + mp.exp(-d)),
        cost=lambda p: -binary(p) - mp.euler,
    ),
    "normal": Noise(
        density=mp.npdf,
        below=mp.ncdf,
        mean=0,
        most=1 / mp.sqrt(2 * mp.pi),
        ends=(-16, -4, 0, 4, 16),
        best_of_two=lambda d: d * mp.ncdf(d / ROOT) + ROOT * mp.npdf(d / ROOT),
        first_of_two=lambda d: mp.ncdf(d / ROOT),
        cost=normal_cost,
    ),
    "uniform": Noise(
        density=lambda x: mp.mpf(int(0 <= x <= 1)),
        below=lambda x: min(max(x, mp.mpf(0)), mp.mpf(1)),
        mean=mp.mpf(1) / 2,
        most=1,
        ends=(0, 1),
        best_of_two=uniform_best,
        first_of_two=uniform_first,
        cost=uniform_cost,
    ),
}
by_noise = pytest.mark.parametrize("name", NOISES)


def integral(noise: Noise, z: Law, i: int, of: Callable[[Any], Any]) -> Any:
    """The mean of a function of z_i + eps_i where this is the largest."""

    def inside(x: Any) -> Any:
        others = (noise.below(x - y) for j, y in enumerate(z) if j != i)
        return of(x) * noise.density(x - z[i]) * mp.fprod(others)

    ends = sorted({z[i] + end for end in noise.ends})
    # Where another one's law has a corner.
    inner_ends = {y + end for y in z for end in noise.ends if ends[0] < y + end < ends[-1]}
    return mp.quad(inside, sorted({*ends, *inner_ends}))


def expected_best(noise: Noise, z: Law) -> Any:
    return mp.fsum(integral(noise, z, i, lambda x: x) for i in range(len(z)))


def choices(noise: Noise, z: Law) -> list[Any]:
    return [integral(noise, z, i, lambda x: 1) for i in range(len(z))]


# What the integrals leave out of the tails, and their own error at 25 digits.
INTEGRAL = mp.mpf(10) ** -15
ROWS = [
    pytest.param([Fraction(1, 2)], id="one"),
    pytest.param([Fraction(0), Fraction(0)], id="two tied"),
    pytest.param([Fraction(3, 4), Fraction(1, 2)], id="two near"),
    pytest.param([Fraction(2), Fraction(-1)], id="two apart"),
    pytest.param([Fraction(1), Fraction(0), Fraction(1, 4)], id="three"),
]


@pytest.mark.statement("perturbed-max", "exact")
@pytest.mark.parametrize("z", ROWS)
@pytest.mark.parametrize("t", [Fraction(1, 4), Fraction(1), Fraction(3)])
def test_gumbel_noise_makes_the_smooth_maximum(z: Law, t: Fraction) -> None:
    with mp.workdps(25):
        scaled = [number(x / t) for x in z]
        value = number(t) * expected_best(NOISES["Gumbel"], scaled)
        chosen = choices(NOISES["Gumbel"], scaled)
    problem = Problem("entropy", z, t)
    assert_within(value, problem.value + mp.euler * number(t), INTEGRAL * number(t))
    assert_within(chosen, problem.solution, INTEGRAL)
    row = double([float(x) for x in z])
    allowed = logsumexp_bound(row, float(t)).item() + INTEGRAL * number(t)
    assert_within(logsumexp(row, temperature=float(t)), value - mp.euler * number(t), allowed)


@pytest.mark.statement("perturbed-max", "exact")
@pytest.mark.parametrize("z", ROWS)
@by_noise
def test_the_gradient_is_how_often_each_is_the_largest(name: str, z: Law) -> None:
    noise, h = NOISES[name], mp.mpf(2) ** -20
    with mp.workdps(25):
        row = [number(x) for x in z]
        value, chosen = expected_best(noise, row), choices(noise, row)
        assert_within(mp.fsum(chosen), 1, INTEGRAL)
        for i in range(len(z)):
            moved = [x + h * (i == j) for j, x in enumerate(row)]
            # A step h turns the choice where two are within h: at most (K - 1) h times the density.
            slope = (expected_best(noise, moved) - value) / h
            allowed = (len(z) - 1) * h * noise.most + 2 * INTEGRAL / h
            assert_within(slope, chosen[i], allowed)


@pytest.mark.statement("perturbed-max", "exact")
@pytest.mark.parametrize("z", ROWS[1:4])
@by_noise
def test_formulas_for_two(name: str, z: Law) -> None:
    noise = NOISES[name]
    with mp.workdps(25):
        row = [number(x) for x in z]
        value, chosen = expected_best(noise, row), choices(noise, row)
    gap = row[0] - row[1]
    assert_within(value, row[1] + noise.best_of_two(gap), INTEGRAL)
    assert_within(chosen[0], noise.first_of_two(gap), INTEGRAL)


@pytest.mark.statement("perturbed-max", "exact")
@by_noise
@given(pairs(2, 2), distributions(2))
def test_the_choices_alone_reach_the_mean_of_the_largest(
    name: str, both: tuple[Law, Law], p: Law
) -> None:
    noise, digits = NOISES[name], mp.mpf(10) ** -40
    z, other = ([number(x) for x in row] for row in both)
    value = z[1] + noise.best_of_two(z[0] - z[1])
    for q in (p, [noise.first_of_two(other[0] - other[1])]):
        share = mp.mpf(q[0]) if not isinstance(q[0], Fraction) else number(q[0])
        objective = inner([share, 1 - share], z) - noise.cost(share)
        assert objective <= value + digits
        # Their densities are 1 at most, so the cost is bent by 1 or more.
        apart = abs(share - noise.first_of_two(z[0] - z[1]))
        assert objective <= value - apart**2 / 2 + digits
    chosen = noise.first_of_two(z[0] - z[1])
    assert_within(inner([chosen, 1 - chosen], z) - noise.cost(chosen), value, digits)
    # The gradient of a convex function.
    slope = inner([chosen, 1 - chosen], [x - y for x, y in zip(other, z, strict=True)])
    assert other[1] + noise.best_of_two(other[0] - other[1]) >= value + slope - digits


@pytest.mark.statement("perturbed-max", "exact")
@by_noise
@given(distributions(2), distributions(2), st.integers(1, 15))
def test_its_regularizer_is_finite_continuous_and_convex(
    name: str, p: Law, q: Law, sixteenths: int
) -> None:
    noise, digits = NOISES[name], mp.mpf(10) ** -40
    a, b, w = number(p[0]), number(q[0]), number(Fraction(sixteenths, 16))
    chord = w * noise.cost(a) + (1 - w) * noise.cost(b)
    assert noise.cost(w * a + (1 - w) * b) <= chord + digits
    for end in (mp.mpf(0), mp.mpf(1)):
        # What is sure to be taken costs its own mean, and whatever is near costs nearly that.
        assert_within(noise.cost(end), -noise.mean, digits)
        near = abs(end - mp.mpf(10) ** -20)
        assert_within(noise.cost(near), noise.cost(end), mp.mpf(10) ** -18)
    # No p costs more than the ends, nor less than the level one.
    assert -noise.best_of_two(mp.mpf(0)) - digits <= noise.cost(a) <= -noise.mean + digits


@pytest.mark.statement("perturbed-max", "exact")
@given(st.integers(-8, 8), temperatures())
def test_without_a_density_there_may_be_kinks(n: int, t: Fraction) -> None:
    # eps_1 is 0 or T, at even odds, and eps_2 is 0.
    def best(z: Fraction) -> Fraction:
        return (max(z, Fraction(0)) + max(z + t, Fraction(0))) / 2

    h = Fraction(1, 2**40)
    here = n * t / 4
    before, after = (best(here) - best(here - h)) / h, (best(here + h) - best(here)) / h
    assert (before != after) == (here in (0, -t))
    ties = Fraction(here == 0) / 2 + Fraction(here == -t) / 2
    assert after - before == ties


# Draws --------------------------------------------------------------------------------------------


def check_mean(sample: Tensor, mean: float, deviation: float) -> None:
    assert abs(float(sample.mean()) - mean) <= ERRORS * deviation / math.sqrt(len(sample))


@pytest.mark.statement("perturbed-max", "statistical", false_alarm=5e-9)
@pytest.mark.parametrize("t", [0.5, 3.0])
def test_draws_of_gumbel_noise(t: float) -> None:
    z = double([1.0, 0.0, -0.5, 0.25])
    waiting = torch.empty(DRAWS, 4, dtype=torch.float64)
    waiting.exponential_(generator=torch.Generator().manual_seed(1))
    best, chosen = (z - t * waiting.log()).max(-1)
    # The largest has a Gumbel law too.
    mean = float(logsumexp(z, temperature=t)) + t * float(mp.euler)
    check_mean(best, mean, t * math.pi / math.sqrt(6))
    expected = softmax(z, temperature=t) * DRAWS
    counts = torch.bincount(chosen, minlength=4)
    assert scipy.stats.chisquare(counts, expected).pvalue > FALSE_ALARM


@pytest.mark.statement("perturbed-max", "statistical", false_alarm=1e-8)
@pytest.mark.parametrize("r", [-0.9, 0.0, 0.75])
def test_draws_of_noise_that_is_not_independent(r: float) -> None:
    g = torch.randn(DRAWS, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    noise = torch.stack([g[:, 0], 2 * (r * g[:, 0] + math.sqrt(1 - r**2) * g[:, 1])], -1)
    best, chosen = (double([0.5, 0.0]) + noise).max(-1)
    # The difference has the variance 1 + 4 - 4 r; its positive part is added to the second.
    s = math.sqrt(5 - 4 * r)
    share = float(mp.ncdf(0.5 / s))
    mean = 0.5 * share + s * float(mp.npdf(0.5 / s))
    # The square of the largest is below the sum of both squares.
    check_mean(best, mean, math.sqrt(5 + 0.5**2))
    counts = torch.bincount(chosen, minlength=2)
    assert (
        scipy.stats.chisquare(counts, [share * DRAWS, DRAWS - share * DRAWS]).pvalue > FALSE_ALARM
    )
