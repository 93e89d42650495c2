"""Epsilon, eta, top-a and p-less: kept sets against 50 digits, and at the edges."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.sampling import epsilon_cutoff, eta_cutoff, p_less, sample, top_a
from tests.package.sampling.common import (
    DYADIC,
    INF,
    KINDS,
    NAN,
    TWO_BITS,
    Truncation,
    dtypes,
    kept,
    logits_of,
    tokens,
)
from tests.support.strategies import (
    SINGLE_DOUBLE,
    arithmetic,
    exact_log_softmax,
    log_softmax_bound,
    unit,
    whole_rows,
)

ORDERS = (0.1, 0.5, 0.999, 1 - 2.0**-20, 1.0, 1 + 2.0**-20, 1.001, 1.5, 1.75, 2.0, 30.0, INF)


def entropy(logs: list[Any], order: float = 1.0) -> Any:
    """Rényi's, of a row of logarithms of probabilities; of order 1 Shannon's."""
    if order == INF:
        return -max(logs)
    if order == 1:
        return -mp.fsum(mp.exp(x) * x for x in logs)
    return mp.log(mp.fsum(mp.exp(order * x) for x in logs)) / (1 - mp.mpf(order))


def log_cutoff(name: str, logs: list[Any], dial: float) -> Any:
    dial = mp.mpf(dial)
    return {
        "epsilon_cutoff": lambda: mp.log(dial),
        "eta_cutoff": lambda: min(mp.log(dial), mp.log(dial) / 2 - entropy(logs)),
        "top_a": lambda: mp.log(dial) + 2 * max(logs),
        "p_less": lambda: -entropy(logs, float(dial)),
    }[name]()


def slack(z: Tensor) -> float:
    """How far a logarithm of a probability and one of a cutoff may be off together.

    Each is a few logarithms, or a mean of them, and the cutoffs add up K numbers.
    """
    finite = z[z > -INF].to(arithmetic(z.dtype))
    most = float(log_softmax_bound(finite).max())
    return 8 * most + 4 * len(z) * unit(arithmetic(z.dtype))


RULES: dict[str, tuple[Truncation, tuple[float, ...]]] = {
    "epsilon_cutoff": (epsilon_cutoff, (1e-6, 1e-3, 0.02, 0.3, 1.0)),
    "eta_cutoff": (eta_cutoff, (1e-6, 1e-3, 0.02, 0.3, 1.0)),
    "top_a": (top_a, (1e-6, 1e-3, 0.02, 0.3, 1.0)),
    "p_less": (p_less, ORDERS),
}
every_rule = pytest.mark.parametrize("name", RULES)


def assert_kept_as_defined(name: str, z: Tensor, dial: float) -> None:
    found = kept(RULES[name][0](z, dial)).tolist()
    finite = [x for x in exact_log_softmax(z) if x > -INF]
    border = log_cutoff(name, finite, dial)
    off = slack(z)
    for token, x in enumerate(exact_log_softmax(z)):
        if x == max(finite):
            assert found[token]
        elif abs(x - border) > off:
            assert found[token] == (x >= border), (z.tolist(), dial, token)


@every_rule
@dtypes
@pytest.mark.parametrize("kind", KINDS)
def test_kept_sets_of_random_rows(name: str, kind: str, dtype: torch.dtype) -> None:
    for row in logits_of(kind, 4, 30, dtype):
        for dial in RULES[name][1]:
            assert_kept_as_defined(name, row, dial)


@every_rule
@given(z=whole_rows(max_size=8, bound=4), data=st.data())
def test_kept_sets_of_whole_numbers(name: str, z: Tensor, data: st.DataObject) -> None:
    assert_kept_as_defined(name, z, data.draw(st.sampled_from(RULES[name][1])))


def test_what_rounding_may_decide_is_little() -> None:
    """Else the tests above would look at nothing."""
    for kind in ("1", "10"):
        z = logits_of(kind, 20, 30, torch.float16)
        assert max(slack(row) for row in z) < 4e-4


@pytest.mark.parametrize(
    ("truncation", "probs", "dial", "expected"),
    [
        pytest.param(epsilon_cutoff, DYADIC, 0.25, [0, 1], id="epsilon reached"),
        pytest.param(epsilon_cutoff, DYADIC, 0.125, [0, 1, 2, 3], id="by two equals"),
        pytest.param(epsilon_cutoff, DYADIC, 0.126, [0, 1], id="missed by two equals"),
        pytest.param(epsilon_cutoff, DYADIC, 1, [0], id="the best, far below"),
        pytest.param(epsilon_cutoff, TWO_BITS, 1, [0, 1, 2, 3], id="all of the best"),
        pytest.param(epsilon_cutoff, [1.0], 1, [0], id="one token"),
        # Entropy 1.75 bits: 2^-1.75 sqrt(eps) against eps.
        pytest.param(eta_cutoff, DYADIC, 0.125, [0, 1, 2, 3], id="eta: .105 is below .125"),
        pytest.param(eta_cutoff, DYADIC, 0.2, [0, 1], id="eta: .133"),
        pytest.param(eta_cutoff, DYADIC, 0.75, [0], id="eta: .257"),
        pytest.param(eta_cutoff, [0.5, 0.5], 0.25, [0, 1], id="eta: two equals, .25"),
        pytest.param(eta_cutoff, TWO_BITS, 1, [0, 1, 2, 3], id="eta: four equals"),
        pytest.param(eta_cutoff, [1.0, 0.0], 1, [0], id="eta: certain"),
        pytest.param(top_a, DYADIC, 1, [0, 1], id="the square of .5 reached"),
        pytest.param(top_a, DYADIC, 0.5, [0, 1, 2, 3], id="half of it reached by two equals"),
        pytest.param(top_a, DYADIC, 0.51, [0, 1], id="missed"),
        pytest.param(top_a, TWO_BITS, 1, [0, 1, 2, 3], id="a = 1 of four equals"),
        pytest.param(top_a, [1.0], 1, [0], id="a = 1 of one token"),
        pytest.param(p_less, DYADIC, 2, [0], id="sum of squares .344"),
        pytest.param(p_less, TWO_BITS, 2, [0, 1, 2, 3], id="equals"),
        pytest.param(p_less, TWO_BITS, INF, [0, 1, 2, 3], id="equals of infinite order"),
        pytest.param(p_less, [0.5, 0.0, 0.5], 0.01, [0, 2], id="a token ruled out stays out"),
        pytest.param(p_less, DYADIC, 1, [0], id="order 1: 2^-1.75 = .297"),
        pytest.param(p_less, [4 / 9, 4 / 9, 1 / 9], 0.5, [0, 1], id="order 1/2: 9/25"),
        pytest.param(p_less, [1.0], 1, [0], id="p-less of one token"),
    ],
)
def test_borders_by_hand(
    truncation: Truncation, probs: list[float], dial: float, expected: list[int]
) -> None:
    for dtype in SINGLE_DOUBLE:
        assert tokens(truncation(torch.tensor(probs, dtype=dtype).log(), dial)) == expected


@every_rule
@dtypes
def test_huge_and_tiny_logits(name: str, dtype: torch.dtype) -> None:
    function, dials = RULES[name]
    limits = torch.finfo(dtype)
    for row, expected in (
        ([limits.max, -limits.max, -INF], [0]),
        ([-limits.max, -INF, -limits.max], [0, 2]),
        ([limits.tiny, limits.tiny, -INF], [0, 1]),
        ([-3.0], [0]),
    ):
        z = torch.tensor(row, dtype=dtype)
        for dial in dials:
            assert tokens(function(z, dial)) == expected


@every_rule
def test_what_is_ruled_out_is_not_counted(name: str) -> None:
    function, dials = RULES[name]
    z = logits_of("1", 20, 30, torch.float64)
    wide = torch.cat([z, torch.full((20, 70), -INF)], dim=-1)
    for dial in dials:
        assert torch.equal(kept(function(wide, dial))[:, :30], kept(function(z, dial)))


def test_the_larger_the_order_the_fewer_are_kept() -> None:
    z = logits_of("1", 200, 40, torch.float64)
    inside = [kept(p_less(z, order)) for order in ORDERS]
    for more, fewer in pairwise(inside):
        assert bool((fewer <= more).all())
    sizes = [int(x.sum()) for x in inside]
    assert sizes[0] > sizes[4] > sizes[9] > sizes[-1] == 200
    assert torch.equal(kept(p_less(z)), inside[9])
    # Orders that float32 cannot tell from 1 keep what 1 keeps.
    narrow = z.float()
    for order in (1 - 1e-12, 1 + 1e-12):
        assert torch.equal(p_less(narrow, order), p_less(narrow, 1.0))


def test_orders_near_the_limits_of_float32() -> None:
    # An order beyond its digits is as large as any, and one below is 0: those above 1/n are kept.
    flat = torch.zeros(1000)
    flat[0] = 0.5
    for order in (1e37, 1e38, 3e38, 1e39, INF):
        assert kept(p_less(flat, order)).sum() == 1
    for order in (1e-3, 1e-9, 1e-45, 1e-300):
        assert tokens(p_less(torch.tensor([1.0, 0.9, 0.8, -5.0, -INF]), order)) == [0, 1, 2]


REACH: Callable[[Any], str] = (
    "p_less must lie in (0, inf], got {}; inf keeps the most probable tokens alone".format
)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        *((order, ValueError, REACH(order)) for order in (0, -1.0, NAN)),
        ("2", TypeError, "p_less must be a number such as 1.0, got '2'"),
        (True, TypeError, "p_less must be a number such as 1.0, got True"),
    ],
)
def test_orders_of_no_entropy_are_shown(bad: Any, error: type[Exception], message: str) -> None:
    z = torch.tensor([1.0, 0.0])
    for call in (p_less, lambda z, order: sample(z, p_less=order)):
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            call(z, bad)
        call(z, INF)
