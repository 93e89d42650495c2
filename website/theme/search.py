"""What the search knows of a page: each formula once, as it is drawn and not as TeX.

Its words go into the index here; for the excerpts, which the browser makes of the found pages,
``search.html`` leaves out the two other forms that KaTeX gives to a formula.
"""

from __future__ import annotations

import re
from html import unescape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder

from website.theme.katex import render


def drawn(math: nodes.Element) -> str:
    """Return the letters, words and signs of a formula, with spaces between."""
    html = render(math.astext(), isinstance(math, nodes.math_block)).get("html", "")
    mathml = html.partition('<annotation encoding="application/x-tex">')[0]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", mathml)).split())


class Builder(StandaloneHTMLBuilder):
    """Sphinx's builder, which would put the TeX of formulas into the index."""

    name = "html"

    def index_page(self, pagename: str, doctree: nodes.document, title: str) -> None:
        words = doctree.deepcopy()
        for kind in (nodes.math, nodes.math_block):
            for math in list(words.findall(kind)):
                math.replace_self(nodes.inline("", f" {drawn(math)} "))
        super().index_page(pagename, words, title)


def connect(app: Sphinx) -> None:
    app.add_builder(Builder, override=True)
