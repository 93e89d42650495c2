"""The theorem `fisher-information`: Fisher information of an exponential family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
import scipy.stats
import sympy
import torch
from mpmath import mp

from omnivault.distributions import Categorical
from tests.chapters.categorical_family.common import (
    EXACT,
    Row,
    Statistic,
    Vector,
    at,
    lse,
    minimal,
    on_families,
    shares,
    weights_of,
)
from tests.support.strategies import assert_within, double, inner, number


def information(law: Row, t: Statistic) -> Any:
    """The covariance of the score, in fractions."""
    mean = [inner(law, c) for c in zip(*t, strict=True)]
    score = [[x - m for x, m in zip(row, mean, strict=True)] for row in t]
    d = len(mean)
    assert [inner(law, c) for c in zip(*score, strict=True)] == [0] * d
    return sympy.Matrix(d, d, lambda i, j: inner(law, [s[i] * s[j] for s in score]))


def log_law(h: Vector, t: Statistic, eta: Sequence[Any]) -> list[Any]:
    terms = [mp.log(w) + inner(eta, x) for w, x in zip(h, t, strict=True)]
    return [x - lse(terms) for x in terms]


def floats(matrix: Any) -> torch.Tensor:
    return double([[float(x) for x in matrix.row(i)] for i in range(matrix.rows)])


@pytest.mark.statement("fisher-information", "exact")
@on_families
def test_the_covariance_of_the_score_is_the_curvature_of_every_outcome(
    h: Vector, t: Statistic, k: Vector
) -> None:
    d, fisher = len(k), information(shares(weights_of(h, t, k)), t)
    unit = [tuple(int(i == j) for j in range(d)) for i in range(d)]
    for y in range(len(t)):
        for i, j in product(range(d), repeat=2):
            order = tuple(a + b for a, b in zip(unit[i], unit[j], strict=True))
            curve = mp.diff(lambda *eta, y=y: log_law(h, t, eta)[y], at(k), order)
            assert_within(-curve, Fraction(int(fisher[i, j].p), int(fisher[i, j].q)), 1e-20)
    assert fisher.is_positive_semidefinite
    assert (fisher.det() > 0) == minimal(t)


@pytest.mark.statement("fisher-information", "exact")
@on_families
@pytest.mark.parametrize("size", ["1", "1e-3", "1e-6", "1e-12"])
def test_the_divergence_of_a_step_is_half_its_squared_length(
    h: Vector, t: Statistic, k: Vector, size: str
) -> None:
    fisher = information(shares(weights_of(h, t, k)), t)
    law = [number(x) for x in shares(weights_of(h, t, k))]
    for way in product((-1, 0, 2), repeat=len(k)):
        a = [mp.mpf(size) * x for x in way]
        ahead = [x + y for x, y in zip(at(k), a, strict=True)]
        pairs = zip(law, log_law(h, t, at(k)), log_law(h, t, ahead), strict=True)
        divergence = mp.fsum(p * (x - y) for p, x, y in pairs)
        square = (sympy.Matrix(way).T * fisher * sympy.Matrix(way))[0]
        half = mp.mpf(size) ** 2 * mp.mpf(int(square.p)) / int(square.q) / 2
        # The third derivative of A is a third central moment, of what varies by so much.
        moves = [inner(a, x) for x in t]
        assert_within(divergence, half, (max(moves) - min(moves)) ** 3 / 6 + EXACT)


@pytest.mark.statement("fisher-information", "exact", "scipy")
@pytest.mark.parametrize("pi", [0.5, 0.1, 0.97])
@pytest.mark.parametrize("n", [10**2, 10**4, 10**6, 10**8])
def test_the_estimate_of_a_coin_tends_to_the_normal_distribution(pi: float, n: int) -> None:
    eta, fisher = math.log(pi / (1 - pi)), pi * (1 - pi)
    spread = math.sqrt(1 / fisher)
    coin = scipy.stats.binom(n, pi)
    for x in (-2.5, -1.0, -0.1, 0.0, 0.4, 1.5, 3.0):
        threshold = 1 / (1 + math.exp(-(eta + x * spread / math.sqrt(n))))
        exact = coin.cdf(math.floor(n * threshold))  # no estimate, all draws 0, is -inf here
        # Berry and Esseen, with the constant of Shevtsova, for the mean of the draws; then the
        # curvature of the sigmoid, which is below 0.0963, moves the threshold.
        of_mean = 0.4748 * (pi**2 + (1 - pi) ** 2) / math.sqrt(fisher * n)
        of_curve = 0.4 * 0.0963 / 2 * x**2 * fisher**-1.5 / math.sqrt(n)
        # Rounding may move the threshold across one count.
        of_count = coin.pmf(math.floor(n * pi))
        assert_within(exact, scipy.stats.norm.cdf(x), of_mean + of_curve + of_count)
    none = pi**n + (1 - pi) ** n
    assert_within(coin.pmf(0) + coin.pmf(n), none, rel=1e-9)
    assert none < 0.05


@pytest.mark.statement("fisher-information", "statistical", false_alarm=2e-6)
def test_the_covariance_of_estimates_is_the_inverse_information() -> None:
    n, repeats = 10**6, 4000
    t, h, k = ((0, 0), (1, 1), (2, 4), (3, 9)), (1, 3, 3, 1), (1, -1)
    law = shares(weights_of(h, t, k))
    counts = np.random.default_rng(0).multinomial(n, [float(x) for x in law], size=repeats)
    x, base = double(t), double(h).log()
    target = double(counts) @ x / n
    eta = double([float(e) for e in at(k)]).expand(repeats, 2)
    for _ in range(6):  # Newton, for all repeats at once
        p = (eta @ x.T + base).softmax(-1)
        mean = p @ x
        curve = torch.einsum("ry,yi,yj->rij", p, x, x) - mean.unsqueeze(-1) * mean.unsqueeze(-2)
        eta = eta + torch.linalg.solve(curve, target - mean)
    assert (target - mean).abs().max() < 1e-12
    stated = floats(information(law, t).inv())
    found = (eta - double([float(e) for e in at(k)])).T.cov() * n
    # Five standard errors in three places: other seeds would fail with a probability of 2e-6.
    spread = ((stated.diagonal().outer(stated.diagonal()) + stated**2) / repeats).sqrt()
    assert_within(found, stated, 5 * spread)


@pytest.mark.statement("fisher-information", "statistical", false_alarm=2e-6)
def test_the_standard_error_of_log_odds() -> None:
    n, repeats = 10**6, 4000
    pi = double([0.5, 0.1, 0.3, 0.1])
    counts = double(np.random.default_rng(1).multinomial(n, pi.numpy(), size=repeats))
    eta = Categorical(counts / n).to_natural(minimal=True)
    stated = ((1 / pi[:-1] + 1 / pi[-1]) / n).sqrt()
    # Five standard errors of a standard deviation, three times.
    assert_within(eta.std(0), stated, 5 * stated / math.sqrt(2 * repeats))
