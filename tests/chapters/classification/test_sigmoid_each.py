"""The proposition `sigmoid-each`: A sigmoid for each class."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, product
from math import prod
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.classification.common import U
from tests.support.strategies import (
    as_double,
    assert_within,
    exact_softmax,
    rows,
    sigma,
    softmax_bound,
    total,
)


def given_one(chances: list[Any]) -> list[Any]:
    """How probable each is the one, if one of independent answers is yes, by all 2^K of them."""
    exactly_one: list[Any] = [0] * len(chances)
    for answer in product([False, True], repeat=len(chances)):
        if sum(answer) == 1:
            p = prod(c if yes else 1 - c for c, yes in zip(chances, answer, strict=True))
            exactly_one[answer.index(True)] += p
    return [p / sum(exactly_one) for p in exactly_one]


@pytest.mark.statement("sigmoid-each", "exact")
@given(rows(1, 5, bound=20.0))
def test_given_one_yes_it_is_distributed_by_softmax(z: Tensor) -> None:
    expected = given_one([sigma(mp.mpf(x)) for x in z.tolist()])
    # 1 - sigma(20) has lost nine of fifty digits.
    assert_within(exact_softmax(z), expected, rel=mp.mpf(10) ** -35)
    assert_within(softmax(z), as_double(expected), softmax_bound(z))


@pytest.mark.statement("sigmoid-each", "exact")
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_given_one_yes_the_shares_are_those_of_the_odds(odds: list[int]) -> None:
    # In fractions: the chances are odds / (1 + odds), and the logits their logarithms.
    chances = [Fraction(o, 1 + o) for o in odds]
    assert given_one(chances) == [Fraction(o, sum(odds)) for o in odds]
    z = torch.tensor(odds, dtype=torch.float64).log()
    shares = torch.tensor([float(Fraction(o, sum(odds))) for o in odds], dtype=torch.float64)
    # Logarithms up to 2.2 are off by 8 u of it, twice, for the sum.
    assert_within(softmax(z), shares, softmax_bound(z) + 40 * U)


@pytest.mark.statement("sigmoid-each", "exact", "torch")
@given(rows(1, 5, bound=20.0))
def test_a_common_level_is_the_mean_number_of_yes(z: Tensor) -> None:
    levels = [-60.0, -3.0, 0.0, 0.5, 4.0, 60.0]

    def mean(c: float) -> Any:
        return mp.fsum(sigma(mp.mpf(x) + c) for x in z.tolist())

    means = [mean(c) for c in levels]
    assert all(a < b for a, b in pairwise(means))
    assert 0 < means[0] < mp.mpf(10) ** -16
    assert len(z) - mp.mpf(10) ** -16 < means[-1] < len(z)
    for c, expected in zip(levels, means, strict=True):
        # z + c, up to 80, is rounded, which a logit below 0 feels in full; sigmoids by 16 u.
        assert_within(torch.sigmoid(z + c).sum(), expected, rel=(80 + 16 + len(z)) * U)
        # To softmax it means nothing.
        assert_within(exact_softmax(z + c), exact_softmax(z), rel=4 * 80 * U)


@pytest.mark.statement("sigmoid-each", "exact")
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 12))
def test_a_sigmoid_is_above_its_share_as_the_others_weigh_more_than_one(
    parts: list[int], unit: int
) -> None:
    # e^z in fractions, so that the others weigh exactly one now and then.
    weights = [Fraction(part, unit) for part in parts]
    for k, weight in enumerate(weights):
        others = total(w for j, w in enumerate(weights) if j != k)
        yes, share = weight / (1 + weight), weight / total(weights)
        assert (yes > share) == (others > 1)
        assert (yes == share) == (others == 1)
        assert (yes < share) == (others < 1)
    all_equal = all(w / (1 + w) == w / total(weights) for w in weights)
    k = len(weights)
    assert all_equal == (k >= 2 and all(w == Fraction(1, k - 1) for w in weights if k >= 2))


@pytest.mark.statement("sigmoid-each", "torch")
@pytest.mark.parametrize("k", [2, 3, 4, 5, 50])
def test_the_logits_for_which_both_are_the_same(k: int) -> None:
    z = -torch.full((k,), k - 1.0, dtype=torch.float64).log()
    # A logarithm up to 4 and an exponential, 8 u of each; and a sum of equal weights.
    for p in (torch.sigmoid(z), softmax(z), torch.softmax(z, 0)):
        assert_within(p, torch.full_like(z, 1 / k), rel=(64 + k) * U)
    moved = z + 0.1
    assert_within(softmax(moved), softmax(z), rel=(64 + k) * U)
    assert bool((torch.sigmoid(moved) > softmax(moved) * 1.001).all())
