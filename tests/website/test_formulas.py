"""Formulas: one Node.js a process, what stays together in a line, what the search knows of them."""

from __future__ import annotations

import re
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.utils import new_document
from playwright.sync_api import expect

from tests.support.book_source import none
from tests.support.browser import (
    LAY_OUT,
    PAGES,
    Reader,
    Readers,
    every_page,
    every_width,
)
from website.theme.katex import keep_whole, render
from website.theme.search import drawn


def formulas(seed: int) -> list[str]:
    return [f"x_{{{seed}}} + {n}" for n in range(200)]


def rendered(seed: int) -> list[str]:
    return [render(tex, False)["html"] for tex in formulas(seed)]


def test_processes_do_not_share_a_pipe() -> None:
    """Sphinx forks when it writes with several processes; this one has rendered before."""
    assert "katex" in render("a", False)["html"]
    pool = get_context("fork").Pool(2)
    try:
        found = pool.map_async(rendered, (1, 2), chunksize=1).get(timeout=60)
    finally:
        pool.terminate()
    for seed, answers in zip((1, 2), found, strict=True):
        for tex, html in zip(formulas(seed), answers, strict=True):
            assert f'<annotation encoding="application/x-tex">{tex}</annotation>' in html


# --- a formula and its punctuation


def paragraph(*parts: str | nodes.Node) -> nodes.paragraph:
    """A paragraph in which every other part is a formula."""
    made = nodes.paragraph()
    for place, part in enumerate(parts):
        made += (
            part
            if isinstance(part, nodes.Node)
            else (nodes.math if place % 2 else nodes.Text)(part, *([part] if place % 2 else []))
        )
    return made


def pieces(made: nodes.paragraph, format: str = "html") -> list[str]:
    """What may stand apart: texts, formulas, and in brackets what is kept whole."""
    document = new_document("")
    document += made
    app: Any = SimpleNamespace(builder=SimpleNamespace(format=format))
    keep_whole(app, document, "")
    return [
        f"[{'|'.join(inner.astext() for inner in child)}]"
        if "whole" in getattr(child, "attributes", {}).get("classes", [])
        else child.astext()
        for child in made
        if child.astext()
    ]


@pytest.mark.parametrize(
    ("parts", "kept"),
    [
        (("if ", "a", ", then"), ["if ", "[a|,]", " then"]),
        (("of ", "a", "."), ["of ", "[a|.]"]),
        (("of ", "a", " and ", "b", " too"), ["of ", "a", " and ", "b", " too"]),
        (("(", "a", ", ", "b", ")."), ["[(|a|,]", " ", "[b|).]"]),
        (("so (", "a", " is"), ["so ", "[(|a]", " is"]),
        (("an ", "n", "-fold sum"), ["an ", "[n|-]", "fold sum"]),
        (("both ", "x", "'s"), ["both ", "[x|'s]"]),
        (("“", "x", "” is"), ["[“|x|”]", " is"]),
        (("", "a", ",", "b", ";"), ["[a|,]", "[b|;]"]),
        (("a ", "x", "—so"), ["a ", "[x|—]", "so"]),
    ],
)
def test_what_touches_a_formula_stays_with_it(parts: tuple[str, ...], kept: list[str]) -> None:
    made = paragraph(*parts)
    text = made.astext()
    assert pieces(made) == kept
    assert made.astext() == text
    assert pieces(paragraph(*parts), "latex") == [part for part in parts if part]


def test_a_formula_at_the_end_of_emphasis_stays_with_what_follows() -> None:
    strong = nodes.strong("", "", nodes.Text("for "), nodes.math("x", "x"))
    assert pieces(paragraph("and ", strong, ": so")) == ["and ", "[for x|:]", " so"]


def test_a_number_of_a_run_stays_with_its_minus() -> None:
    def glued(text: str) -> nodes.inline:
        return nodes.inline("", text, classes=["pasted-text"])

    minus = nodes.math("-", "-")
    assert pieces(paragraph("to ", minus, glued("745"), nodes.Text(", or")))[1] == "[-|745|,]"
    words = paragraph("to ", minus.deepcopy(), glued("7 or 8"), nodes.Text(", or"))
    assert pieces(words) == ["to ", "-", "7 or 8", ", or"]


