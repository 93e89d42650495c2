"""What `make setup` does when something goes wrong half-way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from website import ROOT
from website.build import install


def test_pins_of_this_system_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "pins.txt"
    file.write_text(
        "# made by a tool\n"
        "one==1.0\n"
        "    # via two\n"
        "two-three==2.0 ; sys_platform != 'no such system'\n"
        "four==4 ; sys_platform == 'no such system'\n"
    )
    assert install.pins(["-r", str(file), "--no-deps"]) == 2
    assert install.pins(["--editable", "."]) == 0
    assert install.pins(["-r", str(ROOT / "requirements.txt")]) > 100


# What a package index and pip say, without either: a pip that prints and ends as told.
PIP = """\
import sys
print({said!r})
sys.exit({code})
"""

SAID = """\
Collecting torch==2.13.0
  Downloading torch-2.13.0-cp311-none.whl (196.3 MB)
Collecting small==1.0
  Using cached small-1.0-py3-none-any.whl (12 kB)
"""


@pytest.mark.parametrize(
    ("said", "code", "unfinished"),
    [
        (SAID + "Installing collected packages: small, torch\n", 0, False),
        (SAID + "Installing collected packages: small, torch\n", 1, True),  # stopped half-way
        (SAID + "ERROR: no network\n", 1, False),  # nothing was touched
    ],
)
def test_an_environment_in_pieces_is_marked(
    said: str,
    code: int,
    unfinished: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "pip.py").write_text(PIP.format(said=said, code=code))
    pins = tmp_path / "pins.txt"
    pins.write_text("torch==2.13.0\nsmall==1.0\n")
    monkeypatch.setattr(install, "UNFINISHED", tmp_path / ".unfinished")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert install.main(["-r", str(pins)]) == code
    assert (tmp_path / ".unfinished").exists() == unfinished
    out, err = capfd.readouterr()
    assert "Installing packages: 2 packages\n" in out
    assert "Installing packages: torch, 196 MB\n" in out
    assert ("ERROR: no network" in err) == ("ERROR" in said)
    assert ("could not be installed" in err) == bool(code)
    if code == 0:
        assert "2 packages, 196 MB" in out


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile and what it reads, in a folder with a space in its name."""
    folder = tmp_path / "a book"
    folder.mkdir()
    for name in ("Makefile", "requirements.txt", "requirements-data.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    shutil.copy(ROOT / "package-lock.json", folder)
    for name in ("book", "omnivault", "website", "tests"):
        (folder / name).mkdir()
    return folder


def planned(checkout: Path, *words: str) -> str:
    """The commands that make would run."""
    return subprocess.run(
        ["make", "-n", *words], cwd=checkout, capture_output=True, encoding="utf-8", check=True
    ).stdout


def test_an_environment_that_was_not_finished_is_made_anew(checkout: Path) -> None:
    anew = "-m venv --clear .venv"
    assert anew in planned(checkout, "setup")
    (checkout / ".venv" / "bin").mkdir(parents=True)  # stopped while it was made
    assert anew in planned(checkout, "setup")
    (checkout / ".venv" / ".created").touch()
    assert anew not in planned(checkout, "setup")
    assert " -r requirements.txt" in planned(checkout, "setup")
    (checkout / ".venv" / ".installed").touch()
    assert " -r requirements.txt" not in planned(checkout, "setup")
    (checkout / ".venv" / ".unfinished").touch()  # stopped while packages were unpacked
    assert anew in planned(checkout, "setup")
    assert " -r requirements.txt" in planned(checkout, "setup")


def test_a_folder_that_npm_has_emptied_is_filled_again(checkout: Path) -> None:
    for name in (".venv/.created", ".venv/.installed", "node_modules/.book"):
        path = checkout / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert "ci --silent" not in planned(checkout, "setup")
    assert "ci --silent\n" in planned(checkout, "node_modules/.checkers")
    shutil.rmtree(checkout / "node_modules")
    assert "ci --silent --omit=dev" in planned(checkout, "setup")


def test_an_older_python_is_refused(checkout: Path) -> None:
    old = checkout / "python3.10"
    # It runs a program with another version in it.
    old.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} -c '
        "\"import sys; sys.version_info = (3, 10, 1); sys.version = '3.10.1'; exec(sys.argv[1])\" "
        '"$2"\nexit 9\n'
    )
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "setup", f"PYTHON=./{old.name}"],
        cwd=checkout,
        env=os.environ,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed, this is 3.10.1" in done.stderr
    assert not (checkout / ".venv").exists()
