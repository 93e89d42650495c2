from __future__ import annotations

import math
import re

import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.information import entropy
from omnivault.softmax import softmax
from tests.package.information.common import dtypes, entropy_bound, probabilities, rounded
from tests.support.strategies import HALF, assert_within, rows, smallest, temperatures, unit


def exact_entropy(p: Tensor) -> float:
    """H of the very numbers in ``p``, which need not sum to one exactly, to 50 digits."""
    values = [mp.mpf(x) for x in p.tolist()]
    return float(mp.fsum(-x * mp.log(x) for x in values if x > 0))


@pytest.mark.parametrize(
    ("p", "dim"),
    [
        pytest.param(probabilities(5), -1, id="a row"),
        pytest.param(probabilities(5), 0, id="a row, dim 0"),
        pytest.param(probabilities(1, 5), -1, id="batch of one"),
        pytest.param(probabilities(4, 6, dim=0), 0, id="down the columns"),
        pytest.param(probabilities(2, 3, 4, 5, dim=1), 1, id="four dimensions, dim 1"),
        pytest.param(probabilities(2, 3, 4, 5, dim=2), -2, id="four dimensions, dim -2"),
        pytest.param(probabilities(2, 50257), -1, id="a vocabulary"),
        pytest.param(probabilities(6, 4, dim=0).T, -1, id="transposed"),
        pytest.param(probabilities(5).expand(3, 5), -1, id="expanded"),
        pytest.param(torch.full((3, 4), 0.25, dtype=torch.float64), -1, id="ties"),
        pytest.param(torch.ones(3, 1, dtype=torch.float64), -1, id="one outcome"),
        pytest.param(torch.eye(3, dtype=torch.float64), -1, id="certain"),
    ],
)
@dtypes
def test_entropy_is_scipy_entropy(p: Tensor, dim: int, dtype: torch.dtype) -> None:
    p = p.to(dtype)
    h = entropy(p, dim)
    assert h.dtype is dtype
    # scipy.stats.entropy normalizes, which the rounded p would need; its elementwise form does not.
    expected = torch.as_tensor(scipy.special.entr(p.double().numpy()).sum(dim))
    assert_within(h, expected, 2 * entropy_bound(p, dim))
    if dtype is torch.float64:
        normalized = torch.as_tensor(scipy.stats.entropy(p.numpy(), axis=dim))
        # What normalizing moves besides: the sum is off by K u at most.
        k = p.shape[dim]
        moved = 2 * k * unit(dtype) * (1 + math.log(k))
        assert_within(h, normalized, 2 * entropy_bound(p, dim) + moved)


@given(st.data(), temperatures())
def test_entropy_against_fifty_digits(data: st.DataObject, temperature: float) -> None:
    for dtype in (torch.float32, torch.float64):
        p = softmax(data.draw(rows(dtype=dtype)), temperature=temperature)
        expected = torch.tensor(exact_entropy(p), dtype=torch.float64)
        assert_within(entropy(p), expected, entropy_bound(p) + smallest(dtype))


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ([0.5, 0.5], math.log(2)),
        ([0.5, 0.5, 0.0], math.log(2)),
        ([0.5, 0.25, 0.125, 0.125], 1.75 * math.log(2)),
        ([0.25, 0.25, 0.25, 0.25], math.log(4)),
        ([1.0], 0.0),
        ([1.0, 0.0], 0.0),
        ([0.0, 1.0, 0.0], 0.0),
        ([-0.0, 1.0], 0.0),
    ],
)
@dtypes
def test_closed_forms_and_zeros(p: list[float], expected: float, dtype: torch.dtype) -> None:
    h = entropy(torch.tensor(p, dtype=dtype)).item()
    assert h == pytest.approx(expected, rel=rounded(dtype), abs=0.0)


def test_a_zero_adds_nothing() -> None:
    p = probabilities(3, 5)
    padded = torch.cat([p, torch.zeros(3, 2, dtype=p.dtype)], -1)
    # Not torch.equal: two more zeros may change the order in which the terms are added.
    assert_within(entropy(padded), entropy(p), 2 * entropy_bound(p))


