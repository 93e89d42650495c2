"""Decoders against enumeration, a plain reference and Transformers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from strategies import DTYPES, arithmetic, unit
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from omnivault.decoding import (
    Beams,
    NextTokenLogits,
    beam_search,
    greedy_search,
    sample_sequence,
)
from omnivault.degeneration import ROUNDING
from omnivault.language_model import CachedLogits, LanguageModel, load_language_model

pytestmark = pytest.mark.usefixtures("one_thread")

INF, NAN = math.inf, math.nan
ALPHAS = (-1, 0, 0.5, 1, 2)
# What a log-probability of up to 8 tokens may be off by, in units of rounding: log_softmax of 6
# logits that are at most 10 apart, by 80 for each token, in either of two ways, and the sums.
OFF = 8 * 200
TEXT = OFF * unit(torch.float64)

ends = pytest.mark.parametrize("end", [None, 0], ids=["no end token", "end token"])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Toy models ---------------------------------------------------------------------------------------


def table(probs: list[list[float]]) -> NextTokenLogits:
    """The next token depends on the last one alone."""
    logits = torch.tensor(probs, dtype=torch.float64).log()
    return lambda ids: logits[ids[:, -1]]


def markov(vocabulary: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> NextTokenLogits:
    logits = torch.randn(vocabulary, vocabulary, generator=generator(seed), dtype=torch.float64)
    return lambda ids: logits.to(dtype)[ids[:, -1]]


def hashed(vocabulary: int, seed: int = 0) -> NextTokenLogits:
    """The next token depends on all before it, and there need not be any."""
    known: dict[tuple[int, ...], Tensor] = {}

    def row(prefix: tuple[int, ...]) -> Tensor:
        if prefix not in known:
            source = generator(hash((seed, *prefix)) % 2**63)
            known[prefix] = torch.randn(vocabulary, generator=source, dtype=torch.float64)
        return known[prefix]

    return lambda ids: torch.stack([row(tuple(prefix)) for prefix in ids.tolist()])


MODELS: dict[str, Callable[[int, int], NextTokenLogits]] = {"markov": markov, "hashed": hashed}
models = pytest.mark.parametrize("kind", MODELS)


def ruling_out(model: NextTokenLogits, share: float) -> NextTokenLogits:
    """Rule out tokens at random, by the prefix; the last token of the vocabulary stays."""

    def masked(ids: Tensor) -> Tensor:
        logits = model(ids)
        for row, prefix in zip(logits, ids.tolist(), strict=True):
            source = generator(hash((7, *prefix)) % 2**63)
            row[:-1][torch.rand(len(row) - 1, generator=source) < share] = -INF
        return logits

    return masked


# Exact answers ------------------------------------------------------------------------------------


def conditionals(model: NextTokenLogits, prefix: list[int]) -> list[float]:
    ids = torch.tensor([prefix], dtype=torch.int64)
    return list(model(ids)[0].double().log_softmax(-1).tolist())


def enumerate_all(
    model: NextTokenLogits, prompt: list[int], steps: int, end: int | None
) -> dict[tuple[int, ...], float]:
    """Log-probability of the new tokens of every sequence that has ended or is full."""
    if steps == 0 or (end is not None and prompt[-1:] == [end]):
        return {(): 0.0}
    found = {}
    for token, log_prob in enumerate(conditionals(model, prompt)):
        for rest, log_prob_rest in enumerate_all(model, [*prompt, token], steps - 1, end).items():
            found[(token, *rest)] = log_prob + log_prob_rest
    return found


def plain_beam_search(
    model: NextTokenLogits, prompt: list[int], width: int, steps: int, end: int | None, alpha: float
) -> list[tuple[list[int], float, float]]:
    """The rules in lists, and no early stop: new tokens, log-probability, score."""
    running: list[tuple[list[int], float]] = [([], 0.0)]
    finished = []
    for length in range(1, steps + 1):
        candidates = [
            ([*new, token], log_prob + more)
            for new, log_prob in running
            for token, more in enumerate(conditionals(model, prompt + new))
            if more > -INF
        ]
        candidates = sorted(candidates, key=lambda c: -c[1])[: 2 * width]
        over = [length == steps or new[-1] == end for new, _ in candidates]
        finished += [c for c, ended in zip(candidates[:width], over, strict=False) if ended]
        running = [c for c, ended in zip(candidates, over, strict=True) if not ended][:width]
    ranked = [(new, log_prob, log_prob / len(new) ** alpha) for new, log_prob in finished]
    return sorted(ranked, key=lambda hypothesis: -hypothesis[2])[:width]


def new_tokens(row: Tensor, start: int, end: int | None) -> tuple[int, ...]:
    """New tokens up to the first end token, after which there must be no other."""
    new = row[start:].tolist()
    if end in new:
        length = new.index(end) + 1
        assert new[length:] == [end] * (len(new) - length)
        new = new[:length]
    return tuple(new)


def as_list(beams: Beams, start: int, end: int | None) -> list[tuple[list[int], float, float]]:
    rows = [list(new_tokens(row, start, end)) for row in beams.ids]
    return list(zip(rows, beams.log_probs.tolist(), beams.scores.tolist(), strict=True))


# Beam search --------------------------------------------------------------------------------------


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
    st.sampled_from([None, 0, 1]),
    st.sampled_from(ALPHAS),
)
def test_beam_search_stops_early_only_when_nothing_can_change(
    seed: int, vocabulary: int, steps: int, width: int, end: int | None, alpha: float
) -> None:
    # Sequences of a Markov model that take the same steps in another order are equally probable.
    model = hashed(vocabulary, seed)
    expected = plain_beam_search(model, [0, 1], width, steps, end, alpha)
    beams = beam_search(
        model,
        torch.tensor([0, 1]),
        width=width,
        max_new_tokens=steps,
        end_token=end,
        length_penalty=alpha,
    )
    found = as_list(beams, 2, end)
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


# Greedy search ------------------------------------------------------------------------------------


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


# Precision ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_log_probs_have_the_digits_of_float32_whatever_the_logits(dtype: torch.dtype) -> None:
    """Half-precision logits are exact numbers; only what is computed from them is rounded."""
    model = markov(6, dtype=dtype)
    beams = beam_search(model, torch.tensor([0]), width=3, max_new_tokens=6)
    exact = model(torch.arange(6).unsqueeze(-1)).double().log_softmax(-1)
    for ids, log_prob in zip(beams.ids.tolist(), beams.log_probs.tolist(), strict=True):
        recomputed = math.fsum(exact[i, j].item() for i, j in pairwise(ids))
        assert log_prob == pytest.approx(recomputed, rel=0, abs=OFF * unit(arithmetic(dtype)))


# Batches ------------------------------------------------------------------------------------------

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


# Sampling -----------------------------------------------------------------------------------------


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


# Rejected input -----------------------------------------------------------------------------------

Decoder = Callable[..., Any]
DECODERS: dict[str, Decoder] = {
    "greedy_search": greedy_search,
    "sample_sequence": sample_sequence,
    "beam_search": lambda *args, **options: beam_search(*args, **{"width": 2, **options}),
}
decoders = pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS.keys())


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int64)


PROMPT = "prompt must have the shape (N,) or (B, N), B >= 1, got "
REJECTED: list[tuple[str, Any, Any, type[Exception], str]] = [
    ("prompt", [0], zeros(1), TypeError, "prompt must be an int64 tensor of token ids, got [0]"),
    ("prompt", zeros(1).int(), zeros(1), TypeError, "got tensor([0], dtype=torch.int32)"),
    ("prompt", zeros(), zeros(1), ValueError, PROMPT + "()"),
    ("prompt", zeros(1, 1, 1), zeros(1, 1), ValueError, PROMPT + "(1, 1, 1)"),
    ("prompt", zeros(0, 1), zeros(1, 1), ValueError, PROMPT + "(0, 1)"),
    ("max_new_tokens", 0, 1, ValueError, "max_new_tokens must be at least 1, got 0"),
    ("max_new_tokens", True, 1, TypeError, "max_new_tokens must be an int, got True"),
    ("max_new_tokens", 2.0, 2, TypeError, "max_new_tokens must be an int, got 2.0"),
    ("end_token", 1.0, 1, TypeError, "end_token"),
    ("end_token", True, 1, TypeError, "end_token"),
]


@decoders
@pytest.mark.parametrize(("name", "bad", "good", "error", "message"), REJECTED)
def test_bad_arguments_are_rejected_next_to_good_ones(
    decode: Decoder, name: str, bad: Any, good: Any, error: type[Exception], message: str
) -> None:
    def call(value: Any) -> Any:
        arguments = {"prompt": zeros(1), "max_new_tokens": 2, name: value}
        return decode(markov(3), arguments.pop("prompt"), **arguments)

    call(good)
    with pytest.raises(error, match=re.escape(message)):
        call(bad)


SHAPE = "next_token_logits must return logits of shape (2, V) for ids of shape (2, 1), got "


@decoders
@pytest.mark.parametrize(
    ("logits", "error", "message"),
    [
        (torch.zeros(3), ValueError, SHAPE + "(3,)"),
        (torch.zeros(1, 3), ValueError, SHAPE + "(1, 3)"),
        (torch.zeros(2, 1, 3), ValueError, SHAPE + "(2, 1, 3)"),
        ([0.5], ValueError, SHAPE + "[0.5]"),
        (zeros(2, 3), TypeError, "logits must have a floating dtype, got torch.int64"),
        (torch.full((2, 3), -INF), ValueError, "logits of a row are all -inf"),
        (torch.full((2, 3), NAN), ValueError, "logits of a row hold nan"),
        (torch.full((2, 3), INF), ValueError, "logits of a row hold +inf"),
    ],
)
def test_what_the_model_returns_is_checked(
    decode: Decoder, logits: Any, error: type[Exception], message: str
) -> None:
    decode(lambda _: torch.zeros(2, 3), zeros(2, 1), max_new_tokens=1)
    with pytest.raises(error, match=re.escape(message)):
        decode(lambda _: logits, zeros(2, 1), max_new_tokens=1)


@pytest.mark.parametrize(
    ("name", "bad", "good", "error", "message"),
    [
        ("width", 0, 1, ValueError, "width must be at least 1, got 0; 1 is greedy search"),
        ("width", True, 1, TypeError, "width must be an int such as 4, got True"),
        ("width", 2.0, 2, TypeError, "width must be an int such as 4, got 2.0"),
        ("length_penalty", INF, 9.0, ValueError, "length_penalty must lie in [-10, 10], got inf"),
        ("length_penalty", -INF, -9, ValueError, "must lie in [-10, 10], got -inf; 0 leaves"),
        ("length_penalty", NAN, 0, ValueError, "length_penalty must lie in [-10, 10], got nan"),
        ("length_penalty", 10.5, 10, ValueError, "length_penalty must lie in [-10, 10], got 10.5"),
        ("length_penalty", "a", 1, TypeError, "length_penalty must be a number such as 1.0, got"),
    ],
)
def test_beam_search_rejects(
    name: str, bad: Any, good: Any, error: type[Exception], message: str
) -> None:
    options = {"width": 2, "max_new_tokens": 2}
    beam_search(markov(3), zeros(1), **{**options, name: good})
    with pytest.raises(error, match=re.escape(message)):
        beam_search(markov(3), zeros(1), **{**options, name: bad})


FOR_EACH = "for a prompt of 2 rows; give one for all rows, or one for each"


@pytest.mark.parametrize(
    ("name", "bad", "good", "message"),
    [
        ("generator", [generator()], [generator()] * 2, f"1 generators {FOR_EACH}"),
        ("generator", [], generator(), f"0 generators {FOR_EACH}"),
        (
            "temperature",
            torch.ones(3),
            torch.ones(2),
            "temperature must be a number or have the shape (2,) of the prompt's rows, got shape "
            "(3,)",
        ),
        ("temperature", -1.0, 0.5, "temperature must be >= 0, got [-1.0]"),
        ("top_k", 4, 3, "k must lie in [1, 3], the size of the vocabulary, got 4"),
        ("top_p", 0, 1, "p must lie in (0, 1], got 0"),
        ("min_p", 1.5, 0.5, "p must lie in (0, 1], got 1.5"),
    ],
)
def test_sample_sequence_rejects(name: str, bad: Any, good: Any, message: str) -> None:
    options: dict[str, Any] = {"max_new_tokens": 2}
    sample_sequence(markov(3), zeros(2, 1), **options, **{name: good})
    with pytest.raises(ValueError, match=re.escape(message)):
        sample_sequence(markov(3), zeros(2, 1), **options, **{name: bad})


def test_a_batch_of_one_prompt_stays_a_batch() -> None:
    alone = beam_search(markov(3), zeros(1), width=2, max_new_tokens=2)
    batch = beam_search(markov(3), zeros(1, 1), width=2, max_new_tokens=2)
    for one, row in zip(alone, batch, strict=True):
        assert torch.equal(row, one.unsqueeze(0))


def test_lengths_are_not_corrected_unless_asked_for() -> None:
    options: dict[str, Any] = {"width": 3, "max_new_tokens": 4, "end_token": 0}
    plain = beam_search(markov(3), zeros(1) + 1, **options)
    zero, one = (
        beam_search(markov(3), zeros(1) + 1, length_penalty=penalty, **options)
        for penalty in (0.0, 1.0)
    )
    assert torch.equal(plain.scores, zero.scores)
    assert not torch.equal(plain.scores, one.scores)


def test_a_wrong_prompt_is_named_whatever_else_is_given() -> None:
    options: dict[str, Any] = {"max_new_tokens": 2, "generator": [generator()]}
    sample_sequence(markov(3), zeros(1), **options)
    with pytest.raises(TypeError, match="prompt must be an int64 tensor"):
        sample_sequence(markov(3), [0], **options)  # type: ignore[arg-type]


# Keys and values that are kept --------------------------------------------------------------------


class Counted:
    """A network's kept logits, and how many tokens went through the network."""

    def __init__(self, network: Any) -> None:
        self.tokens = 0
        embeddings = network.get_input_embeddings()
        self._hook = embeddings.register_forward_pre_hook(self._count)
        self.call = CachedLogits(network)

    def _count(self, _: Any, args: tuple[Tensor, ...]) -> None:
        self.tokens += args[0].numel()

    def __call__(self, ids: Tensor) -> tuple[Tensor, int]:
        self.tokens = 0
        return self.call(ids), self.tokens

    def close(self) -> None:
        self._hook.remove()


