"""Entropy and divergence of the softmax of logits, and gradients where a probability is 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.information import (
    cross_entropy,
    entropy,
    entropy_from_logits,
    kl_divergence,
    kl_divergence_from_logits,
)
from omnivault.softmax import log_softmax, softmax
from tests.support.strategies import (
    DTYPES,
    HALF,
    SINGLE_DOUBLE,
    arithmetic,
    assert_within,
    exact_log_softmax,
    row_pairs,
    rows,
    smallest,
    temperatures,
    unit,
)

INF = math.inf


def exact_entropy(z: Tensor, temperature: float = 1.0) -> Any:
    with mp.workdps(500):  # so that 1 + e^-600 is not 1
        logs = exact_log_softmax(z, temperature)
        return -mp.fsum(mp.exp(x) * x for x in logs)


def exact_divergence(z: Tensor, w: Tensor, temperature: float = 1.0) -> Any:
    with mp.workdps(500):
        first, second = (exact_log_softmax(x, temperature) for x in (z, w))
        return mp.fsum(mp.exp(a) * (a - b) for a, b in zip(first, second, strict=True))


def relative_bound(z: Tensor, temperature: float) -> float:
    """A gap r is rounded three times, and e^-r and log p = -r - log S with it; K terms are added.

    A term p log p is off by 3 u r for p and by 3 u r for its logarithm, which is r at least; that
    of the largest p, by 3 u times the mean gap of the others, as is their sum.
    """
    gap = (z.double().max() - z.double().min()).item() / temperature
    return unit(arithmetic(z.dtype)) * (9 * gap + 4 * math.log2(len(z) + 1) + 60)


@given(st.data(), temperatures(0.1, 50.0))
def test_entropy_against_fifty_digits(data: st.DataObject, temperature: float) -> None:
    for dtype in SINGLE_DOUBLE:
        z = data.draw(rows(dtype=dtype))
        expected = torch.tensor(float(exact_entropy(z, temperature)), dtype=torch.float64)
        value = entropy_from_logits(z, temperature=temperature)
        bound = relative_bound(z, temperature) * expected + len(z) * 200 * smallest(dtype)
        assert_within(value, expected, bound)


@pytest.mark.parametrize("gap", [1.0, 15.0, 20.0, 60.0, 80.0])
@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
def test_entropy_of_near_certainty_has_its_digits(gap: float, dtype: torch.dtype) -> None:
    # -p log p of the larger is rounded to 0 from a p that is rounded to 1: 5 % of the entropy at
    # a gap of 20.
    z = torch.tensor([0.0, -gap], dtype=dtype)
    expected = torch.tensor(float(exact_entropy(z)), dtype=torch.float64)
    assert_within(entropy_from_logits(z), expected, rel=64 * unit(dtype))


@given(row_pairs(2, 6, bound=8.0), st.integers(0, 30), temperatures(0.5, 5.0))
def test_divergence_against_fifty_digits(
    pair: tuple[Tensor, Tensor], halvings: int, temperature: float
) -> None:
    for dtype in SINGLE_DOUBLE:
        z = pair[0].to(dtype)
        w = z + pair[1].to(dtype) * 2.0**-halvings
        exact = exact_divergence(z, w, temperature)
        expected = torch.tensor(float(exact), dtype=torch.float64)
        value = kl_divergence_from_logits(z, w, temperature=temperature)
        assert value.item() >= 0
        # The logarithm of a ratio is off by 2 u of the largest difference of logits, and the
        # divergence by twice as much of its mean size, which is at most the largest.
        largest = (z - w).double().abs().max().item() / temperature
        u = unit(dtype)
        absolute = 64 * u * largest * min(largest, 1.0) + 64 * u * float(exact)
        gap = max((x.max() - x.min()).item() for x in (z, w)) / temperature
        assert_within(value, expected, absolute * (1 + gap) + 64 * smallest(dtype))


def test_two_logits_apart_by_a_thousandth() -> None:
    # By the definition 5.6e-8 in float32, half of the truth.
    z, w = torch.tensor([0.0, 0.0]), torch.tensor([0.0, 2.0**-10])
    expected = torch.tensor(float(exact_divergence(z, w)), dtype=torch.float64)
    assert_within(kl_divergence_from_logits(z, w), expected, rel=16 * unit(torch.float32))


def test_a_probability_that_underflows_has_a_finite_cost() -> None:
    z, w = torch.tensor([0.0, 0.0]), torch.tensor([0.0, -200.0])
    assert kl_divergence(softmax(z), softmax(w)).item() == INF
    value = kl_divergence_from_logits(z, w)
    expected = torch.tensor(float(exact_divergence(z, w)), dtype=torch.float64)
    assert_within(value, expected, rel=16 * unit(torch.float32))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_ruled_out(dtype: torch.dtype) -> None:
    z = torch.tensor([[0.0, 1.0, -INF], [-INF, 0.0, -INF]], dtype=dtype)
    rest = torch.tensor([[0.0, 1.0], [0.0, -INF]], dtype=dtype)
    torch.testing.assert_close(entropy_from_logits(z), entropy_from_logits(rest))
    assert entropy_from_logits(z)[1].item() == 0
    assert kl_divergence_from_logits(z, z).tolist() == [0.0, 0.0]
    everything = torch.zeros_like(z)
    assert kl_divergence_from_logits(everything, z).tolist() == [INF, INF]
    costs = kl_divergence_from_logits(z, everything).double()
    expected = math.log(3) - entropy_from_logits(z).double()
    tolerance = 32 * unit(dtype if dtype in HALF else arithmetic(dtype))
    assert_within(costs, expected, tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtype_shape_and_dimension(dtype: torch.dtype) -> None:
    z = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    w = z.flip(1)
    for dim in (0, 1, -1):
        shape = z.amax(dim).shape
        for value in (entropy_from_logits(z, dim), kl_divergence_from_logits(z, w, dim)):
            assert value.shape == shape
            assert value.dtype is dtype
    temperature = torch.tensor([[0.5], [2.0]]).expand(2, 3)
    each = kl_divergence_from_logits(z, w, 1, temperature=temperature)
    assert torch.equal(each[0], kl_divergence_from_logits(z, w, 1, temperature=0.5)[0])
    assert torch.equal(each[1], kl_divergence_from_logits(z, w, 1, temperature=2.0)[1])
    assert kl_divergence_from_logits(z.double(), w).dtype is torch.float64


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_eight_bits_are_computed_in_float32(name: str) -> None:
    dtype = getattr(torch, name)
    p, q = torch.tensor([0.5, 0.5]).to(dtype), torch.tensor([0.75, 0.25]).to(dtype)
    for measure in (entropy, entropy_from_logits):
        assert measure(p).dtype is dtype
        assert torch.equal(measure(p).float(), measure(p.float()).to(dtype).float())
    for pair in (cross_entropy, kl_divergence, kl_divergence_from_logits):
        assert pair(p, q).dtype is dtype
        assert torch.equal(pair(p, q).float(), pair(p.float(), q.float()).to(dtype).float())


def closed_form_gradient(z: Tensor) -> Tensor:
    p, log_p = softmax(z), log_softmax(z)
    finite = log_p.masked_fill(log_p == -INF, 0.0)
    return -p * (finite - (p * finite).sum())


# Each row: a function of logits, 0 log 0 in each of its ways.
Q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
HALVED = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
MASKED: dict[str, Callable[[Tensor], Tensor]] = {
    "entropy": lambda z: entropy(softmax(z)),
    "entropy_from_logits": entropy_from_logits,
    "kl_divergence, first": lambda z: kl_divergence(softmax(z), Q),
    "kl_divergence, second": lambda z: kl_divergence(HALVED, softmax(z)),
    "kl_divergence of itself": lambda z: kl_divergence(softmax(z), softmax(2 * z)),
    "cross_entropy, first": lambda z: cross_entropy(softmax(z), Q),
    "cross_entropy, second": lambda z: cross_entropy(HALVED, softmax(z)),
    "kl_divergence_from_logits, first": lambda z: kl_divergence_from_logits(z, Q.log()),
    "kl_divergence_from_logits, second": lambda z: kl_divergence_from_logits(HALVED.log(), z),
    "kl_divergence_from_logits of itself": lambda z: kl_divergence_from_logits(z, 2 * z),
}


@pytest.mark.parametrize("far", [-INF, -800.0], ids=["ruled out", "underflowed"])
@pytest.mark.parametrize("subject", MASKED.values(), ids=MASKED.keys())
def test_derivatives_are_those_without_the_masked_token(
    subject: Callable[[Tensor], Tensor], far: float
) -> None:
    """In float64 e^-800 is 0, as e^-inf is: nothing that it does can be seen in the others."""
    z = torch.tensor([0.3, 1.0, far], dtype=torch.float64)

    def without(kept: Tensor) -> Tensor:
        return subject(torch.cat([kept, torch.tensor([-745.0], dtype=torch.float64)]))

    gradient = torch.autograd.functional.jacobian(subject, z)
    hessian = torch.autograd.functional.hessian(subject, z)
    assert gradient.isfinite().all()
    assert hessian.isfinite().all()
    tolerance = 64 * unit(torch.float64)
    assert_within(gradient[:2], torch.autograd.functional.jacobian(without, z[:2]), tolerance)
    assert_within(hessian[:2, :2], torch.autograd.functional.hessian(without, z[:2]), tolerance)
    assert gradient[2].abs().item() <= tolerance
    assert hessian[2].abs().max().item() <= tolerance


@given(rows(2, 6, bound=5.0), temperatures(0.5, 5.0))
def test_gradient_of_the_entropy_is_the_closed_form(z: Tensor, temperature: float) -> None:
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(entropy_from_logits(z, temperature=temperature), z)
    expected = closed_form_gradient(z.detach() / temperature) / temperature
    assert_within(gradient, expected, 32 * 22 * unit(torch.float64) / temperature)


def test_gradients_agree_with_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    z, w = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64).requires_grad_()
    for subject in (entropy_from_logits, lambda z: kl_divergence_from_logits(z, w.detach())):
        assert torch.autograd.gradcheck(subject, (z,))
        assert torch.autograd.gradgradcheck(subject, (z,))
    assert torch.autograd.gradcheck(kl_divergence_from_logits, (z, w))


def test_what_is_no_pair_of_logits_is_shown() -> None:
    z = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"^z and w must have one shape, got \(2, 3\) and \(3,\);"):
        kl_divergence_from_logits(z, z[0])
    for bad in (z.long(), [0.0, 1.0]):
        wrong: Any = bad
        with pytest.raises(TypeError, match=r"^logits must "):
            entropy_from_logits(wrong)
        with pytest.raises(TypeError, match=r"^logits must "):
            kl_divergence_from_logits(z, wrong)
    with pytest.raises(ValueError, match=r"^temperature must be > 0"):
        entropy_from_logits(z, temperature=0.0)
    kl_divergence_from_logits(z, z)
    entropy_from_logits(z, temperature=0.5)


@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
@pytest.mark.parametrize("offset", [1.0, 100.0, 1000.0, -1e5])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 8.0])
def test_rows_at_two_levels_keep_what_tells_them_apart(
    offset: float, temperature: float, dtype: torch.dtype
) -> None:
    z = torch.tensor([0.3, -0.2, 0.45], dtype=dtype)
    w = z + torch.tensor([0.25, -0.125, 0.0625], dtype=dtype) * 2.0**-5 + offset
    value = kl_divergence_from_logits(z, w, temperature=temperature).item()
    # The differences of the logits are exact up to their last rounding. The divergence is about
    # half their variance, of which the parts are some three times as large.
    assert_within(value, exact_divergence(z, w, temperature), rel=2**7 * unit(dtype))
