"""The theorem `cuts-commute`: Which pairs commute."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations, combinations_with_replacement
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.sampling import TRUNCATIONS, apply_temperature, repetition_penalty
from tests.chapters.cuts.common import CUTS, ZERO, dials, exact, is_clear, kept
from tests.support.strategies import assert_within, unit

Row = list[Any]
NAMES = {
    "typical": "typical_p",
    "epsilon": "epsilon_cutoff",
    "eta": "eta_cutoff",
    "XTC": "xtc",
    **{name.replace("_", "-"): name for name in CUTS},
}
KINDS = (
    *("temperature", "top-k", "top-n-sigma", "top-p", "min-p", "typical", "epsilon", "eta"),
    *("top-a", "p-less", "top-h", "tail-free", "XTC", "repetition", "bias", "mask"),
)
COMMUTE = {
    *(("temperature", other) for other in ("top-k", "top-n-sigma", "repetition", "mask")),
    *(("top-k", "min-p"), ("repetition", "mask"), ("bias", "mask")),
}
WITH_THEMSELVES = {"temperature", "top-k", "min-p", "repetition", "bias", "mask"}
# Of one setting, trivially.
P_LESS = ("p-less", "p-less")
EXAMPLES = json.loads(Path(__file__).with_name("counterexamples.json").read_text("utf-8"))


def law(z: Row) -> Row:
    weights = [mp.exp(x - max(z)) for x in z]
    return [w / mp.fsum(weights) for w in weights]


def apply(kind: str, z: Row, dial: Any) -> Row:
    """A map of exact logits; penalty and bias are of the first token, a mask of that number."""
    if kind == "temperature":
        return [x / exact(dial) for x in z]
    if kind == "repetition":
        return [z[0] / exact(dial) if z[0] > 0 else z[0] * exact(dial), *z[1:]]
    if kind == "bias":
        return [z[0] + exact(dial), *z[1:]]
    if kind == "mask":
        return [mp.ninf if i == dial else x for i, x in enumerate(z)]
    p = [x if x > ZERO else mp.mpf(0) for x in law(z)]
    inside = kept(NAMES[kind], p, dial)
    return [x if i in inside else mp.ninf for i, x in enumerate(z)]


def apart(first: Row, second: Row) -> Any:
    return mp.fsum(abs(x - y) for x, y in zip(law(first), law(second), strict=True)) / 2


def in_torch(kind: str, z: Tensor, dial: Any) -> Tensor:
    first = torch.eye(len(z), dtype=z.dtype)[0]
    own: dict[str, Callable[[], Tensor]] = {
        "temperature": lambda: apply_temperature(z, float(dial)),
        "repetition": lambda: repetition_penalty(z, torch.tensor([0]), float(dial)),
        "bias": lambda: z + float(dial) * first,
        "mask": lambda: z.index_fill(-1, torch.tensor(int(dial)), -torch.inf),
    }
    if kind in own:
        return own[kind]()
    cut = TRUNCATIONS[NAMES[kind]].function
    return cut(z, dial if kind == "top-k" else float(dial))


def settings(kind: str, size: int) -> st.SearchStrategy[Any]:
    quarters = st.integers(1, 16).map(lambda n: Fraction(n, 4))
    if kind in ("temperature", "repetition"):
        return quarters
    if kind == "bias":
        return quarters.map(lambda x: x - 2)
    return st.integers(0, size - 1) if kind == "mask" else dials(NAMES[kind], size)


@pytest.mark.statement("cuts-commute", "exact")
@pytest.mark.parametrize(
    ("one", "other"), [*sorted(COMMUTE), *((kind, kind) for kind in sorted(WITH_THEMSELVES))]
)
@given(st.lists(st.integers(-6, 6), min_size=2, max_size=6), st.data())
def test_these_pairs_lead_to_one_law_in_either_order(
    one: str, other: str, thirds: list[int], data: st.DataObject
) -> None:
    z = [mp.mpf(n) / 3 for n in thirds]
    a, b = data.draw(settings(one, len(z))), data.draw(settings(other, len(z)))
    assume(len({d for kind, d in ((one, a), (other, b)) if kind == "mask"}) < len(z))
    orders = apply(other, apply(one, z, a), b), apply(one, apply(other, z, b), a)
    assert apart(*orders) < ZERO
    assert [mp.isfinite(x) for x in orders[0]] == [mp.isfinite(x) for x in orders[1]]


def test_every_other_pair_has_an_example_and_no_pair_that_commutes() -> None:
    pairs = {(one, other) for one, _, other, *_ in EXAMPLES}
    assert len(pairs) == len(EXAMPLES)
    different = {pair for pair in combinations(KINDS, 2) if pair not in COMMUTE}
    assert len(different) == 120 - 7
    alike = {(k, k) for k in KINDS if k not in WITH_THEMSELVES and (k, k) != P_LESS}
    assert pairs == different | alike
    assert pairs | COMMUTE | {(k, k) for k in WITH_THEMSELVES} | {P_LESS} == set(
        combinations_with_replacement(KINDS, 2)
    )


@pytest.mark.statement("cuts-commute", "exact")
@pytest.mark.parametrize(
    ("one", "a", "other", "b", "weights"),
    EXAMPLES,
    ids=[f"{example[0]}, {example[2]}" for example in EXAMPLES],
)
def test_of_every_other_pair_a_row_tells_the_orders_apart(
    one: str, a: float, other: str, b: float, weights: list[int]
) -> None:
    assert len(weights) <= 4
    assert all(0 < w < 13 for w in weights)
    z = [mp.log(w) for w in weights]
    first, second = ((kind, Fraction(str(d))) for kind, d in ((one, a), (other, b)))
    assert not any(d.denominator == 1 and kind == "top-p" for kind, d in (first, second))
    orders, rounded = [], []
    for order in ((first, second), (second, first)):
        exactly, row = z, torch.tensor([float(x) for x in z], dtype=torch.float64)
        for kind, dial in order:
            value = int(dial) if kind in ("top-k", "mask") else dial
            if kind in NAMES:
                p = [x if x > ZERO else mp.mpf(0) for x in law(exactly)]
                assert is_clear(NAMES[kind], p, value)
            exactly, row = apply(kind, exactly, value), in_torch(kind, row, value)
        orders.append(exactly)
        rounded.append(row.softmax(-1))
        # Logits below 8 in size, rounded some ten times, and a softmax of four.
        assert_within(rounded[-1], law(exactly), 200 * unit(torch.float64))
    assert apart(*orders) > mp.mpf(1) / 50
