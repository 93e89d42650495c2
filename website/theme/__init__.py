"""The look of the book: a theme of its own, one stylesheet and one script a page.

Jupyter Book's theme and the extensions that Jupyter Book loads besides bring about 1 MB of fonts,
scripts and styles to every page. None of it is loaded: the layout names its own two files, and
whatever else was copied to ``_static`` is removed. The address of the book and of its repository,
where there are any, come from ``_config.yml`` or from BOOK_URL and BOOK_REPOSITORY in the
environment; without them no page has a link that needs them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx_exercise.nodes import solution_node

from website.lists.statement_index import doctree_of
from website.theme import appendices, search
from website.theme.card import draw_card
from website.theme.katex import DIST as KATEX
from website.theme.translator import Translator, depart_solution, visit_solution

HERE = Path(__file__).resolve().parent

# They change pages for the theme that is not used, or load scripts of their own.
UNUSED = ("sphinx_book_theme", "sphinx_copybutton", "sphinx_thebe", "sphinx_togglebutton")

# Files of _static that pages use; Sphinx writes those of the search.
SEARCH = ("doctools", "documentation_options", "language_data", "searchtools", "sphinx_highlight")
USED = {
    *("book.css", "book.js", "card.png", "favicon.svg", "fonts"),
    *(f"{name}.js" for name in SEARCH),
}


def addresses(app: Sphinx, config: Config) -> None:
    url = os.environ.get("BOOK_URL", config.html_baseurl)
    config.html_baseurl = url.rstrip("/") + "/" if url else ""
    options = config.html_theme_options
    repository = os.environ.get("BOOK_REPOSITORY", options.get("repository_url", ""))
    options["repository_url"] = repository.rstrip("/")


def stylesheet() -> str:
    """KaTeX's style, which every page needs, and the book's, in one file."""
    katex = (KATEX / "katex.min.css").read_text(encoding="utf-8")
    # Every browser of the last ten years reads woff2.
    katex = re.sub(r',url\([^)]+\.(?:woff|ttf)\) format\("[a-z]+"\)', "", katex)
    return katex + "\n" + (HERE / "static" / "book.css").read_text(encoding="utf-8")


@cache
def version() -> str:
    """Name of the current style and script, so that no browser keeps an older one."""
    script = (HERE / "static" / "book.js").read_text(encoding="utf-8")
    return hashlib.sha256((stylesheet() + script).encode()).hexdigest()[:8]


@cache
def descriptions(app: Sphinx) -> dict[str, str]:
    """Say what each page is about, as the map on the first page does."""
    root = app.config.root_doc
    first = doctree_of(app.env, root)
    said = {root: next(first.findall(nodes.paragraph)).astext()}
    for item in first.findall(nodes.list_item):
        link = next(item.findall(addnodes.pending_xref), None)
        _, colon, text = item.astext().partition(": ")
        if link is not None and colon:
            said[link["reftarget"]] = " ".join((text[0].upper() + text[1:]).split())
    return said


def first_fonts(body: str) -> list[str]:
    """KaTeX's fonts that the first screens of a page need."""
    start = body[:60_000]
    fonts = {
        "Main-Regular": 'class="katex"',
        "Math-Italic": "mathnormal",
        "AMS-Regular": "mathbb",
        "Caligraphic-Regular": "mathcal",
        "Size1-Regular": "small-op",
    }
    return [font for font, mark in fonts.items() if mark in start]


def page_context(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    context["description"] = escape(descriptions(app).get(page, ""))
    context["style_version"] = version()
    context["first_fonts"] = first_fonts(context.get("body", ""))
    context["html_baseurl"] = app.config.html_baseurl
    context["repository"] = app.config.html_theme_options["repository_url"]
    context["author"] = app.config.author


def more_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    yield "index", {"title": app.config.html_title}, "index.html"
    yield "404", {"title": "There is no such page"}, "404.html"


def finish(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    static = out / "_static"
    for path in static.iterdir():
        if path.name not in USED:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (static / "book.css").write_text(stylesheet(), encoding="utf-8")
    (static / "fonts").mkdir(exist_ok=True)
    for font in KATEX.glob("fonts/*.woff2"):
        shutil.copy(font, static / "fonts")
    draw_card(app.config.html_title, static / "card.png")
    if url := app.config.html_baseurl:
        pages = sorted(app.env.found_docs)
        places = "".join(f"<url><loc>{url}{page}.html</loc></url>\n" for page in pages)
        (out / "sitemap.xml").write_text(
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{places}</urlset>\n',
            encoding="utf-8",
        )
        (out / "robots.txt").write_text(f"User-agent: *\nAllow: /\nSitemap: {url}sitemap.xml\n")


def setup(app: Sphinx) -> dict[str, Any]:
    for listeners in app.events.listeners.values():
        listeners[:] = [x for x in listeners if not x.handler.__module__.startswith(UNUSED)]
    app.add_html_theme("book_theme", str(HERE))
    app.set_translator("html", Translator)
    app.add_node(solution_node, override=True, html=(visit_solution, depart_solution))
    app.connect("config-inited", addresses)
    app.connect("html-page-context", page_context)
    app.connect("html-collect-pages", more_pages)
    app.connect("build-finished", finish)
    appendices.connect(app)
    search.connect(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
