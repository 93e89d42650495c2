"""The built book: links in its files, and every page in a real browser."""

from __future__ import annotations

import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import numpy as np
import pytest
from book_source import ROOT, directives, none, statements, toc_pages
from matplotlib.image import imread, imsave
from numpy.typing import NDArray
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

SITE = ROOT / "_build" / "html"
PAGES = list(toc_pages(ROOT / "_toc.yml"))
WIDTHS = (1280, 390)
THEMES = ("light", "dark")

every_width = pytest.mark.parametrize("width", WIDTHS)
every_theme = pytest.mark.parametrize("theme", THEMES)
every_page = pytest.mark.parametrize("page", PAGES)


@pytest.fixture(scope="module")
def site() -> Path:
    if not (SITE / "index.html").is_file():
        pytest.fail("there is no built book: run `make book` first", pytrace=False)
    return SITE


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


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class Reader:
    """One window of the browser: a width and a theme, and the trouble the last page made.

    A first visit brings no theme along.
    """

    def __init__(self, browser: Browser, address: str, width: int, theme: str | None) -> None:
        self.address = address
        self.trouble: list[str] = []
        context = browser.new_context(viewport={"width": width, "height": 800})
        context.set_default_timeout(5000)
        if theme is not None:  # what the theme's own switch leaves behind for the next visit
            context.add_init_script(f"localStorage.mode = localStorage.theme = {theme!r}")
        self.page = context.new_page()
        self.page.on("request", self.note)
        self.page.on("console", self.listen)
        self.page.on("pageerror", lambda error: self.trouble.append(f"script error: {error}"))
        self.page.on("requestfailed", lambda lost: self.trouble.append(f"lost: {lost.url}"))

    def note(self, request: Request) -> None:
        if not request.url.startswith((f"{self.address}/", "data:", "blob:")):
            self.trouble.append(f"leaves the host: {request.url}")

    def listen(self, message: ConsoleMessage) -> None:
        # Not the page asks for this icon but the browser, on whichever page it meets first.
        where = message.location["url"]
        if message.type == "error" and where != f"{self.address}/favicon.ico":
            self.trouble.append(f"console: {message.text} ({where})")

    def open(self, name: str) -> Page:
        self.trouble.clear()
        self.page.goto(f"{self.address}/{name}.html")
        return self.page

    def problems(self) -> list[str]:
        """What is wrong with the open page, everything folded being opened first."""
        found: list[str] = self.page.evaluate(PROBLEMS, RAW)
        return [*self.trouble, *found]


Readers = Callable[[int, str | None], Reader]


