from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import pytest
import sympy as sp
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from mpmath import mp
from strategies import (
    DTYPES,
    HALF,
    SINGLE_DOUBLE,
    as_double,
    assert_within,
    double,
    events,
    exact_log_softmax,
    exact_softmax,
    log_softmax_bound,
    rows,
    smallest,
    softmax_bound,
    temperatures,
    unit,
    whole_rows,
)
from torch import Tensor

from omnivault.information import entropy
from omnivault.softmax import SoftmaxFunction, log_softmax, softmax

U = unit(torch.float64)

# What 50 digits leave of 1 - 1.
ZERO = mp.mpf(10) ** -45

# With a gradient for T.
softmax_at: Callable[[Any, Any], Tensor] = SoftmaxFunction.apply

EXAMPLE = [2.0, 1.0, 3.0, 5.0, 4.0]

EDGES = [
    pytest.param(EXAMPLE, id="the example"),
    pytest.param([3.0], id="one class"),
    pytest.param([1.0, -1.0], id="two classes"),
    pytest.param([4.0, 4.0], id="two tied"),
    pytest.param([2.0, 2.0, 2.0], id="three tied"),
    pytest.param([5.0, 5.0, 1.0, 1.0, 1.0], id="tie at the top"),
    pytest.param([5.0, 1.0, 1.0, 1.0], id="all others tied"),
    pytest.param([5.0, 4.8, 0.0, 0.0, 0.0], id="two scales"),
    pytest.param([0.0, -1e-6, -5.0], id="near tie"),
    pytest.param([1e4, 0.0, -1e4], id="far apart"),
]


def row(values: Sequence[float], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def is_constant(z: Tensor) -> bool:
    return bool((z == z[0]).all())


@st.composite
def near_tied_rows(draw: DrawFn, min_size: int = 1, max_size: int = 6) -> Tensor:
    """Whole numbers up to 5, some of them moved by 2^-20: exact ties, near ties, and neither."""
    z = draw(whole_rows(min_size, max_size, bound=5))
    nudges = st.lists(st.sampled_from([0, 0, 1, -1]), min_size=len(z), max_size=len(z))
    return z + torch.tensor(draw(nudges), dtype=torch.float64) / 2**20


def rising(min_size: int = 2, max_size: int = 4) -> SearchStrategy[list[float]]:
    """Rising temperatures, each at least 5 percent above the one before, between 0.37 and 930.

    Over the smallest, a gap of 10 leaves exp(-27): the strict inequalities of the chapter are
    between numbers that differ by far more than 1e-50.
    """
    powers = st.lists(st.integers(-20, 140), min_size=min_size, max_size=max_size, unique=True)
    return powers.map(lambda several: [1.05**power for power in sorted(several)])


def exact_row(z: Tensor) -> list[Any]:
    return [mp.mpf(x) for x in z.tolist()]


def mean_of(values: Sequence[Any], p: Sequence[Any]) -> Any:
    return mp.fsum(a * x for a, x in zip(p, values, strict=True))


def exact_mean(z: Tensor, temperature: Any) -> Any:
    return mean_of(exact_row(z), exact_softmax(z, temperature))


def exact_variance(z: Tensor, temperature: Any) -> Any:
    mean = exact_mean(z, temperature)
    return mean_of([(x - mean) ** 2 for x in exact_row(z)], exact_softmax(z, temperature))


def exact_entropy(z: Tensor, temperature: Any) -> Any:
    return -mean_of(exact_log_softmax(z, temperature), exact_softmax(z, temperature))


class Symbols:
    """Softmax of K logits and a temperature that are symbols."""

    def __init__(self, k: int) -> None:
        self.t = t = sp.Symbol("T", positive=True)
        self.z = sp.symbols(f"z_1:{k + 1}", real=True)
        self.weights = [sp.exp(x / t) for x in self.z]
        self.sum = sum(self.weights)
        self.p = [w / self.sum for w in self.weights]
        self.mean = sum(a * x for a, x in zip(self.p, self.z, strict=True))
        self.variance = sum(a * (x - self.mean) ** 2 for a, x in zip(self.p, self.z, strict=True))
        self.entropy = -sum(a * sp.expand_log(sp.log(a), force=True) for a in self.p)

    def vanishes(self, expression: Any) -> bool:
        """Whether it is zero identically: a polynomial in logits, weights and logs over another."""
        plain = sp.symbols(f"w_1:{len(self.z) + 1}", positive=True)
        rational = expression.subs(dict(zip(self.weights, plain, strict=True)))
        return bool(sp.expand(sp.fraction(sp.together(rational))[0]) == 0)


def entropy_bound(z: Tensor, temperature: float) -> float:
    """Largest error of ``entropy(softmax(z))``: d(-p log p) = -(1 + log p) dp, and its own."""
    log_p = torch.log_softmax(z.double() / temperature, -1)
    own = unit(z.dtype) * (8 + 4 * math.log2(len(z) + 1)) * (-log_p.exp() * log_p).sum()
    return float(((1 - log_p) * softmax_bound(z, temperature)).sum() + own)


def two_steps_bound(z: Tensor, first: float, second: float) -> Tensor:
    """Largest error of ``softmax(log_softmax(z, first), second)``.

    The normalizer of the logarithm, and its error with it, is the same for all classes and drops
    out. What is left of an error of the logarithm is divided by the second temperature; it is then
    a relative one, and reaches every p through the sum.
    """
    log_p = torch.log_softmax(z / first, -1)
    p = torch.softmax(z / (first * second), -1)
    inherited = U * (3 * (z.max() - z) / first + log_p.abs()) / second
    return softmax_bound(log_p, second) + p * (inherited + (p * inherited).nan_to_num(0.0).sum())


def slope_bound(size: float, temperature: float) -> float:
    """Largest error of dp/dT for logits up to ``size``.

    It sums terms up to z / T^2, with relative errors of a few z / T.
    """
    return (16 * size / temperature + 64) * U * size / temperature**2


# temperatures-multiply ----------------------------------------------------------------------------


@pytest.mark.statement("temperatures-multiply", "exact")
@given(rows(), temperatures(), temperatures())
def test_the_softmax_of_log_softmax_is_softmax_at_the_product(
    z: Tensor, first: float, second: float
) -> None:
    log_p = log_softmax(z, temperature=first)
    twice = softmax(log_p, temperature=second)
    expected = as_double(exact_softmax(z, mp.mpf(first) * second))
    # An error of the logarithm, divided by the second temperature, is a relative one here, and
    # reaches every p through the sum.
    inherited = log_softmax_bound(z, first) / second
    allowed = softmax_bound(log_p, second) + expected * (inherited + (expected * inherited).sum())
    assert_within(twice, expected, 2 * allowed)


@pytest.mark.statement("temperatures-multiply", "exact")
@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=8),
    temperatures(0.05, 100.0),
)
def test_a_temperature_raises_probabilities_to_a_power(
    weights: list[int], temperature: float
) -> None:
    p = row(weights) / sum(weights)
    powers = [mp.mpf(x) ** (1 / mp.mpf(temperature)) for x in p.tolist()]
    expected = as_double([x / mp.fsum(powers) for x in powers])
    # log p is within 4 ulp, 8 u |log p| with |log p| at most log 8000 = 9; an error of it is a
    # relative one, the own and that of the sum.
    allowed = softmax_bound(p.log(), temperature) + 2 * 8 * 9 * U / temperature * expected
    assert_within(softmax(p.log(), temperature=temperature), expected, allowed)
    if temperature == 1.0:
        assert_within(expected, p, len(p) * U)


