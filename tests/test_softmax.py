from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
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
    exact_log_softmax,
    exact_logsumexp,
    exact_softmax,
    log_softmax_bound,
    logsumexp_bound,
    rows,
    smallest,
    softmax_bound,
    temperatures,
    unit,
)
from torch import Tensor

from omnivault.softmax import Softmax, log_softmax, logsumexp, softmax, softmax_jacobian

INF, NAN = math.inf, math.nan

Map = Callable[..., Tensor]


def random_logits(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 5 * torch.randn(*shape, generator=generator, dtype=torch.float64)


# Each row: name, logits in float64, the dimension of the classes.
INPUTS: list[tuple[str, Callable[[], Tensor], int]] = [
    ("one class", lambda: random_logits(1), 0),
    ("two classes", lambda: random_logits(2), -1),
    ("a row", lambda: random_logits(7), -1),
    ("a row, dim 0", lambda: random_logits(7), 0),
    ("batch of one", lambda: random_logits(1, 5), -1),
    ("one class in a batch", lambda: random_logits(3, 1), 1),
    ("a batch dimension of one inside", lambda: random_logits(2, 1, 3), -1),
    ("classes down the columns", lambda: random_logits(4, 6), 0),
    ("classes down the columns, -2", lambda: random_logits(4, 6), -2),
    ("empty batch", lambda: random_logits(0, 5), -1),
    ("empty batch behind the classes", lambda: random_logits(5, 0), 0),
    *[
        (f"four dimensions, dim {dim}", lambda: random_logits(2, 3, 4, 5), dim)
        for dim in (0, 1, 2, 3, -1, -2, -3, -4)
    ],
    ("a vocabulary", lambda: random_logits(2, 50257), -1),
    ("transposed", lambda: random_logits(6, 4).T, -1),
    ("transposed, dim 0", lambda: random_logits(6, 4).T, 0),
    ("every other column", lambda: random_logits(3, 10)[:, ::2], -1),
    ("expanded", lambda: random_logits(5).expand(3, 5), -1),
    ("expanded over the classes", lambda: random_logits(3, 1).expand(3, 4), -1),
    ("all tied", lambda: torch.full((2, 4), 3.0, dtype=torch.float64), -1),
    ("two tied at the top", lambda: torch.tensor([[2.0, 1.0, 2.0]], dtype=torch.float64), -1),
]

inputs = pytest.mark.parametrize(
    ("make", "dim"), [pytest.param(make, dim, id=name) for name, make, dim in INPUTS]
)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
# 0.3 is not a float32: the temperature is rounded too.
some_temperatures = pytest.mark.parametrize("temperature", [1.0, 0.3, 2.5, 40.0])


def in_dtype(z: Tensor, dtype: torch.dtype) -> Tensor:
    """Round to ``dtype`` and keep the strides, which Tensor.to does not where there are gaps."""
    once = z[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in z.stride())]
    rounded = torch.empty_strided(once.shape, once.stride(), dtype=dtype).copy_(once)
    return rounded.expand(z.shape)


def test_the_table_of_inputs_has_strides_of_every_kind() -> None:
    made = {name: in_dtype(make(), torch.float16) for name, make, _ in INPUTS}
    assert made["transposed"].stride() == (1, 4)
    assert made["every other column"].stride() == (10, 2)
    assert made["expanded"].stride() == (0, 1)
    assert made["expanded over the classes"].stride() == (1, 0)


def slack(dtype: torch.dtype) -> int:
    """How many bounds apart: a float64 oracle rounds as much as a float64 subject."""
    return 2 if dtype is torch.float64 else 1


def in_any_order(z: Tensor, dim: int) -> float:
    """Relative error of a float64 sum of the classes.

    The maps of torch do not add them in a cascade, as the bounds have it, but one by one.
    """
    return z.shape[dim] * unit(torch.float64)


# Against torch, forward ---------------------------------------------------------------------------


@inputs
@dtypes
@some_temperatures
def test_softmax_is_torch_softmax_of_z_over_t(
    make: Callable[[], Tensor], dim: int, dtype: torch.dtype, temperature: float
) -> None:
    z = in_dtype(make(), dtype)
    p = softmax(z, dim, temperature=temperature)
    assert p.dtype is dtype
    expected = torch.softmax(z.double() / temperature, dim)
    oracle = in_any_order(z, dim) * expected
    assert_within(p, expected, slack(dtype) * softmax_bound(z, temperature, dim) + oracle)


@inputs
@dtypes
@some_temperatures
def test_log_softmax_is_torch_log_softmax_of_z_over_t(
    make: Callable[[], Tensor], dim: int, dtype: torch.dtype, temperature: float
) -> None:
    z = in_dtype(make(), dtype)
    log_p = log_softmax(z, dim, temperature=temperature)
    assert log_p.dtype is dtype
    expected = torch.log_softmax(z.double() / temperature, dim)
    oracle = in_any_order(z, dim)
    assert_within(log_p, expected, slack(dtype) * log_softmax_bound(z, temperature, dim) + oracle)


@inputs
@dtypes
@some_temperatures
def test_logsumexp_is_t_times_torch_logsumexp_of_z_over_t(
    make: Callable[[], Tensor], dim: int, dtype: torch.dtype, temperature: float
) -> None:
    z = in_dtype(make(), dtype)
    value = logsumexp(z, dim, temperature=temperature)
    assert value.dtype is dtype
    expected = temperature * torch.logsumexp(z.double() / temperature, dim)
    oracle = temperature * in_any_order(z, dim)
    assert_within(value, expected, slack(dtype) * logsumexp_bound(z, temperature, dim) + oracle)


