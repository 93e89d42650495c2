from __future__ import annotations

import random
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from omnivault.live.figure import LiveFigure
from omnivault.live.overflow import overflow
from tests.support.live import State, ask, assert_near

DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
REACH = {"float16": 24, "bfloat16": 120, "float32": 120, "float64": 800}
SIZES = (2, 10, 1000, 50_000)
CELLS = 80


def outcomes(e1: Tensor, e2: Tensor, total: Tensor, p1: Tensor, p2: Tensor) -> np.ndarray:
    edge = (p1 == 0) | (p1 == 1) | (p2 == 0) | (p2 == 1)
    named = np.where(edge.numpy(), "z", "r")
    named[(e1.isinf() | e2.isinf() | total.isinf()).numpy()] = "o"
    named[(total == 0).numpy()] = "n"
    return named


def rounded(z1: Tensor, z2: Tensor, k: int, shift: bool, dtype: torch.dtype) -> list[Tensor]:
    """Each operation in float64, its result rounded to the dtype."""

    def to(x: Tensor) -> Tensor:
        return x.to(dtype).double()

    a, b = to(z1), to(z2)
    if shift:
        top = torch.maximum(a, b)
        a, b = to(a - top), to(b - top)
    e1, e2 = to(a.exp()), to(b.exp())
    total = to(e1 + to((k - 1) * e2))
    return [a, b, e1, e2, total, to(e1 / total), to(e2 / total)]


def computed(z1: Tensor, z2: Tensor, k: int, shift: bool, dtype: torch.dtype) -> list[Tensor]:
    """The same by PyTorch's own operations in the dtype."""
    a, b = z1.to(dtype), z2.to(dtype)
    if shift:
        top = torch.maximum(a, b)
        a, b = a - top, b - top
    e1, e2 = a.exp(), b.exp()
    total = e1 + (k - 1) * e2
    return [e1, e2, total, e1 / total, e2 / total]


def tensor(*x: float) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


def number(x: float | str) -> float:
    return float(x)  # "inf" and "nan" among them


@cache
def figure() -> LiveFigure:
    return overflow()


def states() -> list[State]:
    rng = random.Random(3)
    logits = {c["name"]: c.get("values") for c in figure().controls}["z1"]
    assert logits is not None
    drawn = []
    for i in range(320):
        name = list(DTYPES)[i % 4]
        # half of them where the map is, the others anywhere
        near = [z for z in logits if abs(z) <= REACH[name]] if i % 8 < 4 else logits
        state = {"format": name, "k": rng.choice(SIZES), "shift": rng.random() < 0.4}
        drawn.append(state | {"z1": rng.choice(near), "z2": rng.choice(near)})
    edges = [
        {"format": name, "k": k, "shift": shift, "z1": z1, "z2": z2}
        for name, k, shift in product(DTYPES, (2, 50_000), (False, True))
        for z1, z2 in [
            (0, 0),
            (800, 800),
            (-800, -800),
            (800, -800),
            (-800, 800),
            (11, 11),
            (-17, -18),
        ]
    ]
    # logits that no slider offers, which the format rounds
    odd = [
        {"format": name, "k": 10, "shift": shift, "z1": rng.gauss(0, s), "z2": rng.gauss(0, s)}
        for name, shift, s in product(DTYPES, (False, True), (0.3, 3, 10, 30, 100))
    ]
    return edges + odd + drawn


@pytest.fixture(scope="module")
def shown() -> list[tuple[State, dict[str, Any]]]:
    asked = states()
    return [(s, v) for s, v in zip(asked, figure().values(*asked), strict=True)]


@pytest.fixture(scope="module")
def maps() -> dict[tuple[str, int, bool], np.ndarray]:
    keys = list(product(DTYPES, SIZES, (False, True)))
    asked = [{"format": f, "k": k, "shift": s} for f, k, s in keys]
    return {
        key: np.array([list(row) for row in v["map"]])
        for key, v in zip(keys, figure().values(*asked), strict=True)
    }


def axes(reach: float, side: int = CELLS) -> tuple[Tensor, Tensor]:
    """The centres of the cells; z_2 falls from row to row, z_1 rises from column to column."""
    centres = torch.arange(1 - side, side, 2, dtype=torch.float64) * reach / side
    z2, z1 = torch.meshgrid(centres.flip(0), centres, indexing="ij")
    return z1, z2


