"""The theorem `race-order`: The order of the race."""

from __future__ import annotations

from fractions import Fraction

import pytest
import sympy as sp
import torch
from scipy.stats import chisquare

from tests.chapters.torch_multinomial.common import (
    FALSE_ALARM,
    chance,
    orders,
    seeded,
    single_and_double,
)


@pytest.mark.statement("race-order", "exact")
@pytest.mark.parametrize("weights", [(3,), (1, 1), (1, 4), (1, 2, 3), (2, 2, 2)])
def test_iterated_integrals_over_the_times_give_the_successive_draws(weights: list[int]) -> None:
    k = len(weights)
    s, t = sp.symbols("s t", positive=True)
    full = {}
    for order in orders(k, k):
        later: sp.Expr = sp.Integer(1)  # P(the rest ring in this order after s)
        for i in reversed(order):
            density = weights[i] * sp.exp(-weights[i] * t)
            later = sp.integrate(sp.expand(density * later.subs(s, t)), (t, s, sp.oo))
        full[order] = Fraction(str(later.subs(s, 0)))
    for n in range(1, k + 1):
        for start in orders(k, n):
            first = sum(p for order, p in full.items() if order[:n] == start)
            assert first == chance(start, weights)


@pytest.mark.statement("race-order", "symbolic")
@pytest.mark.parametrize("k", [2, 3])
def test_so_they_do_whatever_the_weights_are(k: int) -> None:
    # The clocks in the order of their names: any other order is this one with other names.
    w = sp.symbols("a b c", positive=True)[:k]
    s, t = sp.symbols("s t", positive=True)
    later: sp.Expr = sp.Integer(1)
    for x in reversed(w):
        density = x * sp.exp(-x * t)
        later = sp.integrate(sp.powsimp(sp.expand(density * later.subs(s, t))), (t, s, sp.oo))
    expected = sp.prod([x / sum(w[i:]) for i, x in enumerate(w)])
    assert sp.simplify(later.subs(s, 0) - expected) == 0


@pytest.mark.statement("race-order", "torch", "statistical", false_alarm=0.008)
@single_and_double
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_torch_returns_the_order_of_the_race(n: int, dtype: torch.dtype) -> None:
    weights = (1, 2, 3, 4)
    w = torch.tensor(weights, dtype=dtype).expand(5000, 4).contiguous()
    e = torch.empty_like(w).exponential_(generator=seeded(n))
    drawn = torch.multinomial(w, n, generator=seeded(n))
    assert torch.equal((e / w).argsort(-1)[:, :n], drawn)
    seen = [tuple(row) for row in drawn.tolist()]
    counts = [seen.count(order) for order in orders(4, n)]
    expected = [5000 * float(chance(order, weights)) for order in orders(4, n)]
    assert chisquare(counts, expected).pvalue > FALSE_ALARM
