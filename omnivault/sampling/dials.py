"""What sets a truncation: one number for all rows, or a tensor with one for each."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from omnivault._checks import (
    anywhere,
    broadcasts_to,
    check_dense,
    check_integer,
    check_number,
    shown,
    some_values,
)

BEST_ALONE = "inf keeps the most probable tokens alone"


def number_of_tokens(k: int | Tensor, logits: Tensor, name: str) -> int | Tensor:
    """Return k of [1, V]: an int, or int64 of shape ``(..., 1)`` where the logits are."""
    most = logits.shape[-1]
    message = f"{name} must lie in [1, {most}], the size of the vocabulary, got {{}}; " + (
        f"{most} keeps every token"
    )
    if not isinstance(k, Tensor) or k.ndim == 0:
        _refuse_list(k, name, "an int such as 50")
        number = check_integer(k, name, 50)
        if not 1 <= number <= most:
            raise ValueError(message.format(shown(k)))
        return number
    if k.dtype.is_floating_point or _is_no_number(k):
        raise TypeError(f"{name} must hold integers such as 50, got {shown(k)}; try {name}.long()")
    k = k.long()  # beside a narrow dtype the size of the vocabulary wraps around
    wrong = (k < 1) | (k > most)
    if anywhere(wrong):
        raise ValueError(message.format(some_values(k[wrong])))
    return for_each_row(k, logits, name).to(logits.device).unsqueeze(-1)


def at_most(k: Any, size: int) -> Any:
    """Return k or, if it is more, the size; what is no number of tokens stays as it is."""
    if isinstance(k, Tensor):
        return k if k.dtype.is_floating_point or _is_no_number(k) else k.long().clamp(max=size)
    return min(k, size) if isinstance(k, Integral) else k


def share(p: float | Tensor, logits: Tensor, name: str, *, zero: bool = False) -> float | Tensor:
    """Return p of (0, 1], with ``zero`` of [0, 1]: a float, or float64 of shape ``(..., 1)``."""
    interval, advice = ("[0, 1]", "0") if zero else ("(0, 1]", "1")
    keeps = f"{advice} keeps every token"
    return _real(p, logits, name, 1.0, zero, 0.9, f"{interval}, got {{}}; {keeps}")


def reach(
    n: float | Tensor, logits: Tensor, name: str, *, keeps: str = "inf keeps every token"
) -> float | Tensor:
    """Return n of (0, inf]: a float, or float64 of shape ``(..., 1)``."""
    return _real(n, logits, name, float("inf"), False, 1.0, f"(0, inf], got {{}}; {keeps}")


def as_logits(value: float | Tensor, logits: Tensor) -> float | Tensor:
    """Move numbers for rows to the logits, in their dtype, to which a single number is rounded."""
    return value.to(logits.device, logits.dtype) if isinstance(value, Tensor) else value


def cuts(p: float | Tensor, logits: Tensor) -> bool | Tensor:
    """Whether a mass of p leaves anything out, as all but 1 do."""
    return (p < 1).to(logits.device) if isinstance(p, Tensor) else p < 1


def for_each_row(value: Tensor, logits: Tensor, name: str) -> Tensor:
    """Expand a tensor to the shape of the rows; raise unless it broadcasts to it."""
    check_dense(value, name)
    rows = logits.shape[:-1]
    if not broadcasts_to(value.shape, rows):
        raise ValueError(
            f"{name} must be a number or have the shape {tuple(rows)} of the rows, got "
            f"{tuple(value.shape)}; give one number for each row"
        )
    return value.expand(rows)


def _real(
    value: float | Tensor,
    logits: Tensor,
    name: str,
    most: float,
    zero: bool,
    example: float,
    advice: str,
) -> float | Tensor:
    message = f"{name} must lie in {advice}"
    if not isinstance(value, Tensor) or value.ndim == 0:
        _refuse_list(value, name, f"a number such as {example}")
        number = check_number(value, name, example)
        if not (0 < number <= most or (zero and number == 0)):
            raise ValueError(message.format(shown(value)))
        return number
    if _is_no_number(value):
        raise TypeError(f"{name} must hold real numbers such as {example}, got {shown(value)}")
    # In float64, which not every device has, so that 1 - p is rounded once.
    wide = value if value.is_meta else value.detach().to("cpu", torch.float64)
    wrong = ~((wide > 0) & (wide <= most))
    if zero:
        wrong &= wide != 0
    if anywhere(wrong):
        raise ValueError(message.format(some_values(wide[wrong])))
    return for_each_row(wide, logits, name).unsqueeze(-1)


def _refuse_list(value: Any, name: str, one: str) -> None:
    if not isinstance(value, Tensor | str) and hasattr(value, "__iter__"):
        raise TypeError(
            f"{name} must be {one}, got {shown(value)}; a tensor may hold one for each row"
        )


def _is_no_number(value: Tensor) -> bool:
    return value.dtype is torch.bool or value.is_complex() or value.layout is not torch.strided
