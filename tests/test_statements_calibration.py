from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from fractions import Fraction
from itertools import combinations_with_replacement, pairwise
from typing import Any, NamedTuple

import pytest
import scipy.optimize
import scipy.stats
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from mpmath import mp
from sklearn.linear_model import LogisticRegression
from strategies import (
    as_double,
    assert_within,
    double,
    exact_log_softmax,
    exact_softmax,
    log_softmax_bound,
    softmax_bound,
    temperatures,
    total,
    unit,
)
from torch import Tensor
from torch.nn import functional

from omnivault.calibration import expected_calibration_error, fit_temperature, reliability_bins
from omnivault.information import cross_entropy, entropy, kl_divergence
from omnivault.softmax import log_softmax, softmax

U = unit(torch.float64)

# What 50 digits leave of 1 - 1.
ZERO = mp.mpf(10) ** -45


pytestmark = pytest.mark.usefixtures("one_thread")


# The probability with which labels drawn from softmax would fail at another seed, at most.
FALSE_ALARM = 1e-6


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# confidence-calibration ---------------------------------------------------------------------------

Distribution = tuple[Fraction, ...]
Rule = Callable[[Distribution], int]


class Kind(NamedTuple):
    """A kind of input."""

    claim: Distribution
    """What the model answers to it."""
    counts: tuple[int, ...]
    """How many of each class there are among the inputs of this kind."""


Population = list[Kind]


def shares(counts: Sequence[int]) -> Distribution:
    return tuple(Fraction(n, sum(counts)) for n in counts)


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


# ece-errors ---------------------------------------------------------------------------------------


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


# best-temperature ---------------------------------------------------------------------------------

Labeled = tuple[Tensor, Tensor]


@st.composite
def labeled(draw: DrawFn, max_rows: int = 4, max_classes: int = 4, bound: int = 5) -> Labeled:
    """Rows of whole logits with labels; ties and constant rows are common."""
    n, k = draw(st.integers(1, max_rows)), draw(st.integers(1, max_classes))
    numbers = draw(st.lists(st.integers(-bound, bound), min_size=n * k, max_size=n * k))
    labels = draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))
    return double(numbers).reshape(n, k), torch.tensor(labels)


def exact_rows(data: Labeled, beta: Any) -> list[tuple[list[Any], list[Any], int]]:
    """Softmax of beta z, to 50 digits also for beta = 0; z; and the label."""
    table = []
    for row, label in zip(*(part.tolist() for part in data), strict=True):
        weights = [mp.exp(mp.mpf(beta) * (mp.mpf(z) - max(row))) for z in row]
        table.append(([w / mp.fsum(weights) for w in weights], row, label))
    return table


def exact_loss(data: Labeled, beta: Any) -> Any:
    """The function l(beta) of the theorem."""
    rows = exact_rows(data, beta)
    return mp.fsum(-mp.log(p[label]) for p, _, label in rows) / len(rows)


def exact_slope(data: Labeled, beta: Any) -> Any:
    """Mean expected logit minus mean logit of the labels; differences first, so none cancels."""
    rows = exact_rows(data, beta)
    return mp.fsum(
        a * (mp.mpf(x) - z[label]) for p, z, label in rows for a, x in zip(p, z, strict=True)
    ) / len(rows)


def exact_curvature(data: Labeled, beta: Any) -> Any:
    rows = exact_rows(data, beta)
    return mp.fsum(
        a * b * (mp.mpf(x) - y) ** 2 / 2
        for p, z, _ in rows
        for a, x in zip(p, z, strict=True)
        for b, y in zip(p, z, strict=True)
    ) / len(rows)


def three_means(data: Labeled) -> tuple[Fraction, Fraction, Fraction]:
    """Mean of all logits, of the labels' and of the largest."""
    rows = [[Fraction(x) for x in row] for row in data[0].tolist()]
    n = len(rows)
    return (
        total(total(row) / len(row) for row in rows) / n,
        total(row[label] for row, label in zip(rows, data[1].tolist(), strict=True)) / n,
        total(max(row) for row in rows) / n,
    )


