"""The proposition `bound-for-the-tail`: A bound in place of the tail."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest

from omnivault.engines import kept
from tests.chapters.engines.common import MASSES, RANKED, logits, nucleus


def by_bound(weights: Sequence[Fraction], rho: Fraction) -> int:
    mass = Fraction(0)
    for k, w in enumerate(weights, 1):
        mass += w
        if mass >= rho * (mass + (len(weights) - k) * w):
            return k
    raise AssertionError("the last weight passes")


def flat_tail(n: int, rho: Fraction, size: int) -> list[Fraction]:
    """Build the weights of the proof."""
    rest = size - n - 1
    return [rho, *[(1 - rho) / (2 * n)] * n, *[(1 - rho) / (2 * rest)] * rest]


@pytest.mark.statement("bound-for-the-tail", "exact")
def test_it_keeps_the_nucleus_at_least() -> None:
    more = 0
    for p in RANKED:
        for rho in MASSES[:-1]:
            assert by_bound(p, rho) >= nucleus(p, rho)
            more += by_bound(p, rho) > nucleus(p, rho)
    assert more > 100


@pytest.mark.statement("bound-for-the-tail", "exact")
@pytest.mark.parametrize("rho", [Fraction(1, 10), Fraction(1, 2), Fraction(9, 10)])
@pytest.mark.parametrize("n", [5, 20])
def test_it_can_keep_as_many_as_one_likes(n: int, rho: Fraction) -> None:
    size = n + 2 + int(2 * n / (rho * (1 - rho)))
    weights = flat_tail(n, rho, size)
    assert sorted(weights, reverse=True) == weights
    assert sum(weights) == 1
    assert nucleus(weights, rho) == 1
    assert by_bound(weights, rho) > n


@pytest.mark.statement("bound-for-the-tail")
@pytest.mark.parametrize("n", [5, 20])
def test_the_dialect_keeps_so_many(n: int) -> None:
    rho = Fraction(1, 2)
    weights = flat_tail(n, rho, 200)
    z = logits(weights)
    found = kept(z, "onnxruntime-genai", top_p=0.49)
    assert len(found) == by_bound(weights, Fraction(49, 100)) > n
    assert len(kept(z, "onnxruntime-genai", top_p=0.49, intended=True)) == 1
