"""The theorem `logistic-fit`: The fit of a logistic regression."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mpmath import mp
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.func import jacrev
from torch.nn import functional

from omnivault.distributions import Bernoulli
from tests.chapters.bernoulli_family.common import (
    EXACT,
    Data,
    U,
    Vector,
    at,
    datasets,
    whole_parameters,
)
from tests.support.strategies import assert_within, double, inner, sigma


@pytest.mark.statement("logistic-fit", "exact")
@settings(max_examples=20)
@given(datasets(), st.data())
def test_gradient_and_hessian_of_the_loss(data: Data, draw: st.DataObject) -> None:
    theta = draw.draw(whole_parameters(data))
    d = len(theta)
    e = [tuple(int(i == j) for j in range(d)) for i in range(d)]
    pi = [sigma(mp.mpf(x)) for x in data.eta(theta)]
    x = [(*row, 1) for row in data.x]
    for i, stated in enumerate(data.gradient(theta)):
        assert_within(mp.diff(data.loss, theta, e[i]), stated, mp.mpf(10) ** -25)
    for i, j in product(range(d), repeat=2):
        stated = inner([p * (1 - p) for p in pi], [r[i] * r[j] for r in x]) / len(x)
        order = tuple(a + b for a, b in zip(e[i], e[j], strict=True))
        assert_within(mp.diff(data.loss, theta, order), stated, mp.mpf(10) ** -20)


@pytest.mark.statement("logistic-fit", "exact")
@given(datasets(), st.data())
def test_the_loss_is_convex_and_flat_only_where_no_example_looks(
    data: Data, draw: st.DataObject
) -> None:
    a, b = (draw.draw(whole_parameters(data)) for _ in range(2))
    middle = [mp.mpf(x + y) / 2 for x, y in zip(a, b, strict=True)]
    gap = (data.loss(*a) + data.loss(*b)) / 2 - data.loss(*middle)
    unseen = data.eta([x - y for x, y in zip(a, b, strict=True)]) == [0] * len(data.y)
    if unseen:
        assert_within(gap, 0, EXACT)
    else:
        assert gap > mp.mpf(10) ** -12
    if data.spans():
        assert unseen == (a == b)


def matched(x: Sequence[Vector], theta: Vector, swap: int = 0) -> Data:
    """Labels whose share at each x is exactly the probability at theta log 2.

    A swap moves ones between the first four x, where these are 0, 1, 2, 3.
    """
    rows: list[Vector] = []
    labels: list[int] = []
    for i, row in enumerate(x):
        odds = Fraction(2) ** inner(theta, (*row, 1))
        ones = odds.numerator + (swap * (1, -1, -1, 1)[i] if swap else 0)
        copies = odds.numerator + odds.denominator
        assert 0 <= ones <= copies
        rows += [row] * copies
        labels += [1] * ones + [0] * (copies - ones)
    return Data(tuple(rows), tuple(labels))


MATCHED = [
    pytest.param([(0,), (1,)], (1, 0), 0, id="two points"),
    pytest.param([(0,), (1,), (2,), (3,)], (1, -1), 0, id="a line"),
    pytest.param([(0,), (1,), (2,), (3,)], (1, -1), 1, id="not the probability at any x"),
    pytest.param([(0,), (1,), (2,), (3,)], (-1, 2), -1, id="nor here"),
    pytest.param([(0, 0), (1, 0), (0, 1), (1, 1)], (1, -2, 1), 0, id="two features"),
    pytest.param([(2,)], (1, -1), 0, id="one point"),
    pytest.param([(0, 0), (1, 1), (2, 2)], (1, 0, -1), 0, id="the same feature twice"),
]


@pytest.mark.statement("logistic-fit", "exact")
@pytest.mark.parametrize(("x", "theta", "swap"), MATCHED)
def test_where_the_sums_agree_is_a_minimum_and_the_only_one_if_the_data_span(
    x: list[Vector], theta: Vector, swap: int
) -> None:
    data = matched(x, theta, swap)
    best = at(theta)
    assert_within(data.gradient(best), 0, EXACT)
    others = [s for s in product((-2, -1, 0, 1, 2), repeat=len(theta)) if any(s)]
    flat = 0
    for step in others:
        unseen = not any(data.eta(step))
        flat += unseen
        for size in (mp.mpf("1e-6"), mp.mpf(1)):
            there = [b + size * s for b, s in zip(best, step, strict=True)]
            rise = data.loss(*there) - data.loss(*best)
            assert abs(rise) < EXACT if unseen else rise > mp.mpf(10) ** -16
            assert all(abs(g) < EXACT for g in data.gradient(there)) == unseen
    assert (flat == 0) == data.spans()


def separating(data: Data) -> Vector | None:
    """An a that has no point on its wrong side and one on its right side, if there is any.

    Up to what changes nothing, such a are sums of some for which all points but one dimension of
    them lie on the hyperplane: of cross products of two (x, 1), or of (1, 0, -x_1), (0, 1, -x_2)
    where the points lie on a line, or of (0, 0, 1) where they are one. One of these is enough, and
    features up to 2 make them small.
    """
    d = len(data.x[0])
    near, far = range(-4, 5), range(-8, 9)
    box = np.array(list(product(*[near] * d, far)))
    side = box @ np.array([(*x, 1) for x in data.x]).T * (2 * np.array(data.y) - 1)
    found = box[(side >= 0).all(1) & (side > 0).any(1)]
    return tuple(map(int, found[0])) if len(found) else None


def minimum(data: Data) -> list[Any]:
    """Newton's method from 0, shortened where it goes uphill; it stays in the span of the data."""
    x = mp.matrix([(*row, 1) for row in data.x])
    theta = mp.zeros(x.cols, 1)
    for _ in range(40):
        weight = mp.diag([sigma(e) * sigma(-e) for e in data.eta(theta)]) / len(data.y)
        # What the data do not span has the gradient 0, and any positive curvature will do there.
        curve = x.T * weight * x + mp.eye(x.cols) * mp.mpf(10) ** -30
        step = mp.lu_solve(curve, mp.matrix(data.gradient(theta)))
        while mp.norm(step) > EXACT and data.loss(*(theta - step)) > data.loss(*theta):
            step /= 2
        theta -= step
    return list(theta)


