"""Decoders against enumeration, a plain reference and Transformers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from omnivault.decoding import Beams, NextTokenLogits, beam_search, greedy_search
from tests.package.decoding.common import (
    INF,
    MODELS,
    OFF,
    TEXT,
    conditionals,
    ends,
    enumerate_all,
    hashed,
    markov,
    models,
    new_tokens,
    table,
)
from tests.support.strategies import DTYPES, arithmetic, unit

ALPHAS = (-1, 0, 0.5, 1, 2)


def plain_beam_search(
    model: NextTokenLogits,
    prompt: list[int],
    width: int,
    steps: int,
    ends: Sequence[int],
    alpha: float,
) -> list[tuple[list[int], float, float]]:
    """The rules in lists, of all candidates, and no early stop: tokens, log-probability, score."""
    running: list[tuple[list[int], float]] = [([], 0.0)]
    finished = []
    for length in range(1, steps + 1):
        candidates = [
            ([*new, token], log_prob + more)
            for new, log_prob in running
            for token, more in enumerate(conditionals(model, prompt + new))
            if more > -INF
        ]
        candidates = sorted(candidates, key=lambda c: -c[1])
        over = [length == steps or new[-1] in ends for new, _ in candidates]
        finished += [c for c, ended in zip(candidates[:width], over, strict=False) if ended]
        running = [c for c, ended in zip(candidates, over, strict=True) if not ended][:width]
    ranked = [(new, log_prob, log_prob / len(new) ** alpha) for new, log_prob in finished]
    return sorted(ranked, key=lambda hypothesis: -hypothesis[2])[:width]


def as_list(
    beams: Beams, start: int, end: int | Sequence[int] | None
) -> list[tuple[list[int], float, float]]:
    rows = [list(new_tokens(row, start, end)) for row in beams.ids]
    return list(zip(rows, beams.log_probs.tolist(), beams.scores.tolist(), strict=True))


@ends
@models
@pytest.mark.parametrize("steps", [2, 3, 4])
@pytest.mark.parametrize("vocabulary", [2, 3, 4])
def test_beam_search_as_wide_as_the_tree_finds_every_sequence(
    vocabulary: int, steps: int, kind: str, end: int | None
) -> None:
    model, prompt = MODELS[kind](vocabulary, steps), [1, 1]
    expected = enumerate_all(model, prompt, steps, end)
    assert math.fsum(map(math.exp, expected.values())) == pytest.approx(1, rel=TEXT)
    for alpha in ALPHAS:
        beams = beam_search(
            model,
            torch.tensor(prompt),
            width=vocabulary**steps,
            max_new_tokens=steps,
            end_token=end,
            length_penalty=alpha,
        )
        assert beams.ids.dtype is torch.int64
        assert beams.log_probs.dtype is beams.scores.dtype is torch.float64
        assert beams.ids[:, :2].tolist() == [prompt] * len(expected)
        found = as_list(beams, 2, end)
        assert {tuple(new): log_prob for new, log_prob, _ in found} == pytest.approx(
            expected, rel=0, abs=TEXT
        )
        assert all(score == log_prob / len(new) ** alpha for new, log_prob, score in found)
        assert all(above >= below for above, below in pairwise(beams.scores.tolist()))
        # Of sequences with the same steps in another order rounding may choose any.
        scores = {new: log_prob / len(new) ** alpha for new, log_prob in expected.items()}
        first = tuple(found[0][0])
        assert scores[first] >= max(scores.values()) - 2 * TEXT * max(1, steps**-alpha)


@settings(max_examples=150)
@given(
    st.integers(0, 10**6),
    st.integers(2, 5),
    st.integers(1, 6),
    st.integers(1, 5),
    st.lists(st.integers(0, 4), max_size=4),
    st.sampled_from(ALPHAS),
)
def test_beam_search_stops_early_only_when_nothing_can_change(
    seed: int, vocabulary: int, steps: int, width: int, ends: list[int], alpha: float
) -> None:
    ends = [end for end in ends if end < vocabulary]
    # Sequences of a Markov model that take the same steps in another order are equally probable.
    model = hashed(vocabulary, seed)
    expected = plain_beam_search(model, [0, 1], width, steps, ends, alpha)
    beams = beam_search(
        model,
        torch.tensor([0, 1]),
        width=width,
        max_new_tokens=steps,
        end_token=ends or None,
        length_penalty=alpha,
    )
    found = as_list(beams, 2, ends)
    assert [new for new, _, _ in found] == [new for new, _, _ in expected]
    for actual, (new, log_prob, score) in zip(found, expected, strict=True):
        assert actual[1] == pytest.approx(log_prob, rel=0, abs=TEXT)
        assert actual[2] == pytest.approx(score, rel=0, abs=TEXT / len(new) ** alpha)


@pytest.mark.parametrize(
    ("alpha", "calls"),
    [
        (0, 1),  # the rest has .3 in all, less than the .7 of the sequence that ended
        (-1, 1),
        (1, 4),  # .3 ** (1 / 4) > .7: a long sequence may still overtake
        (0.1, 1),  # .3 ** (1 / 4 ** .1) = .35 < .7
    ],
)
def test_beam_search_stops_as_soon_as_no_beginning_can_overtake(alpha: float, calls: int) -> None:
    seen = []
    follows = table([[1.0, 0.0], [0.7, 0.3]])

    def model(ids: Tensor) -> Tensor:
        seen.append(ids)
        return follows(torch.ones_like(ids)) if len(seen) == 1 else table([[1, 0], [0, 1]])(ids)

    beam_search(
        model, torch.tensor([1]), width=1, max_new_tokens=4, end_token=0, length_penalty=alpha
    )
    assert len(seen) == calls


def test_an_end_below_the_best_candidates_of_its_step_is_dropped() -> None:
    """End token 0 comes third of four: within twice the width, not within it."""
    model = table([[0.25, 0.25, 0.25, 0.25], [0.2, 0.5, 0.29, 0.01], [0, 1, 0, 0], [0, 1, 0, 0]])
    beams = beam_search(model, torch.tensor([1]), width=2, max_new_tokens=1, end_token=0)
    assert beams.ids.tolist() == [[1, 1], [1, 2]]
    wider = beam_search(model, torch.tensor([1]), width=3, max_new_tokens=1, end_token=0)
    assert wider.ids.tolist() == [[1, 1], [1, 2], [1, 0]]


@ends
@models
@pytest.mark.parametrize("alpha", [-1, 0])
def test_greedy_search_is_beam_search_of_width_one(
    kind: str, end: int | None, alpha: float
) -> None:
    for seed in range(30):
        model, prompt = MODELS[kind](5, seed), torch.tensor([1, 2])
        greedy = greedy_search(model, prompt, max_new_tokens=6, end_token=end)
        beams = beam_search(
            model, prompt, width=1, max_new_tokens=6, end_token=end, length_penalty=alpha
        )
        assert beams.ids.tolist() == [greedy.tolist()]


def test_width_one_with_a_positive_exponent_may_pass_over_an_end_that_greedy_search_takes() -> None:
    model = table([[1, 0, 0], [0.4, 0.35, 0.25], [0.5, 0.25, 0.25]])
    once = iter([model, table([[1, 0, 0], [0, 0, 1], [0, 0, 1]])])

    def first_then_certain(ids: Tensor) -> Tensor:
        return next(once)(ids)

    beams = beam_search(
        first_then_certain,
        torch.tensor([1]),
        width=1,
        max_new_tokens=2,
        end_token=0,
        length_penalty=1,
    )
    assert beams.ids.tolist() == [[1, 1, 2]]
    assert beams.scores.item() == pytest.approx(math.log(0.35) / 2, rel=0, abs=TEXT)
    greedy = greedy_search(model, torch.tensor([1]), max_new_tokens=2, end_token=0)
    assert greedy.tolist() == [1, 0]


def test_a_wider_beam_may_end_at_a_less_probable_sequence() -> None:
    """0 -> A .51, B .49; A -> .34 and then certain; B -> .5, .5 and then ten tokens at .1."""
    a, b, last = 1, 2, range(8, 18)
    probs = [[0.0] * 18 for _ in range(18)]
    probs[0][a], probs[0][b] = 0.51, 0.49
    probs[a][3:6] = [0.34, 0.33, 0.33]
    probs[b][6:8] = [0.5, 0.5]
    for token in (3, 4, 5, *last):
        probs[token][8] = 1.0
    for token in (6, 7):
        probs[token][8:18] = [0.1] * 10
    model, prompt = table(probs), torch.tensor([0])
    greedy = greedy_search(model, prompt, max_new_tokens=3)
    assert greedy.tolist() == [0, a, 3, 8]
    narrow, wide = (beam_search(model, prompt, width=w, max_new_tokens=3) for w in (1, 2))
    assert narrow.log_probs.exp().tolist() == pytest.approx([0.51 * 0.34], rel=TEXT)
    assert wide.log_probs.exp().tolist() == pytest.approx([0.0245, 0.0245], rel=TEXT)
    assert wide.ids[:, 1].tolist() == [b, b]


def test_temperature_changes_what_beam_search_finds_and_not_what_greedy_search_does() -> None:
    """0 -> A .6, B .4; A -> .5, .5; B is certain: B leads at T = 1, A at T = 1/4."""
    model = table([[0, 0.6, 0.4, 0], [0.5, 0, 0, 0.5], [0, 0, 0, 1], [0, 0, 0, 1]])
    found = {}
    for temperature in (4.0, 1.0, 0.25):

        def warmed(ids: Tensor, temperature: float = temperature) -> Tensor:
            return model(ids) / temperature

        greedy = greedy_search(warmed, torch.tensor([0]), max_new_tokens=2)
        assert greedy.tolist() == [0, 1, 0]
        beams = beam_search(warmed, torch.tensor([0]), width=3, max_new_tokens=2)
        found[temperature] = beams.ids[0, 1].item()
    assert found == {4.0: 2, 1.0: 2, 0.25: 1}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_log_probs_have_the_digits_of_float32_whatever_the_logits(dtype: torch.dtype) -> None:
    """Half-precision logits are exact numbers; only what is computed from them is rounded."""
    model = markov(6, dtype=dtype)
    beams = beam_search(model, torch.tensor([0]), width=3, max_new_tokens=6)
    exact = model(torch.arange(6).unsqueeze(-1)).double().log_softmax(-1)
    for ids, log_prob in zip(beams.ids.tolist(), beams.log_probs.tolist(), strict=True):
        recomputed = math.fsum(exact[i, j].item() for i, j in pairwise(ids))
        assert log_prob == pytest.approx(recomputed, rel=0, abs=OFF * unit(arithmetic(dtype)))
