"""The proposition `permutation-equivariance`: softmax does not look at the names of the classes."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from omnivault.softmax import softmax
from tests.support.strategies import (
    DTYPES,
    as_double,
    assert_within,
    exact_softmax,
    finite_rows,
    rows,
    softmax_bound,
    temperatures,
    whole_rows,
)


def relisted(values: Any, s: tuple[int, ...]) -> list[Any]:
    """Entry i is entry s(i) of the values."""
    return [values[i] for i in s]


@pytest.mark.statement("permutation-equivariance", "symbolic")
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_in_symbols(k: int) -> None:
    z = sympy.symbols(f"z:{k}", real=True)
    temperature = sympy.Symbol("T", positive=True)

    def formula(logits: Any) -> list[Any]:
        weights = [sympy.exp(x / temperature) for x in logits]
        return [w / sum(weights) for w in weights]

    p = formula(z)
    for s in itertools.permutations(range(k)):
        assert formula(relisted(z, s)) == relisted(p, s)
        # Numbers in place of the letters give the same, so the letters have not hidden anything.
        numbers = dict(zip(z, range(k), strict=True))
        moved = dict(zip(z, relisted(range(k), s), strict=True))
        assert [q.subs(moved) for q in p] == relisted([q.subs(numbers) for q in p], s)


@pytest.mark.statement("permutation-equivariance", "exact")
@given(rows(1, 8) | whole_rows(1, 8), temperatures(), st.randoms(use_true_random=False))
def test_logits_in_another_order_have_their_probabilities_in_that_order(
    z: Tensor, temperature: float, random: Any
) -> None:
    s = tuple(random.sample(range(len(z)), len(z)))
    p = softmax(z[list(s)], temperature=temperature)
    expected = as_double(relisted(exact_softmax(z, temperature), s))
    assert_within(p, expected, 2 * softmax_bound(z[list(s)], temperature))


@pytest.mark.statement("permutation-equivariance")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(data=st.data(), temperature=temperatures(1e-30, 1e30))
def test_equal_logits_have_equal_probabilities_to_the_last_bit(
    dtype: torch.dtype, data: st.DataObject, temperature: float
) -> None:
    z = data.draw(finite_rows(dtype, 1, 20))
    twice = data.draw(st.lists(st.sampled_from(z.tolist()), min_size=1, max_size=20))
    z = torch.cat([z, torch.tensor(twice, dtype=dtype)])
    p = softmax(z, temperature=temperature)
    tied = z.unsqueeze(-1) == z.unsqueeze(-2)
    assert bool((p.unsqueeze(-1) == p.unsqueeze(-2))[tied].all())


@pytest.mark.statement("permutation-equivariance", "exact")
def test_in_floating_point_the_order_of_a_sum_changes_every_probability() -> None:
    # Weights that 24 bits hold, near e^-17: less than half of the spacing at 1, and more together.
    one, weight = torch.tensor(1.0), torch.tensor(2.0**-24 * 0.7)
    forward, backward = one + weight + weight, weight + weight + one
    assert forward.item() == 1
    assert backward.item() == 1 + 2**-23
    exact = 1 / (1 + 2 * Fraction(weight.item()))
    assert Fraction((one / backward).item()) < exact < Fraction((one / forward).item()) == 1
    assert (weight / forward).item() != (weight / backward).item()
