"""The theorem `entropy-controller`: A temperature for every entropy."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.information import entropy as entropy_of
from omnivault.softmax import softmax
from tests.chapters.cuts.common import entropy, exact, heated, keeps_order
from tests.support.strategies import assert_within, unit, whole_rows


def law(z: list[Any], t: Any) -> list[Any]:
    return heated([mp.exp(x - max(z)) for x in z], t)


def controlled(z: list[Any], h: Any) -> tuple[Any, list[Any]]:
    """The temperature of an entropy, by bisection of its logarithm, and the law there."""
    low, high = mp.mpf(-60), mp.mpf(60)
    for _ in range(200):
        middle = (low + high) / 2
        if entropy(law(z, mp.exp(middle))) < h:
            low = middle
        else:
            high = middle
    return mp.exp(low), law(z, mp.exp(low))


rows = whole_rows(2, 6, 4)
shares_between = st.integers(1, 9).map(lambda n: mp.mpf(n) / 10)


def between(z: list[Any], share: Any) -> Any:
    """An entropy between the limits."""
    least, most = mp.log(z.count(max(z))), mp.log(len(z))
    return least + share * (most - least)


@pytest.mark.statement("entropy-controller", "exact")
@given(rows, shares_between)
def test_one_temperature_has_the_entropy(z: Tensor, share: Any) -> None:
    row = [mp.mpf(x) for x in z.tolist()]
    assume(max(row) > min(row))
    h = between(row, share)
    t, p = controlled(row, h)
    assert abs(entropy(p) - h) < mp.mpf(10) ** -30
    # Strictly between its neighbors, so at no other temperature.
    assert entropy(law(row, t * mp.mpf("0.99"))) < h < entropy(law(row, t * mp.mpf("1.01")))
    order = [i for i in range(len(row)) if p[i] == max(p)]
    assert order == [i for i in range(len(row)) if row[i] == max(row)]
    assert all((row[i] > row[j]) == (p[i] > p[j]) for i in range(len(p)) for j in range(len(p)))
    assert keeps_order(p, set(order))
    ours = softmax(z, temperature=float(t))
    # T to u, exponents to some 8 of it and their roundings, and sums of six.
    assert_within(ours, p, (40 + 4 * float(8 / t)) * unit(torch.float64))
    assert_within(entropy_of(ours), h, (400 + 40 * float(8 / t)) * unit(torch.float64))


@pytest.mark.statement("entropy-controller", "exact")
@given(rows, shares_between, st.integers(-20, 20), st.sampled_from([1, 3, 8]))
def test_neither_a_constant_nor_a_temperature_before_it_is_seen(
    z: Tensor, share: Any, c: int, eighths: int
) -> None:
    row = [mp.mpf(x) for x in z.tolist()]
    assume(max(row) > min(row))
    h, before = between(row, share), exact(Fraction(eighths, 4))
    t, p = controlled(row, h)
    t_again, again = controlled([(x + c) / before for x in row], h)
    assert all(abs(a - b) < mp.mpf(10) ** -30 for a, b in zip(p, again, strict=True))
    assert abs(t_again * before / t - 1) < mp.mpf(10) ** -30


@pytest.mark.statement("entropy-controller", "exact")
@given(rows)
def test_the_limits_are_not_reached(z: Tensor) -> None:
    row = [mp.mpf(x) for x in z.tolist()]
    assume(max(row) > min(row))
    for t in (mp.mpf(1) / 8, mp.mpf(1), mp.mpf(64)):
        assert mp.log(row.count(max(row))) < entropy(law(row, t)) < mp.log(len(row))
