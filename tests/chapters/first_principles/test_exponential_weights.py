"""The theorem `exponential-weights`: Only the exponential ignores a common shift."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.first_principles.common import U
from tests.support.strategies import as_double, assert_within, rows, softmax_bound

Weight = Callable[[float], float]


def shares(f: Weight, scores: list[float]) -> list[float]:
    weights = [f(score) for score in scores]
    return [w / math.fsum(weights) for w in weights]


def largest_change(f: Weight, k: int) -> float:
    """How far adding a constant to all of ``k`` scores moves any share, over a grid of both."""
    changes = []
    for step in (0.5, 1.0, 2.0):
        scores = [step * i for i in range(k)]
        for c in (-3.0, -1.0, 0.5, 2.0):
            moved = shares(f, [score + c for score in scores])
            changes += [abs(a - b) for a, b in zip(shares(f, scores), moved, strict=True)]
    return max(changes)


@pytest.mark.statement("exponential-weights", "exact")
@given(
    rows(2, 6, bound=20.0),
    st.floats(-50.0, 50.0),
    st.floats(0.05, 5.0),
    st.floats(0.01, 100.0),
)
def test_shares_of_exponential_weights_do_not_move(
    z: Tensor, c: float, beta: float, scale: float
) -> None:
    def f(x: mp.mpf) -> mp.mpf:
        return scale * mp.exp(beta * x)

    scores = [mp.mpf(x) for x in z.tolist()]
    for moved in (scores, [x + mp.mpf(c) for x in scores]):
        everything = mp.fsum(f(x) for x in moved)
        p = softmax(z, temperature=1 / beta)
        # 1 / beta is rounded once more than the bound counts.
        gap = (z.max() - z) * beta
        bound = softmax_bound(z, 1 / beta) + p * U * (gap + (p * gap).sum())
        assert_within(p, as_double([f(x) / everything for x in moved]), bound)


@pytest.mark.statement("exponential-weights")
@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize(
    "f",
    [
        pytest.param(lambda x: math.log1p(math.exp(x)), id="softplus"),
        pytest.param(lambda x: 1 + math.tanh(x), id="1 + tanh"),
        pytest.param(lambda x: 2 + math.atan(x), id="2 + arctan"),
        pytest.param(lambda x: x + math.sqrt(x * x + 1), id="x + sqrt(x^2 + 1)"),
        pytest.param(lambda x: 1 + math.exp(x), id="1 + exp"),
        pytest.param(lambda x: math.exp(x) + math.exp(x / 2), id="two exponentials"),
        pytest.param(lambda x: math.exp(x**3 / 10), id="exp of a cube"),
        pytest.param(lambda x: math.exp(x + 0.1 * math.sin(x)), id="exp with a ripple"),
        pytest.param(lambda x: 1 / (1 + math.exp(-x)), id="sigmoid"),
    ],
)
def test_shares_of_any_other_increasing_weight_move(f: Weight, k: int) -> None:
    grid = [i / 8 for i in range(-48, 81)]
    weights = [f(x) for x in grid]
    # The candidate meets the hypotheses: it is positive and increasing where it is used.
    assert min(weights) > 0
    assert all(a < b for a, b in pairwise(weights))
    assert largest_change(f, k) > 0.01


@pytest.mark.statement("exponential-weights")
@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("beta", [0.2, 1.0, 3.0])
def test_the_same_search_finds_no_move_for_an_exponential(k: int, beta: float) -> None:
    # Exponents up to 3 * 10, each rounded by u relative to its size, a few roundings besides.
    assert_within(largest_change(lambda x: 2.5 * math.exp(beta * x), k), 0, 100 * U)


@pytest.mark.statement("exponential-weights")
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("k", [2, 4])
def test_a_rule_that_does_not_move_gives_back_an_exponential(temperature: float, k: int) -> None:
    def weight(x: float) -> float:
        """f(x) / f(0), read off the shares alone: the proof's way to the function."""
        p = softmax(
            torch.tensor([x, 0.0] + [0.0] * (k - 2), dtype=torch.float64), temperature=temperature
        )
        return (p[0] / p[1]).item()

    r = weight(1.0)
    assert r > 1
    for n in range(-8, 9):
        # Each weight is off by 11 u, an exponential (8 u) and three quotients: r, n times.
        assert_within(weight(float(n)), r**n, rel=12 * (abs(n) + 1) * U)
    for x in (0.5, 0.25, 0.125, -0.375):
        # Continuity carries the law from the integers to the fractions: f(x)^8 = f(8 x).
        assert_within(weight(x) ** 8, weight(8 * x), rel=12 * 9 * U)
    # 12 u in r is 12 u in its logarithm.
    assert_within(math.log(r), 1 / temperature, rel=(12 * temperature + 8) * U)
