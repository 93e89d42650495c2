from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
import scipy.special
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from mpmath import mp
from strategies import (
    as_double,
    assert_within,
    exact_log_softmax,
    exact_softmax,
    number,
    row_pairs,
    rows,
    shares,
    softmax_bound,
    temperatures,
    unit,
    whole_row_pairs,
    whole_rows,
)
from torch import Tensor
from torch.nn.functional import cross_entropy as loss_of_logits
from torch.nn.functional import kl_div, nll_loss

from omnivault.information import cross_entropy, entropy, kl_divergence, perplexity
from omnivault.softmax import log_softmax, softmax

Row = tuple[Fraction, ...]
Data = st.DataObject
Pair = tuple[Row, Row]
Tables = dict[tuple[int, ...], Row]
Tensors = tuple[Tensor, Tensor]
U = unit(torch.float64)
ZERO, ONE, INF = Fraction(0), Fraction(1), math.inf
NOTHING = mp.mpf(10) ** -45  # what 50 digits leave of a zero

pytestmark = pytest.mark.usefixtures("one_thread")


def vertex(k: int, y: int) -> Row:
    return tuple(Fraction(i == y) for i in range(k))


def log(x: Fraction) -> Any:
    return mp.log(number(x)) if x else -mp.inf


def charge(p: Sequence[Fraction], q: Sequence[Fraction]) -> Any:
    """H(p, q); what does not occur is not charged."""
    return mp.fsum(-number(a) * log(b) for a, b in zip(p, q, strict=True) if a)


def divergence(p: Sequence[Fraction], q: Sequence[Fraction]) -> Any:
    both = [(a, b) for a, b in zip(p, q, strict=True) if a]
    return mp.fsum(number(a) * log(a / b) if b else mp.inf for a, b in both)


def same(a: Any, b: Any) -> bool:
    return bool(a == b == mp.inf or abs(a - b) < NOTHING)


def assert_close(computed: float, exact: Any) -> None:
    """Allow what float64 may make of up to six terms of size x.

    Logarithms are off by 8 u x, products and sums by 6 u x, and the inputs by u. What cancels are
    the p log p, which sum to log 6 or less, so that the x sum to the result and twice that.
    """
    assert math.isinf(computed) == mp.isinf(exact)
    assert_within(computed, exact, 128 * U, rel=32 * U)


def of_perplexity(exact: Any, n: int) -> Any:
    """The relative error of a perplexity: that of its logarithm, a mean of n terms, and of exp."""
    return U * ((n + 16) * mp.log(exact) + 16)


def product(chances: Any) -> Fraction:
    return math.prod(chances, start=ONE)


def simplex(k: int) -> SearchStrategy[Row]:
    """Faces, corners and ties included, and probabilities of a millionth."""
    weights = st.lists(st.sampled_from([0, 0, 1, 1, 2, 3, 10**6]), min_size=k, max_size=k)
    return weights.filter(any).map(lambda w: shares(*w))


@st.composite
def pairs(draw: DrawFn) -> Pair:
    p = draw(st.integers(1, 5).flatmap(simplex))
    return p, draw(st.sampled_from([p, p[::-1]]) | simplex(len(p)))


# gibbs --------------------------------------------------------------------------------------------


@pytest.mark.statement("gibbs", "exact", "torch", "scipy")
@given(pairs())
@example((shares(1), shares(1)))
@example((shares(1, 0), shares(0, 1)))
@example((shares(1, 0, 1, 0), shares(0, 1, 0, 1)))
@example((shares(1, 0, 1), shares(1, 0, 1)))
@example((shares(1, 1, 0), shares(1, 1, 2)))
def test_a_divergence_is_positive_unless_the_two_are_equal(pair: Pair) -> None:
    p, q = pair
    exact = divergence(p, q)
    assert exact >= 0
    assert (exact == 0) == (p == q)
    a, b = as_double(p), as_double(q)
    assert_close(kl_divergence(a, b).item(), exact)
    assert_close(scipy.special.rel_entr(a.tolist(), b.tolist()).sum(), exact)
    if 0 not in q:
        assert_close(kl_div(b.log(), a, reduction="sum").item(), exact)


