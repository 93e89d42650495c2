"""The cards in every order against omnivault.sampling, and the distance against torch."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from itertools import combinations, pairwise

import pytest
import torch
from torch import Tensor

from omnivault import live, sampling
from omnivault.live.figure import LiveFigure
from omnivault.softmax import softmax
from tests.live.test_next_token import logits, whole
from tests.support.live import State, ask, assert_near, sentences, shown, some_states

pytestmark = pytest.mark.usefixtures("one_thread")

TOKENS = [f"t{i}" for i in range(3000)]
SEVERAL = [
    ("top_k", "top_p", "min_p", "typical_p", "xtc"),
    ("top_n_sigma", "epsilon_cutoff", "eta_cutoff", "top_a", "p_less"),
    ("xtc", "top_h", "tail_free", "top_p", "p_less"),
]
OFF = {name: rule.off for name, rule in sampling.TRUNCATIONS.items()} | {"temperature": 1}


def figure(*cards: str) -> LiveFigure:
    return live.cuts(logits(), TOKENS, cards or SEVERAL[0])


def states_of(figure: LiveFigure, n: int) -> list[State]:
    """States in which about half of the cards are off."""
    rng = random.Random(1)
    return [
        {k: OFF[k] if k in OFF and rng.random() < 0.5 else v for k, v in state.items()}
        for state in some_states(figure, n)
    ]


def left_by(name: str, value: float, z: Tensor, number: int) -> Tensor:
    """What a truncation leaves of a row, as many tokens as the figure leaves.

    Which side of a border a token falls on may be a matter of rounding: another number is the one
    that the truncation leaves at a dial within 1e-9 of the value.
    """
    if name == "top_k":  # exactly k: of equals those with the highest indices, as for top-p
        best = z.argsort(stable=True).flip(0)[: int(value)]
        return torch.full_like(z, -torch.inf).index_copy(0, best, z[best])
    rule = sampling.TRUNCATIONS[name].function
    seen = []
    for factor in (1, 1 - 1e-9, 1 + 1e-9):
        row = rule(z, value * factor)
        seen.append(int(row.isfinite().sum()))
        if seen[-1] == number:
            return row
    raise AssertionError((name, value, number, seen))


def exponentials(logs: list[float | None]) -> list[float]:
    return [0.0 if log is None else math.exp(log) for log in logs]


def check(figure: LiveFigure, states: list[State]) -> None:
    # Equal tokens: the first of the ranking, which the figure keeps, have the highest indices.
    rows = {p["text"]: whole(figure, p["text"]).flip(0) for p in figure.data["prompts"]}
    labels = {name: rule.label for name, rule in sampling.TRUNCATIONS.items()}
    seconds: dict[str, Callable[[list[str]], list[str]]] = {
        "reversed": lambda order: order[::-1],
        "temperature first": lambda order: sorted(order, key=lambda name: name != "temperature"),
        "temperature last": lambda order: sorted(order, key=lambda name: name == "temperature"),
    }
    for state, values in shown(figure, states):
        laws = []
        assert values["own"]["order"] == state["order"]
        assert values["other"]["order"] == seconds[state["second"]](state["order"])
        for law in (values["own"], values["other"]):
            z = rows[state["prompt"]]
            on = [name for name in law["order"] if state[name] != OFF[name]]
            assert [label for label, _ in law["steps"]] == [labels.get(n, n) for n in on]
            for name, (_, number) in zip(on, law["steps"], strict=True):
                z = (
                    z / state[name]
                    if name == "temperature"
                    else left_by(name, state[name], z, number)
                )
                assert int(z.isfinite().sum()) == number, (state, name)
            z = z.flip(0)
            kept = [rank for start, end in law["ranks"] for rank in range(start, end)]
            assert kept == z.isfinite().nonzero().flatten().tolist()
            assert law["kept"] == len(kept)
            assert all(a[1] < b[0] for a, b in pairwise(law["ranks"]))
            p = softmax(z)
            laws.append(p)
            assert_near(law["probs"], p[:8])
            assert_near(law["rest"], p[8:].sum())
            assert_near(exponentials(law["log_probs"]), [*p[:8], p[8:].sum()])
        distance = (laws[0] - laws[1]).abs().sum() / 2
        assert_near(values["distance"], distance)
        assert_near(exponentials(values["log_distance"]), [distance, 1 - distance])


@pytest.mark.parametrize("cards", SEVERAL)
def test_values_are_those_of_omnivault(cards: tuple[str, ...]) -> None:
    this = figure(*cards)
    ends = [{"temperature": t, "prompt": p} for t in (0.1, 1, 10) for p in logits()]
    check(this, ends + states_of(this, 250))


def test_the_smallest_vocabulary() -> None:
    this = live.cuts({"": logits()["usual"][:101]}, TOKENS[:101])
    check(this, states_of(this, 60))


@pytest.mark.parametrize("name", sampling.TRUNCATIONS)
def test_every_truncation_can_have_a_card(name: str) -> None:
    this = figure(name)
    values = [value for value in sampling.TRUNCATIONS[name].values if value != OFF[name]]
    check(
        this,
        [
            {"prompt": prompt, "temperature": t, name: value, "order": order}
            for prompt in ("usual", "ties")
            for t in (0.501, 1, 3.98)
            for value in values
            for order in (["temperature", name], [name, "temperature"])
        ],
    )


def test_the_pairs_that_commute() -> None:
    """Of one law nothing is left between the orders, not even by rounding; the others differ."""
    this = figure(*sampling.TRUNCATIONS)
    dials = {c["name"]: c["values"] for c in this.controls if c["type"] == "range"}
    some = {k: [v for v in dials[k] if v != OFF[k]] for k in OFF} | {"temperature": [0.5, 2, 5]}
    commute = {
        frozenset(pair)
        for pair in [("temperature", "top_k"), ("temperature", "top_n_sigma"), ("top_k", "min_p")]
    }
    for pair in combinations(OFF, 2):
        a, b = pair
        settings = [
            OFF | {a: x, b: y, "prompt": prompt}
            for x in some[a]
            for y in some[b]
            for prompt in ("usual", "ties")
        ]
        seen = [values["distance"] for values in this.values(*settings)]
        assert (max(seen) == 0) == (frozenset(pair) in commute), (pair, max(seen))


def test_cards_that_are_off_leave_everything() -> None:
    (values,) = figure().values(OFF)
    assert values["own"]["steps"] == values["other"]["steps"] == []
    assert values["own"]["ranks"] == [[0, 3000]]
    assert values["distance"] == 0
    assert values["log_distance"] == [None, 0]


def test_laws_with_nothing_in_common() -> None:
    """XTC before top-k leaves the last of the top choices, after it another one."""
    state: State = {"prompt": "usual", **OFF, "top_k": 2, "xtc": 0.05}
    after, before = figure().values(
        state, state | {"order": ["xtc", *figure().state["order"][:-1]]}
    )
    assert after["own"]["ranks"] == before["other"]["ranks"] == [[1, 2]]
    assert after["own"] == before["other"] | {"order": after["own"]["order"]}
    row = whole(figure(), "usual")
    top = int((softmax(row) >= 0.05).sum())
    assert top > 2
    assert before["own"]["ranks"] == [[top - 1, top + 1]]
    assert before["distance"] == after["distance"] == 1
    assert after["log_distance"] == [0, None]


def test_sentence() -> None:
    both: State = {"temperature": 2, "top_p": 1, "min_p": 0, "prompt": "flat"}
    none, one, two, same = sentences(
        figure(),
        [
            both | {"temperature": 1},
            both | {"top_k": 1},
            both | {"prompt": "usual", "top_p": 0.5, "second": "temperature last"},
            both | {"top_k": 10, "second": "temperature first"},
        ],
    )
    assert none == "No card is on: every order leaves all 3,000 tokens."
    assert one == (
        "Your order leaves 3,000 tokens after temperature and 1 after top-k; reversed, it leaves "
        "1 token after top-k and 1 after temperature. The two laws are the same: “t0” has 1."
    )
    assert "; with the temperature last it leaves " in two
    assert " in yours and " in two
    assert same.endswith("The two laws are the same: “t0” has 0.1.")


def test_small_differences_are_not_rounded_away() -> None:
    """A second token 4.5 below is within 1% of the best, and e^-45 of it at the temperature 0.1."""
    z = torch.full((200,), -100.0)
    z[:2] = torch.tensor([0.0, -4.5])
    this = live.cuts({"": z}, TOKENS[:200])
    state: State = OFF | {"temperature": 0.1, "min_p": 0.01}
    (values,) = this.values(state)
    assert [values[law]["ranks"] for law in ("own", "other")] == [[[0, 1]], [[0, 2]]]
    assert values["distance"] == pytest.approx(1 / (1 + math.exp(45)), rel=1e-12, abs=0)
    said = f"{math.exp(-45):.3g}".replace("e-20", "e\N{MINUS SIGN}20")
    (words,) = sentences(this, [state])
    assert f"laws is {said}: “t0” has 1 in yours and 1\u00a0\N{MINUS SIGN}\u00a0{said} in" in words


@pytest.mark.parametrize(
    "name", sorted(set(sampling.TRUNCATIONS) - {"top_k"})
)  # ties: see `left_by`
def test_one_token_has_everything(name: str) -> None:
    """Behind a temperature of 0.1 the others are 1,000 to 4,000 below: their weights are 0."""
    z = -100 * torch.arange(300, dtype=torch.float64).clamp(max=4)
    this = live.cuts({"": z}, TOKENS[:300], (name,))
    values = [value for value in sampling.TRUNCATIONS[name].values if value != OFF[name]]
    order = ["temperature", name]
    states: list[State] = [{"temperature": 0.1, name: v, "order": order} for v in values]
    for state, seen in shown(this, states):
        left = sampling.TRUNCATIONS[name].function(10 * z, state[name])
        assert seen["own"]["kept"] == int(left.isfinite().sum()), state


def test_the_form_shows_the_cards_in_their_order() -> None:
    order = ["xtc", "top_k", "temperature", "top_p", "min_p", "typical_p"]
    this = LiveFigure("cuts", "", figure().data, {"order": order})
    assert this.state["order"] == order
    html = this.to_html()
    assert re.findall(r'data-card="(\w+)', html) == order
    assert html.count(' aria-disabled="true"') == 2
    assert 'aria-label="XTC earlier" aria-disabled="true"' in html
    assert 'aria-label="typical-p later" aria-disabled="true"' in html
    assert 'aria-label="typical-p earlier" aria-disabled="false"' in html


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"^there is no truncation 'temperature'; there are top_k"):
        figure("temperature")
    with pytest.raises(ValueError, match=r"^each card may be there once, got \['top_k', 'top_k'\]"):
        figure("top_k", "top_k")
    with pytest.raises(ValueError, match="at least one prompt is needed, got none"):
        live.cuts({}, TOKENS)


@pytest.mark.parametrize("width", [300, 342])
def test_the_title_stays_in_a_narrow_picture(width: int) -> None:
    script = r"""states.map((change) => ({ ...start, ...change })).map((s) =>
        figure.draw(data, s, figure.compute(data, s), width).svg
        .match(/<text class="bold" x="([^"]*)"[^>]*>([^<]*)</).slice(1))"""
    this = figure()
    for x, text in ask(this, script, states=states_of(this, 200), width=width):
        assert text.startswith("total variation distance ")
        assert float(x) + 7.5 * len(text) < width  # a letter of the bold font is 7.5 wide