def test_steps_are_those_of_torch(shown: list[tuple[State, dict[str, Any]]]) -> None:
    """Every bit; but the last few in float64, where exp itself may differ."""
    for state, values in shown:
        dtype = DTYPES[state["format"]]
        expected = rounded(
            tensor(state["z1"]), tensor(state["z2"]), state["k"], state["shift"], dtype
        )
        shown_ = [*values["inputs"], *values["exps"], values["sum"], *values["probs"]]
        actual = tensor(*map(number, shown_))
        torch.testing.assert_close(
            actual, torch.cat(expected), atol=0, equal_nan=True,
            rtol=32 * 2.0**-53 if dtype is torch.float64 else 0,  # exp to 8 u, in e and the sum
        )  # fmt: skip
        assert values["outcome"] == outcomes(*expected[2:]).item()


def test_float16_is_rounded_once(shown: list[tuple[State, dict[str, Any]]]) -> None:
    """NumPy rounds float64 to float16 directly, PyTorch by way of float32; here they agree."""
    inputs = [x for s, v in shown if s["format"] == "float16" for x in v["inputs"]]
    with np.errstate(over="ignore"):
        direct = np.exp(np.array(inputs, dtype=np.float64)).astype(np.float16).astype(np.float64)
    actual = [number(x) for s, v in shown if s["format"] == "float16" for x in v["exps"]]
    assert actual == direct.tolist()


def test_exact_probabilities(shown: list[tuple[State, dict[str, Any]]]) -> None:
    for state, values in shown:
        k = state["k"]
        z = torch.full((k,), float(state["z2"]), dtype=torch.float64)
        z[0] = state["z1"]
        log_p = torch.log_softmax(z, 0)
        assert_near(values["log_probs"], log_p[:2])
        rest = [log_p[1:].logsumexp(0), torch.cat([log_p[:1], log_p[2:]]).logsumexp(0)]
        assert_near(values["log_rest"], torch.stack(rest))


def test_maps_are_those_of_torch(maps: dict[tuple[str, int, bool], np.ndarray]) -> None:
    for (name, k, shift), shown_map in maps.items():
        z1, z2 = axes(REACH[name])
        expected = rounded(z1, z2, k, shift, DTYPES[name])
        assert (shown_map == outcomes(*expected[2:])).all(), (name, k, shift)


def test_torch_in_the_format_has_the_same_outcomes_away_from_the_borders() -> None:
    """A point counts where the outcome is the same up to 1 % of the map in all directions."""
    steps = (-0.01, 0.0, 0.01)
    for (name, dtype), k, shift in product(DTYPES.items(), SIZES, (False, True)):
        reach = REACH[name]
        z1, z2 = axes(reach, 101)
        around = [
            outcomes(*rounded(z1 + reach * i, z2 + reach * j, k, shift, dtype)[2:])
            for i in steps
            for j in steps
        ]
        away = np.all([near == around[0] for near in around], axis=0)
        assert away.mean() > 0.7
        actual = outcomes(*computed(z1, z2, k, shift, dtype))
        assert (actual == around[0])[away].all(), (name, k, shift)


def test_with_the_shift_nothing_overflows(
    maps: dict[tuple[str, int, bool], np.ndarray],
    shown: list[tuple[State, dict[str, Any]]],
) -> None:
    for (_, _, shift), shown_map in maps.items():
        assert set(shown_map.flat) == ({"r", "z"} if shift else {"r", "z", "o", "n"})
    assert {v["outcome"] for s, v in shown if s["shift"]} == {"r", "z"}


@pytest.mark.parametrize(
    ("name", "last", "first"),
    [("float16", 11.0859375, 11.09375), ("bfloat16", 88.5, 89), ("float32", 88.72, 88.73),
     ("float64", 709.78, 709.79)],
)  # fmt: skip
def test_exp_overflows_where_it_should(name: str, last: float, first: float) -> None:
    asked = ({"format": name, "k": 2, "z1": z, "z2": 0} for z in (last, first))
    below, above = figure().values(*asked)
    largest = torch.finfo(DTYPES[name]).max
    assert 0.5 * largest < below["exps"][0] <= largest
    assert above["exps"] == ["inf", 1]
    assert above["probs"] == ["nan", 0]
    assert (below["outcome"], above["outcome"]) == ("z", "o")


