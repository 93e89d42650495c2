"""Logits as far apart as a format has them, temperatures from its smallest to its largest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor

from omnivault.sampling import TRUNCATIONS, in_nucleus, plain_sample, sample, top_n_sigma
from omnivault.sampling.temperature import scaled
from tests.package.sampling.common import INF, generator, tokens
from tests.support.strategies import SINGLE_DOUBLE, exact_softmax, smallest, unit

both = pytest.mark.parametrize("draw", [sample, plain_sample])
dtypes = pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)


@pytest.fixture
def flushed() -> Iterator[None]:
    """Subnormal numbers are zero, as on a GPU that is told to be fast."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush subnormal numbers")
    yield
    torch.set_flush_denormal(False)


def far_apart(dtype: torch.dtype) -> tuple[Tensor, float]:
    """Logits whose difference overflows, and a temperature at which each is drawn."""
    most = torch.finfo(dtype).max
    return torch.tensor([0.75 * most, -0.75 * most, 0.0], dtype=dtype), 0.25 * most


@both
@dtypes
def test_logits_whose_difference_overflows_are_all_drawn(draw: Any, dtype: torch.dtype) -> None:
    z, temperature = far_apart(dtype)
    exact = [float(p) for p in exact_softmax(z, temperature)]  # e^-6 beside 1 and e^-3
    assert 0.002 < exact[1] < 0.003
    drawn = draw(z.expand(20_000, 3), temperature=temperature, generator=generator(1))
    counts = drawn.bincount(minlength=3)
    # With the seed it passes or fails for ever; another would fail once in 1,000.
    assert scipy.stats.chisquare(counts, [20_000 * p for p in exact]).pvalue > 1e-3


@dtypes
@pytest.mark.parametrize("each", [False, True], ids=["one temperature", "one for each row"])
def test_quotients_of_logits_that_are_far_apart(dtype: torch.dtype, each: bool) -> None:
    most = torch.finfo(dtype).max
    rows = torch.tensor(
        [[most, -most, 0.0], [-most, -most, -most], [1.0, -most, 0.5], [most / 3, -most, -INF]],
        dtype=dtype,
    )
    temperature = torch.full((4,), most, dtype=dtype) if each else most
    z, _, _ = scaled(rows, temperature, {})
    expected = torch.tensor(
        [[0, -2, -1], [0, 0, 0], [0, -1, -0.5 / most], [0, -4 / 3, -INF]], dtype=dtype
    )
    # Of a difference and of a quotient.
    torch.testing.assert_close(z, expected, rtol=4 * unit(dtype), atol=0)


@dtypes
def test_logits_of_usual_size_are_shifted_exactly_as_ever(dtype: torch.dtype) -> None:
    rows = torch.randn(50, 40, generator=generator(), dtype=dtype)
    rows[:, ::9] *= 1e4
    alone, _, _ = scaled(rows, 0.7, {})
    assert torch.equal(alone, (rows - rows.amax(-1, keepdim=True)) / torch.tensor(0.7, dtype=dtype))
    # A row does not depend on the rows beside it: not on one that needs care either.
    far = torch.full((1, 40), torch.finfo(dtype).max, dtype=dtype)
    far[0, 1] *= -1
    beside, _, _ = scaled(torch.cat([rows, far]), 0.7, {})
    assert torch.equal(beside[:-1], alone)


@dtypes
def test_the_smallest_differences_are_divided(dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).tiny
    for least in (tiny, smallest(dtype)):
        z, _, _ = scaled(torch.tensor([0.0, -least, -3 * least], dtype=dtype), tiny, {})
        assert z.tolist() == [0.0, -least / tiny, -3 * least / tiny]


@both
def test_the_smallest_temperature_is_right_though_subnormal_numbers_are_flushed(
    draw: Any, flushed: None
) -> None:
    tiny = torch.finfo(torch.float32).tiny
    z = torch.tensor([0.0, -tiny, -2 * tiny])
    exact = [float(p) for p in exact_softmax(torch.tensor([0.0, -1.0, -2.0]))]
    for temperature in (tiny, torch.full((20_000,), tiny)):
        drawn = draw(z.expand(20_000, 3), temperature=temperature, generator=generator(2))
        counts = drawn.bincount(minlength=3)
        # As above: one seed in 1,000.
        assert scipy.stats.chisquare(counts, [20_000 * p for p in exact]).pvalue > 1e-3
    # Far from zero the same temperature leaves the largest alone.
    assert draw(z + torch.tensor([0.0, 1.0, 0.0]), temperature=tiny) == 1


FAR_APART: dict[str, tuple[float, list[int]]] = {
    "top_k": (2, [0, 2]),
    "top_n_sigma": (1.5, [0, 2]),
    "top_p": (0.99, [0, 2]),
    "min_p": (0.01, [0, 2]),
    "typical_p": (0.99, [0, 2]),
    "epsilon_cutoff": (0.01, [0, 2]),
    "eta_cutoff": (0.01, [0, 2]),
    "top_a": (0.01, [0, 2]),
    "p_less": (0.1, [0]),  # whose cutoff is above 1/3
    "top_h": (0.95, [0, 2]),
    "tail_free": (0.9, [0]),  # the only turn
    "xtc": (0.01, [1, 2]),
}
"""Of 1, e^-3 and e^-6: a value, before the division or after it, and what it keeps."""


@dtypes
@pytest.mark.parametrize("name", TRUNCATIONS)
def test_truncations_of_logits_that_are_far_apart(name: str, dtype: torch.dtype) -> None:
    z, temperature = far_apart(dtype)
    dial, expected = FAR_APART[name]
    rule = TRUNCATIONS[name]
    quotients, _, _ = scaled(z, temperature, {})
    assert tokens(rule.function(z if rule.commutes else quotients, dial)) == expected
    dials: dict[str, Any] = {name: dial}
    for draw in (sample, plain_sample):
        drawn = draw(z.expand(2000, 3), temperature=temperature, generator=generator(3), **dials)
        assert drawn.unique().tolist() == expected
    # At T = 1 nothing but the largest is left, whatever the rule; XTC never leaves it alone.
    alone = rule.function(z, 1 if name == "top_k" else 0.5)
    assert tokens(alone) == ([0, 1, 2] if name == "xtc" else [0])


@dtypes
def test_a_nucleus_of_logits_that_are_far_apart(dtype: torch.dtype) -> None:
    z, _ = far_apart(dtype)
    assert in_nucleus(z.expand(3, 3), torch.arange(3), 0.999).tolist() == [True, False, False]


def test_top_n_sigma_of_the_smallest_distances() -> None:
    least = smallest(torch.float32)
    z = torch.tensor([0.0, -least, -9 * least])
    assert tokens(top_n_sigma(z, 1.0)) == tokens(top_n_sigma(z / least, 1.0)) == [0, 1]
    # One step of the format below the largest, 0.01 deviations are less.
    assert tokens(top_n_sigma(torch.tensor([0.0, -least]), 0.01)) == [0]
