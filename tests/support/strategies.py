"""What the tests share: inputs to draw, exact answers, and how far rounding may move from them.

The error bounds count rounding errors. With u = eps / 2 of the arithmetic (float32 for half
precision) and gap_i = (max z - z_i) / T:

- the exponent -gap_i is rounded three times (the shift, the division, T itself to the dtype), and
  exp turns that absolute error 3 u gap_i into a relative one;
- the same errors reach every p through the sum, weighted by p: 3 u <p, gap>;
- torch adds K terms in cascade: 4 u log2(K + 1) covers it;
- exp and log are within 4 units in the last place, 8 u each, and the quotient and the last
  rounding u each: 20 u covers them;
- half precision rounds once more, by its own u.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import cache
from itertools import combinations
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from mpmath import mp
from torch import Tensor

from tests.support.run_report import note_error

mp.dps = 50

HALF = (torch.float16, torch.bfloat16)
SINGLE_DOUBLE = (torch.float32, torch.float64)
DTYPES = (*HALF, *SINGLE_DOUBLE)


def arithmetic(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which logits of ``dtype`` are computed."""
    return torch.float32 if dtype in HALF else dtype


def unit(dtype: torch.dtype) -> float:
    """The largest relative error of one rounding to ``dtype``."""
    return torch.finfo(dtype).eps / 2


def smallest(dtype: torch.dtype) -> float:
    """The smallest positive number of ``dtype``, a subnormal."""
    return torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps


# Inputs -------------------------------------------------------------------------------------------


def rows(
    min_size: int = 1, max_size: int = 8, bound: float = 30.0, dtype: torch.dtype = torch.float64
) -> SearchStrategy[Tensor]:
    """One-dimensional logits in ``[-bound, bound]``."""
    return st.lists(
        st.floats(-bound, bound, width=64 if dtype is torch.float64 else 32),
        min_size=min_size,
        max_size=max_size,
    ).map(lambda values: torch.tensor(values, dtype=dtype))


def finite_rows(dtype: torch.dtype, min_size: int = 1, max_size: int = 8) -> SearchStrategy[Tensor]:
    """Any finite logits at all."""
    if dtype is torch.float16:
        numbers = st.floats(allow_nan=False, allow_infinity=False, width=16)
    elif dtype is torch.float64:
        numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)
    else:
        # The largest bfloat16 is a little below the largest float32.
        largest = torch.finfo(dtype).max
        numbers = st.floats(-largest, largest, width=32)
    return st.lists(numbers, min_size=min_size, max_size=max_size).map(
        lambda values: torch.tensor(values, dtype=dtype)
    )


def whole_rows(min_size: int = 1, max_size: int = 8, bound: int = 10) -> SearchStrategy[Tensor]:
    """Integer-valued float64 logits: ties are common, and what differs differs by one or more."""
    return st.lists(st.integers(-bound, bound), min_size=min_size, max_size=max_size).map(
        lambda values: torch.tensor(values, dtype=torch.float64)
    )


@st.composite
def row_pairs(
    draw: DrawFn, min_size: int = 2, max_size: int = 8, bound: float = 30.0
) -> tuple[Tensor, Tensor]:
    """Two rows of float64 logits of one length."""
    size = draw(st.integers(min_size, max_size))
    u, v = (draw(rows(size, size, bound)) for _ in range(2))
    return u, v


@st.composite
def whole_row_pairs(
    draw: DrawFn, min_size: int = 2, max_size: int = 6, bound: int = 5
) -> tuple[Tensor, Tensor]:
    """Two rows of integer-valued logits of one length."""
    size = draw(st.integers(min_size, max_size))
    u, v = (draw(whole_rows(size, size, bound)) for _ in range(2))
    return u, v


def temperatures(low: float = 0.1, high: float = 100.0) -> SearchStrategy[float]:
    return st.floats(low, high)


# Exact answers ------------------------------------------------------------------------------------


