"""The corollary `noise-path`: One noise, every temperature."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import pytest

from tests.chapters.greedy_and_sampling.common import tops


@pytest.mark.statement("noise-path", "exact")
def test_as_it_gets_warmer_the_logit_falls_and_the_noise_rises_whatever_ties_do() -> None:
    grid = [Fraction(n, 6) for n in (1, 2, 3, 4, 6, 9, 12, 18, 24)]  # all crossings and between
    for z, g in product(product((0, 1, 3), repeat=3), repeat=2):

        def chosen(t: Any, z: Sequence[int] = z, g: Sequence[int] = g) -> set[int]:
            return set(tops([a + t * b for a, b in zip(z, g, strict=True)]))

        for i, j in itertools.combinations(map(chosen, grid), 2):
            assert max(g[a] for a in i) <= min(g[b] for b in j)
            assert min(z[a] for a in i) >= max(z[b] for b in j)
        # Where the proof says that it is cold, and hot, enough.
        gap_z = min((max(z) - a for a in z if a < max(z)), default=1)
        gap_g = min((max(g) - b for b in g if b < max(g)), default=1)
        assert chosen(Fraction(99 * gap_z, 100 * max(*g, 1))) <= set(tops(z))
        assert chosen(Fraction(101 * max(*z, 1), 100 * gap_g)) <= set(tops(g))


@pytest.mark.statement("noise-path", "exact")
def test_below_zero_the_chosen_logit_may_rise() -> None:
    z = g = (0, 1)
    assert [tops([a + t * b for a, b in zip(z, g, strict=True)]) for t in (-2, -0.5)] == [[0], [1]]
