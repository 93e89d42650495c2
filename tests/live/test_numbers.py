"""How the live figures write numbers: 0 and 1 stand for 0 and 1, and for nothing that is near."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from mpmath import mp, mpf

from omnivault import live
from omnivault.live.figure import LiveFigure
from tests.support.live import State, ask, sentences

MINUS = "\N{MINUS SIGN}"


def plain(text: str) -> str:
    return text.replace(MINUS, "-").replace("\u00a0", " ")


def runtime(expression: str, **given: Any) -> Any:
    return ask(live.order(), f"((L) => {expression})(omnivaultLive)", **given)


def written(call: str, numbers: Sequence[float]) -> list[str]:
    texts: list[str] = runtime(f"numbers.map((x) => L.{call})", numbers=[*numbers])
    return [plain(text) for text in texts]


@pytest.mark.parametrize(
    ("x", "significant", "three", "one"),
    [
        (0, "0", "0", "0"),
        (-0.0, "0", "0", "0"),
        (1, "1", "1", "1"),
        (-1, "-1", "-1", "-1"),
        (0.9996, "0.9996", "0.9996", "0.9996"),
        (0.9995, "0.9995", "0.9995", "0.9995"),
        (0.9994, "0.999", "0.999", "0.999"),
        (0.96, "0.96", "0.960", "0.96"),
        (0.94, "0.94", "0.940", "0.9"),
        (0.9999, "0.9999", "0.9999", "0.9999"),
        (0.99994, "1 - 6e-5", "1 - 6e-5", "1 - 6e-5"),
        (0.99999, "1 - 1e-5", "1 - 1e-5", "1 - 1e-5"),
        (1 - 2.0**-53, "1 - 1.11e-16", "1 - 1e-16", "1 - 1e-16"),
        (1.0004, "1.0004", "1.0004", "1.0004"),
        (1.04, "1.04", "1.040", "1.04"),
        (1 + 2.0**-52, "1 + 2.22e-16", "1 + 2e-16", "1 + 2e-16"),
        (-0.9996, "-0.9996", "-0.9996", "-0.9996"),
        (-0.99999, "-1 + 1e-5", "-1 + 1e-5", "-1 + 1e-5"),
        (-1 - 2.0**-52, "-1 - 2.22e-16", "-1 - 2e-16", "-1 - 2e-16"),
        (1.3e-4, "1.3e-4", "1.3e-4", "1.3e-4"),
        (-1.3e-4, "-1.3e-4", "-1.3e-4", "-1.3e-4"),
        (4.996e-4, "5e-4", "5e-4", "5e-4"),
        (0.0005001, "5e-4", "0.001", "5e-4"),
        (0.04, "0.04", "0.040", "0.04"),
        (0.001234, "0.00123", "0.001", "0.0012"),
        (5e-324, "4.94e-324", "4.9e-324", "4.9e-324"),
        (0.1234, "0.123", "0.123", "0.1"),
        (2.999999, "3", "3.000", "3.0"),
        (123456.7, "123000", "123456.700", "123456.7"),
        (2, "2", "2", "2"),
        (-3, "-3", "-3", "-3"),
        (1e6, "1e6", "1000000", "1000000"),
    ],
)
def test_a_number_in_each_form(x: float, significant: str, three: str, one: str) -> None:
    forms = ("digits(x)", "decimals(x, 3)", "decimals(x, 1)")
    assert [written(form, [x])[0] for form in forms] == [significant, three, one]


def test_one_digit_is_more_where_one_would_say_1_or_0() -> None:
    numbers = [0.3, 0.97, 0.996, 0.94, 1.4, 0.04, 0.00004]
    expected = ["0.3", "0.97", "0.996", "0.9", "1.4", "0.04", "4e-5"]
    assert written("digits(x, 1)", numbers) == expected


def test_only_0_is_written_as_0_and_only_1_as_1() -> None:
    rng = random.Random(1)
    numbers = [rng.choice((-1, 1)) * 10 ** rng.uniform(-20, 2) for _ in range(500)]
    numbers += [1 + rng.choice((-1, 1)) * 10 ** rng.uniform(-15, 0) for _ in range(500)]
    forms = [f"digits(x, {n})" for n in (1, 2, 3)] + [f"decimals(x, {d})" for d in (1, 2, 3)]
    for form in forms:
        for x, text in zip(numbers, written(form, numbers), strict=True):
            value = Decimal(text) if " " not in text else Decimal(text.split(" ")[0])
            if " " not in text:
                assert value not in (0, 1, -1), (form, x, text)
            else:  # 1 and a distance that is not 0
                assert abs(value) == 1
                assert Decimal(text.split(" ")[-1]) > 0


def said(p: mpf, rest: mpf, decimals: int | None) -> str:
    """What should be written for a probability and 1 minus it, known to 50 digits."""

    def short(x: mpf, n: int) -> str:
        mantissa, exponent = mp.nstr(x, n, min_fixed=0, max_fixed=0).split("e")
        return f"{float(mantissa):g}e{int(exponent)}"

    if rest < mpf("9.5e-5"):
        return f"1 - {short(rest, 1 if decimals else 3)}"
    if decimals:
        text = f"{Decimal(mp.nstr(p, 30)):.{decimals}f}"
        if Decimal(text) == 1:
            return f"{Decimal(mp.nstr(p, 30)):.4f}"
        if Decimal(text) != 0:
            return text
        return short(p, 2) if p < 1e-3 else f"{float(mp.nstr(p, 2)):g}"
    if p < 1e-3:
        return short(p, 3)
    rounded = f"{float(mp.nstr(p, 3)):g}"
    return f"{Decimal(mp.nstr(p, 30)):.4f}" if rounded == "1" else rounded


def all_said(z: Sequence[float], temperature: float, decimals: int | None) -> list[str]:
    """The same for softmax of logits."""
    with mp.workdps(50):
        e = [mp.exp((mpf(x) - mpf(max(z))) / mpf(temperature)) for x in z]
        total = sum(e)
        rests = [sum(e[:i] + e[i + 1 :]) / total for i in range(len(z))]
        return [said(x / total, rest, decimals) for x, rest in zip(e, rests, strict=True)]


@pytest.mark.parametrize("reach", [1, 5, 20, 60, 300, 900, 5000])
def test_probabilities_are_those_of_50_digits(reach: float) -> None:
    rng = random.Random(reach)
    rows = [[reach * rng.uniform(-1, 1) for _ in range(k)] for k in range(2, 9) for _ in range(30)]
    rows += [[0.0, 0.0], [reach, reach, -reach], [reach, -reach], [0.0] * 5]
    for d in (3, None):
        form = f"(p) => L.probability(p{f', {d}' if d else ''})"
        shown = runtime(f"rows.map((w) => L.logProbs(w).map({form}))", rows=rows)
        for row, texts in zip(rows, shown, strict=True):
            expected = all_said(row, 1, d)
            for text, other in zip(texts, expected, strict=True):
                # a last digit may be the next one where the logarithm's rounding decides
                assert plain(text) == other or near(text, other), (row, text, other)


def near(text: str, other: str) -> bool:
    """Whether two texts differ by one in their last digit."""
    a, b = (re.fullmatch(r"(1 - )?([\d.]+)(e-\d+)?", plain(t)) for t in (text, other))
    assert a is not None
    assert b is not None
    x, y = (Decimal(m[2] + (m[3] or "").replace("e-", "E-")) for m in (a, b))
    return a[1] == b[1] and abs(x - y) <= abs(y) / 100


def test_what_cannot_be_is_0_and_what_must_be_is_1() -> None:
    never = "[-Infinity, 3, -Infinity]"
    assert runtime(f"L.logProbs({never}).map((p) => L.probability(p, 3))") == ["0", "1", "0"]
    assert runtime(f"L.entropy({never})") == 0


@pytest.mark.parametrize("temperature", [0.05, 0.3, 1, 7])
def test_entropy_is_exact(temperature: float) -> None:
    rng = random.Random(5)
    rows = [[4 * rng.uniform(-1, 1) for _ in range(k)] for k in (2, 3, 5) for _ in range(40)]
    found = runtime("rows.map((z) => L.entropy(z, T))", rows=rows, T=temperature)
    for z, entropy in zip(rows, found, strict=True):
        with mp.workdps(150):  # 1 / total is 1 up to 1e-70
            e = [mp.exp((mpf(x) - mpf(max(z))) / mpf(temperature)) for x in z]
            total = sum(e)
            exact = -sum(x / total * mp.log(x / total) for x in e)
        # The exponents have up to 160 units of rounding each, which the exponential passes on.
        assert entropy == pytest.approx(float(exact), rel=400 * 2.0**-53, abs=0)


# --- in the figures


def texts(figure: LiveFigure, states: Sequence[State], width: int = 680) -> list[list[str]]:
    """All texts of the picture in each state, in order."""
    script = """states.map((s) => ({ ...start, ...s }))
        .map((s) => figure.draw(data, s, figure.compute(data, s), width).svg)"""
    drawn = ask(figure, script, states=[*states], width=width)
    return [[plain(t.text or "") for t in ElementTree.fromstring(f"<g>{svg}</g>")] for svg in drawn]


def in_order(wanted: Sequence[str], found: Sequence[str]) -> bool:
    rest = iter(found)
    return all(text in rest for text in wanted)


Z = [2.0, 1.0, 3.0, 5.0, 4.0]
LOGITS: dict[str, Sequence[float]] = {
    "order": Z,
    "race": [2, 1, 0, -1],
    "simplex": [1, 0.5, -0.5],
    "jacobian": [2, 1, 0, -1],
    "one_problem": [1, 0.5, -0.5],
}
MADE: dict[str, Callable[[], LiveFigure]] = {
    "order": live.order,
    "race": live.race,
    "simplex": live.simplex,
    "jacobian": live.jacobian,
    "one_problem": lambda: LiveFigure("one_problem", "", live.one_problem().data, {"alpha": 1}),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("width", [680, 342])
def test_pictures_show_every_probability(name: str, width: int) -> None:
    figure = MADE[name]()
    logits = LOGITS[name]
    temperatures = next(c["values"] for c in figure.controls if c.get("name") == "temperature")
    few = [*temperatures[::8], temperatures[-1]]
    states: list[State] = [{"temperature": t} for t in few]
    for shown, t in zip(texts(figure, states, width), few, strict=True):
        assert in_order(all_said(logits, t, 3), shown), (t, shown)


def test_order_far_beyond_the_range_of_numbers() -> None:
    figure = live.order((5.0, -5.0, 5.0, 4.9, 0.0))
    state: State = {"scale": 10, "temperature": 0.1}
    [shown] = texts(figure, [state])
    assert in_order(["0.500", "2.5e-435", "0.500", "2.3e-5", "3.6e-218"], shown), shown
    [says] = sentences(figure, [state])
    assert f"the smallest 2.54e{MINUS}435." in says
    assert "By logits and by probabilities alike the order is a = c > d > e > b." in says


def test_entropy_shows_every_probability() -> None:
    figure = live.entropy()
    low, high = (figure.controls[1]["values"][i] for i in (0, 4))
    states: list[State] = [{"logits": "one far ahead", "temperature": t} for t in (low, high)]
    for shown, t in zip(texts(figure, states), (low, high), strict=True):
        assert in_order([*reversed(all_said([1, 2, 3, 4, 10], t, 3))], shown), shown
    [says] = sentences(figure, states[:1])
    assert re.search(r"the entropy is [\d.]+e.25 nats", says), says


def test_jacobian_has_no_entry_that_is_only_rounded_to_0() -> None:
    state: State = {"a": 4, "b": -4, "c": -4, "d": -4, "temperature": 0.2, "draws": 100}
    [values] = live.jacobian().values(state)
    with mp.workdps(50):
        small = mp.exp(-8 / mpf("0.2"))
        p = 1 / (1 + 3 * small)
        expected = [float(5 * p * 3 * small * p), float(-5 * p * small * p)]
    assert values["jacobian"][0][:2] == pytest.approx(expected, rel=1e-12, abs=0)
    [shown] = texts(live.jacobian(), [state])
    assert "6.4e-17" in shown
    assert "-2.1e-17" in shown
    assert not [text for text in shown[:30] if re.fullmatch(r"-?0(\.0+)?", text)], shown


def test_next_token() -> None:
    z = torch.linspace(3, -3, 120, dtype=torch.float64) * 30
    z[0] = 95.0
    tokens = [f"t{i}" for i in range(120)]
    figure = live.next_token({"": z}, tokens, dials=["top_k"])
    cold: State = {"temperature": 0.1}
    [shown] = texts(figure, [cold])
    rounded = [round(x, 6) for x in z.tolist()]
    with mp.workdps(150):
        others = mp.log(sum(mp.exp(10 * mpf(x)) for x in rounded[10:])) / 10
        gaps = [10 * (95 - mpf(x)) for x in rounded[1:]]
        effective = mp.fsum(mp.exp(-gap) * (gap + 1) for gap in gaps)
    assert in_order(all_said([*rounded[:10], others], 0.1, 3), shown), shown
    [one, few] = (plain(words) for words in sentences(figure, [cold, cold | {"top_k": 1}]))
    assert f"with {all_said(rounded, 0.1, None)[0]}. All 120 tokens" in one, one
    assert f"the effective number of tokens 1 + {float(effective):.3g}." in one, one
    assert "with 1. 1 of 120 tokens can be drawn; they held 1 - " in few, few
    assert "The entropy is 0 nats, the effective number of tokens 1." in few, few
    # Far beyond the range of numbers, a token that can come is not shown as one that cannot.
    far = live.next_token({"": 10 * z}, tokens, dials=["top_k"])
    [shown] = texts(far, [cold | {"top_k": 40}])
    assert "\N{EN DASH}" not in shown
    assert in_order(all_said([10 * x for x in rounded[:10]], 0.1, 3), shown), shown
    [shown] = texts(far, [cold | {"top_k": 3}])
    assert shown.count("\N{EN DASH}") == 8


def test_speculative() -> None:
    far = torch.tensor([40.0, 0.0, -40.0], dtype=torch.float64)
    further = torch.tensor([41.0, 0.0, -40.0], dtype=torch.float64)

    def chance(target: torch.Tensor, draft: torch.Tensor, *temperatures: float) -> str:
        names = ("target_temperature", "draft_temperature")
        state = dict(zip(names, temperatures, strict=False))
        [words] = sentences(live.speculative(target, draft, ["a", "b", "c"]), [state])
        return plain(words).partition(",")[0].rpartition(" probability ")[2]

    # One minus the difference of exp(-40) and exp(-41).
    expected = f"1 - {math.exp(-40) - math.exp(-41):.3g}"
    assert chance(far, further) == chance(further, far) == expected
    assert chance(far, far) == "1"
    assert chance(far, far / 2, 2, 1) == "1"  # equal but for rounding
    # exp(-40) in the middle, and twice exp(-80) at the ends
    assert chance(far, far.flip(0)) == f"{math.exp(-40):.3g}"
    with mp.workdps(50):
        mantissa, exponent = mp.nstr(mp.exp(-12000), 3, min_fixed=0, max_fixed=0).split("e")
    assert chance(300 * far, 300 * far.flip(0)) == f"{float(mantissa):g}e{exponent}"


def test_reliability() -> None:
    z = torch.zeros(2000, 2, dtype=torch.float64)
    z[:, 0] = 8.0
    y = torch.zeros(2000, dtype=torch.int64)
    y[0] = 1
    [one, all_right] = [
        plain(sentences(live.reliability(z, labels), [{"temperature": 0.1}])[0])
        for labels in (y, y * 0)
    ]
    assert "the share 0.9995 of 2,000 predictions is right, less often than" in one, one
    assert "the mean confidence 1 - 2e-35 claims." in one, one
    assert "claims 1 - 2e-35 and is right in 0.9995." in one, one
    assert "the share 1 of 2,000 predictions is right, more often than the mean" in all_right
    assert "the ECE is 1.8e-35 with 10 bins" in all_right, all_right
    assert "The NLL is 1.8e-35 nats" in all_right, all_right


def test_search_tree() -> None:
    near = torch.tensor([[0.0, -3.5, -20.0], [0.0, -25.0, -30.0], [0.0, -1.0, -2.0]]).double()
    figure = live.search_tree(
        lambda ids: near[ids[:, -1]], torch.tensor([1]), list("abc"), depth=4, branch=2
    )
    [wide] = texts(figure, [{"beams": 1}])
    [tight] = texts(figure, [{"beams": 1}], width=342)
    assert {"a\u20021 - 1.4e-11", "a\u20020.97"} <= set(wide)
    assert "a\u2002.97" in tight
    assert "log-probability -0.09" in plain(sentences(figure, [{"beams": 1}])[0])
    sure = torch.tensor([[0.0, -9.0]]).double().expand(2, 2)
    short = live.search_tree(
        lambda ids: sure[ids[:, -1]], torch.tensor([1]), list("ab"), depth=2, branch=2
    )
    assert "log-probability -2.5e-4" in plain(short.says)