@pytest.mark.statement("gibbs", "exact")
@given(st.integers(2, 5).flatmap(simplex), st.integers(1, 20), st.data())
def test_it_is_positive_however_near_they_are(p: Row, digits: int, data: Data) -> None:
    tiny = Fraction(1, 10 ** (digits + 8))  # less than any share that is not 0
    i, j = data.draw(st.permutations(range(len(p))))[:2]
    assume(p[i] > 0)
    q = [x + tiny * ((k == j) - (k == i)) for k, x in enumerate(p)]
    with mp.workdps(100):  # of second order where both are positive, of first where p is zero
        order = number(tiny**2 * (1 / p[i] + 1 / p[j]) / 2) if p[j] else number(tiny)
        assert 0.9 < divergence(p, q) / order < 1.1


# ce-decomposition ---------------------------------------------------------------------------------


@pytest.mark.statement("ce-decomposition", "exact")
@given(pairs())
def test_cross_entropy_is_entropy_plus_divergence(pair: Pair) -> None:
    p, q = pair
    of_both, of_p = charge(p, q), charge(p, p)
    assert_within(of_both, of_p + divergence(p, q), NOTHING)
    assert of_both >= of_p
    assert (of_both == of_p) == (p == q)
    assert_close(cross_entropy(as_double(p), as_double(q)).item(), of_both)
    assert_close(entropy(as_double(p)).item(), of_p)


@pytest.mark.statement("ce-decomposition", "exact", "torch")
@given(st.integers(1, 5).flatmap(simplex), st.data())
def test_the_charge_of_a_label_is_minus_its_log_probability(q: Row, data: Data) -> None:
    y = data.draw(st.integers(0, len(q) - 1))
    label = vertex(len(q), y)
    assert charge(label, label) == 0
    assert_within(charge(label, q), -log(q[y]), NOTHING)
    assert_within(divergence(label, q), -log(q[y]), NOTHING)
    a, b = as_double(label), as_double(q)
    assert cross_entropy(a, b).item() == kl_divergence(a, b).item()
    assert_close(cross_entropy(a, b).item(), -log(q[y]))
    assert_close(nll_loss(b.log(), torch.tensor(y)).item(), -log(q[y]))


@pytest.mark.statement("ce-decomposition", "exact", "torch")
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=10), st.data()
)
def test_the_loss_is_a_floor_plus_a_mean_divergence(
    labeled: list[tuple[int, int]], data: Data
) -> None:
    n, inputs = len(labeled), sorted({x for x, _ in labeled})
    labels = {x: shares(*(labeled.count((x, y)) for y in range(3))) for x in inputs}
    model = {x: data.draw(st.just(f) | simplex(3)) for x, f in labels.items()}
    share = {x: number(Fraction(sum(x == i for i, _ in labeled), n)) for x in inputs}
    loss = mp.fsum(-log(model[x][y]) for x, y in labeled) / n
    floor = mp.fsum(share[x] * charge(labels[x], labels[x]) for x in inputs)
    assert_within(
        loss, floor + mp.fsum(share[x] * divergence(labels[x], model[x]) for x in inputs), NOTHING
    )
    assert same(loss, floor) == (model == labels)  # the floor is attained, and by one model alone
    assert (floor == 0) == all(1 in f for f in labels.values())
    table = torch.stack([as_double(model[x]).log() for x, _ in labeled])
    assert_close(nll_loss(table, torch.tensor([y for _, y in labeled])).item(), loss)


# perplexity, perplexity-range ---------------------------------------------------------------------

fractions = st.fractions(Fraction(1, 10**6), 1, max_denominator=10**6)
chances = fractions | st.sampled_from([ONE, 1 - Fraction(1, 2**53)])


def exact_perplexity(given_to: Sequence[Fraction]) -> Any:
    """The root of an exact product, without a logarithm."""
    everything = product(given_to)
    return mp.root(1 / number(everything), len(given_to)) if everything else mp.inf


@pytest.mark.statement("perplexity", "exact")
@pytest.mark.statement("perplexity-range", "exact")
@given(st.lists(chances, min_size=1, max_size=6))
def test_the_reciprocal_of_the_geometric_mean_is_one_only_if_all_was_certain(
    given_to: list[Fraction],
) -> None:
    exact = exact_perplexity(given_to)
    assert exact >= 1
    assert (exact == 1) == (set(given_to) == {1})
    log_probs, n = as_double(given_to).log(), len(given_to)
    assert_within(perplexity(log_probs), exact, rel=of_perplexity(exact, n))
    # Read again and again: a product that is no float64.
    again = log_probs.repeat(1000)
    assert_within(perplexity(again), exact, rel=of_perplexity(exact, 1000 * n))
    assert perplexity(as_double([*given_to, 0]).log()).item() == exact_perplexity([ZERO])


