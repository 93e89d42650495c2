"""The proposition `renyi-rises`: Renyi entropies rise."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import sympy as sp
import torch
from hypothesis import assume, given, settings
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.temperature.common import (
    EDGES,
    EXAMPLE,
    ZERO,
    Symbols,
    U,
    exact_mean,
    is_constant,
    near_tied_rows,
    renyi,
    rising,
    row,
)
from tests.support.strategies import assert_within, double, exact_softmax, temperatures, whole_rows

ORDERS = [0.25, 0.5, 1, 2, 7, mp.inf]
WITH_SLOPE = [0.25, 0.5, 2, 7]


def exact_slope(z: Tensor, temperature: Any, order: Any) -> Any:
    """The formula of the proposition."""
    t, a = mp.mpf(temperature), mp.mpf(order)
    difference = exact_mean(z, t) - exact_mean(z, t / mp.mpf(order))
    return a / (1 - a) * difference / t**2


@pytest.mark.statement("renyi-rises", "exact")
@settings(max_examples=60)
@given(near_tied_rows(1, 6), rising(2, 3))
def test_every_order_above_zero_strictly_rises(z: Tensor, several: list[float]) -> None:
    distributions = [exact_softmax(z, t) for t in several]
    k, m = len(z), int((z == z.max()).sum())
    for order in ORDERS:
        values = [renyi(p, order) for p in distributions]
        if is_constant(z):
            assert_within(values, mp.log(k), ZERO)
        else:
            assert all(later > earlier for earlier, later in itertools.pairwise(values))
            assert mp.log(m) < values[0]
            assert values[-1] < mp.log(k)


@pytest.mark.statement("renyi-rises", "exact")
@settings(max_examples=40)
@given(near_tied_rows(2, 6), rising(2, 2))
def test_order_zero_stands_still_and_negative_orders_fall(z: Tensor, pair: list[float]) -> None:
    assume(not is_constant(z))
    distributions = [exact_softmax(z, t) for t in pair]
    assert_within([renyi(p, 0) for p in distributions], mp.log(len(z)), ZERO)
    for order in (-0.5, -1, -3):
        earlier, later = (renyi(p, order) for p in distributions)
        assert later < earlier


@pytest.mark.statement("renyi-rises", "exact")
@pytest.mark.parametrize("values", EDGES)
@pytest.mark.parametrize("temperature", [0.07, 1.0, 30.0, 1e4])
def test_difference_quotients_find_the_slope(values: list[float], temperature: float) -> None:
    z, t = row(values), mp.mpf(temperature)
    for order in WITH_SLOPE:
        quotient = mp.diff(lambda s, a=order: renyi(exact_softmax(z, s), a), t)
        assert_within(quotient, exact_slope(z, t, order), 1e-22)


@pytest.mark.statement("renyi-rises", "symbolic")
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("order", ["2", "3"])
def test_symbols_find_the_slope(count: int, order: str) -> None:
    s = Symbols(count)
    powers = [a ** int(order) for a in s.p]
    entropy = sp.log(sum(powers)) / (1 - sp.Rational(order))
    colder = [w ** int(order) for w in s.weights]
    mean = sum(w * x for w, x in zip(colder, s.z, strict=True)) / sum(colder)
    factor = sp.Rational(order) / (1 - sp.Rational(order))
    assert s.vanishes(sp.diff(entropy, s.t) - factor * (s.mean - mean) / s.t**2)


@pytest.mark.statement("renyi-rises", "exact", "torch")
@settings(max_examples=60)
@given(whole_rows(1, 6, bound=5), temperatures(0.4, 100.0))
def test_autograd_finds_the_slope(z: Tensor, temperature: float) -> None:
    t = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    # Shifted, so that no logit is larger than the gaps, of 10 or less.
    log_p = torch.log_softmax((z - z.max()) / t, -1)
    for order in WITH_SLOPE:
        value = torch.logsumexp(order * log_p, -1) / (1 - order)
        (slope,) = torch.autograd.grad(value, t, retain_graph=True)
        # Sums of at most 2 K terms, each up to order * gap / T^2, whose factors are exponentials
        # of up to order * gap / T with relative errors of a few times that.
        size = 10 * max(order, 1) / temperature
        allowed = (16 * size + 64) * U * 2 * len(z) * size / temperature / abs(1 - order)
        assert_within(slope, exact_slope(z, temperature, order), allowed)


@pytest.mark.statement("renyi-rises", "exact")
@pytest.mark.parametrize("values", EDGES)
def test_limits_are_logarithms_of_m_and_of_k(values: list[float]) -> None:
    z = row(values)
    m, k = values.count(max(values)), len(values)
    cold, hot = exact_softmax(z, mp.mpf(10) ** -9), exact_softmax(z, mp.mpf(10) ** 14)
    for order in ORDERS:
        # A near tie of 1e-6 leaves exp(-1000 / 4); the hot end is within 2e4 / 1e14 of it.
        assert_within(renyi(cold, order), mp.log(m), ZERO)
        assert_within(renyi(hot, order), mp.log(k), 1e-9)


@pytest.mark.statement("renyi-rises")
@pytest.mark.parametrize("order", WITH_SLOPE)
def test_computed_entropies_of_every_order_rise(order: float) -> None:
    several = torch.logspace(-1, 2, 30, dtype=torch.float64).tolist()
    p = torch.stack([softmax(row(EXAMPLE), temperature=t) for t in several])
    values = (p**order).sum(-1).log() / (1 - order)
    assert bool((values.diff() > 0).all())
    # The Gini impurity is that of order 2 on another scale: few roundings of numbers below 1.
    if order == 2:
        assert_within(1 - (p**2).sum(-1), 1 - (-values).exp(), 32 * U)
    assert values[-1] < double(5).log()
