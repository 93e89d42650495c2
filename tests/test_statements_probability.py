from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import permutations

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from strategies import (
    DTYPES,
    Event,
    as_double,
    assert_within,
    events,
    exact_softmax,
    exactly,
    log_softmax_bound,
    number,
    rounded,
    rows,
    smallest,
    softmax_bound,
    temperatures,
    unit,
    whole_rows,
)
from torch import Tensor

from omnivault.softmax import log_softmax, logsumexp, softmax

U = unit(torch.float64)

Measure = Callable[[Event], Fraction]


def measure(z: Tensor, temperature: float, *, normalized: bool = True) -> Measure:
    """P(A) = sum over A of the very numbers p, over their sum unless that is to be seen."""
    p = exactly(softmax(z, temperature=temperature))
    total = sum(p, Fraction(0)) if normalized else Fraction(1)
    return lambda event: sum((p[j] for j in event), Fraction(0)) / total


# kolmogorov-axioms, softmax-measure ---------------------------------------------------------------


@pytest.mark.statement("kolmogorov-axioms", "exact")
@pytest.mark.statement("softmax-measure", "exact")
@given(rows(1, 6), temperatures())
def test_an_event_has_the_ratio_of_two_sums_of_exponentials(z: Tensor, temperature: float) -> None:
    p = softmax(z, temperature=temperature)
    everything = events(len(z))
    assert len(everything) == 2 ** len(z)
    for event in everything:
        members = sorted(event)
        weights = [mp.exp((mp.mpf(x) - mp.mpf(z.max().item())) / temperature) for x in z.tolist()]
        expected = mp.fsum(weights[j] for j in members) / mp.fsum(weights)
        # The sum of the errors of its members, and of adding them.
        allowed = softmax_bound(z, temperature)[members].sum().item() + len(z) * U * expected
        assert_within(p[members].sum(), expected, allowed)


@pytest.mark.statement("kolmogorov-axioms", "exact")
@pytest.mark.statement("softmax-measure", "exact")
@given(rows(1, 6), temperatures())
def test_first_axiom_no_event_is_negative(z: Tensor, temperature: float) -> None:
    probability = measure(z, temperature, normalized=False)
    assert all(probability(event) >= 0 for event in events(len(z)))


@pytest.mark.statement("kolmogorov-axioms", "exact")
@pytest.mark.statement("softmax-measure", "exact")
@given(rows(1, 6), temperatures())
def test_second_axiom_something_happens(z: Tensor, temperature: float) -> None:
    omega = frozenset(range(len(z)))
    assert measure(z, temperature)(omega) == 1
    # What the exact normalization had to repair is rounding: K quotients and one sum.
    assert_within(measure(z, temperature, normalized=False)(omega), 1, (len(z) + 1) * U)


@pytest.mark.statement("kolmogorov-axioms", "exact")
@pytest.mark.statement("softmax-measure", "exact")
@settings(max_examples=25)
@given(rows(1, 6), temperatures())
def test_third_axiom_disjoint_events_add_up(z: Tensor, temperature: float) -> None:
    probability = measure(z, temperature)
    everything = events(len(z))
    value = {event: probability(event) for event in everything}
    for a in everything:
        for b in everything:
            together = value[a] + value[b]
            assert value[a | b] == together - value[a & b]
            # Disjointness is needed: every single outcome weighs something.
            assert (value[a | b] == together) == (not a & b)


@pytest.mark.statement("kolmogorov-axioms", "exact")
@pytest.mark.statement("softmax-measure", "exact")
@given(whole_rows(2, 6), temperatures(0.5))
def test_a_sequence_of_disjoint_events_adds_up(z: Tensor, temperature: float) -> None:
    # On a finite space all but K events of a disjoint sequence are empty, so the series stops.
    probability = measure(z, temperature)
    exact = exact_softmax(z, temperature)
    errors = softmax_bound(z, temperature)
    sequence = [frozenset({j}) for j in range(len(z))] + [frozenset[int]()] * 50
    partial = Fraction(0)
    union: Event = frozenset()
    for event in sequence:
        assert not union & event
        partial += probability(event)
        union |= event
        assert probability(union) == partial
        expected = mp.fsum(exact[: len(union)])
        assert_within(partial, expected, 2 * errors.sum().item() + len(z) * U)
    assert partial == 1