@pytest.mark.statement("logistic-fit", "exact")
@settings(max_examples=60)
@given(datasets(), st.data())
@example(Data(((-1,), (0,), (0,), (1,)), (0, 0, 1, 1)), None)
@example(Data(((0,), (0,)), (0, 1)), None)
def test_there_is_a_minimum_if_and_only_if_nothing_separates_the_labels(
    data: Data, draw: Any
) -> None:
    a = separating(data)
    if a is None:
        assert_within(data.gradient(minimum(data)), 0, mp.mpf(10) ** -25)
        return
    # Downhill along a from anywhere, without end, so that nowhere do the sums agree.
    start = draw.draw(whole_parameters(data)) if draw else (1,) * len(a)
    with mp.workdps(400):  # log-odds of 700
        for far in range(0, 30, 3):
            there = [mp.mpf(x + far * s) for x, s in zip(start, a, strict=True)]
            assert inner(data.gradient(there), a) < 0


@pytest.mark.statement("logistic-fit", "sklearn", "torch", "statistical", false_alarm=3e-6)
def test_scikit_learn_agrees_in_the_sums_and_its_error_is_that_of_the_hessian() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 2, generator=generator, dtype=torch.float64)
    truth = double([1.0, -2.0, 0.5])
    design = torch.cat([x, torch.ones(2000, 1, dtype=torch.float64)], 1)
    y = Bernoulli.from_natural(design @ truth).sample(1, generator=generator)[0].double()
    tol = 1e-9
    peer = LogisticRegression(C=math.inf, solver="newton-cholesky", tol=tol)
    peer.fit(x.numpy(), y.numpy())
    pi = double(peer.predict_proba(x.numpy())[:, 1])
    # It stops where no mean residual is above tol; the rounding of 2000 terms is far less.
    assert_within(design.T @ pi, design.T @ y, 2 * 2000 * tol)
    theta = double([*peer.coef_[0], peer.intercept_[0]])

    def loss(theta: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(design @ theta, y)

    hessian = design.T @ ((pi * (1 - pi)).unsqueeze(-1) * design) / 2000
    # Means of 2000 terms of size 1 or less on average, in any order.
    assert_within(jacrev(jacrev(loss))(theta), hessian, 2 * 2000 * U)
    # Five standard errors: other seeds would fail with a probability of 3e-6.
    assert_within(theta, truth, 5 * (hessian.inverse().diagonal() / 2000).sqrt())


@pytest.mark.statement("logistic-fit", "exact")
@pytest.mark.parametrize(
    ("x", "y", "direction"),
    [
        pytest.param([(0,), (1,)], (1, 1), (0, 1), id="only ones"),
        pytest.param([(0,), (1,)], (0, 0), (0, -1), id="only zeros"),
        pytest.param([(-1,), (2,)], (0, 1), (1, 0), id="separable"),
        pytest.param([(1, 0), (0, 1), (3, 3)], (0, 0, 1), (1, 1, -3), id="by a line"),
        pytest.param([(-1,), (0,), (0,), (1,)], (0, 0, 1, 1), (1, 0), id="on the border"),
    ],
)
@pytest.mark.parametrize("start", [0, -3, 5])
def test_spanning_data_need_not_have_a_minimum(
    x: list[Vector], y: Vector, direction: Vector, start: int
) -> None:
    data = Data(tuple(x), y)
    assert data.spans()
    here = [mp.mpf(start)] * len(direction)
    for s in range(0, 60, 6):  # downhill for ever, and nowhere do all sums agree
        there = [h + s * d for h, d in zip(here, direction, strict=True)]
        assert inner(data.gradient(there), direction) < 0
