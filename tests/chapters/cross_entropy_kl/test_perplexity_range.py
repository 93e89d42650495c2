"""The proposition `perplexity-range`: What a perplexity can be."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from mpmath import mp

from omnivault.information import perplexity
from tests.chapters.cross_entropy_kl.common import (
    NOTHING,
    ONE,
    ZERO,
    Data,
    Row,
    U,
    chances,
    charge,
    divergence,
    exact_perplexity,
    log,
    of_perplexity,
    product,
    same,
    simplex,
)
from tests.support.strategies import as_double, assert_within, number, shares

Tables = dict[tuple[int, ...], Row]


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


Chance = Callable[[str, str], Fraction]
VOCABULARY = ("a", "b", "ab", "")  # the last one ends a text


def writer(data: Data) -> Chance:
    """The probability of a token, given the string so far, from a table for each string."""
    weights = st.tuples(*[st.integers(0, 3)] * len(VOCABULARY)).filter(lambda w: w[-1] > 0)
    tables: dict[str, Row] = {}

    def chance(before: str, token: str) -> Fraction:
        if before not in tables:
            tables[before] = shares(*data.draw(weights))
        return tables[before][VOCABULARY.index(token)]

    return chance


def cuttings(chance: Chance, string: str, before: str = "") -> list[list[Fraction]]:
    """What each way to cut the string into tokens gives to its tokens, without an end."""
    if before == string:
        return [[]]
    fits = [t for t in VOCABULARY[:-1] if string.startswith(t, len(before))]
    return [
        [chance(before, t), *rest] for t in fits for rest in cuttings(chance, string, before + t)
    ]


strings = st.text("ab", min_size=1, max_size=4)


@pytest.mark.statement("perplexity-range", "exact")
@given(strings, st.data())
def test_a_string_has_the_probability_of_all_its_cuttings(string: str, data: Data) -> None:
    chance = writer(data)
    found = [[*given_to, chance(string, "")] for given_to in cuttings(chance, string)]
    of_string = sum(map(product, found), ZERO)
    assert len(found) == 2 ** string.count("ab")
    assert of_string <= 1
    for given_to in found:
        q = product(given_to)
        assert q <= of_string
        assert_within(len(given_to) * mp.log(exact_perplexity(given_to)), -log(q), NOTHING)
        alone = all(product(other) == 0 for other in found if other is not given_to)
        assert (q == of_string) == alone


@pytest.mark.statement("perplexity-range", "exact")
@given(strings, st.data())
def test_a_text_may_begin_with_a_string_that_no_cutting_covers(string: str, data: Data) -> None:
    chance = writer(data)

    def begins(before: str) -> Fraction:
        """The probability that what follows completes the string."""
        if before.startswith(string):
            return ONE
        longer = [(t, before + t) for t in VOCABULARY[:-1]]
        fits = [(t, s) for t, s in longer if s.startswith(string) or string.startswith(s)]
        return sum((chance(before, t) * begins(s) for t, s in fits), ZERO)

    of_beginning = begins("")
    found = [product(given_to) for given_to in cuttings(chance, string)]
    assert all(q <= of_beginning <= 1 for q in found)
    # One token reaches beyond its end, after a cutting of all but its last letter.
    beyond = chance(string[:-1], "ab") if string.endswith("a") else ZERO
    shorter = sum(map(product, cuttings(chance, string[:-1])), ZERO)
    assert of_beginning == sum(found, ZERO) + shorter * beyond
