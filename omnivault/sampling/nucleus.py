"""The nucleus of top-p without a sort: draw first, ask afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from omnivault._checks import (
    Generator,
    anywhere,
    at_least_float32,
    check_dense,
    check_rows,
    shown,
    some_values,
)
from omnivault.inverse_cdf import BLOCK, block_sums, draw_rows
from omnivault.sampling.dials import share
from omnivault.sampling.distances import below_largest
from omnivault.sampling.truncation import top_p


def in_nucleus(logits: Tensor, tokens: Tensor, p: float | Tensor) -> Tensor:
    """Say of one token of each row whether :func:`top_p` keeps it, mostly without a sort.

    It does if this token and those after it in the ranking have more than the mass 1 - p.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    tokens
        Token indices, int64 of shape ``(...)``.
    p
        The mass of the nucleus, in (0, 1]: a number, or a tensor of shape ``(...)`` with one for
        each row.

    Returns
    -------
    Tensor
        bool of shape ``(...)``.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, ``tokens`` is not one of int64, or ``p`` holds no
        numbers.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, ``p`` is not in (0, 1] or has
        another shape, or ``tokens`` has another shape or holds what is not in [0, V).

    Examples
    --------
    >>> logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log().expand(4, 4)
    >>> in_nucleus(logits, torch.arange(4), 0.76)
    tensor([ True,  True, False,  True])
    """
    largest = check_rows(logits)
    p = share(p, logits, "p")
    size = logits.shape[-1]
    if not isinstance(tokens, Tensor) or tokens.dtype != torch.int64:
        raise TypeError(f"tokens must be an int64 tensor, got {shown(tokens)}")
    check_dense(tokens, "tokens")
    if tokens.shape != logits.shape[:-1]:
        raise ValueError(
            f"tokens must have the shape {tuple(logits.shape[:-1])}, one for each row, got "
            f"{tuple(tokens.shape)}"
        )
    outside = (tokens < 0) | (tokens >= size)
    if anywhere(outside):
        raise ValueError(f"tokens must lie in [0, {size}), got {some_values(tokens[outside])}")
    z = at_least_float32(logits)
    weights = below_largest(z, largest).exp()
    rows = z.reshape(-1, size), weights.reshape(-1, size), tokens.reshape(-1)
    return inside(*rows, for_rows(p, z.device)).reshape(tokens.shape)


def for_rows(p: float | Tensor, device: torch.device) -> float | Tensor:
    """Return the numbers of all rows in one dimension, float64."""
    return p.reshape(-1).to(device) if isinstance(p, Tensor) else p


def draw_from_nucleus(
    z: Tensor,
    weights: Tensor,
    drawable: Tensor,
    p: float | Tensor,
    generator: Generator,
) -> Tensor:
    """Draw a token of each row until it is in the nucleus of softmax(z); weights are exp(z).

    p is one number, or float64 with one for each row.
    """
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
        p = p[out] if isinstance(p, Tensor) else p
        drawn[out] = draw_from_nucleus(z, weights[out], drawable[out] * before, p, generator)
    return drawn


def inside(z: Tensor, weights: Tensor, tokens: Tensor, p: float | Tensor) -> Tensor:
    """As :func:`in_nucleus`, for rows; weights are proportional to softmax(z), the largest is 1."""
    own, at = (x.gather(-1, tokens.unsqueeze(-1)) for x in (weights, z))
    own, total = own.squeeze(-1).double(), block_sums(weights).sum(-1)
    # A comparison in place gives 0 or 1 as floats, which is faster than a mask of booleans.
    smaller = block_sums(z.clone().lt_(at).mul_(weights)).sum(-1)
    # Whichever place it has among equals.
    slack = _slack(z.shape[-1], z.dtype)
    within = smaller + own > (1 - p) * (1 + slack) * total
    if isinstance(p, Tensor) or p == 1:
        within |= (at.squeeze(-1) > -torch.inf) & (p == 1)
    (asked,) = (~within).nonzero(as_tuple=True)
    if len(asked):
        z, at, tokens = z[asked], at[asked], tokens[asked]
        with_equals = smaller[asked] + own[asked] * (z == at).sum(-1)
        each = p[asked] if isinstance(p, Tensor) else p
        close = with_equals > (1 - each) * (1 - slack) * total[asked]
        # Where rounding or the place among equals decides, the definition is asked.
        for row in close.nonzero(as_tuple=True)[0]:
            own_p = each[row].item() if isinstance(each, Tensor) else each
            within[asked[row]] = top_p(z[row], own_p)[tokens[row]].isfinite()
    return within


def _slack(size: int, dtype: torch.dtype) -> float:
    """How far apart the shares of a tail may be that `top_p` and that block sums give.

    A sum of n positive numbers, in whatever order they are added, has each of them multiplied by at
    most n - 1 factors 1 + d with |d| <= u. `top_p` adds V exponentials in its softmax and V
    quotients behind it; here blocks of 128 are added, twice, and their sums in float64, up to
    2 V / 128 of u each, to be generous where z is in float64 too. An exponential that is off by 20
    units in the last place is one with 40 factors, and there are four; a quotient, 1 - p, what
    underflows (V of the smallest normal number, beside 1 - p >= 2^-53) and this line's own
    rounding have one or a few. So the two shares are a product of m factors (1 + d)^(+-1) apart,
    which is at most m u / (1 - m u) from 1 (Higham, 2002, lemma 3.1).
    """
    factors = 2 * size + size // 32 + 2 * BLOCK + 4 * 40 + 32
    lost = factors * torch.finfo(dtype).eps / 2
    return lost / (1 - lost) if lost < 1 else float("inf")
