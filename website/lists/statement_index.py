"""A directive that lists every numbered statement of the book, chapter by chapter.

``{statement-index}`` becomes, once all pages are read, a list for each page in reading order: kind
and number of each statement, as a link, and its title.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode


class ListOfStatements(nodes.General, nodes.Element):  # type: ignore[misc]
    """Where the list goes."""


class StatementIndex(SphinxDirective):
    """Mark the place; the list is made when all pages are known."""

    def run(self) -> list[nodes.Node]:
        """Leave the mark."""
        return [ListOfStatements()]


def pages(env: BuildEnvironment) -> list[str]:
    """Every page of the table of contents, in reading order."""
    ordered = [env.config.root_doc]
    for page in ordered:  # grows while it is read; the table of contents has no loops
        ordered += [child for child in env.toctree_includes.get(page, ()) if child not in ordered]
    return ordered


def title_of(statement: nodes.Element) -> list[nodes.Node]:
    """Return what stands in parentheses after the number, formulas and all."""
    children: list[nodes.Node] = [child.deepcopy() for child in statement[0].children]
    if children:
        children[0] = nodes.Text(children[0].astext().lstrip().removeprefix("("))
        children[-1] = nodes.Text(children[-1].astext().removesuffix(")"))
    return children


@cache
def doctree_of(env: BuildEnvironment, page: str) -> nodes.document:
    """Return a page as it was read, to look at; only when all pages have been read."""
    return env.get_doctree(page)


def numbered(env: BuildEnvironment, page: str) -> Iterator[tuple[nodes.Element, str]]:
    """Every statement of a page with its kind and number, such as "Theorem 4.1"."""
    for statement in doctree_of(env, page).findall(nodes.Element):
        if "realtype" in statement and "countertype" in statement:
            yield statement, name_of(env, page, statement)


def name_of(env: BuildEnvironment, page: str, statement: nodes.Element) -> str:
    number = env.toc_fignumbers[page][statement["countertype"]][statement["label"]]
    return f"{statement['realtype'].title()} {'.'.join(map(str, number))}"


def list_statements(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    env = app.env
    for index in list(doctree.findall(ListOfStatements)):
        filled: list[nodes.Node] = []
        for page in pages(env):
            entries = nodes.bullet_list(classes=["statement-index"])
            for statement, name in numbered(env, page):
                link = make_refnode(
                    app.builder, docname, page, statement["label"], nodes.Text(name)
                )
                line = nodes.paragraph("", "", link, nodes.Text(" "), *title_of(statement))
                entries += nodes.list_item("", line)
            if entries.children:
                title = nodes.Text(env.titles[page].astext())
                heading = make_refnode(app.builder, docname, page, "", title)
                filled += [nodes.paragraph("", "", nodes.strong("", "", heading)), entries]
        index.replace_self(filled)


def pages_with_the_list(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """They change whenever any other page does."""
    return [page for page in env.found_docs if any(doctree_of(env, page).findall(ListOfStatements))]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_node(ListOfStatements)
    app.add_directive("statement-index", StatementIndex)
    app.connect("env-updated", pages_with_the_list)
    app.connect("doctree-resolved", list_statements)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
