"""The proposition `key-bias`: A bias of the keys does nothing."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from omnivault.softmax import log_softmax, softmax
from tests.chapters.attention.common import U, attention_bound, normal, row
from tests.support.strategies import (
    DTYPES,
    assert_within,
    rows,
    sigma,
    softmax_bound,
    temperatures,
    whole_rows,
)


def is_constant(z: Tensor) -> bool:
    return bool((z == z[0]).all())


@st.composite
def whole_heads(draw: DrawFn, n: int = 6, d: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """A query, keys and a bias of whole numbers up to 3.

    A score of theirs is at most 3 * 6 * 4 = 72, and exact in every dtype.
    """
    count, width = draw(st.integers(1, n)), draw(st.integers(1, d))
    q, b = (draw(whole_rows(width, width, bound=3)) for _ in range(2))
    k = torch.stack([draw(whole_rows(width, width, bound=3)) for _ in range(count)])
    return q, k, b


@pytest.mark.statement("key-bias")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(head=whole_heads(), tau=temperatures(0.01))
def test_a_bias_of_whole_keys_does_not_change_a_bit(
    dtype: torch.dtype, head: tuple[Tensor, Tensor, Tensor], tau: float
) -> None:
    q, k, b = (x.to(dtype) for x in head)
    before, after = (k * q).sum(-1), ((k + b) * q).sum(-1)
    for subject in (softmax, log_softmax):
        assert torch.equal(subject(after, temperature=tau), subject(before, temperature=tau))


def exact_scores(q: Tensor, k: Tensor) -> list[Fraction]:
    components = [Fraction(x) for x in q.tolist()]
    return [
        sum((a * Fraction(x) for a, x in zip(components, key, strict=True)), Fraction(0))
        for key in k.tolist()
    ]


@pytest.mark.statement("key-bias", "exact", "torch")
@given(st.data(), st.integers(1, 5), st.integers(1, 4), temperatures())
def test_a_bias_of_the_keys_shifts_all_scores_alike(
    data: st.DataObject, n: int, d: int, tau: float
) -> None:
    # Multiples of 2^-20: k + b is exact, and so are the scores, as fractions.
    q, b, *keys = ((data.draw(rows(d, d, bound=4.0)) * 2**20).round() / 2**20 for _ in range(n + 2))
    k = torch.stack(keys)
    shifts = [
        after - before
        for after, before in zip(exact_scores(q, k + b), exact_scores(q, k), strict=True)
    ]
    assert set(shifts) == set(exact_scores(q, b[None]))
    before, after = (softmax(keys @ q, temperature=tau) for keys in (k, k + b))
    # Scores up to d * 4 * 8, each the sum of d products, rounded before the softmax.
    drift = 4 * d * d * 32 * U / tau
    allowed = 2 * softmax_bound(k @ q, tau) + before * (drift * 2 + drift**2)
    assert_within(after, before, allowed)
    fused = scaled_dot_product_attention(q[None], k + b, torch.eye(n).double(), scale=1 / tau)
    assert_within(fused[0], before, 2 * allowed + 16 * U)


@pytest.mark.statement("key-bias")
@given(whole_heads(), temperatures(0.1, 10.0))
def test_a_bias_of_the_query_changes_weights_unless_all_keys_meet_it_alike(
    head: tuple[Tensor, Tensor, Tensor], tau: float
) -> None:
    q, k, b = head
    # The logarithm does not saturate: scores that differ by one or more differ in it.
    same = torch.equal(
        log_softmax(k @ (q + b), temperature=tau), log_softmax(k @ q, temperature=tau)
    )
    assert same == is_constant(k @ b)


@pytest.mark.statement("key-bias")
@pytest.mark.parametrize(
    ("keys", "bias", "changed"),
    [
        pytest.param([[1.0, 2.0], [3.0, -1.0]], [1.0, 0.0], True, id="any two keys"),
        pytest.param([[1.0, 2.0], [1.0, -1.0]], [5.0, 0.0], False, id="equal products"),
        pytest.param([[1.0, 2.0], [3.0, -1.0]], [0.0, 0.0], False, id="no bias"),
        pytest.param([[1.0, 2.0], [1.0, 2.0]], [4.0, -7.0], False, id="equal keys"),
        pytest.param([[3.0, -1.0]], [4.0, -7.0], False, id="one key"),
        pytest.param([[2.0], [3.0]], [1.0], True, id="width one"),
    ],
)
@pytest.mark.parametrize("tau", [0.5, math.sqrt(2), 20.0])
def test_examples_of_both_biases(
    keys: list[list[float]], bias: list[float], changed: bool, tau: float
) -> None:
    k, b = torch.tensor(keys, dtype=torch.float64), row(bias)
    q = torch.linspace(-1, 1, len(bias), dtype=torch.float64) + 0.5
    weights = softmax(k @ q, temperature=tau)
    # Multiples of 1/2, up to 25: all scores are exact.
    assert_within(softmax((k + b) @ q, temperature=tau), weights)
    # Of the logarithm, which does not saturate.
    moved = log_softmax(k @ (q + b), temperature=tau) - log_softmax(k @ q, temperature=tau)
    assert (moved.abs().max().item() > 1e-3) == changed
    if not changed:
        assert_within(moved, torch.zeros_like(moved))


@pytest.mark.statement("key-bias", "torch")
@pytest.mark.parametrize("causal", [False, True])
def test_fused_attention_ignores_a_bias_of_the_keys(causal: bool) -> None:
    q, k, v = normal(3, 2, 10, 16, seed=1)
    b = normal(16, seed=2)
    for tau in (0.5, math.sqrt(16), 30.0):

        def attend(q: Tensor, k: Tensor, scale: float = 1 / tau) -> Tensor:
            return scaled_dot_product_attention(q, k, v, scale=scale, is_causal=causal)

        allowed = attention_bound(q, k.abs() + b.abs(), v, tau)
        assert_within(attend(q, k + b), attend(q, k), allowed)
        assert (attend(q + b, k) - attend(q, k)).abs().max() > 0.01
        # A mask is no matter: the weights of what is left are a softmax as well.
        scores = q @ k.mT
        if causal:
            scores = scores.masked_fill(torch.ones(10, 10).triu(1).bool(), -torch.inf)
        assert_within(softmax(scores, temperature=tau) @ v, attend(q, k + b), allowed)


@pytest.mark.statement("key-bias", "torch")
def test_a_whole_layer_ignores_the_bias_of_its_key_projection() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layer = torch.nn.MultiheadAttention(8, 2, dtype=torch.float64).eval()
    x, b = normal(5, 1, 8, seed=4), normal(8, seed=5)
    with torch.no_grad():
        before = layer(x, x, x)[0]
        changes = {}
        # The projections of queries, keys and values are stacked.
        for part, name in enumerate(("query", "key", "value")):
            layer.in_proj_bias[8 * part : 8 * part + 8] += b
            changes[name] = (layer(x, x, x)[0] - before).abs().max().item()
            layer.in_proj_bias[8 * part : 8 * part + 8] -= b
    # Each projection is a sum of 8 products, a score of 4, divided by sqrt(4), and an output of 8.
    sizes = x.abs() @ layer.in_proj_weight.abs().T + layer.in_proj_bias.abs() + b.abs().repeat(3)
    q, k, v = sizes.flatten(0, 1).amax(0).view(3, 2, 4)
    out = layer.out_proj.weight.abs().sum(-1).max()
    allowed = 256 * U * (1 + (q * k).sum(-1).max() / 2) * v.max() * out
    assert_within(changes["key"], 0, allowed.item())
    assert changes["query"] > 1e-3
    assert changes["value"] > 1e-3


@pytest.mark.statement("key-bias", "torch")
def test_the_gradient_of_the_key_bias_is_zero() -> None:
    q, k, v = normal(3, 7, 4, seed=6)
    slopes = []
    for on_keys in (True, False):
        b = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        query, keys = (q, k + b) if on_keys else (q + b, k)
        out = softmax(query @ keys.mT, temperature=2.0) @ v
        (slope,) = torch.autograd.grad((out * normal(7, 4, seed=7)).sum(), b)
        slopes.append(slope.norm().item())
    # For each of 7 queries the slopes of the scores, a (g - mean of g) / 2, sum to zero but for a
    # few dozen u of the largest g.
    g = normal(7, 4, seed=7).abs() @ v.abs().mT
    assert_within(slopes[0], 0, (7 * 64 * U * g.max() * q.abs().max()).item())
    assert slopes[1] > 0.01


@pytest.mark.statement("key-bias")
def test_a_bias_that_differs_between_the_keys_counts() -> None:
    # A rotary code turns it by an angle that depends on the position.
    q, k, b = normal(2, seed=8), normal(5, 2, seed=9), row([1.0, 0.0])
    angles = torch.arange(5) * 0.3
    turned = torch.stack([angles.cos(), angles.sin()], dim=-1).double()
    moved = softmax((k + turned) @ q) - softmax(k @ q)
    assert moved.abs().max() > 0.01
    # Scores are sums of two products of rounded sums.
    drift = 4 * U * ((k.abs() + b.abs()) @ q.abs()).max()
    assert_within(softmax((k + b) @ q), softmax(k @ q), 2 * softmax_bound(k @ q) + 4 * drift)


@pytest.mark.statement("key-bias")
def test_in_floating_point_a_bias_can_swallow_the_keys() -> None:
    q, k = torch.tensor([1.0, 1.0]), torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    assert softmax((k + 5e7) @ q).tolist() == [0.5, 0.5]
    assert_within(softmax(k @ q)[0].item(), sigma(1), softmax_bound(k @ q)[0])
