"""The proposition `swallowed`: Swallowed weights."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from scipy.stats import binomtest

from tests.chapters.torch_multinomial.common import FALSE_ALARM, each_dtype, seeded
from tests.support.strategies import nearest, unit


@pytest.mark.statement("swallowed", "exact")
@pytest.mark.parametrize("digits", [1, 2, 3, 5])
def test_a_small_weight_rounds_away_whatever_becomes_of_ties(digits: int) -> None:
    u, half_step = Fraction(1, 2**digits), Fraction(1, 2)
    for s in map(Fraction, range(2 ** (digits - 1), 2**digits)):
        # u 2^a is half a step: below it a weight is swallowed, and u s / 2 is below.
        assert all(nearest(s + half_step * i / 64, digits) == {s} for i in range(64))
        assert u * s / 2 < half_step <= u * s
        # At half a step it depends on ties; above it is not swallowed, so never above u s.
        assert s in nearest(s + half_step, digits)
        assert all(s not in nearest(s + half_step * i / 64, digits) for i in range(65, 256))
    assert half_step / (u * s / 2) == 1 / (1 - u)  # just below 2^(e + 1): the best constant


@pytest.mark.statement("swallowed")
@each_dtype
def test_the_formats_of_torch_swallow(dtype: torch.dtype) -> None:
    info, u = torch.finfo(dtype), unit(dtype)
    one = torch.ones((), dtype=dtype)
    for s in (one, 3 * one, info.max * one, 2 - 2 * u * one, info.smallest_normal / u * one):
        assert s + s * (u / 2) == s
    assert one + u * one == one < one + u * (1 + 2 * u) * one
    assert (2 - 2 * u * one) + u * one == 2  # u is above u s / 2 by a factor 1 / (1 - u)
    assert 0 * one + info.smallest_normal > 0  # s > 0 is needed


@pytest.mark.statement("swallowed", "torch", "statistical", false_alarm=0.004)
def test_torch_never_draws_what_is_swallowed() -> None:
    # Near the bound of 2^-24, with few enough digits for the sum from the other end to be exact.
    weights = torch.full((2**20 + 1,), 2.0**-24 * 15 / 16)
    weights[0] = 1.0
    tail = 1 - 1 / (1 + 2.0**-4 * 15 / 16)
    n = 20_000
    assert not torch.multinomial(weights, n, True, generator=seeded(5)).any()
    raced = [torch.multinomial(weights, 1, generator=seeded(i)) for i in range(128)]
    for drawn in (
        torch.multinomial(weights.double(), n, True, generator=seeded(5)),
        2**20 - torch.multinomial(weights.flip(0), n, True, generator=seeded(5)),
        torch.cat(raced),
    ):
        assert (hits := int((drawn > 0).sum())) > 0
        assert binomtest(hits, len(drawn), tail).pvalue > FALSE_ALARM


@pytest.mark.statement("swallowed")
def test_more_can_be_lost_than_the_statement_names() -> None:
    # Weights of u are above u s / 2 and swallowed all the same: K u in all, 0.29% for 49,152.
    u = 2.0**-24
    weights = torch.full((49_152,), u)
    weights[0] = 1.0
    assert not torch.multinomial(weights, 50_000, True, generator=seeded()).any()
    assert weights[1:].double().sum() > 0.0029
