"""The proposition `gumbel-grid`: The tail that a grid cuts off."""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import pytest
import torch
from mpmath import mp
from torch import Tensor

from tests.support.strategies import DTYPES, assert_within, double, unit


def noise(k: int, b: int) -> Any:
    """-log(-log u) of u = k / 2^b, to 50 digits."""
    return -mp.log(-mp.log(mp.mpf(k) / 2**b))


@cache
def grid(b: int) -> list[Any]:
    return [noise(k, b) for k in range(1, 2**b)]


def out_of_reach(b: int) -> Any:
    """How far below the maximum no noise of the grid can lift a token."""
    return b * mp.log(2) + mp.log(b * mp.log(2))


@pytest.mark.statement("gumbel-grid", "exact")
@pytest.mark.parametrize("b", range(2, 13))
def test_every_noise_of_the_grid_lies_between_the_bounds(b: int) -> None:
    least, most = -mp.log(b * mp.log(2)), -mp.log(-mp.log(1 - mp.mpf(2) ** -b))
    values = grid(b)
    assert_within(min(values), least, 1e-45)
    assert_within(max(values), most, 1e-45)
    assert values[0] == min(values)
    assert values[-1] == max(values) < b * mp.log(2)
    assert all(x < y for x, y in itertools.pairwise(values))
    second, first = sorted(values)[-2:]
    assert mp.log(2) < first - second < mp.log(2) + mp.mpf(2) ** -b


@pytest.mark.statement("gumbel-grid", "exact")
@pytest.mark.parametrize("b", [13, 23, 24, 32, 53, 64, 100])
def test_the_ends_of_finer_grids(b: int) -> None:
    x = mp.mpf(2) ** -b
    with mp.workdps(100):
        least, second, first = (noise(k, b) for k in (1, 2**b - 2, 2**b - 1))
        assert_within(least, -mp.log(b * mp.log(2)), 1e-45)
        assert 0 < b * mp.log(2) - first < x
        assert 0 < first - second - mp.log(2) < x
        # What the proof says of the ratio of the logarithms.
        r = mp.log(1 - 2 * x) / mp.log(1 - x)
        assert 2 < r < 2 + x / (1 - 2 * x) <= 2 + 2 * x


@pytest.mark.statement("gumbel-grid", "exact")
@pytest.mark.parametrize(("b", "k"), [(2, 2), (2, 4), (3, 3), (4, 2), (4, 3), (5, 2), (8, 2)])
def test_a_token_that_far_below_is_never_drawn(b: int, k: int) -> None:
    far = out_of_reach(b)
    for beyond in (0, mp.mpf("1e-40"), 1, 50):
        for best in (1, k - 1):  # how many share the maximum
            z = [mp.mpf(3)] * best + [3 - far / 2] * (k - 1 - best) + [3 - far - beyond]
            for g in itertools.product(grid(b), repeat=k - 1):
                # The last token has the largest noise of all; it loses with any other as well.
                sums = [a + e for a, e in zip(z, [*g, grid(b)[-1]], strict=True)]
                assert sums[-1] < max(sums[:-1])


@pytest.mark.statement("gumbel-grid", "exact")
@pytest.mark.parametrize("b", range(2, 8))
def test_a_token_a_little_nearer_is_drawn_once(b: int) -> None:
    values = grid(b)
    far = out_of_reach(b)
    reach = values[-1] - values[0]
    assert 0 < far - reach < mp.mpf(2) ** -b
    drawn = {
        d: sum(y - d > x for x in values for y in values) for d in (reach + 1e-30, far, far + 9)
    }
    assert set(drawn.values()) == {0}
    assert sum(y - reach + 1e-30 > x for x in values for y in values) == 1
    for temperature in (0.5, 3):  # logits that are a multiple of it
        z = [mp.mpf(7), 7 - far * temperature]
        assert values[-1] + z[1] / temperature < values[0] + z[0] / temperature


def plain(u: Tensor) -> Tensor:
    return -(-u.log()).log()


def exchanged(u: Tensor) -> Tensor:
    return -(-(-u).log1p()).log()


@pytest.mark.statement("gumbel-grid", "exact")
@pytest.mark.parametrize("b", [2, 5, 12])
@pytest.mark.parametrize("dtype", DTYPES[2:], ids=str)
def test_the_exchanged_formula_has_the_same_tail_and_infinity(b: int, dtype: torch.dtype) -> None:
    u = torch.arange(2**b, dtype=dtype) / 2**b
    g = exchanged(u)
    assert g[0] == math.inf
    assert g[1:].isfinite().all()
    assert g.argsort(descending=True).tolist() == list(range(2**b))
    # Two logarithms to 4 ulp: the error of the first becomes an absolute one in the second.
    bounds = [8 * unit(dtype) * (1 + abs(x)) for x in grid(b)]
    assert_within(g[1:].flip(0).tolist(), grid(b), bounds)
    # Infinite noise beats any logit.
    z = torch.tensor([torch.finfo(dtype).max, -torch.finfo(dtype).max], dtype=dtype)
    assert (z + exchanged(u[[2**b - 1, 0]])).argmax() == 1
    assert (z + exchanged(u[[2**b - 1, 1]])).argmax() == 0


@pytest.mark.statement("gumbel-grid", "exact")
@pytest.mark.parametrize(("dtype", "b"), [(torch.float32, 24), (torch.float64, 53)])
def test_torch_draws_from_the_grid(dtype: torch.dtype, b: int) -> None:
    u = torch.rand(2**20, generator=torch.Generator().manual_seed(0), dtype=dtype)
    k = u.double() * 2**b
    assert torch.equal(k, k.round())
    assert 0 <= k.min() <= k.max() < 2**b
    assert k.remainder(2).unique().tolist() == [0, 1]  # on no coarser grid
    g = plain(u[u > 0])
    least, most = math.log(b * math.log(2)), b * math.log(2)
    assert g.min().item() >= -least - 8 * unit(dtype) * (1 + least)
    assert g.max().item() <= most + 8 * unit(dtype) * (1 + most)


@pytest.mark.statement("gumbel-grid", "exact")
def test_all_the_noise_of_single_precision() -> None:
    b = 24
    least, most = -mp.log(b * mp.log(2)), noise(2**b - 1, b)
    g = plain(torch.arange(1, 2**b, dtype=torch.float32) / 2**b)
    error = 8 * unit(torch.float32) * (1 + most)  # of two logarithms to 4 ulp
    assert_within(g.min().item(), least, 8 * unit(torch.float32) * (1 - least))
    assert_within(g.max().item(), most, error)
    assert g.argmax() == 2**b - 2
    assert_within((g[-1] - g[-2]).item(), mp.log(2), 2 * error)
    # The book counts five values of 15 and more.
    assert int((g > 15).sum()) == sum(noise(2**b - k, b) > 15 for k in range(1, 20)) == 5
    ends = plain(double([2.0**-b, 1 - 2.0**-b]))
    far = float(out_of_reach(b))
    assert round(far, 2) == 19.45
    assert (double([0.0, -far]) + ends).argmax() == 0
    assert (double([0.0, -far + 2.0**-b]) + ends).argmax() == 1
    # The tail that float64 keeps: its grid goes more than 20 higher.
    assert plain(double([1 - 2.0**-53])).item() > g.max().item() + 20
