"""The live figures on the built pages: every control by keyboard, and what then stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytest
import torch
from playwright.sync_api import Locator, Page, expect

from omnivault import live
from omnivault.live.figure import LiveFigure
from omnivault.softmax import softmax
from tests.support.book_source import none
from tests.support.browser import PAGES, PHONE, WORK, Kind, Readers, every_width
from tests.support.live import sentences

NAMES = [name for name in live.__all__ if name != "LiveFigure"]

every_figure = pytest.mark.parametrize("name", NAMES)


class Place(NamedTuple):
    """Where a figure stands, and what it was made of."""

    page: str
    figure: LiveFigure


def find(site: Path, name: str) -> Place:
    """The first place of a figure in the book."""
    for page in PAGES:
        text = (site / f"{page}.html").read_text(encoding="utf-8")
        pattern = rf'<div class="live-figure"[^>]* data-figure="{name}".*?json">(.*?)</script>'
        if match := re.search(pattern, text, re.DOTALL):
            made = json.loads(match[1])
            return Place(page, LiveFigure(name, "", made["data"], made["state"]))
    raise LookupError(f"no page shows {name}")


def open_figure(page: Page, place: Place) -> Locator:
    figure = page.locator(f"[data-figure={place.figure.name}]").first
    folded = page.locator("details.solution", has=figure)
    if folded.count():
        folded.first.locator("summary").first.press("Enter")
    figure.scroll_into_view_if_needed()
    return figure


def steps(figure: Locator) -> list[str]:
    """Use every control by keyboard; after each key the state has to be another one or the same."""
    problems = []
    # Handles, since the place of a control in the page may be what a button changes.
    for control in figure.locator("form :is(input, select, button)").element_handles():
        kind = control.get_attribute("type") or "select"
        keys = {
            "range": [
                "ArrowRight",
                "ArrowRight",
                "ArrowLeft",
                "End",
                "ArrowLeft",
                "Home",
                "PageUp",
            ],
            "select": ["ArrowDown", "ArrowDown"],
            "checkbox": ["Space"],
            "button": ["Enter"],
        }[kind]
        if kind == "button":  # what it does may be done already
            figure.locator("button", has_text="reset").press("Enter")
        if control.get_attribute("aria-disabled") == "true":
            continue
        control.focus()
        before = figure.evaluate("f => JSON.stringify(f.state)")
        changed = False
        for key in keys:
            control.press(key)
            changed |= figure.evaluate("f => JSON.stringify(f.state)") != before
        text = control.get_attribute("aria-label") or control.text_content()
        said = text if kind == "button" else control.get_attribute("name")
        if not changed and said != "reset":
            problems.append(f"{said} changes nothing")
        if kind == "range":
            shown = figure.locator(f"output[for={control.get_attribute('id')}]").text_content()
            spoken = control.get_attribute("aria-valuetext")
            if shown != spoken:
                problems.append(f"{said} shows {shown} and says {spoken}")
    return problems


def read(figure: Locator) -> dict[str, Any]:
    found: dict[str, Any] = figure.evaluate("f => ({ state: f.state, values: f.values })")
    return found


def assert_same(found: object, expected: object, where: str = "") -> None:
    """Two engines may differ in the last digits of an exponential, and in nothing else."""
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert isinstance(found, list)
        assert len(found) == len(expected), where
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert_same(a, b, f"{where}[{i}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9), where
    else:
        assert found == expected, where


@every_figure
@pytest.mark.parametrize("kind", ["served", "from disk"])
@pytest.mark.browser
def test_keyboard_moves_every_control(name: str, kind: Kind, reader: Readers) -> None:
    place = find(reader.site, name)
    this = reader.new(1280 if kind == "served" else 390, "light", kind)
    figure = open_figure(this.open(place.page), place)
    try:
        none(steps(figure))
        found = read(figure)
        # The test of the same name in tests/ compares these values with omnivault's.
        assert_same(found["values"], place.figure.values(found["state"])[0])
        expect(figure.locator(".says")).to_have_text(sentences(place.figure, [found["state"]])[0])
        figure.locator("button", has_text="reset").press("Enter")
        assert read(figure)["state"] == place.figure.state
        expect(figure.locator(".says")).to_have_text(place.figure.says)
        none(this.trouble)
    finally:
        this.page.context.close()


def others(p: list[float]) -> list[float]:
    """One minus each, as the sum of the others."""
    return [sum(p[:i] + p[i + 1 :]) for i in range(len(p))]


@pytest.mark.browser
def test_first_page_against_softmax(reader: Readers) -> None:
    """What a reader sees, digit by digit, against omnivault on the figure's own logits."""
    place = find(reader.site, "next_token")
    assert place.page == PAGES[0]
    page = reader(1280, "light").open(place.page)
    figure = open_figure(page, place)
    slider = figure.locator("input[name=temperature]")
    expect(slider).to_be_in_viewport()  # the figure opens the book
    prompt = place.figure.data["prompts"][0]
    logits = [torch.tensor(prompt["logits"], dtype=torch.float64)]
    logits += [torch.full((n,), z, dtype=torch.float64) for z, n in prompt["tail"]]
    z = torch.cat(logits)
    assert len(z) == place.figure.data["vocabulary"]
    for key in ("Home", "PageUp", "PageUp", "End"):
        slider.press(key)
        temperature = float(figure.evaluate("f => f.state.temperature"))
        p = softmax(z, temperature=temperature)
        texts = [
            text.replace("\N{MINUS SIGN}", "-").replace("\u00a0", " ")
            for text in figure.locator(".picture text.small").all_text_contents()
        ]
        expected = [*p[:10].tolist(), p[10:].sum().item()]
        assert len(texts) == len(expected)
        for text, q, rest in zip(texts, expected, others(expected), strict=True):
            if text.startswith("1 - "):
                assert float(text[4:]) == pytest.approx(rest, rel=0.5), temperature
            elif "e" in text:
                assert float(text) == pytest.approx(q, rel=0.05), temperature
            else:
                assert re.fullmatch(r"0\.\d{3,4}", text), temperature
                assert 0 < float(text) == pytest.approx(q, abs=0.00051), temperature
    figure.locator("button", has_text="reset").press("Enter")


