from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise, permutations, product
from typing import Any

import pytest
import scipy.optimize
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from mpmath import mp
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from strategies import (
    as_double,
    assert_within,
    double,
    exact_log_softmax,
    exact_softmax,
    log_softmax_bound,
    softmax_bound,
    temperatures,
    unit,
)
from torch import Tensor
from torch.nn import functional

from omnivault.softmax import log_softmax, softmax

U = unit(torch.float64)


pytestmark = pytest.mark.usefixtures("one_thread")


# The probability with which a test with random draws would fail at another seed, at most.
FALSE_ALARM = 1e-6

Model = tuple[Tensor, Tensor]
Dataset = tuple[Tensor, Tensor]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


@cache
def digits(n: int = 300) -> Dataset:
    data = load_digits()
    order = torch.randperm(len(data.target), generator=generator())[:n]
    return torch.tensor(data.data)[order] / 16, torch.tensor(data.target)[order]


def whole(*shape: int, bound: int = 4) -> SearchStrategy[Tensor]:
    """Integer-valued tensors: their products and sums are exact."""
    size = math.prod(shape)
    return st.lists(st.integers(-bound, bound), min_size=size, max_size=size).map(
        lambda values: double(values).reshape(shape)
    )


@st.composite
def models(
    draw: DrawFn, min_classes: int = 1, max_classes: int = 4, max_features: int = 3
) -> Model:
    k, d = draw(st.integers(min_classes, max_classes)), draw(st.integers(1, max_features))
    return draw(whole(k, d)), draw(whole(k))


@st.composite
def datasets(draw: DrawFn, classes: int, features: int, max_size: int = 6) -> Dataset:
    """Any labels: classes may be missing."""
    n = draw(st.integers(1, max_size))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    return draw(whole(n, features)), torch.tensor(labels)


def logits(model: Model, x: Tensor) -> Tensor:
    weight, bias = model
    return x @ weight.T + bias


def loss(model: Model, data: Dataset) -> Tensor:
    """L by its definition."""
    x, y = data
    return -log_softmax(logits(model, x))[torch.arange(len(y)), y].mean()


def layer_of(model: Model) -> torch.nn.Linear:
    """The same model as torch has it."""
    weight, bias = model
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def torch_loss(model: Model, data: Dataset) -> Tensor:
    weight, bias = model
    return functional.cross_entropy(functional.linear(data[0], weight, bias), data[1])


def is_constant(row: Tensor) -> bool:
    return bool((row == row[0]).all())


# held-out-accuracy --------------------------------------------------------------------------------

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


# softmax-regression -------------------------------------------------------------------------------


@pytest.mark.statement("softmax-regression", "exact", "torch")
@given(st.data(), models(max_classes=5))
def test_probabilities_and_loss_are_those_of_fifty_digits_and_of_torch(
    data: st.DataObject, model: Model
) -> None:
    x, y = data.draw(datasets(*model[0].shape))
    z = logits(model, x)
    for n, row in enumerate(z):
        # The logits by the definition, w_k and x at a time.
        assert row.tolist() == [
            sum(w * v for w, v in zip(weights, x[n].tolist(), strict=True)) + bias
            for weights, bias in zip(model[0].tolist(), model[1].tolist(), strict=True)
        ]
        assert_within(softmax(row), as_double(exact_softmax(row)), softmax_bound(row))
    exact = mp.fsum(-exact_log_softmax(row)[k] for row, k in zip(z, y.tolist(), strict=True))
    picked = log_softmax_bound(z)[torch.arange(len(y)), y]
    allowed = picked.mean().item() + 4 * U * float(exact)
    value = loss(model, (x, y))
    assert_within(value, exact / len(y), allowed)
    with torch.no_grad():
        layer = layer_of(model)
        assert torch.equal(layer(x), z)
        assert_within(functional.cross_entropy(layer(x), y), value, 4 * allowed + 64 * U)
        assert_within(functional.softmax(layer(x), -1), softmax(z), 2 * softmax_bound(z))


@pytest.mark.statement("softmax-regression")
@given(models(), st.data())
def test_it_decides_for_the_largest_logit(model: Model, data: st.DataObject) -> None:
    z = logits(model, data.draw(whole(3, model[0].shape[1])))
    p = softmax(z)
    assert torch.equal(p == p.amax(-1, keepdim=True), z == z.amax(-1, keepdim=True))
    # Of those that tie, the first.
    first = [row.index(max(row)) for row in z.tolist()]
    assert p.argmax(-1).tolist() == first
    assert_within(p.sum(-1), torch.ones(3, dtype=torch.float64), 2 * (len(model[1]) + 1) * U)


@pytest.mark.statement("softmax-regression", "sklearn")
@pytest.mark.parametrize("classes", [3, 5])
def test_scikit_learn_has_the_same_model(classes: int) -> None:
    model = normal(classes, 4), normal(classes, seed=1)
    x = normal(50, 4, seed=2)
    y = torch.randint(0, classes, (50,), generator=generator(3))
    peer = LogisticRegression()
    peer.coef_, peer.intercept_ = model[0].numpy(), model[1].numpy()
    peer.classes_ = torch.arange(classes).numpy()
    z = logits(model, x)
    p = softmax(z)
    # Five roundings of the terms of a logit, here and there; p moves by twice as much, p times.
    size = (x.abs() @ model[0].abs().T + model[1].abs()).amax(-1, keepdim=True)
    allowed = 2 * softmax_bound(z) + 2 * 10 * size * p * U
    assert_within(torch.tensor(peer.predict_proba(x.numpy())), p, allowed)
    assert peer.predict(x.numpy()).tolist() == p.argmax(-1).tolist()
    expected = log_loss(y.numpy(), p.numpy(), labels=list(range(classes)))
    # Logarithms of p there, log-probabilities here, and two means.
    rounding = (allowed / p).max().item() + 2 * log_softmax_bound(z).max().item()
    assert_within(loss(model, (x, y)), float(expected), rounding, rel=2 * len(y) * U)


@pytest.mark.statement("softmax-regression")
@pytest.mark.parametrize(
    ("weight", "bias", "x", "odds"),
    [
        pytest.param([[2], [3], [5]], [1, 1, 1], [1], [2, 3, 5], id="weights"),
        pytest.param([[2], [3], [5]], [1, 1, 1], [0], [1, 1, 1], id="origin"),
        pytest.param([[2], [3], [5]], [1, 1, 1], [2], [4, 9, 25], id="squared"),
        pytest.param([[2], [3], [5]], [7, 1, 2], [1], [14, 3, 10], id="biases"),
        pytest.param([[2, 3], [1, 1]], [1, 5], [2, 1], [12, 5], id="two features"),
        pytest.param([[2]], [3], [9], [1], id="one class"),
    ],
)
def test_closed_forms(
    weight: list[list[int]], bias: list[int], x: list[int], odds: list[int]
) -> None:
    # Parameters are the logarithms of the numbers, so that the odds are integers.
    model = double(weight).log(), double(bias).log()
    p = softmax(logits(model, double(x)))
    # Logarithms are off by 8 u of themselves, logits up to 3.3 by 36 u, exponentials by 8 u; twice.
    assert_within(p, double(odds) / sum(odds), rel=128 * U)
    # As much in the logarithm of p, of which the smallest is 0.34.
    for k, w in enumerate(odds):
        value = loss(model, (double([x, x]), torch.tensor([k, k])))
        assert_within(value, math.log(sum(odds) / w), 128 * U)
    # The loss is a mean: of all classes once, the mean of their logarithms.
    everyone = double([x] * len(odds)), torch.arange(len(odds))
    expected = math.fsum(math.log(sum(odds) / w) for w in odds) / len(odds)
    assert_within(loss(model, everyone), expected, 128 * U)


@pytest.mark.statement("softmax-regression")
@given(models(2), st.data())
def test_one_more_in_a_logit_multiplies_the_odds_by_e(model: Model, data: st.DataObject) -> None:
    weight, bias = model
    x = data.draw(whole(weight.shape[1]))
    k = data.draw(st.integers(0, len(bias) - 1))
    raised = bias + torch.eye(len(bias), dtype=bias.dtype)[k]
    before, after = (log_softmax(logits((weight, b), x)) for b in (bias, raised))
    change = (after[k] - after) - (before[k] - before)
    expected = torch.ones_like(change)
    expected[k] = 0
    allowed = 8 * log_softmax_bound(logits(model, x)).max() + 64 * U
    assert_within(change, expected, allowed)


