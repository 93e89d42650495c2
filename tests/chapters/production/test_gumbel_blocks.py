"""The proposition `gumbel-blocks`: A draw in pieces."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

import pytest
import sympy as sp
import torch
from scipy.stats import chisquare, gumbel_r
from torch import Tensor

from tests.chapters.production.common_pieces import (
    FALSE_ALARM,
    arrangements,
    few_balls,
    gumbel,
    leads,
    seeded,
    single_and_double,
)
from tests.support.strategies import double, shares

Blocks = list[list[int]]


def partitions(k: int) -> Iterator[Blocks]:
    """All ways to split 0 to k - 1 into nonempty blocks."""
    if k == 0:
        yield []
        return
    for blocks in partitions(k - 1):
        yield [*blocks, [k - 1]]
        for b in range(len(blocks)):
            yield [block + [k - 1] * (a == b) for a, block in enumerate(blocks)]


@pytest.mark.statement("gumbel-blocks", "exact")
@few_balls
def test_the_first_ball_of_a_block_in_all_orders_of_balls(weights: tuple[int, ...]) -> None:
    orders = list(arrangements(weights))
    n = sum(weights)
    for blocks in partitions(len(weights)):
        leads = []
        for block in blocks:
            place = [next(r for r, i in enumerate(order) if i in block) for order in orders]
            winner = [order[r] for order, r in zip(orders, place, strict=True)]
            leads.append(list(zip(place, winner, strict=True)))
            seen = Counter(leads[-1])
            own = sum(weights[i] for i in block)
            for r, i in itertools.product(range(n), range(len(weights))):
                # As the first of so many balls of one color, and then any of them.
                first = Fraction(math.comb(n - r - 1, own - 1), math.comb(n, own))
                chance = first * Fraction(weights[i], own) if i in block else 0
                assert Fraction(seen[r, i], len(orders)) == chance
        for order, reports in zip(orders, zip(*leads, strict=True), strict=True):
            assert min(reports)[1] == order[0]


@pytest.mark.statement("gumbel-blocks", "symbolic")
@pytest.mark.parametrize("k", [1, 2, 3])
def test_density_of_the_maximum_and_its_index_is_a_product(k: int) -> None:
    temperature = sp.symbols("T", positive=True)
    z = sp.symbols(f"z:{k}", real=True)
    x = sp.symbols("x", real=True)

    def cdf(y: sp.Expr) -> sp.Expr:
        return sp.exp(-sp.exp(-y))

    density = sp.diff(cdf(x), x)
    normalizer = sum(sp.exp(a / temperature) for a in z)
    g = x + sp.log(normalizer)
    for i, own in enumerate(z):
        others = sp.prod([cdf(g - a / temperature) for j, a in enumerate(z) if j != i])
        joint = density.subs(x, g - own / temperature) * others
        p = sp.exp(own / temperature) / normalizer
        difference = sp.expand_log(sp.log(joint) - sp.log(p * density), force=True)
        assert sp.simplify(sp.expand(difference, force=True)) == 0
    # The density is that of all there is.
    assert sp.limit(cdf(x), x, -sp.oo) == 0
    assert sp.limit(cdf(x), x, sp.oo) == 1


def in_pieces(noisy: Tensor, blocks: Blocks) -> tuple[Tensor, Tensor]:
    """The index that each block reports, and the one that follows from the reports."""
    reports = [noisy[:, block].max(-1) for block in blocks]
    i = torch.stack(
        [torch.tensor(b)[r.indices] for b, r in zip(blocks, reports, strict=True)],
        dim=1,
    )
    largest = torch.stack([report.values for report in reports], 1).argmax(-1, keepdim=True)
    return i, i.gather(1, largest).squeeze(1)


@pytest.mark.statement("gumbel-blocks", "torch")
@single_and_double
@pytest.mark.parametrize("temperature", [1e-6, 1.0, 1e6])
def test_all_ways_to_split_give_the_token_of_torch(temperature: float, dtype: torch.dtype) -> None:
    w = torch.tensor([3.0, 1.0, 0.01, 7.0, 2.0], dtype=dtype)
    noisy = (temperature * w.log()) / temperature + gumbel(2000, 5, dtype, 1)
    clear = leads(noisy, 1)
    expected = torch.multinomial(w.expand(2000, 5), 1, generator=seeded(1)).squeeze(1)[clear]
    splits = list(partitions(5))
    assert len(splits) == 52
    for blocks in splits:
        assert torch.equal(in_pieces(noisy, blocks)[1][clear], expected)


@pytest.mark.statement("gumbel-blocks", "scipy", "statistical", false_alarm=0.016)
@single_and_double
@pytest.mark.parametrize("temperature", [1e-6, 1e6])
def test_reports_of_blocks_are_independent_draws(temperature: float, dtype: torch.dtype) -> None:
    n, weights, blocks = 20_000, [3, 1, 2, 4, 2, 5], [[4, 1, 3], [5], [0, 2]]
    z = temperature * torch.tensor(weights, dtype=dtype).log()
    noisy = z / temperature + gumbel(n, 6, dtype, 2)
    i, token = in_pieces(noisy, blocks)
    expected = [n * float(p) for p in shares(*weights)]
    assert chisquare(token.bincount(minlength=6), expected).pvalue > FALSE_ALARM
    edges = [0.01, 0.25, 0.5, 0.75, 0.99]
    cells = [b - a for a, b in itertools.pairwise([0, *edges, 1])]
    for b, block in enumerate(blocks):
        centered = noisy[:, block].amax(-1) - (z[block] / temperature).logsumexp(-1)
        cell = torch.searchsorted(double(gumbel_r.ppf(edges)), centered.double())
        seen = Counter(zip(i[:, b].tolist(), cell.tolist(), strict=True))
        own = dict(zip(block, shares(*(weights[j] for j in block)), strict=True))
        pairs = list(itertools.product(own, range(6)))
        together = [n * float(own[j]) * cells[c] for j, c in pairs]
        assert chisquare([seen[pair] for pair in pairs], together).pvalue > FALSE_ALARM
