from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax, softmax_hessian
from tests.package.softmax.common import ROWS_FOR_MPMATH, dtypes, random_logits, some_temperatures
from tests.package.softmax.common_derivatives import INF, Counted, counted_softmax
from tests.package.softmax.test_against_torch import in_dtype
from tests.package.softmax.test_extreme_logits import HUGE, not_finite
from tests.support.strategies import (
    HALF,
    SINGLE_DOUBLE,
    arithmetic,
    assert_within,
    exact_softmax,
    rows,
    temperatures,
    unit,
)


def hessian_bound(z: Tensor, temperature: float) -> Tensor:
    """The formula of the docstring, with 1 - p_i as the sum of the others."""
    wide = z.to(arithmetic(z.dtype))
    p = counted_softmax(wide, temperature)
    apart = 1 - torch.eye(z.shape[-1], dtype=torch.float64)
    others = p.arranged(lambda t: t.unsqueeze(-2) * apart)
    rest = others.sum(-1).arranged(torch.diag_embed)
    moved = Counted(rest.value - others.value, rest.error + others.error, wide.dtype)
    products = moved.arranged(lambda t: t[..., :, :, None]) * moved.arranged(
        lambda t: t[..., None, :]
    )
    pairs = p.arranged(lambda t: t[..., None, :, None]) * moved.arranged(
        lambda t: t[..., None, :, :]
    )
    first = p.arranged(lambda t: t[..., :, None, None])
    hessian = (first * (products - pairs)).over(temperature).over(temperature)
    return hessian.bound(z.dtype)


def exact_hessian(z: Tensor, temperature: float) -> Tensor:
    """Case by case, to 50 digits, and without a difference that cancels more than they hold."""
    p = exact_softmax(z, temperature)
    k = len(p)
    rest = [mp.fsum(p[:i] + p[i + 1 :]) for i in range(k)]
    hessian = torch.empty(k, k, k, dtype=torch.float64)
    for index in itertools.product(range(k), repeat=3):
        kinds = sorted(set(index), key=index.count)
        if len(kinds) == 3:
            value = 2 * mp.fprod(p[i] for i in kinds)
        elif len(kinds) == 2:
            once, twice = kinds
            value = -p[once] * p[twice] * (rest[twice] - p[twice])
        else:
            i = index[0]
            value = p[i] * rest[i] * (rest[i] - p[i])
        hessian[index] = float(value / mp.mpf(temperature) ** 2)
    return hessian


def autograd_hessian(z: Tensor, temperature: float) -> Tensor:
    """What torch finds for ``z`` in float64, row by row."""

    def subject(x: Tensor) -> Tensor:
        return torch.softmax(x / temperature, -1)

    k = z.shape[-1]
    found = [
        torch.func.jacrev(torch.func.jacrev(subject))(row) for row in z.double().reshape(-1, k)
    ]
    return torch.stack(found).reshape(*z.shape, k, k)


# Autograd multiplies and subtracts p <= 1 as they stand, and 1 - p cancels. Its numbers are at most
# 1/T^2, and fewer than 16 roundings of that size lie behind one.
def autograd_error(temperature: float) -> float:
    return 16 * unit(torch.float64) / temperature**2


@pytest.mark.parametrize("shape", [(1,), (2,), (6,), (1, 4), (3, 4), (2, 3, 4), (2, 1)])
@dtypes
@some_temperatures
def test_hessian_is_what_autograd_finds(
    shape: tuple[int, ...], dtype: torch.dtype, temperature: float
) -> None:
    z = random_logits(*shape).to(dtype)
    hessian = softmax_hessian(z, temperature=temperature)
    assert hessian.dtype is dtype
    bound = hessian_bound(z, temperature) + autograd_error(temperature)
    assert_within(hessian, autograd_hessian(z, temperature), bound)


@pytest.mark.parametrize("values", ROWS_FOR_MPMATH.values(), ids=ROWS_FOR_MPMATH.keys())
@dtypes
@some_temperatures
def test_hessian_against_fifty_digits(
    values: list[float], dtype: torch.dtype, temperature: float
) -> None:
    z = torch.tensor(values, dtype=dtype)
    expected = exact_hessian(z, temperature)
    assert_within(
        softmax_hessian(z, temperature=temperature), expected, hessian_bound(z, temperature)
    )


@given(st.data(), temperatures())
def test_hessian_of_any_row_against_fifty_digits(data: st.DataObject, temperature: float) -> None:
    for dtype in SINGLE_DOUBLE:
        z = data.draw(rows(1, 4, dtype=dtype))
        hessian = softmax_hessian(z, temperature=temperature)
        assert_within(hessian, exact_hessian(z, temperature), hessian_bound(z, temperature))


