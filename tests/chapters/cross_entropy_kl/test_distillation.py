"""The theorem `distillation`: The gradient of distillation."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from mpmath import mp
from torch import Tensor
from torch.nn.functional import kl_div

from omnivault.softmax import log_softmax, softmax
from tests.chapters.cross_entropy_kl.common import NOTHING, ZERO, U, mp_log_softmax
from tests.support.strategies import (
    as_double,
    assert_within,
    exact_softmax,
    number,
    row_pairs,
    softmax_bound,
    temperatures,
    whole_row_pairs,
)

Tensors = tuple[Tensor, Tensor]


def soft_loss(v: Sequence[Any], z: Sequence[Any], t: Any) -> Any:
    a, b = mp_log_softmax(v, t), mp_log_softmax(z, t)
    return mp.fsum(mp.exp(x) * (x - y) for x, y in zip(a, b, strict=True))


@pytest.mark.statement("distillation", "exact", "torch")
@settings(max_examples=60)
@given(row_pairs(1, 5, 10.0), temperatures(0.1, 1e4))
def test_the_gradient_of_distillation(pair: Tensors, t: float) -> None:
    v, z = pair
    sides = zip(exact_softmax(z, t), exact_softmax(v, t), strict=True)
    stated = [(a - b) / t for a, b in sides]
    h = mp.mpf(10) ** -13
    for i, slope in enumerate(stated):
        up, down = ([x + s * h * (i == j) for j, x in enumerate(z.tolist())] for s in (1, -1))
        found = (soft_loss(v.tolist(), up, t) - soft_loss(v.tolist(), down, t)) / (2 * h)
        assert_within(found, slope, 1e-20)
    x = z.clone().requires_grad_()
    loss = kl_div(log_softmax(x, temperature=t), softmax(v, temperature=t), reduction="sum")
    (by_torch,) = torch.autograd.grad(loss, x)
    # A difference of the two softmaxes, after the teacher's probabilities were added.
    off = softmax_bound(z, t) + softmax_bound(v, t) + softmax_bound(v, t).sum() + 16 * U
    assert_within(by_torch, as_double(stated), off / t)


@pytest.mark.statement("distillation", "exact")
@given(whole_row_pairs(1, 6, 5))
def test_with_its_factor_the_gradient_tends_to_that_of_least_squares(pair: Tensors) -> None:
    v, z = (row.tolist() for row in pair)
    k = len(v)
    differences = [Fraction(b) - Fraction(a) for a, b in zip(v, z, strict=True)]
    d = [number(x - sum(differences, ZERO) / k) for x in differences]
    squares = mp.fdot(d, d) / (2 * k)
    for digits in (5, 9):  # the next term of the series is of order 1 / T
        t = mp.mpf(10) ** digits
        sides = zip(mp_log_softmax(v, t), mp_log_softmax(z, t), d, strict=True)
        assert all(abs(t * (mp.exp(b) - mp.exp(a)) - x / k) < 100 / t for a, b, x in sides)
        assert abs(t**2 * soft_loss(v, z, t) - squares) < 1000 / t
    # Zero if and only if the logits differ by a shift, and then at every temperature.
    assert (squares == 0) == (len(set(differences)) == 1)
    assert all((abs(soft_loss(v, z, t)) < NOTHING) == (squares == 0) for t in (0.5, 1, 100))
