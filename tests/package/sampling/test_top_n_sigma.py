"""Top-n-sigma: its kept sets against 50 digits, and at the edges."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.sampling import plain_sample, sample, top_n_sigma
from tests.package.sampling.common import INF, KINDS, NAN, dtypes, generator, kept, logits_of
from tests.support.strategies import arithmetic, unit, whole_rows


def margins(z: Tensor, n: float) -> tuple[list[Any], Any]:
    """How far each token lies inside, and the spread, both in units of the largest distance."""
    row = [mp.mpf(x) for x in z.double().tolist()]
    finite = [x for x in row if mp.isfinite(x)]
    mean = mp.fsum(finite) / len(finite)
    spread = mp.sqrt(mp.fsum((x - mean) ** 2 for x in finite) / len(finite))
    most = max(finite)
    reach = (most - min(finite)) or mp.mpf(1)
    return [(n * spread - (most - x)) / reach for x in row], spread / reach


def assert_kept_as_defined(z: Tensor, n: float) -> None:
    found = kept(top_n_sigma(z, n)).tolist()
    inside, _ = margins(z, n)
    # Of a distance and of the mean, in units of the reach: a shift, a quotient, K sums, a root.
    slack = (n + 1) * (3 * z.shape[-1] + 16) * unit(arithmetic(z.dtype))
    for token, (is_kept, margin) in enumerate(zip(found, inside, strict=True)):
        if abs(margin) > slack:
            assert is_kept == (margin > 0), (z.tolist(), n, token)
    assert found[int(z.argmax())]


@given(whole_rows(max_size=12), st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 3.0]))
def test_kept_sets_of_whole_numbers(z: Tensor, n: float) -> None:
    assert_kept_as_defined(z, n)


@dtypes
@pytest.mark.parametrize("kind", KINDS)
def test_kept_sets_of_random_rows(kind: str, dtype: torch.dtype) -> None:
    for row in logits_of(kind, 20, 50, dtype):
        for n in (0.1, 1.0, 2.5):
            assert_kept_as_defined(row, n)


def test_a_border_that_is_reached_exactly_is_kept() -> None:
    # Mean 2 and squares 4, 0, 4: a standard deviation of sqrt(8 / 3), of two tokens exactly 2.
    two = torch.tensor([4.0, 0.0])
    assert kept(top_n_sigma(two, 2.0)).tolist() == [True, True]
    assert kept(top_n_sigma(two, 2 - 2.0**-20)).tolist() == [True, False]


@dtypes
@pytest.mark.parametrize("factor", [2.0**-6, 0.5, 2.0, 64.0])
def test_powers_of_two_as_temperatures_keep_the_same_tokens(
    factor: float, dtype: torch.dtype
) -> None:
    z = logits_of("1", 50, 40, dtype)
    for n in (0.3, 1.0, 2.0):
        assert torch.equal(kept(top_n_sigma(z * factor, n)), kept(top_n_sigma(z, n)))


@dtypes
def test_one_token_ties_masks_and_huge_logits(dtype: torch.dtype) -> None:
    most = torch.finfo(dtype).max
    for row, expected in (
        ([3.0], [True]),
        ([1.0, 1.0, 1.0], [True, True, True]),
        ([-INF, 1.0, 1.0, -INF], [False, True, True, False]),
        ([-INF, 2.0], [False, True]),
        ([most, -most], [True, False]),
        ([most, most, -most], [True, True, False]),
    ):
        z = torch.tensor(row, dtype=dtype)
        cut = top_n_sigma(z, 1.0)
        assert kept(cut).tolist() == expected
        assert torch.equal(cut[kept(cut)], z[kept(cut)])


def test_what_is_ruled_out_is_not_counted() -> None:
    z = logits_of("1", 20, 30)
    wide = torch.cat([z, torch.full((20, 70), -INF)], dim=-1)
    assert torch.equal(kept(top_n_sigma(wide, 1.0))[:, :30], kept(top_n_sigma(z, 1.0)))


@pytest.mark.parametrize("draw", [sample, plain_sample])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_samplers_take_it_and_the_temperature_does_not_change_what_it_keeps(
    draw: Any, temperature: float
) -> None:
    z = logits_of("1", 1, 12).expand(4000, 12)
    inside = kept(top_n_sigma(z[0], 1.5))
    drawn = draw(z, temperature=temperature, top_n_sigma=1.5, generator=generator(1))
    assert set(drawn.unique().tolist()) <= set(inside.nonzero().flatten().tolist())
    if temperature == 5.0:  # warm enough that 4,000 draws see all of them
        assert len(drawn.unique()) == int(inside.sum())


@pytest.mark.parametrize("n", [1, Fraction(1, 2), np.float32(0.5), np.float64(0.5), np.int64(2)])
def test_any_real_number_is_a_number_of_deviations(n: Any) -> None:
    z = logits_of("1", 5, 20)
    assert torch.equal(top_n_sigma(z, n), top_n_sigma(z, float(n)))


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        *(
            (n, ValueError, f"top_n_sigma must lie in (0, inf], got {n}; inf keeps every token")
            for n in (0, -1.0, NAN)
        ),
        ("1", TypeError, "top_n_sigma must be a number such as 1.0, got '1'"),
        (True, TypeError, "top_n_sigma must be a number such as 1.0, got True"),
    ],
)
def test_numbers_that_are_no_distance_are_shown(
    bad: Any, error: type[Exception], message: str
) -> None:
    z = torch.tensor([1.0, 0.0])
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        top_n_sigma(z, bad)
    assert torch.equal(top_n_sigma(z, INF), z)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        sample(z, top_n_sigma=bad)