@pytest.mark.parametrize("subject", [softmax, log_softmax, logsumexp])
def test_last_dimension_and_unit_temperature_are_the_defaults(subject: Map) -> None:
    z = random_logits(3, 4)
    assert torch.equal(subject(z), subject(z, -1, temperature=1.0))
    assert not torch.equal(subject(z), subject(z, -1, temperature=2.0))


@pytest.mark.parametrize("subject", [softmax, log_softmax, logsumexp, softmax_jacobian])
@dtypes
def test_the_logits_are_left_as_they_were(subject: Map, dtype: torch.dtype) -> None:
    z = random_logits(3, 4).to(dtype)
    before = z.clone()
    subject(z, temperature=0.5)
    assert torch.equal(z, before)


@dtypes
@pytest.mark.parametrize("temperature", [1.0, 0.01, 1e30])
def test_ties_share_one_float(dtype: torch.dtype, temperature: float) -> None:
    # 19 entries: past the widest vector of any processor, so that some are computed in a tail.
    p = softmax(torch.full((19,), -7.0, dtype=dtype), temperature=temperature)
    assert torch.equal(p, torch.full((19,), 1 / 19, dtype=arithmetic(dtype)).to(dtype))


# Against torch, backward --------------------------------------------------------------------------


def backward(subject: Map, z: Tensor, upstream: Tensor | None, dim: int, **named: Any) -> Tensor:
    z = z.detach().requires_grad_()
    out = subject(z, dim, **named)
    upstream = torch.ones_like(out) if upstream is None else upstream
    (gradient,) = torch.autograd.grad(out, z, upstream)
    return gradient


def upstream_like(z: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(z.shape, generator=generator, dtype=torch.float64).to(z.dtype)


def half_rounding(gradient: Tensor, dtype: torch.dtype) -> Tensor | float:
    return unit(dtype) * gradient.abs() + smallest(dtype) if dtype in HALF else 0.0


@inputs
@dtypes
@some_temperatures
def test_softmax_backward_is_torch(
    make: Callable[[], Tensor], dim: int, dtype: torch.dtype, temperature: float
) -> None:
    z = in_dtype(make(), dtype)
    v = upstream_like(z)
    gradient = backward(softmax, z, v, dim, temperature=temperature)
    assert gradient.dtype is dtype
    zd, vd = z.double(), v.double()
    expected = backward(lambda x, d: torch.softmax(x / temperature, d), zd, vd, dim)
    # p_i (v_i - <p, v>) / T: every factor carries the error of p, times the largest |v|. The
    # bound of p counts its half-precision rounding, but the saved p is not rounded: float(z).
    wide = z.to(arithmetic(dtype))
    largest = vd.abs().amax(dim, keepdim=True) if z.numel() else vd.abs()
    bound = 4 * softmax_bound(wide, temperature, dim) * largest / temperature
    # Of p, and of <p, v>.
    oracle = 3 * in_any_order(z, dim) * torch.softmax(zd / temperature, dim) * largest / temperature
    assert_within(
        gradient, expected, slack(dtype) * bound + oracle + half_rounding(expected, dtype)
    )


@inputs
@dtypes
@some_temperatures
def test_log_softmax_backward_is_torch(
    make: Callable[[], Tensor], dim: int, dtype: torch.dtype, temperature: float
) -> None:
    z = in_dtype(make(), dtype)
    v = upstream_like(z)
    gradient = backward(log_softmax, z, v, dim, temperature=temperature)
    assert gradient.dtype is dtype
    zd, vd = z.double(), v.double()
    expected = backward(lambda x, d: torch.log_softmax(x / temperature, d), zd, vd, dim)
    # (v_i - p_i sum v) / T: the error of p times sum |v|, the cascade's in sum v, and three more
    # roundings of the terms.
    wide = z.to(arithmetic(dtype))
    total = vd.abs().sum(dim, keepdim=True)
    u = unit(arithmetic(dtype))
    p = torch.softmax(zd / temperature, dim)
    bound = softmax_bound(wide, temperature, dim) * total + 4 * u * (vd.abs() + 3 * p * total)
    bound = bound / temperature
    # Of p, and of sum v.
    oracle = 2 * in_any_order(z, dim) * p * total / temperature
    assert_within(
        gradient, expected, slack(dtype) * bound + oracle + half_rounding(expected, dtype)
    )


@inputs
@dtypes
@some_temperatures
def test_logsumexp_backward_is_torch(
    make: Callable[[], Tensor], dim: int, dtype: torch.dtype, temperature: float
) -> None:
    z = in_dtype(make(), dtype)
    gradient = backward(logsumexp, z, None, dim, temperature=temperature)
    assert gradient.dtype is dtype
    expected = torch.softmax(z.double() / temperature, dim)
    # Times T, then over T: two roundings more than softmax.
    bound = 2 * softmax_bound(z, temperature, dim)
    oracle = in_any_order(z, dim) * expected
    assert_within(gradient, expected, slack(dtype) * bound + oracle)


GRADCHECK_ROWS = {
    "modest": [[0.3, -1.2, 2.0], [1.0, 0.0, -1.0]],
    "tie at the top": [[2.0, 2.0, -1.0], [0.0, 1.0, 1.0]],
    "all tied": [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]],
    "two classes": [[1.0, 1.0], [0.0, 3.0]],
    "one class": [[1.0], [-2.0]],
}


