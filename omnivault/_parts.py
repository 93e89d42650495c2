"""Long rows one by one, and without threads that wait for one another.

What is made of a row is used while it is near the processor. And PyTorch splits an operation on
32,768 numbers or more over its threads: on one row of logits it is done in microseconds, and the
threads may take longer to meet, thousands of times longer where another process keeps a core busy.
In smaller parts it stays in one thread.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

LONG = 2**15
"""Rows of so many numbers are long."""

PART = 255 * 128
"""Fewer than 32,768, and whole blocks of :mod:`omnivault.inverse_cdf`."""


def by_row(*alike: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split tensors ``(B, V)`` or ``(B, 1)``, the first of which has V columns, into long rows.

    Short rows stay together. All are views.

    Examples
    --------
    >>> x, y = torch.ones(3, 40_000), torch.ones(3, 1)
    >>> [[tuple(part.shape) for part in parts] for parts in by_row(x, y)]
    [[(1, 40000), (1, 1)], [(1, 40000), (1, 1)], [(1, 40000), (1, 1)]]
    """
    if len(alike[0]) == 1 or alike[0].shape[-1] < LONG or not alike[0].is_cpu:
        yield alike
    else:
        yield from zip(*(x.split(1) for x in alike), strict=True)


def in_parts(*alike: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split as :func:`by_row`, and long rows into parts that no threads share.

    Examples
    --------
    >>> sum(part.sum() for (part,) in in_parts(torch.ones(2, 40_000)))
    tensor(80000.)
    """
    if len(alike[0]) == 1 and torch.get_num_threads() == 1:
        yield alike
        return
    for row in by_row(*alike):
        size = row[0].shape[-1]
        if size < LONG or not row[0].is_cpu or torch.get_num_threads() == 1:
            yield row
        else:
            parts = range(0, size, PART)
            yield from zip(
                *(x.split(PART, 1) if x.shape[-1] > 1 else [x] * len(parts) for x in row),
                strict=True,
            )


def row_maxima(rows: Tensor) -> Tensor:
    """Return the largest of each row ``(B, V)``, nan if there is one.

    Examples
    --------
    >>> row_maxima(torch.tensor([[1.0, 3.0], [2.0, 0.0]]))
    tensor([3., 2.])
    """
    if rows.shape[-1] < LONG or not rows.is_cpu or torch.get_num_threads() == 1:
        return rows.amax(-1)
    maxima = [part.amax(-1) for (part,) in in_parts(rows)]
    return torch.cat(maxima).view(len(rows), -1).amax(-1)
