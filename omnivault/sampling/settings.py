"""Temperature and dials of a draw, checked: one number for all rows, or one for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from omnivault._checks import anywhere, check_temperature
from omnivault.sampling.dials import BEST_ALONE, for_each_row, number_of_tokens, reach, share
from omnivault.sampling.temperature import scaled
from omnivault.sampling.truncation import truncate

CHECKS: dict[str, Callable[[Any, Tensor], Any]] = {
    "top_k": lambda value, logits: number_of_tokens(value, logits, "top_k"),
    "top_n_sigma": lambda value, logits: reach(value, logits, "top_n_sigma"),
    "top_p": lambda value, logits: share(value, logits, "top_p"),
    "min_p": lambda value, logits: share(value, logits, "min_p", zero=True),
    "typical_p": lambda value, logits: share(value, logits, "typical_p"),
    "epsilon_cutoff": lambda value, logits: share(value, logits, "epsilon_cutoff", zero=True),
    "eta_cutoff": lambda value, logits: share(value, logits, "eta_cutoff", zero=True),
    "top_a": lambda value, logits: share(value, logits, "top_a", zero=True),
    "p_less": lambda value, logits: reach(value, logits, "p_less", keeps=BEST_ALONE),
    "top_h": lambda value, logits: share(value, logits, "top_h"),
    "tail_free": lambda value, logits: share(value, logits, "tail_free"),
    "xtc": lambda value, logits: share(value, logits, "xtc"),
}


OFF = {"top_p": 1.0, "min_p": 0.0}
"""What keeps every token."""

Own = torch.Generator | list[torch.Generator] | None
"""Where random numbers come from: checked, one for all rows or one for each."""


@dataclass(frozen=True, slots=True)
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
        if isinstance(temperature, Tensor):
            temperature = temperature.detach()
        divisor = _column(check_temperature(temperature, logits, zero=True))
        cold = None
        if isinstance(temperature, Tensor) or temperature == 0:
            zero = divisor == 0
            if anywhere(zero):
                divisor, cold = torch.where(zero, 1.0, divisor), zero
        checked = {name: _checked(name, value, logits) for name, value in dials.items()}
        return cls(divisor, cold, checked)

    def __getitem__(self, rows: slice | Tensor) -> Settings:
        """Of some rows."""

        def some(value: Any) -> Any:
            return value[rows] if _each(value) else value

        dials = {name: some(value) for name, value in self.dials.items()}
        return Settings(some(self.temperature), some(self.cold), dials)

    def of_each(self, name: str, rows: int) -> list[Any]:
        """Return the numbers of a dial for all rows; one that is not set keeps every token."""
        value = self.dials.get(name, OFF.get(name))
        return value.flatten().tolist() if _each(value) else [value] * rows

    @property
    def for_functions(self) -> dict[str, Any]:
        """The dials as truncations take them, with one dimension where there is one for each."""
        return {
            name: value.squeeze(-1) if _each(value) else value for name, value in self.dials.items()
        }


def _checked(name: str, value: Any, logits: Tensor) -> Any:
    if name in CHECKS:
        value = CHECKS[name](value, logits)
    elif _each(value):  # of a truncation that somebody registered
        value = for_each_row(value, logits, name).unsqueeze(-1)
    return _column(value).to(logits.device) if _each(value) else value


def _each(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


def _column(value: Any) -> Any:
    return value.reshape(-1, 1) if _each(value) else value


def kept(logits: Tensor, settings: Settings) -> Tensor:
    """Return (z - max z) / T with ``-inf`` where a token is ruled out, by the definitions."""
    temperature = settings.temperature
    z, later, _ = scaled(
        logits, temperature.squeeze(-1) if temperature.ndim else temperature, settings.for_functions
    )
    return truncate(z, later)
