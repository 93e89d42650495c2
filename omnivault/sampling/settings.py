"""Temperature and dials of a draw, checked: one number for all rows, or one for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from omnivault._checks import anywhere, check_temperature
from omnivault.sampling.dials import for_each_row, number_of_tokens, reach, share
from omnivault.sampling.distances import below_largest
from omnivault.sampling.truncation import TRUNCATIONS, truncate

CHECKS: dict[str, Callable[[Any, Tensor], Any]] = {
    "top_k": lambda value, logits: number_of_tokens(value, logits, "top_k"),
    "top_n_sigma": lambda value, logits: reach(value, logits, "top_n_sigma"),
    "top_p": lambda value, logits: share(value, logits, "top_p"),
    "min_p": lambda value, logits: share(value, logits, "min_p", zero=True),
    "typical_p": lambda value, logits: share(value, logits, "typical_p"),
}


TRUNCATIONS_OFF = {"top_p": 1.0, "min_p": 0.0}

Own = torch.Generator | list[torch.Generator] | None
"""Where random numbers come from: checked, one for all rows or one for each."""


@dataclass(frozen=True)
class Settings:
    """What is set for B rows: each a number, or a tensor of shape ``(B, 1)``."""

    temperature: Tensor
    """In the dtype of the arithmetic, ``()`` or ``(B, 1)``; 1 where it is 0."""
    cold: Tensor | None
    """Where it is 0, ``()`` or ``(B, 1)``; None if it is nowhere."""
    dials: Mapping[str, Any]
    """By name, in the order in which they are applied."""

    @classmethod
    def of(cls, logits: Tensor, temperature: float | Tensor, dials: Mapping[str, Any]) -> Settings:
        """Check what is set for rows of logits ``(..., V)``."""
        divisor = _column(check_temperature(temperature, logits, zero=True))
        cold = None
        if isinstance(temperature, Tensor) or temperature == 0:
            cold = divisor == 0
            if anywhere(cold):
                divisor = torch.where(cold, 1.0, divisor)
            else:
                cold = None
        checked = {}
        for name, value in dials.items():
            if name in CHECKS:
                value = CHECKS[name](value, logits)
            elif isinstance(value, Tensor) and value.ndim:
                value = for_each_row(value, logits, name).unsqueeze(-1)
            checked[name] = _column(value).to(logits.device) if _each(value) else value
        return cls(divisor, cold, checked)

    def __getitem__(self, rows: slice | Tensor) -> Settings:
        """Of some rows."""

        def some(value: Any) -> Any:
            return value[rows] if _each(value) else value

        dials = {name: some(value) for name, value in self.dials.items()}
        return Settings(some(self.temperature), some(self.cold), dials)

    def of_each(self, name: str, rows: int) -> list[Any]:
        """The numbers of a dial, one for each row; one that is not set keeps every token."""
        value = self.dials.get(name, TRUNCATIONS_OFF.get(name))
        return value.flatten().tolist() if _each(value) else [value] * rows

    @property
    def for_functions(self) -> dict[str, Any]:
        """The dials as truncations take them, with one dimension where there is one for each."""
        return {
            name: value.squeeze(-1) if _each(value) else value for name, value in self.dials.items()
        }


def _each(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


def _column(value: Any) -> Any:
    return value.reshape(-1, 1) if _each(value) else value


def kept(logits: Tensor, settings: Settings) -> Tensor:
    """Return (z - max z) / T with ``-inf`` where a token is ruled out, by the definitions."""
    dials = settings.for_functions
    early = {name: value for name, value in dials.items() if TRUNCATIONS[name].commutes}
    later = {name: value for name, value in dials.items() if name not in early}
    z = below_largest(truncate(logits, early), logits.amax(-1), settings.temperature)
    return truncate(z, later)
