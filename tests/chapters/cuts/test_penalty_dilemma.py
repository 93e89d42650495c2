"""The theorem `penalty-dilemma`: A penalty is blind to the level or to the temperature."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import RepetitionPenaltyLogitsProcessor

from omnivault.sampling import (
    dry_penalty,
    frequency_penalty,
    presence_penalty,
    repetition_penalty,
)
from tests.support.strategies import assert_within, unit

F = Fraction
Penalty = Callable[[Fraction], Fraction]
GRID = [F(n, 4) for n in range(-16, 17)]
HALVES = [F(s * 2**n) for n in range(-3, 4) for s in (-1, 1)] + [F(0)]


def blind_to_the_level(phi: Penalty) -> bool:
    """Whether the gap to a second token never changes with a shift of both."""
    return all(phi(x + c) - c == phi(x) for x in GRID for c in GRID if x + c in GRID)


def blind_to_the_temperature(phi: Penalty) -> bool:
    """Whether penalty and division may change places, for gaps to every second token."""
    both = [(x, t) for x in HALVES for t in (F(1, 2), F(2)) if x / t in HALVES]
    return all((phi(x) - z) / t == phi(x / t) - z / t for x, t in both for z in (F(0), F(1), F(-3)))


def repeated(theta: Fraction) -> Penalty:
    return lambda x: x / theta if x > 0 else x * theta


@pytest.mark.statement("penalty-dilemma", "exact")
@given(st.integers(-6, 6), st.sampled_from(GRID), st.integers(-6, 6))
def test_the_level_is_not_seen_by_a_bias_and_by_nothing_else(b: int, at: Fraction, d: int) -> None:
    """A bias that was changed in one place is none."""

    def phi(x: Fraction) -> Fraction:
        return x + F(b, 3) + (F(d, 3) if x == at else 0)

    assert blind_to_the_level(phi) == (d == 0)


@pytest.mark.statement("penalty-dilemma", "exact")
@given(st.integers(-6, 6), st.integers(-6, 6), st.sampled_from(HALVES), st.integers(-6, 6))
def test_the_temperature_is_not_seen_by_two_factors_and_by_nothing_else(
    plus: int, minus: int, at: Fraction, d: int
) -> None:
    def phi(x: Fraction) -> Fraction:
        return x * F(plus if x > 0 else minus, 2) + (F(d, 3) if x == at else 0)

    assert blind_to_the_temperature(phi) == (d == 0)


@pytest.mark.statement("penalty-dilemma", "exact")
@given(st.fractions(F(1, 4), 4, max_denominator=8), st.integers(-6, 6))
def test_of_both_kinds_only_what_changes_nothing_is_both(theta: Fraction, b: int) -> None:
    assert blind_to_the_temperature(repeated(theta))
    assert blind_to_the_level(repeated(theta)) == (theta == 1)
    assert blind_to_the_level(lambda x: x + b)
    assert blind_to_the_temperature(lambda x: x + b) == (b == 0)


IDS = torch.tensor([0, 2, 3, 0, 2])
PENALTIES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "repetition": (lambda z: repetition_penalty(z, IDS, 1.5), "temperature"),
    "presence": (lambda z: presence_penalty(z, IDS, 0.75), "level"),
    "frequency": (lambda z: frequency_penalty(z, IDS, 0.5), "level"),
    "DRY": (lambda z: dry_penalty(z, IDS, multiplier=0.5), "level"),
}


@pytest.mark.statement("penalty-dilemma", "transformers")
@pytest.mark.parametrize("name", PENALTIES)
def test_those_of_omnivault_are_each_of_one_kind(name: str) -> None:
    penalty, kind = PENALTIES[name]
    z = torch.tensor([1.0, 0.5, -2.0, 0.25, -0.5], dtype=torch.float64)

    def law(row: Tensor) -> Any:
        return row.softmax(-1)

    near = 32 * unit(torch.float64)
    for c in (-3.0, 0.5, 8.0):
        gap = (law(penalty(z + c)) - law(penalty(z))).abs().max()
        assert (gap < near) == (kind == "level"), c
    for t in (0.5, 4.0):
        gap = (law(penalty(z / t)) - law(penalty(z) / t)).abs().max()
        assert (gap < near) == (kind == "temperature"), t
    assert (law(penalty(z)) - law(z)).abs().max() > 0.01
    if name == "repetition":
        theirs: Any = RepetitionPenaltyLogitsProcessor(1.5)
        expected = theirs(IDS.unsqueeze(0), z.clone().unsqueeze(0))[0]
        assert_within(penalty(z), expected, 2 * unit(torch.float64))


@pytest.mark.statement("penalty-dilemma", "exact")
def test_two_rows_of_one_law_come_apart() -> None:
    theta, gap = F(13, 10), F(1, 2)
    # Of (x, x - 1/2) at x = 1 and x = -1: differences 10/13 - 1/2 and -13/10 + 3/2.
    after = [repeated(theta)(x) - (x - gap) for x in (F(1), F(-1))]
    assert after == [F(10, 13) - F(1, 2), F(1, 5)]
    assert after[0] != after[1]