@pytest.mark.parametrize("subject", [softmax, log_softmax, logsumexp, softmax_jacobian])
@pytest.mark.parametrize("values", GRADCHECK_ROWS.values(), ids=GRADCHECK_ROWS.keys())
@pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0])
def test_first_and_second_derivatives_are_difference_quotients(
    subject: Map, values: list[list[float]], temperature: float
) -> None:
    z = torch.tensor(values, dtype=torch.float64, requires_grad=True)

    def at_temperature(x: Tensor) -> Tensor:
        return subject(x, temperature=temperature)

    assert torch.autograd.gradcheck(at_temperature, (z,))
    assert torch.autograd.gradgradcheck(at_temperature, (z,))


@pytest.mark.parametrize("dim", [0, 1, -2])
def test_derivatives_along_any_dimension(dim: int) -> None:
    z = random_logits(3, 4).requires_grad_()
    for subject in (softmax, log_softmax, logsumexp):
        assert torch.autograd.gradcheck(lambda x, f=subject: f(x, dim), (z,))


# Against 50 digits --------------------------------------------------------------------------------

ROWS_FOR_MPMATH = {
    "book's A": [1.0, 5.0, 6.0, 3.0],
    "book's B": [-12.0, 120.0, -203.0, 2.0],
    "ties": [1.5, 1.5, -2.0, 1.5],
    "one class": [3.0],
    "two classes": [0.0, -20.0],
    "wide": [0.0, -40.0, -80.0],
    "into the subnormals": [0.0, -90.0, -100.0, -103.0],
    "far from zero": [10000.0, 10001.0, 9998.0],
}


@pytest.mark.parametrize("values", ROWS_FOR_MPMATH.values(), ids=ROWS_FOR_MPMATH.keys())
@dtypes
@some_temperatures
def test_three_maps_against_fifty_digits(
    values: list[float], dtype: torch.dtype, temperature: float
) -> None:
    z = torch.tensor(values, dtype=dtype)
    assert_within(
        softmax(z, temperature=temperature),
        as_double(exact_softmax(z, temperature)),
        softmax_bound(z, temperature),
    )
    assert_within(
        log_softmax(z, temperature=temperature),
        as_double(exact_log_softmax(z, temperature)),
        log_softmax_bound(z, temperature),
    )
    assert_within(
        logsumexp(z, temperature=temperature),
        as_double([exact_logsumexp(z, temperature)])[0],
        logsumexp_bound(z, temperature),
    )


@given(st.data(), temperatures(0.05, 50.0))
def test_any_row_against_fifty_digits(data: st.DataObject, temperature: float) -> None:
    for dtype in SINGLE_DOUBLE:
        z = data.draw(rows(dtype=dtype))
        assert_within(
            softmax(z, temperature=temperature),
            as_double(exact_softmax(z, temperature)),
            softmax_bound(z, temperature),
        )
        assert_within(
            log_softmax(z, temperature=temperature),
            as_double(exact_log_softmax(z, temperature)),
            log_softmax_bound(z, temperature),
        )
        assert_within(
            logsumexp(z, temperature=temperature),
            as_double([exact_logsumexp(z, temperature)])[0],
            logsumexp_bound(z, temperature),
        )


def test_the_example_of_the_docstring_at_two_temperatures() -> None:
    z = torch.tensor([1.0, 5.0, 6.0, 3.0], dtype=torch.float64)
    for temperature in (1.0, 5.0):
        weights = [math.exp(x / temperature) for x in (1, 5, 6, 3)]
        expected = [w / math.fsum(weights) for w in weights]
        p = softmax(z, temperature=temperature)
        assert_within(p, as_double(expected), 2 * softmax_bound(z, temperature))


def test_log_softmax_keeps_what_the_logarithm_of_softmax_loses() -> None:
    z = torch.tensor([0.0, -200.0])
    assert softmax(z).log().tolist() == [0.0, -INF]
    assert log_softmax(z).tolist() == [0.0, -200.0]


@pytest.mark.parametrize(("gap", "dtype"), [(15.0, torch.float32), (30.0, torch.float64)])
def test_log_softmax_near_certainty_has_an_absolute_error_of_one_rounding(
    gap: float, dtype: torch.dtype
) -> None:
    # The exact value is -exp(-gap). 1 + exp(-gap) was rounded to the dtype first, by u at most,
    # and the logarithm cannot bring back what that lost.
    z = torch.tensor([0.0, -gap], dtype=dtype)
    error = abs(log_softmax(z)[0].item() - float(exact_log_softmax(z)[0]))
    assert error <= 1.01 * unit(dtype)


# What is not a modest finite logit ----------------------------------------------------------------

NOT_FINITE = {
    "some -inf": ([1.0, -INF, 2.0], False),
    "all but one -inf": ([-INF, 0.5, -INF], False),
    "all -inf": ([-INF, -INF], True),
    "one class, -inf": ([-INF], True),
    "+inf": ([1.0, INF], True),
    "two +inf": ([INF, INF, 0.0], True),
    "both infinities": ([INF, -INF, 0.0], True),
    "one class, +inf": ([INF], True),
    "nan": ([1.0, NAN, 2.0], True),
    "nan and -inf": ([NAN, -INF], True),
    "nan and +inf": ([NAN, INF], True),
    "all nan": ([NAN, NAN], True),
}
not_finite = pytest.mark.parametrize(
    ("values", "undefined"), NOT_FINITE.values(), ids=NOT_FINITE.keys()
)


