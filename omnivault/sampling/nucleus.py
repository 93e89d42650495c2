"""The nucleus of top-p without a sort: draw first, ask afterwards."""

from __future__ import annotations

import torch
from torch import Tensor

from omnivault._checks import (
    anywhere,
    at_least_float32,
    check_dense,
    check_rows,
    shown,
    some_values,
)
from omnivault._parts import in_parts
from omnivault.sampling.dials import share
from omnivault.sampling.distances import below_largest
from omnivault.sampling.rounding import slack_of_tail
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
    return inside(*rows, p).reshape(tokens.shape)


def inside(z: Tensor, weights: Tensor, tokens: Tensor, p: float | Tensor) -> Tensor:
    """As :func:`in_nucleus`, for rows; weights are proportional to softmax(z)."""
    found = torch.ones(len(z), dtype=torch.bool, device=z.device)
    found[outside(z, weights, tokens, z.gather(-1, tokens.unsqueeze(-1)), p)] = False
    return found


def outside(z: Tensor, weights: Tensor, tokens: Tensor, at: Tensor, p: float | Tensor) -> list[int]:
    """Return the rows that are not :func:`inside`, given the logits ``at`` of their tokens."""
    own = weights.gather(-1, tokens.unsqueeze(-1)).flatten().tolist()
    smaller, total = _mass_below(z, weights, at)
    share = p.flatten().tolist() if isinstance(p, Tensor) else [p] * len(own)
    slack = slack_of_tail(z.shape[-1], z.dtype)
    # In float64. Whatever place a token has among its equals, more than this is enough.
    few = [
        row
        for row, (s, w, t, q) in enumerate(zip(smaller, own, total, share, strict=True))
        if s + w <= (1 - q) * (1 + slack) * t
    ]
    if not few:
        return few
    some = torch.tensor(few, device=z.device)
    index = torch.arange(z.shape[-1], device=z.device)
    # Of its equals those with a lower index come after it.
    after = (z[some] == at[some]) & (index < tokens[some].unsqueeze(-1))
    out = []
    for row, equals in zip(few, after.sum(-1).tolist(), strict=True):
        left, limit = smaller[row] + own[row] * (1 + equals), (1 - share[row]) * total[row]
        if share[row] == 1:  # every token that is not ruled out
            is_out = bool(at[row] == -torch.inf)
        elif left > limit * (1 + slack):
            is_out = False
        elif left < limit * (1 - slack):
            is_out = True
        else:  # where rounding decides, the definition is asked
            is_out = not top_p(z[row], share[row])[tokens[row]].isfinite()
        if is_out:
            out.append(row)
    return out


def _mass_below(z: Tensor, weights: Tensor, at: Tensor) -> tuple[list[float], list[float]]:
    """Sum the weights of the logits that are smaller, and all."""
    sums = [
        # A comparison that gives 0 or 1 as floats is faster than a mask of booleans.
        (torch.lt(part, a, out=torch.empty_like(part)).mul_(weight).sum(-1), weight.sum(-1))
        for part, weight, a in in_parts(z, weights, at)
    ]
    if len(sums) == 1:
        return sums[0][0].tolist(), sums[0][1].tolist()
    smaller, total = (
        torch.cat(parts).view(len(z), -1).double().sum(-1).tolist()
        for parts in zip(*sums, strict=True)
    )
    return smaller, total
