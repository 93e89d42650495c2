"""What several of these tests share."""

from __future__ import annotations

import torch

from omnivault.speculative import SpeculativeText

# How often another seed would fail the test of a sampler that is right.
FALSE_ALARM = 1e-3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def counts(text: SpeculativeText) -> tuple[int, int, int]:
    return text.proposed, text.accepted, text.rounds
