from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree

import entmax as peer
import pytest
import torch
from torch import Tensor

from omnivault.entmax import entmax
from omnivault.live.one_problem import one_problem
from omnivault.softmax import softmax
from tests.support.live import State, ask, assert_near, sentences, shown, some_states

NAMES = ("a", "b", "c")
UNIFORM = "uniform"
TO_A, TO_B, TO_C = (
    f"leans to {n}: {numbers}"
    for n, numbers in zip(NAMES, ("0.6, 0.2, 0.2", "0.2, 0.6, 0.2", "0.2, 0.2, 0.6"), strict=True)
)
Seen = list[tuple[State, dict[str, Any]]]
REFERENCES = {
    UNIFORM: (1 / 3, 1 / 3, 1 / 3),
    TO_A: (0.6, 0.2, 0.2),
    TO_B: (0.2, 0.6, 0.2),
    TO_C: (0.2, 0.2, 0.6),
}
ALONG = [float(f"{0.01 * 1e5 ** (i / 120):.3g}") for i in range(121)]
EDGES: list[State] = [
    {"a": a, "b": b, "c": c, "temperature": t, "alpha": alpha, "q": q}
    for a, b, c in [(0, 0, 0), (3, 3, -3), (-3, 3, -3), (2.9, 3, -3), (-3, -3, -3), (0.1, -3, 3)]
    for t in (0.05, 20)
    for alpha in (1, 1.05, 1.5, 2)
    for q in (UNIFORM, TO_A)
]


def double(x: object) -> Tensor:
    return torch.as_tensor(x, dtype=torch.float64)


def logits(state: State) -> Tensor:
    return double([state[name] for name in NAMES])


def reference(state: State) -> Tensor:
    return double(REFERENCES[state["q"]])


def gradient(p: Tensor, alpha: float) -> Tensor:
    """Gradient of Omega; at a zero of p it is -inf for alpha = 1 and 0 otherwise."""
    return p.log() + 1 if alpha == 1 else torch.pow(p, alpha - 1) / (alpha - 1)


def divergence(p: Tensor, q: Tensor, alpha: float) -> Tensor:
    """Bregman divergence of Omega, as it is defined."""

    def omega(p: Tensor) -> Tensor:
        """Term by term, without the constant."""
        if alpha == 1:
            return torch.xlogy(p, p)
        return torch.pow(p, alpha) / (alpha * (alpha - 1))

    return (omega(p) - omega(q) - (p - q) * gradient(q, alpha)).sum(-1)


def objective(p: Tensor, state: State) -> Tensor:
    t: float = state["temperature"]
    return p @ logits(state) - t * divergence(p, reference(state), state["alpha"])


def solve(state: State, temperatures: Tensor) -> Tensor:
    """One row for each temperature; -inf is a logit that has fallen out of reach."""
    alpha = state["alpha"]
    moved = logits(state) / temperatures[:, None] + gradient(reference(state), alpha)
    return entmax(moved, alpha)


def at_zero(state: State) -> Tensor:
    """As T goes to 0 only the tied largest logits are left, and the reference decides."""
    z = logits(state)
    left = gradient(reference(state), state["alpha"]).where(z == z.max(), -math.inf)
    return entmax(left, state["alpha"])


@pytest.fixture(scope="module")
def seen() -> Seen:
    figure = one_problem()
    return shown(figure, some_states(figure, 150) + EDGES)


def test_probabilities_and_path(seen: Seen) -> None:
    for state, values in seen:
        assert_near(values["q"], reference(state))
        assert_near(values["limit"], at_zero(state))
        [p] = solve(state, double([state["temperature"]]))
        assert_near(values["probs"], p)

        leaves = [t for t in values["leaves"] if t is not None]
        inner = solve(state, double(sorted([*ALONG, *leaves])))
        path = double(values["path"])
        assert_near(path, torch.cat([at_zero(state)[None], inner, reference(state)[None]]))
        # The line has no visible jump at its ends: at most 2 pixels of 320.
        assert (path[1] - path[0]).abs().max() < 0.005
        assert (path[-2] - path[-1]).abs().max() < 0.005


