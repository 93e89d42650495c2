"""The corollary `temperature-of-texts`: A temperature fitted to texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import combinations, product
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject
from mpmath import mp
from torch import Tensor

from omnivault.calibration import fit_temperature
from tests.chapters.calibration.common import (
    ZERO,
    bisected,
    fit_bound,
    generator,
    mean_of,
    softmax_of,
)
from tests.support.strategies import assert_within, double

Row = list[Any]
OfPrefix = Callable[[tuple[int, ...]], Row]


class Texts(NamedTuple):
    """Texts of so many tokens: the logits after each beginning, and what is drawn there.

    The first entry of a prefix is the beginning, the first of whose two is drawn with ``first``.
    At the inverse temperature ``beta`` the expected loss is smallest.
    """

    tokens: int
    classes: int
    first: Any
    logits: OfPrefix
    law: OfPrefix
    beta: Any


class Read(NamedTuple):
    chance: Any
    slopes: Row
    variances: Row


def read(texts: Texts, beta: Any) -> Iterator[Read]:
    """Every text with its chance, and of each token E_p[z] - z_y and the variance of the logits."""
    for start, *y in product(range(2), *[range(texts.classes)] * texts.tokens):
        chance = texts.first if start == 0 else 1 - texts.first
        slopes, variances = [], []
        for t, token in enumerate(y):
            prefix = (start, *y[:t])
            row = texts.logits(prefix)
            p = softmax_of(row, beta)
            mean = mean_of(row, p)
            chance *= texts.law(prefix)[token]
            slopes.append(mean - row[token])
            variances.append(mean_of([(x - mean) ** 2 for x in row], p))
        yield Read(chance, slopes, variances)


def mean_slope(texts: Texts, beta: Any) -> Any:
    return mp.fsum(text.chance * mp.fsum(text.slopes) for text in read(texts, beta))


def curvature(texts: Texts) -> Any:
    return mp.fsum(text.chance * mp.fsum(text.variances) for text in read(texts, texts.beta))


def spread(texts: Texts) -> Any:
    """The corollary's v."""
    return mp.fsum(text.chance * mp.fsum(text.slopes) ** 2 for text in read(texts, texts.beta))


def spread_of_tokens(texts: Texts) -> Any:
    """What v would be if tokens were independent."""
    return mp.fsum(
        text.chance * mp.fsum(x**2 for x in text.slopes) for text in read(texts, texts.beta)
    )


def error_variance(texts: Texts) -> Any:
    """That of sqrt(N) times the error, by the corollary."""
    return spread(texts) / curvature(texts) ** 2


def best(logits: OfPrefix, law: OfPrefix) -> Texts:
    """Find where the expected loss is smallest, for texts of three tokens, of two classes each."""
    texts = Texts(3, 2, mp.mpf("0.4"), logits, law, None)
    at = mp.findroot(
        lambda beta: mean_slope(texts, beta), (mp.mpf("0.2"), mp.mpf(2)), solver="anderson"
    )
    return texts._replace(beta=at)


def two(p: str) -> Row:
    return [mp.mpf(p), 1 - mp.mpf(p)]


def from_last(prefix: tuple[int, ...]) -> Row:
    return [2, 0] if prefix[-1] == 0 else [1, 0]


# Whole texts on one of two topics, of which the model knows nothing.
TOPICS = best(from_last, lambda prefix: two("0.95") if prefix[0] == 0 else two("0.5"))
# Here a surprise is made up for by the next token.
TURNS = best(lambda prefix: [1, 0], lambda prefix: two("0.98" if prefix[-1] == 1 else "0.4"))
# Drawn from the model at beta = 1/2.
TRUE = Texts(
    3, 2, mp.mpf("0.4"), from_last, lambda x: softmax_of(from_last(x), mp.mpf("0.5")), mp.mpf("0.5")
)
WORLDS = [
    pytest.param(TOPICS, id="topics"),
    pytest.param(TURNS, id="turns"),
    pytest.param(TRUE, id="true"),
]


