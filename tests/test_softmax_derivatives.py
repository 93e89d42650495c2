from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from strategies import (
    DTYPES,
    HALF,
    SINGLE_DOUBLE,
    arithmetic,
    as_double,
    assert_within,
    exact_softmax,
    rows,
    smallest,
    softmax_bound,
    temperatures,
    unit,
)
from test_softmax import (
    BAD_DIM,
    BAD_LOGITS,
    BAD_TEMPERATURE,
    HUGE,
    IN_DOUBLE,
    IN_SINGLE,
    NOT_HELD,
    NOT_POSITIVE,
    ROW,
    ROWS_FOR_MPMATH,
    dtypes,
    in_dtype,
    inputs,
    not_finite,
    random_logits,
    slack,
    some_temperatures,
    upstream_like,
)
from torch import Tensor

from omnivault.softmax import (
    SoftmaxFunction,
    softmax,
    softmax_hessian,
    softmax_jacobian,
    softmax_vjp,
)

INF, NAN = math.inf, math.nan

# Torch gives it no type.
function: Callable[[Any, Any], Tensor] = SoftmaxFunction.apply


# Counting rounding errors -------------------------------------------------------------------------


@dataclass(frozen=True)
class Counted:
    """Numbers as float64 has them, and how far arithmetic in ``dtype`` may be from them.

    Every operation passes on the errors of its operands and adds one rounding of its own, which
    is relative (u) or, below the normal numbers, absolute (the smallest number).
    """

    value: Tensor
    error: Tensor
    dtype: torch.dtype

    def rounded(self, value: Tensor, error: Tensor, roundings: float = 1) -> Counted:
        own = roundings * unit(self.dtype) * (value.abs() + error) + smallest(self.dtype)
        return Counted(value, error + own, self.dtype)

    def __mul__(self, other: Counted) -> Counted:
        error = self.value.abs() * other.error + self.error * (other.value.abs() + other.error)
        return self.rounded(self.value * other.value, error)

    def __sub__(self, other: Counted) -> Counted:
        return self.rounded(self.value - other.value, self.error + other.error)

    def over(self, temperature: Any) -> Counted:
        """Divided by T, which is rounded to the dtype itself."""
        return self.rounded(self.value / temperature, self.error / temperature, 2)

    def sum(self, *dim: int, keepdim: bool = False) -> Counted:
        """Added up in cascade."""
        terms = math.prod(self.value.shape[d] for d in dim)
        size = (self.value.abs() + self.error).sum(dim, keepdim)
        own = 4 * math.log2(terms + 1) * unit(self.dtype) * size
        error = self.error.sum(dim, keepdim) + own
        return Counted(self.value.sum(dim, keepdim), error, self.dtype)

    def arranged(self, arrange: Callable[[Tensor], Tensor]) -> Counted:
        """Moved about, which rounds nothing."""
        return Counted(arrange(self.value), arrange(self.error), self.dtype)

    def bound(self, dtype: torch.dtype) -> Tensor:
        """Largest error once the result is in ``dtype``: rounded again if that is narrower."""
        if unit(dtype) <= unit(self.dtype):
            return self.error
        return self.error + unit(dtype) * (self.value.abs() + self.error) + smallest(dtype)


def exactly(value: Tensor, dtype: torch.dtype) -> Counted:
    """What was given, before any operation."""
    return Counted(value.double(), torch.zeros_like(value, dtype=torch.float64), dtype)


def counted_softmax(z: Tensor, temperature: Any, dim: int = -1) -> Counted:
    """Softmax with the error of its dtype: half precision has rounded the probabilities."""
    p = torch.softmax(z.double() / temperature, dim)
    return Counted(p, softmax_bound(z, temperature, dim), arithmetic(z.dtype))


def counted_vjp(z: Tensor, v: Tensor, temperature: Any, dim: int = -1) -> Counted:
    """p (v - <p, v>) / T."""
    p = counted_softmax(z, temperature, dim)
    v = v.double()
    # Rounded once: v may come in a wider dtype than p.
    upstream = p.rounded(v, torch.zeros_like(v))
    mean = (p * upstream).sum(dim, keepdim=True)
    return (p * (upstream - mean)).over(temperature)


# The tensor of second derivatives -----------------------------------------------------------------


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


# The vector-Jacobian product ----------------------------------------------------------------------


def torch_backward(z: Tensor, v: Tensor, temperature: float, dim: int) -> Tensor:
    z = z.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(torch.softmax(z / temperature, dim), z, v)
    return gradient


@inputs
@dtypes
@some_temperatures
def test_vjp_is_the_backward_pass_of_torch(
    make: Callable[[], Tensor], dim: int, dtype: torch.dtype, temperature: float
) -> None:
    z = in_dtype(make(), dtype)
    v = upstream_like(z)
    g = softmax_vjp(softmax(z, dim, temperature=temperature), v, dim, temperature=temperature)
    assert g.dtype is dtype
    count = counted_vjp(z, v, temperature, dim)
    expected = torch_backward(z.double(), v.double(), temperature, dim)
    assert_within(g, expected, slack(dtype) * count.bound(dtype))
    # The same again with torch at the same precision: both are off by a bound at most. Torch
    # rounds z / T to a half first, which moves it further than any bound of ours.
    if dtype in SINGLE_DOUBLE and temperature == 1.0:
        same = torch_backward(z, v, temperature, dim).double()
        assert_within(g, same, 2 * count.bound(dtype))


@pytest.mark.parametrize("shape", [(1,), (2,), (6,), (1, 4), (2, 3, 4), (0, 3)])
@dtypes
@some_temperatures
def test_vjp_is_the_jacobian_times_v(
    shape: tuple[int, ...], dtype: torch.dtype, temperature: float
) -> None:
    z = random_logits(*shape).to(dtype)
    v = upstream_like(z)
    jacobian = softmax_jacobian(z.double(), temperature=temperature)
    expected = (v.double().unsqueeze(-2) @ jacobian).squeeze(-2)
    g = softmax_vjp(softmax(z, temperature=temperature), v, temperature=temperature)
    assert g.dtype is dtype
    assert_within(g, expected, slack(dtype) * counted_vjp(z, v, temperature).bound(dtype))