def exact_softmax(z: Tensor, temperature: float = 1.0) -> list[Any]:
    """Softmax of the very numbers in ``z``, to 50 digits."""
    largest = mp.mpf(z.max().item())
    weights = [mp.exp((mp.mpf(x) - largest) / temperature) for x in z.tolist()]
    return [w / mp.fsum(weights) for w in weights]


def exact_logsumexp(z: Tensor, temperature: float = 1.0) -> Any:
    largest = mp.mpf(z.max().item())
    total = mp.fsum(mp.exp((mp.mpf(x) - largest) / temperature) for x in z.tolist())
    return largest + temperature * mp.log(total)


def exact_log_softmax(z: Tensor, temperature: float = 1.0) -> list[Any]:
    normalizer = exact_logsumexp(z, temperature)
    return [(mp.mpf(x) - normalizer) / temperature for x in z.tolist()]


def as_double(values: Sequence[Any]) -> Tensor:
    """Round exact numbers to float64."""
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def double(values: Any) -> Tensor:
    """A float64 tensor of numbers, nested as they are."""
    return torch.tensor(values, dtype=torch.float64)


def number(x: Fraction) -> Any:
    """A fraction to 50 digits."""
    return mp.mpf(x.numerator) / x.denominator


def shares(*weights: int) -> tuple[Fraction, ...]:
    """A distribution in fractions, from whole weights."""
    return tuple(Fraction(w, sum(weights)) for w in weights)


def total(values: Iterable[Fraction]) -> Fraction:
    return sum(values, Fraction(0))


def inner(a: Sequence[Any], b: Sequence[Any]) -> Any:
    return sum(x * y for x, y in zip(a, b, strict=True))


def sigma(x: Any) -> Any:
    """The sigmoid, to 50 digits."""
    return 1 / (1 + mp.exp(-x))


# How far rounding may move ------------------------------------------------------------------------