def fit_bound(z: Tensor, y: Tensor, temperature: float, moved: float = 0.0) -> float:
    """Largest relative error of a root of the slope that was computed in float64.

    What rounding adds to the slope, over beta times the curvature, in units of T: the error of p
    times the gap, as in ``softmax_bound``; the means over the rows; and logits moved by ``moved``.
    """
    gaps = (z.amax(-1, keepdim=True) - z) / temperature
    p = torch.softmax(-gaps, -1)
    mean = (p * gaps).sum(-1, keepdim=True)
    variance = (p * (gaps - mean) ** 2).sum(-1).mean()
    of_p = (p * gaps * (3 * gaps + 3 * mean + 2 * z.shape[1] + 20)).sum(-1).mean()
    of_means = 2 * (len(z) + 2) * mean.mean()
    shifts = moved / temperature * (2 + variance.sqrt())
    return float((U * (of_p + of_means) + shifts) / variance)


def all_constant(z: Tensor) -> bool:
    return bool((z == z[:, :1]).all())


# Some rows are constant, and others are not.
MIXED = double([[3, 3, 3], [0, 2, 1]]), torch.tensor([0, 2])


@pytest.mark.statement("best-temperature", "exact", "torch")
@settings(max_examples=60)
@given(labeled(), st.floats(0.0, 3.0))
@example(MIXED, 1.0)
def test_slope_and_curvature_are_a_mean_gap_and_a_mean_variance(data: Labeled, beta: float) -> None:
    z, y = data
    at = torch.tensor(beta, dtype=torch.float64, requires_grad=True)
    value = functional.cross_entropy(at * z, y)
    (slope,) = torch.autograd.grad(value, at, create_graph=True)
    # With constant rows nothing depends on beta, which autograd may say in its own way.
    (curvature,) = torch.autograd.grad(slope, at)
    # The formulas, with the package's softmax; gaps up to 30, logits up to 5, squares up to 25.
    p = softmax(beta * z)
    mean = (p * z).sum(-1)
    allowed = 25 * (6 * 30 + 64) * U
    expected = (mean - z.gather(-1, y.unsqueeze(-1)).squeeze(-1)).mean()
    assert_within(slope.detach(), expected, allowed)
    assert_within(curvature, (p * (z - mean.unsqueeze(-1)) ** 2).sum(-1).mean(), allowed)
    # And both against 50 digits, where the curvature is seen to be positive.
    # Losses up to 32, and a mean of four.
    assert_within(value.item(), exact_loss(data, beta), 512 * U)
    assert_within(slope.item(), exact_slope(data, beta), allowed)
    assert_within(curvature.item(), exact_curvature(data, beta), allowed)
    assert (exact_curvature(data, beta) > 0) == (not all_constant(z))


@pytest.mark.statement("best-temperature", "exact")
@given(labeled(), st.lists(st.integers(0, 12), min_size=3, max_size=3, unique=True))
def test_the_loss_is_convex_and_strictly_so_unless_all_rows_are_constant(
    data: Labeled, quarters: list[int]
) -> None:
    low, between, high = (mp.mpf(n) / 4 for n in sorted(quarters))
    weight = (high - between) / (high - low)
    chord = weight * exact_loss(data, low) + (1 - weight) * exact_loss(data, high)
    slack = chord - exact_loss(data, between)
    if all_constant(data[0]):
        assert_within(slack, 0, ZERO)
        assert_within(exact_loss(data, low), mp.log(data[0].shape[1]), ZERO)
    else:
        # Gaps of 10 times a beta of 3: the curvature is at least exp(-30) / 16.
        assert slack > mp.mpf(10) ** -20


# What fit_temperature says where nothing is best.
COLDER, HOTTER = "as T -> 0", "T -> infinity"

# Gaps of 10 times 8: exp(-80) = 1e-35 is seen by 50 digits.
BETAS = (0.0, 1e-3, 0.1, 0.5, 1.0, 2.0, 8.0)


