"""The theorem `who-gains`: Who gains."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.temperature.common import (
    EDGES,
    EXAMPLE,
    ZERO,
    exact_mean,
    is_constant,
    near_tied_rows,
    rising,
    row,
    slope_bound,
    slopes_of,
    softmax_at,
)
from tests.support.strategies import assert_within, exact_softmax, rows, temperatures


def kind_of(z: Tensor, i: int) -> str:
    """``top``, ``low`` (at most the mean) or ``middle``, without rounding."""
    mean = sum((Fraction(x) for x in z.tolist()), Fraction(0)) / len(z)
    if z[i] == z.max():
        return "top"
    return "low" if Fraction(z[i].item()) <= mean else "middle"


def exact_turning_point(z: Tensor, i: int) -> Any:
    """T with the expected logit z_i, by bisection; to 30 digits."""
    low, high = mp.mpf(-80), mp.mpf(80)
    target = mp.mpf(z[i].item())
    while high - low > mp.mpf(2) ** -60:
        middle = (low + high) / 2
        if exact_mean(z, mp.mpf(2) ** middle) > target:
            low = middle
        else:
            high = middle
    return mp.mpf(2) ** low


@pytest.mark.statement("who-gains", "exact")
@settings(max_examples=60)
@given(near_tied_rows(2, 5), rising())
def test_each_class_gains_and_loses_where_it_should(z: Tensor, several: list[float]) -> None:
    assume(not is_constant(z))
    k, m = len(z), int((z == z.max()).sum())
    distributions = [exact_softmax(z, t) for t in several]
    for i in range(k):
        path = [p[i] for p in distributions]
        steps = [later - earlier for earlier, later in itertools.pairwise(path)]
        kind = kind_of(z, i)
        if kind == "top":
            assert all(step < 0 for step in steps)
            assert all(mp.mpf(1) / k < a < mp.mpf(1) / m for a in path)
        elif kind == "low":
            assert all(step > 0 for step in steps)
            assert all(0 < a < mp.mpf(1) / k for a in path)
        else:
            turn = exact_turning_point(z, i)
            highest = exact_softmax(z, turn)[i]
            for (early, late), step in zip(itertools.pairwise(several), steps, strict=True):
                if late <= turn:
                    assert step > 0
                elif early >= turn:
                    assert step < 0
            assert all(0 < a < highest for a in path)
            # On the way down it stays above the limit.
            assert all(a > mp.mpf(1) / k for t, a in zip(several, path, strict=True) if t >= turn)


@pytest.mark.statement("who-gains", "exact")
@given(rows(2, 6, bound=10.0), temperatures(0.5, 50.0))
def test_the_slope_has_the_sign_of_the_expected_logit_less_the_own(
    z: Tensor, temperature: float
) -> None:
    mean = exact_mean(z, temperature)
    t = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    for x, slope in zip(z.tolist(), slopes_of(softmax_at(z, t), t).tolist(), strict=True):
        difference = float(mean - mp.mpf(x))
        # What rounding may turn: the error of a slope, like the slope, is proportional to p.
        if abs(difference) > slope_bound(10.0, temperature) * temperature**2:
            assert (slope > 0) == (difference > 0)


@pytest.mark.statement("who-gains", "exact")
@settings(max_examples=60)
@given(near_tied_rows(3, 6))
def test_turning_points_are_ordered_against_the_logits(z: Tensor) -> None:
    middle = [i for i in range(len(z)) if kind_of(z, i) == "middle"]
    assume(len(middle) >= 1)
    # One for each value: ties turn together.
    turns = {z[i].item(): exact_turning_point(z, i) for i in middle}
    in_order = [turns[x] for x in sorted(turns)]
    assert all(later < earlier for earlier, later in itertools.pairwise(in_order))
    for x, turn in turns.items():
        # It is one: the expected logit is there, above before, and below after.
        target = mp.mpf(x)
        assert_within(exact_mean(z, turn), target, mp.mpf(2) ** -50)
        assert (
            exact_mean(z, turn * mp.mpf("0.999")) > target > exact_mean(z, turn * mp.mpf("1.001"))
        )


@pytest.mark.statement("who-gains", "exact")
@pytest.mark.parametrize(
    "values",
    [
        EXAMPLE,
        [0.0, -1e-3, -5.0],
        [3.0, 3.0, 2.0, 1.0, -9.0],
        [5.0, 4.0, 4.0, -20.0],
        [1.0, 0.5, 0.25, 0.125, -3.0, -3.0],
    ],
    ids=["the example", "near tie", "tie at the top", "tie in the middle", "crowd"],
)
def test_computed_paths_turn_once_and_there(values: list[float]) -> None:
    z = row(values)
    grid = torch.logspace(-0.6, 2, 400, dtype=torch.float64)
    p = torch.stack([softmax(z, temperature=t) for t in grid.tolist()])
    turns = {}
    for i in range(len(z)):
        path = p[:, i]
        kind = kind_of(z, i)
        if kind == "top":
            # Close to 1 the steps are below rounding; what is lost there, the others show.
            clear = path[1:] < 1 - 1e-9
            assert bool((path.diff()[clear] < 0).all())
        elif kind == "low":
            assert bool((path.diff() > 0).all())
        else:
            turn = turns[values[i]] = float(exact_turning_point(z, i))
            steps = path.diff()
            before, after = grid[1:] <= turn, grid[:-1] >= turn
            # Next to the turning point a step may be lost in rounding.
            near = (grid[1:] / turn - 1).abs() < 0.01
            assert bool((steps[before & ~near] > 0).all())
            assert bool((steps[after & ~near] < 0).all())
            assert_within(grid[path.argmax()], turn, rel=0.02)
    assert sorted(turns, reverse=True) == sorted(turns, key=lambda x: turns[x])


@pytest.mark.statement("who-gains", "exact")
def test_the_turning_point_of_the_example() -> None:
    z = row(EXAMPLE)
    assert [kind_of(z, i) for i in range(5)] == ["low", "low", "low", "top", "middle"]
    turn = exact_turning_point(z, 4)
    # With x = exp(1 / T), the expected logit is 4 where x^4 = x^2 + 2 x + 3.
    x = mp.findroot(lambda x: x**4 - x**2 - 2 * x - 3, 1.7)
    assert_within(turn, 1 / mp.log(x), rel=mp.mpf(2) ** -60)
    t = torch.tensor(float(turn), dtype=torch.float64, requires_grad=True)
    slopes = slopes_of(softmax_at(z, t), t)
    assert_within(slopes[4], 0, slope_bound(5.0, float(turn)))
    assert slopes[3] < 0
    assert bool((slopes[:3] > 0).all())


@pytest.mark.statement("who-gains", "exact")
@pytest.mark.parametrize("excess", [1e-2, 1e-4, 1e-6])
def test_the_border_between_gaining_always_and_turning_is_the_mean(excess: float) -> None:
    # On the mean it gains at all temperatures, below it too.
    for lift in (0.0, -excess):
        z = row([3.0, lift, -2.0, -1.0 - lift])
        assert kind_of(z, 1) == "low"
        path = [exact_softmax(z, mp.mpf(10) ** power)[1] for power in range(-1, 12)]
        assert all(later > earlier for earlier, later in itertools.pairwise(path))
        assert path[-1] < mp.mpf(1) / 4
    # A hair above it turns, at Var / excess in first order: (9 + 4 + 1) / 4 / excess.
    z = row([3.0, excess, -2.0, -1.0 - excess])
    assert kind_of(z, 1) == "middle"
    turn = exact_turning_point(z, 1)
    assert_within(turn * excess, 3.5, rel=2 * excess)
    assert exact_softmax(z, turn)[1] > mp.mpf(1) / 4


@pytest.mark.statement("who-gains", "exact")
@pytest.mark.parametrize("gap", [1e-3, 1.0, 30.0])
def test_of_two_classes_none_turns(gap: float) -> None:
    z = row([0.0, -gap])
    assert [kind_of(z, i) for i in (0, 1)] == ["top", "low"]
    path = [exact_softmax(z, gap * mp.mpf(2) ** power) for power in range(-5, 20)]
    for earlier, later in itertools.pairwise(path):
        assert later[0] < earlier[0]
        assert later[1] > earlier[1]


@pytest.mark.statement("who-gains")
@given(st.integers(1, 8), st.floats(-1e3, 1e3), temperatures(), temperatures())
def test_without_differences_nobody_gains(
    k: int, level: float, first: float, second: float
) -> None:
    # The theorem asks for logits that are not constant, with reason.
    z = torch.full((k,), level, dtype=torch.float64)
    assert torch.equal(softmax(z, temperature=first), softmax(z, temperature=second))


@pytest.mark.statement("who-gains", "exact")
@pytest.mark.parametrize("values", EDGES)
def test_paths_begin_at_the_cold_limit_and_end_at_the_hot_one(values: list[float]) -> None:
    z = row(values)
    m = values.count(max(values))
    cold, hot = (exact_softmax(z, mp.mpf(10) ** power) for power in (-12, 60))
    for i, x in enumerate(values):
        assert_within(cold[i], mp.mpf(x == max(values)) / m, ZERO)
        assert_within(hot[i], mp.mpf(1) / len(z), ZERO)