@every_figure
@every_width
@pytest.mark.browser
def test_pictures_fit(name: str, width: int, reader: Readers) -> None:
    """No text of a picture leaves it or lies on another, at the start and after some steps."""
    place = find(reader.site, name)
    this = reader.new(width, "light")
    figure = open_figure(this.open(place.page), place)
    try:
        for change in (None, steps, make_cold):
            if change is not None:
                change(figure)
            none([f"{change} {problem}" for problem in figure.evaluate(FITS)])
    finally:
        this.page.context.close()


def make_cold(figure: Locator) -> None:
    """Where probabilities are next to 0 and 1, their numbers are longest."""
    figure.locator("button", has_text="reset").press("Enter")
    for control in figure.locator("input[type=range]").all():
        name = control.get_attribute("name") or ""
        control.press("Home" if "temperature" in name else "End" if name == "scale" else "Tab")


FITS = """
(figure) => {
  const frame = figure.querySelector(".picture svg").getBoundingClientRect();
  const texts = [...figure.querySelectorAll(".picture svg text")];
  const boxes = texts
    .filter((t) => t.textContent.trim())
    .map((t) => [t.textContent, t.getBoundingClientRect()]);
  const problems = [];
  for (const [text, box] of boxes) {
    const inside = box.left > frame.left - 2 && box.right < frame.right + 2 &&
      box.top > frame.top - 3 && box.bottom < frame.bottom + 3;
    if (!inside) problems.push(`"${text}" leaves the picture`);
  }
  for (const [i, [a, x]] of boxes.entries()) {
    for (const [b, y] of boxes.slice(i + 1)) {
      const wide = Math.min(x.right, y.right) - Math.max(x.left, y.left);
      const high = Math.min(x.bottom, y.bottom) - Math.max(x.top, y.top);
      if (wide > 2 && high > 6) problems.push(`"${a}" lies on "${b}"`);
    }
  }
  return problems;
}
"""


