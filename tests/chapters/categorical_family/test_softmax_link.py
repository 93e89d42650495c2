"""The theorem `softmax-link`: The gradient is the residual for softmax alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import torch
from hypothesis import given
from mpmath import mp
from torch import Tensor

from tests.chapters.categorical_family.common import largest, lse, soft
from tests.support.strategies import assert_within, double, row_pairs, sigma

Link = Callable[[Sequence[Any]], list[Any]]


def residual_excess(g: Link, z: Sequence[Any]) -> list[list[Any]]:
    """Derivative of -log g_y by z_j minus the residual; a row for each y."""
    p, step = g(z), mp.mpf(10) ** -15
    table = []
    for y in range(len(z)):
        line = []
        for j in range(len(z)):
            ahead, behind = ([x + s * (i == j) for i, x in enumerate(z)] for s in (step, -step))
            slope = -(mp.log(g(ahead)[y]) - mp.log(g(behind)[y])) / (2 * step)
            line.append(slope - (p[j] - (j == y)))
        table.append(line)
    return table


def normalized(weights: Sequence[Any]) -> list[Any]:
    return [w / mp.fsum(weights) for w in weights]


OTHERS: dict[str, Link] = {
    "temperature 2": lambda z: soft([x / 2 for x in z]),
    "negative": lambda z: soft([-x for x in z]),
    "turned around": lambda z: soft(z[::-1]),
    "squares": lambda z: normalized([1 + x * x for x in z]),
    "normal": lambda z: normalized([mp.ncdf(x) for x in z]),
    "uniform": lambda z: normalized([mp.mpf(1) for _ in z]),
    "smoothed": lambda z: [(9 * p + mp.mpf(1) / len(z)) / 10 for p in soft(z)],
    "a shift that depends on z": lambda z: soft([z[0] + mp.sin(z[-1]), *z[1:]]),
}


@pytest.mark.statement("softmax-link", "exact")
@given(row_pairs(min_size=2, max_size=4, bound=8.0))
def test_softmax_after_any_shift_has_the_residual_as_its_gradient(
    pair: tuple[Tensor, Tensor],
) -> None:
    z, c = ([mp.mpf(x) for x in row.tolist()] for row in pair)
    table = residual_excess(lambda s: soft([x + y for x, y in zip(s, c, strict=True)]), z)
    assert_within(table, 0, mp.mpf(10) ** -25)


@pytest.mark.statement("softmax-link", "exact")
@pytest.mark.parametrize("link", OTHERS)
@pytest.mark.parametrize("k", [2, 3, 4])
def test_no_other_function_has_it(link: str, k: int) -> None:
    points = [[mp.mpf(x) for x in z[:k]] for z in ((1, -1, 2, 0), (-2, 0.5, 0, 1), (0, 0, 1, 3))]
    found = [largest(x for line in residual_excess(OTHERS[link], z) for x in line) for z in points]
    assert max(found) > 0.04


@pytest.mark.statement("softmax-link", "scipy")
@pytest.mark.parametrize("start", [(0.5, 0.5), (0.9, 0.1), (0.2, 0.3, 0.5), (0.7, 0.1, 0.1, 0.1)])
def test_the_equation_followed_from_one_point_leads_to_softmax(start: tuple[float, ...]) -> None:
    g0 = np.array(start)
    for direction in ([1, -2, 0.5, 3], [-1, -1, 2, 0], [2, 2, 2, 2]):
        z = np.array(direction[: len(g0)], dtype=float)
        # Along s z the logarithm of g_y rises by z_y - <g, z>, g being the g_j themselves.
        path = scipy.integrate.solve_ivp(
            lambda _, log_g, z=z: z - np.exp(log_g) @ z, (0, 1), np.log(g0), rtol=1e-12, atol=1e-13
        )
        expected = torch.softmax(double(z + np.log(g0)), -1)
        # A step is off by its tolerance, in the mean square, which grows by e^|z| at most.
        each = math.sqrt(len(g0)) * (1e-13 + 1e-12 * np.abs(path.y).max())
        off = len(path.t) * each * math.exp(np.abs(z).max())
        assert_within(double(np.exp(path.y[:, -1])), expected, off)


@pytest.mark.statement("softmax-link", "exact")
def test_for_three_outcomes_the_equation_of_one_label_is_not_enough() -> None:
    def other(z: Sequence[Any]) -> list[Any]:
        """Softmax of z_1 and of a soft maximum of the others at another temperature."""
        first = sigma(z[0] - 2 * lse([x / 2 for x in z[1:]]))
        return [first, *[(1 - first) * p for p in soft([x / 2 for x in z[1:]])]]

    z = [mp.mpf(1), mp.mpf(-1), mp.mpf(2)]
    table = residual_excess(other, z)
    assert_within(table[0], 0, mp.mpf(10) ** -25)
    assert largest(table[1]) > 0.05 < largest(table[2])
    assert_within(residual_excess(other, z[:2]), 0, mp.mpf(10) ** -25)