@pytest.mark.statement("perplexity-range", "exact")
@pytest.mark.parametrize("k", [1, 2, 3, 49_152])
@pytest.mark.parametrize("n", [1, 7, 1000])
def test_the_uniform_model_has_perplexity_k(k: int, n: int) -> None:
    assert_within(exact_perplexity([Fraction(1, k)] * n), k, rel=NOTHING)
    assert_within(perplexity(as_double([-mp.log(k)] * n)), k, rel=of_perplexity(k, n))


def law(tables: Tables, k: int, n: int) -> Row:
    """The probabilities of all texts of n tokens, from a table for each prefix."""
    texts = itertools.product(range(k), repeat=n)
    return tuple(product(tables[y[:i]][y[i]] for i in range(n)) for y in texts)


@st.composite
def languages(draw: DrawFn) -> tuple[int, int, Tables, Tables]:
    k, n = draw(st.sampled_from([(2, 1), (2, 2), (2, 3), (3, 2), (1, 3)]))
    prefixes = [y for i in range(n) for y in itertools.product(range(k), repeat=i)]
    r = {prefix: draw(simplex(k)) for prefix in prefixes}
    # Another language, or another table for one prefix alone, which may never come.
    changed = prefixes if draw(st.booleans()) else [draw(st.sampled_from(prefixes))]
    return k, n, r, {**r, **{prefix: draw(simplex(k)) for prefix in changed}}


UNUSED = {(): shares(1, 0), (0,): shares(1, 2), (1,): shares(1, 1)}  # no text begins with 1


@pytest.mark.statement("perplexity-range", "exact")
@given(languages())
@example((2, 2, UNUSED, {**UNUSED, (1,): shares(3, 1)}))
def test_the_mean_log_perplexity_over_all_texts_that_there_are(
    case: tuple[int, int, Tables, Tables],
) -> None:
    k, n, of_r, of_p = case
    r, p = law(of_r, k, n), law(of_p, k, n)
    texts = list(itertools.product(range(k), repeat=n))
    # A root of p(y), which is all that the perplexity depends on.
    values = [exact_perplexity([b] + [ONE] * (n - 1)) for b in p]
    mean = mp.fsum(number(a) * mp.log(value) for a, value in zip(r, values, strict=True) if a)
    expected_entropy = mp.fsum(
        number(a) * charge(of_r[y[:i]], of_r[y[:i]])
        for y, a in zip(texts, r, strict=True)
        for i in range(n if a else 0)
    )
    assert_within(mean, (expected_entropy + divergence(r, p)) / n, NOTHING)
    # Smallest if and only if the laws of texts agree; what follows what never comes may differ.
    assert same(mean, expected_entropy / n) == (r == p)
    assert mean > expected_entropy / n - NOTHING


@pytest.mark.statement("perplexity-range", "exact")
def test_where_some_texts_never_come_positive_models_only_approach_the_least_mean() -> None:
    r = law(UNUSED, 2, 2)
    models = [{**UNUSED, (): shares(10**digits - 1, 1)} for digits in (1, 3, 9)]
    above = [divergence(r, law(p, 2, 2)) for p in models]
    assert above[0] > above[1] > above[2] > 0
    assert above[2] < 1e-8


@pytest.mark.statement("perplexity-range", "exact")
@given(st.lists(chances, min_size=6, max_size=6), st.sets(st.integers(1, 5)))
def test_a_text_cut_otherwise_has_another_perplexity_and_the_same_cost_a_character(
    characters: list[Fraction], cuts: set[int]
) -> None:
    ends = [0, *sorted(cuts), 6]
    pieces = [product(characters[i:j]) for i, j in itertools.pairwise(ends)]
    values = [exact_perplexity(text) for text in (pieces, characters)]
    of_text = log(product(characters))
    assert_within(len(pieces) * mp.log(values[0]), -of_text, NOTHING)
    assert_within(6 * mp.log(values[1]), -of_text, NOTHING)
    # But for as many pieces as characters, and for a text that was certain.
    assert same(*values) == (len(pieces) == 6 or set(characters) == {1})
    computed = perplexity(as_double(pieces).log()).log()
    # The same, of up to six pieces, and 8 u for the logarithm.
    assert_within(len(pieces) * computed, -of_text, 256 * U, rel=64 * U)


