"""The theorem `scale-free-cuts`: Cuts that commute with temperature."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from tests.chapters.cuts.common import (
    SCALE_FREE,
    ZERO,
    Law,
    dials,
    distributions,
    exact,
    heated,
    is_clear,
    kept,
    ours,
    ranking,
    row,
    shares,
    top_p,
)
from tests.support.strategies import exact_softmax, whole_rows

F = Fraction
scales = st.sampled_from([0.125, 0.5, 2.0, 3.0, 64.0])


@pytest.mark.statement("scale-free-cuts", "exact")
@pytest.mark.parametrize("name", SCALE_FREE)
@given(whole_rows(1, 7), scales, st.integers(-100, 100), st.data())
def test_top_k_and_top_n_sigma_see_neither_scale_nor_shift(
    name: str, z: Tensor, scale: float, shift: int, data: st.DataObject
) -> None:
    dial = data.draw(dials(name, len(z)))
    p = exact_softmax(z)
    assert kept(name, heated(p, 1 / mp.mpf(scale)), dial) == kept(name, p, dial)
    assume(is_clear(name, p, dial))
    assert ours(name, scale * z + shift, dial) == ours(name, z, dial) == kept(name, p, dial)


@pytest.mark.statement("scale-free-cuts", "exact")
@pytest.mark.parametrize(
    ("name", "weights", "dial"),
    [
        ("top_p", (2, 1), F(5, 8)),
        ("min_p", (2, 1), F(5, 8)),
        ("typical_p", (3, 1, 1), F(1, 2)),
        ("epsilon_cutoff", (2, 1), F(3, 8)),
        ("eta_cutoff", (9, 1), F(3, 16)),
        ("top_a", (4, 1), F(1, 2)),
        ("p_less", (4, 3, 1), F(2)),
        ("top_h", (4, 1, 1), F(3, 5)),
        ("tail_free", (6, 4, 1, 1), F(3, 10)),
        ("xtc", (2, 1), F(3, 8)),
    ],
)
def test_the_other_ten_see_a_scale(name: str, weights: tuple[int, ...], dial: Fraction) -> None:
    p = shares(*weights)
    hot = heated(p, 2)
    assert name not in SCALE_FREE
    assert is_clear(name, p, dial, F(1, 100))
    assert is_clear(name, hot, dial, F(1, 100))
    assert kept(name, p, dial) != kept(name, hot, dial)
    assert ours(name, row(p), dial) == kept(name, p, dial)
    assert ours(name, row(p) / 2, dial) == kept(name, hot, dial)


@pytest.mark.statement("scale-free-cuts", "exact")
@given(distributions(), st.sampled_from([F(1, 3), F(1, 2), F(2), F(5)]), st.integers(0, 16))
def test_min_p_takes_a_root_of_its_share(p: Law, t: Fraction, sixteenths: int) -> None:
    share = F(sixteenths, 16)
    root = exact(share) ** (1 / exact(t))
    assert kept("min_p", p, share) == kept("min_p", heated(p, t), root)
    if is_clear("min_p", p, share):
        assert ours("min_p", row(p), share) == ours("min_p", row(p) / float(t), root)


def allowed(p: Law, t: Fraction, mass: Fraction) -> tuple[Any, Any]:
    """The masses, above the first and up to the second, that keep at T what one keeps at 1."""
    inside, hot = top_p(p, mass), heated(p, t)
    order = ranking(p)[: len(inside)]
    return mp.fsum(hot[i] for i in order[:-1]), mp.fsum(hot[i] for i in order)


def leader(x: Fraction, n: int) -> list[Fraction]:
    """One token of probability x, and n equal ones."""
    return [x, *[(1 - x) / n] * n]


def until(found: Callable[[int], bool]) -> int:
    for n in (4, 16, 64, 256, 1024, 4096, 16384, 65536):
        if found(n):
            return n
    raise AssertionError("no row is long enough")


@pytest.mark.statement("scale-free-cuts", "exact")
@pytest.mark.parametrize("t", [F(1, 3), F(1, 2), F(2), F(3)])
@pytest.mark.parametrize("mass", [F(1, 10), F(1, 2), F(9, 10), F(99, 100)])
def test_two_rows_want_another_mass_for_the_nucleus(t: Fraction, mass: Fraction) -> None:
    if t > 1:
        level = shares(*[1] * (math.floor(1 / mass) + 1))
        low, high = allowed(level, t, mass)
        n = until(lambda n: allowed(leader(mass, n), t, mass)[1] < low)
        assert len(top_p(level, mass)) >= 2
        assert len(top_p(leader(mass, n), mass)) == 1
        assert ours("top_p", row(leader(mass, n)), mass - F(1, 10**6)) == {0}
    else:
        two = shares(max(mass, F(3, 5)), 1 - max(mass, F(3, 5)))
        low, high = allowed(two, t, mass)
        n = until(lambda n: allowed(leader(mass / 2, n), t, mass)[0] >= high)
        assert top_p(two, mass) == {0}
        assert high < 1
        assert len(ours("top_p", row(leader(mass / 2, n)), mass)) >= 2


@pytest.mark.statement("scale-free-cuts", "exact")
@given(st.integers(1, 99), st.sampled_from([F(1, 3), F(1, 2), F(2), F(3)]), st.integers(1, 20))
def test_rows_of_two_tokens_do_have_a_mass(percent: int, t: Fraction, weight: int) -> None:
    mass, p = F(percent, 100), shares(weight, 7)
    warm = heated([mass, 1 - mass], t)[0] if percent > 50 else mp.mpf("0.5")
    assert kept("top_p", p, mass) == kept("top_p", heated(p, t), warm - ZERO)
