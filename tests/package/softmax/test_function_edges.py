"""The function with gradients where logits are masked, huge or not finite."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.package.softmax.common import dtypes, slack
from tests.package.softmax.common_derivatives import INF, NAN, counted_vjp, function
from tests.package.softmax.test_against_torch import upstream_like
from tests.package.softmax.test_extreme_logits import not_finite
from tests.package.softmax.test_function import (
    at_rows,
    counted_slope,
    gradients,
    second_bound,
    second_gradients,
    slope_bound,
)
from tests.support.strategies import (
    arithmetic,
    as_double,
    assert_within,
    exact_softmax,
    smallest,
    unit,
)

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