@pytest.mark.statement("perplexity-range", "exact")
@given(st.integers(1, 4), st.data())
def test_a_string_has_the_probability_of_all_its_cuttings(length: int, data: Data) -> None:
    vocabulary = ("a", "b", "ab", "")  # the last one ends a text
    weights = st.tuples(*[st.integers(0, 3)] * len(vocabulary)).filter(lambda w: w[-1] > 0)
    tables: dict[str, Row] = {}  # the next token, given the string so far

    def chance(before: str, token: str) -> Fraction:
        if before not in tables:
            tables[before] = shares(*data.draw(weights))
        return tables[before][vocabulary.index(token)]

    string = "".join(data.draw(st.lists(st.sampled_from("ab"), min_size=length, max_size=length)))

    def cuttings(before: str) -> list[list[Fraction]]:
        if before == string:
            return [[chance(before, "")]]
        fits = [t for t in vocabulary[:-1] if string.startswith(t, len(before))]
        return [[chance(before, t), *rest] for t in fits for rest in cuttings(before + t)]

    found = cuttings("")
    of_string = sum(map(product, found), ZERO)
    assert len(found) == 2 ** string.count("ab")
    assert of_string <= 1
    for given_to in found:
        q = product(given_to)
        assert q <= of_string
        assert_within(len(given_to) * mp.log(exact_perplexity(given_to)), -log(q), NOTHING)
        alone = all(product(other) == 0 for other in found if other is not given_to)
        assert (q == of_string) == alone


# probabilities-as-logits --------------------------------------------------------------------------


def mistaken(u: Sequence[Fraction], y: int) -> Any:
    weights = [mp.exp(number(x)) for x in u]
    return -mp.log(weights[y] / mp.fsum(weights))


def bounds(k: int) -> tuple[Any, Any]:
    return mp.log(1 + (k - 1) / mp.e), mp.log(k - 1 + mp.e)


@pytest.mark.statement("probabilities-as-logits", "exact", "torch")
@given(st.integers(2, 6).flatmap(simplex), st.data())
def test_probabilities_taken_for_logits_cost_between_two_bounds(u: Row, data: Data) -> None:
    y = data.draw(st.integers(0, len(u) - 1))
    (low, high), exact = bounds(len(u)), mistaken(u, y)
    assert low - NOTHING <= exact <= high + NOTHING
    assert same(exact, low) == (u[y] == 1)
    assert same(exact, high) == (1 in u and u[y] == 0)
    assert_within(high - low, 1, NOTHING)
    assert_close(loss_of_logits(as_double(u), torch.tensor(y)).item(), exact)
    assert_close(-log_softmax(as_double(u))[y].item(), exact)


@pytest.mark.statement("probabilities-as-logits", "exact")
@pytest.mark.parametrize("k", [2, 3, 10])
@pytest.mark.parametrize("away", [Fraction(1, 10**d) for d in (1, 8, 20)])
def test_a_step_away_from_a_corner_is_inside_the_bounds(k: int, away: Fraction) -> None:
    low, high = bounds(k)
    for corner, other in itertools.permutations(range(k), 2):
        u = [x + away * ((i == other) - (i == corner)) for i, x in enumerate(vertex(k, corner))]
        assert low + number(away) / k**2 < mistaken(u, 0) < high - number(away) / k**2


@pytest.mark.statement("probabilities-as-logits", "exact", "torch")
def test_the_bounds_for_a_vocabulary_and_for_one_class() -> None:
    u = torch.zeros(2, 49_152, dtype=torch.float64)
    u[0, 0] = u[1, -1] = 1
    losses = loss_of_logits(u, torch.tensor([0, 0]), reduction="none").tolist()
    # A sum of K terms in any order, and a few logarithms and differences of size log K.
    assert_within(losses, bounds(49_152), (49_152 + 256) * U)
    assert mistaken(vertex(1, 0), 0) == bounds(1)[0] == 0  # and the upper bound, 1, is not attained
    assert_within(bounds(1)[1], 1, NOTHING)


# label-smoothing ----------------------------------------------------------------------------------

EPSILONS = [Fraction(1, 10**12), Fraction(1, 10), Fraction(1, 2), 1 - Fraction(1, 10**12)]
on_epsilons = pytest.mark.parametrize("eps", EPSILONS, ids=lambda e: f"{float(e):.12g}")