@pytest.mark.statement("softmax-measure", "exact")
@settings(max_examples=10)
@given(rows(1, 4, bound=5.0), temperatures(0.5))
def test_the_shares_determine_the_measure(z: Tensor, temperature: float) -> None:
    # Additivity over disjoint events and the single outcomes: linear equations for the 2^K values.
    everything = events(len(z))
    column = {event: i for i, event in enumerate(everything)}
    p = softmax(z, temperature=temperature)
    equations: list[Tensor] = []
    right: list[float] = []
    unit_row = torch.eye(len(everything), dtype=torch.float64)
    for a in everything:
        for b in everything:
            if not a & b:
                equations.append(
                    unit_row[column[a | b]] - unit_row[column[a]] - unit_row[column[b]]
                )
                right.append(0.0)
    for j in range(len(z)):
        equations.append(unit_row[column[frozenset({j})]])
        right.append(p[j].item())
    matrix = torch.stack(equations)
    assert int(torch.linalg.matrix_rank(matrix)) == len(everything)
    solution = torch.linalg.lstsq(matrix, torch.tensor(right, dtype=torch.float64)).solution
    exact = exact_softmax(z, temperature)
    sums = as_double([mp.fsum(exact[j] for j in event) for event in everything])
    # The shares' errors, and those of a least-squares solution of norm 4 at most: a few times 2^K
    # roundings, which the condition number magnifies.
    condition = torch.linalg.cond(matrix).item()
    allowed = softmax_bound(z, temperature).sum().item() + 16 * len(everything) * condition * U
    assert_within(solution, sums, allowed)


# measure-consequences -----------------------------------------------------------------------------


@pytest.mark.statement("measure-consequences", "exact")
@settings(max_examples=25)
@given(rows(1, 5), temperatures())
def test_what_follows_from_the_axioms(z: Tensor, temperature: float) -> None:
    probability = measure(z, temperature)
    omega = frozenset(range(len(z)))
    value = {event: probability(event) for event in events(len(z))}
    assert value[frozenset()] == 0
    for a, p_a in value.items():
        assert value[omega - a] == 1 - p_a
        assert 0 <= p_a <= 1
        for b, p_b in value.items():
            if a <= b:
                assert p_a <= p_b
                assert value[b - a] == p_b - p_a
                # Every outcome has a positive share, so a larger event is more probable.
                assert (p_a == p_b) == (a == b)
            assert value[a | b] == p_a + p_b - value[a & b]
            assert value[a | b] <= p_a + p_b


@pytest.mark.statement("measure-consequences")
def test_the_consequences_in_numbers() -> None:
    # Weights 1, 2, 3, 4 out of 10: every probability can be checked by eye.
    z = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64).log()
    p = softmax(z)
    a, b = [0, 1, 2], [2, 3]
    # Logarithms up to 1.4 and exponentials are off by 8 u of themselves; twice, for the sum.
    relative = 64 * U
    assert_within(p[a].sum(), 0.6, rel=relative)
    assert_within(p[b].sum(), 0.7, rel=relative)
    assert_within(p[[2]].sum(), 0.3, rel=relative)
    assert_within(p[[0, 1, 2, 3]].sum(), 0.6 + 0.7 - 0.3, rel=relative)
    assert_within(p[[3]].sum(), 1 - 0.6, rel=relative)


# open-simplex -------------------------------------------------------------------------------------


@pytest.mark.statement("open-simplex")
@given(rows(2, 8, bound=15.0), temperatures(1.0))
def test_every_share_lies_strictly_between_zero_and_one(z: Tensor, temperature: float) -> None:
    # Gaps of at most 30 / 1: exp(-30) is 800 times the rounding of 1.
    p = softmax(z, temperature=temperature)
    assert bool(((p > 0) & (p < 1)).all())


@pytest.mark.statement("open-simplex")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("logit", [-1e4, -1.0, 0.0, 3.5, 1e4])
def test_one_class_has_all_of_it(logit: float, dtype: torch.dtype) -> None:
    assert softmax(torch.tensor([logit], dtype=dtype), temperature=0.7).tolist() == [1.0]


def interior_points() -> st.SearchStrategy[Tensor]:
    def normalized(weights: list[float]) -> Tensor:
        p = torch.tensor(weights, dtype=torch.float64)
        return p / p.sum()

    return st.lists(st.floats(1e-12, 1.0), min_size=2, max_size=8).map(normalized)


@pytest.mark.statement("open-simplex")
@given(interior_points(), temperatures(), st.integers(-10, 10))
def test_every_interior_point_is_reached(p: Tensor, temperature: float, c: int) -> None:
    z = temperature * p.log() + c
    # The logarithm is off by 8 u of itself, T log p and the sum by one u; these errors of the
    # exponents reach every p through the sum, too. The sum of p was off by K u.
    size = 10 * p.log().abs() + abs(c) / temperature
    relative = size + (p * size).sum() + len(p) + 2
    allowed = softmax_bound(z, temperature) + p * U * relative
    assert_within(softmax(z, temperature=temperature), p, allowed)


