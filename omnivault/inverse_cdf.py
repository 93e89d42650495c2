r"""One index from each row of weights, by inverting the cumulative sum.

A uniform number is multiplied by the sum of the weights, and the index is the first whose
cumulative sum exceeds the product: one random number, where the exponential race of
``torch.multinomial`` needs one for each index.

A long row is searched twice. Blocks are summed, a block is drawn by its sum, and an index within it
by its weight. So the exact, slow summation in float64 is needed for the sums of blocks and for one
block, and no weight is swallowed by a large sum before it. A short row is one block.

It runs where the weights are, on any device that has float64; see :mod:`omnivault.sampling` on
``torch.vmap`` and ``torch.compile``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from omnivault._checks import Generator, anywhere, check_dense, check_generator, shown, some_values
from omnivault._parts import in_parts

__all__ = ["BLOCK", "block_sums", "draw_rows", "inverse_cdf", "uniforms"]

BLOCK = 128
"""How many weights a block holds."""

SHORT = 1024
"""A row of so many is one block: to add it up in float64 costs less than a second search."""


def inverse_cdf(weights: Tensor, *, generator: Generator = None) -> Tensor:
    r"""Draw index i with probability :math:`w_i / \sum_k w_k`.

    Parameters
    ----------
    weights
        Shape ``(..., V)``, float32 or float64, not negative, each row with a positive and finite
        sum; it need not be 1.
    generator
        Source of randomness, or one for each row in order, so that what a row draws does not
        depend on the rows beside it. None takes PyTorch's global one. It may be on another device:
        one on the CPU draws the same everywhere.

    Returns
    -------
    Tensor
        Indices, int64 of shape ``(...)``.

    Raises
    ------
    TypeError
        ``weights`` is not a dense tensor of float32 or float64.
    ValueError
        ``weights`` has no last dimension or nothing in it, a weight is negative or nan, the sum
        of a row is zero or not finite, or the number of generators is not that of the rows.

    Notes
    -----
    Inversion is Devroye (1986), chapter II. Sums of blocks are rounded to the precision u of the
    weights, which changes a probability by a factor within about 1 ± 256 u.

    Examples
    --------
    >>> weights = torch.tensor([0.0, 3.0, 1.0]).expand(40_000, 3)
    >>> drawn = inverse_cdf(weights, generator=torch.Generator().manual_seed(0))
    >>> (drawn.bincount() / 40_000).round(decimals=2)
    tensor([0.0000, 0.7500, 0.2500])
    """
    if not isinstance(weights, Tensor):
        raise TypeError(
            f"weights must be a tensor, got {shown(weights)}; torch.as_tensor(...) makes one"
        )
    if weights.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"weights must be float32 or float64, got {weights.dtype}; try weights.float()"
        )
    check_dense(weights, "weights")
    if weights.ndim == 0 or weights.shape[-1] == 0:
        raise ValueError(f"weights must have the shape (..., V), got {tuple(weights.shape)}")
    rows = weights.reshape(-1, weights.shape[-1])
    smallest, total = rows.amin(-1), rows.sum(-1)
    bad = ~((smallest >= 0) & (total > 0) & total.isfinite())
    if anywhere(bad):
        raise ValueError(
            "weights must not be negative and must have a positive, finite sum, got "
            f"{some_values(rows[bad][0])}"
        )
    return draw_rows(rows, generator).reshape(weights.shape[:-1])


def block_sums(weights: Tensor) -> Tensor:
    """Sum blocks of 128 in the precision of the weights.

    Parameters
    ----------
    weights
        Shape ``(rows, V)``; the last block may be shorter.

    Returns
    -------
    Tensor
        float64 of shape ``(rows, blocks)``, so that adding them up loses nothing.

    Examples
    --------
    >>> block_sums(torch.ones(1, 300))
    tensor([[128., 128.,  44.]], dtype=torch.float64)
    """
    return _sums(weights).double()


def _sums(weights: Tensor) -> Tensor:
    sums = []
    for (part,) in in_parts(weights):
        whole, over = divmod(part.shape[-1], BLOCK)
        blocks = part[:, : whole * BLOCK] if over else part
        sums.append(blocks.view(len(part), whole, BLOCK).sum(-1))
        if over:
            sums.append(part[:, whole * BLOCK :].sum(-1, keepdim=True))
    if len(sums) == 1:
        return sums[0]
    return torch.cat(sums, -1).view(len(weights), -(-weights.shape[-1] // BLOCK))


def draw_rows(rows: Tensor, generator: Generator) -> Tensor:
    """As :func:`inverse_cdf`, for rows that are known to be good, without a look at them.

    Parameters
    ----------
    rows
        Weights of shape ``(B, V)``, float32 or float64, not negative, each row with a positive and
        finite sum.
    generator
        As there.

    Returns
    -------
    Tensor
        Indices, int64 of shape ``(B,)``.

    Raises
    ------
    ValueError
        The number of generators is not that of the rows.

    Examples
    --------
    >>> draw_rows(torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.Generator().manual_seed(0))
    tensor([1, 0])
    """
    if rows.shape[-1] <= SHORT:
        return _search(rows, uniforms(len(rows), 1, generator, rows.device)).squeeze(-1)
    u = uniforms(len(rows), 2, generator, rows.device)
    start = BLOCK * _search(_sums(rows), u[:, :1])
    if len(rows) == 1 and rows.is_cpu:
        at = int(start)
        block = rows[:, at : at + BLOCK]
    else:
        place = start + torch.arange(BLOCK, device=rows.device)
        last = rows.shape[-1] - 1
        # The last block may be shorter: what would lie behind it is given the weight 0.
        block = rows.gather(1, place.clamp(max=last)).mul_(place <= last)
    return (start + _search(block, u[:, 1:])).squeeze(-1)


def _search(weights: Tensor, u: Tensor) -> Tensor:
    """Index of the first cumulative sum that exceeds u times the last one."""
    sums = weights.cumsum(-1, dtype=torch.float64)
    total = sums[:, -1:]
    # u is at most 1 - 2^-53, so the rounded product is less than the total and one sum exceeds it,
    # unless the total is subnormal, which no sum of float32 is in float64.
    below = u * total
    if weights.dtype == torch.float64:
        below = torch.minimum(below, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(sums, below, right=True)


def uniforms(rows: int, numbers: int, generator: Generator, device: torch.device) -> Tensor:
    """Multiples of 2^-53 in [0, 1), float64 ``(rows, numbers)``, those of a row from its generator.

    They are drawn where the generator is and moved to ``device``: one on the CPU gives the same
    numbers everywhere.

    Raises
    ------
    ValueError
        The number of generators is not that of the rows.

    Examples
    --------
    >>> two = [torch.Generator().manual_seed(seed) for seed in (0, 0)]
    >>> u = uniforms(2, 3, two, torch.device("cpu"))
    >>> torch.equal(u[0], u[1])
    True
    """
    own = check_generator(generator, rows)
    if own is None:
        return torch.rand(rows, numbers, dtype=torch.float64, device=device)
    if not isinstance(own, list):
        u = torch.rand(rows, numbers, dtype=torch.float64, generator=own, device=own.device)
        return u.to(device)
    each = [torch.rand(numbers, dtype=torch.float64, generator=g, device=g.device) for g in own]
    return torch.stack([u.to(device) for u in each])