@pytest.mark.statement("temperatures-multiply", "exact")
@given(rows(1, 8), temperatures(), st.sampled_from(SINGLE_DOUBLE))
def test_log_probabilities_serve_as_logits(
    z: Tensor, temperature: float, dtype: torch.dtype
) -> None:
    z = z.to(dtype)
    log_p = log_softmax(z)
    expected = as_double(exact_softmax(z, temperature))
    inherited = log_softmax_bound(z) / temperature
    allowed = softmax_bound(log_p, temperature) + expected * (
        inherited + (expected * inherited).sum()
    )
    assert_within(softmax(log_p, temperature=temperature), expected, 2 * allowed)


@pytest.mark.statement("temperatures-multiply", "exact")
@pytest.mark.parametrize("values", EDGES)
@pytest.mark.parametrize("temperature", [0.125, 0.5, 1.0, 2.0, 64.0])
def test_the_inverse_temperature_undoes_it(values: list[float], temperature: float) -> None:
    z = row(values)
    back = softmax(log_softmax(z, temperature=temperature), temperature=1 / temperature)
    allowed = two_steps_bound(z, temperature, 1 / temperature)
    assert_within(back, as_double(exact_softmax(z)), allowed)
    # Ties stay ties, to the last bit.
    assert torch.equal(back[:, None] == back, softmax(z)[:, None] == softmax(z))


@pytest.mark.statement("temperatures-multiply")
def test_temperatures_multiply_and_do_not_add() -> None:
    z = row(EXAMPLE)
    twice = softmax(log_softmax(z, temperature=0.5), temperature=3.0)
    allowed = two_steps_bound(z, 0.5, 3.0) + softmax_bound(z, 1.5)
    assert_within(twice, softmax(z, temperature=1.5), allowed)
    for wrong in (3.5, 0.5 / 3.0, 3.0 / 0.5, 0.5, 3.0):
        assert (twice - softmax(z, temperature=wrong)).abs().max() > 0.1


@pytest.mark.statement("temperatures-multiply", "symbolic")
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_symbols_say_so_too(count: int) -> None:
    s, t, q = sp.symbols("S T q", positive=True)
    z = sp.symbols(f"z_1:{count + 1}", real=True)
    log_p = [x / s - sp.log(sum(sp.exp(y / s) for y in z)) for x in z]
    for i, j in itertools.product(range(count), repeat=2):
        # The exponents differ by as much, so the ratios are equal, and with the sums all of it.
        assert sp.expand((log_p[i] - log_p[j]) / t - (z[i] - z[j]) / (s * t)) == 0
    assert sp.expand_log(sp.log(q ** (1 / t))) == sp.log(q) / t


