"""The theorem `block-verification`: A block judged at once."""

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
from scipy.optimize import linprog
from torch import Tensor

from omnivault import speculative
from omnivault.speculative import speculative_sequence
from tests.chapters.production.common_drafts import (
    Choose,
    Law,
    Model,
    Path,
    Shares,
    acceptance,
    after_a_round,
    every_run,
    from_table,
    in_rounds,
    logits,
    small_fractions,
    texts_of,
    two_models,
)
from tests.support.strategies import shares, total


def after(model: Model, text: Path) -> Model:
    """The model once it has read a text."""
    return lambda new: model((*text, *new))


def chance(model: Model, text: Path) -> Fraction:
    return math.prod((model(text[:n])[x] for n, x in enumerate(text)), start=Fraction(1))


def weight(target: Model, draft: Model, text: Path) -> Fraction:
    """The w of proposals that the draft may make."""
    w = Fraction(1)
    for n, x in enumerate(text):
        w = min(Fraction(1), w * target(text[:n])[x] / draft(text[:n])[x])
    return w


def excess(target: Model, draft: Model, text: Path) -> list[Fraction]:
    """What the target has more than the draft behind proposals, once weighed."""
    w = weight(target, draft, text)
    return [max(Fraction(0), w * p - q) for p, q in zip(target(text), draft(text), strict=True)]


def kept(target: Model, draft: Model, block: Path) -> list[Fraction]:
    """The law of how many of the proposals are kept."""
    law = [Fraction(0)] * (len(block) + 1)
    left = Fraction(1)
    for n in range(len(block), -1, -1):
        w = weight(target, draft, block[:n])
        more = total(excess(target, draft, block[:n])) if n < len(block) else w
        h = w if n == len(block) else more / (more + 1 - w) if more + 1 - w else Fraction(1)
        law[n] = left * h
        left -= law[n]
    return law


def blocks(draft: Model, ahead: int) -> list[Path]:
    every = itertools.product(range(len(draft(()))), repeat=ahead)
    return [block for block in every if chance(draft, block)]


def after_a_block(target: Model, draft: Model, text: Path, ahead: int, end: int) -> Law:
    """The law of the text that one round makes of a text, as the algorithm goes."""
    p, q = after(target, text), after(draft, text)
    ahead = min(ahead, end - len(text))
    law: Law = defaultdict(Fraction)
    for block in blocks(q, ahead):
        for n, stays in enumerate(kept(p, q, block)):
            here = chance(q, block) * stays
            new = (*text, *block[:n])
            if not here:
                continue
            if len(new) == end:
                law[new] += here
                continue
            weights = p(block) if n == ahead else excess(p, q, block[:n])
            # All of it is left at the end, and nothing where target and draft are one.
            every = total(weights) or Fraction(1)
            for y, share in enumerate(weights):
                law[*new, y] += here * share / every
    return {new: share for new, share in law.items() if share}


@pytest.mark.statement("block-verification", "exact")
@given(two_models(), st.integers(1, 3), st.integers(1, 4))
def test_texts_have_the_law_of_the_target(
    models: tuple[int, Model, Model], ahead: int, end: int
) -> None:
    k, target, draft = models
    end = min(end, 3) if k == 3 else end
    assert in_rounds(after_a_block, target, draft, ahead, end) == texts_of(target, k, end)


@pytest.mark.statement("block-verification", "exact")
@given(two_models(), st.integers(1, 4))
def test_so_many_are_kept_and_no_fewer_than_one_by_one(
    models: tuple[int, Model, Model], ahead: int
) -> None:
    k, target, draft = models
    ahead = min(ahead, 3) if k == 3 else ahead
    for n in range(1, ahead + 1):
        for start in blocks(draft, n):
            # Whatever is proposed behind them.
            ends = [(b, chance(draft, b)) for b in blocks(draft, ahead) if b[:n] == start]
            at_least = total(share * total(kept(target, draft, b)[n:]) for b, share in ends)
            w = weight(target, draft, start)
            assert at_least == chance(draft, start) * w
            one_by_one = math.prod(
                (acceptance(target(start[:m]), draft(start[:m]), x) for m, x in enumerate(start)),
                start=Fraction(1),
            )
            assert w >= one_by_one
            assert n > 1 or w == one_by_one


def length(law: Law) -> Fraction:
    return total(len(text) * share for text, share in law.items())


@pytest.mark.statement("block-verification", "exact")
def test_two_coins_keep_a_ninth_more() -> None:
    target, draft = (from_table(2, [row]) for row in (shares(1, 2), shares(2, 1)))
    # Sun et al. (2024) give 10/9 and 11/9 accepted tokens; a round writes one more.
    assert length(after_a_round(target, draft, (), 2, 3)) == 1 + Fraction(10, 9)
    assert length(after_a_block(target, draft, (), 2, 3)) == 1 + Fraction(11, 9)


