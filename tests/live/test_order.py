from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from omnivault.live.order import order
from omnivault.softmax import softmax
from tests.support.live import State, ask, assert_near, sentences, shown, some_states

NAMES = ("a", "b", "c", "d", "e")
EDGES: list[State] = [
    {},
    dict.fromkeys(NAMES, 1.5),
    {"a": 5, "b": 5, "c": -5, "d": -5, "scale": 10, "temperature": 0.1},
    {"a": 5, "b": -5, "c": 5, "d": -5, "scale": 0.1, "temperature": 10, "shift": -3},
    *({"temperature": t, "scale": s, "shift": 3} for t in (0.1, 1, 10) for s in (0.1, 10)),
]


def states() -> list[State]:
    return [*EDGES, *some_states(order(), 250)]


def offered(name: str) -> list[float]:
    values: list[float] = next(c["values"] for c in order().controls if c["name"] == name)
    return values


def test_values_are_those_of_omnivault() -> None:
    for state, values in shown(order(), states()):
        own = torch.tensor([state[name] for name in NAMES], dtype=torch.float64)
        z = state["scale"] * own + state["shift"]
        assert_near(values["logits"], z)
        assert_near(values["probs"], softmax(z, temperature=state["temperature"]))
        # Of equal logits the first comes first.
        assert values["ranking"] == z.argsort(descending=True, stable=True).tolist()


def test_a_shift_changes_no_probability() -> None:
    for state in states()[:60]:
        values = order().values(*(state | {"shift": c} for c in (-3, -0.1, 0, 2, 3)))
        for other in values[1:]:
            assert_near(other["probs"], values[0]["probs"])
            assert other["ranking"] == values[0]["ranking"]
        assert_near(values[4]["logits"], [z + 6 for z in values[0]["logits"]])


def test_a_factor_and_a_temperature_of_the_same_size_cancel() -> None:
    factors = offered("scale")
    assert factors == offered("temperature")
    for state in states()[:20]:
        own = state | {"shift": 1}
        plain, *others = order().values(
            own | {"scale": 1, "temperature": 1},
            *(own | {"scale": s, "temperature": s} for s in factors),
        )
        for other in others:
            assert_near(other["probs"], plain["probs"])


def test_no_temperature_changes_the_ranking() -> None:
    temperatures = offered("temperature")
    for state in states()[:30]:
        values = order().values(*(state | {"temperature": t} for t in temperatures))
        for v in values:
            assert v["ranking"] == values[0]["ranking"]
            probs = [v["probs"][i] for i in v["ranking"]]
            assert probs == sorted(probs, reverse=True)


@pytest.mark.parametrize("width", [300, 342, 479, 480, 680])
@pytest.mark.parametrize("scaled", [{}, {"scale": 0.501, "shift": -1.3}, {"scale": 2, "shift": 3}])
def test_a_drag_moves_the_bar_under_the_pointer_and_no_other(width: int, scaled: State) -> None:
    """The handle comes to lie under the pointer, up to half a step of the logit, in pixels."""
    script = r"""[0, 1, 2, 3, 4].flatMap((row) => [-1.7, -0.9, -0.3, 0, 0.4, 1.2].map((at) => {
        const before = { ...start, ...scaled };
        const drawn = (s) => figure.draw(data, s, figure.compute(data, s), width).svg;
        const handles = (s) =>
            [...drawn(s).matchAll(/"ink" x="([^"]*)" y="([^"]*)" width="6" height="([^"]*)"/g)]
            .map(([, x, y, h]) => [+x + 3, +y + +h / 2]);
        const line = drawn(before).match(/<line class="axis" x1="([^"]*)"/);
        const [x, y] = [+line[1] + at * (width - 60) / 16, handles(before)[row][1]];
        const change = figure.drag(data, before, x, y, width);
        return [row, x, change, handles({ ...before, ...change })];
    }))"""
    steps = offered("a")
    pixels = (width * (0.52 if width < 480 else 0.5) - 44 - 24) / 16  # of a logit
    for row, x, change, handles in ask(order(), script, scaled=scaled, width=width):
        assert list(change) == [NAMES[row]]
        assert len(handles) == 5
        (own,) = change.values()
        assert own in steps
        if abs(own) < 5:
            half = 0.05 * scaled.get("scale", 1) * pixels
            assert handles[row][0] == pytest.approx(x, abs=half + 0.15)


def test_a_drag_stops_at_the_ends_and_at_the_bars() -> None:
    script = "at.map(([x, y]) => figure.drag(data, start, x, y, 680))"
    far = [[-500, 40], [300, 40], [24, 190], [150, 27], [150, 28 + 5 * 34], [350, 40]]
    assert ask(order(), script, at=far) == [{"a": -5}, {"a": 5}, {"e": -5}, None, None, None]


def test_sentence() -> None:
    one, tied, hot = sentences(order(), [{}, {"a": 5, "e": 5}, {"temperature": 10}])
    assert one == (
        "By logits and by probabilities alike the order is d > e > c > a > b. "
        "The largest probability is 0.636, the smallest 0.0117."
    )
    assert "the order is a = d = e > c > b. The largest probability is 0.317," in tied
    assert "the order is d > e > c > a > b. The largest probability is 0.242," in hot


@pytest.mark.parametrize(
    "logits",
    [(), (1.0,) * 4, (1.0,) * 6]
    + [(0.0, 1.0, 2.0, 3.0, bad) for bad in (5.1, -5.1, math.nan, math.inf, -math.inf)],
)
def test_refuses_other_logits(logits: tuple[float, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"five logits in \[-5, 5\], in steps of 0.1, are needed, got \["
    ) as caught:
        order(logits)
    assert str(list(logits)) in str(caught.value)


def test_starts_with_the_logits_given() -> None:
    state: dict[str, Any] = order((5, -5.0, 0.3, -0.1, 1)).state
    assert [state[name] for name in NAMES] == [5, -5, 0.3, -0.1, 1]