# linear-regions -----------------------------------------------------------------------------------


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


# posterior-is-softmax -----------------------------------------------------------------------------


@st.composite
def contingency(draw: DrawFn, least: int) -> list[list[int]]:
    """How many there are of each class (rows) and each value of x (columns); no class is empty."""
    k, m = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    row = st.lists(st.integers(least, 9), min_size=m, max_size=m).filter(lambda n: sum(n) > 0)
    return draw(st.lists(row, min_size=k, max_size=k))


def log_joint(counts: list[list[int]]) -> Tensor:
    """log f_k(x) + log pi_k for each x, a row each; the density is that of the counting measure."""
    total = sum(map(sum, counts))
    prior = double([sum(row) / total for row in counts])
    density = double([[n / sum(row) for n in row] for row in counts])
    return (density.log() + prior.log().unsqueeze(-1)).T


@pytest.mark.statement("posterior-is-softmax", "exact")
@given(contingency(1))
def test_counting_gives_the_softmax_of_log_density_and_log_prior(counts: list[list[int]]) -> None:
    p = softmax(log_joint(counts))
    column = [sum(row[x] for row in counts) for x in range(len(counts[0]))]
    expected = double([[row[x] / column[x] for row in counts] for x in range(len(column))])
    # Logits up to 9, logarithms that are off by 8 u, and exponentials by 8 u; twice, for the sum.
    assert_within(p, expected, 256 * U * expected)


@pytest.mark.statement("posterior-is-softmax", "exact")
@given(contingency(0))
def test_where_a_density_vanishes_its_logit_is_minus_infinity(counts: list[list[int]]) -> None:
    for x, z in enumerate(log_joint(counts)):
        of_x = [row[x] for row in counts]
        assert (z == -math.inf).tolist() == [n == 0 for n in of_x]
        if any(of_x):
            expected = double([n / sum(of_x) for n in of_x])
            assert_within(softmax(z), expected, 256 * U * expected)
        else:
            # Nothing of any class is there to compare.
            assert softmax(z).isnan().all()


@pytest.mark.statement("posterior-is-softmax")
@given(contingency(1), st.data())
def test_logits_of_the_same_posterior_differ_by_a_constant(
    counts: list[list[int]], data: st.DataObject
) -> None:
    z = log_joint(counts)[0]
    constant = data.draw(st.booleans())
    change = data.draw(whole(1)).expand(len(z)) if constant else data.draw(whole(len(z)))
    p, moved = softmax(z), softmax(z + change)
    # Unequal changes differ by one or more and multiply the odds by e or more; z + change is
    # rounded at a size of 10.
    same = bool(((moved / p - 1).abs() <= 256 * U).all())
    assert same == is_constant(change)
    # The other way: whatever has this posterior is its logarithm up to a constant.
    # Twice: p is off by 52 u, its logarithm, up to 9, by 8 u of itself, the difference by 9 u.
    assert_within(z - p.log(), (z - p.log()).mean().expand_as(z), 320 * U)


LINE: dict[str, list[tuple[float, Any]]] = {
    "three normals": [
        (0.5, scipy.stats.norm(-1, 1)),
        (0.3, scipy.stats.norm(2, 0.5)),
        (0.2, scipy.stats.norm(0, 3)),
    ],
    "three families": [
        (0.1, scipy.stats.gamma(2.5)),
        (0.6, scipy.stats.expon(scale=2)),
        (0.3, scipy.stats.lognorm(0.7)),
    ],
    "heavy and light": [(0.9, scipy.stats.norm()), (0.1, scipy.stats.cauchy())],
    "the same twice": [(0.75, scipy.stats.norm()), (0.25, scipy.stats.norm())],
    "one class": [(1.0, scipy.stats.logistic())],
}


@pytest.mark.statement("posterior-is-softmax", "scipy")
@pytest.mark.parametrize("classes", LINE.values(), ids=LINE.keys())
@pytest.mark.parametrize("x", [0.25, 1.0, 2.5])
def test_densities_on_a_line_against_probabilities_of_a_short_interval(
    classes: list[tuple[float, Any]], x: float
) -> None:
    z = double([float(density.logpdf(x)) + math.log(prior) for prior, density in classes])
    h = 1e-4
    near = double([prior * (law.cdf(x + h) - law.cdf(x - h)) for prior, law in classes])
    # The interval is off by h^2 f'' / 6 f, of which f'' / f is below 100; two cdfs by 8 u each,
    # over all classes' probability of it, 2 h times a density of 0.1 or more.
    assert_within(softmax(z), near / near.sum(), 100 * h**2 / 3 + 16 * U / (2 * h * 0.1))


@pytest.mark.statement("posterior-is-softmax")
@pytest.mark.parametrize("x", [0.0, 0.5, 3.0])
def test_the_measure_may_have_atoms_and_any_scale_but_must_be_common(x: float) -> None:
    # Zero with probability r, otherwise exponential: densities for a point mass at 0 + length.
    zero, rate = double([0.5, 0.1, 0.2]), double([1.0, 0.3, 4.0])
    prior = double([0.2, 0.3, 0.5])
    h = 1e-4
    if x == 0:
        density, near = zero, zero
    else:
        density = (1 - zero) * rate * (-rate * x).exp()
        near = (1 - zero) * ((-rate * (x - h)).exp() - (-rate * (x + h)).exp())
    expected = near * prior / (near * prior).sum()
    z = density.log() + prior.log()
    # sinh(h rate) / h rate is 1 + (h rate)^2 / 6; two exponentials, 16 u, over 2 h rate.
    allowed = (h * 4.0) ** 2 / 6 + 16 * U / (2 * h * 0.3)
    assert_within(softmax(z), expected, allowed)
    # With respect to 7 times that measure, all densities are a seventh.
    assert_within(softmax((density / 7).log() + prior.log()), expected, allowed)
    # One class in other units than the rest is another posterior.
    mixed = density / double([7.0, 1.0, 1.0])
    assert (softmax(mixed.log() + prior.log()) - expected).abs().max() > 1e-3


# shared-covariance --------------------------------------------------------------------------------


@st.composite
def spread_matrices(draw: DrawFn, d: int) -> Tensor:
    """Positive definite integer matrices with eigenvalues from 1 to 40."""
    root = draw(whole(d, d, bound=2))
    return root @ root.T + torch.eye(d, dtype=torch.float64)


@st.composite
def priors(draw: DrawFn, k: int) -> Tensor:
    weights = double(draw(st.lists(st.integers(1, 9), min_size=k, max_size=k)))
    return weights / weights.sum()


def linear_logits(means: Tensor, covariance: Tensor, prior: Tensor) -> Model:
    """W and b of the theorem."""
    weight = means @ torch.linalg.inv(covariance)
    return weight, -(means * weight).sum(-1) / 2 + prior.log()


