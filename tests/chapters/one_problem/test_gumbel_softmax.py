"""The theorem `gumbel-softmax`: Between a draw and its distribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import scipy.stats
import sympy as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor
from torch.nn import functional

from omnivault.softmax import logsumexp, softmax
from tests.chapters.one_problem.common import Law, U, pairs, tensor
from tests.support.strategies import (
    assert_within,
    double,
    exact_softmax,
    number,
    sigma,
    softmax_bound,
)

FALSE_ALARM = 1e-9
ERRORS = 6.2
"""Standard errors that a normal mean exceeds with a rate of 6e-10."""
DRAWS = 100_000

INTEGRAL = mp.mpf(10) ** -15
TAUS = [mp.mpf(2) ** n for n in (-7, -3, -1, 0, 1, 5)]
GAPS = [mp.mpf(d) for d in (0, 0.125, 1, -2.5, 6)]
by_tau = pytest.mark.parametrize("tau", TAUS, ids=lambda t: mp.nstr(t, 5))
by_gap = pytest.mark.parametrize("d", GAPS, ids=lambda d: mp.nstr(d, 5))


def slope(x: Any) -> Any:
    """Of the sigmoid; the density of the difference of two Gumbel variables, too."""
    return sigma(x) * sigma(-x)


def relaxed(z: Tensor, noise: Tensor, tau: float) -> Tensor:
    return softmax(z + noise, temperature=tau)


def gumbel(rows: int, k: int, seed: int) -> Tensor:
    waiting = torch.empty(rows, k, dtype=torch.float64)
    return -waiting.exponential_(generator=torch.Generator().manual_seed(seed)).log()


# Which is the largest -----------------------------------------------------------------------------


@pytest.mark.statement("gumbel-softmax", "exact")
@given(pairs(1, 6), st.sampled_from([1e3, 4.0, 1.0, 0.25, 2.0**-10]))
def test_at_every_temperature_the_largest_is_the_same_and_takes_all_in_the_end(
    both: tuple[Law, Law], tau: float
) -> None:
    z, noise = (tensor(x) for x in both)
    perturbed = [x + y for x, y in zip(*both, strict=True)]
    x = relaxed(z, noise, tau)
    winners = [i for i, y in enumerate(perturbed) if y == max(perturbed)]
    assert set((x == x.max()).nonzero().flatten().tolist()) >= set(winners)
    # What differs at all does by a quarter, and a quarter over tau is more than rounding.
    assert len(winners) == int((x == x.max()).sum())
    if len(winners) == 1:
        second = max((y for y in perturbed if y != max(perturbed)), default=None)
        rest = 0 if second is None else (len(z) - 1) * mp.exp((second - max(perturbed)) / tau)
        assert 1 - x.max() <= float(rest) + softmax_bound(z + noise, tau).max()
        assert int(x.argmax()) == winners[0]


@pytest.mark.statement("gumbel-softmax", "statistical", "torch", false_alarm=1e-8)
@pytest.mark.parametrize("tau", [0.01, 0.5, 1.0, 20.0])
@pytest.mark.parametrize("values", [[1.0, 0.0, -1.0, 1.0], [0.0, 2.0]])
def test_the_largest_has_the_law_of_softmax(values: list[float], tau: float) -> None:
    z = double(values)
    mine = relaxed(z, gumbel(DRAWS, len(z), 3), tau)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        theirs = functional.gumbel_softmax(z.expand(DRAWS, -1), tau, hard=True)
    expected = double([float(p) for p in exact_softmax(z)]) * DRAWS
    for x in (mine, theirs):
        counts = torch.bincount(x.argmax(-1), minlength=len(z))
        assert scipy.stats.chisquare(counts, expected).pvalue > FALSE_ALARM / 2


# The mean -----------------------------------------------------------------------------------------


def mean_of(f: Callable[[Any], Any], d: Any, tau: Any) -> Any:
    """E f((d + G_1 - G_2) / tau): G_1 - G_2 has the logistic law."""
    ends = sorted(
        {mp.mpf(-60), mp.mpf(60), mp.mpf(0), *(-d + n * tau for n in (-40, -6, 0, 6, 40))}
    )
    inside = [end for end in ends if abs(end) <= 60]
    with mp.workdps(25):
        return mp.quad(lambda x: f((d + x) / tau) * slope(x), inside)


def mean_share(d: Any, tau: Any) -> Any:
    return mean_of(sigma, d, tau)


def share_by_formula(d: Any) -> Any:
    """At tau = 1."""
    if d == 0:
        return mp.mpf(1) / 2
    a = mp.exp(d)
    return a * (a - 1 - d) / (a - 1) ** 2


@pytest.mark.statement("gumbel-softmax", "exact")
@by_gap
def test_the_formula_at_one_is_the_mean(d: Any) -> None:
    assert_within(mean_share(d, mp.mpf(1)), share_by_formula(d), INTEGRAL)


@pytest.mark.statement("gumbel-softmax", "symbolic")
def test_symbols_find_the_formula() -> None:
    # The sigmoid of G_1 - G_2 is uniform, u, and X_1 has the odds e^d u / (1 - u).
    u, a = sp.symbols("u a", positive=True)
    antiderivative = a * u / (a - 1) - a * sp.log(1 + (a - 1) * u) / (a - 1) ** 2
    assert sp.simplify(sp.diff(antiderivative, u) - a * u / (a * u + 1 - u)) == 0
    mean = antiderivative.subs(u, 1) - antiderivative.subs(u, 0)
    assert sp.simplify(mean - a * (a - 1 - sp.log(a)) / (a - 1) ** 2) == 0


@pytest.mark.statement("gumbel-softmax", "exact")
@given(st.integers(-40 * 64, 40 * 64), st.integers(-30, 0))
def test_the_mean_is_nearer_to_a_half_than_softmax(n: int, power: int) -> None:
    d = mp.mpf(n) / 64 * mp.mpf(2) ** power
    mean = share_by_formula(d)
    if d == 0:
        assert mean == sigma(d)
    else:
        # Less than 50 digits are left where both are near to 1/2: these are 1e-18 apart or more.
        half = mp.mpf(1) / 2
        assert mp.sign(mean - half) == mp.sign(sigma(d) - half) == mp.sign(d)
        assert abs(mean - half) < abs(sigma(d) - half)
        assert_within(mean + share_by_formula(-d), 1, mp.mpf(10) ** -25)


@pytest.mark.statement("gumbel-softmax", "exact")
@by_tau
@by_gap
def test_the_mean_is_a_gradient(d: Any, tau: Any) -> None:
    # LSE_tau(z + G) = z_2 + G_2 + tau log(1 + e^((d + G_1 - G_2) / tau)).
    def smooth(gap: Any) -> Any:
        def softplus(y: Any) -> Any:
            return max(y, 0) + mp.log1p(mp.exp(-abs(y)))

        return mp.euler + tau * mean_of(softplus, gap, tau)

    h = mp.mpf(2) ** -20
    # X_1 rises with d, by no more than P(argmax X = 1) does on average: 1/4.
    allowed = h / 4 + 2 * INTEGRAL / h
    assert_within((smooth(d + h) - smooth(d)) / h, mean_share(d, tau), allowed)


@pytest.mark.statement("gumbel-softmax", "torch")
@given(pairs(1, 6), st.sampled_from([100.0, 1.0, 0.25]))
def test_each_draw_is_the_gradient_of_its_smooth_maximum(both: tuple[Law, Law], tau: float) -> None:
    z, noise = (tensor(x) for x in both)
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(logsumexp(z + noise, temperature=tau), z)
    x = relaxed(z.detach(), noise, tau)
    assert_within(gradient, x, 2 * softmax_bound(z.detach() + noise, tau))


@pytest.mark.statement("gumbel-softmax", "exact")
@by_tau
@by_gap
def test_the_mean_goes_from_softmax_to_the_level_distribution(d: Any, tau: Any) -> None:
    mean = mean_share(d, tau)
    # The slope of the logistic density is at most 1 / (6 sqrt 3), and the sigmoid is away from the
    # step by y sigma(-y / tau), integrated: tau^2 pi^2 / 12 on each side.
    from_softmax = tau**2 * mp.pi**2 / (36 * mp.sqrt(3))
    # |sigma(y) - 1/2| <= |y| / 4, and a logistic variable has the mean size 2 log 2.
    from_level = (abs(d) + 2 * mp.log(2)) / (4 * tau)
    assert_within(mean, sigma(d), from_softmax + INTEGRAL)
    assert_within(mean, mp.mpf(1) / 2, from_level + INTEGRAL)


@pytest.mark.statement("gumbel-softmax", "statistical", false_alarm=5e-9)
@pytest.mark.parametrize("d", [-2.0, 0.0, 1.0, 5.0])
def test_draws_have_the_mean_of_the_formula(d: float) -> None:
    x = relaxed(double([d, 0.0]), gumbel(DRAWS, 2, 5), 1.0)[:, 0]
    error = abs(float(x.mean()) - float(share_by_formula(mp.mpf(d))))
    # A variable between 0 and 1 has a variance of 1/4 at most.
    assert error <= ERRORS / 2 / DRAWS**0.5


# The derivative -----------------------------------------------------------------------------------


@pytest.mark.statement("gumbel-softmax", "exact")
@pytest.mark.parametrize("tau", TAUS[:4], ids=lambda t: mp.nstr(t, 5))
@by_gap
def test_the_bias_of_the_derivative_goes_and_its_variance_grows(d: Any, tau: Any) -> None:
    share = slope(d)
    mean = mean_of(slope, d, tau) / tau
    square = mean_of(lambda y: slope(y) ** 2, d, tau) / tau**2
    # With d + G_1 - G_2 = tau u both are integrals of a weight over the density f(tau u - d), whose
    # second derivative is at most 1/8. The weights have the variances pi^2 / 3, and a fourth of it
    # at most, as slopes are at most 1/4.
    allowed = tau**2 / 16 * mp.pi**2 / 3
    assert_within(mean, share, allowed + INTEGRAL / tau)
    assert_within(tau * square, share / 6, allowed / 4 + INTEGRAL / tau)
    # So is tau times the variance, but for tau times a square.
    assert_within(tau * (square - mean**2), share / 6, allowed / 4 + tau / 16 + INTEGRAL / tau)


@pytest.mark.statement("gumbel-softmax", "symbolic")
def test_symbols_find_the_sixth_and_the_largest_slopes() -> None:
    # With s = sigma(u), du = ds / (s (1 - s)).
    s = sp.Symbol("s", positive=True)
    assert sp.integrate(s * (1 - s), (s, 0, 1)) == sp.Rational(1, 6)

    def by_u(f: Any) -> Any:
        return sp.expand(sp.diff(f, s) * s * (1 - s))

    density = s * (1 - s)
    first, second = by_u(density), by_u(by_u(density))
    steepest = max(abs(first.subs(s, x)) for x in sp.solve(second, s) if x != 0)
    assert sp.simplify(steepest - 1 / (6 * sp.sqrt(3))) == 0
    third = [abs(second.subs(s, x)) for x in sp.solve(by_u(second), s)]
    assert max(sp.nsimplify(sp.simplify(x)) for x in third) == sp.Rational(1, 8)


@pytest.mark.statement("gumbel-softmax", "exact", "torch")
@given(pairs(2, 2), st.sampled_from([4.0, 1.0, 0.25]))
def test_autograd_finds_the_derivative_of_a_draw(both: tuple[Law, Law], tau: float) -> None:
    z, noise = (tensor(x) for x in both)
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(relaxed(z, noise, tau)[0], z)
    gap = number(both[0][0] - both[0][1] + both[1][0] - both[1][1])
    expected = slope(gap / tau) / tau
    # A quotient, a difference and products of numbers of softmax.
    allowed = 8 * softmax_bound(z.detach() + noise, tau).max() / tau + 8 * U
    assert_within(gradient, [expected, -expected], allowed)


@pytest.mark.statement("gumbel-softmax", "torch")
@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
def test_straight_through_has_a_draw_ahead_and_the_relaxed_one_behind(tau: float) -> None:
    z = double([0.5, 0.0, -1.0]).requires_grad_()
    weights = double([1.0, -2.0, 3.0])
    found = []
    for hard in (True, False):
        with torch.random.fork_rng():
            torch.manual_seed(6)
            x = functional.gumbel_softmax(z, tau, hard=hard)
        (gradient,) = torch.autograd.grad(x @ weights, z)
        found.append((x.detach(), gradient))
    (ahead, behind), (soft, gradient) = found
    # 1 - x + x is rounded.
    assert_within(ahead, functional.one_hot(soft.argmax(), 3).double(), 4 * U)
    # (diag(x) - x x^T) w / tau, of numbers up to 3.
    expected = soft * (weights - soft @ weights) / tau
    assert_within(behind, gradient, 64 * U / tau)
    assert_within(behind, expected, 64 * U / tau)