@pytest.fixture(scope="module")
def tiny() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=20,
        initializer_range=0.4,  # so that the logits of two contexts differ by far
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def model(one_thread: None) -> LanguageModel:
    return load_language_model()


@pytest.fixture
def counted_tiny(tiny: Any) -> Iterator[Counted]:
    counted = Counted(tiny)
    yield counted
    counted.close()


@pytest.mark.parametrize("seed", range(8))
def test_kept_keys_and_values_change_no_logits(counted_tiny: Counted, tiny: Any, seed: int) -> None:
    """A random walk: rows are reordered, dropped, repeated, extended, or replaced by others."""
    source = generator(seed)
    ids, stepped = torch.randint(20, (3, 4), generator=source), 0
    counted_tiny(ids)
    for _ in range(40):
        kind = int(torch.randint(5, (), generator=source))
        rows = torch.randint(len(ids), (int(torch.randint(1, 5, (), generator=source)),))
        longer = [ids[rows], torch.randint(20, (len(rows), 1), generator=source)]
        if kind < 4 and ids.shape[1] < 12:
            ids, expected = torch.cat(longer, dim=1), len(rows)
            stepped += 1
        else:
            shape = (len(rows), int(torch.randint(2, 6, (), generator=source)))
            known = {tuple(row) for row in ids.tolist()}
            ids = torch.randint(20, shape, generator=source)
            assert not {tuple(row[:-1]) for row in ids.tolist()} & known
            expected = ids.numel()
        logits, tokens = counted_tiny(ids)
        with torch.no_grad():
            whole = tiny(ids, use_cache=False).logits[:, -1]
        torch.testing.assert_close(logits, whole, rtol=0, atol=1e-4)
        assert tokens == expected
    assert stepped > 20


