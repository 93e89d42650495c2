"""The proposition `ece-errors`: The two errors of the calibration error."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from fractions import Fraction
from itertools import combinations_with_replacement
from typing import NamedTuple

import pytest
import scipy.optimize
import scipy.stats
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor

from omnivault.calibration import expected_calibration_error
from tests.chapters.calibration.common import U
from tests.support.strategies import assert_within, double, total


class Claim(NamedTuple):
    """Some inputs of one confidence."""

    weight: Fraction
    confidence: Fraction
    right: Fraction
    """The probability that the choice is right."""


Group = Callable[[Fraction], Hashable]


def equal_width(bins: int) -> Group:
    return lambda confidence: min(math.floor(confidence * bins), bins - 1)


@st.composite
def claim_lists(draw: DrawFn, max_size: int = 5, calibrated: bool = False) -> list[Claim]:
    """Confidences in sixteenths: products with the number of bins are exact in float64 as well."""
    sixteenths = st.integers(1, 16)
    rows = draw(
        st.lists(
            st.tuples(st.integers(1, 4), sixteenths, st.integers(0, 6)),
            min_size=1,
            max_size=max_size,
        )
    )
    everything = sum(weight for weight, _, _ in rows)
    return [
        Claim(
            Fraction(weight, everything),
            Fraction(c, 16),
            Fraction(c, 16) if calibrated else Fraction(right, 6),
        )
        for weight, c, right in rows
    ]


def mean_differences(claims: list[Claim], group: Group) -> dict[Hashable, Fraction]:
    """P(B = b) E[E | B = b] for every bin, E being 1 or 0 as the choice is right, minus C."""
    sums: defaultdict[Hashable, Fraction] = defaultdict(Fraction)
    for weight, confidence, right in claims:
        sums[group(confidence)] += weight * (right - confidence)
    return dict(sums)


def true_error(claims: list[Claim], group: Group) -> Fraction:
    """The mean of |E[E | B]|."""
    return total(abs(value) for value in mean_differences(claims, group).values())


def each_its_own(confidence: Fraction) -> Hashable:
    return confidence


def two_claims(low: int, right: Fraction, high: int, wrong: Fraction) -> list[Claim]:
    """Confidences in sixteenths, equally often, and how often each is right."""
    half = Fraction(1, 2)
    return [Claim(half, Fraction(low, 16), right), Claim(half, Fraction(high, 16), wrong)]


NEVER, HALF_THE_TIME, ALWAYS = Fraction(0), Fraction(1, 2), Fraction(1)


@st.composite
def partitions(draw: DrawFn) -> dict[Fraction, int]:
    """Bins that need not be intervals."""
    numbers = draw(st.lists(st.integers(0, 3), min_size=16, max_size=16))
    return {Fraction(i + 1, 16): number for i, number in enumerate(numbers)}


@pytest.mark.statement("ece-errors", "exact")
@given(claim_lists(), st.integers(1, 20), st.integers(1, 4))
@example(two_claims(3, ALWAYS, 5, NEVER), 2, 2)
def test_binning_hides_and_splitting_hides_less(claims: list[Claim], bins: int, parts: int) -> None:
    coarse, fine = (true_error(claims, equal_width(n)) for n in (bins, bins * parts))
    assert coarse <= fine <= true_error(claims, each_its_own)
    # With 32 bins no two sixteenths share one, 15/16 and 1 included.
    assert true_error(claims, equal_width(32)) == true_error(claims, each_its_own)


@pytest.mark.statement("ece-errors", "exact")
@given(claim_lists(), partitions(), partitions())
def test_so_do_bins_of_any_shape(
    claims: list[Claim], first: dict[Fraction, int], second: dict[Fraction, int]
) -> None:
    coarse = true_error(claims, lambda c: first[c])
    split = true_error(claims, lambda c: (first[c], second[c]))
    unbinned = true_error(claims, each_its_own)
    assert coarse <= split <= unbinned
    # Equal if and only if no bin mixes confidences that are too high with some that are too low.
    signs: defaultdict[int, set[bool]] = defaultdict(set)
    for confidence, difference in mean_differences(claims, each_its_own).items():
        assert isinstance(confidence, Fraction)
        if difference != 0:
            signs[first[confidence]].add(difference > 0)
    assert (coarse == unbinned) == all(len(both) == 1 for both in signs.values())


@pytest.mark.statement("ece-errors", "exact")
def test_more_bins_that_do_not_split_the_old_ones_can_hide_more() -> None:
    claims = two_claims(7, ALWAYS, 9, NEVER)
    assert true_error(claims, equal_width(2)) == Fraction(9, 16)
    assert true_error(claims, equal_width(3)) == 0
    assert true_error(claims, equal_width(4)) == Fraction(9, 16)


CLASSES = 20


def as_probabilities(confidences: Sequence[Fraction]) -> Tensor:
    """Rows whose first class has the given probability, and the other 19 what is left in parts.

    It is the largest as long as it is above 1/20.
    """
    first = double([float(c) for c in confidences]).unsqueeze(-1)
    return torch.cat([first, ((1 - first) / (CLASSES - 1)).expand(-1, CLASSES - 1)], -1)


@pytest.mark.statement("ece-errors", "exact")
@given(claim_lists(), st.integers(1, 20))
# The second stands at the border between two bins, and belongs to the upper one.
@example(two_claims(7, ALWAYS, 8, NEVER), 2)
def test_on_all_of_a_population_the_package_computes_what_binning_leaves(
    claims: list[Claim], bins: int
) -> None:
    # As many inputs as it takes for every share to come true exactly.
    size = math.lcm(*(claim.weight.denominator for claim in claims)) * 6
    confidences: list[Fraction] = []
    labels: list[int] = []
    for weight, confidence, right in claims:
        n = int(weight * size)
        assert right * n == int(right * n)
        confidences += [confidence] * n
        labels += [0] * int(right * n) + [1] * (n - int(right * n))
    error = expected_calibration_error(as_probabilities(confidences), torch.tensor(labels), bins)
    # Sixteenths add exactly: what is rounded are two quotients a bin, and a sum of 20 bins.
    assert_within(error, true_error(claims, equal_width(bins)), 32 * U)


Outcome = tuple[Fraction, int]


def outcomes(claims: list[Claim]) -> dict[Outcome, Fraction]:
    """(C, right or not) with its probability."""
    table: defaultdict[Outcome, Fraction] = defaultdict(Fraction)
    for weight, confidence, right in claims:
        table[confidence, 1] += weight * right
        table[confidence, 0] += weight * (1 - right)
    return {outcome: p for outcome, p in table.items() if p > 0}


def computed_error(sample: Sequence[Outcome], bins: int) -> Fraction:
    """The ECE of a sample: n_b |acc_b - conf_b| / N, summed."""
    groups: defaultdict[Hashable, list[Outcome]] = defaultdict(list)
    for confidence, right in sample:
        groups[equal_width(bins)(confidence)].append((confidence, right))
    return total(
        Fraction(len(members), len(sample))
        * abs(
            Fraction(sum(right for _, right in members), len(members))
            - total(confidence for confidence, _ in members) / len(members)
        )
        for members in groups.values()
    )


def samples(claims: list[Claim], n: int) -> Iterable[tuple[tuple[Outcome, ...], Fraction]]:
    """Every sample of n independent inputs up to its order, with its probability."""
    table = outcomes(claims)
    for sample in combinations_with_replacement(table, n):
        orders = math.factorial(n)
        for count in Counter(sample).values():
            orders //= math.factorial(count)
        yield sample, orders * math.prod((table[o] for o in sample), start=Fraction(1))


def expected_error(claims: list[Claim], n: int, bins: int) -> Fraction:
    table = list(samples(claims, n))
    assert total(p for _, p in table) == 1
    return total(p * computed_error(sample, bins) for sample, p in table)


@pytest.mark.statement("ece-errors", "exact")
@settings(max_examples=60)
@given(claim_lists(3), st.integers(1, 4), st.sampled_from([1, 2, 3, 5, 15]))
def test_sampling_exaggerates(claims: list[Claim], n: int, bins: int) -> None:
    expected = expected_error(claims, n, bins)
    assert expected >= true_error(claims, equal_width(bins))
    if n == 1:
        # Of one input it is the mean of |E|, whatever the bins.
        assert expected == total(w * (right * (1 - c) + (1 - right) * c) for w, c, right in claims)
    if all(right == 0 for _, _, right in claims):
        # E has one sign, so that nothing cancels: the only error is the true one.
        assert expected == true_error(claims, each_its_own)


@pytest.mark.statement("ece-errors", "exact")
@settings(max_examples=60)
@given(claim_lists(3, calibrated=True), st.integers(1, 4), st.sampled_from([1, 2, 3, 5, 15]))
def test_even_for_a_calibrated_model_unless_it_is_certain(
    claims: list[Claim], n: int, bins: int
) -> None:
    assert true_error(claims, each_its_own) == 0
    expected = expected_error(claims, n, bins)
    certain = all(claim.confidence == 1 for claim in claims)
    assert (expected > 0) == (not certain)
    assert (expected == 0) == certain


@pytest.mark.statement("ece-errors", "exact")
@settings(max_examples=25)
@given(claim_lists(2), st.integers(1, 3), st.integers(1, 16))
@example(two_claims(7, HALF_THE_TIME, 8, HALF_THE_TIME), 3, 2)
def test_the_package_computes_these_errors(claims: list[Claim], n: int, bins: int) -> None:
    mean = 0.0
    for sample, p in samples(claims, n):
        confidences, right = zip(*sample, strict=True)
        labels = torch.tensor([0 if r else 1 for r in right])
        error = expected_calibration_error(as_probabilities(confidences), labels, bins)
        assert_within(error, computed_error(sample, bins), 32 * U)
        mean += float(p) * error
    # Up to 20 samples are added.
    assert_within(mean, expected_error(claims, n, bins), 64 * U)
    assert mean >= float(true_error(claims, equal_width(bins))) - 64 * U


@pytest.mark.statement("ece-errors", "exact", "scipy")
@pytest.mark.parametrize("n", [1, 2, 5, 16, 40])
@pytest.mark.parametrize("sixteenths", [1, 8, 13, 15, 16])
def test_of_one_confidence_chance_makes_the_mean_deviation_of_a_binomial(
    sixteenths: int, n: int
) -> None:
    c = Fraction(sixteenths, 16)
    expected = expected_error([Claim(Fraction(1), c, c)], n, 15)
    hits = scipy.stats.binom(n, float(c))
    deviation = sum(float(hits.pmf(k)) * abs(k / n - float(c)) for k in range(n + 1))
    # Powers of n factors and a sum of n terms.
    assert_within(deviation, expected, rel=64 * (n + 1) * U)
    # De Moivre's closed form.
    if c < 1:
        k = math.floor(n * c) + 1
        assert expected == 2 * k * math.comb(n, k) * c**k * (1 - c) ** (n - k + 1) / n


@pytest.mark.statement("ece-errors", "exact")
def test_without_independence_a_calibrated_model_may_show_no_error() -> None:
    # Two inputs of confidence 1/2, of which always exactly one is right.
    half = Fraction(1, 2)
    assert computed_error([(half, 1), (half, 0)], 15) == 0
    assert expected_error([Claim(Fraction(1), half, half)], 2, 15) == Fraction(1, 4)
    probs = as_probabilities([half, half])
    assert expected_calibration_error(probs, torch.tensor([0, 1])) == 0.0
