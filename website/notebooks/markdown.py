"""Write a parsed page as Markdown that any notebook program shows, without directives or roles.

What a page has and Markdown lacks is said in other ways: a statement is a quotation that opens with
its kind and number, a solution folds, and a formula is TeX between dollar signs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx_exercise.nodes import exercise_enumerable_node, solution_node
from sphinx_proof.nodes import proof_node

from website.lists.statement_index import name_of, title_of

Part = tuple[str, Any]
"""``("text", Markdown)``, ``("heading", Markdown)``, or ``("code", (index of the cell, name of the
solution that it belongs to, or ""))``."""


class Page:
    """One page, with what its Markdown has to know: numbers, and where links lead.

    Parameters
    ----------
    env
        Sphinx's environment, which has numbered everything.
    name
        The page's name, such as ``book/softmax/properties``.
    target
        Gives the address for a link inside the book, or ``""`` where there is none.
    """

    def __init__(
        self, env: BuildEnvironment, name: str, target: Callable[[nodes.reference], str]
    ) -> None:
        self.env = env
        self.name = name
        self.target = target

    def number(self, kind: str, label: str) -> str:
        """Return the number of a figure or an exercise, such as "4.2"."""
        return ".".join(map(str, self.env.toc_fignumbers[self.name][kind][label]))

    # --- the parts of a page, in order

    def parts(self, node: nodes.Element, level: int = 0) -> Iterator[Part]:
        """Walk through a page or a section."""
        for child in node.children:
            if isinstance(child, nodes.section):
                yield "heading", f"{'#' * (level + 1)} {self.inline(child[0])}"
                yield from self.parts(child, level + 1)
            elif is_cell(child):
                yield from self.cell(child, "")
            elif isinstance(child, solution_node):
                yield from self.solution(child)
            elif not isinstance(child, nodes.title) and (text := self.block(child)):
                yield "text", text

    def cell(self, cell: nodes.Element, solution: str) -> Iterator[Part]:
        """Give a code cell, and below it the caption of its figure."""
        yield "code", (cell["cell_index"], solution)
        for figure in cell.findall(nodes.figure):
            caption = next(figure.findall(nodes.caption))
            number = self.number("figure", figure["ids"][0])
            yield (
                "text",
                f"**{self.env.config.numfig_format['figure'] % number}** " + self.inline(caption),
            )

    def solution(self, node: nodes.Element) -> Iterator[Part]:
        """Fold the text. Code cells cannot stand inside a fold, so that it may be in pieces."""
        name = f"Solution to Exercise {self.number('exercise', node['target_label'])}"
        summary, texts = name, list[str]()

        def fold() -> Iterator[Part]:
            nonlocal summary
            if texts:
                # Not every program shows that a summary opens.
                opening = f"<details>\n<summary><b>{summary}</b> (click)</summary>"
                yield "text", "\n\n".join([opening, *texts, "</details>"])
                summary = f"{name}, continued"
                texts.clear()

        for child in node[1].children:
            if is_cell(child):
                yield from fold()
                for kind, part in self.cell(child, name):
                    if kind == "code":
                        yield kind, part
                    else:
                        texts.append(part)
            elif text := self.block(child):
                texts.append(text)
        yield from fold()

    # --- blocks

    def block(self, node: nodes.Node) -> str:
        """Write a block as Markdown, without a line break at its end."""
        if isinstance(node, (nodes.target, nodes.comment)) or "checks" in classes(node):
            return ""
        if isinstance(node, nodes.paragraph):
            return start_of_line(self.inline(node))
        if isinstance(node, nodes.math_block):
            # One line: where a quotation or a list opens every line, TeX would swallow the marks.
            tag = rf" \tag{{{self.equation(node)}}}" if node.get("label") else ""
            return f"$${' '.join(node.astext().split())}{tag}$$"
        if isinstance(node, nodes.literal_block):
            fence = "`" * max(3, longest(r"`+", node.astext()) + 1)
            return f"{fence}{node.get('language', '')}\n{node.astext()}\n{fence}"
        if isinstance(node, (nodes.bullet_list, nodes.enumerated_list)):
            return self.list(node)
        if isinstance(node, nodes.definition_list):
            return "\n\n".join(f"**{self.inline(i[0])}** {self.blocks(i[1])}" for i in node)
        if isinstance(node, nodes.block_quote):
            return quoted(self.blocks(node))
        if isinstance(node, nodes.table):
            return self.table(node)
        if isinstance(node, proof_node):
            return self.blocks(node[0])
        if isinstance(node, nodes.citation):
            return self.blocks(node, start=1)  # without its label, which no link leads to
        if isinstance(node, exercise_enumerable_node):
            title = f"**Exercise {self.number('exercise', node['label'])}** {self.inline(node[0])}"
            return quoted(f"{title.strip()}\n\n{self.blocks(node[1])}")
        if isinstance(node, nodes.Element) and "realtype" in node:
            title = f"**{name_of(self.env, self.name, node)}**"
            if told := "".join(self.span(part) for part in title_of(node)).strip():
                title += f" ({told})"
            return quoted(f"{title}\n\n{self.blocks(node[1])}")
        if isinstance(node, (nodes.container, nodes.compound)) and not is_cell(node):
            return self.blocks(node)
        raise self.missing(node)

    def blocks(self, node: nodes.Element, start: int = 0) -> str:
        """Write all blocks inside a node, or those from a place on."""
        return "\n\n".join(text for child in node.children[start:] if (text := self.block(child)))

    def list(self, node: nodes.Element) -> str:
        items = []
        for number, item in enumerate(node.children, start=node.get("start", 1)):
            mark = f"{number}. " if isinstance(node, nodes.enumerated_list) else "- "
            indented = ("\n" + " " * len(mark)).join(self.blocks(item).split("\n"))
            items.append(mark + indented.replace("\n" + " " * len(mark) + "\n", "\n\n"))
        loose = any(len(item.children) > 1 for item in node.children)
        return ("\n\n" if loose else "\n").join(items)

    def table(self, node: nodes.Element) -> str:
        rows = [
            [
                self.blocks(entry).replace("\n\n", "<br>").replace("|", r"\|")
                for entry in row.children
            ]
            for row in node.findall(nodes.row)
        ]
        if not any(node.findall(nodes.thead)):
            rows.insert(0, [""] * len(rows[0]))
        rows.insert(1, ["---"] * len(rows[0]))
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    # --- within a line

    def inline(self, node: nodes.Node) -> str:
        """Write what stands inside a paragraph, a title or a caption."""
        opening = ""
        children = list(node.children)
        if children and isinstance(node.parent, nodes.admonition):
            first = children[0].astext()
            if node.parent.index(node) == 0 and first.startswith("Proof. "):
                opening = "*Proof.* "
                children[0] = nodes.Text(first.removeprefix("Proof. "))
        text = opening + "".join(map(self.span, children))
        return " ".join(text.split())

    def span(self, node: nodes.Node) -> str:
        """Write one piece of a line."""
        if isinstance(node, nodes.Text):
            return escaped(node.astext())
        if isinstance(node, nodes.math):
            # Without bars: they would end the cell of a table.
            tex = node.astext().replace(r"\|", r"\Vert ").replace("|", r"\vert ")
            return f"${' '.join(tex.split())}$"
        if isinstance(node, nodes.literal):
            ticks = "`" * (longest(r"`+", node.astext()) + 1)
            return f"{ticks}{node.astext()}{ticks}"
        if isinstance(node, nodes.image):
            raise self.missing(node)
        inner = "".join(map(self.span, node.children))
        if isinstance(node, (nodes.emphasis, addnodes.literal_emphasis)):
            return f"*{inner}*"
        if isinstance(node, (nodes.strong, addnodes.literal_strong)):
            return f"**{inner}**"
        if isinstance(node, nodes.reference):
            target = self.target(node)
            return f"[{inner}]({target})" if target else inner
        if isinstance(node, (nodes.inline, nodes.target, nodes.title_reference)):
            return inner
        if type(node) is addnodes.number_reference:
            return inner
        raise self.missing(node)

    def equation(self, node: nodes.Element) -> str:
        math: Any = self.env.get_domain("math")
        return str(math.equations[node["label"]][1])

    def missing(self, node: nodes.Node) -> ExtensionError:
        return ExtensionError(
            f"{self.name}: there is no Markdown for {type(node).__name__} {node.astext()[:60]!r}; "
            "say it otherwise in the chapter, or teach it to website/notebooks"
        )


def is_cell(node: nodes.Node) -> bool:
    """Whether a node is a code cell with all that belongs to it."""
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code"


def classes(node: nodes.Node) -> list[str]:
    return node["classes"] if isinstance(node, nodes.Element) else []


def quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def longest(pattern: str, text: str) -> int:
    return max(map(len, re.findall(pattern, text)), default=0)


def escaped(text: str) -> str:
    """Keep Markdown from reading more into a text than stands there."""
    return re.sub(r"([\\`*_\[\]<$])", r"\\\1", text)


def start_of_line(text: str) -> str:
    """Keep a paragraph from becoming a heading, a quotation or a list."""
    return re.sub(r"^(\d*)([#>+\-.)])(?=[\s#])", r"\1\\\2", text)
