"""The built book: links in its files, and every page in a real browser."""

from __future__ import annotations

import io
import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import numpy as np
import pytest
from matplotlib.image import imread, imsave
from numpy.typing import NDArray
from playwright.sync_api import Page, expect

from tests.support.book_source import directives, none, statements
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
from website import ROOT

# --- links, which need no browser


class Html(HTMLParser):
    """Collects where a page points, and the fragments it offers."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.add(values.get("id") or "")
        link = values.get("href" if tag in {"a", "link"} else "src")
        if link is not None:
            self.links.add(link)
        if values.get("http-equiv") == "refresh":
            self.links.add((values.get("content") or "").partition("url=")[2])


def link_problems(root: Path) -> list[str]:
    """Links and fragments in the pages below ``root`` that lead nowhere."""
    pages = {
        path: Html(path.read_text(encoding="utf-8"))
        for path in sorted(root.rglob("*.html"))
        if "_static" not in path.parts  # templates of the theme
    }
    problems = []
    for page, html in pages.items():
        here = page.relative_to(root).as_posix()
        for link in sorted(html.links):
            url = urlsplit(urljoin(f"http://book/{here}", link))
            if (url.scheme, url.netloc) != ("http", "book"):
                continue
            target = root / unquote(url.path).lstrip("/")
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                problems.append(f"{here} links to {link}, which does not exist")
            elif (
                url.fragment and target in pages and unquote(url.fragment) not in pages[target].ids
            ):
                problems.append(f"{here} links to {link}, where nothing has that name")
    return problems


def test_links_resolve(site: Path) -> None:
    none(link_problems(site))


def test_link_checker(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "index.html").write_text('<meta http-equiv="refresh" content="0; url=sub/a.html">')
    (tmp_path / "sub" / "a.html").write_text(
        '<p id="here"><a href="#here"></a><a href="../index.html"></a><a href="https://a.b/c"></a>'
    )
    assert link_problems(tmp_path) == []
    (tmp_path / "sub" / "a.html").write_text('<a href="b.html"></a><a href="#there"></a>')
    (tmp_path / "index.html").write_text('<a href="sub/a.html#here"></a><img src="a.svg">')
    assert link_problems(tmp_path) == [
        "index.html links to a.svg, which does not exist",
        "index.html links to sub/a.html#here, where nothing has that name",
        "sub/a.html links to #there, where nothing has that name",
        "sub/a.html links to b.html, which does not exist",
    ]


def test_the_index_lists_every_statement(site: Path) -> None:
    index = site / "book" / "appendix" / "index_of_terms.html"
    links = Html(index.read_text(encoding="utf-8")).links
    missing = []
    for page in PAGES:
        for statement in statements((ROOT / f"{page}.md").read_text(encoding="utf-8")):
            link = f"{os.path.relpath(page, 'book/appendix')}.html#{statement.label}"
            missing += [] if link in links else [f"no link to {link}"]
    none(missing)


def test_the_reference_shows_no_raw_markup(site: Path) -> None:
    page = (site / "book" / "appendix" / "omnivault.html").read_text(encoding="utf-8")
    # Napoleon takes what stands before a colon in the docstring of a value for its type.
    raw = [":math:", ":func:", "&lt;built-in", "&lt;function", "~omnivault", "Type<span"]
    none([f"{text} on the page" for text in raw if text in page])


# --- pages in a browser


# Markup that the reader should never see outside code.
RAW = (
    r"\$\$|\\[A-Za-z]{2,}|:::|```|%s"
    r"|\{(?:prf|glue|numref|eq|ref|doc|cite|math|code-cell|figure|exercise|solution)[:}]"
)
PROBLEMS = r"""
async (raw) => {
  await document.fonts.ready;
  const problems = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  for (const details of all("main details")) details.open = true;
  await Promise.all([...document.images].map((image) => {
    image.loading = "eager";
    return image.complete || new Promise((done) => (image.onload = image.onerror = done));
  }));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));

  const seen = (element) => {
    const { width, height } = element.getBoundingClientRect();
    return width > 0 && height > 0 && element.checkVisibility({ visibilityProperty: true });
  };
  const text = (element) => element.textContent.trim().replace(/\s+/g, " ").slice(0, 60);
  const name = (element) => `${element.tagName.toLowerCase()} "${text(element)}"`;
  const overlap = (a, b) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
    Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;

  // What is written.
  const titles = all("h1").filter(seen);
  if (titles.length !== 1) problems.push(`${titles.length} first-level headings`);
  for (const bad of all(".katex-error")) problems.push(`wrong TeX: ${text(bad)}`);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const texts = [document.title];
  while (walker.nextNode()) {
    const hidden = walker.currentNode.parentElement.closest(
      "code, pre, script, style, noscript, svg, .katex",
    );
    if (!hidden) texts.push(walker.currentNode.data);
  }
  for (const line of texts.join("").split("\n")) {
    const match = line.match(new RegExp(raw));
    if (match) problems.push(`markup in the text: ${match[0]} in "${line.trim()}"`);
  }
  for (const image of document.images) {
    const source = image.getAttribute("src");
    if (!image.complete || !image.naturalWidth) problems.push(`image does not load: ${source}`);
    if (!image.alt.trim()) problems.push(`image without alternative text: ${source}`);
    // 5.2 inches. On a phone it is scaled to about 70 %, where 10 points are still read.
    if (image.naturalWidth > 500) problems.push(`image ${image.naturalWidth} px wide: ${source}`);
  }

  // Where it stands.
  const width = document.documentElement.clientWidth;
  const wide = document.documentElement.scrollWidth - width;
  if (wide > 0) problems.push(`the page scrolls sideways by ${wide} px`);
  const cut = new Set();
  for (const element of all("main *")) {
    const direct = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    const quiet = element.closest(".katex-mathml, .visually-hidden, svg, script, style");
    if (!direct || quiet || !seen(element)) continue;
    const box = element.getBoundingClientRect();
    let inside = false; // inside something that scrolls, the right end can be reached
    for (let outer = element.parentElement; outer && !inside; outer = outer.parentElement) {
      const overflow = getComputedStyle(outer).overflowX;
      if (overflow === "visible") continue;
      const frame = outer.getBoundingClientRect();
      inside = overflow === "auto" || overflow === "scroll";
      const lost = box.left < frame.left - 1 || (!inside && box.right > frame.right + 1);
      if (lost) cut.add(outer.closest("div.math") ?? element);
    }
    if (!inside && (box.left < -1 || box.right > width + 1)) cut.add(element);
  }
  for (const element of cut) problems.push(`cut off: ${name(element)}`);
  for (const number of all("div.math .eqno").filter(seen)) {
    const block = number.closest("div.math");
    const content = document.createRange();
    content.selectNodeContents(block.querySelector(".katex-html"));
    const formula = content.getBoundingClientRect();
    const frame = block.querySelector(".katex-display");
    const scrolls = getComputedStyle(frame).overflowX !== "visible";
    const right = scrolls ? frame.getBoundingClientRect().right : formula.right;
    const { left, top, bottom } = formula;
    const drawn = { left, top, bottom, right: Math.min(right, formula.right) };
    if (overlap(drawn, number.getBoundingClientRect())) {
      problems.push(`equation number ${text(number)} stands on its formula`);
    }
  }
  // What stands around it.
  const searches = all("form[role=search]");
  if (searches.length !== 1) problems.push(`${searches.length} ways to search`);
  const controls = all(
    "nav a, nav button, nav input, .bar :is(a, button), main h1, footer a",
  ).filter(seen);
  for (const [i, a] of controls.entries()) {
    for (const b of controls.slice(i + 1)) {
      const nested = a.contains(b) || b.contains(a);
      if (!nested && overlap(a.getBoundingClientRect(), b.getBoundingClientRect())) {
        problems.push(`${name(a)} stands on ${name(b)}`);
      }
    }
  }
  return problems;
}
"""


def problems_of(this: Reader) -> list[str]:
    """What is wrong with the open page, everything folded being opened first."""
    this.page.add_style_tag(content=LAY_OUT)
    found: list[str] = this.page.evaluate(PROBLEMS, RAW)
    return [*this.trouble, *found]


@every_theme
@every_width
@every_page
@pytest.mark.browser
def test_page(page: str, width: int, theme: Theme, reader: Readers) -> None:
    this = reader(width, theme)
    this.open(page)
    none(problems_of(this))


@pytest.mark.browser
def test_first_visit_starts_at_the_root(reader: Readers) -> None:
    visit = reader(1280, None)
    visit.open("index").wait_for_url(f"{visit.address}/{PAGES[0]}.html")
    none(problems_of(visit))


@pytest.mark.browser
def test_contents_stand_open_beside_the_text(reader: Readers) -> None:
    page = reader(1280, "light").open(PAGES[-1])
    expect(page.locator("#contents a").first).to_be_visible()
    expect(page.locator(".bar")).to_be_hidden()
    expect(page.locator("#contents a.current")).to_be_in_viewport()  # the last of a long list


@pytest.mark.parametrize("kind", ["served", "without scripts"])
@pytest.mark.browser
def test_contents_open_and_close_on_a_phone(kind: Kind, reader: Readers) -> None:
    page = reader(390, "light", kind).open(PAGES[0])
    toggle, link = page.locator(".bar button"), page.locator("#contents a").first
    expect(link).to_be_hidden()
    toggle.focus()
    page.keyboard.press("Enter")
    expect(link).to_be_visible()
    page.keyboard.press("Escape")
    expect(link).to_be_hidden()
    toggle.click()
    expect(link).to_be_visible()
    page.mouse.click(385, 400)
    expect(link).to_be_hidden()


@every_width
@pytest.mark.parametrize("place", ["cutting-off-the-tail", "exercises", "fig-loops"])
@pytest.mark.browser
def test_a_link_leads_to_its_place(place: str, width: int, reader: Readers) -> None:
    this = reader.new(width, "light")
    page = this.open("book/sampling/decoding")
    page.goto("about:blank")
    page.goto(f"{this.address}/book/sampling/decoding.html#{place}")
    page.wait_for_timeout(1000)  # by then the sections above have their true heights
    expect(page.locator(f"#{place}")).to_be_in_viewport()
    top = page.evaluate(
        "place => document.getElementById(place).getBoundingClientRect().top", place
    )
    page.context.close()
    assert -5 < top < 100


@every_width
@pytest.mark.browser
def test_search(width: int, reader: Readers) -> None:
    this = reader(width, "light")
    page = this.open(PAGES[0])
    assert not any("search" in url for url in this.requested)
    page.keyboard.press("Control+k")
    page.keyboard.type("gumbel")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=gumbel")
    first = page.locator("#search-results li a").first
    expect(first).to_be_visible()
    expect(page.locator("#search-results p.context").first).to_be_visible()
    none(this.trouble)
    first.click()
    expect(page.locator("article h1")).to_be_visible()


@every_width
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.browser
def test_solutions_unfold(page: str, width: int, reader: Readers) -> None:
    solutions = reader(width, "light", "without scripts").open(page).locator("details.solution")
    source = (ROOT / f"{page}.md").read_text(encoding="utf-8")
    written = [d for d in directives(source) if d.name in {"solution", "solution-start"}]
    assert solutions.count() == len(written)
    for solution in solutions.all():
        summary, content = solution.locator("summary").first, solution.locator("section").first
        expect(content).to_be_hidden()
        summary.press("Enter")
        expect(content).to_be_visible()
        summary.click()
        expect(content).to_be_hidden()


def lightness(png: bytes) -> NDArray[np.float64]:
    """Perceived lightness of each pixel, from 0 (black) to 1 (white)."""
    rgb: NDArray[np.float64] = np.asarray(imread(io.BytesIO(png)), np.float64)[..., :3]
    grey: NDArray[np.float64] = rgb @ np.array([0.299, 0.587, 0.114])
    return grey


def figure_problems(png: bytes, paper: float) -> list[str]:
    """A figure stands on the page's own paper, not on a box, and its ink differs from it."""
    pixels = lightness(png)
    values, times = np.unique(pixels.round(2), return_counts=True)
    background = float(values[times.argmax()])
    ink = float(np.quantile(np.abs(pixels - background), 0.998))
    boxed = f"lies on a box of lightness {background:.2f}, the page has {paper:.2f}"
    pale = f"is pale: its ink differs by {ink:.2f} from the page"
    return [boxed] * (abs(background - paper) > 0.1) + [pale] * (ink < 0.5)


