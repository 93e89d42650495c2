"""The theorem `attention-temperature`: The temperature of attention."""

from __future__ import annotations

import itertools
import math

import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import torch
from hypothesis import assume, given
from mpmath import mp
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from omnivault.information import entropy
from omnivault.softmax import log_softmax, softmax
from tests.chapters.attention.common import U, attention_bound, drawn_components, normal, row
from tests.support.strategies import (
    as_double,
    assert_within,
    exact_softmax,
    rows,
    softmax_bound,
    temperatures,
)

# Draws have fixed seeds: a test of a distribution passes always or never. Were the seeds new, each
# comparison of a p-value with this would fail a true statement this often.
FALSE_ALARM = 1e-8


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