def log_density(x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    law = scipy.stats.multivariate_normal(mean.numpy(), covariance.numpy())
    return torch.as_tensor(law.logpdf(x.numpy())).reshape(len(x))


def log_posterior(x: Tensor, means: Tensor, covariances: Sequence[Tensor], prior: Tensor) -> Tensor:
    """By Bayes' rule from the densities of scipy, a row for each x."""
    densities = [log_density(x, mean, c) for mean, c in zip(means, covariances, strict=True)]
    joint = torch.stack(densities, -1) + prior.log()
    return joint - torch.as_tensor(scipy.special.logsumexp(joint.numpy(), -1, keepdims=True))


def gaussian_bound(condition: float, size: float) -> float:
    """How far logits from a covariance may be off, which is inverted here and by scipy.

    At most three dimensions: 32 roundings each, magnified by the condition number.
    """
    return 64 * condition * size * U


# Eigenvalues from 1 to 37, points up to 10 from a mean in each of three coordinates.
GAUSSIAN = gaussian_bound(37, 300)


@pytest.mark.statement("shared-covariance", "scipy")
@settings(max_examples=60)
@given(st.integers(1, 4), st.integers(1, 3), st.data())
def test_one_covariance_gives_the_stated_weights_and_biases(
    k: int, d: int, data: st.DataObject
) -> None:
    means, covariance = data.draw(whole(k, d)), data.draw(spread_matrices(d))
    prior, x = data.draw(priors(k)), data.draw(whole(4, d, bound=6))
    expected = log_posterior(x, means, [covariance] * k, prior)
    model = linear_logits(means, covariance, prior)
    assert_within(log_softmax(logits(model, x)), expected, GAUSSIAN)
    assert_within(softmax(logits(model, x)), expected.exp(), GAUSSIAN)


@pytest.mark.statement("shared-covariance", "scipy")
@pytest.mark.parametrize(
    ("means", "covariance", "prior", "weight", "bias"),
    [
        pytest.param([[0], [2]], [[1]], [0.5, 0.5], [[0], [2]], [0, -2], id="unit variance"),
        pytest.param([[0], [2]], [[4]], [0.5, 0.5], [[0], [0.5]], [0, -0.5], id="variance four"),
        pytest.param([[3], [3]], [[1]], [0.25, 0.75], [[3], [3]], [-4.5, -4.5], id="equal means"),
        pytest.param([[5]], [[2]], [1.0], [[2.5]], [-6.25], id="one class"),
        pytest.param(
            # The inverse is [[2, -1], [-1, 1]].
            [[1, 0], [0, 1], [1, 1]],
            [[1, 1], [1, 2]],
            [0.5, 0.25, 0.25],
            [[2, -1], [-1, 1], [1, 0]],
            [-1, -0.5, -0.5],
            id="correlated",
        ),
    ],
)
def test_weights_and_biases_by_hand(
    means: list[list[float]],
    covariance: list[list[float]],
    prior: list[float],
    weight: list[list[float]],
    bias: list[float],
) -> None:
    model = double(weight), double(bias) + double(prior).log()
    x = normal(5, len(covariance)) * 2
    expected = log_posterior(x, double(means), [double(covariance)] * len(prior), double(prior))
    assert_within(log_softmax(logits(model, x)), expected, GAUSSIAN)
    for mine, theirs in zip(
        linear_logits(double(means), double(covariance), double(prior)), model, strict=True
    ):
        # Condition numbers below 7, three roundings of numbers up to 2; products and logarithms.
        assert_within(mine, theirs, 64 * U)


@pytest.mark.statement("shared-covariance", "sklearn")
def test_linear_discriminant_analysis_has_the_same_weights_and_biases() -> None:
    y = torch.randint(0, 3, (200,), generator=generator())
    means = double([[0, 0, 1], [2, 0, 0], [0, 3, 0]])
    x = means[y] + normal(200, 3) @ double([[1, 0, 0], [1, 1, 0], [0, 1, 2]])
    peer = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True)
    peer.fit(x.numpy(), y.numpy())
    fitted = (torch.tensor(v) for v in (peer.means_, peer.covariance_, peer.priors_))
    means, covariance, prior = fitted
    weight, bias = linear_logits(means, covariance, prior)
    # A least-squares solution against an inverse.
    condition = torch.linalg.cond(covariance).item()
    allowed = gaussian_bound(condition, weight.norm().item())
    assert_within(weight, torch.tensor(peer.coef_), allowed)
    assert_within(bias, torch.tensor(peer.intercept_), allowed * means.norm().item())
    p = torch.tensor(peer.predict_proba(x.numpy()))
    reach = x.norm(dim=-1).max().item() + means.norm().item()
    assert_within(softmax(logits((weight, bias), x)), p, allowed * reach)


@pytest.mark.statement("shared-covariance", "scipy")
@settings(max_examples=40)
@given(models(max_classes=3, max_features=2), st.data())
def test_every_softmax_regression_is_the_posterior_of_such_gaussians(
    model: Model, data: st.DataObject
) -> None:
    weight, bias = model
    covariance = data.draw(spread_matrices(weight.shape[1]))
    means = weight @ covariance
    # Solve b_k for log pi_k; what is left over is common to all classes.
    prior = torch.softmax(bias + (means * weight).sum(-1) / 2, -1)
    # A prior of exp(-300) would leave float64's range of logarithms no digits to spare.
    x = data.draw(whole(3, weight.shape[1]))
    expected = log_posterior(x, means, [covariance] * len(bias), prior)
    # Eigenvalues from 1 to 17, means up to 97 and points up to 6 away from 0.
    assert_within(log_softmax(logits(model, x)), expected, gaussian_bound(17, 103**2 / 2))


def bend(
    means: Tensor, covariances: Sequence[Tensor], prior: Tensor, at: Tensor, step: Tensor
) -> float:
    """Second difference of the log-odds of the first class against the second."""
    x = torch.stack([at + step, at, at - step])
    log_p = log_posterior(x, means, covariances, prior)
    odds = log_p[:, 0] - log_p[:, 1]
    return float(odds[0] - 2 * odds[1] + odds[2])


@pytest.mark.statement("shared-covariance", "scipy")
@settings(max_examples=60)
@given(st.integers(1, 3), st.data())
def test_log_odds_are_affine_only_if_the_covariances_are_equal(d: int, data: st.DataObject) -> None:
    # Integer matrices as the inverses, so that different ones differ by one or more.
    precisions = [data.draw(spread_matrices(d)) for _ in range(2)]
    if data.draw(st.booleans()):
        precisions[1] = precisions[0]
    covariances = [torch.linalg.inv(p) for p in precisions]
    means, at, prior = data.draw(whole(2, d)), data.draw(whole(d)), data.draw(priors(2))
    unit_vectors = torch.eye(d, dtype=torch.float64)
    steps = [u + v for i, u in enumerate(unit_vectors) for v in unit_vectors[i:]]
    difference = precisions[1] - precisions[0]
    bends = [bend(means, covariances, prior, at, step) for step in steps]
    for value, step in zip(bends, steps, strict=True):
        # The second derivative in the proof: it does not depend on x, the means or the priors.
        # Eight log-densities of size 37 * 300 / 2.
        assert_within(value, step @ difference @ step, 8 * gaussian_bound(37, 37 * 300 / 2))
    # By polarization the forms at e_i + e_j determine the matrix. They are integers.
    affine = all(abs(value) < 0.5 for value in bends)
    assert affine == torch.equal(*precisions) == (difference == 0).all().item()


@pytest.mark.statement("shared-covariance", "scipy")
@pytest.mark.parametrize(
    ("first", "second", "straight"),
    [
        pytest.param([[2, 0], [0, 1]], [[2, 0], [0, 1]], ["x", "y", "diagonal"], id="equal"),
        pytest.param([[2, 0], [0, 1]], [[2, 0], [0, 3]], ["x"], id="equal along x"),
        pytest.param([[2, 0], [0, 1]], [[1, 0], [0, 2]], ["diagonal"], id="swapped"),
        pytest.param([[2, 1], [1, 2]], [[2, -1], [-1, 2]], ["x", "y"], id="mirrored"),
        pytest.param([[1, 0], [0, 1]], [[2, 0], [0, 2]], [], id="a multiple"),
    ],
)
def test_one_straight_direction_is_not_enough(
    first: list[list[float]], second: list[list[float]], straight: list[str]
) -> None:
    covariances = [torch.linalg.inv(double(matrix)) for matrix in (first, second)]
    directions = {"x": [1, 0], "y": [0, 1], "diagonal": [1, 1]}
    # Equal means and priors do not help.
    for means in ([[0, 0], [0, 0]], [[1, 0], [0, 2]]):
        bends = {
            name: bend(double(means), covariances, double([0.5, 0.5]), double([1, 2]), double(v))
            for name, v in directions.items()
        }
        # Integers, but for rounding.
        assert [name for name, value in bends.items() if abs(value) < 0.5] == straight


# gauge --------------------------------------------------------------------------------------------


def sparse(*shape: int) -> SearchStrategy[Tensor]:
    size = math.prod(shape)
    return st.lists(st.sampled_from([0, 0, 0, 1]), min_size=size, max_size=size).map(
        lambda values: double(values).reshape(shape)
    )