@pytest.mark.statement("temperature-of-texts", "exact")
@given(st.data(), st.integers(1, 3), st.integers(1, 3), st.floats(0.0, 3.0))
def test_surprises_of_a_true_model_are_uncorrelated(
    data: DataObject, tokens: int, classes: int, beta: float
) -> None:
    rows: dict[tuple[int, ...], Row] = {}

    def logits(prefix: tuple[int, ...]) -> Row:
        if prefix not in rows:
            numbers = st.lists(st.integers(-3, 3), min_size=classes, max_size=classes)
            rows[prefix] = data.draw(numbers)
        return rows[prefix]

    def law(prefix: tuple[int, ...]) -> Row:
        return softmax_of(logits(prefix), beta)

    texts = Texts(tokens, classes, mp.mpf("0.3"), logits, law, beta)
    assert_within(mean_slope(texts, beta), 0, ZERO * 100)
    for t, u in combinations(range(tokens), 2):
        together = mp.fsum(x.chance * x.slopes[t] * x.slopes[u] for x in read(texts, beta))
        assert_within(together, 0, ZERO * 1000)
    kappa = curvature(texts)
    assert_within(spread(texts), kappa, ZERO * 1000)
    assert_within(spread_of_tokens(texts), kappa, ZERO * 1000)


@pytest.mark.statement("temperature-of-texts", "exact")
def test_of_another_model_tokens_tell_too_little_or_too_much() -> None:
    assert_within(mean_slope(TOPICS, TOPICS.beta), 0, ZERO)
    assert spread(TOPICS) > 1.1 * spread_of_tokens(TOPICS)
    assert_within(mean_slope(TURNS, TURNS.beta), 0, ZERO)
    assert spread(TURNS) < 0.9 * spread_of_tokens(TURNS)


@pytest.mark.statement("temperature-of-texts", "exact")
@pytest.mark.parametrize("texts", WORLDS)
@pytest.mark.parametrize("h", [-2, -0.5, 1, 3])
def test_a_step_moves_the_slope_of_texts_by_h_kappa(texts: Texts, h: float) -> None:
    n = mp.mpf(10) ** 16
    # The remainder of the proof, for three tokens and ranges of 2 or less.
    allowed = 3 * 2**3 * mp.mpf(h) ** 2 / (2 * mp.sqrt(n))
    slope = mean_slope(texts, texts.beta + h / mp.sqrt(n))
    assert_within(mp.sqrt(n) * slope, h * curvature(texts), allowed)


def samples(texts: Texts, size: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Gaps of two logits and labels, ``(*size, tokens)`` of each."""
    draws = generator(seed)
    start = (torch.rand(size, generator=draws, dtype=torch.float64) >= float(texts.first)).long()
    written, gaps = start.unsqueeze(-1), []
    for _ in range(texts.tokens):
        # The worlds look at the beginning and at the last token alone.
        kind = 2 * written[..., 0] + written[..., -1]
        ends = [(0, 0), (0, 1), (1, 0), (1, 1)]
        first = double([float(texts.law(end)[0]) for end in ends])[kind]
        gap = double([float(a) - float(b) for a, b in map(texts.logits, ends)])[kind]
        token = (torch.rand(size, generator=draws, dtype=torch.float64) >= first).long()
        written = torch.cat([written, token.unsqueeze(-1)], -1)
        gaps.append(gap)
    return torch.stack(gaps, -1), written[..., 1:]


@pytest.mark.statement("temperature-of-texts", "statistical", false_alarm=1.8e-6)
@pytest.mark.parametrize("texts", WORLDS)
def test_fits_to_texts_scatter_as_the_corollary_says(texts: Texts) -> None:
    n, many = 400, 4000
    gaps, labels = (x.flatten(1) for x in samples(texts, (many, n), seed=0))
    found = bisected(gaps, labels)
    scaled = math.sqrt(n) * (found - float(texts.beta))
    # Five standard errors of a variance of normal numbers, and 5% for terms of the order 1/N.
    allowed = 5 * math.sqrt(2 / many) + 0.05
    assert_within(scaled.var().item(), float(error_variance(texts)), rel=allowed)
    for gap, label, beta in zip(gaps[:5], labels[:5], found[:5].tolist(), strict=True):
        z = torch.stack([gap, torch.zeros_like(gap)], -1)
        assert_within(
            fit_temperature(z, label), 1 / beta, rel=fit_bound(z, label, 1 / beta) + 1e-14
        )
