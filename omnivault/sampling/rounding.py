"""How far rounding may move the border of a truncation: farther away, any way to add up agrees."""

from __future__ import annotations

import math

import torch


def slack_of_tail(size: int, dtype: torch.dtype, left: float = 1.0) -> float:
    """How far apart the shares of a tail may be that :func:`top_p` and other sums give.

    A sum of n positive numbers, in whatever order they are added, has each of them multiplied by at
    most n - 1 factors 1 + d with |d| <= u. `top_p` adds the exponentials in its softmax and the
    quotients behind it; here the weights are added, and the tail, in the same precision or a
    better one. An exponential that is off by 20 units in the last place is one with 40 factors, and
    there are four; a quotient, 1 - p, what underflows (V of the smallest normal number, beside
    1 - p >= 2^-53) and this line's own rounding have one or a few. So the two shares are a product
    of m factors (1 + d)^(+-1) apart, which is at most m u / (1 - m u) from 1 (Higham, 2002, lemma
    3.1). A tail of the share ``left`` that is the difference of two sums in float64 loses up to
    2 size 2^-53 of the whole besides.
    """
    factors = 4 * size + 4 * 40 + 32
    lost = factors * torch.finfo(dtype).eps / 2
    if lost >= 1:
        return math.inf
    return lost / (1 - lost) + 2 * size * 2.0**-53 / left


def border_of_min_p(p: float, dtype: torch.dtype) -> tuple[float, float]:
    """Return two borders of (z - max z) / T.

    Below the first :func:`min_p` keeps no token, and from the second on all: two exponentials that
    may be off by 20 units in the last place, or 40 u, two quotients, a product and p itself are
    rounded, which moves the logarithm of the ratio by less than 100 u, and where p is tiny the
    rounding of log p does.
    """
    if p == 0:
        return -math.inf, -math.inf
    log = math.log(p)
    slack = 100 * torch.finfo(dtype).eps / 2 * (1 - log)
    return log - slack, log + slack
