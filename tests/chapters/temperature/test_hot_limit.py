"""The theorem `hot-limit`: The hot limit."""

from __future__ import annotations

import math
from typing import Any

import pytest
import sympy as sp
import torch
from hypothesis import given
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.temperature.common import (
    EDGES,
    EXAMPLE,
    ZERO,
    Symbols,
    U,
    exact_row,
    is_constant,
    mean_of,
    near_tied_rows,
    row,
)
from tests.support.strategies import (
    DTYPES,
    assert_within,
    exact_softmax,
    rows,
    softmax_bound,
    temperatures,
)


@pytest.mark.statement("hot-limit", "exact")
@given(near_tied_rows(1, 8), temperatures(0.1, 1e4))
def test_distance_from_uniform_and_from_first_order(z: Tensor, temperature: float) -> None:
    k, t = len(z), mp.mpf(temperature)
    values = exact_row(z)
    mean, spread = mp.fsum(values) / k, max(values) - min(values)
    p = exact_softmax(z, t)
    distance = mp.sqrt(mp.fsum((a - mp.mpf(1) / k) ** 2 for a in p))
    limit = mp.sqrt(mp.fsum((x - mean) ** 2 for x in values)) / (2 * t)
    rest = [a - mp.mpf(1) / k - (x - mean) / (k * t) for a, x in zip(p, values, strict=True)]
    if is_constant(z):
        assert_within([distance, limit, *rest], 0, ZERO)
        return
    assert distance < limit
    second = mp.fsum((x - mean) ** 2 for x in values) / k
    for r, x in zip(rest, values, strict=True):
        assert abs(r) <= spread**2 / (2 * t**2) * min(1, mp.exp(spread / t) / k)
        # The next term of the expansion. The third derivative in 1 / T is p [y^3 - 3 y Var - m_3]
        # with |y| <= rho: at most 6 rho^3 / 5.
        term = ((x - mean) ** 2 - second) / (2 * k * t**2)
        assert abs(r - term) <= spread**3 / (5 * t**3)


@pytest.mark.statement("hot-limit")
@given(rows(1, 8), temperatures(0.1, 1e6))
def test_computed_distances_keep_the_bounds(z: Tensor, temperature: float) -> None:
    k = len(z)
    p = softmax(z, temperature=temperature)
    rounding = softmax_bound(z, temperature)
    centered = z - z.mean()
    limit = centered.norm() / (2 * temperature)
    # The mean is rounded too, by K u |z|.
    drift = (k + 4) * U * z.abs().max() / temperature
    distance = (p - 1 / k).norm()
    assert distance <= limit * (1 + 8 * U) + rounding.norm() + drift + U
    rest = p - 1 / k - centered / (k * temperature)
    spread = (z.max() - z.min()) / temperature
    second_order = spread**2 / 2 * (spread.exp() / k).clamp(max=1)
    assert bool((rest.abs() <= second_order + rounding + drift + 4 * U).all())


@pytest.mark.statement("hot-limit")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("values", EDGES)
def test_very_hot_is_uniform(values: list[float], dtype: torch.dtype) -> None:
    z = row(values, dtype)
    p = softmax(z, temperature=1e30)
    share = torch.full_like(p, 1 / len(values), dtype=torch.float64)
    assert_within(p, share, softmax_bound(z, 1e30))


@pytest.mark.statement("hot-limit")
@pytest.mark.parametrize("values", EDGES)
def test_the_distance_falls_like_one_over_t(values: list[float]) -> None:
    z = row(values)
    k, spread = len(z), (z.max() - z.min()).item()
    temperature = 1e4 * max(spread, 1e-9)
    distance = (softmax(z, temperature=temperature) - 1 / k).norm()
    # T |p - 1/K| tends to |z - mean| / K, which is at least rho / (sqrt(2) K). By the theorem the
    # rest is at most sqrt(K / 2) rho / T of it, but for exp(rho / T).
    expected = (z - z.mean()).norm() / (k * temperature)
    rounding = softmax_bound(z, temperature).norm() + 8 * U
    assert_within(distance, expected, math.sqrt(k) * 1e-4 * expected + rounding)


@pytest.mark.statement("hot-limit", "exact")
@pytest.mark.parametrize("difference", [1e-3, 1.0, 6.0])
def test_with_two_classes_one_half_is_the_best_constant(difference: float) -> None:
    z = row([difference, 0.0])
    limit = (z - z.mean()).norm().item() / 2
    for temperature in (0.5, 1.0, 10.0, 1e3):
        distance = (softmax(z, temperature=temperature) - 0.5).norm().item()
        x = difference / (2 * temperature)
        rounding = softmax_bound(z, temperature).norm().item() * temperature / limit + 8 * U
        assert_within(distance * temperature / limit, mp.tanh(x) / x, rounding)


@pytest.mark.statement("hot-limit", "exact")
@pytest.mark.parametrize("k", [2, 8, 1000, 10**6])
def test_with_many_classes_the_rest_is_as_small_as_a_share(k: int) -> None:
    def rest(x: Any) -> Any:  # of one class, x above all others, at T = 1
        return mp.exp(x) / (mp.exp(x) + k - 1) - mp.mpf(1) / k - (x - x / k) / k

    for x in (mp.mpf(n) / 4 for n in range(1, 200)):
        assert abs(rest(x)) < x**2 / 2 * min(1, mp.exp(x) / k)
    # No smaller constant than 1/2 will do, nor 1 / K without the exponential.
    x = mp.mpf("1e-3")
    expected = (1 - mp.mpf(1) / k) * (1 - mp.mpf(2) / k)
    assert_within(rest(x) / (x**2 / 2 / k), expected, x)
    assert (rest(5) > mp.mpf(5) ** 2 / 2 / k) == (k >= 1000)


@pytest.mark.statement("hot-limit", "exact")
@pytest.mark.parametrize("values", [EXAMPLE, [1.0, -1.0], [3.0], [2.0, 2.0], [5.0, 5.0, 1.0]])
@pytest.mark.parametrize("beta", [0.0, 0.3, 2.0])
def test_derivatives_in_the_inverse_temperature(values: list[float], beta: float) -> None:
    z = row(values)

    def at(x: Any, i: int) -> Any:
        weights = [mp.exp(x * value) for value in values]
        return weights[i] / mp.fsum(weights)

    p = [at(mp.mpf(beta), i) for i in range(len(z))]
    mean = mean_of(values, p)
    variance = mean_of([(x - mean) ** 2 for x in values], p)
    for i, x in enumerate(values):
        first = mp.diff(lambda b, i=i: at(b, i), beta)
        second = mp.diff(lambda b, i=i: at(b, i), beta, 2)
        assert_within(first, p[i] * (x - mean), 1e-20)
        assert_within(second, p[i] * ((x - mean) ** 2 - variance), 1e-20)
        spread = max(values) - min(values)
        assert abs(second) <= spread**2 * min(1, mp.exp(spread * beta) / len(z))


@pytest.mark.statement("hot-limit", "symbolic")
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_symbols_find_the_second_derivative_in_the_inverse_temperature(count: int) -> None:
    s = Symbols(count)
    p, x = s.p[0], s.z[0]  # any other class is this one with other names
    slope = p * (x - s.mean)
    # d/d beta is -T^2 d/dT.
    assert s.vanishes(-(s.t**2) * sp.diff(p, s.t) - slope)
    assert s.vanishes(-(s.t**2) * sp.diff(slope, s.t) - p * ((x - s.mean) ** 2 - s.variance))
