from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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


class Largest(TorchDispatchMode):
    """How many numbers the largest tensor holds that is made meanwhile."""

    size = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            # An expanded tensor holds no more than it did before.
            if isinstance(made, Tensor):
                self.size = max(self.size, made.untyped_storage().nbytes() // made.itemsize)
        return result


def test_many_draws_are_counted_in_parts() -> None:
    n, p = 2_100_000, torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.9, 0.1], [0.2, 0.5, 0.3]])
    with Largest() as largest:  # type: ignore[no-untyped-call]
        drawn = Multinomial(n, p).sample(4, generator=generator(10))
    assert largest.size <= 2**22
    assert (drawn.sum(-1) == n).all()
    # Row by row the draws are those of the categorical distribution.
    indices = Categorical(p).sample(4 * n, generator=generator(10)).reshape(4, n, 3)
    for draw, row in np.ndindex(4, 3):
        counts = torch.bincount(indices[draw, :, row], minlength=3)
        assert torch.equal(drawn[draw, row], counts)
        assert_frequencies(counts, p[row])


def test_many_draws_take_a_generator_for_each_row() -> None:
    n, p = 3_000_000, torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.9, 0.1]])
    drawn = Multinomial(n, p).sample(2, generator=[generator(11), generator(12)])
    for row, seed in ((0, 11), (1, 12)):
        alone = Multinomial(n, p[row]).sample(2, generator=generator(seed))
        assert torch.equal(drawn[:, row], alone)
