"""The theorem `temperature-and-cut`: Temperature and truncation."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.sampling import apply_temperature, min_p, top_k, top_p, typical_p
from tests.chapters.decoding.common import row, tokens
from tests.support.strategies import exact_softmax, temperatures, whole_rows


@pytest.mark.statement("temperature-and-cut")
@given(whole_rows(1, 8, 6), temperatures(0.1, 10.0), st.floats(0.02, 1.0), st.data())
def test_top_k_commutes_top_p_grows_and_min_p_takes_a_power(
    z: Tensor, t: float, q: float, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(z)))
    hot = apply_temperature(z, t)
    assert torch.equal(top_k(hot, k), apply_temperature(top_k(z, k), t))
    masses = [mp.fsum(sorted(exact_softmax(z, s))[-r:]) for s in (1, t) for r in range(1, len(z))]
    gaps = [x - z.max().item() + t * math.log(1 / q) for x in z.tolist()]
    assume(all(abs(x) > 1e-6 for x in (*gaps, *(m - q for m in masses))) and q < 1 - 1e-6)
    first, last = len(tokens(top_p(hot, q))), len(tokens(top_p(z, q)))
    assert first <= last if t <= 1 else first >= last
    expected = [i for i, gap in enumerate(gaps) if gap >= 0]
    assert tokens(min_p(hot, q)) == tokens(min_p(z, q**t)) == expected


@pytest.mark.statement("temperature-and-cut")
def test_typical_sampling_does_not_commute_either() -> None:
    z = row([0.4, 0.3, 0.1, 0.1, 0.1]).log()
    assert tokens(typical_p(z, 0.29)) == [1]
    assert tokens(typical_p(z / 2, 0.29)) == [0, 1]


@pytest.mark.statement("temperature-and-cut")
@pytest.mark.parametrize(
    ("temperature", "mass", "before", "after"), [(2.0, 0.58, 1, 2), (0.5, 0.65, 2, 1)]
)
def test_the_nucleus_grows_and_shrinks_in_the_example(
    temperature: float, mass: float, before: int, after: int
) -> None:
    z = row([0.6, 0.4]).log()
    assert len(tokens(top_p(z, mass))) == before
    assert len(tokens(top_p(z / temperature, mass))) == after


@pytest.mark.statement("temperature-and-cut")
def test_top_p_and_min_p_do_not_commute() -> None:
    z = row([4, 3, 2, 1, 0])
    for rule, q in ((top_p, 0.9), (min_p, 0.1)):
        sizes = [len(tokens(rule(z / t, q))) for t in (0.25, 1.0, 4.0)]
        assert sizes[0] < sizes[1] < sizes[2]
    # For m = 1 only the maximum is left, at any temperature.
    assert all(tokens(min_p(z / t, 1.0)) == [0] for t in (0.1, 1.0, 10.0))
