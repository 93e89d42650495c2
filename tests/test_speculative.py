"""Speculative sampling: its draws by enumeration, and what it counts against a replay by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise, product
from typing import Any

import pytest
import scipy.stats
import torch
from strategies import SINGLE_DOUBLE, exactly, inner, shares, total, unit
from torch import Tensor

from omnivault import speculative
from omnivault.speculative import SpeculativeText, accept_or_redraw, speculative_sequence

# How often another seed would fail the test of a sampler that is right.
FALSE_ALARM = 1e-3

dtypes = pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)

pytestmark = pytest.mark.usefixtures("one_thread")

Model = Callable[[Tensor], Tensor]
Supply = Callable[..., None]
LARGEST = 1 - 2.0**-53


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def supply(monkeypatch: pytest.MonkeyPatch) -> Supply:
    """Sets what the next calls of ``torch.rand`` return."""

    def supply(*numbers: Tensor) -> None:
        queue = list(numbers)

        def rand(*shape: Any, **_: Any) -> Tensor:
            values = queue.pop(0)
            assert math.prod(torch.Size(shape[0] if len(shape) == 1 else shape)) == values.numel()
            return values

        monkeypatch.setattr(torch, "rand", rand)

    return supply


# One token ----------------------------------------------------------------------------------------

# Target and draft, in whole shares. Every p/q and every share of what is left is a whole number of
# eighths, or the draft never draws the token.
PAIRS = [
    pytest.param((1, 1, 2, 4), (4, 2, 1, 1), id="another order"),
    pytest.param((1, 1, 1, 5), (2, 4, 1, 1), id="one left"),
    pytest.param((4, 1, 1, 2), (8, 0, 0, 0), id="a certain draft"),
    pytest.param((0, 0, 0, 8), (2, 2, 2, 2), id="a certain target"),
    pytest.param((4, 4, 0, 0), (0, 0, 4, 4), id="disjoint"),
    pytest.param((1, 3, 4, 0), (1, 3, 4, 0), id="equal"),
    pytest.param((4, 0, 4, 0), (4, 4, 0, 0), id="half in common"),
]


@pytest.mark.parametrize(("target", "draft"), PAIRS)
@dtypes
def test_over_all_numbers_the_draws_have_exactly_the_distribution_of_the_target(
    target: tuple[int, ...], draft: tuple[int, ...], dtype: torch.dtype, supply: Supply
) -> None:
    p, q = shares(*target), shares(*draft)
    drafts = [x for x in range(4) if q[x] > 0]
    # Each drafted token with eight numbers that accept and, for each, eight that redraw.
    grid = list(product(drafts, range(8), range(8)))
    x, u, v = (torch.tensor(column) for column in zip(*grid, strict=True))
    rows = [
        torch.tensor([float(w) for w in row], dtype=dtype).expand(len(grid), 4) for row in (p, q)
    ]
    supply(u.double() / 8, torch.stack([torch.zeros(len(grid)), v / 8], -1).double())
    tokens, accepted = accept_or_redraw(rows[0], rows[1], x)
    assert tokens.dtype is torch.int64
    assert accepted.dtype is torch.bool

    chance = [Fraction(0)] * 4
    kept = Fraction(0)
    for (drafted, _, _), token, stays in zip(grid, tokens.tolist(), accepted.tolist(), strict=True):
        chance[token] += q[drafted] / 64
        kept += stays * q[drafted] / 64
        assert not stays or token == drafted
    assert tuple(chance) == p
    # No coupling of the two distributions keeps more.
    assert kept == total(min(a, b) for a, b in zip(p, q, strict=True))


def accept_by_definition(
    p: list[Fraction], q: list[Fraction], drafted: int, u: float, v: float
) -> tuple[int, bool]:
    if Fraction(u) * q[drafted] < p[drafted]:
        return drafted, True
    rest = [max(Fraction(0), a - b) for a, b in zip(p, q, strict=True)]
    if not any(rest):
        rest = p
    so_far = Fraction(0)
    for i, weight in enumerate(rest):
        so_far += weight
        if so_far > Fraction(v) * total(rest):
            return i, False
    raise AssertionError("no cumulative sum exceeds the product")


@dtypes
def test_chosen_numbers_give_the_token_of_the_definition(
    dtype: torch.dtype, supply: Supply
) -> None:
    g = generator(1)
    for vocabulary in (1, 2, 7, 100):
        weights = torch.randint(0, 5, (2, 200, vocabulary), generator=g).double()
        weights[..., 0] += 1
        # Multiples of 2^-10, of which differences and sums are exact.
        p, q = (
            torch.floor(1024 * w / w.sum(-1, keepdim=True)).div(1024).to(dtype) for w in weights
        )
        drafted = torch.multinomial(q, 1, generator=g).squeeze(-1)
        u = torch.randint(0, 2**20, (200, 3), generator=g).double() / 2**20
        u[0], u[1] = 0.0, LARGEST
        supply(u[:, 0], u[:, 1:])
        tokens, accepted = accept_or_redraw(p, q, drafted)
        expected = [
            accept_by_definition(exactly(p[n]), exactly(q[n]), int(drafted[n]), *u[n, ::2].tolist())
            for n in range(200)
        ]
        assert list(zip(tokens.tolist(), accepted.tolist(), strict=True)) == expected


@dtypes
def test_equal_distributions_accept_whatever_the_numbers(
    dtype: torch.dtype, supply: Supply
) -> None:
    p = torch.randn(64, 300, generator=generator(), dtype=dtype).mul(3).softmax(-1)
    p[:, 7] = 0
    drafted = p.argmax(-1)
    drafted[::2] = 8
    supply(torch.full((64,), LARGEST).double().fill_(LARGEST), torch.full((64, 2), 0.5).double())
    tokens, accepted = accept_or_redraw(p, p.clone(), drafted)
    assert bool(accepted.all())
    assert torch.equal(tokens, drafted)


@dtypes
def test_disjoint_distributions_reject_whatever_the_numbers(
    dtype: torch.dtype, supply: Supply
) -> None:
    p = torch.rand(64, 300, generator=generator(), dtype=dtype) + 0.1
    q = p.flip(-1).clone()
    p[:, 150:] = 0
    q[:, :150] = 0
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    drafted = q.argmax(-1)
    v = torch.rand(64, 2, generator=generator(), dtype=torch.float64)
    supply(torch.zeros(64, dtype=torch.float64), v)
    tokens, accepted = accept_or_redraw(p, q, drafted)
    assert not bool(accepted.any())
    assert bool((tokens < 150).all())
    assert bool((p.gather(1, tokens.unsqueeze(1)) > 0).all())


def test_a_token_that_the_target_rules_out_is_rejected_even_with_zero(supply: Supply) -> None:
    p, q = torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5])
    supply(torch.tensor(0.0, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64))
    token, accepted = accept_or_redraw(p, q, torch.tensor(0))
    assert (int(token), bool(accepted)) == (1, False)


def test_a_rejection_that_leaves_nothing_by_rounding_is_drawn_from_the_target(
    supply: Supply,
) -> None:
    # Sums of rounded numbers need not be 1: nowhere is p above q, and somewhere below.
    q = torch.tensor([0.5, 0.5], dtype=torch.float64)
    p = torch.tensor([0.5, 0.5 - 2**-40], dtype=torch.float64)
    supply(torch.tensor([LARGEST, 0.5], dtype=torch.float64), torch.zeros(2, 2).double())
    tokens, accepted = accept_or_redraw(p.expand(2, 2), q.expand(2, 2), torch.tensor([1, 1]))
    assert tokens.tolist() == [0, 1]
    assert accepted.tolist() == [False, True]


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (0,), (2, 0)])
def test_the_shapes_of_what_is_returned(shape: tuple[int, ...]) -> None:
    p, q = torch.rand(2, *shape, 10, generator=generator()).softmax(-1)
    tokens, accepted = accept_or_redraw(
        p, q, torch.zeros(shape, dtype=torch.int64), generator=generator()
    )
    assert tokens.shape == accepted.shape == shape


def test_inputs_are_left_alone_and_the_global_generator_too() -> None:
    p, q = torch.randn(2, 50, 20, generator=generator()).softmax(-1)
    drafted = torch.multinomial(q, 1, generator=generator()).squeeze(-1)
    before = [x.clone() for x in (p, q, drafted)]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = accept_or_redraw(p, q, drafted, generator=generator(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(*pair) for pair in zip(before, (p, q, drafted), strict=True))
    again = accept_or_redraw(p, q, drafted)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not torch.equal(torch.get_rng_state(), state)


@dtypes
def test_draws_have_the_distribution_of_the_target(dtype: torch.dtype) -> None:
    p, q = torch.randn(2, 20, generator=generator(4), dtype=dtype).mul(2).softmax(-1)
    g, n = generator(5), 100_000
    drafted = torch.multinomial(q, n, replacement=True, generator=g)
    tokens, accepted = accept_or_redraw(p.expand(n, 20), q.expand(n, 20), drafted, generator=g)
    counts = tokens.bincount(minlength=20)
    expected = n * p.double() / p.double().sum()
    assert expected.min() >= 5
    assert scipy.stats.chisquare(counts, expected).pvalue > FALSE_ALARM
    overlap = float(torch.minimum(p, q).double().sum())
    assert scipy.stats.binomtest(int(accepted.sum()), n, overlap).pvalue > FALSE_ALARM


ROWS = torch.tensor([[0.5, 0.5], [1.0, 0.0]])


def shapes(*three: str) -> str:
    return (
        "p, q and drafted must have the shapes (..., V), (..., V) and (...), got "
        f"{three[0]}, {three[1]} and {three[2]}"
    )


@pytest.mark.parametrize(
    ("p", "q", "drafted", "message"),
    [
        (ROWS, ROWS[0], torch.tensor([0, 0]), shapes("(2, 2)", "(2,)", "(2,)")),
        (ROWS, ROWS, torch.tensor(0), shapes("(2, 2)", "(2, 2)", "()")),
        (ROWS, ROWS, torch.tensor([[0, 0]]), shapes("(2, 2)", "(2, 2)", "(1, 2)")),
        (ROWS, torch.ones(2, 3) / 3, torch.tensor([0, 0]), shapes("(2, 2)", "(2, 3)", "(2,)")),
        (
            ROWS,
            ROWS,
            torch.tensor([0, 1]),
            "the draft cannot have drawn [1], to which it gives probability 0; pass the "
            "probabilities that it was drawn from",
        ),
    ],
)
def test_what_cannot_be_is_shown_beside_what_can(
    p: Tensor, q: Tensor, drafted: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        accept_or_redraw(p, q, drafted)
    tokens, _ = accept_or_redraw(ROWS, ROWS, torch.tensor([1, 0]))
    assert tokens.tolist() == [1, 0]


# A text -------------------------------------------------------------------------------------------


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


def counts(text: SpeculativeText) -> tuple[int, int, int]:
    return text.proposed, text.accepted, text.rounds


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
def test_both_models_are_divided_by_the_temperature(
    temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def spy(p: Tensor, q: Tensor, drafted: Tensor, **rest: Any) -> tuple[Tensor, Tensor]:
        tokens, accepted = accept_or_redraw(p, q, drafted, **rest)
        seen.append((p, q, tokens))
        return tokens, accepted

    monkeypatch.setattr(speculative, "accept_or_redraw", spy)
    target, draft = table(1), table(2)
    text = speculative_sequence(
        target,
        draft,
        torch.tensor([3]),
        max_new_tokens=40,
        temperature=temperature,
        generator=generator(),
    )
    assert len(seen) == text.proposed
    for p, q, _ in seen:
        rows = range(5)
        assert any(
            torch.equal(p, (target(torch.tensor(r)) / temperature).softmax(-1)) for r in rows
        )
        assert any(torch.equal(q, (draft(torch.tensor(r)) / temperature).softmax(-1)) for r in rows)


def test_the_rows_of_the_target_are_those_before_the_proposals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows: list[tuple[int, int]] = []

    def spy(p: Tensor, q: Tensor, drafted: Tensor, **rest: Any) -> tuple[Tensor, Tensor]:
        rows.append((int(p.argmax()), int(q.argmax())))
        return accept_or_redraw(p, q, drafted, **rest)

    monkeypatch.setattr(speculative, "accept_or_redraw", spy)
    # Each row says at which position it stands: both must say the same, once each.
    model = written(lambda n: n, vocabulary=30)
    speculative_sequence(model, model, torch.arange(3), max_new_tokens=20, lookahead=4)
    # The fifth of each round is the target's own, and is not proposed.
    assert rows == [(n, n) for n in range(3, 23) if (n - 2) % 5]


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
                f"temperature must be > 0, got {number}; for T -> 0 use greedy_search",
                {"temperature": 1e-3},
            )
            for number in (0, -0.5, math.nan)
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
