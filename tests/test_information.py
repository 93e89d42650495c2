from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from strategies import (
    DTYPES,
    HALF,
    SINGLE_DOUBLE,
    arithmetic,
    assert_within,
    log_softmax_bound,
    row_pairs,
    rows,
    smallest,
    softmax_bound,
    temperatures,
    unit,
)
from torch import Tensor
from torch.nn import functional

from omnivault.information import cross_entropy, entropy, kl_divergence, perplexity
from omnivault.softmax import softmax

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def exact_entropy(p: Tensor) -> float:
    """H of the very numbers in ``p``, which need not sum to one exactly, to 50 digits."""
    values = [mp.mpf(x) for x in p.tolist()]
    return float(mp.fsum(-x * mp.log(x) for x in values if x > 0))


def entropy_bound(p: Tensor, dim: int = -1) -> Tensor:
    """Logarithm (8 u), product and a sum of K positive terms in cascade; half rounds again."""
    # A p just above 1 has a tiny negative term, and a p rounded near 1 a tiny positive one.
    size = torch.xlogy(p.double(), p.double()).abs().sum(dim)
    u = unit(arithmetic(p.dtype))
    bound = u * (10 + 4 * math.log2(p.shape[dim] + 1)) * size
    return bound + (unit(p.dtype) * size + smallest(p.dtype) if p.dtype in HALF else 0.0)


def rounded(dtype: torch.dtype) -> float:
    """Relative error of a few logarithms or exponentials (8 u each) of what the dtype holds."""
    return 4 * unit(dtype) + 16 * unit(arithmetic(dtype))