@pytest.mark.parametrize("temperature", [1.0, 0.3, 2.5])
def test_hessian_is_the_third_derivative_of_logsumexp(temperature: float) -> None:
    def subject(x: Tensor) -> Tensor:
        return temperature * torch.logsumexp(x / temperature, -1)

    for k in (1, 2, 5):
        z = random_logits(k)
        expected = torch.func.jacrev(torch.func.jacrev(torch.func.jacrev(subject)))(z)
        bound = hessian_bound(z, temperature) + autograd_error(temperature)
        assert_within(softmax_hessian(z, temperature=temperature), expected, bound)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0.0, -20.0], torch.float32),
        ([-20.0, 0.0], torch.float32),
        ([0.0, -40.0], torch.float32),
        ([0.0, -40.0], torch.float64),
        ([0.0, -300.0], torch.float64),
        ([0.0, -20.0, -25.0], torch.float32),
        ([-21.0, 0.0, -18.0, -19.0], torch.float32),
        ([0.0, -20.0], torch.bfloat16),
    ],
)
@pytest.mark.parametrize("temperature", [1.0, 0.75])
def test_hessian_keeps_its_digits_where_a_probability_rounds_to_one(
    values: list[float], dtype: torch.dtype, temperature: float
) -> None:
    z = torch.tensor(values, dtype=dtype)
    assert softmax(z, temperature=temperature).max().item() == 1.0
    expected = exact_hessian(z, temperature)
    hessian = softmax_hessian(z, temperature=temperature).double()
    relative = ((hessian - expected) / expected).abs().max().item()
    # Three factors p, each off by 3 gap + 20 u, and fewer than ten operations. Half precision
    # rounds once more.
    gap = (max(values) - min(values)) / temperature
    u = unit(arithmetic(dtype))
    assert relative <= u * (3 * (3 * gap + 20) + 10) + (unit(dtype) if dtype in HALF else 0.0)


@given(rows(1, 6), temperatures())
def test_hessian_is_symmetric_in_its_three_indices(z: Tensor, temperature: float) -> None:
    hessian = softmax_hessian(z, temperature=temperature)
    bound = hessian_bound(z, temperature)
    for order in itertools.permutations(range(3)):
        assert_within(hessian.permute(order), hessian, bound + bound.permute(order))


@given(rows(1, 6), temperatures())
def test_hessian_sums_to_zero_along_each_index(z: Tensor, temperature: float) -> None:
    hessian = softmax_hessian(z, temperature=temperature)
    bound = hessian_bound(z, temperature)
    for dim in range(3):
        # The sum that checks this rounds too, K - 1 times.
        own = len(z) * unit(z.dtype) * hessian.abs().sum(dim)
        assert_within(hessian.sum(dim), torch.zeros_like(own), bound.sum(dim) + own)


@dtypes
@pytest.mark.parametrize("temperature", [0.125, 0.5, 2.0, 4.0])
def test_temperature_divides_the_hessian_by_its_square(
    dtype: torch.dtype, temperature: float
) -> None:
    # Powers of two round nothing, so this holds to the last bit.
    z = random_logits(3, 5).to(arithmetic(dtype)) * temperature
    expected = softmax_hessian(z / temperature) / temperature**2
    assert torch.equal(softmax_hessian(z, temperature=temperature), expected)


@pytest.mark.parametrize("k", [1, 2, 3, 7])
@pytest.mark.parametrize("temperature", [1.0, 0.5, 1e-6, 1e6])
@dtypes
def test_hessian_of_a_tie_in_closed_form(k: int, temperature: float, dtype: torch.dtype) -> None:
    z = torch.full((k,), -7.0, dtype=dtype)
    if dtype is torch.float16 and temperature == 1e-6:
        temperature = 1e-2  # 1 / T^2 would be above the largest float16
    p = Fraction(1, k)
    cases = {1: p * (1 - p) * (1 - 2 * p), 2: -p * p * (1 - 2 * p), 3: 2 * p**3}
    expected = torch.tensor(
        [
            float(cases[len(set(index))] / Fraction(temperature) ** 2)
            for index in itertools.product(range(k), repeat=3)
        ],
        dtype=torch.float64,
    ).reshape(k, k, k)
    hessian = softmax_hessian(z, temperature=temperature)
    assert_within(hessian, expected, hessian_bound(z, temperature))


