"""Rows of a language model's logits as the live figures hold them: the whole vocabulary, in short.

The 100 largest logits of each prompt are kept as they are. The others are summed up in bins one
sixteenth wide, each with its mean logit and the number of its tokens, so that the probabilities of
the most probable tokens are right to three digits at every temperature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from omnivault.sampling import TRUNCATIONS

SINGLE = 100
"""So many of the most probable tokens are kept one by one; no slider tells the others apart."""

WIDTH = 1 / 16
"""Of a bin of the tail, in logits. Its tokens all get the mean of their logits, which changes the
sum of their weights by about a factor 1 + (WIDTH / T)^2 / 24."""


def summaries(logits: Mapping[str, Tensor], tokens: Sequence[str]) -> list[dict[str, object]]:
    """Return what the figures need of the logits ``(V,)`` after each prompt.

    Raises
    ------
    ValueError
        There is no prompt, or the shapes do not fit, or a logit is not finite.
    """
    if not logits:
        raise ValueError("at least one prompt is needed, got none")
    for prompt, z in logits.items():
        if z.shape != (len(tokens),) or len(tokens) <= SINGLE:
            raise ValueError(
                f"logits must have the shape ({len(tokens)},) of the tokens, which must be more "
                f"than {SINGLE}; those after {prompt!r} have {tuple(z.shape)}"
            )
        if not bool(z.isfinite().all()):
            raise ValueError(f"logits must be finite; those after {prompt!r} are not")
    return [_summary(prompt, z.double(), tokens) for prompt, z in logits.items()]


def dials_of(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return what a slider needs of each of the truncations, in the order of the registry."""
    unknown = [name for name in names if name not in TRUNCATIONS]
    if unknown:
        raise ValueError(
            f"there is no truncation {unknown[0]!r}; there are {', '.join(TRUNCATIONS)}"
        )
    return [
        {"name": name, "label": rule.label, "values": rule.values, "off": rule.off}
        for name, rule in TRUNCATIONS.items()
        if name in names
    ]


def _summary(prompt: str, z: Tensor, tokens: Sequence[str]) -> dict[str, object]:
    values, order = z.sort(descending=True, stable=True)
    tail = values[SINGLE:]
    bins = ((tail[0] - tail) / WIDTH).floor().long()
    counts = torch.bincount(bins)
    means = torch.bincount(bins, weights=tail) / counts.clamp(min=1)
    return {
        "text": prompt,
        "tokens": [tokens[i] for i in order[:SINGLE].tolist()],
        "logits": [round(v, 6) for v in values[:SINGLE].tolist()],
        "tail": [
            [round(m, 4), n] for m, n in zip(means.tolist(), counts.tolist(), strict=True) if n
        ],
    }
