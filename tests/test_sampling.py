from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, SINGLE_DOUBLE, as_double, exact_softmax, smallest, unit, whole_rows
from torch import Tensor
from transformers.generation import logits_process as hf

from omnivault import sampling
from omnivault.language_model import load_language_model
from omnivault.news import articles
from omnivault.sampling import (
    _in_nucleus,
    _scaled,
    apply_temperature,
    greedy,
    in_nucleus,
    min_p,
    plain_sample,
    sample,
    top_k,
    top_p,
    typical_p,
)

INF, NAN = math.inf, math.nan
U = unit(torch.float64)

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)

Truncation = Callable[[Tensor, Any], Tensor]
# Each with its counterpart, and with settings of it.
TRUNCATIONS: dict[str, tuple[Truncation, Any, tuple[float, ...]]] = {
    "top_k": (top_k, hf.TopKLogitsWarper, (1, 2, 50, 999)),
    "top_p": (top_p, hf.TopPLogitsWarper, (1e-9, 0.1, 0.5, 0.9, 0.999, 1.0)),
    "min_p": (min_p, hf.MinPLogitsWarper, (1e-50, 1e-3, 0.05, 0.5, 1.0)),
    "typical_p": (typical_p, hf.TypicalLogitsWarper, (1e-9, 0.2, 0.5, 0.95, 0.999)),
}
truncations = pytest.mark.parametrize("name", TRUNCATIONS)
# With a fixed seed a test passes for ever or fails for ever. The rate is how often another seed
# would fail a test of a sampler that is right.
FALSE_ALARM = 1e-3

pytestmark = pytest.mark.usefixtures("one_thread")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kept(logits: Tensor) -> Tensor:
    return logits > -INF


def tokens(logits: Tensor) -> list[int]:
    """The indices kept in one row."""
    return kept(logits).nonzero().flatten().tolist()


