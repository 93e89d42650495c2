from __future__ import annotations

import math

import pytest
import scipy.optimize
import scipy.special
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor

from omnivault.calibration import fit_temperature
from omnivault.softmax import softmax
from tests.package.calibration.common import (
    Data,
    U,
    accuracy,
    assert_best,
    drawn,
    dtypes,
    generator,
    in_units,
    levels,
    loss_at,
    rounding_of_loss,
    slope,
)


def sampled(n: int, k: int, temperature: float, seed: int = 0, spread: float = 2.0) -> Data:
    """Random logits and labels drawn from softmax_T of them."""
    z = spread * torch.randn(n, k, generator=generator(seed), dtype=torch.float64)
    return z, drawn(torch.softmax(z / temperature, -1), seed + 1)


SAMPLES: dict[str, Data] = {
    "ten rows": sampled(10, 3, 1.0, seed=3),
    "calibrated": sampled(300, 5, 1.0),
    "overconfident": sampled(300, 5, 3.0),
    "underconfident": sampled(300, 5, 0.4),
    "two classes": sampled(200, 2, 1.5),
    "a hundred classes": sampled(200, 100, 1.0),
    "small logits": sampled(300, 5, 1e-3, spread=1e-3),
    "large logits": sampled(300, 5, 1e3, spread=1e3),
    "shifted logits": (sampled(300, 5, 1.0)[0] + 100.0, sampled(300, 5, 1.0)[1]),
}
samples = pytest.mark.parametrize(("z", "labels"), SAMPLES.values(), ids=SAMPLES.keys())


@pytest.mark.parametrize(
    ("gap", "k", "right", "wrong"),
    [
        (4.0, 2, 3, 1),
        (1.0, 2, 2, 1),
        (1.0, 2, 11, 9),
        (0.01, 2, 99, 1),
        (1.0, 2, 9999, 1),
        (300.0, 2, 5, 3),
        (2.0, 3, 1, 1),
        (2.0, 10, 1, 1),
        (7.0, 5, 17, 4),
    ],
)
@dtypes
def test_equal_gaps_have_a_closed_form(
    gap: float, k: int, right: int, wrong: int, dtype: torch.dtype
) -> None:
    # p of the largest is the accuracy a, and the others share the rest: T = g / log(a (k-1)/(1-a)).
    z = torch.zeros(1, k, dtype=dtype)
    z[:, 0] = gap
    labels = torch.cat([torch.zeros(right), torch.ones(wrong)]).long()
    exact_gap = z[0, 0].item()
    expected = exact_gap / math.log(right * (k - 1) / wrong)
    z = z.expand(right + wrong, k)
    temperature = fit_temperature(z, labels)
    assert type(temperature) is float
    # The logarithm is at least 0.2, of a rounded quotient.
    assert temperature == pytest.approx(expected, rel=accuracy(z, expected) + 16 * U)


@samples
def test_temperature_is_where_scipy_finds_the_root_of_the_derivative(
    z: Tensor, labels: Tensor
) -> None:
    assert_best(z, labels)


@samples
def test_temperature_is_where_scipy_finds_the_smallest_loss(z: Tensor, labels: Tensor) -> None:
    temperature = fit_temperature(z, labels)
    found = scipy.optimize.minimize_scalar(
        lambda log_t: loss_at(z, labels, math.exp(log_t)),
        bounds=(math.log(temperature) - 5, math.log(temperature) + 5),
        method="bounded",
        options={"xatol": 1e-6},
    )
    rounding = rounding_of_loss(z, labels, temperature)
    assert loss_at(z, labels, temperature) <= found.fun + 2 * rounding
    # It sees no more than losses, in steps of a third of 1e-6 at least, and may stop where the
    # slope changes them by less than rounding does.
    gaps, p, mean = in_units(z, temperature)
    curvature = (p * (gaps - mean) ** 2).sum(-1).mean().item()
    off = 1e-6 + 4 * rounding / (1e-6 / 3) / curvature
    assert found.x == pytest.approx(math.log(temperature), abs=off)


