"""The proposition `equal-ranking-is-necessary`: Equal ranking."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.necessary_and_sufficient.common import (
    Pair,
    equal_argmax,
    equal_ranking,
    necessary,
    sufficient,
)
from tests.support.strategies import exact_softmax, temperatures, whole_row_pairs, whole_rows


@pytest.mark.statement("equal-ranking-is-necessary", "exact")
@given(whole_row_pairs(), temperatures(0.5, 10.0))
def test_different_rankings_have_different_softmax(pair: Pair, temperature: float) -> None:
    u, v = pair
    p, q = (softmax(z, temperature=temperature) for z in pair)
    assert equal_ranking((p, u))
    assert equal_ranking((q, v))
    if not equal_ranking(pair):
        assert not torch.equal(p, q)
        # In exact arithmetic as well.
        assert exact_softmax(u, temperature) != exact_softmax(v, temperature)


@pytest.mark.statement("equal-ranking-is-necessary", "exact")
@given(
    whole_rows(2, 6, bound=5),
    st.floats(0.25, 4.0).filter(lambda c: abs(c - 1) > 0.1),
    temperatures(0.5, 5.0),
)
def test_equal_rankings_do_not_make_equal_softmax(z: Tensor, c: float, temperature: float) -> None:
    # Scaling keeps the ranking; the softmax only of constant logits.
    assert equal_ranking((z, c * z))
    p, q = softmax(z, temperature=temperature), softmax(c * z, temperature=temperature)
    constant = bool((z == z[0]).all())
    # Scaling moves the logarithm of some p_i / p_j by |c - 1| / T or more, so that of p_i or of p_j
    # by half of it: 0.01 or more.
    moved = (p.log() - q.log()).abs().max().item()
    assert moved == 0 if constant else moved > 0.009
    assert (exact_softmax(z, temperature) == exact_softmax(c * z, temperature)) == constant


@pytest.mark.statement("equal-ranking-is-necessary")
def test_the_ranking_says_more_than_the_winner() -> None:
    assert sufficient(equal_ranking, equal_argmax)
    assert not necessary(equal_ranking, equal_argmax)
    pair = (torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 1.0, 3.0]))
    assert equal_argmax(pair)
    assert not equal_ranking(pair)
