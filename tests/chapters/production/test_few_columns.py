"""The proposition `few-columns`: The largest are in few columns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omnivault.sampling import top_k
from omnivault.sampling.candidates import HEIGHT, largest, largest_with_equals
from tests.chapters.production.common_pieces import seeded
from tests.support.strategies import DTYPES

Table = Sequence[Sequence[int]]


def choices(table: Table, n: int) -> list[tuple[int, ...]]:
    """All ways to take n columns so that no other has a larger maximum than any of them."""
    maxima = [max(column) for column in zip(*table, strict=True)]
    columns = range(len(maxima))
    return [
        taken
        for taken in itertools.combinations(columns, n)
        if max((maxima[c] for c in columns if c not in taken), default=-math.inf)
        <= min(maxima[c] for c in taken)
    ]


def falling(table: Table, taken: Sequence[int]) -> list[int]:
    return sorted((row[c] for row in table for c in taken), reverse=True)


tables = st.integers(1, 3).flatmap(
    lambda rows: st.integers(1, 5).flatmap(
        lambda columns: st.lists(
            st.lists(st.integers(0, 6), min_size=columns, max_size=columns),
            min_size=rows,
            max_size=rows,
        )
    )
)


@pytest.mark.statement("few-columns", "exact")
@given(tables)
def test_the_columns_with_the_largest_maxima_hold_the_largest(table: Table) -> None:
    everything = falling(table, range(len(table[0])))
    for n in range(1, len(table[0]) + 1):
        ways = choices(table, n)
        assert ways
        for taken in ways:
            found = falling(table, taken)
            assert found[:n] == everything[:n]
            if n >= 2 and found[n - 1] < found[n - 2]:
                # As many equals of the one before the last as there are.
                assert found.count(found[n - 2]) == everything.count(found[n - 2])


@pytest.mark.statement("few-columns", "exact")
def test_one_column_fewer_may_miss_one() -> None:
    for n in range(2, 6):
        table = [list(range(n, 0, -1)), [0] * n]
        [taken] = choices(table, n - 1)
        assert falling(table, taken)[:n] != falling(table, range(n))[:n]


@pytest.mark.statement("few-columns", "exact")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("levels", [3, 60, 30_000])
def test_the_candidates_of_omnivault_hold_all_that_top_k_keeps(
    dtype: torch.dtype, levels: int
) -> None:
    for size in (HEIGHT * 24, HEIGHT * 40 + 17):
        z = torch.randint(0, levels, (6, size), generator=seeded(size)).to(dtype)
        z[:, ::7] = -math.inf
        z[:3, -1] = 2 * levels  # in the last place, which no column has in the longer rows
        for k in (1, 2, 5):
            assert size // HEIGHT >= 4 * (k + 1)
            values, places = largest(z, k)
            assert torch.equal(values, z.gather(1, places))
            assert torch.equal(values, z.sort(descending=True).values[:, :k])
            stay = top_k(z, k) > -math.inf
            found = largest_with_equals(z, k, size)
            assert found is not None
            values, places = found
            for row in range(len(z)):
                kept = set(stay[row].nonzero().flatten().tolist())
                large = values[row] >= values[row, k - 1]
                assert set(places[row][large].tolist()) == kept