ORPHANS = """
() => {
  for (const details of document.querySelectorAll("main details")) details.open = true;
  const beside = (formula, way, end) => {
    let node = formula;
    while (!node[way]) {
      node = node.parentElement;
      if (!getComputedStyle(node).display.startsWith("inline")) return null;
    }
    node = node[way];
    while (node?.nodeType === 1 && !node.matches(".math")) node = node[end];
    return node?.nodeType === 3 && node.data ? node : null;
  };
  const apart = (text, place, part) => {
    const range = document.createRange();
    range.setStart(text, place);
    range.setEnd(text, place + 1);
    const [near, box] = [range, part].map((x) => x.getBoundingClientRect());
    return near.width > 0 && (near.top > box.bottom - 4 || near.bottom < box.top + 4);
  };
  const found = [];
  for (const formula of document.querySelectorAll("article span.math")) {
    const parts = [...formula.querySelectorAll(".katex-base")];
    const before = beside(formula, "previousSibling", "lastChild");
    const after = beside(formula, "nextSibling", "firstChild");
    const opens = before && /[(\\[\\u201c\\u2018]$/.test(before.data);
    const closes = after && /^[^\\s([\\u2010-\\u2014-]/.test(after.data);
    if (opens && apart(before, before.length - 1, parts[0])) found.push(before.data.slice(-20));
    if (closes && apart(after, 0, parts.at(-1))) found.push(after.data.slice(0, 20));
  }
  return found;
}
"""


def orphans(this: Reader) -> list[str]:
    this.page.add_style_tag(content=LAY_OUT)
    this.page.evaluate("document.fonts.ready")
    found: list[str] = this.page.evaluate(ORPHANS)
    return found


@every_width
@every_page
@pytest.mark.browser
def test_no_line_begins_with_the_punctuation_of_a_formula(
    page: str, width: int, reader: Readers
) -> None:
    this = reader(width, "light")
    this.open(page)
    none(orphans(this))


@pytest.mark.browser
def test_a_browser_would_begin_lines_so(reader: Readers) -> None:
    """Without the style there are such lines, of both kinds: the test above sees them."""
    this = reader.new(390, None)
    this.open("book/temperature/temperature")
    this.page.add_style_tag(content=".whole { white-space: normal !important }")
    assert len(orphans(this)) > 0
    this.page.set_content(
        '<article><p style="width: 10ch; font-family: monospace">abcdefg (<span class="math">'
        '<span style="position: absolute">x</span>'
        '<span class="katex-base" style="display: inline-block">xyz</span></span>) c</p></article>'
    )
    assert len(this.page.evaluate(ORPHANS)) == 1
    this.page.context.close()


@pytest.mark.browser
def test_what_is_kept_whole_is_copied_and_found_as_it_is(reader: Readers) -> None:
    page = reader(390, "light").open("book/temperature/temperature")
    texts: list[str] = page.locator("article .whole").evaluate_all(
        """all => all.flatMap((e) => [...e.childNodes])
           .filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data)"""
    )
    assert len(texts) > 20
    none([repr(text) for text in texts if not re.fullmatch(r"[^\s\u2060\u200b\u00ad]+", text)])


# --- the search


@pytest.mark.parametrize(
    ("tex", "words"),
    [
        (r"\operatorname{softmax}_T(z)", {"softmax", "T", "z"}),
        (r"\frac{a}{b} \le \mathbb{E}[X]", {"a", "b", "≤", "E", "X"}),
        (r"T \to \infty", {"T", "→", "∞"}),
        (r"a < b", {"a", "<", "b"}),
    ],
)
def test_the_index_takes_a_formula_as_it_is_drawn(tex: str, words: set[str]) -> None:
    found = drawn(nodes.math(tex, tex)).split()
    assert words <= {*found, *"".join(found)}
    assert not [word for word in found if "\\" in word or word in {"frac", "infty", "operatorname"}]


def test_the_index_has_no_tex(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert "softmax" in index
    none([f"{word} is in the index" for word in ("operatornam", "frac", "mathbb", "cdot", "infti")
          if f'"{word}"' in index or f"{word}:" in index])  # fmt: skip
    assert "\\\\beta" not in index


@every_width
@pytest.mark.browser
def test_an_excerpt_shows_each_formula_once(width: int, reader: Readers) -> None:
    this = reader(width, "light")
    page = this.open(PAGES[0])
    page.locator("#contents input").evaluate("e => (e.value = 'pairwise')")
    page.locator("#contents form").evaluate("e => e.submit()")
    page.wait_for_url("**/search.html?q=pairwise")
    expect(page.locator("#search-results p.context").first).to_be_visible()
    page.wait_for_load_state("networkidle")
    excerpts = page.locator("#search-results p.context").all_text_contents()
    none([text for text in excerpts if "\\" in text])
    # A sentence of a chapter with its formulas, as an excerpt would have it.
    address = f"{this.address}/book/temperature/temperature.html"
    text = page.evaluate(
        "async (address) => Search.htmlToText(await (await fetch(address)).text(), null)", address
    )
    assert "\\operatorname" not in text
    assert "Logits z and a dial T>0 give not one distribution" in text
    html = (reader.site / "book" / "temperature" / "temperature.html").read_text(encoding="utf-8")
    for formula in BeautifulSoup(html, "html.parser").select("article span.math")[:20]:
        mathml = formula.select_one("semantics > *")
        assert mathml is not None
        assert mathml.get_text() in text
    none(this.trouble)
