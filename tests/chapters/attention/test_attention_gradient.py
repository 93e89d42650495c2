"""The proposition `attention-gradient`: A gap closes the gradient."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax_jacobian
from tests.chapters.attention.common import ZERO, normal, row
from tests.support.strategies import (
    DTYPES,
    HALF,
    SINGLE_DOUBLE,
    arithmetic,
    as_double,
    assert_within,
    exact_softmax,
    rows,
    smallest,
    unit,
    whole_rows,
)


def gap_of(s: Tensor) -> float:
    first, second = s.topk(2).values.tolist()
    return float(first - second)


def norm_of(jacobian: Tensor) -> float:
    return float(torch.linalg.svdvals(jacobian)[0])


def norm_error(n: int, gap: float, dtype: torch.dtype = torch.float64) -> float:
    """Largest relative error of the computed norm of a Jacobian.

    Its entries are products of two probabilities, with sums of n in them, whose exponents, the gap
    that counts among them, are rounded; singular values move by c n^2 u of the largest.
    """
    return (8 * gap + 8 * n * n + 4 * n + 128) * unit(dtype)


@pytest.mark.statement("attention-gradient", "torch")
@given(rows(2, 8), st.sampled_from(SINGLE_DOUBLE))
def test_a_gap_bounds_the_jacobian(s: Tensor, dtype: torch.dtype) -> None:
    s = s.to(dtype)
    n = len(s)
    bound = 2 * (n - 1) * math.exp(-gap_of(s.double())) * (1 + norm_error(n, 60, dtype))
    assert norm_of(softmax_jacobian(s)) <= bound
    # Autograd subtracts numbers up to 1, and keeps no digits of a tiny Jacobian.
    jacobian = torch.autograd.functional.jacobian(lambda x: torch.softmax(x, -1), s)
    assert norm_of(jacobian) <= bound + 64 * n * unit(dtype)


@pytest.mark.statement("attention-gradient", "exact")
@settings(max_examples=50)
@given(whole_rows(2, 5, bound=20))
def test_the_bound_in_exact_arithmetic(s: Tensor) -> None:
    n = len(s)
    p = exact_softmax(s)
    jacobian = mp.matrix([[(i == j) * a - a * b for j, b in enumerate(p)] for i, a in enumerate(p)])
    norm = max(mp.eigsy(jacobian, eigvals_only=True))
    largest = max(p)
    rest = mp.fsum(sorted(p)[:-1])
    steps = [
        norm,
        2 * max(a * (1 - a) for a in p),
        2 * rest if gap_of(s) > 0 else mp.mpf(1),
        2 * (n - 1) * mp.exp(-gap_of(s)),
    ]
    # The steps of the proof; the first is an equality for two keys.
    assert all(a <= b * (1 + ZERO) + ZERO for a, b in itertools.pairwise(steps))
    assert n > 2 or abs(norm / steps[1] - 1) < mp.mpf(10) ** -25
    # The whole is strict.
    assert steps[0] < steps[-1]
    if gap_of(s) == 0:
        assert norm <= mp.mpf("0.5") + ZERO
        assert steps[-1] >= 2
        assert largest <= mp.mpf("0.5") + ZERO


@pytest.mark.statement("attention-gradient")
@pytest.mark.parametrize("gap", [0.0, 1e-6, 0.5, 1.0, 5.0, 20.0, 300.0])
def test_two_keys_come_arbitrarily_close(gap: float) -> None:
    s = row([1.0, 1.0 - gap])
    gap = gap_of(s)
    norm = norm_of(softmax_jacobian(s))
    # 2 p_1 p_2.
    expected = 2 * math.exp(-gap) / (1 + math.exp(-gap)) ** 2
    rounding = norm_error(2, 0.0)  # the exponents are exact
    assert_within(norm, expected, rel=rounding)
    ratio = norm / (2 * math.exp(-gap))
    assert 0.25 * (1 - rounding) <= ratio <= 1 + rounding
    assert (ratio > 0.999) == (gap > 8)


@pytest.mark.statement("attention-gradient")
@pytest.mark.parametrize("n", [2, 3, 8, 64])
@pytest.mark.parametrize("gap", [0.0, 0.5, 3.0, 10.0, 100.0])
def test_keys_tied_behind_the_first(n: int, gap: float) -> None:
    s = row([gap] + [0.0] * (n - 1))
    norm = norm_of(softmax_jacobian(s))
    # (1, -1/(n-1), ...) is an eigenvector, with eigenvalue p (1 - p) n / (n - 1); the differences
    # of the tied keys have the eigenvalue (1 - p) / (n - 1).
    rest = (n - 1) * math.exp(-gap)
    p, missed = 1 / (1 + rest), rest / (1 + rest)
    eigenvalues = [p * missed * n / (n - 1)] + [missed / (n - 1)] * (n > 2)
    rounding = norm_error(n, 0.0)  # the exponents are exact
    assert_within(norm, max(eigenvalues), rel=rounding)
    bound = 2 * (n - 1) * math.exp(-gap)
    assert norm <= bound * (1 + rounding)
    if gap >= 100:
        # n / (2 (n - 1)) of the bound, and no more.
        assert_within(norm / bound, n / (2 * (n - 1)), rel=rounding)


@pytest.mark.statement("attention-gradient", "exact")
@pytest.mark.parametrize(
    "values",
    [
        [0.0, 0.0],
        [3.0, 3.0, 3.0],
        [5.0, 5.0, -40.0],
        [5.0, 5.0, 4.9, 4.9],
        [1.0, 1.0 - 1e-12],
        [2.0, 1.0, 3.0, 5.0, 4.0],
        [50.0, 0.0, 0.0, 0.0],
    ],
    ids=["two tied", "all tied", "tie far ahead", "crowd", "near tie", "example", "far ahead"],
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_edge_cases_of_the_bound(values: list[float], dtype: torch.dtype) -> None:
    s = row(values, dtype)
    jacobian = softmax_jacobian(s).double()
    exact = exact_softmax(s)
    expected = torch.stack(
        [
            as_double([(i == j) * a - a * b for j, b in enumerate(exact)])
            for i, a in enumerate(exact)
        ]
    )
    # In half precision the entries are rounded once, some of them to zero.
    n, wide = len(values), arithmetic(dtype)
    rounding = norm_error(n, 50.0, wide) + (2 * unit(dtype) if dtype in HALF else 0.0)
    assert_within(norm_of(jacobian), norm_of(expected), n * smallest(dtype), rel=rounding)
    bound = 2 * (n - 1) * math.exp(-gap_of(s.double()))
    # float16 cannot hold exp(-50) and flushes it.
    assert norm_of(jacobian) <= bound * (1 + rounding)
    if gap_of(s) == 0:
        assert bound >= 2
        assert norm_of(jacobian) <= 0.5 * (1 + rounding)


@pytest.mark.statement("attention-gradient")
def test_a_near_tie_keeps_the_jacobian_and_a_tie_of_losers_does_not() -> None:
    # It is the gap at the top that counts, however far the others are and however they tie.
    assert norm_of(softmax_jacobian(row([9.0, 9.0, 0.0, 0.0]))) > 0.49
    assert norm_of(softmax_jacobian(row([9.0, 0.0, 0.0, 0.0]))) < 1e-3


@pytest.mark.statement("attention-gradient")
@pytest.mark.parametrize("n", [2, 6, 64])
def test_scores_without_the_root_close_the_gradient_exponentially(n: int) -> None:
    # Scores c g have the gap c times that of g: log |J| falls with the slope of the gap.
    g = normal(n, seed=19)
    gap = gap_of(g)
    logs = []
    for c in (20.0 / gap, 40.0 / gap):
        norm = norm_of(softmax_jacobian(c * g))
        # The scores are rounded: exponents up to 2 c |g|.
        rounding = norm_error(n, 2 * c * g.abs().max().item())
        assert norm <= 2 * (n - 1) * math.exp(-c * gap) * (1 + rounding)
        logs.append(math.log(norm))
    assert_within(logs[0] - logs[1], 20, rel=1e-3)


@pytest.mark.statement("attention-gradient")
def test_one_key_has_no_gap_and_no_gradient() -> None:
    # Why n >= 2: there is no second largest score, and the Jacobian is zero.
    assert softmax_jacobian(row([3.0])).tolist() == [[0.0]]
