"""The notebooks run where nothing of the book is installed, and give what the pages show."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from nbformat import NotebookNode
from packaging.version import Version

from tests.support.environments import (
    NAMES,
    NOTEBOOKS,
    Environment,
    built,
    code,
    new_environment,
    pinned,
)
from website import ROOT
from website.build.dependencies import Project
from website.build.kernels import server
from website.build.run_chapters import Chapter, environment, merge_streams
from website.notebooks.cells import DATA, first_cell, pins

PROJECT = Project(ROOT)


def needs(name: str) -> list[str]:
    """Which packages of data a notebook asks for."""
    return pins(cell.source for cell in code(built(name))[1:])


# Those that need little come first, so that none of them finds what a later one installs.
IN_ORDER = sorted(NAMES, key=lambda name: (len(needs(name)), name))


def depends(item: pytest.Item) -> tuple[str, list[Path]]:
    """A notebook depends on its cells and what they import, not on its text (unchanged.py)."""
    callspec = getattr(item, "callspec", None)
    names = [callspec.params["name"]] if callspec else LIKE_COLAB
    notebooks = [built(name) for name in names]
    # The first cell names the commit; what else it says comes from the files below.
    shown = [(cell.source, given(cell)) for notebook in notebooks for cell in code(notebook)[1:]]
    files = {ROOT / name for name in ("pyproject.toml", "requirements.txt", DATA)}
    for name, notebook in zip(names, notebooks, strict=True):
        files |= Chapter(name, NOTEBOOKS / name, notebook).files(PROJECT)
    return f"{names} {hashlib.sha256(repr(shown).encode()).hexdigest()[:16]}", sorted(files)


def from_here(name: str, environment: Environment) -> NotebookNode:
    """Return a notebook whose first cell takes the package from this checkout."""
    notebook = built(name)
    first, *others = code(notebook)
    sources = [cell.source for cell in others]
    first.source = first_cell(sources, environment.package.as_uri()).source
    return notebook


def given(cell: NotebookNode) -> list[object]:
    """What a cell gave, figures included."""
    merge_streams(cell.outputs)
    return [(output.output_type, output.get("text"), output.get("data")) for output in cell.outputs]


@pytest.fixture(scope="module")
def fresh() -> Iterator[Environment]:
    with TemporaryDirectory() as folder:  # gigabytes, which pytest's own would keep
        environment = new_environment(Path(folder), pinned())
        assert environment.version("omnivault") is None
        assert environment.version("torch") is None
        yield environment


@pytest.fixture(scope="module")
def kernel(fresh: Environment) -> Iterator[Callable[[], list[str] | None]]:
    """Gives the command of a kernel; once there are libraries, of one that has them loaded."""
    with ExitStack() as stack:
        variables = environment(fresh.variables())
        start = cache(lambda: stack.enter_context(server(variables, fresh.python)))
        yield lambda: None if fresh.version("omnivault") is None else start()


@pytest.mark.parametrize("name", IN_ORDER)
def test_a_notebook_gives_what_its_page_shows(
    name: str, fresh: Environment, kernel: Callable[[], list[str] | None], tmp_path: Path
) -> None:
    ran = fresh.run(from_here(name, fresh), tmp_path, kernel())
    for before, now in zip(code(built(name))[1:], code(ran)[1:], strict=True):
        assert given(now) == given(before), before.source
    assert not list(tmp_path.iterdir()), "a notebook leaves files behind"
    assert fresh.version("omnivault") is not None


NEWER = os.environ.get("NEWER_TORCH", "")
"""A version of PyTorch above the pin, for the test of an environment like Colab's."""
LIKE_COLAB = ["softmax/derivatives.ipynb", "sampling/torch_multinomial.ipynb", "intro.ipynb"]


@pytest.mark.skipif(not NEWER, reason="NEWER_TORCH names no version of PyTorch")
def test_notebooks_leave_a_newer_torch_alone(fresh: Environment, tmp_path: Path) -> None:
    [pin] = [line.removeprefix("torch==") for line in pinned() if line.startswith("torch==")]
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(set(pinned()) - {f"torch=={pin}"}), encoding="utf-8")
    # Like Colab's: much is installed, torch is another one, and the book's package is not there.
    colab = replace(fresh, constraints=constraints)
    colab.install(f"torch=={NEWER}")
    colab.uninstall("omnivault")
    before = colab.version("torch")
    assert before is not None
    assert Version(before) > Version(pin)
    assert colab.version("omnivault") is None
    for name in LIKE_COLAB:
        (tmp_path / name).mkdir(parents=True)
        colab.run(from_here(name, colab), tmp_path / name)
    assert colab.version("omnivault") is not None
    assert colab.version("torch") == before