def test_probabilities_are_those_of_the_package_entmax(seen: Seen) -> None:
    for state, values in seen:
        moved = logits(state) / state["temperature"] + gradient(reference(state), state["alpha"])
        if state["alpha"] > 1:
            assert_near(values["probs"], peer.entmax_bisect(moved, state["alpha"]))
        if state["alpha"] == 2:
            assert_near(values["probs"], peer.sparsemax(moved))


def test_softmax_keeps_the_reference_and_the_uniform_one_has_no_effect(seen: Seen) -> None:
    for state, values in seen:
        z, t = logits(state), state["temperature"]
        if state["alpha"] == 1:
            assert_near(values["probs"], softmax(z / t + reference(state).log()))
        if state["q"] == UNIFORM:
            assert_near(values["probs"], entmax(z, state["alpha"], temperature=t))


def test_terms_of_the_objective(seen: Seen) -> None:
    for state, values in seen:
        p, z = double(values["probs"]), logits(state)
        assert values["support"] == int((p > 0).sum())
        assert_near(values["score"], p @ z)
        assert_near(values["loss"], z.max() - p @ z)
        away = divergence(p, reference(state), state["alpha"])
        assert_near(values["penalty"], state["temperature"] * away)
        assert_near(values["objective"], objective(p, state))
        if state["alpha"] == 1:
            total = torch.logsumexp(z / state["temperature"] + reference(state).log(), 0)
            assert_near(values["objective"], state["temperature"] * total)


def test_no_other_point_is_better(seen: Seen) -> None:
    """The objective is concave: p is its maximum if no direction into the simplex leads upward."""
    for state, values in seen:
        p, alpha, t = double(values["probs"]), state["alpha"], state["temperature"]
        slope = logits(state) - t * (gradient(p, alpha) - gradient(reference(state), alpha))
        # An error d of p_i is one of at most T d / p_i of the slope: T is at most 20, d a few
        # roundings, 2^-50. Slopes at smaller p_i are not known well enough.
        within = 20 * 2.0**-50 / 1e-6
        large = slope[p > 1e-6]
        assert_near(large, large.max().expand_as(large), within)
        assert (slope[p == 0] <= large.max() + within).all()


def test_temperatures_at_which_tokens_are_ruled_out(
    seen: Seen,
) -> None:
    for state, values in seen:
        z, alpha, leaves = logits(state), state["alpha"], values["leaves"]
        never = [alpha == 1 or bool(zi == z.max()) for zi in z]
        assert [t is None for t in leaves] == never
        for i, t in enumerate(leaves):
            if t is not None:
                colder, warmer = solve(state, double([t * (1 - 1e-6), t * (1 + 1e-6)]))
                assert colder[i] == 0
                assert warmer[i] > 0
        if sum(never) > 1:
            assert values["corner_temperature"] is None
            continue
        first = int(z.argmax())
        gaps = 1 + reference(state) ** (alpha - 1) - reference(state)[first] ** (alpha - 1)
        corner = ((alpha - 1) * (z[first] - z) / gaps)[[i for i in range(3) if i != first]].min()
        assert_near(values["corner_temperature"], corner)
        if state["q"] == UNIFORM:
            first, second, _ = z.sort(descending=True).values
            assert_near(values["corner_temperature"], (alpha - 1) * (first - second))


def test_contours(seen: Seen) -> None:
    corner = torch.eye(3).double()
    edges = [(0, 1), (1, 2), (2, 0)]
    border = torch.stack(
        [corner[i] + k / 18 * (corner[j] - corner[i]) for i, j in edges for k in range(18)]
    )
    for state, values in seen:
        p = double(values["probs"])
        most, least = objective(p, state), objective(corner, state).min()
        for k, (level, points) in enumerate(values["contours"], 1):
            assert_near(level, most - (k / 6) ** 2 * (most - least))
            line = double(points)
            assert line.shape == (54, 3)
            # On the way from the solution to the border, whole or in part.
            whole = ((border - p) ** 2).sum(1).clamp(1e-300)
            share = (((line - p) * (border - p)).sum(1) / whole).clamp(0, 1)
            assert_near(line, p + share[:, None] * (border - p))
            cut = objective(border, state) < level
            assert_near(objective(line[cut], state), double(level).expand(int(cut.sum())))
            assert_near(line[~cut], border[~cut])
        assert len(values["contours"]) == 5