@pytest.mark.statement("open-simplex")
@given(rows(2, 8), temperatures())
def test_the_preimage_is_unique_up_to_a_constant(z: Tensor, temperature: float) -> None:
    preimage = temperature * log_softmax(z, temperature=temperature)
    constant = z - preimage
    expected = logsumexp(z, temperature=temperature)
    allowed = 2 * temperature * log_softmax_bound(z, temperature) + 4 * U * (
        z.abs() + expected.abs()
    )
    assert_within(constant, expected.expand_as(z), allowed)


@pytest.mark.statement("open-simplex")
def test_the_boundary_is_approached_and_not_reached() -> None:
    # 1 - p_1 = exp(-m) / (1 + exp(-m)): as near to 0 as wanted, and exactly the second share.
    for m in (1.0, 10.0, 30.0, 36.0, 300.0, 700.0):
        p = softmax(torch.tensor([0.0, -m], dtype=torch.float64))
        assert_within(p[1], math.exp(-m) / (1 + math.exp(-m)), rel=(3 * m + 16) * U)
        assert p[1].item() > 0
        assert (p[0].item() < 1) == (m <= 36)


# float-saturation ---------------------------------------------------------------------------------


@pytest.mark.statement("float-saturation")
def test_float32_leaves_the_open_simplex() -> None:
    z = torch.tensor([0.0, -200.0, -300.0])
    assert softmax(z).tolist() == [1.0, 0.0, 0.0]
    # In exact arithmetic, and in float64, it does not.
    p = softmax(z.double())
    # An exponential here, 8 u, and one there, 2 u; the sum is 1.
    assert_within(p[1:], [math.exp(-200), math.exp(-300)], rel=12 * U)


# A format with t significant bits and the smallest number 2^-s: halfway between 0 and that lies
# 2^-(s + 1), halfway between 1 and the next number, 1 + 2^(1 - t), lies 1 + 2^-t. Both ties go to
# the even neighbor, to 0 and to 1.
FORMATS = pytest.mark.parametrize(
    ("dtype", "t", "s"),
    [
        pytest.param(torch.float32, 24, 149, id="float32"),
        pytest.param(torch.float64, 53, 1074, id="float64"),
    ],
)


def two_shares(gap: Tensor, temperature: float = 1.0) -> list[float]:
    """The shares of two classes whose logits are ``gap`` temperatures apart."""
    z = torch.stack([torch.zeros_like(gap), -gap * temperature])
    return [float(share) for share in softmax(z, temperature=temperature)]


@pytest.mark.statement("float-saturation")
@FORMATS
def test_shares_are_zero_and_one_exactly_when_the_rounded_weight_says_so(
    dtype: torch.dtype, t: int, s: int
) -> None:
    integers = torch.int32 if dtype is torch.float32 else torch.int64
    steps = torch.arange(-500, 500, dtype=integers)
    # Consecutive numbers around both thresholds, and everything from 0 past the second.
    near = [
        (torch.tensor(n * math.log(2), dtype=dtype).view(integers) + steps).view(dtype)
        for n in (t, s + 1)
    ]
    gap = torch.cat([*near, torch.linspace(0, 1.1 * s * math.log(2), 10_000, dtype=dtype)])
    z = torch.stack([torch.zeros_like(gap), -gap], -1)
    weight = z.exp()[:, 1]
    larger, smaller = softmax(z).unbind(-1)
    assert torch.equal(larger == 1, weight <= 2.0**-t)
    assert torch.equal(smaller == 0, weight == 0)
    for event in (larger == 1, smaller == 0):
        assert event.any()
        assert not event.all()


@pytest.mark.statement("float-saturation", "exact")
@pytest.mark.parametrize(("t", "s"), [(2, 5), (3, 7), (4, 15), (8, 17)])
def test_in_small_formats_with_every_operation_rounded(t: int, s: int) -> None:
    zero, one = Fraction(1, 2 ** (s + 1)), Fraction(1, 2**t)
    least = Fraction(1, 2**s)
    below_one = number(one) * mp.exp(mp.mpf(2) ** (1 - t))
    # exp(-g) around the thresholds and elsewhere.
    near = [at * (1 + Fraction(i, 2 ** (t + 3))) for at in (zero, one) for i in range(-32, 33)]
    for exp in near + [Fraction(i, 1000) for i in range(1, 1001)]:
        weight = rounded(exp, t, least)
        both = rounded(1 + weight, t, least)
        larger, smaller = rounded(1 / both, t, least), rounded(weight / both, t, least)
        assert (larger == 1) == (weight <= one)
        assert larger == 1 or exp > one  # g below t log 2
        assert larger < 1 or number(exp) < below_one  # g above t log 2 - 2^(1 - t)
        assert (smaller == 0) == (weight == 0) == (exp <= zero)


