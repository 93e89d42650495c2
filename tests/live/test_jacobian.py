from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from omnivault.live.jacobian import jacobian
from omnivault.softmax import softmax, softmax_jacobian
from tests.support.live import State, ask, assert_near, sentences, some_states, uniforms
from tests.support.live import shown as shown_in

NAMES = ("a", "b", "c", "d")
MOST = 100_000


def states() -> list[State]:
    drawn = some_states(jacobian(), 200, seed=1, draws=[100, 110, 1100, 7230, MOST])
    edges: list[State] = [
        {},
        dict.fromkeys(NAMES, 1.5),  # all tied
        {"a": 2, "b": 2, "c": -4, "d": -4},
        *({"a": 4, "b": -4, "c": -4, "d": -4, "temperature": t} for t in (0.2, 5)),
        *({"temperature": t, "draws": n} for t in (0.2, 1, 5) for n in (100, 10_000, MOST)),
    ]
    return edges + drawn


@pytest.fixture(scope="module")
def shown() -> list[tuple[State, dict[str, Any]]]:
    return shown_in(jacobian(), states())


def test_probabilities_and_jacobian_are_those_of_omnivault(
    shown: list[tuple[State, dict[str, Any]]],
) -> None:
    for state, values in shown:
        z = torch.tensor([state[n] for n in NAMES], dtype=torch.float64)
        t = state["temperature"]
        assert_near(values["probs"], softmax(z, temperature=t))
        assert_near(values["jacobian"], softmax_jacobian(z, temperature=t))


def test_counts_are_those_of_inverse_cdf(
    shown: list[tuple[State, dict[str, Any]]],
) -> None:
    u = uniforms(MOST)
    for state, values in shown:
        z = torch.tensor([state[n] for n in NAMES], dtype=torch.float64)
        ends = softmax(z, temperature=state["temperature"]).cumsum(0)[:-1].numpy()
        n = state["draws"]
        classes = np.searchsorted(ends, u[:n], side="right")
        assert values["counts"] == np.bincount(classes, minlength=4).tolist()
        assert values["shares"] == [k / n for k in values["counts"]]


def test_covariance_is_that_of_one_hot_draws(
    shown: list[tuple[State, dict[str, Any]]],
) -> None:
    for state, values in shown:
        draws = np.eye(4)[np.repeat(np.arange(4), values["counts"])]
        covariance = np.cov(draws.T, bias=True) / state["temperature"]
        assert_near(values["covariance"], covariance)
        gap = np.abs(np.array(values["jacobian"]) - covariance).max()
        assert_near(values["largest"], gap)


def test_draws_follow_the_probabilities() -> None:
    """Chi-square of 100,000 draws in six states; false alarms at a rate of 6e-4 if they all agree.

    The states share their uniform numbers. The seed is fixed, so the result does not change.
    """
    logits = [
        (2, 1, 0, -1),
        (0, 0, 0, 0),
        (-4, 1, 2, 0),
        (1, -1, 1, -1),
        (4, 4, 3, 0),
        (0, 1, 2, 3),
    ]
    figure = jacobian()
    asked = [dict(zip(NAMES, z, strict=True)) | {"draws": MOST} for z in logits]
    for values in figure.values(*asked):
        expected = MOST * np.array(values["probs"])
        assert expected.min() > 5
        statistic = ((np.array(values["counts"]) - expected) ** 2 / expected).sum()
        assert statistic < chi2.isf(1e-4, 3)


def test_the_two_approach_each_other() -> None:
    """An entry of the covariance has a standard deviation below 1 / (2 sqrt(n) T); six allowed."""
    sizes = (100, 1000, 10_000, MOST)
    for n, values in zip(sizes, jacobian().values(*({"draws": n} for n in sizes)), strict=True):
        assert values["largest"] < 3 / n**0.5


def test_more_draws_keep_the_earlier_ones() -> None:
    before, after = jacobian().values({"draws": 100}, {"draws": 110})
    more = [j - i for i, j in zip(before["counts"], after["counts"], strict=True)]
    assert min(more) >= 0
    assert sum(more) == 10


def test_buttons_add_draws_up_to_the_most() -> None:
    pressed = ask(
        jacobian(),
        "[100, 99_500].map(draws => figure.controls(data).filter(c => c.type === 'button')"
        ".map(c => c.press({ draws })))",
    )
    assert pressed == [[{"draws": 110}, {"draws": 1100}], [{"draws": 99_510}, {"draws": MOST}]]


@pytest.mark.parametrize(
    ("state", "zero"), [({}, False), ({"d": -0.5}, True), ({"temperature": 0.2}, False)]
)
def test_rows_are_said_to_sum_to_zero_only_if_the_printed_ones_do(state: State, zero: bool) -> None:
    state = state | {"draws": 10}
    script = """(() => {
        const s = { ...start, ...state };
        return figure.draw(data, s, figure.compute(data, s), 680).svg;
    })()"""
    svg = ask(jacobian(), script, state=state)
    printed = re.findall(r'text-anchor="middle">([^<a-d]+)<', svg)
    assert len(printed) == 2 * 5 * 4
    entries = [Fraction(x.replace("\N{MINUS SIGN}", "-")) for x in printed]
    matrices = [*entries[:16], *entries[20:36]]
    rows = [matrices[i : i + 4] for i in range(0, 32, 4)]
    assert all(sum(row) == 0 for row in rows) is zero
    (says,) = sentences(jacobian(), [state])
    assert ("sums to 0" in says) is zero


def test_it_says_what_it_shows() -> None:
    says = jacobian().says
    for words in ("T = 1", "0.644, 0.237, 0.087 and 0.032", "0.229, 0.181, 0.080 and 0.031"):
        assert words in says
    for text in (jacobian().to_svg(), jacobian().to_html()):
        assert "NaN" not in text
        assert "undefined" not in text


@pytest.mark.parametrize(
    "logits", [(1.0, 2.0), (1.0, 2.0, 3.0, 4.1), (0.0, 0.0, 0.0, float("nan"))]
)
def test_other_logits_are_refused(logits: tuple[float, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"four logits in \[-4, 4\], in steps of 0.1, are needed, got \["
    ) as error:
        jacobian(logits)
    assert str(list(logits)) in str(error.value)
