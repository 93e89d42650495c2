from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from omnivault.sampling import apply_temperature, greedy, sample, top_k
from tests.package.sampling.common import INF, generator, logits_of, nucleus, tokens

# With a fixed seed a test passes for ever or fails for ever. The rate is how often another seed
# would fail a test of a sampler that is right.
FALSE_ALARM = 1e-3
Z = [1.0, 2.0, 0.0, 2.0, -1.0, -INF]


def expected_probs(
    z: list[float],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> list[float]:
    """The distribution of a draw, by the definitions."""

    def renormalized(inside: list[int]) -> list[float]:
        total = math.fsum(probs[i] for i in inside)
        return [probs[i] / total if i in inside else 0.0 for i in range(len(z))]

    weights = [math.exp((x - max(z)) / temperature) for x in z]
    probs = [w / math.fsum(weights) for w in weights]
    if top_k is not None:
        probs = renormalized([i for i, q in enumerate(probs) if q >= sorted(probs)[-top_k]])
    if top_p is not None:
        probs = renormalized(nucleus(probs, top_p))
    if min_p is not None:
        share = min_p * max(probs)
        probs = renormalized([i for i, q in enumerate(probs) if q >= share])
    return probs


def assert_drawn_from(drawn: Tensor, probs: list[float]) -> None:
    counts = torch.bincount(drawn.flatten(), minlength=len(probs)).tolist()
    assert len(counts) == len(probs)
    assert all(n == 0 for n, q in zip(counts, probs, strict=True) if q == 0)
    seen = [n for n, q in zip(counts, probs, strict=True) if q > 0]
    if len(seen) > 1:
        expected = drawn.numel() * np.array([q for q in probs if q > 0])
        assert scipy.stats.chisquare(seen, expected).pvalue > FALSE_ALARM


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 3.0},
        {"temperature": 1e-30},  # the two largest, even
        {"temperature": 1e30},  # all but the one ruled out, even
        {"top_k": 1},
        {"top_k": 3},
        {"top_p": 0.5},
        {"top_p": 0.9},
        {"top_p": 1.0},
        {"min_p": 0.3},
        {"min_p": 1.0},
        {"temperature": 2.0, "top_k": 4, "top_p": 0.9, "min_p": 0.3},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_draws_follow_the_distribution(settings: dict[str, Any], dtype: torch.dtype) -> None:
    z = torch.tensor(Z, dtype=dtype).expand(20_000, 6)
    drawn = sample(z, **settings, generator=generator(3))
    assert drawn.dtype is torch.int64
    assert drawn.shape == (20_000,)
    assert_drawn_from(drawn, expected_probs(Z, **settings))


def test_draws_of_a_batch_follow_the_row_and_its_temperature() -> None:
    z = logits_of("1", 6, 5, torch.float64).reshape(2, 3, 5)
    temperature = torch.tensor([[0.5, 1.0, 2.0], [3.0, 0.7, 0.0]])
    g = generator(4)
    drawn = sample(z.expand(5000, 2, 3, 5), temperature=temperature.expand(5000, 2, 3), generator=g)
    assert drawn.shape == (5000, 2, 3)
    for i, j in np.ndindex(2, 3):
        t = temperature[i, j].item()
        if t == 0:
            assert bool((drawn[:, i, j] == z[i, j].argmax()).all())
        else:
            assert_drawn_from(drawn[:, i, j], expected_probs(z[i, j].tolist(), t))


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,), (2, 0)])
def test_the_shape_of_what_is_drawn(shape: tuple[int, ...]) -> None:
    z = torch.zeros(*shape, 4)
    assert sample(z, top_k=2, top_p=0.9, min_p=0.1).shape == shape
    assert greedy(z).shape == shape
    # A generator for each of no rows is a list of none.
    generators = [generator(i) for i in range(math.prod(shape))]
    assert sample(z, generator=generators).shape == shape