@given(st.data(), temperatures())
def test_vjp_of_any_row_against_fifty_digits(data: st.DataObject, temperature: float) -> None:
    for dtype in SINGLE_DOUBLE:
        z = data.draw(rows(dtype=dtype))
        v = data.draw(rows(len(z), len(z), dtype=dtype))
        p = exact_softmax(z, temperature)
        mean = mp.fsum(a * mp.mpf(b) for a, b in zip(p, v.tolist(), strict=True))
        expected = as_double(
            [a * (mp.mpf(b) - mean) / temperature for a, b in zip(p, v.tolist(), strict=True)]
        )
        g = softmax_vjp(softmax(z, temperature=temperature), v, temperature=temperature)
        assert_within(g, expected, counted_vjp(z, v, temperature).bound(dtype))


@given(rows(1, 8), st.data(), temperatures())
def test_vjp_sums_to_zero_and_a_constant_moves_nothing(
    z: Tensor, data: st.DataObject, temperature: float
) -> None:
    p = softmax(z, temperature=temperature)
    v = data.draw(rows(len(z), len(z)))
    count = counted_vjp(z, v, temperature)
    g = softmax_vjp(p, v, temperature=temperature)
    assert abs(math.fsum(g.tolist())) <= count.error.sum().item()
    constant = torch.full_like(z, v[0].item())
    g = softmax_vjp(p, constant, temperature=temperature)
    assert_within(g, torch.zeros_like(z), counted_vjp(z, constant, temperature).error)


@given(rows(1, 8), st.data(), temperatures())
def test_v_times_its_product_is_the_variance_of_v(
    z: Tensor, data: st.DataObject, temperature: float
) -> None:
    v = data.draw(rows(len(z), len(z)))
    p = exact_softmax(z, temperature)
    x = [mp.mpf(value) for value in v.tolist()]
    mean = mp.fsum(a * b for a, b in zip(p, x, strict=True))
    variance = mp.fsum(a * (b - mean) ** 2 for a, b in zip(p, x, strict=True)) / temperature
    g = softmax_vjp(softmax(z, temperature=temperature), v, temperature=temperature)
    product = math.fsum(a * b for a, b in zip(g.tolist(), v.tolist(), strict=True))
    count = counted_vjp(z, v, temperature)
    allowed = (v.abs() * (count.error + unit(z.dtype) * g.abs())).sum().item()
    assert abs(product - float(variance)) <= allowed + unit(z.dtype) * abs(product)


# Each row: shape of p, dimension of the classes, shape of v.
BROADCASTS = [
    ((3,), 0, ()),
    ((3,), -1, (1,)),
    ((2, 3), -1, (3,)),
    ((2, 3), 1, (2, 1)),
    ((2, 3), 0, (3,)),
    ((2, 3), 0, (2, 1)),
    ((2, 3), -1, (1, 1)),
    ((2, 3, 4), 1, (3, 1)),
    ((2, 3, 4), 1, (4,)),
    ((2, 3, 4), -3, (2, 1, 1)),
    ((0, 3), 1, (3,)),
    ((0, 3), 1, (0, 3)),
]


@pytest.mark.parametrize(("shape", "dim", "v_shape"), BROADCASTS)
@dtypes
def test_vjp_broadcasts_v(
    shape: tuple[int, ...], dim: int, v_shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    z = random_logits(*shape).to(dtype)
    p = softmax(z, dim, temperature=0.7)
    v = upstream_like(torch.empty(v_shape, dtype=dtype))
    g = softmax_vjp(p, v, dim, temperature=0.7)
    assert g.shape == shape
    expected = torch_backward(z.double(), v.double().expand(shape), 0.7, dim)
    assert_within(
        g, expected, slack(dtype) * counted_vjp(z, v.expand(shape), 0.7, dim).bound(dtype)
    )


@pytest.mark.parametrize("v_dtype", DTYPES, ids=str)
@dtypes
def test_vjp_has_the_dtype_of_p(dtype: torch.dtype, v_dtype: torch.dtype) -> None:
    z = random_logits(3, 5).to(dtype)
    v = upstream_like(torch.empty(3, 5, dtype=v_dtype))
    g = softmax_vjp(softmax(z), v)
    assert g.dtype is dtype
    expected = torch_backward(z.double(), v.double(), 1.0, -1)
    assert_within(g, expected, slack(dtype) * counted_vjp(z, v, 1.0).bound(dtype))


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_vjp_is_rounded_once(dtype: torch.dtype) -> None:
    p = softmax(random_logits(64, 1000).to(dtype))
    v = upstream_like(p)
    for temperature in (1.0, 0.3):
        expected = softmax_vjp(p.float(), v.float(), temperature=temperature).to(dtype)
        assert torch.equal(softmax_vjp(p, v, temperature=temperature), expected)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_probabilities_take_a_v_of_more_digits(dtype: torch.dtype) -> None:
    # A half holds neither 1 + 2^-20 nor 1e5, though the product is one.
    p = torch.tensor([0.5, 0.5], dtype=dtype)
    fine = torch.tensor([1.0, 1.0 + 2.0**-20])
    assert softmax_vjp(p, fine).tolist() == [-(2.0**-22), 2.0**-22]
    large = torch.tensor([100_000.0, 100_008.0], dtype=torch.float64)
    assert softmax_vjp(p, large).tolist() == [-2.0, 2.0]


@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
def test_vjp_keeps_the_digits_of_the_tail(dtype: torch.dtype) -> None:
    z = torch.tensor([0.0, -30.0, -60.0], dtype=dtype)
    v = torch.tensor([1.0, -2.0, 3.0], dtype=dtype)
    p = exact_softmax(z)
    mean = p[0] - 2 * p[1] + 3 * p[2]
    g = softmax_vjp(softmax(z), v)
    for i in (1, 2):
        expected = p[i] * (v[i].item() - mean)
        # The error of p, 3 gap + 20 u, and four operations.
        relative = abs(float((g[i].item() - expected) / expected))
        assert relative <= unit(dtype) * (3 * 60 + 24)


@pytest.mark.parametrize(
    ("values", "temperature", "dtype", "limit"), HUGE.values(), ids=HUGE.keys()
)
def test_vjp_of_huge_logits_and_at_extreme_temperatures(
    values: list[float], temperature: float, dtype: torch.dtype, limit: list[float] | None
) -> None:
    z = torch.tensor(values, dtype=dtype)
    v = torch.arange(1.0, len(z) + 1, dtype=dtype)
    p = exact_softmax(z, temperature)
    mean = mp.fsum(a * b for a, b in zip(p, v.tolist(), strict=True))
    expected = as_double([a * (b - mean) / temperature for a, b in zip(p, v.tolist(), strict=True)])
    # Above what the dtype holds: an infinity of the sign.
    expected = torch.where(expected.abs() <= torch.finfo(dtype).max, expected, expected * INF)
    g = softmax_vjp(softmax(z, temperature=temperature), v, temperature=temperature)
    assert_within(g, expected, counted_vjp(z, v, temperature).bound(dtype))


def test_last_dimension_and_unit_temperature_are_the_defaults_of_the_vjp() -> None:
    p, v = softmax(random_logits(3, 3)), upstream_like(random_logits(3, 3))
    assert torch.equal(softmax_vjp(p, v), softmax_vjp(p, v, -1, temperature=1.0))
    assert torch.equal(softmax_vjp(p, v, temperature=4.0), softmax_vjp(p, v) / 4)
    assert not torch.equal(softmax_vjp(p, v), softmax_vjp(p, v, 0))


def test_vjp_leaves_an_undefined_row_and_its_neighbors_alone() -> None:
    p = softmax(torch.tensor([[1.0, 2.0], [-INF, -INF], [NAN, 0.0], [INF, 0.0], [2.0, 1.0]]))
    v = torch.tensor([1.0, -1.0])
    g = softmax_vjp(p, v)
    assert g.isnan().all(-1).tolist() == [False, True, True, True, False]
    assert torch.equal(g[0], softmax_vjp(p[0], v))
    assert torch.equal(g[4], softmax_vjp(p[4], v))


@dtypes
def test_vjp_of_masked_saturated_and_single_classes_is_exact(dtype: torch.dtype) -> None:
    def at(p: list[float], v: list[float]) -> list[float]:
        found: list[float] = softmax_vjp(
            torch.tensor(p, dtype=dtype), torch.tensor(v, dtype=dtype)
        ).tolist()
        return found

    assert at([0.5, 0.0, 0.5], [1.0, 7.0, 3.0]) == [-0.5, 0.0, 0.5]
    assert at([1.0, 0.0], [3.0, 5.0]) == [0.0, 0.0]
    assert at([1.0], [3.0]) == [0.0]


@pytest.mark.parametrize("subject", [softmax_hessian, softmax_vjp, function])
@dtypes
def test_the_arguments_are_left_as_they_were(
    subject: Callable[..., Tensor], dtype: torch.dtype
) -> None:
    z, T = random_logits(3, 4).to(dtype), torch.tensor([0.5, 1.0, 2.0], dtype=dtype)  # noqa: N806
    others = {softmax_hessian: (), softmax_vjp: (upstream_like(z),)}.get(subject, (T,))
    before = [t.clone() for t in (z, *others)]
    subject(z, *others)
    assert all(torch.equal(t, b) for t, b in zip((z, *others), before, strict=True))


@pytest.mark.parametrize("dim", [0, 1])
def test_vjp_has_derivatives_of_its_own(dim: int) -> None:
    p = softmax(random_logits(2, 3), dim).requires_grad_()
    v = upstream_like(p).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: softmax_vjp(a, b, dim, temperature=0.7), (p, v))


