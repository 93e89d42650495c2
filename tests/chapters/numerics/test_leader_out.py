"""The proposition `leader-out`: A sum without the leader keeps the digits near zero."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor
from torch.nn import functional

from tests.chapters.numerics.common import (
    FINE,
    KAPPAS,
    TORCH_KAPPA,
    TRANSCENDENTAL,
    Computed,
    Vector,
    exactly,
    leveled_rows,
    noise,
    rounding,
    single_double,
    torch_rows,
    with_second_order,
)
from tests.support.strategies import assert_within, rows, unit, whole_rows


def leader_out(z: Vector, op: Computed) -> tuple[Vector, Any]:
    """Every log-probability, and LSE, of which no sum contains the leader."""
    m = max(z)
    leader = z.index(m)
    gaps = [op("gap", k, x - m) for k, x in enumerate(z)]
    terms = [op("exp", k, mp.exp(gap)) for k, gap in enumerate(gaps) if k != leader]
    while len(terms) > 1:
        a = terms.pop(op("pick", len(terms), 0))
        b = terms.pop(op("pick", len(terms), 0))
        terms.insert(0, op("add", len(terms), a + b))
    log_total = op("log", 0, mp.log1p(terms[0] if terms else mp.mpf(0)))
    return [op("minus", k, gap - log_total) for k, gap in enumerate(gaps)], op(
        "level", 0, m + log_total
    )


def exact(z: Vector) -> tuple[Vector, Any]:
    """The same by the definition of softmax, with digits enough for 1 + e^-100."""
    with mp.workdps(150):
        total = mp.fsum(mp.exp(x) for x in z)
        p = [mp.exp(x) / total for x in z]
        return [mp.log(q) for q in p], mp.log(total)


def bound(z: Vector, kappa: Any) -> Any:
    """Of the relative errors, in units of u."""
    gaps = sorted(max(z) - x for x in z)[1:]
    weights = [mp.exp(-gap) for gap in gaps]
    mean = sum(a * b for a, b in zip(weights, gaps, strict=True)) / sum(weights) if gaps else 0
    return mean + len(z) + 2 * kappa


def assert_relative(computed: Vector, expected: Vector, allowed: Any) -> None:
    for a, b in zip(computed, expected, strict=True):
        assert_within(a, b, rel=allowed)


@pytest.mark.statement("leader-out", "exact")
@given(leveled_rows())
def test_both_formulas(z: Vector) -> None:
    log_p, lse = exact(z)
    with mp.workdps(150):
        computed, level = leader_out(z, exactly)
        assert_relative(computed, log_p, mp.mpf("1e-100"))
        assert_within(level, lse, mp.mpf("1e-100"))
    if len(z) == 1:
        assert computed == [0]
        assert level == z[0]


@pytest.mark.statement("leader-out", "exact")
@given(leveled_rows(), st.sampled_from(KAPPAS), st.integers(0, 10**6))
def test_no_errors_of_the_model_exceed_the_relative_bound(z: Vector, kappa: Any, seed: int) -> None:
    Random(seed).shuffle(z)
    log_p, lse = exact(z)
    allowed = with_second_order(bound(z, kappa), FINE)
    for op in (noise(seed, FINE, kappa), *(conspiring(d, FINE, kappa) for d in (-1, 1))):
        computed, level = leader_out(z, op)
        assert_relative(computed, log_p, allowed)
        if max(z) >= 0:
            assert_within(level, lse, rel=allowed)


def conspiring(direction: int, u: Any, kappa: Any) -> Computed:
    """All errors as large as they may be, and all in one direction for the leader."""

    def op(kind: str, index: int, value: Any) -> Any:
        if kind == "pick":
            return value
        # A gap that shrinks in size has a weight that grows.
        size = u * (kappa if kind in TRANSCENDENTAL else 1)
        return value * (1 + direction * (-1 if kind == "gap" else 1) * size)

    return op


@pytest.mark.statement("leader-out", "exact")
@pytest.mark.parametrize("kappa", KAPPAS, ids=str)
@pytest.mark.parametrize("direction", [-1, 1])
@pytest.mark.parametrize(
    "values", [[0.0, -60.0], [0.0, -60.0, -60.0], [0.0, -60.0, -100.0, -105.0]], ids=str
)
def test_all_but_one_unit_of_the_bound_can_be_used_up(
    values: list[float], direction: int, kappa: Any
) -> None:
    # One unit stands for the larger of the error of a gap and of the logarithm.
    z = [mp.mpf(x) for x in values]
    log_p, lse = exact(z)
    computed, level = leader_out(z, conspiring(direction, FINE, kappa))
    most = bound(z, kappa) - 1
    for a, b in ((computed[0], log_p[0]), (level, lse)):
        assert_within(abs(a / b - 1) / FINE, most, rel=mp.mpf("1e-10"))


@pytest.mark.statement("leader-out", "exact")
@pytest.mark.parametrize("bits", [8, 11, 24])
@settings(max_examples=60)
@given(data=st.data())
def test_correct_rounding_stays_within_the_relative_bound(bits: int, data: st.DataObject) -> None:
    op = rounding(bits)
    z = data.draw(rows(1, 6, bound=8.0) | whole_rows(1, 6, bound=8))
    numbers = [op("", 0, mp.mpf(x)) for x in z.tolist()]
    log_p, lse = exact(numbers)
    computed, level = leader_out(numbers, op)
    allowed = with_second_order(bound(numbers, 1), mp.mpf(2) ** -bits)
    assert_relative(computed, log_p, allowed)
    if max(numbers) >= 0:
        assert_within(level, lse, rel=allowed)


def in_torch(z: Tensor) -> tuple[Tensor, Tensor]:
    """As in the chapter."""
    m, leader = z.max(-1, keepdim=True)
    s = (z - m).exp().scatter(-1, leader, 0.0).sum(-1, keepdim=True)
    return (z - m) - torch.log1p(s), m + torch.log1p(s)


@pytest.mark.statement("leader-out", "exact", "torch")
@single_double
@settings(max_examples=100)
@given(data=st.data())
def test_torch_keeps_the_digits(dtype: torch.dtype, data: st.DataObject) -> None:
    z = data.draw(torch_rows(dtype))
    numbers = [mp.mpf(x) for x in z.tolist()]
    log_p, lse = exact(numbers)
    computed, level = in_torch(z)
    allowed = with_second_order(bound(numbers, TORCH_KAPPA), unit(dtype))
    assert_relative(computed.tolist(), log_p, allowed)
    if z.max() >= 0:
        assert_within(level.item(), lse, rel=allowed)


@pytest.mark.statement("leader-out", "exact", "torch")
@pytest.mark.parametrize(("dtype", "gap"), [(torch.float32, 20.0), (torch.float64, 40.0)], ids=str)
def test_with_the_leader_in_the_sum_torch_loses_all_digits(dtype: torch.dtype, gap: float) -> None:
    z = torch.tensor([0.0, -gap], dtype=dtype)
    assert functional.log_softmax(z, -1)[0].item() == 0
    assert torch.logsumexp(z, -1).item() == 0
    log_p, lse = in_torch(z)
    assert_within(-log_p[0].item(), math.exp(-gap), rel=2**7 * unit(dtype))
    assert_within(lse.item(), math.exp(-gap), rel=2**7 * unit(dtype))


@pytest.mark.statement("leader-out", "exact")
@pytest.mark.parametrize("bits", [8, 11, 24])
@settings(max_examples=60)
@given(data=st.data())
def test_one_absorbs_the_others_in_every_order(bits: int, data: st.DataObject) -> None:
    u = mp.mpf(2) ** -bits
    shares = data.draw(st.lists(st.integers(1, 1000), min_size=1, max_size=8))
    top = data.draw(st.sampled_from([u / 2, u / 2.001, u / 100]))
    random = Random(data.draw(st.integers(0, 10**6)))
    correctly = rounding(bits)
    terms = [mp.mpf(1), *(correctly("", 0, top * n / sum(shares)) for n in shares)]
    while len(terms) > 1:
        random.shuffle(terms)
        terms.append(correctly("add", 0, terms.pop() + terms.pop()))
    assert terms == [1]


@pytest.mark.statement("leader-out", "exact")
def test_of_two_classes_the_border_is_u() -> None:
    for bits in (8, 24):
        u, op = mp.mpf(2) ** -bits, rounding(bits)
        assert op("add", 0, 1 + u) == 1
        assert op("add", 0, 1 + u * (1 + 2 * u)) == 1 + 2 * u
        # With two others that add up to more, the order decides.
        third = op("", 0, u * mp.mpf("0.7"))
        assert op("add", 0, op("add", 0, 1 + third) + third) == 1
        assert op("add", 0, 1 + op("add", 0, third + third)) == 1 + 2 * u


@pytest.mark.statement("leader-out", "exact")
@pytest.mark.parametrize("bits", [11, 24, 53])
def test_below_zero_the_maximum_and_the_logarithm_may_cancel(bits: int) -> None:
    op = rounding(bits)
    z = 2 * [op("", 0, -mp.log(2))]
    _, lse = exact(z)
    _, level = leader_out(z, op)
    u = mp.mpf(2) ** -bits
    # The relative bound does not hold, one that counts the sizes of both terms does.
    assert abs(level / lse - 1) > with_second_order(bound(z, 1), u)
    assert abs(level - lse) <= with_second_order(bound(z, 1), u) * mp.log(2)
