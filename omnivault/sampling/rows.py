"""A token for each row of logits: draw first, ask afterwards whether it is kept.

What is made of a row is made for a few rows at a time, and used while it is near the processor.
Behind a top-k, everything happens among the few tokens that it keeps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from omnivault._checks import check_largest
from omnivault._parts import in_parts, row_maxima
from omnivault.inverse_cdf import draw_rows
from omnivault.sampling.candidates import kept_by_top_k
from omnivault.sampling.distances import below_largest
from omnivault.sampling.nucleus import inside
from omnivault.sampling.settings import Settings
from omnivault.sampling.truncation import TRUNCATIONS, top_k, truncate

LONG = 2**15
"""Rows of so many logits are taken one by one."""

AT_ONCE = 2**20
"""How many logits of shorter rows are taken together."""

Own = torch.Generator | list[torch.Generator] | None


def draw_tokens(logits: Tensor, settings: Settings, generator: Own) -> Tensor:
    """Draw a token for each row of logits ``(B, V)``, int64 ``(B,)``; B is not 0."""
    rows, size = logits.shape
    step = rows if not logits.is_cpu else 1 if size >= LONG else AT_ONCE // size
    if rows <= step:
        return _draw(logits, settings, generator)
    parts = [slice(start, start + step) for start in range(0, rows, step)]
    return torch.cat([_draw(logits[p], settings[p], _of(generator, p)) for p in parts])


def _draw(logits: Tensor, settings: Settings, generator: Own) -> Tensor:
    if not settings.dials.keys() <= {"top_k", "top_p", "min_p"}:
        return _draw_by_definition(logits, settings, generator)
    values, names = logits, None
    if (k := settings.dials.get("top_k")) is not None:
        few = k <= logits.shape[-1] // 4
        if isinstance(few, Tensor) and bool(few.any()) and not bool(few.all()):
            drawn = torch.empty(len(logits), dtype=torch.int64, device=logits.device)
            for kind in (few, ~few):
                (some,) = kind.squeeze(1).nonzero(as_tuple=True)
                drawn[some] = _draw(logits[some], settings[some], _of(generator, some))
            return drawn
        if bool(few.all()) if isinstance(few, Tensor) else few:
            values, names = kept_by_top_k(logits, k)
        else:
            values = top_k(logits, settings.for_functions["top_k"])
    largest = row_maxima(logits) if names is None else values[:, 0]
    check_largest(logits, largest)
    cold = settings.cold
    if cold is not None and cold.ndim == 0:
        return logits.argmax(-1)
    z = below_largest(values, largest, settings.temperature)
    # The exponentials of a softmax are faster than `exp`, but it splits several rows over threads.
    weights = z.softmax(-1) if z.shape[-1] >= LONG else z.exp()
    if settings.dials.keys() <= {"top_k"}:  # nothing is left to be asked
        drawn = draw_rows(weights, generator)
    else:
        rows = _Rows(logits, settings, names, z, weights)
        drawn = rows.draw(rows.above_min_p(), generator)
    if names is not None:
        drawn = names.gather(1, drawn.unsqueeze(1)).squeeze(1)
    return drawn if cold is None else torch.where(cold.squeeze(1), logits.argmax(-1), drawn)


@dataclass(frozen=True)
class _Rows:
    """Rows that are drawn from."""

    logits: Tensor
    """The whole rows, of which the definitions can be asked."""
    settings: Settings
    names: Tensor | None
    """The tokens of the columns of z, if these are not all in their order."""
    z: Tensor
    weights: Tensor
    """Proportional to softmax(z)."""

    def draw(self, drawable: Tensor, generator: Own) -> Tensor:
        """Draw a column of each row, until it is kept."""
        drawn = draw_rows(drawable, generator)
        if out := self.not_kept(drawn):
            which = torch.tensor(out, device=drawn.device)
            drawn[which] = self[which].draw_before(
                drawn[which], drawable[which], _of(generator, which)
            )
        return drawn

    def draw_before(self, rejected: Tensor, drawable: Tensor, generator: Own) -> Tensor:
        """Draw again: what comes after a token that is out is out as well."""
        column = rejected.unsqueeze(-1)
        at = self.z.gather(-1, column)
        # Before it are the larger, and of its equals those with a higher index.
        if self.names is None:
            higher = torch.arange(self.z.shape[-1], device=at.device) > column
        else:
            higher = self.names > self.names.gather(-1, column)
        return self.draw(drawable * ((self.z > at) | ((self.z == at) & higher)), generator)

    def __getitem__(self, which: Tensor) -> _Rows:
        names = None if self.names is None else self.names[which]
        return _Rows(
            self.logits[which], self.settings[which], names, self.z[which], self.weights[which]
        )

    def above_min_p(self) -> Tensor:
        """The weights that min-p may keep."""
        low = self._border(-1)
        if low is None:
            return self.weights
        above = torch.empty_like(self.z)
        three = in_parts(self.z), in_parts(self.weights), in_parts(above)
        for z, weight, result in zip(*three, strict=True):
            # A comparison that gives 0 or 1 as floats is faster than a mask of booleans.
            torch.ge(z, low, out=result).mul_(weight)
        return above

    def _border(self, side: int) -> float | Tensor | None:
        """The border of min-p in z, a little below or above, as far as rounding may move it."""
        p = self.settings.dials.get("min_p", 0.0)
        u = torch.finfo(self.z.dtype).eps / 2
        if isinstance(p, Tensor):
            log = p.log()
            return (log + side * 64 * u * (1 + log.abs())).nan_to_num(nan=-torch.inf).to(self.z.dtype)
        return math.log(p) + side * 64 * u * (1 - math.log(p)) if p > 0 else None

    def not_kept(self, drawn: Tensor) -> list[int]:
        """Rows whose token is not kept."""
        p = self.settings.dials.get("top_p", 1.0)
        found = [True] * len(drawn)
        if isinstance(p, Tensor) or p < 1:
            found = inside(
                self.z, self.weights, drawn, p, self.names, lambda row, at: self._is_kept(row, at)
            )
        high = self._border(1)
        if high is not None:
            near = self.z.gather(-1, drawn.unsqueeze(-1)) < high
            for row, close in enumerate(near.squeeze(-1).tolist()):
                if found[row] and close:
                    found[row] = self._is_kept(row, int(drawn[row]))
        return [row for row, kept in enumerate(found) if not kept]

    def _is_kept(self, row: int, column: int) -> bool:
        """Whether the definitions keep a token."""
        token = column if self.names is None else int(self.names[row, column])
        this = slice(row, row + 1)
        return bool(_kept(self.logits[this], self.settings[this])[0, token].isfinite())


def _kept(logits: Tensor, settings: Settings) -> Tensor:
    """Z, with ``-inf`` where a token is ruled out, one definition after the other."""
    dials = settings.for_functions
    early = {name: value for name, value in dials.items() if TRUNCATIONS[name].commutes}
    later = {name: value for name, value in dials.items() if name not in early}
    kept = truncate(logits, early)
    return truncate(below_largest(kept, row_maxima(logits), settings.temperature), later)


def _draw_by_definition(logits: Tensor, settings: Settings, generator: Own) -> Tensor:
    check_largest(logits, row_maxima(logits))
    drawn = draw_rows(_kept(logits, settings).softmax(-1), generator)
    cold = settings.cold
    return drawn if cold is None else torch.where(cold.squeeze(-1) if cold.ndim else cold, logits.argmax(-1), drawn)


def _of(generator: Own, rows: slice | Tensor) -> Own:
    """The generators of some rows."""
    if not isinstance(generator, list):
        return generator
    return generator[rows] if isinstance(rows, slice) else [generator[r] for r in rows.tolist()]
