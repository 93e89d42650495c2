"""What the tests of several statements of this chapter share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from omnivault.inverse_cdf import inverse_cdf
from tests.support.strategies import SINGLE_DOUBLE, unit

FALSE_ALARM = 1e-3  # of another seed; with the one given a test passes for ever or fails for ever
single_and_double = pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def arrangements(left: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All orders of balls, of which ``left[i]`` have the color i."""
    if not any(left):
        yield ()
        return
    for i, n in enumerate(left):
        if n:
            for rest in arrangements([x - (j == i) for j, x in enumerate(left)]):
                yield (i, *rest)


# A clock of the whole rate w rings with the first of w clocks of rate 1, of which every order is
# equally probable: so colors come in the order in which the clocks ring, and the largest noisy
# logit comes first.
few_balls = pytest.mark.parametrize(
    "weights", [(1,), (4,), (1, 1), (1, 5), (1, 2, 3), (2, 2, 2), (1, 2, 1, 2), (1, 1, 1, 1)]
)


def gumbel(rows: int, k: int, dtype: torch.dtype, seed: int) -> Tensor:
    return -torch.empty(rows, k, dtype=dtype).exponential_(generator=seeded(seed)).log()


def leads(noisy: Tensor, n: int) -> Tensor:
    """The rows whose n largest numbers are not so near to the next that rounding decides."""
    # Logarithms of a weight and of an exponential variable, of up to 15 together, to 4 ulp.
    gaps = -noisy.sort(-1, descending=True).values[:, : n + 1].diff(dim=-1)
    clear = (gaps > 300 * unit(noisy.dtype)).all(-1)
    assert clear.double().mean() > 0.99  # a gap is that small once in 50,000 rows, or less often
    return clear


def drawn(weights: Tensor, pairs: Tensor) -> Tensor:
    """What ``inverse_cdf`` draws from one row of weights with these uniform numbers.

    Of a row of one block the second searches, and the first is not asked for.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda _, numbers, **__: pairs[:, -numbers:])
        return inverse_cdf(weights.expand(len(pairs), -1))
