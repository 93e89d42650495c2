"""The theorem `vjp`: The vector-Jacobian product."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from omnivault.softmax import SoftmaxFunction, softmax, softmax_jacobian, softmax_vjp
from tests.chapters.derivatives.common import (
    FAR_BELOW,
    TEMPERATURE,
    U,
    Vector,
    distributions,
    edges,
    fractions,
    jacobian_formula,
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
    inner,
    row_pairs,
    softmax_bound,
    temperatures,
    whole_row_pairs,
)

# Torch gives it no type.
function: Callable[[Any, Any], Tensor] = SoftmaxFunction.apply


def vjp_formula(p: Sequence[Any], v: Sequence[Any], temperature: Any = 1) -> Vector:
    mean = sum(a * b for a, b in zip(p, v, strict=True))
    return [a * (b - mean) / temperature for a, b in zip(p, v, strict=True)]


@pytest.mark.statement("vjp", "exact")
@given(st.data(), st.fractions(Fraction(1, 100), 100, max_denominator=100))
def test_the_product_is_the_transposed_jacobian_times_the_vector(
    data: st.DataObject, t: Fraction
) -> None:
    p = data.draw(distributions())
    v = data.draw(fractions(len(p)))
    jacobian = jacobian_formula(p, t)
    product = vjp_formula(p, v, t)
    assert product == [sum(jacobian[i][j] * v[i] for i in range(len(p))) for j in range(len(p))]
    assert sum(product) == 0
    # Zero if and only if v is constant; one class has no other v.
    assert (not any(product)) == (len(set(v)) == 1)
    assert not any(vjp_formula(p, [v[0]] * len(p), t))


@pytest.mark.statement("vjp", "symbolic")
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_both_gradients_in_symbols(k: int) -> None:
    z, v = symbols(k), list(sympy.symbols(f"v:{k}", real=True))
    p = symbolic_softmax(z)
    loss = inner(v, p)
    g = vjp_formula(p, v, TEMPERATURE)
    for x, slope in zip(z, g, strict=True):
        assert vanishes(sympy.diff(loss, x) - slope)
    assert vanishes(sum(g))
    assert vanishes(sympy.diff(loss, TEMPERATURE) + inner(g, z) / TEMPERATURE)


@pytest.mark.statement("vjp", "exact")
@settings(max_examples=50)
@given(row_pairs(1, 5, bound=10.0), temperatures(0.1, 10.0))
def test_both_gradients_are_difference_quotients(
    pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    x, v = (numbers(row) for row in pair)
    t = mp.mpf(temperature)

    # v is the gradient of this loss, which is linear, and of any other up to second order.
    def loss(x: Vector, t: Any) -> Any:
        return mp.fsum(a * b for a, b in zip(softmax_of(x, t), v, strict=True))

    g = vjp_formula(softmax_of(x, t), v, t)
    for j, slope in enumerate(g):
        assert_within(quotient(lambda y: loss(y, t), x, j), slope, FAR_BELOW)
    slope = -mp.fsum(a * b for a, b in zip(g, x, strict=True)) / t
    # The third derivative for T is of the size of |v| (gap / T)^3 / T^3, up to 1e11.
    assert_within(quotient(lambda s: loss(x, s[0]), [t], 0), slope, mp.mpf("1e-18"))


@pytest.mark.statement("vjp", "exact", "torch")
@given(row_pairs(1, 8, bound=10.0), temperatures(0.5, 10.0))
def test_the_package_sends_gradients_through(
    pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    z, v = pair
    t = mp.mpf(temperature)
    exact = vjp_formula(softmax_of(numbers(z), t), numbers(v), t)
    # v up to 10, the mean of it too; p is off by 3 gaps of 40 and as many for their mean.
    allowed = (6 * 40 + 64) * U * 20 / temperature
    p = softmax(z, temperature=temperature)
    assert_within(softmax_vjp(p, v, temperature=temperature), as_double(exact), allowed)

    logits = z.clone().requires_grad_()
    warmth = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    to_z, to_t = torch.autograd.grad(function(logits, warmth), (logits, warmth), v)
    assert_within(to_z, as_double(exact), allowed)
    slope = float(-mp.fsum(a * b for a, b in zip(exact, numbers(z), strict=True)) / t)
    # Logits up to 10, gaps up to 20; eight of them are added up.
    assert_within(to_t.item(), slope, 8 * allowed * 20 / temperature)
    # And torch's own, which divides before it subtracts.
    plain = torch.softmax(logits / warmth, -1)
    for ours, theirs in zip(
        (to_z, to_t), torch.autograd.grad(plain, (logits, warmth), v), strict=True
    ):
        assert_within(ours, theirs, 16 * allowed * 20 / temperature)


@pytest.mark.statement("vjp", "exact")
@pytest.mark.parametrize("temperature", [0.3, 1.0, 20.0])
@edges
def test_both_gradients_at_the_edges(values: list[float], temperature: float) -> None:
    z = torch.tensor(values, dtype=torch.float64)
    v = torch.tensor([1.0, -2.0, 0.5, 3.0, 3.0], dtype=torch.float64)[: len(z)]
    t = mp.mpf(temperature)
    exact = vjp_formula(softmax_of(numbers(z), t), numbers(v), t)
    logits = z.clone().requires_grad_()
    warmth = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    to_z, to_t = torch.autograd.grad(function(logits, warmth), (logits, warmth), v)
    # Five classes, |v - mean| up to 5, and as much for the errors of p in the mean. Where p is 1
    # the mean of v cancels v to a few u.
    allowed = 10 * softmax_bound(z, temperature) + 32 * U
    assert_within(to_z, as_double(exact), allowed / temperature)
    slope = float(-mp.fsum(a * b for a, b in zip(exact, numbers(z), strict=True)) / t)
    # The logits enter shifted: by gaps, not by their level.
    gap = (z.max() - z) / temperature
    # Equal gaps leave 1e-50 of the 50 digits.
    allowed = (8 * allowed * gap + 8 * U * gap).sum() / temperature + 8 * U * abs(slope) + 1e-45
    assert_within(to_t, torch.tensor(slope, dtype=torch.float64), allowed)
    if len(z) == 1:
        assert to_z.tolist() == [0.0]
        assert to_t.item() == 0.0


@pytest.mark.statement("vjp")
@given(whole_row_pairs(1, 6, bound=5), temperatures(1.0, 10.0))
def test_in_floating_point_constants_leave_noise_and_all_else_more(
    pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    z, v = pair
    p = softmax(z, temperature=temperature)
    g = softmax_vjp(p, v, temperature=temperature)
    assert_within(math.fsum(g.tolist()), 0.0, 64 * U * 5 / temperature)
    if bool((v == v[0]).all()):
        # The mean of v is |v| times a sum of p that is 1 to K / 2 roundings.
        assert_within(g, torch.zeros_like(g), 16 * U * 5 / temperature)
    else:
        # The class of the largest v has v - mean at least the least p, exp(-10) / 6 = 7e-6.
        least = p.min().item() ** 2 / temperature
        # Rounding, 65 u of p, takes less than a thousandth of that.
        assert g.abs().max().item() >= least * (1 - 1e-3) > 4e-12


class Work(TorchDispatchMode):
    """How many numbers the operations write, and how many the largest of them writes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.written = 0
        self.largest = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        size = result.numel() if isinstance(result, Tensor) else 0
        self.written += size
        self.largest = max(self.largest, size)
        return result


@pytest.mark.statement("vjp")
@pytest.mark.parametrize("k", [1, 10, 1000, 49_152])
def test_both_gradients_take_a_number_of_operations_that_grows_as_k(k: int) -> None:
    generator = torch.Generator().manual_seed(1)
    z, v = torch.randn(2, k, generator=generator)
    p = softmax(z, temperature=0.7)
    with Work() as work:
        softmax_vjp(p, v, temperature=0.7)
    assert k <= work.written <= 10 * k + 10
    assert work.largest == k

    logits, warmth = z.requires_grad_(), torch.tensor(0.7, requires_grad=True)
    output = function(logits, warmth)
    with Work() as work:
        torch.autograd.grad(output, (logits, warmth), v)
    assert k <= work.written <= 25 * k + 25
    assert work.largest == k

    if k == 1000:
        # What counts the work sees a matrix.
        with Work() as work:
            softmax_jacobian(z.detach())
        assert work.largest == k * k
