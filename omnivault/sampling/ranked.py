"""Draws behind a top-k: everything happens among the few largest logits, in falling order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import neg

import torch
from torch import Tensor

from omnivault._checks import check_largest
from omnivault.inverse_cdf import uniforms
from omnivault.sampling.candidates import largest_with_equals
from omnivault.sampling.distances import below_largest
from omnivault.sampling.rounding import border_of_min_p, slack_of_tail
from omnivault.sampling.settings import Own, Settings, kept

MOST = 1024
"""Up to so many tokens are few."""


def draw_ranked(logits: Tensor, settings: Settings, generator: Own) -> Tensor | None:
    """Draw a token for each row of logits ``(B, V)`` with a top-k, int64 ``(B,)``.

    None, and nothing is drawn, if equals of the k-th make more than a few of some row.
    """
    rows = len(logits)
    found = largest_with_equals(logits, settings.dials["top_k"], MOST)
    if found is None:
        return None
    values, tokens = found
    check_largest(logits, values[:, 0])
    z = below_largest(values, values[:, 0], settings.temperature)
    masses = z.exp().cumsum(-1, dtype=torch.float64)
    u = uniforms(rows, 1, generator, logits.device).flatten()
    ranked = (x.tolist() for x in (values, z, masses, tokens, u))
    dials = (settings.of_each(name, rows) for name in ("top_k", "top_p", "min_p"))
    drawn = []
    for row, (value, distance, mass, names, v, k, p, m) in enumerate(
        zip(*ranked, *dials, strict=True)
    ):
        # Equals of the k-th are kept with it.
        size = bisect_right(value, -value[k - 1], key=neg)
        names = names[:size]
        n = _kept(distance, mass, names, p, m, z.dtype)
        if n is None:
            names, mass = _by_definition(logits, settings, row, z, tokens[:, :size])
            n = len(names)
        drawn.append(names[bisect_right(mass, v * mass[n - 1], 0, n - 1)])
    return tokens.new_tensor(drawn)


def _kept(
    z: list[float], mass: list[float], names: list[int], p: float, m: float, dtype: torch.dtype
) -> int | None:
    """How many of the first tokens top-p and min-p keep, or None if rounding decides.

    ``z`` falls from 0; ``mass`` has the sums of its exponentials. Of equals at the border those
    with the highest indices are put first.
    """
    size = n = len(names)
    if p < 1:
        total = mass[size - 1]
        n = bisect_left(mass, p * total, 0, size - 1) + 1
        left, slack = (1 - p) * total, slack_of_tail(size, dtype, 1 - p)
        if n < size and total - mass[n - 1] > left * (1 - slack):
            return None
        if n > 1 and total - mass[n - 2] < left * (1 + slack):
            return None
        if n < size and z[n] == z[n - 1]:
            first = bisect_left(z, -z[n], key=neg)
            last = bisect_right(z, -z[n], 0, size, key=neg)
            names[first:last] = sorted(names[first:last], reverse=True)
    if m > 0:
        low, high = border_of_min_p(m, dtype)
        sure = bisect_right(z, -high, 0, n, key=neg)
        if sure < bisect_right(z, -low, 0, n, key=neg):
            return None
        n = sure
    return n


def _by_definition(
    logits: Tensor, settings: Settings, row: int, z: Tensor, tokens: Tensor
) -> tuple[list[int], list[float]]:
    this = slice(row, row + 1)
    stay = kept(logits[this], settings[this])[0, tokens[row]].isfinite()
    (places,) = stay.nonzero(as_tuple=True)
    mass = z[row, places].exp().cumsum(-1, dtype=torch.float64)
    return tokens[row, places].tolist(), mass.tolist()