@given(st.floats(-30, 30), temperatures())
def test_hessian_of_two_classes_is_that_of_the_logistic_function(
    x: float, temperature: float
) -> None:
    # p (1 - p) (1 - 2p), with p = 1 / (1 + exp(-x / T)), is -tanh(y) / (4 cosh(y)^2), y = x / 2T.
    z = torch.tensor([x, 0.0], dtype=torch.float64)
    y = mp.mpf(x) / (2 * mp.mpf(temperature))
    value = float(-mp.tanh(y) / (4 * mp.cosh(y) ** 2) / mp.mpf(temperature) ** 2)
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64)
    expected = value * sign[:, None, None] * sign[:, None] * sign
    hessian = softmax_hessian(z, temperature=temperature)
    assert_within(hessian, expected, hessian_bound(z, temperature))


@pytest.mark.parametrize(
    "make",
    [
        lambda: random_logits(2, 3, 4),
        lambda: random_logits(4, 6).T,
        lambda: random_logits(3, 10)[:, ::2],
        lambda: random_logits(5).expand(3, 5),
        lambda: random_logits(3, 1).expand(3, 4),
        lambda: random_logits(1, 1),
    ],
    ids=["batch", "transposed", "every other column", "expanded", "over the classes", "one by one"],
)
@dtypes
def test_hessian_of_a_batch_is_that_of_each_row(
    make: Callable[[], Tensor], dtype: torch.dtype
) -> None:
    z = in_dtype(make(), dtype)
    k = z.shape[-1]
    hessian = softmax_hessian(z, temperature=0.7)
    assert hessian.shape == (*z.shape, k, k)
    for index in itertools.product(*map(range, z.shape[:-1])):
        alone = softmax_hessian(z[index].contiguous(), temperature=0.7).double()
        # Not torch.equal: the order in which a sum is added up may depend on the strides.
        assert_within(hessian[index], alone, 2 * hessian_bound(z[index], 0.7))


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 5)])
@dtypes
def test_hessian_of_an_empty_batch_is_empty(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    hessian = softmax_hessian(torch.zeros(shape, dtype=dtype))
    assert hessian.shape == (*shape, shape[-1], shape[-1])
    assert hessian.dtype is dtype


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_hessian_is_rounded_once(dtype: torch.dtype) -> None:
    z = (random_logits(4, 20) / 2).to(dtype)
    for temperature in (1.0, 0.3):
        expected = softmax_hessian(z.float(), temperature=temperature).to(dtype)
        assert torch.equal(softmax_hessian(z, temperature=temperature), expected)


def test_one_is_the_default_temperature_of_the_hessian() -> None:
    z = random_logits(2, 3)
    assert torch.equal(softmax_hessian(z), softmax_hessian(z, temperature=1.0))


@dtypes
def test_hessian_leaves_out_what_is_masked(dtype: torch.dtype) -> None:
    z = torch.tensor([0.5, -INF, 2.0, -INF, 0.5], dtype=dtype)
    kept = torch.tensor([0, 2, 4])
    hessian = softmax_hessian(z, temperature=0.7)
    inside = hessian[kept][:, kept][:, :, kept]
    assert_within(inside, exact_hessian(z[kept], 0.7), hessian_bound(z[kept], 0.7))
    assert bool(inside.ne(0).all())
    assert hessian.count_nonzero().item() == 27


@not_finite
@dtypes
def test_hessian_of_an_undefined_row_is_nan(
    values: list[float], undefined: bool, dtype: torch.dtype
) -> None:
    hessian = softmax_hessian(torch.tensor(values, dtype=dtype), temperature=0.5)
    assert bool(hessian.isnan().all()) == bool(hessian.isnan().any()) == undefined


@pytest.mark.parametrize(
    ("values", "temperature", "dtype", "limit"), HUGE.values(), ids=HUGE.keys()
)
def test_hessian_of_huge_logits_and_at_extreme_temperatures(
    values: list[float], temperature: float, dtype: torch.dtype, limit: list[float] | None
) -> None:
    z = torch.tensor(values, dtype=dtype)
    expected = exact_hessian(z, temperature)
    # Above what the dtype holds: an infinity of the sign.
    expected = torch.where(expected.abs() <= torch.finfo(dtype).max, expected, expected * INF)
    # A p of two ties is 1/2 to the last bit, and its p (1 - p) (1 - 2p) is 0.
    bound = hessian_bound(z, temperature)
    bound = torch.where(expected == 0, 0.0, bound) if temperature < 1e-20 else bound
    assert_within(softmax_hessian(z, temperature=temperature), expected, bound)


def test_hessian_has_derivatives_of_its_own() -> None:
    z = random_logits(2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: softmax_hessian(x, temperature=0.7), (z,))
