from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor
from torch.nn import functional

from omnivault.information import cross_entropy, entropy, perplexity
from tests.package.information.common import (
    NO_DIM,
    NOT_FLOATING,
    dtypes,
    other_probabilities,
    rounded,
)
from tests.support.strategies import (
    DTYPES,
    HALF,
    arithmetic,
    assert_within,
    log_softmax_bound,
    smallest,
    unit,
)


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
        ABOVE_ZERO.format("[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, ...]"),
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