def paper_of(page: Page) -> float:
    """Lightness of the page where nothing is drawn, the corner of the text."""
    box = page.locator("article").bounding_box()
    assert box is not None
    corner = page.screenshot(clip={"x": box["x"], "y": box["y"], "width": 3, "height": 3})
    return float(lightness(corner).mean())


@every_theme
@every_page
@pytest.mark.browser
def test_figures_are_readable(page: str, theme: Theme, reader: Readers) -> None:
    opened = reader(1280, theme).open(page)
    opened.add_style_tag(content=LAY_OUT)
    paper = paper_of(opened)
    assert (paper < 0.2) if theme == "dark" else (paper > 0.9)
    problems = []
    for image in opened.locator("article img").all():
        image.evaluate("async image => { image.loading = 'eager'; return image.decode() }")
        source = image.get_attribute("src")
        problems += [f"{source} {x}" for x in figure_problems(image.screenshot(), paper)]
    none(problems)


@every_width
@pytest.mark.browser
def test_theme_switch(width: int, reader: Readers) -> None:
    page = reader(width, "light").open(PAGES[0])
    assert paper_of(page) > 0.9
    if width < 1000:
        page.locator(".bar button").click()
    switch = page.locator("#theme")
    expect(switch).to_have_text("Dark page")
    switch.press("Enter")
    expect(switch).to_have_text("Light page")
    page.keyboard.press("Escape")
    assert paper_of(page) < 0.2
    assert page.evaluate("localStorage.theme") == "dark"