@not_finite
@dtypes
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_infinities_and_nan_are_treated_as_torch_treats_them(
    values: list[float], undefined: bool, dtype: torch.dtype, temperature: float
) -> None:
    z = torch.tensor(values, dtype=dtype)
    scaled = z.double() / temperature
    p, log_p = softmax(z, temperature=temperature), log_softmax(z, temperature=temperature)
    value = logsumexp(z, temperature=temperature)
    for actual, expected, bound in (
        (p, torch.softmax(scaled, -1), softmax_bound),
        (log_p, torch.log_softmax(scaled, -1), log_softmax_bound),
        (value, temperature * torch.logsumexp(scaled, -1), logsumexp_bound),
    ):
        if undefined:
            # Nothing but nan and infinities, and nothing to round.
            assert not expected.isfinite().any()
            torch.testing.assert_close(actual.double(), expected, rtol=0, atol=0, equal_nan=True)
        else:
            assert_within(actual, expected, slack(dtype) * bound(z, temperature))
    assert bool(p.isnan().all()) == bool(log_p.isnan().all()) == undefined


def test_the_table_of_the_module() -> None:
    some, none = torch.tensor([0.0, -INF, 0.0]), torch.tensor([-INF, -INF])
    above, nan = torch.tensor([0.0, INF]), torch.tensor([0.0, NAN])
    half = torch.tensor(0.5).log().item()
    assert softmax(some).tolist() == [0.5, 0.0, 0.5]
    # Two logarithms, off by 8 u each.
    relative = 16 * unit(torch.float32)
    assert log_softmax(some).tolist() == pytest.approx([half, -INF, half], rel=relative)
    assert logsumexp(some).item() == pytest.approx(-half, rel=relative)
    assert logsumexp(none).item() == -INF
    assert logsumexp(above).item() == INF
    assert math.isnan(logsumexp(nan).item())
    for z in (none, above, nan):
        assert bool(softmax(z).isnan().all())
        assert bool(log_softmax(z).isnan().all())


def test_an_undefined_row_leaves_its_neighbors_alone() -> None:
    z = torch.tensor([[1.0, 2.0], [-INF, -INF], [NAN, 0.0], [INF, 0.0], [2.0, 1.0]])
    for subject in (softmax, log_softmax, logsumexp, softmax_jacobian):
        together = subject(z)
        for row, alone in zip((0, 4), (subject(z[0]), subject(z[4])), strict=True):
            # Gaps of one: either is off by 32 u of itself at most.
            rtol = 64 * unit(z.dtype)
            torch.testing.assert_close(together[row], alone, rtol=rtol, atol=0)
            assert not alone.isnan().any()


@pytest.mark.parametrize("subject", [softmax, log_softmax, logsumexp])
@not_finite
def test_gradients_of_infinities_and_nan_are_those_of_torch(
    subject: Map, values: list[float], undefined: bool
) -> None:
    z = torch.tensor(values)
    v = None if subject is logsumexp else torch.arange(1.0, len(values) + 1)
    gradient = backward(subject, z, v, -1)
    wide = None if v is None else v.double()
    expected = backward(getattr(torch, subject.__name__), z.double(), wide, -1)
    # p is off by 20 u at gaps up to 1, four times in p (v - <p, v>), and v is 3 at most.
    atol = 4 * 20 * 3 * unit(z.dtype)
    torch.testing.assert_close(gradient.double(), expected, rtol=0, atol=atol, equal_nan=True)
    assert undefined == bool(gradient.isnan().any())


HUGE = {
    "float32, near the largest": ([3e38, 3e38], 1.0, torch.float32, [0.5, 0.5]),
    "float32, as far apart as can be": ([3e38, -3e38], 1.0, torch.float32, [1.0, 0.0]),
    "float32, all near the smallest": ([-3e38, -3e38, -3e38], 1.0, torch.float32, [1 / 3] * 3),
    "float32, tie and rest": ([1e30, 1e30, -1e30], 1.0, torch.float32, [0.5, 0.5, 0.0]),
    "float16, whose exp overflows at 11.1": ([1e4, 1e4], 1.0, torch.float16, [0.5, 0.5]),
    "float16, the largest": ([65504.0, -65504.0], 1.0, torch.float16, [1.0, 0.0]),
    "bfloat16, near the largest": ([3e38, 3e38, -3e38], 1.0, torch.bfloat16, [0.5, 0.5, 0.0]),
    "float64, near the largest": ([1e308, 1e308, -1e308], 1.0, torch.float64, [0.5, 0.5, 0.0]),
    "tiny T, z / T would overflow": ([1e10, 1e10, 0.0], 1e-30, torch.float32, [0.5, 0.5, 0.0]),
    "tiny T, (z - max z) / T overflows": ([0.0, -1e10], 1e-30, torch.float32, [1.0, 0.0]),
    "tiny T, a gap of the same size": ([1e-30, 0.0], 1e-30, torch.float32, None),
    "the smallest T": ([1.0, 1.0, 0.0], 1.1754943508222875e-38, torch.float32, [0.5, 0.5, 0.0]),
    "tiny T, float64": ([5.0, 5.0, 0.0], 1e-300, torch.float64, [0.5, 0.5, 0.0]),
    "tiny T, float16": ([5.0, 5.0, 0.0], 1e-30, torch.float16, [0.5, 0.5, 0.0]),
    "huge T": ([5.0, -70.0, 3.0, 1.0], 1e38, torch.float32, [0.25] * 4),
    "huge T, float16": ([5.0, -70.0, 3.0, 1.0], 1e30, torch.float16, [0.25] * 4),
    "huge T and huge logits": ([1e38, -1e38], 1e38, torch.float32, None),
    "huge T, float64": ([5.0, -70.0, 3.0, 1.0], 1e300, torch.float64, [0.25] * 4),
}


