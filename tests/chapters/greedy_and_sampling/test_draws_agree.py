"""The theorem `draws-agree`: Agreement falls with temperature."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from mpmath import mp

from tests.chapters.greedy_and_sampling.common import LADDER, assert_falls, not_constant, row, tops
from tests.support.strategies import assert_within, exact_softmax


@pytest.mark.statement("draws-agree", "exact")
@not_constant
def test_agreement_falls_strictly_between_its_limits(values: list[float]) -> None:
    best, k = tops(values), len(values)
    m, z = mp.mpf(len(best)), row(values)

    def greedys(t: Any) -> Any:
        return mp.fsum(exact_softmax(z, t)[i] for i in best)

    def twice(t: Any) -> Any:
        return mp.fsum(x * x for x in exact_softmax(z, t))

    assert_falls(greedys, 1, m / k)
    assert_falls(twice, 1 / m, mp.mpf(1) / k)
    for t in LADDER[1:6]:  # the derivative is a covariance
        p, pairs = exact_softmax(z, t), list(product(range(k), repeat=2))
        terms = [p[i] * p[j] * (p[i] - p[j]) * (mp.mpf(values[i]) - values[j]) for i, j in pairs]
        assert_within(mp.diff(twice, t), -mp.fsum(terms) / t**2, 1e-24)
        assert min(terms) >= 0 < max(terms)