@samples
def test_no_neighbor_has_a_smaller_loss(z: Tensor, labels: Tensor) -> None:
    temperature = fit_temperature(z, labels)
    loss = loss_at(z, labels, temperature)
    # The loss at a distance of 1e-4 is higher by 1e-8 times its curvature, far above rounding.
    for factor in (1 - 1e-4, 1 + 1e-4, 0.9, 1.1, 0.1, 10.0):
        assert loss_at(z, labels, temperature * factor) > loss


@samples
def test_the_mean_logit_of_the_labels_is_the_expected_one(z: Tensor, labels: Tensor) -> None:
    temperature = fit_temperature(z, labels)
    p = torch.softmax(z / temperature, -1)
    mean = (p * z).sum(-1, keepdim=True)
    variance = (p * (z - mean).square()).sum(-1).mean().item()
    gap = abs(slope(z, labels, -math.log(temperature)))
    # An error e of log T moves it by e Var / T, and so does its own rounding.
    assert gap <= 2 * accuracy(z, temperature) * variance / temperature


@st.composite
def whole_data(draw: DrawFn) -> Data:
    """Integer logits, often tied, and labels that have a temperature."""
    n, k = draw(st.integers(2, 8)), draw(st.integers(2, 5))
    numbers = draw(st.lists(st.integers(-5, 5), min_size=n * k, max_size=n * k))
    z = torch.tensor(numbers, dtype=torch.float64).reshape(n, k)
    labels = torch.tensor(draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n)))
    of_labels, of_all, largest = levels(z, labels)
    # Near either end rounding moves the root far; that has a test of its own.
    assume(of_all + (largest - of_all) / 8 <= of_labels < largest)
    return z, labels


@settings(max_examples=60)
@given(whole_data())
def test_temperature_of_small_data_is_the_root_of_the_derivative(data: Data) -> None:
    assert_best(*data)


@settings(max_examples=50)
@given(whole_data(), st.integers(-950, 950))
def test_temperature_has_the_units_of_the_logits_exactly_for_powers_of_two(
    data: Data, exponent: int
) -> None:
    z, labels = data
    c = 2.0**exponent
    assert fit_temperature(c * z, labels) == c * fit_temperature(z, labels)


@pytest.mark.parametrize("c", [1e-300, 1e-100, 1e-8, 0.1, 3.0, 1e5, 1e100, 1e300])
@samples
def test_temperature_has_the_units_of_the_logits(z: Tensor, labels: Tensor, c: float) -> None:
    temperature = fit_temperature(z, labels)
    # Scaling rounds the logits, whatever they have in common included.
    rel = 2 * accuracy(z, temperature, U * z.abs().max().item()) + 4 * U
    assert fit_temperature(c * z, labels) == pytest.approx(c * temperature, rel=rel, abs=0)


@settings(max_examples=50)
@given(whole_data(), st.data())
def test_a_constant_of_each_row_changes_nothing(data: Data, more: st.DataObject) -> None:
    z, labels = data
    n = len(z)
    constants = more.draw(st.lists(st.integers(-1000, 1000), min_size=n, max_size=n))
    shifted = z + torch.tensor(constants, dtype=z.dtype).unsqueeze(-1)
    # The sums of integers are exact, so nothing at all.
    assert fit_temperature(shifted, labels) == fit_temperature(z, labels)


@settings(max_examples=30)
@given(whole_data(), st.data())
def test_rows_and_classes_have_no_order_for_the_temperature(
    data: Data, more: st.DataObject
) -> None:
    z, labels = data
    temperature = fit_temperature(z, labels)
    # Repeated three times there are three times as many to add.
    rel = 2 * accuracy(z.repeat(3, 1), temperature)
    expected = pytest.approx(temperature, rel=rel)
    order = torch.tensor(more.draw(st.permutations(range(len(z)))))
    assert fit_temperature(z[order], labels[order]) == expected
    names = torch.tensor(more.draw(st.permutations(range(z.shape[1]))))
    renamed = torch.empty_like(z)
    renamed[:, names] = z
    assert fit_temperature(renamed, names[labels]) == expected
    # Nor does it matter how often the data are repeated.
    assert fit_temperature(z.repeat(3, 1), labels.repeat(3)) == expected


