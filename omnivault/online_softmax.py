r"""Online softmax: the maximum and the normalizer of a row, gathered block by block.

A block of logits is summed up by two numbers,

.. math::

    m = \max_i z_i, \qquad d = \sum_i e^{z_i - m},

and the pairs of two blocks combine into the pair of both together,

.. math::

    (m_1, d_1) \oplus (m_2, d_2) = (m,\; d_1 e^{m_1 - m} + d_2 e^{m_2 - m}), \qquad
    m = \max(m_1, m_2).

The operation is associative and commutative, and :math:`(-\infty, 0)` is its identity, so the
blocks may be taken in any order, one at a time or in parallel. Source: Milakov and Gimelshein
(2018); with the values of attention carried along it is the step under fused attention kernels.

Softmax at temperature T is softmax of ``z / T``: divide first, in at least float32, and see that no
quotient overflows. No function here looks at a value, so each may be vectorized by ``torch.vmap``,
differentiated by ``torch.func`` and compiled with ``fullgraph=True``.
"""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from omnivault._checks import at_least_float32, check_integer, check_logits, shown

__all__ = ["SoftmaxStatistics", "block_statistics", "chunked_softmax", "combine"]


class SoftmaxStatistics(NamedTuple):
    """What a softmax has to know of a block: ``(m, d)``, tensors of one shape."""

    maximum: Tensor
    """m, the largest logit."""
    total: Tensor
    """d, the sum of exp(z - m), which is at least 1, or 0 for a block of -inf alone."""


def block_statistics(z: Tensor, dim: int = -1) -> SoftmaxStatistics:
    """Sum a block of logits up in one pair.

    Parameters
    ----------
    z
        Logits of any shape and any floating dtype.
    dim
        The dimension that holds the classes.

    Returns
    -------
    SoftmaxStatistics
        Both of the shape of ``z`` without ``dim``, in at least float32.

    Raises
    ------
    TypeError, ValueError
        As :func:`omnivault.softmax.softmax`.

    Examples
    --------
    >>> block_statistics(torch.tensor([1.0, 5.0, 6.0, 3.0]))
    SoftmaxStatistics(maximum=tensor(6.), total=tensor(1.4244))
    """
    check_logits(z, dim)
    z = at_least_float32(z)
    maximum = z.amax(dim)
    return SoftmaxStatistics(maximum, _rescale(z, maximum.unsqueeze(dim)).sum(dim))


def combine(first: SoftmaxStatistics, second: SoftmaxStatistics) -> SoftmaxStatistics:
    """Pair of two blocks together, from the pair of each.

    Parameters
    ----------
    first, second
        Of shapes that broadcast.

    Returns
    -------
    SoftmaxStatistics
        Of the broadcast shape.

    Raises
    ------
    ValueError
        The shapes do not broadcast.

    Examples
    --------
    >>> left, right = torch.tensor([1.0, 5.0]), torch.tensor([6.0, 3.0])
    >>> combine(block_statistics(left), block_statistics(right))
    SoftmaxStatistics(maximum=tensor(6.), total=tensor(1.4244))
    """
    try:
        maximum = torch.maximum(first.maximum, second.maximum)
    except RuntimeError:
        raise ValueError(
            f"blocks of the shapes {tuple(first.maximum.shape)} and "
            f"{tuple(second.maximum.shape)} do not broadcast"
        ) from None
    total = sum(block.total * _rescale(block.maximum, maximum) for block in (first, second))
    return SoftmaxStatistics(maximum, torch.as_tensor(total))


def chunked_softmax(z: Tensor, chunk_size: int, dim: int = -1) -> Tensor:
    """Softmax that never looks at more than ``chunk_size`` classes at once.

    One pass gathers the pair (m, d), a second one writes the probabilities exp(z - m) / d. The
    usual softmax needs three: for the maximum, for the sum, and for the quotient.

    Parameters
    ----------
    z
        Logits of any shape and any floating dtype.
    chunk_size
        Classes a chunk, at least 1; the last chunk may be shorter.
    dim
        The dimension that holds the K classes.

    Returns
    -------
    Tensor
        Probabilities, shape and dtype of ``z``.

    Raises
    ------
    TypeError, ValueError
        As :func:`omnivault.softmax.softmax`, or ``chunk_size`` is not a positive integer.

    Examples
    --------
    >>> chunked_softmax(torch.tensor([1.0, 5.0, 6.0, 3.0]), chunk_size=3)
    tensor([0.0047, 0.2583, 0.7020, 0.0350])
    """
    check_logits(z, dim)
    chunk_size = check_integer(chunk_size, "chunk_size", 1024)
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {shown(chunk_size)}; 1024 is common")
    # Converted once: gradients of the two passes are then added before they are rounded.
    chunks = torch.split(at_least_float32(z), min(chunk_size, z.shape[dim]), dim)
    blocks = (block_statistics(chunk, dim) for chunk in chunks)
    m, d = (statistic.unsqueeze(dim) for statistic in reduce(combine, blocks))
    return torch.cat([_rescale(chunk, m) / d for chunk in chunks], dim).to(z.dtype)


def _rescale(z: Tensor, maximum: Tensor) -> Tensor:
    """exp(z - maximum), and 0 where z is -inf: also where the maximum is, and inf - inf is nan."""
    # Filled before the exponential, whose derivative at nan is nan.
    return (z - maximum).masked_fill(z == -torch.inf, -torch.inf).exp()
