from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from mpmath import mp
from torch import Tensor

from omnivault.online_softmax import SoftmaxStatistics, block_statistics, chunked_softmax, combine
from tests.package.online_softmax.common import INF, NAN
from tests.package.softmax.common import ROWS_FOR_MPMATH, dtypes, random_logits, slack
from tests.package.softmax.test_against_torch import in_dtype, inputs
from tests.support.strategies import (
    DTYPES,
    SINGLE_DOUBLE,
    arithmetic,
    as_double,
    assert_within,
    finite_rows,
    rows,
    smallest,
    softmax_bound,
    unit,
)


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