@pytest.mark.parametrize(
    ("alpha", "pairs", "q"),
    [
        (2, [(1, 0), (2.3, 1.3), (0.1, -0.9), (-1.1, -2.1)], UNIFORM),
        (1.5, [(2, 0), (2.3, 0.3), (-0.7, -2.7)], UNIFORM),
        (1.2, [(3, -2), (2.3, -2.7), (2.9, -2.1)], UNIFORM),
        (2, [(0.6, 0), (2.3, 1.7), (-0.2, -0.8)], TO_A),  # 1 + 0.2 - 0.6
        (2, [(1.4, 0), (0.1, -1.3)], TO_B),
    ],
)
def test_a_token_at_the_border_is_ruled_out(
    alpha: float, pairs: list[tuple[float, float]], q: str
) -> None:
    """At T = 1 the second logit is exactly so far behind; one step nearer, it is not."""
    base: State = {"c": -3, "alpha": alpha, "temperature": 1, "q": q}
    figure = one_problem()
    for a, b in pairs:
        at, nearer = figure.values(base | {"a": a, "b": b}, base | {"a": a, "b": round(b + 0.1, 1)})
        assert at["support"] == 1
        assert at["probs"][1:] == [0, 0]
        assert_near(at["corner_temperature"], 1)
        assert nearer["support"] == 2


def test_equal_logits_leave_the_reference() -> None:
    base: State = {"a": 1, "b": 1, "c": 1}
    for q, p in REFERENCES.items():
        for alpha in (1, 1.35, 2):
            [values] = one_problem().values(base | {"q": q, "alpha": alpha, "temperature": 0.05})
            assert values["probs"] == values["limit"] == list(p)
            assert (values["score"], values["penalty"], values["objective"]) == (1, 0, 1)
            assert values["leaves"] == [None] * 3


def test_button_ties_the_two_largest() -> None:
    states: list[State] = [
        {"a": 1, "b": 0.5, "c": -0.5},
        {"a": -1, "b": 0.5, "c": 2.5},
        {"a": 2, "b": -1, "c": 2},
    ]
    script = 'states.map((s) => figure.controls(data).find((c) => c.type === "button").press(s))'
    for state, tie in zip(states, ask(one_problem(), script, states=states), strict=True):
        before, after = sorted(state.values()), {**state, **tie}
        assert sorted(after.values()) == [before[0], before[2], before[2]]


def test_alpha_has_the_values_with_a_name() -> None:
    [alpha] = [c for c in one_problem().controls if c.get("name") == "alpha"]
    assert {1, 1.25, 1.5, 1.75, 2} <= set(alpha["values"])
    assert (min(alpha["values"]), max(alpha["values"])) == (1, 2)


def test_sentence() -> None:
    states: list[State] = [
        {},
        {"alpha": 1},
        {"temperature": 20},
        {"b": 1, "q": TO_A},
        {"b": -0.5},
        {"a": 3, "b": 0, "c": -3, "temperature": 0.05},
        {"b": 1, "c": 1, "q": TO_B},
        {"alpha": 1, "b": 1, "q": TO_B},
    ]
    start, soft, hot, tied, two, cold, same, edge = sentences(one_problem(), states)
    assert start == (
        "At \u03b1 = 2 and T = 1 the probabilities of a, b and c are 0.75, 0.25, 0: "
        "c is ruled out. The mean logit, 0.875, less T \u00d7 divergence from q, 0.146, "
        "is as large as can be. "
        "As T falls, c is ruled out at T = 2.5 and b at T = 0.5; "
        "from there on the point is in corner a."
    )
    assert "are 0.547, 0.331, 0.122: no token is ruled out." in soft
    assert "point comes near corner a, but softmax rules out no token at any T." in soft
    assert "no token is ruled out. The mean" in hot
    # On the edge the nearest point to (0.6, 0.2) is (0.7, 0.3).
    assert "are 0.7, 0.3, 0: c is ruled out." in tied
    assert "c is ruled out at T = 5; from there on the point is 0.7, 0.3, 0." in tied
    assert "As T falls, b and c are ruled out at T = 1.5; from there" in two
    assert "are 1, 0, 0: b and c are ruled out." in cold
    assert "are 0.2, 0.6, 0.2: no token is ruled out." in same
    assert same.endswith("All logits are equal: the point is q at every T.")
    assert "the point comes near 0.25, 0.75, 0, but softmax" in edge