def logits_of(kind: str, rows: int, vocabulary: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random rows; the seed depends on the shape alone."""
    g = generator(rows * vocabulary)
    z = torch.randn(rows, vocabulary, generator=g, dtype=torch.float64)
    if kind == "ties":  # a handful of values, so many tokens share each
        z = (2 * z).round()
    elif kind == "masked":  # about half of them, and never the first
        z = z.masked_fill(torch.rand(z.shape, generator=g).roll(1) < 0.5, -INF)
        z[:, 0] = 0.5
    else:
        z = float(kind) * z
    return z.to(dtype)


KINDS = ("0.1", "1", "10", "ties", "masked")


@pytest.fixture(scope="module")
def real_logits() -> Tensor:
    model = load_language_model()
    text = "The ferry leaves at nine, but the captain said he would wait for us. One, two, three,"
    return model.logits(model.encode(text))


# What Transformers does ---------------------------------------------------------------------------


def assert_same_tokens(ours: Tensor, theirs: Tensor, name: str = "top_p") -> None:
    """Transformers sorts unstably: beyond 16 tokens, which of several equals it keeps is chance."""
    if name == "top_p" and ours.shape[-1] > 16:
        ours, theirs = ours.sort().values, theirs.sort().values
    assert torch.equal(ours, theirs)


@truncations
@pytest.mark.parametrize("vocabulary", [2, 3, 10, 100, 1000])
def test_the_kept_sets_are_those_of_transformers(name: str, vocabulary: int) -> None:
    ours, theirs, settings = TRUNCATIONS[name]
    for dtype in SINGLE_DOUBLE:
        for kind in KINDS:
            z = logits_of(kind, 50 if vocabulary == 1000 else 200, vocabulary, dtype)
            for setting in settings:
                if name == "top_k":
                    setting = min(int(setting), vocabulary)
                assert_same_tokens(ours(z, setting), theirs(setting)(None, z), name)


@truncations
def test_so_are_those_of_a_real_model(name: str, real_logits: Tensor) -> None:
    ours, theirs, settings = TRUNCATIONS[name]
    for setting in settings[1::2]:
        assert torch.equal(ours(real_logits, setting), theirs(setting)(None, real_logits))


def test_temperature_is_that_of_transformers(real_logits: Tensor) -> None:
    for temperature in (1e-3, 0.3, 0.7, 1.0, 1.3, 50.0):
        theirs = hf.TemperatureLogitsWarper(temperature)
        for z in (real_logits, *(logits_of(kind, 200, 100, torch.float64) for kind in KINDS)):
            assert torch.equal(apply_temperature(z, temperature), theirs(None, z))


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Collects the probabilities that every draw is made from."""
    seen: list[Tensor] = []
    multinomial = torch.multinomial

    def spy(probs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        seen.append(probs)
        return multinomial(probs, *args, **kwargs)

    monkeypatch.setattr(torch, "multinomial", spy)
    return seen


@pytest.mark.parametrize(
    ("temperature", "k", "p", "m"),
    [(0.3, 50, 0.9, 0.1), (0.7, 5, 0.5, 0.01), (1.5, 900, 0.8, 0.02), (4.0, 10, 0.75, 0.4)],
)
def test_plain_sample_composes_the_processors_in_their_order(
    temperature: float, k: int, p: float, m: float, real_logits: Tensor, weights: list[Tensor]
) -> None:
    settings: dict[str, Any] = {"temperature": temperature, "top_p": p, "min_p": m}
    for z in (real_logits, *(logits_of(kind, 200, n) for kind in KINDS for n in (10, 1000))):
        settings["top_k"] = min(k, z.shape[-1])
        drawn = plain_sample(z, **settings, generator=generator(1))
        theirs: Any = z
        for processor in (
            hf.TemperatureLogitsWarper(temperature),
            hf.TopKLogitsWarper(settings["top_k"]),
            hf.TopPLogitsWarper(p),
            hf.MinPLogitsWarper(m),
        ):
            theirs = processor(theirs, theirs)  # of the first argument nothing is used
        probs = weights.pop()
        assert_same_tokens(torch.where(probs > 0, z, -INF), torch.where(kept(theirs), z, -INF))
        if torch.equal(probs > 0, kept(theirs)):  # unless another of several equals is kept
            again = torch.multinomial(theirs.softmax(-1), 1, generator=generator(1))
            assert torch.equal(drawn, again.squeeze(-1))


# The definitions ----------------------------------------------------------------------------------


def nucleus(probs: list[float], p: float) -> list[int]:
    """Kept while the mass of what comes before, of higher probability or index, is below p."""
    before, inside = Fraction(0), []
    for i in sorted(range(len(probs)), key=lambda i: (probs[i], i), reverse=True):
        if before < p:
            inside.append(i)
        before += Fraction(probs[i])
    return sorted(inside)


def typical(probs: list[float], p: float) -> list[int]:
    """Nearest to the entropy first, until the mass reaches p; those as near as the last too."""
    surprise = [-math.log(q) if q else INF for q in probs]
    entropy = math.fsum(q * s for q, s in zip(probs, surprise, strict=True) if q)
    distance = [abs(s - entropy) for s in surprise]
    mass = Fraction(0)
    for i in sorted(range(len(probs)), key=lambda i: distance[i]):
        mass += Fraction(probs[i])
        if mass >= p:
            # Equal probabilities are at one distance; others may be, but for rounding: of
            # logarithms up to 10, and of their mean.
            return [j for j in range(len(probs)) if distance[j] <= distance[i] + 64 * U]
    return list(range(len(probs)))


def subset_masses(z: Tensor, p: float) -> bool:
    """Whether no set of tokens has a mass so near to p that rounding (tens of u) decides."""
    masses = torch.zeros(1, dtype=torch.float64)
    for q in z.double().softmax(-1):
        masses = torch.cat([masses, masses + q])
    return bool(((masses - p).abs() > 1e-12).all())


@given(whole_rows(1, 8, 3), st.floats(0.01, 0.99))
def test_sets_follow_the_definitions(z: Tensor, p: float) -> None:
    probs = as_double(exact_softmax(z)).tolist()
    if subset_masses(z, p):
        assert tokens(top_p(z, p)) == nucleus(probs, p)
        assert tokens(typical_p(z, p)) == typical(probs, p)
    gap = (z.max() - z).tolist()
    if all(abs(g + math.log(p)) > 1e-9 for g in gap):
        assert tokens(min_p(z, p)) == [i for i, g in enumerate(gap) if g <= math.log(1 / p)]
    for k in range(1, len(z) + 1):
        larger = [sum(other > value for other in z.tolist()) for value in z.tolist()]
        assert tokens(top_k(z, k)) == [i for i, n in enumerate(larger) if n < k]


@pytest.mark.parametrize("kind", KINDS)
def test_the_nucleus_is_the_smallest_set_that_reaches_p(kind: str) -> None:
    z = logits_of(kind, 500, 40, torch.float64)
    probs = z.softmax(-1)
    for p in (0.05, 0.5, 0.9, 0.99):
        inside = kept(top_p(z, p))
        mass = torch.where(inside, probs, 0.0).sum(-1)
        smallest = torch.where(inside, probs, INF).amin(-1)
        # It reaches p, without the least of it it does not, and nothing outside is larger. Sums
        # of 40 numbers are rounded thrice: in the softmax, of what is out, of what is in.
        assert bool((mass >= p - 128 * U).all())
        assert bool((mass - smallest < p + 128 * U).all())
        assert bool((torch.where(inside, 0.0, probs).amax(-1) <= smallest).all())


DYADIC = [0.5, 0.25, 0.125, 0.125]
# A probability of 2^-j has a surprise of j log 2: these have an entropy of 2 log 2.
TWO_BITS = [0.25, 0.25, 0.25, 0.25]


@pytest.mark.parametrize(
    ("truncation", "probs", "setting", "expected"),
    [
        pytest.param(top_p, DYADIC, 0.5, [0], id="p reached by the first alone"),
        pytest.param(top_p, DYADIC, 0.51, [0, 1], id="p crossed by the second"),
        pytest.param(top_p, DYADIC, 0.75, [0, 1], id="p reached exactly by two"),
        pytest.param(top_p, DYADIC, 0.76, [0, 1, 3], id="the higher index of two equals"),
        pytest.param(top_p, DYADIC, 0.875, [0, 1, 3], id="p reached exactly by three"),
        pytest.param(top_p, DYADIC, 1, [0, 1, 2, 3], id="p = 1 keeps all"),
        pytest.param(top_p, TWO_BITS, 0.5, [2, 3], id="nucleus of equals"),
        pytest.param(top_p, TWO_BITS, 1e-9, [3], id="p near 0 keeps one of the largest"),
        pytest.param(top_p, [0.5, 0.5, 0.0], 1.0, [0, 1], id="a token ruled out stays out"),
        pytest.param(top_p, [1.0], 0.5, [0], id="nucleus of one token"),
        pytest.param(min_p, DYADIC, 0.5, [0, 1], id="share reached exactly"),
        pytest.param(min_p, DYADIC, 0.51, [0], id="share just missed"),
        pytest.param(min_p, DYADIC, 0.25, [0, 1, 2, 3], id="share reached by two equals"),
        pytest.param(min_p, DYADIC, 0.26, [0, 1], id="share just missed by two equals"),
        pytest.param(min_p, TWO_BITS, 1, [0, 1, 2, 3], id="share 1 keeps all of the largest"),
        pytest.param(min_p, [0.25, 0.5, 0.25], 1.0, [1], id="share 1 keeps the largest"),
        pytest.param(min_p, [0.5, 0.5, 0.0], 1e-50, [0, 1], id="a share of nothing"),
        pytest.param(top_k, DYADIC, 1, [0], id="k = 1"),
        pytest.param(top_k, DYADIC, 2, [0, 1], id="k = 2"),
        pytest.param(top_k, DYADIC, 3, [0, 1, 2, 3], id="k = 3 among two equals"),
        pytest.param(top_k, DYADIC, 4, [0, 1, 2, 3], id="k = V"),
        pytest.param(top_k, TWO_BITS, 1, [0, 1, 2, 3], id="k = 1 among four equals"),
        pytest.param(top_k, [0.5, 0.0, 0.5], 3, [0, 2], id="k beyond what is left"),
        pytest.param(top_k, [1.0], 1, [0], id="k = V = 1"),
        # Entropy 1.75 bits: the surprises 1, 2, 3, 3 are .75, .25, 1.25, 1.25 bits away.
        pytest.param(typical_p, DYADIC, 0.25, [1], id="mass reached by the most typical"),
        pytest.param(typical_p, DYADIC, 0.26, [0, 1], id="mass crossed by the second"),
        pytest.param(typical_p, DYADIC, 0.8, [0, 1, 2, 3], id="equally typical, kept together"),
        pytest.param(typical_p, DYADIC, 1, [0, 1, 2, 3], id="mass 1"),
        pytest.param(typical_p, TWO_BITS, 0.1, [0, 1, 2, 3], id="all typical"),
        pytest.param(typical_p, [0.0, 1.0], 0.9, [1], id="certain"),
    ],
)
def test_boundaries_and_ties(
    truncation: Truncation, probs: list[float], setting: float, expected: list[int]
) -> None:
    exact = []
    for dtype in SINGLE_DOUBLE:
        z = torch.tensor(probs, dtype=dtype).log()
        # Where exp undoes log; elsewhere rounding is on one side of the boundary.
        if z.softmax(-1).tolist() == probs:
            exact.append(dtype)
            result = truncation(z, setting)
            assert tokens(result) == expected
            assert torch.equal(result[expected], z[expected])
    # Of equal probabilities it is the exponential of 0 that undoes it.
    assert exact == [*SINGLE_DOUBLE] or len({q for q in probs if q}) > 1


# What holds for all of them -----------------------------------------------------------------------


@truncations
@pytest.mark.parametrize("kind", KINDS)
def test_something_is_always_kept_and_mostly_the_largest(name: str, kind: str) -> None:
    truncate, _, settings = TRUNCATIONS[name]
    z = logits_of(kind, 300, 20)
    largest = z == z.amax(-1, keepdim=True)
    for setting in settings:
        inside = kept(truncate(z, min(setting, 20) if name == "top_k" else setting))
        assert bool(inside.any(-1).all())
        if name != "typical_p":
            assert bool((inside & largest).any(-1).all())
        if name in ("top_k", "min_p"):
            assert bool(inside[largest].all())


@truncations
@dtypes
def test_layout_and_batch_do_not_matter_and_the_input_is_left_alone(
    name: str, dtype: torch.dtype
) -> None:
    truncate, _, settings = TRUNCATIONS[name]
    setting = settings[2] if name != "top_k" else 3
    z = logits_of("1", 24, 10, dtype)
    before = z.clone()
    result = truncate(z, setting)
    assert torch.equal(z, before)
    assert result.dtype is dtype
    assert torch.equal(result, torch.where(kept(result), z, -INF))
    assert 24 < kept(result).sum() < 240  # the setting does something
    # Half precision is compared in float32, in which it is exact.
    wide = truncate(z.to(torch.promote_types(dtype, torch.float32)), setting)
    assert torch.equal(kept(result), kept(wide))
    assert torch.equal(result, torch.stack([truncate(row, setting) for row in z]))
    for shape in ((1, 24), (2, 12), (2, 3, 4), (24, 1)):
        assert torch.equal(truncate(z.reshape(*shape, 10), setting), result.reshape(*shape, 10))
    for layout in (z.T.contiguous().T, torch.stack([z, z], -1)[..., 0], z.flip(0).flip(0)):
        assert torch.equal(truncate(layout, setting), result)
    assert torch.equal(truncate(z[:1].expand(5, 10), setting), result[:1].expand(5, 10))
    assert truncate(torch.zeros(2, 0, 5, dtype=dtype), setting).shape == (2, 0, 5)


@dtypes
def test_temperature_of_each_row(dtype: torch.dtype) -> None:
    z = logits_of("1", 6, 10, dtype).reshape(2, 3, 10)
    temperature = torch.tensor([[0.5, 1.0, 2.0], [3.0, 0.1, 7.0]])
    before = z.clone()
    result = apply_temperature(z, temperature)
    assert torch.equal(z, before)
    assert result.dtype is dtype
    for i, j in np.ndindex(2, 3):
        alone = apply_temperature(z[i, j], temperature[i, j].item())
        assert torch.equal(result[i, j], alone)
        assert torch.equal(alone, apply_temperature(z[i, j], temperature[i, j]))
    # One rounding more than the arithmetic in float32.
    wide = z.double() / temperature.double().unsqueeze(-1)
    torch.testing.assert_close(result.double(), wide, rtol=torch.finfo(dtype).eps, atol=0)
    assert torch.equal(apply_temperature(z, 1), z)


@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
def test_extreme_temperatures_divide(dtype: torch.dtype) -> None:
    z = torch.tensor([1.0, -2.0, -INF], dtype=dtype)
    for temperature in (1e-30, 1e30):
        expected = torch.tensor([1 / temperature, -2 / temperature, -INF], dtype=dtype)
        # T, the quotient and what is expected are rounded.
        divided = apply_temperature(z, temperature)
        torch.testing.assert_close(divided, expected, rtol=4 * unit(dtype), atol=0)


def test_greedy_is_the_first_of_the_largest() -> None:
    for kind in KINDS:
        z = logits_of(kind, 300, 20).reshape(3, 100, 20)
        expected = [row.index(max(row)) for row in z.flatten(0, 1).tolist()]
        assert greedy(z).flatten().tolist() == expected
        assert sample(z, temperature=0).flatten().tolist() == expected
        assert sample(z, temperature=0.0, top_k=2, top_p=0.1, min_p=1.0).shape == (3, 100)
    assert greedy(torch.tensor([-INF, 0.0])).item() == 1


@given(whole_rows(2, 8, 5), st.floats(1e-3, 1e3))
def test_top_k_commutes_with_temperature(z: Tensor, temperature: float) -> None:
    for k in range(1, len(z) + 1):
        one = apply_temperature(top_k(z, k), temperature)
        assert torch.equal(one, top_k(apply_temperature(z, temperature), k))


@pytest.mark.parametrize(
    ("truncation", "setting", "first", "last"),
    [
        (top_p, 0.7, [0, 1], [0, 1, 2]),  # masses .51, .76; at T = 2 .38, .64, .83
        (min_p, 0.4, [0, 1], [0, 1, 2, 3]),  # at T = 2 the shares are the square roots
        (typical_p, 0.26, [0, 1], [1]),
    ],
)
def test_the_others_do_not(
    truncation: Truncation, setting: float, first: list[int], last: list[int]
) -> None:
    z = torch.tensor([0.51, 0.25, 0.14, 0.1], dtype=torch.float64).log()
    assert tokens(apply_temperature(truncation(z, setting), 2.0)) == first
    assert tokens(truncation(apply_temperature(z, 2.0), setting)) == last


def test_a_share_above_all_that_rounding_leaves_removes_nothing() -> None:
    z, nearly = torch.zeros(41), 1 - 2.0**-25
    assert z.softmax(-1).cumsum(-1)[-1] < nearly  # 41 times the float32 nearest to 1/41
    for truncation in (top_p, typical_p):
        assert torch.equal(truncation(z, nearly), z)


# Draws --------------------------------------------------------------------------------------------

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


# Whether a token is in the nucleus ----------------------------------------------------------------

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
    return _in_nucleus(rows, rows.exp(), among.flatten(), p).reshape(among.shape)


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
        z, _ = _scaled(NUCLEUS_ROWS[kind](x, g), 1.0, None)
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
        z, _ = _scaled(rows, temperature, None)
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
            "tokens must be int64 of shape (2,), one for each row, got torch.int64 of shape (1,)",
        ),
        (
            torch.tensor([0.0, 1.0]),
            torch.tensor([0, 1]),
            "tokens must be int64 of shape (2,), one for each row, got torch.float32 of shape (2,)",
        ),
        (torch.tensor([0, 3]), torch.tensor([0, 2]), "tokens must lie in [0, 3), got [3]"),
        (torch.tensor([-1, 0]), torch.tensor([0, 0]), "tokens must lie in [0, 3), got [-1]"),
    ],
)
def test_tokens_that_are_none_are_shown(bad: Tensor, good: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        in_nucleus(torch.zeros(2, 3), bad, 0.9)
    in_nucleus(torch.zeros(2, 3), good, 0.9)


@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
def test_of_the_whole_mass_what_the_softmax_rounds_to_zero_is_out(dtype: torch.dtype) -> None:
    normal, positive = math.log(torch.finfo(dtype).tiny), math.log(smallest(dtype))
    for vocabulary in (2, 40, 1000):
        z = torch.zeros(1, vocabulary, dtype=dtype)
        for z[0, 0] in (normal + 1, normal - 1, positive + 3, positive, positive - 1, -INF):
            weights = z.exp()
            expected = kept(top_p(z, 1.0))[:, 0]
            assert torch.equal(_in_nucleus(z, weights, torch.tensor([0]), 1.0), expected)


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

    monkeypatch.setattr(sampling, "top_p", spy)
    return calls


@pytest.mark.parametrize(
    ("probs", "p", "expected", "questions"),
    [
        pytest.param([0.6, 0.3, 0.1], 0.5, [0], 0, id="nothing is near"),
        pytest.param([0.6, 0.3, 0.1], 0.7, [0, 1], 0, id="two are in"),
        pytest.param(DYADIC, 0.5, [0], 1, id="p reached exactly: the first that is out"),
        pytest.param(DYADIC, 0.75, [0, 1], 2, id="p reached exactly: two equals that are out"),
        pytest.param(DYADIC, 0.76, [0, 1, 3], 2, id="two equals at the border"),
        pytest.param(TWO_BITS, 0.5, [2, 3], 4, id="four equals at the border"),
        pytest.param(TWO_BITS, 1.0, [0, 1, 2, 3], 0, id="equals with all the mass asked for"),
        pytest.param(
            [0.3, 0.3, *[0.05] * 8], 0.68, [0, 1, 8, 9], 8, id="eight equals at the border"
        ),
        pytest.param([0.3, 0.3, 0.28, 0.12], 0.85, [0, 1, 2], 0, id="equals that are in"),
        pytest.param([0.94, *[0.01] * 6], 0.5, [0], 0, id="equals that are out"),
        pytest.param([0.5, 0.5, 0.0], 0.9, [0, 1], 0, id="one that is ruled out"),
    ],
)
def test_only_close_calls_ask_the_definition(
    probs: list[float], p: float, expected: list[int], questions: int, definition: list[float]
) -> None:
    z, _ = _scaled(torch.tensor([probs]).log(), 1.0, None)
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


# A million draws ----------------------------------------------------------------------------------


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


# What a draw depends on, and what it leaves alone -------------------------------------------------


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collects how many rows are asked in each round of a draw from a nucleus."""
    rows: list[int] = []

    def spy(z: Tensor, weights: Tensor, tokens: Tensor, p: float) -> Tensor:
        rows.append(len(z))
        return _in_nucleus(z, weights, tokens, p)

    monkeypatch.setattr(sampling, "_in_nucleus", spy)
    return rows


@pytest.mark.parametrize("vocabulary", [100, 128, 300])
@pytest.mark.parametrize("collect", [list, tuple])
def test_a_row_that_is_rejected_does_not_see_the_others(
    vocabulary: int, collect: Callable[[Any], Any], rounds: list[int]
) -> None:
    z = logits_of("1", 40, vocabulary)
    temperature = torch.linspace(0.2, 3.0, 40)
    temperature[5] = 0
    settings: dict[str, Any] = {"top_p": 0.2, "min_p": 0.01}
    together = sample(
        z, temperature=temperature, **settings, generator=collect(generator(i) for i in range(40))
    )
    # Rejected again and again, fewer and fewer.
    assert len(rounds) > 2
    assert rounds == sorted(rounds, reverse=True)
    alone = [
        sample(row, temperature=t, **settings, generator=generator(i))
        for i, (row, t) in enumerate(zip(z, temperature, strict=True))
    ]
    assert torch.equal(together, torch.stack(alone))
    assert together[5] == z[5].argmax()
    backwards = sample(
        z.flip(0),
        temperature=temperature.flip(0),
        **settings,
        generator=collect(generator(i) for i in reversed(range(40))),
    )
    assert torch.equal(backwards.flip(0), together)


def test_a_shared_generator_goes_on_and_that_of_each_row_too() -> None:
    z = torch.zeros(50, 1000)
    shared, each = generator(1), [generator(i) for i in range(50)]
    for source in (shared, each):
        first, second = (sample(z, top_p=0.5, generator=source) for _ in range(2))
        assert int((first == second).sum()) < 5
    # The same one for every row is read in their order.
    again = sample(z, generator=[generator(1)] * 50)
    g = generator(1)
    assert again.tolist() == [int(sample(row, generator=g)) for row in z]


def test_without_a_generator_the_global_one_is_read_and_with_one_it_is_left_alone() -> None:
    z = logits_of("1", 50, 1000)
    both: list[dict[str, Any]] = [{}, {"top_p": 0.3}]
    for settings in both:
        torch.manual_seed(9)
        before = torch.get_rng_state()
        expected = sample(z, **settings, generator=generator(9))
        sample(z, **settings, generator=[generator(i) for i in range(50)])
        plain_sample(z, **settings, generator=generator(9))
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(sample(z, **settings), expected)
        assert not torch.equal(torch.get_rng_state(), before)


ALL: dict[str, Any] = {"top_k": 60, "top_p": 0.7, "min_p": 0.02}


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7}, {"top_p": 0.3}, ALL], ids=str)
@pytest.mark.parametrize("vocabulary", [100, 256])
@dtypes
def test_logits_in_any_layout_are_drawn_alike_and_left_alone(
    dtype: torch.dtype, vocabulary: int, settings: dict[str, Any]
) -> None:
    # With a largest logit of 0 and T = 1 neither the shift nor the division changes a number.
    z = logits_of("1", 24, vocabulary, dtype)
    z = z - z.amax(-1, keepdim=True)
    expected = sample(z, **settings, generator=generator(2))
    wide = z.to(torch.promote_types(dtype, torch.float32))
    assert torch.equal(sample(wide, **settings, generator=generator(2)), expected)
    layouts = [z, z.T.contiguous().T, torch.stack([z, z], -1)[..., 0], z.flip(0).flip(0)]
    layouts += [z.clone().requires_grad_(), 1 * z.clone().requires_grad_()]
    for layout in layouts:
        before = layout.detach().clone()
        assert torch.equal(sample(layout, **settings, generator=generator(2)), expected)
        assert torch.equal(layout.detach(), before)
    cube = z.reshape(2, 3, 4, vocabulary)
    for layout in (cube, cube.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)):
        drawn = sample(layout, **settings, generator=generator(2))
        assert torch.equal(drawn, expected.reshape(2, 3, 4))
    row = z[:1].clone()
    repeated = sample(row.repeat(24, 1), **settings, generator=generator(3))
    assert torch.equal(sample(row.expand(24, -1), **settings, generator=generator(3)), repeated)
    assert torch.equal(row, z[:1])


def test_a_draw_has_no_gradient_and_the_logits_keep_theirs() -> None:
    z = logits_of("1", 3, 200).requires_grad_()
    scaled = 2 * z
    for settings in ({}, ALL):
        assert not sample(scaled, **settings, generator=generator()).requires_grad
    scaled.sum().backward()
    assert z.grad is not None
    assert bool((z.grad == 2).all())


@pytest.mark.parametrize("settings", [{}, {"top_k": 1}, {"top_p": 0.5}, {"min_p": 1.0}, ALL])
def test_a_vocabulary_of_one_and_a_batch_of_none(settings: dict[str, Any]) -> None:
    if settings is ALL:
        settings = {**ALL, "top_k": 1}
    for shape in ((), (5,), (2, 3)):
        z = torch.full((*shape, 1), -7.0)
        for temperature in (0, 0.5, torch.ones(shape)):
            drawn = sample(z, temperature=temperature, **settings, generator=generator())
            assert torch.equal(drawn, torch.zeros(shape, dtype=torch.int64))
    for shape in ((0,), (2, 0), (0, 3)):
        sources: list[Any] = [None, generator(), []]
        for source in sources:
            drawn = sample(torch.zeros(*shape, 200), **settings, generator=source)
            assert drawn.shape == shape
            assert drawn.dtype is torch.int64
        cold = torch.zeros(shape)
        assert sample(torch.zeros(*shape, 200), temperature=cold, top_p=0.5).shape == shape


def test_rows_at_zero_are_greedy_among_others_with_a_nucleus() -> None:
    z = logits_of("0.1", 30, 200)
    temperature = torch.ones(30)
    temperature[::3] = 0
    nucleus_of = kept(top_p(z, 0.4))
    for seed in range(10):
        drawn = sample(z, temperature=temperature, top_p=0.4, generator=generator(seed))
        assert torch.equal(drawn[::3], z[::3].argmax(-1))
        assert bool(nucleus_of.gather(1, drawn.unsqueeze(1)).all())
        assert not torch.equal(drawn[1::3], z[1::3].argmax(-1))


@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
def test_a_tiny_share_keeps_the_largest_alone(dtype: torch.dtype) -> None:
    for vocabulary in (1, 2, 200, 1000):
        z = logits_of("1", 50, vocabulary, dtype)
        for p in (1e-300, 1e-12, 1e-6):
            drawn = sample(z, top_p=p, generator=generator())
            assert torch.equal(drawn, z.argmax(-1))
        # Of equals the one with the highest index.
        equals = sample(torch.zeros_like(z), top_p=1e-6, generator=generator())
        assert equals.unique().tolist() == [vocabulary - 1]


def test_nothing_outside_the_kept_set_is_drawn() -> None:
    for kind in KINDS:
        for vocabulary in (7, 300):
            z = logits_of(kind, 2000, vocabulary)
            for settings in ({"top_k": 3}, {"top_p": 0.6}, {"min_p": 0.2}):
                name, setting = next(iter(settings.items()))
                inside = kept(TRUNCATIONS[name][0](z, setting))
                for draw in (sample, plain_sample):
                    drawn = draw(z, **settings, generator=generator(1))
                    assert bool(inside.gather(1, drawn.unsqueeze(1)).all())


def test_what_was_rejected_is_not_drawn_again(
    rounds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Zero draws the first of those that are left: one equal after the other.
    monkeypatch.setattr(
        "omnivault.inverse_cdf._uniform",
        lambda rows, *_: torch.zeros(rows, 2, dtype=torch.float64),
    )
    z = torch.tensor([[0.0, 0.0, 0.0, 0.0], [-0.5, -1.0, -1.0, 0.0], [0.0, -9.0, 0.0, -9.0]])
    assert sample(z, top_p=1e-6).tolist() == [3, 3, 2]
    assert rounds == [3, 3, 1, 1]
    # Two of the first row are in, indices 0 and 3 of the second, and 2 alone of the third.
    assert sample(z, top_p=0.45).tolist() == [2, 0, 2]


def test_the_largest_uniform_numbers_draw_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    z = torch.cat([torch.zeros(300), torch.full((100,), -INF)]).expand(5, 400)
    for value, first, last in ((0.0, 0, 0), (1 - 2**-53, 299, 299)):
        monkeypatch.setattr(
            "omnivault.inverse_cdf._uniform",
            lambda rows, *_, value=value: torch.full((rows, 2), value, dtype=torch.float64),
        )
        assert sample(z).tolist() == [first] * 5
        assert sample(z, temperature=3.0, min_p=0.5).tolist() == [last] * 5


# Bad input ----------------------------------------------------------------------------------------

ROW = torch.tensor([0.5, 1.5])
SHARE = "p must lie in (0, 1], got {}; leave it out to keep every token"
REMEDY = "; for T -> 0 use greedy(logits)"
RANGE32 = "temperature must be 0 or lie in [1.175e-38, 3.403e+38] to be computed in torch.float32"
OVERFLOW = "; subtract the largest first: logits - logits.amax(-1, keepdim=True)"

BAD_LOGITS: list[tuple[Any, type[Exception], str]] = [
    (
        [0.5, 1.5],
        TypeError,
        "logits must be a torch.Tensor, got [0.5, 1.5]; wrap them in torch.tensor(...)",
    ),
    (
        torch.tensor([1, 2]),
        TypeError,
        "logits must have a floating dtype, got torch.int64 with values [1, 2]; convert them with "
        "z.float()",
    ),
    (
        torch.tensor(1.0),
        ValueError,
        "logits need a dimension that holds the classes, got the scalar 1.0; "
        "reshape(1) makes it a row of one",
    ),
    (
        torch.zeros(2, 0),
        ValueError,
        "dimension -1 of the logits is empty (shape (2, 0)); a softmax needs at least one class",
    ),
    *(
        (torch.tensor([[0.5, 1.5], row]), ValueError, f"logits of a row {message}")
        for row, message in [
            ([NAN, INF], "hold nan: [nan, inf]; look for the operation before that made it"),
            (
                [INF, -INF],
                "hold +inf: [inf, -inf]; subtract what overflowed, or compute the logits in "
                "float32",
            ),
            ([-INF, -INF], "are all -inf: [-inf, -inf]; a mask must leave at least one token"),
        ]
    ),
]


@pytest.mark.parametrize(("bad", "error", "message"), BAD_LOGITS)
def test_logits_without_a_softmax_are_shown(bad: Any, error: type[Exception], message: str) -> None:
    functions: list[Callable[..., Tensor]] = [greedy, sample]
    functions += [
        lambda z, f=f: f(z, 1) for f in (apply_temperature, top_k, top_p, min_p, typical_p)
    ]
    functions.append(lambda z: in_nucleus(z, torch.zeros(2, dtype=torch.int64), 0.9))
    for function in functions:
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            function(bad)
        function(torch.tensor([[0.5, 1.5], [-INF, 2.0]]))


def k_message(k: int) -> str:
    return (
        f"k must lie in [1, 2], the size of the vocabulary, got {k}; leave top-k out to keep every "
        "token"
    )


BAD_K: list[tuple[Any, type[Exception], str]] = [
    (0, ValueError, k_message(0)),
    (-1, ValueError, k_message(-1)),
    (3, ValueError, k_message(3)),
    (1.0, TypeError, "k must be an int such as 50, got 1.0"),
    (True, TypeError, "k must be an int such as 50, got True"),
    ("1", TypeError, "k must be an int such as 50, got '1'"),
]
BAD_P: list[tuple[Any, type[Exception], str]] = [
    *((p, ValueError, SHARE.format(p)) for p in (0, -0.5, 1.5, 1 + 2**-52, NAN, INF)),
    ("0.9", TypeError, "p must be a number such as 0.9, got '0.9'"),
    (True, TypeError, "p must be a number such as 0.9, got True"),
    (1j, TypeError, "p must be a number such as 0.9, got 1j"),
]


def first_in_nucleus(z: Tensor, p: Any) -> Tensor:
    return in_nucleus(z, torch.tensor(0), p)


@pytest.mark.parametrize(
    ("function", "bad", "error", "message", "good"),
    [
        *((top_k, *row, k) for row in BAD_K for k in (1, 2)),
        *((f, *row, 1e-9) for row in BAD_P for f in (top_p, min_p, typical_p, first_in_nucleus)),
    ],
)
def test_a_truncation_out_of_range_is_shown_beside_one_in_it(
    function: Truncation, bad: Any, error: type[Exception], message: str, good: float
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        function(ROW, bad)
    function(ROW, good)
    if function not in (typical_p, first_in_nucleus):
        arguments: list[dict[str, Any]] = [{function.__name__: value} for value in (bad, good)]
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            sample(ROW, **arguments[0])
        sample(ROW, **arguments[1])


@pytest.mark.parametrize("p", [1, Fraction(1, 2), np.float32(0.5), np.float64(0.5)], ids=repr)
def test_any_real_number_is_a_share(p: Any) -> None:
    for function in (top_p, min_p, typical_p):
        assert torch.equal(function(ROW, p), function(ROW, float(p)))


@pytest.mark.parametrize(
    ("bad", "error", "message", "good"),
    [
        (NAN, ValueError, f"{RANGE32}, got [nan]{REMEDY}", 1.0),
        (INF, ValueError, f"{RANGE32}, got [inf]{REMEDY}", torch.finfo(torch.float32).max),
        (1e-39, ValueError, f"{RANGE32}, got [1e-39]{REMEDY}", 2.0**-126),
        (torch.tensor(NAN), ValueError, f"{RANGE32}, got [nan]{REMEDY}", torch.tensor(0.5)),
        ("1", TypeError, "temperature must be a number such as 0.7, got '1'", 1),
        (True, TypeError, "temperature must be a number such as 0.7, got True", Fraction(1, 2)),
        (
            torch.tensor([1.0, 2.0]),
            ValueError,
            "temperature must be a number or have the shape (3,) of the rows, got shape (2,); give "
            "one number for each row",
            torch.tensor([1.0, 2.0, 3.0]),
        ),
        (
            torch.ones(3, 1),
            ValueError,
            "temperature must be a number or have the shape (3,) of the rows, got shape (3, 1); "
            "give one number for each row",
            torch.ones(3),
        ),
    ],
)
def test_a_temperature_that_cannot_divide_is_shown_beside_one_that_can(
    bad: Any, error: type[Exception], message: str, good: Any
) -> None:
    z = torch.tensor([0.0, -1.0]).expand(3, 2)
    for function in (apply_temperature, lambda z, t: sample(z, temperature=t)):
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            function(z, bad)
        function(z, good)


def test_a_temperature_below_zero_and_where_zero_is_greedy() -> None:
    z = ROW.expand(3, 2)
    mixed = torch.tensor([1.0, -0.5, 0.0])
    with pytest.raises(
        ValueError, match=r"^temperature must be > 0, got \[-0.5, 0.0\]; for determ"
    ):
        apply_temperature(z, mixed)
    message = (
        "temperature must be > 0, got [0.0]; for deterministic decoding (T -> 0) use greedy(logits)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        apply_temperature(z, 0)
    with pytest.raises(ValueError, match=r"have the shape \(2, 3\) of the rows, got shape \(3,\)"):
        apply_temperature(torch.zeros(2, 3, 4), torch.ones(3))
    with pytest.raises(ValueError, match=r"^temperature must be >= 0, got \[-0.5\]; 0 is greedy, "):
        sample(z, temperature=mixed)
    assert sample(z, temperature=mixed.clamp(min=0))[2] == 1


def test_a_quotient_that_overflows_is_shown_and_sample_does_without_it() -> None:
    for value in (8.0, -8.0):
        z = torch.tensor([[0.0, 1.0], [value, value]])
        message = f"logits [{value}, {value}] divided by the temperature overflow torch.float32"
        with pytest.raises(ValueError, match=f"^{re.escape(message + OVERFLOW)}$"):
            apply_temperature(z, torch.tensor([1.0, 2e-38]))
        # 8 / 2e-38 is beyond float32: only of differences are the quotients at most 0.
        assert sample(torch.tensor([value, value + 1]), temperature=2e-38).item() == 1
    half = torch.tensor([10.0, 20.0], dtype=torch.float16)
    with pytest.raises(ValueError, match=r"^logits \[10.0, 20.0\] .* torch.float16; "):
        apply_temperature(half, 1e-4)
    assert apply_temperature(half, 1e-3).tolist() == [10000.0, 20000.0]
    assert sample(half, temperature=1e-4).item() == 1


@pytest.mark.parametrize("count", [0, 1, 5, 7])
def test_a_generator_for_each_row_or_one_for_all(count: int) -> None:
    z = torch.zeros(2, 3, 4)
    message = f"{count} generators for 6 rows; give one for all rows, or one for each"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        sample(z, generator=[generator()] * count)
    assert sample(z, generator=[generator()] * 6).shape == (2, 3)