@pytest.mark.parametrize(
    ("values", "temperature", "dtype", "limit"), HUGE.values(), ids=HUGE.keys()
)
def test_huge_logits_and_extreme_temperatures(
    values: list[float], temperature: float, dtype: torch.dtype, limit: list[float] | None
) -> None:
    z = torch.tensor(values, dtype=dtype)
    p = softmax(z, temperature=temperature)
    assert_within(p, as_double(exact_softmax(z, temperature)), softmax_bound(z, temperature))
    if limit is not None:
        assert p.tolist() == torch.tensor(limit, dtype=dtype).tolist()
    expected = as_double([exact_logsumexp(z, temperature)])[0]
    held = torch.where(expected.abs() <= torch.finfo(dtype).max, expected, expected * INF)
    # A logarithm, 8 u, the sum under it, T, its product and the sum with the largest logit.
    bound = 16 * unit(dtype) * expected.abs() + smallest(dtype)
    assert_within(logsumexp(z, temperature=temperature), held, bound)


@pytest.mark.parametrize(
    ("values", "temperature", "dtype"),
    [
        ([3e38, -3e38], 1e38, torch.float32),
        ([2e38, -2e38, 0.0], 1.5e38, torch.float32),
        ([3e38, -3e38], 1e38, torch.bfloat16),
        ([1.5e308, -1.5e308], 1e308, torch.float64),
    ],
)
def test_a_gap_that_overflows_while_gap_over_t_does_not(
    values: list[float], temperature: float, dtype: torch.dtype
) -> None:
    z = torch.tensor(values, dtype=dtype)
    scaled = z.double() / temperature
    for actual, expected in (
        (softmax(z, temperature=temperature), torch.softmax(scaled, -1)),
        (log_softmax(z, temperature=temperature), torch.log_softmax(scaled, -1)),
        (logsumexp(z, temperature=temperature), temperature * torch.logsumexp(scaled, -1)),
    ):
        # gap / T is below 8, so exp amplifies three roundings 24 times; log p may be near zero.
        u = unit(arithmetic(dtype))
        torch.testing.assert_close(
            actual.double(), expected, rtol=unit(dtype) + 32 * u, atol=2 * u + smallest(dtype)
        )


@pytest.mark.parametrize(
    ("values", "expected", "dtype"),
    [
        ([0.0, -1e10], [0.0, -INF], torch.float32),  # -1e40
        ([0.0, -1e8], [0.0, -1e38], torch.float32),
        (
            [0.0, -1e-29],
            [-math.log1p(math.exp(-10)), -10 - math.log1p(math.exp(-10))],
            torch.float32,
        ),
    ],
)
def test_log_softmax_at_a_tiny_temperature(
    values: list[float], expected: list[float], dtype: torch.dtype
) -> None:
    log_p = log_softmax(torch.tensor(values, dtype=dtype), temperature=1e-30)
    # The logit, T, the quotient and the difference are rounded; the sum, which is near 1, too,
    # and where its logarithm is all there is, that counts.
    u = unit(dtype)
    torch.testing.assert_close(
        log_p.double(), torch.tensor(expected, dtype=torch.float64), rtol=6 * u, atol=2 * u
    )


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    z = (random_logits(64, 1000) / 2).to(dtype)
    wide = z.float()
    for subject in (softmax, log_softmax, logsumexp):
        assert torch.equal(subject(z), subject(wide).to(dtype))
    assert torch.equal(softmax_jacobian(z[:4, :50]), softmax_jacobian(wide[:4, :50]).to(dtype))


def test_a_half_precision_vocabulary_still_sums() -> None:
    # Added up in float16, 70,000 equal weights of 1 would stop at infinity.
    z = torch.zeros(70_000, dtype=torch.float16)
    assert logsumexp(z).item() == torch.tensor(math.log(70_000)).half().item()
    # Each probability is subnormal, and rounded by half of 2^-24 at most.
    assert softmax(z).double().sum().item() == pytest.approx(1.0, abs=70_000 * 2.0**-25)


# The Jacobian -------------------------------------------------------------------------------------


def jacobian_bound(z: Tensor, temperature: float) -> Tensor:
    """Relative errors of p_i and p_j add up; the diagonal is a sum of such products."""
    wide = z.to(arithmetic(z.dtype))
    p = torch.softmax(wide.double() / temperature, -1)
    error = softmax_bound(wide, temperature)
    outer = p.unsqueeze(-1) * error.unsqueeze(-2) + error.unsqueeze(-1) * p.unsqueeze(-2)
    off_diagonal = outer - torch.diag_embed(outer.diagonal(dim1=-2, dim2=-1))
    bound = (off_diagonal + torch.diag_embed(off_diagonal.sum(-1))) / temperature
    return 2 * bound + 2 * smallest(arithmetic(z.dtype)) * (1 + 1 / temperature)


def exact_jacobian(z: Tensor, temperature: float) -> Tensor:
    p = exact_softmax(z, temperature)
    # 1 - p_i as the sum of the others: 50 digits do not hold a p_i that is 1e-60 below 1.
    rest = [mp.fsum(p[:i] + p[i + 1 :]) for i in range(len(p))]
    return torch.stack(
        [
            as_double(
                [(p_i * rest[i] if i == j else -p_i * p_j) / temperature for j, p_j in enumerate(p)]
            )
            for i, p_i in enumerate(p)
        ]
    )


