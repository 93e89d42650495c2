"""The theorem `cut-and-nucleus`: A cut before the nucleus, and after it."""

from __future__ import annotations

from fractions import Fraction

import pytest

from omnivault.engines import kept
from tests.chapters.engines.common import MASSES, RANKED, logits, nucleus, renormalized
from tests.support.strategies import shares


@pytest.mark.statement("cut-and-nucleus", "exact")
def test_before_it_leaves_at_most_what_it_leaves_after() -> None:
    fewer = 0
    for p in RANKED:
        for rho in MASSES:
            r = nucleus(p, rho)
            for j in range(1, len(p) + 1):
                after = sum(x >= p[j - 1] for x in p[:r][:j])  # the cut, of what the nucleus left
                before = nucleus(renormalized(p[:j]), rho)
                assert after == min(j, r)
                assert 1 <= before <= after
                assert r > 1 or before == after == 1
                fewer += before < after
    assert fewer > 1000


@pytest.mark.statement("cut-and-nucleus", "exact")
def test_a_share_keeps_as_many_of_the_nucleus_as_of_the_row() -> None:
    for p in RANKED:
        for share in (Fraction(1, 9), Fraction(1, 3), Fraction(2, 3)):
            j = sum(x >= share * p[0] for x in p)
            for rho in MASSES:
                r = nucleus(p, rho)
                left = renormalized(p[:r])
                assert sum(x >= share * left[0] for x in left) == min(j, r)


@pytest.mark.statement("cut-and-nucleus", "exact")
def test_the_example() -> None:
    p, rho = shares(4, 3, 2, 1), Fraction(3, 4)
    assert nucleus(p, rho) == 3
    assert nucleus(renormalized(p[:3]), rho) == 2
    assert len(kept(logits(p), "sglang", top_k=3, top_p=0.75)) == 3
    assert len(kept(logits(p), "vllm", top_k=3, top_p=0.75)) == 2


@pytest.mark.statement("cut-and-nucleus")
def test_dialects_keep_as_many() -> None:
    """Masses in seventeenths are no sums of these probabilities, nor of what a cut leaves."""
    for p in RANKED:
        if len(set(p)) < len(p):
            continue
        for rho in MASSES[:-1]:
            for j in range(1, len(p) + 1):
                sums = [sum(p[:i]) for i in range(1, len(p) + 1)]
                if rho in sums or rho in [s / sums[j - 1] for s in sums]:
                    continue
                dials = {"top_k": j, "top_p": float(rho)}
                after = min(j, nucleus(p, rho))
                before = nucleus(renormalized(p[:j]), rho)
                for engine, size in (("sglang", after), ("mlx-lm", after), ("vllm", before)):
                    if engine != "mlx-lm" or j < len(p):
                        assert len(kept(logits(p), engine, **dials)) == size
