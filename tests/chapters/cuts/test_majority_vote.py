"""The theorem `majority-vote`: The majority vote."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mp

from tests.chapters.cuts.common import heated, shares
from tests.support.strategies import number

F = Fraction


def pushed(p: list[Fraction], answers: list[int]) -> list[Fraction]:
    """The law of the answer."""
    return [
        sum((x for x, own in zip(p, answers, strict=True) if own == a), F(0))
        for a in range(max(answers) + 1)
    ]


def wins(p: list[Fraction], n: int) -> list[Fraction]:
    """The probability that each answer has strictly the most of n votes."""
    result = [F(0)] * len(p)
    for votes in product(range(n + 1), repeat=len(p)):
        ranked = sorted(votes, reverse=True)
        if sum(votes) == n and (len(p) == 1 or ranked[0] > ranked[1]):
            ways = math.factorial(n) // math.prod(math.factorial(v) for v in votes)
            chance = ways * math.prod((x**v for x, v in zip(p, votes, strict=True)), start=F(1))
            result[votes.index(ranked[0])] += chance
    return result


@pytest.mark.statement("majority-vote", "exact")
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2)), min_size=2, max_size=6),
    st.sampled_from([1, 2, 5, 8]),
)
def test_the_vote_is_right_at_least_as_often_as_the_bound_says(
    texts: list[tuple[int, int]], n: int
) -> None:
    names = {a: i for i, a in enumerate(sorted({answer for _, answer in texts}))}
    p = pushed(shares(*(w for w, _ in texts)), [names[a] for _, a in texts])
    ranked = sorted(p, reverse=True)
    assume(len(p) == 1 or ranked[0] > ranked[1])
    delta = ranked[0] - (ranked[1] if len(p) > 1 else 0)
    bound = 1 - (len(p) - 1) * mp.exp(-n * number(delta) ** 2 / 2)
    assert number(wins(p, n)[p.index(ranked[0])]) >= bound


@pytest.mark.statement("majority-vote", "exact")
def test_the_answer_of_the_most_probable_text_may_lose_until_it_is_cold() -> None:
    p, answers = shares(2, 1, 1, 1), [0, 1, 1, 1]
    assert pushed(p, answers) == [F(2, 5), F(3, 5)]
    chances = [wins(pushed(p, answers), n)[1] for n in (1, 11, 41)]
    assert chances == sorted(chances)
    assert chances[0] == F(3, 5)
    assert chances[-1] > F(9, 10)
    # At T = 1/2 the weights are 4, 1, 1, 1: the text outweighs the three together.
    for t, better in ((F(1), 1), (F(1, 2), 0), (F(1, 4), 0)):
        cold = heated(p, t)
        first, others = cold[0], mp.fsum(cold[1:])
        assert (others > first) == (better == 1)


@pytest.mark.statement("majority-vote", "exact")
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2)), min_size=2, max_size=6))
def test_cold_enough_the_vote_is_for_the_most_probable_text(texts: list[tuple[int, int]]) -> None:
    p, answers = shares(*(w for w, _ in texts)), [a for _, a in texts]
    assume(Counter(p)[max(p)] == 1)
    # Odds of at least 9 : 8 to the power 20 are more than 10 : 1.
    cold, votes = heated(p, F(1, 20)), [mp.mpf(0)] * 3
    for x, a in zip(cold, answers, strict=True):
        votes[a] += x
    assert votes.index(max(votes)) == answers[p.index(max(p))]