@pytest.mark.statement("temperatures-multiply", "exact")
def test_in_floating_point_the_logarithm_must_come_first() -> None:
    # The probability exp(-200) underflows in float32; its logarithm does not.
    z = torch.tensor([0.0, -200.0])
    expected = softmax(z, temperature=100.0)
    allowed = softmax_bound(z, 100.0)  # the logarithms are the logits
    assert_within(softmax(log_softmax(z), temperature=100.0), expected, 2 * allowed)
    assert softmax(softmax(z).log(), temperature=100.0).tolist() == [1.0, 0.0]
    assert_within(expected[1], 1 / (1 + mp.exp(2)), allowed[1])


@pytest.mark.statement("temperatures-multiply", "exact")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rounded_log_probabilities_cost_their_rounding(dtype: torch.dtype) -> None:
    z = row(EXAMPLE, dtype)
    for first, second in ((1.0, 0.5), (0.5, 3.0), (2.0, 2.0)):
        log_p = log_softmax(z, temperature=first)
        expected = as_double(exact_softmax(z, mp.mpf(first) * second))
        inherited = log_softmax_bound(z, first) / second
        allowed = softmax_bound(log_p, second) + 3 * expected * inherited.max()
        assert_within(softmax(log_p, temperature=second), expected, allowed)


# cold-limit ---------------------------------------------------------------------------------------


class Cold:
    """The quantities of the cold limit, to 50 digits, from the probabilities alone."""

    def __init__(self, z: Tensor, temperature: Any) -> None:
        at_top = (z == z.max()).tolist()
        self.k, self.m = len(z), sum(at_top)
        self.p = exact_softmax(z, temperature)
        self.miss = mp.fsum(a for a, top in zip(self.p, at_top, strict=True) if not top)
        self.limit = [mp.mpf(top) / self.m for top in at_top]
        if self.m < self.k:
            values = sorted(set(exact_row(z)))
            self.factor = mp.exp(-(values[-1] - values[-2]) / temperature)
            self.lower = self.factor / (self.m + self.factor)
            self.upper = (self.k - self.m) * self.factor / self.m


@pytest.mark.statement("cold-limit", "exact")
@given(near_tied_rows(2, 8), temperatures(0.5, 1e3))
def test_missing_the_maximum_lies_between_its_bounds(z: Tensor, temperature: float) -> None:
    assume(not is_constant(z))
    cold = Cold(z, temperature)
    # Below the upper bound always, at the lower one if and only if one class is not at the top.
    assert cold.miss < cold.upper
    assert cold.miss > cold.lower * (1 - ZERO)
    assert (cold.miss < cold.lower * (1 + ZERO)) == (cold.k - cold.m == 1)


@pytest.mark.statement("cold-limit", "exact")
@given(near_tied_rows(2, 8), temperatures(0.02, 1e3))
def test_computed_misses_lie_between_their_bounds(z: Tensor, temperature: float) -> None:
    assume(not is_constant(z))
    cold = Cold(z, temperature)
    computed = softmax(z, temperature=temperature)[z != z.max()].sum().item()
    # Gaps up to 11 / 0.02, six roundings each; no underflow before exp(-745).
    tolerance = (6 * 11 / temperature + 64) * U
    assert computed >= float(cold.lower) * (1 - tolerance)
    assert computed <= float(cold.upper) * (1 + tolerance)
    assert_within(computed, cold.miss, rel=tolerance)


@pytest.mark.statement("cold-limit", "exact")
@settings(max_examples=60)
@given(near_tied_rows(1, 6), temperatures(0.1, 1e3))
def test_the_distance_to_the_limit_is_the_probability_of_missing(
    z: Tensor, temperature: float
) -> None:
    cold = Cold(z, temperature)
    difference = [a - b for a, b in zip(cold.p, cold.limit, strict=True)]
    # Half the L1 distance, and by definition: the largest difference on an event.
    assert_within(mp.fsum(abs(x) for x in difference) / 2, cold.miss, ZERO)
    largest = max(abs(mp.fsum(difference[i] for i in event)) for event in events(len(z)))
    assert_within(largest, cold.miss, ZERO)
    computed = (softmax(z, temperature=temperature) - as_double(cold.limit)).abs().sum() / 2
    allowed = softmax_bound(z, temperature).sum() + len(z) * U
    assert_within(computed, cold.miss, allowed)


@pytest.mark.statement("cold-limit")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(z=whole_rows(1, 8), temperature=temperatures(0.01, 100.0))
def test_classes_at_the_top_have_the_same_probability(
    dtype: torch.dtype, z: Tensor, temperature: float
) -> None:
    p = softmax(z.to(dtype), temperature=temperature)
    top = p[z == z.max()]
    assert bool((top == top[0]).all())
    if is_constant(z):
        # In the arithmetic, then rounded: 1 / K at every T.
        share = torch.tensor(1.0, dtype=torch.promote_types(dtype, torch.float32)) / len(z)
        assert torch.equal(p, share.to(dtype).expand_as(p))


