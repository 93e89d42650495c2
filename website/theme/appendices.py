"""Appendices are lettered: what is numbered in one is A.1, not 1 of the whole book.

Sphinx numbers figures, statements, equations and exercises by their chapter, and those of pages
that have no number one after the other, wherever they are. So the pages below the caption
"Appendices" that number something get letters for numbers, and so do their sections.
"""

from __future__ import annotations

from collections.abc import Iterator
from string import ascii_uppercase
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.environment.collectors.toctree import TocTreeCollector

CAPTION = "Appendices"


def appendices(env: BuildEnvironment) -> Iterator[str]:
    """Yield the pages below the caption that number something, in order."""
    for toctree in env.get_doctree(env.config.root_doc).findall(addnodes.toctree):
        if toctree.get("caption") == CAPTION:
            for _, page in toctree["entries"]:
                if env.toc_fignumbers.get(page):
                    yield page


def letter(env: BuildEnvironment, page: str, name: str) -> None:
    """Give a page and its sections their numbers: A, A.1, A.1.1."""
    numbers: dict[str, tuple[str | int, ...]] = {}

    def walk(entries: nodes.Element, above: tuple[str | int, ...]) -> None:
        for place, entry in enumerate(entries.children, start=1):
            own = (*above, place) if above else (name,)
            for part in entry.children:
                if isinstance(part, nodes.bullet_list):
                    walk(part, own)
                elif isinstance(part, addnodes.compact_paragraph):
                    link = part[0]
                    link["secnumber"] = list(own)
                    numbers[link["anchorname"]] = own

    walk(env.tocs[page], ())
    known: dict[str, Any] = env.toc_secnumbers  # numbers alone, as Sphinx knows them
    known[page] = numbers
    env.titles[page]["secnumber"] = [name]


def forget(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Before Sphinx numbers everything anew, take away what the last build has left."""
    for page, title in env.titles.items():
        if isinstance(title.get("secnumber", [0])[0], str):
            for numbered in (title, *env.tocs[page].findall(nodes.reference)):
                numbered.attributes.pop("secnumber", None)
    return []


def letter_all(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """When Sphinx has numbered everything, letter the appendices and number their contents anew."""
    lettered = list(appendices(env))
    for page, name in zip(lettered, ascii_uppercase, strict=False):
        letter(env, page, name)
    return [*lettered, *TocTreeCollector().assign_figure_numbers(env)]


def connect(app: Sphinx) -> None:
    # The collector has priority 500.
    app.connect("env-get-updated", forget, priority=400)
    app.connect("env-get-updated", letter_all, priority=600)
