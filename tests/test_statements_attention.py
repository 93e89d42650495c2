from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import sympy as sp
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from mpmath import mp
from strategies import (
    DTYPES,
    HALF,
    SINGLE_DOUBLE,
    arithmetic,
    as_double,
    assert_within,
    exact_softmax,
    rows,
    sigma,
    smallest,
    softmax_bound,
    temperatures,
    unit,
    whole_rows,
)
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from omnivault.information import entropy
from omnivault.softmax import log_softmax, softmax, softmax_jacobian

U = unit(torch.float64)

# What 50 digits leave of 1 - 1.
ZERO = mp.mpf(10) ** -45

# Draws have fixed seeds: a test of a distribution passes always or never. Were the seeds new, each
# comparison of a p-value with this would fail a true statement this often.
FALSE_ALARM = 1e-8


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def row(values: Sequence[float], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def is_constant(z: Tensor) -> bool:
    return bool((z == z[0]).all())


def attention_bound(q: Tensor, k: Tensor, v: Tensor, tau: float) -> Tensor:
    """Largest difference of two ways to the same attention, in any order of summation.

    In either a score is a sum of d products, its error divided by tau a relative one of a weight,
    own and through the sum, and the output a sum of n.
    """
    size = 1 + (q.abs() @ k.abs().mT).max() / tau
    return 8 * (q.shape[-1] + k.shape[-2] + 8) * U * size * v.abs().max()


def entropy_bound(z: Tensor, temperature: float) -> float:
    """Largest error of ``entropy(softmax(z))``: d(-p log p) = -(1 + log p) dp, and its own."""
    log_p = torch.log_softmax(z / temperature, -1)
    own = U * (8 + 4 * math.log2(len(z) + 1)) * (-log_p.exp() * log_p).sum()
    return float(((1 - log_p) * softmax_bound(z, temperature)).sum() + own)


def drawn_components(name: str, count: int) -> tuple[Tensor, float]:
    """Independent components with mean 0 and variance 1, and the largest square there is."""
    u = torch.rand(count, generator=seeded(14), dtype=torch.float64)
    return {
        "uniform": ((2 * u - 1) * math.sqrt(3), 3.0),
        "sparse": (torch.where(u < 0.125, -2.0, torch.where(u < 0.25, 2.0, 0.0)).double(), 4.0),
        "skewed": (torch.where(u < 0.2, 2.0, -0.5).double(), 4.0),
        "signs": (torch.where(u < 0.5, -1.0, 1.0).double(), 1.0),
    }[name]


# key-bias -----------------------------------------------------------------------------------------


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


# dot-product-variance -----------------------------------------------------------------------------

# A distribution with finitely many values: value to probability.
Law = dict[Fraction, Fraction]


def two_points(a: Fraction) -> Law:
    """Mean 0 and variance 1: ``a`` with probability 1 / (1 + a^2), and -1 / a."""
    return {a: 1 / (1 + a * a), -1 / a: a * a / (1 + a * a)}


SIGNS = two_points(Fraction(1))
SPARSE = {Fraction(2): Fraction(1, 8), Fraction(0): Fraction(3, 4), Fraction(-2): Fraction(1, 8)}
SKEWED = two_points(Fraction(2))


def moments(law: Law) -> tuple[Fraction, Fraction]:
    mean = sum((x * share for x, share in law.items()), Fraction(0))
    return mean, sum((x * x * share for x, share in law.items()), Fraction(0)) - mean**2


def has_moments(law: Law, mean: int, variance: int) -> bool:
    return moments(law) == (Fraction(mean), Fraction(variance))


def law_of(function: Callable[..., Fraction], *laws: Law) -> Law:
    """The distribution of a function of independent variables, by going through all values."""
    result: Law = {}
    for outcome in itertools.product(*(law.items() for law in laws)):
        value = function(*(x for x, _ in outcome))
        share = math.prod((share for _, share in outcome), start=Fraction(1))
        result[value] = result.get(value, Fraction(0)) + share
    return result


def inner_product(*components: Fraction) -> Fraction:
    d = len(components) // 2
    return sum((a * b for a, b in zip(components[:d], components[d:], strict=True)), Fraction(0))


@pytest.mark.statement("dot-product-variance", "exact")
@settings(max_examples=60)
@given(st.integers(1, 3), st.data())
def test_the_variance_is_the_width_whatever_the_distributions(d: int, data: st.DataObject) -> None:
    # Each of the 2 d components has a distribution of its own.
    values = st.fractions(Fraction(1, 8), Fraction(8), max_denominator=9)
    laws = [
        two_points(data.draw(values)) if data.draw(st.booleans()) else SPARSE for _ in range(2 * d)
    ]
    assert all(has_moments(law, 0, 1) for law in laws)
    product = law_of(inner_product, *laws)
    assert sum(product.values()) == 1
    assert has_moments(product, 0, d)
    # Divided by the root, the variance is divided by d.
    assert moments(product)[1] / d == 1


@pytest.mark.statement("dot-product-variance", "exact")
@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_signs_sum_to_a_random_walk(d: int) -> None:
    product = law_of(inner_product, *[SIGNS] * (2 * d))
    # The product of two signs is a sign: d steps of a fair walk.
    assert product == {
        Fraction(2 * ups - d): Fraction(math.comb(d, ups), 2**d) for ups in range(d + 1)
    }
    assert has_moments(product, 0, d)


@pytest.mark.statement("dot-product-variance", "symbolic")
def test_means_and_variances_of_products_in_symbols() -> None:
    m, n, s, t = sp.symbols("m n s t", real=True)
    # Of independent variables with means m and n and variances s and t.
    variance = sp.expand((s + m**2) * (t + n**2) - (m * n) ** 2)
    assert variance.subs({m: 0, n: 0, s: 1, t: 1}) == 1
    assert sp.expand(variance - (s * t + m**2 * t + n**2 * s)) == 0
    # Each of the four hypotheses is used.
    for value in ({m: 1}, {n: 1}, {s: 2}, {t: 2}):
        assert variance.subs({m: 0, n: 0, s: 1, t: 1} | value) == 2


@pytest.mark.statement("dot-product-variance", "scipy")
def test_normal_components_by_quadrature() -> None:
    # The product of two standard normal variables has the density K_0(|x|) / pi.
    for power in (0, 2):
        moment, error = scipy.integrate.quad(
            lambda x, power=power: 2 * x**power * scipy.special.k0(x) / math.pi, 0, math.inf
        )
        assert_within(moment, 1, error)
        assert error < 1e-7


@pytest.mark.statement("dot-product-variance", "exact")
@pytest.mark.parametrize("d", [2, 3])
def test_what_happens_without_the_hypotheses(d: int) -> None:
    # The same vector twice: the mean is d.
    same = law_of(lambda *q: inner_product(*q, *q), *[SKEWED] * d)
    assert moments(same)[0] == d
    # All components of q equal, and all of k: every product is the same, and the variance d^2.
    repeated = law_of(lambda a, b: d * a * b, SKEWED, SPARSE)
    assert has_moments(repeated, 0, d * d)
    # With all components of q equal and those of k independent the products are uncorrelated:
    # independence is more than is needed.
    half = law_of(lambda a, *k: inner_product(*[a] * d, *k), SKEWED, *[SPARSE] * d)
    assert has_moments(half, 0, d)
    # A mean of 1 in q and k: (1 + 1) (1 + 1) - 1 for each product.
    moved = {x + 1: share for x, share in SIGNS.items()}
    assert has_moments(law_of(inner_product, *[moved] * (2 * d)), d, 3 * d)
    # A variance of 4 in q alone.
    wide = {2 * x: share for x, share in SIGNS.items()}
    assert has_moments(law_of(inner_product, *[wide] * d, *[SIGNS] * d), 0, 4 * d)


@pytest.mark.statement("dot-product-variance", "statistical", false_alarm=3e-9)
@pytest.mark.parametrize("d", [1, 64])
@pytest.mark.parametrize("name", ["normal", "uniform", "skewed", "signs"])
def test_drawn_products_have_the_variance(name: str, d: int) -> None:
    pairs = 20_000
    if name == "normal":
        components = normal(2 * pairs * d, seed=10)
    else:
        components, _ = drawn_components(name, 2 * pairs * d)
    q, k = components.view(2, pairs, d)
    products = (q * k).sum(-1)
    # E[X^4] is 3 d (d - 1) + d E[q^4] E[k^4].
    fourth = {"normal": 3.0, "uniform": 1.8, "skewed": 3.25, "signs": 1.0}[name] ** 2
    deviation = math.sqrt((3 * d * (d - 1) + d * fourth - d * d) / pairs)
    # Seven standard deviations: 3e-12 if the average were normal. Its skewness, at most 0.07, makes
    # that exp(0.07 * 7^3 / 6) = 55 times as much.
    assert abs(products.mean().item()) <= 7 * math.sqrt(d / pairs)
    assert abs(products.square().mean().item() - d) <= 7 * deviation + 1e-12
    scaled = products / math.sqrt(d)
    assert abs(scaled.square().mean().item() - 1) <= 7 * deviation / d + 1e-12


# attention-temperature ----------------------------------------------------------------------------


@pytest.mark.statement("attention-temperature", "exact")
@given(rows(1, 8, bound=6.0), rows(1, 6, bound=4.0), temperatures(0.1, 20.0))
def test_the_norm_of_the_query_divides_the_temperature(g: Tensor, q: Tensor, tau: float) -> None:
    norm = q.norm().item()
    assume(norm > 1e-3)
    weights = softmax(norm * g, temperature=tau)
    expected = as_double(exact_softmax(g, mp.mpf(tau) / mp.mpf(norm)))
    # The product is rounded: u |norm g| / tau, for the class itself and through the sum.
    drift = 2 * U * norm * g.abs().max().item() / tau
    allowed = 2 * softmax_bound(norm * g, tau) + 2 * expected * drift
    assert_within(weights, expected, allowed)
    assert_within(softmax(g, temperature=tau / norm), expected, 2 * allowed + 8 * U * expected)


QUERIES = [
    pytest.param([2.0], 1.0, 3, id="width one"),
    pytest.param([-0.3], 1.0, 2, id="small, negative"),
    pytest.param([3.0, 4.0], math.sqrt(2), 5, id="norm five"),
    pytest.param([1.0] * 64, 8.0, 4, id="width 64, root"),
    pytest.param([1.0] * 64, 1.0, 4, id="width 64, no root"),
    pytest.param([10.0, 0.0, 0.0, -1e-3], 2.0, 6, id="one direction"),
]


def drawn_weights(q: Tensor, tau: float, n: int, rows: int = 10_000) -> Tensor:
    """Logarithms of the weights, for ``rows`` draws of n keys."""
    scores = normal(rows, n, len(q), seed=11) @ q
    return log_softmax(scores, temperature=tau)


@pytest.mark.statement("attention-temperature", "statistical", false_alarm=1.2e-7)
@pytest.mark.parametrize(("values", "tau", "n"), QUERIES)
def test_log_odds_of_weights_are_normal_with_the_temperature(
    values: list[float], tau: float, n: int
) -> None:
    q = row(values)
    temperature = tau / q.norm().item()
    log_a = drawn_weights(q, tau, n)
    # (g_1 - g_2) / T, where g_1 - g_2 has variance 2.
    odds = (log_a[:, 0] - log_a[:, 1]) * temperature / math.sqrt(2)
    assert scipy.stats.kstest(odds.numpy(), "norm").pvalue > FALSE_ALARM
    # Of all classes together: sum of (g_j - mean)^2 is chi-square with n - 1 degrees of freedom,
    # if they are independent and of variance 1.
    centered = (log_a - log_a.mean(-1, keepdim=True)) * temperature
    squares = (centered**2).sum(-1)
    assert scipy.stats.kstest(squares.numpy(), "chi2", (n - 1,)).pvalue > FALSE_ALARM
    # And a temperature that is a fifth off would be seen.
    for wrong in (0.8, 1.25):
        assert scipy.stats.kstest(odds.numpy() * wrong, "norm").pvalue < FALSE_ALARM


@pytest.mark.statement("attention-temperature", "statistical", false_alarm=2.4e-7)
@pytest.mark.parametrize(("values", "tau", "n"), QUERIES)
def test_weights_have_the_law_of_a_softmax_of_normal_logits(
    values: list[float], tau: float, n: int
) -> None:
    q = row(values)
    temperature = tau / q.norm().item()
    weights = drawn_weights(q, tau, n).exp()
    other = softmax(normal(10_000, n, seed=12), temperature=temperature)
    for statistic in (
        lambda a: a[:, -1],
        lambda a: a.amax(-1),
        lambda a: entropy(a),
        lambda a: a[:, 0] * a[:, 1],
    ):
        result = scipy.stats.ks_2samp(statistic(weights).numpy(), statistic(other).numpy())
        assert result.pvalue > FALSE_ALARM


@pytest.mark.statement("attention-temperature", "statistical", false_alarm=1e-8)
def test_each_class_is_the_largest_equally_often() -> None:
    q = row([3.0, -4.0])
    winners = drawn_weights(q, 1.0, 6).argmax(-1)
    counts = torch.bincount(winners, minlength=6)
    assert scipy.stats.chisquare(counts.numpy()).pvalue > FALSE_ALARM


@pytest.mark.statement("attention-temperature", "torch")
def test_fused_attention_runs_at_the_temperature() -> None:
    for d in (1, 16, 64):
        q, k, v = normal(3, 2, 5, d, seed=d)
        for tau in (math.sqrt(d), 1.0, 7.0):
            fused = scaled_dot_product_attention(q, k, v, scale=1 / tau)
            norms = q.norm(dim=-1)
            for head, i in itertools.product(range(2), range(5)):
                # The scores in units of the norm, at tau over the norm.
                g = k[head] @ (q[head, i] / norms[head, i])
                weights = softmax(g, temperature=tau / norms[head, i].item())
                allowed = attention_bound(q[head, i, None], k[head], v[head], tau)
                assert_within(weights @ v[head], fused[head, i], allowed)
        default = scaled_dot_product_attention(q, k, v)
        allowed = attention_bound(q, k, v, math.sqrt(d))
        assert_within(softmax(q @ k.mT, temperature=math.sqrt(d)) @ v, default, allowed)


@pytest.mark.statement("attention-temperature")
def test_a_query_of_zero_has_no_temperature() -> None:
    # It weighs all keys alike, as at T = infinity.
    k = normal(7, 3, seed=13)
    assert softmax(k @ torch.zeros(3).double(), temperature=1.0).tolist() == [1 / 7] * 7


@pytest.mark.statement("attention-temperature", "statistical", false_alarm=1.2e-7)
@pytest.mark.parametrize("name", ["uniform", "sparse", "skewed", "signs"])
def test_the_norm_of_a_query_is_about_the_root_of_its_width(name: str) -> None:
    q, largest = drawn_components(name, 10**6)
    for d in (10**3, 10**4, 10**5, 10**6):
        norm = q[:d].norm().item()
        # Hoeffding: the mean of squares in [0, c] is off by e with probability
        # 2 exp(-2 d e^2 / c^2) at most. That of signs is not off at all, but for the root.
        off = largest * math.sqrt(math.log(2 / FALSE_ALARM) / (2 * d)) if name != "signs" else 4 * U
        assert abs(norm**2 / d - 1) <= off
        # With the root the temperature tends to 1, without it to 1 / sqrt(d).
        for tau, tends in ((math.sqrt(d), 1.0), (1.0, 1 / math.sqrt(d))):
            assert abs((tau / norm / tends) ** -2 - 1) <= off + 32 * U
    assert off < 0.015


@pytest.mark.statement("attention-temperature", "statistical", false_alarm=4e-8)
@pytest.mark.parametrize("d", [1, 64, 1024, 10**6])
def test_the_squared_norm_of_a_normal_query_is_chi_square(d: int) -> None:
    square = normal(d, seed=15).square().sum().item()
    tail = min(scipy.stats.chi2.cdf(square, d), scipy.stats.chi2.sf(square, d))
    assert tail > FALSE_ALARM / 2


@pytest.mark.statement("attention-temperature", "statistical", false_alarm=1e-23)
def test_the_variance_of_a_component_is_what_the_norm_sees() -> None:
    q, _ = drawn_components("uniform", 10**6)
    root = math.sqrt(len(q))
    # A mean of 1 as well makes E[q^2] = 2 and the temperature 1 / sqrt(2); a standard deviation
    # of 3 makes it 1 / 3.
    # Hoeffding: a mean of (q + 1)^2, at most 7.5, that is off by 0.039 has probability 1e-23.
    assert abs(root / (q + 1).norm().item() * math.sqrt(2) - 1) <= 0.01
    assert abs(root / (3 * q).norm().item() * 3 - 1) <= 0.01


# attention-entropy --------------------------------------------------------------------------------


@pytest.mark.statement("attention-entropy", "symbolic")
def test_moments_of_the_proof_in_symbols() -> None:
    t, g = sp.Symbol("t", positive=True), sp.Symbol("g", real=True)
    density = sp.exp(-(g**2) / 2) / sp.sqrt(2 * sp.pi)
    first = sp.simplify(sp.integrate(sp.exp(t * g) * density, (g, -sp.oo, sp.oo)))
    second = sp.simplify(sp.integrate(g * sp.exp(t * g) * density, (g, -sp.oo, sp.oo)))
    assert sp.simplify(first - sp.exp(t**2 / 2)) == 0
    assert sp.simplify(second - t * sp.exp(t**2 / 2)) == 0
    # log n - H tends to -log E[e^(tg)] + t E[g e^(tg)] / E[e^(tg)].
    limit = sp.simplify(sp.expand_log(-sp.log(first) + t * second / first, force=True))
    assert sp.simplify(limit - t**2 / 2) == 0


@pytest.mark.statement("attention-entropy", "exact")
@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0, 2.0, 10.0])
def test_the_limit_by_quadrature(temperature: float) -> None:
    t = 1 / mp.mpf(temperature)
    # Around t, where e^(tg) phi(g) has its mass.
    points = [t - 15, t - 5, t, t + 5, t + 15]
    first = mp.quad(lambda g: mp.exp(t * g) * mp.npdf(g), points)
    second = mp.quad(lambda g: g * mp.exp(t * g) * mp.npdf(g), points)
    limit = 1 / (2 * mp.mpf(temperature) ** 2)
    # The tails beyond 15 are left out: exp(-112).
    assert_within(-mp.log(first) + t * second / first, limit, mp.mpf(10) ** -45)


