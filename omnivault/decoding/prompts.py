"""What decoders share: the function they ask, prompts of one length or of several, an end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from omnivault._checks import check_dense, check_integer, check_rows, shown

NextTokenLogits = Callable[[Tensor], Tensor]
"""Token ids, int64 ``(B, N)``, to the logits of the token that follows, ``(B, V)``."""

EndToken = int | Sequence[int] | None
Result = TypeVar("Result")


def by_length(
    prompts: list[Tensor], decode: Callable[[Tensor, list[int]], Sequence[Result]]
) -> list[Result]:
    """Decode prompts of one length together; ``decode`` takes them and which they are."""
    lengths: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        lengths.setdefault(len(prompt), []).append(row)
    results: dict[int, Result] = {}
    for rows in lengths.values():
        ids = torch.stack([prompts[row] for row in rows])
        results.update(zip(rows, decode(ids, rows), strict=True))
    return [results[row] for row in range(len(prompts))]


def call(next_token_logits: NextTokenLogits, ids: Tensor, ends: list[int]) -> Tensor:
    """Logits of each row, ``(B, V)``, where the rows are; raise unless each has a softmax.

    Only they say how large the vocabulary is, and so whether each end is in it.
    """
    logits = next_token_logits(ids)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(ids):
        raise ValueError(
            f"next_token_logits must return logits of shape ({len(ids)}, V) for ids of shape "
            f"{tuple(ids.shape)}, got "
            f"{tuple(logits.shape) if isinstance(logits, Tensor) else shown(logits)}"
        )
    check_rows(logits)
    if max(ends, default=0) >= logits.shape[-1]:
        raise ValueError(
            f"end_token must lie in [0, {logits.shape[-1]}), the vocabulary, got {max(ends)}"
        )
    return logits.to(ids.device)


def check_prompt(prompt: Tensor | Sequence[Tensor], max_new_tokens: int) -> list[Tensor]:
    """Return prompts of shape ``(N,)``."""
    several = isinstance(prompt, Sequence) and not isinstance(prompt, str)
    each = list(prompt) if several else [prompt]
    if not all(isinstance(own, Tensor) and own.dtype == torch.int64 for own in each):
        raise TypeError(
            f"prompt must be an int64 tensor of token ids, got {shown(prompt)}; prompts of several "
            "lengths come as a list of them"
        )
    if several and not (each and all(own.ndim == 1 for own in each)):  # type: ignore[union-attr]
        raise ValueError(
            "prompts in a list must have the shapes (N,), and there must be one, got "
            f"{shown([tuple(own.shape) for own in each])}"  # type: ignore[union-attr]
        )
    for own in each:
        check_dense(own, "prompt")  # type: ignore[arg-type]
    if isinstance(prompt, Tensor):
        if prompt.ndim not in (1, 2) or (prompt.ndim == 2 and len(prompt) == 0):
            raise ValueError(
                f"prompt must have the shape (N,) or (B, N), B >= 1, got {tuple(prompt.shape)}"
            )
        each = list(torch.atleast_2d(prompt))
    if check_integer(max_new_tokens, "max_new_tokens", 20) < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {shown(max_new_tokens)}")
    return each  # type: ignore[return-value]
