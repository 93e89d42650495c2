"""A token for each row of logits: draw first, ask afterwards whether it is kept.

What is made of a row is made for a few rows at a time, and used while it is near the processor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from omnivault._checks import check_largest
from omnivault._parts import by_row, in_parts, row_maxima
from omnivault.inverse_cdf import SHORT, draw_rows
from omnivault.sampling.distances import below_largest
from omnivault.sampling.nucleus import outside
from omnivault.sampling.ranked import MOST, draw_ranked
from omnivault.sampling.rounding import border_of_min_p
from omnivault.sampling.settings import Own, Settings, kept
from omnivault.sampling.truncation import top_k

ASKED = frozenset({"top_k", "top_p", "min_p"})
"""Truncations that need not be applied to a whole row."""

AT_ONCE = 2**18
"""How many logits are taken together."""


def draw_tokens(logits: Tensor, settings: Settings, generator: Own) -> Tensor:
    """Draw a token for each row of logits ``(B, V)``, int64 ``(B,)``; B is not 0."""
    rows, size = logits.shape
    step = max(1, AT_ONCE // size) if logits.is_cpu else rows
    if rows <= step:
        return _draw(logits, settings, generator)
    check_largest(logits, row_maxima(logits))  # before a number is drawn for any of them
    parts = [slice(start, start + step) for start in range(0, rows, step)]
    return torch.cat([_draw(logits[p], settings[p], _of(generator, p)) for p in parts])


def _draw(logits: Tensor, settings: Settings, generator: Own) -> Tensor:
    if logits.stride(-1) != 1:  # sums are made in the order in which numbers lie in memory
        logits = logits.contiguous()
    cold = settings.cold
    if cold is not None and cold.ndim == 0:
        check_largest(logits, row_maxima(logits))
        return logits.argmax(-1)
    drawn = _draw_warm(logits, settings, generator)
    return drawn if cold is None else torch.where(cold.squeeze(1), logits.argmax(-1), drawn)


def _draw_warm(logits: Tensor, settings: Settings, generator: Own) -> Tensor:
    dials = settings.dials
    if not ASKED.issuperset(dials):
        check_largest(logits, row_maxima(logits))
        return draw_rows(kept(logits, settings).softmax(-1), generator)
    values = logits
    k = dials.get("top_k")
    if k is not None:
        few = k <= _few(logits.shape[-1])
        if isinstance(few, Tensor) and bool(few.any()) and not bool(few.all()):
            check_largest(logits, row_maxima(logits))
            return _two_kinds(logits, few.squeeze(1), settings, generator)
        if bool(few.all()) if isinstance(few, Tensor) else few:
            drawn = draw_ranked(logits, settings, generator)
            if drawn is not None:
                return drawn
        values = top_k(logits, settings.for_functions["top_k"])
    largest = row_maxima(logits)
    check_largest(logits, largest)
    z = below_largest(values, largest, settings.temperature)
    weights = _weights(z)
    if not dials or (len(dials) == 1 and k is not None):  # nothing is left to be asked
        return draw_rows(weights, generator)
    rows = _Rows(logits, settings, z, weights)
    return rows.draw(rows.above_min_p(), generator)


def _few(size: int) -> int:
    """How many tokens of a vocabulary are few; many rows of a small one are drawn together."""
    return min(MOST, size // 4) if size >= SHORT else 0


def _two_kinds(logits: Tensor, few: Tensor, settings: Settings, generator: Own) -> Tensor:
    drawn = torch.empty(len(logits), dtype=torch.int64, device=logits.device)
    for kind in (few, ~few):
        (some,) = kind.nonzero(as_tuple=True)
        drawn[some] = _draw_warm(logits[some], settings[some], _of(generator, some))
    return drawn


def _weights(z: Tensor) -> Tensor:
    if z.shape[-1] <= SHORT:
        return z.exp()
    # With vector instructions the exponentials of a softmax are faster than those of `exp`.
    weights = torch.empty_like(z)
    for row, result in by_row(z, weights):
        torch.softmax(row, -1, out=result)
    return weights


@dataclass(frozen=True)
class _Rows:
    """Rows that are drawn from."""

    logits: Tensor
    """The rows as they came, of which the definitions can be asked."""
    settings: Settings
    z: Tensor
    weights: Tensor
    """Proportional to softmax(z)."""

    def draw(self, drawable: Tensor, generator: Own) -> Tensor:
        """Draw a token of each row, until it is kept."""
        drawn = draw_rows(drawable, generator)
        if out := self._not_kept(drawn):
            which = torch.tensor(out, device=drawn.device)
            rejected = drawn[which].unsqueeze(-1)
            z = self.z[which]
            at = z.gather(-1, rejected)
            # What comes after a token that is out is out as well. Before it are the larger, and of
            # its equals those with a higher index.
            index = torch.arange(z.shape[-1], device=z.device)
            before = (z > at) | ((z == at) & (index > rejected))
            rest = _Rows(self.logits[which], self.settings[which], z, self.weights[which])
            drawn[which] = rest.draw(drawable[which] * before, _of(generator, which))
        return drawn

    def above_min_p(self) -> Tensor:
        """Return the weights, 0 where min-p cannot keep a token."""
        if "min_p" not in self.settings.dials:
            return self.weights
        low = self._border(0)
        # Without a top-p nobody asks for the weights again.
        above = torch.empty_like(self.z) if "top_p" in self.settings.dials else self.weights
        four = in_parts(self.z, self.weights, above, low.expand(len(self.z), 1))
        for z, weight, result, border in four:
            # A comparison that gives 0 or 1 as floats is faster than a mask of booleans.
            torch.mul(torch.ge(z, border, out=torch.empty_like(z)), weight, out=result)
        return above

    def _border(self, which: int) -> Tensor:
        """One border of min-p, ``(1, 1)`` or ``(B, 1)``."""
        p = self.settings.dials["min_p"]
        each = p.flatten().tolist() if isinstance(p, Tensor) else [p]
        borders = [[border_of_min_p(one, self.z.dtype)[which]] for one in each]
        return torch.tensor(borders, dtype=self.z.dtype, device=self.z.device)

    def _not_kept(self, drawn: Tensor) -> list[int]:
        """Rows whose token is not kept."""
        dials, at = self.settings.dials, self.z.gather(-1, drawn.unsqueeze(-1))
        out = []
        if "top_p" in dials:
            out = outside(self.z, self.weights, drawn, at, dials["top_p"])
        if "min_p" in dials:
            near = (at < self._border(1)).flatten().tolist()
            out += [
                row
                for row in range(len(near))
                # Where rounding decides, the definitions are asked.
                if near[row] and row not in out and not self._is_kept(row, drawn[row])
            ]
        return out

    def _is_kept(self, row: int, token: Tensor) -> bool:
        this = slice(row, row + 1)
        return bool(kept(self.logits[this], self.settings[this])[0, token].isfinite())


def _of(generator: Own, rows: slice | Tensor) -> Own:
    """Return the generators of some rows."""
    if not isinstance(generator, list):
        return generator
    return generator[rows] if isinstance(rows, slice) else [generator[r] for r in rows.tolist()]
