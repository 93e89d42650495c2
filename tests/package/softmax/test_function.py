from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.package.softmax.common import dtypes, random_logits, slack
from tests.package.softmax.common_derivatives import INF, Counted, counted_vjp, function
from tests.package.softmax.test_against_torch import in_dtype, upstream_like
from tests.support.strategies import (
    DTYPES,
    HALF,
    SINGLE_DOUBLE,
    as_double,
    assert_within,
    exact_softmax,
    rows,
    softmax_bound,
    temperatures,
    unit,
)


def exactly(value: Tensor, dtype: torch.dtype) -> Counted:
    """What was given, before any operation."""
    return Counted(value.double(), torch.zeros_like(value, dtype=torch.float64), dtype)


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
        assert_gradients(z, v, torch.tensor(t, dtype=dtype))


def test_gradients_where_one_class_has_nearly_everything() -> None:
    z, v = torch.tensor([9.0, 0.0]).double(), torch.tensor([1.0, 0.0]).double()
    assert_gradients(z, v, torch.tensor(0.1015625).double())


def assert_gradients(z: Tensor, v: Tensor, temperature: Tensor) -> None:
    t_exact = mp.mpf(temperature.item())
    with mp.workdps(250):  # so that 1 - p has digits where p is nearly 1
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
    # Rounded probabilities do not sum to 1, so what is subtracted from v counts: at the leader.
    lead = v.double().gather(-1, p.value.argmax(-1, keepdim=True))
    upstream = exactly(v, torch.float32) - exactly(lead, torch.float32)
    divisor = temperature.double().unsqueeze(-1)
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
