"""Temperature before a draw: logits divided by it, for every row by its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from omnivault._checks import (
    anywhere,
    at_least_float32,
    check_rows,
    check_temperature,
    some_values,
)
from omnivault.sampling.distances import below_largest
from omnivault.sampling.truncation import TRUNCATIONS, truncate


def apply_temperature(logits: Tensor, temperature: float | Tensor) -> Tensor:
    r"""Divide logits by the temperature, :math:`z / T`.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating; ``-inf`` marks a token that is ruled out.
    temperature
        T > 0: one number, or a tensor of shape ``(...)`` with one for each row.

    Returns
    -------
    Tensor
        Shape and dtype of ``logits``.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``temperature`` is not a number.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``; T is not positive and
        finite; the shapes do not match; or the largest quotient of a row overflows.

    Examples
    --------
    >>> apply_temperature(torch.tensor([[1.0, 2.0], [1.0, 2.0]]), torch.tensor([0.5, 2.0]))
    tensor([[2.0000, 4.0000],
            [0.5000, 1.0000]])
    """
    check_rows(logits)
    divisor = check_temperature(temperature, logits)
    wide = at_least_float32(logits)
    ruled_out = wide == -torch.inf if isinstance(temperature, Tensor) else None
    if ruled_out is not None:  # an infinite quotient has no slope in T
        wide = wide.masked_fill(ruled_out, 0.0)
    divided = (wide / divisor).to(logits.dtype)
    if ruled_out is not None:
        divided = divided.masked_fill(ruled_out, -torch.inf)
    lost = ~divided.amax(-1).isfinite()
    if anywhere(lost):
        raise ValueError(
            f"logits {some_values(logits[lost])} divided by the temperature overflow "
            f"{logits.dtype}; subtract the largest first: logits - logits.amax(-1, keepdim=True)"
        )
    return divided


def scaled(
    logits: Tensor, temperature: float | Tensor, dials: Mapping[str, Any]
) -> tuple[Tensor, dict[str, Any], Tensor]:
    """Apply what commutes with T, subtract the largest logit, and divide by T.

    Returns
    -------
    z
        (z - max z) / T in the dtype of the arithmetic.
    later
        The dials that are left.
    cold
        Rows with T = 0, for which nothing was divided, bool ``(...)`` or ``()``.
    """
    largest = check_rows(logits)
    divisor = check_temperature(temperature, logits, zero=True)
    cold = divisor == 0
    # They come first, since the shift may round to a tie.
    early = {name: value for name, value in dials.items() if TRUNCATIONS[name].commutes}
    later = {name: value for name, value in dials.items() if name not in early}
    kept = truncate(logits, early)
    if isinstance(temperature, Tensor) or temperature == 0:
        divisor = torch.where(cold, 1.0, divisor)
    z = below_largest(kept, largest, divisor)
    return z, later, cold.squeeze(-1) if cold.ndim else cold
