"""The theorem `dials-translate`: What can be said on the other side of the division."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.engines import NoTranslationError, kept, translate
from tests.support.strategies import temperatures, whole_rows

SHARES = st.floats(0.01, 0.99)


def by_share(z: Tensor, share: Any, temperature: float) -> list[int]:
    """The tokens of min-p, at 50 digits, after a division."""
    weights = [mp.exp(mp.mpf(x) / mp.mpf(temperature)) for x in z.tolist()]
    return [i for i, w in enumerate(weights) if w >= share * max(weights)]


@pytest.mark.statement("dials-translate", "exact")
@given(whole_rows(1, 8, 6), temperatures(0.2, 5.0), SHARES)
def test_a_share_takes_a_root(z: Tensor, t: float, m: float) -> None:
    # A gap that is the very border goes as the 50 digits round.
    gaps = [mp.mpf(x - z.max().item()) - mp.log(mp.mpf(m)) for x in z.tolist()]
    assume(all(abs(gap) > mp.mpf("1e-30") for gap in gaps))
    assert by_share(z, mp.mpf(m), 1.0) == by_share(z, mp.mpf(m) ** (1 / mp.mpf(t)), t)


@pytest.mark.statement("dials-translate", "exact")
@given(temperatures(0.2, 5.0), SHARES, SHARES)
def test_no_other_share_will_do(t: float, m: float, other: float) -> None:
    root = mp.mpf(m) ** (1 / mp.mpf(t))
    assume(abs(root - other) > 1e-6)
    gap = -mp.mpf(t) * (mp.log(root) + mp.log(other)) / 2
    z = torch.tensor([0.0, -float(gap)], dtype=torch.float64)
    assert by_share(z, mp.mpf(m), 1.0) == by_share(z, root, t) != by_share(z, mp.mpf(other), t)


@pytest.mark.statement("dials-translate")
@given(
    whole_rows(2, 8, 6), st.sampled_from([0.3, 0.5, 2.0, 4.0]), st.sampled_from([0.02, 0.1, 0.4])
)
def test_translate_says_so(z: Tensor, t: float, m: float) -> None:
    dials = {"temperature": t, "min_p": m}
    found = translate(dials, "llama.cpp", "exllamav3").settings
    assert found["min_p"] == pytest.approx(m ** (1 / t), rel=1e-12)
    assert found["temperature"] == t
    # A whole number is no logarithm of such a share.
    assert kept(z, "exllamav3", **found).tolist() == by_share(z, m, 1.0)
    assert kept(z, "llama.cpp", **dials).tolist() == by_share(z, m, 1.0)


@pytest.mark.statement("dials-translate", "exact")
@pytest.mark.parametrize("n", [0.25, 0.5, 1.0, 1.5])
def test_deviations_are_divided_too(n: float) -> None:
    """In fractions of the squared logits, so without a root."""
    for z in ([0, 1, 3, 7], [5, 5, 1], [2, -1, 0, 0, 4]):
        for t in (Fraction(1, 3), Fraction(5, 2)):
            hot = [Fraction(x) / t for x in z]
            assert _within(hot, n) == _within([Fraction(x) for x in z], n)
            tensor = torch.tensor([float(x) for x in hot], dtype=torch.float64)
            assert kept(tensor, "llama.cpp", top_n_sigma=n).tolist() == _within(hot, n)


def _within(z: list[Fraction], n: float) -> list[int]:
    mean = sum(z) / len(z)
    square = sum((x - mean) ** 2 for x in z) / len(z)
    return [i for i, x in enumerate(z) if (max(z) - x) ** 2 <= Fraction(n) ** 2 * square]


def alone(a: Any, n: int, rho: Any, t: Any) -> bool:
    """Whether top-p keeps only the one token of probability a beside n - 1 equal ones."""
    leader, other = mp.mpf(a) ** (1 / t), ((1 - mp.mpf(a)) / (n - 1)) ** (1 / t)
    assert leader > other
    return bool(leader / (leader + (n - 1) * other) >= rho)


@pytest.mark.statement("dials-translate", "exact")
@pytest.mark.parametrize("t", [Fraction(1, 3), Fraction(4, 5), Fraction(3, 2), Fraction(4)])
@pytest.mark.parametrize("rho", [Fraction(1, 5), Fraction(1, 2), Fraction(7, 10), Fraction(19, 20)])
def test_every_number_is_wrong_for_some_row(rho: Fraction, t: Fraction) -> None:
    size = math.floor(1 / rho) + 2  # the smallest vocabulary that the theorem admits
    hot, r = mp.mpf(t.numerator) / t.denominator, mp.mpf(rho.numerator) / rho.denominator
    rows = [
        (a, n)
        for n in (size - 1, size)
        for a in (r, *(r * (1 - mp.mpf(10) ** -e) for e in range(3, 13, 3)))
    ]
    needed = {n: _leading(r, n, hot) for n in (size - 1, size)}
    assert len(set(needed.values())) == 2
    tried = [mp.mpf(k) / 400 for k in range(1, 401)]
    for number in [*tried, *needed.values()]:
        assert any(alone(a, n, r, mp.mpf(1)) != alone(a, n, number, hot) for a, n in rows)


def _leading(a: Any, n: int, t: Any) -> Any:
    """The formula of the proof."""
    tail = mp.mpf(n - 1) ** (1 - 1 / t) * (1 - a) ** (1 / t)
    return a ** (1 / t) / (a ** (1 / t) + tail)


@pytest.mark.statement("dials-translate", "exact")
def test_at_the_number_of_the_proof_the_leader_is_just_alone() -> None:
    for n in (3, 4, 9):
        for t in (mp.mpf("0.5"), mp.mpf(3)):
            rho = mp.mpf("0.6")
            number = _leading(rho, n, t)
            tiny = mp.mpf("1e-40")
            assert alone(rho, n, number - tiny, t)
            assert not alone(rho - tiny * 1000, n, number + tiny, t)


@pytest.mark.statement("dials-translate")
def test_translate_has_no_number_for_a_mass() -> None:
    for t in (0.5, 2.0):
        with pytest.raises(NoTranslationError, match="divides by the temperature"):
            translate({"temperature": t, "top_p": 0.6}, "llama.cpp", "vllm")
    same = translate({"temperature": 1.0, "top_p": 0.6}, "llama.cpp", "vllm")
    assert same.settings == {"top_p": 0.6}
