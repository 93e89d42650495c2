"""The proposition `linear-regions`: The regions of decision."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.classification.common import Model, logits, models, whole
from tests.support.strategies import double, temperatures


def strictly_most_probable(model: Model, x: Tensor, temperature: float = 1.0) -> int | None:
    """The class whose region of decision holds x, if one does."""
    p = softmax(logits(model, x), temperature=temperature)
    winners = (p == p.max()).nonzero().flatten().tolist()
    return int(winners[0]) if len(winners) == 1 else None


def in_all_half_spaces(model: Model, x: Tensor, k: int) -> bool:
    """Whether <w_k - w_j, x> + b_k - b_j > 0 for all j other than k, in exact arithmetic."""
    weight = [[Fraction(v) for v in row] for row in model[0].tolist()]
    bias = [Fraction(v) for v in model[1].tolist()]
    point = [Fraction(v) for v in x.tolist()]

    def gap(j: int) -> Fraction:
        normal_vector = [p - q for p, q in zip(weight[k], weight[j], strict=True)]
        inner = sum((a * v for a, v in zip(normal_vector, point, strict=True)), Fraction(0))
        return inner + bias[k] - bias[j]

    return all(gap(j) > 0 for j in range(len(bias)) if j != k)


@pytest.mark.statement("linear-regions", "exact")
@given(models(max_classes=5), st.data(), st.lists(temperatures(), min_size=2, max_size=4))
def test_a_region_is_the_intersection_of_the_half_spaces_at_every_temperature(
    model: Model, data: st.DataObject, several: list[float]
) -> None:
    for x in data.draw(whole(3, model[0].shape[1])):
        winner = strictly_most_probable(model, x)
        for k in range(len(model[1])):
            assert (winner == k) == in_all_half_spaces(model, x, k)
        # On a border, where the largest logits tie, x is in no region, whatever T is.
        assert (winner is None) == (int((logits(model, x) == logits(model, x).max()).sum()) > 1)
        for temperature in several:
            assert strictly_most_probable(model, x, temperature) == winner


@pytest.mark.statement("linear-regions")
@given(models(max_classes=3), st.data())
def test_regions_are_convex(model: Model, data: st.DataObject) -> None:
    points = data.draw(whole(5, model[0].shape[1]))
    winners = [strictly_most_probable(model, x) for x in points]
    for u, k in zip(points, winners, strict=True):
        for v, j in zip(points, winners, strict=True):
            if k is not None and k == j:
                for eighths in range(1, 8):
                    between = eighths / 8 * u + (1 - eighths / 8) * v
                    assert strictly_most_probable(model, between) == k


Number = float | Fraction


def interval(weight: list[int], bias: list[int], k: int) -> tuple[Number, Number] | None:
    """Where class k wins on the line: its ends, or nothing."""
    low: Number = -math.inf
    high: Number = math.inf
    for j, (w, b) in enumerate(zip(weight, bias, strict=True)):
        slope, level = weight[k] - w, bias[k] - b
        if slope > 0:
            low = max(low, Fraction(-level, slope))
        elif slope < 0:
            high = min(high, Fraction(-level, slope))
        elif j != k and level <= 0:
            return None
    return (low, high) if low < high else None


@pytest.mark.statement("linear-regions", "exact")
@settings(max_examples=50)
@given(st.integers(1, 5), st.data(), temperatures(0.5, 2.0))
def test_on_a_line_regions_are_open_intervals_with_the_ends_solved_for(
    k: int, data: st.DataObject, temperature: float
) -> None:
    numbers = st.lists(st.integers(-4, 4), min_size=k, max_size=k)
    weight, bias = data.draw(numbers), data.draw(numbers)

    def winner(x: Fraction) -> int | None:
        # Times the denominator all is an integer, so that ties are exact.
        numerator, denominator = x.numerator, x.denominator
        scaled = double(weight) * numerator, double(bias) * denominator
        one = torch.ones(1, dtype=torch.float64)
        model = scaled[0].unsqueeze(-1), scaled[1]
        return strictly_most_probable(model, one, temperature * denominator)

    intervals = {j: interval(weight, bias, j) for j in range(k)}
    ends_of_all = [end for ends in intervals.values() if ends for end in ends]
    borders = {end for end in ends_of_all if isinstance(end, Fraction)}
    points = borders | {
        x + step for x in borders for step in (Fraction(-1, 1000), Fraction(1, 1000))
    }
    points |= {Fraction(x) for x in range(-9, 10)}
    for x in sorted(points):
        inside = [j for j, ends in intervals.items() if ends and ends[0] < x < ends[1]]
        assert inside == ([] if winner(x) is None else [winner(x)])
    if len(set(zip(weight, bias, strict=True))) == k:
        # No two classes always tie: the line is made of the intervals and their ends.
        assert sum(ends is not None for ends in intervals.values()) == len(borders) + 1


EVERYTHING, NOTHING = [True] * 5, [False] * 5


@pytest.mark.statement("linear-regions")
@pytest.mark.parametrize("temperature", [0.1, 1.0, 50.0])
@pytest.mark.parametrize(
    ("weight", "bias", "inside"),
    [
        pytest.param([3], [-7], [EVERYTHING], id="one class"),
        pytest.param([2, 2], [1, 0], [EVERYTHING, NOTHING], id="equal rows"),
        pytest.param([2, 2], [1, 1], [NOTHING, NOTHING], id="equal classes"),
        pytest.param(
            [1, -1],
            [0, 0],
            [[False, False, False, True, True], [True, True, False, False, False]],
            id="two half-lines",
        ),
        pytest.param(
            # Both half-spaces of class 2 are there, x > 1 and x < -1, and do not meet.
            [-1, 0, 1],
            [0, -1, 0],
            [[True, True, False, False, False], NOTHING, [False, False, False, True, True]],
            id="an empty intersection",
        ),
        pytest.param(
            [-1, 0, 1],
            [0, 1, 0],
            [
                [True, False, False, False, False],
                [False, False, True, False, False],
                [False, False, False, False, True],
            ],
            id="an interval between two",
        ),
    ],
)
def test_shapes_of_regions(
    weight: list[int], bias: list[int], inside: list[list[bool]], temperature: float
) -> None:
    model = double(weight).unsqueeze(-1), double(bias)
    for i, x in enumerate([-2.0, -1.0, 0.0, 1.0, 2.0]):
        winner = strictly_most_probable(model, double([x]), temperature)
        assert [winner == k for k in range(len(bias))] == [row[i] for row in inside]


@pytest.mark.statement("linear-regions")
def test_logits_that_are_not_affine_have_regions_that_are_not_convex() -> None:
    def winner(x: float) -> int:
        return int(softmax(double([x * x, 1.0])).argmax())

    assert [winner(x) for x in (-2.0, 0.0, 2.0)] == [0, 1, 0]
