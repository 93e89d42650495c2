"""The figure of the two divergences against omnivault.information and torch."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from torch import Tensor

from omnivault.information import kl_divergence
from omnivault.live.figure import LiveFigure
from omnivault.live.kl_fit import kl_fit
from omnivault.softmax import log_softmax, softmax
from tests.support.live import WITHIN, State, ask, assert_near, some_states

GRID = torch.arange(41, dtype=torch.float64)


def logits(m: float, s: float) -> Tensor:
    return -((GRID - m) ** 2) / (2 * s**2)


def target(distance: float, weight: float) -> Tensor:
    left, right = logits(19 - distance / 2, 2.0), logits(19 + distance / 2, 3.0)
    return weight * softmax(left) + (1 - weight) * softmax(right)


def offered(figure: LiveFigure) -> dict[str, list[Any]]:
    return {c["name"]: c["values"] for c in figure.controls if "name" in c}


def states(n: int) -> list[State]:
    ends = [
        {"distance": d, "weight": w, "center": m, "width": s}
        for d in (0, 20)
        for w in (0, 0.65, 1)
        for m in (0, 40)
        for s in (1, 20)
    ]
    return some_states(kl_fit(), n, seed=1) + ends


def test_values_are_those_of_the_package() -> None:
    asked = states(240)
    underflowed = 0
    for state, values in zip(asked, kl_fit().values(*asked), strict=True):
        p = target(state["distance"], state["weight"])
        z = logits(state["center"], state["width"])
        q = softmax(z)
        for name, expected in (("p", p), ("q", q)):
            assert_near(values[name], expected)
            mean = expected @ GRID
            variance = expected @ (GRID - mean) ** 2
            moments = values[f"moments_{name}"]
            assert_near([moments["mean"], moments["variance"]], [mean, variance])
        assert_near(values["reverse"], kl_divergence(q, p))
        forward = kl_divergence(p, q)
        underflowed += math.isinf(forward)
        if q.min() < torch.finfo(q.dtype).smallest_normal:  # where q has lost digits, or all
            forward = (p * (p.log() - log_softmax(z))).sum()
        assert math.isfinite(forward)
        assert_near(values["forward"], forward)
        assert values["forward"] >= 0
        assert values["reverse"] >= 0
    assert underflowed >= 3  # where probabilities alone would have made it infinite


def test_minima_are_the_least_on_offer() -> None:
    figure = kl_fit()
    grid = offered(figure)
    pairs = [(m, s) for m in grid["center"] for s in grid["width"]]
    log_q = torch.stack([log_softmax(logits(m, s)) for m, s in pairs])
    q = log_q.exp()
    rng = random.Random(2)
    asked = [{n: rng.choice(grid[n]) for n in ("distance", "weight")} for _ in range(40)]
    asked += [{"distance": d, "weight": w} for d in (0, 18, 20) for w in (0, 0.5, 1)]
    for state, values in zip(asked, figure.values(*asked), strict=True):
        p = target(state["distance"], state["weight"])
        log_p = p.log()
        for name, all_values in (
            ("best_forward", (p * (log_p - log_q)).sum(-1)),
            ("best_reverse", (q * (log_q - log_p)).sum(-1)),
        ):
            best = values[name]
            assert_near(best["value"], all_values.min())
            own = all_values[pairs.index((best["center"], best["width"]))]
            assert_near(own, best["value"])


def test_minima_of_the_chapter() -> None:
    # The forward fit matches moments, the reverse one takes the larger bump, for a fee -log 0.65.
    values = kl_fit().values({}, {"weight": 0.3})
    forward, reverse = (values[0][name] for name in ("best_forward", "best_reverse"))
    assert (reverse["center"], reverse["width"]) == (10, 2)
    assert reverse["value"] == pytest.approx(-math.log(0.65), abs=1e-3)
    (fit,) = kl_fit().values({k: forward[k] for k in ("center", "width")})
    assert fit["forward"] == pytest.approx(forward["value"], abs=WITHIN)
    for name in ("mean", "variance"):
        assert fit["moments_q"][name] == pytest.approx(fit["moments_p"][name], rel=0.02)
    other = values[1]["best_reverse"]
    assert (other["center"], other["width"]) == (28, 3)


def test_least_forward_is_inside_the_offered_widths() -> None:
    # Otherwise the button would not lead to the minimum of the family.
    figure = kl_fit()
    grid = offered(figure)
    asked = [{"distance": d, "weight": w} for d in grid["distance"] for w in grid["weight"]]
    for values in figure.values(*asked):
        for name in ("best_forward", "best_reverse"):
            assert 1 < values[name]["width"] < 20
            assert 0 < values[name]["center"] < 40


def test_buttons_go_to_the_minima() -> None:
    figure = kl_fit(12, 0.4)
    buttons = (
        'figure.controls(data).filter((c) => c.type === "button")'
        ".map((c) => [c.label, c.press(start)])"
    )
    pressed = dict(ask(figure, buttons))
    (values,) = figure.values({})
    for label, name in (("least KL(p || q)", "best_forward"), ("least KL(q || p)", "best_reverse")):
        assert pressed[label] == {k: values[name][k] for k in ("center", "width")}


def test_drag_moves_the_center_to_the_pointer() -> None:
    for width, y in ((300, 150), (680, 150)):
        at = ask(
            kl_fit(),
            f"[-50, 0, 40, {width - 12}, {width + 50}]"
            f".map((x) => figure.drag(data, start, x, {y}, {width}).center)",
        )
        assert at == [0, 0, 0, 40, 40]
        middle = ask(kl_fit(), f"figure.drag(data, start, 40 + ({width} - 52) / 2, {y}, {width})")
        assert middle == {"center": 20}
        assert ask(kl_fit(), f"figure.drag(data, start, 100, 300, {width})") is None


def test_picture_and_sentence_hold_numbers_only() -> None:
    drawn = ask(
        kl_fit(),
        "[300, 342, 479, 480, 680].flatMap((w) => [[18, 0.65, 20, 5], [0, 1, 0, 1],"
        "[20, 0, 40, 20], [18, 1, 10, 2]].map(([distance, weight, center, width]) => {"
        "const s = { distance, weight, center, width }; const v = figure.compute(data, s);"
        "const d = figure.draw(data, s, v, w);"
        "return [w, d.height, d.svg + figure.say(data, s, v)]; }))",
    )
    for width, height, words in drawn:
        assert height <= (420 if width < 480 else 340)
        for wrong in ("NaN", "undefined", "null", "Infinity", "e\u2212"):
            assert wrong not in words


def test_sentence() -> None:
    says = kl_fit().says.replace("\u00a0", " ").replace("\u2060", "")
    assert says == (
        "The target has bumps at 10 and 28 of weights 0.65 and 0.35; q has center 20 and width 5. "
        "KL(p || q) is 1.49 nats, least 0.657 at center 15 and width 10.5. "
        "KL(q || p) is 2.26 nats, least 0.431 at center 10 and width 2."
    )


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"distance = 25 is not on offer; the values are \[0, 1"):
        kl_fit(25)
    with pytest.raises(
        ValueError, match=r"weight = 1\.5 is not on offer; the values are \[0, 0\.05"
    ):
        kl_fit(weight=1.5)
