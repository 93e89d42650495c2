"""The theorem `temperature-derivative`: Derivatives in the temperature."""

from __future__ import annotations

import itertools

import pytest
import sympy as sp
import torch
from hypothesis import example, given
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.temperature.common import (
    EDGES,
    ZERO,
    Symbols,
    U,
    exact_mean,
    exact_row,
    exact_variance,
    is_constant,
    near_tied_rows,
    rising,
    row,
    slope_bound,
    slopes_of,
    softmax_at,
)
from tests.support.strategies import (
    assert_within,
    double,
    exact_softmax,
    rows,
    smallest,
    softmax_bound,
    temperatures,
)


@pytest.mark.statement("temperature-derivative", "exact", "torch")
@given(rows(1, 6), temperatures(0.2, 100.0))
@example(double([0.0, 2.0**-126]), 0.203125)
@example(double([0.0, 1e-162]), 0.2)
def test_autograd_finds_the_derivatives(z: Tensor, temperature: float) -> None:
    mean = exact_mean(z, temperature)
    p = exact_softmax(z, temperature)
    t2 = mp.mpf(temperature) ** 2
    expected = [a * (mean - x) / t2 for a, x in zip(p, exact_row(z), strict=True)]
    slope = -exact_variance(z, temperature) / t2
    # What underflows is lost before the divisions by T, or after them.
    size = z.abs().max().item()
    lost = 64 * smallest(torch.float64) * max(1, 1 / temperature**2)
    allowed = slope_bound(size, temperature) + lost
    for subject in (softmax_at, lambda z, t: torch.softmax(z / t, -1)):
        t = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
        q = subject(z, t)
        assert_within(slopes_of(q, t), expected, allowed)
        (moved,) = torch.autograd.grad(q @ z, t)
        assert_within(moved, slope, 6 * size * allowed + lost)
    q = softmax(z, temperature=temperature)
    assert_within(q * (q @ z - z) / temperature**2, expected, allowed)


@pytest.mark.statement("temperature-derivative", "exact")
@pytest.mark.parametrize("values", EDGES)
@pytest.mark.parametrize("temperature", [0.07, 1.0, 30.0, 1e4])
def test_difference_quotients_find_the_derivatives(values: list[float], temperature: float) -> None:
    z, t = row(values), mp.mpf(temperature)
    mean, p = exact_mean(z, t), exact_softmax(z, t)
    for i, x in enumerate(exact_row(z)):
        slope = mp.diff(lambda s, i=i: exact_softmax(z, s)[i], t)
        assert_within(slope, p[i] * (mean - x) / t**2, 1e-24)
    slope = mp.diff(lambda s: exact_mean(z, s), t)
    assert_within(slope, -exact_variance(z, t) / t**2, 1e-24)
    # Zero if and only if the logits are constant.
    variance = exact_variance(z, t)
    assert variance < ZERO**2 if is_constant(z) else variance > 0


@pytest.mark.statement("temperature-derivative", "symbolic")
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_symbols_find_the_derivatives(count: int) -> None:
    s = Symbols(count)
    for a, x in zip(s.p, s.z, strict=True):
        assert s.vanishes(sp.diff(a, s.t) - a * (s.mean - x) / s.t**2)
    assert s.vanishes(sp.diff(s.mean, s.t) + s.variance / s.t**2)


@pytest.mark.statement("temperature-derivative", "exact")
@given(near_tied_rows(1, 6), rising(3, 5))
def test_the_expected_logit_strictly_falls_from_the_maximum_to_the_mean(
    z: Tensor, several: list[float]
) -> None:
    values = exact_row(z)
    center = mp.fsum(values) / len(z)
    means = [exact_mean(z, t) for t in several]
    if is_constant(z):
        assert_within(means, center, ZERO)
    else:
        assert all(later < earlier for earlier, later in itertools.pairwise(means))
        assert max(values) > means[0]
        assert means[-1] > center
    for t, mean in zip(several, means, strict=True):
        allowed = z.abs().max().item() * (softmax_bound(z, t).sum().item() + 8 * U)
        assert_within(softmax(z, temperature=t) @ z, mean, allowed)


@pytest.mark.statement("temperature-derivative", "exact")
@pytest.mark.parametrize("values", EDGES)
def test_the_expected_logit_has_these_limits(values: list[float]) -> None:
    z = row(values)
    values_exact = exact_row(z)
    center = mp.fsum(values_exact) / len(z)
    second = mp.fsum((x - center) ** 2 for x in values_exact) / len(z)
    assert_within(exact_mean(z, mp.mpf(10) ** -9), max(values_exact), ZERO)
    # The first term on the way: Var / T for the uniform distribution.
    hot = mp.mpf(10) ** 14
    assert_within((exact_mean(z, hot) - center) * hot, second, mp.mpf(10) ** -9 * (1 + second))
    for temperature, expected in ((1e-12, max(values_exact)), (1e30, center)):
        rounding = softmax_bound(z, temperature).sum() + 8 * U
        assert_within(softmax(z, temperature=temperature) @ z, expected, rounding * z.abs().max())
