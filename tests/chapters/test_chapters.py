"""The chapters as sources and as notebooks; the checkers live in book_source.py."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import jupytext  # type: ignore[import-untyped]
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_output

from tests.support.book_source import (
    bibliography,
    bibliography_problems,
    citation_problems,
    directives,
    duplicates,
    exercise_problems,
    figure_problems,
    front_matter_problems,
    has_cells,
    image_problems,
    left_over_problems,
    none,
    roles,
    statement_problems,
    statements,
    stderr_problems,
    toc_pages,
    toc_problems,
)
from tests.support.environments import built, code
from website import ROOT

TOC = toc_pages(ROOT / "_toc.yml")
BIBLIOGRAPHY = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
TEXTS = {
    path.relative_to(ROOT).with_suffix("").as_posix(): path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "book").rglob("*.md"))
    if ".ipynb_checkpoints" not in path.parts
}
NOTEBOOKS = [page for page, text in TEXTS.items() if has_cells(text)]
CHAPTERS = [page for page, numbered in TOC.items() if numbered]

every_page = pytest.mark.parametrize("page", TEXTS)
every_notebook = pytest.mark.parametrize("page", NOTEBOOKS)
every_chapter = pytest.mark.parametrize("page", CHAPTERS)


# --- the book


def test_every_page_is_in_the_table_of_contents() -> None:
    none(toc_problems(TOC, TEXTS))


@every_page
def test_notebooks_have_front_matter(page: str) -> None:
    none(front_matter_problems(TEXTS[page]))


@every_page
def test_statements_are_labelled_and_proved(page: str) -> None:
    none(statement_problems(TEXTS[page]))


def test_labels_are_unique() -> None:
    none(duplicates(d.label for text in TEXTS.values() for d in directives(text)))


@every_chapter
def test_chapters_have_exercises_with_folded_solutions(page: str) -> None:
    none(exercise_problems(TEXTS[page]))


@every_page
def test_nothing_is_left_to_write(page: str) -> None:
    none(left_over_problems(TEXTS[page]))


@every_page
def test_images_have_alternative_text(page: str) -> None:
    none(image_problems(TEXTS[page]))


@every_page
def test_citations_are_in_the_bibliography(page: str) -> None:
    none(citation_problems(TEXTS[page], bibliography(BIBLIOGRAPHY)))


def test_every_source_can_be_found() -> None:
    none(bibliography_problems(BIBLIOGRAPHY))


# --- the chapters as they ran in the build


def executed(page: str) -> NotebookNode:
    """The cells of a page with the outputs that they had in the build."""
    notebook: NotebookNode = jupytext.reads(TEXTS[page], fmt="md:myst")
    done = code(built(f"{page.removeprefix('book/')}.ipynb"))[1:]
    for cell, ran in zip(code(notebook), done, strict=True):
        cell.outputs = ran.outputs
    return notebook


@every_notebook
def test_nothing_is_written_to_stderr(page: str) -> None:
    none(stderr_problems(executed(page)))


@every_notebook
def test_figures_are_captioned(page: str) -> None:
    none(figure_problems(executed(page)))


# --- the checkers, each on a good and on a bad example


STATEMENT = """
:::{prf:theorem} Order, $a > b$
:label: thm-order

It is so, {prf:ref}`thm-order`, {cite:t}`luce1959,kool2019`.
:::
"""
PROOF = """
:::{prf:proof}
Clear.
:::
"""
EXERCISE = """
:::{exercise} Quick check
:label: ex-one

Why?
:::
"""
SOLUTION = """
:::{solution} ex-one
:label: sol-one
:class: dropdown

Because.
:::
"""
NOTEBOOK = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# Page

```{code-cell} ipython3
---
mystnb:
  figure:
    name: fig-line
---
1 + 1
```
"""


def test_directives_are_read_with_their_options_and_lines() -> None:
    page = "# Page\n\n::::{admonition} Note\n---\nclass: tip\n---\n\n" + STATEMENT + "::::\n"
    note, theorem = directives(page)
    assert (note.name, note.argument, note.options, note.line) == (
        "admonition",
        "Note",
        {"class": "tip"},
        3,
    )
    assert (theorem.name, theorem.argument) == ("prf:theorem", "Order, $a > b$")
    assert (theorem.label, theorem.line) == ("thm-order", 9)
    assert page.splitlines()[theorem.line - 1].startswith(":::{prf:theorem}")


def test_roles_are_read_inside_directives_but_not_inside_code() -> None:
    assert list(roles(STATEMENT)) == [
        ("prf:ref", "thm-order"),
        ("cite:t", "luce1959,kool2019"),
    ]
    assert list(roles("```{code-cell} ipython3\n# {ref}`no`\n```\n\n`` {ref}`no` ``\n")) == []


def test_statements_are_claims_and_definitions_alone() -> None:
    remark = STATEMENT.replace("theorem", "remark").replace("thm-", "rem-")
    definition = STATEMENT.replace("theorem", "definition").replace("thm-", "def-")
    found = statements(definition + STATEMENT + PROOF + remark)
    assert [statement.label for statement in found] == ["def-order", "thm-order"]


def test_toc_checker() -> None:
    assert toc_problems(["a", "b"], ["b", "a"]) == []
    assert toc_problems(["a", "b"], ["a", "c"]) == [
        "_toc.yml names b, which does not exist",
        "c is not in _toc.yml",
    ]


def test_toc_pages_tell_numbered_parts(tmp_path: Path) -> None:
    toc = tmp_path / "_toc.yml"
    toc.write_text(
        textwrap.dedent("""\
            format: jb-book
            root: book/intro
            parts:
              - caption: Front
                chapters: [{file: book/notation}]
              - caption: Part 1
                numbered: true
                chapters: [{file: book/one}, {file: book/two.md}]
            """),
        encoding="utf-8",
    )
    assert toc_pages(toc) == {
        "book/intro": False,
        "book/notation": False,
        "book/one": True,
        "book/two": True,
    }


