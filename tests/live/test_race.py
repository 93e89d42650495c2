from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from omnivault.live.race import race
from omnivault.softmax import softmax
from tests.support.live import State, ask, assert_near, some_states, uniforms
from tests.support.live import shown as shown_in

NAMES = ("a", "b", "c", "d")
MOST = 20_000


NOISE = -np.log(-np.log(uniforms(4 * MOST))).reshape(MOST, 4)
"""Of all races, a row for each."""


def states() -> list[State]:
    drawn = some_states(race(), 200, seed=2, races=[1, 2, 7, 1001, 5003, MOST])
    edges: list[State] = [
        {},
        *({**dict.fromkeys(NAMES, 1.5), "races": n} for n in range(1, 30)),  # noise alone decides
        *({"temperature": t, "races": n} for t in (0.1, 1, 10) for n in (1, 100, MOST)),
        *({"a": -3, "b": 3, "c": 3, "d": -3, "temperature": t, "races": MOST} for t in (0.1, 10)),
    ]
    return edges + drawn


@pytest.fixture(scope="module")
def shown() -> list[tuple[State, dict[str, Any]]]:
    return shown_in(race(), states())


def test_values_are_those_of_numpy_with_the_same_noise(
    shown: list[tuple[State, dict[str, Any]]],
) -> None:
    for state, values in shown:
        n = state["races"]
        scaled = np.array([state[name] for name in NAMES]) / state["temperature"]
        noise = NOISE[n - 1]
        assert_near(values["scaled"], scaled)
        assert_near(values["noise"], noise)
        assert_near(values["totals"], scaled + noise)
        winners = (scaled + NOISE[:n]).argmax(1)
        assert values["winner"] == winners[-1]
        assert values["wins"] == np.bincount(winners, minlength=4).tolist()


def test_probabilities_are_those_of_omnivault(
    shown: list[tuple[State, dict[str, Any]]],
) -> None:
    for state, values in shown:
        z = torch.tensor([state[name] for name in NAMES], dtype=torch.float64)
        assert_near(values["probs"], softmax(z, temperature=state["temperature"]))


def test_winners_follow_softmax() -> None:
    """Chi-square of 20,000 races in six states; false alarms at a rate of at most 6e-4.

    The states share their noise. The seed is fixed, so the result does not change.
    """
    logits = [(2, 1, 0, -1), (0, 0, 0, 0), (2, 1, 0, -1), (3, -1, 2, 0), (-3, 3, 3, -3)]
    cases = [*zip(logits, (1, 1, 10, 2, 2.51), strict=True), ((0, 0.5, 0, 0.5), 0.316)]
    asked = [dict(zip(NAMES, z, strict=True)) | {"temperature": t, "races": MOST} for z, t in cases]
    for values in race().values(*asked):
        expected = MOST * np.array(values["probs"])
        assert expected.min() > 5
        statistic = ((np.array(values["wins"]) - expected) ** 2 / expected).sum()
        assert statistic < chi2.isf(1e-4, 3)


def test_noise_is_gumbel() -> None:
    """The share of noise below x, which is exp(-exp(-x)), at a few x; six standard errors."""
    figure = race()
    drawn = [x for v in figure.values(*({"races": n} for n in range(1, 2001))) for x in v["noise"]]
    for x in (-1, 0, 0.5, 1, 2, 4):
        p = np.exp(-np.exp(-x))
        error = (p * (1 - p) / len(drawn)) ** 0.5
        assert np.mean(np.array(drawn) < x) == pytest.approx(p, abs=6 * error)


def test_noise_is_the_same_for_other_logits_and_temperatures() -> None:
    first, *others = race().values({}, {"temperature": 0.1}, {"temperature": 10, "a": -3, "d": 3})
    assert all(other["noise"] == first["noise"] for other in others)
    assert len({other["winner"] for other in [first, *others]}) > 1


def test_raising_a_logit_never_loses_a_race() -> None:
    values = race().values(*({"b": b, "races": MOST} for b in (-3, -1, 0, 1, 2, 3)))
    wins = [v["wins"][1] for v in values]
    assert wins == sorted(wins)


def test_buttons_add_races_up_to_the_most() -> None:
    pressed = ask(
        race(),
        "[1, 19_500, 20_000].map(races => figure.controls(data).filter(c => c.type === 'button')"
        ".map(c => c.press({ races }).races))",
    )
    assert pressed == [[2, 1001], [19_501, MOST], [MOST, MOST]]


@pytest.mark.parametrize("width", [300, 390, 479, 480, 680])
def test_nothing_reaches_out_of_the_picture(width: int) -> None:
    """Bars and dots, in states with short and long bars of either sign."""
    script = """asked.map((s) => {
        const state = { ...start, ...s };
        const { svg, height } = figure.draw(data, state, figure.compute(data, state), width);
        const all = (pattern) => [...svg.matchAll(pattern)].map((m) => +m[1]);
        return [all(/ c?x[12]?="([^"]*)"/g), all(/ c?y[12]?="([^"]*)"/g), height];
    })"""
    boxes = ask(race(), script, asked=states()[:60], width=width)
    for across, down, height in boxes:
        assert len(across) > 40
        assert all(0 <= x <= width for x in across)
        assert all(0 <= y <= height for y in down)


def test_it_says_what_it_shows() -> None:
    figure = race()
    (values,) = figure.values({})
    assert f"{NAMES[values['winner']]} is largest and wins" in figure.says
    assert "0.644, 0.237, 0.0871 and 0.0321" in figure.says
    for text in (figure.to_svg(), figure.to_html()):
        assert ">wins<" in text
        assert "NaN" not in text
        assert "undefined" not in text


@pytest.mark.parametrize(
    "logits", [(1.0, 2.0), (1.0, 2.0, 3.0, 3.1), (0.0, 0.0, 0.0, float("nan"))]
)
def test_other_logits_are_refused(logits: tuple[float, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"four logits in \[-3, 3\], in steps of 0.1, are needed, got \["
    ) as error:
        race(logits)
    assert str(list(logits)) in str(error.value)
