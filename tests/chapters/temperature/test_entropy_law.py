"""The theorem `entropy-law`: Entropy rises with temperature."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import sympy as sp
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.information import entropy
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
    mean_of,
    near_tied_rows,
    rising,
    row,
    slope_bound,
    softmax_at,
)
from tests.support.strategies import (
    DTYPES,
    HALF,
    assert_within,
    exact_log_softmax,
    exact_softmax,
    rows,
    softmax_bound,
    temperatures,
    unit,
    whole_rows,
)


def exact_entropy(z: Tensor, temperature: Any) -> Any:
    return -mean_of(exact_log_softmax(z, temperature), exact_softmax(z, temperature))


def entropy_bound(z: Tensor, temperature: float) -> float:
    """Largest error of ``entropy(softmax(z))``: d(-p log p) = -(1 + log p) dp, and its own."""
    log_p = torch.log_softmax(z.double() / temperature, -1)
    own = unit(z.dtype) * (8 + 4 * math.log2(len(z) + 1)) * (-log_p.exp() * log_p).sum()
    return float(((1 - log_p) * softmax_bound(z, temperature)).sum() + own)


@pytest.mark.statement("entropy-law", "symbolic")
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_symbols_find_the_slope_of_the_entropy(count: int) -> None:
    s = Symbols(count)
    slope = sp.diff(s.entropy, s.t)
    assert s.vanishes(slope - s.variance / s.t**3)
    if count > 1:
        assert not s.vanishes(slope - s.variance / s.t**2)
    # The entropy is itself a slope, that of LSE_T, which therefore curves upward.
    assert s.vanishes(sp.diff(s.t * sp.log(s.sum), s.t) - s.entropy)


@pytest.mark.statement("entropy-law", "exact", "torch")
@given(rows(1, 6), temperatures(0.2, 100.0))
def test_autograd_finds_the_slope_of_the_entropy(z: Tensor, temperature: float) -> None:
    expected = exact_variance(z, temperature) / mp.mpf(temperature) ** 3
    # Products (log p) (dp/dT) of size (range / T) (range / T^2), summed over the classes, with
    # relative errors of a few |z| / T.
    x = z.abs().max().item() / temperature
    allowed = (16 * x + 64) * U * (2 * x + 2) * 2 * x * len(z) / temperature + 1e-300
    t = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    (packaged,) = torch.autograd.grad(entropy(softmax_at(z, t)), t)
    (own,) = torch.autograd.grad(
        -(torch.softmax(z / t, -1) * torch.log_softmax(z / t, -1)).sum(), t
    )
    for slope in (packaged, own):
        assert_within(slope, expected, allowed)


@pytest.mark.statement("entropy-law", "exact")
@pytest.mark.parametrize("values", EDGES)
@pytest.mark.parametrize("temperature", [0.07, 1.0, 30.0, 1e4])
def test_difference_quotients_find_the_slope_of_the_entropy(
    values: list[float], temperature: float
) -> None:
    z, t = row(values), mp.mpf(temperature)
    slope = mp.diff(lambda s: exact_entropy(z, s), t)
    assert_within(slope, exact_variance(z, t) / t**3, 1e-24)
    # Entropy is heat over temperature: dH = -dE[z] / T.
    assert_within(slope, -mp.diff(lambda s: exact_mean(z, s), t) / t, 1e-24)


@pytest.mark.statement("entropy-law", "exact")
@given(near_tied_rows(1, 6), rising(3, 5))
def test_entropy_strictly_rises_unless_the_logits_are_constant(
    z: Tensor, several: list[float]
) -> None:
    k, m = len(z), int((z == z.max()).sum())
    values = [exact_entropy(z, t) for t in several]
    if is_constant(z):
        assert_within(values, mp.log(k), ZERO)
    else:
        assert all(later > earlier for earlier, later in itertools.pairwise(values))
        assert values[0] > mp.log(m)
        assert values[-1] < mp.log(k)
    for t, value in zip(several, values, strict=True):
        assert_within(entropy(softmax(z, temperature=t)), value, entropy_bound(z, t))


@pytest.mark.statement("entropy-law")
@given(whole_rows(2, 8, bound=5), rising())
def test_computed_entropies_strictly_rise(z: Tensor, several: list[float]) -> None:
    assume(not is_constant(z))
    # Gaps of at least 1; a step of 5 percent above T = 930 still moves log K - H by 1e-9.
    values = [entropy(softmax(z, temperature=t)) for t in several]
    assert all(later > earlier for earlier, later in itertools.pairwise(values))


@pytest.mark.statement("entropy-law", "exact")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("values", EDGES)
def test_entropy_goes_from_log_m_to_log_k(values: list[float], dtype: torch.dtype) -> None:
    z = row(values, dtype)
    m, k = int((z == z.max()).sum()), len(values)
    # p is off by 18 u at most, and so is the entropy by 1 + log K times that; log p by 8 u and
    # the sum by 5. In half precision p and the entropy are rounded once.
    tolerance = (2.5 if dtype in HALF else 34) * unit(dtype) * (1 + math.log(k))
    assert_within(entropy(softmax(z, temperature=1e-9)), mp.log(m), tolerance)
    assert_within(entropy(softmax(z, temperature=1e30)), mp.log(k), tolerance)


@pytest.mark.statement("entropy-law", "exact")
@pytest.mark.parametrize("values", EDGES)
def test_the_limits_of_the_entropy_in_exact_arithmetic(values: list[float]) -> None:
    z = row(values)
    m, k = values.count(max(values)), len(values)
    # log p is z / T less what is nearly the same, up to 1e13.
    assert_within(exact_entropy(z, mp.mpf(10) ** -9), mp.log(m), mp.mpf(10) ** 14 * ZERO)
    # The first term on the way to log K: half the variance of the logits over T^2.
    center = mp.fsum(exact_row(z)) / k
    second = mp.fsum((x - center) ** 2 for x in exact_row(z)) / k
    hot = mp.mpf(10) ** 12
    missing = (mp.log(k) - exact_entropy(z, hot)) * hot**2
    assert_within(missing, second / 2, mp.mpf(10) ** -5 * (second + 1e-9))


@pytest.mark.statement("entropy-law", "exact")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(k=st.integers(1, 8), level=st.floats(-100.0, 100.0), temperature=temperatures(1e-3, 1e3))
def test_constant_logits_have_log_k_throughout(
    dtype: torch.dtype, k: int, level: float, temperature: float
) -> None:
    z = torch.full((k,), level, dtype=dtype)
    value = entropy(softmax(z, temperature=temperature))
    # log p is within 8 u, and the sum of K terms within K u; in half precision p and the entropy
    # are rounded once.
    roundings = 2.5 if dtype in HALF else k + 10
    assert_within(value, mp.log(k), roundings * unit(dtype) * (1 + math.log(k)))
    if k == 1:
        assert value.item() == 0.0
    t = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(entropy(softmax_at(z.double(), t)), t)
    assert_within(slope, 0, slope_bound(0.0, temperature))  # shifted, all logits are 0


@pytest.mark.statement("entropy-law")
def test_in_floating_point_the_rise_ends_on_both_sides() -> None:
    z = torch.tensor([0.0, -1.0])
    # 1e-9 is far below the unit of rounding beside 1.
    assert entropy(softmax(z, temperature=1e9)) == entropy(softmax(z, temperature=1e10))
    assert entropy(softmax(z, temperature=1e-3)) == entropy(softmax(z, temperature=1e-4)) == 0
    assert entropy(softmax(z, temperature=0.02)) > entropy(softmax(z, temperature=0.015)) > 0
