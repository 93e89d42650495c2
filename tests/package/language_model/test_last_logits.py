"""Logits of the last tokens, with a cache that is cut back to what two texts have in common."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from omnivault.experiments.degeneration import ROUNDING
from omnivault.model.language_model import LanguageModel
from omnivault.speculative import prompt_lookup, speculative_sequence

TEXT = "One, two, three, four, five, six, seven, one, two, three,"


class Counted:
    """A network that notes how many tokens went through it."""

    def __init__(self, network: Any) -> None:
        self._network, self.config = network, network.config
        self.read: list[int] = []

    def __call__(self, ids: Tensor, **rest: Any) -> Any:
        self.read.append(ids.shape[1])
        return self._network(ids, **rest)


def counted(model: LanguageModel) -> tuple[LanguageModel, list[int]]:
    network = Counted(model.network)
    return LanguageModel(network, model.tokenizer), network.read


def test_only_what_is_new_is_read_and_the_logits_are_the_same(model: LanguageModel) -> None:
    ids = model.encode(TEXT)
    other = model.encode(" green blue red")
    ones = [
        (ids[:6], 6),  # nothing is known
        (ids[:9], 3),  # longer
        (ids[:9], 1),  # the same again: its last token
        (ids[:7], 1),  # shorter
        (torch.cat([ids[:4], other]), 3),  # another ending
        (torch.cat([ids[:4], other[:1], ids[5:12]]), 7),  # longer, and another ending
        (other, 3),  # nothing in common
        (ids, len(ids)),
    ]
    every, read = counted(model)
    after = every.cached_logits(5)
    for text, new in ones:
        logits = after(text)
        assert logits.dtype is torch.float32
        assert len(logits) == min(5, new)
        torch.testing.assert_close(
            logits, model.logits(text)[-len(logits) :], rtol=0, atol=ROUNDING
        )
    assert read == [new for _, new in ones]


def test_a_call_that_fails_leaves_nothing_behind(model: LanguageModel) -> None:
    ids = model.encode(TEXT)
    after = model.cached_logits(2)
    after(ids[:6])
    with pytest.raises(IndexError):
        after(torch.cat([ids[:6], torch.tensor([49152])]))
    expected = model.logits(ids[:7])[-2:]
    torch.testing.assert_close(after(ids[:7]), expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize("lookup", [True, False])
def test_a_text_that_is_written_ahead_reads_each_token_once(
    model: LanguageModel, temperature: float, lookup: bool
) -> None:
    ids = model.encode(TEXT)
    every, read = counted(model)
    target = every.cached_logits(5)
    draft = prompt_lookup if lookup else model.cached_logits(1)
    text = speculative_sequence(
        target,
        draft,
        ids,
        max_new_tokens=20,
        temperature=temperature,
        generator=torch.Generator().manual_seed(1),
    )
    assert len(text.ids) == len(ids) + 20
    # Besides the prompt: every proposal, and in each round but the first the token before them.
    assert len(read) == text.rounds
    assert read[0] - len(ids) in range(5)
    assert all(1 <= new <= 5 for new in read[1:])
    if temperature == 0:
        logits = model.logits(text.ids)[len(ids) - 1 : -1].double()
        chosen = logits.gather(1, text.ids[len(ids) :, None]).squeeze(1)
        # The largest, or one that another shape of the batch may make the largest.
        assert bool((logits.amax(-1) - chosen <= 2 * ROUNDING).all())


@pytest.mark.parametrize(
    ("last", "error", "message"),
    [
        (0, ValueError, "last must be at least 1, got 0"),
        (2.0, TypeError, "last must be an int such as 5, got 2.0"),
    ],
)
def test_how_many_is_a_positive_integer(
    model: LanguageModel, last: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        model.cached_logits(last)
    assert len(model.cached_logits(1)(torch.tensor([5, 6]))) == 1


def test_a_text_is_one_row(model: LanguageModel) -> None:
    after = model.cached_logits(1)
    with pytest.raises(ValueError, match=r"^ids must have the shape \(N,\), got \(1, 2\)$"):
        after(torch.tensor([[5, 6]]))
    assert after(torch.tensor([5, 6])).shape == (1, 49152)