@pytest.mark.statement("cold-limit")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("values", "winners"),
    [
        pytest.param(EXAMPLE, [3], id="the example"),
        pytest.param([5.0, 5.0, 3.0, 1.0], [0, 1], id="two tied"),
        pytest.param([1.0, 7.0, 7.0, 7.0], [1, 2, 3], id="three tied"),
        pytest.param([2.0, 2.0], [0, 1], id="all tied"),
        pytest.param([-3.0], [0], id="one class"),
        pytest.param([-1.0, 1.0], [1], id="two classes"),
        pytest.param([-1e4, -1.1e4, -6e4], [0], id="large"),
    ],
)
def test_very_cold_is_uniform_on_the_maximum(
    values: list[float], winners: list[int], dtype: torch.dtype
) -> None:
    z = row(values, dtype)
    arithmetic = torch.promote_types(dtype, torch.float32)
    share = (torch.tensor(1.0, dtype=arithmetic) / len(winners)).to(dtype)
    expected = torch.zeros_like(z).index_fill(0, torch.tensor(winners), share.item())
    # exp(-1 / 0.001) underflows in every format.
    for temperature in (1e-3, 1e-10, 1e-37):
        assert torch.equal(softmax(z, temperature=temperature), expected)


@pytest.mark.statement("cold-limit", "exact")
@pytest.mark.parametrize("second", [1, 2, 5])
@pytest.mark.parametrize("further", [0, 3])
@pytest.mark.parametrize("m", [1, 2, 3])
def test_the_rate_is_set_by_the_gap_and_the_number_of_classes_behind_it(
    m: int, second: int, further: int
) -> None:
    gap = 0.5
    z = row([0.0] * m + [-gap] * second + [-2.0] * further)
    # The number of classes that stand second, times exp(-g / T) / m; s and exp(-g / T) in the
    # denominators are what is left of the difference.
    for temperature in (0.1, 0.05, 0.02, 0.005):
        cold = Cold(z, temperature)
        left = (second + 2) * math.exp(-gap / temperature) + 3 * math.exp(-1.5 / temperature)
        assert_within(cold.miss / cold.lower, second, rel=left)
        assert_within(cold.miss / cold.upper, Fraction(second, second + further), rel=left)
        computed = softmax(z, temperature=temperature)[m:].sum()
        expected = second * mp.exp(-gap / mp.mpf(temperature)) / m
        # Gaps up to 2 / T, six roundings each.
        assert_within(computed, expected, rel=left + (6 * 2 / temperature + 64) * U)


@pytest.mark.statement("cold-limit", "exact")
@pytest.mark.parametrize(
    ("gap", "dtype"),
    [(1e-6, torch.float32), (1e-12, torch.float64), (2**-9, torch.float16)],
    ids=["float32", "float64", "float16"],
)
def test_near_ties_are_broken_only_below_their_gap(gap: float, dtype: torch.dtype) -> None:
    z = row([0.0, -gap, -2e4], dtype)
    # p is within gap / (4 T) of one half.
    allowed = 1e-4 / 4 + softmax_bound(z, 1e4 * gap)[:2]
    assert_within(softmax(z, temperature=1e4 * gap)[:2], 0.5, allowed)
    assert softmax(z, temperature=1e-3 * gap).tolist() == [1.0, 0.0, 0.0]
    # The gap is rounded, and p (1 - p) is at most 1/4.
    allowed = softmax_bound(z, gap)[1] + unit(dtype) / 4
    assert_within(softmax(z, temperature=gap)[1], 1 / (1 + mp.e), allowed)


@pytest.mark.statement("cold-limit")
def test_a_fair_draw_among_the_tied_is_not_argmax() -> None:
    z = torch.tensor([1.0, 3.0, 3.0])
    assert softmax(z, temperature=1e-30).tolist() == [0.0, 0.5, 0.5]
    assert torch.nn.functional.one_hot(z.argmax(), 3).tolist() == [0, 1, 0]


# hot-limit ----------------------------------------------------------------------------------------


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


# temperature-derivative ---------------------------------------------------------------------------


def slopes_of(p: Tensor, t: Tensor) -> Tensor:
    return torch.stack([torch.autograd.grad(a, t, retain_graph=True)[0] for a in p])


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


# who-gains ----------------------------------------------------------------------------------------


def kind_of(z: Tensor, i: int) -> str:
    """``top``, ``low`` (at most the mean) or ``middle``, without rounding."""
    mean = sum((Fraction(x) for x in z.tolist()), Fraction(0)) / len(z)
    if z[i] == z.max():
        return "top"
    return "low" if Fraction(z[i].item()) <= mean else "middle"


def exact_turning_point(z: Tensor, i: int) -> Any:
    """T with the expected logit z_i, by bisection; to 30 digits."""
    low, high = mp.mpf(-80), mp.mpf(80)
    target = mp.mpf(z[i].item())
    while high - low > mp.mpf(2) ** -60:
        middle = (low + high) / 2
        if exact_mean(z, mp.mpf(2) ** middle) > target:
            low = middle
        else:
            high = middle
    return mp.mpf(2) ** low


