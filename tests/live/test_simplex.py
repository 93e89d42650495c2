from __future__ import annotations

import math

import pytest
import torch

from omnivault.information import entropy
from omnivault.live.simplex import simplex
from omnivault.softmax import softmax
from tests.support.live import State, ask, assert_near, sentences, shown, some_states

NAMES = ("a", "b", "c")
EDGES: list[State] = [
    {"a": 1.3, "b": 1.3, "c": -0.2, "temperature": 0.05},
    {"a": -3, "b": 3, "c": 3, "temperature": 20},
    {"a": 3, "b": -3, "c": 3, "temperature": 0.05, "n": 1},
    {"a": 0, "b": 0, "c": 0, "temperature": 0.05, "n": 100},
    {"a": -3, "b": -3, "c": -3, "temperature": 20, "n": 5},
    {"a": -3, "b": 3, "c": -3, "temperature": 0.05, "n": 20},
    {"a": 2.9, "b": 3, "c": -3, "temperature": 0.05, "n": 100},
    {"a": -3, "b": -2.9, "c": 3, "temperature": 20, "n": 100},
    {"batch": 7},
]


def test_values_are_those_of_omnivault() -> None:
    figure = simplex()
    states = some_states(figure, 250, batch=range(50)) + EDGES
    # The temperatures along the path, as the figure rounds them.
    along = [float(f"{0.01 * 1e5 ** (i / 120):.3g}") for i in range(121)]
    for state, values in shown(figure, states):
        z = torch.tensor([state[name] for name in NAMES], dtype=torch.float64)
        p = softmax(z, temperature=state["temperature"])
        at_top = (z == z.max()).double()
        limit = at_top / at_top.sum()
        assert_near(values["probs"], p)
        assert_near(values["entropy"], entropy(p))
        assert_near(values["limit"], limit)

        path = torch.tensor(values["path"], dtype=torch.float64)
        between = torch.stack([softmax(z, temperature=T) for T in along])
        expected = torch.cat([limit[None], between, torch.full((1, 3), 1 / 3, dtype=torch.float64)])
        assert_near(path, expected)
        # The line has no visible jump at its ends: at most 2 pixels of 320.
        assert (path[1] - path[0]).abs().max() < 0.005
        assert (path[-2] - path[-1]).abs().max() < 0.005

        samples = torch.tensor(values["samples"], dtype=torch.float64)
        assert samples.shape == (100, 3)
        counts = samples * state["n"]
        assert_near(counts, counts.round())
        assert_near(samples.sum(1), torch.ones(100).double())
        assert_near(values["mean"], samples.mean(0))
        first = samples[:, int(z.argmax())]
        assert_near(values["spread"], torch.stack([first.min(), first.max()]))


@pytest.mark.parametrize(("n", "temperature"), [(1, 1), (5, 2.11), (20, 0.473), (100, 1)])
def test_samples_are_drawn_from_softmax(n: int, temperature: float) -> None:
    # Chi-square with 2 degrees of freedom exceeds c with probability exp(-c / 2). Three quantities
    # at four n, each with a false-alarm rate of at most 1e-6; the seeds are fixed.
    figure = simplex()
    state = {"n": n, "temperature": temperature}
    batches = figure.values(*(state | {"batch": batch} for batch in range(40)))
    p = torch.tensor(batches[0]["probs"], dtype=torch.float64)
    samples = torch.tensor([v["samples"] for v in batches], dtype=torch.float64).flatten(0, 1)
    total = len(samples) * n
    critical = -2 * math.log(1e-6)
    statistic = (total * (samples.mean(0) - p) ** 2 / p).sum()
    assert statistic < critical

    # Within the samples the counts are multinomial: n times the squared distance has mean K - 1.
    # Its variance is at most 2 (K - 1) + sum(1 / p) / n; 5 standard errors.
    distance = (n * (samples - p) ** 2 / p).sum(1)
    error = math.sqrt((4 + float((1 / p).sum()) / n) / len(samples))
    assert abs(distance.mean().item() - 2) < 5 * error

    # New batches are new, and samples do not repeat one another: the covariance of a sample with
    # the next one is 0.
    x = samples[:, 0] - p[0]
    lag = (x[1:] * x[:-1]).mean() / (p[0] * (1 - p[0]) / n)
    assert abs(lag.item()) < 5 / math.sqrt(len(samples))


def test_a_new_batch_and_only_that_changes_the_samples() -> None:
    first, again, other = simplex().values({}, {}, {"batch": 1})
    assert first == again
    assert first["samples"] != other["samples"]
    assert first["probs"] == other["probs"]


def test_buttons() -> None:
    states: list[State] = [
        {"a": 1, "b": 0.5, "c": -0.5, "batch": 0},
        {"a": -1, "b": 0.5, "c": 2.5, "batch": 3},
        {"a": 2, "b": -1, "c": 2, "batch": 0},
        {"a": 0, "b": 1, "c": 0, "batch": 0},
        {"a": 1, "b": 1, "c": 1, "batch": 0},
    ]
    script = (
        "states.map((s) => figure.controls(data)"
        '.filter((c) => c.type === "button").map((c) => c.press(s)))'
    )
    pressed = ask(simplex(), script, states=states)
    for state, (new, tie) in zip(states, pressed, strict=True):
        assert new == {"batch": state["batch"] + 1}
        before, after = sorted(state[n] for n in NAMES), {**state, **tie}
        assert sorted(after[n] for n in NAMES) == [before[0], before[2], before[2]]
        assert min(NAMES, key=lambda n: -state[n]) not in tie  # the largest stays


def test_sentence() -> None:
    figure = simplex()
    states: list[State] = [{}, {"b": 1}, {"a": -0.5, "b": -0.5, "n": 1}]
    one, two, three = sentences(figure, states)
    assert "a, b and c are 0.547, 0.331, 0.122; the entropy is 0.953 nats" in one
    assert "from corner a, as T → 0, to the center" in one
    assert "from the middle of the edge from a to b, as T → 0" in two
    assert "All logits are equal: the point is in the center at every T." in three
    low, high = figure.values({})[0]["spread"]
    assert f"the frequency of a ranges from {low:g} to {high:g}" in one
    k = round(100 * figure.values(states[2])[0]["mean"][0])
    assert f"Of 100 samples of 1 draw, {k} lie in corner a." in three


@pytest.mark.parametrize(
    "logits",
    [(), (1.0, 2.0), (1.0, 2.0, 3.0, 0.0), (1.0, 0.0, 3.1), (-3.1, 0.0, 0.0), (0.0, 0.55, 1.0)]
    + [(0.0, bad, 1.0) for bad in (math.nan, math.inf, -math.inf)],
)
def test_refuses_other_logits(logits: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"three logits in \[-3, 3\], in steps of 0.1") as caught:
        simplex(logits)
    assert str(list(logits)) in str(caught.value)


def test_starts_with_the_logits_given() -> None:
    figure = simplex((0.1 + 0.2, -3, 3))
    assert [figure.state[name] for name in NAMES] == [0.3, -3, 3]
