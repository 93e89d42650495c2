from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from omnivault.decoding import NextTokenLogits, beam_search, greedy_search, sample_sequence
from tests.package.decoding.common import (
    INF,
    MODELS,
    TEXT,
    conditionals,
    ends,
    enumerate_all,
    generator,
    hashed,
    markov,
    models,
    new_tokens,
    table,
)


def ruling_out(model: NextTokenLogits, share: float) -> NextTokenLogits:
    """Rule out tokens at random, by the prefix; the last token of the vocabulary stays."""

    def masked(ids: Tensor) -> Tensor:
        logits = model(ids)
        for row, prefix in zip(logits, ids.tolist(), strict=True):
            source = generator(hash((7, *prefix)) % 2**63)
            row[:-1][torch.rand(len(row) - 1, generator=source) < share] = -INF
        return logits

    return masked


BATCH = torch.tensor([[1, 2], [3, 4], [2, 2], [4, 1], [0, 3], [3, 4]])


def filled(rows: list[Tensor], end: int | None) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=float(end or 0))


@ends
@models
@pytest.mark.parametrize("steps", [1, 8])
def test_a_batch_gives_what_each_prompt_gives_alone(kind: str, end: int | None, steps: int) -> None:
    model = MODELS[kind](5, 3)
    limits: dict[str, Any] = {"max_new_tokens": steps, "end_token": end}
    temperatures = torch.tensor([0.0, 0.5, 1.0, 2.0, 10.0, 1.0])

    alone = [greedy_search(model, row, **limits) for row in BATCH]
    assert greedy_search(model, BATCH, **limits).tolist() == filled(alone, end).tolist()

    drawn = sample_sequence(
        model,
        BATCH,
        temperature=temperatures,
        generator=[generator(seed) for seed in range(6)],
        **limits,
    )
    alone = [
        sample_sequence(model, row, temperature=t, generator=generator(seed), **limits)
        for seed, (row, t) in enumerate(zip(BATCH, temperatures.tolist(), strict=True))
    ]
    assert drawn.tolist() == filled(alone, end).tolist()
    assert drawn[0, : len(alone[0])].tolist() == greedy_search(model, BATCH[0], **limits).tolist()

    beams = beam_search(model, BATCH, width=3, length_penalty=0.5, **limits)
    assert beams.ids.shape[:2] == beams.log_probs.shape == beams.scores.shape == (6, 3)
    for i, row in enumerate(BATCH):
        one = beam_search(model, row, width=3, length_penalty=0.5, **limits)
        padded = torch.full_like(beams.ids[i], end or 0)
        padded[:, : one.ids.shape[1]] = one.ids
        assert beams.ids[i].tolist() == padded.tolist()
        assert beams.log_probs[i].tolist() == pytest.approx(one.log_probs.tolist(), abs=TEXT, rel=0)
        assert beams.scores[i].tolist() == pytest.approx(one.scores.tolist(), abs=TEXT, rel=0)


def test_a_row_that_has_ended_is_filled_up_and_not_asked_again() -> None:
    asked = []
    follows = table([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]])

    def model(ids: Tensor) -> Tensor:
        asked.append(ids[:, -1].tolist())
        return follows(ids)

    prompt = torch.tensor([[2], [0], [1]])
    ids = greedy_search(model, prompt, max_new_tokens=5, end_token=3)
    # All have ended after three tokens: the batch grows no further.
    assert ids.tolist() == [[2, 3, 3, 3], [0, 1, 2, 3], [1, 2, 3, 3]]
    assert asked == [[2, 0, 1], [1, 2], [2]]
    assert prompt.tolist() == [[2], [0], [1]]


def test_a_beam_search_may_be_over_long_before_another_of_its_batch() -> None:
    model = table([[1, 0, 0], [0.9, 0.1, 0], [0, 0, 1]])
    beams = beam_search(model, torch.tensor([[1], [2]]), width=1, max_new_tokens=3, end_token=0)
    assert beams.ids.tolist() == [[[1, 0, 0, 0]], [[2, 2, 2, 2]]]


@pytest.mark.parametrize("shape", [(0,), (2, 0)], ids=str)
def test_a_prompt_may_be_empty(shape: tuple[int, ...]) -> None:
    model, prompt = hashed(3), torch.empty(shape, dtype=torch.int64)
    best = max(enumerate_all(model, [], 3, None).items(), key=lambda item: item[1])
    beams = beam_search(model, prompt, width=27, max_new_tokens=3)
    for ids in beams.ids[..., 0, :].reshape(-1, 3).tolist():
        assert tuple(ids) == best[0]
    step = hashed(3)(torch.empty((1, 0), dtype=torch.int64)).argmax().item()
    for ids in (
        greedy_search(model, prompt, max_new_tokens=1),
        sample_sequence(model, prompt, max_new_tokens=1, temperature=0),
    ):
        assert ids.shape == (*shape[:-1], 1)
        assert set(ids.flatten().tolist()) == {step}


