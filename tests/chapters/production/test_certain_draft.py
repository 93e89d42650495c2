"""The corollary `certain-draft`: A draft that is certain."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from omnivault import speculative
from omnivault.speculative import prompt_lookup, speculative_sequence
from tests.chapters.production.common_drafts import (
    FALSE_ALARM,
    Choose,
    Law,
    Path,
    Shares,
    after_a_round,
    distributions,
    every_run,
    logits,
    seeded,
    small_fractions,
)
from tests.support.strategies import double, shares, total


def settled(p: Shares, x: int) -> Law:
    """The law of the token that comes out, and of the acceptance of x."""
    law: Law = {(x, True): p[x]}
    if p[x] < 1:
        law |= {(y, False): (1 - p[x]) * r for y, r in enumerate(without(p, x))}
    return {key: chance for key, chance in law.items() if chance}


def without(p: Shares, x: int) -> Shares:
    """The others, renormalized."""
    rest = [share if y != x else Fraction(0) for y, share in enumerate(p)]
    return tuple(share / total(rest) for share in rest)


tokens = st.integers(1, 5).flatmap(lambda k: st.tuples(distributions(k), st.integers(0, k - 1)))


@pytest.mark.statement("certain-draft", "exact")
@given(tokens)
def test_a_certain_proposal_leaves_the_distribution(px: tuple[Shares, int]) -> None:
    p, x = px
    law = settled(p, x)
    assert [total(v for (y, _), v in law.items() if y == i) for i in range(len(p))] == [*p]
    assert total(v for (_, kept), v in law.items() if kept) == p[x]
    assert (x, False) not in law
    # It is the rule of the theorem, with a point mass for the draft.
    q = tuple(Fraction(i == x) for i in range(len(p)))
    one = after_a_round(lambda _: p, lambda _: q, (), 1, 1)
    assert one == {(i,): share for i, share in enumerate(p) if share}


@pytest.mark.statement("certain-draft", "exact")
@pytest.mark.parametrize("p", [(1, 3), (4, 0), (1, 1, 2), (0, 3, 1), (1, 1, 1, 1)])
def test_omnivault_settles_it_with_these_chances(p: Path) -> None:
    law = shares(*p)
    for x in range(len(p)):

        def run(choose: Choose, x: int = x) -> tuple[int, bool]:
            def draw(rows: Tensor, _: object) -> Tensor:
                return torch.tensor([choose(small_fractions(rows[0]))])

            patch.setattr(
                torch, "rand", lambda *n, **_: double([(choose([1] * 4) + 0.5) / 4]).reshape(n)
            )
            patch.setattr(speculative, "draw_rows", draw)
            text = speculative_sequence(
                lambda ids: logits(law).expand(len(ids), -1),
                lambda ids: torch.tensor([x]),
                torch.tensor([0]),
                max_new_tokens=1,
            )
            return int(text.ids[-1]), text.accepted == 1

        with pytest.MonkeyPatch.context() as patch:
            assert every_run(run) == settled(law, x)


@pytest.mark.statement("certain-draft", "exact")
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=5), st.integers(0, 4))
def test_at_temperature_zero_it_stays_if_it_is_the_largest(z: list[int], x: int) -> None:
    largest = z.index(max(z))
    text = speculative_sequence(
        lambda ids: double(z).expand(len(ids), -1),
        lambda ids: torch.tensor([x]),
        torch.tensor([0]),
        max_new_tokens=1,
        temperature=0,
    )
    assert int(text.ids[-1]) == largest
    assert text.accepted == (x == largest)


@pytest.mark.statement("certain-draft", "statistical", false_alarm=0.001)
def test_texts_with_a_lookup_count_as_they_should() -> None:
    # The next token depends on the last one, and mostly comes back.
    p = torch.tensor([[1.0, 6.0, 3.0], [6.0, 1.0, 0.5], [1.0, 5.0, 2.0]])
    n, source = 2000, seeded(6)
    texts = [
        speculative_sequence(
            lambda ids: p[ids].log(),
            lambda ids: prompt_lookup(ids, 1),
            torch.tensor([0, 1, 0]),
            max_new_tokens=3,
            generator=source,
        )
        for _ in range(n)
    ]
    p /= p.sum(-1, keepdim=True)
    cells = [(a, b, c) for a in range(3) for b in range(3) for c in range(3)]
    seen = [tuple(text.ids.tolist()[3:]) for text in texts]
    expected = double([n * float(p[0, a] * p[a, b] * p[b, c]) for a, b, c in cells])
    counts = double([seen.count(cell) for cell in cells])
    rare = expected < 5
    counts = torch.cat([counts[~rare], counts[rare].sum()[None]])
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    assert sum(text.accepted for text in texts) > n
    assert chisquare(counts, expected / expected.sum() * n).pvalue > FALSE_ALARM
