"""The proposition `lse-gradient`: Softmax is its gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import logsumexp, softmax, softmax_jacobian
from tests.chapters.properties.common import U
from tests.support.strategies import (
    as_double,
    assert_within,
    exact_softmax,
    logsumexp_bound,
    row_pairs,
    rows,
    softmax_bound,
    temperatures,
)


@pytest.mark.statement("lse-gradient", "exact", "torch")
@given(rows(1, 8), temperatures())
def test_the_gradient_of_the_smooth_maximum_is_softmax(z: Tensor, temperature: float) -> None:
    gradient = torch.func.grad(lambda x: logsumexp(x, temperature=temperature))(z)
    expected = as_double(exact_softmax(z, temperature))
    assert_within(gradient, expected, 2 * softmax_bound(z, temperature))
    # And the other way round: the gradient of torch's own is the package's softmax.
    p = torch.func.grad(lambda x: temperature * torch.logsumexp(x / temperature, -1))(z)
    # torch divides before it shifts, so that |z| / T is rounded where a gap was counted.
    drift = 4 * U * p * z.abs().max() / temperature
    assert_within(softmax(z, temperature=temperature), p, 2 * softmax_bound(z, temperature) + drift)


@pytest.mark.statement("lse-gradient")
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(
    "values",
    [[1.0, 5.0, 6.0, 3.0], [2.0, 2.0], [0.0, 0.0, 0.0], [3.0], [4.0, 4.0, -1.0]],
    ids=["distinct", "two tied", "three tied", "one class", "tie at the top"],
)
def test_the_gradient_is_a_difference_quotient(values: list[float], temperature: float) -> None:
    z = torch.tensor(values, dtype=torch.float64)
    h = 1e-5
    quotient = torch.stack(
        [
            (
                logsumexp(z + h * e, temperature=temperature)
                - logsumexp(z - h * e, temperature=temperature)
            )
            / (2 * h)
            for e in torch.eye(len(z), dtype=z.dtype)
        ]
    )
    # Third derivative at most 1 / T^2, times h^2 / 6; over h, rounding of values and of z + h.
    rounding = logsumexp_bound(z, temperature).item() + U * (z.abs().max().item() + h)
    allowed = h**2 / (6 * temperature**2) + rounding / h + 2 * U
    assert_within(softmax(z, temperature=temperature), quotient, allowed)


@pytest.mark.statement("lse-gradient", "exact", "torch")
@given(rows(1, 6, bound=10.0), temperatures(0.5, 10.0))
def test_the_hessian_of_the_smooth_maximum_is_the_jacobian_of_softmax(
    z: Tensor, temperature: float
) -> None:
    def smooth_maximum(x: Tensor) -> Tensor:
        return logsumexp(x, temperature=temperature)

    hessian = torch.func.jacrev(torch.func.grad(smooth_maximum))(z)
    # Autograd subtracts products of size p / T, with relative errors of gaps up to 40.
    allowed = (6 * 40 + 64) * U / temperature
    assert_within(hessian, softmax_jacobian(z, temperature=temperature), allowed)
    p = exact_softmax(z, temperature)
    exact = torch.stack(
        [
            as_double([((i == j) * a - a * b) / mp.mpf(temperature) for j, b in enumerate(p)])
            for i, a in enumerate(p)
        ]
    )
    assert_within(hessian, exact, allowed)


@pytest.mark.statement("lse-gradient", "exact")
@given(row_pairs(1, 8, bound=10.0), temperatures(0.5, 10.0))
def test_the_quadratic_form_is_a_variance(pair: tuple[Tensor, Tensor], temperature: float) -> None:
    z, v = pair
    form = (v @ softmax_jacobian(z, temperature=temperature) @ v).item()
    p = exact_softmax(z, temperature)
    mean = mp.fsum(a * b for a, b in zip(p, v.tolist(), strict=True))
    variance = mp.fsum(a * (mp.mpf(b) - mean) ** 2 for a, b in zip(p, v.tolist(), strict=True))
    # Products of size v^2 / T that cancel; p has relative errors of gaps up to 40.
    allowed = (6 * 40 + 64) * U * 100 / temperature
    assert_within(form, variance / temperature, allowed)
    assert form >= -allowed


@pytest.mark.statement("lse-gradient")
@given(row_pairs(1, 8), st.floats(0.0, 1.0), temperatures())
def test_the_smooth_maximum_is_convex(
    pair: tuple[Tensor, Tensor], weight: float, temperature: float
) -> None:
    u, v = pair
    between = logsumexp(weight * u + (1 - weight) * v, temperature=temperature).item()
    ends = [logsumexp(z, temperature=temperature).item() for z in pair]
    # The point between is rounded by 3 u |z|, and its value moves by no more than it does.
    allowed = sum(logsumexp_bound(z, temperature).item() for z in pair) * 2 + 8 * U * 30
    assert between <= weight * ends[0] + (1 - weight) * ends[1] + allowed
