"""The theorem `speculative-text`: Texts written ahead."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from omnivault import speculative
from omnivault.speculative import speculative_sequence
from tests.chapters.production.common_drafts import (
    FALSE_ALARM,
    Choose,
    Law,
    Model,
    Path,
    Shares,
    after_a_round,
    every_run,
    from_table,
    in_rounds,
    logits,
    pairs,
    seeded,
    series,
    small_fractions,
    texts_of,
    two_models,
    variation,
)
from tests.support.strategies import double, shares, total


@pytest.mark.statement("speculative-text", "exact")
@given(two_models(), st.integers(1, 4), st.integers(1, 3))
def test_texts_have_the_law_of_the_target_whatever_the_draft(
    models: tuple[int, Model, Model], ahead: int, end: int
) -> None:
    k, target, draft = models
    assert in_rounds(after_a_round, target, draft, ahead, end) == texts_of(target, k, end)


@pytest.mark.statement("speculative-text", "exact")
@given(pairs, st.integers(1, 4), st.lists(st.booleans(), min_size=1, max_size=5))
def test_tokens_of_a_round_are_a_geometric_series(
    pq: tuple[Shares, Shares], ahead: int, flips: list[bool]
) -> None:
    p, q = pq
    ahead = ahead if len(p) < 4 else min(ahead, 2)

    # Other distributions after other texts, the same acceptance.
    def of(row: Shares) -> Model:
        return from_table(len(row), [row[::-1] if flip else row for flip in flips])

    a = 1 - variation(p, q)
    law = after_a_round(of(p), of(q), (), ahead, ahead + 1)
    assert total(len(new) * chance for new, chance in law.items()) == series(a, ahead)
    # The end of the text takes the additional token away.
    cut = after_a_round(of(p), of(q), (), ahead, ahead)
    assert total(len(new) * chance for new, chance in cut.items()) == series(a, ahead) - a**ahead


def texts_by_omnivault(
    target: Model, draft: Model, ahead: int, end: int, temperature: float
) -> Law:
    """The law of texts and of the length of the first round, from all runs."""
    prompt = 2  # tokens that are read, too

    def rows(model: Model, ids: Tensor) -> Tensor:
        text = ids.tolist()[prompt:]
        ends = [text[:n] for n in range(len(text) + 1)]
        first = logits(model(()), temperature).expand(prompt - 1, -1)
        return torch.cat([first, *(logits(model(tuple(t)), temperature)[None] for t in ends)])

    def run(choose: Choose) -> tuple[Path, int]:
        lengths: list[int] = []

        def drafted(ids: Tensor) -> Tensor:
            lengths.append(len(ids) - prompt)
            return rows(draft, ids)

        def uniform(*shape: int, **_: object) -> Tensor:
            numbers = [(choose([1] * 4) + 0.5) / 4 for _ in range(math.prod(shape))]
            return double(numbers).reshape(shape)

        def draw(rows: Tensor, _: object) -> Tensor:
            return torch.tensor([choose(small_fractions(row)) for row in rows])

        patch.setattr(torch, "rand", uniform)
        patch.setattr(speculative, "draw_rows", draw)
        text = speculative_sequence(
            lambda ids: rows(target, ids),
            drafted,
            torch.zeros(prompt, dtype=torch.int64),
            max_new_tokens=end,
            lookahead=ahead,
            temperature=temperature,
        )
        first = lengths[ahead] if len(lengths) > ahead else end
        return tuple(text.ids.tolist()[prompt:]), first

    with pytest.MonkeyPatch.context() as patch:
        return every_run(run)


P2, Q2 = (shares(1, 3), shares(4, 0), shares(2, 2), shares(0, 4)), (shares(2, 2), shares(4, 0))
P3, Q3 = (shares(1, 0, 3), shares(2, 1, 1), shares(0, 2, 2)), (shares(2, 1, 1), shares(0, 2, 2))


@pytest.mark.statement("speculative-text", "exact")
@pytest.mark.parametrize(
    ("ps", "qs", "ahead", "end", "temperature"),
    [(P2, Q2, 1, 3, 1.0), (P2, Q2, 2, 3, 2.0), (P3, Q3, 1, 2, 0.5), (P3, Q3, 2, 2, 1.0)],
)
def test_omnivault_writes_every_text_as_often_as_the_target(
    ps: Sequence[Shares], qs: Sequence[Shares], ahead: int, end: int, temperature: float
) -> None:
    k = len(ps[0])
    target, draft = from_table(k, ps), from_table(k, qs)
    law: Law = defaultdict(Fraction)
    for (text, _), chance in texts_by_omnivault(target, draft, ahead, end, temperature).items():
        law[text] += chance
    assert law == texts_of(target, k, end)


@pytest.mark.statement("speculative-text", "exact")
@pytest.mark.parametrize(
    ("p", "q"),
    [
        ((1, 3), (2, 2)),
        ((4, 0), (2, 2)),
        ((4, 0), (0, 4)),
        ((2, 2), (2, 2)),
        ((0, 1, 3), (2, 1, 1)),
    ],
)
def test_rounds_of_omnivault_have_that_length(p: Path, q: Path) -> None:
    target, draft = (from_table(len(row), [shares(*row)]) for row in (p, q))
    a = 1 - variation(shares(*p), shares(*q))
    for ahead in (1, 2) if len(p) == 2 else (1,):
        law = texts_by_omnivault(target, draft, ahead, ahead + 1, 1.0)
        assert total(first * chance for (_, first), chance in law.items()) == series(a, ahead)


@pytest.mark.statement("speculative-text", "statistical", false_alarm=0.002)
@pytest.mark.parametrize("ahead", [1, 3])
def test_texts_of_omnivault_count_as_they_should(ahead: int) -> None:
    # The next token depends on the last one.
    p = torch.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, 0.5], [1.0, 1.0, 6.0]])
    q = torch.tensor([[1.0, 1.0, 1.0], [0.5, 4.0, 1.0], [2.0, 1.0, 1.0]])
    generator, n = seeded(5), 1000
    seen = [
        tuple(
            speculative_sequence(
                lambda ids: p[ids].log(),
                lambda ids: q[ids].log(),
                torch.tensor([0]),
                max_new_tokens=2,
                lookahead=ahead,
                generator=generator,
            ).ids.tolist()
        )
        for _ in range(n)
    ]
    p /= p.sum(-1, keepdim=True)
    texts = list(itertools.product(range(3), repeat=2))
    expected = [n * float(p[0, x] * p[x, y]) for x, y in texts]
    counts = [seen.count((0, x, y)) for x, y in texts]
    assert sum(counts) == n
    assert chisquare(counts, double(expected) / sum(expected) * n).pvalue > FALSE_ALARM