def root_of_slope(data: Labeled) -> float:
    high = 1.0
    while exact_slope(data, high) <= 0:
        high *= 2
    root = scipy.optimize.brentq(
        lambda beta: float(exact_slope(data, beta)), 0.0, high, xtol=1e-300, rtol=8 * U
    )
    return float(root)


@pytest.mark.statement("best-temperature", "exact")
@settings(max_examples=60)
@given(labeled())
def test_a_best_temperature_exists_if_and_only_if_the_labels_lie_between(data: Labeled) -> None:
    left, middle, right = three_means(data)
    assert left <= right
    assert middle <= right
    assert_within(exact_slope(data, 0), left - middle, ZERO)
    slopes = [exact_slope(data, beta) for beta in BETAS]
    if all_constant(data[0]):
        # All temperatures are equally good.
        assert left == middle == right
        assert slopes == [0] * len(BETAS)
    else:
        assert all(later > earlier for earlier, later in pairwise(slopes))
        # The limit, not reached.
        assert slopes[-1] < mp.mpf(right.numerator) / right.denominator - (
            mp.mpf(middle.numerator) / middle.denominator
        )
    if left < middle < right:
        best = root_of_slope(data)
        assert best > 0
        assert_within(fit_temperature(*data), 1 / best, rel=fit_bound(*data, 1 / best) + 16 * U)
        least = exact_loss(data, best)
        for beta in (*BETAS, best * 0.99, best * 1.01):
            assert exact_loss(data, beta) > least
        below, above = (exact_slope(data, factor * best) for factor in (0.99, 1.01))
        assert below < 0 < above
    else:
        with pytest.raises(ValueError, match=COLDER if middle == right else HOTTER):
            fit_temperature(*data)
        if not all_constant(data[0]):
            # Colder is always better, or hotter is.
            sign = -1 if middle == right else 1
            assert all(sign * slope > 0 for slope in slopes[1:])
            losses = [sign * exact_loss(data, beta) for beta in BETAS]
            assert all(later > earlier for earlier, later in pairwise(losses))


@pytest.mark.statement("best-temperature", "exact")
@pytest.mark.parametrize("gap", [0.01, 4.0, 300.0])
@pytest.mark.parametrize("wrong", range(11))
def test_of_two_classes_with_one_gap_between_none_and_half_may_be_wrong(
    wrong: int, gap: float
) -> None:
    z = double([[gap, 0.0]] * 10)
    y = torch.tensor([1] * wrong + [0] * (10 - wrong))
    left, middle, right = three_means((z, y))
    if 0 < wrong < 5:
        assert left < middle < right
        # softmax(z / T) = (1 - wrong / 10, wrong / 10), the share that is right.
        expected = gap / math.log((10 - wrong) / wrong)
        # The logarithm is at least 0.4, of a rounded quotient.
        rounding = fit_bound(z, y, expected) + 16 * U
        assert_within(fit_temperature(z, y), expected, rel=rounding)
    else:
        assert not left < middle < right
        with pytest.raises(ValueError, match=HOTTER if wrong else COLDER):
            fit_temperature(z, y)


