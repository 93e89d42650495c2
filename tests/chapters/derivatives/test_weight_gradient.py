"""The corollary `weight-gradient`: Gradients of the last layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from mpmath import mp
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from omnivault.softmax import log_softmax, softmax
from tests.chapters.derivatives.common import (
    FAR_BELOW,
    U,
    Vector,
    affine,
    layers,
    loss_of,
    quotient,
    softmax_of,
)
from tests.support.strategies import assert_within


@pytest.mark.statement("weight-gradient", "exact")
@settings(max_examples=40)
@given(layers())
def test_weights_bias_and_input_at_fifty_digits(
    layer: tuple[list[Vector], Vector, Vector, Vector],
) -> None:
    w, b, x, y = layer
    error = [p - q for p, q in zip(softmax_of(affine(w, x, b), 1), y, strict=True)]
    for k, slope in enumerate(error):
        assert_within(quotient(lambda c: loss_of(affine(w, x, c), y), b, k), slope, FAR_BELOW)
        for d in range(len(x)):

            def moved(row: Vector, k: int = k) -> Any:
                return loss_of(affine([*w[:k], row, *w[k + 1 :]], x, b), y)

            # Row k and column d of (p - y) x^T.
            assert_within(quotient(moved, w[k], d), slope * x[d], FAR_BELOW)
    for d in range(len(x)):
        slope = mp.fsum(e * row[d] for e, row in zip(error, w, strict=True))
        assert_within(quotient(lambda c: loss_of(affine(w, c, b), y), x, d), slope, FAR_BELOW)


@pytest.mark.statement("weight-gradient", "torch")
@pytest.mark.parametrize("soft", [False, True], ids=["label", "distribution"])
@pytest.mark.parametrize(("k", "d"), [(1, 1), (1, 4), (2, 1), (3, 4), (4, 3), (3, 3), (10, 2)])
def test_the_side_of_the_input_is_that_of_the_storage(k: int, d: int, soft: bool) -> None:
    generator = torch.Generator().manual_seed(k * 10 + d)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    weight, b, x = normal(k, d), normal(k), normal(d)
    y = torch.zeros(k, dtype=torch.float64)
    y[k // 2] = 1.0
    if soft:
        y = torch.softmax(normal(k), -1).detach()
    # A few roundings of numbers up to 10.
    allowed = 64 * 10 * U

    z = linear(x, weight, b)
    loss = cross_entropy(z, y) if soft else cross_entropy(z, torch.tensor(k // 2))
    to_weight, to_b, to_x = torch.autograd.grad(loss, (weight, b, x))
    error = softmax(z.detach()) - y
    features, rows_of_w = x.detach(), weight.detach()
    assert to_weight.shape == (k, d)
    assert_within(to_weight, torch.outer(error, features), allowed)
    assert_within(to_b, error, allowed)
    by_class = sum((error[i] * rows_of_w[i] for i in range(k)), torch.zeros(d).double())
    assert_within(to_x, by_class, allowed)

    stored = rows_of_w.T.clone().requires_grad_()
    ours = -(y * log_softmax(stored.T @ x + b)).sum()
    to_stored, to_b, to_x = torch.autograd.grad(ours, (stored, b, x))
    assert to_stored.shape == (d, k)
    assert_within(to_stored, torch.outer(features, error), allowed)
    assert_within(to_b, error, allowed)
    by_column = sum((error[i] * stored.detach()[:, i] for i in range(k)), torch.zeros(d).double())
    assert_within(to_x, by_column, allowed)
    if k == d > 1:
        # A square matrix hides a wrong side from shapes, not from numbers.
        assert (to_weight - torch.outer(features, error)).abs().max().item() > 1e-3


@pytest.mark.statement("weight-gradient", "torch")
def test_at_another_temperature_and_for_other_targets_there_are_other_factors() -> None:
    x = torch.tensor([1.0, -2.0], dtype=torch.float64)
    weight = torch.tensor([[0.5, 1.0], [2.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    y = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)

    def gradient(temperature: float, y: Tensor) -> Tensor:
        w = weight.clone().requires_grad_()
        loss = -(y * log_softmax(w @ x, temperature=temperature)).sum()
        (slope,) = torch.autograd.grad(loss, w)
        return slope

    p = softmax(weight @ x)
    assert_within(gradient(1.0, y), torch.outer(p - y, x), 64 * U)
    assert_within(gradient(1.0, 3 * y), torch.outer(3 * (p - y), x), 64 * U)
    p = softmax(weight @ x, temperature=2.0)
    assert_within(gradient(2.0, y), torch.outer(p - y, x) / 2, 64 * U)