def test_front_matter_checker() -> None:
    assert front_matter_problems(NOTEBOOK) == []
    assert front_matter_problems("# No cells\n") == []
    without = NOTEBOOK.split("---\n\n", 1)[1]
    assert front_matter_problems(without) == [
        "no jupytext in the front matter",
        "no kernelspec in the front matter",
    ]


def test_statement_checker() -> None:
    assert statement_problems(STATEMENT + "\nSome words.\n" + PROOF) == []
    assert statement_problems(STATEMENT.replace("theorem", "axiom")) == []
    unproved = "line 2: prf:theorem thm-order is not followed by its proof"
    assert statement_problems(STATEMENT) == [unproved]
    assert statement_problems(STATEMENT + STATEMENT + PROOF) == [unproved]
    assert statement_problems(STATEMENT.replace(":label: thm-order\n", "") + PROOF) == [
        "line 2: prf:theorem Order, $a > b$ has no label"
    ]


def test_duplicates() -> None:
    assert duplicates(["a", "b", "", ""]) == []
    assert duplicates(["a", "b", "a"]) == ["a"]


def test_exercise_checker() -> None:
    assert exercise_problems(EXERCISE + SOLUTION, at_least=1) == []
    gated = SOLUTION.replace("{solution}", "{solution-start}")
    assert exercise_problems(EXERCISE + gated, at_least=1) == []
    assert exercise_problems(EXERCISE + SOLUTION, at_least=2) == [
        "1 exercises; a chapter has at least 2"
    ]
    assert exercise_problems(EXERCISE, at_least=1) == ["line 2: exercise ex-one has no solution"]
    assert exercise_problems(EXERCISE.replace(":label: ex-one\n", ""), at_least=1) == [
        "line 2: exercise Quick check has no label"
    ]
    assert exercise_problems(SOLUTION, at_least=0) == [
        "line 2: solution sol-one solves ex-one, which is not an exercise of this page"
    ]
    assert exercise_problems(EXERCISE + SOLUTION.replace("dropdown", "note"), at_least=1) == [
        "line 8: solution sol-one is not folded (:class: dropdown)"
    ]


@pytest.mark.parametrize(
    "mark", ["TODO", "fixme:", "to be continued", "Coming soon", "Lorem ipsum"]
)
def test_left_over_checker(mark: str) -> None:
    assert left_over_problems("A method, mastodons and fixmes.\n") == []
    assert len(left_over_problems(f"Good.\nThen {mark} it.\n")) == 1


def test_image_checker() -> None:
    assert (
        image_problems("![A line](a.svg)\n\n:::{figure} b.svg\n:alt: A line\nCaption\n:::\n") == []
    )
    assert image_problems("![](a.svg)\n") == ["the image a.svg has no alternative text"]
    assert image_problems(":::{figure} b.svg\nCaption\n:::\n") == [
        "line 1: figure b.svg has no alternative text"
    ]


def notebook_of(*cells: dict[str, Any]) -> NotebookNode:
    """A notebook of code cells, each given by what differs from an empty one."""
    empty: dict[str, Any] = {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
    }
    content = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {},
        "cells": [{**empty, "id": f"cell-{i}", **cell} for i, cell in enumerate(cells)],
    }
    notebook: NotebookNode = jupytext.reads(json.dumps(content), fmt="ipynb")
    return notebook


def test_figure_checker() -> None:
    picture = {"output_type": "display_data", "metadata": {}, "data": {"image/svg+xml": "<svg/>"}}
    printed = {"output_type": "stream", "name": "stdout", "text": "2"}
    described = {"mystnb": {"figure": {"name": "f", "caption": "C"}, "image": {"alt": "A line"}}}
    good = {"source": "plot()", "outputs": [picture], "metadata": described}
    bare = {"source": "plot()", "outputs": [picture]}
    quiet = {"source": "print(2)", "outputs": [printed]}
    assert figure_problems(notebook_of(good, quiet)) == []
    assert figure_problems(notebook_of(quiet, bare)) == [
        "the figure of cell 2 (plot()) has no name",
        "the figure of cell 2 (plot()) has no caption",
        "the figure of cell 2 (plot()) has no alternative text",
    ]


def test_figure_metadata_survives_jupytext() -> None:
    cell = jupytext.reads(NOTEBOOK, fmt="md:myst").cells[1]
    assert cell.metadata == {"mystnb": {"figure": {"name": "fig-line"}}}


def test_stderr_checker() -> None:
    notebook = notebook_of({"source": "print(1)"}, {"source": "warn()"})
    for cell, name in zip(notebook.cells, ("stdout", "stderr"), strict=True):
        cell.outputs = [new_output("stream", name=name, text="careful\n")]
    assert stderr_problems(notebook) == ["cell 2 writes to stderr: careful"]


def test_bibliography_checker() -> None:
    entry = "@book{{luce1959, title = {{Choice}}, author = {{Luce}}, {field} = {{{value}}}}}"
    for field in ("doi", "ISBN", "eprint", "url"):
        assert bibliography_problems(entry.format(field=field, value="10.1/2")) == []
    assert bibliography_problems(entry.format(field="year", value="1959")) == [
        "luce1959 has no doi, eprint, isbn or url"
    ]


def test_citation_checker() -> None:
    assert citation_problems(STATEMENT, {"luce1959", "kool2019"}) == []
    assert citation_problems(STATEMENT, {"luce1959"}) == [
        "{cite:t}`luce1959,kool2019`: no kool2019 in the bibliography"
    ]
