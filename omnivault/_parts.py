"""One row, without threads that wait for one another.

PyTorch splits an operation on 32,768 numbers or more over its threads. On one row of logits it is
done in microseconds, and the threads may take longer to meet: thousands of times longer where
another process keeps a core busy. In smaller parts it stays in one thread.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PART = 255 * 128
"""Fewer than 32,768, and whole blocks of :mod:`omnivault.inverse_cdf`."""


def in_parts(x: Tensor, dim: int = -1) -> Sequence[Tensor]:
    """Split one row along a dimension, if PyTorch would split it over threads; views.

    Examples
    --------
    >>> [len(part) for part in in_parts(torch.ones(1, 100))]
    [1]
    """
    if x.shape[0] != 1 or x.numel() <= PART or not x.is_cpu or torch.get_num_threads() == 1:
        return (x,)
    return x.split(max(1, PART * x.shape[dim] // x.numel()), dim)


def row_maxima(rows: Tensor) -> Tensor:
    """Return the largest of each row, nan if there is one.

    Examples
    --------
    >>> row_maxima(torch.tensor([[1.0, 3.0], [2.0, 0.0]]))
    tensor([3., 2.])
    """
    parts = in_parts(rows)
    if len(parts) == 1:
        return rows.amax(-1)
    return torch.stack([part.amax(-1) for part in parts]).amax(0)