@pytest.mark.parametrize("shape", [(1,), (2,), (6,), (1, 4), (3, 4), (2, 3, 4), (0, 3), (2, 1)])
@dtypes
@some_temperatures
def test_jacobian_is_what_autograd_finds(
    shape: tuple[int, ...], dtype: torch.dtype, temperature: float
) -> None:
    z = random_logits(*shape).to(dtype)
    jacobian = softmax_jacobian(z, temperature=temperature)
    assert jacobian.dtype is dtype
    assert jacobian.shape == (*shape, shape[-1])
    flat = z.double().reshape(-1, shape[-1])
    expected = [
        torch.func.jacrev(lambda x: torch.softmax(x / temperature, -1))(row) for row in flat
    ]
    if not expected:
        return
    oracle = torch.stack(expected).reshape(jacobian.shape)
    bound = slack(dtype) * jacobian_bound(z, temperature) + half_rounding(oracle, dtype)
    # Autograd subtracts on the diagonal, p_i - p_i p_i, and cancels there.
    assert_within(jacobian, oracle, bound + 4 * unit(torch.float64) / temperature)


@pytest.mark.parametrize("values", ROWS_FOR_MPMATH.values(), ids=ROWS_FOR_MPMATH.keys())
@dtypes
@some_temperatures
def test_jacobian_against_fifty_digits(
    values: list[float], dtype: torch.dtype, temperature: float
) -> None:
    z = torch.tensor(values, dtype=dtype)
    expected = exact_jacobian(z, temperature)
    assert_within(
        softmax_jacobian(z, temperature=temperature),
        expected,
        jacobian_bound(z, temperature) + half_rounding(expected, dtype),
    )


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0.0, -20.0], torch.float32),
        ([0.0, -40.0], torch.float32),
        ([0.0, -40.0], torch.float64),
        ([0.0, -300.0], torch.float64),
        ([0.0, -20.0, -25.0], torch.float32),
    ],
)
def test_jacobian_keeps_its_digits_where_a_probability_rounds_to_one(
    values: list[float], dtype: torch.dtype
) -> None:
    z = torch.tensor(values, dtype=dtype)
    assert softmax(z)[0].item() == 1.0
    expected = exact_jacobian(z, 1.0)
    relative = ((softmax_jacobian(z).double() - expected) / expected).abs().max().item()
    # Two factors p, each with the relative error of the bound, plus their product and sum.
    gap = z[0].item() - z[-1].item()
    assert relative <= unit(dtype) * (2 * (3 * gap + 16) + 4)


@given(rows(2, 8), temperatures())
def test_jacobian_is_symmetric_positive_semidefinite_with_rows_summing_to_zero(
    z: Tensor, temperature: float
) -> None:
    jacobian = softmax_jacobian(z, temperature=temperature)
    assert torch.equal(jacobian, jacobian.mT)
    assert bool((jacobian.diagonal() >= 0).all())
    scale = 1 / temperature
    k = len(z)
    # Sums of K numbers of size 1/T; eigenvalues of a matrix of norm 1/(2T) move with its rounding.
    assert jacobian.sum(-1).abs().max().item() <= k * 2 * unit(z.dtype) * scale
    assert torch.linalg.eigvalsh(jacobian).min().item() >= -k * 4 * unit(z.dtype) * scale


def test_jacobian_of_masked_and_undefined_rows() -> None:
    masked = softmax_jacobian(torch.tensor([0.0, -INF, 0.0]))
    assert masked.tolist() == [[0.25, 0.0, -0.25], [0.0, 0.0, 0.0], [-0.25, 0.0, 0.25]]
    assert bool(softmax_jacobian(torch.tensor([-INF, -INF])).isnan().all())
    assert softmax_jacobian(torch.tensor([4.0])).tolist() == [[0.0]]


# The class ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dim"),
    [
        ((5,), 0),
        ((5,), -1),
        ((1, 5), -1),
        ((4, 5), 0),
        ((2, 5, 3), 1),
        ((2, 5, 3), -2),
        ((0, 5), 1),
    ],
)
@dtypes
def test_layer_is_softmax_along_its_dimension(
    shape: tuple[int, ...], dim: int, dtype: torch.dtype
) -> None:
    z = random_logits(*shape).to(dtype)
    p = Softmax(dim)(z)
    assert p.dtype is dtype
    assert_within(p, torch.nn.Softmax(dim)(z.double()), slack(dtype) * softmax_bound(z, 1.0, dim))
    assert Softmax(dim=dim).dim == dim


def test_layer_takes_the_last_dimension_by_default() -> None:
    z = random_logits(3, 4)
    assert torch.equal(Softmax()(z), softmax(z, -1))
    assert Softmax().dim == -1


