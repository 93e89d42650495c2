"""The corollary `argmax-invariance`."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from omnivault.softmax import log_softmax, softmax
from tests.chapters.properties.common import above
from tests.support.strategies import DTYPES, finite_rows, temperatures, whole_rows


@pytest.mark.statement("argmax-invariance")
@given(whole_rows(1, 8), st.lists(temperatures(0.01, 1e4), min_size=2, max_size=5))
def test_ranking_and_argmax_set_are_those_of_the_logits_at_every_temperature(
    z: Tensor, several: list[float]
) -> None:
    for temperature in several:
        log_p = log_softmax(z, temperature=temperature)
        # The logarithm does not underflow: gaps of 1e-4 to 2000.
        assert torch.equal(above(log_p), above(z))
        p = softmax(z, temperature=temperature)
        assert torch.equal(p == p.max(), z == z.max())


@pytest.mark.statement("argmax-invariance")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [1e-30, 1e-3, 0.7, 1.0, 20.0])
@pytest.mark.parametrize(
    ("values", "winners"),
    [
        pytest.param([2.0, 1.0, 3.0, 5.0, 4.0], [3], id="the example"),
        pytest.param([1.0, 3.0, 3.0], [1, 2], id="two tied"),
        pytest.param([4.0, 4.0, 4.0], [0, 1, 2], id="all tied"),
        pytest.param([-2.0, 7.0], [1], id="two classes"),
        pytest.param([5.0], [0], id="one class"),
        pytest.param([-math.inf, 0.0, -1.0], [1], id="masked"),
    ],
)
def test_winners_are_the_same_at_every_temperature(
    values: list[float], winners: list[int], temperature: float, dtype: torch.dtype
) -> None:
    p = softmax(torch.tensor(values, dtype=dtype), temperature=temperature)
    assert (p == p.max()).nonzero().flatten().tolist() == winners


@pytest.mark.statement("argmax-invariance")
@given(st.data(), temperatures(1e-30, 1e30))
def test_in_floating_point_the_winners_still_win_but_may_get_company(
    data: st.DataObject, temperature: float
) -> None:
    for dtype in DTYPES:
        z = data.draw(finite_rows(dtype))
        p = softmax(z, temperature=temperature)
        assert bool((p == p.max())[z == z.max()].all())