# The function with its gradients ------------------------------------------------------------------

# Each row: shape of the logits, shape of the temperatures.
ROW_TEMPERATURES = [
    ((1,), ()),
    ((5,), ()),
    ((1, 5), ()),
    ((1, 5), (1,)),
    ((3, 5), ()),
    ((3, 5), (1,)),
    ((3, 5), (3,)),
    ((3, 1), (3,)),
    ((2, 3, 5), ()),
    ((2, 3, 5), (3,)),
    ((2, 3, 5), (1, 3)),
    ((2, 3, 5), (2, 1)),
    ((2, 3, 5), (1, 1)),
    ((2, 3, 5), (2, 3)),
    ((0, 5), ()),
    ((0, 5), (0,)),
    ((0, 5), (1,)),
    ((2, 0, 5), (2, 1)),
]
row_temperatures = pytest.mark.parametrize(("shape", "t_shape"), ROW_TEMPERATURES)


def random_temperatures(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return 0.3 + 2 * torch.rand(shape, generator=generator, dtype=torch.float64)


def at_rows(z: Tensor, temperature: Tensor) -> Tensor:
    """The oracle."""
    return torch.softmax(z / temperature.unsqueeze(-1), -1)


def gradients(
    subject: Callable[[Tensor, Tensor], Tensor], z: Tensor, temperature: Tensor, v: Tensor
) -> tuple[Tensor, Tensor]:
    z, temperature = z.detach().requires_grad_(), temperature.detach().requires_grad_()
    dz, dt = torch.autograd.grad(subject(z, temperature), (z, temperature), v)
    return dz, dt


def added_to(shape: torch.Size, count: Counted) -> Counted:
    """The sum over the rows that share a temperature."""
    lead = count.value.ndim - len(shape)
    dims = [d for d in range(count.value.ndim) if d < lead or shape[d - lead] == 1]
    count = count.sum(*dims, keepdim=True) if dims else count
    return count.arranged(lambda t: t.reshape(shape))


def counted_slope(z: Tensor, temperature: Tensor, v: Tensor, shift: bool = True) -> Counted:
    """-<g, z> / T, with z shifted or as it stands."""
    divisor: Any = temperature.double().unsqueeze(-1)
    g = counted_vjp(z, v, divisor)
    start = z.double().amax(-1, keepdim=True) if shift else torch.zeros(1, dtype=torch.float64)
    gap = (z.double() - start).masked_fill(z == -INF, 0.0)
    scaled = g.rounded(gap, torch.zeros_like(gap)).over(divisor)
    return added_to(temperature.shape, (g * scaled).sum(-1))


def slope_bound(z: Tensor, temperature: Tensor, v: Tensor) -> Tensor:
    """What ours may be off, and what autograd in float64, which does not shift z, may."""
    ours = counted_slope(z, temperature, v).bound(temperature.dtype)
    double = counted_slope(z.double(), temperature.double(), v.double(), shift=False)
    return ours + double.error


@row_temperatures
@dtypes
@pytest.mark.parametrize("t_dtype", DTYPES, ids=str)
def test_function_and_its_gradients_are_those_of_torch(
    shape: tuple[int, ...], t_shape: tuple[int, ...], dtype: torch.dtype, t_dtype: torch.dtype
) -> None:
    z = random_logits(*shape).to(dtype)
    temperature = random_temperatures(*t_shape).to(t_dtype)
    v = upstream_like(z)
    p = function(z, temperature)
    assert p.dtype is dtype
    divisor: Any = temperature.double().unsqueeze(-1)
    expected = at_rows(z.double(), temperature.double())
    assert_within(p, expected, slack(dtype) * softmax_bound(z, divisor))

    dz, dt = gradients(function, z, temperature, v)
    assert (dz.dtype, dt.dtype) == (dtype, t_dtype)
    expected_z, expected_t = gradients(at_rows, z.double(), temperature.double(), v.double())
    assert_within(dz, expected_z, slack(dtype) * counted_vjp(z, v, divisor).bound(dtype))
    assert_within(dt, expected_t, slope_bound(z, temperature, v))


@row_temperatures
@dtypes
def test_function_at_the_temperature_of_a_row_is_softmax(
    shape: tuple[int, ...], t_shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    z = random_logits(*shape).to(dtype)
    temperature = random_temperatures(*t_shape)
    p = function(z, temperature)
    each = temperature.expand(shape[:-1])
    for index in itertools.product(*map(range, shape[:-1])):
        t = each[index].item()
        assert_within(
            p[index], softmax(z[index], temperature=t).double(), 2 * softmax_bound(z[index], t)
        )


@pytest.mark.parametrize(
    ("shape", "t_shape"), [(s, t) for s, t in ROW_TEMPERATURES if math.prod(s) > 0]
)
def test_function_passes_gradcheck_and_gradgradcheck(
    shape: tuple[int, ...], t_shape: tuple[int, ...]
) -> None:
    # Logits of size 1: a difference quotient has few digits to lose.
    z = (random_logits(*shape) / 5).requires_grad_()
    temperature = random_temperatures(*t_shape).requires_grad_()
    assert torch.autograd.gradcheck(function, (z, temperature))
    assert torch.autograd.gradgradcheck(function, (z, temperature))


@pytest.mark.parametrize(
    "values",
    [[[2.0, 2.0, -1.0], [0.0, 1.0, 1.0]], [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], [[1.0], [-2.0]]],
    ids=["tie at the top", "all tied", "one class"],
)
def test_function_passes_gradcheck_at_ties(values: list[list[float]]) -> None:
    z = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    temperature = torch.tensor([0.7, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (z, temperature))
    assert torch.autograd.gradgradcheck(function, (z, temperature))


def second_gradients(
    subject: Callable[[Tensor, Tensor], Tensor], z: Tensor, temperature: Tensor, v: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of <a, dL/dz> + <b, dL/dT> for z, T and v."""
    z, temperature, v = (t.detach().requires_grad_() for t in (z, temperature, v))
    first = torch.autograd.grad(subject(z, temperature), (z, temperature), v, create_graph=True)
    a, b = upstream_like(z.flip(-1)) + 0.5, torch.linspace(1, 2, temperature.numel(), dtype=z.dtype)
    total = (a * first[0]).sum() + (
        b.reshape(temperature.shape).to(first[1].dtype) * first[1]
    ).sum()
    return torch.autograd.grad(total, (z, temperature, v))


def second_bound(z: Tensor, temperature: Tensor, v: Tensor) -> float:
    """At most 16 terms a row, each a p or a mean under p, times a, v, gap^2 and 1/T^2.

    Such a term has three factors p, each off by 6 gap + 20 u, and fewer than ten operations.
    """
    least = min(1.0, temperature.min().item())
    gap = 1 + (z.amax(-1) - z.amin(-1)).max().item() / least
    vectors = (2.5 + upstream_like(z).abs().max().item()) * 2 * v.abs().max().item()
    size = 16 * z[..., 0].numel() * vectors * (gap / least) ** 2
    return size * unit(z.dtype) * (18 * gap + 70)


@pytest.mark.parametrize(
    ("shape", "t_shape"), [(s, t) for s, t in ROW_TEMPERATURES if math.prod(s) > 0]
)
@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
def test_second_derivatives_are_those_of_torch(
    shape: tuple[int, ...], t_shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    z = (random_logits(*shape) / 20).to(dtype)
    temperature = (0.7 + random_temperatures(*t_shape)).to(dtype)
    v = upstream_like(z)
    found = second_gradients(function, z, temperature, v)
    expected = second_gradients(at_rows, z.double(), temperature.double(), v.double())
    for actual, oracle, like in zip(found, expected, (z, temperature, v), strict=True):
        assert actual.dtype is like.dtype
        assert_within(actual, oracle, second_bound(z, temperature, v))


@given(st.data(), temperatures())
def test_gradients_of_any_row_against_fifty_digits(data: st.DataObject, t: float) -> None:
    for dtype in SINGLE_DOUBLE:
        z = data.draw(rows(dtype=dtype))
        v = data.draw(rows(len(z), len(z), dtype=dtype))
        temperature = torch.tensor(t, dtype=dtype)
        t_exact = mp.mpf(temperature.item())
        p = exact_softmax(z, temperature.item())
        x = [mp.mpf(value) for value in v.tolist()]
        mean = mp.fsum(a * b for a, b in zip(p, x, strict=True))
        g = [a * (b - mean) / t_exact for a, b in zip(p, x, strict=True)]
        slope = -mp.fsum(a * mp.mpf(b) for a, b in zip(g, z.tolist(), strict=True)) / t_exact
        dz, dt = gradients(function, z, temperature, v)
        assert_within(dz, as_double(g), counted_vjp(z, v, temperature.item()).error)
        assert_within(dt, as_double([slope])[0], counted_slope(z, temperature, v).error)


@given(rows(1, 8), st.data())
def test_gradients_for_t_and_for_z_meet_in_eulers_theorem(z: Tensor, data: st.DataObject) -> None:
    # softmax(z / T) does not change when z and T grow together: <z, dL/dz> + T dL/dT = 0.
    temperature = torch.tensor(data.draw(temperatures()), dtype=torch.float64)
    v = data.draw(rows(len(z), len(z)))
    dz, dt = gradients(function, z, temperature, v)
    terms = [a * b for a, b in zip(dz.tolist(), z.tolist(), strict=True)]
    total = math.fsum([*terms, temperature.item() * dt.item()])
    g = counted_vjp(z, v, temperature.item()).error
    allowed = (g * z.abs()).sum().item() + temperature.item() * (
        counted_slope(z, temperature, v).error.item()
    )
    own = unit(z.dtype) * (sum(map(abs, terms)) + abs(temperature.item() * dt.item()))
    assert abs(total) <= allowed + own


@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
@pytest.mark.parametrize("shift", [2.0**20, -(2.0**20)])
def test_a_shift_of_the_logits_changes_no_gradient(dtype: torch.dtype, shift: float) -> None:
    # Whole numbers, which the shift does not round: what is left is the same to the last bit.
    z = torch.tensor([[1.0, 5.0, 6.0, 3.0], [0.0, -INF, 0.0, 1.0]], dtype=dtype)
    temperature = torch.tensor([0.7, 1.9], dtype=dtype)
    v = upstream_like(z)
    near = gradients(function, z, temperature, v)
    far = gradients(function, z + shift, temperature, v)
    assert torch.equal(near[0], far[0])
    assert torch.equal(near[1], far[1])


MASKED = {
    "one": [0.5, -INF, 2.0, 1.0],
    "several": [-INF, 1.0, -INF, 0.0, -INF],
    "all but one": [-INF, -INF, 3.0],
}
masked = pytest.mark.parametrize("values", MASKED.values(), ids=MASKED.keys())


@masked
@dtypes
def test_masked_logits_have_no_gradient_and_the_others_the_usual_one(
    values: list[float], dtype: torch.dtype
) -> None:
    z = torch.tensor([values, values[::-1]], dtype=dtype)
    temperature = torch.tensor([0.7, 2.5], dtype=dtype)
    v = upstream_like(z)
    p = function(z, temperature)
    dz, dt = gradients(function, z, temperature, v)
    out = z == -INF
    assert bool((p[out] == 0).all())
    assert bool((dz[out] == 0).all())
    for i in range(2):
        left = ~out[i]
        kept, kept_v = z[i, left], v[i, left]
        t = temperature[i]
        expected = gradients(at_rows, kept.double(), t.double(), kept_v.double())
        # The sums have the terms of the whole row, though some are zero.
        divisor: Any = temperature.double().unsqueeze(-1)
        bound = counted_vjp(z, v, divisor).bound(dtype)[i, left]
        assert_within(dz[i, left], expected[0], slack(dtype) * bound)
        bound = counted_slope(z, temperature, v).bound(dtype)[i] + slope_bound(kept, t, kept_v)
        assert_within(dt[i], expected[1], bound)


@masked
def test_masked_logits_leave_second_derivatives_finite(values: list[float]) -> None:
    z = torch.tensor(values, dtype=torch.float64)
    temperature = torch.tensor(0.7, dtype=torch.float64)
    v = upstream_like(z)
    left = z != -INF

    def subject(kept: Tensor, t: Tensor) -> Tensor:
        """Softmax of the kept logits alone, with zeros put back for the others."""
        return torch.zeros_like(z).masked_scatter(left, at_rows(kept, t))

    def whole(kept: Tensor, t: Tensor) -> Tensor:
        return function(z.masked_scatter(left, kept), t)

    found = second_gradients(whole, z[left], temperature, v)
    expected = second_gradients(subject, z[left], temperature, v)
    for actual, oracle in zip(found, expected, strict=True):
        assert_within(actual, oracle, second_bound(z[left], temperature, v))


def masked_by_the_least_number(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Two rows of logits, a temperature below 1 for each, and the rows with -inf instead."""
    least = torch.finfo(dtype).min
    z = torch.tensor([[1.0, least, 0.0, least], [least, 0.5, 0.5, 2.0]], dtype=dtype)
    return z, torch.tensor([0.5, 0.25], dtype=dtype), z.masked_fill(z == least, -INF)


@dtypes
def test_a_mask_of_the_least_number_is_a_mask(dtype: torch.dtype) -> None:
    z, temperature, infinite = masked_by_the_least_number(dtype)
    v = upstream_like(z)
    found = gradients(function, z, temperature, v)
    expected = gradients(function, infinite, temperature, v)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@dtypes
def test_a_mask_of_the_least_number_leaves_second_derivatives_finite(dtype: torch.dtype) -> None:
    z, temperature, _ = masked_by_the_least_number(dtype)
    v = upstream_like(z)
    assert all(bool(d.isfinite().all()) for d in second_gradients(function, z, temperature, v))


@pytest.mark.parametrize(
    ("values", "t", "dtype"),
    [
        ([1e38, 1e38], 1.0, torch.float32),
        ([1e38, 0.0], 1e38, torch.float32),
        ([1e-30, 0.0], 1e-30, torch.float32),
        ([3e38, -3e38, 2e38], 1e38, torch.float32),
        ([3e38, -3e38], 1e38, torch.bfloat16),
        ([1e308, -1e308], 1e308, torch.float64),
        ([5.0, -70.0, 3.0], 1e38, torch.float32),
        ([5.0, 5.0, 5.0], 1e-30, torch.float32),
        ([1e38, -3e38], 1.0, torch.float32),
        ([0.0, -1e10], 1e-30, torch.float32),
        ([1e308, -1e308], 1.0, torch.float64),
    ],
)
def test_gradients_of_huge_logits_and_at_extreme_temperatures(
    values: list[float], t: float, dtype: torch.dtype
) -> None:
    z = torch.tensor(values, dtype=dtype)
    temperature = torch.tensor(t, dtype=arithmetic(dtype))
    v = torch.arange(1.0, len(z) + 1, dtype=dtype)
    p = exact_softmax(z, temperature.item())
    mean = mp.fsum(a * b for a, b in zip(p, v.tolist(), strict=True))
    g = [a * (b - mean) / t for a, b in zip(p, v.tolist(), strict=True)]
    slope = -mp.fsum(a * mp.mpf(b) for a, b in zip(g, z.tolist(), strict=True)) / t
    steps = [(mp.mpf(b) - z.max().item()) / t for b in z.tolist()]
    size = mp.fsum(abs(a * b) for a, b in zip(g, steps, strict=True))
    dz, dt = gradients(function, z, temperature, v)
    # gap / T is below 8 or p is 0, and sums are short: a relative error for each of the terms.
    relative = 256 * unit(arithmetic(dtype)) + 4 * unit(dtype)
    absolute = 4 * smallest(dtype) * (1 + 1 / t)
    for actual, exact in ((function(z, temperature), p), (dz, g)):
        expected = as_double(exact)
        assert_within(actual, expected, relative * expected.abs().max() + absolute)
    assert_within(dt, as_double([slope])[0], relative * float(size) + absolute)


@not_finite
@dtypes
def test_function_treats_infinities_and_nan_as_softmax_does(
    values: list[float], undefined: bool, dtype: torch.dtype
) -> None:
    z = torch.tensor(values, dtype=dtype)
    temperature = torch.tensor(0.5, dtype=dtype)
    p = function(z, temperature)
    assert_within(
        p.nan_to_num(-1.0), softmax(z, temperature=0.5).double().nan_to_num(-1.0), unit(dtype)
    )
    dz, dt = gradients(function, z, temperature, upstream_like(z))
    assert bool(dz.isnan().all()) == bool(dz.isnan().any()) == bool(dt.isnan()) == undefined


def test_function_leaves_an_undefined_row_and_its_neighbors_alone() -> None:
    z = torch.tensor([[1.0, 2.0], [-INF, -INF], [NAN, 0.0], [INF, 0.0], [2.0, 1.0]])
    temperature = torch.tensor([0.5, 1.0, 1.0, 1.0, 2.0])
    v = torch.tensor([1.0, -1.0]).expand(5, 2)
    dz, dt = gradients(function, z, temperature, v)
    undefined = [False, True, True, True, False]
    assert dz.isnan().all(-1).tolist() == dz.isnan().any(-1).tolist() == undefined
    assert dt.isnan().tolist() == undefined
    for i in (0, 4):
        alone = gradients(function, z[i], temperature[i], v[i])
        # Not the last bit: exp may take another path for a row than for five.
        divisor = temperature[i].double()
        assert_within(dz[i], alone[0].double(), 2 * counted_vjp(z[i], v[i], divisor).error)
        slope_error = counted_slope(z[i], temperature[i], v[i]).error
        assert_within(dt[i], alone[1].double(), 2 * slope_error)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_function_is_rounded_once(dtype: torch.dtype) -> None:
    z = (random_logits(64, 1000) / 2).to(dtype)
    temperature = random_temperatures(64)
    expected = function(z.float(), temperature).to(dtype)
    assert torch.equal(function(z, temperature), expected)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("t", [1.0, 0.7])
def test_half_precision_gradients_are_those_of_the_rounded_probabilities(
    dtype: torch.dtype, t: float
) -> None:
    # Torch, too, keeps the rounded output. Given that, the rest is as exact as in float32.
    z = (random_logits(20, 30) / 2).to(dtype)
    temperature = torch.full((20,), t)
    v = upstream_like(z)
    p = exactly(function(z, temperature).detach(), torch.float32)
    upstream, divisor = exactly(v, torch.float32), temperature.double().unsqueeze(-1)
    g = (p * (upstream - (p * upstream).sum(-1, keepdim=True))).over(divisor)
    gap = exactly(z.double() - z.double().amax(-1, keepdim=True), torch.float32)
    slope = (g * p.rounded(gap.value, gap.error).over(divisor)).sum(-1)
    dz, dt = gradients(function, z, temperature, v)
    assert_within(dz, g.value, g.bound(dtype))
    assert_within(dt, -slope.value, slope.error)


@pytest.mark.parametrize(
    "make",
    [
        lambda: random_logits(4, 6).T,
        lambda: random_logits(6, 10)[:, ::2],
        lambda: random_logits(5).expand(6, 5),
        lambda: random_logits(6, 1).expand(6, 4),
    ],
    ids=["transposed", "every other column", "expanded", "expanded over the classes"],
)
@dtypes
def test_function_takes_any_strides(make: Callable[[], Tensor], dtype: torch.dtype) -> None:
    z = in_dtype(make(), dtype)
    # Every other one of twelve, too.
    temperature = random_temperatures(12)[::2]
    v = upstream_like(z)
    dz, dt = gradients(function, z, temperature, v)
    expected = gradients(at_rows, z.double(), temperature, v.double())
    divisor: Any = temperature.unsqueeze(-1)
    assert_within(dz, expected[0], slack(dtype) * counted_vjp(z, v, divisor).bound(dtype))
    assert_within(dt, expected[1], slope_bound(z, temperature, v))


def test_only_what_asks_for_a_gradient_gets_one() -> None:
    for z_asks, t_asks in itertools.product((True, False), repeat=2):
        z = random_logits(2, 3).requires_grad_(z_asks)
        temperature = random_temperatures(2).requires_grad_(t_asks)
        p = function(z, temperature)
        assert p.requires_grad == (z_asks or t_asks)
        if not p.requires_grad:
            continue
        p.backward(upstream_like(z))
        for leaf, asks in ((z, z_asks), (temperature, t_asks)):
            assert (leaf.grad is not None) == asks
            assert leaf.grad is None or leaf.grad.shape == leaf.shape


@dtypes
def test_the_sum_of_the_probabilities_has_no_gradient(dtype: torch.dtype) -> None:
    # Its upstream is one number, expanded.
    z = random_logits(3, 5).to(dtype).requires_grad_()
    temperature = random_temperatures(3).requires_grad_()
    function(z, temperature).sum().backward()
    assert z.grad is not None
    assert temperature.grad is not None
    ones, divisor = torch.ones(3, 5), temperature.detach().unsqueeze(-1)
    at = z.detach()
    assert_within(z.grad, torch.zeros(3, 5).double(), counted_vjp(at, ones, divisor).bound(dtype))
    zeros = torch.zeros(3, dtype=torch.float64)
    assert_within(temperature.grad, zeros, slope_bound(at, temperature.detach(), ones))


def test_a_descent_on_the_function_finds_the_temperature() -> None:
    # The use it is for: fit T to labels. At the minimum <p, z> is <y, z>, which has one solution.
    z = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1])
    temperature = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    for _ in range(100):
        loss = -function(z, temperature).gather(-1, labels[:, None]).log().mean()
        (slope,) = torch.autograd.grad(loss, temperature, create_graph=True)
        (curvature,) = torch.autograd.grad(slope, temperature)
        with torch.no_grad():
            temperature -= slope / curvature
    # Three of four: exp(2 / T) = 3. The slope is off by 30 u of terms up to 0.3, and the curvature,
    # p (1 - p) (2 / T)^2 / T^2, is 0.068: T is off by 132 u, of 1.8.
    assert temperature.item() == pytest.approx(2 / math.log(3), rel=128 * unit(torch.float64))


# What is rejected ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "error", "message", "good"), BAD_LOGITS.values(), ids=BAD_LOGITS.keys()
)
def test_bad_logits_are_shown_with_what_would_work(
    bad: Any, error: type[Exception], message: str, good: Tensor
) -> None:
    temperature = torch.tensor(0.5)
    exact = f"^{re.escape(message)}$"
    with pytest.raises(error, match=exact):
        softmax_hessian(bad)
    with pytest.raises(error, match=exact):
        function(bad, temperature)
    with pytest.raises(error, match=exact.replace("logits", "probabilities")):
        softmax_vjp(bad, torch.tensor(1.0))
    softmax_hessian(good)
    function(good, temperature)
    softmax_vjp(good, torch.tensor(1.0))


@pytest.mark.parametrize(("dim", "error", "message"), BAD_DIM.values(), ids=BAD_DIM.keys())
def test_bad_dim_of_the_vjp_is_shown_with_what_would_work(
    dim: Any, error: type[Exception], message: str
) -> None:
    message = re.escape(message.replace("logits", "probabilities"))
    with pytest.raises(error, match=f"^{message}$"):
        softmax_vjp(ROW, ROW, dim)
    for good in (-2, -1, 0, 1):
        softmax_vjp(ROW, ROW, good)


def test_an_empty_dimension_of_probabilities_is_named_as_the_caller_named_it() -> None:
    message = re.escape(
        "dimension 1 of the probabilities is empty (shape (2, 0)); "
        "a softmax needs at least one class"
    )
    empty = torch.zeros(2, 0)
    with pytest.raises(ValueError, match=f"^{message}$"):
        softmax_vjp(empty, empty, 1)
    assert softmax_vjp(empty, empty, 0).shape == (2, 0)


def vjp_at(p: Tensor, *, temperature: Any) -> Tensor:
    return softmax_vjp(p, ROW.to(p.dtype), temperature=temperature)


@pytest.mark.parametrize("subject", [softmax_hessian, vjp_at])
@pytest.mark.parametrize(
    ("dtype", "bad", "error", "message", "good"),
    BAD_TEMPERATURE.values(),
    ids=BAD_TEMPERATURE.keys(),
)
def test_bad_temperature_is_shown_with_what_would_work(
    subject: Callable[..., Tensor],
    dtype: torch.dtype,
    bad: Any,
    error: type[Exception],
    message: str,
    good: Any,
) -> None:
    z = ROW.to(dtype)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        subject(z, temperature=bad)
    assert not subject(z, temperature=good).isnan().any()


# Each row: rejected v, its repr, accepted neighbor.
BAD_V: dict[str, tuple[Any, str, Tensor]] = {
    "a list": ([1.0, 2.0, 3.0], "[1.0, 2.0, 3.0]", torch.tensor([1.0, 2.0, 3.0])),
    "a number": (1.0, "1.0", torch.tensor(1.0)),
    "none": (None, "None", torch.tensor(0.0)),
    "integers": (
        torch.tensor([1, 2, 3]),
        "tensor([1, 2, 3])",
        torch.tensor([1, 2, 3], dtype=torch.float16),
    ),
    "booleans": (
        torch.tensor([True, False, True]),
        "tensor([ True, False,  True])",
        torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64),
    ),
    "complex": (torch.tensor(1j), "tensor(0.+1.j)", torch.tensor(1.0, dtype=torch.bfloat16)),
}


