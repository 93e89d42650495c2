"""The corollary `gumbel-top-k`: Gumbel top-k."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from scipy.stats import chisquare

from tests.chapters.production.common_pieces import (
    FALSE_ALARM,
    arrangements,
    few_balls,
    gumbel,
    leads,
    seeded,
    single_and_double,
)
from tests.support.strategies import assert_within, total


def successive(order: Sequence[int], weights: Sequence[Any]) -> Fraction:
    """The probability of these draws without replacement, in this order."""
    chance = Fraction(1)
    for n, i in enumerate(order):
        chance *= weights[i] / total(
            Fraction(w) for j, w in enumerate(weights) if j not in order[:n]
        )
    return chance


@pytest.mark.statement("gumbel-top-k", "exact")
@few_balls
def test_colors_come_in_the_order_of_successive_draws(weights: tuple[int, ...]) -> None:
    orders = [tuple(dict.fromkeys(order)) for order in arrangements(weights)]
    k = len(weights)
    for n in range(1, k + 1):
        seen = Counter(order[:n] for order in orders)
        for order in itertools.permutations(range(k), n):
            assert Fraction(seen[order], len(orders)) == successive(order, weights)


rational = st.fractions(Fraction(1, 10**6), 20, max_denominator=10**6) | st.just(Fraction(10**9))


@pytest.mark.statement("gumbel-top-k", "exact")
@given(st.lists(rational, min_size=1, max_size=4))
def test_integrals_over_the_largest_numbers_give_successive_draws(weights: list[Fraction]) -> None:
    # log(-log X) = -(z/T + G): then X is at most x with probability x^w, and has the order of
    # the noisy logits. All integrals are of powers of x, from the last index to the first.
    k = len(weights)
    for n in range(1, k + 1):
        for order in itertools.permutations(range(k), n):
            power = total(w for i, w in enumerate(weights) if i not in order)
            factor = Fraction(1)
            for i in reversed(order):  # of w y^(w - 1) factor y^power, from 0 to x
                factor *= weights[i] / (weights[i] + power)
                power += weights[i]
            assert factor == successive(order, weights)


@pytest.mark.statement("gumbel-top-k", "exact")
@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 10**4)), min_size=1, max_size=6),
    st.sampled_from(["1e-6", "0.7", "1", "1e6"]),
)
def test_falling_noisy_logits_are_rising_times(pairs: list[tuple[int, int]], t: str) -> None:
    temperature = mp.mpf(t)
    noise = [-mp.log(mp.mpf(e) / 1000) for _, e in pairs]
    noisy = [z / temperature + g for (z, _), g in zip(pairs, noise, strict=True)]
    times = [mp.mpf(e) / 1000 / mp.exp(z / temperature) for z, e in pairs]
    for a, b in itertools.combinations(range(len(pairs)), 2):
        if abs(noisy[a] - noisy[b]) > 1e-30:
            assert (noisy[a] > noisy[b]) == (times[a] < times[b])
    assert_within([mp.exp(-x) for x in noisy], times, rel=mp.mpf(10) ** -35)


@pytest.mark.statement("gumbel-top-k", "torch", "statistical", false_alarm=0.016)
@single_and_double
@pytest.mark.parametrize("temperature", [1e-6, 1e6])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_topk_gives_the_draws_of_torch_without_replacement(
    n: int, temperature: float, dtype: torch.dtype
) -> None:
    weights = [1, 5, 2, 3]
    w = torch.tensor(weights, dtype=dtype)
    z = temperature * w.log()
    noisy = z / temperature + gumbel(5000, 4, dtype, n)
    drawn = noisy.topk(n).indices
    without = torch.multinomial(w.expand(5000, 4), n, generator=seeded(n))
    clear = leads(noisy, n)
    assert torch.equal(drawn[clear], without[clear])
    orders = list(itertools.permutations(range(4), n))
    seen = Counter(map(tuple, drawn.tolist()))
    expected = [5000 * float(successive(order, weights)) for order in orders]
    assert chisquare([seen[order] for order in orders], expected).pvalue > FALSE_ALARM
