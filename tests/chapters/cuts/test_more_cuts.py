"""The definition `more-cuts`: Eight cuts more."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
import transformers as hf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mpmath import mp

from omnivault.sampling import epsilon_cutoff, eta_cutoff
from tests.chapters.cuts.common import (
    Law,
    dials,
    distributions,
    is_clear,
    kept,
    ours,
    row,
    shares,
)
from tests.support.strategies import HALF, exact_softmax

NAMES = [
    *("epsilon_cutoff", "eta_cutoff", "top_a", "top_n_sigma"),
    *("p_less", "top_h", "tail_free", "xtc"),
]
names = pytest.mark.parametrize("name", NAMES)
F = Fraction


@pytest.mark.statement("more-cuts", "exact")
@names
@given(distributions(max_size=8), st.data())
def test_sets_are_those_of_the_definitions(name: str, p: Law, data: st.DataObject) -> None:
    dial = data.draw(dials(name, len(p)))
    assume(is_clear(name, p, dial))
    assert ours(name, row(p), dial) == kept(name, p, dial)


@pytest.mark.statement("more-cuts", "exact")
@names
@settings(max_examples=40)
@given(
    distributions(),
    st.sampled_from([torch.float32, *HALF]),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.data(),
)
def test_sets_of_rounded_logits_too(
    name: str, p: Law, dtype: torch.dtype, t: float, data: st.DataObject
) -> None:
    dial, z = data.draw(dials(name, len(p))), row(p, t, dtype)
    # Sums of six terms in float32 round by some 2^-19, and a bend of 2^-7 by 2^-12 of it.
    assume(is_clear(name, exact_softmax(z), dial, near=F(1, 2**7)))
    assert ours(name, z, dial) == kept(name, exact_softmax(z), dial)


@pytest.mark.statement("more-cuts", "exact", "transformers")
@given(distributions(), st.integers(1, 15))
def test_epsilon_and_eta_are_those_of_transformers(p: Law, sixteenths: int) -> None:
    epsilon, z = F(sixteenths, 16), row(p)
    if is_clear("epsilon_cutoff", p, epsilon):
        theirs = hf.EpsilonLogitsWarper(float(epsilon))(None, z[None])[0]
        assert torch.equal(epsilon_cutoff(z, float(epsilon)), theirs)
    if is_clear("eta_cutoff", p, epsilon):
        theirs = hf.EtaLogitsWarper(float(epsilon))(None, z[None])[0]
        assert torch.equal(eta_cutoff(z, float(epsilon)), theirs)


@pytest.mark.statement("more-cuts", "exact")
@pytest.mark.parametrize(
    ("name", "weights", "dial", "inside"),
    [
        pytest.param("epsilon_cutoff", (4, 2, 1, 1), F(1, 4), {0, 1}, id="epsilon reached"),
        pytest.param("epsilon_cutoff", (2, 2, 1), F(1, 2), {0, 1}, id="epsilon by none: the best"),
        pytest.param("eta_cutoff", (1, 1, 1, 1), F(1), {0, 1, 2, 3}, id="eta of a level row"),
        pytest.param("eta_cutoff", (5, 2, 2), F(1, 9), {0, 1, 2}, id="eta: the root is less"),
        pytest.param("top_a", (2, 1, 1), F(1), {0, 1, 2}, id="top-a reached"),
        pytest.param("top_n_sigma", (8, 2, 1, 1), mp.inf, {0, 1, 2, 3}, id="all sigmas"),
        pytest.param("top_n_sigma", (4, 1), F(2), {0, 1}, id="two sigmas are the gap of two"),
        pytest.param("p_less", (4, 3, 1, 1), F(2), {0, 1}, id="p-less reached: 1/3"),
        pytest.param("p_less", (3, 3, 2), mp.inf, {0, 1}, id="order infinity: the best"),
        pytest.param("top_h", (1, 1, 1, 1), F(1, 2), {2, 3}, id="half the entropy, reached"),
        pytest.param("tail_free", (3, 2, 1), F(1, 2), {0, 1, 2}, id="a straight line"),
        pytest.param("tail_free", (8, 4, 2, 1, 1), F(3, 4), {0, 1, 2}, id="turns 2, 1, 1"),
        pytest.param("tail_free", (5, 3, 2), F(9, 10), {0}, id="three tokens: the first"),
        pytest.param("tail_free", (5, 3, 2, 0), F(9, 10), {0, 1}, id="one ruled out turns too"),
        pytest.param("xtc", (2, 1, 1), F(1, 4), {2}, id="threshold reached by all"),
        pytest.param("xtc", (2, 1, 1), F(1, 2), {0, 1, 2}, id="threshold reached by one"),
    ],
)
def test_borders_belong_to_the_set(
    name: str, weights: tuple[int, ...], dial: Fraction, inside: set[int]
) -> None:
    p = shares(*weights)
    assert kept(name, p, dial) == inside
    if is_clear(name, p, dial):
        assert ours(name, row(p), dial) == inside


@pytest.mark.statement("more-cuts")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF], ids=str)
def test_equal_logits_stay_together_but_where_one_is_counted(dtype: torch.dtype) -> None:
    level = torch.zeros(4, dtype=dtype)
    together = [("epsilon_cutoff", 0.25), ("epsilon_cutoff", 1), ("eta_cutoff", 1), ("top_a", 1)]
    together += [("top_n_sigma", 0.1), ("p_less", 0.5), ("p_less", 1), ("p_less", 2)]
    together += [("p_less", math.inf), ("tail_free", 0.1), ("xtc", 0.26), ("top_h", 1)]
    for name, dial in together:
        assert ours(name, level, dial) == {0, 1, 2, 3}, (name, dial)
    assert ours("xtc", level, 0.25) == {3}
    assert [ours("top_h", level, h) for h in (0.1, 0.49, 0.51, 0.8)] == [
        {3},
        {3},
        {2, 3},
        {1, 2, 3},
    ]
    pair = torch.tensor([1, 1, 0, 0], dtype=dtype)
    assert ours("tail_free", pair, 0.1) == {1}
    assert ours("top_h", pair, 0.1) == {1}
    assert ours("xtc", pair, 0.3) == {1, 2, 3}


@pytest.mark.statement("more-cuts")
@names
def test_one_token_alone_is_kept_beside_any_that_are_ruled_out(name: str) -> None:
    for z in (row([1]), row([0, 1]), row([0, 1, 0, 0])):
        for dial in (0.01, 0.5, 1):
            assert ours(name, z, dial) == set(z.isfinite().nonzero().flatten().tolist())


@pytest.mark.statement("more-cuts", "exact")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_what_underflows_is_not_taken_for_equal(dtype: torch.dtype) -> None:
    far = torch.tensor([0, -1000, -math.inf], dtype=dtype)
    # 50 digits know the second from nothing.
    p = exact_softmax(far)
    assert 0 < p[1] < mp.mpf(10) ** -400
    assert ours("top_h", far, 0.5) == kept("top_h", p, F(1, 2)) == {0}
    assert ours("xtc", far, 1e-60) == kept("xtc", p, mp.mpf(10) ** -60) == {0, 1}
    level = torch.tensor([0, 0, -math.inf], dtype=dtype)
    assert ours("xtc", level, 1e-60) == {1}
