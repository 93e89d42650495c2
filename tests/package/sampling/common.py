"""What several of these tests share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.generation import logits_process as hf

from omnivault.sampling import epsilon_cutoff, eta_cutoff, min_p, top_k, top_p, typical_p
from tests.support.strategies import DTYPES

INF, NAN = math.inf, math.nan
SEEN: dict[str, Any] = json.loads(
    Path(__file__).with_name("llama_cpp.json").read_text(encoding="utf-8")
)
"""What llama.cpp made of texts, and of ties."""
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
Truncation = Callable[[Tensor, Any], Tensor]


# Each with its counterpart, and with settings of it.
TRUNCATIONS: dict[str, tuple[Truncation, Any, tuple[float, ...]]] = {
    "top_k": (top_k, hf.TopKLogitsWarper, (1, 2, 50, 999)),
    "top_p": (top_p, hf.TopPLogitsWarper, (1e-9, 0.1, 0.5, 0.9, 0.999, 1.0)),
    "min_p": (min_p, hf.MinPLogitsWarper, (1e-50, 1e-3, 0.05, 0.5, 1.0)),
    "typical_p": (typical_p, hf.TypicalLogitsWarper, (1e-9, 0.2, 0.5, 0.95, 0.999)),
    "epsilon_cutoff": (epsilon_cutoff, hf.EpsilonLogitsWarper, (1e-50, 3e-4, 0.1, 0.5, 0.999)),
    "eta_cutoff": (eta_cutoff, hf.EtaLogitsWarper, (1e-30, 3e-4, 0.1, 0.5, 0.999)),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kept(logits: Tensor) -> Tensor:
    return logits > -INF


def tokens(logits: Tensor) -> list[int]:
    """The indices kept in one row."""
    return kept(logits).nonzero().flatten().tolist()


def logits_of(kind: str, rows: int, vocabulary: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random rows; the seed depends on the shape alone."""
    g = generator(rows * vocabulary)
    z = torch.randn(rows, vocabulary, generator=g, dtype=torch.float64)
    if kind == "ties":  # a handful of values, so many tokens share each
        z = (2 * z).round()
    elif kind == "masked":  # about half of them, and never the first
        z = z.masked_fill(torch.rand(z.shape, generator=g).roll(1) < 0.5, -INF)
        z[:, 0] = 0.5
    else:
        z = float(kind) * z
    return z.to(dtype)


KINDS = ("0.1", "1", "10", "ties", "masked")


def nucleus(probs: list[float], p: float) -> list[int]:
    """Kept while the mass of what comes before, of higher probability or index, is below p."""
    before, inside = Fraction(0), []
    for i in sorted(range(len(probs)), key=lambda i: (probs[i], i), reverse=True):
        if before < p:
            inside.append(i)
        before += Fraction(probs[i])
    return sorted(inside)


DYADIC = [0.5, 0.25, 0.125, 0.125]


# A probability of 2^-j has a surprise of j log 2: these have an entropy of 2 log 2.
TWO_BITS = [0.25, 0.25, 0.25, 0.25]
