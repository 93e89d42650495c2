"""The theorem `attention-dispersion`: Bounded scores disperse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor
from torch.nn.functional import normalize, scaled_dot_product_attention

from omnivault.information import entropy
from omnivault.softmax import softmax
from tests.chapters.attention.common import ZERO, U, attention_bound, normal, row
from tests.support.strategies import assert_within, exact_softmax, rows, whole_rows


def largest_weight(n: int, half_range: Any) -> Any:
    return 1 / (1 + (n - 1) * mp.exp(-2 * half_range))


def smallest_weight(n: int, half_range: Any) -> Any:
    return 1 / (1 + (n - 1) * mp.exp(2 * half_range))


def most_missing(half_range: Any) -> Any:
    """The bound of log n - H."""
    factor = 2 * half_range / (1 - mp.exp(-2 * half_range))
    return factor - 1 - mp.log(factor)


def missing(p: list[Any]) -> Any:
    return mp.log(len(p)) + mp.fsum(x * mp.log(x) for x in p)


def half_range(s: Tensor) -> Any:
    return (mp.mpf(s.max().item()) - mp.mpf(s.min().item())) / 2


@pytest.mark.statement("attention-dispersion", "exact")
@given(rows(2, 8, bound=8.0))
def test_weights_and_entropy_in_exact_arithmetic(s: Tensor) -> None:
    m, n = half_range(s), len(s)
    assume(m > 1e-6)
    p = exact_softmax(s)
    largest = largest_weight(n, m)
    for weight in p:
        assert smallest_weight(n, m) * (1 - ZERO) <= weight <= largest * (1 + ZERO)
    assert largest <= mp.exp(2 * m) / n * (1 + ZERO)
    assert missing(p) <= most_missing(m) + ZERO
    assert most_missing(m) < 2 * m


@pytest.mark.statement("attention-dispersion", "exact")
@given(whole_rows(2, 6, bound=3))
def test_the_bounds_are_met_by_ties_alone(s: Tensor) -> None:
    m, n = half_range(s), len(s)
    assume(m > 0)
    p = exact_softmax(s)
    lowest, top = (s == s.min()), (s == s.max())
    for j, weight in enumerate(p):
        alone = bool(top[j]) and int(lowest.sum()) == n - 1
        assert (abs(weight / largest_weight(n, m) - 1) < ZERO) == alone
        alone = bool(lowest[j]) and int(top.sum()) == n - 1
        assert (abs(weight / smallest_weight(n, m) - 1) < ZERO) == alone


@pytest.mark.statement("attention-dispersion", "exact")
@given(st.integers(2, 10**6), st.floats(0.01, 0.99))
def test_the_range_that_a_weight_needs(n: int, weight: float) -> None:
    a = mp.mpf(weight)
    needed = mp.log(n - 1) + mp.log(a / (1 - a))
    # A weight above 1/n at that range, and none at a smaller one.
    assume(needed > 1e-6)
    assert_within(largest_weight(n, needed / 2), a, rel=ZERO)
    assert largest_weight(n, needed / 2 * (1 - mp.mpf(10) ** -20)) < a


@pytest.mark.statement("attention-dispersion", "exact")
@pytest.mark.parametrize("m", ["0.01", "0.5", "2", "10", "30"])
def test_no_smaller_bound_of_the_entropy_will_do(m: str) -> None:
    half = mp.mpf(m)
    high = mp.exp(2 * half)

    def of_share(w: Any) -> Any:
        """What is missing if a share w of the keys is 2 M above the others."""
        mean = 1 + w * (high - 1)
        return 2 * half * w * high / mean - mp.log(mean)

    factor = 2 * half * high / (high - 1)
    best = (factor - 1) / (high - 1)
    assert 0 < best < 1
    # Differences of numbers near one another lose up to half of the digits.
    near = mp.mpf(10) ** -40
    assert_within(of_share(best), most_missing(half), near)
    for other in (best / 2, best * 0.99, best * 1.01, mp.mpf(1) / 2, 1 - best):
        assert of_share(other) <= most_missing(half) + near
    # Shares m / n come near to the best one.
    n = 10**40
    assert_within(of_share(mp.floor(best * n) / n), most_missing(half), mp.mpf(10) ** -8)


@pytest.mark.statement("attention-dispersion")
@pytest.mark.parametrize("m", [0.25, 1.0, 3.0])
def test_long_rows_of_bounded_scores_flatten(m: float) -> None:
    tops, shares = [], []
    for n in (10, 1000, 100_000):
        s = m * (2 * torch.rand(n, generator=torch.Generator().manual_seed(26)).double() - 1)
        s[0] = m
        p = softmax(s)
        # Sums of n terms.
        bound = (2 * n + 128) * U
        assert p.max().item() <= largest_weight(n, m) * (1 + bound)
        missed = math.log(n) - entropy(p).item()
        assert missed <= most_missing(m) + 4 * bound * math.log(n)
        tops.append(p.max().item())
        shares.append(1 - missed / math.log(n))
    assert tops == sorted(tops, reverse=True)
    assert shares == sorted(shares)
    assert tops[-1] < math.exp(2 * m) / n
    assert shares[-1] > 1 - 2 * m / math.log(n)


@pytest.mark.statement("attention-dispersion", "torch")
@pytest.mark.parametrize("n", [2, 16, 256])
def test_keys_and_queries_of_length_one_disperse(n: int) -> None:
    for tau in (0.1, 0.5, 2.0):
        q = normalize(normal(8, 4, seed=27), dim=-1)
        k = normalize(normal(n, 4, seed=28), dim=-1)
        k[0], k[1:] = q[0], -q[0]
        weights = scaled_dot_product_attention(q, k, torch.eye(n).double(), scale=1 / tau)
        allowed = attention_bound(q, k, torch.ones(n, 1).double(), tau).item()
        most = largest_weight(n, 1 / mp.mpf(tau))
        # Scores of length one lie within 2 / tau of one another; the first query meets the bound.
        assert weights.max().item() <= most + allowed
        assert_within(weights[0, 0].item(), most, allowed)
        assert weights.min().item() >= smallest_weight(n, 1 / mp.mpf(tau)) - allowed


@pytest.mark.statement("attention-dispersion")
def test_scores_without_a_bound_need_not_flatten() -> None:
    for n in (10, 1000):
        s = row([math.log(n), *[0.0] * (n - 1)])
        # log n is rounded, and a sum has n terms.
        assert_within(softmax(s)[0].item(), mp.mpf(n) / (2 * n - 1), rel=(2 * n + 128) * U)
