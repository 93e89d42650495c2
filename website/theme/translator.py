"""What Sphinx's HTML lacks: sizes of images, folds without a script, outputs that wrap."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from docutils import nodes
from sphinx.util.images import get_image_size
from sphinx.writers.html5 import HTML5Translator
from sphinx_exercise.nodes import solution_node

FIT = 35
"""Characters of code that a line of the narrowest phone holds. Longer lines scroll, and what
scrolls has to take the keyboard's focus. The script takes it back where nothing scrolls."""

COLUMN = 80
"""Characters that a line of the column of text holds on a wide screen."""


def is_prose(output: str) -> bool:
    """Whether nothing is lost where lines of an output break: one line, or no columns of spaces."""
    lines = output.strip("\n").split("\n")
    return len(lines) == 1 or not any(re.search(r"^\s|\S\s{2,}\S", line) for line in lines)


def lines_as_blocks(html: str) -> str:
    """Make each line of a pre a block, which can hang; colored outputs stay as they are."""
    start, tag, inside = html.partition("<pre><span></span>")
    text, end, rest = inside.partition("</pre>")
    if not tag or "<" in text:
        return html
    lines = "".join(f"<span>{line}</span>" for line in text.splitlines(keepends=True))
    return f'{start}<pre class="prose">{lines}{end}{rest}'


def size_in_pixels(path: Path) -> tuple[int, int] | None:
    """Width and height of an image; an SVG file says them in points."""
    if path.suffix != ".svg":
        return get_image_size(str(path))
    root = ElementTree.parse(path).getroot()
    width, height = root.get("width", ""), root.get("height", "")
    if not (width.endswith("pt") and height.endswith("pt")):
        return None
    return round(float(width[:-2]) * 4 / 3), round(float(height[:-2]) * 4 / 3)


class Translator(HTML5Translator):
    """Sphinx's translator with better images, tables and solutions."""

    def visit_image(self, node: nodes.image) -> None:
        # The page keeps the image's place free while it loads, which it does when it comes near.
        size = size_in_pixels(Path(self.builder.srcdir, node["uri"]))
        super().visit_image(node)
        if size is not None:
            given = f'<img width="{size[0]}" height="{size[1]}" loading="lazy" decoding="async" '
            self.body[-1] = self.body[-1].replace("<img ", given, 1)

    def visit_literal_block(self, node: nodes.literal_block) -> None:
        try:
            super().visit_literal_block(node)
        except nodes.SkipNode:
            text = node.astext()
            longest = max(map(len, text.splitlines()), default=0)
            is_output = "output" in node["classes"]
            if longest > FIT and is_output and is_prose(text):
                self.body[-1] = lines_as_blocks(self.body[-1])
            elif longest > FIT:
                wide = ' class="wide"' if is_output and longest > COLUMN else ""
                self.body[-1] = self.body[-1].replace("<pre>", f'<pre{wide} tabindex="0">', 1)
            raise

    def visit_table(self, node: nodes.table) -> None:
        self.body.append('<div class="table" tabindex="0">')
        super().visit_table(node)

    def depart_table(self, node: nodes.table) -> None:
        super().depart_table(node)
        self.body.append("</div>\n")

    def visit_citation(self, node: nodes.citation) -> None:
        super().visit_citation(node)
        # The role that docutils gives may no longer stand in a list (ARIA 1.2).
        self.body[-1] = self.body[-1].replace('role="doc-biblioentry"', 'role="listitem"')

    def visit_title(self, node: nodes.title) -> None:
        if isinstance(node.parent, solution_node):
            self.body.append("<summary>")
        else:
            super().visit_title(node)

    def depart_title(self, node: nodes.title) -> None:
        if isinstance(node.parent, solution_node):
            self.body.append("</summary>\n")
        else:
            super().depart_title(node)

    def visit_section(self, node: nodes.section) -> None:
        # sphinx-proof and sphinx-exercise give the body of every block the same id.
        if isinstance(node.parent, nodes.Admonition):
            node["ids"] = []
        super().visit_section(node)


def visit_solution(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append(self.starttag(node, "details"))


def depart_solution(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append("</details>\n")