def test_the_settings_left_out_leave_the_distribution_alone() -> None:
    z = logits_of("1", 500, 10)
    plain = sample(z, generator=generator(5))
    assert torch.equal(plain, sample(z, temperature=1, top_k=10, generator=generator(5)))
    torch.manual_seed(5)
    assert torch.equal(plain, sample(z))
    assert not torch.equal(plain, sample(z))


@pytest.mark.parametrize("cold", [0, 1, 2])
def test_a_row_at_zero_is_greedy_and_leaves_the_others_alone(cold: int) -> None:
    z = logits_of("0.1", 3, 50)
    for seed in range(20):
        warm = torch.tensor([0.5, 1.0, 2.0])
        mixed = warm.clone()
        mixed[cold] = 0
        others = torch.arange(3) != cold
        drawn = sample(z, temperature=mixed, top_k=40, generator=generator(seed))
        same = sample(z, temperature=warm, top_k=40, generator=generator(seed))
        assert drawn[cold] == z[cold].argmax()
        assert torch.equal(drawn[others], same[others])


def test_with_a_generator_each_a_row_does_not_see_the_others() -> None:
    z = logits_of("1", 6, 100)
    temperature = torch.tensor([0.5, 1.0, 2.0, 0.0, 1.0, 3.0])
    settings: dict[str, Any] = {"top_k": 50, "top_p": 0.95, "min_p": 0.01}

    def together(order: list[int], shape: tuple[int, ...]) -> list[int]:
        drawn = sample(
            z[order].reshape(*shape, 100),
            temperature=temperature[order].reshape(shape),
            **settings,
            generator=[generator(i) for i in order],
        )
        assert drawn.shape == shape
        return drawn.flatten().tolist()

    alone = [
        sample(row, temperature=t.item(), **settings, generator=generator(i)).item()
        for i, (row, t) in enumerate(zip(z, temperature, strict=True))
    ]
    for order in (list(range(6)), [5, 3, 1, 0, 2, 4]):
        for shape in ((6,), (2, 3), (1, 6)):
            assert together(order, shape) == [alone[i] for i in order]
    assert together([2, 2], (2,)) == [alone[2]] * 2


def test_top_k_is_that_of_the_logits_not_of_what_the_shift_leaves_of_them() -> None:
    # 0 - 1e8 and 1 - 1e8 are one float32: a shift by the largest makes a tie of what is none.
    z = torch.tensor([0.0, 1.0, 1e8])
    assert tokens(top_k(apply_temperature(z, 1e8), 2)) == [1, 2]
    drawn = sample(z.expand(1000, 3), temperature=1e8, top_k=2, generator=generator())
    assert drawn.unique().tolist() == [1, 2]


def test_logits_too_far_apart_for_float32_are_drawn() -> None:
    z = torch.tensor([-3e38, 3e38, 3e38])
    assert_drawn_from(sample(z.expand(1000, 3), generator=generator()), [0, 0.5, 0.5])
    half = torch.tensor([6e4, 6e4, -6e4], dtype=torch.float16).expand(1000, 3)
    assert_drawn_from(sample(half, temperature=1e-3, generator=generator()), [0.5, 0.5, 0])


