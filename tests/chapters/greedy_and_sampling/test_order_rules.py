"""The theorem `order-rules`: Rules that read the order."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import pytest

from omnivault.softmax import softmax
from tests.chapters.greedy_and_sampling.common import READS_ORDER, row, same_order


def through(z: Sequence[Fraction], w: Sequence[Fraction]) -> Callable[[Fraction], Fraction]:
    """The map of the proof: straight lines through the points (z_i, w_i), slope 1 outside."""
    x, y = sorted(set(z)), sorted(set(w))

    def f(t: Fraction) -> Fraction:
        k = bisect(x, t)
        if k in (0, len(x)):
            return t - x[max(k - 1, 0)] + y[max(k - 1, 0)]
        return y[k - 1] + (t - x[k - 1]) * (y[k] - y[k - 1]) / (x[k] - x[k - 1])

    return f


def above_mean(z: Sequence[Any]) -> int:
    return sum(len(z) * x > sum(z) for x in z)


READS_SIZES: dict[str, Callable[[Sequence[Any]], Any]] = {
    "level": lambda z: max(z) > 1,
    "gap": lambda z: max(z) - min(z) >= 2,
    "number above the mean": above_mean,
    "softmax": lambda z: softmax(row([float(x) for x in z])).tolist(),
}
INCREASING: list[Callable[[Fraction], Fraction]] = [
    lambda x: x**3,
    lambda x: x if x < 1 else x + 100,
    *(lambda x, t=t: x / t for t in (Fraction(1, 1000), 7, 10**9)),
]


@pytest.mark.statement("order-rules", "exact")
@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_rule_reads_the_order_if_and_only_if_no_increasing_map_touches_it(k: int) -> None:
    grid = list(product(map(Fraction, (-2, 0, 1, 5)), repeat=k))
    maps = {(z, w): through(z, w) for z, w in product(grid, repeat=2) if same_order(z, w)}
    for (z, w), f in maps.items():
        assert [f(x) for x in z] == list(w)
        assert all(f(Fraction(n, 3)) < f(Fraction(n + 1, 3)) for n in range(-12, 24))
    assert all(same_order(z, [f(x) for x in z]) for z in grid for f in INCREASING)
    for name, rule in {**READS_ORDER, **READS_SIZES}.items():
        reads_order = all(rule(z) == rule(w) for z, w in maps)
        untouched = all(rule([f(x) for x in z]) == rule(z) for (z, _), f in maps.items())
        untouched &= all(rule([f(x) for x in z]) == rule(z) for z in grid for f in INCREASING)
        assert reads_order == untouched
        # Of one token, and for the mean of two, no size is left to be read.
        few = {"gap": 1, "number above the mean": 2, "softmax": 1}.get(name, 0)
        assert reads_order == (name in READS_ORDER or k <= few), name


@pytest.mark.statement("order-rules", "exact")
def test_maps_that_are_not_increasing_and_rules_that_are_only_blind_to_temperature() -> None:
    assert not same_order([1, 0, 2], [-1, 0, -2])
    assert not same_order([1, 0, 2], [min(x, 1) for x in (1, 0, 2)])
    for z in product((-2, 0, 1, 5), repeat=3):
        assert above_mean([Fraction(x, 7) for x in z]) == above_mean(z)
    assert same_order([0, 1, 5], [0, 4, 5])
    assert above_mean([0, 1, 5]) != above_mean([0, 4, 5])
