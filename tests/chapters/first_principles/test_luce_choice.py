"""The proposition `luce-choice`: Log-odds are differences of logits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from mpmath import mp
from torch import Tensor

from omnivault.softmax import log_softmax, softmax
from tests.chapters.first_principles.common import U
from tests.support.strategies import (
    as_double,
    assert_within,
    log_softmax_bound,
    rows,
    softmax_bound,
    temperatures,
)


@pytest.mark.statement("luce-choice", "exact")
@given(rows(2, 8), temperatures())
def test_log_odds_are_the_difference_over_the_temperature(z: Tensor, temperature: float) -> None:
    log_p = log_softmax(z, temperature=temperature)
    odds = log_p.unsqueeze(-1) - log_p.unsqueeze(-2)
    expected = (z.unsqueeze(-1) - z.unsqueeze(-2)) / temperature
    bound = log_softmax_bound(z, temperature)
    assert_within(odds, expected, 2 * (bound.unsqueeze(-1) + bound.unsqueeze(-2)))
    # And from the shares themselves, against exact differences.
    p = softmax(z, temperature=temperature)
    exact = mp.exp((mp.mpf(z[0].item()) - mp.mpf(z[1].item())) / temperature)
    relative = softmax_bound(z, temperature)[:2] / p[:2]
    assert_within(mp.mpf(p[0].item()) / p[1].item(), exact, rel=1.1 * relative.sum().item())


@pytest.mark.statement("luce-choice", "exact")
@given(rows(1, 8), temperatures())
def test_nothing_but_softmax_has_these_log_odds(z: Tensor, temperature: float) -> None:
    # Odds against the first class and a sum of one determine p: p_i = odds_i p_1, sum p_i = 1.
    odds = [mp.exp((mp.mpf(x) - mp.mpf(z[0].item())) / temperature) for x in z.tolist()]
    first = 1 / mp.fsum(odds)
    expected = as_double([o * first for o in odds])
    assert_within(softmax(z, temperature=temperature), expected, softmax_bound(z, temperature))


@pytest.mark.statement("luce-choice")
@given(rows(2, 2, bound=10.0), rows(0, 6, bound=10.0), rows(0, 6, bound=10.0), temperatures(0.5))
def test_log_odds_of_two_classes_do_not_see_the_others(
    pair: Tensor, some: Tensor, others: Tensor, temperature: float
) -> None:
    ratios = []
    for rest in (some, others):
        p = softmax(torch.cat([pair, rest]), temperature=temperature)
        ratios.append((p[0] / p[1]).item())
    # Gaps of at most 20 / 0.5, rounded three times, in numerator and denominator, twice.
    assert_within(ratios[0], ratios[1], rel=(2 * 2 * 3 * 40 + 16) * U)


@pytest.mark.statement("luce-choice")
def test_log_odds_see_the_pair() -> None:
    # The control: what the test above holds fixed does move when the pair does.
    p = softmax(torch.tensor([1.0, 0.0, 5.0], dtype=torch.float64), temperature=2.0)
    q = softmax(torch.tensor([2.0, 0.0, 5.0], dtype=torch.float64), temperature=2.0)
    # Five exponentials, up to 8 u each, and seven quotients.
    assert_within(q[0] / q[1] / (p[0] / p[1]), math.exp(0.5), rel=48 * U)


@pytest.mark.statement("luce-choice")
@pytest.mark.parametrize(("gap", "dtype"), [(200.0, torch.float32), (2000.0, torch.float64)])
def test_log_odds_survive_where_the_share_does_not(gap: float, dtype: torch.dtype) -> None:
    z = torch.tensor([0.0, -gap, -gap - 1], dtype=dtype)
    assert softmax(z).tolist() == [1.0, 0.0, 0.0]
    log_p = log_softmax(z)
    assert (log_p[1] - log_p[2]).item() == 1.0
