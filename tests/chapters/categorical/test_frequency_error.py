"""The theorem `frequency-error`: Error of the frequencies."""

from __future__ import annotations

from fractions import Fraction

import pytest
from mpmath import mp

from tests.chapters.categorical.common import (
    Counts,
    Row,
    few_draws,
    independent,
    mean,
    on_the_simplex,
    stuck,
)
from tests.support.strategies import total


def squared_error(c: Counts, pi: Row) -> Fraction:
    return total((Fraction(i, sum(c)) - p) ** 2 for i, p in zip(c, pi, strict=True))


@pytest.mark.statement("frequency-error", "exact")
@on_the_simplex
@few_draws
def test_expected_squared_error_and_the_probability_of_a_miss(pi: Row, n: int) -> None:
    law = independent(pi, n)
    error = mean(law, lambda c: squared_error(c, pi))
    assert error == (1 - sum(p * p for p in pi)) / n < Fraction(1, n)
    assert (error == 0) == (max(pi) == 1)
    # The largest is that of the uniform distribution, (1 - 1/K) / n: 1/n is approached.
    assert (error == (1 - Fraction(1, len(pi))) / n) == (len(set(pi)) == 1)
    for k, p in enumerate(pi):
        missed = total(share for c, share in law.items() if c[k] == 0)
        assert missed == (1 - p) ** n
        exact = mp.mpf(missed.numerator) / missed.denominator
        bound = mp.exp(-n * mp.mpf(p.numerator) / p.denominator)
        assert exact == bound == 1 if p == 0 else exact < bound
    # Equal draws do not get better with their number, and miss as one draw does.
    assert mean(stuck(pi, n), lambda c: squared_error(c, pi)) == n * error
