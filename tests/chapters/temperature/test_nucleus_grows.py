"""The corollary `nucleus-grows`: Warmer sets are larger."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.temperature.common import (
    EXAMPLE,
    ZERO,
    U,
    is_constant,
    near_tied_rows,
    rising,
    row,
    tails,
)
from tests.support.strategies import (
    SINGLE_DOUBLE,
    events,
    exact_softmax,
    softmax_bound,
    temperatures,
)


def nucleus(p: Sequence[Any], q: Any) -> int:
    """How many of the most probable it takes to reach ``q``."""
    total = mp.mpf(0)
    for count, a in enumerate(sorted(p, reverse=True), start=1):
        total += a
        if total >= q:
            return count
    raise AssertionError(f"{q} is more than all of them have")


@pytest.mark.statement("nucleus-grows", "exact")
@given(near_tied_rows(1, 8), rising(3, 5), st.floats(0.001, 0.999))
def test_warmer_sets_are_not_smaller(z: Tensor, several: list[float], q: float) -> None:
    sizes = [nucleus(exact_softmax(z, t), mp.mpf(q)) for t in several]
    assert sizes == sorted(sizes)
    if is_constant(z):
        # The least r with r / K >= q, at every temperature.
        expected = next(r for r in range(1, len(z) + 1) if Fraction(r, len(z)) >= Fraction(q))
        assert set(sizes) == {expected}
    for t, size in zip(several, sizes, strict=True):
        reached = softmax(z, temperature=t).sort(descending=True).values.cumsum(-1)
        if bool(((reached - q).abs() > softmax_bound(z, t).sum() + len(z) * U).all()):
            assert int((reached < q).sum()) + 1 == size


@pytest.mark.statement("nucleus-grows", "exact")
@given(near_tied_rows(2, 6), rising(3, 3), st.data())
def test_a_set_that_just_suffices_does_not_when_it_is_warmer(
    z: Tensor, several: list[float], data: st.DataObject
) -> None:
    assume(not is_constant(z))
    r = data.draw(st.integers(1, len(z) - 1))
    colder, here, warmer = (exact_softmax(z, t) for t in several)
    # Exactly what r tokens have here: they suffice below, and nowhere above.
    q = 1 - tails(here)[r - 1]
    assert nucleus(colder, q) <= r
    assert nucleus(warmer, q) > r
    assert nucleus(here, q - ZERO) <= r


@pytest.mark.statement("nucleus-grows", "exact")
@settings(max_examples=50)
@given(near_tied_rows(1, 6), temperatures(0.4, 100.0), st.floats(0.001, 0.999))
def test_no_other_set_is_smaller(z: Tensor, temperature: float, q: float) -> None:
    p = exact_softmax(z, temperature)
    sufficient = [len(event) for event in events(len(z)) if mp.fsum(p[i] for i in event) >= q]
    assert min(sufficient) == nucleus(p, mp.mpf(q))


@pytest.mark.statement("nucleus-grows", "exact")
@pytest.mark.parametrize(
    ("values", "q", "sizes"),
    [
        # At T = 0.1, 1, 10, 1000.
        pytest.param(EXAMPLE, 0.9, [1, 3, 5, 5], id="the example"),
        pytest.param(EXAMPLE, 0.5, [1, 1, 3, 3], id="the example, half"),
        pytest.param([5.0, 5.0, 1.0, 1.0], 0.5, [2, 2, 2, 2], id="half of a tie, just not"),
        pytest.param([5.0, 5.0, 1.0, 1.0], 0.49, [1, 1, 2, 2], id="nearly half of a tie"),
        pytest.param([2.0, 2.0, 2.0], 0.5, [2, 2, 2, 2], id="constant"),
        pytest.param([2.0, 2.0, 2.0, 2.0], 0.75, [3, 3, 3, 3], id="constant, reached exactly"),
        pytest.param([7.0], 0.99, [1, 1, 1, 1], id="one class"),
        pytest.param([1.0, 0.0], 0.7, [1, 1, 2, 2], id="two classes"),
        pytest.param([1.0, 0.0], 1e-9, [1, 1, 1, 1], id="hardly anything"),
        pytest.param([9.0, 0.0, 0.0], 0.999999, [1, 3, 3, 3], id="nearly everything"),
    ],
)
def test_sizes_in_numbers(values: list[float], q: float, sizes: list[int]) -> None:
    # Constant over steps as well: the corollary says no more than "does not decrease".
    found = [nucleus(exact_softmax(row(values), t), mp.mpf(q)) for t in (0.1, 1.0, 10.0, 1000.0)]
    assert found == sizes


@pytest.mark.statement("nucleus-grows")
@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
@pytest.mark.parametrize("q", [0.1, 0.5, 0.9, 0.99])
def test_sizes_of_a_long_row_grow(q: float, dtype: torch.dtype) -> None:
    z = 2 * torch.randn(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = z.to(dtype)
    sizes = []
    for t in torch.logspace(-1, 1, 40).tolist():
        reached = softmax(z, temperature=t).double().sort(descending=True).values.cumsum(-1)
        error = softmax_bound(z, t).sum() + len(z) * U
        sizes.append([int((reached < q + e).sum()) + 1 for e in (-error, error)])
    # The least and the most that rounding leaves possible; in float64 mostly the same.
    assert all(later[1] >= earlier[0] for earlier, later in itertools.pairwise(sizes))
    assert sizes[0][1] < sizes[-1][0]