def _gap(z: Tensor, dim: int, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    gap = (z.double().amax(dim, keepdim=True) - z.double()) / temperature
    p = torch.softmax(-gap, dim)
    # 0 * inf: a logit that is infinitely far away moves nothing.
    return gap, p, (p * gap).nan_to_num(0.0).sum(dim, keepdim=True)


def _cascade(z: Tensor, dim: int) -> float:
    return 4 * math.log2(z.shape[dim] + 1) + 20


def softmax_bound(z: Tensor, temperature: float = 1.0, dim: int = -1) -> Tensor:
    """Largest error of ``softmax(z)`` in the dtype of ``z``; float64 numbers, shape of ``z``."""
    gap, p, mean_gap = _gap(z, dim, temperature)
    u = unit(arithmetic(z.dtype))
    relative = u * (3 * gap + 3 * mean_gap + _cascade(z, dim))
    bound = (p * relative).nan_to_num(0.0) + 2 * smallest(arithmetic(z.dtype))
    return bound + (unit(z.dtype) * p + smallest(z.dtype) if z.dtype in HALF else 0.0)


def log_softmax_bound(z: Tensor, temperature: float = 1.0, dim: int = -1) -> Tensor:
    """Largest error of ``log_softmax(z)``, as :func:`softmax_bound`."""
    gap, _, mean_gap = _gap(z, dim, temperature)
    size = torch.log_softmax(-gap, dim).abs()
    u = unit(arithmetic(z.dtype))
    bound = u * (3 * gap + 3 * mean_gap + _cascade(z, dim) + size)
    return bound + (unit(z.dtype) * size if z.dtype in HALF else 0.0)


def logsumexp_bound(z: Tensor, temperature: float = 1.0, dim: int = -1) -> Tensor:
    """Largest error of ``logsumexp(z)``, shape of ``z`` without ``dim``."""
    _, _, mean_gap = _gap(z, dim, temperature)
    size = temperature * torch.logsumexp(z.double() / temperature, dim).abs()
    u = unit(arithmetic(z.dtype))
    log_k = math.log(z.shape[dim])
    bound = u * (temperature * (3 * mean_gap.squeeze(dim) + _cascade(z, dim) + 3 * log_k) + size)
    return bound + (unit(z.dtype) * size if z.dtype in HALF else 0.0)


def assert_within(actual: Any, expected: Any, bound: Any = 0.0, *, rel: Any = 0.0) -> None:
    """Assert that no number is further from the expected one than allowed, and note the worst.

    Allowed is the larger of ``bound`` and ``rel`` times the size of the expected number. Two
    tensors are compared in float64. Anything else, numbers and nested sequences of them, is
    compared to 50 digits: fractions, mpmath's numbers and floats as the numbers they are. One
    expected number, and one bound, serve for all.
    """
    if isinstance(actual, Tensor) and isinstance(expected, Tensor):
        assert actual.shape == expected.shape, f"{actual.shape} is not {expected.shape}"
        want = expected.double()
        error = (actual.double() - want).abs()
        # Equal infinities have no distance.
        error = torch.where(actual.double() == want, 0.0, error).flatten()
        allowed = torch.as_tensor(bound, dtype=torch.float64)
        if rel:
            size = torch.where(want.isinf(), 0.0, want.abs())
            allowed = torch.maximum(allowed, rel * size)
        allowed = allowed.expand(want.shape).flatten()
        errors, most = error.tolist(), allowed.tolist()
    else:
        got, wanted, bounds = _numbers(actual), _numbers(expected), _numbers(bound)
        wanted = wanted * len(got) if len(wanted) == 1 else wanted
        bounds = bounds * len(got) if len(bounds) == 1 else bounds
        assert len(got) == len(wanted) == len(bounds), f"{len(got)} numbers, not {len(wanted)}"
        errors = [0 if a == b else abs(a - b) for a, b in zip(got, wanted, strict=True)]
        sizes = [abs(w) if mp.isfinite(w) else 0 for w in wanted]
        most = [max(b, rel * size) for b, size in zip(bounds, sizes, strict=True)]
    for e, m in zip(errors, most, strict=True):
        assert e <= m, f"off by {float(e):.3g}, allowed {float(m):.3g}: {actual} is not {expected}"
        note_error(float(e), float(m))


def _numbers(values: Any) -> list[Any]:
    """Every number in a nested sequence, tensor or array, exactly."""
    if hasattr(values, "tolist"):  # of torch and NumPy
        values = values.tolist()
    if isinstance(values, Sequence):
        return [x for value in values for x in _numbers(value)]
    return [number(values) if isinstance(values, Fraction) else mp.mpf(values)]


# Finite probability -------------------------------------------------------------------------------

Event = frozenset[int]


def events(k: int) -> list[Event]:
    """All 2^k events of the outcomes 0 to k - 1."""
    return [frozenset(a) for size in range(k + 1) for a in combinations(range(k), size)]


def spacing(x: Fraction, bits: int, least: Fraction = Fraction(0)) -> Fraction:
    """The distance of numbers of so many significant bits at x, not below ``least``."""
    size = abs(x)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= size < Fraction(2) ** exponent
    return max(Fraction(2) ** (exponent + 1 - bits), least)


@cache
def nearest(x: Fraction, bits: int, least: Fraction = Fraction(0)) -> frozenset[Fraction]:
    """The numbers nearest to x: one, or two for a tie."""
    if x == 0:
        return frozenset({x})
    step = spacing(x, bits, least)
    near = {x // step * step, -(-x // step) * step}
    return frozenset(y for y in near if 2 * abs(y - x) <= step)


def rounded(x: Fraction, bits: int, least: Fraction = Fraction(0)) -> Fraction:
    """The number nearest to x, the even one of a tie."""
    if x == 0:
        return x
    step = spacing(x, bits, least)
    return round(x / step) * step


def exactly(p: Tensor) -> list[Fraction]:
    """The very numbers in ``p``, as fractions."""
    return [Fraction(x) for x in p.tolist()]
