"""The theorem `speculative-token`: A draw from another distribution, repaired."""

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
from transformers.generation.utils import _speculative_sampling

from omnivault.speculative import accept_or_redraw
from tests.chapters.production.common_drafts import (
    FALSE_ALARM,
    Choose,
    Law,
    Path,
    Shares,
    acceptance,
    after_a_round,
    every_run,
    leftover,
    logits,
    pairs,
    seeded,
    series,
    single_and_double,
    small_fractions,
    tables,
    variation,
)
from tests.support.strategies import SINGLE_DOUBLE, double, shares, total


def repaired(p: Shares, q: Shares) -> Law:
    """The law of the drafted token, of the token that comes out, and of the acceptance."""
    law: Law = {}
    for x, drafted in enumerate(q):
        if drafted == 0:
            continue
        keep = acceptance(p, q, x)
        law[x, x, True] = drafted * keep
        if keep < 1:
            assert variation(p, q) > 0
            law |= {(x, y, False): drafted * (1 - keep) * r for y, r in enumerate(leftover(p, q))}
    return law


@pytest.mark.statement("speculative-token", "exact")
@given(pairs)
def test_the_repaired_token_has_the_other_distribution(pq: tuple[Shares, Shares]) -> None:
    p, q = pq
    law = repaired(p, q)
    assert [total(v for (_, y, _), v in law.items() if y == i) for i in range(len(p))] == [*p]
    accepted = total(v for (*_, kept), v in law.items() if kept)
    assert accepted == 1 - variation(p, q) == total(map(min, p, q))
    # A rejected token never comes back, so tokens are equal exactly if one is accepted.
    assert total(v for (x, y, _), v in law.items() if x == y) == accepted


@pytest.mark.statement("speculative-token", "exact")
@given(st.integers(1, 4).flatmap(tables).filter(lambda table: any(map(any, table))))
def test_no_joint_distribution_keeps_more(table: list[list[int]]) -> None:
    every = sum(map(sum, table))
    q = shares(*map(sum, table))
    p = shares(*map(sum, zip(*table, strict=True)))
    equal = Fraction(sum(table[i][i] for i in range(len(table))), every)
    assert equal <= 1 - variation(p, q)


def check_all_numbers(weights: Sequence[int], draft: Sequence[int], dtype: torch.dtype) -> None:
    """Feed ``accept_or_redraw`` with all uniform numbers that matter; both sums are one number."""
    p, q = shares(*weights), shares(*draft)
    fine = math.lcm(*(x for x in draft if x))
    rest = sum(max(0, a - b) for a, b in zip(weights, draft, strict=True)) or 1
    grid = list(itertools.product((x for x in range(len(q)) if q[x]), range(fine), range(rest)))
    x, accepts, redraws = torch.tensor(grid).T
    numbers = iter(
        [
            (accepts + 0.5).double() / fine,
            ((redraws + 0.5).double() / rest).unsqueeze(-1),
        ]
    )
    wide = [torch.tensor([float(v) for v in row], dtype=dtype).expand(len(x), -1) for row in (p, q)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda *_, **__: next(numbers))
        tokens, accepted = accept_or_redraw(wide[0], wide[1], x)
    law: Law = defaultdict(Fraction)
    for drafted, token, kept in zip(x.tolist(), tokens.tolist(), accepted.tolist(), strict=True):
        law[drafted, token, kept] += q[drafted] / (fine * rest)
    assert law == {key: chance for key, chance in repaired(p, q).items() if chance}


