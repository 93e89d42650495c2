"""Top-h and tail-free: kept sets against 50 digits, and at the edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.sampling import tail_free, top_h
from tests.package.sampling.common import (
    DYADIC,
    INF,
    KINDS,
    TWO_BITS,
    Truncation,
    dtypes,
    kept,
    logits_of,
    tokens,
)
from tests.support.strategies import SINGLE_DOUBLE, arithmetic, exact_softmax, unit, whole_rows

SHARES = (0.05, 0.4, 0.75, 0.9, 0.99, 1 - 2.0**-20)
RULES: dict[str, Truncation] = {"top_h": top_h, "tail_free": tail_free}
every_rule = pytest.mark.parametrize("name", RULES)


def ranking(z: Tensor) -> list[int]:
    """Most probable first, of equals the highest index."""
    row = z.double().tolist()
    return sorted(range(len(row)), key=lambda i: (row[i], i), reverse=True)


def margins(name: str, z: Tensor, share: float) -> list[Any]:
    """How far below its border each place of the ranking lies, in units of the whole.

    The first is kept whatever it is, and the last of tail-free with the one before it never.
    """
    probs = exact_softmax(z)
    p = [probs[i] for i in ranking(z)]
    if name == "tail_free":
        turns = [abs(a - 2 * b + c) for a, b, c in zip(p, p[1:], p[2:], strict=False)]
        whole = mp.fsum(turns)
        if whole == 0:
            return [mp.mpf(1)] * len(p)
        sums = [mp.fsum(turns[: r + 1]) for r in range(len(turns))]
        return [mp.mpf(1), *(share - s / whole for s in sums), mp.mpf(-1)][: len(p)]
    entropies, mass, weighted = [], mp.mpf(0), mp.mpf(0)
    for q in p:
        mass += q
        weighted -= q * mp.log(q) if q else 0
        entropies.append(weighted / mass + mp.log(mass))
    whole = entropies[-1]
    return [mp.mpf(1), *(share - h / whole if whole else mp.mpf(0) for h in entropies[1:])]


def slack(name: str, z: Tensor) -> float:
    """How far a sum and the whole may be off: K additions of terms of 3 u gap and some units.

    The turns are differences of probabilities, in units of their sum.
    """
    u = unit(arithmetic(z.dtype))
    finite = z[z > -INF].double()
    terms = u * (6 * float(finite.max() - finite.min()) + 4 * len(z) + 64)
    if name == "top_h":
        return terms
    p = finite.softmax(-1).sort().values
    turns = float(p.diff().diff().abs().sum()) if len(p) > 2 else 0.0
    return terms * max(1.0, 4 / turns) if turns else 0.0


def assert_kept_as_defined(name: str, z: Tensor, share: float) -> None:
    found = kept(RULES[name](z, share)).tolist()
    off = slack(name, z)
    order = ranking(z)
    assert found[order[0]]
    for place, (token, margin) in enumerate(zip(order, margins(name, z, share), strict=True)):
        if z[token] > -INF and abs(margin) > off and place:
            assert found[token] == (margin > 0), (z.tolist(), share, token)
    # A prefix of the ranking, whatever rounding says.
    assert [found[i] for i in order] == sorted(found, reverse=True)


@every_rule
@dtypes
@pytest.mark.parametrize("kind", KINDS)
def test_kept_sets_of_random_rows(name: str, kind: str, dtype: torch.dtype) -> None:
    for row in logits_of(kind, 6, 30, dtype):
        for share in SHARES:
            assert_kept_as_defined(name, row, share)


@every_rule
@given(z=whole_rows(max_size=8, bound=4), share=st.floats(0.01, 0.99))
def test_kept_sets_of_whole_numbers(name: str, z: Tensor, share: float) -> None:
    assert_kept_as_defined(name, z, share)


@every_rule
def test_what_rounding_may_decide_is_little(name: str) -> None:
    """Else the tests above would look at nothing."""
    for kind in ("1", "10"):
        assert max(slack(name, row) for row in logits_of(kind, 20, 30)) < 1e-3


@pytest.mark.parametrize(
    ("truncation", "probs", "share", "expected"),
    [
        # Entropies of the first r of DYADIC: 0, .637, .956 and 1.213 nats.
        pytest.param(top_h, DYADIC, 0.52, [0], id="h: not the second"),
        pytest.param(top_h, DYADIC, 0.53, [0, 1], id="h: the second"),
        pytest.param(top_h, DYADIC, 0.78, [0, 1], id="h: not the third"),
        pytest.param(top_h, DYADIC, 0.79, [0, 1, 3], id="h: of two equals the higher index"),
        pytest.param(top_h, TWO_BITS, 0.51, [2, 3], id="h: log 2 is half of log 4"),
        pytest.param(top_h, TWO_BITS, 0.49, [3], id="h: and more than less"),
        pytest.param(top_h, [0.5, 0.0, 0.5], 0.9, [2], id="h: two equals and one ruled out"),
        pytest.param(top_h, [1.0], 0.5, [0], id="h: one token"),
        pytest.param(top_h, [0.0, 1.0, 0.0], 0.5, [1], id="h: certain"),
        # The turns at the second and third of DYADIC: .125, .125.
        pytest.param(tail_free, DYADIC, 0.49, [0], id="turns: half is too much"),
        pytest.param(tail_free, DYADIC, 0.51, [0, 1], id="turns: half and more"),
        pytest.param(tail_free, DYADIC, 0.99, [0, 1], id="turns: the last two are the tail"),
        pytest.param(tail_free, TWO_BITS, 0.1, [0, 1, 2, 3], id="turns: none"),
        pytest.param(tail_free, [0.75, 0.25], 0.1, [0, 1], id="turns: none of two tokens"),
        pytest.param(tail_free, [1.0], 0.1, [0], id="turns: none of one"),
        pytest.param(tail_free, [0.5, 0.25, 0.25, 0.0], 0.51, [0, 2], id="turns: at a zero too"),
        pytest.param(tail_free, [0.25, 0.5, 0.25], 0.99, [1], id="turns: one, and the tail"),
    ],
)
def test_borders_by_hand(
    truncation: Truncation, probs: list[float], share: float, expected: list[int]
) -> None:
    for dtype in SINGLE_DOUBLE:
        assert tokens(truncation(torch.tensor(probs, dtype=dtype).log(), share)) == expected
        everything = [i for i, p in enumerate(probs) if p]
        assert tokens(truncation(torch.tensor(probs, dtype=dtype).log(), 1)) == everything


def test_a_border_that_is_reached_exactly_is_kept() -> None:
    """Where exp undoes log, as of equal logits: 1/2, 1/2 and nothing turn by 1/2 and 1/2."""
    for dtype in SINGLE_DOUBLE:
        z = torch.tensor([0.0, 0.0, -INF, -INF], dtype=dtype)
        assert tokens(tail_free(z, 0.5)) == [0, 1]
        assert tokens(tail_free(z, 0.4999)) == [1]


@every_rule
@dtypes
def test_huge_and_tiny_logits(name: str, dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    for row, expected in (
        ([limits.max, -limits.max, -INF], [0]),
        ([0.0, -limits.max, -limits.max], [0]),
        ([-limits.max, -INF], [0]),
        ([-3.0], [0]),
    ):
        z = torch.tensor(row, dtype=dtype)
        for share in SHARES:
            if name == "tail_free" and row[1:] == [-INF]:
                continue  # two tokens have no turn, a ruled out one among them or not
            assert tokens(RULES[name](z, share)) == expected


@dtypes
def test_top_h_of_a_row_that_is_nearly_sure(dtype: torch.dtype) -> None:
    """The entropy is far below what rounding leaves of 1: 2 e^-60 61 with h, e^-60 61 with one."""
    z = torch.tensor([0.0, -60.0, -60.0, -INF], dtype=dtype)
    assert tokens(top_h(z, 0.49)) == [0]
    assert tokens(top_h(z, 0.51)) == [0, 2]
    assert tokens(top_h(z + 1000, 0.99)) == [0, 2]


def test_what_is_ruled_out_is_not_counted_by_top_h() -> None:
    z = logits_of("1", 20, 30, torch.float64)
    wide = torch.cat([torch.full((20, 70), -INF), z], dim=-1)
    for share in SHARES:
        assert torch.equal(kept(top_h(wide, share))[:, 70:], kept(top_h(z, share)))