@pytest.mark.statement("gauge", "torch")
@given(models(), st.data())
def test_the_same_row_and_the_same_number_added_change_no_probability(
    model: Model, data: st.DataObject
) -> None:
    weight, bias = model
    row, number = data.draw(whole(weight.shape[1])), data.draw(st.integers(-9, 9))
    x = data.draw(whole(5, weight.shape[1], bound=9))
    # Integers: not a bit changes.
    moved = softmax(logits((weight + row, bias + number), x))
    assert torch.equal(moved, softmax(logits(model, x)))
    allowed = 2 * softmax_bound(logits(model, x))
    for layer in (layer_of(model), layer_of((weight + row, bias + number))):
        assert_within(layer(x).softmax(-1), moved, allowed)


@pytest.mark.statement("gauge")
@pytest.mark.parametrize("spoiled", ["nothing", "weights", "biases"])
@settings(max_examples=50)
@given(model=models(2), data=st.data())
def test_the_same_probabilities_everywhere_need_that_and_nothing_else(
    spoiled: str, model: Model, data: st.DataObject
) -> None:
    weight, bias = model
    k, d = weight.shape
    other = (
        weight + data.draw(whole(d)) + (data.draw(sparse(k, d)) if spoiled == "weights" else 0),
        bias + data.draw(whole(1)) + (data.draw(sparse(k)) if spoiled == "biases" else 0),
    )
    is_gauge = all(
        bool((new - old == (new - old)[0]).all()) for new, old in zip(other, model, strict=True)
    )
    # An affine function that vanishes at 0 and at the unit vectors vanishes.
    points = torch.cat([torch.zeros(1, d, dtype=weight.dtype), torch.eye(d, dtype=weight.dtype)])
    agree = torch.equal(log_softmax(logits(model, points)), log_softmax(logits(other, points)))
    assert agree == is_gauge
    somewhere = data.draw(whole(4, d, bound=9))
    if agree:
        assert torch.equal(
            log_softmax(logits(model, somewhere)), log_softmax(logits(other, somewhere))
        )
        # The vector and the number can be read off any row; the last, say.
        assert torch.equal(other[0], weight + (other[0] - weight)[-1])
        assert torch.equal(other[1], bias + (other[1] - bias)[-1])


@pytest.mark.statement("gauge")
@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("d", [1, 2, 4])
def test_data_can_determine_k_minus_1_times_d_plus_1_numbers(k: int, d: int) -> None:
    x = torch.cat([torch.zeros(1, d, dtype=torch.float64), torch.eye(d, dtype=torch.float64)])

    def log_probabilities(parameters: Tensor) -> Tensor:
        return log_softmax(logits((parameters[:, :d], parameters[:, d]), x)).flatten()

    # Not torch.func, whose import takes two seconds.
    jacobian = torch.autograd.functional.jacobian(log_probabilities, normal(k, d + 1))
    singular = torch.linalg.svdvals(jacobian.reshape(len(x) * k, -1))
    # A change of logits that sums to zero moves log-probabilities by no less than itself, and the
    # points, with a 1 for the bias, make a matrix whose singular values are 0.414 or more.
    assert int((singular > 0.41).sum()) == (k - 1) * (d + 1)
    noise = 64 * len(singular) * U * singular.max()
    assert int((singular <= noise).sum()) == len(singular) - (k - 1) * (d + 1)


@pytest.mark.statement("gauge")
def test_fewer_points_than_all_determine_less() -> None:
    # All x have equal components, so that the first minus the second is 0, and free in any row.
    weight, bias = double([[1, 2], [0, 3], [2, 2]]), double([0, 1, 2])
    other = weight + double([[5, -5], [0, 0], [0, 0]])
    diagonal = torch.arange(-4.0, 5.0, dtype=torch.float64).unsqueeze(-1).expand(9, 2)
    assert torch.equal(
        softmax(logits((weight, bias), diagonal)), softmax(diagonal @ other.T + bias)
    )
    off = double([1, 0])
    assert not torch.equal(softmax(off @ weight.T + bias), softmax(off @ other.T + bias))


def gradients(value: Callable[[Model, Dataset], Tensor], model: Model, data: Dataset) -> Model:
    weight, bias = (part.clone().requires_grad_() for part in model)
    by_weight, by_bias = torch.autograd.grad(value((weight, bias), data), (weight, bias))
    return by_weight, by_bias


@pytest.mark.statement("gauge", "exact", "torch")
@given(models(), st.data(), st.floats(0.01, 3.0))
def test_gradients_sum_to_zero_over_the_classes(
    model: Model, data: st.DataObject, scale: float
) -> None:
    model = model[0] * scale, model[1] * scale
    x, y = data.draw(datasets(*model[0].shape))
    # Errors of the probabilities, exponents up to 2 * 3 * 16 * 3, times |x| <= 4.
    allowed = 4 * (3 * 2 * 200 + 64) * len(model[1]) * U
    for subject in (loss, torch_loss):
        by_weight, by_bias = gradients(subject, model, (x, y))
        assert_within(by_weight.sum(0), 0.0, allowed)
        assert_within(by_bias.sum(), 0.0, allowed)
        # They are no zeros themselves: (P - Y)' X / N and the mean of P - Y.
        error = torch.stack([as_double(exact_softmax(z)) for z in logits(model, x)])
        error = error - functional.one_hot(y, len(model[1]))
        assert_within(by_weight, error.T @ x / len(y), allowed)
        assert_within(by_bias, error.mean(0), allowed)


def sum_error(n: int) -> float:
    """How far the sum over ten classes of the gradients of n pairs, |x| <= 1, may be from zero.

    The errors of a pair, which are below 2 together, are added to those of n others in any order;
    its probabilities add up to one within 128 u, whatever the logits are.
    """
    return (2 * n + 128) * U


@pytest.mark.statement("gauge", "torch")
@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_of_a_torch_layer_on_the_digits_sum_to_zero(seed: int) -> None:
    x, y = digits()
    layer = layer_of((3 * normal(10, 64, seed=seed), normal(10, seed=seed + 2)))
    functional.cross_entropy(layer(x), y).backward()
    weight, bias = layer.weight.grad, layer.bias.grad
    assert weight is not None
    assert bias is not None
    for gradient in (weight, bias):
        assert_within(gradient.sum(0), 0.0, sum_error(len(y)))
        assert gradient.abs().max() > 1e-3


STEP_SIZES = [0.1, 3.0, 1e-3, 50.0, 0.7]


# Forty steps of parameters below 1000, added ten at a time, and of gradients that do not quite sum
# to zero, each of which a momentum of 0.9 repeats ten times.
FORTY_STEPS = 40 * 10 * 1000 * U + 10 * 8 * sum(STEP_SIZES) * sum_error(300)


def descend(
    start: Model,
    data: Dataset,
    make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer],
    steps: int = 40,
) -> Model:
    """Train a torch layer; the step size changes from step to step."""
    layer = layer_of(start)
    optimizer = make(list(layer.parameters()))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = STEP_SIZES[step % len(STEP_SIZES)]
        optimizer.zero_grad()
        functional.cross_entropy(layer(data[0]), data[1]).backward()
        optimizer.step()
    return layer.weight.detach(), layer.bias.detach()


def sums(model: Model) -> Tensor:
    return torch.cat([model[0].sum(0), model[1].sum().reshape(1)])


