"""The logarithm of a multinomial probability to the bound that its docstring states."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from mpmath import mp

from omnivault.distributions import Multinomial
from tests.package.distributions.common import INF, generator
from tests.support.strategies import SINGLE_DOUBLE, as_double, assert_within, unit

SIZES = [1, 5, 15, 16, 17, 300, 10**6, 10**9, 10**12, 10**17, 2**63 - 1]
sizes = pytest.mark.parametrize("n", SIZES, ids=[f"{n:.0e}" for n in SIZES])
ROWS = [[0.5, 0.5], [0.3, 0.7], [1e-12, 1 - 1e-12], [0.1, 0.2, 0.3, 0.4], [0.3, 0.3, 0.0, 0.4]]


def exact_log_pmf(n: int, counts: list[int], log_p: list[Any]) -> Any:
    # The largest has 21 digits before the point.
    with mp.workdps(60):
        value = mp.loggamma(n + 1) - mp.fsum(mp.loggamma(c + 1) for c in counts)
        return value + mp.fsum(c * x for c, x in zip(counts, log_p, strict=True) if c)


def stated_bound(n: int, counts: list[int], size: Any) -> Any:
    rounding = 32 * size + 6 * mp.sqrt(2 * n * size) + mp.mpf(2) ** -24 * n * len(counts)
    # For n and each count 2^-43; and the last rounding, here and there.
    return unit(torch.float64) * rounding + mp.mpf(2) ** -43 * (1 + sum(c > 1 for c in counts))


def near_and_far(n: int, p: list[float]) -> list[list[int]]:
    """Counts near the mean, at one and at many standard deviations, and at the end."""
    mean = [int(n * mp.mpf(q)) for q in p]
    mean[-1] += n - sum(mean)
    moves = {0, math.isqrt(n) // 2, n // 20, mean[0]}
    return [[mean[0] - m, *mean[1:-1], mean[-1] + m] for m in moves if m <= mean[0]]


@sizes
@pytest.mark.parametrize("p", ROWS, ids=str)
@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
def test_log_pmf_of_few_and_of_many_draws(dtype: torch.dtype, p: list[float], n: int) -> None:
    probs = torch.tensor(p, dtype=dtype)
    q = [mp.mpf(x) for x in probs.tolist()]
    for counts in near_and_far(n, p):
        exact = exact_log_pmf(n, counts, [mp.log(x) if x else mp.ninf for x in q])
        with mp.workdps(60):
            size = abs(exact) + n * abs(mp.fsum(q) - 1)
        bound = stated_bound(n, counts, size) + 2 * unit(dtype) * abs(exact)
        y = torch.tensor(counts)
        assert_within(Multinomial(n, probs).log_pmf(y).item(), exact, bound)


@sizes
def test_log_pmf_of_natural_parameters(n: int) -> None:
    # The middle outcome has a probability that underflows.
    eta = [0.0, -800.0, 1.0, -2.5]
    logs = [mp.mpf(x) - mp.log(mp.fsum(map(mp.exp, eta))) for x in eta]
    p = [float(mp.exp(x)) for x in logs]
    many = Multinomial.from_natural(n, torch.tensor(eta, dtype=torch.float64))
    for counts in near_and_far(n, p):
        for rare in {0, min(1, counts[2]), counts[2] // 2}:
            y = [counts[0], rare, counts[2] - rare, counts[3]]
            exact = exact_log_pmf(n, y, logs)
            # log-softmax is off by 3 u of the gap and 32 u more, and moves a term by that, times
            # its distance from the mean, of which the sum has Pinsker's bound.
            u, size = unit(torch.float64), abs(exact)
            bound = stated_bound(n, y, size) + 64 * u * (size + mp.sqrt(2 * n * size))
            assert_within(many.log_pmf(torch.tensor(y)).item(), exact, bound)


@sizes
def test_pmf_of_many_draws(n: int) -> None:
    half = torch.tensor([0.5, 0.5], dtype=torch.float64)
    y = [n // 2, n - n // 2]
    exact = mp.exp(exact_log_pmf(n, y, [mp.log(0.5)] * 2))
    # The size of the logarithm is below 23 and sqrt(n), of n = 1 as of the largest.
    bound = exact * stated_bound(n, y, -mp.log(exact)) * 1.1
    assert_within(Multinomial(n, half).pmf(torch.tensor(y)).item(), exact, bound)


@pytest.mark.parametrize("n", [3, 10**9, 10**15])
def test_the_gradient_is_each_count_over_its_probability(n: int) -> None:
    p = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64, requires_grad=True)
    for y in ([n - 1, 0, 1], [n // 2, n // 6, n - n // 2 - n // 6], [0, 0, n]):
        many = Multinomial(n, p)
        (slope,) = torch.autograd.grad(many.log_pmf(torch.tensor(y)), p)
        exact = as_double([c / q for c, q in zip(y, p.tolist(), strict=True)])
        assert_within(slope, exact, rel=4 * unit(torch.float64))
    eta = torch.tensor([0.5, -1.0, 0.0], dtype=torch.float64, requires_grad=True)
    many, y = Multinomial.from_natural(n, eta), [n - 1, 0, 1]
    (slope,) = torch.autograd.grad(many.log_pmf(torch.tensor(y)), eta)
    total = mp.fsum(map(mp.exp, eta.tolist()))
    means = [n * mp.exp(x) / total for x in eta.tolist()]
    exact = as_double([c - m for c, m in zip(y, means, strict=True)])
    assert_within(slope, exact, bound=64 * n * unit(torch.float64))


def test_second_derivatives_are_those_of_the_sum() -> None:
    y = torch.tensor([2, 0, 3])
    p = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    hessian = torch.func.jacrev(torch.func.jacrev(lambda p: Multinomial(5, p).log_pmf(y)))(p)
    exact = torch.diag(-y / p**2)
    assert_within(hessian, exact, bound=1e-14)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint64, torch.float64], ids=str)
def test_counts_are_added_up_without_rounding(dtype: torch.dtype) -> None:
    half = torch.tensor([0.5, 0.5], dtype=torch.float64)
    many = Multinomial(10**17, half)
    y = torch.full((2, 2), 10**17 // 2)
    y[1, 1] += 8  # of float64 the next; the sum rounds to 10^17
    assert many.log_pmf(y.to(dtype)).isfinite().tolist() == [True, False]
    with pytest.raises(ValueError, match="and sum to 100000000000000000, got a row"):
        many.sufficient_statistic(y.to(dtype))
    largest = 2**63 - 1
    if not dtype.is_floating_point:
        y = torch.tensor([[largest, 0], [largest, 1]]).to(dtype)
        assert (Multinomial(largest, half).log_pmf(y) > -INF).tolist() == [True, False]


def test_a_sum_that_overflows_is_not_a_smaller_one() -> None:
    p = torch.full((5,), 0.2)
    y = torch.tensor([2**62] * 4 + [3])
    assert y.sum().item() == 3
    assert Multinomial(3, p).log_pmf(y).item() == -INF
    above = torch.tensor([2**63, 2**63, 3], dtype=torch.uint64)
    assert Multinomial(3, p[:3] / 0.6).pmf(above).item() == 0
    assert Multinomial(3, p[:3] / 0.6).pmf(torch.tensor([2.0**63, 2.0**63, 3])).item() == 0


def test_few_draws_of_more_outcomes() -> None:
    p = torch.rand(6, generator=generator(1), dtype=torch.float64)
    p = p / p.sum()
    y = torch.randint(9, (40, 6), generator=generator(2))
    logs = [mp.log(x) for x in p.tolist()]
    for row in y:
        n, counts = int(row.sum()), row.tolist()
        exact = exact_log_pmf(n, counts, logs)
        # The row may sum to one plus or minus 4 u.
        bound = stated_bound(n, counts, -exact + 4 * n * unit(torch.float64))
        assert_within(Multinomial(n, p).log_pmf(row).item(), exact, bound)


def test_a_logarithm_that_overflows() -> None:
    eta = torch.tensor([0.0, -1e300], dtype=torch.float64, requires_grad=True)
    many = Multinomial.from_natural(10**9, eta)
    value = many.log_pmf(torch.tensor([[1, 10**9 - 1], [10**9 - 1, 1]]))
    assert value.tolist() == [-INF, -1e300]
    (slope,) = torch.autograd.grad(value[1], eta)
    assert slope.tolist() == [-1, 1]


def test_from_sixteen_on_no_term_of_the_series_is_missing() -> None:
    half, y = torch.tensor([0.5, 0.5], dtype=torch.float64), [16, 16]
    exact = exact_log_pmf(32, y, [mp.log(0.5)] * 2)
    # Nothing but log(2 pi m)/2 of 32 and twice of 16, 7.3 in all, to 8 u each, and ten roundings
    # of 5 or less; the term with 16^-9 is 220 u for both.
    value = Multinomial(32, half).log_pmf(torch.tensor(y)).item()
    assert_within(value, exact, bound=110 * unit(torch.float64))
