from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from omnivault.model.language_model import load_language_model


@pytest.fixture(scope="module")
def real_logits() -> Tensor:
    model = load_language_model()
    text = "The ferry leaves at nine, but the captain said he would wait for us. One, two, three,"
    return model.logits(model.encode(text))


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Collects the probabilities that every draw is made from."""
    seen: list[Tensor] = []
    multinomial = torch.multinomial

    def spy(probs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        seen.append(probs)
        return multinomial(probs, *args, **kwargs)

    monkeypatch.setattr(torch, "multinomial", spy)
    return seen


@pytest.fixture(autouse=True, scope="module")
def _one_thread(one_thread: None) -> None:
    """Small operations by the thousand."""