@pytest.mark.statement("attention-entropy", "exact")
@given(rows(1, 8, bound=8.0), temperatures(0.2, 20.0))
def test_what_is_missing_from_log_n_in_averages(g: Tensor, temperature: float) -> None:
    n, t = len(g), 1 / mp.mpf(temperature)
    values = [mp.mpf(x) for x in g.tolist()]
    first = mp.fsum(mp.exp(t * x) for x in values) / n
    second = mp.fsum(x * mp.exp(t * x) for x in values) / n
    missing = -mp.log(first) + t * second / first
    computed = math.log(n) - entropy(softmax(g, temperature=temperature)).item()
    # And log 8 and the difference are rounded.
    assert_within(computed, missing, entropy_bound(g, temperature) + 8 * U)
    assert missing > -ZERO


def standard_deviation(t: float) -> float:
    """Of what is missing from log n, times sqrt(n), for large n.

    By the delta method it is that of e^(tg) (tg - 1 - t^2) / E[e^(tg)].
    """
    return math.sqrt(math.exp(t * t) * (1 - t * t + t**4) - 1)


@pytest.mark.statement("attention-entropy", "statistical", false_alarm=3e-5)
@pytest.mark.parametrize("temperature", [0.8, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("seed", [16, 17])
def test_long_contexts_miss_one_half_over_t_squared(seed: int, temperature: float) -> None:
    g = normal(10**6, seed=seed)
    limit = 1 / (2 * temperature**2)
    for n in (10**5, 10**6):
        missing = math.log(n) - entropy(softmax(g[:n], temperature=temperature)).item()
        # Eight standard deviations, and a bias of the order 1 / n. The average of e^(tg) is skewed:
        # at T = 0.8 one g of 6.4 is enough, and of new seeds one in 85,000 would fail (by Fourier
        # inversion of the law of the linear term). All cases together: 2.4e-5.
        off = 8 * standard_deviation(1 / temperature) / math.sqrt(n) + 50 / n
        assert abs(missing - limit) <= off
    assert off < 0.04 * limit + 0.002


@pytest.mark.statement("attention-entropy")
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_evenly_spread_scores_converge_without_chance(temperature: float) -> None:
    # Quantiles in the place of draws: the averages of the proof are Riemann sums.
    errors = []
    for n in (10**2, 10**3, 10**4, 10**5):
        levels = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        g = torch.special.ndtri(levels)
        missing = math.log(n) - entropy(softmax(g, temperature=temperature)).item()
        errors.append(abs(missing - 1 / (2 * temperature**2)))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 / temperature**4


@pytest.mark.statement("attention-entropy")
def test_frozen_heads_have_not_reached_the_limit() -> None:
    # Nothing can miss more than log n: at T = 1/3, d = 9, the limit is above log 64.
    assert math.log(64) - 8 / 2 > 0 > math.log(64) - 9 / 2
    for d in (9, 64, 256):
        g = normal(200, 64, seed=18)
        missing = math.log(64) - entropy(softmax(g, temperature=1 / math.sqrt(d)))
        assert missing.max().item() <= math.log(64)
        assert missing.max().item() < d / 2
    assert missing.median().item() > 0.9 * math.log(64)


@pytest.mark.statement("attention-entropy")
@pytest.mark.parametrize("t", [0.5, 1.0, 2.0])
def test_other_scores_miss_something_else(t: float) -> None:
    # Signs, half of them each: t tanh t - log cosh t.
    n = 1000
    g = torch.cat([torch.ones(n // 2), -torch.ones(n // 2)]).double()
    missing = math.log(n) - entropy(softmax(g, temperature=1 / t)).item()
    # Sums of n terms: the normalizer moves the entropy by n u log n, its own sum as much again.
    allowed = (2 * n + 64) * U * math.log(n)
    assert_within(missing, t * math.tanh(t) - math.log(math.cosh(t)), allowed)
    assert abs(missing - t**2 / 2) > 0.01


# attention-gradient -------------------------------------------------------------------------------


def gap_of(s: Tensor) -> float:
    first, second = s.topk(2).values.tolist()
    return float(first - second)


def norm_of(jacobian: Tensor) -> float:
    return float(torch.linalg.svdvals(jacobian)[0])


def norm_error(n: int, gap: float, dtype: torch.dtype = torch.float64) -> float:
    """Largest relative error of the computed norm of a Jacobian.

    Its entries are products of two probabilities, with sums of n in them, whose exponents, the gap
    that counts among them, are rounded; singular values move by c n^2 u of the largest.
    """
    return (8 * gap + 8 * n * n + 4 * n + 128) * unit(dtype)


@pytest.mark.statement("attention-gradient", "torch")
@given(rows(2, 8), st.sampled_from(SINGLE_DOUBLE))
def test_a_gap_bounds_the_jacobian(s: Tensor, dtype: torch.dtype) -> None:
    s = s.to(dtype)
    n = len(s)
    bound = 2 * (n - 1) * math.exp(-gap_of(s.double())) * (1 + norm_error(n, 60, dtype))
    assert norm_of(softmax_jacobian(s)) <= bound
    # Autograd subtracts numbers up to 1, and keeps no digits of a tiny Jacobian.
    jacobian = torch.autograd.functional.jacobian(lambda x: torch.softmax(x, -1), s)
    assert norm_of(jacobian) <= bound + 64 * n * unit(dtype)


@pytest.mark.statement("attention-gradient", "exact")
@settings(max_examples=50)
@given(whole_rows(2, 5, bound=20))
def test_the_bound_in_exact_arithmetic(s: Tensor) -> None:
    n = len(s)
    p = exact_softmax(s)
    jacobian = mp.matrix([[(i == j) * a - a * b for j, b in enumerate(p)] for i, a in enumerate(p)])
    norm = max(mp.eigsy(jacobian, eigvals_only=True))
    largest = max(p)
    rest = mp.fsum(sorted(p)[:-1])
    steps = [
        norm,
        2 * max(a * (1 - a) for a in p),
        2 * rest if gap_of(s) > 0 else mp.mpf(1),
        2 * (n - 1) * mp.exp(-gap_of(s)),
    ]
    # The steps of the proof; the first is an equality for two keys.
    assert all(a <= b * (1 + ZERO) + ZERO for a, b in itertools.pairwise(steps))
    assert n > 2 or abs(norm / steps[1] - 1) < mp.mpf(10) ** -25
    # The whole is strict.
    assert steps[0] < steps[-1]
    if gap_of(s) == 0:
        assert norm <= mp.mpf("0.5") + ZERO
        assert steps[-1] >= 2
        assert largest <= mp.mpf("0.5") + ZERO


@pytest.mark.statement("attention-gradient")
@pytest.mark.parametrize("gap", [0.0, 1e-6, 0.5, 1.0, 5.0, 20.0, 300.0])
def test_two_keys_come_arbitrarily_close(gap: float) -> None:
    s = row([1.0, 1.0 - gap])
    gap = gap_of(s)
    norm = norm_of(softmax_jacobian(s))
    # 2 p_1 p_2.
    expected = 2 * math.exp(-gap) / (1 + math.exp(-gap)) ** 2
    rounding = norm_error(2, 0.0)  # the exponents are exact
    assert_within(norm, expected, rel=rounding)
    ratio = norm / (2 * math.exp(-gap))
    assert 0.25 * (1 - rounding) <= ratio <= 1 + rounding
    assert (ratio > 0.999) == (gap > 8)


@pytest.mark.statement("attention-gradient")
@pytest.mark.parametrize("n", [2, 3, 8, 64])
@pytest.mark.parametrize("gap", [0.0, 0.5, 3.0, 10.0, 100.0])
def test_keys_tied_behind_the_first(n: int, gap: float) -> None:
    s = row([gap] + [0.0] * (n - 1))
    norm = norm_of(softmax_jacobian(s))
    # (1, -1/(n-1), ...) is an eigenvector, with eigenvalue p (1 - p) n / (n - 1); the differences
    # of the tied keys have the eigenvalue (1 - p) / (n - 1).
    rest = (n - 1) * math.exp(-gap)
    p, missed = 1 / (1 + rest), rest / (1 + rest)
    eigenvalues = [p * missed * n / (n - 1)] + [missed / (n - 1)] * (n > 2)
    rounding = norm_error(n, 0.0)  # the exponents are exact
    assert_within(norm, max(eigenvalues), rel=rounding)
    bound = 2 * (n - 1) * math.exp(-gap)
    assert norm <= bound * (1 + rounding)
    if gap >= 100:
        # n / (2 (n - 1)) of the bound, and no more.
        assert_within(norm / bound, n / (2 * (n - 1)), rel=rounding)


@pytest.mark.statement("attention-gradient", "exact")
@pytest.mark.parametrize(
    "values",
    [
        [0.0, 0.0],
        [3.0, 3.0, 3.0],
        [5.0, 5.0, -40.0],
        [5.0, 5.0, 4.9, 4.9],
        [1.0, 1.0 - 1e-12],
        [2.0, 1.0, 3.0, 5.0, 4.0],
        [50.0, 0.0, 0.0, 0.0],
    ],
    ids=["two tied", "all tied", "tie far ahead", "crowd", "near tie", "example", "far ahead"],
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_edge_cases_of_the_bound(values: list[float], dtype: torch.dtype) -> None:
    s = row(values, dtype)
    jacobian = softmax_jacobian(s).double()
    exact = exact_softmax(s)
    expected = torch.stack(
        [
            as_double([(i == j) * a - a * b for j, b in enumerate(exact)])
            for i, a in enumerate(exact)
        ]
    )
    # In half precision the entries are rounded once, some of them to zero.
    n, wide = len(values), arithmetic(dtype)
    rounding = norm_error(n, 50.0, wide) + (2 * unit(dtype) if dtype in HALF else 0.0)
    assert_within(norm_of(jacobian), norm_of(expected), n * smallest(dtype), rel=rounding)
    bound = 2 * (n - 1) * math.exp(-gap_of(s.double()))
    # float16 cannot hold exp(-50) and flushes it.
    assert norm_of(jacobian) <= bound * (1 + rounding)
    if gap_of(s) == 0:
        assert bound >= 2
        assert norm_of(jacobian) <= 0.5 * (1 + rounding)


@pytest.mark.statement("attention-gradient")
def test_a_near_tie_keeps_the_jacobian_and_a_tie_of_losers_does_not() -> None:
    # It is the gap at the top that counts, however far the others are and however they tie.
    assert norm_of(softmax_jacobian(row([9.0, 9.0, 0.0, 0.0]))) > 0.49
    assert norm_of(softmax_jacobian(row([9.0, 0.0, 0.0, 0.0]))) < 1e-3


@pytest.mark.statement("attention-gradient")
@pytest.mark.parametrize("n", [2, 6, 64])
def test_scores_without_the_root_close_the_gradient_exponentially(n: int) -> None:
    # Scores c g have the gap c times that of g: log |J| falls with the slope of the gap.
    g = normal(n, seed=19)
    gap = gap_of(g)
    logs = []
    for c in (20.0 / gap, 40.0 / gap):
        norm = norm_of(softmax_jacobian(c * g))
        # The scores are rounded: exponents up to 2 c |g|.
        rounding = norm_error(n, 2 * c * g.abs().max().item())
        assert norm <= 2 * (n - 1) * math.exp(-c * gap) * (1 + rounding)
        logs.append(math.log(norm))
    assert_within(logs[0] - logs[1], 20, rel=1e-3)


@pytest.mark.statement("attention-gradient")
def test_one_key_has_no_gap_and_no_gradient() -> None:
    # Why n >= 2: there is no second largest score, and the Jacobian is zero.
    assert softmax_jacobian(row([3.0])).tolist() == [[0.0]]
