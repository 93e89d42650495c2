"""The theorem `central-answer`: Why temperature changes how random a draw is."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from mpmath import mp

from tests.chapters.greedy_and_sampling.common import (
    COLD,
    HOT,
    LADDER,
    READS_ORDER,
    assert_falls,
    falls,
    not_constant,
    row,
    same_order,
    tops,
)
from tests.support.strategies import assert_within, exact_softmax


@pytest.mark.statement("central-answer", "exact")
@not_constant
def test_order_stays_odds_fall_and_draws_spread(values: list[float]) -> None:
    k, best, z = len(values), tops(values), row(values)
    for t in (*LADDER, HOT):
        p = exact_softmax(z, t)
        assert same_order(p, values)
        assert all(rule(p) == rule(values) for rule in READS_ORDER.values())
    for i, j in product(range(k), repeat=2):
        odds = [exact_softmax(z, t)[i] / exact_softmax(z, t)[j] for t in LADDER]
        formula = [mp.exp((mp.mpf(values[i]) - values[j]) / t) for t in (*LADDER, COLD, HOT)]
        assert_within(odds, formula[:-2], rel=1e-40)
        if values[i] > values[j]:
            assert falls([*odds, 1])
            assert formula[-2] > 1e100
            assert formula[-1] < 1 + 1e-7

    def order(t: Any) -> Any:  # minus entropy
        return mp.fsum(x * mp.log(x) for x in exact_softmax(z, t))

    assert_falls(order, -mp.log(len(best)), -mp.log(k))
    for r in range(k + 1):
        sums = [mp.fsum(sorted(exact_softmax(z, t))[k - r :]) for t in LADDER]
        # None of the tokens, and all of them, are as probable at every temperature.
        assert falls(sums) == (0 < r < k)
    fair = [mp.mpf(i in best) / len(best) for i in range(k)]
    assert_within(exact_softmax(z, COLD), fair, 1e-100)
    assert_within(exact_softmax(z, HOT), mp.mpf(1) / k, 1e-8)


@pytest.mark.statement("central-answer", "exact")
@pytest.mark.statement("draws-agree", "exact")
@pytest.mark.parametrize("k", [1, 2, 5])
def test_constant_logits_notice_no_temperature(k: int) -> None:
    for t in LADDER:
        assert_within(exact_softmax(row([4.0] * k), t), mp.mpf(1) / k, rel=8 * mp.eps)