# The thresholds are certain for a correctly rounded exp. One that errs by four units in the last
# place may move them by four relative eps of exp, that is, by 8 u in the gap: less than the
# distance of two numbers there, 2 u times 16 or more. So look two numbers to either side.
def around(threshold: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    margin = 4 * unit(dtype) * threshold
    before = torch.tensor(threshold - margin, dtype=dtype)
    return before, torch.tensor(threshold + margin, dtype=dtype)


@pytest.mark.statement("float-saturation")
@FORMATS
@pytest.mark.parametrize("temperature", [1.0, 0.5, 4.0])
def test_the_gap_from_which_the_smaller_share_is_zero(
    dtype: torch.dtype, t: int, s: int, temperature: float
) -> None:
    # The temperatures are powers of two, so that z / T is the gap again.
    before, after = around((s + 1) * math.log(2), dtype)
    assert two_shares(before, temperature) == [1.0, smallest(dtype)]
    assert two_shares(after, temperature) == [1.0, 0.0]
    # Up to 1.5 times the smallest number it is rounded down.
    before, after = around((s + 1) * math.log(2) - math.log(3), dtype)
    assert two_shares(before, temperature)[1] == 2 * smallest(dtype)
    assert two_shares(after, temperature)[1] == smallest(dtype)
    assert smallest(dtype) == 2.0**-s


@pytest.mark.statement("float-saturation")
@FORMATS
@pytest.mark.parametrize("temperature", [1.0, 0.5, 4.0])
def test_the_gap_from_which_the_larger_share_is_one(
    dtype: torch.dtype, t: int, s: int, temperature: float
) -> None:
    before, after = around(t * math.log(2), dtype)
    # 1 + weight is rounded to 1 + 2^(1 - t), whose reciprocal is 1 - 2^(1 - t): the largest number
    # below one, 1 - 2^-t, is skipped.
    assert two_shares(before, temperature)[0] == 1 - 2.0 ** (1 - t)
    assert two_shares(after, temperature)[0] == 1.0
    for gap in (before, after):
        # Nothing happens to the small share there, and the two sum to more than one.
        larger, smaller = two_shares(gap, temperature)
        # The gap is off t log 2 by 4 u of it and one rounding, below 4 t u; exp by 8 u.
        assert_within(smaller, 2.0**-t, rel=(4 * t + 12) * unit(dtype))
    assert Fraction(larger) + Fraction(smaller) > 1


@pytest.mark.statement("float-saturation")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_many_small_shares_add_up_to_keep_the_largest_below_one(dtype: torch.dtype) -> None:
    # u is 2^-t, so that alone each of them is e times too light.
    gap = 1 - math.log(unit(dtype))
    alone = torch.tensor([0.0, -gap], dtype=dtype)
    among = torch.tensor([0.0] + [-gap] * 1000, dtype=dtype)
    assert softmax(alone)[0].item() == 1.0
    # 1000 exp(-gap) = 1000 u / e, far more than one rounding.
    exact = 1 / (1 + 1000 * unit(dtype) / math.e)
    assert_within(softmax(among)[0], exact, softmax_bound(among)[0])
    assert softmax(among)[0].item() < 1


# Half the smallest subnormal is 2^-25 in float16 and 2^-134 in bfloat16, which float32 still
# holds; p itself is rounded to the dtype, so that it is 1 within a quarter of eps, not half.
@pytest.mark.statement("float-saturation")
@pytest.mark.parametrize(
    ("dtype", "vanishes", "certain"),
    [
        pytest.param(torch.float16, 25 * math.log(2), 12 * math.log(2), id="float16"),
        pytest.param(torch.bfloat16, 134 * math.log(2), 9 * math.log(2), id="bfloat16"),
    ],
)
def test_half_precision_saturates_sooner(
    dtype: torch.dtype, vanishes: float, certain: float
) -> None:
    # The gap is represented to 2^-8 relative at worst, so look one percent to either side.
    def shares(gap: float) -> list[float]:
        return softmax(torch.tensor([0.0, -gap], dtype=dtype)).tolist()

    assert shares(certain * 1.01)[0] == 1.0
    assert shares(certain * 0.99)[0] < 1.0
    assert shares(vanishes * 0.99)[1] > 0.0
    assert shares(vanishes * 1.01)[1] == 0.0


# calibration-definition ---------------------------------------------------------------------------

FALSE_ALARM = 1e-6
DRAWS = 200_000


def logits_of(n: int) -> Tensor:
    """n rows: every order of three rows of logits, so that many rows give a class the same q."""
    base = [[0.0, 1.0, 2.0], [0.0, 0.5, -0.5], [3.0, 0.0, 0.0]]
    table = torch.tensor([list(p) for row in base for p in permutations(row)], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    return table[torch.randint(len(table), (n,), generator=generator)]


def labels_of(p: Tensor) -> Tensor:
    """One draw per row by inverting its distribution function."""
    generator = torch.Generator().manual_seed(1)
    u = torch.rand(len(p), 1, generator=generator, dtype=torch.float64)
    return (p.cumsum(-1) < u).sum(-1).clamp(max=p.shape[-1] - 1)


def least_p_value(p: Tensor, labels: Tensor) -> float:
    """Chi-square test, for every announced q, that the labels below it have distribution q.

    The smallest p-value, times the number of tests (Bonferroni).
    """
    p_values: list[float] = []
    # The weights of one row in another order may sum to another last digit.
    distributions, group = torch.unique(p.round(decimals=12), dim=0, return_inverse=True)
    for i, q in enumerate(distributions):
        counts = torch.bincount(labels[group == i], minlength=p.shape[-1]).double()
        expected = q * counts.sum()
        # Enough in every cell for the chi-square distribution to be accurate far in its tail.
        assert expected.min() > 50
        p_values.append(float(scipy.stats.chisquare(counts.numpy(), expected.numpy()).pvalue))
    return min(1.0, min(p_values) * len(p_values))


def least_p_value_by_class(p: Tensor, labels: Tensor) -> float:
    """What follows for single numbers, P(Y = k | p_k = q) = q: exact binomial tests."""
    p_values: list[float] = []
    for k in range(p.shape[-1]):
        numbers, group = torch.unique(p[:, k].round(decimals=12), return_inverse=True)
        sizes = torch.bincount(group).tolist()
        hits = torch.bincount(group[labels == k], minlength=len(numbers)).tolist()
        p_values += [
            float(scipy.stats.binomtest(hit, size, q).pvalue)
            for hit, size, q in zip(hits, sizes, numbers.tolist(), strict=True)
        ]
    return min(1.0, min(p_values) * len(p_values))


@pytest.mark.statement("calibration-definition", "statistical", false_alarm=2e-6)
@pytest.mark.parametrize("test", [least_p_value, least_p_value_by_class])
def test_labels_drawn_from_softmax_make_it_calibrated(
    test: Callable[[Tensor, Tensor], float],
) -> None:
    # Other seeds would fail with a probability of at most FALSE_ALARM.
    labels = labels_of(torch.softmax(logits_of(DRAWS), -1))
    assert test(softmax(logits_of(DRAWS)), labels) > FALSE_ALARM


@pytest.mark.statement("calibration-definition", "statistical", false_alarm=0.003)
@pytest.mark.parametrize("test", [least_p_value, least_p_value_by_class])
@pytest.mark.parametrize("temperature", [0.5, 0.95, 1.1, 2.0])
def test_another_temperature_is_not_calibrated(
    temperature: float, test: Callable[[Tensor, Tensor], float]
) -> None:
    z = logits_of(DRAWS)
    labels = labels_of(torch.softmax(z, -1))
    q = softmax(z, temperature=temperature)
    # The winners, and with them the accuracy, are the same; the probabilities are wrong.
    assert torch.equal(q.argmax(-1), z.argmax(-1))
    # Other seeds would hide the temperature 0.95 with a probability of 0.0023, by the noncentral
    # chi-square distribution, and the others never.
    assert test(q, labels) < FALSE_ALARM


@pytest.mark.statement("calibration-definition", "statistical", false_alarm=1e-6)
def test_calibration_is_not_accuracy() -> None:
    # Always announcing the overall frequencies is calibrated, and knows nothing about any row.
    z = logits_of(DRAWS)
    truth = torch.softmax(z, -1)
    labels = labels_of(truth)
    # Every order of a row is as likely as any other, so each class comes up a third of the time.
    announced = softmax(torch.zeros_like(z))
    assert least_p_value(announced, labels) > FALSE_ALARM
    informed = (truth.argmax(-1) == labels).double().mean().item()
    ignorant = (announced.argmax(-1) == labels).double().mean().item()
    assert informed > ignorant + 0.2
