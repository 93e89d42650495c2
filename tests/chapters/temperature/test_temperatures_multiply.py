"""The proposition `temperatures-multiply`: Temperatures multiply."""

from __future__ import annotations

import itertools

import pytest
import sympy as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import log_softmax, softmax
from tests.chapters.temperature.common import EDGES, EXAMPLE, U, row
from tests.support.strategies import (
    DTYPES,
    SINGLE_DOUBLE,
    as_double,
    assert_within,
    exact_softmax,
    log_softmax_bound,
    rows,
    softmax_bound,
    temperatures,
)


def two_steps_bound(z: Tensor, first: float, second: float) -> Tensor:
    """Largest error of ``softmax(log_softmax(z, first), second)``.

    The normalizer of the logarithm, and its error with it, is the same for all classes and drops
    out. What is left of an error of the logarithm is divided by the second temperature; it is then
    a relative one, and reaches every p through the sum.
    """
    log_p = torch.log_softmax(z / first, -1)
    p = torch.softmax(z / (first * second), -1)
    inherited = U * (3 * (z.max() - z) / first + log_p.abs()) / second
    return softmax_bound(log_p, second) + p * (inherited + (p * inherited).nan_to_num(0.0).sum())


@pytest.mark.statement("temperatures-multiply", "exact")
@given(rows(), temperatures(), temperatures())
def test_the_softmax_of_log_softmax_is_softmax_at_the_product(
    z: Tensor, first: float, second: float
) -> None:
    log_p = log_softmax(z, temperature=first)
    twice = softmax(log_p, temperature=second)
    expected = as_double(exact_softmax(z, mp.mpf(first) * second))
    # An error of the logarithm, divided by the second temperature, is a relative one here, and
    # reaches every p through the sum.
    inherited = log_softmax_bound(z, first) / second
    allowed = softmax_bound(log_p, second) + expected * (inherited + (expected * inherited).sum())
    assert_within(twice, expected, 2 * allowed)


@pytest.mark.statement("temperatures-multiply", "exact")
@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=8),
    temperatures(0.05, 100.0),
)
def test_a_temperature_raises_probabilities_to_a_power(
    weights: list[int], temperature: float
) -> None:
    p = row(weights) / sum(weights)
    powers = [mp.mpf(x) ** (1 / mp.mpf(temperature)) for x in p.tolist()]
    expected = as_double([x / mp.fsum(powers) for x in powers])
    # log p is within 4 ulp, 8 u |log p| with |log p| at most log 8000 = 9; an error of it is a
    # relative one, the own and that of the sum.
    allowed = softmax_bound(p.log(), temperature) + 2 * 8 * 9 * U / temperature * expected
    assert_within(softmax(p.log(), temperature=temperature), expected, allowed)
    if temperature == 1.0:
        assert_within(expected, p, len(p) * U)


@pytest.mark.statement("temperatures-multiply", "exact")
@given(rows(1, 8), temperatures(), st.sampled_from(SINGLE_DOUBLE))
def test_log_probabilities_serve_as_logits(
    z: Tensor, temperature: float, dtype: torch.dtype
) -> None:
    z = z.to(dtype)
    log_p = log_softmax(z)
    expected = as_double(exact_softmax(z, temperature))
    inherited = log_softmax_bound(z) / temperature
    allowed = softmax_bound(log_p, temperature) + expected * (
        inherited + (expected * inherited).sum()
    )
    assert_within(softmax(log_p, temperature=temperature), expected, 2 * allowed)


@pytest.mark.statement("temperatures-multiply", "exact")
@pytest.mark.parametrize("values", EDGES)
@pytest.mark.parametrize("temperature", [0.125, 0.5, 1.0, 2.0, 64.0])
def test_the_inverse_temperature_undoes_it(values: list[float], temperature: float) -> None:
    z = row(values)
    back = softmax(log_softmax(z, temperature=temperature), temperature=1 / temperature)
    allowed = two_steps_bound(z, temperature, 1 / temperature)
    assert_within(back, as_double(exact_softmax(z)), allowed)
    # Ties stay ties, to the last bit.
    assert torch.equal(back[:, None] == back, softmax(z)[:, None] == softmax(z))


@pytest.mark.statement("temperatures-multiply")
def test_temperatures_multiply_and_do_not_add() -> None:
    z = row(EXAMPLE)
    twice = softmax(log_softmax(z, temperature=0.5), temperature=3.0)
    allowed = two_steps_bound(z, 0.5, 3.0) + softmax_bound(z, 1.5)
    assert_within(twice, softmax(z, temperature=1.5), allowed)
    for wrong in (3.5, 0.5 / 3.0, 3.0 / 0.5, 0.5, 3.0):
        assert (twice - softmax(z, temperature=wrong)).abs().max() > 0.1


@pytest.mark.statement("temperatures-multiply", "symbolic")
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_symbols_say_so_too(count: int) -> None:
    s, t, q = sp.symbols("S T q", positive=True)
    z = sp.symbols(f"z_1:{count + 1}", real=True)
    log_p = [x / s - sp.log(sum(sp.exp(y / s) for y in z)) for x in z]
    for i, j in itertools.product(range(count), repeat=2):
        # The exponents differ by as much, so the ratios are equal, and with the sums all of it.
        assert sp.expand((log_p[i] - log_p[j]) / t - (z[i] - z[j]) / (s * t)) == 0
    assert sp.expand_log(sp.log(q ** (1 / t))) == sp.log(q) / t


@pytest.mark.statement("temperatures-multiply", "exact")
def test_in_floating_point_the_logarithm_must_come_first() -> None:
    # The probability exp(-200) underflows in float32; its logarithm does not.
    z = torch.tensor([0.0, -200.0])
    expected = softmax(z, temperature=100.0)
    allowed = softmax_bound(z, 100.0)  # the logarithms are the logits
    assert_within(softmax(log_softmax(z), temperature=100.0), expected, 2 * allowed)
    assert softmax(softmax(z).log(), temperature=100.0).tolist() == [1.0, 0.0]
    assert_within(expected[1], 1 / (1 + mp.exp(2)), allowed[1])


@pytest.mark.statement("temperatures-multiply", "exact")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rounded_log_probabilities_cost_their_rounding(dtype: torch.dtype) -> None:
    z = row(EXAMPLE, dtype)
    for first, second in ((1.0, 0.5), (0.5, 3.0), (2.0, 2.0)):
        log_p = log_softmax(z, temperature=first)
        expected = as_double(exact_softmax(z, mp.mpf(first) * second))
        inherited = log_softmax_bound(z, first) / second
        allowed = softmax_bound(log_p, second) + 3 * expected * inherited.max()
        assert_within(softmax(log_p, temperature=second), expected, allowed)