@pytest.mark.statement("who-gains", "exact")
@settings(max_examples=60)
@given(near_tied_rows(2, 5), rising())
def test_each_class_gains_and_loses_where_it_should(z: Tensor, several: list[float]) -> None:
    assume(not is_constant(z))
    k, m = len(z), int((z == z.max()).sum())
    distributions = [exact_softmax(z, t) for t in several]
    for i in range(k):
        path = [p[i] for p in distributions]
        steps = [later - earlier for earlier, later in itertools.pairwise(path)]
        kind = kind_of(z, i)
        if kind == "top":
            assert all(step < 0 for step in steps)
            assert all(mp.mpf(1) / k < a < mp.mpf(1) / m for a in path)
        elif kind == "low":
            assert all(step > 0 for step in steps)
            assert all(0 < a < mp.mpf(1) / k for a in path)
        else:
            turn = exact_turning_point(z, i)
            highest = exact_softmax(z, turn)[i]
            for (early, late), step in zip(itertools.pairwise(several), steps, strict=True):
                if late <= turn:
                    assert step > 0
                elif early >= turn:
                    assert step < 0
            assert all(0 < a < highest for a in path)
            # On the way down it stays above the limit.
            assert all(a > mp.mpf(1) / k for t, a in zip(several, path, strict=True) if t >= turn)


@pytest.mark.statement("who-gains", "exact")
@given(rows(2, 6, bound=10.0), temperatures(0.5, 50.0))
def test_the_slope_has_the_sign_of_the_expected_logit_less_the_own(
    z: Tensor, temperature: float
) -> None:
    mean = exact_mean(z, temperature)
    t = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    for x, slope in zip(z.tolist(), slopes_of(softmax_at(z, t), t).tolist(), strict=True):
        difference = float(mean - mp.mpf(x))
        # What rounding may turn: the error of a slope, like the slope, is proportional to p.
        if abs(difference) > slope_bound(10.0, temperature) * temperature**2:
            assert (slope > 0) == (difference > 0)


@pytest.mark.statement("who-gains", "exact")
@settings(max_examples=60)
@given(near_tied_rows(3, 6))
def test_turning_points_are_ordered_against_the_logits(z: Tensor) -> None:
    middle = [i for i in range(len(z)) if kind_of(z, i) == "middle"]
    assume(len(middle) >= 1)
    # One for each value: ties turn together.
    turns = {z[i].item(): exact_turning_point(z, i) for i in middle}
    in_order = [turns[x] for x in sorted(turns)]
    assert all(later < earlier for earlier, later in itertools.pairwise(in_order))
    for x, turn in turns.items():
        # It is one: the expected logit is there, above before, and below after.
        target = mp.mpf(x)
        assert_within(exact_mean(z, turn), target, mp.mpf(2) ** -50)
        assert (
            exact_mean(z, turn * mp.mpf("0.999")) > target > exact_mean(z, turn * mp.mpf("1.001"))
        )


@pytest.mark.statement("who-gains", "exact")
@pytest.mark.parametrize(
    "values",
    [
        EXAMPLE,
        [0.0, -1e-3, -5.0],
        [3.0, 3.0, 2.0, 1.0, -9.0],
        [5.0, 4.0, 4.0, -20.0],
        [1.0, 0.5, 0.25, 0.125, -3.0, -3.0],
    ],
    ids=["the example", "near tie", "tie at the top", "tie in the middle", "crowd"],
)
def test_computed_paths_turn_once_and_there(values: list[float]) -> None:
    z = row(values)
    grid = torch.logspace(-0.6, 2, 400, dtype=torch.float64)
    p = torch.stack([softmax(z, temperature=t) for t in grid.tolist()])
    turns = {}
    for i in range(len(z)):
        path = p[:, i]
        kind = kind_of(z, i)
        if kind == "top":
            # Close to 1 the steps are below rounding; what is lost there, the others show.
            clear = path[1:] < 1 - 1e-9
            assert bool((path.diff()[clear] < 0).all())
        elif kind == "low":
            assert bool((path.diff() > 0).all())
        else:
            turn = turns[values[i]] = float(exact_turning_point(z, i))
            steps = path.diff()
            before, after = grid[1:] <= turn, grid[:-1] >= turn
            # Next to the turning point a step may be lost in rounding.
            near = (grid[1:] / turn - 1).abs() < 0.01
            assert bool((steps[before & ~near] > 0).all())
            assert bool((steps[after & ~near] < 0).all())
            assert_within(grid[path.argmax()], turn, rel=0.02)
    assert sorted(turns, reverse=True) == sorted(turns, key=lambda x: turns[x])


@pytest.mark.statement("who-gains", "exact")
def test_the_turning_point_of_the_example() -> None:
    z = row(EXAMPLE)
    assert [kind_of(z, i) for i in range(5)] == ["low", "low", "low", "top", "middle"]
    turn = exact_turning_point(z, 4)
    # With x = exp(1 / T), the expected logit is 4 where x^4 = x^2 + 2 x + 3.
    x = mp.findroot(lambda x: x**4 - x**2 - 2 * x - 3, 1.7)
    assert_within(turn, 1 / mp.log(x), rel=mp.mpf(2) ** -60)
    t = torch.tensor(float(turn), dtype=torch.float64, requires_grad=True)
    slopes = slopes_of(softmax_at(z, t), t)
    assert_within(slopes[4], 0, slope_bound(5.0, float(turn)))
    assert slopes[3] < 0
    assert bool((slopes[:3] > 0).all())


