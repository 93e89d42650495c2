"""The proposition `inclusion`: Who is in a pair."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chapters.torch_multinomial.common import chance, orders


def in_a_pair(k: int, weights: Sequence[int]) -> Fraction:
    return sum((chance(o, weights) for o in orders(len(weights), 2) if k in o), Fraction(0))


@pytest.mark.statement("inclusion", "exact")
@given(st.lists(st.integers(1, 20) | st.just(10**6), min_size=3, max_size=5))
def test_a_pair_favors_the_heavier_index_but_less_than_one_draw(weights: list[int]) -> None:
    k = range(len(weights))
    pi = [Fraction(w, sum(weights)) for w in weights]
    rho = [in_a_pair(i, weights) for i in k]
    assert rho == [pi[i] * (1 + sum(pi[j] / (1 - pi[j]) for j in k if j != i)) for i in k]
    for i, j in itertools.permutations(k, 2):
        if pi[j] > pi[i]:
            assert 1 < rho[j] / rho[i] < pi[j] / pi[i]
    # "It holds for the first draw and for no further one": each draw by itself.
    for place in k[1:]:
        law = [(o[place], chance(o, weights)) for o in orders(len(pi), place + 1)]
        odds = [sum(p for last, p in law if last == i) / pi[i] for i in k]
        for i, j in itertools.permutations(k, 2):
            assert (odds[j] < odds[i]) == (pi[j] > pi[i])


@pytest.mark.statement("inclusion", "exact")
def test_two_indices_are_too_few_and_the_bounds_are_approached() -> None:
    # K = 2, or a third of weight 0: both are always in the pair, and the lower bound is attained.
    assert [in_a_pair(i, (1, 9)) for i in (0, 1)] == [1, 1]
    assert [in_a_pair(i, (1, 9, 0)) for i in (0, 1, 2)] == [1, 1, 0]
    tiny, many = (10**6, 10**6 // 2, 1), (2, 1, *[1] * 60)
    assert 1 < in_a_pair(0, tiny) / in_a_pair(1, tiny) < 1 + Fraction(1, 10**5)
    assert 2 - Fraction(1, 50) < in_a_pair(0, many) / in_a_pair(1, many) < 2
