"""Checks for the chapter *How serving engines sample*."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from omnivault.exercises.checking import Case, exercise, returns


@exercise(
    "ex-rejections",
    hint="rank the tokens first; the sum begins with the first one that the nucleus leaves out.",
)
def rejections(expected_rejections: Any, generator: torch.Generator) -> Iterator[Case]:
    for size in (2, 3, 5, 10, 30):
        for scale in (0.3, 1.0, 2.0):
            z = scale * (2 * torch.rand(size, generator=generator) - 1)
            p = z[torch.randperm(size, generator=generator)].softmax(0)
            ranked = sorted(p.tolist(), reverse=True)
            for share in (0.0, 0.5, 1.0):  # of the tokens, in the nucleus before its last one
                before = round(share * (size - 1))
                # Inside the last step, so that rounding cannot move the border.
                part = 0.2 + 0.6 * torch.rand(1, generator=generator).item()
                rho = sum(ranked[:before]) + part * ranked[before]
                mass = expected = 0.0
                for p_k in ranked:
                    behind = mass >= rho
                    mass += p_k
                    expected += p_k / mass if behind else 0.0
                yield returns(expected_rejections, p, rho, expected=expected, abs=1e-5)


@exercise(
    "ex-speculative",
    hint="how often is i drawn and then accepted? What is left over has to make up for the rest.",
)
def speculative(accepted_and_redrawn: Any, generator: torch.Generator) -> Iterator[Case]:
    for size in (2, 2, 3, 4, 6, 10, 20):
        p, q = (2 * torch.randn(2, size, generator=generator)).softmax(-1)
        if size == 4:
            q = q.index_fill(0, torch.tensor(1), 0.0)  # the first draw never gives this one
            q /= q.sum()
        if size == 6:
            q = p
        accepted = [
            q_i * min(1.0, p_i / q_i) if q_i else 0.0 for p_i, q_i in zip(p, q, strict=True)
        ]
        redrawn = [p_i - a for p_i, a in zip(p, accepted, strict=True)]
        yield returns(accepted_and_redrawn, p, q, expected=(accepted, redrawn), abs=1e-5)


@exercise(
    "ex-lookahead",
    hint="divide the expected tokens of a round by the time it takes, and let g = 0 take part.",
)
def lookahead(best_lookahead: Any, generator: torch.Generator) -> Iterator[Case]:
    def pays_below(a: float, g: int) -> float:
        """Return the price at which the g-th proposal neither helps nor hurts."""
        return a**g / (sum(a**i for i in range(g)) - (g - 1) * a**g)

    for best in (3, 0, 1, 2, 0, 4, 5, 7, 10, 0, 15, 20):
        chance, place = (0.3 + 0.4 * torch.rand(2, generator=generator)).tolist()
        a = chance ** (1 / max(best, 1))
        # One more proposal pays less and less, so a price between two of these has one answer.
        low = pays_below(a, best + 1)
        high = pays_below(a, best) if best else 3 * a
        c = low + place * (high - low)
        yield returns(best_lookahead, a, c, expected=best)