@pytest.mark.parametrize(
    ("shape", "dim", "gradient_shape"),
    [
        ((5,), 0, (5, 5)),
        ((1, 5), -1, (1, 5, 5)),
        ((1, 5), 0, (5, 1, 1)),
        ((4, 5), 0, (5, 4, 4)),
        ((2, 5, 3), 1, (2, 3, 5, 5)),
        ((2, 5, 3), -2, (2, 3, 5, 5)),
        ((2, 5, 3), 0, (5, 3, 2, 2)),
    ],
)
def test_layer_gradient_puts_the_classes_last(
    shape: tuple[int, ...], dim: int, gradient_shape: tuple[int, ...]
) -> None:
    z = random_logits(*shape)
    gradient = Softmax(dim).gradient(z)
    assert gradient.shape == gradient_shape
    full = torch.func.jacrev(lambda x: torch.softmax(x, dim))(z)
    # full[a, b] = d p_a / d z_b over whole index tuples; what leaves a row is zero.
    # Autograd subtracts on the diagonal, p_i - p_i p_i.
    bound = 2 * jacobian_bound(z.movedim(dim, -1), 1.0) + 4 * unit(z.dtype)
    d = dim % len(shape)
    for index in np.ndindex(*shape):
        batch = index[:d] + index[d + 1 :]
        line = (*index[:d], slice(None), *index[d + 1 :])
        assert_within(gradient[batch][index[d]], full[index][line], bound[batch][index[d]])


# Input that has no softmax ------------------------------------------------------------------------

ROW = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
ALONG_DIM: list[Any] = [softmax, log_softmax, logsumexp]
MAPS: list[Any] = [*ALONG_DIM, softmax_jacobian]


def name_of(subject: Map) -> str:
    return getattr(subject, "__name__", type(subject).__name__)


# Each row: rejected logits, the whole message, accepted neighbor.
BAD_LOGITS: dict[str, tuple[Any, type[Exception], str, Tensor]] = {
    "a list": (
        [1.0, 2.0],
        TypeError,
        "logits must be a torch.Tensor, got [1.0, 2.0]; wrap them in torch.tensor(...)",
        torch.tensor([1.0, 2.0]),
    ),
    "an array": (
        np.array([1.0, 2.0]),
        TypeError,
        "logits must be a torch.Tensor, got array([1., 2.]); wrap them in torch.tensor(...)",
        torch.tensor(np.array([1.0, 2.0])),
    ),
    "integers": (
        torch.tensor([1, 2]),
        TypeError,
        "logits must have a floating dtype, got torch.int64 with values [1, 2]; "
        "convert them with z.float()",
        torch.tensor([1, 2]).float(),
    ),
    "many integers": (
        torch.arange(7).reshape(1, 7),
        TypeError,
        "logits must have a floating dtype, got torch.int64 with values [0, 1, 2, 3, 4, 5, ...]; "
        "convert them with z.float()",
        torch.arange(7.0).reshape(1, 7),
    ),
    "six integers": (
        torch.arange(6),
        TypeError,
        "logits must have a floating dtype, got torch.int64 with values [0, 1, 2, 3, 4, 5]; "
        "convert them with z.float()",
        torch.arange(6.0),
    ),
    "short integers": (
        torch.tensor([1, 2], dtype=torch.int16),
        TypeError,
        "logits must have a floating dtype, got torch.int16 with values [1, 2]; "
        "convert them with z.float()",
        torch.tensor([1, 2], dtype=torch.int16).float(),
    ),
    "booleans": (
        torch.tensor([True, False]),
        TypeError,
        "logits must have a floating dtype, got torch.bool with values [True, False]; "
        "convert them with z.float()",
        torch.tensor([1.0, 0.0]),
    ),
    "complex": (
        torch.tensor([1j]),
        TypeError,
        "logits must have a floating dtype, got torch.complex64 with values [1j]; "
        "convert them with z.float()",
        torch.tensor([1.0]),
    ),
    "a scalar": (
        torch.tensor(2.5),
        ValueError,
        "logits need a dimension that holds the classes, got the scalar 2.5; "
        "reshape(1) makes it a row of one",
        torch.tensor(2.5).reshape(1),
    ),
    "no classes": (
        torch.zeros(2, 0),
        ValueError,
        "dimension -1 of the logits is empty (shape (2, 0)); a softmax needs at least one class",
        torch.zeros(0, 2),
    ),
}


