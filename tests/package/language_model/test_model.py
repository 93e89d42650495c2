"""The real model, its conversion, and what may go wrong on the way to it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from transformers.utils import logging

from omnivault.experiments.degeneration import ROUNDING
from omnivault.model.language_model import LanguageModel, load_language_model
from tests.package.language_model.common import TEXTS


@pytest.mark.parametrize(
    "text",
    [
        "The capital of France is Paris.",
        " a  b\n\n\tc ",
        "naïve café, 日本, 🦜, e\u0301",
        "don't , !",
    ],
)
def test_decoding_an_encoded_text_gives_it_back(model: LanguageModel, text: str) -> None:
    ids = model.encode(text)
    assert (ids.dtype, ids.ndim) == (torch.int64, 1)
    assert model.decode(ids) == model.decode(ids.tolist()) == text
    if text.isascii():  # else a character may be spread over tokens
        assert "".join(model.tokens(ids)) == text
        assert model.tokens(ids)[0] == model.decode(ids[0]) == model.decode([int(ids[0])])


def test_no_token_is_added(model: LanguageModel) -> None:
    assert model.tokens(model.encode("Hello world")) == ["Hello", " world"]


def test_next_token_logits_are_those_of_each_text_alone(model: LanguageModel) -> None:
    together = model.next_token_logits(TEXTS)
    assert (together.shape, together.dtype) == ((3, 49152), torch.float32)
    assert not together.requires_grad
    for row, text in zip(together, TEXTS, strict=True):
        alone = model.next_token_logits(text)
        assert alone.shape == (49152,)
        torch.testing.assert_close(row, alone, rtol=0, atol=ROUNDING)
        torch.testing.assert_close(
            alone, model.logits(model.encode(text))[-1], rtol=0, atol=ROUNDING
        )
    assert model.decode(together[0].argmax()) == " Paris"


@pytest.mark.parametrize("positions", [1, 4, 1024])
def test_log_probs_are_those_of_the_logits(model: LanguageModel, positions: int) -> None:
    ids = torch.stack([model.encode("One, two, three,"), model.encode("Red, green, blue,")])
    logits = model.logits(ids)
    assert logits.shape == (*ids.shape, 49152)
    exact = logits[:, :-1].double().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    log_probs = model.log_probs(ids, positions)
    assert log_probs.dtype is torch.float32
    assert not log_probs.requires_grad
    torch.testing.assert_close(log_probs.double(), exact, rtol=0, atol=ROUNDING)
    one = model.log_probs(ids[0], positions)
    torch.testing.assert_close(one.double(), exact[0], rtol=0, atol=ROUNDING)
    torch.testing.assert_close(model.logits(ids[0]), logits[0], rtol=0, atol=ROUNDING)


NO_TOKENS = "ids must have the shape (N,) or (B, N) with N >= {}, got {}"


@pytest.mark.parametrize(
    ("call", "good", "bad", "error", "message"),
    [
        ("encode", "a", "", ValueError, "the text must not be empty, got ''"),
        ("next_token_logits", "a", "", ValueError, "the text must not be empty, got ''"),
        ("next_token_logits", ["a"], ["a", ""], ValueError, "the text must not be empty, got ''"),
        ("next_token_logits", ["a"], [], ValueError, "texts must hold at least one text, got none"),
        ("logits", torch.tensor([5]), [5], TypeError, "ids must be an int64 tensor of token ids"),
        ("logits", torch.tensor([5]), torch.ones(1), TypeError, "got tensor([1.0])"),
        ("logits", torch.tensor([5]), torch.tensor(5), ValueError, NO_TOKENS.format(1, "()")),
        (
            "logits",
            torch.tensor([[5]]),
            torch.tensor([[[5]]]),
            ValueError,
            NO_TOKENS.format(1, "(1, 1, 1)"),
        ),
        (
            "log_probs",
            torch.tensor([5, 6]),
            torch.tensor([5]),
            ValueError,
            NO_TOKENS.format(2, "(1,)"),
        ),
        (
            "log_probs",
            torch.tensor([[5, 6]]),
            torch.empty((0, 2), dtype=torch.int64),
            ValueError,
            NO_TOKENS.format(2, "(0, 2)"),
        ),
    ],
)
def test_bad_input_is_rejected_next_to_good(
    model: LanguageModel, call: str, good: Any, bad: Any, error: type[Exception], message: str
) -> None:
    getattr(model, call)(good)
    with pytest.raises(error, match=re.escape(message)):
        getattr(model, call)(bad)


def test_the_model_is_loaded_once_and_only_read(model: LanguageModel) -> None:
    assert load_language_model() is model
    assert not model.network.training
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}
    assert logging.is_progress_bar_enabled()