@pytest.mark.statement("gauge", "torch")
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param({"momentum": 0.9}, id="momentum"),
        pytest.param({"momentum": 0.9, "nesterov": True}, id="nesterov"),
        pytest.param({"momentum": 0.5, "dampening": 0.5}, id="dampened"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_gradient_descent_keeps_the_sums(options: dict[str, Any], seed: int) -> None:
    start = normal(10, 64, seed=seed), normal(10, seed=seed + 2)
    end = descend(start, digits(), lambda p: torch.optim.SGD(p, lr=1.0, **options))
    assert_within(sums(end), sums(start), FORTY_STEPS)
    assert end[0].abs().max() < 1000
    assert (end[0] - start[0]).abs().max() > 1
    assert (end[1] - start[1]).abs().max() > 1


@pytest.mark.statement("gauge", "torch")
@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_lbfgs_keeps_the_sums(line_search: str | None) -> None:
    start = normal(10, 64), normal(10, seed=2)
    layer = layer_of(start)
    optimizer = torch.optim.LBFGS(
        layer.parameters(), lr=0.5, max_iter=30, line_search_fn=line_search
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(layer(digits()[0]), digits()[1])
        value.backward()
        return value

    before = closure().item()
    optimizer.step(closure)
    assert closure().item() < before / 10
    end = layer.weight.detach(), layer.bias.detach()
    # Thirty steps, each a combination of up to sixty vectors below 1000.
    assert_within(sums(end), sums(start), 30 * 60 * 10 * 1000 * U)
    assert (end[0] - start[0]).abs().max() > 1


@pytest.mark.statement("gauge")
def test_another_start_ends_with_other_sums() -> None:
    ends = [
        sums(descend((normal(10, 64, seed=seed), normal(10, seed=9)), digits(), torch.optim.SGD))
        for seed in (0, 1)
    ]
    assert (ends[0] - ends[1])[:64].abs().max() > 1
    assert_within(ends[0][64], ends[1][64], 2 * FORTY_STEPS)


@pytest.mark.statement("gauge")
def test_what_is_not_gradient_descent_on_the_loss_moves_the_sums() -> None:
    start = normal(10, 64), normal(10, seed=2)
    # A step size of its own for each parameter, as Adam has.
    adam = sums(descend(start, digits(), torch.optim.Adam, steps=5)) - sums(start)
    assert adam[:64].abs().max() > 1e-2
    assert adam[64].abs() > 1e-2
    # A penalty on all parameters.
    decayed = descend(start, digits(), lambda p: torch.optim.SGD(p, weight_decay=0.01), steps=5)
    change = sums(decayed) - sums(start)
    assert change[:64].abs().max() > 1e-2
    assert change[64].abs() > 1e-2


# regularized-optimum ------------------------------------------------------------------------------


def objective(model: Model, data: Dataset, penalty: float) -> Tensor:
    """L with the penalty, by its definition."""
    return loss(model, data) + penalty / 2 * (model[0] ** 2).sum()


def rounding(model: Model, data: Dataset, penalty: float) -> float:
    """How far the computed value of the objective may be from the exact one."""
    (weight, bias), (x, y) = model, data
    k, d = weight.shape
    # A logit takes d + 1 roundings of numbers up to the reach, and one more for a bias that was
    # moved; a loss has two logits.
    reach = (x.abs() @ weight.abs().T + bias.abs()).max().item()
    losses = 2 * (d + 2) * reach * U + log_softmax_bound(logits(model, x)).max().item()
    # No loss and no square is negative, so a sum of n of them is off by n u of itself.
    return losses + (len(y) + k * d + 4) * objective(model, data, penalty).item() * U


def slopes(model: Model, data: Dataset, penalty: float) -> Model:
    return gradients(lambda parameters, pairs: objective(parameters, pairs, penalty), model, data)


def second_derivatives(model: Model, data: Dataset, penalty: float) -> Tensor:
    """Of L with the penalty, written out; the weights of a class and its bias are neighbors."""
    x, _ = data
    k, d = model[0].shape
    extended = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], -1)
    p = torch.softmax(logits(model, x), -1)
    jacobians = torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)
    curvature = torch.einsum("nij,na,nb->iajb", jacobians, extended, extended) / len(x)
    weighing = torch.cat([torch.full((d,), penalty, dtype=x.dtype), torch.zeros(1, dtype=x.dtype)])
    return curvature.reshape(k * (d + 1), -1) + torch.diag(weighing.repeat(k))


# Newton's method goes on until no slope is larger. A gradient of a dozen small pairs, computed in
# another way, differs by a few hundred u, which is less.
STOP = 1e-13
AT_MINIMUM = 2 * STOP


def newton(start: Model, data: Dataset, penalty: float, steps: int = 60) -> Model:
    """Minimize it by Newton's method with the second derivatives written out.

    On the way of a step that moves the logits of a point by amounts up to r apart, the second
    derivative grows at most by the factor e^r (the third cumulant of a distribution is at most its
    variance times its range). So the share log(1 + r) / r of a step always goes down: however flat
    the start is, no step is too long. Near the minimum it is all but the whole step.
    """
    x, y = data
    k, d = start[0].shape
    extended = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], -1)
    one_hot = functional.one_hot(y, k).double()
    weighing = torch.cat([torch.full((d,), penalty, dtype=x.dtype), torch.zeros(1, dtype=x.dtype)])
    theta = torch.cat([start[0], start[1].unsqueeze(-1)], -1)
    for _ in range(steps):
        p = torch.softmax(extended @ theta.T, -1)
        gradient = (p - one_hot).T @ extended / len(y) + weighing * theta
        if gradient.abs().max() < STOP:
            break
        matrix = second_derivatives((theta[:, :d], theta[:, d]), data, penalty)
        # The common bias has no curvature; the pseudoinverse does not move it, but for rounding.
        step = torch.linalg.pinv(matrix, hermitian=True, rtol=1e-13) @ gradient.flatten()
        step = step.reshape(k, d + 1)
        step[:, d] -= step[:, d].mean()
        change = extended @ step.T
        r = (change.amax(-1) - change.amin(-1)).max().item()
        theta = theta - (math.log1p(r) / r if r else 1.0) * step
    return theta[:, :d], theta[:, d]


def steepness(model: Model, data: Dataset, penalty: float) -> float:
    """The norm of the gradient, and at least what rounding may have taken from it.

    At a minimum the errors of a pair are below 2 together, its x is shorter than 8, and n of them
    are added in any order.
    """
    by_weight, by_bias = slopes(model, data, penalty)
    norm = math.hypot(by_weight.norm().item(), by_bias.norm().item())
    return norm + 16 * len(data[1]) * U


def apart(model: Model, other: Model) -> Model:
    """What is left of it without the common bias, which no gradient moves."""
    by_weight, by_bias = (a - b for a, b in zip(model, other, strict=True))
    return by_weight, by_bias - by_bias.mean()


def farthest(model: Model, other: Model, data: Dataset, penalty: float) -> float:
    """How far apart two models may be that have the slopes they have, common biases aside.

    From the one to the other the second derivative falls at most by the factor e^-r, where r is
    the range of the change of a point's logits (see Newton's method). So along the way the slope
    changes by at least e^-r times the least curvature times the distance.
    """
    matrix = second_derivatives(model, data, penalty)
    k, d = model[0].shape
    # The common bias has no curvature. Give it some, so that the least eigenvalue is another's.
    common = torch.zeros(k, d + 1, dtype=torch.float64)
    common[:, d] = 1
    least = torch.linalg.eigvalsh(matrix + torch.outer(common.flatten(), common.flatten()))[0]
    change = logits(apart(model, other), data[0])
    r = (change.amax(-1) - change.amin(-1)).max().item()
    both = steepness(model, data, penalty) + steepness(other, data, penalty)
    return both * math.exp(r) / float(least)


def assert_same_optimum(model: Model, other: Model, data: Dataset, penalty: float) -> None:
    """Assert that the weights, the biases up to a constant and the objectives agree."""
    far = farthest(model, other, data, penalty)
    by_weight, by_bias = apart(model, other)
    assert_within(math.hypot(by_weight.norm().item(), by_bias.norm().item()), 0.0, far)
    values = [objective(m, data, penalty).item() for m in (model, other)]
    # Convex: the one is lower than the other by no more than slope times distance.
    both = steepness(model, data, penalty) + steepness(other, data, penalty)
    rounded = rounding(model, data, penalty) + rounding(other, data, penalty)
    assert_within(values[0], values[1], both * far + rounded)


@st.composite
def complete_datasets(draw: DrawFn, classes: int, features: int) -> Dataset:
    """Every class occurs."""
    extra = draw(st.lists(st.integers(0, classes - 1), max_size=4))
    labels = torch.tensor([*range(classes), *extra])
    return draw(whole(len(labels), features, bound=2)), labels


