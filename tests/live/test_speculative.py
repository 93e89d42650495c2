"""The speculative figure against torch, and its draws against the target."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from omnivault.live.figure import LiveFigure
from omnivault.live.speculative import speculative
from omnivault.softmax import softmax
from tests.support.live import assert_near, some_states

ALARM = 1e-6
"""Chance that a sound sampler fails one chi-square or binomial test, before the seed is fixed."""

T = torch.tensor([2.0, 1.2, 0.4, -0.5, -1.0])
D = torch.tensor([1.0, 1.5, 0.9, 0.2, -2.0])


def figure(target: Tensor = T, draft: Tensor = D) -> LiveFigure:
    return speculative(target, draft, [f"t{i}" for i in range(len(target))])


@pytest.mark.parametrize("seed", range(4))
def test_probabilities(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    k = (2, 5, 8, 8)[seed]
    scale = (1, 2, 10, 300)[seed]
    target, draft = scale * torch.randn(2, k, generator=generator, dtype=torch.float64)
    ends = [
        {"target_temperature": a, "draft_temperature": b}
        for a in (0.25, 1, 4)
        for b in (0.25, 1, 4)
    ]
    states = some_states(figure(), 60, seed, draws=[0]) + ends
    shown = figure(target, draft)
    for state, values in zip(states, shown.values(*states), strict=True):
        p = softmax(target / state["target_temperature"], dim=-1)
        q = softmax(draft / state["draft_temperature"], dim=-1)
        assert_near(values["p"], p)
        assert_near(values["q"], q)
        assert_near(values["overlap"], 1 - (p - q).abs().sum() / 2)
        excess = (p - q).clamp(min=0)
        assert_near(values["residual"], excess / excess.sum())
        assert values["emitted"] == [0] * k
        assert values["last"] is None


@pytest.mark.parametrize(
    ("target", "draft"),
    [(T, D), (D, T), (T[:2], D[:2]), (torch.linspace(2, -2, 8), torch.linspace(-2, 2, 8))],
)
def test_draws_have_the_distribution_of_the_target(target: Tensor, draft: Tensor) -> None:
    states = some_states(figure(), 12, len(target), draws=[20_000])
    for values in figure(target, draft).values(*states):
        p, q = torch.tensor(values["p"]), torch.tensor(values["q"])
        n = 20_000
        accepted, rejected = torch.tensor(values["accepted"]), torch.tensor(values["rejected"])
        redrawn, emitted = torch.tensor(values["redrawn"]), torch.tensor(values["emitted"])
        assert torch.equal(emitted, accepted + redrawn)
        assert int(emitted.sum()) == n
        assert int(rejected.sum()) == int(redrawn.sum())
        assert not rejected[p > q].any()
        assert not redrawn[p < q].any()
        for counts, probs in (
            (emitted, p),
            (accepted + rejected, q),  # what the draft proposed
            (torch.cat([accepted, redrawn]), torch.cat([p.minimum(q), (p - q).clamp(min=0)])),
        ):
            common = probs * n > 10
            rest = n * (1 - probs[common].sum().item())
            observed, expected = [*counts[common].tolist()], [*(n * probs[common]).tolist()]
            if rest > 10:
                observed.append(n - sum(observed))
                expected.append(rest)
            expected = [e * sum(observed) / sum(expected) for e in expected]
            if len(observed) > 1:
                assert stats.chisquare(observed, expected).pvalue > ALARM
        rate = stats.binomtest(int(accepted.sum()), n, min(values["overlap"], 1.0))
        assert rate.pvalue > ALARM


def test_equal_distributions_reject_nothing() -> None:
    for values in figure(T, T).values(*({"draws": n} for n in (1, 100, 20_000))):
        assert_near(values["overlap"], 1)
        assert sum(values["rejected"]) == sum(values["redrawn"]) == 0
        assert values["residual"] == [0] * 5
    state = {"target_temperature": 2, "draft_temperature": 1, "draws": 20_000}
    (values,) = figure(T, T / 2).values(state)  # equal but for rounding
    assert sum(values["accepted"]) == 20_000


def test_nearly_disjoint_distributions_accept_next_to_nothing() -> None:
    far = torch.tensor([40.0, 0.0, -40.0])
    for values in figure(far, far.flip(0)).values({"draws": 20_000}):
        assert values["overlap"] < 2 * math.exp(-40)  # the middle one under both
        assert_near(values["residual"], [1, 0, 0])
        assert values["redrawn"] == [20_000, 0, 0]
        assert values["rejected"] == [0, 0, 20_000]
        assert values["last"] == {"proposed": 2, "emitted": 0, "accepted": False}


def test_more_draws_go_on_from_those_before() -> None:
    results = figure().values(*({"draws": n} for n in range(200)))
    outcomes = set()
    for before, after in pairwise(results):
        change = {
            k: [b - a for a, b in zip(before[k], after[k], strict=True)]
            for k in ("accepted", "rejected", "redrawn", "emitted")
        }
        last = after["last"]
        one = [int(i == last["emitted"]) for i in range(5)]
        none = [0] * 5
        assert change["emitted"] == one
        assert change["accepted"] == (one if last["accepted"] else none)
        proposed = [int(i == last["proposed"]) for i in range(5)]
        assert change["rejected"] == (none if last["accepted"] else proposed)
        outcomes.add(last["accepted"])
    assert outcomes == {True, False}


def test_the_sentence() -> None:
    says = LiveFigure("speculative", "", figure().data, {"draws": 300}).says
    (values,) = figure().values({"draws": 300})
    assert "accepted with probability 0.67," in says
    assert f"Of 300 draws, {sum(values['accepted'])} were accepted" in says


@pytest.mark.parametrize(
    ("target", "draft", "error", "message"),
    [
        (T, D[:4], ValueError, r"draft must have the shape \(5,\) of the tokens.*got \(4,\)"),
        (torch.ones(9), torch.ones(9), ValueError, r"2 to 8; got \(9,\)"),
        (T.long(), D, TypeError, "target must be a floating-point tensor"),
        (T, [1.0] * 5, TypeError, "draft must be a floating-point tensor"),
        (T, D.index_fill(0, torch.tensor([1]), -torch.inf), ValueError, "logit of -30"),
    ],
)
def test_errors(target: Any, draft: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        speculative(target, draft, [f"t{i}" for i in range(len(target))])
