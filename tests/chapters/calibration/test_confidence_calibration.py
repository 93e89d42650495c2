"""The proposition `confidence-calibration`: Calibration of the confidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import pytest
import scipy.optimize
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor

from omnivault.calibration import expected_calibration_error, reliability_bins
from omnivault.softmax import softmax
from tests.chapters.calibration.common import Distribution, U, generator, shares
from tests.support.strategies import assert_within, double

# The probability with which labels drawn from softmax would fail at another seed, at most.
FALSE_ALARM = 1e-6
Rule = Callable[[Distribution], int]


class Kind(NamedTuple):
    """A kind of input."""

    claim: Distribution
    """What the model answers to it."""
    counts: tuple[int, ...]
    """How many of each class there are among the inputs of this kind."""


Population = list[Kind]


def given_claim(population: Population) -> dict[Distribution, Distribution]:
    """P(Y = k | p(X)) for every claim."""
    together: dict[Distribution, list[int]] = {}
    for claim, counts in population:
        before = together.get(claim, [0] * len(counts))
        together[claim] = [n + m for n, m in zip(before, counts, strict=True)]
    return {claim: shares(counts) for claim, counts in together.items()}


def is_calibrated(population: Population) -> bool:
    return all(claim == truth for claim, truth in given_claim(population).items())


def given_confidence(population: Population, rule: Rule) -> dict[Fraction, Fraction]:
    """P(Y is the choice | C) for every confidence C."""
    right: Counter[Fraction] = Counter()
    all_of_it: Counter[Fraction] = Counter()
    for claim, counts in population:
        right[max(claim)] += counts[rule(claim)]
        all_of_it[max(claim)] += sum(counts)
    return {c: Fraction(right[c], n) for c, n in all_of_it.items()}


def winners(claim: Distribution) -> list[int]:
    return [k for k, p in enumerate(claim) if p == max(claim)]


# Ways to settle ties, functions of the claim all of them.
RULES: dict[str, Rule] = {
    "the first": lambda claim: winners(claim)[0],
    "the last": lambda claim: winners(claim)[-1],
    "by the other probabilities": lambda claim: winners(claim)[
        hash(min(claim)) % len(winners(claim))
    ],
}


@st.composite
def populations(draw: DrawFn, max_classes: int = 4) -> Population:
    """A calibrated model: to each kind of a cell it answers with the shares in that cell."""
    k = draw(st.integers(1, max_classes))
    row = st.lists(st.integers(0, 3), min_size=k, max_size=k).filter(lambda n: sum(n) > 0)
    rows = draw(st.lists(row, min_size=1, max_size=6))
    cells = draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    kinds: Population = []
    for cell, counts in zip(cells, rows, strict=True):
        members = [n for c, n in zip(cells, rows, strict=True) if c == cell]
        claim = shares([sum(column) for column in zip(*members, strict=True)])
        kinds.append(Kind(claim, tuple(counts)))
    return kinds


def unfolded(population: Population) -> tuple[Tensor, Tensor]:
    """Every input of the population once: claims and labels."""
    rows = [claim for claim, counts in population for n in counts for _ in range(n)]
    labels = [k for _, counts in population for k, n in enumerate(counts) for _ in range(n)]
    return double([[float(p) for p in row] for row in rows]), torch.tensor(labels)


@pytest.mark.statement("confidence-calibration", "exact")
@settings(max_examples=60)
@given(populations())
def test_the_choice_of_a_calibrated_model_is_right_as_often_as_it_says(
    population: Population,
) -> None:
    assert is_calibrated(population)
    for rule in RULES.values():
        for confidence, right in given_confidence(population, rule).items():
            assert right == confidence
    # The package sees the same in any number of groups: means of up to 72 inputs are rounded.
    probs, labels = unfolded(population)
    for bins in (1, 3, 15, 1000):
        assert_within(expected_calibration_error(probs, labels, bins), 0, 96 * U)


@pytest.mark.statement("confidence-calibration", "exact")
@given(populations(), st.data())
def test_a_choice_that_is_less_often_right_shows_that_the_model_is_not_calibrated(
    population: Population, data: st.DataObject
) -> None:
    # Another answer to one kind; mostly that spoils the calibration, but not always.
    spoiled = data.draw(st.integers(0, len(population) - 1))
    claim = data.draw(st.sampled_from([kind.claim for kind in population]))
    changed = [
        kind._replace(claim=claim) if i == spoiled else kind for i, kind in enumerate(population)
    ]
    honest = all(
        right == confidence
        for rule in RULES.values()
        for confidence, right in given_confidence(changed, rule).items()
    )
    assert honest or not is_calibrated(changed)


def tenths(*numbers: int) -> Distribution:
    return tuple(Fraction(n, 10) for n in numbers)


def padded(kinds: Population, k: int) -> Population:
    """The same with further classes that never occur and are never claimed."""
    return [
        Kind(
            kind.claim + (Fraction(0),) * (k - len(kind.claim)),
            kind.counts + (0,) * (k - len(kind.counts)),
        )
        for kind in kinds
    ]


# The truth is the other way around.
EXAMPLE = [Kind(tenths(6, 4, 0), (6, 0, 4)), Kind(tenths(6, 0, 4), (6, 4, 0))]


# Two claims with one confidence, of which one promises too little and the other too much.
TWO_CLASSES = [Kind(tenths(6, 4), (8, 2)), Kind(tenths(4, 6), (6, 4))]


@pytest.mark.statement("confidence-calibration", "exact")
@pytest.mark.parametrize(
    "population",
    [
        pytest.param(EXAMPLE, id="the example"),
        pytest.param(padded(EXAMPLE, 4), id="four classes"),
        pytest.param(padded(EXAMPLE, 10), id="ten classes"),
        pytest.param([Kind(tenths(6, 4, 0), (6, 2, 2))], id="one kind"),
        pytest.param([Kind(tenths(4, 4, 2), (4, 2, 4))], id="a tie, settled for the first"),
        # For two classes one claim cannot lie where its confidence does not, but two can.
        pytest.param(TWO_CLASSES, id="two classes"),
    ],
)
def test_the_confidence_can_be_right_while_the_model_is_not_calibrated(
    population: Population,
) -> None:
    assert all(c == right for c, right in given_confidence(population, RULES["the first"]).items())
    assert not is_calibrated(population)
    probs, labels = unfolded(population)
    assert_within(expected_calibration_error(probs, labels), 0, 64 * U)


@pytest.mark.statement("confidence-calibration", "exact")
@given(st.lists(st.tuples(st.integers(10, 20), st.integers(0, 20)), min_size=1, max_size=5))
def test_of_two_classes_a_confidence_that_only_one_claim_has_tells_all(
    claims: list[tuple[int, int]],
) -> None:
    population = [
        Kind((Fraction(c, 20), Fraction(20 - c, 20)), (n, 20 - n)) for c, n in dict(claims).items()
    ]
    right = given_confidence(population, RULES["the first"])
    assert all(c == r for c, r in right.items()) == is_calibrated(population)


@pytest.mark.statement("confidence-calibration", "exact")
def test_with_one_class_there_is_nothing_to_get_wrong() -> None:
    population = [Kind((Fraction(1),), (3,)), Kind((Fraction(1),), (5,))]
    assert is_calibrated(population)
    assert given_confidence(population, RULES["the first"]) == {1: 1}


@pytest.mark.statement("confidence-calibration", "exact")
def test_a_tie_settled_by_more_than_the_claim_can_be_right_more_often() -> None:
    # Two kinds of input, each of one class, and the model answers one half to both.
    half = (Fraction(1, 2), Fraction(1, 2))
    population = [Kind(half, (1, 0)), Kind(half, (0, 1))]
    assert is_calibrated(population)
    assert given_confidence(population, RULES["the last"]) == {Fraction(1, 2): Fraction(1, 2)}
    # Whoever looks at the input itself picks its class.
    assert all(kind.counts[choice] == 1 for choice, kind in enumerate(population))


@pytest.mark.statement("confidence-calibration", "statistical", false_alarm=1e-6)
@pytest.mark.parametrize(("temperature", "kept"), [(1.0, True), (0.8, False), (1.25, False)])
def test_labels_drawn_from_softmax_make_its_confidence_right(
    temperature: float, kept: bool
) -> None:
    # Six rows with three confidences.
    table = double([[0, 1, 2], [2, 1, 0], [0, 0, 1], [1, 0, 0], [3, 0, 0], [0, 3, 0]])
    z = table[torch.randint(len(table), (60_000,), generator=generator())]
    truth = torch.softmax(z, -1)
    labels = torch.multinomial(truth, 1, generator=generator(1)).squeeze(-1)
    confidence, choice = softmax(z, temperature=temperature).max(-1)
    groups = reliability_bins(confidence, choice == labels, bins=1000)
    p_values = [
        float(scipy.stats.binomtest(round(n * frequency), n, claimed).pvalue)
        for n, claimed, frequency in zip(*(part.tolist() for part in groups), strict=True)
        if n
    ]
    assert len(p_values) == 3
    # Bonferroni: other seeds would fail with a probability of at most FALSE_ALARM.
    assert (min(p_values) * 3 > FALSE_ALARM) == kept