@pytest.mark.statement("who-gains", "exact")
@pytest.mark.parametrize("excess", [1e-2, 1e-4, 1e-6])
def test_the_border_between_gaining_always_and_turning_is_the_mean(excess: float) -> None:
    # On the mean it gains at all temperatures, below it too.
    for lift in (0.0, -excess):
        z = row([3.0, lift, -2.0, -1.0 - lift])
        assert kind_of(z, 1) == "low"
        path = [exact_softmax(z, mp.mpf(10) ** power)[1] for power in range(-1, 12)]
        assert all(later > earlier for earlier, later in itertools.pairwise(path))
        assert path[-1] < mp.mpf(1) / 4
    # A hair above it turns, at Var / excess in first order: (9 + 4 + 1) / 4 / excess.
    z = row([3.0, excess, -2.0, -1.0 - excess])
    assert kind_of(z, 1) == "middle"
    turn = exact_turning_point(z, 1)
    assert_within(turn * excess, 3.5, rel=2 * excess)
    assert exact_softmax(z, turn)[1] > mp.mpf(1) / 4


@pytest.mark.statement("who-gains", "exact")
@pytest.mark.parametrize("gap", [1e-3, 1.0, 30.0])
def test_of_two_classes_none_turns(gap: float) -> None:
    z = row([0.0, -gap])
    assert [kind_of(z, i) for i in (0, 1)] == ["top", "low"]
    path = [exact_softmax(z, gap * mp.mpf(2) ** power) for power in range(-5, 20)]
    for earlier, later in itertools.pairwise(path):
        assert later[0] < earlier[0]
        assert later[1] > earlier[1]


@pytest.mark.statement("who-gains")
@given(st.integers(1, 8), st.floats(-1e3, 1e3), temperatures(), temperatures())
def test_without_differences_nobody_gains(
    k: int, level: float, first: float, second: float
) -> None:
    # The theorem asks for logits that are not constant, with reason.
    z = torch.full((k,), level, dtype=torch.float64)
    assert torch.equal(softmax(z, temperature=first), softmax(z, temperature=second))


@pytest.mark.statement("who-gains", "exact")
@pytest.mark.parametrize("values", EDGES)
def test_paths_begin_at_the_cold_limit_and_end_at_the_hot_one(values: list[float]) -> None:
    z = row(values)
    m = values.count(max(values))
    cold, hot = (exact_softmax(z, mp.mpf(10) ** power) for power in (-12, 60))
    for i, x in enumerate(values):
        assert_within(cold[i], mp.mpf(x == max(values)) / m, ZERO)
        assert_within(hot[i], mp.mpf(1) / len(z), ZERO)


# entropy-law --------------------------------------------------------------------------------------


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


# majorization -------------------------------------------------------------------------------------


def tails(p: Sequence[Any]) -> list[Any]:
    """Sums of all but the r largest, r = 1, ..., K - 1: these keep their digits near zero."""
    smallest_first = sorted(p)
    return [mp.fsum(smallest_first[: len(p) - r]) for r in range(1, len(p))]


@pytest.mark.statement("majorization", "exact")
@given(near_tied_rows(1, 8), rising())
def test_sums_of_the_largest_strictly_fall(z: Tensor, several: list[float]) -> None:
    distributions = [exact_softmax(z, t) for t in several]
    for colder, warmer in itertools.pairwise(distributions):
        pairs = list(zip(tails(colder), tails(warmer), strict=True))
        assert len(pairs) == len(z) - 1
        if is_constant(z):
            assert_within(tails(colder), tails(warmer), ZERO)
        else:
            assert all(a < b for a, b in pairs)
        # All K: always 1.
        assert_within([mp.fsum(colder), mp.fsum(warmer)], 1, ZERO)


@pytest.mark.statement("majorization")
@given(whole_rows(1, 8, bound=5), rising())
def test_computed_sums_of_the_largest_strictly_fall(z: Tensor, several: list[float]) -> None:
    tops = torch.stack(
        [softmax(z, temperature=t).sort(descending=True).values.cumsum(-1) for t in several]
    )[:, :-1]
    if is_constant(z):
        assert bool((tops.diff(dim=0) == 0).all())
        return
    # A step of 5 percent moves tails that are 1e-9 by 1e-11 or more, and others by more.
    clear = tops[1:] < 1 - 1e-9
    assert bool((tops.diff(dim=0)[clear] < 0).all())
    errors = double([softmax_bound(z, t).sum().item() + len(z) * U for t in several])
    assert bool((tops.diff(dim=0) <= (errors[1:] + errors[:-1]).unsqueeze(-1)).all())


@pytest.mark.statement("majorization")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(z=near_tied_rows(2, 8), several=rising())
def test_in_every_format_sums_of_the_largest_rise_by_no_more_than_rounding(
    dtype: torch.dtype, z: Tensor, several: list[float]
) -> None:
    z = z.to(dtype)
    order = z.double().argsort(descending=True)
    tops = [softmax(z, temperature=t).double()[order].cumsum(-1) for t in several]
    errors = [softmax_bound(z, t).sum() + len(z) * U for t in several]
    for (colder, warmer), allowed in zip(
        itertools.pairwise(tops), map(sum, itertools.pairwise(errors)), strict=True
    ):
        assert bool((warmer <= colder + allowed).all())


