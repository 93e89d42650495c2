"""The theorem `probabilities-as-logits`: The loss of probabilities taken for logits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch.nn.functional import cross_entropy as loss_of_logits

from omnivault.softmax import log_softmax
from tests.chapters.cross_entropy_kl.common import (
    NOTHING,
    Data,
    Row,
    U,
    assert_close,
    same,
    simplex,
    vertex,
)
from tests.support.strategies import as_double, assert_within, number


def mistaken(u: Sequence[Fraction], y: int) -> Any:
    weights = [mp.exp(number(x)) for x in u]
    return -mp.log(weights[y] / mp.fsum(weights))


def bounds(k: int) -> tuple[Any, Any]:
    return mp.log(1 + (k - 1) / mp.e), mp.log(k - 1 + mp.e)


@pytest.mark.statement("probabilities-as-logits", "exact", "torch")
@given(st.integers(2, 6).flatmap(simplex), st.data())
def test_probabilities_taken_for_logits_cost_between_two_bounds(u: Row, data: Data) -> None:
    y = data.draw(st.integers(0, len(u) - 1))
    (low, high), exact = bounds(len(u)), mistaken(u, y)
    assert low - NOTHING <= exact <= high + NOTHING
    assert same(exact, low) == (u[y] == 1)
    assert same(exact, high) == (1 in u and u[y] == 0)
    assert_within(high - low, 1, NOTHING)
    assert_close(loss_of_logits(as_double(u), torch.tensor(y)).item(), exact)
    assert_close(-log_softmax(as_double(u))[y].item(), exact)


@pytest.mark.statement("probabilities-as-logits", "exact")
@pytest.mark.parametrize("k", [2, 3, 10])
@pytest.mark.parametrize("away", [Fraction(1, 10**d) for d in (1, 8, 20)])
def test_a_step_away_from_a_corner_is_inside_the_bounds(k: int, away: Fraction) -> None:
    low, high = bounds(k)
    for corner, other in itertools.permutations(range(k), 2):
        u = [x + away * ((i == other) - (i == corner)) for i, x in enumerate(vertex(k, corner))]
        assert low + number(away) / k**2 < mistaken(u, 0) < high - number(away) / k**2


@pytest.mark.statement("probabilities-as-logits", "exact", "torch")
def test_the_bounds_for_a_vocabulary_and_for_one_class() -> None:
    u = torch.zeros(2, 49_152, dtype=torch.float64)
    u[0, 0] = u[1, -1] = 1
    losses = loss_of_logits(u, torch.tensor([0, 0]), reduction="none").tolist()
    # A sum of K terms in any order, and a few logarithms and differences of size log K.
    assert_within(losses, bounds(49_152), (49_152 + 256) * U)
    assert mistaken(vertex(1, 0), 0) == bounds(1)[0] == 0  # and the upper bound, 1, is not attained
    assert_within(bounds(1)[1], 1, NOTHING)
