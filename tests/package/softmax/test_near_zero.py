"""The normalizer without its leading 1: what is near 0 keeps its digits."""

from __future__ import annotations

import pytest
import torch
from mpmath import mp
from torch import Tensor

from omnivault.softmax import log_softmax, logsumexp, softmax
from tests.package.softmax.common import INF
from tests.support.strategies import SINGLE_DOUBLE, as_double, assert_within, smallest, unit

both = pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)


@pytest.mark.parametrize("gap", [0.5, 5.0, 15.0, 20.0, 60.0, 100.0, 700.0])
@pytest.mark.parametrize("others", [1, 3])
@both
def test_near_certainty(gap: float, others: int, dtype: torch.dtype) -> None:
    # log(1 + s) was that of a rounded 1 + s: 0 in float32 from a gap of 17 on.
    z = torch.tensor([0.0, *[-gap] * others], dtype=dtype)
    exact = mp.log1p(others * mp.exp(-gap))
    expected = torch.tensor(float(exact), dtype=torch.float64)
    # exp and log1p to 4 units in the last place, and a sum of two or three.
    bound = 20 * unit(dtype) * expected + 2 * smallest(dtype)
    assert_within(logsumexp(z), expected, bound)
    assert_within(log_softmax(z)[0], -expected, bound)
    assert_within(
        logsumexp(z, temperature=0.5),
        float(mp.log1p(others * mp.exp(-2 * gap)) / 2) * torch.ones((), dtype=torch.float64),
        bound,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_rounded_from_that(dtype: torch.dtype) -> None:
    z = torch.tensor([0.0, -10.0], dtype=dtype)
    assert torch.equal(logsumexp(z), logsumexp(z.float()).to(dtype))
    assert logsumexp(z).item() > 0


@pytest.mark.parametrize("tied", [2, 3])
def test_ties_at_the_top_have_equal_gradients(tied: int) -> None:
    z = torch.zeros(4, dtype=torch.float64)
    z[tied:] = -3.0
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(logsumexp(z), z)
    assert_within(gradient, softmax(z.detach()), rel=8 * unit(torch.float64))
    assert len(set(gradient[:tied].tolist())) == 1


@both
def test_gradient_of_many_equal_logits_has_its_digits(dtype: torch.dtype) -> None:
    # 1 - s / (1 + s) for the leader would lose them all.
    z = torch.zeros(50_000, dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(logsumexp(z), z)
    assert_within(gradient, torch.full((50_000,), 2e-5, dtype=torch.float64), rel=16 * unit(dtype))


# Each row: logits, logsumexp, log_softmax of the first.
NOT_FINITE = {
    "all -inf": ([-INF, -INF], -INF, None),
    "+inf": ([INF, 1.0], INF, None),
    "one class": ([3.0], 3.0, 0.0),
    "one class and -inf": ([-INF, 3.0], 3.0, -INF),
}


@pytest.mark.parametrize(("values", "total", "first"), NOT_FINITE.values(), ids=NOT_FINITE.keys())
@both
def test_what_the_table_of_the_module_says(
    values: list[float], total: float, first: float | None, dtype: torch.dtype
) -> None:
    z = torch.tensor(values, dtype=dtype)
    assert logsumexp(z).item() == total
    if first is None:
        assert log_softmax(z).isnan().all()
    else:
        assert log_softmax(z)[0].item() == first


def plain_shift(z: Tensor, temperature: float) -> Tensor:
    return torch.softmax((z - z.max()) / temperature, -1)


@pytest.mark.parametrize("temperature", [1e38, 3e38])
def test_the_difference_of_two_finite_logits_may_overflow(temperature: float) -> None:
    z = torch.tensor([3e38, -3e38])
    exact = [1 / (1 + mp.exp(-6e38 / mp.mpf(temperature)))]
    expected = as_double([exact[0], 1 - exact[0]])
    assert_within(softmax(z, temperature=temperature), expected, 32 * unit(torch.float32))
    assert plain_shift(z, temperature).tolist() == [1.0, 0.0]


@both
def test_the_smallest_temperature_with_flushed_subnormals(dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).tiny
    z = torch.tensor([0.0, -tiny], dtype=dtype)
    expected = as_double([1 / (1 + mp.exp(-1)), 1 / (1 + mp.exp(1))])
    torch.set_flush_denormal(True)  # a processor that cannot gives the same numbers
    try:
        p = softmax(z, temperature=tiny)
        far = softmax(torch.tensor([5.0, 4.0], dtype=dtype), temperature=tiny)
    finally:
        torch.set_flush_denormal(False)
    assert_within(p, expected, 32 * unit(dtype))
    assert far.tolist() == [1.0, 0.0]