@pytest.mark.statement("regularized-optimum", "torch")
@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 3), st.floats(0.1, 2.0), st.data())
def test_one_minimum_is_reached_from_every_start(
    k: int, d: int, penalty: float, data: st.DataObject
) -> None:
    pairs = data.draw(complete_datasets(k, d))
    starts = [(data.draw(whole(k, d, bound=1)), data.draw(whole(k, bound=1))) for _ in range(2)]
    ends = [newton(start, pairs, penalty) for start in starts]
    for (weight, bias), start in zip(ends, starts, strict=True):
        for gradient in slopes((weight, bias), pairs, penalty):
            assert_within(gradient, torch.zeros_like(gradient), AT_MINIMUM)
        # The gradient of W sums to penalty * sum w_k.
        assert_within(weight.sum(0), 0.0, 2 * k * AT_MINIMUM / penalty)
        # The sum of the biases is where it had been: sixty steps, four biases, below 100.
        assert_within(bias.sum(), start[1].sum(), 60 * 4 * 100 * U)
    assert_same_optimum(ends[0], ends[1], pairs, penalty)


@pytest.mark.statement("regularized-optimum")
@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 3), st.floats(0.1, 2.0), st.data())
def test_everything_else_is_higher_by_the_penalty_on_the_distance(
    k: int, d: int, penalty: float, data: st.DataObject
) -> None:
    pairs = data.draw(complete_datasets(k, d))
    best = newton((torch.zeros(k, d, dtype=torch.float64), torch.zeros(k).double()), pairs, penalty)
    least = objective(best, pairs, penalty).item()
    at_best = rounding(best, pairs, penalty)
    # At zero it is the logarithm, which is off by u.
    assert least <= math.log(k) * (1 + 2 * U) + at_best
    for _ in range(3):
        by = data.draw(whole(k, d)), data.draw(whole(k))
        for scale in (1.0, 0.125):
            moved = best[0] + scale * by[0], best[1] + scale * by[1]
            value = objective(moved, pairs, penalty).item()
            slack = AT_MINIMUM * sum(part.abs().sum().item() for part in by)  # left of the slopes
            slack += at_best + rounding(moved, pairs, penalty)
            # L is convex and the gradient at the minimum is zero. The distance is that of the
            # rounded weights; its square, of k d differences, has a few u for each.
            square = (moved[0] - best[0]).square().sum().item()
            slack += (k * d + 4) * penalty * square * U
            assert value - least >= penalty / 2 * square - slack
            only_bias = best[0], best[1] + scale * by[1]
            slack += rounding(only_bias, pairs, penalty)
            excess = objective(only_bias, pairs, penalty).item() - least
            # Biases that change by a constant change nothing; others change it by more.
            if is_constant(by[1]):
                assert_within(excess, 0.0, slack)
            else:
                assert excess > slack


@pytest.mark.statement("regularized-optimum")
@given(st.integers(2, 4), st.integers(1, 2), st.data())
def test_where_every_class_occurs_unequal_biases_are_costly(
    k: int, d: int, data: st.DataObject
) -> None:
    # The bound in the proof of existence.
    x, y = data.draw(complete_datasets(k, d))
    weight, bias = data.draw(whole(k, d, bound=1)), data.draw(whole(k, bound=50))
    reach = (x @ weight.T).abs().max().item()
    spread = (bias.max() - bias.min()).item()
    value = loss((weight, bias), (x, y)).item()
    # Whole logits: a sum, its logarithm, the difference and a mean of at most eight are rounded.
    assert value >= (spread - 2 * reach) / len(y) - 32 * U * (1 + value)


@pytest.mark.statement("regularized-optimum")
@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_of_one_class_any_bias_will_do_and_no_weight(penalty: float) -> None:
    pairs = normal(5, 2), torch.zeros(5, dtype=torch.int64)
    weight, bias = newton((normal(1, 2), double([3.0])), pairs, penalty)
    # The slope is the penalty times the weight.
    assert_within(weight, 0.0, STOP / penalty)
    for level in (bias, bias - 100):
        assert_within(objective((weight, level), pairs, penalty), 0.0, STOP**2 / penalty)