@pytest.mark.parametrize(("bad", "shown", "good"), BAD_V.values(), ids=BAD_V.keys())
def test_bad_v_is_shown_with_what_would_work(bad: Any, shown: str, good: Tensor) -> None:
    message = f"v must be a tensor of a floating dtype, got {shown}; try v.to(p.dtype)"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        softmax_vjp(ROW, bad)
    softmax_vjp(ROW, good)


@pytest.mark.parametrize(
    ("shape", "bad", "good"),
    [
        ((2, 3), (2,), (2, 1)),
        ((2, 3), (4,), (3,)),
        ((2, 3), (3, 2), (2, 3)),
        ((2, 3), (1, 2, 3), (1, 3)),
        ((2, 3), (2, 2, 3), (2, 3)),
        ((2, 3), (0,), ()),
        # These would broadcast, but to a shape that is not p's.
        ((3,), (1, 3), (3,)),
        ((1, 3), (2, 3), (1, 3)),
        ((2, 1), (2, 3), (2, 1)),
    ],
)
def test_v_of_another_shape_is_shown_with_what_would_work(
    shape: tuple[int, ...], bad: tuple[int, ...], good: tuple[int, ...]
) -> None:
    p = torch.full(shape, 1 / shape[-1])
    message = (
        f"v of shape {bad} does not broadcast to p of shape {shape}; "
        "give one number for each probability"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        softmax_vjp(p, torch.ones(bad))
    assert softmax_vjp(p, torch.ones(good)).shape == shape


# Each row: rejected temperature, its repr, accepted neighbor.
NOT_A_TENSOR: dict[str, tuple[Any, str, Tensor]] = {
    "a float": (0.5, "0.5", torch.tensor(0.5)),
    "an int": (2, "2", torch.tensor(2.0)),
    "none": (None, "None", torch.tensor(1.0)),
    "a list": ([0.5, 0.5], "[0.5, 0.5]", torch.tensor([0.5, 0.5])),
    "an integer": (torch.tensor(2), "tensor(2)", torch.tensor(2.0, dtype=torch.float16)),
    "a boolean": (torch.tensor(True), "tensor(True)", torch.tensor(1.0, dtype=torch.float64)),
    "complex": (torch.tensor(1j), "tensor(0.+1.j)", torch.tensor(1.0, dtype=torch.bfloat16)),
}


@pytest.mark.parametrize(("bad", "shown", "good"), NOT_A_TENSOR.values(), ids=NOT_A_TENSOR.keys())
def test_a_temperature_that_is_no_tensor_is_shown_with_what_would_work(
    bad: Any, shown: str, good: Tensor
) -> None:
    message = (
        f"temperature must be a tensor of a floating dtype, got {shown}; "
        "torch.tensor(0.7) makes one"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        function(ROW, bad)
    function(ROW, good)


@pytest.mark.parametrize(
    ("shape", "bad", "good"),
    [
        ((2, 3), (3,), (2,)),
        ((2, 3), (2, 1), (2,)),
        ((2, 3), (2, 3), (1,)),
        ((2, 3), (1, 2), ()),
        ((2, 3), (0,), (2,)),
        ((3,), (1,), ()),
        ((3,), (3,), ()),
        ((2, 4, 3), (2,), (2, 1)),
        ((2, 4, 3), (2, 4, 1), (4,)),
        ((1, 3), (2,), (1,)),
        ((0, 3), (2,), (0,)),
    ],
)
def test_temperatures_of_another_shape_are_shown_with_what_would_work(
    shape: tuple[int, ...], bad: tuple[int, ...], good: tuple[int, ...]
) -> None:
    z = torch.zeros(shape)
    message = (
        f"temperature must be a scalar or have the shape {shape[:-1]} of the rows, got {bad}; "
        "give one number for each row"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        function(z, torch.ones(bad))
    assert function(z, torch.ones(good)).shape == shape


# Each row: dtypes of z and T, rejected temperature, the whole message, accepted neighbor.
OUT_OF_RANGE: dict[str, tuple[torch.dtype, torch.dtype, float, str, float]] = {
    "zero": (torch.float32, torch.float32, 0.0, NOT_POSITIVE.format("0.0"), 0.1),
    "minus zero": (torch.float32, torch.float32, -0.0, NOT_POSITIVE.format("-0.0"), 0.1),
    "negative": (torch.float64, torch.float64, -0.5, NOT_POSITIVE.format("-0.5"), 0.5),
    "nan": (torch.float32, torch.float32, NAN, NOT_POSITIVE.format("nan"), 1.0),
    "nan, half": (torch.float16, torch.float16, NAN, NOT_POSITIVE.format("nan"), 6e-8),
    "-inf": (torch.float32, torch.float32, -INF, NOT_POSITIVE.format("-inf"), 1.0),
    "+inf": (
        torch.float32,
        torch.float32,
        INF,
        NOT_HELD.format(*IN_SINGLE, "inf"),
        torch.finfo(torch.float32).max,
    ),
    "+inf, float64": (
        torch.float64,
        torch.float64,
        INF,
        NOT_HELD.format(*IN_DOUBLE, "inf"),
        torch.finfo(torch.float64).max,
    ),
    "above float32": (
        torch.float32,
        torch.float64,
        1e39,
        NOT_HELD.format(*IN_SINGLE, "1e+39"),
        torch.finfo(torch.float32).max,
    ),
    "below float32": (
        torch.float32,
        torch.float64,
        1e-39,
        NOT_HELD.format(*IN_SINGLE, "1e-39"),
        torch.finfo(torch.float32).tiny,
    ),
    # Rounded to float32 these two would be in range, as their neighbors are.
    "just above float32": (
        torch.float32,
        torch.float64,
        math.nextafter(torch.finfo(torch.float32).max, INF),
        NOT_HELD.format(*IN_SINGLE, math.nextafter(torch.finfo(torch.float32).max, INF)),
        torch.finfo(torch.float32).max,
    ),
    "just below float32": (
        torch.float32,
        torch.float64,
        math.nextafter(torch.finfo(torch.float32).tiny, 0.0),
        NOT_HELD.format(*IN_SINGLE, math.nextafter(torch.finfo(torch.float32).tiny, 0.0)),
        torch.finfo(torch.float32).tiny,
    ),
    # Half precision is computed in float32, so float32's range counts: 1e5 is above float16's.
    "above float32, float16": (
        torch.float16,
        torch.float64,
        1e39,
        NOT_HELD.format(*IN_SINGLE, "1e+39"),
        1e5,
    ),
    "below float64": (
        torch.float64,
        torch.float64,
        5e-324,
        NOT_HELD.format(*IN_DOUBLE, "5e-324"),
        1e-39,
    ),
    "bfloat16, zero": (torch.float32, torch.bfloat16, 0.0, NOT_POSITIVE.format("0.0"), 1e-30),
}
# The same for a T of a dtype that does not hold the limits of the arithmetic.
NARROW: dict[str, tuple[torch.dtype, torch.dtype, float, str, float]] = {
    "float16 zero for float16": (
        torch.float16,
        torch.float16,
        0.0,
        NOT_POSITIVE.format("0.0"),
        6e-8,
    ),
    "float16 +inf for float32": (
        torch.float32,
        torch.float16,
        INF,
        NOT_HELD.format(*IN_SINGLE, "inf"),
        65504.0,
    ),
    "bfloat16 +inf for bfloat16": (
        torch.bfloat16,
        torch.bfloat16,
        INF,
        NOT_HELD.format(*IN_SINGLE, "inf"),
        3e38,
    ),
    "float32 zero for float64": (
        torch.float64,
        torch.float32,
        0.0,
        NOT_POSITIVE.format("0.0"),
        1e-45,
    ),
    "float32 +inf for float64": (
        torch.float64,
        torch.float32,
        INF,
        NOT_HELD.format(*IN_DOUBLE, "inf"),
        3e38,
    ),
}


@pytest.mark.parametrize(
    ("dtype", "t_dtype", "bad", "message", "good"),
    [pytest.param(*row, id=name) for name, row in (OUT_OF_RANGE | NARROW).items()],
)
def test_a_temperature_out_of_range_is_shown_wherever_it_stands(
    dtype: torch.dtype, t_dtype: torch.dtype, bad: float, message: str, good: float
) -> None:
    z = torch.zeros(2, 3, 4, dtype=dtype)
    exact = f"^{re.escape(message)}$"
    with pytest.raises(ValueError, match=exact):
        function(z, torch.tensor(bad, dtype=t_dtype))
    for i in range(6):
        temperature = torch.full((2, 3), good, dtype=t_dtype)
        p = function(z, temperature)
        assert torch.equal(p, torch.full((2, 3, 4), 0.25, dtype=dtype))
        temperature.view(-1)[i] = bad
        with pytest.raises(ValueError, match=exact):
            function(z, temperature)


def test_the_first_temperature_out_of_range_is_the_one_that_is_shown() -> None:
    temperature = torch.tensor([1.0, -2.0, 0.0, INF])
    with pytest.raises(ValueError, match=f"^{re.escape(NOT_POSITIVE.format('-2.0'))}$"):
        function(torch.zeros(4, 3), temperature)


def test_a_more_precise_vector_is_rounded_to_the_arithmetic_of_the_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(50, generator=generator).softmax(-1)
    v = torch.randn(50, generator=generator, dtype=torch.float64)
    assert torch.equal(softmax_vjp(p, v), softmax_vjp(p, v.float()))
