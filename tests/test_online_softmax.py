from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from functools import partial, reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
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
    finite_rows,
    rows,
    smallest,
    softmax_bound,
    unit,
)
from test_softmax import (
    BAD_DIM,
    BAD_LOGITS,
    INPUTS,
    ROW,
    ROWS_FOR_MPMATH,
    dtypes,
    in_dtype,
    inputs,
    name_of,
    not_finite,
    random_logits,
    slack,
    upstream_like,
)
from torch import Tensor

from omnivault import online_softmax
from omnivault.online_softmax import (
    SoftmaxStatistics,
    block_statistics,
    chunked_softmax,
    combine,
)

INF, NAN = math.inf, math.nan


# How far rounding may move the pair ---------------------------------------------------------------


def total_bound(z: Tensor, dim: int = -1, combinations: int = 0) -> Tensor:
    """Largest error of d, of whichever block of ``z`` it is gathered.

    A term exp(z_i - m) is off by u for each unit of its gap: the gap is rounded whole or in the
    parts that the running maximum cuts it into, and they add up to it. Each combination makes an
    exp of 4 ulp (8 u), a product and a sum; at first there are an exp and a cascade.
    """
    gap = z.double().amax(dim, keepdim=True) - z.double()
    u = unit(arithmetic(z.dtype))
    k = z.shape[dim]
    relative = u * (gap + 4 * math.log2(k + 1) + 9 + 10 * combinations)
    terms = (torch.exp(-gap) * relative).nan_to_num(0.0).sum(dim)
    # Below the normal numbers a term is off by the smallest one, and K of them may be rescaled.
    return 1.01 * terms + 2 * k * smallest(arithmetic(z.dtype))


def chunked_bound(z: Tensor, dim: int = -1, combinations: int = 0) -> Tensor:
    """The bound of softmax, and what the combinations add to d."""
    p = torch.softmax(z.double(), dim).nan_to_num(0.0)
    return softmax_bound(z, 1.0, dim) + 10 * combinations * unit(arithmetic(z.dtype)) * p


def exact_statistics(z: Tensor) -> tuple[float, Any]:
    """The pair of a row, to 50 digits."""
    m = max(z.tolist())
    if m == -INF:
        return m, mp.mpf(0)
    return m, mp.fsum(mp.exp(mp.mpf(x) - mp.mpf(m)) for x in z.tolist() if x != -INF)


def assert_pair(actual: SoftmaxStatistics, z: Tensor, combinations: int = 0) -> None:
    """Assert that ``actual`` is the pair of the row ``z``: its maximum, and d within the bound."""
    m, d = exact_statistics(z)
    assert isinstance(actual, SoftmaxStatistics)
    assert actual.maximum.item() == m
    assert actual.total.dtype is actual.maximum.dtype is arithmetic(z.dtype)
    assert_within(actual.total, as_double([d])[0], total_bound(z, -1, combinations))


# One block ----------------------------------------------------------------------------------------


@inputs
@dtypes
def test_statistics_of_a_block_are_its_maximum_and_its_sum(
    make: Callable[[], Tensor], dim: int, dtype: torch.dtype
) -> None:
    z = in_dtype(make(), dtype)
    m, d = block_statistics(z, dim)
    assert m.dtype is d.dtype is arithmetic(dtype)
    zd = z.double()
    assert torch.equal(m.double(), zd.amax(dim))
    expected = torch.exp(zd - zd.amax(dim, keepdim=True)).sum(dim)
    assert_within(d, expected, slack(dtype) * total_bound(z, dim))
    # exp(0) is 1, no term is negative and none is above 1.
    assert bool((d >= 1).all())
    assert bool((d <= z.shape[dim]).all())


@pytest.mark.parametrize("values", ROWS_FOR_MPMATH.values(), ids=ROWS_FOR_MPMATH.keys())
@dtypes
def test_statistics_against_fifty_digits(values: list[float], dtype: torch.dtype) -> None:
    z = torch.tensor(values, dtype=dtype)
    assert_pair(block_statistics(z), z)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(data=st.data())
