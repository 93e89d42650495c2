"""The theorem `truncation-closest`: What truncation costs."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest
import torch
from mpmath import mp

from omnivault.information import kl_divergence
from omnivault.softmax import softmax
from tests.chapters.decoding.common import U, row, shares
from tests.support.strategies import assert_within, events, number, total


@pytest.mark.statement("truncation-closest", "exact")
@pytest.mark.parametrize("weights", [(1,), (3, 1), (2, 2), (5, 3, 1, 1), (40, 1, 7, 2, 2)])
def test_the_renormalized_set_is_closest_and_the_only_one(weights: list[int]) -> None:
    p, k = shares(*weights), len(weights)
    for kept in events(k)[1:]:
        mass = total(p[i] for i in kept)
        best = [p[i] / mass if i in kept else Fraction(0) for i in range(k)]
        assert sum(abs(a - b) for a, b in zip(best, p, strict=True)) / 2 == 1 - mass
        masked = row(p).log().masked_fill(~torch.tensor([i in kept for i in range(k)]), -torch.inf)
        # Logarithms, to 4 ulp, of at most 4: in the logits, and in each of five terms.
        assert_within(softmax(masked), row(best), rel=96 * U)
        cost = -mp.log(number(mass))
        assert_within(kl_divergence(row(best), row(p)).item(), cost, 96 * U)
        assert kl_divergence(row(p), row(best)).isinf() == (len(kept) < k)
        # Every other distribution on a grid of the set costs more, by its divergence from the best.
        for counts in product(range(4), repeat=len(kept)):
            if sum(counts) == 3:
                q = dict(zip(sorted(kept), shares(*counts), strict=True))
                own, extra = (
                    mp.fsum(x * mp.log(number(x / r[i])) for i, x in q.items() if x)
                    for r in (p, best)
                )
                assert_within(own - extra, cost, mp.mpf("1e-45"))
                assert (extra > 1e-9) == any(best[i] != x for i, x in q.items())


@pytest.mark.statement("truncation-closest")
def test_by_other_distances_or_off_the_set_it_is_not_the_only_one() -> None:
    p, best, other = row([0.5, 0.25, 0.25]), row([2 / 3, 1 / 3, 0]), row([0.75, 0.25, 0])
    assert (other - p).abs().sum() == (best - p).abs().sum().round(decimals=12)
    assert kl_divergence(p, best) == kl_divergence(p, other) == torch.inf
    assert kl_divergence(row([0.6, 0.3, 0.1]), p) < kl_divergence(best, p)
