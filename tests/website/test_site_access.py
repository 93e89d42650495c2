"""Every page for every reader: assistive technology, keyboard, paper, no script, no server."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.support.book_source import directives, none
from tests.support.browser import LAY_OUT, PAGES, Reader, Readers, Theme, every_page, every_theme
from website import ROOT

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
RUN = """
async () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  // Nine elements in ten are pieces of formulas and of code, and axe-core goes through all of them.
  // What KaTeX draws is hidden from assistive technology, which reads the MathML beside it: the
  // words of that are enough, in the place of the drawing. Of pieces of code that look the same,
  // one is enough.
  const formulas = [...document.querySelectorAll(".katex")];
  const widths = formulas.map((formula) => formula.getBoundingClientRect().width);
  for (const [i, formula] of formulas.entries()) {
    formula.textContent = formula.querySelector("math").textContent;
    const place = "display: inline-block; height: 1em; overflow: clip; white-space: nowrap";
    formula.style = `${place}; width: ${widths[i]}px`;
  }
  const looks = new Set();
  for (const token of document.querySelectorAll(":is(.highlight, .sig) span[class]")) {
    if (!token.isConnected) continue; // it was a piece of another one
    const look = `${token.closest(".highlight, .sig").className} ${token.className}`;
    if (looks.has(look)) token.replaceWith(token.textContent);
    looks.add(look);
  }
  await new Promise((done) => setTimeout(done, 100));
  const result = await axe.run({ resultTypes: ["violations"] });
  return result.violations.map(({ id, impact, nodes }) => [id, impact, nodes.map((n) => n.html)]);
}
"""


def findings(this: Reader) -> list[str]:
    """What axe-core calls serious or critical on the open page."""
    # Of text on a gradient axe-core does not say whether it can be read.
    this.page.add_style_tag(
        content=f"{LAY_OUT} pre, div.math, div.table {{ background-image: none !important }}"
    )
    this.page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[list[Any]] = this.page.evaluate(RUN)
    return [
        f"{impact}: {rule}: {html[:200]}"
        for rule, impact, places in found
        if impact in {"serious", "critical"}
        for html in places[:5]
    ]


@every_theme
@every_page
@pytest.mark.browser
def test_axe(page: str, theme: Theme, reader: Readers) -> None:
    this = reader(390 if theme == "light" else 1280, theme)
    this.open(page)
    none(findings(this))


@pytest.mark.browser
def test_axe_finds_what_is_wrong(reader: Readers) -> None:
    this = reader.new(390, None)
    this.page.set_content(
        """<html lang="en"><title>A</title><main><h1>A</h1><input><img src="a">
        <a href="#"><span class="katex"><math><mi>x</mi></math></span></a><a id="b" href="#"></a>
        <div class="highlight"><pre><b class="k">if</b> <span class="k">if</span>
        <span class="k">if</span> <span class="n" style="color: #eee">pale</span></pre></div>"""
    )
    found = findings(this)
    for rule, times in {"label": 1, "link-name": 1, "color-contrast": 1, "image-alt": 1}.items():
        assert sum(f": {rule}: " in problem for problem in found) == times, (rule, found)


@pytest.mark.browser
def test_the_keyboard_reaches_the_text_first(reader: Readers) -> None:
    page = reader(1280, "light").open(PAGES[0])
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#text"


@pytest.mark.browser
def test_what_scrolls_can_be_scrolled_by_keyboard(reader: Readers) -> None:
    page = reader(390, "light").open("book/losses/cross_entropy_kl")
    code = page.locator(".cell_input pre").nth(1)
    code.scroll_into_view_if_needed()
    expect(code).to_have_attribute("tabindex", "0")
    code.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("e => e.scrollLeft > 0", arg=code.element_handle())


# --- no server, no script, no screen


@every_page
@pytest.mark.browser
def test_page_opens_from_disk(page: str, reader: Readers) -> None:
    this = reader(390, "dark", "from disk")
    opened = this.open(page)
    opened.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    opened.wait_for_load_state("networkidle")
    assert opened.locator(".katex").count() == 0 or opened.evaluate(
        "document.fonts.ready.then((all) => [...all].some((font) => font.status === 'loaded'))"
    )
    none(this.trouble)
    none([f"{path} is not there" for path in this.files(reader.site) if not path.is_file()])


@pytest.mark.browser
def test_search_works_from_disk(reader: Readers) -> None:
    this = reader(1280, "light", "from disk")
    page = this.open(PAGES[0])
    page.locator("#contents input").fill("gumbel")
    page.keyboard.press("Enter")
    expect(page.locator("#search-results li a").first).to_be_visible()
    none(this.trouble)


@every_page
@pytest.mark.browser
def test_page_without_scripts(page: str, reader: Readers) -> None:
    this = reader(390, "light", "without scripts")
    opened = this.open(page)
    expect(opened.locator("article h1")).to_be_visible()
    expect(opened.locator("#theme")).to_be_hidden()
    for folded in opened.locator("details.solution", has=opened.locator(".live-figure")).all():
        folded.locator("summary").first.press("Enter")
    for figure in opened.locator(".live-figure").all():
        expect(figure.locator("form")).to_be_hidden()
        expect(figure.locator(".picture svg:visible")).to_have_count(1)
        expect(figure.locator(".says")).to_have_text(re.compile(r"\w.*\.$"))
    none(this.trouble)


@every_page
@pytest.mark.browser
def test_page_on_paper(page: str, reader: Readers) -> None:
    this = reader(1280, "dark")
    opened = this.open(page)
    opened.emulate_media(media="print")
    try:
        for selector in ("#contents", ".here", ".bar", ".turn", ".copy", ".live-figure form"):
            for element in opened.locator(selector).all():
                expect(element).to_be_hidden()
        # Solutions unfold; paper is white.
        for solution in opened.locator("details.solution").all():
            box = solution.bounding_box()
            summary = solution.locator("summary").first.bounding_box()
            assert box is not None
            assert summary is not None
            assert box["height"] > 1.5 * summary["height"]
        colour = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        assert min(map(int, re.findall(r"\d+", colour)[:3])) > 240, colour
    finally:
        opened.emulate_media(media="screen")


# --- the look hangs on names that other packages give; an update of theirs must not change it


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.browser
def test_blocks_look_as_they_are_meant_to(page: str, reader: Readers) -> None:
    opened = reader(1280, "light").open(page)
    source = directives((ROOT / f"{page}.md").read_text(encoding="utf-8"))
    proofs = [d for d in source if d.name.startswith("prf:")]
    exercises = [d for d in source if d.name in {"exercise", "exercise-start"}]
    blocks = opened.locator("div.proof, div.exercise")
    assert blocks.count() == len(proofs) + len(exercises)
    widths: list[float] = blocks.evaluate_all(
        "all => all.map((e) => parseFloat(getComputedStyle(e).borderLeftWidth))"
    )
    plain = [d for d in proofs if d.name == "prf:proof"]
    assert sorted(widths) == [1.0] * len(plain) + [3.0] * (len(widths) - len(plain))
    heads = opened.locator(":is(div.proof, div.exercise) > .admonition-title")
    titles: list[str] = heads.evaluate_all("all => all.map((e) => getComputedStyle(e).color)")
    assert len(titles) == len(widths) - len(plain)  # a proof's title runs in with its text
    assert len(set(titles)) >= (2 if exercises else 0)
    for selector in (".cell_input pre", ".cell_output .output pre", "article div.table > table"):
        for element in opened.locator(selector).all()[:1]:
            ink, font = element.evaluate(
                "e => [getComputedStyle(e).borderCollapse, getComputedStyle(e).fontFamily]"
            )
            assert ("monospace" in font) if "pre" in selector else (ink == "collapse")