def test_statistics_of_any_finite_row_against_fifty_digits(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    z = data.draw(finite_rows(dtype))
    assert_pair(block_statistics(z), z)


@dtypes
def test_statistics_of_masked_and_undefined_blocks(dtype: torch.dtype) -> None:
    def pair(values: list[float]) -> tuple[float, float]:
        m, d = block_statistics(torch.tensor(values, dtype=dtype))
        return m.item(), d.item()

    assert pair([-INF, -INF]) == pair([-INF]) == (-INF, 0.0)
    assert pair([-INF, 3.0, -INF]) == pair([3.0]) == (3.0, 1.0)
    assert pair([7.0, 7.0, -INF, 7.0]) == (7.0, 3.0)
    for undefined in ([INF, 0.0], [NAN, 0.0], [INF, -INF], [NAN, -INF], [NAN, INF]):
        assert math.isnan(pair(undefined)[1])
    assert pair([INF, 0.0])[0] == INF
    assert math.isnan(pair([NAN, 0.0])[0])


@pytest.mark.parametrize("shape", [(5,), (1, 5), (3, 4), (2, 3, 4)])
def test_m_plus_log_d_is_logsumexp_with_its_gradient(shape: tuple[int, ...]) -> None:
    z = random_logits(*shape).requires_grad_()
    for dim in range(-len(shape), len(shape)):
        m, d = block_statistics(z, dim)
        value = m + d.log()
        expected = torch.logsumexp(z, dim)
        # The error of d relative to d, which is at least 1, and two roundings each.
        bound = 2 * total_bound(z.detach(), dim) + 4 * unit(z.dtype) * expected.abs().detach()
        assert_within(value.detach(), expected.detach(), bound)
        (gradient,) = torch.autograd.grad(value.sum(), z)
        softmax = torch.softmax(z.detach(), dim)
        # At the maximum 1 - (1 - p): three roundings of numbers of size 1.
        assert_within(
            gradient, softmax, 2 * softmax_bound(z.detach(), 1.0, dim) + 4 * unit(z.dtype)
        )


def test_the_last_dimension_is_the_default() -> None:
    z = random_logits(3, 3)
    for default, named in zip(block_statistics(z), block_statistics(z, -1), strict=True):
        assert torch.equal(default, named)
    assert torch.equal(chunked_softmax(z, 2), chunked_softmax(z, 2, -1))
    assert not torch.equal(block_statistics(z)[0], block_statistics(z, 0)[0])
    assert not torch.equal(chunked_softmax(z, 2), chunked_softmax(z, 2, 0))


@dtypes
def test_the_logits_are_left_as_they_were(dtype: torch.dtype) -> None:
    z = random_logits(3, 4).to(dtype)
    before = z.clone()
    block_statistics(z)
    chunked_softmax(z, 3)
    assert torch.equal(z, before)
    pair = block_statistics(z)
    m, d = (t.clone() for t in pair)
    combine(pair, block_statistics(z + 1))
    assert torch.equal(pair.maximum, m)
    assert torch.equal(pair.total, d)


# Blocks together ----------------------------------------------------------------------------------


def same(first: SoftmaxStatistics, second: SoftmaxStatistics) -> bool:
    """To the last bit, nan included."""
    return all(
        a.dtype is b.dtype
        and a.shape == b.shape
        and bool(((a == b) | (a.isnan() & b.isnan())).all())
        for a, b in zip(first, second, strict=True)
    )


def identity(dtype: torch.dtype, *shape: int) -> SoftmaxStatistics:
    return SoftmaxStatistics(torch.full(shape, -INF, dtype=dtype), torch.zeros(shape, dtype=dtype))


# What one block may hold.
BLOCKS = [
    [1.0, 5.0, 6.0, 3.0],
    [0.0],
    [-80.0, -81.0],
    [1e4, 1e4],
    [-INF, -INF],
    [-INF, 2.0],
    [60000.0, -60000.0],
    [INF, 0.0],
    [NAN, 0.0],
]


@pytest.mark.parametrize("values", BLOCKS, ids=str)
@dtypes
def test_minus_infinity_and_zero_are_the_identity(values: list[float], dtype: torch.dtype) -> None:
    pair = block_statistics(torch.tensor(values, dtype=dtype))
    nothing = identity(arithmetic(dtype))
    assert same(combine(pair, nothing), pair)
    assert same(combine(nothing, pair), pair)
    masked = block_statistics(torch.full((3,), -INF, dtype=dtype))
    assert same(masked, nothing)


@pytest.mark.parametrize("first", BLOCKS, ids=str)
@pytest.mark.parametrize("second", BLOCKS, ids=str)
def test_combining_is_commutative_to_the_last_bit(first: list[float], second: list[float]) -> None:
    for dtype in SINGLE_DOUBLE:
        a, b = (block_statistics(torch.tensor(block, dtype=dtype)) for block in (first, second))
        assert same(combine(a, b), combine(b, a))
        undefined = any(math.isnan(x) or x == INF for x in (*first, *second))
        assert bool(combine(a, b).total.isnan()) == undefined


@given(st.data())
def test_combining_any_two_blocks_is_commutative_and_the_pair_of_both(data: st.DataObject) -> None:
    for dtype in SINGLE_DOUBLE:
        x, y = (data.draw(finite_rows(dtype)) for _ in range(2))
        a, b = block_statistics(x), block_statistics(y)
        assert same(combine(a, b), combine(b, a))
        assert_pair(combine(a, b), torch.cat([x, y]), 1)


@given(st.data())
def test_combining_is_associative_to_rounding(data: st.DataObject) -> None:
    for dtype in SINGLE_DOUBLE:
        x, y, w = (data.draw(rows(dtype=dtype, bound=100.0)) for _ in range(3))
        a, b, c = map(block_statistics, (x, y, w))
        left, right = combine(combine(a, b), c), combine(a, combine(b, c))
        assert torch.equal(left.maximum, right.maximum)
        bound = 2 * total_bound(torch.cat([x, y, w]), -1, 2)
        assert_within(left.total, right.total.double(), bound)


@st.composite
def split_rows(draw: DrawFn, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """A row with some logits masked, and its parts: cut anywhere, in any order."""
    values = draw(
        st.lists(st.one_of(st.floats(-120, 120, width=32), st.just(-INF)), min_size=1, max_size=12)
    )
    z = torch.tensor(values, dtype=dtype)
    cuts = draw(st.sets(st.integers(1, len(values) - 1))) if len(values) > 1 else set()
    parts = [z[i:j] for i, j in pairwise([0, *sorted(cuts), len(values)])]
    return z, draw(st.permutations(parts))


def in_a_tree(pairs: list[SoftmaxStatistics]) -> SoftmaxStatistics:
    """Combine the halves first, as a parallel reduction does."""
    if len(pairs) == 1:
        return pairs[0]
    middle = len(pairs) // 2
    return combine(in_a_tree(pairs[:middle]), in_a_tree(pairs[middle:]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(data=st.data())
def test_any_split_in_any_order_gives_the_same_pair(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    z, parts = data.draw(split_rows(dtype))
    pairs = [block_statistics(part) for part in parts]
    for gathered in (
        reduce(combine, pairs),
        reduce(lambda later, earlier: combine(earlier, later), reversed(pairs)),
        in_a_tree(pairs),
    ):
        assert_pair(gathered, z, len(parts) - 1)


def test_pairs_of_many_rows_combine_row_by_row() -> None:
    z = random_logits(3, 4, 10)
    for cut in (1, 5, 9):
        both = combine(block_statistics(z[..., :cut]), block_statistics(z[..., cut:]))
        assert torch.equal(both.maximum, z.amax(-1))
        expected = torch.exp(z - z.amax(-1, keepdim=True)).sum(-1)
        assert_within(both.total, expected, 2 * total_bound(z, -1, 1))


def test_pairs_of_shapes_that_broadcast_combine() -> None:
    each = block_statistics(random_logits(3, 4))
    shared = block_statistics(random_logits(6) + 3)
    for both in (combine(each, shared), combine(shared, each)):
        assert both.maximum.shape == both.total.shape == (3,)
        for i in range(3):
            alone = combine(SoftmaxStatistics(each.maximum[i], each.total[i]), shared)
            # Not the last bit: exp of one number and of three may take different paths, 8 u each.
            assert both.maximum[i] == alone.maximum
            assert_within(both.total[i], alone.total, 20 * unit(torch.float64) * alone.total)
    column = SoftmaxStatistics(each.maximum[:, None], each.total[:, None])
    assert combine(column, each).total.shape == (3, 3)


def test_a_block_far_below_adds_nothing_and_no_nan() -> None:
    low = block_statistics(torch.tensor([-3e38, -3e38]))
    high = block_statistics(torch.tensor([3e38, 3e38, 3e38]))
    for both in (combine(low, high), combine(high, low)):
        assert both.maximum.item() == torch.tensor(3e38).item()
        assert both.total.item() == 3.0


# Chunk by chunk -----------------------------------------------------------------------------------


def sizes(k: int) -> list[int]:
    """Every chunk size of a short row; of a long one, some. Beyond K there is one chunk."""
    few = range(1, k + 2) if k <= 8 else (1000, k // 2, k - 1, k)
    return [*few, k + 100, sys.maxsize]


@inputs
@dtypes
def test_chunked_softmax_is_torch_softmax_at_every_chunk_size(
    make: Callable[[], Tensor], dim: int, dtype: torch.dtype
) -> None:
    z = in_dtype(make(), dtype)
    expected = torch.softmax(z.double(), dim)
    k = z.shape[dim]
    for size in sizes(k):
        p = chunked_softmax(z, size, dim)
        assert p.dtype is dtype
        bound = chunked_bound(z, dim, math.ceil(k / size) - 1)
        assert_within(p, expected, slack(dtype) * bound)


def test_some_inputs_have_many_chunks() -> None:
    lengths = [make().shape[dim] for _, make, dim in INPUTS]
    assert max(lengths) > 1000
    assert {1, 2, 3, 5, 7} <= set(lengths)


@pytest.mark.parametrize("values", ROWS_FOR_MPMATH.values(), ids=ROWS_FOR_MPMATH.keys())
@dtypes
def test_chunked_softmax_against_fifty_digits(values: list[float], dtype: torch.dtype) -> None:
    z = torch.tensor(values, dtype=dtype)
    for size in sizes(len(values)):
        bound = chunked_bound(z, -1, math.ceil(len(values) / size) - 1)
        assert_within(chunked_softmax(z, size), as_double(exact_softmax(z)), bound)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(data=st.data())
def test_chunked_softmax_of_any_finite_row_against_fifty_digits(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    z = data.draw(finite_rows(dtype))
    size = data.draw(st.integers(1, len(z) + 1))
    bound = chunked_bound(z, -1, len(z))
    # A gap that overflows float64 leaves the bound at its floor: p is 0.
    assert_within(chunked_softmax(z, size), as_double(exact_softmax(z)), bound)


MASKED = {
    "a chunk in front": [-INF, -INF, 1.0, 2.0, 0.5],
    "a chunk in the middle": [1.0, 2.0, -INF, -INF, 0.5, 3.0],
    "a chunk at the end": [0.5, 1.0, -INF],
    "all but one": [-INF, -INF, -INF, 4.0, -INF],
    "one in each chunk": [1.0, -INF, -INF, 2.0],
}
masked = pytest.mark.parametrize("values", MASKED.values(), ids=MASKED.keys())


@masked
@dtypes
def test_chunks_may_be_masked(values: list[float], dtype: torch.dtype) -> None:
    z = torch.tensor(values, dtype=dtype)
    kept = z != -INF
    for size in sizes(len(values)):
        p = chunked_softmax(z, size)
        assert bool((p[~kept] == 0).all())
        expected = torch.softmax(z[kept].double(), -1)
        bound = chunked_bound(z, -1, len(values))[kept]
        assert_within(p[kept], expected, slack(dtype) * bound)


@not_finite
@dtypes
def test_chunked_softmax_treats_infinities_and_nan_as_torch_does(
    values: list[float], undefined: bool, dtype: torch.dtype
) -> None:
    z = torch.tensor(values, dtype=dtype)
    expected = torch.softmax(z.double(), -1)
    for size in sizes(len(values)):
        p = chunked_softmax(z, size)
        assert bool(p.isnan().all()) == bool(p.isnan().any()) == undefined
        if not undefined:
            bound = chunked_bound(z, -1, len(values))
            assert_within(p, expected, slack(dtype) * bound)


def test_an_undefined_row_leaves_its_neighbors_alone() -> None:
    z = torch.tensor(
        [[1.0, 2.0, 3.0], [-INF, -INF, -INF], [NAN, 0.0, 1.0], [0.0, 1.0, INF], [2.0, 1.0, 0.0]]
    )
    for size in (1, 2, 3):
        p = chunked_softmax(z, size)
        undefined = [False, True, True, True, False]
        assert p.isnan().all(-1).tolist() == p.isnan().any(-1).tolist() == undefined
        for i in (0, 4):
            # Not the last bit: exp may take another path for a row than for five.
            alone = chunked_softmax(z[i], size)
            assert_within(p[i], alone.double(), 2 * chunked_bound(z[i], -1, 2))


@dtypes
def test_the_extreme_finite_logits(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max

    def of(values: list[float], size: int) -> list[float]:
        p: list[float] = chunked_softmax(torch.tensor(values, dtype=dtype), size).tolist()
        return p

    for size in (1, 2, 3, 4):
        assert of([largest, -largest], size) == [1.0, 0.0]
        assert of([-largest, largest, -largest], size) == [0.0, 1.0, 0.0]
        assert of([largest] * 4, size) == [0.25] * 4
        assert of([-largest] * 4, size) == [0.25] * 4
        assert of([-largest, -INF, -largest], size) == [0.5, 0.0, 0.5]
        assert of([largest, -INF, 0.0, largest], size) == [0.5, 0.0, 0.0, 0.5]


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    z = (random_logits(16, 1000) / 2).to(dtype)
    for size in (1, 7, 100, 1000):
        assert torch.equal(chunked_softmax(z, size), chunked_softmax(z.float(), size).to(dtype))


def test_a_half_precision_vocabulary_still_sums() -> None:
    # Added up in float16, 70,000 equal weights of 1 would stop at infinity.
    z = torch.zeros(70_000, dtype=torch.float16)
    assert block_statistics(z).total.item() == 70_000
    expected = torch.full_like(z, 1 / 70_000)
    assert torch.equal(chunked_softmax(z, 10_000), expected)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("dim", [-1, 0])
def test_no_more_than_the_chunk_is_looked_at_at_once(
    size: int, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def watched(z: Tensor, dim: int = -1) -> SoftmaxStatistics:
        seen.append(z.shape[dim])
        return block_statistics(z, dim)

    monkeypatch.setattr(online_softmax, "block_statistics", watched)
    chunked_softmax(random_logits(7, 7), size, dim)
    whole, left = divmod(7, size)
    assert seen == [size] * whole + [left] * (left > 0)


# Its gradient -------------------------------------------------------------------------------------


def gradient_of(subject: Callable[[Tensor], Tensor], z: Tensor, v: Tensor) -> Tensor:
    z = z.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(subject(z), z, v)
    return gradient


@inputs
@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
def test_gradient_of_chunked_softmax_is_that_of_softmax(
    make: Callable[[], Tensor], dim: int, dtype: torch.dtype
) -> None:
    z = in_dtype(make(), dtype)
    v = upstream_like(z)
    expected = gradient_of(lambda x: torch.softmax(x, dim), z.double(), v.double())
    k = z.shape[dim]
    largest = v.double().abs().amax(dim, keepdim=True) if z.numel() else v.double().abs()
    for size in sizes(k)[:5]:
        gradient = gradient_of(partial(chunked_softmax, chunk_size=size, dim=dim), z, v)
        assert gradient.dtype is dtype
        chunks = math.ceil(k / size)
        # As for softmax, every factor carries the error of p, times the largest |v|. The gradient
        # also flows through m, where it cancels: sums of size |v| of one term a class and chunk.
        bound = 4 * chunked_bound(z, dim, chunks) * largest
        at_m = (4 * math.log2(k + 1) + 8 * chunks) * unit(dtype) * largest
        assert_within(gradient, expected, slack(dtype) * (bound + at_m))


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_gradient_in_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    z = random_logits(16, 30).to(dtype)
    v = upstream_like(z)
    for size in (1, 7, 30):
        subject = partial(chunked_softmax, chunk_size=size)
        gradient = gradient_of(subject, z, v)
        assert gradient.dtype is dtype
        wide = gradient_of(subject, z.float(), v.float())
        assert torch.equal(gradient, wide.to(dtype))


@pytest.mark.parametrize(
    "values",
    [
        [[0.3, -1.2, 2.0, 0.1], [1.0, 0.0, -1.0, 0.5]],
        [[2.0, 2.0, -1.0, 2.0], [0.0, 1.0, 1.0, 0.0]],
        [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]],
        [[1.0], [-2.0]],
    ],
    ids=["modest", "tie at the top", "all tied", "one class"],
)
def test_first_and_second_derivatives_are_difference_quotients(values: list[list[float]]) -> None:
    z = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    for size in range(1, len(values[0]) + 1):
        for dim in (-1, 0):

            def subject(x: Tensor, size: int = size, dim: int = dim) -> Tensor:
                return chunked_softmax(x, size, dim)

            assert torch.autograd.gradcheck(subject, (z,))
            assert torch.autograd.gradgradcheck(subject, (z,))


def test_the_derivatives_of_the_pair_itself_are_difference_quotients() -> None:
    # Without a tie at the top, where m has no derivative. Softmax would not notice a wrong one: it
    # cancels.
    z = torch.tensor([[0.3, -1.2, 2.0], [1.0, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: tuple(block_statistics(x)), (z,))
    assert torch.autograd.gradcheck(lambda x: tuple(block_statistics(x, 0)), (z,))

    def both(*pairs: Tensor) -> tuple[Tensor, ...]:
        return tuple(combine(SoftmaxStatistics(*pairs[:2]), SoftmaxStatistics(*pairs[2:])))

    pairs = [*block_statistics(z.detach()), *block_statistics(2 * z.detach())]
    assert torch.autograd.gradcheck(both, [t.clone().requires_grad_() for t in pairs])


@pytest.mark.parametrize("values", MASKED.values(), ids=MASKED.keys())
def test_gradient_at_masked_chunks_is_that_of_softmax(values: list[float]) -> None:
    z = torch.tensor(values, dtype=torch.float64)
    v = upstream_like(z)
    expected = gradient_of(lambda x: torch.softmax(x, -1), z, v)
    for size in sizes(len(values)):
        gradient = gradient_of(partial(chunked_softmax, chunk_size=size), z, v)
        bound = 4 * chunked_bound(z, -1, len(values)) + 64 * len(values) * unit(z.dtype)
        assert_within(gradient, expected, 2 * bound * v.abs().max())


def test_gradient_at_a_mask_inside_a_chunk_is_that_of_softmax() -> None:
    z = torch.tensor([0.5, -INF, 2.0, 1.0, -INF, 0.0], dtype=torch.float64)
    v = upstream_like(z)
    expected = gradient_of(lambda x: torch.softmax(x, -1), z, v)
    for size in (2, 3, 4, 6):
        gradient = gradient_of(partial(chunked_softmax, chunk_size=size), z, v)
        bound = 4 * chunked_bound(z, -1, 6) + 64 * 6 * unit(z.dtype)
        assert_within(gradient, expected, 2 * bound * v.abs().max())
        assert bool((gradient[[1, 4]] == 0).all())


@pytest.mark.parametrize("values", [[3e38, -3e38, 3e38], [-3e38, 0.0, 3e38], [-3e38, -3e38]])
def test_gradient_at_the_extreme_logits_is_that_of_softmax(values: list[float]) -> None:
    z = torch.tensor(values)
    v = torch.tensor([1.0, 2.0, 5.0])[: len(values)]
    expected = gradient_of(lambda x: torch.softmax(x, -1), z, v)
    for size in sizes(len(values)):
        # Each p is 0, 1/2 or 1: nothing is rounded.
        assert torch.equal(gradient_of(partial(chunked_softmax, chunk_size=size), z, v), expected)


# What is rejected ---------------------------------------------------------------------------------


def in_chunks_of_two(z: Tensor, dim: int = -1) -> Tensor:
    return chunked_softmax(z, 2, dim)


both_maps = pytest.mark.parametrize("subject", [block_statistics, in_chunks_of_two], ids=name_of)


@both_maps
@pytest.mark.parametrize(
    ("bad", "error", "message", "good"), BAD_LOGITS.values(), ids=BAD_LOGITS.keys()
)
def test_bad_logits_are_shown_with_what_would_work(
    subject: Callable[..., Any], bad: Any, error: type[Exception], message: str, good: Tensor
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        subject(bad)
    subject(good)


@both_maps
@pytest.mark.parametrize(("dim", "error", "message"), BAD_DIM.values(), ids=BAD_DIM.keys())
def test_bad_dim_is_shown_with_what_would_work(
    subject: Callable[..., Any], dim: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        subject(ROW, dim)
    for good in (-2, -1, 0, 1):
        subject(ROW, good)


@both_maps
def test_an_empty_dimension_is_named_as_the_caller_named_it(subject: Callable[..., Any]) -> None:
    message = (
        "dimension 1 of the logits is empty (shape (2, 0)); a softmax needs at least one class"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        subject(torch.zeros(2, 0), 1)
    subject(torch.zeros(2, 0), 0)


@pytest.mark.parametrize(
    ("bad", "shown", "good"),
    [
        (0, "0", 1),
        (-1, "-1", 1),
        (2.0, "2.0", 2),
        (True, "True", 1),
        (None, "None", 3),
        ("2", "'2'", 2),
        (np.int64(2), "np.int64(2)", int(np.int64(2))),
        (INF, "inf", sys.maxsize),
    ],
)
def test_a_bad_chunk_size_is_shown_with_what_would_work(bad: Any, shown: str, good: int) -> None:
    message = f"chunk_size must be an int of at least 1, got {shown}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        chunked_softmax(ROW, bad)
    assert chunked_softmax(ROW, good).shape == ROW.shape


def test_no_chunk_size_is_too_large() -> None:
    assert torch.equal(chunked_softmax(ROW, 2**63), chunked_softmax(ROW, 3))


def test_blocks_of_shapes_that_do_not_broadcast_are_rejected() -> None:
    one, other = block_statistics(torch.zeros(2, 5)), block_statistics(torch.zeros(3, 5))
    with pytest.raises(
        ValueError, match=r"^blocks of the shapes \(2,\) and \(3,\) do not broadcast$"
    ):
        combine(one, other)
    assert combine(one, block_statistics(torch.zeros(1, 5))).maximum.shape == (2,)
