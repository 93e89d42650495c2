"""Make the environment of an adapter: the packages that its first lines name, and no others.

A Python file says what it needs in the way of PEP 723, so ``uv run --script run_ctranslate2.py``
works too; a JavaScript file names its npm packages in its first line. An adapter whose pins the
running Python meets already runs in it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent
METADATA = re.compile(r"^# /// script\n((?:#.*\n)+?)# ///$", re.MULTILINE)
NPM = re.compile(r"^// npm: (.+)$", re.MULTILINE)


def adapters() -> dict[str, Path]:
    """Return the adapter programs by the names of their files, as in ``openvino_genai``.

    Examples
    --------
    >>> adapters()["transformers"].name
    'run_transformers.py'
    """
    return {path.stem.removeprefix("run_"): path for path in sorted(HERE.glob("run_*"))}


def requirements(adapter: Path) -> list[str]:
    """Return the pinned requirements that an adapter states in its first lines.

    Examples
    --------
    >>> requirements(adapters()["jax"])
    ['jax==0.10.2']
    >>> requirements(adapters()["transformers_js"])
    ['@huggingface/transformers@4.3.2']
    """
    text = adapter.read_text(encoding="utf-8")
    if npm := NPM.match(text):
        return npm[1].split()
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
        If the packages cannot be installed; with what pip or npm says of it.
    """
    needed = requirements(adapter)
    folder = (environments / adapter.stem.removeprefix("run_")).resolve()
    if adapter.suffix == ".mjs":
        _once(folder, needed, _install_for_node)
        return ["node", str(adapter), str(folder)]
    if all(map(_is_installed, needed)):
        return [sys.executable, str(adapter)]
    _once(folder, needed, _install_for_python)
    return [str(_python(folder)), str(adapter)]


def _once(folder: Path, needed: list[str], install: Callable[[Path, list[str]], None]) -> None:
    """Install into a folder, unless that was done with the same requirements."""
    done = folder / "installed.txt"  # written last: an install that was stopped starts over
    wanted = "\n".join(needed)
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    install(folder, needed)
    done.write_text(wanted, encoding="utf-8")


def _install_for_python(folder: Path, needed: list[str]) -> None:
    # A pip in each environment would take seconds, and is not needed.
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    pip = [sys.executable, "-m", "pip", "--python", str(_python(folder))]
    _run([*pip, "install", "--quiet", *needed])


def _install_for_node(folder: Path, needed: list[str]) -> None:
    folder.mkdir(parents=True)
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    _run(["npm", "install", "--prefix", str(folder), *quiet, *needed])


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _is_installed(requirement: str) -> bool:
    """Whether the running Python has a package of exactly this version, of any build."""
    name, _, pin = requirement.partition("==")
    try:
        return version(name.partition("[")[0]).partition("+")[0] == pin
    except PackageNotFoundError:
        return False


def _run(arguments: list[str]) -> None:
    """Run a program to its end; raise RuntimeError with the errors it names, or its last lines."""
    try:
        run = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except FileNotFoundError as problem:
        raise RuntimeError(f"{arguments[0]} is not installed") from problem
    if run.returncode != 0:
        lines = run.stdout.splitlines()
        errors = [line for line in lines if line.startswith(("ERROR", "npm error"))]
        raise RuntimeError("; ".join(errors or lines[-3:]) or f"{arguments[0]} failed")
