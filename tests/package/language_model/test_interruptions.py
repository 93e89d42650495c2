from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from safetensors import SafetensorError

from omnivault.model import language_model
from tests.package.language_model.common import NAME, assert_whole, use_tiny_model
from website import ROOT


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
sys.path.insert(0, {str(ROOT)!r})
from tests.package.language_model import common as here

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
