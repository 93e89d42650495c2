"""The theorem `sequence-measure`: Conditionals make a measure on texts."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare

from omnivault.decoding import sample_sequence
from tests.chapters.decoding.common import NOTHING, U, chance
from tests.support.strategies import as_double, assert_within

FALSE_ALARM = 1e-3  # of another seed; with the one given a test passes for ever or fails for ever


@pytest.mark.statement("sequence-measure", "exact")
@pytest.mark.parametrize(("k", "n"), [(1, 3), (2, 1), (2, 4), (3, 3)])
def test_products_of_conditionals_are_a_measure_and_its_beginnings(k: int, n: int) -> None:
    for model in (chance(k, seed, 0, 2) for seed in range(5)):
        texts = model.texts(n)
        assert len(texts) == k**n
        assert min(texts.values()) >= 0
        assert sum(texts.values()) == 1
        for m in range(n + 1):
            for start, p in model.texts(m).items():
                assert sum(q for y, q in texts.items() if y[:m] == start) == p
        found = model.beams(k**n, n)
        seen = {tuple(y): q for y, q in zip(found.ids.tolist(), found.log_probs.exp(), strict=True)}
        possible = {y: q for y, q in texts.items() if q}
        assert seen.keys() == possible.keys()
        # Of each step log, to 4 ulp, and log_softmax of a few shares, then the sums and exp.
        assert_within([seen[y] for y in possible], list(possible.values()), rel=64 * n * U)


@pytest.mark.statement("sequence-measure", "statistical", false_alarm=1e-3)
def test_drawing_token_by_token_draws_a_text_from_it() -> None:
    model, n = chance(3, 1, 0, 4), 20_000
    drawn = sample_sequence(
        model,
        NOTHING.expand(n, 0),
        max_new_tokens=3,
        generator=torch.Generator().manual_seed(1),
    )
    seen = (drawn * torch.tensor([9, 3, 1])).sum(-1).bincount(minlength=27)
    expected = as_double(list(model.texts(3).values())) * n
    assert seen[expected == 0].sum() == 0
    assert (expected == 0).any()
    possible = expected > 0
    assert chisquare(seen[possible], expected[possible]).pvalue > FALSE_ALARM
