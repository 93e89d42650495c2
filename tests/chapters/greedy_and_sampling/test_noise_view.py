"""The theorem `noise-view`: Sampling is greedy with noise of size T."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import chisquare, gumbel_r
from torch import Tensor

from omnivault.sampling import greedy
from tests.chapters.greedy_and_sampling.common import U, row
from tests.support.strategies import as_double, assert_within, exact_softmax

FALSE_ALARM = 1e-3  # of another seed; with the one given a test passes for ever or fails for ever


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.statement("noise-view", "exact")
@pytest.mark.parametrize("values", [[3.0], [1.0, 1.0], [2.0, 0.0], [2.0, 2.0, 0.0, -3.0, 1.0]])
@pytest.mark.parametrize("t", [0.25, 1.0, 10.0])
def test_the_integral_over_the_winning_noise_is_softmax(values: list[float], t: float) -> None:
    for k, expected in enumerate(exact_softmax(row(values), t)):
        ahead = [(values[k] - z) / t for z in values]  # 0 for the winner: its own density

        def wins(x: float, ahead: list[float] = ahead) -> float:
            return math.exp(-x - sum(math.exp(-x - a) for a in ahead))

        total, error = quad(wins, -5, 70, points=[0, 5, 10, 20, 30], epsabs=1e-14, epsrel=1e-12)
        # quad's own bound; where the integrand counts, its exponents are a few units of rounding.
        assert error < 1e-11
        assert_within(total, expected, error + 64 * U)


@pytest.mark.statement("noise-view", "statistical", false_alarm=0.003)
def test_disturbed_greedy_decoding_samples_with_this_noise_and_this_size() -> None:
    z, t, n = row([2, 1, 1, -1]), 1.5, 100_000
    e = torch.empty(n, 4, dtype=torch.float64).exponential_(generator=seeded(3))
    g = -e.log()

    def p_value(noise: Tensor, t: float = t) -> float:
        seen = greedy(z + noise).bincount(minlength=4)
        return float(chisquare(seen, as_double(exact_softmax(z, t)) * n).pvalue)

    ranked = (z + t * g).sort(-1).values
    assert (ranked[:, -1] > ranked[:, -2]).all()
    assert torch.equal(greedy(z + t * g), greedy((z / t).exp() / e))  # the race
    by_scipy = torch.from_numpy(gumbel_r.rvs(size=(n, 4), random_state=1))
    assert min(p_value(t * g), p_value(g, 1.0), p_value(t * by_scipy)) > FALSE_ALARM
    # Of another size, of another sign, normal with the same variance, one for all tokens.
    normal = torch.randn(n, 4, dtype=torch.float64, generator=seeded()) * math.pi / math.sqrt(6)
    for wrong in (g, 1.6 * g, -t * g, t * normal, t * g[:, :1]):
        assert p_value(wrong) < 1e-6
