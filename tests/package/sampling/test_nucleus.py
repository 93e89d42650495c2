from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.generation import logits_process as hf

from omnivault.model.language_model import load_language_model
from omnivault.model.news import articles
from omnivault.sampling import in_nucleus, sample, top_p
from omnivault.sampling.nucleus import inside
from omnivault.sampling.temperature import scaled
from tests.package.sampling.common import (
    DYADIC,
    INF,
    KINDS,
    TWO_BITS,
    dtypes,
    generator,
    kept,
    logits_of,
    tokens,
)
from tests.support.strategies import SINGLE_DOUBLE, smallest, unit

# 2^-k are reached exactly by some rows; with 1e-6 only the largest stays, with 1 - 1e-7 nearly all.
SHARES = (1e-6, 0.125, 0.3, 0.5, 0.75, 0.9, 0.95, 0.99, 1 - 1e-7, 1.0)


def powers_of_ten(shape: tuple[int, int], g: torch.Generator) -> Tensor:
    return 10.0 ** torch.randint(-3, 5, shape, generator=g)


# From standard normal numbers, and a generator for what else is needed.
NUCLEUS_ROWS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "nearly flat": lambda x, g: 0.1 * x,
    "normal": lambda x, g: x,
    "peaked": lambda x, g: 10 * x,
    "bfloat16": lambda x, g: x.bfloat16().to(x.dtype),
    "integers": lambda x, g: (2 * x).round(),
    "constant": lambda x, g: x[:, :1].expand_as(x).contiguous(),
    "two values": lambda x, g: torch.where(x > 0.5, 1.5, 0.0).to(x.dtype),
    "powers of two": lambda x, g: (x.abs() * 3).floor() * -math.log(2),
    "huge spreads": lambda x, g: x * powers_of_ten((x.shape[0], x.shape[1]), g).to(x.dtype),
    "masked": lambda x, g: x.masked_fill((x < 0) & (x > x.amin(-1, keepdim=True)), -INF),
}


def asked(z: Tensor, among: Tensor, p: float) -> Tensor:
    """Ask of every row of z for each of its tokens ``among``."""
    rows = z.repeat_interleave(among.shape[1], 0)
    return inside(rows, rows.exp(), among.flatten(), p).reshape(among.shape)


def assert_same_nucleus(z: Tensor, p: float, g: torch.Generator) -> None:
    expected = kept(top_p(z, p))
    rows, vocabulary = z.shape
    if vocabulary <= 40:
        among = torch.arange(vocabulary).expand(rows, vocabulary)
    else:  # three on either side of the border, and three anywhere
        ranking = z.sort(dim=-1, stable=True).indices
        first = vocabulary - expected.sum(-1, keepdim=True)
        assert torch.equal(expected.gather(1, ranking), torch.arange(vocabulary) >= first)
        near = (first + torch.arange(-3, 3)).clamp(0, vocabulary - 1)
        anywhere = torch.randint(vocabulary, (rows, 3), generator=g)
        among = ranking.gather(1, torch.cat([near, anywhere], 1))
    assert torch.equal(asked(z, among, p), expected.gather(1, among))


# Nearly 10,000 rows; with those of the model there are more.
@pytest.mark.parametrize("kind", NUCLEUS_ROWS)
@pytest.mark.parametrize(
    ("vocabulary", "rows"),
    [
        (1, 40),
        (2, 90),
        (3, 90),
        (8, 90),
        (33, 60),
        (128, 30),
        (129, 30),
        (300, 30),
        (5000, 10),
        (49_152, 1),
        (151_936, 1),
    ],
)
def test_a_token_is_in_exactly_when_top_p_keeps_it(kind: str, vocabulary: int, rows: int) -> None:
    # Of the longest rows float32 has some of the shares, and float64 others.
    step = {49_152: 5, 151_936: 10}.get(vocabulary, 1)
    for turn, dtype in enumerate(SINGLE_DOUBLE):
        g = generator(vocabulary)
        x = torch.randn(rows, vocabulary, generator=g, dtype=torch.float64).to(dtype)
        z, _, _ = scaled(NUCLEUS_ROWS[kind](x, g), 1.0, {})
        for number, p in enumerate(SHARES):
            # A third of the rows for each share, so more than three shares for each row.
            part = z[number % 3 :: 3] if rows >= 3 else z
            if step == 1 or number % step == turn:
                assert_same_nucleus(part, p, g)


@dataclass(frozen=True)
class Nuclei:
    """Rows of the model, as they are and scaled, and what top-p keeps of the scaled ones."""

    rows: Tensor
    temperature: float
    p: float
    z: Tensor
    inside: Tensor