@every_theme
@pytest.mark.parametrize("kind", ["served", "without scripts"])
@pytest.mark.browser
def test_a_first_visit_is_as_light_as_the_system(theme: Theme, kind: Kind, reader: Readers) -> None:
    visit = reader.new(1280, None, kind)
    visit.page.emulate_media(color_scheme=theme)
    paper = paper_of(visit.open(PAGES[0]))
    assert (paper < 0.2) if theme == "dark" else (paper > 0.9)


# --- the checkers, on a page and on pictures that have every fault

BAD = """<!doctype html><html><head><title>Bad</title></head><body style="margin: 0">
<nav style="position: absolute">
  <a href="#">Home</a><a href="#" style="position: absolute; left: 5px">Away</a>
</nav>
<main>
<h1>One</h1><h1>Two</h1>
<span class="katex-error">\\frac{1}</span>
<p>A $$formula$$, a \\frac{1}{2}, a {prf:ref}`label` and <code>code with {prf:ref}</code>.</p>
<img src="/nowhere.svg" alt="Nothing"><img src="https://elsewhere.invalid/a.svg" alt="Elsewhere">
<img src="data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='700' height='9'/>">
<div style="overflow: hidden; width: 60px"><span style="white-space: nowrap">Words that are cut
</span></div>
<div style="overflow: auto; width: 60px"><span style="white-space: nowrap">Words that scroll
</span></div>
<div style="overflow: auto; width: 60px; direction: rtl"><span style="white-space: nowrap">Words
that begin out of sight</span></div>
<div class="math" style="position: relative"><div class="katex-display"><span class="katex-html">
a = b</span></div><span class="eqno" style="position: absolute; left: 0; top: 0">(1)</span></div>
<div style="width: 2000px">Wide</div>
</main>
<script>console.error("said"); throw new Error("thrown");</script>
</body></html>"""
FOUND = """\
2 first-level headings
wrong TeX: \\frac{1}
markup in the text: $$ in
markup in the text: \\frac in
image does not load: /nowhere.svg
image does not load: https://elsewhere.invalid/a.svg
image without alternative text: data:
image 700 px wide: data:
the page scrolls sideways by 720 px
cut off: span "Words that are cut"
cut off: span "Words that begin out of sight"
equation number (1) stands on its formula
0 ways to search
a "Home" stands on a "Away"
leaves the host: https://elsewhere.invalid/a.svg
lost: https://elsewhere.invalid/a.svg
console: said
console: Failed to load resource: the server responded with a status of 404
script error: thrown
"""


@pytest.mark.browser
def test_page_checker(reader: Readers) -> None:
    this = reader(1280, "light")
    this.page.route("**/bad.html", lambda route: route.fulfill(body=BAD, content_type="text/html"))
    this.open("bad")
    problems = problems_of(this)
    for start in FOUND.splitlines():
        assert any(problem.startswith(start) for problem in problems), (start, problems)
    assert not any('scroll"' in problem or "code with" in problem for problem in problems)


def test_figure_checker() -> None:
    def picture(paper: float, ink: float) -> bytes:
        pixels = np.full((100, 100, 3), paper)
        pixels[40:60, 10:90] = ink
        file = io.BytesIO()
        imsave(file, pixels, format="png")
        return file.getvalue()

    assert figure_problems(picture(1.0, 0.2), paper=1.0) == []
    assert figure_problems(picture(0.1, 0.8), paper=0.08) == []
    assert figure_problems(picture(1.0, 0.2), paper=0.08) == [
        "lies on a box of lightness 1.00, the page has 0.08"
    ]
    assert figure_problems(picture(0.1, 0.3), paper=0.08) == [
        "is pale: its ink differs by 0.20 from the page"
    ]