@pytest.mark.statement("majorization", "exact", "torch")
@given(near_tied_rows(2, 6), temperatures(0.4, 100.0))
def test_the_slope_of_the_sum_of_the_largest(z: Tensor, temperature: float) -> None:
    p = exact_softmax(z, temperature)
    values = exact_row(z)
    mean = mean_of(values, p)
    order = z.argsort(descending=True).tolist()
    t = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    q = torch.softmax(z / t, -1)
    size = z.abs().max().item()
    allowed = slope_bound(size, temperature) * len(z) + 1e-300
    for r in range(1, len(z)):
        members = order[:r]
        share = mp.fsum(p[i] for i in members)
        inside = mp.fsum(p[i] * values[i] for i in members) / share
        slope = share * (mean - inside) / mp.mpf(temperature) ** 2
        (computed,) = torch.autograd.grad(q[members].sum(), t, retain_graph=True)
        assert_within(computed, slope, allowed)
        # mean - inside = (1 - P(A)) (E[z | not A] - E[z | A]), which is not positive.
        outside = mp.fsum(p[i] * values[i] for i in order[r:]) / mp.fsum(p[i] for i in order[r:])
        gap = inside - outside
        assert (abs(gap) < ZERO) if is_constant(z) else (gap > ZERO and slope < 0)
        assert_within(mean - inside, -(1 - share) * gap, ZERO)


@pytest.mark.statement("majorization", "exact")
@pytest.mark.parametrize("values", EDGES)
def test_edge_cases_from_very_cold_to_very_hot(values: list[float]) -> None:
    z = row(values)
    # Very cold, the tails are exp(-1e5): mpmath keeps their exponents.
    path = [tails(exact_softmax(z, mp.mpf(10) ** power)) for power in range(-4, 9)]
    for earlier, later in itertools.pairwise(path):
        for r, (a, b) in enumerate(zip(earlier, later, strict=True), start=1):
            # Below the top the tail only starts to move once 50 digits can tell 1 / m from it.
            if is_constant(z):
                assert_within(a, b, ZERO)
            elif r >= values.count(max(values)):
                assert a < b
            else:
                assert a < b or abs(a - b) < ZERO


@pytest.mark.statement("majorization", "symbolic")
@pytest.mark.parametrize("count", [2, 3, 4])
def test_symbols_find_the_slope_of_any_sum(count: int) -> None:
    s = Symbols(count)
    for r in range(1, count):
        share = sum(s.p[:r])
        inside, outside = (
            sum(a * x for a, x in zip(s.p[part], s.z[part], strict=True)) / sum(s.p[part])
            for part in (slice(r), slice(r, None))
        )
        slope = -share * (1 - share) * (inside - outside) / s.t**2
        assert s.vanishes(sp.diff(share, s.t) - slope)


@pytest.mark.statement("majorization")
def test_only_sums_of_the_largest_must_fall() -> None:
    # A set that leaves out the leader may gain, and so may one token.
    colder, warmer = (softmax(row(EXAMPLE), temperature=t) for t in (0.5, 1.0))
    assert warmer[[4, 2]].sum() > colder[[4, 2]].sum()
    assert warmer[[3, 4]].sum() < colder[[3, 4]].sum()


def renyi(p: Sequence[Any], order: Any) -> Any:
    if order == 1:
        return -mp.fsum(a * mp.log(a) for a in p)
    if order == mp.inf:
        return -mp.log(max(p))
    return mp.log(mp.fsum(a**order for a in p)) / (1 - order)


SCHUR_CONCAVE: dict[str, Callable[[Sequence[Any]], Any]] = {
    "Renyi, order 1/4": lambda p: renyi(p, mp.mpf("0.25")),
    "Renyi, order 1/2": lambda p: renyi(p, mp.mpf("0.5")),
    "Shannon": lambda p: renyi(p, 1),
    "Renyi, order 2": lambda p: renyi(p, 2),
    "Renyi, order 7": lambda p: renyi(p, 7),
    "Renyi, order infinity": lambda p: renyi(p, mp.inf),
    "Gini": lambda p: 1 - mp.fsum(a**2 for a in p),
    "not the largest": lambda p: 1 - max(p),
    "sum of roots": lambda p: mp.fsum(mp.sqrt(a) for a in p),
    "product": mp.fprod,
}


@pytest.mark.statement("majorization", "exact")
@settings(max_examples=50)
@given(near_tied_rows(1, 6), rising())
def test_every_measure_of_randomness_rises(z: Tensor, several: list[float]) -> None:
    distributions = [exact_softmax(z, t) for t in several]
    for name, measure in SCHUR_CONCAVE.items():
        values = [measure(p) for p in distributions]
        for earlier, later in itertools.pairwise(values):
            if is_constant(z):
                assert_within(later, earlier, ZERO)
            else:
                assert later > earlier, name
    # The one that counts outcomes sees no difference between positive probabilities.
    assert_within([renyi(p, 0) for p in distributions], mp.log(len(z)), ZERO)


@pytest.mark.statement("majorization", "exact")
@settings(max_examples=50)
@given(near_tied_rows(1, 6), rising(2, 2), st.floats(0.0, 1.0))
def test_the_excess_over_any_level_falls(z: Tensor, pair: list[float], level: float) -> None:
    # The other definition of majorization: sums of (p - c)+, for all c.
    colder, warmer = (mp.fsum(max(a - mp.mpf(level), 0) for a in exact_softmax(z, t)) for t in pair)
    assert warmer <= colder + ZERO


