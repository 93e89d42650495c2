from __future__ import annotations

import math

import pytest
import torch

from omnivault import information
from omnivault.live.entropy import entropy
from omnivault.live.figure import LiveFigure
from omnivault.softmax import softmax
from tests.support.live import WITHIN, State, ask, assert_near, sentences, some_states

CHOICES = ("five steps", "a tie at the top", "one far ahead", "all equal")
ROWS: list[tuple[float, ...]] = [
    (2.0, 1.0, 3.0, 5.0, 4.0),
    (-5.0, 5.0, 4.9, -4.9, 0.0),
    (0.3, 0.3, 0.3, -1.0, -1.0),
    (-4.9, -5.0, -4.8, -5.0, -4.9),
]


def all_states(figure: LiveFigure, n: int) -> list[State]:
    """Return n drawn states and all extreme ones."""
    extreme = [{"logits": name, "temperature": T} for name in CHOICES for T in (0.1, 1, 6)]
    return some_states(figure, n) + extreme


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("logits", ROWS)
def test_values_are_those_of_omnivault_and_of_autograd(logits: tuple[float, ...]) -> None:
    figure = entropy(logits)
    states = all_states(figure, 220)
    for state, values in zip(states, figure.values(*states), strict=True):
        z = torch.tensor(figure.data["choices"][state["logits"]], dtype=torch.float64)
        p = softmax(z, temperature=state["temperature"])
        assert_near(values["logits"], z)
        assert_near(values["probs"], p)
        assert_near(values["entropy"], information.entropy(p))
        assert_near(values["mean"], p @ z)
        assert_near(values["variance"], p @ (z - p @ z) ** 2)
        assert_near(values["bound"], torch.tensor(5.0).double().log())

        t = torch.tensor(state["temperature"], dtype=torch.float64, requires_grad=True)
        log_p = torch.log_softmax(z / t, -1)
        (slope,) = torch.autograd.grad(-(log_p.exp() @ log_p), t, retain_graph=True)
        rates = [torch.autograd.grad(q, t, retain_graph=True)[0] for q in log_p.exp()]
        assert_near(values["slope"], slope)
        assert_near(values["rates"], torch.stack(rates))


@pytest.mark.parametrize("logits", ROWS)
def test_curves(logits: tuple[float, ...]) -> None:
    figure = entropy(logits)
    for name, values in zip(CHOICES, figure.values(*({"logits": n} for n in CHOICES)), strict=True):
        z = torch.tensor(figure.data["choices"][name], dtype=torch.float64)
        temperatures, curves = values["curves"]["temperatures"], values["curves"]
        assert temperatures == [round(0.05 * i, 10) for i in range(121)]
        at_top = (z == z.max()).double()
        limit = at_top / at_top.sum()
        p = torch.stack([limit, *(softmax(z, temperature=T) for T in temperatures[1:])])
        assert_near(curves["probs"], p)
        assert_near(curves["entropy"], information.entropy(p))


def test_signs_are_those_of_the_differences() -> None:
    # The arrows show signs, so that also rates far below 1e-6 must have the right one.
    for logits in ROWS:
        figure = entropy(logits)
        states = all_states(figure, 50)
        for state, values in zip(states, figure.values(*states), strict=True):
            z, rates = values["logits"], values["rates"]
            if state["logits"] == "all equal":
                assert rates == [0, 0, 0, 0, 0]
                assert values["variance"] == values["slope"] == 0
                continue
            top = max(z)
            assert all(rate < 0 for zi, rate in zip(z, rates, strict=True) if zi == top)
            assert all(  # not above the plain mean: they only rise
                rate > 0 for zi, rate in zip(z, rates, strict=True) if zi < sum(z) / 5 - 1e-9
            )
            assert abs(sum(rates)) < WITHIN


def test_second_token_turns() -> None:
    # Where the expected logit passes 4, which is between two steps of the slider.
    below, above = entropy().values({"temperature": 1.75}, {"temperature": 1.8})
    z = torch.tensor([2.0, 1.0, 3.0, 5.0, 4.0], dtype=torch.float64)
    assert softmax(z, temperature=1.75) @ z > 4 > softmax(z, temperature=1.8) @ z
    assert below["rates"][4] > 0 > above["rates"][4]


