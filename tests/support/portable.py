"""The book as other processors compute it: ``make portable``.

PyTorch and oneDNN choose their code by what the processor can do, and so do sums by the number of
threads: the last digits differ. Here both are told to do without, so that one machine stands for
several. Every chapter runs under every setting, and what it prints has to be what the page shows;
then the tests of the statements and of the package run, which have to pass.

    python -m tests.support.portable [PAGE ...] [--setting NAME ...] [--quick]

With pages, those alone run, and no tests; ``--quick`` takes three chapters and the tests of the
statements. What may differ stands in ``portable.toml``, with the reasons; anything else that
differs is printed and fails.
"""

from __future__ import annotations

import argparse
import difflib
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import yaml
from jupyter_cache import get_cache
from nbformat import NotebookNode

from website import ROOT
from website.build.run_chapters import CACHE, Chapter, Run, names, read, run_all

SETTINGS = {
    "default": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "DNNL_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "DNNL_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "AVX2",
    },
    "unset": {},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "4 threads": {"OMP_NUM_THREADS": "4"},
}
"""By name, environment variables; where nothing else is said, there is one thread."""

STATEMENTS = "tests/chapters/*/test_*.py"
# What needs no built book: the package and the statements.
TESTS = [STATEMENTS, "omnivault", "tests/live", "tests/package"]

# The chapters whose cells hold floats to the tightest bounds.
QUICK = ["softmax/first_principles", "softmax/numerics", "sampling/production"]


@dataclass(frozen=True)
class MayDiffer:
    """A cell whose text is not the same everywhere."""

    page: str
    cell: str
    """A line of its code that no other cell of the page has."""
    reason: str


def listed() -> list[MayDiffer]:
    path = Path(__file__).with_suffix(".toml")
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("differs", [])
    return [MayDiffer(**entry) for entry in entries]


def text(cell: NotebookNode) -> str:
    """What a cell shows, as text; not the numbers for the prose, which have all their digits."""
    parts = []
    for output in cell.get("outputs", []):
        parts.append(output.get("text", ""))
        for kind, value in sorted(output.get("data", {}).items()):
            if kind == "text/plain":
                parts.append(f"{value}\n")
    return "".join(parts)


def shown(chapter: Chapter) -> NotebookNode:
    """Return the chapter with the outputs that its page shows."""
    cache = get_cache(str(ROOT / CACHE))
    notebook: NotebookNode
    _, notebook = cache.merge_match_into_notebook(chapter.notebook)
    return notebook


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def differences(page: str, expected: NotebookNode, got: NotebookNode) -> list[str]:
    """Say where a run gave other text than the page shows, except where it may."""
    free = [entry.cell for entry in listed() if f"book/{entry.page}" == page]
    found = []
    for number, (old, new) in enumerate(zip(code(expected), code(got), strict=True), 1):
        if text(old) != text(new) and not any(cell in old.source for cell in free):
            lines = difflib.unified_diff(
                text(old).splitlines(), text(new).splitlines(), "page", "this run", lineterm="", n=0
            )
            found.append("\n".join([f"{page}, code cell {number}:", *lines]))
    return found


def chapters(pages: list[str]) -> list[Chapter]:
    found = (read(f"book/{page}", ROOT / "book" / f"{page}.md") for page in pages or names())
    return [chapter for chapter in found if chapter is not None]


def run_chapters(pages: list[str], setting: str) -> list[str]:
    """Run chapters under a setting, and return what differs or fails."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    expected = {chapter.page: shown(chapter) for chapter in chapters(pages)}
    problems: list[str] = []

    def compare(chapter: Chapter, run: Run) -> None:
        problems.extend(differences(chapter.page, expected[chapter.page], chapter.notebook))

    failed = run_all(
        chapters(pages), config["execute"]["timeout"], compare, settings=SETTINGS[setting]
    )
    return problems + [f"{chapter.page} fails" for chapter in failed]


def run_tests(setting: str, patterns: list[str]) -> list[str]:
    """Run tests under a setting."""
    paths = [str(path) for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    options = ["-q", "-n", "2", "--dist", "loadfile", "-m", "not alone"]
    command = [sys.executable, "-m", "pytest", *options, *paths]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **SETTINGS[setting]}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    return [f"tests fail under {setting}"] if done.returncode else []


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the book as on other processors.")
    parser.add_argument(
        "pages", nargs="*", help="such as softmax/numerics; all, and the tests, if none"
    )
    parser.add_argument("--setting", action="append", choices=SETTINGS, help="or all of them")
    parser.add_argument("--quick", action="store_true", help="the part that each landing has")
    arguments = parser.parse_args()
    pages = arguments.pages or (QUICK if arguments.quick else [])
    tests = [STATEMENTS] if arguments.quick else [] if pages else TESTS
    problems: dict[str, list[str]] = {}
    for setting in arguments.setting or SETTINGS:
        print(f"--- {setting}", flush=True)
        problems[setting] = run_chapters(pages, setting)
        if tests:
            problems[setting] += run_tests(setting, tests)
    for setting, found in problems.items():
        print(f"--- {setting}: {'nothing differs' if not found else f'{len(found)} problems'}")
        print("\n".join(found), end="\n" * bool(found))
    return bool(any(problems.values()))


if __name__ == "__main__":
    sys.exit(main())
