"""What a request asks for besides a text: an end, truncations, models of two vocabularies."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor

from omnivault import speculative
from omnivault.sampling import min_p, top_k, top_n_sigma, top_p, typical_p
from omnivault.speculative import prompt_lookup, speculative_sequence
from tests.package.speculative.common import FALSE_ALARM, generator
from tests.support.strategies import unit

Model = Callable[[Tensor], Tensor]
Law = dict[tuple[int, ...], float]
CUTS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "top_k": top_k,
    "top_n_sigma": top_n_sigma,
    "top_p": top_p,
    "min_p": min_p,
}


def logits(seed: int, vocabulary: int, rows: int = 6) -> Tensor:
    return torch.randn(rows, vocabulary, generator=generator(seed), dtype=torch.float64)


def table(seed: int, vocabulary: int) -> Model:
    """The next token depends on the last one; six of them can be read, whatever the vocabulary."""
    rows = logits(seed, vocabulary)
    return lambda ids: rows[ids]


def texts(
    rows: Tensor, prompt: int, steps: int, ends: Sequence[int], temperature: float, **dials: Any
) -> Law:
    """Every text with its probability under the truncated target, by the definitions."""
    cut = rows
    for name in ("top_k", "top_n_sigma"):
        cut = CUTS[name](cut, dials[name]) if name in dials else cut
    cut = cut / temperature
    for name in ("top_p", "min_p"):
        cut = CUTS[name](cut, dials[name]) if name in dials else cut
    if "typical_p" in dials:
        cut = typical_p(cut, dials["typical_p"])
    law: Law = {(): 1.0}
    for _ in range(steps):
        longer: Law = {}
        for text, chance in law.items():
            if text and text[-1] in ends:
                longer[text] = chance
                continue
            after = cut[text[-1] if text else prompt].softmax(-1).tolist()
            longer |= {(*text, x): chance * q for x, q in enumerate(after) if q}
        law = longer
    return law


class Branches:
    """Every choice in turn: run again and again, each time along another path."""

    def __init__(self) -> None:
        self.path: list[int] = []
        self.chance, self.depth = 1.0, 0

    def runs(self) -> Iterator[None]:
        while True:
            self.chance, self.depth = 1.0, 0
            self.widths: list[int] = []
            yield
            while self.path and self.path[-1] + 1 == self.widths[len(self.path) - 1]:
                self.path.pop()
            if not self.path:
                return
            self.path[-1] += 1

    def choose(self, chances: list[float]) -> int:
        """Take the next option that has a chance."""
        options = [i for i, chance in enumerate(chances) if chance > 0]
        if self.depth == len(self.path):
            self.path.append(0)
        self.widths.append(len(options))
        option = options[self.path[self.depth]]
        self.chance *= chances[option] / math.fsum(chances)
        self.depth += 1
        return option


class Coin:
    """In place of a uniform number: below p / q with that chance, whichever way is taken."""

    def __init__(self, branches: Branches) -> None:
        self.branches, self.q = branches, 1.0

    def __mul__(self, q: float) -> Coin:
        self.q = q
        return self

    def __lt__(self, p: float) -> bool:
        chance = min(1.0, p / self.q)
        return self.branches.choose([chance, 1 - chance]) == 0


def exact_law(target: Model, draft: Model, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Law:
    """The law of what is written, over all draws and all decisions."""
    branches = Branches()

    def draw(rows: Tensor, _: Any) -> Tensor:
        return torch.tensor([branches.choose(row.tolist()) for row in rows])

    def coins(rows: int, numbers: int, *_: Any) -> Any:
        assert rows == 1
        return [SimpleNamespace(tolist=lambda: [Coin(branches) for _ in range(numbers)])]

    monkeypatch.setattr(speculative, "draw_rows", draw)
    monkeypatch.setattr(speculative, "uniforms", coins)
    law: Law = defaultdict(float)
    for _ in branches.runs():
        text = speculative_sequence(target, draft, torch.tensor([0]), **settings)
        law[tuple(text.ids.tolist()[1:])] += branches.chance
    return law


def assert_same_law(found: Law, expected: Law) -> None:
    # Products and sums of some hundred numbers, each to some 30 units of rounding.
    off = 2**12 * unit(torch.float64)
    assert set(found) <= set(expected)
    for text, chance in expected.items():
        assert found.get(text, 0.0) == pytest.approx(chance, rel=off, abs=off)


both = pytest.mark.parametrize("verify", ["tokens", "block"])


@both
@pytest.mark.parametrize("lookahead", [1, 2])
@pytest.mark.parametrize(
    ("ends", "sizes", "dials"),
    [
        pytest.param([0], (3, 3), {}, id="an end"),
        pytest.param([0, 2], (3, 3), {}, id="two ends"),
        pytest.param([], (3, 3), {"top_k": 2}, id="top-k"),
        pytest.param([1], (3, 3), {"top_p": 0.7}, id="top-p and an end"),
        pytest.param([], (3, 3), {"min_p": 0.4, "top_n_sigma": 2.0}, id="two truncations"),
        pytest.param([], (3, 3), {"typical_p": 0.5}, id="typical"),
        pytest.param([], (2, 4), {}, id="the draft knows more"),
        pytest.param([], (4, 2), {}, id="the target knows more"),
        pytest.param([1], (2, 3), {"top_p": 0.8}, id="all of it"),
        pytest.param(
            [], (4, 2), {"top_k": 4}, id="all that the target knows, the draft knows less"
        ),
        pytest.param([1], (4, 2), {"top_k": 3}, id="some that the target knows, the draft less"),
        pytest.param([], (3, 4), {"top_k": 4}, id="all that the draft knows, the target less"),
        pytest.param(
            [], (4, 2), {"top_k": torch.tensor([3], dtype=torch.uint8)}, id="k in a tensor"
        ),
        pytest.param([], (4, 2), {"top_k": torch.tensor(3)}, id="k in a tensor of no dimension"),
    ],
)
def test_over_all_choices_texts_have_exactly_the_law_of_the_target(
    ends: list[int],
    sizes: tuple[int, int],
    dials: dict[str, Any],
    lookahead: int,
    verify: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = exact_law(
        table(1, sizes[0]),
        table(2, sizes[1]),
        monkeypatch,
        max_new_tokens=3,
        lookahead=lookahead,
        verify=verify,
        end_token=ends or None,
        temperature=1.5,
        **dials,
    )
    if "top_k" in dials:
        dials = {"top_k": min(int(dials["top_k"]), sizes[0])}
    expected = texts(logits(1, sizes[0]), 0, 3, ends, 1.5, **dials)
    assert len(expected) > 2
    assert_same_law(found, expected)


def propose(ids: Tensor) -> Tensor:
    """A draft without a model: now nothing, now what the target does not know."""
    return torch.tensor(
        {0: [1, 2, 0], 1: [], 2: [2, 1, 1]}[int(ids[-1])] + [7] * (len(ids) % 2)
    ).long()


@both
@pytest.mark.parametrize("lookahead", [1, 2, 3])
@pytest.mark.parametrize(
    ("ends", "dials"), [([], {}), ([1], {}), ([], {"top_k": 2}), ([2], {"top_p": 0.6})]
)
def test_proposals_that_are_certain_leave_the_law_of_the_target(
    ends: list[int],
    dials: dict[str, Any],
    lookahead: int,
    verify: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = exact_law(
        table(1, 3),
        propose,
        monkeypatch,
        max_new_tokens=3,
        lookahead=lookahead,
        verify=verify,
        end_token=ends or None,
        temperature=1.5,
        **dials,
    )
    assert_same_law(found, texts(logits(1, 3), 0, 3, ends, 1.5, **dials))


@pytest.mark.parametrize("lookahead", [1, 4, 7])
@pytest.mark.parametrize("ngram", [1, 2, 3])
def test_a_greedy_text_is_the_same_with_a_lookup_and_takes_fewer_rounds(
    lookahead: int, ngram: int
) -> None:
    target, greedy = table(1, 6), [3]
    for _ in range(40):
        greedy.append(int(target(torch.tensor(greedy[-1])).argmax()))
    text = speculative_sequence(
        target,
        lambda ids: prompt_lookup(ids, ngram),
        torch.tensor([3]),
        max_new_tokens=40,
        lookahead=lookahead,
        temperature=0,
    )
    assert text.ids.tolist() == greedy
    assert text.accepted + text.rounds in (40, 41)
    assert text.rounds < 40


def test_a_lookup_proposes_what_followed_the_last_time() -> None:
    draws = torch.Generator().manual_seed(3)
    found = 0
    for size in (0, 1, 2, 3, 8, 60):
        for ngram in (1, 2, 3, 5):
            for _ in range(20):
                ids = torch.randint(0, 3, (size,), generator=draws)
                text = ids.tolist()
                ends = range(len(text) - 1, ngram - 1, -1)
                expected = next(
                    (text[n:] for n in ends if text[n - ngram : n] == text[-ngram:]), []
                )
                proposed = prompt_lookup(ids, ngram)
                assert proposed.dtype is torch.int64
                assert proposed.tolist() == expected
                found += bool(expected)
    assert found > 100
    repeated = torch.tensor([1, 2, 3, 4, 1, 2, 3])
    assert torch.equal(prompt_lookup(repeated), prompt_lookup(repeated, 3))
    assert prompt_lookup(repeated).tolist() == [4, 1, 2, 3]


@pytest.mark.parametrize(
    ("ids", "ngram", "error", "message"),
    [
        (torch.tensor([1, 2]), 0, ValueError, "ngram must be at least 1, got 0"),
        (torch.tensor([1, 2]), 1.5, TypeError, "ngram must be an int such as 3, got 1.5"),
        (torch.tensor([[1, 2]]), 1, ValueError, r"ids must have the shape \(N,\), got \(1, 2\)"),
        (torch.tensor([1.0]), 1, TypeError, "ids must be an int64 tensor of token ids, got"),
    ],
)
def test_what_cannot_be_looked_up_is_shown(
    ids: Tensor, ngram: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}"):
        prompt_lookup(ids, ngram)
    assert prompt_lookup(torch.tensor([1, 1]), 1).tolist() == [1]


@pytest.mark.parametrize(
    ("proposed", "message"),
    [
        (torch.tensor([[1, 2]]), r"each >= 0, got tensor\(\[1, 2\].* of shape \(1, 2\)"),
        (torch.tensor(1), r"each >= 0, got tensor\(.*\) of shape \(\)"),
        (torch.tensor([1, -1]), r"each >= 0, got tensor\(\[1, -1\].* of shape \(2,\)"),
    ],
)
def test_a_proposal_that_is_no_token_is_shown(proposed: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^the draft must propose tokens of .*{message}"):
        speculative_sequence(table(1, 6), lambda ids: proposed, torch.tensor([0]), max_new_tokens=2)


def test_the_last_rows_of_the_target_are_enough() -> None:
    whole, asked = table(1, 6), []

    def last(ids: Tensor) -> Tensor:
        asked.append(len(ids))
        return whole(ids)[-5:]

    def write(target: Model) -> list[int]:
        return speculative_sequence(
            target, table(2, 6), torch.arange(6), max_new_tokens=30, generator=generator()
        ).ids.tolist()

    assert write(last) == write(whole)
    with pytest.raises(ValueError, match=r"the target .* \(10, V\) or the last 5 rows .* \(4, 6\)"):
        write(lambda ids: whole(ids)[-4:])


@pytest.mark.parametrize("verify", ["tokens", "block"])
@pytest.mark.parametrize("lookahead", [1, 3])
def test_a_draft_that_is_the_target_is_accepted_either_way(verify: str, lookahead: int) -> None:
    model = table(3, 6)
    text = speculative_sequence(
        model,
        model,
        torch.tensor([0]),
        max_new_tokens=40,
        lookahead=lookahead,
        verify=verify,
        generator=generator(1),
    )
    assert text.accepted == text.proposed == 40 - 40 // (lookahead + 1)


def test_for_one_proposal_both_ways_of_judging_are_one() -> None:
    one, other = (
        speculative_sequence(
            table(1, 6),
            table(2, 6),
            torch.tensor([0]),
            max_new_tokens=60,
            lookahead=1,
            verify=verify,
            generator=generator(2),
        )
        for verify in ("tokens", "block")
    )
    assert torch.equal(one.ids, other.ids)


def test_there_are_two_ways_of_judging() -> None:
    with pytest.raises(ValueError, match=r"^verify must be 'tokens' or 'block', got 'blocks'$"):
        speculative_sequence(
            table(1, 6), table(1, 6), torch.tensor([0]), max_new_tokens=2, verify="blocks"
        )


@both
@pytest.mark.parametrize(
    ("ends", "sizes", "dials"),
    [
        ([2], (3, 3), {"top_p": 0.9}),
        ([], (3, 5), {"min_p": 0.2}),
        ([0, 1], (4, 3), {"top_k": 3}),
    ],
)
def test_texts_that_are_drawn_have_it_too(
    ends: list[int], sizes: tuple[int, int], dials: dict[str, float], verify: str
) -> None:
    n, g = 800, generator(1)
    drawn = [
        tuple(
            speculative_sequence(
                table(3, sizes[0]),
                table(4, sizes[1]),
                torch.tensor([0]),
                max_new_tokens=3,
                lookahead=2,
                verify=verify,
                end_token=ends or None,
                generator=g,
                **dials,
            ).ids.tolist()[1:]
        )
        for _ in range(n)
    ]
    expected = texts(logits(3, sizes[0]), 0, 3, ends, 1.0, **dials)
    assert set(drawn) <= set(expected)
    large = [text for text, chance in expected.items() if n * chance >= 5]
    observed, due = [drawn.count(text) for text in large], [n * expected[text] for text in large]
    if len(large) < len(expected):
        observed, due = [*observed, n - sum(observed)], [*due, n - sum(due)]
    assert scipy.stats.chisquare(observed, due).pvalue > FALSE_ALARM


def cycle(size: int) -> Model:
    """After each token comes the next, for certain."""
    rows = torch.full((size, size), -math.inf).masked_fill(torch.eye(size).roll(1, 1) > 0, 0.0)
    return lambda ids: rows[ids]


@pytest.mark.parametrize("lookahead", [1, 2, 3, 4, 7])
def test_a_text_ends_with_the_first_end_and_nobody_writes_on(lookahead: int) -> None:
    read: list[int] = []

    def target(ids: Tensor) -> Tensor:
        read.append(len(ids))
        return cycle(9)(ids)

    text = speculative_sequence(
        target, cycle(9), torch.tensor([0]), max_new_tokens=30, lookahead=lookahead, end_token=5
    )
    assert text.ids.tolist() == [0, 1, 2, 3, 4, 5]
    assert text.proposed == text.accepted == 5 - 5 // (lookahead + 1)
    assert max(read) <= 6
    several = speculative_sequence(
        target, cycle(9), torch.tensor([0]), max_new_tokens=30, end_token=(7, 3)
    )
    assert several.ids.tolist() == [0, 1, 2, 3]


def test_an_end_in_the_prompt_ends_nothing() -> None:
    text = speculative_sequence(
        cycle(4), cycle(4), torch.tensor([2, 0, 3]), max_new_tokens=6, end_token=[3]
    )
    assert text.ids.tolist() == [2, 0, 3, 0, 1, 2, 3]


@pytest.mark.parametrize("lookahead", [1, 2, 5])
@pytest.mark.parametrize("seed", range(6))
def test_a_target_is_not_asked_to_read_what_it_does_not_know(lookahead: int, seed: int) -> None:
    """Its table has a row for each of its own three tokens, and the draft mostly writes others."""
    rows = torch.randn(3, 3, generator=generator(seed))
    text = speculative_sequence(
        lambda ids: rows[ids],
        lambda ids: torch.tensor([0.0, 0.0, 0.0, 2.0, 2.0]).expand(len(ids), 5),
        torch.tensor([0]),
        max_new_tokens=12,
        lookahead=lookahead,
        generator=generator(seed),
    )
    assert len(text.ids) == 13
    assert int(text.ids.max()) < 3


def test_an_error_of_the_target_for_tokens_that_it_knows_is_its_own() -> None:
    def broken(ids: Tensor) -> Tensor:
        if len(ids) > 1:
            raise IndexError("of its own")
        return torch.zeros(len(ids), 3)

    with pytest.raises(IndexError, match=r"^of its own$"):
        speculative_sequence(
            broken, lambda ids: torch.zeros(len(ids), 3), torch.tensor([0]), max_new_tokens=4
        )


def test_a_draft_may_return_its_last_row_alone() -> None:
    target, draft = table(1, 6), table(2, 6)

    def write(draft: Model) -> speculative.SpeculativeText:
        return speculative_sequence(
            target, draft, torch.tensor([0, 3]), max_new_tokens=20, generator=generator()
        )

    last, every = write(lambda ids: draft(ids)[-1:]), write(draft)
    assert torch.equal(last.ids, every.ids)
    assert (last.proposed, last.accepted, last.rounds) == (
        every.proposed,
        every.accepted,
        every.rounds,
    )
    with pytest.raises(
        ValueError, match=r"the draft .* \(2, V\) or \(1, V\) for 2 .*, got \(3, 6\)"
    ):
        write(lambda ids: draft(ids.new_zeros(3)))


def test_dials_that_leave_one_token_write_the_greedy_text() -> None:
    target, draft = table(1, 6), table(2, 6)
    greedy = [0]
    for _ in range(10):
        greedy.append(int(target(torch.tensor(greedy[-1])).argmax()))
    settings: list[dict[str, Any]] = [
        {"top_k": 1},
        {"top_p": 1e-6},
        {"min_p": 1.0},
        {"top_k": torch.tensor([1])},
        {"temperature": 0, "typical_p": 0.1},
    ]
    for dials in settings:
        text = speculative_sequence(
            target, draft, torch.tensor([0]), max_new_tokens=10, generator=generator(), **dials
        )
        assert text.ids.tolist() == greedy


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"top_q": 1}, TypeError, "there is no truncation 'top_q'; there are top_k, "),
        ({"top_p": 1.5}, ValueError, r"top_p must lie in \(0, 1\], got 1.5; 1 keeps every token"),
        *(
            (
                {"top_k": k},
                ValueError,
                rf"top_k must lie in \[1, 6\], the size of the vocabulary, got {shown}; 6 keeps",
            )
            for k, shown in (
                (7, "7"),
                (0, "0"),
                (10**5000, "an int of some 5000 digits"),
                (torch.tensor([7]), r"\[7\]"),
                (torch.tensor(300), r"tensor\(300\)"),
            )
        ),
        ({"top_k": 2.0}, TypeError, "top_k must be an int such as 50, got 2.0"),
        ({"top_k": True}, TypeError, "top_k must be an int such as 50, got True"),
        (
            {"top_k": [2]},
            TypeError,
            r"top_k must be an int such as 50, got \[2\]; a tensor may hold",
        ),
        ({"top_k": torch.tensor([True])}, TypeError, "top_k must hold integers such as 50, got"),
        ({"top_k": torch.tensor([2.0])}, TypeError, "top_k must hold integers such as 50, got"),
        ({"end_token": -1}, ValueError, r"end_token must lie in \[0, V\), the vocabulary, got -1"),
        ({"end_token": [5, 6]}, ValueError, r"end_token must lie in \[0, 6\), the .*, got 6"),
        ({"end_token": 10**18}, ValueError, r"end_token must lie in \[0, 6\), the vocab.*got 1000"),
        (
            {"end_token": [10**5000]},
            ValueError,
            r"end_token must lie in \[0, V\), .* an int of some",
        ),
        (
            {"end_token": {1}},
            TypeError,
            "end_token must be an int such as 2 or a list of some, got",
        ),
        ({"end_token": 1.5}, TypeError, "end_token must be an int such as 2, got 1.5"),
        (
            {"end_token": []},
            ValueError,
            r"end_token must name a token, got \[\]; None lets no token",
        ),
        ({"end_token": "ab"}, TypeError, "end_token must be an int such as 2, got 'ab'"),
        ({"end_token": [1, None]}, TypeError, "end_token must be an int such as 2, got None"),
    ],
)
def test_a_request_that_cannot_be_is_shown(
    bad: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}"):
        speculative_sequence(table(1, 6), table(2, 6), torch.tensor([0]), max_new_tokens=2, **bad)


@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize(
    "dials", [{"top_p": 1.5}, {"min_p": -1.0}, {"top_n_sigma": 0.0}, {"top_k": 7}]
)
def test_a_truncation_is_looked_at_whatever_the_temperature(
    temperature: float, dials: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(dials))} must lie in "):
        speculative_sequence(
            table(1, 6),
            table(2, 6),
            torch.tensor([0]),
            max_new_tokens=2,
            temperature=temperature,
            **dials,
        )


@pytest.mark.parametrize("sizes", [(6, 8), (8, 6)])
def test_an_end_is_a_token_of_the_target(sizes: tuple[int, int]) -> None:
    target, draft = (torch.zeros(8, size) for size in sizes)

    def write(end: int) -> speculative.SpeculativeText:
        return speculative_sequence(
            lambda ids: target[ids],
            lambda ids: draft[ids],
            torch.tensor([0]),
            max_new_tokens=5,
            end_token=end,
            generator=generator(),
        )

    assert write(sizes[0] - 1).ids[0] == 0
    with pytest.raises(ValueError, match=rf"in \[0, {sizes[0]}\), the vocabulary, got {sizes[0]}$"):
        write(sizes[0])


def test_k_of_a_request_may_be_more_than_either_of_two_vocabularies_but_not_than_both() -> None:
    for sizes in ((6, 4), (4, 6)):
        target, draft = (torch.zeros(6, size) for size in sizes)
        models = (lambda ids, z=target: z[ids]), (lambda ids, z=draft: z[ids])
        prompt = torch.tensor([0])
        assert len(speculative_sequence(*models, prompt, max_new_tokens=9, top_k=6).ids) == 10
        with pytest.raises(ValueError, match=r"^top_k must lie in \[1, 6\], .*, got 7; 6 keeps"):
            speculative_sequence(*models, prompt, max_new_tokens=9, top_k=7)


def test_a_round_may_ask_the_target_three_times_and_is_one() -> None:
    asked = []

    def target(ids: Tensor) -> Tensor:
        asked.append(ids.tolist())
        return torch.zeros(3, 3)[ids]

    for drafted, expected in (
        ([4], [[0, 4], [0]]),
        ([2, 4, 1], [[0, 2, 4, 1], [0], [0, 2]]),
    ):
        asked.clear()
        text = speculative_sequence(
            target,
            lambda ids: torch.tensor(drafted),  # noqa: B023
            torch.tensor([0]),
            max_new_tokens=len(drafted),
            generator=generator(5),
        )
        assert asked[: len(expected)] == expected
        assert text.proposed - text.accepted <= text.rounds <= len(drafted)
        assert int(text.ids.max()) < 3


def test_all_texts_are_counted_once() -> None:
    """The oracle itself: two choices of three are nine paths, whose chances sum to one."""
    branches, paths = Branches(), []
    for _ in branches.runs():
        paths.append(
            (*(branches.choose([0.5, 0.0, 0.25, 0.25]) for _ in range(2)), branches.chance)
        )
    assert [path[:2] for path in paths] == list(product((0, 2, 3), repeat=2))
    assert math.fsum(path[2] for path in paths) == 1
