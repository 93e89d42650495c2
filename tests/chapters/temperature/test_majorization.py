"""The theorem `majorization`: The colder distribution majorizes the warmer one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.temperature.common import (
    EDGES,
    EXAMPLE,
    ZERO,
    Symbols,
    U,
    exact_row,
    is_constant,
    mean_of,
    near_tied_rows,
    rising,
    row,
    slope_bound,
    tails,
)
from tests.support.strategies import (
    DTYPES,
    assert_within,
    double,
    exact_softmax,
    softmax_bound,
    temperatures,
    whole_rows,
)


@pytest.mark.statement("majorization", "exact")
@given(near_tied_rows(1, 8), rising())
def test_sums_of_the_largest_strictly_fall(z: Tensor, several: list[float]) -> None:
    distributions = [exact_softmax(z, t) for t in several]
    for colder, warmer in itertools.pairwise(distributions):
        pairs = list(zip(tails(colder), tails(warmer), strict=True))
        assert len(pairs) == len(z) - 1
        if is_constant(z):
            assert_within(tails(colder), tails(warmer), ZERO)
        else:
            assert all(a < b for a, b in pairs)
        # All K: always 1.
        assert_within([mp.fsum(colder), mp.fsum(warmer)], 1, ZERO)


@pytest.mark.statement("majorization")
@given(whole_rows(1, 8, bound=5), rising())
def test_computed_sums_of_the_largest_strictly_fall(z: Tensor, several: list[float]) -> None:
    tops = torch.stack(
        [softmax(z, temperature=t).sort(descending=True).values.cumsum(-1) for t in several]
    )[:, :-1]
    if is_constant(z):
        assert bool((tops.diff(dim=0) == 0).all())
        return
    # A step of 5 percent moves tails that are 1e-9 by 1e-11 or more, and others by more.
    clear = tops[1:] < 1 - 1e-9
    assert bool((tops.diff(dim=0)[clear] < 0).all())
    errors = double([softmax_bound(z, t).sum().item() + len(z) * U for t in several])
    assert bool((tops.diff(dim=0) <= (errors[1:] + errors[:-1]).unsqueeze(-1)).all())


@pytest.mark.statement("majorization")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(z=near_tied_rows(2, 8), several=rising())
def test_in_every_format_sums_of_the_largest_rise_by_no_more_than_rounding(
    dtype: torch.dtype, z: Tensor, several: list[float]
) -> None:
    z = z.to(dtype)
    order = z.double().argsort(descending=True)
    tops = [softmax(z, temperature=t).double()[order].cumsum(-1) for t in several]
    errors = [softmax_bound(z, t).sum() + len(z) * U for t in several]
    for (colder, warmer), allowed in zip(
        itertools.pairwise(tops), map(sum, itertools.pairwise(errors)), strict=True
    ):
        assert bool((warmer <= colder + allowed).all())


@pytest.mark.statement("majorization", "exact", "torch")
@given(near_tied_rows(2, 6), temperatures(0.4, 100.0))
def test_the_slope_of_the_sum_of_the_largest(z: Tensor, temperature: float) -> None:
    p = exact_softmax(z, temperature)
    values = exact_row(z)
    mean = mean_of(values, p)
    order = z.argsort(descending=True).tolist()
    t = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    q = torch.softmax(z / t, -1)
    size = z.abs().max().item()
    allowed = slope_bound(size, temperature) * len(z) + 1e-300
    for r in range(1, len(z)):
        members = order[:r]
        share = mp.fsum(p[i] for i in members)
        inside = mp.fsum(p[i] * values[i] for i in members) / share
        slope = share * (mean - inside) / mp.mpf(temperature) ** 2
        (computed,) = torch.autograd.grad(q[members].sum(), t, retain_graph=True)
        assert_within(computed, slope, allowed)
        # mean - inside = (1 - P(A)) (E[z | not A] - E[z | A]), which is not positive.
        outside = mp.fsum(p[i] * values[i] for i in order[r:]) / mp.fsum(p[i] for i in order[r:])
        gap = inside - outside
        assert (abs(gap) < ZERO) if is_constant(z) else (gap > ZERO and slope < 0)
        assert_within(mean - inside, -(1 - share) * gap, ZERO)


@pytest.mark.statement("majorization", "exact")
@pytest.mark.parametrize("values", EDGES)
def test_edge_cases_from_very_cold_to_very_hot(values: list[float]) -> None:
    z = row(values)
    # Very cold, the tails are exp(-1e5): mpmath keeps their exponents.
    path = [tails(exact_softmax(z, mp.mpf(10) ** power)) for power in range(-4, 9)]
    for earlier, later in itertools.pairwise(path):
        for r, (a, b) in enumerate(zip(earlier, later, strict=True), start=1):
            # Below the top the tail only starts to move once 50 digits can tell 1 / m from it.
            if is_constant(z):
                assert_within(a, b, ZERO)
            elif r >= values.count(max(values)):
                assert a < b
            else:
                assert a < b or abs(a - b) < ZERO


@pytest.mark.statement("majorization", "symbolic")
@pytest.mark.parametrize("count", [2, 3, 4])
def test_symbols_find_the_slope_of_any_sum(count: int) -> None:
    s = Symbols(count)
    for r in range(1, count):
        share = sum(s.p[:r])
        inside, outside = (
            sum(a * x for a, x in zip(s.p[part], s.z[part], strict=True)) / sum(s.p[part])
            for part in (slice(r), slice(r, None))
        )
        slope = -share * (1 - share) * (inside - outside) / s.t**2
        assert s.vanishes(sp.diff(share, s.t) - slope)


@pytest.mark.statement("majorization")
def test_only_sums_of_the_largest_must_fall() -> None:
    # A set that leaves out the leader may gain, and so may one token.
    colder, warmer = (softmax(row(EXAMPLE), temperature=t) for t in (0.5, 1.0))
    assert warmer[[4, 2]].sum() > colder[[4, 2]].sum()
    assert warmer[[3, 4]].sum() < colder[[3, 4]].sum()


SCHUR_CONCAVE: dict[str, Callable[[Sequence[Any]], Any]] = {
    "Shannon": lambda p: -mp.fsum(a * mp.log(a) for a in p),
    "Gini": lambda p: 1 - mp.fsum(a**2 for a in p),
    "not the largest": lambda p: 1 - max(p),
    "sum of roots": lambda p: mp.fsum(mp.sqrt(a) for a in p),
    "product": mp.fprod,
}


@pytest.mark.statement("majorization", "exact")
@settings(max_examples=50)
@given(near_tied_rows(1, 6), rising())
def test_every_measure_of_randomness_rises(z: Tensor, several: list[float]) -> None:
    distributions = [exact_softmax(z, t) for t in several]
    for name, measure in SCHUR_CONCAVE.items():
        values = [measure(p) for p in distributions]
        for earlier, later in itertools.pairwise(values):
            if is_constant(z):
                assert_within(later, earlier, ZERO)
            else:
                assert later > earlier, name


@pytest.mark.statement("majorization", "exact")
@settings(max_examples=50)
@given(near_tied_rows(1, 6), rising(2, 2), st.floats(0.0, 1.0))
def test_the_excess_over_any_level_falls(z: Tensor, pair: list[float], level: float) -> None:
    # The other definition of majorization: sums of (p - c)+, for all c.
    colder, warmer = (mp.fsum(max(a - mp.mpf(level), 0) for a in exact_softmax(z, t)) for t in pair)
    assert warmer <= colder + ZERO
