"""The corollary `measure-consequences`: Rules of calculation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.probability.common import U, measure
from tests.support.strategies import assert_within, events, rows, temperatures


@pytest.mark.statement("measure-consequences", "exact")
@settings(max_examples=25)
@given(rows(1, 5), temperatures())
def test_what_follows_from_the_axioms(z: Tensor, temperature: float) -> None:
    probability = measure(z, temperature)
    omega = frozenset(range(len(z)))
    value = {event: probability(event) for event in events(len(z))}
    assert value[frozenset()] == 0
    for a, p_a in value.items():
        assert value[omega - a] == 1 - p_a
        assert 0 <= p_a <= 1
        for b, p_b in value.items():
            if a <= b:
                assert p_a <= p_b
                assert value[b - a] == p_b - p_a
                # Every outcome has a positive share, so a larger event is more probable.
                assert (p_a == p_b) == (a == b)
            assert value[a | b] == p_a + p_b - value[a & b]
            assert value[a | b] <= p_a + p_b


@pytest.mark.statement("measure-consequences")
def test_the_consequences_in_numbers() -> None:
    # Weights 1, 2, 3, 4 out of 10: every probability can be checked by eye.
    z = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64).log()
    p = softmax(z)
    a, b = [0, 1, 2], [2, 3]
    # Logarithms up to 1.4 and exponentials are off by 8 u of themselves; twice, for the sum.
    relative = 64 * U
    assert_within(p[a].sum(), 0.6, rel=relative)
    assert_within(p[b].sum(), 0.7, rel=relative)
    assert_within(p[[2]].sum(), 0.3, rel=relative)
    assert_within(p[[0, 1, 2, 3]].sum(), 0.6 + 0.7 - 0.3, rel=relative)
    assert_within(p[[3]].sum(), 1 - 0.6, rel=relative)
