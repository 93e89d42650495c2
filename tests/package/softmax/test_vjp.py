from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax, softmax_hessian, softmax_jacobian, softmax_vjp
from tests.package.softmax.common import dtypes, random_logits, slack, some_temperatures
from tests.package.softmax.common_derivatives import INF, NAN, counted_vjp, function
from tests.package.softmax.test_against_torch import in_dtype, inputs, upstream_like
from tests.package.softmax.test_extreme_logits import HUGE
from tests.support.strategies import (
    DTYPES,
    HALF,
    SINGLE_DOUBLE,
    as_double,
    assert_within,
    exact_softmax,
    rows,
    temperatures,
    unit,
)


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


@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
@pytest.mark.parametrize(
    ("logits", "v"),
    [
        ([0.0, -20.0], [1.0, 0.0]),
        ([0.0, -10.0], [1.0, 0.0]),
        ([-20.0, 0.0, -21.0], [0.5, 1.0, -1.0]),
        ([0.0, 1.0, 2.0], [1e6, 1e6 + 1, 1e6 + 2]),
    ],
    ids=str,
)
def test_nothing_cancels_where_one_class_leads_or_v_is_far_from_zero(
    logits: list[float], v: list[float], dtype: torch.dtype
) -> None:
    p, upstream = softmax(torch.tensor(logits, dtype=dtype)), torch.tensor(v, dtype=dtype)
    # With the probabilities as they are: what they lack of 1 is spread over all of them.
    shares = [mp.mpf(x) for x in p.tolist()]
    lead = v[logits.index(max(logits))]
    mean = mp.fsum(s * (x - lead) for s, x in zip(shares, v, strict=True))
    exact = [s * (x - lead - mean) for s, x in zip(shares, v, strict=True)]
    u = unit(dtype)
    for values in (
        softmax_vjp(p, upstream),
        torch.autograd.grad(
            function(
                z := torch.tensor(logits, dtype=dtype, requires_grad=True),
                torch.tensor(1.0, dtype=dtype),
            ),
            z,
            upstream,
        )[0],
    ):
        for value, expected, share in zip(values.tolist(), exact, shares, strict=True):
            # Products and two sums of three terms, none larger than the largest difference.
            assert_within(value, expected, 16 * u * share * abs(mean), rel=16 * u)
