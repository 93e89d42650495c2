"""What is wider than its place shows that it goes on; sentences wrap; appendices are lettered."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup
from matplotlib.image import imread
from playwright.sync_api import Locator, Page, expect

from omnivault.figures.tables import table
from tests.support.book_source import none
from tests.support.browser import (
    LAY_OUT,
    PAGES,
    Kind,
    Reader,
    Readers,
    Theme,
    every_page,
    every_theme,
    every_width,
)
from website.theme.translator import is_prose, lines_as_blocks

# --- an edge beyond which there is more is shaded


def shades(place: Locator) -> tuple[float, float]:
    """How much lighter or darker the paper is at the left and at the right edge than between."""
    pixels = np.asarray(imread(io.BytesIO(place.screenshot())), np.float64)[..., :3].mean(2)
    columns = np.median(pixels, axis=0)
    paper = np.median(columns)
    return abs(columns[3:6].mean() - paper), abs(columns[-6:-3].mean() - paper)


def wide_and_narrow(page: Page, selector: str) -> tuple[Locator, list[Locator]]:
    """An element that scrolls, and one that does not, if there is one."""
    page.add_style_tag(content=LAY_OUT)
    found = page.locator(f"article {selector}:visible")
    beyond: list[int] = found.evaluate_all("all => all.map((e) => e.scrollWidth - e.clientWidth)")
    fits = [found.nth(beyond.index(0))] if 0 in beyond else []
    return found.nth(next(i for i, more in enumerate(beyond) if more > 60)), fits


SEEN, UNSEEN = 0.03, 0.01


@every_theme
@pytest.mark.parametrize(
    ("page", "selector"),
    [
        ("book/temperature/temperature", "section > div.math"),
        ("book/temperature/temperature", ".cell_input pre"),
        ("book/softmax/first_principles", ".cell_output pre"),
        ("book/appendix/verification", "div.table"),
    ],
)
@pytest.mark.browser
def test_what_scrolls_is_shaded_where_there_is_more(
    page: str, selector: str, theme: Theme, reader: Readers
) -> None:
    this = reader.new(390, theme)
    wide, narrow = wide_and_narrow(this.open(page), selector)
    for fitting in narrow:
        fitting.scroll_into_view_if_needed()
        assert max(shades(fitting)) < UNSEEN
    wide.scroll_into_view_if_needed()
    left, right = shades(wide)
    assert left < UNSEEN
    assert right > SEEN
    wide.evaluate("e => (e.scrollLeft = 40)")
    assert min(shades(wide)) > SEEN
    wide.evaluate("e => (e.scrollLeft = e.scrollWidth)")
    left, right = shades(wide)
    assert left > SEEN
    assert right < UNSEEN
    this.page.emulate_media(media="print")
    assert "gradient" not in wide.evaluate("e => getComputedStyle(e).backgroundImage")
    this.page.context.close()


# --- outputs


@pytest.mark.parametrize(
    ("output", "prose"),
    [
        ("one line of a cell that prints  something\n", True),
        ("first a sentence\nand then another one\n", True),
        ("T = 0.5: right 74.4%\nT = 1.0: right 74.4%\n", True),
        ("   T  greedy's token\n 0.5            0.86\n", False),
        ("a    1\nbcd  2\n", False),
        ("tensor([[1., 2.],\n        [3., 4.]])\n", False),
        ("a paragraph\n\nand another\n", True),
        ("", True),
    ],
)
def test_sentences_are_told_from_tables(output: str, prose: bool) -> None:
    assert is_prose(output) is prose


def test_lines_of_sentences_keep_their_text() -> None:
    html = '<div class="output"><pre><span></span>a &lt; b\n\nc\n</pre></div>'
    made = lines_as_blocks(html)
    assert BeautifulSoup(made, "html.parser").get_text() == "a < b\n\nc\n"
    assert made.startswith('<div class="output"><pre class="prose"><span>a &lt; b\n</span>')
    colored = '<pre><span></span>a <span class="ansi-red">b</span>\n</pre>'
    assert lines_as_blocks(colored) == colored


@every_page
@pytest.mark.browser
def test_no_output_is_wider_than_its_box_on_a_wide_screen(page: str, reader: Readers) -> None:
    opened = reader(1280, "light").open(page)
    opened.add_style_tag(content=LAY_OUT)
    opened.evaluate("for (const d of document.querySelectorAll('main details')) d.open = true")
    wide: list[str] = opened.locator(".cell_output :is(pre, div.table)").evaluate_all(
        "all => all.filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent)"
    )
    none([f"{max(text.splitlines(), key=len)}" for text in wide])


@every_page
@pytest.mark.browser
def test_sentences_wrap_on_a_phone(page: str, reader: Readers) -> None:
    opened = reader(390, "light").open(page)
    opened.add_style_tag(content=LAY_OUT)
    opened.evaluate("for (const d of document.querySelectorAll('main details')) d.open = true")
    scroll: list[str] = opened.locator(".cell_output pre").evaluate_all(
        "all => all.filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent)"
    )
    none([text for text in scroll if is_prose(text)])


@pytest.mark.browser
def test_wrapped_lines_hang_and_are_copied_as_they_were(reader: Readers) -> None:
    opened = reader(390, "light").open("book/temperature/temperature")
    opened.add_style_tag(content=LAY_OUT)
    prose = opened.locator("pre.prose").filter(has_text=re.compile(r"\n.*\n")).first
    prose.scroll_into_view_if_needed()
    copied = prose.evaluate(
        """e => {
          const selection = getSelection();
          selection.selectAllChildren(e);
          const text = selection.toString();
          selection.removeAllRanges();
          return text;
        }"""
    )
    assert copied.strip("\n") == (prose.text_content() or "").strip("\n")
    starts = prose.locator("span").first.evaluate(
        """e => {
          const range = document.createRange();
          range.selectNodeContents(e);
          return [...range.getClientRects()].map((line) => Math.round(line.left));
        }"""
    )
    assert len(starts) < 2 or starts[1] > starts[0]


TABLE = table(
    {"T": "", "greedy's token": ".2f", "entropy": ".2f", "tokens for 90 %": ",", "rest": ".3f"},
    [(0.5, 0.69, 1.03, 3, 1e-4), (1.0, 0.38, 3.2, 63, 0.024), (2.0, 0.05, 8.31, 12_000, 0.468)],
)


@every_theme
@every_width
@pytest.mark.browser
def test_a_table_is_as_wide_as_the_text_and_fits_a_phone(
    width: int, theme: Theme, reader: Readers
) -> None:
    this = reader.new(width, theme)
    page = this.open("book/temperature/temperature")
    output = page.locator("article .cell_output").first
    output.evaluate("(e, html) => (e.innerHTML = html)", TABLE.to_html())
    frame, inside = output.locator("div.table"), output.locator("table")
    assert frame.evaluate("e => e.scrollWidth <= e.clientWidth")
    widths = [place.evaluate("e => e.getBoundingClientRect().width") for place in (output, inside)]
    assert abs(widths[0] - widths[1]) < 1
    numbers = inside.locator("td").evaluate_all("all => all.map((e) => e.getClientRects().length)")
    assert numbers == [1] * 15
    ink, side = (
        inside.locator("td")
        .nth(1)
        .evaluate("e => [getComputedStyle(e).color, getComputedStyle(e).textAlign]")
    )
    assert ink == page.evaluate("getComputedStyle(document.body).color")
    assert side == "right"
    this.page.context.close()


# --- addresses


@pytest.mark.parametrize("place", ["%", "%E0%A4%A", "100%", "no-such-place", "#", ""])
@pytest.mark.parametrize("kind", ["served", "from disk"])
@pytest.mark.browser
def test_no_address_stops_the_script(place: str, kind: Kind, reader: Readers) -> None:
    this = reader.new(390, "light", kind)
    page = this.page
    page.goto(f"{this.address}/book/sampling/decoding.html#{place}")
    expect(page.locator("button.copy").first).to_be_attached()
    page.keyboard.press("Control+k")
    expect(page.locator("#contents input")).to_be_focused()
    none(this.trouble)
    page.context.close()


@pytest.mark.browser
def test_a_part_that_fails_stops_no_other(reader: Readers) -> None:
    this: Reader = reader.new(1280, "light")
    this.page.add_init_script("delete window.IntersectionObserver")
    this.open(PAGES[1])
    this.open("book/sampling/decoding")
    expect(this.page.locator("button.copy").first).to_be_attached()
    expect(this.page.locator("#theme")).to_be_visible()
    assert len(this.trouble) == 2
    assert all("IntersectionObserver is not defined" in trouble for trouble in this.trouble)
    this.page.context.close()


# --- appendices


def test_what_an_appendix_numbers_has_its_letter(site: Path) -> None:
    page = site / "book" / "appendix" / "necessary_and_sufficient.html"
    html = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    numbers = [
        " ".join(number.get_text().split()) for number in html.select("article .caption-number")
    ]
    assert len(numbers) >= 8
    none([f"{number} has no letter" for number in numbers if not re.search(r" A\.\d+$", number)])
    for kind in ("Fig.", "Definition", "Exercise"):
        assert f"{kind} A.1" in numbers
    headings = [number.get_text().strip() for number in html.select("article .section-number")]
    assert headings[0] == "A."
    assert headings[1:] == [f"A.{n}." for n in range(1, len(headings))]


def test_figures_outside_the_appendices_have_numbers_of_their_own(site: Path) -> None:
    found = []
    for page in PAGES:
        html = BeautifulSoup((site / f"{page}.html").read_text(encoding="utf-8"), "html.parser")
        shown = [x.get_text().strip() for x in html.select("article figcaption .caption-number")]
        lettered = page == "book/appendix/necessary_and_sufficient"
        assert all(re.search(r"[A-Z]\.", number) is not None for number in shown) is (
            lettered or not shown
        )
        found += shown
    assert len(found) == len(set(found))
    assert "Fig. 1" in found


def test_links_to_an_appendix_have_its_letter(site: Path) -> None:
    index = (site / "book" / "appendix" / "index_of_terms.html").read_text(encoding="utf-8")
    assert "Definition A.1" in index
    assert not re.search(r">(Definition|Proposition) \d+<", index)
