"""What the tests of the live figures share: JavaScript, states to try, numbers to compare."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from omnivault.live.figure import LiveFigure, run_in_node, script

State = dict[str, Any]

WITHIN = 2.0**-33
"""A million roundings of float64: of numbers up to a thousand, from up to a thousand each."""


def ask(figure: LiveFigure, expression: str, **given: Any) -> Any:
    """Evaluate JavaScript with `figure`, its `data`, `start` (its state), and whatever is given."""
    request = {"data": figure.data, "start": figure.state, **given}
    head = (
        f"const figure = omnivaultLive.figures.{figure.name};"
        f"const {{ {', '.join(request)} }} = JSON.parse(require('fs').readFileSync(0, 'utf-8'));"
    )
    # The runtime's own names stay inside its function, so that none can clash with these.
    tail = f"process.stdout.write(JSON.stringify({expression}));"
    return json.loads(run_in_node(script(figure.name) + head + tail, json.dumps(request)))


def sentences(figure: LiveFigure, states: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the figure says in each state; what a state leaves out is as at the start."""
    said: list[str] = ask(
        figure,
        "states.map((s) => ({ ...start, ...s }))"
        ".map((s) => figure.say(data, s, figure.compute(data, s)))",
        states=list(states),
    )
    return said


def some_states(
    figure: LiveFigure, n: int, seed: int = 0, **counters: Sequence[Any]
) -> list[State]:
    """Draw states, the same on every run; of counters of buttons, which offer none, the values."""
    offered = {
        c["name"]: c.get("values") or c.get("options") or (False, True)
        for c in figure.controls
        if c["type"] not in ("button", "order")
    }
    orders = {c["name"]: c["options"] for c in figure.controls if c["type"] == "order"}
    rng = random.Random(seed)
    return [
        {k: rng.choice(v) for k, v in (offered | counters).items()}
        | {k: rng.sample(v, len(v)) for k, v in orders.items()}
        for _ in range(n)
    ]


def shown(figure: LiveFigure, states: Sequence[State]) -> list[tuple[State, dict[str, Any]]]:
    """Each state, completed by the start, with its values."""
    values = figure.values(*states)
    return [(figure.state | s, v) for s, v in zip(states, values, strict=True)]


def uniforms(n: int, seed: int = 1) -> Any:
    """Return the first n numbers of the runtime's generator, mulberry32, as float64."""
    with np.errstate(over="ignore"):
        s = np.uint32(seed) + np.arange(1, n + 1, dtype=np.uint32) * np.uint32(0x6D2B79F5)
        t = (s ^ (s >> np.uint32(15))) * (s | np.uint32(1))
        t = (t + (t ^ (t >> np.uint32(7))) * (t | np.uint32(61))) ^ t
    return ((t ^ (t >> np.uint32(14))).astype(np.float64) + 0.5) / 2**32


def assert_near(actual: Any, expected: Any, within: float = WITHIN) -> None:
    """Compare numbers, lists or arrays of one shape: by the absolute difference alone, no nan."""
    got, wanted = (torch.as_tensor(x, dtype=torch.float64) for x in (actual, expected))
    torch.testing.assert_close(got, wanted, rtol=0, atol=within)