@pytest.mark.parametrize("shape", [(0, 5), (2, 0, 5)])
def test_an_empty_batch_has_an_empty_entropy(shape: tuple[int, ...]) -> None:
    assert entropy(torch.zeros(shape)).shape == shape[:-1]


@dtypes
def test_nan_is_not_hidden(dtype: torch.dtype) -> None:
    h = entropy(torch.tensor([[0.5, math.nan], [0.5, 0.5]], dtype=dtype))
    assert h.isnan().tolist() == [True, False]
    undefined = softmax(torch.full((2,), -math.inf, dtype=dtype))
    assert math.isnan(entropy(undefined).item())


@given(rows(1, 8), temperatures())
def test_between_zero_and_log_k(z: Tensor, temperature: float) -> None:
    p = softmax(z, temperature=temperature)
    h = entropy(p).item()
    k = len(z)
    # The p sum to one but for a rounding or two each, and H is at most log K times their sum.
    allowance = entropy_bound(p).item() + 4 * k * math.log(k) * unit(p.dtype)
    assert 0 <= h <= math.log(k) + allowance


@pytest.mark.parametrize("k", [2, 3, 8])
def test_log_k_is_reached_only_by_the_uniform_distribution(k: int) -> None:
    uniform = torch.full((k,), 1 / k, dtype=torch.float64)
    assert entropy(uniform).item() == pytest.approx(math.log(k), rel=32 * unit(torch.float64))
    moved = uniform.clone()
    moved[0] += 1e-3
    moved[1] -= 1e-3
    # log K - H is KL to uniform, at least half the squared L1 distance (Pinsker).
    assert math.log(k) - entropy(moved).item() >= 0.5 * (2e-3) ** 2 * 0.99


def test_gradient_is_minus_log_p_minus_one() -> None:
    # No p so small that a difference quotient's step of 1e-6 is not small beside it.
    p = (0.2 + 0.2 * probabilities(3, 4)).requires_grad_()
    (gradient,) = torch.autograd.grad(entropy(p).sum(), p)
    # Logarithms of size log 5 or less, to 8 u, on either side.
    assert_within(gradient, -p.detach().log() - 1, 32 * unit(p.dtype))
    assert torch.autograd.gradcheck(entropy, (p,))
    assert torch.autograd.gradgradcheck(entropy, (p,))


def test_gradient_at_zero_is_that_at_the_smallest_number() -> None:
    p = torch.tensor([1.0, 0.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(entropy(p), p)
    assert gradient[0].item() == -1.0
    assert gradient[1].item() == pytest.approx(126 * math.log(2), rel=4 * unit(torch.float32))


@given(rows(2, 6, bound=5.0), temperatures(0.5, 5.0))
def test_gradient_through_softmax_is_the_closed_form(z: Tensor, temperature: float) -> None:
    z.requires_grad_()
    p = softmax(z, temperature=temperature)
    (gradient,) = torch.autograd.grad(entropy(p), z)
    q = torch.softmax(z.detach() / temperature, -1)
    h = -(q * q.log()).sum()
    expected = -q * (q.log() + h) / temperature
    # Factors up to |log p| <= 20 + log 6, computed with a few roundings, over T.
    assert_within(gradient, expected, 32 * 22 * unit(torch.float64) / temperature)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    p = probabilities(16, 300).to(dtype)
    assert torch.equal(entropy(p), torch.special.entr(p.float()).sum(-1).to(dtype))


def test_what_half_precision_lets_pass_its_float32_copy_does_not() -> None:
    p = torch.tensor([0.5, 0.484375], dtype=torch.bfloat16)
    assert entropy(p).item() == pytest.approx(math.log(2), rel=0.01)
    with pytest.raises(ValueError, match=re.escape("with sum 0.984375; turn logits into")):
        entropy(p.float())


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_a_half_precision_vocabulary_is_a_distribution(dtype: torch.dtype) -> None:
    # 50,257 times a probability of 2e-5: each is rounded by up to 0.4%, and all the same way.
    p = softmax(torch.zeros(50257, dtype=dtype))
    assert entropy(p).item() == pytest.approx(math.log(50257), rel=0.01)
