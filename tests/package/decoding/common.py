"""What several of these tests share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from omnivault.decoding import NextTokenLogits
from tests.support.strategies import unit

INF, NAN = math.inf, math.nan


# What a log-probability of up to 8 tokens may be off by, in units of rounding: log_softmax of 6
# logits that are at most 10 apart, by 80 for each token, in either of two ways, and the sums.
OFF = 8 * 200
TEXT = OFF * unit(torch.float64)
ends = pytest.mark.parametrize("end", [None, 0], ids=["no end token", "end token"])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def table(probs: list[list[float]]) -> NextTokenLogits:
    """The next token depends on the last one alone."""
    logits = torch.tensor(probs, dtype=torch.float64).log()
    return lambda ids: logits[ids[:, -1]]


def markov(vocabulary: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> NextTokenLogits:
    logits = torch.randn(vocabulary, vocabulary, generator=generator(seed), dtype=torch.float64)
    return lambda ids: logits.to(dtype)[ids[:, -1]]


def hashed(vocabulary: int, seed: int = 0) -> NextTokenLogits:
    """The next token depends on all before it, and there need not be any."""
    known: dict[tuple[int, ...], Tensor] = {}

    def row(prefix: tuple[int, ...]) -> Tensor:
        if prefix not in known:
            source = generator(hash((seed, *prefix)) % 2**63)
            known[prefix] = torch.randn(vocabulary, generator=source, dtype=torch.float64)
        return known[prefix]

    return lambda ids: torch.stack([row(tuple(prefix)) for prefix in ids.tolist()])


MODELS: dict[str, Callable[[int, int], NextTokenLogits]] = {"markov": markov, "hashed": hashed}
models = pytest.mark.parametrize("kind", MODELS)


def conditionals(model: NextTokenLogits, prefix: list[int]) -> list[float]:
    ids = torch.tensor([prefix], dtype=torch.int64)
    return list(model(ids)[0].double().log_softmax(-1).tolist())


def enumerate_all(
    model: NextTokenLogits, prompt: list[int], steps: int, end: int | None
) -> dict[tuple[int, ...], float]:
    """Log-probability of the new tokens of every sequence that has ended or is full."""
    if steps == 0 or (end is not None and prompt[-1:] == [end]):
        return {(): 0.0}
    found = {}
    for token, log_prob in enumerate(conditionals(model, prompt)):
        for rest, log_prob_rest in enumerate_all(model, [*prompt, token], steps - 1, end).items():
            found[(token, *rest)] = log_prob + log_prob_rest
    return found


def new_tokens(row: Tensor, start: int, end: int | Sequence[int] | None) -> tuple[int, ...]:
    """New tokens up to the first that ends; after it there must be fillers alone."""
    new = row[start:].tolist()
    ends = [end] if isinstance(end, int) else list(end or [])
    length = next((n for n, token in enumerate(new, 1) if token in ends), len(new))
    assert set(new[length:]) <= set(ends[:1])
    return tuple(new[:length])


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int64)
