from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from omnivault import online_softmax
from omnivault.online_softmax import SoftmaxStatistics, block_statistics, chunked_softmax, combine
from tests.package.online_softmax.common import INF, MASKED, NAN, masked
from tests.package.softmax.common import ROWS_FOR_MPMATH, dtypes, random_logits, slack
from tests.package.softmax.test_against_torch import INPUTS, in_dtype, inputs, upstream_like
from tests.package.softmax.test_extreme_logits import not_finite
from tests.support.strategies import (
    DTYPES,
    HALF,
    SINGLE_DOUBLE,
    arithmetic,
    as_double,
    assert_within,
    exact_softmax,
    finite_rows,
    softmax_bound,
    unit,
)


def chunked_bound(z: Tensor, dim: int = -1, combinations: int = 0) -> Tensor:
    """The bound of softmax, and what the combinations add to d."""
    p = torch.softmax(z.double(), dim).nan_to_num(0.0)
    return softmax_bound(z, 1.0, dim) + 10 * combinations * unit(arithmetic(z.dtype)) * p


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
