"""The theorem `maximum-entropy`: Maximum entropy."""

from __future__ import annotations

from collections.abc import Sequence
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
    on_families,
    powers,
    shares,
    weights_of,
)
from tests.support.strategies import as_double, assert_within, double, inner, number


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


def divergence(p: Sequence[Any], q: Sequence[Any]) -> Any:
    """Of p from q, which need not sum to one."""
    return mp.fsum(x * mp.log(x / y) for x, y in zip(p, q, strict=True) if x > 0)


@pytest.mark.statement("maximum-entropy", "exact")
@on_families
def test_a_rival_is_further_from_the_base_by_its_divergence(
    h: Vector, t: Statistic, k: Vector
) -> None:
    law = shares(weights_of(h, t, k))
    mu = [inner(law, c) for c in zip(*t, strict=True)]
    p = [number(x) for x in law]
    a = lse([mp.log(w) + inner(at(k), x) for w, x in zip(h, t, strict=True)])
    least = divergence(p, h)
    assert_within(least, inner(at(k), [number(m) for m in mu]) - a, EXACT)
    others = rivals(t, law)
    unknown = len(t) - sympy.Matrix([[1, *x] for x in t]).rank()
    assert len(others) == 6 * unknown  # none where the mean tells all
    for rival in others:
        assert [inner(rival, c) for c in zip(*t, strict=True)] == mu
        assert min(rival) >= 0
        q = [number(x) for x in rival]
        assert_within(divergence(q, h), least + divergence(q, p), EXACT)
        assert divergence(q, h) > least + mp.mpf(10) ** -10


@pytest.mark.statement("maximum-entropy", "exact")
@on_families
def test_a_rival_lacks_entropy_by_its_divergence(h: Vector, t: Statistic, k: Vector) -> None:
    law = powers([inner(k, x) for x in t])  # the base 1
    p = [number(x) for x in law]
    mu = [number(inner(law, c)) for c in zip(*t, strict=True)]
    a = lse([inner(at(k), x) for x in t])
    assert_within(exact_entropy(p), a - inner(at(k), mu), EXACT)
    for rival in rivals(t, law):
        q = [number(x) for x in rival]
        assert_within(exact_entropy(q), exact_entropy(p) - divergence(q, p), EXACT)
        assert exact_entropy(q) < exact_entropy(p) - mp.mpf(10) ** -10
        difference = kl_divergence(as_double(q), as_double(p)) + entropy(as_double(q))
        # Three sums of up to four terms, with logarithms up to 6 that are good to 8 u.
        assert_within(difference, entropy(as_double(p)), 256 * U)


@pytest.mark.statement("maximum-entropy")
def test_another_base_is_beaten() -> None:
    binomial, uniform = shares([1, 2, 1]), shares([1, 1, 1])  # both have the mean 1
    assert inner(binomial, (0, 1, 2)) == inner(uniform, (0, 1, 2)) == 1
    assert entropy(double([0.25, 0.5, 0.25])) < entropy(double([1 / 3] * 3))