@pytest.mark.statement("best-temperature", "exact")
@pytest.mark.parametrize(
    ("rows", "labels", "limit"),
    [
        pytest.param([[2, 1, 0]], [1], HOTTER, id="the label is the mean"),
        pytest.param([[2, 1.01, 0]], [1], None, id="a little above it"),
        pytest.param([[2, 0.99, 0]], [1], HOTTER, id="a little below it"),
        pytest.param([[2, 1.99, 0]], [1], None, id="a little below the largest"),
        pytest.param([[2, 2, 0]], [1], COLDER, id="tied for the largest"),
        pytest.param([[2, 2, 0], [2, 2, 0]], [0, 1], COLDER, id="tied, both ways"),
        pytest.param([[2, 1, 0]], [0], COLDER, id="the largest"),
        pytest.param([[2, 1, 0]], [2], HOTTER, id="the smallest"),
        pytest.param([[1, 0], [1, 0]], [0, 1], HOTTER, id="half right"),
        pytest.param([[1, 0]] * 9 + [[20, 0]], [0] * 9 + [1], HOTTER, id="nine of ten right"),
        pytest.param([[2, 0], [1, 0]], [0, 1], None, id="right by more than wrong"),
        pytest.param([[2, 0], [1, 0]], [1, 0], HOTTER, id="wrong by more than right"),
        pytest.param([[3, 3], [5, 0], [5, 0], [5, 0]], [0, 0, 0, 1], None, id="a constant row"),
        pytest.param([[3, 3], [5, 0]], [1, 0], COLDER, id="a constant row, no mistake"),
        pytest.param([[3, 3], [1, 1]], [0, 1], COLDER, id="constant rows"),
        pytest.param([[7], [-2]], [0, 0], COLDER, id="one class"),
    ],
)
def test_at_the_borders(rows: list[list[float]], labels: list[int], limit: str | None) -> None:
    data = double(rows), torch.tensor(labels)
    left, middle, right = three_means(data)
    assert (left < middle < right) == (limit is None)
    if limit is None:
        expected = 1 / root_of_slope(data)
        assert_within(fit_temperature(*data), expected, rel=fit_bound(*data, expected) + 16 * U)
    else:
        with pytest.raises(ValueError, match=limit):
            fit_temperature(*data)


@pytest.mark.statement("best-temperature")
@pytest.mark.parametrize("above", [1e-1, 1e-2, 1e-3])
def test_just_above_chance_the_best_temperature_is_far_away(above: float) -> None:
    data = double([[2.0, 1 + above, 0.0]]), torch.tensor([1])
    # The slope is -2/3 of that at beta = 0 and rises with Var = 2/3, up to the second order.
    assert_within(fit_temperature(*data), 1 / above, rel=above**2)


def ten_classes(seed: int, temperature: float) -> Labeled:
    z = 3 * torch.randn(300, 10, generator=generator(seed), dtype=torch.float64)
    p = torch.softmax(z / temperature, -1)
    return z, torch.multinomial(p, 1, generator=generator(seed + 1)).squeeze(-1)


@pytest.mark.statement("best-temperature", "scipy")
@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
@pytest.mark.parametrize("seed", [0, 10])
def test_the_best_temperature_against_a_minimizer_and_a_root_finder(
    seed: int, temperature: float
) -> None:
    z, y = ten_classes(seed, temperature)

    def value(beta: float) -> float:
        return functional.cross_entropy(beta * z, y).item()

    def slope(beta: float) -> float:
        p = torch.softmax(beta * z, -1)
        return float((p * z).sum(-1).mean() - z.gather(-1, y.unsqueeze(-1)).mean())

    fitted = fit_temperature(z, y)
    root = scipy.optimize.brentq(slope, 1e-3, 1e2, xtol=1e-14)
    # Here the logits are not shifted: their means are of larger numbers.
    of_means = 2 * len(z) * U * z.abs().max().item()
    p = softmax(z, temperature=fitted)
    curvature = ((p * z**2).sum(-1) - (p * z).sum(-1) ** 2).mean().item()
    rounding = 2 * fit_bound(z, y, fitted) / fitted + of_means / curvature
    assert_within(1 / fitted, root, rounding + 2e-14)
    found = scipy.optimize.minimize_scalar(value, bounds=(0, 20), method="bounded")
    # Where it stops; rounding, which it sees in steps of a third of that, moves it by less.
    assert_within(found.x, 1 / fitted, 1e-5)
    # Two means of 300 losses around 1.
    assert value(1 / fitted) <= found.fun + 4 * len(z) * U
    # The third part of the theorem.
    expected_logit = (p * z).sum(-1).mean()
    allowed = of_means + 2 * fit_bound(z, y, fitted) * curvature / fitted
    assert_within(expected_logit, z.gather(-1, y.unsqueeze(-1)).mean(), allowed)
    # One zero and no other: the slope increases.
    slopes = [slope(beta / 10) for beta in range(60)]
    assert all(later > earlier for earlier, later in pairwise(slopes))


