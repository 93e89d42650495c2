"""The theorem `gibbs`: Gibbs' inequality."""

from __future__ import annotations

from fractions import Fraction

import pytest
import scipy.special
from hypothesis import assume, example, given
from hypothesis import strategies as st
from mpmath import mp
from torch.nn.functional import kl_div

from omnivault.information import kl_divergence
from tests.chapters.cross_entropy_kl.common import (
    Data,
    Pair,
    Row,
    assert_close,
    divergence,
    pairs,
    simplex,
)
from tests.support.strategies import as_double, number, shares


@pytest.mark.statement("gibbs", "exact", "torch", "scipy")
@given(pairs())
@example((shares(1), shares(1)))
@example((shares(1, 0), shares(0, 1)))
@example((shares(1, 0, 1, 0), shares(0, 1, 0, 1)))
@example((shares(1, 0, 1), shares(1, 0, 1)))
@example((shares(1, 1, 0), shares(1, 1, 2)))
def test_a_divergence_is_positive_unless_the_two_are_equal(pair: Pair) -> None:
    p, q = pair
    exact = divergence(p, q)
    assert exact >= 0
    assert (exact == 0) == (p == q)
    a, b = as_double(p), as_double(q)
    assert_close(kl_divergence(a, b).item(), exact)
    assert_close(scipy.special.rel_entr(a.tolist(), b.tolist()).sum(), exact)
    if 0 not in q:
        assert_close(kl_div(b.log(), a, reduction="sum").item(), exact)


@pytest.mark.statement("gibbs", "exact")
@given(st.integers(2, 5).flatmap(simplex), st.integers(1, 20), st.data())
def test_it_is_positive_however_near_they_are(p: Row, digits: int, data: Data) -> None:
    tiny = Fraction(1, 10 ** (digits + 8))  # less than any share that is not 0
    i, j = data.draw(st.permutations(range(len(p))))[:2]
    assume(p[i] > 0)
    q = [x + tiny * ((k == j) - (k == i)) for k, x in enumerate(p)]
    with mp.workdps(100):  # of second order where both are positive, of first where p is zero
        order = number(tiny**2 * (1 / p[i] + 1 / p[j]) / 2) if p[j] else number(tiny)
        assert 0.9 < divergence(p, q) / order < 1.1