def smoothed(k: int, eps: Fraction) -> Row:
    """The target for the label 0."""
    return tuple((1 - eps) * x + eps / k for x in vertex(k, 0))


def mp_log_softmax(z: Sequence[Any], temperature: Any = 1) -> list[Any]:
    scaled = [mp.mpf(x) / temperature for x in z]
    normalizer = mp.log(mp.fsum(mp.exp(x) for x in scaled))
    return [x - normalizer for x in scaled]


def smoothed_loss(log_p: Sequence[Any], eps: Fraction) -> Any:
    return mp.fsum(-number(a) * b for a, b in zip(smoothed(len(log_p), eps), log_p, strict=True))


def stated_gap(k: int, eps: Fraction) -> Any:
    return mp.log(number(1 + k * (1 - eps) / eps))


@pytest.mark.statement("label-smoothing", "exact", "torch")
@on_epsilons
@settings(max_examples=50)
@given(rows(2, 6))
def test_smoothing_adds_a_price_for_confidence(eps: Fraction, z: Tensor) -> None:
    k, log_p = len(z), exact_log_softmax(z)
    from_uniform = mp.fsum((-mp.log(k) - b) / k for b in log_p)
    exact = number(1 - eps) * -log_p[0] + number(eps) * (mp.log(k) + from_uniform)
    assert_within(smoothed_loss(log_p, eps), exact, NOTHING)
    by_torch = loss_of_logits(z, torch.tensor(0), label_smoothing=float(eps))
    assert_close(by_torch.item(), exact)
    assert_close(cross_entropy(as_double(smoothed(k, eps)), softmax(z)).item(), exact)


@pytest.mark.statement("label-smoothing", "exact")
@on_epsilons
@settings(max_examples=50)
@given(whole_rows(2, 6, 2), st.sampled_from([0, 6]))
def test_the_least_smoothed_loss_is_at_the_stated_gap_and_nowhere_else(
    eps: Fraction, step: Tensor, digits: int
) -> None:
    k = len(step)
    best = [stated_gap(k, eps)] + [mp.mpf(0)] * (k - 1)
    at_best = mp_log_softmax(best)
    assert all(same(mp.exp(a), number(b)) for a, b in zip(at_best, smoothed(k, eps), strict=True))
    other = [b + mp.mpf(s) / 10**digits for b, s in zip(best, step.tolist(), strict=True)]
    excess = smoothed_loss(mp_log_softmax(other), eps) - smoothed_loss(at_best, eps)
    assert excess > -NOTHING
    assert (excess < NOTHING) == (len(step.unique()) == 1)  # a shift of all logits


# forward-reverse ----------------------------------------------------------------------------------


@pytest.mark.statement("forward-reverse", "exact", "scipy")
@given(pairs())
@example((shares(1, 1), (ONE, Fraction(5e-324))))  # positive is enough, however small
def test_the_forward_divergence_needs_cover_and_the_reverse_may_not_leave(pair: Pair) -> None:
    for p, q in itertools.permutations(pair):
        finite = all(b > 0 for a, b in zip(p, q, strict=True) if a)
        assert kl_divergence(as_double(p), as_double(q)).isfinite() == finite
        terms = scipy.special.rel_entr([float(x) for x in p], [float(x) for x in q])
        assert math.isfinite(terms.sum()) == finite


class Family(NamedTuple):
    base: list[int]
    statistic: list[list[int]]
    """A row for each outcome."""
    unseen: list[int]
    """What may be added to a distribution without a change of its sum and its moments."""


