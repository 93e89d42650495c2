"""The theorem `attention-sink`: A sink."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor
from torch.nn.functional import pad

from omnivault.online_softmax import SoftmaxStatistics, block_statistics, combine
from omnivault.softmax import softmax
from tests.chapters.attention.common import ZERO, U, attention_bound, normal, row
from tests.support.strategies import (
    DTYPES,
    as_double,
    assert_within,
    exact_logsumexp,
    rows,
    sigma,
    softmax_bound,
)

LEVELS = st.floats(-20.0, 20.0)


def padded(s: Tensor, sink: float) -> Tensor:
    return pad(s, (0, 1), value=sink)


def with_sink(s: Tensor, sink: float = 0.0) -> tuple[Tensor, Tensor]:
    """Weights of the keys, and of the sink, as the chapter computes them."""
    both = softmax(padded(s, sink))
    return both[..., :-1], both[..., -1]


def exact_keys(s: list[Any], sink: Any) -> list[Any]:
    """Weights of the keys by the formula, to 50 digits."""
    denominator = mp.exp(sink) + mp.fsum(mp.exp(x) for x in s)
    return [mp.exp(x) / denominator for x in s]


def numbers(s: Tensor) -> list[Any]:
    return [mp.mpf(x) for x in s.tolist()]


@pytest.mark.statement("attention-sink", "exact")
@given(rows(1, 8), LEVELS)
def test_a_sink_is_one_more_logit(s: Tensor, sink: float) -> None:
    exact = exact_keys(numbers(s), mp.mpf(sink))
    keys, left = with_sink(s, sink)
    bound = softmax_bound(padded(s, sink))
    assert_within(keys, as_double(exact), bound[:-1] + U)
    together = sigma(exact_logsumexp(s) - mp.mpf(sink))
    assert_within(mp.fsum(exact), together, rel=ZERO)
    assert_within(left.item(), 1 - together, 2 * bound[-1].item() + 2 * U)
    # As many times the weights without a sink.
    plain = [mp.exp(x - exact_logsumexp(s)) for x in numbers(s)]
    assert_within([a / together for a in exact], plain, rel=ZERO)
    assert 0 < together < 1


@pytest.mark.statement("attention-sink", "exact")
@given(rows(1, 8), LEVELS, LEVELS)
def test_a_level_multiplies_the_odds_and_leaves_the_ratios(
    s: Tensor, sink: float, c: float
) -> None:
    before = exact_keys(numbers(s), mp.mpf(sink))
    after = exact_keys([x + mp.mpf(c) for x in numbers(s)], mp.mpf(sink))
    odds = [mp.fsum(a) / (1 - mp.fsum(a)) for a in (before, after)]
    # 1 minus a sum that may be 1 - 1e-22: half of the digits are left.
    assert_within(odds[1], odds[0] * mp.exp(mp.mpf(c)), rel=mp.mpf(10) ** -20)
    ratios = [[x / a[0] for x in a] for a in (before, after)]
    assert_within(ratios[1], ratios[0], rel=ZERO)
    # The same as a sink that is lower by c.
    assert_within(after, exact_keys(numbers(s), mp.mpf(sink) - mp.mpf(c)), rel=ZERO)


@pytest.mark.statement("attention-sink", "exact")
@given(rows(1, 8), LEVELS)
def test_the_largest_score_bounds_the_total(s: Tensor, sink: float) -> None:
    total = mp.fsum(exact_keys(numbers(s), mp.mpf(sink)))
    top, n = mp.mpf(s.max().item()) - mp.mpf(sink), len(s)
    assert sigma(top) * (1 - ZERO) <= total <= sigma(top + mp.log(n)) * (1 + ZERO)
    # Equalities: equal scores above, one key below.
    equal = mp.fsum(exact_keys([top] * n, mp.mpf(0)))
    assert_within(equal, sigma(top + mp.log(n)), rel=ZERO)


@pytest.mark.statement("attention-sink")
@pytest.mark.parametrize("n", [1, 5, 1000])
def test_a_head_may_read_nothing_or_all(n: int) -> None:
    totals = []
    for level in (-800.0, -100.0, -10.0, 0.0, 10.0, 100.0, 800.0):
        keys, left = with_sink(torch.full((n,), level).double())
        # Sums of n terms, and exponents of size 800.
        bound = (2 * n + 8 * 800 + 64) * U
        assert_within(keys.sum().item(), sigma(level + mp.log(n)), rel=bound, bound=1e-300)
        assert_within(left.item(), sigma(-level - mp.log(n)), rel=bound, bound=1e-300)
        totals.append(keys.sum().item())
    assert totals[0] == 0.0
    assert totals[-1] > 1 - 4 * n * U


@pytest.mark.statement("attention-sink", "exact")
@given(st.lists(st.integers(1, 1000), min_size=2, max_size=8), LEVELS)
def test_any_weights_below_one_have_their_scores(weights: list[int], sink: float) -> None:
    a = [mp.mpf(w) / sum(weights) for w in weights[1:]]
    left = mp.mpf(weights[0]) / sum(weights)
    scores = [mp.mpf(sink) + mp.log(x / left) for x in a]
    assert_within(exact_keys(scores, mp.mpf(sink)), a, rel=ZERO)


@pytest.mark.statement("attention-sink", "torch")
@given(rows(1, 6, bound=6.0), st.floats(-4.0, 4.0))
def test_the_jacobian_sees_the_level(s: Tensor, sink: float) -> None:
    n = len(s)
    keys, left = with_sink(s, sink)
    # Products of two weights, each with the error of exponents up to 12.
    near = 256 * U
    jacobian = torch.autograd.functional.jacobian(lambda x: with_sink(x, sink)[0], s)
    assert_within(jacobian, torch.diag(keys) - keys[:, None] * keys, near)
    assert_within(jacobian.sum(-1), left * keys, n * near)
    # x J x is a_0 times the sum of a_j x_j^2 at least; eigenvalues by a backward stable method.
    smallest = torch.linalg.eigvalsh(jacobian)[0].item()
    least = (left * keys.min()).item()
    assert smallest >= least - 16 * n * near
    assert least > 16 * n * near  # 1.1e-11 at least, for scores in [-6, 6] and these sinks


@pytest.mark.statement("attention-sink", "torch")
def test_torch_appends_a_key_and_a_value_of_zeros() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(20)
        options = {"dtype": torch.float64, "add_zero_attn": True, "bias": False}
        layer = torch.nn.MultiheadAttention(8, 1, **options).eval()
    x = normal(5, 8, seed=21)
    with torch.no_grad():
        ours, weights = layer(x, x, x)
        q, k, v = (x @ part.T for part in layer.in_proj_weight.chunk(3))
        keys, left = with_sink(q @ k.T / math.sqrt(8))
        out = (keys @ v) @ layer.out_proj.weight.T
    allowed = 4 * attention_bound(q, k, torch.ones_like(v), math.sqrt(8))
    assert_within(keys, weights[:, :-1], allowed)
    assert_within(left, weights[:, -1], allowed)
    size = layer.out_proj.weight.abs().sum(-1).max() * v.abs().max()
    assert_within(out, ours, 8 * allowed * size)


@pytest.mark.statement("attention-sink")
@given(rows(1, 8), LEVELS, st.integers(0, 8))
def test_online_softmax_starts_from_the_sink(s: Tensor, sink: float, split: int) -> None:
    state = SoftmaxStatistics(*row([sink, 1.0]))
    for block in (s[:split], s[split:]):
        if len(block):
            state = combine(state, block_statistics(block))
    keys = torch.exp(s - state.maximum) / state.total
    bound = 2 * softmax_bound(padded(s, sink)) + 64 * U * softmax(padded(s, sink))
    assert_within(keys, with_sink(s, sink)[0], bound[:-1])


@pytest.mark.statement("attention-sink")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_that_are_masked_read_nothing(dtype: torch.dtype) -> None:
    s = torch.tensor([[-torch.inf] * 3, [-torch.inf, 0.0, -torch.inf]], dtype=dtype)
    keys, left = with_sink(s)
    assert keys.tolist() == [[0.0, 0.0, 0.0], [0.0, 0.5, 0.0]]
    assert left.tolist() == [1.0, 0.5]


@pytest.mark.statement("attention-sink")
def test_a_bias_of_the_keys_counts() -> None:
    q, k, b = normal(4, seed=22), normal(6, 4, seed=23), normal(4, seed=24)
    odds = []
    for bias in (0 * b, b):
        keys, left = with_sink((k + bias) @ q / 2)
        odds.append(keys.sum() / left)
    # Scores of four products, their size a few units.
    size = 1 + ((k.abs() + b.abs()) @ q.abs()).max().item()
    assert_within(odds[1] / odds[0], torch.exp(q @ b / 2), rel=256 * U * size)
    assert abs(odds[1] / odds[0] - 1) > 0.1


@pytest.mark.statement("attention-sink")
def test_a_one_that_is_added_after_the_shift_loses_the_level() -> None:
    s = row([1.0, -2.0, 0.5])
    for c in (-30.0, 0.0, 30.0):
        shifted = torch.exp(s + c - (s + c).max())
        total = (shifted.sum() / (1 + shifted.sum())).item()
        # A sink whose score is the largest of the keys.
        assert_within(total, with_sink(s, s.max().item())[0].sum().item(), 128 * U)
        assert total >= 0.5
    assert with_sink(s - 30)[0].sum() < 1e-11