@pytest.mark.statement("best-temperature", "sklearn")
def test_for_two_classes_it_is_the_weight_of_a_logistic_regression_without_intercept() -> None:
    z = 3 * torch.randn(500, 2, generator=generator(), dtype=torch.float64)
    y = torch.multinomial(torch.softmax(z / 1.7, -1), 1, generator=generator(1)).squeeze(-1)
    peer = LogisticRegression(C=math.inf, fit_intercept=False, solver="newton-cholesky", tol=1e-12)
    x = z[:, 1:] - z[:, :1]
    weight = float(peer.fit(x.numpy(), y.numpy()).coef_[0, 0])
    # It stops at a slope of 1e-12 at most, of a mean of 500 terms that is rounded.
    p = torch.sigmoid(weight * x)
    stop = 1e-12 + 2 * (len(z) + 20) * U * x.abs().mean().item()
    allowed = stop / (p * (1 - p) * x**2).mean().item() + fit_bound(z, y, 1 / weight) * weight
    assert_within(1 / fit_temperature(z, y), weight, allowed)


# log-loss-proper ----------------------------------------------------------------------------------


def simplex_weights(size: int) -> SearchStrategy[list[int]]:
    """Points of the simplex as whole weights: faces and corners included."""
    return st.lists(st.integers(0, 4), min_size=size, max_size=size).filter(lambda w: sum(w) > 0)


def exact_log_loss(q: Distribution, p: Distribution) -> Any:
    """E of -log p_Y for Y from q, one outcome after the other; those that do not occur add none."""
    terms = []
    for a, b in zip(q, p, strict=True):
        if a > 0:
            if b == 0:
                return mp.inf
            terms.append(
                mp.mpf(a.numerator) / a.denominator * -mp.log(mp.mpf(b.numerator) / b.denominator)
            )
    return mp.fsum(terms)


def floats(p: Distribution) -> Tensor:
    return double([float(x) for x in p])


@pytest.mark.statement("log-loss-proper", "exact", "scipy")
@given(st.integers(1, 5), st.data())
def test_no_claim_costs_less_than_the_truth(k: int, data: st.DataObject) -> None:
    q = shares(data.draw(simplex_weights(k)))
    p = q if data.draw(st.booleans()) else shares(data.draw(simplex_weights(k)))
    excess = exact_log_loss(q, p) - exact_log_loss(q, q)
    # Pinsker: half the squared distance. Equality if and only if the two are equal.
    distance = float(total(abs(a - b) for a, b in zip(q, p, strict=True)))
    assert excess >= distance**2 / 2
    assert (excess == 0) == (p == q)
    assert (excess == mp.inf) == any(a > 0 and b == 0 for a, b in zip(q, p, strict=True))
    # The same from the package and from scipy: a few roundings of terms below 10.
    log_loss, least = cross_entropy(floats(q), floats(p)), entropy(floats(q))
    assert_within(log_loss.item(), exact_log_loss(q, p), 128 * U)
    assert_within(least.item(), exact_log_loss(q, q), 128 * U)
    divergence = float(scipy.stats.entropy(floats(q).numpy(), floats(p).numpy()))
    assert_within(divergence, excess, 128 * U)
    assert_within(kl_divergence(floats(q), floats(p)).item(), excess, 128 * U)


@pytest.mark.statement("log-loss-proper", "torch")
@pytest.mark.parametrize(
    ("q", "p", "excess"),
    [
        pytest.param([1], [1], 0.0, id="one class"),
        pytest.param([1, 1], [1, 1], 0.0, id="the truth"),
        pytest.param([1, 0], [1, 0], 0.0, id="certain and right"),
        pytest.param([1, 0], [0, 1], math.inf, id="certain and wrong"),
        pytest.param([1, 1], [1, 0], math.inf, id="ruled out and occurs"),
        pytest.param([1, 0], [1, 1], math.log(2), id="does not occur and not ruled out"),
        pytest.param([1, 1, 0], [1, 1, 0], 0.0, id="neither occurs nor claimed"),
        pytest.param([1, 1, 0], [1, 3, 0], math.log(4 / 3) / 2, id="nor there, others wrong"),
        pytest.param([1, 1, 0], [1, 1, 2], math.log(2), id="half given away"),
        pytest.param([3, 1], [1, 1], math.log(2) - 0.5623351446188083, id="hesitant"),
    ],
)
def test_what_a_wrong_claim_costs(q: list[int], p: list[int], excess: float) -> None:
    truth, claim = floats(shares(q)), floats(shares(p))
    computed = (cross_entropy(truth, claim) - entropy(truth)).item()
    # Logarithms up to log 4, within 4 ulp, in two sums of three terms.
    assert_within(computed, excess, 32 * U)
    # The mean loss of labels that come up exactly as often as the truth says.
    labels = torch.tensor([k for k, n in enumerate(q) for _ in range(n)])
    mean = functional.nll_loss(claim.log().expand(len(labels), -1), labels)
    assert_within(mean.item(), excess + entropy(truth).item(), 32 * U)