FAMILIES = {
    "a coin": Family([1, 1], [[0], [1]], [0, 0]),
    "a binomial": Family([1, 3, 3, 1], [[0], [1], [2], [3]], [1, -2, 1, 0]),
    "a bump": Family([1] * 5, [[x, x * x] for x in range(-2, 3)], [1, -3, 3, -1, 0]),
    "logits": Family([1, 1, 1], [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [0, 0, 0]),
    "a tie": Family([1, 2, 1, 5], [[0], [1], [1], [3]], [0, 1, -1, 0]),
    "a constant": Family([1, 2, 3], [[1], [1], [1]], [2, -1, -1]),
}
on_families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def member(family: Family, eta: Sequence[Any]) -> list[Any]:
    exponents = [mp.fdot(zip(eta, t, strict=True)) for t in family.statistic]
    weights = [h * mp.exp(x) for h, x in zip(family.base, exponents, strict=True)]
    return [w / mp.fsum(weights) for w in weights]


def moments(family: Family, p: Sequence[Any]) -> list[Any]:
    return [mp.fdot(zip(p, t, strict=True)) for t in zip(*family.statistic, strict=True)]


def forward(p: Sequence[Any], q: Sequence[Any]) -> Any:
    return mp.fsum(a * mp.log(a / b) for a, b in zip(p, q, strict=True) if a)


def natural(family: Family) -> SearchStrategy[list[Any]]:
    d = len(family.statistic[0])
    return st.lists(st.integers(-8, 8).map(lambda n: mp.mpf(n) / 4), min_size=d, max_size=d)


@pytest.mark.statement("forward-reverse", "exact")
@on_families
@settings(max_examples=30)
@given(st.data())
def test_the_slope_of_the_forward_divergence_is_the_difference_of_moments(
    family: Family, data: Data
) -> None:
    p = [number(x) for x in data.draw(simplex(len(family.base)))]
    eta, other = data.draw(natural(family)), data.draw(natural(family))

    def value(step: Any, direction: Sequence[Any]) -> Any:
        at = [e + step * d for e, d in zip(eta, direction, strict=True)]
        return forward(p, member(family, at))

    sides = zip(moments(family, member(family, eta)), moments(family, p), strict=True)
    stated = [a - b for a, b in sides]
    h = mp.mpf(10) ** -12
    for i, slope in enumerate(stated):
        axis = [int(i == j) for j in range(len(eta))]
        assert_within((value(h, axis) - value(-h, axis)) / (2 * h), slope, 1e-20)
    # Where the moments differ, a step downhill shows that it is not smallest.
    here, size = value(0, stated), mp.fdot(stated, stated)
    assert (value(mp.mpf(-0.01), stated) < here - max(size / 1000, NOTHING)) == (size > NOTHING)
    # A convex function lies above its tangents.
    way = [b - a for a, b in zip(eta, other, strict=True)]
    assert value(1, way) >= here + mp.fdot(stated, way) - NOTHING


@pytest.mark.statement("forward-reverse", "exact")
@on_families
@settings(max_examples=30)
@given(st.data())
def test_where_the_moments_agree_the_forward_divergence_is_smallest(
    family: Family, data: Data
) -> None:
    fit, other = (member(family, data.draw(natural(family))) for _ in range(2))
    # A p with the moments of the fit, as far from it as it can be: it has a zero.
    falls = [f / -d for f, d in zip(fit, family.unseen, strict=True) if d < 0]
    p = [f + min(falls, default=0) * d for f, d in zip(fit, family.unseen, strict=True)]
    p = [x if x > NOTHING else mp.mpf(0) for x in p]
    excess = forward(p, other) - forward(p, fit)
    assert_within(excess, forward(fit, other), NOTHING)
    sides = zip(moments(family, other), moments(family, p), strict=True)
    assert (excess < NOTHING) == all(same(a, b) for a, b in sides)
    assert (forward(p, fit) > NOTHING) == any(family.unseen)


@pytest.mark.statement("forward-reverse", "exact")
def test_a_law_that_is_certain_has_no_smallest_forward_divergence_among_coins() -> None:
    certain = [mp.mpf(0), mp.mpf(1)]
    coins = [member(FAMILIES["a coin"], [mp.mpf(eta)]) for eta in (0, 1, 10, 100)]
    values = [forward(certain, coin) for coin in coins]
    assert all(a > b > 0 for a, b in itertools.pairwise(values))
    assert values[-1] < 1e-43
    # The moments come as near as one likes, and do not agree.
    assert all(0 < 1 - moments(FAMILIES["a coin"], coin)[0] < 1 for coin in coins)


@st.composite
def mixtures(draw: DrawFn) -> tuple[list[Row], Row]:
    """Disjoint pieces on six outcomes, of which some may be left over, and their weights."""
    n = draw(st.integers(1, 3))
    owner = [*range(n), *draw(st.lists(st.integers(0, 3), min_size=6 - n, max_size=6 - n))]
    sizes = draw(st.lists(st.integers(1, 5), min_size=6, max_size=6))
    pieces = [shares(*(s * (o == j) for s, o in zip(sizes, owner, strict=True))) for j in range(n)]
    return pieces, shares(*draw(st.lists(st.sampled_from([1, 2, 10**6]), min_size=n, max_size=n)))


def mixed(pieces: list[Row], weights: Row) -> Row:
    return tuple(
        sum((w * x for w, x in zip(weights, column, strict=True)), ZERO)
        for column in zip(*pieces, strict=True)
    )


@pytest.mark.statement("forward-reverse", "exact")
@given(mixtures(), st.data())
def test_the_reverse_divergence_pays_a_fee_for_the_pieces_it_ignores(
    case: tuple[list[Row], Row], data: Data
) -> None:
    pieces, weights = case
    p, j = mixed(pieces, weights), data.draw(st.integers(0, len(pieces) - 1))
    inside = [i for i, x in enumerate(pieces[j]) if x]
    kept = dict(zip(inside, data.draw(simplex(len(inside))), strict=True))
    q = data.draw(st.just(pieces[j]) | st.just(tuple(kept.get(i, ZERO) for i in range(6))))
    exact = divergence(q, p)
    assert_within(exact, divergence(q, pieces[j]) - log(weights[j]), NOTHING)
    assert same(exact, -log(weights[j])) == (q == pieces[j])  # the fee alone
    assert_close(kl_divergence(as_double(q), as_double(p)).item(), exact)


@pytest.mark.statement("forward-reverse", "exact")
def test_pieces_that_overlap_or_a_q_that_leaves_its_piece_pay_another_fee() -> None:
    first, second, half = shares(1, 1, 0), shares(0, 1, 1), shares(1, 1)
    assert 0 < divergence(first, mixed([first, second], half)) < math.log(2) - 0.3
    everywhere, apart = shares(1, 1, 1), [shares(1, 1, 0), shares(0, 0, 1)]
    assert divergence(everywhere, mixed(apart, half)) < divergence(everywhere, apart[0]) == mp.inf


# distillation -------------------------------------------------------------------------------------


def soft_loss(v: Sequence[Any], z: Sequence[Any], t: Any) -> Any:
    a, b = mp_log_softmax(v, t), mp_log_softmax(z, t)
    return mp.fsum(mp.exp(x) * (x - y) for x, y in zip(a, b, strict=True))


@pytest.mark.statement("distillation", "exact", "torch")
@settings(max_examples=60)
@given(row_pairs(1, 5, 10.0), temperatures(0.1, 1e4))
def test_the_gradient_of_distillation(pair: Tensors, t: float) -> None:
    v, z = pair
    sides = zip(exact_softmax(z, t), exact_softmax(v, t), strict=True)
    stated = [(a - b) / t for a, b in sides]
    h = mp.mpf(10) ** -13
    for i, slope in enumerate(stated):
        up, down = ([x + s * h * (i == j) for j, x in enumerate(z.tolist())] for s in (1, -1))
        found = (soft_loss(v.tolist(), up, t) - soft_loss(v.tolist(), down, t)) / (2 * h)
        assert_within(found, slope, 1e-20)
    x = z.clone().requires_grad_()
    loss = kl_div(log_softmax(x, temperature=t), softmax(v, temperature=t), reduction="sum")
    (by_torch,) = torch.autograd.grad(loss, x)
    # A difference of the two softmaxes, after the teacher's probabilities were added.
    off = softmax_bound(z, t) + softmax_bound(v, t) + softmax_bound(v, t).sum() + 16 * U
    assert_within(by_torch, as_double(stated), off / t)


@pytest.mark.statement("distillation", "exact")
@given(whole_row_pairs(1, 6, 5))
def test_with_its_factor_the_gradient_tends_to_that_of_least_squares(pair: Tensors) -> None:
    v, z = (row.tolist() for row in pair)
    k = len(v)
    differences = [Fraction(b) - Fraction(a) for a, b in zip(v, z, strict=True)]
    d = [number(x - sum(differences, ZERO) / k) for x in differences]
    squares = mp.fdot(d, d) / (2 * k)
    for digits in (5, 9):  # the next term of the series is of order 1 / T
        t = mp.mpf(10) ** digits
        sides = zip(mp_log_softmax(v, t), mp_log_softmax(z, t), d, strict=True)
        assert all(abs(t * (mp.exp(b) - mp.exp(a)) - x / k) < 100 / t for a, b, x in sides)
        assert abs(t**2 * soft_loss(v, z, t) - squares) < 1000 / t
    # Zero if and only if the logits differ by a shift, and then at every temperature.
    assert (squares == 0) == (len(set(differences)) == 1)
    assert all((abs(soft_loss(v, z, t)) < NOTHING) == (squares == 0) for t in (0.5, 1, 100))
