"""Shares at their borders: 1 and what is next to it, 0 and what is next to it, exact masses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.generation import logits_process as hf

from omnivault.sampling import (
    TRUNCATIONS,
    in_nucleus,
    min_p,
    plain_sample,
    sample,
    top_p,
    typical_p,
)
from omnivault.sampling.truncation import truncate
from tests.package.sampling.common import INF, generator, kept, logits_of, tokens
from tests.support.strategies import SINGLE_DOUBLE, smallest

dtypes = pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
WHOLE: dict[str, Any] = {
    "top_p": 1,
    "min_p": 0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0,
    "eta_cutoff": 0.0,
    "top_a": 0,
    "top_h": 1,
    "tail_free": 1.0,
    "xtc": 1,
}
"""The values that truncate nothing, of the truncations that are set by a share."""


def rows_with_small_numbers(dtype: torch.dtype) -> list[Tensor]:
    limits = torch.finfo(dtype)
    return [
        torch.tensor([0.0, -18.0, -19.0], dtype=dtype),
        torch.tensor([0.0, math.log(smallest(dtype)) - 5, math.log(limits.tiny)], dtype=dtype),
        torch.tensor([limits.max, -limits.max, 0.0, -INF], dtype=dtype),
        logits_of("1", 1, 50_000, dtype)[0],
        logits_of("10", 1, 50_000, dtype)[0],
        logits_of("masked", 1, 1000, dtype)[0],
    ]


@dtypes
@pytest.mark.parametrize("name", WHOLE)
def test_the_value_that_truncates_nothing_keeps_every_token(name: str, dtype: torch.dtype) -> None:
    rule = TRUNCATIONS[name]
    assert WHOLE[name] == rule.off
    for z in rows_with_small_numbers(dtype):
        cut = rule.function(z, WHOLE[name])
        assert torch.equal(cut, z)
        assert cut.data_ptr() != z.data_ptr()
        among = torch.arange(min(len(z), 50))
        assert torch.equal(in_nucleus(z.expand(len(among), -1), among, 1.0), kept(z[among]))


@pytest.mark.parametrize("draw", [sample, plain_sample])
@pytest.mark.parametrize("name", WHOLE)
def test_with_it_the_draws_are_those_without_a_truncation(draw: Any, name: str) -> None:
    z = logits_of("1", 500, 200)
    one, other = (draw(z, generator=generator(1), **dials) for dials in ({}, {name: WHOLE[name]}))
    assert torch.equal(one, other)


@dtypes
def test_next_to_the_whole_mass_the_least_probable_go(dtype: torch.dtype) -> None:
    """Far more than half a token of 1 - p: e^-18 is 1.5e-8, e^-30 is 9e-14."""
    z = torch.tensor([0.0, -18.0, -30.0], dtype=dtype)
    for truncation in (top_p, typical_p):
        for p, expected in ((1 - 1e-8, [0, 1]), (1 - 1e-12, [0, 1]), (1 - 2**-53, [0, 1, 2])):
            assert tokens(truncation(z, p)) == expected, p
        assert tokens(truncation(z, 1 - 1e-7)) == [0]


@dtypes
def test_typical_sets_of_a_long_flat_row_have_the_mass_asked_for(dtype: torch.dtype) -> None:
    z = logits_of("0.1", 1, 50_000, dtype)[0]
    probs = z.double().softmax(-1)
    for p in (0.5, 0.9, 0.999, 1 - 1e-6):
        inside = kept(typical_p(z, p))
        # The mass left out, to the rounding of 50,000 sums; without the last token it was more.
        left = float(probs[~inside].sum())
        u = torch.finfo(dtype).eps / 2
        assert left <= (1 - p) * (1 + 110_000 * u)
        assert left + 2.1 * float(probs.max()) >= (1 - p) * (1 - 110_000 * u)


NO_IDS: Any = None  # which the warper does not look at
BORDERS = [0.5, 0.25, 0.125, 0.0625, 0.0625]


@pytest.mark.parametrize(("p", "expected"), [(0.5, [0, 1]), (0.25, [0, 1, 2]), (0.4, [0, 1])])
def test_min_p_at_exact_borders_is_that_of_transformers(p: float, expected: list[int]) -> None:
    for shift in (0.0, 3.0, -100.0):
        z = torch.tensor(BORDERS).log() + shift
        theirs = hf.MinPLogitsWarper(p)(NO_IDS, z.unsqueeze(0))[0]
        assert tokens(min_p(z, p)) == tokens(theirs)
        if shift == 0:
            assert tokens(theirs) == expected


def test_min_p_at_many_borders_is_that_of_transformers() -> None:
    """Borders such as 3/7 of 7/20, where rounding decides: as it decides there."""
    for dtype in SINGLE_DOUBLE:
        for most in range(2, 40):
            weights = torch.stack(
                [torch.tensor([most, least, 1, 2, 3]) for least in range(1, most)]
            ).double()
            z = (weights / weights.sum(-1, keepdim=True)).log().to(dtype)
            for row, least in zip(z, range(1, most), strict=True):
                theirs = hf.MinPLogitsWarper(least / most)(NO_IDS, row.unsqueeze(0))[0]
                assert torch.equal(min_p(row, least / most), theirs)


@dtypes
@pytest.mark.parametrize(
    "p", [1e-10, 1e-20, 1e-37, 1e-38, 1e-40, 1e-44, 1e-60, 1e-153, 1e-155, 1e-300, 5e-324]
)
def test_the_least_shares_are_told_apart(dtype: torch.dtype, p: float) -> None:
    border = math.log(p)
    z = torch.tensor([0.0, border / 2, 0.999 * border, 1.001 * border, 2 * border], dtype=dtype)
    for shift in (0.0, 50.0):
        assert tokens(min_p(z + shift, p)) == [0, 1, 2]
        assert tokens(truncate(z + shift, {"min_p": p})) == [0, 1, 2]


def test_the_two_logits_that_a_share_of_nothing_once_kept() -> None:
    assert tokens(min_p(torch.tensor([0.0, -800.0]), 1e-300)) == [0]
    assert tokens(min_p(torch.tensor([0.0, -600.0]), 1e-300)) == [0, 1]
    assert tokens(min_p(torch.tensor([3e38, -3e38]), 1e-300)) == [0]
