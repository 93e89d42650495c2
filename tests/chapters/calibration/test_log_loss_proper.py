"""The theorem `log-loss-proper`: The log-loss is strictly proper."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
import scipy.optimize
import scipy.stats
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from mpmath import mp
from torch import Tensor
from torch.nn import functional

from omnivault.calibration import fit_temperature
from omnivault.information import cross_entropy, entropy, kl_divergence
from omnivault.softmax import log_softmax, softmax
from tests.chapters.calibration.common import (
    MIXED,
    ZERO,
    Distribution,
    U,
    all_constant,
    fit_bound,
    generator,
    labeled,
    shares,
    three_means,
)
from tests.support.strategies import (
    as_double,
    assert_within,
    double,
    exact_log_softmax,
    exact_softmax,
    log_softmax_bound,
    softmax_bound,
    temperatures,
    total,
)


def simplex_weights(size: int) -> SearchStrategy[list[int]]:
    """Points of the simplex as whole weights: faces and corners included."""
    return st.lists(st.integers(0, 4), min_size=size, max_size=size).filter(lambda w: sum(w) > 0)


def exact_log_loss(q: Distribution, p: Distribution) -> Any:
    """E of -log p_Y for Y from q, one outcome after the other; those that do not occur add none."""
    terms = []
    for a, b in zip(q, p, strict=True):
        if a > 0:
            if b == 0:
                return mp.inf
            terms.append(
                mp.mpf(a.numerator) / a.denominator * -mp.log(mp.mpf(b.numerator) / b.denominator)
            )
    return mp.fsum(terms)


def floats(p: Distribution) -> Tensor:
    return double([float(x) for x in p])


@pytest.mark.statement("log-loss-proper", "exact", "scipy")
@given(st.integers(1, 5), st.data())
def test_no_claim_costs_less_than_the_truth(k: int, data: st.DataObject) -> None:
    q = shares(data.draw(simplex_weights(k)))
    p = q if data.draw(st.booleans()) else shares(data.draw(simplex_weights(k)))
    excess = exact_log_loss(q, p) - exact_log_loss(q, q)
    # Pinsker: half the squared distance. Equality if and only if the two are equal.
    distance = float(total(abs(a - b) for a, b in zip(q, p, strict=True)))
    assert excess >= distance**2 / 2
    assert (excess == 0) == (p == q)
    assert (excess == mp.inf) == any(a > 0 and b == 0 for a, b in zip(q, p, strict=True))
    # The same from the package and from scipy: a few roundings of terms below 10.
    log_loss, least = cross_entropy(floats(q), floats(p)), entropy(floats(q))
    assert_within(log_loss.item(), exact_log_loss(q, p), 128 * U)
    assert_within(least.item(), exact_log_loss(q, q), 128 * U)
    divergence = float(scipy.stats.entropy(floats(q).numpy(), floats(p).numpy()))
    assert_within(divergence, excess, 128 * U)
    assert_within(kl_divergence(floats(q), floats(p)).item(), excess, 128 * U)


@pytest.mark.statement("log-loss-proper", "torch")
@pytest.mark.parametrize(
    ("q", "p", "excess"),
    [
        pytest.param([1], [1], 0.0, id="one class"),
        pytest.param([1, 1], [1, 1], 0.0, id="the truth"),
        pytest.param([1, 0], [1, 0], 0.0, id="certain and right"),
        pytest.param([1, 0], [0, 1], math.inf, id="certain and wrong"),
        pytest.param([1, 1], [1, 0], math.inf, id="ruled out and occurs"),
        pytest.param([1, 0], [1, 1], math.log(2), id="does not occur and not ruled out"),
        pytest.param([1, 1, 0], [1, 1, 0], 0.0, id="neither occurs nor claimed"),
        pytest.param([1, 1, 0], [1, 3, 0], math.log(4 / 3) / 2, id="nor there, others wrong"),
        pytest.param([1, 1, 0], [1, 1, 2], math.log(2), id="half given away"),
        pytest.param([3, 1], [1, 1], math.log(2) - 0.5623351446188083, id="hesitant"),
    ],
)
def test_what_a_wrong_claim_costs(q: list[int], p: list[int], excess: float) -> None:
    truth, claim = floats(shares(q)), floats(shares(p))
    computed = (cross_entropy(truth, claim) - entropy(truth)).item()
    # Logarithms up to log 4, within 4 ulp, in two sums of three terms.
    assert_within(computed, excess, 32 * U)
    # The mean loss of labels that come up exactly as often as the truth says.
    labels = torch.tensor([k for k, n in enumerate(q) for _ in range(n)])
    mean = functional.nll_loss(claim.log().expand(len(labels), -1), labels)
    assert_within(mean.item(), excess + entropy(truth).item(), 32 * U)


@pytest.mark.statement("log-loss-proper", "scipy")
@pytest.mark.parametrize(
    ("q", "bounds"), [([3, 1], (0.01, 0.99)), ([1, 1], (0.01, 0.99)), ([1, 9], (0.01, 0.99))]
)
def test_a_minimizer_finds_the_truth(q: list[int], bounds: tuple[float, float]) -> None:
    truth = floats(shares(q))
    found = scipy.optimize.minimize_scalar(
        lambda a: cross_entropy(truth, double([a, 1 - a])).item(), bounds=bounds, method="bounded"
    )
    # Where it stops; rounding, which it sees in steps of a third of that, moves it by less.
    assert_within(found.x, truth[0].item(), 1e-5)


class Source(NamedTuple):
    """Rows of logits with whole weights."""

    z: Tensor
    weights: list[int]


@st.composite
def sources(draw: DrawFn) -> Source:
    z, _ = draw(labeled(3, bound=4))
    return Source(z, draw(st.lists(st.integers(1, 3), min_size=len(z), max_size=len(z))))


def exact_expected_loss(source: Source, true_temperature: float, temperature: float) -> Any:
    """E of -log softmax_T(z(X))_Y with Y from softmax at the true temperature."""
    terms = [
        w * a * -b
        for row, w in zip(source.z, source.weights, strict=True)
        for a, b in zip(
            exact_softmax(row, true_temperature), exact_log_softmax(row, temperature), strict=True
        )
    ]
    return mp.fsum(terms) / sum(source.weights)


@pytest.mark.statement("log-loss-proper", "exact")
@settings(max_examples=60)
@given(sources(), st.lists(st.integers(2, 16), min_size=2, max_size=4, unique=True))
@example(Source(MIXED[0], [3, 1]), [4, 2, 8])
def test_the_true_temperature_is_the_only_best_one_unless_all_rows_are_constant(
    source: Source, quarters: list[int]
) -> None:
    truth, *others = (n / 4 for n in quarters)
    least = exact_expected_loss(source, truth, truth)
    # It is a mean of entropies, at most log K.
    p = torch.stack([as_double(exact_softmax(row, truth)) for row in source.z])
    weight = double(source.weights) / sum(source.weights)
    assert_within((weight * entropy(p)).sum().item(), least, 64 * U)
    assert float(least) <= math.log(source.z.shape[1]) + 8 * U
    for other in others:
        excess = exact_expected_loss(source, truth, other) - least
        if all_constant(source.z):
            assert_within(excess, 0, ZERO)
        else:
            # Gaps of 8 over a T of 1/2: probabilities down to exp(-16).
            assert excess > mp.mpf(10) ** -12
        # The package's own, by the identity of cross-entropy.
        claim = softmax(source.z, temperature=other)
        computed = (weight * cross_entropy(p, claim)).sum().item()
        # Logarithms down to -17, of claims with exponents as large.
        assert_within(computed, excess + least, 512 * U)


@pytest.mark.statement("log-loss-proper", "scipy")
@pytest.mark.parametrize(
    "rows",
    [
        # The logits may be the same for every input, as long as they are not all equal.
        pytest.param([[2.0, 0.0]], id="one row"),
        pytest.param([[0.0, 2.0, 0.0]], id="one row, all but one equal"),
        pytest.param([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0]], id="a constant row beside it"),
        pytest.param([[1.0, 0.0], [0.0, 3.0], [0.5, 0.0]], id="several"),
    ],
)
@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_a_minimizer_finds_the_true_temperature(rows: list[list[float]], truth: float) -> None:
    z = double(rows)
    p = torch.softmax(z / truth, -1)

    def expected_loss(temperature: float) -> float:
        return -(p * log_softmax(z, temperature=temperature)).sum(-1).mean().item()

    found = scipy.optimize.minimize_scalar(expected_loss, bounds=(0.05, 20.0), method="bounded")
    # Where it stops; rounding, which it sees in steps of a third of that, moves it by less.
    assert_within(found.x, truth, 1e-5)
    # Two means of losses around 1, of three terms each.
    assert expected_loss(truth) <= found.fun + 64 * U


@pytest.mark.statement("log-loss-proper")
@pytest.mark.statement("best-temperature")
@settings(max_examples=40)
@given(
    st.integers(2, 4).flatmap(
        lambda k: st.lists(
            st.lists(st.integers(1, 5), min_size=k, max_size=k), min_size=1, max_size=3
        )
    ),
    temperatures(0.1, 10.0),
)
def test_labels_in_the_very_shares_of_softmax_give_its_temperature_back(
    rows: list[list[int]], truth: float
) -> None:
    assume(any(len(set(row)) > 1 for row in rows))
    # softmax_T(T log n) = n / sum n: each class as often as its weight says, each row in its turn.
    z = [[truth * math.log(n) for n in row] for row in rows for _ in range(sum(row))]
    labels = [k for row in rows for k, n in enumerate(row) for _ in range(n)]
    data = double(z), torch.tensor(labels)
    # Each logit is rounded three times, the logarithm within 2 u among them.
    moved = 4 * U * data[0].abs().max().item()
    assert_within(fit_temperature(*data), truth, rel=fit_bound(*data, truth, moved))
    # That the truth is a softmax of the logits puts the labels strictly between.
    left, middle, right = three_means(data)
    assert left < middle < right


@pytest.mark.statement("log-loss-proper", "statistical", false_alarm=2.2e-6)
@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_labels_drawn_at_a_temperature_give_it_back_within_its_error(truth: float) -> None:
    z = 2 * torch.randn(5000, 5, generator=generator(), dtype=torch.float64)
    drawn = torch.multinomial(torch.softmax(z / truth, -1), 1, generator=generator(1))
    beta = 1 / fit_temperature(z, drawn.squeeze(-1))
    p = softmax(beta * z)
    information = ((p * z**2).sum(-1) - (p * z).sum(-1) ** 2).sum().item()
    # Five standard errors: were the score exactly normal, other seeds would fail with a probability
    # of 6e-7. By saddlepoints of its own distribution it is up to 9e-7, and 2.2e-6 for all three.
    assert abs(beta - 1 / truth) < 5 / math.sqrt(information)
    assert information > 100 * truth**2


@pytest.mark.statement("log-loss-proper", "exact")
def test_at_every_other_temperature_the_package_shows_more_than_its_rounding() -> None:
    z = 3 * torch.randn(50, 6, generator=generator(), dtype=torch.float64)
    for row in z:
        q = torch.softmax(row / 2, -1)
        for temperature in (0.5, 1.0, 2.0, 4.0):
            log_p = log_softmax(row, temperature=temperature)
            excess = (-(q * log_p).sum() - entropy(q)).item()
            exact = [
                float(a * (mp.log(a) - b))
                for a, b in zip(
                    exact_softmax(row, 2.0), exact_log_softmax(row, temperature), strict=True
                )
            ]
            allowed = (q * log_softmax_bound(row, temperature)).sum().item() + 64 * U
            # d(-q log p + q log q) = (1 + log q - log p) dq.
            slopes = 1 + q.log().abs() + log_p.abs()
            allowed += (softmax_bound(row, 2.0) * slopes).sum().item()
            assert_within(excess, math.fsum(exact), allowed)
            assert (excess > allowed) == (temperature != 2.0)
