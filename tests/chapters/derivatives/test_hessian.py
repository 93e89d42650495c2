"""The theorem `hessian`: The Hessian of softmax."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
import sympy
import torch
from hypothesis import given, settings
from mpmath import mp
from torch import Tensor

from omnivault.softmax import logsumexp, softmax, softmax_hessian
from tests.chapters.derivatives.common import (
    DRAWS,
    FAR_BELOW,
    TEMPERATURE,
    U,
    as_matrix,
    assert_sampled,
    central_moment,
    delta,
    distributions,
    draw_one_hot,
    entry,
    jacobian_formula,
    numbers,
    quotient,
    softmax_of,
    symbolic_lse,
    symbolic_softmax,
    symbols,
    vanishes,
)
from tests.support.strategies import (
    DTYPES,
    arithmetic,
    assert_within,
    rows,
    smallest,
    temperatures,
    unit,
)


def hessian_formula(p: Sequence[Any], i: int, j: int, k: int) -> Any:
    """At T = 1."""
    first = (delta(i, j) - p[j]) * (delta(i, k) - p[k])
    return p[i] * (first - p[j] * (delta(j, k) - p[k]))


@pytest.mark.statement("hessian", "exact")
@given(distributions(1, 5))
def test_the_formula_is_symmetric_sums_to_zero_and_is_a_third_moment(p: list[Fraction]) -> None:
    k = range(len(p))
    for i, j in itertools.product(k, repeat=2):
        for m in k:
            entry = hessian_formula(p, i, j, m)
            assert entry == central_moment(p, i, j, m)
            for order in itertools.permutations((i, j, m)):
                assert entry == hessian_formula(p, *order)
        assert sum(hessian_formula(p, m, i, j) for m in k) == 0
        assert sum(hessian_formula(p, i, m, j) for m in k) == 0
        assert sum(hessian_formula(p, i, j, m) for m in k) == 0


@pytest.mark.statement("hessian", "exact")
@settings(max_examples=30)
@given(rows(1, 4, bound=10.0), temperatures(0.1, 10.0))
def test_it_is_the_difference_quotient_of_the_jacobian(z: Tensor, temperature: float) -> None:
    x, t = numbers(z), mp.mpf(temperature)
    p = softmax_of(x, t)
    for i, j, k in itertools.product(range(len(x)), repeat=3):
        slope = quotient(entry(lambda y: jacobian_formula(softmax_of(y, t), t), i, j), x, k)
        # A fourth derivative, of the size of 1 / T^4.
        assert_within(slope, hessian_formula(p, i, j, k) / t**2, FAR_BELOW)


@pytest.mark.statement("hessian", "symbolic")
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_second_derivatives_of_softmax_and_third_of_the_smooth_maximum(k: int) -> None:
    z = symbols(k)
    p = symbolic_softmax(z)
    smooth_maximum = symbolic_lse(z)
    for i, j, m in itertools.product(range(k), repeat=3):
        formula = hessian_formula(p, i, j, m) / TEMPERATURE**2
        assert vanishes(sympy.diff(p[i], z[j], z[m]) - formula)
        if i <= j <= m:
            assert vanishes(sympy.diff(smooth_maximum, z[i], z[j], z[m]) - formula)
            assert vanishes(central_moment(p, i, j, m) - TEMPERATURE**2 * formula)


@pytest.mark.statement("hessian", "symbolic")
@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_moments_are_cumulants_up_to_the_third(k: int) -> None:
    # log E exp<s, Y> = log sum p_c exp(s_c). Its fourth derivative is no central moment.
    p, s = sympy.symbols(f"p:{k}", positive=True), sympy.symbols(f"s:{k}", real=True)
    generating = sympy.log(sum(q * sympy.exp(x) for q, x in zip(p, s, strict=True)))
    # The last probability is what the others leave.
    at_zero = {p[-1]: 1 - sum(p[:-1]), **dict.fromkeys(s, 0)}

    def cumulant(*indices: int) -> Any:
        return sympy.diff(generating, *(s[i] for i in indices)).subs(at_zero)

    chosen = [q.subs(at_zero) for q in p]
    for i, j, m in itertools.combinations_with_replacement(range(k), 3):
        assert vanishes(cumulant(i) - chosen[i])
        assert vanishes(cumulant(i, j) - central_moment(chosen, i, j))
        assert vanishes(cumulant(i, j, m) - central_moment(chosen, i, j, m))
        assert vanishes(cumulant(i, j, m) - hessian_formula(chosen, i, j, m))
    assert not vanishes(cumulant(0, 0, 0, 0) - central_moment(chosen, 0, 0, 0, 0))


@pytest.mark.statement("hessian", "exact", "torch")
@settings(max_examples=50)
@given(rows(1, 4, bound=10.0), temperatures(0.5, 10.0))
def test_the_package_computes_the_formula_and_so_does_autograd(
    z: Tensor, temperature: float
) -> None:
    t = mp.mpf(temperature)
    p = softmax_of(numbers(z), t)
    k = range(len(p))
    expected = torch.stack(
        [as_matrix([[hessian_formula(p, i, j, m) / t**2 for m in k] for j in k]) for i in k]
    )
    hessian = softmax_hessian(z, temperature=temperature)
    # Three factors p, each off by 3 gaps of 40 and as much for the mean of them.
    allowed = (18 * 40 + 128) * U / temperature**2
    assert_within(hessian, expected, allowed)
    moment = torch.stack(
        [as_matrix([[central_moment(p, i, j, m) for m in k] for j in k]) for i in k]
    )
    assert_within(temperature**2 * hessian, moment, 2 * temperature**2 * allowed)
    for order in itertools.permutations(range(3)):
        assert_within(hessian.permute(order), hessian, 2 * allowed)
    for dim in range(3):
        assert_within(hessian.sum(dim), torch.zeros_like(hessian[0]), len(p) * allowed)

    def plain(x: Tensor) -> Tensor:
        return torch.softmax(x / temperature, -1)

    def smooth_maximum(x: Tensor) -> Tensor:
        return logsumexp(x, temperature=temperature)

    # Torch divides first: |z| / T, up to 20, is rounded as well.
    assert_within(torch.func.jacrev(torch.func.jacrev(plain))(z), expected, 2 * allowed)
    third = torch.func.jacrev(torch.func.jacrev(torch.func.grad(smooth_maximum)))(z)
    assert_within(third, expected, 2 * allowed)


@pytest.mark.statement("hessian", "exact")
@pytest.mark.parametrize("temperature", [0.1, 1.0, 7.0])
def test_one_and_two_classes_and_ties(temperature: float) -> None:
    assert softmax_hessian(torch.tensor([3.0]), temperature=temperature).item() == 0.0
    assert not softmax_hessian(torch.tensor([3.0, 3.0]), temperature=temperature).any()
    # Two classes have one number, p q (q - p), with the sign (-1)^(number of second indices).
    z = torch.tensor([0.3, 0.0], dtype=torch.float64)
    p, q = softmax_of(numbers(z), mp.mpf(temperature))
    one = float(p * q * (q - p) / mp.mpf(temperature) ** 2)
    assert one < 0
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64)
    expected = one * sign[:, None, None] * sign[:, None] * sign
    allowed = (9 * 3 + 32) * U / temperature**2
    assert_within(softmax_hessian(z, temperature=temperature), expected, allowed)
    # A tie of three: 2/27 on the diagonal, -1/27 for one index apart, 2/27 for all apart.
    tied = softmax_hessian(torch.zeros(3, dtype=torch.float64), temperature=temperature)
    for index in itertools.product(range(3), repeat=3):
        exact = (-1 if len(set(index)) == 2 else 2) / 27 / temperature**2
        assert_within(tied[index].item(), exact, rel=64 * U)


@pytest.mark.statement("hessian")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_signs_and_digits_where_softmax_saturates(temperature: float, dtype: torch.dtype) -> None:
    # p = 1 - e, q = e: all eight entries are e / T^2 up to a sign and a relative error of e.
    z = torch.tensor([0.0, -10.0], dtype=dtype)
    e = math.exp(-10 / temperature)
    hessian = (softmax_hessian(z, temperature=temperature).double() * temperature**2) / e
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64)
    # Three p, each off by 3 gap + 20 u. Half precision may hold e as a subnormal number.
    relative = (3 * (3 * 10 / temperature + 20) + 10) * unit(arithmetic(dtype)) + 8 * unit(dtype)
    held = smallest(dtype) * temperature**2 / e
    assert_within(hessian, -sign[:, None, None] * sign[:, None] * sign, relative + 4 * e + held)


@pytest.mark.statement("hessian", "statistical", false_alarm=1e-8)
@pytest.mark.parametrize(
    ("values", "temperature"),
    [
        ([2.0, 1.0, 3.0, 5.0, 4.0], 1.0),
        ([2.0, 1.0, 3.0, 5.0, 4.0], 2.5),
        ([1.0, 0.0], 1.0),
        ([1.0, 1.0, 0.0], 0.5),
        ([4.0], 1.0),
    ],
)
def test_third_moments_of_draws(values: list[float], temperature: float) -> None:
    z = torch.tensor(values, dtype=torch.float64)
    p = softmax(z, temperature=temperature)
    assert p.min().item() * DRAWS > 500
    away = draw_one_hot(z, temperature, DRAWS, seed=21) - p
    sampled = torch.einsum("ni,nj,nk->ijk", away, away, away) / DRAWS
    apart = torch.eye(len(z), dtype=torch.float64) - p
    of_class = torch.einsum("ci,cj,ck->cijk", apart, apart, apart)
    assert_sampled(sampled, p, of_class)
    moment = temperature**2 * softmax_hessian(z, temperature=temperature)
    assert_within((p[:, None, None, None] * of_class).sum(0), moment, 128 * U)
