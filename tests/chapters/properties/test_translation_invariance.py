"""The theorem `translation-invariance`: Translation invariance, and no more."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from omnivault.softmax import log_softmax, softmax
from tests.chapters.properties.common import U, is_constant
from tests.support.strategies import (
    DTYPES,
    assert_within,
    log_softmax_bound,
    rows,
    softmax_bound,
    temperatures,
    whole_row_pairs,
    whole_rows,
)


@pytest.mark.statement("translation-invariance")
@given(rows(), st.floats(-1e3, 1e3), temperatures())
def test_adding_a_constant_changes_nothing(z: Tensor, c: float, temperature: float) -> None:
    moved = z + c
    # z + c is rounded, by u |z + c|, which exp turns into a relative error |z + c| u / T.
    p = softmax(z, temperature=temperature)
    drift = U * moved.abs().max() / temperature
    allowed = 2 * softmax_bound(z, temperature) + 3 * p * drift * (1 + drift)
    assert_within(softmax(moved, temperature=temperature), p, allowed)


@pytest.mark.statement("translation-invariance")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(z=whole_rows(), c=st.integers(-100, 100), temperature=temperatures(0.01))
def test_integers_are_moved_without_changing_a_bit(
    dtype: torch.dtype, z: Tensor, c: int, temperature: float
) -> None:
    # Integers up to 128 are exact in every dtype, and so are their sums and differences.
    p = softmax(z.to(dtype), temperature=temperature)
    assert torch.equal(softmax((z + c).to(dtype), temperature=temperature), p)
    log_p = log_softmax(z.to(dtype), temperature=temperature)
    assert torch.equal(log_softmax((z + c).to(dtype), temperature=temperature), log_p)


@pytest.mark.statement("translation-invariance")
@given(whole_row_pairs(), temperatures(0.25, 20.0))
def test_equal_outputs_need_inputs_that_differ_by_a_constant(
    pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    u, v = pair
    p, q = (softmax(z, temperature=temperature) for z in pair)
    assert torch.equal(p, q) == is_constant(u - v)
    # And by how much they differ otherwise: the spread of log p - log q is that of (u - v) / T.
    change = log_softmax(u, temperature=temperature) - log_softmax(v, temperature=temperature)
    spread = ((u - v).max() - (u - v).min()) / temperature
    allowed = 4 * (log_softmax_bound(u, temperature) + log_softmax_bound(v, temperature)).max()
    assert_within(change.max() - change.min(), spread, allowed)


@pytest.mark.statement("translation-invariance")
@given(rows(2, 8), st.floats(-10.0, 10.0), temperatures())
def test_whatever_has_the_same_softmax_differs_by_a_constant(
    u: Tensor, c: float, temperature: float
) -> None:
    # Log-ratios recover the logits: v is built from the probabilities alone.
    v = temperature * log_softmax(u, temperature=temperature) + c
    assert_within(
        softmax(v, temperature=temperature),
        softmax(u, temperature=temperature),
        softmax_bound(u, temperature) * 4 + 8 * U * v.abs().max() / temperature,
    )
    difference = u - v
    allowed = temperature * log_softmax_bound(u, temperature) + 4 * U * (u.abs() + v.abs() + abs(c))
    assert_within(difference, difference.mean().expand_as(u), 2 * allowed.max())


@pytest.mark.statement("translation-invariance")
def test_in_floating_point_more_inputs_share_an_output() -> None:
    u, v = torch.tensor([0.0, -200.0]), torch.tensor([0.0, -300.0])
    assert torch.equal(softmax(u), softmax(v))
    assert not torch.equal(softmax(u.double()), softmax(v.double()))
    assert not torch.equal(log_softmax(u), log_softmax(v))


@pytest.mark.statement("translation-invariance")
def test_in_floating_point_a_constant_can_swallow_the_logits() -> None:
    # 1 is a quarter of the spacing of float32 at 5e7: the sum is rounded before any softmax.
    z = torch.tensor([0.0, 1.0])
    assert softmax(z + 5e7).tolist() == [0.5, 0.5]
    assert_within(softmax(z)[1], 1 / (1 + math.exp(-1)), softmax_bound(z)[1])
