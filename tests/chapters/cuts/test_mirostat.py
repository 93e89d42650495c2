"""The theorem `mirostat`: What mirostat converges to."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp

from omnivault.sampling import Mirostat
from tests.chapters.cuts.common import entropy, exact, row, shares
from tests.support.strategies import assert_within, unit

Rows = list[list[Any]]


def step(p: list[Any], limit: Any, choose: float) -> Any:
    """The surprise of a token drawn from what is within the limit, renormalized."""
    p = [exact(x) for x in p]
    inside = [x for x in p if -mp.log(x) <= limit] or [x for x in p if x == max(p)]
    left, drawn = choose * mp.fsum(inside), mp.mpf(0)
    for x in inside:
        drawn += x
        if drawn > left:
            break
    return -mp.log(x / mp.fsum(inside))


def run(rows: Rows, first: Any, target: Any, rate: Any, seed: int) -> tuple[list[Any], list[Any]]:
    """All surprises, and all limits."""
    source, limits, surprises = random.Random(seed), [first], []
    for p in rows:
        surprises.append(step(p, limits[-1], source.random()))
        limits.append(limits[-1] - rate * (surprises[-1] - target))
    return surprises, limits


some_rows = st.lists(
    st.lists(st.integers(1, 9), min_size=1, max_size=6).map(lambda w: shares(*w)),
    min_size=1,
    max_size=40,
)
numbers = st.integers(1, 16).map(lambda n: mp.mpf(n) / 4)
rates = st.integers(1, 8).map(lambda n: mp.mpf(n) / 8)


@pytest.mark.statement("mirostat", "exact")
@given(some_rows, numbers, numbers, rates, st.integers(0, 9))
def test_the_mean_misses_by_what_the_limit_has_moved(
    rows: Rows, first: Any, target: Any, rate: Any, seed: int
) -> None:
    surprises, limits = run(rows, first, target, rate, seed)
    n = len(rows)
    error = mp.fsum(surprises) / n - target
    assert abs(error - (first - limits[-1]) / (rate * n)) < mp.mpf(10) ** -40


@pytest.mark.statement("mirostat", "exact")
@given(some_rows, numbers, numbers, rates, st.integers(0, 9))
def test_with_one_best_token_the_limit_stays_and_the_mean_is_not_above(
    rows: Rows, first: Any, target: Any, rate: Any, seed: int
) -> None:
    single = [p for p in rows if p.count(max(p)) == 1] or [shares(2, 1)]
    surprises, limits = run(single, first, target, rate, seed)
    assert all(s <= limit for s, limit in zip(surprises, limits, strict=False))
    assert min(limits) >= min(first, target)
    assert mp.fsum(surprises) / len(single) - target <= first / (rate * len(single))


def test_equal_best_tokens_may_push_the_limit_below_nothing() -> None:
    _, limits = run([shares(*[1] * 64)], mp.mpf(2), mp.mpf(1), mp.mpf(1), 0)
    assert limits[-1] == 3 - mp.log(64)
    assert limits[-1] < 0


@pytest.mark.statement("mirostat", "statistical", false_alarm=1e-6)
def test_where_rows_have_less_entropy_the_limit_grows_and_the_mean_stays_below() -> None:
    p, target, rate, n = shares(6, 2, 1), mp.mpf(2), mp.mpf(1) / 4, 3000
    surprises, limits = run([p] * n, mp.mpf(4), target, rate, 1)
    # Surprises in [0, log 9]: a mean of n is 0.12 too large with less than exp(-2 n 0.12^2 / 4.9).
    assert mp.fsum(surprises) / n < entropy(p) + 0.12
    assert entropy(p) < target - 1
    assert limits[-1] / n > rate * 0.8


@pytest.mark.statement("mirostat")
def test_the_class_moves_so() -> None:
    generator = torch.Generator().manual_seed(0)
    laws = [shares(*w) for w in ((8, 4, 2, 1, 1), (1, 1, 9), (5, 4, 3, 2, 1), (1,))]
    mirostat, limit = Mirostat(1.0, rate=0.5), 2.0
    assert float(mirostat.limit) == limit
    for _ in range(20):
        for p in laws:
            token = int(mirostat.draw(row(p), generator))
            inside = [float(x) for x in p if -math.log(x) <= limit] or [float(max(p))]
            assert float(p[token]) in inside
            limit -= 0.5 * (-math.log(p[token] / sum(inside)) - 1.0)
            # Of numbers below 8, some ten roundings a step, which a step carries on.
            assert_within(mirostat.limit, limit, 80 * 80 * unit(torch.float64))
            limit = float(mirostat.limit)