def kept_by_definition(
    z: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Tensor:
    """The probabilities of a draw in float64, by the definitions, of a row without ties."""
    probs = (z.double() / temperature).softmax(-1)
    if top_k is not None:
        probs = probs.masked_fill(probs < probs.sort().values[-top_k], 0)
    if top_p is not None:
        probs, order = (probs / probs.sum()).sort(descending=True)
        before = probs.cumsum(-1) - probs
        assert bool(((before - top_p).abs() > 1e-5).all())  # rounding does not decide
        probs = torch.zeros_like(probs).scatter(0, order, probs.masked_fill(before >= top_p, 0))
    if min_p is not None:
        assert bool(((probs / probs.max() - min_p).abs() > 1e-5).all())
        probs = probs.masked_fill(probs < min_p * probs.max(), 0)
    return probs / probs.sum()


def chi_square(counts: Tensor, probs: Tensor) -> tuple[float, int]:
    """Statistic and degrees of freedom; cells that expect fewer than 5 are pooled."""
    assert len(counts) == len(probs)
    assert int(counts[probs == 0].sum()) == 0
    seen, expected = counts[probs > 0].double(), counts.sum() * probs[probs > 0]
    few = expected < 5
    if bool(few.any()):
        seen = torch.cat([seen[~few], seen[few].sum().reshape(1)])
        expected = torch.cat([expected[~few], expected[few].sum().reshape(1)])
        assert expected[-1] >= 5
    return float(((seen - expected) ** 2 / expected).sum()), len(seen) - 1


def draws(z: Tensor, total: int, seed: int, **settings: Any) -> Tensor:
    """How often each token of a row is drawn, in batches that take little memory."""
    g, counts, batch = generator(seed), torch.zeros(len(z), dtype=torch.int64), 250_000 // len(z)
    while total:
        rows = z.expand(min(batch, total), len(z))
        counts += sample(rows, **settings, generator=g).bincount(minlength=len(z))
        total -= len(rows)
    return counts


# One in 1 / FALSE_ALARM = 1,000 seeds fails a right sampler in each of these.
@pytest.mark.parametrize(
    ("vocabulary", "settings"),
    [
        (131, {"temperature": 0.7}),
        (150, {"temperature": 0.7, "top_p": 0.9}),
        (131, {"top_k": 40, "top_p": 0.9}),
        (150, {"min_p": 0.1}),
        (128, {}),
    ],
    ids=str,
)
def test_a_million_draws_follow_the_distribution(vocabulary: int, settings: dict[str, Any]) -> None:
    z = torch.randn(vocabulary, generator=generator(vocabulary))
    probs = kept_by_definition(z, **settings)
    assert 2 < (probs > 0).sum() < vocabulary or not {"top_k", "top_p", "min_p"} & set(settings)
    counts = draws(z, 1_000_000, 6, **settings)
    assert counts.sum() == 1_000_000
    assert scipy.stats.chi2.sf(*chi_square(counts, probs)) > FALSE_ALARM


@pytest.mark.parametrize(("settings", "batches"), [({}, 500), ({"top_p": 0.8}, 200)])
def test_draws_at_four_temperatures_follow_the_distributions(
    settings: dict[str, Any], batches: int
) -> None:
    temperatures = torch.tensor([0.3, 0.7, 1.0, 2.0])
    z = torch.randn(4, 130, generator=generator(7))
    counts, g = torch.zeros(4, 130, dtype=torch.int64), generator(7)
    for _ in range(batches):
        rows, t = z.expand(500, 4, 130), temperatures.expand(500, 4)
        drawn = sample(rows, temperature=t, **settings, generator=g)
        for row in range(4):
            counts[row] += drawn[:, row].bincount(minlength=130)
    # The four statistics are independent, so one test of their sum: FALSE_ALARM in all.
    found = [
        chi_square(row, kept_by_definition(x, t, **settings))
        for row, x, t in zip(counts, z, temperatures.tolist(), strict=True)
    ]
    statistic, freedom = (sum(column) for column in zip(*found, strict=True))
    assert scipy.stats.chi2.sf(statistic, freedom) > FALSE_ALARM


# 3,000, since each takes a pass over 49,152 logits. FALSE_ALARM each.
@pytest.mark.parametrize("settings", [{"temperature": 0.7}, {"top_p": 0.9}], ids=str)
def test_draws_of_a_real_row_follow_the_distribution(
    settings: dict[str, Any], real_logits: Tensor
) -> None:
    z = real_logits[8]
    probs = kept_by_definition(z, **settings)
    statistic, freedom = chi_square(draws(z, 3_000, 8, **settings), probs)
    assert freedom >= 10
    assert scipy.stats.chi2.sf(statistic, freedom) > FALSE_ALARM
