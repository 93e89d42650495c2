"""The theorem `exponential-race`: The exponential race."""

from __future__ import annotations

import pytest
import torch
from mpmath import mp
from scipy.stats import binomtest, chisquare, expon, kstest

from tests.chapters.torch_multinomial.common import FALSE_ALARM, each_dtype, seeded
from tests.support.strategies import assert_within

TINY = mp.mpf(10) ** -30


@pytest.mark.statement("exponential-race", "exact")
@pytest.mark.parametrize("weights", [(3,), (1, 1), (1, 9), (2, 2, 2), (1, 0, 2), (5, 0.01, 3, 0)])
def test_the_winner_has_the_share_of_its_weight_whenever_it_rings(weights: list[float]) -> None:
    w, total = [mp.mpf(x) for x in weights], mp.fsum(weights)
    for t in (0, mp.mpf(1) / 3, 2):
        won = []
        for i, own in enumerate(w):
            if own == 0:
                continue
            # Given E_i = x, clock k rings later if E_k > x w_k / w_i.
            rate = 1 + mp.fsum(x / own for k, x in enumerate(w) if k != i)
            ends = [own * t, own * t + 1, own * t + 10, mp.inf]
            won.append(mp.quad(lambda x: mp.exp(-x * rate), ends))  # noqa: B023
            assert_within(won[-1], own / total * mp.exp(-total * t), TINY)
        # Without ties these are all there is: one wins alone, later than t if all ring later.
        assert_within(mp.fsum(won), mp.fprod(mp.exp(-x * t) for x in w), TINY)


@pytest.mark.statement("exponential-race", "torch", "statistical", false_alarm=0.008)
@pytest.mark.parametrize("replacement", [False, True])
@each_dtype
def test_one_draw_of_torch_is_a_race(dtype: torch.dtype, replacement: bool) -> None:
    row = torch.tensor([1.0, 0.0, 2.0, 5.0], dtype=dtype)
    for w in (row, torch.ones(3, 1, dtype=dtype), row.expand(20_000, 4).contiguous()):
        e = torch.empty_like(w).exponential_(generator=seeded(1))
        drawn = torch.multinomial(w, 1, replacement, generator=seeded(1))
        assert torch.equal((w / e).argmax(-1, keepdim=True), drawn)
    seen = drawn.flatten().bincount(minlength=4)
    assert seen[1] == 0
    assert chisquare(seen[[0, 2, 3]], [2500, 5000, 12500]).pvalue > FALSE_ALARM


@pytest.mark.statement("exponential-race", "statistical", false_alarm=0.004)
def test_the_first_time_is_exponential_and_independent_of_the_winner() -> None:
    w = torch.tensor([1.0, 0.0, 2.0, 5.0], dtype=torch.float64)
    e = torch.empty(20_000, 4, dtype=torch.float64).exponential_(generator=seeded(2))
    time, winner = (e / w).min(-1)  # E / 0 is infinite: that clock never rings
    for won in (winner >= 0, winner == 0, winner == 2, winner == 3):
        assert kstest(time[won], expon(scale=1 / 8).cdf).pvalue > FALSE_ALARM


@pytest.mark.statement("exponential-race", "statistical", false_alarm=1e-14)
def test_rounding_brings_ties_back_which_the_first_index_wins() -> None:
    # 1 race in 600 in bfloat16.
    e = torch.empty(200_000, 2).bfloat16().exponential_(generator=seeded())
    tie = 1 / e[:, 0] == 1 / e[:, 1]
    assert 1 / 1000 < tie.double().mean() < 1 / 300
    # So does overflow: in float32 two equal weights of 2e38 are not drawn equally often.
    drawn = torch.multinomial(torch.full((10_000, 2), 2e38), 1, generator=seeded())
    assert binomtest(int(drawn.sum()), 10_000, 0.5).pvalue < 1e-6
