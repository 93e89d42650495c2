"""The nucleus of top-p without a sort: draw first, ask afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from omnivault._checks import Generator, at_least_float32, check_rows, check_share, some_values
from omnivault.inverse_cdf import BLOCK, block_sums, draw_rows
from omnivault.sampling.distances import below_largest
from omnivault.sampling.truncation import top_p


def in_nucleus(logits: Tensor, tokens: Tensor, p: float) -> Tensor:
    """Say of one token of each row whether :func:`top_p` keeps it, mostly without a sort.

    It does if this token and those after it in the ranking have more than the mass 1 - p.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    tokens
        Token indices, int64 of shape ``(...)``.
    p
        The mass of the nucleus, in (0, 1].

    Returns
    -------
    Tensor
        bool of shape ``(...)``.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``p`` is not a number.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, ``p`` is not in (0, 1], or
        ``tokens`` is not int64 of its shape or holds what is not in [0, V).

    Examples
    --------
    >>> logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log().expand(4, 4)
    >>> in_nucleus(logits, torch.arange(4), 0.76)
    tensor([ True,  True, False,  True])
    """
    largest = check_rows(logits)
    p = check_share(p)
    size = logits.shape[-1]
    if tokens.shape != logits.shape[:-1] or tokens.dtype != torch.int64:
        raise ValueError(
            f"tokens must be int64 of shape {tuple(logits.shape[:-1])}, one for each row, got "
            f"{tokens.dtype} of shape {tuple(tokens.shape)}"
        )
    outside = (tokens < 0) | (tokens >= size)
    if bool(outside.any()):
        raise ValueError(f"tokens must lie in [0, {size}), got {some_values(tokens[outside])}")
    z = at_least_float32(logits)
    weights = below_largest(z, largest).exp()
    rows = z.reshape(-1, size), weights.reshape(-1, size), tokens.reshape(-1)
    return inside(*rows, p).reshape(tokens.shape)


def draw_from_nucleus(
    z: Tensor,
    weights: Tensor,
    drawable: Tensor,
    p: float,
    generator: Generator,
) -> Tensor:
    """Draw a token of each row until it is in the nucleus of softmax(z); weights are exp(z)."""
    drawn = draw_rows(drawable, generator)
    (out,) = (~inside(z, weights, drawn, p)).nonzero(as_tuple=True)
    if len(out):
        z, rejected = z[out], drawn[out].unsqueeze(-1)
        at = z.gather(-1, rejected)
        # What comes after a token that is out is out as well. Before it are the larger, and of
        # its equals those with a higher index.
        index = torch.arange(z.shape[-1], device=z.device)
        before = (z > at) | ((z == at) & (index > rejected))
        if isinstance(generator, Sequence):
            generator = [generator[row] for row in out.tolist()]
        drawn[out] = draw_from_nucleus(z, weights[out], drawable[out] * before, p, generator)
    return drawn


def inside(z: Tensor, weights: Tensor, tokens: Tensor, p: float) -> Tensor:
    """As :func:`in_nucleus`, for rows; weights are proportional to softmax(z), the largest is 1."""
    own, at = (x.gather(-1, tokens.unsqueeze(-1)) for x in (weights, z))
    own, total = own.squeeze(-1).double(), block_sums(weights).sum(-1)
    # A comparison in place gives 0 or 1 as floats, which is faster than a mask of booleans.
    smaller = block_sums(z.clone().lt_(at).mul_(weights)).sum(-1)
    # Whoever adds V positive numbers, in whatever order, is wrong by a factor of at most
    # 1 ± V u. `top_p` adds so; the sums here do in blocks, and exp adds a few u of its own.
    limits = torch.finfo(z.dtype)
    slack = (z.shape[-1] + 3 * BLOCK) * limits.eps / 2
    lost = z.shape[-1] * limits.tiny  # in a softmax whose small numbers underflow
    # Whichever place it has among equals.
    within = smaller + own > ((1 - p) * (1 + slack) + lost) * total
    (asked,) = (~within).nonzero(as_tuple=True)
    if len(asked):
        z, at, tokens = z[asked], at[asked], tokens[asked]
        with_equals = smaller[asked] + own[asked] * (z == at).sum(-1)
        close = with_equals > (1 - p) * (1 - slack) * total[asked]
        # Where rounding or the place among equals decides, the definition is asked.
        for row in close.nonzero(as_tuple=True)[0]:
            within[asked[row]] = top_p(z[row], p)[tokens[row]].isfinite()
    return within
