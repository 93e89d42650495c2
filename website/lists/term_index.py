"""The index of terms, gathered from the pages that define them.

A page names its terms in ``{terms}``, one a line: the term, a colon, and references; where a term
has more than one aspect, more of them after semicolons. Nothing of it is shown there.

    :::{terms}
    - entropy: {prf:ref}`maximum-entropy`; and temperature: {prf:ref}`entropy-law`
    :::

``{term-index}`` becomes a list of all of them in alphabetical order. What it holds itself, such as
"nucleus: see top-p", is taken in. A term of several pages has one line.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

from website.lists.statement_index import doctree_of, pages


class Terms(nodes.General, nodes.Element):  # type: ignore[misc]
    """The lines of one page, parsed; left out where they stand."""


class TermIndex(nodes.General, nodes.Element):  # type: ignore[misc]
    """Where the list goes; it holds lines of its own."""


class TermsDirective(SphinxDirective):
    """Keeps the lines for the index."""

    has_content = True
    kind: type[nodes.Element] = Terms

    def run(self) -> list[nodes.Node]:
        """Return a node that shows nothing."""
        kept = self.kind()
        self.state.nested_parse(self.content, self.content_offset, kept)
        return [kept]


class TermIndexDirective(TermsDirective):
    """Marks the place of the list."""

    kind = TermIndex


Aspect = list[nodes.Node]


def aspects(line: nodes.Element) -> Iterator[tuple[str, list[nodes.Node], list[nodes.Node]]]:
    """Cut a line at its semicolons: name, what is written of the name, and the references."""
    written: list[nodes.Node] = []
    references: list[nodes.Node] = []
    for node in line.children:
        if not isinstance(node, nodes.Text):
            (references if references or ends_with_colon(written) else written).append(node)
            continue
        for number, part in enumerate(str(node).split("; ")):
            if number:
                yield name_of(written), written, references
                written, references = [], []
            if references:
                continue  # the comma between two of them
            head, colon, rest = part.rpartition(": ")
            if colon and rest:  # words, not a reference
                written.append(nodes.Text(f"{head}: "))
                references.append(nodes.Text(rest))
            elif part:
                written.append(nodes.Text(part))
    yield name_of(written), written, references


def ends_with_colon(written: list[nodes.Node]) -> bool:
    return bool(written) and isinstance(written[-1], nodes.Text) and written[-1].endswith(": ")


def name_of(written: list[nodes.Node]) -> str:
    return "".join(node.astext() for node in written).removesuffix(": ")


class Gather(SphinxPostTransform):
    """Put the list in its place, before sphinx-exercise (5) and Sphinx (10) see to references."""

    default_priority = 1

    def run(self, **kwargs: Any) -> None:
        """Change the page that is about to be written."""
        for kept in list(self.document.findall(Terms)):
            kept.parent.remove(kept)
        for place in list(self.document.findall(TermIndex)):
            place.replace_self(lines(self.env, place))


def lines(env: BuildEnvironment, place: TermIndex) -> list[nodes.Node]:
    """All terms in alphabetical order, below their first letters."""
    gathered: dict[str, dict[str, tuple[Aspect, Aspect]]] = {}
    sources: list[nodes.Element] = [
        kept for page in pages(env) for kept in doctree_of(env, page).findall(Terms)
    ]
    for source in [*sources, place]:
        for item in source.findall(nodes.list_item):
            [line] = [node for node in item.children if isinstance(node, nodes.Element)]
            term = ""
            for name, written, references in aspects(line.deepcopy()):
                term = term or name
                known = gathered.setdefault(term, {})
                aspect = "" if name == term else name
                known.setdefault(aspect, (written, []))[1].extend(references)
    made: list[nodes.Node] = []
    entries = nodes.bullet_list()
    letter = ""
    for term in sorted(gathered, key=str.casefold):
        if term[0].upper() != letter:
            letter = term[0].upper()
            entries = nodes.bullet_list()
            made += [nodes.paragraph("", "", nodes.strong("", letter)), entries]
        entries += nodes.list_item("", nodes.paragraph("", "", *entry(env, gathered[term])))
    return made


def entry(env: BuildEnvironment, known: dict[str, tuple[Aspect, Aspect]]) -> Iterator[nodes.Node]:
    """One line: the term itself first, then its aspects in reading order."""
    for number, aspect in enumerate(sorted(known, key=bool)):
        written, references = known[aspect]
        if number:
            yield nodes.Text("; ")
        yield from written
        if references and not ends_with_colon(written):
            yield nodes.Text(": ")
        for place, reference in enumerate(references):
            if place:
                yield nodes.Text(", ")
            for node in reference.findall(pending_xref):
                node["refdoc"] = env.docname
            yield reference


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_node(Terms)
    app.add_node(TermIndex)
    app.add_directive("terms", TermsDirective)
    app.add_directive("term-index", TermIndexDirective)
    app.add_post_transform(Gather)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
