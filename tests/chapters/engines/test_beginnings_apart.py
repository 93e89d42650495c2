"""The corollary `beginnings-apart`: Two beginnings of one ranking."""

from __future__ import annotations

from fractions import Fraction

import pytest
from mpmath import mp

from omnivault.engines import probs, translate
from tests.chapters.engines.common import RANKED, logits, renormalized
from tests.support.strategies import assert_within, events, number, total


@pytest.mark.statement("beginnings-apart", "exact")
def test_distance_and_divergence_are_those_of_the_masses() -> None:
    for p in RANKED:
        sets = events(len(p))[1:]
        for larger in sets:
            for smaller in (s for s in sets if s <= larger):
                quotient = total(p[i] for i in smaller) / total(p[i] for i in larger)
                q, other = (_on(p, kept) for kept in (smaller, larger))
                assert sum(abs(a - b) for a, b in zip(q, other, strict=True)) / 2 == 1 - quotient
                divergence = mp.fsum(
                    number(a) * mp.log(number(a / b)) for a, b in zip(q, other, strict=True) if a
                )
                assert_within(divergence, -mp.log(number(quotient)), mp.mpf("1e-45"))


def _on(p: tuple[Fraction, ...], kept: frozenset[int]) -> list[Fraction]:
    return renormalized([x if i in kept else Fraction(0) for i, x in enumerate(p)])


@pytest.mark.statement("beginnings-apart")
def test_what_a_translation_leaves_is_that() -> None:
    """Of 3 tokens one is wanted, the best; the target's top-k keeps all that tie."""
    z = logits([Fraction(2, 5), Fraction(2, 5), Fraction(1, 5)])
    found = translate({"top_k": 2, "top_p": 0.3}, "vllm", "transformers", logits=z)
    assert found.total_variation is not None
    law = probs(z, "vllm", top_k=2, top_p=0.3)
    assert law.tolist() == [0, 1, 0]
    # Both dialects keep the last of two that tie, so nothing is left; of llama.cpp it is the first.
    assert found.total_variation == 0
    other = translate({"top_p": 0.3}, "vllm", "llama.cpp", logits=z)
    assert other.total_variation == 1
    wide = (law - probs(z, "llama.cpp", top_k=2)).abs().sum().item() / 2
    assert wide == pytest.approx(0.5, abs=1e-7)