@pytest.mark.parametrize(
    ("name", "last", "first"),
    [("float16", -17.32, -17.36), ("bfloat16", -92.5, -93), ("float32", -103.9, -104),
     ("float64", -745.1, -745.2)],
)  # fmt: skip
def test_exp_underflows_where_it_should(name: str, last: float, first: float) -> None:
    """At half the smallest subnormal number; PyTorch keeps such numbers too, but for the last."""
    asked = ({"format": name, "k": 2, "z1": z, "z2": z} for z in (last, first))
    above, below = figure().values(*asked)
    info = torch.finfo(DTYPES[name])
    assert above["exps"] == [info.smallest_normal * info.eps] * 2
    assert (above["probs"], above["outcome"]) == ([0.5, 0.5], "r")
    assert (below["exps"], below["sum"], below["probs"]) == ([0, 0], 0, ["nan", "nan"])
    assert below["outcome"] == "n"
    # Nearly the smallest one, and a quarter of it: the last bit of a float32 exp may be wrong.
    away = torch.tensor([last + 0.6, first - 0.6], dtype=DTYPES[name])
    assert [x > 0 for x in away.exp()] == [True, False]


def test_a_sum_overflows_where_no_exp_does() -> None:
    (values,) = figure().values({"format": "float16", "k": 1000, "z1": 10, "z2": 10})
    assert values["exps"] == [22032, 22032]
    assert (values["sum"], values["probs"], values["outcome"]) == ("inf", [0, 0], "o")


def test_shares_count_the_cells(shown: list[tuple[State, dict[str, Any]]]) -> None:
    for state, values in shown[:100]:
        cells = "".join(values["map"])
        assert len(cells) == CELLS**2
        assert values["shares"] == {o: cells.count(o) / CELLS**2 for o in "rzon"}
        assert values["reach"] == REACH[state["format"]]


@pytest.mark.parametrize("width", [300, 390, 480, 680])
@pytest.mark.parametrize("name", DTYPES)
def test_a_drag_sets_the_point_that_is_drawn(name: str, width: int) -> None:
    """To the nearest value on offer, on the map; outside of it nothing happens."""
    logits = {c["name"]: c.get("values") for c in figure().controls}["z1"]
    assert logits is not None
    reach = REACH[name]
    pairs = [(z1, z2) for z1 in logits[::9] for z2 in logits[::9] if max(abs(z1), abs(z2)) <= reach]
    script = """pairs.map(([z1, z2]) => {
        const state = { ...start, format, z1, z2 };
        const { svg } = figure.draw(data, state, figure.compute(data, state), width);
        const [, x, y] = svg.match(/class="ink" cx="([^"]*)" cy="([^"]*)"/);
        return figure.drag(data, state, +x, +y, width);
    })"""
    moved = ask(figure(), script, pairs=pairs, format=name, width=width)
    offered = np.array(logits)
    for (z1, z2), to in zip(pairs, moved, strict=True):
        for before, after in ((z1, to["z1"]), (z2, to["z2"])):
            assert after in logits
            # a tenth of a pixel, to which the point is drawn, and then the nearest value
            assert np.abs(offered - before).min() == 0
            assert abs(after - before) <= max(0.2 / 240 * 2 * reach, 1e-9)
    outside = "at.map(([x, y]) => figure.drag(data, start, x, y, width))"
    at = [[width - 1, 5], [150, 299]]
    assert ask(figure(), outside, at=at, width=width) == [None, None]


def test_it_says_what_it_shows() -> None:
    assert "exp gives inf and 1, the sum is inf, the probabilities are nan and 0" in figure().says
    shifted = LiveFigure("overflow", "", {}, {"shift": True})
    assert "the probabilities are 1 and 3.78e−44" in shifted.says
    assert "beyond" not in shifted.says
    assert "beyond the map" in LiveFigure("overflow", "", {}, {"format": "float16"}).says
    # one minus a little is not shown as 1 where it is not 1
    close = LiveFigure("overflow", "", {}, {"z1": 12, "z2": 0, "shift": True})
    less = "1\u00a0−\u00a05.53e−5"
    assert f"the probabilities are {less} and 6.14e−6; exact are {less}" in close.says
    for f in (figure(), shifted, close):
        assert "undefined" not in f.to_svg()
        assert "NaN" not in f.to_svg()


def test_a_value_that_is_not_on_offer_is_refused() -> None:
    with pytest.raises(ValueError, match="format = 'float8' is not on offer; the values are"):
        LiveFigure("overflow", "", {}, {"format": "float8"})
