"""The reliability figure against omnivault.calibration and torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from omnivault.calibration import (
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
)
from omnivault.live.figure import LiveFigure
from omnivault.live.reliability import MOST, reliability
from omnivault.softmax import softmax
from tests.support.live import WITHIN, State, ask, assert_near, some_states


def predictions(n: int = 400, classes: int = 10) -> tuple[Tensor, Tensor]:
    """Logits three times too large for labels drawn from them."""
    generator = torch.Generator().manual_seed(7)
    z = 2.5 * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(softmax(z), 1, generator=generator)[:, 0]
    return 3 * z, labels


def shown(figure: LiveFigure) -> tuple[Tensor, Tensor]:
    """The rounded logits, and the labels, that the page holds."""
    logits = torch.tensor(figure.data["logits"], dtype=torch.float64)
    return logits, torch.tensor(figure.data["labels"])


def check(figure: LiveFigure, states: list[State]) -> None:
    z, y = shown(figure)
    for state, values in zip(states, figure.values(*states), strict=True):
        temperature, bins = state["temperature"], int(state["bins"])
        p = softmax(z, temperature=temperature)
        confidence, choice = p.max(-1)
        groups = reliability_bins(confidence.clamp(max=1.0), choice == y, bins)
        assert values["counts"] == groups.counts.tolist(), state
        empty = [n == 0 for n in values["counts"]]
        for name, expected, within in (
            ("claimed", groups.claimed, WITHIN),
            ("accurate", groups.frequency, WITHIN),
            # A root near zero magnifies rounding: of 128 u it makes this.
            ("errors", (groups.claimed * (1 - groups.claimed) / groups.counts).sqrt(), 2.0**-23),
        ):
            assert [v is None for v in values[name]] == empty
            got = [v for v in values[name] if v is not None]
            assert_near(got, expected[groups.counts > 0], within=within)
        assert_near(values["ece"], expected_calibration_error(p, y, bins))
        nll = cross_entropy(z / temperature, y).item()
        assert values["nll"] == pytest.approx(nll, abs=WITHIN, rel=WITHIN)
        assert_near(values["accuracy"], (choice == y).double().mean())
        assert_near(values["confidence"], confidence.mean())


def test_values_are_those_of_the_package() -> None:
    figure = reliability(*predictions())
    temperatures, bins = (c.get("values") or c.get("options") for c in figure.controls[:2])
    assert temperatures is not None
    assert len(temperatures) == 81
    assert bins == ["5", "10", "15"]
    states = some_states(figure, 200)
    states += [{"temperature": T, "bins": n} for T in (0.1, 1, 10) for n in bins]
    check(figure, states)


@pytest.mark.parametrize("classes", [2, 3, 5, 10, 15])
def test_edges_of_bins_and_ties(classes: int) -> None:
    # Uniform rows claim 1 / K, an edge of bins; certain ones claim 1, the end of the last bin.
    z = torch.zeros(8, classes, dtype=torch.float64)
    z[4:6, 0] = 800.0
    z[6:, 1] = 3.0
    y = torch.tensor([0, 1, 0, 1, 0, 1, 1, 0])
    figure = reliability(z, y)
    states = [{"temperature": T, "bins": n} for T in (0.1, 1, 10) for n in ("5", "10", "15")]
    check(figure, states)
    values = figure.values({"bins": "5"})[0]
    assert values["counts"][-1] >= 2  # those that claim exactly 1
    if classes == 5:
        assert values["counts"][1] == 4
    # Of equal logits the first is the choice: rows 0 and 2, one certain and one other are right.
    assert values["accuracy"] == 0.5


def test_extreme_logits_give_finite_values() -> None:
    z = torch.tensor([[5000.0, -5000.0, 0.0], [0.0, 0.0, 0.001]], dtype=torch.float64)
    figure = reliability(z, torch.tensor([1, 2]))
    check(figure, [{"temperature": T, "bins": "10"} for T in (0.1, 10)])
    # Half of 100,000, and half of a little over log 3.
    nll = figure.values({"temperature": 0.1})[0]["nll"]
    assert 50_000 + 0.5 < nll < 50_000 + 0.6


def test_logits_are_rounded_to_three_decimals() -> None:
    logits, labels = predictions()
    z, y = shown(reliability(logits.float(), labels))
    assert torch.equal(y, labels)
    assert (z - logits).abs().max() < 5e-4 + 32 * 2.0**-24  # logits below 32, in float32
    assert torch.equal((1000 * z).round() / 1000, z)


def test_curves_and_best_temperature() -> None:
    figure = reliability(*predictions())
    z, y = shown(figure)
    temperatures = figure.controls[0]["values"]
    for bins in ("5", "10", "15"):
        values = figure.values({"bins": bins, "temperature": 0.5})[0]
        nll = [cross_entropy(z / T, y).item() for T in temperatures]
        assert values["nll_curve"] == pytest.approx(nll, abs=WITHIN, rel=WITHIN)
        ece = [
            expected_calibration_error(softmax(z, temperature=T), y, int(bins))
            for T in temperatures
        ]
        assert_near(values["ece_curve"], ece)
        assert values["best"] == temperatures[min(range(81), key=nll.__getitem__)]
    # The likelihood has one maximum, so the best on offer is a neighbor of the best of all.
    fitted = fit_temperature(z, y)
    at = temperatures.index(values["best"])
    assert temperatures[at - 1] < fitted < temperatures[at + 1]
    # Six standard errors of log T: the information about it is the variance of the logit over T.
    p = softmax(z, temperature=3.0)
    information = (p * (z / 3) ** 2).sum() - ((p * (z / 3)).sum(-1) ** 2).sum()
    assert fitted == pytest.approx(3, rel=6 / information.sqrt().item())


def test_button_sets_the_best_temperature() -> None:
    figure = reliability(*predictions())
    pressed = ask(
        figure, 'figure.controls(data).find((c) => c.label === "best temperature").press({})'
    )
    assert pressed == {"temperature": figure.values({})[0]["best"]}


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        predictions(),
        (torch.zeros(3, 4), torch.tensor([0, 1, 2])),
        (torch.tensor([[900.0, 0.0]]), torch.tensor([0])),  # NLL 0 at every temperature
        (torch.tensor([[3.0]]), torch.tensor([0])),  # a single class
    ],
)
def test_picture_and_sentence_hold_numbers_only(logits: Tensor, labels: Tensor) -> None:
    drawn = ask(
        reliability(logits, labels),
        "[300, 342, 479, 480, 680].flatMap((w) => [0.1, 1, 10].flatMap((temperature) => "
        '["5", "15"].map((bins) => { const s = { temperature, bins };'
        "const v = figure.compute(data, s); const d = figure.draw(data, s, v, w);"
        "return [w, d.height, d.svg + figure.say(data, s, v)]; })))",
    )
    for width, height, words in drawn:
        assert height <= (420 if width < 480 else 345)
        for wrong in ("NaN", "undefined", "null", "Infinity"):
            assert wrong not in words


def test_sentence() -> None:
    z = torch.tensor([[2.0, 0.0]]).expand(4, 2)
    assert reliability(z, torch.tensor([0, 0, 0, 1])).says == (
        "At T = 1 the share 0.750 of 4 predictions is right, less often than the mean confidence "
        "0.881 claims. The NLL is 0.627 nats, smallest at T = 1.78; the ECE is 0.131 with 10 bins. "
        "The fullest bin, with 4, claims 0.881 and is right in 0.750."
    )


def test_errors() -> None:
    z, y = predictions(20, 4)
    with pytest.raises(TypeError, match="floating"):
        reliability(z.long(), y)
    with pytest.raises(TypeError, match=r"labels must be .* torch\.int64"):
        reliability(z, y.float())
    with pytest.raises(ValueError, match=r"\(20, 4\) and \(19,\)"):
        reliability(z, y[:-1])
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\], got .*4"):
        reliability(z, y + 4)
    with pytest.raises(ValueError, match=r"logits must be finite, got .*inf"):
        reliability(z.where(z > 0, -torch.inf), y)
    many = torch.zeros(1001, 10)
    with pytest.raises(ValueError, match=r"1,001 rows of 10; take the first 1,000 rows"):
        reliability(many, torch.zeros(1001, dtype=torch.int64))
    assert many[:1000].numel() == MOST
    reliability(many[:1000], torch.zeros(1000, dtype=torch.int64))