@pytest.fixture(scope="module")
def real_nuclei() -> list[Nuclei]:
    """Of 1,040 rows, in the middle of ten articles."""
    model = load_language_model()
    texts = [ids for ids in map(model.encode, articles()) if len(ids) >= 104][:10]
    nuclei = []
    for number, rows in enumerate(
        row for ids in texts for row in model.logits(ids[:104]).split(52)
    ):
        temperature, p = (0.7, 1.0, 1.3)[number % 3], SHARES[number // 2]
        z, _, _ = scaled(rows, temperature, {})
        nuclei.append(Nuclei(rows, temperature, p, z, kept(top_p(z, p))))
    return nuclei


def test_a_token_is_in_exactly_when_top_p_keeps_it_of_a_real_model(
    real_nuclei: list[Nuclei],
) -> None:
    assert sum(len(nuclei.rows) for nuclei in real_nuclei) >= 1000
    g = generator()
    for n in real_nuclei:
        last_in = torch.where(n.inside, n.z, INF).argmin(-1)
        first_out = 49_151 - torch.where(n.inside, -INF, n.z).flip(-1).argmax(-1)
        anywhere = torch.randint(49_152, (52,), generator=g)
        among = torch.stack([last_in, first_out, anywhere], 1)
        assert torch.equal(asked(n.z, among, n.p), n.inside.gather(1, among))


@dtypes
@pytest.mark.parametrize("kind", KINDS)
def test_in_nucleus_takes_logits_of_any_size_and_shape(kind: str, dtype: torch.dtype) -> None:
    z = 3 + logits_of(kind, 200, 50).to(dtype)
    for p in (0.1, 0.9, 1.0):
        nucleus = kept(top_p(z, p))
        for token in range(0, 50, 7):
            found = in_nucleus(z.view(4, 50, 50), torch.full((4, 50), token), p)
            assert torch.equal(found.flatten(), nucleus[:, token])
        found = in_nucleus(z[0], torch.tensor(3), p)
        assert found.shape == ()
        assert bool(found) == bool(nucleus[0, 3])


@pytest.mark.parametrize(
    ("bad", "good", "message"),
    [
        (
            torch.tensor([0]),
            torch.tensor([0, 1]),
            "tokens must have the shape (2,), one for each row, got (1,)",
        ),
        (
            torch.tensor([0.0, 1.0]),
            torch.tensor([0, 1]),
            "tokens must be an int64 tensor, got tensor([0.0, 1.0])",
        ),
        ([0, 1], torch.tensor([0, 1]), "tokens must be an int64 tensor, got [0, 1]"),
        (torch.tensor([0, 3]), torch.tensor([0, 2]), "tokens must lie in [0, 3), got [3]"),
        (torch.tensor([-1, 0]), torch.tensor([0, 0]), "tokens must lie in [0, 3), got [-1]"),
    ],
)
def test_tokens_that_are_none_are_shown(bad: Any, good: Tensor, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        in_nucleus(torch.zeros(2, 3), bad, 0.9)
    in_nucleus(torch.zeros(2, 3), good, 0.9)


@pytest.fixture
def one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Softmax and cumulative sums that add one number after the other, each sum rounded.

    The softmax begins with the largest, the cumulative sum with the smallest: any processor may.
    """

    def softmax(z: Tensor, dim: int) -> Tensor:
        weights = np.exp(z.double().numpy()).astype(np.float32)
        backwards = np.add.accumulate(weights[..., ::-1], axis=dim, dtype=np.float32)
        return torch.from_numpy(weights / backwards[..., -1:])

    def cumsum(p: Tensor, dim: int) -> Tensor:
        return torch.from_numpy(np.add.accumulate(p.numpy(), axis=dim, dtype=np.float32))

    monkeypatch.setattr(Tensor, "softmax", softmax)
    monkeypatch.setattr(Tensor, "cumsum", cumsum)


def test_sums_that_go_astray_as_far_as_they_can_are_asked_about(one_after_the_other: None) -> None:
    """60,000 tokens of half a unit: of a sum that begins with 1 they change nothing.

    And the sums of their own are rounded up again and again, to 1.2 V u of them in all.
    """
    vocabulary, u = 60_000, unit(torch.float32)
    z = torch.full((1, vocabulary), -16.645235)
    z[0, -1] = 0.0
    weights = z.double().exp().float()
    small = (vocabulary - 1) * weights[0, 0].double().item()
    left = small / (1 + small)
    rounded = z.softmax(-1).cumsum(-1)[0, -2].item()
    assert rounded / left - 1 > 1.1 * vocabulary * u
    p = 1 - (left * (1 + (vocabulary + 384) * u) + rounded) / 2
    for token in (0, vocabulary - 2, vocabulary - 1):
        expected = kept(top_p(z, p))[:, token]
        assert torch.equal(inside(z, weights, torch.tensor([token]), p), expected)
    # By exact sums the most probable token has the mass p alone.
    assert bool(kept(top_p(z, p))[0, -2])
    assert 1 / (1 + small) > p


@pytest.mark.parametrize("vocabulary", [2**20, 2**23 + 1])
def test_of_a_row_too_long_for_any_bound_the_definition_is_asked(
    vocabulary: int, definition: list[float]
) -> None:
    z = torch.zeros(1, vocabulary)
    z[0, 0] = 30.0
    z -= 30.0
    assert inside(z, z.exp(), torch.tensor([0]), 0.5).tolist() == [True]
    # Among 2^23 sums half a unit is everything.
    assert len(definition) == (vocabulary > 2**20)


@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
def test_of_the_whole_mass_only_what_is_ruled_out_is_out(dtype: torch.dtype) -> None:
    normal, positive = math.log(torch.finfo(dtype).tiny), math.log(smallest(dtype))
    for vocabulary in (2, 40, 1000):
        z = torch.zeros(1, vocabulary, dtype=dtype)
        for z[0, 0] in (normal + 1, normal - 1, positive + 3, positive, positive - 1, -INF):
            weights = z.exp()
            expected = kept(top_p(z, 1.0))[:, 0]
            assert expected.tolist() == [bool(z[0, 0] > -INF)]
            assert torch.equal(inside(z, weights, torch.tensor([0]), 1.0), expected)


def test_the_nuclei_are_those_of_transformers_but_for_rounding_at_the_border(
    real_nuclei: list[Nuclei],
) -> None:
    rounded, chance, u = 0, 0.0, unit(torch.float32)
    for n in real_nuclei:
        p, few = n.p, slice(None, None, 4)
        rows, ours = n.rows[few], n.inside[few]
        # A few hundred units decide where the mass 1 - p lies within the last token that is kept.
        ascending = (rows.double() / n.temperature).softmax(-1).sort().values
        last = ascending.gather(1, rows.shape[1] - ours.sum(-1, keepdim=True))
        chance += float((2 * 200 * u * (1 - p) / last).clamp(max=1).sum())
        scaled = hf.TemperatureLogitsWarper(n.temperature)(None, rows)
        theirs = kept(hf.TopPLogitsWarper(p)(None, scaled))
        # Mostly the very same. Of equals at the border as many are kept, but which is chance.
        for row in (ours != theirs).any(-1).nonzero().flatten().tolist():
            z = n.z[few][row]
            fewer, more = sorted((int(ours[row].sum()), int(theirs[row].sum())))
            if fewer == more:
                assert torch.equal(z[ours[row]].sort().values, z[theirs[row]].sort().values)
                continue
            # Theirs are divided first and shifted then, which rounds otherwise.
            rounded += 1
            mass = ascending[row].cumsum(-1)
            border = mass[len(mass) - more : len(mass) - fewer]
            # The sum of a softmax may be off by V u, quotients and exponentials by some hundred.
            off = (len(mass) + 200) * u * (1 - p)
            assert bool(((border - (1 - p)).abs() <= off).all())
    assert rounded <= chance + 4 * chance**0.5


@pytest.fixture
def definition(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collects the shares for which top-p was asked for a whole row."""
    calls: list[float] = []

    def spy(z: Tensor, p: float) -> Tensor:
        calls.append(p)
        return top_p(z, p)

    monkeypatch.setattr("omnivault.sampling.nucleus.top_p", spy)
    return calls


@pytest.mark.parametrize(
    ("probs", "p", "expected", "questions"),
    [
        pytest.param([0.6, 0.3, 0.1], 0.5, [0], 0, id="nothing is near"),
        pytest.param([0.6, 0.3, 0.1], 0.7, [0, 1], 0, id="two are in"),
        pytest.param(DYADIC, 0.5, [0], 1, id="p reached exactly: the first that is out"),
        pytest.param(DYADIC, 0.75, [0, 1], 1, id="p reached exactly: two equals that are out"),
        pytest.param(DYADIC, 0.76, [0, 1, 3], 0, id="two equals at the border"),
        pytest.param(TWO_BITS, 0.5, [2, 3], 1, id="four equals at the border"),
        pytest.param(TWO_BITS, 1.0, [0, 1, 2, 3], 0, id="equals with all the mass asked for"),
        pytest.param(
            [0.3, 0.3, *[0.05] * 8], 0.68, [0, 1, 8, 9], 0, id="eight equals at the border"
        ),
        pytest.param([0.3, 0.3, 0.28, 0.12], 0.85, [0, 1, 2], 0, id="equals that are in"),
        pytest.param([0.94, *[0.01] * 6], 0.5, [0], 0, id="equals that are out"),
        pytest.param([0.5, 0.5, 0.0], 0.9, [0, 1], 0, id="one that is ruled out"),
    ],
)
def test_only_close_calls_ask_the_definition(
    probs: list[float], p: float, expected: list[int], questions: int, definition: list[float]
) -> None:
    z, _, _ = scaled(torch.tensor([probs]).log(), 1.0, {})
    inside = asked(z, torch.arange(len(probs)).unsqueeze(0), p)
    # A border that is reached exactly is one where exp undoes log.
    undone = probs is not DYADIC or z.softmax(-1).tolist() == [probs]
    assert inside[0].nonzero().flatten().tolist() == (
        expected if undone else tokens(top_p(z[0], p))
    )
    assert definition == [p] * questions


def test_few_draws_of_a_real_model_ask_the_definition(
    real_logits: Tensor, definition: list[float]
) -> None:
    for seed in range(10):
        sample(real_logits, temperature=0.7, top_p=0.9, generator=generator(seed))
    assert len(definition) <= len(real_logits)  # of ten times as many