def best(target: Model, draft: Model, ahead: int, least: int) -> float:
    """Largest P(at least so many are kept) of all rules whose texts have the law of the target.

    A linear program over the joint law of the proposals, of how many are kept, and of the token
    that is written then.
    """
    k = len(target(()))
    proposals = list(itertools.product(range(k), repeat=ahead))
    texts = list(itertools.product(range(k), repeat=ahead + 1))
    unknowns = list(itertools.product(proposals, range(ahead + 1), range(k)))
    equal, right = [], []
    for block in proposals:
        equal.append([float(b == block) for b, _, _ in unknowns])
        right.append(float(chance(draft, block)))
    for text in texts:
        row = []
        for block, n, y in unknowns:
            fits = block[:n] == text[:n] and y == text[n]
            rest = chance(after(target, text[: n + 1]), text[n + 1 :])
            row.append(float(rest) if fits else 0.0)
        equal.append(row)
        right.append(float(chance(target, text)))
    gain = [-float(n >= least) for _, n, _ in unknowns]
    found = linprog(gain, A_eq=equal, b_eq=right)
    assert found.status == 0
    return float(-found.fun)


@pytest.mark.statement("block-verification", "scipy")
@pytest.mark.parametrize(("k", "ahead"), [(2, 1), (2, 2), (2, 3), (3, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_no_rule_keeps_more(k: int, ahead: int, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    tables = torch.randint(1, 9, (2, 7, k), generator=source).tolist()
    target, draft = (from_table(k, [shares(*row) for row in rows]) for rows in tables)
    for least in range(1, ahead + 1):
        block = total(
            chance(draft, start) * weight(target, draft, start) for start in blocks(draft, least)
        )
        # Each of some 50 equations holds to 1e-7, the tolerance of the solver.
        assert abs(best(target, draft, ahead, least) - float(block)) < 1e-5


class Coin:
    """In place of a uniform number: it decides each question one way, then the other."""

    def __init__(self, choose: Choose) -> None:
        self.choose, self.share = choose, 1.0

    def __mul__(self, share: float) -> Coin:
        self.share = share
        return self

    def __lt__(self, other: float) -> bool:
        below = min(1.0, other / self.share) if self.share else 1.0
        whole = Fraction(below).limit_denominator(10_000)
        return self.choose([1 - whole, whole]) == 1


def by_omnivault(target: Model, draft: Model, ahead: int, end: int) -> Law:
    """The law of texts and of the length of the first round, from all runs."""

    def rows(model: Model, ids: Tensor) -> Tensor:
        text = ids.tolist()[1:]
        return torch.stack([logits(model(tuple(text[:n]))) for n in range(len(text) + 1)])

    def run(choose: Choose) -> tuple[Path, int]:
        lengths: list[int] = []

        def drafted(ids: Tensor) -> Tensor:
            lengths.append(len(ids) - 1)
            return rows(draft, ids)

        class Numbers:
            def __init__(self, rows: int, n: int, *_: object) -> None:
                self.n = n

            def __getitem__(self, row: int) -> Numbers:
                return self

            def tolist(self) -> list[Coin]:
                return [Coin(choose) for _ in range(self.n)]

        def draw(weights: Tensor, _: object) -> Tensor:
            return torch.tensor([choose(small_fractions(weights[0]))])

        patch.setattr(speculative, "uniforms", Numbers)
        patch.setattr(speculative, "draw_rows", draw)
        text = speculative_sequence(
            lambda ids: rows(target, ids),
            drafted,
            torch.zeros(1, dtype=torch.int64),
            max_new_tokens=end,
            lookahead=ahead,
            verify="block",
        )
        first = lengths[ahead] if len(lengths) > ahead else end
        return tuple(text.ids.tolist()[1:]), first

    with pytest.MonkeyPatch.context() as patch:
        return every_run(run)


P2, Q2 = (shares(1, 2), shares(2, 1), shares(1, 1)), (shares(2, 1), shares(1, 2), shares(1, 0))
P3, Q3 = (shares(1, 0, 1), shares(2, 1, 1)), (shares(2, 1, 1), shares(0, 1, 1))


@pytest.mark.statement("block-verification", "exact")
@pytest.mark.parametrize(
    ("ps", "qs", "ahead", "end"), [(P2, Q2, 1, 2), (P2, Q2, 2, 3), (P3, Q3, 2, 2), (P2, P2, 2, 3)]
)
def test_omnivault_judges_blocks_by_this_rule(
    ps: Sequence[Shares], qs: Sequence[Shares], ahead: int, end: int
) -> None:
    k = len(ps[0])
    target, draft = from_table(k, ps), from_table(k, qs)
    law: Law = defaultdict(Fraction)
    first = Fraction(0)
    for (text, n), share in by_omnivault(target, draft, ahead, end).items():
        law[text] += share
        first += n * share
    assert law == texts_of(target, k, end)
    assert first == length(after_a_block(target, draft, (), ahead, end))
