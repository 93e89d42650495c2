"""Derivatives that exist, at the ends of what probabilities and natural parameters can be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mpmath import mp
from torch import Tensor
from torch.func import jacfwd, jacrev

from omnivault.distributions import Bernoulli, Categorical, Multinomial
from tests.package.distributions.common import INF
from tests.support.strategies import SINGLE_DOUBLE, as_double, assert_within, sigma, smallest, unit

both = pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
T = torch.tensor


def slopes(value: Tensor, at: Tensor) -> Any:
    (slope,) = torch.autograd.grad(value.sum(), at)
    return slope.tolist()


@both
@pytest.mark.parametrize(
    ("pi", "y", "of_pmf", "of_log"),
    [
        (0.0, 0, -1, -1),
        (0.0, 1, 1, INF),
        (1.0, 1, 1, 1),
        (1.0, 0, -1, -INF),
        (0.25, 1, 1, 4),
        (0.75, 0, -1, -4),
        (0.0, 2, 0, 0),
        (1.0, 2, 0, 0),
    ],
)
def test_one_event(dtype: torch.dtype, pi: float, y: int, of_pmf: float, of_log: float) -> None:
    p = T(pi, dtype=dtype, requires_grad=True)
    assert slopes(Bernoulli(p).pmf(T(y)), p) == of_pmf
    assert slopes(Bernoulli(p).log_pmf(T(y)), p) == of_log


@both
def test_outcomes_that_cannot_happen_and_did_not(dtype: torch.dtype) -> None:
    p = T([0.5, 0.5, 0.0], dtype=dtype, requires_grad=True)
    assert slopes(Categorical(p).pmf(T(0)), p) == [1, 0, 0]
    assert slopes(Categorical(p).log_pmf(T(0)), p) == [2, 0, 0]
    assert slopes(Categorical(p).log_pmf(T([0, 1, 1, 3])), p) == [2, 4, 0]
    y = T([1, 1, 0])
    assert slopes(Multinomial(2, p).log_pmf(y), p) == [2, 2, 0]
    # The value is off by 2^-43 times a few; float32 does not see it.
    pmf = T(slopes(Multinomial(2, p).pmf(y), p), dtype=torch.float64)
    assert_within(pmf, T([1.0, 1.0, 0.0]).double(), bound=2.0**-40 + unit(dtype))


@both
def test_outcomes_that_cannot_happen_and_did(dtype: torch.dtype) -> None:
    p = T([0.5, 0.5, 0.0], dtype=dtype, requires_grad=True)
    assert slopes(Categorical(p).pmf(T(2)), p) == [0, 0, 1]
    assert slopes(Categorical(p).log_pmf(T(2)), p) == [0, 0, INF]
    # Of 2 p_1 p_3 and of 3 p_1 p_3^2.
    for n, y, last in ((2, [1, 0, 1], 1.0), (3, [1, 0, 2], 0.0)):
        pmf = T(slopes(Multinomial(n, p).pmf(T(y)), p), dtype=torch.float64)
        assert_within(pmf, T([0.0, 0.0, last]).double(), bound=2.0**-40 + unit(dtype))
        assert slopes(Multinomial(n, p).log_pmf(T(y)), p) == [2, 0, INF]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # PyTorch's own
def test_in_both_modes_and_twice() -> None:
    p = T([0.5, 0.5, 0.0], dtype=torch.float64)
    for f, slope, curvature in (
        (lambda p: Categorical(p).log_pmf(T(0)), [2, 0, 0], [-4, 0, 0]),
        (lambda p: Multinomial(2, p).log_pmf(T([1, 1, 0])), [2, 2, 0], [-4, -4, 0]),
    ):
        assert jacrev(f)(p).tolist() == jacfwd(f)(p).tolist() == slope
        assert torch.equal(jacrev(jacrev(f))(p), torch.diag(T(curvature).double()))


@pytest.mark.parametrize("y", [[1, 1, 0], [1, 0, 1]], ids=str)
def test_a_logit_of_minus_infinity(y: list[int]) -> None:
    eta = T([0.0, 0.0, -INF], dtype=torch.float64, requires_grad=True)
    many = Multinomial.from_natural(2, eta)
    assert not any(x != x for x in slopes(many.log_pmf(T(y)), eta) + slopes(many.pmf(T(y)), eta))
    assert slopes(Categorical.from_natural(eta).log_pmf(T(0)), eta) == [0.5, -0.5, 0]


@both
def test_the_log_partition_of_one_event_and_two_derivatives(dtype: torch.dtype) -> None:
    sizes = [2.0**k for k in range(-60, 11)] + [50.0, 80.0, 87.0, 88.5, 89.0, 100.0, 103.0, 745.0]
    eta = T([*(-x for x in sizes), 0.0, *sizes], dtype=dtype, requires_grad=True)
    numbers = [mp.mpf(x) for x in eta.tolist()]
    value = Bernoulli.log_partition(eta)
    (slope,) = torch.autograd.grad(value.sum(), eta, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), eta)
    exact = [mp.log1p(mp.exp(x)) for x in numbers]
    for found, expected, u in (
        # The exponential, its logarithm and their sum; a quotient of exponentials; two of them.
        (value, exact, 20),
        (slope, [sigma(x) for x in numbers], 24),
        (curvature, [sigma(x) * sigma(-x) for x in numbers], 48),
    ):
        right = as_double(expected)
        # Some processors take what is below the normal numbers for 0.
        off = u * unit(dtype) * right + torch.finfo(dtype).tiny
        assert_within(found.detach(), right, off + smallest(dtype))


@both
def test_log_pmf_of_one_event_far_out(dtype: torch.dtype) -> None:
    eta = T([100.0, -100.0], dtype=dtype, requires_grad=True)
    for y in (0, 1):
        value = Bernoulli.from_natural(eta).log_pmf(T(y))
        (slope,) = torch.autograd.grad(value.sum(), eta, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), eta)
        exact = as_double([sigma(-x) if y else -sigma(x) for x in (100, -100)])
        assert_within(slope.detach(), exact, 24 * unit(dtype) * exact.abs() + smallest(dtype))
        exact = as_double([-sigma(x) * sigma(-x) for x in (100, -100)])
        assert_within(curvature, exact, 48 * unit(dtype) * exact.abs() + torch.finfo(dtype).tiny)
