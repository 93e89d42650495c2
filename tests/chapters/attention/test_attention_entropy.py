"""The theorem `attention-entropy`: The entropy of attention at initialization."""

from __future__ import annotations

import math

import pytest
import sympy as sp
import torch
from hypothesis import given
from mpmath import mp
from torch import Tensor

from omnivault.information import entropy
from omnivault.softmax import softmax
from tests.chapters.attention.common import ZERO, U, normal
from tests.support.strategies import assert_within, rows, softmax_bound, temperatures


def entropy_bound(z: Tensor, temperature: float) -> float:
    """Largest error of ``entropy(softmax(z))``: d(-p log p) = -(1 + log p) dp, and its own."""
    log_p = torch.log_softmax(z / temperature, -1)
    own = U * (8 + 4 * math.log2(len(z) + 1)) * (-log_p.exp() * log_p).sum()
    return float(((1 - log_p) * softmax_bound(z, temperature)).sum() + own)


@pytest.mark.statement("attention-entropy", "symbolic")
def test_moments_of_the_proof_in_symbols() -> None:
    t, g = sp.Symbol("t", positive=True), sp.Symbol("g", real=True)
    density = sp.exp(-(g**2) / 2) / sp.sqrt(2 * sp.pi)
    first = sp.simplify(sp.integrate(sp.exp(t * g) * density, (g, -sp.oo, sp.oo)))
    second = sp.simplify(sp.integrate(g * sp.exp(t * g) * density, (g, -sp.oo, sp.oo)))
    assert sp.simplify(first - sp.exp(t**2 / 2)) == 0
    assert sp.simplify(second - t * sp.exp(t**2 / 2)) == 0
    # log n - H tends to -log E[e^(tg)] + t E[g e^(tg)] / E[e^(tg)].
    limit = sp.simplify(sp.expand_log(-sp.log(first) + t * second / first, force=True))
    assert sp.simplify(limit - t**2 / 2) == 0


@pytest.mark.statement("attention-entropy", "exact")
@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0, 2.0, 10.0])
def test_the_limit_by_quadrature(temperature: float) -> None:
    t = 1 / mp.mpf(temperature)
    # Around t, where e^(tg) phi(g) has its mass.
    points = [t - 15, t - 5, t, t + 5, t + 15]
    first = mp.quad(lambda g: mp.exp(t * g) * mp.npdf(g), points)
    second = mp.quad(lambda g: g * mp.exp(t * g) * mp.npdf(g), points)
    limit = 1 / (2 * mp.mpf(temperature) ** 2)
    # The tails beyond 15 are left out: exp(-112).
    assert_within(-mp.log(first) + t * second / first, limit, mp.mpf(10) ** -45)


@pytest.mark.statement("attention-entropy", "exact")
@given(rows(1, 8, bound=8.0), temperatures(0.2, 20.0))
def test_what_is_missing_from_log_n_in_averages(g: Tensor, temperature: float) -> None:
    n, t = len(g), 1 / mp.mpf(temperature)
    values = [mp.mpf(x) for x in g.tolist()]
    first = mp.fsum(mp.exp(t * x) for x in values) / n
    second = mp.fsum(x * mp.exp(t * x) for x in values) / n
    missing = -mp.log(first) + t * second / first
    computed = math.log(n) - entropy(softmax(g, temperature=temperature)).item()
    # And log 8 and the difference are rounded.
    assert_within(computed, missing, entropy_bound(g, temperature) + 8 * U)
    assert missing > -ZERO


def standard_deviation(t: float) -> float:
    """Of what is missing from log n, times sqrt(n), for large n.

    By the delta method it is that of e^(tg) (tg - 1 - t^2) / E[e^(tg)].
    """
    return math.sqrt(math.exp(t * t) * (1 - t * t + t**4) - 1)


@pytest.mark.statement("attention-entropy", "statistical", false_alarm=3e-5)
@pytest.mark.parametrize("temperature", [0.8, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("seed", [16, 17])
def test_long_contexts_miss_one_half_over_t_squared(seed: int, temperature: float) -> None:
    g = normal(10**6, seed=seed)
    limit = 1 / (2 * temperature**2)
    for n in (10**5, 10**6):
        missing = math.log(n) - entropy(softmax(g[:n], temperature=temperature)).item()
        # Eight standard deviations, and a bias of the order 1 / n. The average of e^(tg) is skewed:
        # at T = 0.8 one g of 6.4 is enough, and of new seeds one in 85,000 would fail (by Fourier
        # inversion of the law of the linear term). All cases together: 2.4e-5.
        off = 8 * standard_deviation(1 / temperature) / math.sqrt(n) + 50 / n
        assert abs(missing - limit) <= off
    assert off < 0.04 * limit + 0.002


@pytest.mark.statement("attention-entropy")
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_evenly_spread_scores_converge_without_chance(temperature: float) -> None:
    # Quantiles in the place of draws: the averages of the proof are Riemann sums.
    errors = []
    for n in (10**2, 10**3, 10**4, 10**5):
        levels = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        g = torch.special.ndtri(levels)
        missing = math.log(n) - entropy(softmax(g, temperature=temperature)).item()
        errors.append(abs(missing - 1 / (2 * temperature**2)))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 / temperature**4


@pytest.mark.statement("attention-entropy")
def test_frozen_heads_have_not_reached_the_limit() -> None:
    # Nothing can miss more than log n: at T = 1/3, d = 9, the limit is above log 64.
    assert math.log(64) - 8 / 2 > 0 > math.log(64) - 9 / 2
    for d in (9, 64, 256):
        g = normal(200, 64, seed=18)
        missing = math.log(64) - entropy(softmax(g, temperature=1 / math.sqrt(d)))
        assert missing.max().item() <= math.log(64)
        assert missing.max().item() < d / 2
    assert missing.median().item() > 0.9 * math.log(64)


@pytest.mark.statement("attention-entropy")
@pytest.mark.parametrize("t", [0.5, 1.0, 2.0])
def test_other_scores_miss_something_else(t: float) -> None:
    # Signs, half of them each: t tanh t - log cosh t.
    n = 1000
    g = torch.cat([torch.ones(n // 2), -torch.ones(n // 2)]).double()
    missing = math.log(n) - entropy(softmax(g, temperature=1 / t)).item()
    # Sums of n terms: the normalizer moves the entropy by n u log n, its own sum as much again.
    allowed = (2 * n + 64) * U * math.log(n)
    assert_within(missing, t * math.tanh(t) - math.log(math.cosh(t)), allowed)
    assert abs(missing - t**2 / 2) > 0.01
