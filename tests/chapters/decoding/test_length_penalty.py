"""The proposition `length-penalty`: A length penalty rewards length."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from itertools import combinations, pairwise

import pytest
from mpmath import mp

from omnivault.decoding import beam_search
from tests.chapters.decoding.common import NOTHING, Text, Toy, U, chance, shares
from tests.support.strategies import assert_within


@pytest.mark.statement("length-penalty", "exact")
@pytest.mark.parametrize("p", [0.0, 1e-9, 0.25, 1 - 1e-9, 1.0])
@pytest.mark.parametrize("alpha", [-2.0, -0.01, 0.0, 0.01, 1.0, 3.0])
def test_of_two_texts_as_probable_a_positive_exponent_prefers_the_longer(
    p: float, alpha: float
) -> None:
    score = {n: mp.log(p) / mp.mpf(n) ** alpha for n in (1, 2, 3, 40)}
    for short, long in combinations(score, 2):
        assert (score[long] > score[short]) == (alpha > 0 and 0 < p < 1)
        assert (score[long] < score[short]) == (alpha < 0 and 0 < p < 1)


@pytest.mark.statement("length-penalty")
@pytest.mark.parametrize("alpha", [-1.0, 0.0, 1.0, 2.0])
def test_the_decoder_scores_so(alpha: float) -> None:
    """Token 0 ends. (0) and (1, 1, 0) have 1/4, (1, 2, 0) a half."""

    def after(y: Text) -> list[Fraction]:
        return {(): shares(1, 3, 0), (1,): shares(0, 1, 2)}.get(y, shares(1, 0, 0))

    found = beam_search(
        Toy(3, after), NOTHING, width=5, max_new_tokens=4, end_token=0, length_penalty=alpha
    )
    texts = {(0, 0, 0): (0.25, 1), (1, 1, 0): (0.25, 3), (1, 2, 0): (0.5, 3)}
    ranked = [tuple(y) for y in found.ids.tolist()]
    assert set(ranked) == set(texts)
    for y, log_p, score in zip(ranked, found.log_probs, found.scores, strict=True):
        p, length = texts[y]
        # Three steps of about 40 u, in all log 2 or more.
        assert_within(log_p.item(), math.log(p), rel=192 * U)
        # For 1 the mean of the tokens, for 0 the log-probability, which no further token raises.
        assert_within(score.item(), math.log(p) / length**alpha, rel=196 * U)
    if alpha:
        assert (ranked.index((1, 1, 0)) < ranked.index((0, 0, 0))) == (alpha > 0)


def best_lengths(texts: list[tuple[int, float]]) -> list[set[int]]:
    """Lengths of the texts with the best score, for exponents in rising order."""
    return [
        {n for n, log_p in texts if log_p / n**a == max(q / m**a for m, q in texts)}
        for a in (-2, -1, -0.5, 0, 0.3, 0.5, 1, 1.5, 2, 4)
    ]


@pytest.mark.statement("length-penalty")
@pytest.mark.parametrize("seed", range(20))
def test_a_larger_exponent_never_prefers_a_shorter_text(seed: int) -> None:
    source = random.Random(seed)
    lengths = best_lengths([(source.randint(1, 9), -source.uniform(0.01, 20)) for _ in range(6)])
    assert all(max(lower) <= min(higher) for lower, higher in pairwise(lengths))


@pytest.mark.statement("length-penalty")
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_impossible_and_certain_texts_tie_whatever_their_lengths(p: float) -> None:
    lengths = best_lengths([(n, math.log(p) if p else -math.inf) for n in (1, 2, 3)])
    assert all(same == {1, 2, 3} for same in lengths)
    # So the claim needs its condition: 3 is best for one exponent and 1 for a larger one.
    assert max(lengths[0]) > min(lengths[-1])


@pytest.mark.statement("length-penalty", "exact")
def test_without_a_penalty_no_text_beats_its_beginning_and_with_one_it_may() -> None:
    for y, p in chance(3, 0).texts(4).items():
        assert all(p <= chance(3, 0).probability(y[:n]) for n in range(5))
    assert math.log(0.5) / 1 < (math.log(0.5) + math.log(0.9)) / 2
