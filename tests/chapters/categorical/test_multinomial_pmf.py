"""The theorem `multinomial-pmf`: Multinomial distribution."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import pytest
import scipy.stats
import torch

from omnivault.distributions import Multinomial
from tests.chapters.categorical.common import (
    Row,
    U,
    few_draws,
    independent,
    on_the_simplex,
    product,
    stuck,
)
from tests.support.strategies import as_double, assert_within


def formula(c: Sequence[int], pi: Row) -> Fraction:
    """The multinomial probability; a fraction to the power 0 is 1, that of 0 too."""
    orders = math.factorial(sum(c)) // math.prod(math.factorial(i) for i in c)
    return orders * product(p**i for p, i in zip(pi, c, strict=True))


def relative_error(c: Sequence[int], pi: Row) -> float:
    """Of the formula, computed from logarithms in float64, at most."""
    # The logarithms are off by 4 ulp and added up; then come exp and the rounded probabilities.
    size = 2 * math.lgamma(sum(c) + 1)
    size -= sum(i * math.log(p) for p, i in zip(pi, c, strict=True) if i and p)
    return (16 * size + 8 + sum(c)) * U


@pytest.mark.statement("multinomial-pmf", "exact", "scipy")
@on_the_simplex
@few_draws
def test_the_formula_adds_up_the_sequences(pi: Row, n: int) -> None:
    law = independent(pi, n)
    vectors = list(itertools.product(range(n + 2), repeat=len(pi)))
    exact = [law.get(c, Fraction(0)) for c in vectors]
    assert exact == [formula(c, pi) if sum(c) == n else 0 for c in vectors]
    assert sum(exact) == 1
    pmf = Multinomial(n, as_double(pi)).pmf(torch.tensor(vectors))
    errors = [p * relative_error(c, pi) for p, c in zip(exact, vectors, strict=True)]
    assert_within(pmf, as_double(exact), as_double(errors))
    # Independence is used: equal draws have another law of counts, but for n = 1 or a vertex.
    nonzero = {c: p for c, p in law.items() if p}
    assert (nonzero.items() <= stuck(pi, n).items()) == (n == 1 or max(pi) == 1)
    if len(pi) == 2:
        for c in range(n + 1):
            binomial = float(scipy.stats.binom.pmf(c, n, float(pi[0])))
            assert_within(binomial, law[c, n - c], rel=128 * U)  # Boost: some tens of u
