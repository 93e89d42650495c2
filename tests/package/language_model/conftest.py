from __future__ import annotations

from pathlib import Path

import pytest

from omnivault.model.language_model import LanguageModel, load_language_model
from tests.package.language_model.common import use_tiny_model


@pytest.fixture(scope="module")
def model(one_thread: None) -> LanguageModel:
    return load_language_model()


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "not" / "made yet"
    monkeypatch.setenv("OMNIVAULT_CACHE", str(folder))
    return folder


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch, caches: Path) -> list[None]:
    """One entry for every conversion of the tiny model."""
    made: list[None] = []
    use_tiny_model(monkeypatch.setattr, on_read=lambda: made.append(None))
    return made


@pytest.fixture(autouse=True, scope="module")
def _one_thread(one_thread: None) -> None:
    """Small operations by the thousand."""
