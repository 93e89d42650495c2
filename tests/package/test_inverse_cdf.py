"""One index from each row of weights: exact cumulative sums, chosen numbers, and many draws."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from omnivault.inverse_cdf import BLOCK, block_sums, inverse_cdf
from tests.support.strategies import SINGLE_DOUBLE, exactly, smallest, total

INF, NAN = math.inf, math.nan
# How often another seed would fail the test of a sampler that is right.
FALSE_ALARM = 1e-3
dtypes = pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
sizes = pytest.mark.parametrize("vocabulary", [1, 2, 127, 128, 129, 255, 256, 257, 300, 1000])
pytestmark = pytest.mark.usefixtures("one_thread", "two_searches")
Choose = Callable[[list[tuple[float, float]]], None]
LARGEST = 1 - 2.0**-53


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Choose:
    """Sets the two uniform numbers of each row: for its block, if it has several, and within it."""

    def choose(pairs: list[tuple[float, float]]) -> None:
        def uniform(rows: int, numbers: int, *_: Any) -> Tensor:
            assert rows == len(pairs)
            return torch.tensor(pairs, dtype=torch.float64)[:, -numbers:]

        monkeypatch.setattr("omnivault.inverse_cdf.uniforms", uniform)

    return choose


# Chosen numbers -----------------------------------------------------------------------------------


def exceeds(weights: list[Fraction], u: float) -> int:
    """The first index whose cumulative sum exceeds u times the sum."""
    product, so_far = Fraction(u) * total(weights), Fraction(0)
    for i, weight in enumerate(weights):
        so_far += weight
        if so_far > product:
            return i
    raise AssertionError("no cumulative sum exceeds the product")


def index(weights: Tensor, pair: tuple[float, float]) -> int:
    """The index that two numbers draw, by exact sums of the very weights."""
    row = exactly(weights)
    blocks = [row[i : i + BLOCK] for i in range(0, len(row), BLOCK)]
    block = exceeds([total(b) for b in blocks], pair[0])
    return block * BLOCK + exceeds(blocks[block], pair[1])


def whole_weights(vocabulary: int, dtype: torch.dtype) -> Tensor:
    """Whole numbers, of which sums are exact; about half of them are 0."""
    g = generator(vocabulary)
    weights = torch.randint(0, 9, (vocabulary,), generator=g).sub(4).clamp(min=0)
    weights[torch.randint(vocabulary, (1,), generator=g)] = 3
    return weights.to(dtype)


EIGHTHS = [k / 8 for k in range(8)]
FEW = [0.0, 2.0**-53, 11 / 32, 0.5, 0.75, LARGEST]  # products with small whole numbers are exact


@sizes
@dtypes
def test_two_numbers_give_the_index_of_the_exact_sums(
    vocabulary: int, dtype: torch.dtype, choose: Choose
) -> None:
    weights = whole_weights(vocabulary, dtype)
    pairs = [(u, v) for u in EIGHTHS + FEW for v in EIGHTHS + FEW]
    choose(pairs)
    drawn = inverse_cdf(weights.expand(len(pairs), vocabulary))
    assert drawn.dtype is torch.int64
    assert drawn.tolist() == [index(weights, pair) for pair in pairs]
    assert bool((weights[drawn] > 0).all())


@dtypes
def test_every_boundary_goes_to_the_next_index(dtype: torch.dtype, choose: Choose) -> None:
    # Of sum 64, in four blocks of 16 each: all of these products are exact.
    weights = torch.zeros(4 * BLOCK, dtype=dtype)
    for block in range(4):
        weights[block * BLOCK + torch.tensor([3, 50, 51, 127])] = torch.tensor(
            [1.0, 8.0, 2.0, 5.0], dtype=dtype
        )
    pairs = [(k / 64, j / 16) for k in range(64) for j in range(16)]
    choose(pairs)
    drawn = inverse_cdf(weights.expand(len(pairs), -1)).tolist()
    within = [3] + [50] * 8 + [51] * 2 + [127] * 5
    assert drawn == [k // 16 * BLOCK + within[j] for k in range(64) for j in range(16)]
    # Each index has exactly its share of the numbers.
    shares = torch.tensor(drawn).bincount(minlength=4 * BLOCK)
    assert torch.equal(shares, (16 * weights).long())


@given(st.data())
def test_any_whole_weights_give_the_index_of_the_exact_sums(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(SINGLE_DOUBLE))
    numbers = st.integers(0, 2**10)
    row = data.draw(st.lists(numbers, min_size=1, max_size=300).filter(any))
    weights = torch.tensor(row, dtype=dtype)
    # Multiples of 2^-30, so products are exact too.
    units = st.integers(0, 2**30 - 1).map(lambda k: k / 2**30)
    pairs = data.draw(st.lists(st.tuples(units, units), min_size=1, max_size=5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "omnivault.inverse_cdf.uniforms",
            lambda _, numbers, *__: torch.tensor(pairs, dtype=torch.float64)[:, -numbers:],
        )
        drawn = inverse_cdf(weights.expand(len(pairs), len(row)))
    assert drawn.tolist() == [index(weights, pair) for pair in pairs]


@pytest.mark.parametrize(
    ("vocabulary", "inside"),
    [
        pytest.param(1, [0], id="one index"),
        pytest.param(128, [0], id="the first alone"),
        pytest.param(128, [127], id="the last alone"),
        pytest.param(300, [299], id="the last of a shorter block"),
        pytest.param(300, [130, 200], id="first and last block empty"),
        pytest.param(600, [5, 590], id="blocks between empty"),
        pytest.param(129, [128], id="a block of one"),
        pytest.param(256, [127, 128], id="on either side of a border"),
        pytest.param(1000, list(range(256, 384)), id="one block full"),
    ],
)
@dtypes
def test_a_weight_of_zero_is_never_drawn(
    vocabulary: int, inside: list[int], dtype: torch.dtype, choose: Choose
) -> None:
    weights = torch.zeros(vocabulary, dtype=dtype)
    weights[inside] = torch.rand(len(inside), generator=generator(), dtype=dtype) + 0.1
    pairs = [(u, v) for u in FEW for v in FEW]
    choose(pairs)
    drawn = inverse_cdf(weights.expand(len(pairs), -1))
    assert set(drawn.tolist()) <= set(inside)
    assert int(drawn[0]) == inside[0]
    assert int(drawn[-1]) == inside[-1]
    minus_zero = torch.where(weights == 0, -0.0, weights)
    assert torch.equal(inverse_cdf(minus_zero.expand(len(pairs), -1)), drawn)


@dtypes
def test_a_small_weight_after_a_large_sum_keeps_its_chance(
    dtype: torch.dtype, choose: Choose
) -> None:
    # A chance of 5e-11, which a sum in float32 would swallow.
    weights = torch.zeros(3 * BLOCK, dtype=dtype)
    weights[4], weights[BLOCK], weights[2 * BLOCK + 9] = 1e-20, 1e-30, 1e-20
    assert float(torch.tensor(1e-20) + torch.tensor(1e-30)) == float(torch.tensor(1e-20))
    pairs = [(0.5 - 1e-10, 0.9), (0.5 - 2e-11, 0.0), (0.5 + 2e-11, LARGEST), (0.5 + 1e-10, 0.0)]
    choose(pairs)
    drawn = inverse_cdf(weights.expand(4, -1)).tolist()
    assert drawn == [4, BLOCK, BLOCK, 2 * BLOCK + 9]
    # Within a block the sums are in float64 as well.
    weights = weights[:BLOCK].clone()
    weights[60], weights[100] = 1e-30, 1e-20
    choose([(0.3, u) for u, _ in pairs])
    assert inverse_cdf(weights.expand(4, -1)).tolist() == [4, 60, 60, 100]


@dtypes
def test_a_block_of_very_small_weights_is_drawn_within_by_their_ratios(
    dtype: torch.dtype, choose: Choose
) -> None:
    weights = torch.zeros(2 * BLOCK, dtype=dtype)
    weights[[2, 7]] = torch.tensor([1e-30, 3e-30], dtype=dtype)
    weights[BLOCK:] = 1.0
    choose([(0.0, 0.2), (0.0, 0.3), (2.0**-53, 0.2)])
    assert inverse_cdf(weights.expand(3, -1)).tolist() == [2, 7, BLOCK + 25]


@dtypes
def test_sums_far_from_one_are_as_good(dtype: torch.dtype) -> None:
    weights = torch.rand(20, 300, generator=generator(), dtype=dtype)
    expected = inverse_cdf(weights, generator=generator(1))
    # Powers of two round nothing.
    for scale in (2.0**-90, 2.0**-20, 2.0**20, 2.0**110):
        assert torch.equal(inverse_cdf(scale * weights, generator=generator(1)), expected)


@dtypes
@pytest.mark.parametrize("size", ["normal", "subnormal"])
def test_the_smallest_sums_of_all_are_drawn_from(
    size: str, dtype: torch.dtype, choose: Choose
) -> None:
    choose([(0.0, 0.0), (LARGEST, LARGEST), (0.75, 0.75)])
    weights = torch.zeros(200, dtype=dtype)
    weights[130] = torch.finfo(dtype).tiny if size == "normal" else smallest(dtype)
    assert inverse_cdf(weights.expand(3, -1)).tolist() == [130] * 3


# Sums of blocks -----------------------------------------------------------------------------------


@sizes
@dtypes
def test_sums_of_blocks_are_those_of_the_slices(vocabulary: int, dtype: torch.dtype) -> None:
    weights = torch.stack([whole_weights(vocabulary, dtype), torch.ones(vocabulary, dtype=dtype)])
    sums = block_sums(weights)
    assert sums.dtype is torch.float64
    assert sums.shape == (2, math.ceil(vocabulary / BLOCK))
    for row, found in zip(weights, sums.tolist(), strict=True):
        assert found == [float(part.double().sum()) for part in row.split(BLOCK)]
    assert block_sums(weights[:0]).shape == (0, sums.shape[1])


# Draws --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocabulary", [2, 127, 129, 300])
@dtypes
def test_draws_follow_the_weights(vocabulary: int, dtype: torch.dtype) -> None:
    weights = whole_weights(vocabulary, dtype)
    n = 100_000
    drawn = inverse_cdf(weights.expand(n, -1), generator=generator(3))
    counts = drawn.bincount(minlength=vocabulary)
    inside = weights > 0
    assert int(counts[~inside].sum()) == 0
    if int(inside.sum()) > 1:
        expected = n * weights[inside].double() / weights.double().sum()
        assert scipy.stats.chisquare(counts[inside], expected).pvalue > FALSE_ALARM


def test_a_generator_for_each_row_one_for_all_or_the_global_one() -> None:
    weights = torch.rand(6, 300, generator=generator())
    alone = [inverse_cdf(row, generator=generator(i)).item() for i, row in enumerate(weights)]
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4], [2, 2, 2, 2, 2, 2]):
        for sequence in (list, tuple):
            generators = sequence(generator(i) for i in order)
            drawn = inverse_cdf(weights[order].reshape(2, 3, 300), generator=generators)
            assert drawn.shape == (2, 3)
            assert drawn.flatten().tolist() == [alone[i] for i in order]
    torch.manual_seed(7)
    state = torch.get_rng_state()
    one = inverse_cdf(weights, generator=generator(7))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(inverse_cdf(weights), one)
    assert not torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,), (2, 0)])
@pytest.mark.parametrize("vocabulary", [1, 5, 128, 300])
def test_the_shape_of_what_is_drawn(shape: tuple[int, ...], vocabulary: int) -> None:
    weights = torch.ones(*shape, vocabulary)
    drawn = inverse_cdf(weights, generator=generator())
    assert drawn.shape == shape
    assert drawn.dtype is torch.int64
    assert bool(((drawn >= 0) & (drawn < vocabulary)).all())


@pytest.mark.parametrize("vocabulary", [100, 256])
@dtypes
def test_layout_does_not_matter_and_the_weights_are_left_alone(
    vocabulary: int, dtype: torch.dtype
) -> None:
    weights = torch.rand(24, vocabulary, generator=generator(), dtype=dtype)
    expected = inverse_cdf(weights, generator=generator(2))
    layouts = [weights.T.contiguous().T, torch.stack([weights, weights], -1)[..., 0]]
    layouts += [weights.clone().requires_grad_(), weights.flip(0).flip(0)]
    for layout in layouts:
        before = layout.detach().clone()
        drawn = inverse_cdf(layout, generator=generator(2))
        assert torch.equal(drawn, expected)
        assert not drawn.requires_grad
        assert torch.equal(layout.detach(), before)
    row = weights[:1]
    repeated = inverse_cdf(row.repeat(24, 1), generator=generator(2))
    assert torch.equal(inverse_cdf(row.expand(24, -1), generator=generator(2)), repeated)


# Bad input ----------------------------------------------------------------------------------------

SUM = "weights must not be negative and must have a positive, finite sum, got "
HUGE = torch.finfo(torch.float32).max


@pytest.mark.parametrize(
    ("bad", "error", "message", "good"),
    [
        (
            torch.tensor([1, 2]),
            TypeError,
            "weights must be float32 or float64, got torch.int64; try weights.float()",
            torch.tensor([1.0, 2.0]),
        ),
        (
            torch.ones(3, dtype=torch.float16),
            TypeError,
            "weights must be float32 or float64, got torch.float16; try weights.float()",
            torch.ones(3, dtype=torch.float64),
        ),
        (
            torch.ones(3, dtype=torch.bfloat16),
            TypeError,
            "weights must be float32 or float64, got torch.bfloat16; try weights.float()",
            torch.ones(3),
        ),
        (
            torch.tensor(1.0),
            ValueError,
            "weights must have the shape (..., V), got ()",
            torch.ones(1),
        ),
        (
            torch.ones(2, 0),
            ValueError,
            "weights must have the shape (..., V), got (2, 0)",
            torch.ones(0, 2),
        ),
        *(
            (torch.tensor([[1.0, 2.0], bad]), ValueError, SUM + shown, torch.tensor([good]))
            for bad, shown, good in [
                ([1.0, -1e-30], "[1.0, -1.0000000031710769e-30]", [1.0, -0.0]),
                ([0.0, 0.0], "[0.0, 0.0]", [0.0, 1e-45]),
                ([NAN, 1.0], "[nan, 1.0]", [0.5, 1.0]),
                ([0.5, NAN], "[0.5, nan]", [0.5, 1.0]),
                ([INF, 1.0], "[inf, 1.0]", [1e38, 1.0]),
                ([-INF, INF], "[-inf, inf]", [0.0, 1.0]),
                ([HUGE, HUGE], f"[{HUGE}, {HUGE}]", [HUGE / 2, HUGE / 2]),
            ]
        ),
        (
            torch.full((300,), HUGE / 299),
            ValueError,
            f"{SUM}[{', '.join([str(torch.tensor(HUGE / 299).item())] * 6)}, ...]",
            torch.full((300,), HUGE / 301),
        ),
    ],
)
def test_weights_that_cannot_be_drawn_from_are_shown_beside_some_that_can(
    bad: Tensor, error: type[Exception], message: str, good: Tensor
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        inverse_cdf(bad, generator=generator())
    assert inverse_cdf(good, generator=generator()).shape == good.shape[:-1]


@pytest.mark.parametrize("count", [0, 1, 5, 7])
def test_generators_that_are_not_one_for_each_row(count: int) -> None:
    weights = torch.ones(2, 3, 4)
    message = f"{count} generators for 6 rows; give one for all rows, or one for each"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        inverse_cdf(weights, generator=[generator()] * count)
    assert inverse_cdf(weights, generator=[generator()] * 6).shape == (2, 3)
