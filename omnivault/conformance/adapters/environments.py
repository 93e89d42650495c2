"""Make the environment of an adapter: the packages that its first lines name, and no others.

The file says what it needs in the way of PEP 723, so ``uv run --script run_ctranslate2.py`` works
too. An adapter whose pins the running Python meets already runs in it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["adapters", "command", "requirements"]

HERE = Path(__file__).parent
METADATA = re.compile(r"^# /// script\n((?:#.*\n)+?)# ///$", re.MULTILINE)


def adapters() -> dict[str, Path]:
    """Return the adapter programs by the names of their files, as in ``openvino_genai``.

    Examples
    --------
    >>> adapters()["transformers"].name
    'run_transformers.py'
    """
    return {path.stem.removeprefix("run_"): path for path in sorted(HERE.glob("run_*.py"))}


def requirements(adapter: Path) -> list[str]:
    """Return the pinned requirements that an adapter states in its first lines.

    Examples
    --------
    >>> requirements(adapters()["jax"])
    ['jax==0.10.2']
    """
    text = adapter.read_text(encoding="utf-8")
    stated = METADATA.search(text)
    if stated is None:
        raise ValueError(f"{adapter.name} has no script metadata; write it as PEP 723 says")
    lines = [line[2:] for line in stated[1].splitlines()]
    found: list[str] = tomllib.loads("\n".join(lines))["dependencies"]
    return found


def command(adapter: Path, environments: Path) -> list[str]:
    """Return the command that runs an adapter, after its packages have been installed.

    Parameters
    ----------
    adapter
        The program.
    environments
        A folder; the environment is a folder in it, made unless it is there with these packages.

    Raises
    ------
    RuntimeError
        If the packages cannot be installed; with the last lines that pip wrote.
    """
    needed = requirements(adapter)
    if all(map(_is_installed, needed)):
        return [sys.executable, str(adapter)]
    folder = environments / adapter.stem.removeprefix("run_")
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    done = folder / "installed.txt"  # written last: an install that was stopped starts over
    wanted = "\n".join(needed)
    if not (done.exists() and done.read_text(encoding="utf-8") == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])  # it takes seconds
        _run([sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *needed])
        done.write_text(wanted, encoding="utf-8")
    return [str(python), str(adapter)]


def _is_installed(requirement: str) -> bool:
    """Whether the running Python has a package of exactly this version, of any build."""
    name, _, pin = requirement.partition("==")
    try:
        return version(name.partition("[")[0]).partition("+")[0] == pin
    except PackageNotFoundError:
        return False


def _run(arguments: list[str]) -> None:
    run = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode != 0:
        errors = [line for line in run.stdout.splitlines() if "ERROR" in line]
        raise RuntimeError("; ".join(errors or run.stdout.splitlines()[-3:]))
