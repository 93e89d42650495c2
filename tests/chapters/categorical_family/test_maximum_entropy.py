"""The theorem `maximum-entropy`: Maximum entropy."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import sympy
from mpmath import mp

from omnivault.information import entropy, kl_divergence
from tests.chapters.categorical_family.common import (
    EXACT,
    Row,
    Statistic,
    U,
    Vector,
    at,
    exact_entropy,
    lse,
    powers,
    shares,
)
from tests.support.strategies import as_double, assert_within, double, inner, number

STATISTICS: list[Any] = [
    pytest.param(((0,), (1,), (2,)), (1,), id="a mean"),
    pytest.param(((0,), (0,), (3,), (1,)), (-1,), id="ties"),
    pytest.param(((0, 0), (1, 1), (2, 4), (3, 9)), (1, -1), id="a mean and a square"),
    pytest.param(((1, 1), (2, 2), (0, 0), (5, 5)), (2, -1), id="the same mean twice"),
    pytest.param(((0,), (1,)), (2,), id="two outcomes"),
    pytest.param(((1, 0, 0), (0, 1, 0), (0, 0, 1)), (0, 1, -1), id="all frequencies"),
    pytest.param(((7,), (7,), (7,)), (3,), id="nothing known"),
]


def rivals(t: Statistic, p: Row) -> list[Row]:
    """Other distributions of the same mean: along each free direction halfway and to the border."""
    known = sympy.Matrix([[1, *x] for x in t]).T
    found = []
    for v in known.nullspace():
        direction = [Fraction(int(x.p), int(x.q)) for x in v]
        for sign in (1, -1):
            edge = min(q / -(sign * d) for q, d in zip(p, direction, strict=True) if sign * d < 0)
            for part in (Fraction(1, 1000), Fraction(1, 2), Fraction(1)):
                step = sign * part * edge
                found.append(tuple(q + step * d for q, d in zip(p, direction, strict=True)))
    return found


@pytest.mark.statement("maximum-entropy", "exact")
@pytest.mark.parametrize(("t", "k"), STATISTICS)
def test_a_rival_lacks_entropy_by_its_divergence(t: Statistic, k: Vector) -> None:
    law = powers([inner(k, x) for x in t])
    mu = [inner(law, c) for c in zip(*t, strict=True)]
    p = [number(x) for x in law]
    largest_entropy = exact_entropy(p)
    a = lse([inner(at(k), x) for x in t])
    assert_within(largest_entropy, a - inner(at(k), [number(m) for m in mu]), EXACT)
    others = rivals(t, law)
    unknown = len(t) - sympy.Matrix([[1, *x] for x in t]).rank()
    assert len(others) == 6 * unknown  # none where the mean tells all
    for rival in others:
        assert [inner(rival, c) for c in zip(*t, strict=True)] == mu
        assert min(rival) >= 0
        q = [number(x) for x in rival]
        divergence = mp.fsum(x * mp.log(x / y) for x, y in zip(q, p, strict=True) if x > 0)
        assert_within(exact_entropy(q), largest_entropy - divergence, EXACT)
        assert exact_entropy(q) < largest_entropy - mp.mpf(10) ** -10
        difference = kl_divergence(as_double(q), as_double(p)) + entropy(as_double(q))
        # Three sums of up to four terms, with logarithms up to 6 that are good to 8 u.
        assert_within(difference, entropy(as_double(p)), 256 * U)


@pytest.mark.statement("maximum-entropy")
def test_another_base_is_beaten() -> None:
    binomial, uniform = shares([1, 2, 1]), shares([1, 1, 1])  # both have the mean 1
    assert inner(binomial, (0, 1, 2)) == inner(uniform, (0, 1, 2)) == 1
    assert entropy(double([0.25, 0.5, 0.25])) < entropy(double([1 / 3] * 3))
