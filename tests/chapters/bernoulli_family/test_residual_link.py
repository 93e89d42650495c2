"""The theorem `residual-link`: The gradient is the residual for the sigmoid alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp

from tests.support.strategies import assert_within, sigma

Link = Callable[[Any], Any]
OTHERS: dict[str, Link] = {
    "probit": mp.ncdf,
    "probit, stretched": lambda x: mp.ncdf(x / mp.mpf("1.702")),
    "arctan": lambda x: mp.mpf(1) / 2 + mp.atan(x) / mp.pi,
    "root": lambda x: (1 + x / mp.sqrt(1 + x * x)) / 2,
    "complementary log-log": lambda x: 1 - mp.exp(-mp.exp(x)),
    "temperature 2": lambda x: sigma(x / 2),
    "falling": lambda x: sigma(-x),
    "constant": lambda x: mp.mpf(1) / 3,
    "mixed with a fair coin": lambda x: (1 + 8 * sigma(x)) / 10,
    "not increasing": lambda x: (2 + mp.sin(x)) / 4,
}


def excess(g: Link, x: Any, y: int) -> Any:
    """Derivative of the loss minus the residual."""
    return mp.diff(lambda s: -mp.log(g(s) if y else 1 - g(s)), x) - (g(x) - y)


@pytest.mark.statement("residual-link", "exact")
@given(st.floats(-20, 20), st.floats(-10, 10), st.sampled_from([0, 1]))
def test_a_shifted_sigmoid_has_the_residual_as_its_gradient(x: float, c: float, y: int) -> None:
    assert_within(excess(lambda s: sigma(s + c), mp.mpf(x), y), 0, mp.mpf(10) ** -25)


@pytest.mark.statement("residual-link", "exact")
@pytest.mark.parametrize("link", OTHERS)
def test_no_other_link_has_it_for_either_label(link: str) -> None:
    g, grid = OTHERS[link], [mp.mpf(i) / 2 for i in range(-5, 6)]
    errors = [[excess(g, x, y) for x in grid] for y in (0, 1)]
    assert min(max(map(abs, row)) for row in errors) > 0.01
    for x, no, yes in zip(grid, *errors, strict=True):
        # One factor for both labels, so that they fail together.
        factor = mp.diff(g, x) / (g(x) * (1 - g(x)))
        assert_within(no, g(x) * (factor - 1), mp.mpf(10) ** -20)
        assert_within(yes, (g(x) - 1) * (factor - 1), mp.mpf(10) ** -20)


@pytest.mark.statement("residual-link")
@pytest.mark.parametrize("start", ["0.1", "0.5", "0.93"])
@pytest.mark.parametrize("y", [0, 1])
def test_the_equation_of_one_label_leaves_only_the_shift_open(start: str, y: int) -> None:
    g0 = mp.mpf(start)
    # The loss l itself: g is 1 - exp(-l) for y = 0 and exp(-l) for y = 1, and l' = g - y.
    with mp.workdps(20):
        for way in (1, -1):  # away from 0 to the right and to the left
            solution = mp.odefun(
                lambda s, loss, way=way: way * (mp.exp(-loss) - 1 if y else 1 - mp.exp(-loss)),
                0,
                -mp.log(g0 if y else 1 - g0),
            )
            for s in (1, 3):
                p = mp.exp(-solution(s))
                c = mp.log(g0 / (1 - g0))
                assert_within(p if y else 1 - p, sigma(way * s + c), mp.mpf(10) ** -12)


@pytest.mark.statement("residual-link", "exact")
@pytest.mark.parametrize("y", [0, 1])
def test_for_all_eta_is_needed(y: int) -> None:
    def glued(x: Any) -> Any:
        return sigma(x if x <= 0 else x + x * x)  # both pieces have the slope 1/4 at 0

    at_left = [excess(glued, mp.mpf(x), y) for x in (-5, -2, -0.5)]
    assert_within(at_left, 0, mp.mpf(10) ** -20)
    assert all(abs(excess(glued, mp.mpf(x), y)) > 0.01 for x in (0.5, 1))
