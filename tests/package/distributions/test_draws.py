from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from omnivault.distributions import Bernoulli, Categorical, Multinomial
from tests.package.distributions.common import (
    FALSE_ALARM,
    chances,
    dtypes,
    generator,
    rows,
    vectors,
)


def assert_frequencies(counts: Tensor, probs: Tensor) -> None:
    assert not counts[probs == 0].any()
    counts, probs = counts[probs > 0], probs[probs > 0].double()
    expected = counts.sum() * probs / probs.sum()
    assert len(counts) == 1 or scipy.stats.chisquare(counts, expected).pvalue > FALSE_ALARM


@dtypes
@pytest.mark.parametrize("layout", [lambda p: p, lambda p: p.T.contiguous().T], ids=["", "strided"])
def test_draws_have_their_probabilities(
    dtype: torch.dtype, layout: Callable[[Tensor], Tensor]
) -> None:
    coins = layout(torch.tensor([[0.05, 0.5, 0.9], [0.25, 0.75, 0.0]], dtype=dtype))
    drawn = Bernoulli(coins).sample(10_000, generator=generator(3))
    for i, j in np.ndindex(2, 3):
        q = coins[i, j].double()
        assert_frequencies(torch.bincount(drawn[:, i, j], minlength=2), torch.stack([1 - q, q]))
    p = layout(torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.0, 0.7, 0.0, 0.3]], dtype=dtype))
    drawn = Categorical(p).sample(10_000, generator=generator(4))
    for i in range(2):
        assert_frequencies(torch.bincount(drawn[:, i], minlength=4), p[i])


def test_draws_do_not_repeat_one_another() -> None:
    # Two in a row, and two of one batch: every pair as often as the product says.
    q = torch.tensor([0.25, 0.75], dtype=torch.float64)
    pairs = (q.unsqueeze(-1) * q).flatten()
    for drawn in (
        Bernoulli(q[1].expand(2)).sample(20_000, generator=generator()),
        Categorical(q.expand(2, 2)).sample(20_000, generator=generator()),
    ):
        for first, second in ((drawn[::2], drawn[1::2]), (drawn[:, 0], drawn[:, 1])):
            assert_frequencies(torch.bincount((2 * first + second).flatten(), minlength=4), pairs)


@pytest.mark.parametrize("probs", [(0.5, 0.3, 0.2), (0.1, 0.0, 0.9)])
def test_counts_have_their_probabilities(probs: tuple[float, ...]) -> None:
    p = torch.tensor([(1 / 3, 1 / 3, 1 / 3), probs], dtype=torch.float64)
    many = Multinomial(3, p)
    drawn = many.sample(10_000, generator=generator(5))
    assert bool((drawn.sum(-1) == 3).all())
    y = vectors(3, 3)
    for i in range(2):
        seen = (drawn[:, i].unsqueeze(1) == y).all(-1).sum(0)
        assert_frequencies(seen, Multinomial(3, p[i]).pmf(y))


def test_the_covariance_of_draws_is_the_one_stated() -> None:
    p = rows(2, 4)
    n = 20_000
    for distribution, drawn in (
        (Multinomial(6, p), Multinomial(6, p).sample(n, generator=generator(6))),
        (Categorical(p), one_hot(Categorical(p).sample(n, generator=generator(7)), 4)),
    ):
        centered = drawn.double() - distribution.mean
        products = centered.unsqueeze(-1) * centered.unsqueeze(-2)
        # Five standard errors of each mean, 80 in all: a false alarm in 20,000 seeds.
        for sample, mean in (
            (drawn.double(), distribution.mean),
            (products, distribution.covariance),
        ):
            error = (sample.mean(0) - mean).abs()
            assert bool((error < 5 * sample.std(0) / math.sqrt(n)).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_one_draw_a_row_is_as_fair_in_half_precision(dtype: torch.dtype) -> None:
    # Many draws of one row take another way through torch.multinomial than one of many.
    p = torch.tensor([0.5, 0.5], dtype=dtype)
    drawn = Categorical(p.expand(5_000_000, 2)).sample(1, generator=generator(1))
    assert_frequencies(torch.bincount(drawn.flatten(), minlength=2), p)


def test_the_seed_decides() -> None:
    for distribution in (
        Bernoulli(chances(3)),
        Categorical(rows(3, 5)),
        Multinomial(9, rows(3, 5)),
    ):
        one = distribution.sample(40, generator=generator(8))
        assert torch.equal(one, distribution.sample(40, generator=generator(8)))
        assert not torch.equal(one, distribution.sample(40, generator=generator(9)))
        torch.manual_seed(8)
        assert torch.equal(one, distribution.sample(40))
