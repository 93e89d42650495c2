"""Weights, classes in several dimensions, and integers: what SciPy and PyTorch have of these."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import (
    log_softmax,
    logsumexp,
    softmax,
    softmax_hessian,
    softmax_jacobian,
)
from tests.package.softmax.common import INF, NAN, random_logits
from tests.support.strategies import (
    DTYPES,
    assert_within,
    log_softmax_bound,
    logsumexp_bound,
    rows,
    softmax_bound,
    unit,
)

MAPS: list[Any] = [softmax, log_softmax, logsumexp]


@given(st.data(), st.floats(0.2, 5.0))
def test_weighted_logsumexp_is_scipy(data: st.DataObject, temperature: float) -> None:
    z = data.draw(rows(1, 6))
    weights = torch.tensor(
        data.draw(st.lists(st.floats(1e-3, 1e3), min_size=len(z), max_size=len(z))),
        dtype=torch.float64,
    )
    expected = temperature * scipy.special.logsumexp(z.numpy() / temperature, b=weights.numpy())
    value = logsumexp(z, temperature=temperature, weights=weights)
    # A logarithm of a weight up to 7, to 8 u, on both sides, beside the bounds without weights.
    bound = 2 * logsumexp_bound(z, temperature) + temperature * 128 * unit(torch.float64)
    size = 8 * unit(torch.float64) * (z.abs().max().item() + 7 * temperature)
    assert_within(value, torch.tensor(expected), bound + size)


def test_weighted_softmax_by_hand() -> None:
    z = torch.tensor([0.0, 0.0, 0.0], dtype=torch.float64)
    weights = torch.tensor([1.0, 2.0, 5.0])
    rel = 32 * unit(torch.float64)
    assert_within(softmax(z, weights=weights), weights.double() / 8, rel=rel)
    assert_within(log_softmax(z, weights=weights), (weights.double() / 8).log(), rel=rel)
    assert_within(logsumexp(z, weights=weights), torch.tensor(8.0).double().log(), rel=rel)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_class_of_weight_zero_is_left_out(dtype: torch.dtype) -> None:
    z = random_logits(4, 6).to(dtype)
    mask = torch.tensor([True, False, True, True, False, True])
    for subject in MAPS:
        masked = subject(z, weights=mask)
        assert torch.equal(masked, subject(z.masked_fill(~mask, -INF)))
        assert torch.equal(masked, subject(z, weights=mask.to(dtype)))
        # Not even a logit that is no number is looked at.
        assert torch.equal(masked, subject(z.masked_fill(~mask, NAN), weights=mask))
    assert logsumexp(z, weights=torch.zeros(6)).tolist() == [-INF] * 4
    assert softmax(z, weights=torch.zeros(6)).isnan().all()


def test_a_weight_may_be_smaller_than_every_exponential() -> None:
    z, weights = torch.tensor([0.0, 0.0, 100.0]), torch.tensor([1.0, 1.0, 1e-40])
    ratio = mp.mpf(weights[2].item()) * mp.exp(100)
    expected = torch.tensor([float(x / (2 + ratio)) for x in (1, 1, ratio)], dtype=torch.float64)
    # The logarithm 92 of the weight, to 8 u.
    assert_within(softmax(z, weights=weights), expected, rel=1024 * unit(torch.float32))


def test_gradients_with_weights() -> None:
    z = random_logits(2, 5).requires_grad_()
    weights = torch.tensor([1.0, 0.0, 2.0, 1e-30, 5.0])
    for subject in MAPS:
        assert torch.autograd.gradcheck(
            lambda z, subject=subject: subject(z, weights=weights).nan_to_num(neginf=0.0), (z,)
        )
    (gradient,) = torch.autograd.grad(logsumexp(z, weights=weights).sum(), z)
    assert_within(gradient, softmax(z, weights=weights), 64 * unit(torch.float64))


@pytest.mark.parametrize("dims", [(0, 1), (1, 0), (-1, 0), (0, 1, 2), (1,), (-1, -2)])
def test_several_dimensions_are_one_that_holds_them_all(dims: tuple[int, ...]) -> None:
    z = random_logits(2, 3, 4)
    temperature = 0.7
    total = torch.logsumexp(z / temperature, dims, keepdim=True)
    bound = 4 * log_softmax_bound(z.flatten(), temperature).max().item()
    assert_within(
        logsumexp(z, dims, temperature=temperature), temperature * total.squeeze(dims), bound
    )
    assert_within(log_softmax(z, dims, temperature=temperature), z / temperature - total, bound)
    p = softmax(z, dims, temperature=temperature)
    assert p.shape == z.shape
    assert_within(p, (z / temperature - total).exp(), bound)
    assert_within(p, torch.as_tensor(scipy.special.softmax(z.numpy() / temperature, dims)), bound)


def test_rows_of_several_dimensions_have_temperatures_and_weights() -> None:
    z = random_logits(2, 3, 4)
    temperature = torch.tensor([0.5, 1.0, 2.0])
    weights = torch.arange(24.0).reshape(2, 3, 4)
    p = softmax(z, (0, 2), temperature=temperature, weights=weights)
    for n in range(3):
        row, own = z[:, n].flatten(), weights[:, n].flatten()
        expected = softmax(row, temperature=temperature[n].item(), weights=own)
        assert_within(p[:, n].flatten(), expected, 2 * softmax_bound(row, temperature[n].item()))


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64], ids=str
)
def test_integers_are_numbers_of_the_default_dtype(dtype: torch.dtype) -> None:
    z = torch.tensor([[1, 2, 3], [0, 0, 7]], dtype=dtype)
    for subject in (*MAPS, softmax_jacobian, softmax_hessian):
        value = subject(z)
        assert value.dtype is torch.float32  # as torch.logsumexp(z, -1) is
        assert torch.equal(value, subject(z.float()))
    torch.set_default_dtype(torch.float64)
    try:
        assert softmax(z).dtype is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_eight_bits_are_computed_in_float32(name: str) -> None:
    dtype = getattr(torch, name)
    z = torch.tensor([1.0, 2.0, -3.0]).to(dtype)
    for subject in MAPS:
        assert subject(z).dtype is dtype
        assert torch.equal(subject(z).float(), subject(z.float()).to(dtype).float())


# Each row: rejected arguments, the whole message.
WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no dimension": ({"dim": ()}, ValueError, "dim must name a dimension, got (); -1 is the last"),
    "twice": ({"dim": (0, -2)}, ValueError, "dim must name each dimension once, got (0, -2)"),
    "one that is not there": (
        {"dim": (0, 2)},
        ValueError,
        "dim must lie in [-2, 1] for logits of shape (2, 3), got 2",
    ),
    "a list": ({"dim": [0, 1]}, TypeError, "dim must be an int such as -1, got [0, 1]"),
    "weights in a list": (
        {"weights": [1.0]},
        TypeError,
        "weights must be a tensor of real numbers or of booleans, got [1.0]",
    ),
    "of another shape": (
        {"weights": torch.ones(2)},
        ValueError,
        "weights of shape (2,) do not broadcast to logits of shape (2, 3); give one for each class",
    ),
    "negative": (
        {"weights": torch.tensor([1.0, -0.5, 0.0])},
        ValueError,
        "weights must be >= 0 and finite, got [-0.5]; 0 leaves a class out",
    ),
    "infinite": (
        {"weights": torch.tensor([1.0, INF, NAN])},
        ValueError,
        "weights must be >= 0 and finite, got [inf, nan]; 0 leaves a class out",
    ),
}


@pytest.mark.parametrize(("named", "error", "message"), WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("subject", MAPS)
def test_what_is_wrong_is_shown(
    subject: Any, named: dict[str, Any], error: type[Exception], message: str
) -> None:
    z = torch.zeros(2, 3)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        subject(z, **named)
    subject(z, dim=(0, 1), weights=torch.ones(3))


def test_sparse_logits_are_shown_what_would_work() -> None:
    sparse = torch.eye(2).to_sparse()
    for subject in MAPS:
        with pytest.raises(TypeError, match=r"got layout torch\.sparse_coo; logits\.to_dense\(\)"):
            subject(sparse)
        subject(sparse.to_dense())


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # PyTorch's own use
@pytest.mark.parametrize("subject", MAPS)
def test_transforms_of_functions(subject: Any) -> None:
    z = random_logits(3, 4).float()
    assert torch.equal(torch.func.vmap(subject)(z), subject(z))
    for dtype in DTYPES:
        jacobian = torch.func.jacfwd(subject)(z[0].to(dtype))
        assert jacobian.dtype is dtype
    reverse = torch.func.jacrev(subject)(z[0])
    assert_within(torch.func.jacfwd(subject)(z[0]), reverse.double(), 64 * unit(torch.float32))


def test_weights_of_numpy_shape_as_in_scipy() -> None:
    z = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    b = torch.tensor([[0.5], [2.0]], dtype=torch.float64)
    expected = scipy.special.logsumexp(z.numpy(), axis=(0, 1), b=np.broadcast_to(b, (2, 2)))
    value: Tensor = logsumexp(z, (0, 1), weights=b)
    assert_within(value, torch.tensor(expected), 64 * unit(torch.float64))


BEYOND_FLOAT32: list[tuple[list[float], list[float]]] = [
    ([200.0, 0.0], [1e-50, 1.0]),
    ([1.0, 2.0], [1e300, 1e300]),
    ([1.0, 2.0, 0.0], [1e-300, 2e-300, 0.0]),
    ([-80.0, 0.0], [1e60, 1e-60]),
]


@pytest.mark.parametrize(("z", "weights"), BEYOND_FLOAT32, ids=str)
def test_weights_may_lie_outside_the_range_of_the_logits_format(
    z: list[float], weights: list[float]
) -> None:
    terms = [mp.mpf(w) * mp.exp(x) for x, w in zip(z, weights, strict=True)]
    logits, given = torch.tensor(z), torch.tensor(weights, dtype=torch.float64)
    total = mp.log(mp.fsum(terms))
    # Logarithms up to 700 in size are rounded a few times.
    near = 700 * 4 * unit(torch.float32)
    assert_within(logsumexp(logits, weights=given), total, near)
    for value, term in zip(softmax(logits, weights=given).tolist(), terms, strict=True):
        assert_within(value, term / mp.exp(total), 1e-45, rel=2 * near)
