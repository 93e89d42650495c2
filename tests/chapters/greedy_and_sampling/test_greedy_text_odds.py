"""The proposition `greedy-text-odds`: Staying on the greedy path."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from mpmath import mp

from omnivault.decoding import beam_search, greedy_search
from tests.chapters.greedy_and_sampling.common import LADDER, Toy, U, assert_falls, falls, row, tops
from tests.support.strategies import assert_within, exact_softmax

NOTHING = torch.zeros(0, dtype=torch.int64)


@pytest.mark.statement("greedy-text-odds", "exact")
@pytest.mark.parametrize(("k", "n"), [(2, 1), (2, 4), (3, 3), (5, 2)])
def test_the_chance_of_greedys_text_falls_strictly(k: int, n: int) -> None:
    for model in (Toy(k, seed, low=-2) for seed in range(4)):
        text = greedy_search(model, NOTHING, max_new_tokens=n).tolist()
        steps = [model.logits(*text[:i]) for i in range(n)]

        def odds(t: Any, steps: list[list[float]] = steps, text: list[int] = text) -> Any:
            return mp.fprod(exact_softmax(row(z), t)[y] for z, y in zip(steps, text, strict=True))

        ties = math.prod(len(tops(z)) for z in steps)
        assert_falls(odds, mp.mpf(1) / ties, mp.mpf(k) ** -n)
        for model.temperature in (0.5, 2.0):  # among all texts that sampling may write
            every = beam_search(model, NOTHING, width=k**n, max_new_tokens=n)
            found = every.log_probs[every.ids.tolist().index(text)].exp()
            # Of each step log_softmax of at most 5 logits, at most 10 apart, and then the sums.
            assert_within(found, odds(model.temperature), rel=128 * n * U)


@pytest.mark.statement("greedy-text-odds", "exact")
def test_constant_steps_and_other_texts_need_not_become_rarer() -> None:
    p = [exact_softmax(row([1, 0]), t) for t in LADDER]
    assert falls([0.5, *(q[0] / 2 for q in p), 0.25])  # one step that is not constant is enough
    assert falls([q[1] ** 2 for q in reversed(p)])
