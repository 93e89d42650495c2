from __future__ import annotations

import pytest

from omnivault.model.language_model import LanguageModel, load_language_model


@pytest.fixture(scope="module")
def model(one_thread: None) -> LanguageModel:
    return load_language_model()


@pytest.fixture(autouse=True, scope="module")
def _one_thread(one_thread: None) -> None:
    """Small operations by the thousand."""