@pytest.fixture(scope="module")
def reader(site: Path) -> Iterator[Readers]:
    """Serve the book, start the browser when it is first needed, and keep one window of a kind."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    chromium = next(filter(None, map(shutil.which, names)), None)
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        # Nothing leaves this host. Routing the requests would do that too, but without a cache.
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    ]
    with ExitStack() as stack:
        server = stack.enter_context(
            ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
        )
        threading.Thread(target=server.serve_forever).start()
        stack.callback(server.shutdown)

        @cache
        def browser() -> Browser:
            playwright = stack.enter_context(sync_playwright())
            started = playwright.chromium.launch(executable_path=chromium, args=arguments)
            stack.callback(started.close)
            return started

        @cache
        def of(width: int, theme: str | None) -> Reader:
            if chromium is None and os.environ.get("REQUIRE_BROWSER"):
                pytest.fail("no Chromium found, and REQUIRE_BROWSER is set", pytrace=False)
            if chromium is None:
                # Not in the fixture itself: pytest reports those skips in one line a test.
                pytest.skip("no Chromium found: browser tests skipped")
            return Reader(browser(), f"http://127.0.0.1:{server.server_port}", width, theme)

        yield of


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
  for (const button of all(".toggle-hidden button.toggle-button")) button.click();
  for (const details of all("main details")) details.open = true;
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
  for (const button of all(".admonition-title > button").filter(seen)) {
    const words = document.createRange();
    words.setStart(button.parentElement, 0);
    words.setEndBefore(button);
    const box = button.getBoundingClientRect();
    if ([...words.getClientRects()].some((line) => overlap(line, box))) {
      problems.push(`a button covers the title ${name(button.parentElement)}`);
    }
  }

  // What stands around it.
  const searches = all(".search-button__button, input[type=search]").filter(seen);
  if (searches.length !== 1) problems.push(`${searches.length} ways to search in view`);
  for (const bar of all("#pst-header, .bd-header").filter(seen)) {
    if (!all("#pst-header *, .bd-header *").some(seen)) problems.push("an empty bar on top");
  }
  const controls = all(
    "header :is(a, button, input), .bd-header-article :is(a, button), .navbar-brand, " +
      ".search-button-field, main h1",
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


@every_theme
@every_width
@every_page
@pytest.mark.browser
def test_page(page: str, width: int, theme: str, reader: Readers) -> None:
    this = reader(width, theme)
    this.open(page)
    none(this.problems())


@pytest.mark.browser
def test_first_visit_starts_at_the_root(reader: Readers) -> None:
    visit = reader(1280, None)
    visit.open("index").wait_for_url(f"{visit.address}/{PAGES[0]}.html")
    none(visit.problems())


@every_width
@pytest.mark.browser
def test_sidebar_opens_and_closes(width: int, reader: Readers) -> None:
    page = reader(width, "light").open(PAGES[0])
    toggle, link = page.locator(".primary-toggle"), page.locator("nav.bd-links a").first
    if width > 1000:  # the sidebar stands open beside the text
        expect(link).to_be_in_viewport()
        toggle.click()
        expect(link).not_to_be_in_viewport()
        toggle.click()
        expect(link).to_be_in_viewport()
    else:  # it comes over the text, which closes it as the escape key does
        expect(link).not_to_be_in_viewport()
        toggle.click()
        expect(link).to_be_in_viewport()
        page.keyboard.press("Escape")
        expect(link).not_to_be_in_viewport()
        toggle.click()
        expect(link).to_be_in_viewport()
        page.mouse.click(width - 5, 400)
        expect(link).not_to_be_in_viewport()


@every_width
@every_page
@pytest.mark.browser
def test_solutions_unfold(page: str, width: int, reader: Readers) -> None:
    solutions = reader(width, "light").open(page).locator(".solution.dropdown").all()
    source = (ROOT / f"{page}.md").read_text(encoding="utf-8")
    written = [d for d in directives(source) if d.name in {"solution", "solution-start"}]
    assert len(solutions) == len(written)
    for i, solution in enumerate(solutions):
        title, button = solution.locator(".admonition-title"), solution.locator(".toggle-button")
        content = solution.locator("section").first
        expect(content).to_be_hidden()
        plain = solution.screenshot() if i == 0 else b""  # one will do: they share their style
        button.focus()
        focus_shows = i > 0 or solution.screenshot() != plain
        assert focus_shows
        button.press("Enter")
        expect(content).to_be_visible()
        expect(button).to_have_attribute("aria-expanded", "true")
        title.click(position={"x": 2, "y": 10})
        expect(content).to_be_hidden()
        expect(button).to_have_attribute("aria-expanded", "false")


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
def test_figures_are_readable(page: str, theme: str, reader: Readers) -> None:
    opened = reader(1280, theme).open(page)
    paper = paper_of(opened)
    assert (paper < 0.2) if theme == "dark" else (paper > 0.9)
    problems = []
    for image in opened.locator("article img").all():
        source = image.get_attribute("src")
        problems += [f"{source} {x}" for x in figure_problems(image.screenshot(), paper)]
    none(problems)


@every_width
@pytest.mark.browser
def test_theme_switch(width: int, reader: Readers) -> None:
    page = reader(width, "light").open(PAGES[0])
    switch = page.locator(".theme-switch-button:visible")
    light = paper_of(page)
    for _ in range(2):  # light, dark and the system's choice take turns
        if page.locator("html[data-theme=dark]").count() == 0:
            switch.click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert light > 0.9
    assert paper_of(page) < 0.2


# --- the checkers, on a page and on pictures that have every fault

BAD = """<!doctype html><html><head><title>Bad</title></head><body style="margin: 0">
<div id="pst-header" style="height: 20px"></div>
<div class="bd-header-article" style="position: absolute">
  <a href="#">Home</a><a href="#" style="position: absolute; left: 5px">Away</a>
</div>
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
<p class="admonition-title" style="position: relative">Solution
  <button style="position: absolute; left: 0; top: 0">Show</button></p>
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
a button covers the title p "Solution Show"
0 ways to search in view
an empty bar on top
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
    problems = this.problems()
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
