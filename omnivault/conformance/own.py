"""Samplers at hand: that of the package, and a softmax with ``torch.multinomial``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from omnivault.conformance.check import DIALS, Sampler
from omnivault.sampling import apply_temperature, greedy, sample
from omnivault.sampling.truncation import in_order, truncate

AT_ONCE = 10_000_000
"""Numbers in one tensor of rows that are drawn together."""


def _probs(logits: Sequence[float], settings: Mapping[str, Any]) -> list[float]:
    z = torch.tensor(logits)
    dials = dict(settings)
    temperature = dials.pop("temperature", 1.0)
    if temperature == 0:
        probs = torch.zeros_like(z)
        probs[greedy(z)] = 1
    else:
        probs = truncate(apply_temperature(z, temperature), in_order(dials)).softmax(-1)
    return probs.tolist()


def _draw(logits: Sequence[float], settings: Mapping[str, Any], n: int, seed: int) -> list[int]:
    z, generator = torch.tensor(logits), torch.Generator().manual_seed(seed)
    rows = max(1, AT_ONCE // len(z))
    drawn = [
        sample(z.expand(min(rows, n - start), -1), generator=generator, **settings)
        for start in range(0, n, rows)
    ]
    return torch.cat(drawn).tolist()


def _of_each_row(size: int, settings: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Values of each dial that any row has set, with the value that is off for the others."""
    off = {"temperature": 1.0, "top_k": size, "min_p": 0.0, "top_n_sigma": torch.inf}
    return {
        dial: torch.tensor([one.get(dial, off.get(dial, 1.0)) for one in settings])
        for dial in DIALS
        if any(dial in one for one in settings)
    }


def _probs_batch(
    logits: Sequence[Sequence[float]], settings: Sequence[Mapping[str, Any]]
) -> list[list[float]]:
    z = torch.tensor(logits)
    dials = _of_each_row(z.shape[-1], settings)
    scaled = apply_temperature(z, dials.pop("temperature", torch.ones(())))
    return truncate(scaled, in_order(dials)).softmax(-1).tolist()


def _draw_batch(
    logits: Sequence[Sequence[float]], settings: Sequence[Mapping[str, Any]], n: int, seed: int
) -> list[list[int]]:
    z, generator = torch.tensor(logits), torch.Generator().manual_seed(seed)
    dials = {
        dial: values.expand(n, -1) for dial, values in _of_each_row(z.shape[-1], settings).items()
    }
    return sample(z.expand(n, *z.shape), generator=generator, **dials).T.tolist()


def _softmax(logits: Sequence[float], settings: Mapping[str, Any]) -> Tensor:
    temperature = settings.get("temperature", 1.0)
    if temperature <= 0:
        raise ValueError(f"a softmax needs T > 0, got {temperature}")
    probs: Tensor = (torch.tensor(logits) / temperature).softmax(-1)
    return probs


def _multinomial(
    logits: Sequence[float], settings: Mapping[str, Any], n: int, seed: int
) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(_softmax(logits, settings), n, True, generator=generator)
    return drawn.tolist()


OWN = {
    "omnivault": Sampler(
        "omnivault",
        dials=list(DIALS),
        probs=_probs,
        draw=_draw,
        probs_batch=_probs_batch,
        draw_batch=_draw_batch,
    ),
    "torch": Sampler(
        "torch.softmax and torch.multinomial",
        dials=["temperature"],
        probs=_softmax,
        draw=_multinomial,
        version=torch.__version__,
    ),
}
"""Adapters by name, to try the suite on and to copy from."""
