"""The proposition `loss-convex`: The loss is convex."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from mpmath import mp
from torch import Tensor
from torch.nn.functional import cross_entropy

from omnivault.softmax import softmax_jacobian
from tests.chapters.derivatives.common import (
    TEMPERATURE,
    U,
    Vector,
    affine,
    as_matrix,
    jacobian_formula,
    layers,
    loss_of,
    numbers,
    softmax_of,
    symbolic_softmax,
    symbols,
    vanishes,
)
from tests.support.strategies import (
    as_double,
    assert_within,
    row_pairs,
    rows,
    whole_row_pairs,
    whole_rows,
)


@st.composite
def targets_of(draw: DrawFn, size: int) -> Vector:
    """Any distribution: corners, faces and the center included."""
    weights = draw(st.lists(st.integers(0, 5), min_size=size, max_size=size).filter(any))
    return [mp.mpf(w) / sum(weights) for w in weights]


# The weights are written as w and 1 - w, both exact.
shares = st.integers(1, 15).map(lambda n: (mp.mpf(n) / 16, mp.mpf(16 - n) / 16))


# Chords of losses up to 100 lie on the curve to this at 50 digits.
ON_THE_CURVE = mp.mpf("1e-45")


def between(a: Vector, b: Vector, share: tuple[Any, Any]) -> Vector:
    return [share[0] * s + share[1] * t for s, t in zip(a, b, strict=True)]


@pytest.mark.statement("loss-convex", "exact")
@given(st.data(), shares)
def test_chords_lie_strictly_above_unless_their_direction_is_constant(
    data: st.DataObject, share: tuple[Any, Any]
) -> None:
    pair = data.draw(row_pairs(1, 6, bound=15.0) | whole_row_pairs(1, 6, bound=2))
    # Multiples of 2^-20: what differs, differs by enough for 50 digits.
    u, v = (numbers((row * 2**20).round() / 2**20) for row in pair)
    y = data.draw(targets_of(len(u)))
    chord = share[0] * loss_of(u, y) + share[1] * loss_of(v, y)
    height = chord - loss_of(between(u, v, share), y)
    if len({a - b for a, b in zip(u, v, strict=True)}) == 1:
        assert_within(height, 0, ON_THE_CURVE)
        # Along a constant the loss is not only straight but flat.
        assert_within(loss_of(u, y), loss_of(v, y), ON_THE_CURVE)
    else:
        # Variance times w (1 - w) / 2: at least (2^-20)^2 exp(-30) / 6 of it.
        assert height > mp.mpf("1e-32")


@pytest.mark.statement("loss-convex", "exact", "torch")
@given(st.data())
def test_its_hessian_is_the_jacobian_whatever_the_targets(data: st.DataObject) -> None:
    z = data.draw(rows(1, 5, bound=10.0))
    y = as_double(data.draw(targets_of(len(z))))

    def loss(x: Tensor) -> Tensor:
        return cross_entropy(x, y)

    hessian = torch.func.jacrev(torch.func.grad(loss))(z)
    # p up to 1, off by 6 gaps of 20 and a few roundings.
    assert_within(hessian, softmax_jacobian(z), (6 * 20 + 64) * U)
    p = softmax_of(numbers(z), 1)
    assert_within(hessian, as_matrix(jacobian_formula(p)), (6 * 20 + 64) * U)


@pytest.mark.statement("loss-convex", "symbolic")
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_its_hessian_in_symbols(k: int) -> None:
    z, y = symbols(k), list(sympy.symbols(f"y:{k}", real=True))
    p = [q.subs(TEMPERATURE, 1) for q in symbolic_softmax(z)]
    loss = -sum(b * sympy.log(q) for q, b in zip(p, y, strict=True))
    whole = {y[-1]: 1 - sum(y[:-1])}
    formula = jacobian_formula(p)
    for i, j in itertools.product(range(k), repeat=2):
        assert vanishes((sympy.diff(loss, z[i], z[j])).subs(whole) - formula[i][j])


@pytest.mark.statement("loss-convex", "exact")
@settings(max_examples=40)
@given(st.data(), shares)
def test_convex_in_weights_and_bias_and_so_is_the_mean_over_a_dataset(
    data: st.DataObject, share: tuple[Any, Any]
) -> None:
    w, b, x, y = data.draw(layers())
    k, d = len(b), len(x)
    number = st.integers(-3, 3).map(mp.mpf)

    def vector(size: int) -> Vector:
        return data.draw(st.lists(number, min_size=size, max_size=size))

    other_w, other_b = [vector(d) for _ in range(k)], vector(k)
    middle = [between(r, s, share) for r, s in zip(w, other_w, strict=True)]
    middle_b = between(b, other_b, share)
    dataset = [(x, y), *((vector(d), data.draw(targets_of(k))) for _ in range(2))]
    heights = []
    for features, target in dataset:
        ends = (
            loss_of(affine(w, features, b), target),
            loss_of(affine(other_w, features, other_b), target),
        )
        center = loss_of(affine(middle, features, middle_b), target)
        heights.append(share[0] * ends[0] + share[1] * ends[1] - center)
        assert heights[-1] >= -ON_THE_CURVE
    assert mp.fsum(heights) / len(heights) >= -ON_THE_CURVE


@pytest.mark.statement("loss-convex", "exact")
def test_in_weights_and_bias_it_is_not_strictly_convex() -> None:
    # The bias takes back what the weights add: the logits do not move.
    x, y = [mp.mpf(2)], [mp.mpf(1), mp.mpf(0)]
    losses = [
        loss_of(affine([[mp.mpf(1 + s)], [mp.mpf(0)]], x, [mp.mpf(-2 * s), mp.mpf(0)]), y)
        for s in (0, 1, 2)
    ]
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.statement("loss-convex", "exact")
def test_targets_that_are_no_distribution_can_make_it_concave() -> None:
    # The Hessian is (sum of y) J.
    y = [mp.mpf(-1), mp.mpf(0)]
    ends = [loss_of([mp.mpf(x), mp.mpf(0)], y) for x in (-2, 2)]
    assert loss_of([mp.mpf(0), mp.mpf(0)], y) > sum(ends) / 2 + mp.mpf("0.1")


@pytest.mark.statement("loss-convex", "torch")
@given(
    whole_row_pairs(2, 6, bound=10) | whole_rows(2, 6).map(lambda z: (z, z + 3)),
    st.data(),
)
def test_torch_finds_chords_above_the_curve(
    pair: tuple[Tensor, Tensor], data: st.DataObject
) -> None:
    u, v = pair
    label = torch.tensor(data.draw(st.integers(0, len(u) - 1)))
    ends = (cross_entropy(u, label) + cross_entropy(v, label)).item() / 2
    height = ends - cross_entropy((u + v) / 2, label).item()
    constant = bool(((u - v) == (u - v)[0]).all())
    # At least the Hessian's exp(-20) / 6 over 8; losses up to 22 are rounded to 4e-15.
    assert (height > 1e-11) == (not constant)
    if constant:
        assert_within(height, 0.0, 64 * 22 * U)