def test_a_prompt_that_holds_the_end_token_goes_on() -> None:
    model = table([[0.1, 0.9], [0.1, 0.9]])
    assert greedy_search(model, torch.tensor([0, 0]), max_new_tokens=2, end_token=0).tolist() == [
        0,
        0,
        1,
        1,
    ]


def test_a_prompt_with_fewer_sequences_than_another_is_filled_with_impossible_ones() -> None:
    model = table([[0, 1, 0], [1, 0, 0], [0.5, 0.25, 0.25]])
    beams = beam_search(model, torch.tensor([[0], [2]]), width=3, max_new_tokens=2)
    assert beams.ids[0, 0].tolist() == [0, 1, 0]
    assert beams.ids[0, 1:, 0].tolist() == [0, 0]
    assert beams.log_probs[0].tolist() == beams.scores[0].tolist() == [0, -INF, -INF]
    assert bool(beams.log_probs[1].isfinite().all())
    alone = beam_search(model, torch.tensor([0]), width=3, max_new_tokens=2)
    assert (alone.ids.tolist(), alone.log_probs.tolist()) == ([[0, 1, 0]], [0.0])


@ends
def test_a_token_that_is_ruled_out_never_appears(end: int | None) -> None:
    model = ruling_out(hashed(6), 0.85)
    prompt = torch.tensor([[i, j] for i in range(1, 6) for j in range(1, 6)])
    limits: dict[str, Any] = {"max_new_tokens": 5, "end_token": end}
    beams = beam_search(model, prompt, width=8, **limits)
    possible = beams.log_probs > -INF
    assert 0 < int((~possible).sum()) < possible.numel()
    for ids in (
        greedy_search(model, prompt, **limits),
        sample_sequence(model, prompt, temperature=50.0, generator=generator(), **limits),
        beams.ids[possible],
    ):
        for row in ids:
            new, prefix = new_tokens(row, 2, end), row[:2].tolist()
            for token in new:
                assert conditionals(model, prefix)[token] > -INF
                prefix.append(token)


@pytest.mark.parametrize("one_each", [False, True], ids=["one generator", "one for each row"])
@ends
def test_sampled_sequences_have_the_probabilities_of_the_model(
    end: int | None, one_each: bool
) -> None:
    """False alarms of a right sampler: one seed in a thousand, and the seed is fixed."""
    n, model = 4000, hashed(3, seed=1)
    exact = {new: math.exp(lp) for new, lp in enumerate_all(model, [1], 3, end).items()}
    assert min(exact.values()) * n > 5
    drawn = sample_sequence(
        model,
        torch.tensor([[1]]).expand(n, 1),
        max_new_tokens=3,
        end_token=end,
        generator=[generator(seed) for seed in range(n)] if one_each else generator(),
    )
    counts = Counter(new_tokens(row, 1, end) for row in drawn)
    assert counts.keys() <= exact.keys()
    observed, expected = [counts[new] for new in exact], [n * p for p in exact.values()]
    assert stats.chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0},
        {"temperature": torch.zeros(6)},
        {"temperature": 1e-6},
        {"top_k": 1},
        {"top_p": 1e-6},
        {"min_p": 1.0},
    ],
    ids=str,
)
@ends
def test_each_way_to_leave_one_token_is_greedy_search(
    options: dict[str, Any], end: int | None
) -> None:
    model = markov(5, seed=3)
    limits: dict[str, Any] = {"max_new_tokens": 8, "end_token": end}
    greedy = greedy_search(model, BATCH, **limits).tolist()
    assert sample_sequence(model, BATCH, generator=generator(), **options, **limits).tolist() == (
        greedy
    )
    # Without it, something else is drawn.
    assert sample_sequence(model, BATCH, generator=generator(), **limits).tolist() != greedy


def test_one_temperature_in_a_tensor_is_a_temperature_for_all_rows() -> None:
    for temperature in (torch.tensor(2.0), torch.full((6,), 2.0)):
        in_tensor, plain = (
            sample_sequence(
                markov(5), BATCH, max_new_tokens=8, temperature=t, generator=generator()
            )
            for t in (temperature, 2.0)
        )
        assert in_tensor.tolist() == plain.tolist()