def fitted_by_torch(data: Dataset, penalty: float, seed: int, k: int = 10) -> Model:
    """The layer, the loss and an optimizer of torch, from a random start."""
    start = normal(k, data[0].shape[1], seed=seed), normal(k, seed=seed + 1)
    layer = layer_of(start)
    optimizer = torch.optim.LBFGS(
        layer.parameters(),
        max_iter=1000,
        tolerance_grad=1e-11,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(layer(data[0]), data[1])
        value = value + penalty / 2 * (layer.weight**2).sum()
        value.backward()
        return value

    optimizer.step(closure)
    weight, bias = layer.weight.detach(), layer.bias.detach()
    # At most 1000 steps, no longer than the gradient over the least curvature of W.
    assert_within(bias.sum(), start[1].sum(), 1000 * sum_error(len(data[1])) / penalty)
    return weight, bias


DIGITS_PENALTY = 1e-2


def slope_where_it_stops(decrease: float, share: float) -> float:
    """The slope at which an optimizer may leave the digits.

    With L the largest curvature, a step against the slope lowers the objective by the slope's
    square over 2 L. A line search takes what lowers it by a share of that, and an optimizer stops
    when it was lowered by no more than the decrease.
    """
    # A softmax has curvatures of at most 1/2.
    largest = (digits()[0].square().sum(-1).max().item() + 1) / 2 + DIGITS_PENALTY
    return math.sqrt(2 * largest * decrease / share)


# For torch, what rounding hides in the sum of n losses; for SciPy, 64 eps.
BY_TORCH = slope_where_it_stops(300 * U, 1e-4)
BY_SCIPY = slope_where_it_stops(64 * 2 * U, 1e-3)


@cache
def torch_digits(seed: int) -> Model:
    return fitted_by_torch(digits(), DIGITS_PENALTY, seed)


@pytest.mark.statement("regularized-optimum", "torch")
def test_two_starts_on_the_digits_end_in_the_same_place_but_for_the_sum_of_biases() -> None:
    model, other = torch_digits(0), torch_digits(2)
    for end in (model, other):
        steep = steepness(end, digits(), DIGITS_PENALTY)
        assert steep < BY_TORCH
        # The gradient of W sums to penalty * sum w_k, and ten numbers to sqrt(10) of their norm.
        assert_within(end[0].sum(0), 0.0, math.sqrt(10) * steep / DIGITS_PENALTY)
    assert_same_optimum(model, other, digits(), DIGITS_PENALTY)
    assert (model[1].mean() - other[1].mean()).abs() > 0.1
    assert model[0].abs().max() > 0.1


@pytest.mark.statement("regularized-optimum", "sklearn", "torch")
def test_scikit_learn_finds_the_same_optimum_on_the_digits() -> None:
    x, y = digits()
    peer = LogisticRegression(C=1 / (DIGITS_PENALTY * len(y)), tol=1e-9, max_iter=10_000)
    peer.fit(x.numpy(), y.numpy())
    model = torch_digits(0)
    theirs = torch.tensor(peer.coef_), torch.tensor(peer.intercept_)
    steep = steepness(theirs, (x, y), DIGITS_PENALTY)
    assert steep < BY_SCIPY
    assert steepness(model, (x, y), DIGITS_PENALTY) < BY_TORCH
    assert_within(theirs[0].sum(0), 0.0, math.sqrt(10) * steep / DIGITS_PENALTY)
    assert_same_optimum(model, theirs, (x, y), DIGITS_PENALTY)
    # A probability moves by at most half of what a logit does.
    far = farthest(model, theirs, (x, y), DIGITS_PENALTY)
    allowed = far * math.sqrt(x.square().sum(-1).max().item() + 1) / 2
    p = softmax(logits(model, x))
    assert_within(torch.tensor(peer.predict_proba(x.numpy())), p, allowed)
    first, second = p.topk(2, -1).values.unbind(-1)
    # Two images lie so near to a border that this much could decide.
    clear = first - second > 2 * allowed
    assert int(clear.sum()) > 290
    assert torch.equal(torch.tensor(peer.predict(x.numpy()))[clear], p.argmax(-1)[clear])


def heavy_ball(start: Model, data: Dataset, penalty: float, steps: int) -> Model:
    """Gradient descent with momentum and the gradient written out."""
    x, y = data
    weight, bias = start
    one_hot = functional.one_hot(y, len(bias)).double()
    weight_step, bias_step = torch.zeros_like(weight), torch.zeros_like(bias)
    for _ in range(steps):
        error = softmax(logits((weight, bias), x)) - one_hot
        weight_step = 0.9 * weight_step - (error.T @ x / len(y) + penalty * weight)
        bias_step = 0.9 * bias_step - error.mean(0)
        weight, bias = weight + weight_step, bias + bias_step
    return weight, bias


@pytest.mark.statement("regularized-optimum", "torch")
@pytest.mark.statement("gauge", "torch")
def test_gradient_descent_from_two_starts_ends_there_too() -> None:
    for seed in (5, 7):
        start = normal(10, 64, seed=seed), normal(10, seed=seed + 1)
        end = heavy_ball(start, digits(), DIGITS_PENALTY, 1500)
        for model in (end, torch_digits(0)):
            assert steepness(model, digits(), DIGITS_PENALTY) < BY_TORCH
        assert_same_optimum(torch_digits(0), end, digits(), DIGITS_PENALTY)
        # A momentum of 0.9 repeats each error ten times.
        assert_within(end[1].sum(), start[1].sum(), 1500 * 10 * sum_error(300))


@pytest.mark.statement("regularized-optimum")
@pytest.mark.statement("gauge")
@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_only_the_penalty_acts_on_the_sum_of_the_rows(rate: float) -> None:
    x, y = digits()
    weight, bias = normal(10, 64, seed=3), normal(10, seed=4)
    start = weight.sum(0)
    for _ in range(30):
        by_weight, by_bias = slopes((weight, bias), (x, y), DIGITS_PENALTY)
        weight, bias = weight - rate * by_weight, bias - rate * by_bias
    # The data say nothing about it, so it decays geometrically toward the sum at the optimum, 0.
    # Thirty steps of gradients that do not quite sum to zero, and of ten weights below 10.
    allowed = 30 * (rate * sum_error(len(y)) + 10 * 10 * U)
    assert_within(weight.sum(0), (1 - rate * DIGITS_PENALTY) ** 30 * start, allowed)


@pytest.mark.statement("regularized-optimum", "torch")
@given(st.integers(2, 4), st.integers(1, 3), st.data())
def test_a_class_that_does_not_occur_always_wants_a_lower_bias(
    k: int, d: int, data: st.DataObject
) -> None:
    missing = data.draw(st.integers(0, k - 1))
    others = [c for c in range(k) if c != missing]
    y = torch.tensor(data.draw(st.lists(st.sampled_from(others), min_size=1, max_size=6)))
    pairs = data.draw(whole(len(y), d, bound=2)), y
    weight, bias = data.draw(whole(k, d, bound=1)), data.draw(whole(k, bound=4))
    _, by_bias = slopes((weight, bias), pairs, 0.5)
    # The mean probability of the class, which is never zero: no point is a minimum.
    p = softmax(logits((weight, bias), pairs[0])).mean(0)[missing]
    # Whole logits. Here two exponentials, there one of a rounded logarithm up to 22, and two means.
    assert_within(by_bias[missing], p, rel=128 * U)
    assert by_bias[missing] > 0
    lower = bias.clone()
    lower[missing] -= 1
    assert objective((weight, lower), pairs, 0.5) < objective((weight, bias), pairs, 0.5)


@pytest.mark.statement("regularized-optimum")
def test_with_a_class_missing_the_infimum_is_that_of_the_others_and_not_attained() -> None:
    x, y = double([[-1.0], [0.0], [0.5], [2.0]]), torch.tensor([0, 1, 0, 1])
    penalty = 0.3
    start = torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    weight, bias = newton(start, (x, y), penalty)
    infimum = objective((weight, bias), (x, y), penalty).item()

    def with_third(row: float, level: float) -> float:
        model = torch.cat([weight, double([[row]])]), torch.cat([bias, double([level])])
        return objective(model, (x, y), penalty).item()

    values = [with_third(0.0, level) for level in (0.0, -5.0, -10.0, -20.0)]
    assert all(later < earlier for earlier, later in pairwise(values))
    # Each loss grows by log(1 + e^-20 / sum e^z), about 1e-9.
    added = (math.exp(-20) / logits((weight, bias), x).exp().sum(-1)).mean().item()
    assert infimum < values[-1] < infimum + 1.01 * added
    # Whatever the third class does, and the others do in return, is above it.
    for seed in range(20):
        model = normal(3, 1, seed=seed), 3 * normal(3, seed=seed + 100)
        assert objective(model, (x, y), penalty).item() > infimum
    # With an instance of the class there is a minimum again.
    complete = torch.cat([x, double([[1.0]])]), torch.cat([y, torch.tensor([2])])
    start = torch.zeros(3, 1, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for gradient in slopes(newton(start, complete, penalty), complete, penalty):
        assert_within(gradient, torch.zeros_like(gradient), AT_MINIMUM)


@pytest.mark.statement("regularized-optimum")
def test_without_a_penalty_the_weights_need_not_be_unique() -> None:
    # The second feature is twice the first, and the labels overlap.
    x = double([[-1.0, -2.0], [-1.0, -2.0], [1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])
    data = x, torch.tensor([0, 1, 0, 1, 1])
    start = torch.zeros(2, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    weight, bias = newton(start, data, 0.0)
    other = weight + double([[2.0, -1.0], [-4.0, 2.0]])
    for candidate in (weight, other):
        for gradient in slopes((candidate, bias), data, 0.0):
            assert_within(gradient, torch.zeros_like(gradient), AT_MINIMUM)
    # Logits are sums of terms up to 8, and a loss moves by twice as much.
    assert_within(loss((weight, bias), data), loss((other, bias), data), 128 * U)
    # The least penalty tells them apart.
    gap = objective((other, bias), data, 1e-6) - objective((weight, bias), data, 1e-6)
    assert gap.item() > 1e-6


# separable ----------------------------------------------------------------------------------------


def gaps(model: Model, data: Dataset) -> Tensor:
    """z_y - z_j of every pair and every other class, a row for each pair."""
    x, y = data
    z = logits(model, x)
    every = z.gather(1, y.unsqueeze(-1)) - z
    others = torch.arange(z.shape[1]) != y.unsqueeze(-1)
    return every[others].reshape(len(y), -1)


def exact_loss(model: Model, data: Dataset, scale: float = 1.0) -> Any:
    """L(sW, sb) to 50 digits, however small: log1p keeps what 1 + exp(-500) would lose."""
    rows = gaps(model, data).tolist()
    terms = [mp.log1p(mp.fsum(mp.exp(-scale * mp.mpf(g)) for g in row)) for row in rows]
    return mp.fsum(terms) / len(rows)


@st.composite
def separated(draw: DrawFn) -> tuple[Model, Dataset]:
    """A model and data that it labels, each with the strictly largest logit."""
    k, d = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    weight, bias = draw(whole(k, d)), draw(whole(k))
    x = draw(whole(draw(st.integers(1, 5)), d))
    top = logits((weight, bias), x).topk(2, -1)
    clear = top.values[:, 0] > top.values[:, 1]
    if not clear.any():
        # A bias above all others settles every tie.
        bias = bias + 100 * torch.eye(k, dtype=bias.dtype)[0]
        clear = torch.ones(len(x), dtype=torch.bool)
    x = x[clear]
    return (weight, bias), (x, logits((weight, bias), x).argmax(-1))


@pytest.mark.statement("separable", "exact")
@given(separated())
def test_along_the_ray_the_loss_tends_to_zero_and_never_is(drawn: tuple[Model, Dataset]) -> None:
    model, data = drawn
    k = len(model[1])
    margin = gaps(model, data).min().item()
    assert margin >= 1
    scales = [0.0, 0.5, 1.0, 2.0, 10.0, 100.0, 1000.0]
    values = [exact_loss(model, data, s) for s in scales]
    assert_within(values[0], mp.log(k), rel=1e-48)
    for scale, value in zip(scales, values, strict=True):
        assert value > 0
        # log(1 + x) <= x.
        assert value <= (k - 1) * mp.exp(-scale * margin)
        computed = loss((scale * model[0], scale * model[1]), data)
        z = logits(model, data[0]) * scale
        assert_within(computed, value, log_softmax_bound(z).max().item() * 2 + 64 * U)
    assert all(later < earlier for earlier, later in pairwise(values))
    assert values[-1] < mp.mpf(10) ** -400


@pytest.mark.statement("separable", "exact")
@given(models(2), st.data())
def test_no_parameters_have_loss_zero_on_any_data(model: Model, data: st.DataObject) -> None:
    pairs = data.draw(datasets(*model[0].shape))
    value = exact_loss(model, pairs)
    assert value > 0
    # At least that of one pair, and that at least that of its largest gap.
    assert value >= mp.log1p(mp.exp(-mp.mpf(gaps(model, pairs).max().item()))) / len(pairs[1])
    # Whole logits: a sum, its logarithm, the difference and a mean of at most six.
    assert_within(loss(model, pairs), value, 32 * U * (1 + float(value)))


@pytest.mark.statement("separable")
def test_with_one_class_the_loss_is_zero_everywhere() -> None:
    # No other logit is there to be above: K = 1 is the exception.
    data = normal(4, 2), torch.zeros(4, dtype=torch.int64)
    for seed in range(3):
        assert loss((normal(1, 2, seed=seed), normal(1, seed=seed)), data).item() == 0.0


@pytest.mark.statement("separable", "exact")
def test_in_floating_point_zero_is_reached() -> None:
    data = double([[-1.0], [1.0]]), torch.tensor([0, 1])
    model = double([[-1.0], [1.0]]), torch.zeros(2, dtype=torch.float64)
    assert loss((10 * model[0], model[1]), data) > 0
    assert loss((20 * model[0], model[1]), data) == 0
    assert_within(exact_loss(model, data, 20.0), mp.exp(-40), rel=mp.exp(-40))


# Feasible, to the linear program's solver, is what violates no condition by more.
FEASIBLE = 1e-7


def widest_margin(data: Dataset, k: int) -> tuple[float, Model, Tensor]:
    """The least gap z_y - z_j, made as large as parameters in [-1, 1] allow, by linear programming.

    It is positive if and only if the data are separable. If they are not, the weights of the gaps
    that the dual program finds prove it: with them the gaps of every model average to zero.
    """
    x, y = data
    d = x.shape[1]
    constraints: list[list[float]] = []
    for point, label in zip(x.tolist(), y.tolist(), strict=True):
        for j in range(k):
            if j != label:
                row = [0.0] * (k * (d + 1) + 1)
                for i, value in enumerate([*point, 1.0]):
                    row[label * (d + 1) + i] = -value
                    row[j * (d + 1) + i] = value
                row[-1] = 1.0
                constraints.append(row)
    solution = scipy.optimize.linprog(
        [0.0] * (k * (d + 1)) + [-1.0],
        A_ub=constraints,
        b_ub=[0.0] * len(constraints),
        bounds=[(-1, 1)] * (k * (d + 1)) + [(None, None)],
    )
    assert solution.status == 0
    theta = double(solution.x[:-1].tolist()).reshape(k, d + 1)
    weights = -double(solution.ineqlin.marginals.tolist())
    return float(solution.x[-1]), (theta[:, :d], theta[:, d]), weights


@pytest.mark.statement("separable", "exact", "scipy")
@settings(max_examples=50)
@given(st.integers(2, 3), st.integers(1, 2), st.data())
def test_separable_or_not_is_what_a_linear_program_says(
    k: int, d: int, data: st.DataObject
) -> None:
    pairs = data.draw(datasets(k, d))
    margin, model, weights = widest_margin(pairs, k)
    if margin > 1e-6:
        assert gaps(model, pairs).min() > 0
        assert exact_loss(model, pairs, 200 / margin) < mp.mpf(10) ** -80
    else:
        # Every model has a pair with no positive gap, whose loss is log 2 or more.
        assert_within(margin, 0.0, FEASIBLE)
        assert weights.min() >= -FEASIBLE
        assert_within(weights.sum(), 1.0, FEASIBLE)
        for scale in (0.0, 1.0, 100.0):
            other = data.draw(whole(k, d)), data.draw(whole(k))
            # Of each parameter's coefficients the weights make zero.
            allowed = FEASIBLE * sum(part.abs().sum().item() for part in other)
            assert_within((weights * gaps(other, pairs).flatten()).sum(), 0.0, allowed)
            assert gaps(other, pairs).min() <= 0
            least = mp.log(2) / len(pairs[1])
            assert exact_loss(other, pairs, scale) >= least * (1 - mp.mpf(10) ** -45)


@pytest.mark.statement("separable", "scipy", "sklearn")
def test_data_that_overlap_have_an_optimum_without_a_penalty() -> None:
    # At -1 a quarter of four labels is class 1, at 1 two thirds of three.
    x = double([[-1.0]] * 4 + [[1.0]] * 3)
    data = x, torch.tensor([0, 0, 0, 1, 0, 1, 1])
    assert_within(widest_margin(data, 2)[0], 0.0, FEASIBLE)
    start = torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    best = newton(start, data, 0.0)
    p = softmax(logits(best, double([[-1.0], [1.0]])))
    # The slopes are the sum and the difference of 4/7 and 3/7 of what p is off.
    assert_within(p[:, 1], double([1 / 4, 2 / 3]), 7 / 3 * AT_MINIMUM)
    # Log-odds -log 3 at -1 and log 2 at 1.
    slope, level = ((part[1] - part[0]).item() for part in best)
    # They move by p's error over p (1 - p), which is 3/16 or more.
    allowed = 16 / 3 * 7 / 3 * AT_MINIMUM
    assert_within(slope, (math.log(2) + math.log(3)) / 2, allowed)
    assert_within(level, (math.log(2) - math.log(3)) / 2, allowed)
    least = loss(best, data).item()
    # The mean entropy of the labels at the two places. Near the minimum errors enter squared.
    entropies = scipy.stats.entropy([[1 / 4, 3 / 4], [1 / 3, 2 / 3]], axis=1)
    assert_within(least, float(4 * entropies[0] + 3 * entropies[1]) / 7, 64 * U)
    peer = LogisticRegression(C=math.inf, solver="newton-cholesky", tol=1e-10)
    peer.fit(x.numpy(), data[1].numpy())
    # It stops at slopes of 1e-10; the least curvature is 0.19.
    assert_within(float(peer.coef_[0, 0]), slope, math.sqrt(2) * 1e-10 / 0.19 + allowed)
    for seed in range(20):
        other = best[0] + normal(2, 1, seed=seed), best[1] + normal(2, seed=seed + 50)
        assert loss(other, data).item() > least
    # No ray leads to zero.
    assert loss((1000 * best[0], 1000 * best[1]), data).item() > 10


@pytest.mark.statement("separable", "exact")
def test_data_that_only_touch_have_an_infimum_above_zero_that_is_not_attained() -> None:
    # Both labels at 0, class 1 alone to the right: not separable, and still no optimum.
    data = double([[0.0], [0.0], [1.0]]), torch.tensor([0, 1, 1])
    assert_within(widest_margin(data, 2)[0], 0.0, FEASIBLE)
    infimum = 2 * mp.log(2) / 3
    model = double([[0.0], [1.0]]), torch.zeros(2, dtype=torch.float64)
    values = [exact_loss(model, data, s) for s in (0.0, 1.0, 10.0, 100.0)]
    assert all(later < earlier for earlier, later in pairwise(values))
    assert infimum < values[-1] < infimum + mp.mpf(10) ** -40
    for seed in range(20):
        assert exact_loss((normal(2, 1, seed=seed), normal(2, seed=seed + 50)), data) > infimum


@pytest.mark.statement("separable")
def test_the_digits_are_separable() -> None:
    data = digits()
    weight, bias = heavy_ball((normal(10, 64), normal(10, seed=1)), data, 0.0, 1500)
    margin = gaps((weight, bias), data).min().item()
    assert margin > 1
    values = [loss((s * weight, s * bias), data).item() for s in (0.25, 0.5, 1.0, 2.0)]
    assert all(later < earlier for earlier, later in pairwise(values))
    assert 0 < values[-1] <= 9 * math.exp(-2 * margin)
