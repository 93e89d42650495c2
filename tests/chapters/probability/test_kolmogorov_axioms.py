"""The axiom `kolmogorov-axioms`: Kolmogorov."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.probability.common import U, measure
from tests.support.strategies import (
    Event,
    assert_within,
    events,
    exact_softmax,
    rows,
    softmax_bound,
    temperatures,
    whole_rows,
)


@pytest.mark.statement("kolmogorov-axioms", "exact")
@pytest.mark.statement("softmax-measure", "exact")
@given(rows(1, 6), temperatures())
def test_an_event_has_the_ratio_of_two_sums_of_exponentials(z: Tensor, temperature: float) -> None:
    p = softmax(z, temperature=temperature)
    everything = events(len(z))
    assert len(everything) == 2 ** len(z)
    for event in everything:
        members = sorted(event)
        weights = [mp.exp((mp.mpf(x) - mp.mpf(z.max().item())) / temperature) for x in z.tolist()]
        expected = mp.fsum(weights[j] for j in members) / mp.fsum(weights)
        # The sum of the errors of its members, and of adding them.
        allowed = softmax_bound(z, temperature)[members].sum().item() + len(z) * U * expected
        assert_within(p[members].sum(), expected, allowed)


@pytest.mark.statement("kolmogorov-axioms", "exact")
@pytest.mark.statement("softmax-measure", "exact")
@given(rows(1, 6), temperatures())
def test_first_axiom_no_event_is_negative(z: Tensor, temperature: float) -> None:
    probability = measure(z, temperature, normalized=False)
    assert all(probability(event) >= 0 for event in events(len(z)))


@pytest.mark.statement("kolmogorov-axioms", "exact")
@pytest.mark.statement("softmax-measure", "exact")
@given(rows(1, 6), temperatures())
def test_second_axiom_something_happens(z: Tensor, temperature: float) -> None:
    omega = frozenset(range(len(z)))
    assert measure(z, temperature)(omega) == 1
    # What the exact normalization had to repair is rounding: K quotients and one sum.
    assert_within(measure(z, temperature, normalized=False)(omega), 1, (len(z) + 1) * U)


@pytest.mark.statement("kolmogorov-axioms", "exact")
@pytest.mark.statement("softmax-measure", "exact")
@settings(max_examples=25)
@given(rows(1, 6), temperatures())
def test_third_axiom_disjoint_events_add_up(z: Tensor, temperature: float) -> None:
    probability = measure(z, temperature)
    everything = events(len(z))
    value = {event: probability(event) for event in everything}
    for a in everything:
        for b in everything:
            together = value[a] + value[b]
            assert value[a | b] == together - value[a & b]
            # Disjointness is needed: every single outcome weighs something.
            assert (value[a | b] == together) == (not a & b)


@pytest.mark.statement("kolmogorov-axioms", "exact")
@pytest.mark.statement("softmax-measure", "exact")
@given(whole_rows(2, 6), temperatures(0.5))
def test_a_sequence_of_disjoint_events_adds_up(z: Tensor, temperature: float) -> None:
    # On a finite space all but K events of a disjoint sequence are empty, so the series stops.
    probability = measure(z, temperature)
    exact = exact_softmax(z, temperature)
    errors = softmax_bound(z, temperature)
    sequence = [frozenset({j}) for j in range(len(z))] + [frozenset[int]()] * 50
    partial = Fraction(0)
    union: Event = frozenset()
    for event in sequence:
        assert not union & event
        partial += probability(event)
        union |= event
        assert probability(union) == partial
        expected = mp.fsum(exact[: len(union)])
        assert_within(partial, expected, 2 * errors.sum().item() + len(z) * U)
    assert partial == 1
