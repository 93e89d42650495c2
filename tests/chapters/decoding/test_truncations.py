"""The definition `truncations`: Four truncations."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
import transformers as hf
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.sampling import min_p, top_k, top_p, typical_p
from tests.chapters.decoding.common import ranked, row, shares, tokens, weight_rows
from tests.support.strategies import events, number


@pytest.mark.statement("truncations", "exact", "transformers")
@pytest.mark.statement("top-p-smallest", "exact", "transformers")
@given(weight_rows, st.data())
def test_sets_are_those_of_the_definitions_and_of_transformers(
    weights: list[int], data: st.DataObject
) -> None:
    p, k, z = shares(*weights), len(weights), row(shares(*weights)).log()
    count = data.draw(st.integers(1, k))
    assert tokens(top_k(z, count)) == [
        i for i in range(k) if weights[i] >= sorted(weights)[k - count]
    ]
    # Between two of the masses that can be reached, in exact numbers: no border.
    mass = Fraction(2 * data.draw(st.integers(0, sum(weights) - 1)) + 1, 2 * sum(weights))
    order = ranked(p)
    size = min(r for r in range(1, k + 1) if sum(p[i] for i in order[:r]) >= mass)
    nucleus = sorted(order[:size])
    assert tokens(top_p(z, float(mass))) == nucleus
    for r, token in enumerate(order):
        assert (token in nucleus) == (sum(p[i] for i in order[:r]) < mass)
    reach = [s for s in events(k) if sum(p[i] for i in s) >= mass]
    assert min(map(len, reach)) == size == len(nucleus)
    assert frozenset(nucleus) in reach
    share = Fraction(2 * data.draw(st.integers(0, 8)) + 1, 18)
    assume(all(x != share * max(p) for x in p))
    assert tokens(min_p(z, float(share))) == [i for i in range(k) if p[i] >= share * max(p)]
    surprise = [-mp.log(number(x)) for x in p]
    mean = mp.fsum(w * s for w, s in zip(weights, surprise, strict=True)) / sum(weights)
    distance = [mp.nstr(abs(s - mean), 12) for s in surprise]
    near = sorted(range(k), key=lambda i: mp.mpf(distance[i]))
    last = next(i for r, i in enumerate(near) if sum(p[j] for j in near[: r + 1]) >= mass)
    inside = [i for i in range(k) if mp.mpf(distance[i]) <= mp.mpf(distance[last])]
    assert tokens(typical_p(z, float(mass))) == inside
    processors: dict[Any, Tensor] = {
        hf.TopKLogitsWarper(count): top_k(z, count),
        hf.TopPLogitsWarper(float(mass)): top_p(z, float(mass)),
        hf.MinPLogitsWarper(float(share)): min_p(z, float(share)),
        hf.TypicalLogitsWarper(float(mass)): typical_p(z, float(mass)),
    }
    assert all(torch.equal(ours, theirs(None, z[None])[0]) for theirs, ours in processors.items())


@pytest.mark.statement("truncations")
@pytest.mark.statement("top-p-smallest")
def test_borders_of_exact_numbers_belong_to_the_set() -> None:
    z = row([0.5, 0.25, 0.125, 0.125]).log()
    assert tokens(top_k(z, 3)) == [0, 1, 2, 3]  # two are third
    # Log and softmax may lose the last digit of a border, but not of four equal logits.
    assert [len(tokens(top_p(z, q))) for q in (0.49, 0.51, 0.74, 0.76, 1.0)] == [1, 2, 2, 3, 4]
    for equal in (row([0] * 4), row([0] * 4).float()):
        assert [tokens(top_p(equal, q)) for q in (0.25, 0.5, 0.75)] == [[3], [2, 3], [1, 2, 3]]
    assert [len(tokens(min_p(z, m))) for m in (0.24, 0.26, 0.49, 0.51, 1.0)] == [4, 2, 2, 1, 1]
    for rule in (top_p, min_p, typical_p):
        assert tokens(rule(row([0]), 0.5)) == [0]
    # Ruled out before: not among 1, and outside the nucleus of mass 1.
    assert tokens(top_p(row([0, 0, -math.inf]), 1.0)) == [0, 1]
