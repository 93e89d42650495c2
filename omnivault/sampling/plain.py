"""The draw as it is defined, for whoever wants to check or to understand the fast one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from omnivault._checks import Generator, check_generator
from omnivault.sampling.temperature import scaled
from omnivault.sampling.truncation import in_order, truncate


def plain_sample(
    logits: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    generator: Generator = None,
    **dials: Any,
) -> Tensor:
    """Draw as :func:`sample` does, one definition after the other: slower, and easier to believe.

    Parameters
    ----------
    logits, temperature, **dials
        As in :func:`sample`.
    generator
        As in :func:`sample`. The same generator gives other tokens than there, of the same
        distribution.

    Returns
    -------
    Tensor
        Token indices, int64 of shape ``(...)``.

    Raises
    ------
    TypeError, ValueError
        As :func:`sample`.

    Examples
    --------
    >>> logits = torch.tensor([1.0, 2.0, 0.5, 1.5]).expand(5, 4)
    >>> plain_sample(logits, top_p=0.1)
    tensor([1, 1, 1, 1, 1])
    """
    z, later, cold = scaled(logits, temperature, in_order(dials))
    rows = truncate(z, later).softmax(-1).reshape(-1, z.shape[-1])
    generator = check_generator(generator, len(rows))
    if isinstance(generator, list):
        each = zip(rows, generator, strict=True)
        drawn = torch.cat([_multinomial(row, own) for row, own in each])
    else:
        drawn = _multinomial(rows, generator)
    return torch.where(cold, logits.argmax(-1), drawn.reshape(z.shape[:-1]))


def _multinomial(rows: Tensor, generator: torch.Generator | None) -> Tensor:
    where = rows.device if generator is None else generator.device
    return torch.multinomial(rows.to(where), 1, generator=generator).to(rows.device)