@pytest.mark.statement("log-loss-proper", "scipy")
@pytest.mark.parametrize(
    ("q", "bounds"), [([3, 1], (0.01, 0.99)), ([1, 1], (0.01, 0.99)), ([1, 9], (0.01, 0.99))]
)
def test_a_minimizer_finds_the_truth(q: list[int], bounds: tuple[float, float]) -> None:
    truth = floats(shares(q))
    found = scipy.optimize.minimize_scalar(
        lambda a: cross_entropy(truth, double([a, 1 - a])).item(), bounds=bounds, method="bounded"
    )
    # Where it stops; rounding, which it sees in steps of a third of that, moves it by less.
    assert_within(found.x, truth[0].item(), 1e-5)


class Source(NamedTuple):
    """Rows of logits with whole weights."""

    z: Tensor
    weights: list[int]


@st.composite
def sources(draw: DrawFn) -> Source:
    z, _ = draw(labeled(3, bound=4))
    return Source(z, draw(st.lists(st.integers(1, 3), min_size=len(z), max_size=len(z))))


def exact_expected_loss(source: Source, true_temperature: float, temperature: float) -> Any:
    """E of -log softmax_T(z(X))_Y with Y from softmax at the true temperature."""
    terms = [
        w * a * -b
        for row, w in zip(source.z, source.weights, strict=True)
        for a, b in zip(
            exact_softmax(row, true_temperature), exact_log_softmax(row, temperature), strict=True
        )
    ]
    return mp.fsum(terms) / sum(source.weights)


@pytest.mark.statement("log-loss-proper", "exact")
@settings(max_examples=60)
@given(sources(), st.lists(st.integers(2, 16), min_size=2, max_size=4, unique=True))
@example(Source(MIXED[0], [3, 1]), [4, 2, 8])
def test_the_true_temperature_is_the_only_best_one_unless_all_rows_are_constant(
    source: Source, quarters: list[int]
) -> None:
    truth, *others = (n / 4 for n in quarters)
    least = exact_expected_loss(source, truth, truth)
    # It is a mean of entropies, at most log K.
    p = torch.stack([as_double(exact_softmax(row, truth)) for row in source.z])
    weight = double(source.weights) / sum(source.weights)
    assert_within((weight * entropy(p)).sum().item(), least, 64 * U)
    assert float(least) <= math.log(source.z.shape[1]) + 8 * U
    for other in others:
        excess = exact_expected_loss(source, truth, other) - least
        if all_constant(source.z):
            assert_within(excess, 0, ZERO)
        else:
            # Gaps of 8 over a T of 1/2: probabilities down to exp(-16).
            assert excess > mp.mpf(10) ** -12
        # The package's own, by the identity of cross-entropy.
        claim = softmax(source.z, temperature=other)
        computed = (weight * cross_entropy(p, claim)).sum().item()
        # Logarithms down to -17, of claims with exponents as large.
        assert_within(computed, excess + least, 512 * U)


