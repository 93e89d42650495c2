"""The proposition `inverse-cdf`: Inversion."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from tests.chapters.torch_multinomial.common import FALSE_ALARM, seeded, single_and_double


@pytest.mark.statement("inverse-cdf", "exact")
@given(st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any))
def test_each_index_has_an_interval_of_its_probability(weights: list[int]) -> None:
    c = list(itertools.accumulate(Fraction(w, sum(weights)) for w in weights))
    length = [Fraction(0)] * len(c)
    for a, b in itertools.pairwise(sorted({Fraction(0), *c})):
        inside = [a + (b - a) * x / 4 for x in (1, 2, 3, 4)]  # with b, without a
        [found] = {next(k for k, x in enumerate(c) if u <= x) for u in inside}
        length[found] += b - a
    assert length == [Fraction(w, sum(weights)) for w in weights]


@pytest.mark.statement("inverse-cdf", "torch", "statistical", false_alarm=0.002)
@single_and_double
def test_with_replacement_torch_searches_the_cumulative_sum(dtype: torch.dtype) -> None:
    w = torch.rand(300, generator=seeded(3), dtype=torch.float64).to(dtype)
    w[::7] = 0
    c = np.cumsum(w.numpy())  # one by one, in the dtype
    u = torch.rand(20_000, generator=seeded(4), dtype=torch.float64)
    drawn = torch.multinomial(w, 20_000, True, generator=seeded(4))
    assert torch.equal(torch.searchsorted(torch.from_numpy(c / c[-1]).double(), u), drawn)
    assert w[drawn].min() > 0
    expected = 20_000 * w[w > 0].double() / w.double().sum()
    assert chisquare(drawn.bincount(minlength=300)[w > 0], expected).pvalue > FALSE_ALARM
