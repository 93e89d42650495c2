"""The proposition `equal-argmax-is-necessary`: Equal argmax."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from omnivault.softmax import log_softmax, softmax
from tests.chapters.necessary_and_sufficient.common import Pair, equal_argmax, equal_ranking
from tests.support.strategies import (
    log_softmax_bound,
    softmax_bound,
    temperatures,
    whole_row_pairs,
    whole_rows,
)


@pytest.mark.statement("equal-argmax-is-necessary")
@pytest.mark.statement("equal-ranking-is-necessary")
@given(whole_rows(1, 8), st.integers(-50, 50), temperatures(0.1))
def test_equal_softmax_has_equal_winners_and_ranking(u: Tensor, c: int, temperature: float) -> None:
    # Every row with the softmax of u is u + c: built here from the probabilities, then rounded to
    # the integers that u is made of.
    back = temperature * log_softmax(u, temperature=temperature)
    v = (back - back[0] + u[0] + c).round()
    assert (4 * temperature * log_softmax_bound(u, temperature)).max() < 0.5
    p, q = softmax(u, temperature=temperature), softmax(v, temperature=temperature)
    assert torch.equal(p, q)
    assert equal_argmax((u, v))
    assert equal_ranking((u, v))


@pytest.mark.statement("equal-argmax-is-necessary")
@given(whole_row_pairs(), temperatures(0.5, 10.0))
def test_different_winners_have_different_softmax(pair: Pair, temperature: float) -> None:
    u, v = pair
    p, q = (softmax(z, temperature=temperature) for z in pair)
    # The winners can be read off the probabilities, so equal probabilities have equal winners.
    assert torch.equal(p == p.max(), u == u.max())
    assert torch.equal(q == q.max(), v == v.max())
    if not equal_argmax(pair):
        assert not torch.equal(p, q)


@pytest.mark.statement("equal-argmax-is-necessary")
@pytest.mark.parametrize(
    ("u", "v"),
    [
        pytest.param([0.0, 1.0], [0.0, 2.0], id="two classes"),
        pytest.param([1.0, 2.0, 3.0], [2.0, 1.0, 3.0], id="another ranking"),
        pytest.param([2.0, 2.0, 0.0], [2.0, 2.0, 1.0], id="the same tie"),
    ],
)
def test_equal_winners_do_not_make_equal_softmax(u: list[float], v: list[float]) -> None:
    pair = (torch.tensor(u, dtype=torch.float64), torch.tensor(v, dtype=torch.float64))
    assert equal_argmax(pair)
    p, q = (softmax(z) for z in pair)
    assert torch.equal(p == p.max(), q == q.max())
    rounding = sum(softmax_bound(z).max().item() for z in pair)
    assert (p - q).abs().max().item() > 0.01 > rounding