@samples
def test_what_has_been_cooled_or_heated_to_its_temperature_has_temperature_one(
    z: Tensor, labels: Tensor
) -> None:
    temperature = fit_temperature(z, labels)
    rel = 2 * accuracy(z, temperature, U * z.abs().max().item())
    assert fit_temperature(z / temperature, labels) == pytest.approx(1.0, rel=rel)


@samples
def test_temperature_does_not_change_the_choice(z: Tensor, labels: Tensor) -> None:
    p = softmax(z, temperature=fit_temperature(z, labels))
    assert torch.equal(p.argmax(-1), z.argmax(-1))


@dtypes
def test_logits_of_every_dtype_are_computed_in_double_precision(dtype: torch.dtype) -> None:
    z, labels = sampled(200, 5, 2.0)
    z = z.to(dtype)
    assert fit_temperature(z, labels) == fit_temperature(z.double(), labels)
    assert_best(z, labels)


def test_strides_do_not_matter_to_the_temperature() -> None:
    z, labels = sampled(60, 4, 1.0)
    temperature = fit_temperature(z, labels)
    # (z + 1 rounds the logits.)
    rel = 2 * accuracy(z, temperature, U * (z.abs().max().item() + 1))
    expected = pytest.approx(temperature, rel=rel)
    assert fit_temperature(z.T.contiguous().T, labels) == expected
    wide = torch.stack([z, z + 1], -1)[..., 1]
    assert fit_temperature(wide, torch.stack([labels, labels], -1)[:, 1]) == expected


def test_neither_inputs_nor_settings_are_changed() -> None:
    z, labels = sampled(60, 4, 1.0)
    z.requires_grad_()
    before = z.detach().clone(), labels.clone(), torch.get_rng_state()
    expected = fit_temperature(z, labels)
    assert torch.equal(z.detach(), before[0])
    assert torch.equal(labels, before[1])
    assert torch.equal(torch.get_rng_state(), before[2])
    assert z.grad is None
    assert z.requires_grad
    # Evaluation is done without gradients; the fit needs its own.
    with torch.no_grad():
        assert fit_temperature(z, labels) == expected
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_temperature_can_be_fitted_in_inference_mode() -> None:
    z, labels = sampled(60, 4, 1.0)
    expected = fit_temperature(z, labels)
    with torch.inference_mode():
        assert fit_temperature(z, labels) == expected


def test_labels_may_come_from_inference_mode() -> None:
    z, labels = sampled(60, 4, 1.0)
    with torch.inference_mode():
        copies = z.clone(), labels.clone()
    assert fit_temperature(*copies) == fit_temperature(z, labels)


@pytest.mark.parametrize("true", [0.2, 1.0, 2.5, 8.0])
def test_temperature_of_the_labels_is_recovered(true: float) -> None:
    z, labels = sampled(20_000, 5, true, seed=10, spread=3.0)
    p = torch.softmax(z / true, -1)
    mean = (p * z).sum(-1, keepdim=True)
    # Fisher information of log T: N Var / T^2. The estimate is normal, so a right one is further
    # off than 5 standard errors with probability 6e-7.
    information = (p * (z - mean).square()).sum().item() / true**2
    assert information > 100
    assert abs(math.log(fit_temperature(z, labels) / true)) < 5 / math.sqrt(information)


def test_probabilities_are_no_logits() -> None:
    # Fitted to them, the temperature was 0.415 where that of the logits is 2.019.
    z = 3 * torch.randn(50, 4, generator=generator(), dtype=torch.float64)
    labels = torch.multinomial(softmax(z, temperature=2.0), 1, generator=generator(1)).squeeze(-1)
    probs = softmax(z)
    for rows in (probs, probs.float(), probs.half()):
        with pytest.raises(ValueError, match=r"^every row is >= 0 and sums to 1, as probabilities"):
            fit_temperature(rows, labels)
    fitted = fit_temperature(z, labels)
    assert fit_temperature(probs.log(), labels) == pytest.approx(fitted, rel=1e-12)
    # Logits that look so may have a constant added.
    assert fit_temperature(probs + 1, labels) > 0