@pytest.mark.browser
def test_a_figure_is_drawn_anew_at_another_width(reader: Readers) -> None:
    place = find(reader.site, "order")
    this = reader.new(1280, "light")
    figure = open_figure(this.open(place.page), place)
    wide = figure.locator(".picture svg").bounding_box()
    this.page.set_viewport_size({"width": 390, "height": 800})
    figure.locator(".picture svg[width='342'], .picture svg[width='354']").wait_for()
    narrow = figure.locator(".picture svg").bounding_box()
    this.page.context.close()
    assert wide is not None
    assert narrow is not None
    assert narrow["width"] < 360 < 600 < wide["width"]


@pytest.mark.browser
def test_pointer_drags_a_bar(reader: Readers) -> None:
    place = find(reader.site, "order")
    page = reader(390, "light").open(place.page)
    figure = open_figure(page, place)
    before = read(figure)["state"]
    box = figure.locator(".picture svg rect.ink").nth(3).bounding_box()  # the handle of d
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] - 60, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    after = read(figure)["state"]
    assert after["d"] < before["d"] - 1
    assert {k: v for k, v in after.items() if k != "d"} == {
        k: v for k, v in before.items() if k != "d"
    }


@every_width
@pytest.mark.browser
def test_cards_change_places_by_keyboard(width: int, reader: Readers) -> None:
    place = find(reader.site, "cuts")
    this = reader.new(width, "light")
    figure = open_figure(this.open(place.page), place)
    cards = figure.locator("ol > li")

    def order() -> list[str]:
        shown: list[str] = cards.evaluate_all("all => all.map((card) => card.dataset.card)")
        assert shown == read(figure)["state"]["order"]
        ends = figure.locator("[aria-disabled=true]")
        labels = [cards.nth(i).locator("label").text_content() for i in (0, len(shown) - 1)]
        names = [end.get_attribute("aria-label") for end in ends.all()]
        assert names == [f"{labels[0]} earlier", f"{labels[1]} later"]
        return shown

    start = order()
    later = figure.get_by_role("button", name="temperature later", exact=True)
    later.focus()
    for n in range(1, len(start) + 2):  # at the end it stays where it is
        this.page.keyboard.press("Enter")
        expect(later).to_be_focused()
        at = min(n, len(start) - 1)
        assert order() == [*start[1 : at + 1], start[0], *start[at + 1 :]]
    this.page.keyboard.press("Shift+Tab")
    expect(figure.get_by_role("button", name="temperature earlier", exact=True)).to_be_focused()
    this.page.keyboard.press("Space")
    assert order() == [*start[1:-1], start[0], start[-1]]
    slider = cards.last.locator("input")
    slider.press("Home")  # a card is moved with its dial
    assert slider.get_attribute("name") == start[-1]
    found = read(figure)
    assert_same(found["values"], place.figure.values(found["state"])[0])
    cards.first.get_by_role("button").last.click()
    assert order()[:2] == [start[2], start[1]]
    figure.locator("button", has_text="reset").press("Enter")
    assert order() == start
    none(this.trouble)
    this.page.context.close()


TIMES = """
async (figure) => {
  const times = [];
  for (const input of figure.querySelectorAll("input[type=range]")) {
    for (let k = 0; k < 24; k++) {
      input.value = (+input.value + 1) % (+input.max + 1);
      const start = performance.now();
      input.dispatchEvent(new Event("input", { bubbles: true }));
      figure.getBoundingClientRect(); // layout counts
      times.push(performance.now() - start);
    }
    await new Promise((done) => setTimeout(done));
  }
  return times;
}
"""


FRAME = 16.0  # milliseconds


@every_figure
@pytest.mark.alone
@pytest.mark.browser
def test_a_step_fits_into_a_frame_of_a_slow_phone(name: str, reader: Readers) -> None:
    place = find(reader.site, name)
    this = reader.new(390, "light")
    figure = open_figure(this.open(place.page), place)
    blank = reader.browser.new_page()
    works: list[float] = []
    rounds: list[float] = []
    # Something else that the machine does makes a round slower, never faster: up to five of each,
    # by turns, so that both meet the same moods of the machine.
    while len(rounds) < 2 or min(rounds) / min(works) >= FRAME / PHONE:
        assert len(rounds) < 5, (rounds, works)
        works.append(blank.evaluate(WORK))
        times = figure.evaluate(TIMES)
        assert len(times) >= 24
        rounds.append(median(times))
    blank.close()
    this.page.context.close()
