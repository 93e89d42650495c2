"""What several of these tests share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from omnivault.model import language_model
from omnivault.model.language_model import GGUF, load_language_model

NAME = "SmolLM2-135M-Instruct"
TEXTS = ["The capital of France is", "Hi", "One, two, three, four, five, six, seven,"]


def use_tiny_model(
    patch: Callable[[Any, str, Any], object],
    on_read: Callable[[], object] = lambda: None,
    on_save: Callable[[Path], object] = lambda _: None,
) -> None:
    """Let conversions read a model of a few weights; ``on_save`` runs after they are written."""
    config: Any = LlamaConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=8,
    )

    def read(*_: Any, **__: Any) -> Any:
        on_read()
        config.quantization_config = {"bits": 4}
        return LlamaForCausalLM(config)

    def tokenizer(*_: Any, **__: Any) -> Any:
        words = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
        return PreTrainedTokenizerFast(tokenizer_object=words)

    save = LlamaForCausalLM.save_pretrained

    def save_and_tell(self: Any, folder: Path) -> None:
        save(self, folder)
        on_save(folder)

    patch(language_model, "AutoModelForCausalLM", SimpleNamespace(from_pretrained=read))
    patch(language_model, "AutoTokenizer", SimpleNamespace(from_pretrained=tokenizer))
    patch(LlamaForCausalLM, "save_pretrained", save_and_tell)


def cut_short(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])


def assert_whole(caches: Path) -> None:
    """The checkpoint is there and loads, and nothing else is but the lock."""
    assert {file.name for file in caches.iterdir()} <= {NAME, f"{NAME}.lock"}
    folder = caches / NAME
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["gguf"] == GGUF.sha256
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= manifest["files"].keys()
    assert manifest["files"].keys() == {file.name for file in folder.iterdir()} - {"manifest.json"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    load_language_model.__wrapped__()
