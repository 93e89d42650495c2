"""Environments in which notebooks run as a reader's would: new, and elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from website import ROOT
from website.build.run_chapters import Chapter, run

NOTEBOOKS = ROOT / "_build" / "html" / "notebooks"
NAMES = sorted(path.relative_to(NOTEBOOKS).as_posix() for path in NOTEBOOKS.rglob("*.ipynb"))

REPOSITORY = "https://github.com/owner/book"
"""An address for the first cell, in whose place a test puts a copy of the package."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment with a kernel and nothing of the book."""

    folder: Path
    package: Path  # a copy of the package's sources, in the place of the repository
    constraints: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def install(self, *packages: str) -> None:
        self.pip("install", *packages)

    def uninstall(self, *packages: str) -> None:
        self.pip("uninstall", "--yes", *packages)

    def pip(self, *words: str) -> None:
        command = [str(self.python), "-m", "pip", "--quiet", *words]
        subprocess.run(command, check=True, env=self.variables())

    def version(self, package: str) -> str | None:
        """The installed version of a package, if there is one."""
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        asked = subprocess.run([self.python, "-c", code], capture_output=True, text=True)
        return asked.stdout.strip() if asked.returncode == 0 else None

    def variables(self) -> dict[str, str]:
        """What processes in the environment see: nothing of the one that runs the tests."""
        index = {"PIP_EXTRA_INDEX_URL": i} if (i := os.environ.get("TORCH_INDEX")) else {}
        return (
            dict(os.environ)
            | index
            | {
                "PYTHONPATH": "",
                "VIRTUAL_ENV": "",
                "OMP_NUM_THREADS": "1",  # as in the build: the last digits are compared
                "PIP_CONSTRAINT": str(self.constraints),
                "PIP_COMPILE": "no",  # of gigabytes; what is imported compiles itself
                "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            }
        )

    def run(
        self, notebook: NotebookNode, folder: Path, kernel: list[str] | None = None
    ) -> NotebookNode:
        """Run all cells in an empty folder, and return the notebook with what they gave.

        ``kernel`` is the command of a kernel without its file, or None for that of the environment.
        """
        path = folder / "notebook.ipynb"
        nbformat.write(notebook, path)
        kernel = kernel or [str(self.python), "-m", "ipykernel_launcher"]
        ran = run(Chapter(path.stem, path, notebook), 600, self.variables(), kernel)
        path.unlink()
        assert ran.failed is None, ran.failed
        return notebook


def new_environment(folder: Path, constraints: list[str]) -> Environment:
    """Make an environment that holds what starts a notebook, and nothing else."""
    package = folder / "package"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "omnivault", package / "omnivault", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, package)
    (folder / "constraints.txt").write_text("\n".join(constraints), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "venv", folder / "environment"], check=True)
    made = Environment(folder / "environment", package, folder / "constraints.txt")
    made.install("ipykernel")
    return made


def built(name: str) -> NotebookNode:
    """Read a notebook of the built book."""
    notebook: NotebookNode = nbformat.read(NOTEBOOKS / name, as_version=4)
    return notebook


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pinned() -> list[str]:
    """The pins of the project."""
    return (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