def test_one_row_that_extends_nothing_sends_all_through_the_network(counted_tiny: Counted) -> None:
    ids = torch.arange(8).reshape(2, 4)
    assert counted_tiny(ids)[1] == 8
    assert counted_tiny(ids)[1] == 8  # the same again is no step
    more = torch.cat([ids, ids[:, :1]], dim=1)
    more[1, 0] = 19
    assert counted_tiny(more)[1] == 10
    assert counted_tiny(torch.cat([more, more], dim=1))[1] == 20
    assert counted_tiny(more[:, :2])[1] == 4


def test_a_call_that_fails_leaves_nothing_wrong_behind(counted_tiny: Counted, tiny: Any) -> None:
    ids = torch.tensor([[1, 2, 3]])
    counted_tiny(ids)
    with pytest.raises(IndexError):  # a token that is not in the vocabulary
        counted_tiny(torch.tensor([[20]]))
    longer = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        whole = tiny(longer, use_cache=False).logits[:, -1]
    torch.testing.assert_close(counted_tiny(longer)[0], whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ([[1]], TypeError, "ids must be an int64 tensor of token ids, got [[1]]"),
        (torch.ones(1, 1), TypeError, "ids must be an int64 tensor of token ids"),
        (zeros(1, 0), ValueError, "(N,) or (B, N) with N >= 1, got (1, 0)"),
        (zeros(0, 1), ValueError, "(N,) or (B, N) with N >= 1, got (0, 1)"),
        (zeros(1, 1, 1), ValueError, "(N,) or (B, N) with N >= 1, got (1, 1, 1)"),
    ],
)
def test_kept_logits_reject(tiny: Any, bad: Any, error: type[Exception], message: str) -> None:
    CachedLogits(tiny)(zeros(1, 1))
    with pytest.raises(error, match=re.escape(message)):
        CachedLogits(tiny)(bad)


