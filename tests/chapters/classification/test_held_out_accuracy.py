"""The proposition `held-out-accuracy`: What held-out accuracy measures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import permutations, product

import pytest
import scipy.optimize
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from omnivault.softmax import softmax
from tests.chapters.classification.common import U, digits, generator
from tests.support.strategies import assert_within

# The probability with which a test with random draws would fail at another seed, at most.
FALSE_ALARM = 1e-6
Pair = tuple[int, int]
Population = dict[Pair, Fraction]
Classifier = dict[int, int]


@st.composite
def populations(draw: DrawFn, max_pairs: int = 4) -> Population:
    """Pairs of an input and a label with their probabilities."""
    pairs = st.tuples(st.integers(0, 2), st.integers(0, 2))
    weights = draw(st.dictionaries(pairs, st.integers(1, 3), min_size=1, max_size=max_pairs))
    return {pair: Fraction(w, sum(weights.values())) for pair, w in weights.items()}


def classifiers() -> SearchStrategy[Classifier]:
    labels = st.lists(st.integers(0, 2), min_size=3, max_size=3)
    return labels.map(lambda values: dict(enumerate(values)))


def samples(population: Population, n: int) -> Iterator[tuple[tuple[Pair, ...], Fraction]]:
    """Every sample of n independent pairs, with its probability."""
    for sample in product(population, repeat=n):
        yield sample, math.prod((population[pair] for pair in sample), start=Fraction(1))


def share_right(classifier: Classifier, sample: Sequence[Pair]) -> Fraction:
    return Fraction(sum(classifier[x] == y for x, y in sample), len(sample))


def true_accuracy(classifier: Classifier, population: Population) -> Fraction:
    return sum((p for (x, y), p in population.items() if classifier[x] == y), Fraction(0))


def mean_and_variance(
    values: Iterable[tuple[Fraction, Fraction]],
) -> tuple[Fraction, Fraction]:
    """Of a random number, given as its values with their probabilities."""
    table = list(values)
    assert sum(p for _, p in table) == 1
    mean = sum((p * value for value, p in table), Fraction(0))
    return mean, sum((p * (value - mean) ** 2 for value, p in table), Fraction(0))


@pytest.mark.statement("held-out-accuracy", "exact")
@given(populations(), classifiers(), st.integers(1, 4))
def test_over_all_samples_the_accuracy_has_the_stated_mean_and_variance(
    population: Population, classifier: Classifier, n: int
) -> None:
    a = true_accuracy(classifier, population)
    mean, variance = mean_and_variance(
        (share_right(classifier, sample), p) for sample, p in samples(population, n)
    )
    assert mean == a
    assert variance == a * (1 - a) / n
    assert variance <= Fraction(1, 4 * n)
    assert (variance == Fraction(1, 4 * n)) == (a == Fraction(1, 2))


@pytest.mark.statement("held-out-accuracy", "exact", "scipy")
@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("right", [0, 1, 2, 3, 4])
def test_at_the_ends_and_in_the_middle(right: int, n: int) -> None:
    # Four equally likely inputs, of which the classifier knows the first few.
    population = {(x, 0): Fraction(1, 4) for x in range(4)}
    classifier = {x: 0 if x < right else 1 for x in range(4)}
    table = [(share_right(classifier, sample), p) for sample, p in samples(population, n)]
    a = right / 4
    binomial = scipy.stats.binom(n, a)
    for hits in range(n + 1):
        p = sum((p for share, p in table if share == Fraction(hits, n)), Fraction(0))
        # From Boost's incomplete beta function, off by up to 43 eps for small arguments.
        assert_within(float(binomial.pmf(hits)), p, rel=100 * U)
    mean, variance = mean_and_variance(table)
    assert_within(float(binomial.mean()) / n, mean, rel=4 * U)
    assert_within(float(binomial.var()) / n**2, variance, rel=8 * U)
    assert (variance == 0) == (right in (0, 4))


@pytest.mark.statement("held-out-accuracy", "exact")
@given(populations(), classifiers(), st.integers(2, 4))
def test_of_dependent_pairs_the_mean_holds_and_the_variance_does_not(
    population: Population, classifier: Classifier, n: int
) -> None:
    a = true_accuracy(classifier, population)
    # One pair n times over.
    mean, variance = mean_and_variance(
        (share_right(classifier, [pair] * n), p) for pair, p in population.items()
    )
    assert mean == a
    assert variance == a * (1 - a)
    # Without replacement from m equally likely pairs: less by (m - n) / (m - 1).
    m = len(population)
    if n <= m and m > 1:
        right = [classifier[x] == y for x, y in population]
        orders = list(permutations(right, n))
        mean, variance = mean_and_variance(
            (Fraction(sum(order), n), Fraction(1, len(orders))) for order in orders
        )
        a = Fraction(sum(right), m)
        assert mean == a
        assert variance == a * (1 - a) / n * Fraction(m - n, m - 1)


@pytest.mark.statement("held-out-accuracy", "exact")
@settings(max_examples=40)
@given(populations(3), st.integers(1, 3), st.integers(1, 2))
def test_a_memory_is_measured_by_new_pairs_and_not_by_its_own(
    population: Population, n: int, n_test: int
) -> None:
    # It answers with the first label that it saw, and 0 where it saw none.
    estimates: list[tuple[Fraction, Fraction]] = []
    truth = Fraction(0)
    for sample, p in samples(population, n):
        memory = dict.fromkeys(range(3), 0) | dict(reversed(sample))
        a = true_accuracy(memory, population)
        truth += p * a
        estimates.append((share_right(memory, sample), p))
        # Given the memory, the classifier is fixed.
        mean, variance = mean_and_variance(
            (share_right(memory, test), q) for test, q in samples(population, n_test)
        )
        assert mean == a
        assert variance == a * (1 - a) / n_test
    own, spread = mean_and_variance(estimates)
    assert own >= truth
    if len({x for x, _ in population}) == len(population):
        # Each input has one label: its own pairs are always right, and never tell what it misses.
        assert own == 1
        assert spread == 0
        # What is left unseen may have a label other than 0, unless there is but one pair.
        assert (truth < 1) == (len(population) > 1 and any(y for _, y in population))


@pytest.mark.statement("held-out-accuracy", "statistical", false_alarm=6e-6)
@pytest.mark.parametrize("size", [1, 7, 50])
def test_test_sets_drawn_from_the_digits_have_the_stated_distribution(size: int) -> None:
    # The images are all there is; a softmax regression that nobody trained decides.
    x, y = digits()
    centers = torch.stack([x[y == k].mean(0) for k in range(10)])
    right = softmax(x @ centers.T - (centers**2).sum(-1) / 2).argmax(-1) == y
    hits = int(right.sum())
    assert 200 < hits < 300
    repeats = 20_000
    drawn = torch.randint(0, len(y), (repeats, size), generator=generator(1))
    counts = right[drawn].sum(-1)
    # Exact for the mean; other seeds would fail with a probability of at most FALSE_ALARM.
    test = scipy.stats.binomtest(int(counts.sum()), repeats * size, hits / len(y))
    assert test.pvalue > FALSE_ALARM
    # And the counts themselves, hence the variance, with rare ones taken together.
    expected = repeats * scipy.stats.binom(size, hits / len(y)).pmf(range(size + 1))
    rare = expected < 50
    seen = torch.bincount(counts, minlength=size + 1).numpy()
    f_obs = [*seen[~rare], seen[rare].sum()] if rare.any() else list(seen)
    f_exp = [*expected[~rare], expected[rare].sum()] if rare.any() else list(expected)
    assert scipy.stats.chisquare(f_obs, f_exp).pvalue > FALSE_ALARM