@pytest.mark.parametrize("subject", [*MAPS, Softmax(), Softmax().gradient], ids=name_of)
@pytest.mark.parametrize(
    ("bad", "error", "message", "good"), BAD_LOGITS.values(), ids=BAD_LOGITS.keys()
)
def test_bad_logits_are_shown_with_what_would_work(
    subject: Map, bad: Any, error: type[Exception], message: str, good: Tensor
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        subject(bad)
    subject(good)


# Each row: rejected dim, the whole message.
BAD_DIM: dict[str, tuple[Any, type[Exception], str]] = {
    "too large": (2, ValueError, "dim must lie in [-2, 1] for logits of shape (2, 3), got 2"),
    "too small": (-3, ValueError, "dim must lie in [-2, 1] for logits of shape (2, 3), got -3"),
    "a float": (1.0, TypeError, "dim must be an int such as -1, got 1.0"),
    "a boolean": (True, TypeError, "dim must be an int such as -1, got True"),
    "none": (None, TypeError, "dim must be an int such as -1, got None"),
    "two": ((0, 1), TypeError, "dim must be an int such as -1, got (0, 1)"),
}


def layer_at(z: Tensor, dim: int) -> Tensor:
    return Softmax(dim)(z)


def gradient_at(z: Tensor, dim: int) -> Tensor:
    return Softmax(dim).gradient(z)


@pytest.mark.parametrize("subject", [*ALONG_DIM, layer_at, gradient_at], ids=name_of)
@pytest.mark.parametrize(("dim", "error", "message"), BAD_DIM.values(), ids=BAD_DIM.keys())
def test_bad_dim_is_shown_with_what_would_work(
    subject: Map, dim: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        subject(ROW, dim)
    for good in (-2, -1, 0, 1):
        subject(ROW, good)


def test_an_empty_dimension_is_named_as_the_caller_named_it() -> None:
    message = (
        "dimension 1 of the logits is empty (shape (2, 0)); a softmax needs at least one class"
    )
    for subject in (*ALONG_DIM, gradient_at):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            subject(torch.zeros(2, 0), 1)
        assert subject(torch.zeros(2, 0), 0).numel() == 0


NOT_POSITIVE = (
    "temperature must be > 0, got {}; for deterministic decoding (T -> 0) use logits.argmax(dim)"
)
NOT_HELD = (
    "temperature must lie in [{}, {}] to be computed in {}, got {}; convert the logits with "
    "z.double(), or take the limit: logits.argmax(dim) for T -> 0, the uniform distribution for "
    "T -> infinity"
)
IN_SINGLE = ("1.175e-38", "3.403e+38", "torch.float32")
IN_DOUBLE = ("2.225e-308", "1.798e+308", "torch.float64")

# Each row: dtype of the logits, rejected temperature, the whole message, accepted neighbor.
BAD_TEMPERATURE: dict[str, tuple[torch.dtype, Any, type[Exception], str, Any]] = {
    "a string": (
        torch.float32,
        "1.0",
        TypeError,
        "temperature must be a real number such as 0.7, got '1.0'",
        1.0,
    ),
    "none": (
        torch.float32,
        None,
        TypeError,
        "temperature must be a real number such as 0.7, got None",
        1,
    ),
    "a boolean": (
        torch.float32,
        True,
        TypeError,
        "temperature must be a real number such as 0.7, got True",
        1,
    ),
    "a tensor": (
        torch.float32,
        torch.tensor(0.5),
        TypeError,
        "temperature must be a real number such as 0.7, got tensor(0.5000)",
        torch.tensor(0.5).item(),
    ),
    "complex": (
        torch.float32,
        1j,
        TypeError,
        "temperature must be a real number such as 0.7, got 1j",
        1.0,
    ),
    "a decimal": (
        torch.float32,
        Decimal("0.5"),
        TypeError,
        "temperature must be a real number such as 0.7, got Decimal('0.5')",
        Fraction(1, 2),
    ),
    "zero": (torch.float32, 0.0, ValueError, NOT_POSITIVE.format("0.0"), 0.1),
    "the integer zero": (torch.float32, 0, ValueError, NOT_POSITIVE.format("0"), 1),
    "negative": (torch.float32, -0.5, ValueError, NOT_POSITIVE.format("-0.5"), 0.5),
    "nan": (torch.float32, NAN, ValueError, NOT_POSITIVE.format("nan"), np.float32(0.5)),
    "-inf": (torch.float32, -INF, ValueError, NOT_POSITIVE.format("-inf"), np.float64(0.5)),
    "+inf": (
        torch.float32,
        INF,
        ValueError,
        NOT_HELD.format(*IN_SINGLE, "inf"),
        torch.finfo(torch.float32).max,
    ),
    "above float32": (
        torch.float32,
        1e39,
        ValueError,
        NOT_HELD.format(*IN_SINGLE, "1e+39"),
        1e38,
    ),
    "below float32": (
        torch.float32,
        1e-39,
        ValueError,
        NOT_HELD.format(*IN_SINGLE, "1e-39"),
        torch.finfo(torch.float32).tiny,
    ),
    # Half precision is computed in float32, so float32's range counts: 1e5 is above float16's.
    "above float32, float16": (
        torch.float16,
        1e39,
        ValueError,
        NOT_HELD.format(*IN_SINGLE, "1e+39"),
        1e5,
    ),
    "below float32, bfloat16": (
        torch.bfloat16,
        1e-39,
        ValueError,
        NOT_HELD.format(*IN_SINGLE, "1e-39"),
        1e-30,
    ),
    "+inf, float64": (
        torch.float64,
        INF,
        ValueError,
        NOT_HELD.format(*IN_DOUBLE, "inf"),
        torch.finfo(torch.float64).max,
    ),
    "below float64": (
        torch.float64,
        5e-324,
        ValueError,
        NOT_HELD.format(*IN_DOUBLE, "5e-324"),
        1e-39,
    ),
}


@pytest.mark.parametrize("subject", MAPS, ids=name_of)
@pytest.mark.parametrize(
    ("dtype", "bad", "error", "message", "good"),
    BAD_TEMPERATURE.values(),
    ids=BAD_TEMPERATURE.keys(),
)
def test_bad_temperature_is_shown_with_what_would_work(
    subject: Map, dtype: torch.dtype, bad: Any, error: type[Exception], message: str, good: Any
) -> None:
    z = ROW.to(dtype)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        subject(z, temperature=bad)
    assert not subject(z, temperature=good).isnan().any()


@pytest.mark.parametrize("number", [2, np.float32(2.0), np.float64(2.0), np.int64(2), Fraction(2)])
@pytest.mark.parametrize("subject", MAPS, ids=name_of)
def test_any_real_number_is_a_temperature(subject: Map, number: Any) -> None:
    assert torch.equal(subject(ROW, temperature=number), subject(ROW, temperature=2.0))


def test_fifty_digits_are_fifty_digits() -> None:
    # The oracle against a closed form: 1 / (1 + e^-1) to more digits than any dtype holds.
    p = exact_softmax(torch.tensor([0.0, -1.0]))
    assert abs(p[0] - 1 / (1 + mp.exp(-1))) < mp.mpf(10) ** -49
