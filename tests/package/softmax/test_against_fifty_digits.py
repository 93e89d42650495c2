from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from omnivault.softmax import log_softmax, logsumexp, softmax
from tests.package.softmax.common import INF, ROWS_FOR_MPMATH, dtypes, some_temperatures
from tests.support.strategies import (
    SINGLE_DOUBLE,
    as_double,
    assert_within,
    exact_log_softmax,
    exact_logsumexp,
    exact_softmax,
    log_softmax_bound,
    logsumexp_bound,
    rows,
    softmax_bound,
    temperatures,
)


def assert_three_maps(z: Tensor, temperature: float) -> None:
    assert_within(
        softmax(z, temperature=temperature),
        as_double(exact_softmax(z, temperature)),
        softmax_bound(z, temperature),
    )
    assert_within(
        log_softmax(z, temperature=temperature),
        as_double(exact_log_softmax(z, temperature)),
        log_softmax_bound(z, temperature),
    )
    assert_within(
        logsumexp(z, temperature=temperature),
        as_double([exact_logsumexp(z, temperature)])[0],
        logsumexp_bound(z, temperature),
    )


@pytest.mark.parametrize("values", ROWS_FOR_MPMATH.values(), ids=ROWS_FOR_MPMATH.keys())
@dtypes
@some_temperatures
def test_three_maps_against_fifty_digits(
    values: list[float], dtype: torch.dtype, temperature: float
) -> None:
    z = torch.tensor(values, dtype=dtype)
    assert_three_maps(z, temperature)


@given(st.data(), temperatures(0.05, 50.0))
def test_any_row_against_fifty_digits(data: st.DataObject, temperature: float) -> None:
    for dtype in SINGLE_DOUBLE:
        z = data.draw(rows(dtype=dtype))
        assert_three_maps(z, temperature)


def test_the_example_of_the_docstring_at_two_temperatures() -> None:
    z = torch.tensor([1.0, 5.0, 6.0, 3.0], dtype=torch.float64)
    for temperature in (1.0, 5.0):
        weights = [math.exp(x / temperature) for x in (1, 5, 6, 3)]
        expected = [w / math.fsum(weights) for w in weights]
        p = softmax(z, temperature=temperature)
        assert_within(p, as_double(expected), 2 * softmax_bound(z, temperature))


def test_log_softmax_keeps_what_the_logarithm_of_softmax_loses() -> None:
    z = torch.tensor([0.0, -200.0])
    assert softmax(z).log().tolist() == [0.0, -INF]
    assert log_softmax(z).tolist() == [0.0, -200.0]
