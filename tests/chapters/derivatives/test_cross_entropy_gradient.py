"""The theorem `cross-entropy-gradient`: Gradient of the cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor
from torch.nn.functional import cross_entropy

from omnivault.softmax import log_softmax
from tests.chapters.derivatives.common import (
    FAR_BELOW,
    TEMPERATURE,
    U,
    Vector,
    distributions,
    loss_of,
    numbers,
    quotient,
    softmax_of,
    symbolic_softmax,
    symbols,
    vanishes,
)
from tests.support.strategies import (
    as_double,
    assert_within,
    row_pairs,
    rows,
    softmax_bound,
    temperatures,
)


def loss_gradient(p: Sequence[Any], y: Sequence[Any], temperature: Any = 1) -> Vector:
    total = sum(y)
    return [(total * a - b) / temperature for a, b in zip(p, y, strict=True)]


# Not all are distributions: negative numbers, a sum of zero, smoothing without renormalizing.
TARGETS = {
    "one-hot": [0.0, 1.0, 0.0],
    "soft": [0.25, 0.25, 0.5],
    "uniform": [1 / 3, 1 / 3, 1 / 3],
    "weighted": [0.0, 7.0, 0.0],
    "smoothed": [0.1, 1.0, 0.1],
    "signed": [1.0, -2.0, 0.5],
    "sum of zero": [1.0, -3.0, 2.0],
    "nothing": [0.0, 0.0, 0.0],
}
targets = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())


@pytest.mark.statement("cross-entropy-gradient", "exact", "torch")
@given(row_pairs(1, 5, bound=10.0), temperatures(0.1, 10.0))
def test_the_gradient_of_the_loss_for_any_targets(
    pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    x, y = (numbers(row) for row in pair)
    t = mp.mpf(temperature)
    formula = loss_gradient(softmax_of(x, t), y, t)
    for j, slope in enumerate(formula):
        assert_within(quotient(lambda a: loss_of(a, y, t), x, j), slope, FAR_BELOW)
    # The package's logarithm, differentiated by autograd: y up to 10, five of them.
    z = pair[0].clone().requires_grad_()
    loss = -(pair[1] * log_softmax(z, temperature=temperature)).sum()
    (gradient,) = torch.autograd.grad(loss, z)
    allowed = (50 * softmax_bound(pair[0], temperature) + 64 * U * 50) / temperature
    assert_within(gradient, as_double(formula), allowed)


@pytest.mark.statement("cross-entropy-gradient", "symbolic")
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_gradient_of_the_loss_in_symbols(k: int) -> None:
    z, y = symbols(k), list(sympy.symbols(f"y:{k}", real=True))
    p = symbolic_softmax(z)
    loss = -sum(b * sympy.log(q) for q, b in zip(p, y, strict=True))
    whole = {y[-1]: 1 - sum(y[:-1])}
    for x, q, b, slope in zip(z, p, y, loss_gradient(p, y, TEMPERATURE), strict=True):
        derivative = sympy.diff(loss, x)
        assert vanishes(derivative - slope)
        # With a sum of one it is p - y, and without it is not.
        short = (q - b) / TEMPERATURE
        assert vanishes((derivative - short).subs(whole))
        assert not vanishes(derivative - short)


@pytest.mark.statement("cross-entropy-gradient", "exact", "torch")
@pytest.mark.parametrize("temperature", [0.2, 1.0, 9.0])
@targets
def test_targets_of_every_kind(target: list[float], temperature: float) -> None:
    y = torch.tensor(target, dtype=torch.float64)
    for values in ([1.0, 2.0, 3.0], [2.0, 2.0, 2.0], [0.0, -300.0, 1.0]):
        z = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        p = as_double(softmax_of(numbers(z.detach()), mp.mpf(temperature)))
        loss = -(y * torch.log_softmax(z / temperature, -1)).sum()
        (gradient,) = torch.autograd.grad(loss, z)
        expected = (y.sum() * p - y) / temperature
        error = y.abs().sum() * (2 * softmax_bound(z.detach(), temperature) + 16 * U)
        assert_within(gradient, expected, error / temperature)
        if abs(y.sum().item() - 1) > 0.01:
            away = (gradient - (p - y) / temperature).abs().max()
            assert away.item() > 1e-3 / temperature
        # Adding a constant to z changes nothing, so the components sum to zero.
        total = gradient.sum().item()
        assert_within(total, 0.0, 64 * U * y.abs().sum().item() / temperature)


@pytest.mark.statement("cross-entropy-gradient", "exact", "torch")
@given(rows(2, 8, bound=20.0), st.data())
def test_of_a_label_it_is_p_less_one_there_and_p_elsewhere(z: Tensor, data: st.DataObject) -> None:
    label = data.draw(st.integers(0, len(z) - 1))
    logits = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(logits, torch.tensor(label)), logits)
    expected = as_double(softmax_of(numbers(z), 1))
    expected[label] -= 1
    # Torch's own exponential of a log-probability up to 42.
    assert_within(gradient, expected, softmax_bound(z) + 64 * U)
    assert gradient[label].item() <= 0
    assert bool((gradient[torch.arange(len(z)) != label] > 0).all())


@pytest.mark.statement("cross-entropy-gradient")
def test_one_class_has_nothing_to_learn() -> None:
    for target in (1.0, 3.0, -2.0, 0.0):
        z = torch.tensor([5.0], dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(-(target * log_softmax(z)).sum(), z)
        assert gradient.item() == 0.0
        assert loss_gradient([Fraction(1)], [Fraction(target)]) == [0]


@pytest.mark.statement("cross-entropy-gradient", "exact")
@given(distributions(2, 5), st.fractions(Fraction(1, 10), 10, max_denominator=10))
def test_it_vanishes_where_p_is_the_renormalized_target(p: list[Fraction], scale: Fraction) -> None:
    assert not any(loss_gradient(p, [scale * q for q in p]))
    # And at no other p.
    others = [p[-1], *p[:-1]]
    assert any(loss_gradient(others, [scale * q for q in p])) == (others != p)
