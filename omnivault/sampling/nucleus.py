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
    at = z.gather(-1, tokens.unsqueeze(-1))
    return torch.tensor(answers(z, weights, tokens, at, p), dtype=torch.bool, device=z.device)


def answers(
    z: Tensor, weights: Tensor, tokens: Tensor, at: Tensor, p: float | Tensor
) -> list[bool]:
    """As :func:`inside`, one answer a row, given the logits ``at`` of the tokens, ``(B, 1)``."""
    own = weights.gather(-1, tokens.unsqueeze(-1)).flatten().tolist()
    smaller, total = _mass_below(z, weights, at)
    each = p.flatten().tolist() if isinstance(p, Tensor) else [p] * len(own)
    slack = slack_of_tail(z.shape[-1], z.dtype)
    found = []
    for row, mass in enumerate(own):
        left, border = smaller[row] + mass, (1 - each[row]) * total[row]
        if left > border * (1 + slack):
            found.append(True)
            continue
        if each[row] == 1:
            found.append(bool(at[row] > -torch.inf))
            continue
        # Of its equals those with a lower index come after it.
        token = int(tokens[row])
        left += mass * int((z[row, :token] == at[row]).sum())
        if left > border * (1 + slack):
            found.append(True)
        elif left < border * (1 - slack):
            found.append(False)
        else:  # where rounding decides, the definition is asked
            found.append(bool(top_p(z[row], each[row])[token].isfinite()))
    return found


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
        torch.cat(parts).view(len(z), -1).sum(-1).tolist() for parts in zip(*sums, strict=True)
    )
    return smaller, total
