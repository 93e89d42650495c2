from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation import logits_process as hf

from omnivault.sampling import (
    apply_temperature,
    greedy,
    min_p,
    plain_sample,
    sample,
    top_k,
    top_p,
    typical_p,
)
from tests.package.sampling.common import (
    DYADIC,
    INF,
    KINDS,
    TRUNCATIONS,
    TWO_BITS,
    Truncation,
    dtypes,
    generator,
    kept,
    logits_of,
    nucleus,
    tokens,
)
from tests.support.strategies import (
    SINGLE_DOUBLE,
    as_double,
    exact_softmax,
    unit,
    whole_rows,
)

U = unit(torch.float64)
truncations = pytest.mark.parametrize("name", TRUNCATIONS)


def assert_same_tokens(ours: Tensor, theirs: Tensor, name: str = "top_p") -> None:
    """Transformers sorts unstably: beyond 16 tokens, which of several equals it keeps is chance."""
    if name == "top_p" and ours.shape[-1] > 16:
        ours, theirs = ours.sort().values, theirs.sort().values
    assert torch.equal(ours, theirs)


@truncations
@pytest.mark.parametrize("vocabulary", [2, 3, 10, 100, 1000])
def test_the_kept_sets_are_those_of_transformers(name: str, vocabulary: int) -> None:
    ours, theirs, settings = TRUNCATIONS[name]
    # The entropies of both are rounded, in float32 so much that it decides about some tokens.
    for dtype in SINGLE_DOUBLE if name != "eta_cutoff" else (torch.float64,):
        for kind in KINDS:
            z = logits_of(kind, 50 if vocabulary == 1000 else 200, vocabulary, dtype)
            for setting in settings:
                if name == "top_k":
                    setting = min(int(setting), vocabulary)
                assert_same_tokens(ours(z, setting), theirs(setting)(None, z), name)


@truncations
def test_so_are_those_of_a_real_model(name: str, real_logits: Tensor) -> None:
    ours, theirs, settings = TRUNCATIONS[name]
    # Transformers adds up what is kept, and of 49,152 numbers in float32 0.95 are too few.
    z = real_logits.double() if name in ("typical_p", "eta_cutoff") else real_logits
    for setting in settings[1::2]:
        assert torch.equal(ours(z, setting), theirs(setting)(None, z))


def test_typical_sets_of_a_real_model_lose_nothing_in_float32(real_logits: Tensor) -> None:
    ours, theirs, _ = TRUNCATIONS["typical_p"]
    for p in (0.95, 0.999):
        exact = kept(ours(real_logits.double(), p))
        # Rounding decides about tokens as near to the border as V additions may move it.
        probs = real_logits.double().softmax(-1)
        off = 2.1 * 49_152 * unit(torch.float32) * (1 - p) + 2 * probs.where(exact, 1).amin(-1)
        differ = exact != kept(ours(real_logits, p))
        assert bool((probs.where(differ, 0).sum(-1) <= off).all())
    # The other way round p = 0.999 loses whole sets of tokens.
    assert int((exact != kept(theirs(0.999)(None, real_logits))).sum()) > 100


def test_temperature_is_that_of_transformers(real_logits: Tensor) -> None:
    for temperature in (1e-3, 0.3, 0.7, 1.0, 1.3, 50.0):
        theirs = hf.TemperatureLogitsWarper(temperature)
        for z in (real_logits, *(logits_of(kind, 200, 100, torch.float64) for kind in KINDS)):
            assert torch.equal(apply_temperature(z, temperature), theirs(None, z))


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
