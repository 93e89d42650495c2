from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor

from omnivault import speculative
from omnivault.inverse_cdf import draw_rows
from omnivault.softmax import softmax
from omnivault.speculative import speculative_sequence
from tests.package.speculative.common import FALSE_ALARM, counts, generator
from tests.support.strategies import inner, unit

Model = Callable[[Tensor], Tensor]


class Recorded:
    """A model that notes how many tokens it was given in each call."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.lengths: list[int] = []

    def __call__(self, ids: Tensor) -> Tensor:
        assert ids.ndim == 1
        assert ids.dtype is torch.int64
        self.lengths.append(len(ids))
        return self.model(ids)


def table(seed: int, vocabulary: int = 5, spread: float = 1.0) -> Model:
    """The next token depends on the last one alone."""
    rows = spread * torch.randn(vocabulary, vocabulary, generator=generator(seed))
    return lambda ids: rows[ids]


def written(tokens: Callable[[int], int], vocabulary: int = 7) -> Model:
    """At position n (the prompt begins at 0) comes ``tokens(n)``, for certain."""

    def model(ids: Tensor) -> Tensor:
        next_tokens = torch.tensor([tokens(n + 1) for n in range(len(ids))])
        return torch.where(torch.arange(vocabulary) == next_tokens.unsqueeze(1), 0.0, -torch.inf)

    return model


lookaheads = pytest.mark.parametrize("lookahead", [1, 2, 3, 4, 7, 30])


@lookaheads
@pytest.mark.parametrize("prompt", [1, 4])
def test_a_text_has_the_length_asked_for_and_its_counts_fit(lookahead: int, prompt: int) -> None:
    ids = torch.arange(prompt)
    for max_new_tokens in (1, 2, 3, 5, 8, 13, 21):
        target, draft = Recorded(table(1)), Recorded(table(2))
        text = speculative_sequence(
            target,
            draft,
            ids,
            max_new_tokens=max_new_tokens,
            lookahead=lookahead,
            generator=generator(max_new_tokens),
        )
        assert text.ids.shape == (prompt + max_new_tokens,)
        assert text.ids.dtype is torch.int64
        assert torch.equal(text.ids[:prompt], ids)
        assert 0 <= text.accepted <= text.proposed <= text.rounds * lookahead
        # A round writes what it accepts and one token more, unless the text ends before.
        assert text.accepted + text.rounds - 1 <= max_new_tokens <= text.accepted + text.rounds
        # At most one proposal of a round is rejected.
        assert text.proposed - text.accepted <= text.rounds
        assert len(target.lengths) == text.rounds
        # Before each call of the target the draft writes on, one token after the other.
        expected, left = [], list(draft.lengths)
        start = prompt
        for read in target.lengths:
            written_here = min(lookahead, prompt + max_new_tokens - start)
            assert left[:written_here] == list(range(start, start + written_here))
            del left[:written_here]
            assert read == start + written_here
            expected.append(start)
            start = left[0] if left else prompt + max_new_tokens
        assert left == []
        assert all(1 <= b - a <= lookahead + 1 for a, b in pairwise(expected))
    assert ids.tolist() == list(range(prompt))


@lookaheads
@pytest.mark.parametrize("spread", [0.1, 3.0])
def test_a_draft_that_is_the_target_is_always_accepted(lookahead: int, spread: float) -> None:
    for max_new_tokens in (1, 2, 4, 5, 6, 24, 31):
        target, draft = Recorded(table(3, spread=spread)), Recorded(table(3, spread=spread))
        text = speculative_sequence(
            target,
            draft,
            torch.tensor([0]),
            max_new_tokens=max_new_tokens,
            lookahead=lookahead,
            generator=generator(lookahead),
        )
        rounds = math.ceil(max_new_tokens / (lookahead + 1))
        # Every round but one that ends with its proposals has a token of the target at its end.
        own = max_new_tokens // (lookahead + 1)
        assert counts(text) == (max_new_tokens - own, max_new_tokens - own, rounds)
        assert len(target.lengths) == rounds
        assert len(draft.lengths) == max_new_tokens - own


def replay(
    target: Callable[[int], int], draft: Callable[[int], int], new: int, lookahead: int
) -> tuple[int, int, int]:
    """The counts for two models that are certain, by hand."""
    position = proposed = accepted = rounds = 0
    while position < new:
        rounds += 1
        proposals = min(lookahead, new - position)
        agree = 0
        while agree < proposals and draft(position + agree + 1) == target(position + agree + 1):
            agree += 1
        accepted += agree
        proposed += min(agree + 1, proposals)
        position = min(position + agree + 1, new)
    return proposed, accepted, rounds


@lookaheads
@pytest.mark.parametrize("every", [1, 2, 3, 5, 100])
def test_certain_models_give_the_text_of_the_target_and_the_counts_of_a_replay(
    lookahead: int, every: int
) -> None:
    def right(n: int) -> int:
        return n * n % 7

    def wrong_at_times(n: int) -> int:
        return (n * n + (n % every == 0)) % 7

    for new in (1, 2, 6, 19):
        text = speculative_sequence(
            written(right),
            written(wrong_at_times),
            torch.tensor([0]),
            max_new_tokens=new,
            lookahead=lookahead,
            generator=generator(),
        )
        assert text.ids.tolist() == [right(n) for n in range(new + 1)]
        assert counts(text) == replay(right, wrong_at_times, new, lookahead)


def test_a_draft_that_is_always_wrong_needs_a_call_for_each_token() -> None:
    text = speculative_sequence(
        written(lambda n: 1),
        written(lambda n: 2),
        torch.tensor([0]),
        max_new_tokens=9,
        lookahead=3,
    )
    assert text.ids.tolist() == [0] + [1] * 9
    assert counts(text) == (9, 0, 9)


def test_four_are_proposed_unless_said_otherwise_at_temperature_one() -> None:
    settings: dict[str, Any] = {"max_new_tokens": 30}
    said: dict[str, Any] = {"lookahead": 4, "temperature": 1.0}
    one, other = (
        speculative_sequence(
            table(1), table(2), torch.tensor([0]), **settings, **more, generator=generator(2)
        )
        for more in ({}, said)
    )
    assert torch.equal(one.ids, other.ids)
    assert counts(one) == counts(other)


@pytest.mark.parametrize("temperature", [0.3, 1, 2.5])
def test_proposals_are_drawn_from_the_draft_divided_by_the_temperature(
    temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, draft = table(1), table(2)
    asked: list[Tensor] = []
    seen: list[tuple[Tensor, Tensor]] = []

    def drafting(ids: Tensor) -> Tensor:
        asked.append(ids)
        return draft(ids)

    def spy(rows: Tensor, source: Any) -> Tensor:
        if asked:  # what follows an answer of the draft is a draw from it
            seen.append((asked.pop(), rows[0].clone()))
        return draw_rows(rows, source)

    monkeypatch.setattr(speculative, "draw_rows", spy)
    speculative_sequence(
        target,
        drafting,
        torch.tensor([3]),
        max_new_tokens=40,
        temperature=temperature,
        generator=generator(),
    )
    assert len(seen) > 30
    for ids, row in seen:
        # Of a shift, a quotient, an exponential and a sum of five, in either.
        off = 64 * unit(torch.float32)
        expected = softmax(draft(ids)[-1], temperature=temperature)
        torch.testing.assert_close(row, expected, rtol=off, atol=0)


def test_near_zero_temperature_the_text_is_the_greedy_one() -> None:
    target = table(5, vocabulary=50)
    expected = [7]
    for _ in range(25):
        expected.append(int(target(torch.tensor(expected[-1])).argmax()))
    text = speculative_sequence(
        target,
        table(6, vocabulary=50),
        torch.tensor([7]),
        max_new_tokens=25,
        temperature=1e-4,
        generator=generator(),
    )
    assert text.ids.tolist() == expected


@pytest.mark.parametrize("lookahead", [1, 2, 5])
def test_texts_have_the_distribution_of_the_target(lookahead: int) -> None:
    target, draft = table(8, vocabulary=3), table(9, vocabulary=3)
    n, g = 1000, generator(lookahead)
    drawn = [
        speculative_sequence(
            target,
            draft,
            torch.tensor([0]),
            max_new_tokens=3,
            lookahead=lookahead,
            temperature=1.5,
            generator=g,
        ).ids.tolist()
        for _ in range(n)
    ]
    steps = (target(torch.arange(3)).double() / 1.5).softmax(-1).tolist()
    texts = list(product(range(3), repeat=3))
    chances = [steps[0][a] * steps[a][b] * steps[b][c] for a, b, c in texts]
    # Cells that expect fewer than 5 are pooled.
    found = [sum(text[1:] == list(cell) for text in drawn) for cell in texts]
    large = [i for i, chance in enumerate(chances) if n * chance >= 5]
    observed = [found[i] for i in large]
    expected = [n * chances[i] for i in large]
    if len(large) < len(texts):
        observed, expected = [*observed, n - sum(observed)], [*expected, n - sum(expected)]
    # 27 products of three probabilities, each to some 30 u.
    assert inner([1.0] * 27, chances) == pytest.approx(1, rel=128 * unit(torch.float64))
    assert scipy.stats.chisquare(observed, expected).pvalue > FALSE_ALARM


def test_a_generator_repeats_a_text_and_leaves_the_global_one_alone() -> None:
    def write(source: torch.Generator | None) -> list[int]:
        ids = torch.tensor([0])
        text = speculative_sequence(table(1), table(2), ids, max_new_tokens=30, generator=source)
        return text.ids.tolist()

    torch.manual_seed(4)
    state = torch.get_rng_state()
    first = write(generator(4))
    assert write(generator(4)) == first
    assert write(generator(5)) != first
    assert torch.equal(torch.get_rng_state(), state)
    assert write(None) == first
    assert not torch.equal(torch.get_rng_state(), state)


GOOD: dict[str, Any] = {"ids": torch.tensor([0]), "max_new_tokens": 3}


@pytest.mark.parametrize(
    ("bad", "message", "good"),
    [
        (
            {"ids": torch.tensor(0)},
            "ids must have the shape (N,) with N >= 1, got ()",
            {"ids": torch.tensor([0])},
        ),
        (
            {"ids": torch.zeros(0, dtype=torch.int64)},
            "ids must have the shape (N,) with N >= 1, got (0,)",
            {"ids": torch.zeros(1, dtype=torch.int64)},
        ),
        (
            {"ids": torch.zeros(1, 3, dtype=torch.int64)},
            "ids must have the shape (N,) with N >= 1, got (1, 3)",
            {"ids": torch.zeros(3, dtype=torch.int64)},
        ),
        *(
            ({name: number}, f"{name} must be at least 1, got {number}", {name: 1})
            for name in ("max_new_tokens", "lookahead")
            for number in (0, -1)
        ),
        *(
            (
                {"temperature": number},
                f"temperature must be >= 0, got {number}; 0 takes the largest logit",
                {"temperature": 0},
            )
            for number in (-0.5, math.nan)
        ),
    ],
)
def test_a_setting_out_of_range_is_shown_beside_one_in_it(
    bad: dict[str, Any], message: str, good: dict[str, Any]
) -> None:
    target = Recorded(table(1))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        speculative_sequence(target, target, **{**GOOD, **bad})
    assert target.lengths == []
    settings = {**GOOD, **good}
    text = speculative_sequence(target, target, **settings)
    assert len(text.ids) == len(settings["ids"]) + settings["max_new_tokens"]


@pytest.mark.parametrize("name", ["max_new_tokens", "lookahead"])
@pytest.mark.parametrize("bad", [True, 2.5, "4", None])
def test_a_count_that_is_no_integer_is_shown(name: str, bad: Any) -> None:
    message = f"{name} must be an int such as 4, got {bad!r}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        speculative_sequence(table(1), table(1), **{**GOOD, name: bad})


@pytest.mark.parametrize("temperature", [0, 0.7])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_without_a_softmax_are_shown_at_any_temperature(
    temperature: float, value: float
) -> None:
    def broken(ids: Tensor) -> Tensor:
        return torch.full((len(ids), 5), value)

    for target, draft in ((broken, table(1)), (table(1), broken)):
        with pytest.raises(ValueError, match=r"^logits of a row (hold|are all) "):
            speculative_sequence(target, draft, **{**GOOD, "temperature": temperature})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0, 0.7])
def test_logits_in_half_precision_are_computed_in_single(
    temperature: float, dtype: torch.dtype
) -> None:
    def write(*dtypes: torch.dtype) -> list[int]:
        def model(ids: Tensor) -> Tensor:
            logits = table(1)(ids)
            for each in dtypes:
                logits = logits.to(each)
            return logits

        settings = {**GOOD, "temperature": temperature, "generator": generator()}
        return speculative_sequence(model, model, **settings).ids.tolist()

    assert write(dtype) == write(dtype, torch.float32)
