"""The theorem `label-smoothing`: What label smoothing asks for."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor
from torch.nn.functional import cross_entropy as loss_of_logits

from omnivault.information import cross_entropy
from omnivault.softmax import softmax
from tests.chapters.cross_entropy_kl.common import (
    NOTHING,
    Row,
    assert_close,
    mp_log_softmax,
    same,
    vertex,
)
from tests.support.strategies import (
    as_double,
    assert_within,
    exact_log_softmax,
    number,
    rows,
    whole_rows,
)

EPSILONS = [Fraction(1, 10**12), Fraction(1, 10), Fraction(1, 2), 1 - Fraction(1, 10**12)]
on_epsilons = pytest.mark.parametrize("eps", EPSILONS, ids=lambda e: f"{float(e):.12g}")


def smoothed(k: int, eps: Fraction) -> Row:
    """The target for the label 0."""
    return tuple((1 - eps) * x + eps / k for x in vertex(k, 0))


def smoothed_loss(log_p: Sequence[Any], eps: Fraction) -> Any:
    return mp.fsum(-number(a) * b for a, b in zip(smoothed(len(log_p), eps), log_p, strict=True))


def stated_gap(k: int, eps: Fraction) -> Any:
    return mp.log(number(1 + k * (1 - eps) / eps))


@pytest.mark.statement("label-smoothing", "exact", "torch")
@on_epsilons
@settings(max_examples=50)
@given(rows(2, 6))
def test_smoothing_adds_a_price_for_confidence(eps: Fraction, z: Tensor) -> None:
    k, log_p = len(z), exact_log_softmax(z)
    from_uniform = mp.fsum((-mp.log(k) - b) / k for b in log_p)
    exact = number(1 - eps) * -log_p[0] + number(eps) * (mp.log(k) + from_uniform)
    assert_within(smoothed_loss(log_p, eps), exact, NOTHING)
    by_torch = loss_of_logits(z, torch.tensor(0), label_smoothing=float(eps))
    assert_close(by_torch.item(), exact)
    assert_close(cross_entropy(as_double(smoothed(k, eps)), softmax(z)).item(), exact)


@pytest.mark.statement("label-smoothing", "exact")
@on_epsilons
@settings(max_examples=50)
@given(whole_rows(2, 6, 2), st.sampled_from([0, 6]))
def test_the_least_smoothed_loss_is_at_the_stated_gap_and_nowhere_else(
    eps: Fraction, step: Tensor, digits: int
) -> None:
    k = len(step)
    best = [stated_gap(k, eps)] + [mp.mpf(0)] * (k - 1)
    at_best = mp_log_softmax(best)
    assert all(same(mp.exp(a), number(b)) for a, b in zip(at_best, smoothed(k, eps), strict=True))
    other = [b + mp.mpf(s) / 10**digits for b, s in zip(best, step.tolist(), strict=True)]
    excess = smoothed_loss(mp_log_softmax(other), eps) - smoothed_loss(at_best, eps)
    assert excess > -NOTHING
    assert (excess < NOTHING) == (len(step.unique()) == 1)  # a shift of all logits