def test_no_number_shows_rounding() -> None:
    base: State = {"temperature": 1, "alpha": 2, "q": TO_C}
    states: list[State] = [
        base | {"a": 1.2, "b": 0.3, "c": 0.2},  # (0.8, 0, 0.2)
        base | {"a": 0.2, "b": -0.7, "c": -0.8},
        {"a": 1.2, "b": 1.6, "c": 3, "temperature": 0.05, "q": TO_B},
        {"a": -1.4, "b": -1.3, "c": 1.8, "temperature": 3.31},
        {"a": -1, "b": -3, "c": -3, "alpha": 1, "temperature": 0.05},
    ]
    states += [
        {"a": 1, "b": -3, "c": -3, "temperature": 16},  # (1/2, 1/4, 1/4)
        {"a": 1, "b": -3, "c": 0.2, "temperature": 16, "q": TO_B},
        {"a": 1, "b": -3, "c": -2, "temperature": 6.5},
    ]
    one, zero, leaving, paid, far, *means = sentences(one_problem(), states)
    assert "The mean logit, 1, less" in one
    assert "The mean logit, 0, less" in zero
    assert "b at T = 1; from there" in leaving
    assert "divergence from q, 1, is" in paid
    # Below the largest logit by 4 exp(-40).
    assert f"logit, -1 - {4 * math.exp(-40):.3g}, less" in far.translate({0x2212: "-", 0xA0: " "})
    for words, mean in zip(means, ("\N{MINUS SIGN}1", "\N{MINUS SIGN}1", "0"), strict=True):
        assert f"The mean logit, {mean}, less" in words


@pytest.mark.parametrize("width", [680, 342])
def test_picture_tells_0_from_what_is_nearly_0(width: int) -> None:
    states: list[State] = [
        {},
        {"alpha": 1, "temperature": 0.05},
        {"alpha": 1.5, "a": 3},
        {"a": 1, "b": -3, "c": -3, "alpha": 1, "temperature": 0.05},
    ]
    script = """states.map((s) => ({ ...start, ...s }))
        .map((s) => figure.draw(data, s, figure.compute(data, s), width).svg)"""
    drawn = ask(one_problem(), script, states=states, width=width)
    texts = [
        [t.text for t in ElementTree.fromstring(f"<g>{svg}</g>").iter("text")] for svg in drawn
    ]
    one, soft, between, far = texts
    assert {"sparsemax, T = 1", "0.750", "0.250", "0", "0.875", "0.146"} <= set(one)
    # exp(-10) and exp(-30), to two digits
    assert {"softmax, T = 0.05", "4.5e\N{MINUS SIGN}5", "9.4e\N{MINUS SIGN}14"} <= set(soft)
    assert "0" not in soft
    assert {"entmax, T = 1", "1"} <= set(between)
    assert between.count("0") == 2
    # The mean logit is below 1 by 8 exp(-80), the sum of both others.
    assert f"1 \N{MINUS SIGN} {8 * math.exp(-80):.3g}".replace("e-", "e\N{MINUS SIGN}") in [
        (t or "").replace("\u00a0", " ") for t in far
    ]


@pytest.mark.parametrize(
    "bad",
    [(), (1.0, 2.0), (1.0, 2.0, 3.0, 0.0), (1.0, 0.0, 3.1), (-3.1, 0.0, 0.0), (0.0, 0.55, 1.0)]
    + [(0.0, x, 1.0) for x in (math.nan, math.inf, -math.inf)],
)
def test_refuses_other_logits(bad: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"three logits in \[-3, 3\], in steps of 0.1") as caught:
        one_problem(bad)
    assert str(list(bad)) in str(caught.value)


def test_starts_with_the_logits_given() -> None:
    figure = one_problem((0.1 + 0.2, -3, 3))
    assert [figure.state[name] for name in NAMES] == [0.3, -3, 3]
