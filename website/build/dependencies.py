"""What a piece of Python depends on: files of this project and versions of other packages.

Whoever keeps a result, the outputs of a chapter or the outcome of a test, keeps it under a key made
from these, so that it is computed again when one of them changes, and not when something else does.
Imports are read from the text, without running anything. They count wherever they stand, in
functions too; a module that is imported by a name made at run time has to be named by the caller.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement


@dataclass(frozen=True)
class Project:
    """The modules of a checkout; each file is read once."""

    root: Path
    _read: dict[Path, tuple[frozenset[Path], frozenset[str]]] = field(default_factory=dict)

    def files(self, *starts: Path | str) -> set[Path]:
        """Every file that a program needs: what it imports, directly or not, and data beside that.

        Parameters
        ----------
        *starts
            Files, which count themselves, or texts of programs.
        """
        return self._reach(starts)[0]

    def key(self, *starts: Path | str, also: Iterable[Path] = ()) -> str:
        """Name what a program depends on, and other files, by content and version.

        The packages count with everything that they require themselves.
        """
        files, packages = self._reach(starts)
        digest = hashlib.sha256(repr((sys.version_info[:2], versions(packages))).encode())
        for path in sorted({*files, *also}):
            digest.update(f"{path.relative_to(self.root).as_posix()}\0".encode())
            digest.update(path.read_bytes() + b"\0")
        return digest.hexdigest()[:16]

    def _reach(self, starts: Iterable[Path | str]) -> tuple[set[Path], frozenset[str]]:
        files: set[Path] = set()
        packages: set[str] = set()
        todo = [start for start in starts if isinstance(start, Path)]
        for text in (start for start in starts if isinstance(start, str)):
            found, foreign = self._imports(ast.parse(text), self.root)
            todo += found
            packages |= foreign
        while todo:
            path = todo.pop()
            if path in files:
                continue
            files.add(path)
            if path.suffix == ".py":
                if path not in self._read:
                    text = path.read_text(encoding="utf-8")
                    found, foreign = self._imports(ast.parse(text), path.parent)
                    self._read[path] = frozenset(found | data(path, text)), frozenset(foreign)
                todo += self._read[path][0]
                packages |= self._read[path][1]
        return files, frozenset(packages)

    def _imports(self, tree: ast.Module, folder: Path) -> tuple[set[Path], set[str]]:
        """Files of the project and names of other top-level modules that a program imports."""
        own: set[Path] = set()
        foreign: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = [".."] * (node.level - 1)
                start = folder.joinpath(*above).resolve().relative_to(self.root).parts
                base = [*(start if node.level else ()), *([node.module] if node.module else [])]
                names = [".".join([*base, alias.name]) for alias in node.names]
            else:
                continue
            for name in names:
                found = self._modules(name)
                own |= found
                if not found:
                    foreign.add(name.partition(".")[0])
        return own, foreign

    def _modules(self, name: str) -> set[Path]:
        """Return the modules of the project that run when this name is imported."""
        parts = name.split(".")
        run = set()
        for n in range(1, len(parts) + 1):
            path = self.root.joinpath(*parts[:n])
            run |= {p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()}
        return {path.resolve() for path in run}


def data(path: Path, text: str) -> set[Path]:
    """Return files beside a module, or in ``data`` there, that have its name or that it names."""
    named = set(re.findall(r"[\w-]+\.\w+", text))
    return {
        other.resolve()
        for folder in (path.parent, path.parent / "data")
        if folder.is_dir()
        for other in folder.iterdir()
        if other.is_file()
        and other.suffix not in {".py", ".pyc", ".md"}
        and not other.name.startswith(".")
        and (other.stem == path.stem or other.name in named)
    }


def versions(modules: Iterable[str]) -> list[tuple[str, str]]:
    """Return the packages that hold these modules, and all that these require, with versions."""
    found: dict[str, str] = {}
    todo = [package for module in modules for package in distributions().get(module, ())]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # required elsewhere, on another system
            continue
        todo += required(name)
    return sorted(found.items())


@cache
def distributions() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for module, packages in metadata.packages_distributions().items():
        found[module] = sorted(set(packages))
    return found


@cache
def required(package: str) -> list[str]:
    return list(_required(package))


def _required(package: str) -> Iterator[str]:
    for line in metadata.requires(package) or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name.lower().replace("_", "-")