def probabilities(*shape: int, dim: int = -1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.softmax(3 * torch.randn(*shape, generator=generator, dtype=torch.float64), dim)


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


def test_gradient_at_zero_is_the_one_sided_derivative() -> None:
    p = torch.tensor([1.0, 0.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(entropy(p), p)
    assert gradient.tolist() == [-1.0, math.inf]


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


# Input that is not a distribution -----------------------------------------------------------------

NOT_A_ROW = (
    "probabilities must be >= 0 and sum to 1, got a row {} with sum {}; "
    "turn logits into probabilities with softmax(z) first"
)
NOT_FLOATING = (
    "probabilities must be a tensor of a floating dtype, got {}; "
    "torch.tensor(...) or p.float() makes one"
)
NO_DIM = (
    "dim {} does not exist in probabilities of shape {}; "
    "the last dimension is -1, a scalar has none"
)
FROM_THE_FRONT = (
    "dim {} is counted from the front, and p of shape {} and q of shape {} have not as many "
    "dimensions; count it from the back, as in dim=-1"
)
NO_FIT = (
    "p of shape {} and q of shape {} must have as many outcomes along dim {} and broadcast "
    "otherwise; add dimensions with unsqueeze"
)

# Each row: rejected p and dim, the whole message, accepted p and dim.
BAD: dict[str, tuple[Any, int, type[Exception], str, Tensor, int]] = {
    "a list": (
        [0.5, 0.5],
        -1,
        TypeError,
        NOT_FLOATING.format("[0.5, 0.5]"),
        torch.tensor([0.5, 0.5]),
        -1,
    ),
    "an array": (
        np.array([0.5, 0.5]),
        -1,
        TypeError,
        NOT_FLOATING.format("array([0.5, 0.5])"),
        torch.tensor(np.array([0.5, 0.5])),
        -1,
    ),
    "integers": (
        torch.tensor([0, 1]),
        -1,
        TypeError,
        NOT_FLOATING.format("tensor([0, 1])"),
        torch.tensor([0.0, 1.0]),
        -1,
    ),
    "a scalar": (
        torch.tensor(1.0),
        -1,
        ValueError,
        NO_DIM.format(-1, ()),
        torch.tensor([1.0]),
        -1,
    ),
    "dim too large": (
        torch.tensor([0.5, 0.5]),
        1,
        ValueError,
        NO_DIM.format(1, (2,)),
        torch.tensor([0.5, 0.5]),
        0,
    ),
    "dim too small": (
        torch.eye(3),
        -3,
        ValueError,
        NO_DIM.format(-3, (3, 3)),
        torch.eye(3),
        -2,
    ),
    "negative": (
        torch.tensor([-0.5, 1.5]),
        -1,
        ValueError,
        NOT_A_ROW.format([-0.5, 1.5], 1),
        torch.tensor([0.0, 1.0]),
        -1,
    ),
    "logits": (
        torch.tensor([1.0, 2.0, 3.0]),
        -1,
        ValueError,
        NOT_A_ROW.format([1.0, 2.0, 3.0], 6),
        softmax(torch.tensor([1.0, 2.0, 3.0])),
        -1,
    ),
    "six logits": (
        torch.ones(6),
        -1,
        ValueError,
        NOT_A_ROW.format([1.0] * 6, 6),
        torch.ones(6) / 6,
        -1,
    ),
    "many logits": (
        torch.ones(7),
        -1,
        ValueError,
        NOT_A_ROW.format(f"{[1.0] * 6} ...", 7),
        torch.ones(7) / 7,
        -1,
    ),
    "the second row": (
        torch.tensor([[0.5, 0.5], [0.5, 1.0]]),
        1,
        ValueError,
        NOT_A_ROW.format([0.5, 1.0], 1.5),
        torch.tensor([[0.5, 0.5], [0.5, 0.5]]),
        1,
    ),
    "a column": (
        torch.tensor([[0.5, 0.0], [0.5, 0.5]]),
        0,
        ValueError,
        NOT_A_ROW.format([0.0, 0.5], 0.5),
        torch.tensor([[0.5, 0.5], [0.5, 0.5]]),
        0,
    ),
    "no outcomes": (
        torch.zeros(2, 0),
        -1,
        ValueError,
        NOT_A_ROW.format([], 0),
        torch.zeros(0, 2),
        -1,
    ),
    "infinite": (
        torch.tensor([math.inf, 0.0]),
        -1,
        ValueError,
        NOT_A_ROW.format("[inf, 0.0]", "inf"),
        torch.tensor([1.0, 0.0]),
        -1,
    ),
    "0.002 too much": (
        torch.tensor([0.5, 0.501953125]),
        -1,
        ValueError,
        NOT_A_ROW.format([0.5, 0.501953125], 1.00195),
        torch.tensor([0.5, 0.5009]),
        -1,
    ),
    "0.002 too little": (
        torch.tensor([0.5, 0.498046875], dtype=torch.float64),
        -1,
        ValueError,
        NOT_A_ROW.format([0.5, 0.498046875], 0.998047),
        torch.tensor([0.5, 0.4991], dtype=torch.float64),
        -1,
    ),
    "0.0625 too much in half precision": (
        torch.tensor([0.5, 0.5625], dtype=torch.float16),
        -1,
        ValueError,
        NOT_A_ROW.format([0.5, 0.5625], 1.0625),
        torch.tensor([0.5, 0.546875], dtype=torch.float16),
        -1,
    ),
    "0.0625 too little in half precision": (
        torch.tensor([0.5, 0.4375], dtype=torch.bfloat16),
        -1,
        ValueError,
        NOT_A_ROW.format([0.5, 0.4375], 0.9375),
        torch.tensor([0.5, 0.453125], dtype=torch.bfloat16),
        -1,
    ),
}


@pytest.mark.parametrize(
    ("bad", "bad_dim", "error", "message", "good", "good_dim"), BAD.values(), ids=BAD.keys()
)
def test_what_is_no_distribution_is_shown_with_what_would_work(
    bad: Any, bad_dim: int, error: type[Exception], message: str, good: Tensor, good_dim: int
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        entropy(bad, bad_dim)
    assert not entropy(good, good_dim).isnan().any()


# Cross-entropy and divergence ---------------------------------------------------------------------

Measure = Callable[..., Tensor]

both = pytest.mark.parametrize("measure", [cross_entropy, kl_divergence])
pairs_of_dtypes = pytest.mark.parametrize(
    ("dtype_p", "dtype_q"), list(product(DTYPES, repeat=2)), ids=str
)


def other_probabilities(*shape: int, dim: int = -1) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.softmax(2 * torch.randn(*shape, generator=generator, dtype=torch.float64), dim)


def precision(p: Tensor, q: Tensor) -> torch.dtype:
    """The dtype in which a pair is computed."""
    return torch.promote_types(arithmetic(p.dtype), arithmetic(q.dtype))


def pair_bound(measure: Measure, p: Tensor, q: Tensor, dim: int = -1) -> Tensor:
    """Logarithm (8 u), product, difference and a sum of K terms in cascade; half rounds again."""
    computed, returned = precision(p, q), torch.result_type(p, q)
    # A logarithm near 0 is rounded as little as it is large. Infinite terms are not rounded.
    size = torch.xlogy(p.double(), q.double()).abs().sum(dim).nan_to_num(posinf=0.0)
    if measure is kl_divergence:
        size = size + torch.xlogy(p.double(), p.double()).abs().sum(dim)
    factor = 12 + 4 * math.log2(p.shape[dim] + 1)
    bound = unit(computed) * factor * size + p.shape[dim] * smallest(computed)
    return bound + (unit(returned) * size + smallest(returned) if returned in HALF else 0.0)


def scipy_measure(measure: Measure, p: Tensor, q: Tensor, dim: int = -1) -> Tensor:
    """From SciPy, whose divergence takes the logarithm of the quotient and not two of them."""
    terms = scipy.special.rel_entr(p.double().numpy(), q.double().numpy())
    if measure is cross_entropy:
        terms = terms + scipy.special.entr(p.double().numpy())
    return torch.as_tensor(terms.sum(dim))


def test_scipy_has_the_zeros_of_the_definition() -> None:
    assert scipy.special.rel_entr([0.0, 0.0, 0.5], [0.0, 0.5, 0.0]).tolist() == [0.0, 0.0, math.inf]


# Each row: p, q, the dimension of the outcomes, the shape that is returned.
PAIRS: dict[str, tuple[Tensor, Tensor, int, tuple[int, ...]]] = {
    "rows": (probabilities(5), other_probabilities(5), -1, ()),
    "rows, dim 0": (probabilities(5), other_probabilities(5), 0, ()),
    "one outcome": (probabilities(3, 1), other_probabilities(3, 1), -1, (3,)),
    "a batch": (probabilities(4, 5), other_probabilities(4, 5), -1, (4,)),
    "columns": (probabilities(5, 4, dim=0), other_probabilities(5, 4, dim=0), 0, (4,)),
    "columns, -2": (probabilities(5, 4, dim=0), other_probabilities(5, 4, dim=0), -2, (4,)),
    "dim 1 of four": (
        probabilities(2, 3, 4, 5, dim=1),
        other_probabilities(2, 3, 4, 5, dim=1),
        1,
        (2, 4, 5),
    ),
    "one p, many q": (probabilities(5), other_probabilities(4, 5), -1, (4,)),
    "many p, one q": (probabilities(4, 5), other_probabilities(5), -1, (4,)),
    "every p with every q": (probabilities(4, 1, 5), other_probabilities(3, 5), -1, (4, 3)),
    "one column, many": (probabilities(5, 1, dim=0), other_probabilities(5, 3, dim=0), 0, (3,)),
    "dim -2, broadcast": (
        probabilities(5, 1, dim=0),
        other_probabilities(2, 5, 3, dim=1),
        -2,
        (2, 3),
    ),
    "a vocabulary": (probabilities(2, 50257), other_probabilities(2, 50257), -1, (2,)),
    "transposed": (probabilities(5, 4, dim=0).T, other_probabilities(4, 5), -1, (4,)),
    "expanded": (probabilities(5).expand(4, 5), other_probabilities(5, 4, dim=0).T, -1, (4,)),
    "every other row": (probabilities(8, 5)[::2], other_probabilities(4, 5), -1, (4,)),
    "uniform": (
        torch.full((3, 4), 0.25, dtype=torch.float64),
        torch.full((3, 4), 0.25, dtype=torch.float64),
        -1,
        (3,),
    ),
    "certain": (torch.eye(4, dtype=torch.float64), other_probabilities(4), -1, (4,)),
    "certain and ruled out": (
        torch.eye(4, dtype=torch.float64),
        torch.eye(4, dtype=torch.float64),
        -1,
        (4,),
    ),
    "q rules some out": (
        probabilities(4),
        torch.tensor([[0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64),
        -1,
        (2,),
    ),
    "an empty batch": (probabilities(0, 5), other_probabilities(0, 5), -1, (0,)),
    "an empty batch, one q": (probabilities(2, 0, 5), other_probabilities(5), -1, (2, 0)),
}


@both
@pairs_of_dtypes
@pytest.mark.parametrize(("p", "q", "dim", "shape"), PAIRS.values(), ids=PAIRS.keys())
def test_of_two_distributions_is_scipy(
    p: Tensor,
    q: Tensor,
    dim: int,
    shape: tuple[int, ...],
    dtype_p: torch.dtype,
    dtype_q: torch.dtype,
    measure: Measure,
) -> None:
    p, q = p.to(dtype_p), q.to(dtype_q)
    value = measure(p, q, dim)
    assert value.shape == shape
    assert value.dtype is torch.result_type(p, q)
    assert_within(value, scipy_measure(measure, p, q, dim), 2 * pair_bound(measure, p, q, dim))


@given(st.data(), temperatures())
def test_of_two_distributions_against_fifty_digits(data: st.DataObject, temperature: float) -> None:
    for dtype in SINGLE_DOUBLE:
        z = data.draw(rows(dtype=dtype))
        p = softmax(z, temperature=temperature)
        q = softmax(data.draw(rows(len(z), len(z), dtype=dtype)))
        numbers = [(mp.mpf(a), mp.mpf(b)) for a, b in zip(p.tolist(), q.tolist(), strict=True)]
        # All positive: e^-60 does not underflow in float32, and e^-600 is not below 1e-308.
        exact = -mp.fsum(a * mp.log(b) for a, b in numbers if a > 0)
        expected = torch.tensor(float(exact), dtype=torch.float64)
        assert_within(cross_entropy(p, q), expected, pair_bound(cross_entropy, p, q))
        exact = mp.fsum(a * mp.log(a / b) for a, b in numbers if a > 0)
        expected = torch.tensor(float(exact), dtype=torch.float64)
        assert_within(kl_divergence(p, q), expected, pair_bound(kl_divergence, p, q))


@pytest.mark.parametrize(
    ("p", "q", "h_pq", "kl"),
    [
        ([0.5, 0.5], [0.75, 0.25], math.log(4) - math.log(3) / 2, math.log(2) - math.log(3) / 2),
        ([0.75, 0.25], [0.5, 0.5], math.log(2), 0.75 * math.log(3) - math.log(2)),
        ([0.5, 0.5], [0.5, 0.5], math.log(2), 0.0),
        ([0.5, 0.5, 0.0], [0.25, 0.25, 0.5], math.log(4), math.log(2)),
        ([0.5, 0.5, 0.0], [0.5, 0.5, 0.0], math.log(2), 0.0),
        ([0.5, 0.5], [1.0, 0.0], math.inf, math.inf),
        ([1.0, 0.0], [0.5, 0.5], math.log(2), math.log(2)),
        ([1.0, 0.0], [0.0, 1.0], math.inf, math.inf),
        ([0.0, 1.0, 0.0], [0.0, 1.0, 0.0], 0.0, 0.0),
        ([-0.0, 1.0], [-0.0, 1.0], 0.0, 0.0),
        ([1.0], [1.0], 0.0, 0.0),
    ],
)
@dtypes
def test_closed_forms_of_pairs(
    p: list[float], q: list[float], h_pq: float, kl: float, dtype: torch.dtype
) -> None:
    first, second = torch.tensor(p, dtype=dtype), torch.tensor(q, dtype=dtype)
    for measure, expected in ((cross_entropy, h_pq), (kl_divergence, kl)):
        bound = 2 * pair_bound(measure, first, second) * (expected != 0.0)
        exact = torch.tensor(expected, dtype=torch.float64)
        assert_within(measure(first, second), exact, bound)


@pairs_of_dtypes
def test_cross_entropy_is_entropy_and_divergence(
    dtype_p: torch.dtype, dtype_q: torch.dtype
) -> None:
    p = probabilities(16, 9).to(dtype_p)
    q = other_probabilities(16, 9).to(dtype_q)
    apart = entropy(p).double() + kl_divergence(p, q).double()
    bound = pair_bound(cross_entropy, p, q) + pair_bound(kl_divergence, p, q) + entropy_bound(p)
    assert_within(cross_entropy(p, q), apart, bound)


@given(row_pairs(1, 8), temperatures())
def test_gibbs(pair: tuple[Tensor, Tensor], temperature: float) -> None:
    p, q = softmax(pair[0], temperature=temperature), softmax(pair[1])
    # Both sum to one up to a few u for each outcome, and the divergence is at least the difference.
    allowance = 8 * len(p) * unit(p.dtype)
    assert kl_divergence(p, q).item() >= -allowance - pair_bound(kl_divergence, p, q).item()
    least = entropy(p).item() - entropy_bound(p).item()
    assert cross_entropy(p, q).item() >= least - allowance - pair_bound(cross_entropy, p, q).item()
    # Pinsker: what is not equal is apart, by half the squared L1 distance.
    squared = (p - q).abs().sum().item() ** 2
    slack = allowance + pair_bound(kl_divergence, p, q).item()
    assert kl_divergence(p, q).item() >= squared / 2 - slack


def test_a_divergence_rounded_to_below_zero_is_returned_and_has_its_gradient() -> None:
    p = probabilities(500, 6)
    # 1e-9 apart the divergence is 1e-18 and drowns in rounding.
    q = p * (1 + 1e-9 * other_probabilities(500, 6))
    q = (q / q.sum(-1, keepdim=True)).requires_grad_()
    divergence = kl_divergence(p, q)
    # Nearly half of the 500 are.
    assert divergence.min().item() < 0
    (gradient,) = torch.autograd.grad(divergence.sum(), q)
    assert_within(gradient, -p / q.detach(), rel=4 * unit(p.dtype))


@given(rows(1, 8), temperatures())
def test_nothing_diverges_from_itself(z: Tensor, temperature: float) -> None:
    for dtype in DTYPES:
        p = softmax(z.to(dtype), temperature=temperature)
        assert kl_divergence(p, p).item() == 0.0
        size = pair_bound(cross_entropy, p, p) + entropy_bound(p)
        assert_within(cross_entropy(p, p), entropy(p).double(), size)


def test_the_order_matters() -> None:
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.25, 0.5])
    rel = rounded(p.dtype)
    assert kl_divergence(p, q).item() == pytest.approx(math.log(2), rel=rel)
    assert kl_divergence(q, p).item() == math.inf
    assert cross_entropy(p, q).item() == pytest.approx(math.log(4), rel=rel)
    assert cross_entropy(q, p).item() == math.inf


def test_divergence_from_uniform_is_what_entropy_lacks() -> None:
    p = probabilities(6, 7)
    uniform = torch.full((7,), 1 / 7, dtype=torch.float64)
    assert_within(
        kl_divergence(p, uniform),
        math.log(7) - entropy(p),
        pair_bound(kl_divergence, p, uniform) + entropy_bound(p) + 4 * unit(p.dtype),
    )
    assert_within(
        cross_entropy(p, uniform),
        torch.full((6,), math.log(7), dtype=torch.float64),
        # The p of each row sum to one but for rounding.
        pair_bound(cross_entropy, p, uniform) + 16 * unit(p.dtype),
    )


@dtypes
def test_certain_outcomes_cost_their_surprise(dtype: torch.dtype) -> None:
    q = other_probabilities(6).to(dtype)
    certain = torch.eye(6, dtype=dtype)
    expected = -q.double().log()
    assert_within(cross_entropy(certain, q), expected, pair_bound(cross_entropy, certain, q))
    assert torch.equal(kl_divergence(certain, q), cross_entropy(certain, q))


def test_torch_cross_entropy_takes_logits_and_labels() -> None:
    generator = torch.Generator().manual_seed(2)
    z = 3 * torch.randn(32, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(6, (32,), generator=generator)
    certain = functional.one_hot(labels, 6).double()
    q = softmax(z)
    # An error of q in proportion is one of its logarithm, and torch's own has as large a one.
    off = (softmax_bound(z) / q + log_softmax_bound(z)).amax(-1)
    bound = pair_bound(cross_entropy, certain, q) + off
    assert_within(
        cross_entropy(certain, q), functional.cross_entropy(z, labels, reduction="none"), bound
    )
    soft = probabilities(32, 6)
    bound = 2 * pair_bound(cross_entropy, soft, q) + off
    assert_within(
        cross_entropy(soft, q), functional.cross_entropy(z, soft, reduction="none"), bound
    )


def test_torch_kl_div_takes_them_the_other_way_around_and_a_logarithm() -> None:
    p, q = probabilities(32, 6), other_probabilities(32, 6)
    terms = functional.kl_div(q.log(), p, reduction="none").sum(-1)
    assert_within(kl_divergence(p, q), terms, 2 * pair_bound(kl_divergence, p, q))
    # Not a test of both orders if they were equal.
    assert ((kl_divergence(p, q) - kl_divergence(q, p)).abs() > 1e-3).all()


def test_torch_distributions_agree() -> None:
    p, q = probabilities(32, 6), other_probabilities(32, 6)
    first, second = torch.distributions.Categorical(p), torch.distributions.Categorical(q)
    expected = torch.distributions.kl_divergence(first, second)
    # It divides by the sum, which is 1 up to 6 u, and clamps p and q, which none is near.
    bound = 2 * pair_bound(kl_divergence, p, q) + 32 * unit(p.dtype)
    assert_within(kl_divergence(p, q), expected, bound)


@both
def test_outcomes_have_no_order(measure: Measure) -> None:
    p, q = probabilities(4, 9), other_probabilities(4, 9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    bound = 2 * pair_bound(measure, p, q)
    assert_within(measure(p[:, order], q[:, order]), measure(p, q), bound)


@both
def test_what_both_rule_out_adds_nothing(measure: Measure) -> None:
    p, q = probabilities(4, 5), other_probabilities(4, 5)
    zeros = torch.zeros(4, 2, dtype=p.dtype)
    padded = measure(torch.cat([zeros, p], -1), torch.cat([zeros, q], -1))
    assert_within(padded, measure(p, q), 2 * pair_bound(measure, p, q))


@both
def test_nan_in_either_is_not_hidden(measure: Measure) -> None:
    p = torch.tensor([[0.5, math.nan], [0.5, 0.5], [0.0, 1.0]])
    q = torch.tensor([[0.5, 0.5], [math.nan, 0.5], [math.nan, 1.0]])
    whole = torch.full((3, 2), 0.5)
    assert measure(p, whole).isnan().tolist() == [True, False, False]
    assert measure(whole, q).isnan().tolist() == [False, True, True]
    # Not even where p is 0: 0 log 0 is 0, 0 log nan is not.
    assert measure(p, q).isnan().tolist() == [True, True, True]


@both
def test_inputs_are_left_alone(measure: Measure) -> None:
    p, q = probabilities(4, 5), other_probabilities(4, 5)
    before = p.clone(), q.clone()
    measure(p, q)
    assert torch.equal(p, before[0])
    assert torch.equal(q, before[1])


@pytest.mark.parametrize(("dtype_p", "dtype_q"), list(product(HALF, repeat=2)), ids=str)
def test_a_pair_in_half_precision_is_rounded_once_if_at_all(
    dtype_p: torch.dtype, dtype_q: torch.dtype
) -> None:
    p, q = probabilities(16, 300).to(dtype_p), other_probabilities(16, 300).to(dtype_q)
    # Neither half precision holds the numbers of the other, so a pair of the two is float32.
    dtype = dtype_p if dtype_p is dtype_q else torch.float32
    cost = torch.xlogy(p.float(), q.float())
    own = torch.xlogy(p.float(), p.float())
    for value, expected in (
        (cross_entropy(p, q), -cost.sum(-1)),
        (kl_divergence(p, q), (own - cost).sum(-1)),
    ):
        assert value.dtype is dtype
        bound = unit(dtype) * expected.double() + 64 * unit(torch.float32)
        assert_within(value, expected.double(), bound)


@pytest.mark.parametrize("dtype", [*HALF, torch.float32], ids=str)
def test_a_pair_is_computed_in_the_wider_dtype(dtype: torch.dtype) -> None:
    p = torch.tensor([[0.7, 0.3], [0.9, 0.1]], dtype=dtype)
    q = p.double() / p.double().sum(-1, keepdim=True)
    bound = 2 * pair_bound(kl_divergence, p, q)
    assert bound.dtype is torch.float64
    assert_within(kl_divergence(p, q), scipy_measure(kl_divergence, p, q), bound)


def test_gradient_of_cross_entropy_and_divergence() -> None:
    # No p or q so small that a difference quotient's step of 1e-6 is not small beside it.
    p = (0.2 + 0.2 * probabilities(3, 4)).requires_grad_()
    q = (0.2 + 0.2 * other_probabilities(3, 4)).requires_grad_()
    for measure in (cross_entropy, kl_divergence):
        assert torch.autograd.gradcheck(measure, (p, q))
        assert torch.autograd.gradgradcheck(measure, (p, q))
    # Logarithms of size log 5 or less, to 8 u: four on the two sides.
    bound = 64 * unit(torch.float64)
    to_p, to_q = torch.autograd.grad(cross_entropy(p, q).sum(), (p, q))
    assert_within(to_p, -q.detach().log(), bound)
    assert_within(to_q, -(p / q).detach(), bound)
    to_p, to_q = torch.autograd.grad(kl_divergence(p, q).sum(), (p, q))
    assert_within(to_p, (p / q).detach().log() + 1, bound)
    assert_within(to_q, -(p / q).detach(), bound)


@both
@given(pair=row_pairs(2, 6, bound=5.0), temperature=temperatures(0.5, 5.0))
def test_gradient_for_the_logits_is_q_minus_p(
    measure: Measure, pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    p, z = softmax(pair[0]), pair[1].requires_grad_()
    (gradient,) = torch.autograd.grad(measure(p, softmax(z, temperature=temperature)), z)
    q = torch.softmax(z.detach() / temperature, -1)
    # Both p and q are off by a few dozen u; a quotient p / q <= e^20 loses u of the product p.
    assert_within(gradient, (q - p) / temperature, 256 * unit(torch.float64) / temperature)


# Each row: rejected p, q and dim, the whole message, accepted p, q and dim.
BAD_PAIRS: dict[str, tuple[Any, Any, int, type[Exception], str, Tensor, Tensor, int]] = {
    "p a list": (
        [0.5, 0.5],
        torch.tensor([0.5, 0.5]),
        -1,
        TypeError,
        NOT_FLOATING.format("[0.5, 0.5]"),
        torch.tensor([0.5, 0.5]),
        torch.tensor([0.5, 0.5]),
        -1,
    ),
    "q integers": (
        torch.tensor([0.0, 1.0]),
        torch.tensor([0, 1]),
        -1,
        TypeError,
        NOT_FLOATING.format("tensor([0, 1])"),
        torch.tensor([0.0, 1.0]),
        torch.tensor([0.0, 1.0]),
        -1,
    ),
    "q logits": (
        torch.tensor([0.5, 0.5]),
        torch.tensor([1.0, 2.0]),
        -1,
        ValueError,
        NOT_A_ROW.format([1.0, 2.0], 3),
        torch.tensor([0.5, 0.5]),
        softmax(torch.tensor([1.0, 2.0])),
        -1,
    ),
    "p logits": (
        torch.tensor([1.0, 2.0]),
        torch.tensor([0.5, 0.5]),
        -1,
        ValueError,
        NOT_A_ROW.format([1.0, 2.0], 3),
        softmax(torch.tensor([1.0, 2.0])),
        torch.tensor([0.5, 0.5]),
        -1,
    ),
    "both logits": (
        torch.tensor([1.0, 2.0]),
        torch.tensor([3.0, 4.0]),
        -1,
        ValueError,
        NOT_A_ROW.format([1.0, 2.0], 3),
        softmax(torch.tensor([1.0, 2.0])),
        softmax(torch.tensor([3.0, 4.0])),
        -1,
    ),
    "q log-probabilities": (
        torch.tensor([0.5, 0.5]),
        torch.tensor([0.0, -math.inf]),
        -1,
        ValueError,
        NOT_A_ROW.format("[0.0, -inf]", "-inf"),
        torch.tensor([0.5, 0.5]),
        torch.tensor([0.0, -math.inf]).exp(),
        -1,
    ),
    "a label for p": (
        torch.tensor(1.0),
        torch.tensor([0.5, 0.5]),
        -1,
        ValueError,
        NO_DIM.format(-1, ()),
        torch.tensor([0.0, 1.0]),
        torch.tensor([0.5, 0.5]),
        -1,
    ),
    "no such dim of q": (
        torch.eye(2),
        torch.tensor([0.5, 0.5]),
        1,
        ValueError,
        NO_DIM.format(1, (2,)),
        torch.eye(2),
        torch.tensor([[0.5, 0.5]]),
        1,
    ),
    "two and three outcomes": (
        torch.tensor([0.5, 0.5]),
        torch.tensor([0.5, 0.5, 0.0]),
        -1,
        ValueError,
        NO_FIT.format((2,), (3,), -1),
        torch.tensor([0.5, 0.5, 0.0]),
        torch.tensor([0.5, 0.5, 0.0]),
        -1,
    ),
    "one outcome and three": (
        torch.ones(2, 1),
        torch.full((2, 4), 0.25),
        1,
        ValueError,
        NO_FIT.format((2, 1), (2, 4), 1),
        torch.ones(2, 1).expand(2, 4) / 4,
        torch.full((2, 4), 0.25),
        1,
    ),
    "one outcome of q": (
        torch.full((2, 4), 0.25),
        torch.ones(2, 1),
        -1,
        ValueError,
        NO_FIT.format((2, 4), (2, 1), -1),
        torch.full((2, 4), 0.25),
        torch.full((2, 4), 0.25),
        -1,
    ),
    "batches of two and three": (
        torch.full((2, 4), 0.25),
        torch.full((3, 4), 0.25),
        -1,
        ValueError,
        NO_FIT.format((2, 4), (3, 4), -1),
        torch.full((2, 1, 4), 0.25),
        torch.full((3, 4), 0.25),
        -1,
    ),
    # Dimension 0 of p would meet dimension 1 of q.
    "dim from the front of a row and a matrix": (
        torch.full((2,), 0.5),
        torch.full((2, 2), 0.5),
        0,
        ValueError,
        FROM_THE_FRONT.format(0, (2,), (2, 2)),
        torch.full((2, 1), 0.5),
        torch.full((2, 2), 0.5),
        0,
    ),
    "dim from the front of a batch and a matrix": (
        torch.full((3, 2, 2), 0.5),
        torch.full((2, 2), 0.5),
        1,
        ValueError,
        FROM_THE_FRONT.format(1, (3, 2, 2), (2, 2)),
        torch.full((3, 2, 2), 0.5),
        torch.full((2, 2), 0.5),
        -1,
    ),
    "an empty batch and three": (
        torch.full((0, 4), 0.25),
        torch.full((3, 4), 0.25),
        -1,
        ValueError,
        NO_FIT.format((0, 4), (3, 4), -1),
        torch.full((0, 4), 0.25),
        torch.full((1, 4), 0.25),
        -1,
    ),
}


@both
@pytest.mark.parametrize(
    ("p", "q", "dim", "error", "message", "good_p", "good_q", "good_dim"),
    BAD_PAIRS.values(),
    ids=BAD_PAIRS.keys(),
)
def test_what_is_no_pair_of_distributions_is_shown_with_what_would_work(
    p: Any,
    q: Any,
    dim: int,
    error: type[Exception],
    message: str,
    good_p: Tensor,
    good_q: Tensor,
    good_dim: int,
    measure: Measure,
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        measure(p, q, dim)
    assert not measure(good_p, good_q, good_dim).isnan().any()


# Perplexity ---------------------------------------------------------------------------------------


def perplexity_bound(log_probs: Tensor, expected: Tensor, dim: int = -1) -> Tensor:
    """The error of a mean of N terms in cascade is a relative one of its exponential (8 u)."""
    u = unit(arithmetic(log_probs.dtype))
    mean = log_probs.double().mean(dim).abs()
    n = log_probs.shape[dim]
    relative = u * ((4 * math.log2(n + 1) + 4) * mean + 8)
    relative = relative + (unit(log_probs.dtype) if log_probs.dtype in HALF else 0.0)
    return (2 * relative * expected).nan_to_num(posinf=0.0)


def log_probabilities(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return -2 * torch.rand(*shape, generator=generator, dtype=torch.float64).square()


@pytest.mark.parametrize(
    ("log_probs", "dim"),
    [
        pytest.param(log_probabilities(7), -1, id="a text"),
        pytest.param(log_probabilities(7), 0, id="a text, dim 0"),
        pytest.param(log_probabilities(1), -1, id="one outcome"),
        pytest.param(log_probabilities(3, 7), -1, id="texts"),
        pytest.param(log_probabilities(7, 3), 0, id="down the columns"),
        pytest.param(log_probabilities(2, 3, 4, 5), 1, id="four dimensions, dim 1"),
        pytest.param(log_probabilities(2, 3, 4, 5), -4, id="four dimensions, dim -4"),
        pytest.param(log_probabilities(7, 3).T, -1, id="transposed"),
        pytest.param(log_probabilities(3, 14)[:, ::2], 1, id="every other"),
        pytest.param(log_probabilities(3, 1).expand(3, 7), -1, id="expanded"),
        pytest.param(log_probabilities(100_000), -1, id="a book"),
        pytest.param(log_probabilities(0, 7), -1, id="no texts"),
        pytest.param(log_probabilities(7, 0, 2), 0, id="no texts, dim 0"),
    ],
)
@dtypes
def test_perplexity_is_the_inverse_geometric_mean(
    log_probs: Tensor, dim: int, dtype: torch.dtype
) -> None:
    log_probs = log_probs.to(dtype)
    value = perplexity(log_probs, dim)
    assert value.dtype is dtype
    # SciPy takes logarithms again.
    means = scipy.stats.gmean(log_probs.double().exp().numpy(), axis=dim)
    expected = 1 / torch.as_tensor(np.asarray(means))
    again = 64 * unit(torch.float64) * expected
    assert_within(value, expected, perplexity_bound(log_probs, expected, dim) + again)
    assert (value >= 1).all()


@given(st.lists(st.floats(-30, 0, width=32), min_size=1, max_size=12))
def test_perplexity_against_fifty_digits(numbers: list[float]) -> None:
    for dtype in DTYPES:
        log_probs = torch.tensor(numbers, dtype=dtype)
        exact = mp.exp(-mp.fsum(mp.mpf(x) for x in log_probs.tolist()) / len(numbers))
        expected = torch.tensor(float(exact), dtype=torch.float64)
        if expected > torch.finfo(dtype).max:
            assert perplexity(log_probs).item() == math.inf
        else:
            # The last rounding may take what is within the range beyond it.
            bound = perplexity_bound(log_probs, expected) + smallest(dtype)
            if expected + bound <= torch.finfo(dtype).max:
                assert_within(perplexity(log_probs), expected, bound)


@pytest.mark.parametrize("k", [1, 2, 3, 10, 50257])
@dtypes
def test_perplexity_of_guesses_among_k_is_k(k: int, dtype: torch.dtype) -> None:
    log_probs = torch.full((4, 5), -math.log(k), dtype=dtype)
    # In half precision the logarithm is rounded first, and its error becomes a relative one.
    relative = unit(dtype) * (math.log(k) + 1) + unit(arithmetic(dtype)) * (32 * math.log(k) + 8)
    assert perplexity(log_probs).tolist() == pytest.approx([k] * 4, rel=relative)


@pytest.mark.parametrize(
    ("log_probs", "expected"),
    [
        ([0.0], 1.0),
        ([-0.0, 0.0], 1.0),
        ([math.log(0.5), math.log(0.125)], 4.0),
        ([math.log(0.5), 0.0], math.sqrt(2)),
        ([-math.inf], math.inf),
        ([0.0, -math.inf, -1.0], math.inf),
        ([-2e4], math.inf),
    ],
)
@dtypes
def test_closed_forms_of_perplexity(
    log_probs: list[float], expected: float, dtype: torch.dtype
) -> None:
    value = perplexity(torch.tensor(log_probs, dtype=dtype)).item()
    assert value == pytest.approx(expected, rel=rounded(dtype), abs=0.0)


def test_perplexity_is_the_exponential_of_torch_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(5)
    z = 3 * torch.randn(40, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(6, (40,), generator=generator)
    of_labels = torch.log_softmax(z, -1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    expected = functional.cross_entropy(z, labels).exp()
    # log_softmax twice, whose error is a relative one of the exponential.
    off = perplexity_bound(of_labels, expected) + 2 * log_softmax_bound(z).max() * expected
    assert_within(perplexity(of_labels), expected, off)


def test_perplexity_is_the_exponential_of_cross_entropy_with_the_frequencies() -> None:
    q = other_probabilities(5)
    occurred = torch.tensor([0, 0, 1, 2, 2, 2, 2, 4])
    frequencies = torch.bincount(occurred, minlength=5) / 8
    expected = cross_entropy(frequencies, q).exp()
    bound = 2 * perplexity_bound(q.log()[occurred], expected)
    assert_within(perplexity(q.log()[occurred]), expected, bound)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_perplexity_in_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    log_probs = (4 * log_probabilities(16, 300)).to(dtype)
    value = perplexity(log_probs)
    assert torch.equal(value, perplexity(log_probs.float()).to(dtype))
    # Rounding the mean before its exponential would be seen.
    assert not torch.equal(value, log_probs.mean(-1).neg().exp())


def test_perplexity_beyond_the_range_of_the_dtype_is_infinite() -> None:
    log_probs = torch.tensor([-12.0])
    assert perplexity(log_probs.half()).item() == math.inf
    single, half = rounded(torch.float32), rounded(torch.float16)
    assert perplexity(log_probs).item() == pytest.approx(math.exp(12), rel=single)
    assert perplexity(torch.tensor([-11.0]).half()).item() == pytest.approx(math.exp(11), rel=half)


@dtypes
def test_nan_is_not_hidden_from_perplexity(dtype: torch.dtype) -> None:
    value = perplexity(torch.tensor([[-1.0, math.nan], [-1.0, -1.0]], dtype=dtype))
    assert value.isnan().tolist() == [True, False]


def test_gradient_of_perplexity() -> None:
    log_probs = log_probabilities(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(perplexity, (log_probs,))
    value = perplexity(log_probs)
    (gradient,) = torch.autograd.grad(value.sum(), log_probs)
    expected = -(value / 4).detach().unsqueeze(-1).expand(3, 4)
    assert_within(gradient, expected, rel=4 * unit(value.dtype))


ABOVE_ZERO = (
    "log-probabilities must be <= 0, got {}; take the logarithm of probabilities first, or "
    "log_softmax(z) of logits"
)
NO_OUTCOMES = (
    "dimension {} of the log-probabilities is empty (shape {}); "
    "a perplexity needs at least one outcome"
)

# Each row: rejected log-probabilities and dim, the whole message, accepted ones and dim.
BAD_LOGS: dict[str, tuple[Any, int, type[Exception], str, Tensor, int]] = {
    "a list": (
        [-1.0],
        -1,
        TypeError,
        NOT_FLOATING.replace("probabilities", "log-probabilities", 1).format("[-1.0]"),
        torch.tensor([-1.0]),
        -1,
    ),
    "integers": (
        torch.tensor([-1]),
        -1,
        TypeError,
        NOT_FLOATING.replace("probabilities", "log-probabilities", 1).format("tensor([-1])"),
        torch.tensor([-1.0]),
        -1,
    ),
    "a scalar": (
        torch.tensor(-1.0),
        -1,
        ValueError,
        NO_DIM.replace("probabilities", "log-probabilities").format(-1, ()),
        torch.tensor([-1.0]),
        -1,
    ),
    "dim too large": (
        torch.zeros(2, 3),
        2,
        ValueError,
        NO_DIM.replace("probabilities", "log-probabilities").format(2, (2, 3)),
        torch.zeros(2, 3),
        1,
    ),
    "no outcomes": (
        torch.zeros(0),
        -1,
        ValueError,
        NO_OUTCOMES.format(-1, (0,)),
        torch.zeros(1),
        -1,
    ),
    "no outcomes, dim 0": (
        torch.zeros(0, 3),
        0,
        ValueError,
        NO_OUTCOMES.format(0, (0, 3)),
        torch.zeros(0, 3),
        1,
    ),
    "probabilities": (
        torch.tensor([0.5, 0.125]),
        -1,
        ValueError,
        ABOVE_ZERO.format([0.5, 0.125]),
        torch.tensor([0.5, 0.125]).log(),
        -1,
    ),
    "one logit": (
        torch.tensor([[-1.0, -2.0], [-3.0, 4.0]]),
        -1,
        ValueError,
        ABOVE_ZERO.format([4.0]),
        torch.tensor([[-1.0, -2.0], [-3.0, 4.0]]).log_softmax(-1),
        -1,
    ),
    "the smallest that is above 0": (
        torch.tensor([2.0**-149, -1.0]),
        -1,
        ValueError,
        ABOVE_ZERO.format([2.0**-149]),
        torch.tensor([0.0, -1.0]),
        -1,
    ),
    "infinite": (
        torch.tensor([math.inf, -math.inf]),
        -1,
        ValueError,
        ABOVE_ZERO.format("[inf]"),
        torch.tensor([-math.inf]),
        -1,
    ),
    "six probabilities": (
        torch.ones(2, 3),
        -1,
        ValueError,
        ABOVE_ZERO.format([1.0] * 6),
        torch.zeros(2, 3),
        -1,
    ),
    "seven probabilities": (
        torch.ones(7, 1, dtype=torch.float16),
        0,
        ValueError,
        ABOVE_ZERO.format(f"{[1.0] * 6} ..."),
        torch.zeros(7, 1, dtype=torch.float16),
        0,
    ),
}


@pytest.mark.parametrize(
    ("bad", "bad_dim", "error", "message", "good", "good_dim"),
    BAD_LOGS.values(),
    ids=BAD_LOGS.keys(),
)
def test_what_has_no_perplexity_is_shown_with_what_would_work(
    bad: Any, bad_dim: int, error: type[Exception], message: str, good: Tensor, good_dim: int
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        perplexity(bad, bad_dim)
    assert not perplexity(good, good_dim).isnan().any()


def test_certainty_is_not_named_among_what_lies_above_zero() -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(ABOVE_ZERO.format([0.5]))}$"):
        perplexity(torch.tensor([0.0, 0.5, -1.0]))


def test_the_row_that_is_wrong_is_shown_and_not_the_first() -> None:
    with pytest.raises(ValueError, match=r"got a row \[1.5, -0.5\] with sum 1; "):
        entropy(torch.tensor([[0.5, 0.5], [1.5, -0.5]]))
