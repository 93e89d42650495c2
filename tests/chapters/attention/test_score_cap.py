"""The theorem `score-cap`: A cap on the scores."""

from __future__ import annotations

import math
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
import sympy as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

from omnivault.softmax import softmax
from tests.chapters.attention.common import ZERO, U, normal, row
from tests.support.strategies import as_double, assert_within, nearest, rows, whole_rows

CAPS = st.floats(1.0, 50.0)


def cap(s: Tensor, c: float) -> Tensor:
    return c * torch.tanh(s / c)


def exact_cap(x: Any, c: float) -> Any:
    return c * mp.tanh(mp.mpf(x) / mp.mpf(c))


def exact_weights(s: Tensor, c: float) -> list[Any]:
    """Softmax of the capped scores, to 50 digits."""
    weights = [mp.exp(exact_cap(x, c)) for x in s.tolist()]
    return [w / mp.fsum(weights) for w in weights]


def least_and_most(n: int, c: float) -> tuple[Any, Any]:
    return 1 / (1 + (n - 1) * mp.exp(2 * mp.mpf(c))), 1 / (1 + (n - 1) * mp.exp(-2 * mp.mpf(c)))


@pytest.mark.statement("score-cap", "symbolic")
def test_the_slope_in_symbols() -> None:
    x, c, u = sp.Symbol("x", real=True), sp.Symbol("c", positive=True), sp.Symbol("u", real=True)
    capped = c * sp.tanh(x / c)
    assert sp.simplify(sp.diff(capped, x) - (1 - (capped / c) ** 2)) == 0
    # The integrand of the proof, and what it integrates to.
    assert sp.simplify(sp.diff(u - sp.tanh(u), u) - sp.tanh(u) ** 2) == 0
    assert sp.series(u - sp.tanh(u), u, 0, 5).removeO() == u**3 / 3


@pytest.mark.statement("score-cap", "exact")
@given(rows(2, 6), CAPS)
def test_order_size_and_distance(s: Tensor, c: float) -> None:
    capped = [exact_cap(x, c) for x in s.tolist()]
    for x, y in zip(s.tolist(), capped, strict=True):
        assert abs(y) < c
        assert abs(mp.mpf(x) - y) <= abs(mp.mpf(x)) ** 3 / (3 * mp.mpf(c) ** 2) + ZERO
        assert exact_cap(-x, c) == -y
    a, b = mp.mpf(s[0].item()), mp.mpf(s[1].item())
    # Scores that differ in the 40th digit alone would not differ in 50 digits of their caps.
    if abs(a - b) > mp.mpf(10) ** -15:
        assert (capped[0] > capped[1]) == (a > b)
        assert abs(capped[0] - capped[1]) < abs(a - b)
    near = U * (8 * c + 4 * s.abs())  # s / c is rounded, with a slope of 1 at most
    assert_within(cap(s, c), as_double(capped), near)


@pytest.mark.statement("score-cap")
@given(whole_rows(1, 8, bound=40), CAPS)
def test_ties_stay_ties(s: Tensor, c: float) -> None:
    capped = cap(s, c)
    for x in s:
        assert len(set(capped[s == x].tolist())) == 1


@pytest.mark.statement("score-cap", "exact")
@given(rows(2, 6), st.floats(1.0, 20.0))
def test_weights_lie_strictly_between_the_bounds(s: Tensor, c: float) -> None:
    least, most = least_and_most(len(s), c)
    for weight in exact_weights(s, c):
        assert least < weight < most


@pytest.mark.statement("score-cap", "exact")
@pytest.mark.parametrize("c", [0.5, 5.0, 30.0])
@pytest.mark.parametrize("n", [2, 3, 50])
def test_the_bounds_are_approached(n: int, c: float) -> None:
    bounds = least_and_most(n, c)
    for sign, bound in zip((-1, 1), bounds, strict=True):
        off = []
        for size in (1, 2, 10):
            far = size * sign * c
            weights = exact_weights(row([far] + [-far] * (n - 1)), c)
            off.append(abs(mp.log(weights[0] / bound)))
        assert off[0] > off[1] > off[2]
        # 1 - tanh(10) is below 2 e^(-20), and two of it times c move the log-odds.
        assert off[2] < 8 * c * math.exp(-20)


@pytest.mark.statement("score-cap", "exact")
@given(whole_rows(2, 6), st.sampled_from([1.0, 4.0]), st.sampled_from([-1, 1]))
def test_a_large_level_makes_the_weights_equal(s: Tensor, c: float, sign: int) -> None:
    weights = exact_weights(s + sign * (20 * c + 20), c)
    # All scores are beyond 20 c by 10 or more, their caps within 2 c e^(-40) of c.
    assert_within(weights, 1 / mp.mpf(len(s)), 4 * c * mp.exp(-40))
    constant = bool((s == s[0]).all())
    plain = exact_weights(s, c)
    assert (max(abs(x - y) for x, y in zip(plain, weights, strict=True)) > 1e-12) == (not constant)


@pytest.mark.statement("score-cap", "exact")
@given(rows(2, 6), CAPS, st.integers(0, 5))
def test_a_mask_before_the_cap_masks_nothing(s: Tensor, c: float, key: int) -> None:
    key %= len(s)
    s[key] = -torch.inf
    assert cap(s, c)[key] == -c
    least, _ = least_and_most(len(s), c)
    assert exact_weights(s, c)[key] > least
    s[:] = -torch.inf  # a row of masked keys alone has equal weights
    assert_within(exact_weights(s, c), 1 / mp.mpf(len(s)), ZERO)


@pytest.mark.statement("score-cap", "transformers")
@pytest.mark.parametrize("c", [2.0, 50.0])
def test_gemma_masks_after_the_cap(c: float) -> None:
    q, k, v = normal(3, 1, 2, 6, 8, seed=25)
    k = 4 * k
    mask = torch.full((6, 6), -torch.inf).double().triu(1)
    module: Any = SimpleNamespace(num_key_value_groups=1, training=False, head_dim=8)
    _, weights = eager_attention_forward(module, q, k, v, mask, scaling=8**-0.5, softcap=c)
    scores = q @ k.mT / math.sqrt(8)
    hidden = mask.isinf()
    ours = softmax(cap(scores, c).masked_fill(hidden, -torch.inf))
    # Theirs is a softmax in float32: exponents up to 2 c or the range of the scores.
    allowed = (8 * min(c, scores.abs().max().item()) + 64) * 2.0**-24
    assert_within(weights.double(), ours, allowed)
    assert (weights[..., hidden] == 0).all()
    late = softmax(cap(scores.masked_fill(hidden, -torch.inf), c))
    least, _ = least_and_most(6, c)
    assert late[..., hidden].min().item() > least * (1 - 1e-9)


@pytest.mark.statement("score-cap", "exact")
def test_in_float32_the_cap_is_reached() -> None:
    def rounded_tanh(u: Any) -> frozenset[Fraction]:
        return nearest(Fraction(int(mp.floor(mp.tanh(u) * 2**160)), 2**160), 24)

    border = mp.log(2**26 - 1) / 2
    assert abs(border - 13 * mp.log(2)) < 1e-8
    assert max(rounded_tanh(border * (1 - mp.mpf(10) ** -9))) < 1
    assert rounded_tanh(border * (1 + mp.mpf(10) ** -9)) == {1}
    far = torch.tensor([1000.0, 2000.0, -3000.0])
    assert cap(far, 50.0).tolist() == [50.0, 50.0, -50.0]
