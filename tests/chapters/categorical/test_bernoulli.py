"""The definition `bernoulli`: Bernoulli distribution."""

from __future__ import annotations

from fractions import Fraction

import pytest
import scipy.stats
import torch

from omnivault.distributions import Bernoulli
from tests.chapters.categorical.common import U
from tests.support.strategies import DTYPES, assert_within


@pytest.mark.statement("bernoulli", "exact", "scipy")
@pytest.mark.parametrize("pi", [Fraction(i, 8) for i in range(-1, 10)])
def test_one_formula_holds_both_probabilities(pi: Fraction) -> None:
    one_formula = [pi**y * (1 - pi) ** (1 - y) for y in (0, 1)]
    assert one_formula == [1 - pi, pi]  # at 0 and 1 too, by 0^0 = 1
    assert sum(one_formula) == 1
    assert (min(one_formula) >= 0) == (0 <= pi <= 1)
    if 0 <= pi <= 1:
        assert_within(scipy.stats.bernoulli(float(pi)).pmf([0, 1]), one_formula, rel=4 * U)
        for dtype in DTYPES:  # eighths have no rounding
            coin = Bernoulli(torch.tensor(float(pi), dtype=dtype))
            assert coin.pmf(torch.tensor([0, 1])).tolist() == one_formula
