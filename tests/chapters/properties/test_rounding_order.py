"""The proposition `rounding-order`: Rounding creates ties and no inversions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor

from omnivault.softmax import log_softmax, softmax
from tests.support.strategies import DTYPES, arithmetic, finite_rows, temperatures


def never_falls(x: Tensor) -> bool:
    return bool((x[1:] >= x[:-1]).all())


def assert_never_inverted(z: Tensor, temperature: float) -> None:
    order = z.argsort()
    wide = z.to(arithmetic(z.dtype))
    exponents = (wide / 2 - wide.max() / 2) / (temperature / 2)
    assert never_falls(exponents[order])
    assert never_falls(log_softmax(z, temperature=temperature)[order])
    # The hypothesis, which no standard promises: where the exponential falls, so may softmax.
    if never_falls(exponents.exp()[order]):
        assert never_falls(softmax(z, temperature=temperature)[order])


@pytest.mark.statement("rounding-order")
@given(st.data(), temperatures(1e-30, 1e30))
def test_no_finite_logits_are_inverted(data: st.DataObject, temperature: float) -> None:
    for dtype in DTYPES:
        assert_never_inverted(data.draw(finite_rows(dtype, 2, 40)), temperature)


@st.composite
def neighbors(draw: DrawFn, dtype: torch.dtype) -> Tensor:
    """Runs of consecutive floats, shuffled: the inputs that rounding is most likely to mix up."""
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    start = torch.tensor(draw(st.floats(2**-10, 50.0)), dtype=dtype).view(integers)
    run = (start + torch.arange(draw(st.integers(2, 300)), dtype=integers)).view(dtype)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    z = torch.cat([run, -run, torch.zeros(1, dtype=dtype)])
    return z[torch.randperm(len(z), generator=generator)]


@pytest.mark.statement("rounding-order")
@given(st.data(), temperatures(1e-3, 1e3))
def test_neighboring_floats_are_not_inverted(data: st.DataObject, temperature: float) -> None:
    for dtype in DTYPES:
        assert_never_inverted(data.draw(neighbors(dtype)), temperature)


@pytest.mark.statement("rounding-order")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("temperature", [1e-3, 0.1, 0.7, 1.0, 3.0, 100.0, 1e5])
def test_no_two_half_precision_numbers_are_inverted(dtype: torch.dtype, temperature: float) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every[every.isfinite()]
    assert_never_inverted(every, temperature)
    # Among all finite numbers the largest takes everything; look at a window of them as well.
    assert_never_inverted(every[every.abs() < 8], temperature)


@pytest.mark.statement("rounding-order")
def test_exp_of_no_larger_float32_is_smaller() -> None:
    # Subtraction, division and summation are correctly rounded or common to all classes, so order
    # can only be lost in exp. Every float32 from -0.0 down to -104, where exp is 0: read as
    # integers, the bit patterns of negative floats count away from zero.
    first, last = (torch.tensor(x).view(torch.int32).item() for x in (-0.0, -104.0))
    chunk = 2**24
    previous = torch.ones(1)
    for start in range(int(first), int(last) + 1, chunk):
        stop = min(start + chunk, int(last) + 1)
        values = torch.arange(start, stop, dtype=torch.int32).view(torch.float32).exp()
        # A mean of booleans would round; all() does not.
        assert bool((values[1:] <= values[:-1]).all())
        assert values[0] <= previous[-1]
        previous = values
    assert previous[-1].item() == 0.0


@pytest.mark.statement("rounding-order")
def test_exp_does_not_depend_on_where_a_number_stands() -> None:
    # A vectorized body and a scalar tail that disagreed in the last digit would invert neighbors.
    start = torch.tensor(-1.0).view(torch.int32)
    x = (start + torch.arange(4099, dtype=torch.int32)).view(torch.float32)
    together = x.exp()
    assert torch.equal(torch.stack([number.exp() for number in x]), together)
    for offset in range(1, 20):
        assert torch.equal(x[offset:].exp(), together[offset:])
    assert torch.equal(x[::3].exp(), together[::3])


@pytest.mark.statement("rounding-order")
@pytest.mark.parametrize(
    ("values", "dtype", "temperature"),
    [
        pytest.param([0.0, -1e-8], torch.float32, 1.0, id="gap below eps"),
        pytest.param([0.0, -1e-17], torch.float64, 1.0, id="gap below eps, float64"),
        pytest.param([2.0, 1.0], torch.float32, 1e9, id="huge T"),
        # Below 1/2: from 1 down, p would lie midway between two numbers of the format.
        pytest.param([0.5, 0.5 - 2**-12], torch.float16, 1.0, id="float16 neighbors"),
        pytest.param([0.5, 0.5 - 2**-9], torch.bfloat16, 1.0, id="bfloat16 neighbors"),
    ],
)
def test_rounding_creates_ties(values: list[float], dtype: torch.dtype, temperature: float) -> None:
    z = torch.tensor(values, dtype=dtype)
    assert z[0] > z[1]
    assert softmax(z, temperature=temperature).tolist() == [0.5, 0.5]


@pytest.mark.statement("rounding-order")
def test_a_created_tie_hides_the_winner_from_argmax() -> None:
    z = torch.tensor([-1e-9, 0.0])
    assert z.argmax().item() == 1
    p = softmax(z)
    assert p[0] == p[1]
    assert p.argmax().item() == 0


@pytest.mark.statement("rounding-order")
def test_underflow_creates_a_tie_at_zero_that_the_logarithm_does_not_have() -> None:
    z = torch.tensor([0.0, -200.0, -300.0])
    assert softmax(z).tolist() == [1.0, 0.0, 0.0]
    assert log_softmax(z).tolist() == [0.0, -200.0, -300.0]
