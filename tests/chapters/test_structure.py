"""One name for one thing: where the parts of a chapter stand, and what may be named from where."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from tests.support.book_source import directives, none, statements, toc_pages
from website import ROOT
from website.ledger.marks import checks

CHAPTERS = {Path(page).name: page for page in toc_pages(ROOT / "_toc.yml")}
STATED = {
    name
    for name, page in CHAPTERS.items()
    if statements((ROOT / f"{page}.md").read_text(encoding="utf-8"))
}


def test_no_two_pages_have_the_same_name() -> None:
    counts = Counter(path.stem for path in (ROOT / "book").rglob("*.md"))
    none([f"{times} pages are called {name}" for name, times in counts.items() if times > 1])


def test_tests_faults_exercises_and_figures_are_called_as_their_chapters() -> None:
    tested = {path.name for path in (ROOT / "tests" / "chapters").iterdir() if path.is_dir()}
    assert {name for name in tested if not name.startswith("_")} == STATED
    exercised = {path.stem for path in (ROOT / "omnivault" / "exercises").glob("[a-z]*.py")}
    assert exercised - {"checking"} == {
        path.parent.name for path in (ROOT / "tests" / "chapters").glob("*/answers.py")
    }
    drawn = {path.stem for path in (ROOT / "omnivault" / "figures").glob("[a-z]*.py")}
    assert drawn - {"common", "style", "tables"} <= STATED
    for name in STATED:
        assert (ROOT / "tests" / "chapters" / name / "faults.toml").is_file(), name


def test_the_exercises_of_a_chapter_are_checked_in_its_module() -> None:
    for path in (ROOT / "omnivault" / "exercises").glob("[a-z]*.py"):
        if path.stem == "checking":
            continue
        labels = [
            ast.literal_eval(call.args[0])
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "exercise"
        ]
        page = (ROOT / f"{CHAPTERS[path.stem]}.md").read_text(encoding="utf-8")
        asked = {found.label for found in directives(page)}
        none([f"{label} is no exercise of {path.stem}" for label in labels if label not in asked])


def test_a_statement_is_tested_in_the_file_of_its_name() -> None:
    first: dict[str, str] = {}
    for check in checks(ROOT):
        first.setdefault(check.id, check.statement)
    none(
        [
            f"{id} checks {statement}"
            for id, statement in first.items()
            if Path(id.partition("::")[0]).stem != f"test_{statement.replace('-', '_')}"
        ]
    )


def private(path: Path) -> list[str]:
    """Private names of other modules that a file uses."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    ours = ("omnivault", "website", "tests")
    found, modules = [], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ours:
            modules |= {alias.asname or alias.name for alias in node.names}
            found += [f"{node.module}.{a.name}" for a in node.names if hidden(a.name)]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
            continue
        if node.value.id in modules and hidden(node.attr):
            found.append(f"{node.value.id}.{node.attr}")
    return found


def hidden(name: str) -> bool:
    # What the package keeps for itself is a module, and its functions are those of all others.
    return name.startswith("_") and not name.startswith("__") and name != "_checks"


def test_no_private_name_crosses_a_module() -> None:
    files = [*(ROOT / "omnivault").rglob("*.py"), *(ROOT / "website").rglob("*.py")]
    none([f"{path.relative_to(ROOT)} uses {name}" for path in files for name in private(path)])


def test_a_private_name_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        "from omnivault.softmax import _shifted, softmax\nfrom omnivault import _checks, sampling\n"
        "from os import _exit\nsampling._draw(softmax.__name__)\n"
    )
    assert private(path) == ["omnivault.softmax._shifted", "sampling._draw"]