# nucleus-grows ------------------------------------------------------------------------------------


def nucleus(p: Sequence[Any], q: Any) -> int:
    """How many of the most probable it takes to reach ``q``."""
    total = mp.mpf(0)
    for count, a in enumerate(sorted(p, reverse=True), start=1):
        total += a
        if total >= q:
            return count
    raise AssertionError(f"{q} is more than all of them have")


@pytest.mark.statement("nucleus-grows", "exact")
@given(near_tied_rows(1, 8), rising(3, 5), st.floats(0.001, 0.999))
def test_warmer_sets_are_not_smaller(z: Tensor, several: list[float], q: float) -> None:
    sizes = [nucleus(exact_softmax(z, t), mp.mpf(q)) for t in several]
    assert sizes == sorted(sizes)
    if is_constant(z):
        # The least r with r / K >= q, at every temperature.
        expected = next(r for r in range(1, len(z) + 1) if Fraction(r, len(z)) >= Fraction(q))
        assert set(sizes) == {expected}
    for t, size in zip(several, sizes, strict=True):
        reached = softmax(z, temperature=t).sort(descending=True).values.cumsum(-1)
        if bool(((reached - q).abs() > softmax_bound(z, t).sum() + len(z) * U).all()):
            assert int((reached < q).sum()) + 1 == size


@pytest.mark.statement("nucleus-grows", "exact")
@given(near_tied_rows(2, 6), rising(3, 3), st.data())
def test_a_set_that_just_suffices_does_not_when_it_is_warmer(
    z: Tensor, several: list[float], data: st.DataObject
) -> None:
    assume(not is_constant(z))
    r = data.draw(st.integers(1, len(z) - 1))
    colder, here, warmer = (exact_softmax(z, t) for t in several)
    # Exactly what r tokens have here: they suffice below, and nowhere above.
    q = 1 - tails(here)[r - 1]
    assert nucleus(colder, q) <= r
    assert nucleus(warmer, q) > r
    assert nucleus(here, q - ZERO) <= r


@pytest.mark.statement("nucleus-grows", "exact")
@settings(max_examples=50)
@given(near_tied_rows(1, 6), temperatures(0.4, 100.0), st.floats(0.001, 0.999))
def test_no_other_set_is_smaller(z: Tensor, temperature: float, q: float) -> None:
    p = exact_softmax(z, temperature)
    sufficient = [len(event) for event in events(len(z)) if mp.fsum(p[i] for i in event) >= q]
    assert min(sufficient) == nucleus(p, mp.mpf(q))


@pytest.mark.statement("nucleus-grows", "exact")
@pytest.mark.parametrize(
    ("values", "q", "sizes"),
    [
        # At T = 0.1, 1, 10, 1000.
        pytest.param(EXAMPLE, 0.9, [1, 3, 5, 5], id="the example"),
        pytest.param(EXAMPLE, 0.5, [1, 1, 3, 3], id="the example, half"),
        pytest.param([5.0, 5.0, 1.0, 1.0], 0.5, [2, 2, 2, 2], id="half of a tie, just not"),
        pytest.param([5.0, 5.0, 1.0, 1.0], 0.49, [1, 1, 2, 2], id="nearly half of a tie"),
        pytest.param([2.0, 2.0, 2.0], 0.5, [2, 2, 2, 2], id="constant"),
        pytest.param([2.0, 2.0, 2.0, 2.0], 0.75, [3, 3, 3, 3], id="constant, reached exactly"),
        pytest.param([7.0], 0.99, [1, 1, 1, 1], id="one class"),
        pytest.param([1.0, 0.0], 0.7, [1, 1, 2, 2], id="two classes"),
        pytest.param([1.0, 0.0], 1e-9, [1, 1, 1, 1], id="hardly anything"),
        pytest.param([9.0, 0.0, 0.0], 0.999999, [1, 3, 3, 3], id="nearly everything"),
    ],
)
def test_sizes_in_numbers(values: list[float], q: float, sizes: list[int]) -> None:
    # Constant over steps as well: the corollary says no more than "does not decrease".
    found = [nucleus(exact_softmax(row(values), t), mp.mpf(q)) for t in (0.1, 1.0, 10.0, 1000.0)]
    assert found == sizes


@pytest.mark.statement("nucleus-grows")
@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
@pytest.mark.parametrize("q", [0.1, 0.5, 0.9, 0.99])
def test_sizes_of_a_long_row_grow(q: float, dtype: torch.dtype) -> None:
    z = 2 * torch.randn(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = z.to(dtype)
    sizes = []
    for t in torch.logspace(-1, 1, 40).tolist():
        reached = softmax(z, temperature=t).double().sort(descending=True).values.cumsum(-1)
        error = softmax_bound(z, t).sum() + len(z) * U
        sizes.append([int((reached < q + e).sum()) + 1 for e in (-error, error)])
    # The least and the most that rounding leaves possible; in float64 mostly the same.
    assert all(later[1] >= earlier[0] for earlier, later in itertools.pairwise(sizes))
    assert sizes[0][1] < sizes[-1][0]
