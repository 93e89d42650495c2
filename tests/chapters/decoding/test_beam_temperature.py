"""The proposition `beam-temperature`: Beam search reads sizes."""

from __future__ import annotations

import math

import pytest

from tests.chapters.decoding.common import U, row, two_steps
from tests.support.strategies import assert_within, exact_softmax


@pytest.mark.statement("beam-temperature", "exact")
def test_beam_search_turns_where_the_odds_pass_ten_and_greedy_search_does_not() -> None:
    model = two_steps(10)
    turn = math.log(1.5) / math.log(10)
    for t in (0.01, 0.1, 0.99 * turn, 1.01 * turn, 1.0, 100.0):
        model.temperature = t
        found = model.beams(2, 2)
        assert found.ids[0, 0].item() == (t > turn)
        assert model.greedy(2)[0] == 0
        a, b = exact_softmax(row([0.6, 0.4]).log(), t)
        # Logarithms of .6 and .4 divided by T, and log_softmax of that and of ten equals.
        rel = (16 / t + 64) * U
        assert_within(found.log_probs[0].exp().item(), max(a / 10, b), rel=rel)
        text = [round(float(x), digits) for x, digits in ((a, 3), (b, 3), (a / 10, 4))]
        assert t != 0.1 or text == [0.983, 0.017, 0.0983]