# The real model -----------------------------------------------------------------------------------


def test_the_real_model_steps_and_gives_the_logits_of_the_whole(model: LanguageModel) -> None:
    counted = Counted(model.network)
    ids = torch.stack([model.encode(t) for t in ("One, two, three,", "Red, green, blue,")])
    columns = torch.tensor([[28], [198], [260]])
    try:
        for rows, new in ([0, 1], 12), ([1, 0], 2), ([1, 0, 1], 3), ([2], 1), ([0, 0], 2):
            if new < 12:
                ids = torch.cat([ids[rows], columns[: len(rows)]], dim=1)
            logits, tokens = counted(ids)
            assert tokens == new
            torch.testing.assert_close(logits, model.logits(ids)[:, -1], rtol=0, atol=ROUNDING)
    finally:
        counted.close()


CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("texts", "end", "alpha"),
    [
        (("The capital of France is", "Once upon a time there"), None, 0.0),
        ((CHAT.format("Is water wet? Yes or no?"), CHAT.format("Is fire hot? Yes or no?")), 2, 1.0),
    ],
    ids=["no end token", "end token"],
)
def test_decoding_is_that_of_transformers(
    model: LanguageModel, texts: tuple[str, str], end: int | None, alpha: float
) -> None:
    prompt = torch.stack([model.encode(text) for text in texts])
    options: dict[str, Any] = {
        "attention_mask": torch.ones_like(prompt),
        "max_new_tokens": 16,
        "do_sample": False,
        "eos_token_id": end,
        "pad_token_id": 2,
    }
    greedy = greedy_search(model.cached(), prompt, max_new_tokens=16, end_token=end)
    assert greedy.tolist() == model.network.generate(prompt, **options).tolist()

    theirs = model.network.generate(
        prompt,
        num_beams=4,
        num_return_sequences=4,
        early_stopping="never",
        length_penalty=alpha,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    ours = beam_search(
        model.cached(), prompt, width=4, max_new_tokens=16, end_token=end, length_penalty=alpha
    )
    assert ours.ids.flatten(0, 1).tolist() == theirs.sequences.tolist()
    # Errors of 16 log-probabilities add up like the root of their number.
    near = partial(torch.testing.assert_close, rtol=0, atol=4 * ROUNDING)
    near(ours.scores.flatten(), theirs.sequences_scores.double())
    for row, log_prob in zip(ours.ids[:, 0], ours.log_probs[:, 0], strict=True):
        start = prompt.shape[1]
        length = start + len(new_tokens(row, start, end))
        total = model.log_probs(row[:length])[start - 1 :].double().sum()
        near(log_prob, total)
    if end is not None:
        assert int((ours.ids[:, :, prompt.shape[1] :] == end).sum()) > 0