@st.composite
def weights_of_one_sum(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    a, b = (draw(st.lists(st.integers(0, 4), min_size=4, max_size=4).filter(any)) for _ in range(2))
    # One more token takes what is missing.
    size = max(sum(a), sum(b))
    return [*a, size - sum(a)], [*b, size - sum(b)]


@pytest.mark.statement("speculative-token", "exact")
@given(weights_of_one_sum(), st.sampled_from(SINGLE_DOUBLE))
def test_accept_or_redraw_makes_every_choice_as_often_as_it_should(
    pq: tuple[list[int], list[int]], dtype: torch.dtype
) -> None:
    check_all_numbers(*pq, dtype)


@pytest.mark.statement("speculative-token", "exact")
@single_and_double
def test_accept_or_redraw_at_the_edges(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    check_all_numbers([1], [1], dtype)
    for w, v in (([1, 0], [0, 1]), ([2, 3], [2, 3]), ([4, 0], [3, 1]), ([0, 3, 2], [2, 3, 0])):
        check_all_numbers(w, v, dtype)
    # The uniform numbers are k / n from 0 on: so many of them accept, and none a token that the
    # target rules out. In eighths nothing is rounded.
    for a, b in itertools.product(range(9), (1, 2, 4, 8)):
        p, q = (torch.tensor([x / 8, 1 - x / 8], dtype=dtype).expand(64, 2) for x in (a, b))
        u = torch.arange(64).double() / 64
        numbers = iter([u, u.unsqueeze(-1)])
        with monkeypatch.context() as patch:
            patch.setattr(torch, "rand", lambda *_, numbers=numbers, **__: next(numbers))
            _, accepted = accept_or_redraw(p, q, torch.zeros(64, dtype=torch.int64))
        assert Fraction(int(accepted.sum()), 64) == min(Fraction(1), Fraction(a, b))


@pytest.mark.statement("speculative-token", "statistical", false_alarm=0.002)
@single_and_double
def test_repaired_draws_count_as_they_should(dtype: torch.dtype) -> None:
    p, q = shares(5, 1, 0, 2, 2), shares(1, 3, 3, 1, 2)
    rows = [torch.tensor([float(v) for v in row], dtype=dtype).expand(20_000, 5) for row in (p, q)]
    x = torch.multinomial(rows[1].contiguous(), 1, generator=seeded(3)).squeeze(-1)
    tokens, accepted = accept_or_redraw(rows[0], rows[1], x, generator=seeded(4))
    law = {key: chance for key, chance in repaired(p, q).items() if chance}
    found = list(zip(x.tolist(), tokens.tolist(), accepted.tolist(), strict=True))
    assert set(found) <= set(law)
    counts = [found.count(key) for key in law]
    assert chisquare(counts, [20_000 * float(v) for v in law.values()]).pvalue > FALSE_ALARM


@pytest.mark.statement("speculative-token", "exact", "transformers")
@pytest.mark.statement("speculative-text", "exact", "transformers")
@pytest.mark.parametrize(
    ("p", "q"), [((1, 3), (2, 2)), ((4, 0), (2, 2)), ((2, 2), (2, 2)), ((1, 0, 3), (2, 1, 1))]
)
@pytest.mark.parametrize("ahead", [1, 2])
def test_a_round_of_transformers_is_the_same(p: Path, q: Path, ahead: int) -> None:
    target, draft = shares(*p), shares(*q)

    def run(choose: Choose) -> Path:
        ids = torch.tensor([[choose(draft) for _ in range(ahead)]])

        def uniform(ratio: Tensor) -> Tensor:
            return double([(choose([1] * 4) + 0.5) / 4 for _ in range(ratio.numel())])

        def draw(weights: Tensor, **_: object) -> Tensor:
            return torch.tensor([[choose(small_fractions(weights[0]))]])

        patch.setattr(torch, "rand_like", uniform)
        patch.setattr(torch, "multinomial", draw)
        tokens, _ = _speculative_sampling(
            ids,
            logits(draft).expand(1, ahead, -1),
            ahead,
            logits(target).expand(1, ahead + 1, -1),
        )
        return tuple(tokens[0].tolist())

    with pytest.MonkeyPatch.context() as patch:
        law = every_run(run)
    first = [total(v for text, v in law.items() if text[0] == i) for i in range(len(p))]
    assert first == [*target]
    same = after_a_round(lambda _: target, lambda _: draft, (), ahead, ahead + 1)
    assert law == same
    assert total(len(text) * v for text, v in law.items()) == series(
        1 - variation(target, draft), ahead
    )
