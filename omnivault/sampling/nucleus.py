"""The nucleus of top-p without a sort: draw first, ask afterwards."""

from __future__ import annotations

from collections.abc import Callable

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
    return torch.tensor(inside(*rows, p), device=z.device).reshape(tokens.shape)


def inside(
    z: Tensor,
    weights: Tensor,
    tokens: Tensor,
    p: float | Tensor,
    names: Tensor | None = None,
    definition: Callable[[int, int], bool] | None = None,
) -> list[bool]:
    """As :func:`in_nucleus`, for rows; weights are proportional to softmax(z).

    Where z holds some tokens alone, ``names`` are their indices, and ``definition`` says of a row
    and a column whether the whole row keeps it.
    """
    column = tokens.unsqueeze(-1)
    at = z.gather(-1, column)
    own = weights.gather(-1, column).squeeze(-1).tolist()
    smaller, total = _mass_below(z, weights, at)
    each = p.flatten().tolist() if isinstance(p, Tensor) else [p] * len(own)
    slack = _slack(z.shape[-1], z.dtype)
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
        token, equal = int(tokens[row]), z[row] == at[row]
        lower = equal[:token] if names is None else equal & (names[row] < names[row, token])
        left += mass * int(lower.sum())
        if left > border * (1 + slack):
            found.append(True)
        elif left < border * (1 - slack):
            found.append(False)
        elif definition is not None:
            found.append(definition(row, token))
        else:
            found.append(bool(top_p(z[row], each[row])[token].isfinite()))
    return found


def _mass_below(z: Tensor, weights: Tensor, at: Tensor) -> tuple[list[float], list[float]]:
    """Sum the weights of the logits that are smaller, and all."""
    below = torch.empty_like(z)
    smaller: list[Tensor] = []
    total: list[Tensor] = []
    three = in_parts(z), in_parts(weights), in_parts(below)
    for part, weight, result in zip(*three, strict=True):
        total.append(weight.sum(-1))
        # A comparison that gives 0 or 1 as floats is faster than a mask of booleans.
        smaller.append(torch.lt(part, at, out=result).mul_(weight).sum(-1))
    if len(total) == 1:
        return smaller[0].tolist(), total[0].tolist()
    return [sum(float(x) for x in smaller)], [sum(float(x) for x in total)]


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
    factors = 4 * size + 4 * 40 + 32
    lost = factors * torch.finfo(dtype).eps / 2
    return lost / (1 - lost) if lost < 1 else float("inf")