@pytest.mark.statement("log-loss-proper", "scipy")
@pytest.mark.parametrize(
    "rows",
    [
        # The logits may be the same for every input, as long as they are not all equal.
        pytest.param([[2.0, 0.0]], id="one row"),
        pytest.param([[0.0, 2.0, 0.0]], id="one row, all but one equal"),
        pytest.param([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0]], id="a constant row beside it"),
        pytest.param([[1.0, 0.0], [0.0, 3.0], [0.5, 0.0]], id="several"),
    ],
)
@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_a_minimizer_finds_the_true_temperature(rows: list[list[float]], truth: float) -> None:
    z = double(rows)
    p = torch.softmax(z / truth, -1)

    def expected_loss(temperature: float) -> float:
        return -(p * log_softmax(z, temperature=temperature)).sum(-1).mean().item()

    found = scipy.optimize.minimize_scalar(expected_loss, bounds=(0.05, 20.0), method="bounded")
    # Where it stops; rounding, which it sees in steps of a third of that, moves it by less.
    assert_within(found.x, truth, 1e-5)
    # Two means of losses around 1, of three terms each.
    assert expected_loss(truth) <= found.fun + 64 * U


@pytest.mark.statement("log-loss-proper")
@pytest.mark.statement("best-temperature")
@settings(max_examples=40)
@given(
    st.integers(2, 4).flatmap(
        lambda k: st.lists(
            st.lists(st.integers(1, 5), min_size=k, max_size=k), min_size=1, max_size=3
        )
    ),
    temperatures(0.1, 10.0),
)
def test_labels_in_the_very_shares_of_softmax_give_its_temperature_back(
    rows: list[list[int]], truth: float
) -> None:
    assume(any(len(set(row)) > 1 for row in rows))
    # softmax_T(T log n) = n / sum n: each class as often as its weight says, each row in its turn.
    z = [[truth * math.log(n) for n in row] for row in rows for _ in range(sum(row))]
    labels = [k for row in rows for k, n in enumerate(row) for _ in range(n)]
    data = double(z), torch.tensor(labels)
    # Each logit is rounded three times, the logarithm within 2 u among them.
    moved = 4 * U * data[0].abs().max().item()
    assert_within(fit_temperature(*data), truth, rel=fit_bound(*data, truth, moved))
    # That the truth is a softmax of the logits puts the labels strictly between.
    left, middle, right = three_means(data)
    assert left < middle < right


@pytest.mark.statement("log-loss-proper", "statistical", false_alarm=2.2e-6)
@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_labels_drawn_at_a_temperature_give_it_back_within_its_error(truth: float) -> None:
    z = 2 * torch.randn(5000, 5, generator=generator(), dtype=torch.float64)
    drawn = torch.multinomial(torch.softmax(z / truth, -1), 1, generator=generator(1))
    beta = 1 / fit_temperature(z, drawn.squeeze(-1))
    p = softmax(beta * z)
    information = ((p * z**2).sum(-1) - (p * z).sum(-1) ** 2).sum().item()
    # Five standard errors: were the score exactly normal, other seeds would fail with a probability
    # of 6e-7. By saddlepoints of its own distribution it is up to 9e-7, and 2.2e-6 for all three.
    assert abs(beta - 1 / truth) < 5 / math.sqrt(information)
    assert information > 100 * truth**2


@pytest.mark.statement("log-loss-proper", "exact")
def test_at_every_other_temperature_the_package_shows_more_than_its_rounding() -> None:
    z = 3 * torch.randn(50, 6, generator=generator(), dtype=torch.float64)
    for row in z:
        q = torch.softmax(row / 2, -1)
        for temperature in (0.5, 1.0, 2.0, 4.0):
            log_p = log_softmax(row, temperature=temperature)
            excess = (-(q * log_p).sum() - entropy(q)).item()
            exact = [
                float(a * (mp.log(a) - b))
                for a, b in zip(
                    exact_softmax(row, 2.0), exact_log_softmax(row, temperature), strict=True
                )
            ]
            allowed = (q * log_softmax_bound(row, temperature)).sum().item() + 64 * U
            # d(-q log p + q log q) = (1 + log q - log p) dq.
            slopes = 1 + q.log().abs() + log_p.abs()
            allowed += (softmax_bound(row, 2.0) * slopes).sum().item()
            assert_within(excess, math.fsum(exact), allowed)
            assert (excess > allowed) == (temperature != 2.0)
