"""The tests of the statements as pages of the site, so that links to them work wherever it is read.

A page shows the files of one chapter, cut at their functions; above each test stand the statements
that it checks and the deliberate faults on which it was seen to fail.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pygments
from markupsafe import Markup
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder

from website import ROOT
from website.ledger.marks import Check, checks, faults
from website.lists.statement_index import numbered, pages

MADE_IN = {
    "omnivault": "{fault.function} of {fault.file}",
    "formula": "the formula {fault.function} of the tests",
    "helper": "{fault.function}, which all tests share",
}


def cut(source: str) -> Iterator[tuple[str, str]]:
    """Cut a file before each test function: name of the test, or "", and the lines."""
    lines, start, name = source.splitlines(keepends=True), 0, ""
    for node in ast.parse(source).body:
        is_test = isinstance(node, ast.FunctionDef) and node.name.startswith("test")
        if not is_test and not name:
            continue
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1
        while first > start and lines[first - 1].startswith("#"):  # its comment or heading
            first -= 1
        yield name, "".join(lines[start:first])
        start, name = first, getattr(node, "name", "") if is_test else ""
    yield name, "".join(lines[start:])


def statements(app: Sphinx) -> dict[str, tuple[str, str]]:
    """Page and name of every numbered statement, such as "Theorem 4.1", by its label."""
    return {
        statement["label"]: (place, name)
        for place in pages(app.env)
        for statement, name in numbered(app.env, place)
    }


def highlighted(app: Sphinx, file: str, parts: list[tuple[str, str]]) -> list[str]:
    """Return the parts in color: a third of the time of writing, if they were not kept."""
    sources = [source.strip("\n") for _, source in parts]
    key = hashlib.sha256(repr((pygments.__version__, sources)).encode()).hexdigest()
    kept = ROOT / "_build" / "highlighted" / Path(file).with_suffix(".json")
    if kept.is_file():
        saved = json.loads(kept.read_text(encoding="utf-8"))
        if saved["key"] == key:
            found: list[str] = saved["parts"]
            return found
    assert isinstance(app.builder, StandaloneHTMLBuilder)
    made = [app.builder.highlighter.highlight_block(source, "python") for source in sources]
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"key": key, "parts": made}), encoding="utf-8")
    return made


def check_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    if not isinstance(app.builder, StandaloneHTMLBuilder):
        return
    stated, known = statements(app), faults(ROOT)
    chapters: dict[str, list[Check]] = {}
    for check in checks(ROOT):
        chapters.setdefault(check.chapter, []).append(check)
    for name, its in chapters.items():
        page, folder = its[0].page, Path(its[0].file).parent
        places = Counter(stated[check.statement][0] for check in its if check.statement in stated)
        if not places:
            continue  # none of its statements is in this book
        [(chapter, _)] = places.most_common(1)
        chapter_title = app.env.titles[chapter].astext()
        context = {
            "title": f"Checks: {chapter_title}",
            "folder": folder.as_posix(),
            "chapter": chapter,
            "chapter_title": chapter_title,
            "parts": [],
        }
        with_tests = sorted({check.file for check in its})
        shared = [(folder / path.name).as_posix() for path in (ROOT / folder).glob("common*.py")]
        for file in [*sorted(shared), *with_tests]:
            source = (ROOT / file).read_text(encoding="utf-8")
            parts = [part for part in cut(source) if part[1].strip()]
            for (test, _), code in zip(parts, highlighted(app, file, parts), strict=True):
                labels = [check.statement for check in its if check.test == test]
                context["parts"].append(
                    {
                        "file": "" if test else file,
                        "test": test,
                        "statements": [
                            (app.builder.get_relative_uri(page, place) + f"#{label}", title)
                            for label in labels
                            if label in stated
                            for place, title in [stated[label]]
                        ],
                        "faults": [
                            (fault.what, MADE_IN[fault.made_in].format(fault=fault))
                            for fault in known
                            if fault.chapter == name and test in fault.caught_by
                        ],
                        "code": Markup(code.replace("<pre>", '<pre tabindex="0">')),
                    }
                )
        yield page, context, "check_page.html"


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-collect-pages", check_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