def test_choices() -> None:
    assert entropy().data["choices"] == {
        "five steps": [2, 1, 3, 5, 4],
        "a tie at the top": [2, 1, 3, 5, 5],
        "one far ahead": [2, 1, 3, 10, 4],
        "all equal": [5, 5, 5, 5, 5],
    }
    tied = entropy((0.3, -1.0, 0.3, 0.1, 0.0)).data["choices"]
    assert tied["a tie at the top"] == [0.3, -1.0, 0.3, 0.1, 0.0]
    assert tied["one far ahead"] == [5.3, -1.0, 0.3, 0.1, 0.0]


@pytest.mark.parametrize("width", [300, 342, 559, 560, 680])
def test_drag_sets_the_temperature_pointed_at(width: int) -> None:
    # The place of T in the upper, or left, plot as it is drawn: the x of the dashed line.
    figure = entropy()
    (control,) = (c for c in figure.controls if c["name"] == "temperature")
    script = r"""states.map((s) => {
      const values = figure.compute(data, s);
      const svg = figure.draw(data, s, values, width).svg;
      return [...svg.matchAll(/<line class="dashed" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)"/g)]
        .filter(([, x1, , x2]) => x1 === x2)
        .map(([, x, y]) => figure.drag(data, s, +x + 0.4, +y - 10, width));
    })"""
    states = [figure.state | {"temperature": T} for T in control["values"]]
    all_dragged = ask(figure, script, states=states, width=width)
    for state, dragged in zip(states, all_dragged, strict=True):
        assert len(dragged) == 2  # one line in each plot
        for change in dragged:
            assert change["temperature"] in control["values"]
            assert abs(change["temperature"] - state["temperature"]) < 0.051
    outside = "at.map(([x, y]) => figure.drag(data, {}, x, y, width))"
    at = [[width - 5, 100], [150, 5], [5, 60]]
    assert ask(figure, outside, at=at, width=width) == [None, None, None]
    at = [[30, 100], [31, 60]]  # just left of the axis: the lowest temperature
    assert ask(figure, outside, at=at, width=width) == [{"temperature": 0.1}] * 2


def test_arrows_and_sentence() -> None:
    figure = entropy()
    states: list[State]
    states = [{}, {"temperature": 2}, {"logits": "a tie at the top"}, {"logits": "all equal"}]
    script = """states.map((s) => {
      const { svg } = figure.draw(data, s, figure.compute(data, s), 680);
      return svg.replace(/[^↑→↓]/g, "");
    })"""
    one, two, tied, equal = sentences(figure, states)
    up, turned, both, none = ask(figure, script, states=[figure.state | s for s in states])
    assert "at most log 5 = 1.61; its slope is Var_p(z)/T³ = 0.75." in one
    assert "rise: logits 4, 3, 2, 1; that fall: logit 5." in one
    assert "rise: logits 3, 2, 1; that fall: logits 5, 4." in two
    assert "rise: logits 3, 2, 1; that fall: logits 5, 5." in tied
    assert "All logits are equal: the entropy is log 5 = 1.61 nats" in equal
    # Rows from the most probable token down.
    assert (up, turned, both, none) == ("↓↑↑↑↑", "↓↓↑↑↑", "↓↓↑↑↑", "→→→→→")


@pytest.mark.parametrize(
    "logits",
    [(), (1.0, 2.0), (1.0,) * 6, (1.0, 0.0, 3.0, 2.0, 5.1), (-5.1, 0.0, 0.0, 1.0, 2.0)]
    + [(0.0, 1.0, 2.0, 3.0, bad) for bad in (math.nan, math.inf, -math.inf, 0.55)],
)
def test_refuses_other_logits(logits: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"five logits in \[-5, 5\], in steps of 0.1") as caught:
        entropy(logits)
    assert str(list(logits)) in str(caught.value)
