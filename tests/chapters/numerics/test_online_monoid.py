"""The theorem `online-monoid`: Online softmax is a monoid."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import reduce
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.online_softmax import SoftmaxStatistics, block_statistics, chunked_softmax, combine
from tests.chapters.numerics.common import (
    APART,
    INF,
    INTEGERS,
    NEUTRAL,
    TORCH_KAPPA,
    Pair,
    as_mpf,
    dtypes,
    pairs,
    positive,
    single_double,
)
from tests.support.strategies import (
    arithmetic,
    as_double,
    assert_within,
    exact_logsumexp,
    exact_softmax,
    rows,
    softmax_bound,
    unit,
    whole_rows,
)


def plus(first: Pair, second: Pair) -> Pair:
    largest = max(first[0], second[0])
    if largest == 0:
        return NEUTRAL
    return largest, first[1] * first[0] / largest + second[1] * second[0] / largest


def statistics_of(exponentials: Sequence[Fraction]) -> Pair:
    """s(I) by its definition."""
    if not exponentials:
        return NEUTRAL
    largest = max(exponentials)
    return largest, sum((x / largest for x in exponentials), Fraction(0))


def phi(pair: Pair) -> Pair:
    """(m, d e^m)."""
    return pair[0], pair[1] * pair[0]


exponential_rows = st.lists(positive, min_size=1, max_size=5)


@pytest.mark.statement("online-monoid", "exact")
@given(pairs, pairs, pairs)
def test_the_laws_of_a_commutative_monoid(a: Pair, b: Pair, c: Pair) -> None:
    assert plus(plus(a, b), c) == plus(a, plus(b, c))
    assert plus(a, b) == plus(b, a)
    assert plus(a, NEUTRAL) == plus(NEUTRAL, a) == a
    # Nothing leaves the set: d is positive, or the pair is neutral.
    total = plus(a, b)
    assert (total[1] > 0) if total[0] > 0 else total == NEUTRAL
    # And under phi it is a maximum beside a sum.
    sums = phi(a)[1] + phi(b)[1]
    assert phi(total) == (max(a[0], b[0]), sums)
    assert (phi(a) == phi(b)) == (a == b)


@pytest.mark.statement("online-monoid", "exact")
def test_a_second_pair_at_minus_infinity_would_break_the_identity() -> None:
    stray = (Fraction(0), Fraction(1))
    assert plus(stray, NEUTRAL) != stray


Real = tuple[Any, Any]


def plus_real(first: Real, second: Real) -> Real:
    """The formula as it stands, at 50 digits."""
    largest = max(first[0], second[0])
    scales = [mp.mpf(0) if m == -mp.inf else mp.exp(m - largest) for m, _ in (first, second)]
    return largest, first[1] * scales[0] + second[1] * scales[1]


def real(pair: Pair) -> Real:
    return (mp.log(as_mpf(pair[0])) if pair[0] else -mp.inf), as_mpf(pair[1])


def same(a: Real, b: Real) -> bool:
    both = a[0] == b[0] or abs(a[0] - b[0]) <= APART
    return bool(both and abs(a[1] - b[1]) <= APART * (1 + abs(b[1])))


@pytest.mark.statement("online-monoid", "exact")
@given(pairs, pairs)
def test_with_real_maxima_it_is_the_same_operation(a: Pair, b: Pair) -> None:
    assert same(plus_real(real(a), real(b)), real(plus(a, b)))
    assert plus_real(real(NEUTRAL), real(NEUTRAL)) == (-mp.inf, 0)


def partitions(items: Sequence[int]) -> Iterator[list[list[int]]]:
    """All ways to split into blocks."""
    if not items:
        yield []
        return
    for smaller in partitions(items[1:]):
        yield [[items[0]], *smaller]
        for n, block in enumerate(smaller):
            yield [*smaller[:n], [items[0], *block], *smaller[n + 1 :]]


def groupings(blocks: Sequence[Any], operation: Callable[[Any, Any], Any]) -> Iterator[Any]:
    """The results of all ways to put parentheses around a sequence."""
    if len(blocks) == 1:
        yield blocks[0]
    for cut in range(1, len(blocks)):
        for left in groupings(blocks[:cut], operation):
            for right in groupings(blocks[cut:], operation):
                yield operation(left, right)


def everything(
    k: int, statistics: Callable[[list[int]], Any], operation: Callable[[Any, Any], Any]
) -> Iterator[Any]:
    """Every partition of a row of k, in every order of its blocks and every grouping of them."""
    for blocks in partitions(range(k)):
        for order in itertools.permutations([statistics(block) for block in blocks]):
            yield from groupings(order, operation)


@pytest.mark.statement("online-monoid")
def test_the_number_of_ways() -> None:
    # Bell numbers, and for four blocks 4! orders of 5 groupings.
    assert [len(list(partitions(range(k)))) for k in range(1, 6)] == [1, 2, 5, 15, 52]
    assert len(list(groupings([NEUTRAL] * 4, plus))) == 5
    assert len(list(everything(4, lambda _: NEUTRAL, plus))) == 1 + 7 * 2 + 6 * 6 * 2 + 24 * 5


@pytest.mark.statement("online-monoid", "exact")
@settings(max_examples=30)
@given(st.lists(positive, min_size=1, max_size=4))
def test_every_splitting_order_and_grouping_gives_the_same_pair(row: list[Fraction]) -> None:
    found = set(everything(len(row), lambda block: statistics_of([row[i] for i in block]), plus))
    assert found == {statistics_of(row)}
    # The pair gives the normalizer and the probabilities.
    ((largest, d),) = found
    assert largest * d == sum(row)
    assert [x / largest / d for x in row] == [x / sum(row) for x in row]


@pytest.mark.statement("online-monoid", "exact")
@given(exponential_rows, st.data())
def test_disjoint_parts_combine_and_an_empty_one_adds_nothing(
    row: list[Fraction], data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.booleans(), min_size=len(row), max_size=len(row)))
    part = [x for x, take in zip(row, chosen, strict=True) if take]
    rest = [x for x, take in zip(row, chosen, strict=True) if not take]
    assert plus(statistics_of(part), statistics_of(rest)) == statistics_of(row)
    assert plus(statistics_of([]), statistics_of(row)) == statistics_of(row)
    # Parts that overlap count twice what they share.
    assert plus(statistics_of(row), statistics_of(row)) == (max(row), 2 * statistics_of(row)[1])


def stats(m: float, d: float, dtype: torch.dtype) -> SoftmaxStatistics:
    return SoftmaxStatistics(torch.tensor(m, dtype=dtype), torch.tensor(d, dtype=dtype))


def width_of(dtype: torch.dtype) -> Literal[32, 64]:
    return 64 if dtype is torch.float64 else 32


def bits_of(x: Tensor) -> Tensor:
    return x.view(INTEGERS[x.dtype.itemsize])


def identical(a: SoftmaxStatistics, b: SoftmaxStatistics) -> bool:
    """Bit for bit, but for the sign of a maximum of zero: torch.maximum takes that of the first."""
    return torch.equal(a.maximum, b.maximum) and torch.equal(bits_of(a.total), bits_of(b.total))


@pytest.mark.statement("online-monoid")
@single_double
@given(data=st.data())
def test_combine_is_commutative_to_the_last_bit_and_has_the_identity(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    width = width_of(dtype)
    largest = torch.finfo(dtype).max
    maxima = st.floats(-100, 100, width=width) | st.floats(-largest, largest, width=width)
    # Up to 1e30, so that no total overflows; 1e-30 stays above the subnormal numbers.
    totals = st.floats(1.0, 2.0**20, width=width) | st.floats(2.0**-100, 2.0**100, width=width)
    a, b = (stats(data.draw(maxima), data.draw(totals), dtype) for _ in range(2))
    neutral = stats(-INF, 0.0, dtype)
    assert identical(combine(a, b), combine(b, a))
    assert identical(combine(a, neutral), a)
    assert identical(combine(neutral, a), a)
    assert identical(combine(neutral, neutral), neutral)
    assert identical(block_statistics(torch.full((3,), -INF, dtype=dtype)), neutral)


@pytest.mark.statement("online-monoid")
def test_the_reading_of_minus_infinity_is_needed() -> None:
    # Left to the arithmetic, the exponential of -inf - -inf is nan.
    minus = torch.tensor(-INF)
    assert (minus - minus).exp().isnan()
    assert combine(stats(-INF, 0.0, torch.float32), stats(-INF, 0.0, torch.float32)).total == 0


def combination_bound(gap: float, steps: int, dtype: torch.dtype) -> float:
    """Relative error of d after ``steps`` combinations of pairs that lie ``gap`` apart.

    On its way into the total a pair is scaled by exponentials of differences that add up to no
    more than the gap, each rounded; each step has an exponential (8 u), a product and a sum. A
    thousandth is for what the errors add to one another; the bound itself is below one.
    """
    return unit(dtype) * (gap + (TORCH_KAPPA + 2) * steps) * (1 + 1e-3)


@pytest.mark.statement("online-monoid", "exact")
@single_double
@given(data=st.data())
def test_combine_is_associative_up_to_rounding(dtype: torch.dtype, data: st.DataObject) -> None:
    width = width_of(dtype)
    # Nothing underflows that counts: a gap of 40 is 4e-18, a ratio of totals 1e6.
    maxima, totals = st.floats(-20, 20, width=width), st.floats(2.0**-10, 2.0**10, width=width)
    a, b, c = (stats(data.draw(maxima), data.draw(totals), dtype) for _ in range(3))
    left, right = combine(combine(a, b), c), combine(a, combine(b, c))
    assert torch.equal(left.maximum, right.maximum)
    exact = reduce(
        plus_real, [(mp.mpf(s.maximum.item()), mp.mpf(s.total.item())) for s in (a, b, c)]
    )
    bound = combination_bound(40.0, 2, dtype)
    for result in (left, right):
        assert result.maximum.item() == exact[0]
        assert_within(result.total.item(), exact[1], rel=bound)


@pytest.mark.statement("online-monoid")
@single_double
def test_combine_is_not_associative_to_the_last_bit(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(2)
    maxima = torch.randn(3, 1000, generator=generator).to(dtype)
    totals = 1 + torch.rand(3, 1000, generator=generator).to(dtype)
    a, b, c = (SoftmaxStatistics(m, d) for m, d in zip(maxima, totals, strict=True))
    left, right = combine(combine(a, b), c), combine(a, combine(b, c))
    assert torch.equal(left.maximum, right.maximum)
    assert 0 < int((left.total != right.total).sum()) < 1000


@pytest.mark.statement("online-monoid", "exact")
@single_double
@settings(max_examples=10)
@given(data=st.data())
def test_every_splitting_of_a_row_of_torch_gives_the_pair_up_to_rounding(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    z = data.draw(rows(1, 4, dtype=dtype) | whole_rows(1, 4).map(lambda row: row.to(dtype)))
    k, largest = len(z), z.max()
    numbers = [mp.mpf(x) for x in z.tolist()]
    exact = sum(mp.exp(x - max(numbers)) for x in numbers)
    # Blocks are at most four steps themselves: an exponential and K - 1 additions.
    bound = combination_bound(60.0, 2 * k, dtype)
    for found in everything(k, lambda block: block_statistics(z[block]), combine):
        assert torch.equal(found.maximum, largest)
        assert_within(found.total.item(), exact, rel=bound)
        assert found.total.item() >= 1 - bound


@pytest.mark.statement("online-monoid", "exact")
@dtypes
@settings(max_examples=40)
@given(data=st.data())
def test_the_pair_gives_the_normalizer_and_the_probabilities(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    z = data.draw(rows(1, 8, dtype=torch.float32)).to(dtype)
    if data.draw(st.booleans()):
        z = torch.cat([z, torch.full((3,), -INF, dtype=dtype)])
    size = data.draw(st.integers(1, len(z)))
    shuffled = z[torch.randperm(len(z), generator=torch.Generator().manual_seed(len(z)))]
    pair = reduce(combine, [block_statistics(part) for part in shuffled.split(size)])
    kept = z[z > -INF]
    wide = arithmetic(dtype)
    # A gap of 60, and a logarithm of at most log 8.
    bound = combination_bound(60.0, 2 * len(z), wide) + 4 * unit(wide)
    lse = mp.mpf(pair.maximum.item()) + mp.log(mp.mpf(pair.total.item()))
    assert_within(lse, exact_logsumexp(kept), bound)
    expected = torch.zeros(len(z), dtype=torch.float64)
    expected[: len(kept)] = as_double(exact_softmax(kept))
    allowed = torch.zeros_like(expected)
    steps = (TORCH_KAPPA + 2) * len(z) * unit(wide)
    allowed[: len(kept)] = 2 * softmax_bound(kept) + steps * expected[: len(kept)]
    computed = (z.to(wide) - pair.maximum).exp() / pair.total
    assert_within(computed, expected, allowed)
    assert_within(chunked_softmax(z, size), expected, allowed)


@pytest.mark.statement("online-monoid", "exact")
@single_double
@pytest.mark.parametrize("ascending", [True, False])
def test_long_rows_one_logit_at_a_time(dtype: torch.dtype, ascending: bool) -> None:
    # Ascending logits move the maximum at every step, where every earlier term is scaled again.
    generator = torch.Generator().manual_seed(4)
    z = (5 * torch.randn(500, generator=generator)).to(dtype).sort(descending=not ascending)[0]
    pair = reduce(combine, [block_statistics(part) for part in z.split(1)])
    exact = sum(mp.exp(mp.mpf(x) - mp.mpf(z.max().item())) for x in z.tolist())
    gap = (z.max() - z.min()).item()
    assert_within(pair.total.item(), exact, rel=combination_bound(gap, 500, dtype))
    assert 1 <= pair.total.item() <= 500
