from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import scipy.special
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from strategies import (
    SINGLE_DOUBLE,
    as_double,
    assert_within,
    exact_softmax,
    exactly,
    finite_rows,
    log_softmax_bound,
    rows,
    smallest,
    softmax_bound,
    temperatures,
    total,
    unit,
    whole_rows,
)
from torch import Tensor

from omnivault.softmax import log_softmax, softmax

U = unit(torch.float64)

A = [1.0, 5.0, 6.0, 3.0]
B = [-12.0, 120.0, -203.0, 2.0]


# softmax-definition -------------------------------------------------------------------------------


@pytest.mark.statement("softmax-definition", "exact")
@given(rows(), temperatures())
def test_each_share_is_its_exponential_over_the_sum(z: Tensor, temperature: float) -> None:
    p = softmax(z, temperature=temperature)
    # No largest logit is subtracted here: 50 digits with an unbounded exponent need no shift.
    weights = [mp.exp(mp.mpf(x) / temperature) for x in z.tolist()]
    everything = mp.fsum(weights)
    assert_within(p, as_double([w / everything for w in weights]), softmax_bound(z, temperature))


@pytest.mark.statement("softmax-definition", "exact", "torch", "scipy")
@given(rows(), st.sampled_from([0.125, 1.0, 64.0]))
def test_softmax_of_other_libraries_is_this_one(z: Tensor, temperature: float) -> None:
    # They know no temperature; these divide without rounding.
    scaled = z / temperature
    expected, bound = as_double(exact_softmax(z, temperature)), softmax_bound(z, temperature)
    assert_within(torch.softmax(scaled, 0), expected, bound)
    assert_within(torch.from_numpy(scipy.special.softmax(scaled.numpy())), expected, bound)
    assert_within(softmax(z, temperature=temperature), expected, bound)


@pytest.mark.statement("softmax-definition", "exact")
@given(rows(), temperatures())
def test_shares_are_positive_and_sum_to_one(z: Tensor, temperature: float) -> None:
    # Gaps of at most 60 over a temperature of at least 0.1: exp(-600) is a normal float64.
    p = softmax(z, temperature=temperature)
    assert bool((p > 0).all())
    # One sum, one quotient each and the sum that is taken here.
    assert_within(total(exactly(p)), 1, (len(z) + 2) * U)


@pytest.mark.statement("softmax-definition")
@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
@pytest.mark.parametrize(
    ("values", "temperature", "expected"),
    [
        pytest.param([7.0], 1.0, [1.0], id="one class"),
        pytest.param([0.0, 0.0], 1.0, [0.5, 0.5], id="two tied"),
        pytest.param([-3.0] * 4, 0.1, [0.25] * 4, id="four tied"),
        pytest.param([3.0, 1.0, 3.0], 1e-30, [0.5, 0.0, 0.5], id="tiny T keeps the tie at the top"),
        pytest.param([3.0, 1.0], 1e-30, [1.0, 0.0], id="tiny T"),
        pytest.param([3.0, -1.0, 2.0, 0.0], 1e30, [0.25] * 4, id="huge T"),
    ],
)
def test_edges_are_met_exactly(
    values: list[float], temperature: float, expected: list[float], dtype: torch.dtype
) -> None:
    p = softmax(torch.tensor(values, dtype=dtype), temperature=temperature)
    assert p.tolist() == expected


@pytest.mark.statement("softmax-definition")
def test_the_numbers_of_the_running_examples() -> None:
    a, b = (torch.tensor(row, dtype=torch.float64) for row in (A, B))

    def printed(values: Tensor, digits: int) -> str:
        return " ".join(f"{x:.{digits}g}" for x in values.tolist())

    assert [round(x, 4) for x in softmax(a).tolist()] == [0.0047, 0.2583, 0.7020, 0.0350]
    assert printed((a - 6).exp(), 4) == "0.006738 0.3679 1 0.04979"
    assert round((a - 6).exp().sum().item(), 4) == 1.4244
    assert printed(softmax(b), 2) == "4.7e-58 1 5.3e-141 5.7e-52"
    assert printed(a.exp(), 5) == "2.7183 148.41 403.43 20.086"
    assert printed(b.exp(), 4) == "6.144e-06 1.304e+52 6.89e-89 7.389"


# exponential-weights ------------------------------------------------------------------------------

Weight = Callable[[float], float]


def shares(f: Weight, scores: list[float]) -> list[float]:
    weights = [f(score) for score in scores]
    return [w / math.fsum(weights) for w in weights]


def largest_change(f: Weight, k: int) -> float:
    """How far adding a constant to all of ``k`` scores moves any share, over a grid of both."""
    changes = []
    for step in (0.5, 1.0, 2.0):
        scores = [step * i for i in range(k)]
        for c in (-3.0, -1.0, 0.5, 2.0):
            moved = shares(f, [score + c for score in scores])
            changes += [abs(a - b) for a, b in zip(shares(f, scores), moved, strict=True)]
    return max(changes)


@pytest.mark.statement("exponential-weights", "exact")
@given(
    rows(2, 6, bound=20.0),
    st.floats(-50.0, 50.0),
    st.floats(0.05, 5.0),
    st.floats(0.01, 100.0),
)
def test_shares_of_exponential_weights_do_not_move(
    z: Tensor, c: float, beta: float, scale: float
) -> None:
    def f(x: mp.mpf) -> mp.mpf:
        return scale * mp.exp(beta * x)

    scores = [mp.mpf(x) for x in z.tolist()]
    for moved in (scores, [x + mp.mpf(c) for x in scores]):
        everything = mp.fsum(f(x) for x in moved)
        p = softmax(z, temperature=1 / beta)
        # 1 / beta is rounded once more than the bound counts.
        gap = (z.max() - z) * beta
        bound = softmax_bound(z, 1 / beta) + p * U * (gap + (p * gap).sum())
        assert_within(p, as_double([f(x) / everything for x in moved]), bound)


@pytest.mark.statement("exponential-weights")
@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize(
    "f",
    [
        pytest.param(lambda x: math.log1p(math.exp(x)), id="softplus"),
        pytest.param(lambda x: 1 + math.tanh(x), id="1 + tanh"),
        pytest.param(lambda x: 2 + math.atan(x), id="2 + arctan"),
        pytest.param(lambda x: x + math.sqrt(x * x + 1), id="x + sqrt(x^2 + 1)"),
        pytest.param(lambda x: 1 + math.exp(x), id="1 + exp"),
        pytest.param(lambda x: math.exp(x) + math.exp(x / 2), id="two exponentials"),
        pytest.param(lambda x: math.exp(x**3 / 10), id="exp of a cube"),
        pytest.param(lambda x: math.exp(x + 0.1 * math.sin(x)), id="exp with a ripple"),
        pytest.param(lambda x: 1 / (1 + math.exp(-x)), id="sigmoid"),
    ],
)
def test_shares_of_any_other_increasing_weight_move(f: Weight, k: int) -> None:
    grid = [i / 8 for i in range(-48, 81)]
    weights = [f(x) for x in grid]
    # The candidate meets the hypotheses: it is positive and increasing where it is used.
    assert min(weights) > 0
    assert all(a < b for a, b in pairwise(weights))
    assert largest_change(f, k) > 0.01


@pytest.mark.statement("exponential-weights")
@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("beta", [0.2, 1.0, 3.0])
def test_the_same_search_finds_no_move_for_an_exponential(k: int, beta: float) -> None:
    # Exponents up to 3 * 10, each rounded by u relative to its size, a few roundings besides.
    assert_within(largest_change(lambda x: 2.5 * math.exp(beta * x), k), 0, 100 * U)


@pytest.mark.statement("exponential-weights")
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("k", [2, 4])
def test_a_rule_that_does_not_move_gives_back_an_exponential(temperature: float, k: int) -> None:
    def weight(x: float) -> float:
        """f(x) / f(0), read off the shares alone: the proof's way to the function."""
        p = softmax(
            torch.tensor([x, 0.0] + [0.0] * (k - 2), dtype=torch.float64), temperature=temperature
        )
        return (p[0] / p[1]).item()

    r = weight(1.0)
    assert r > 1
    for n in range(-8, 9):
        # Each weight is off by 11 u, an exponential (8 u) and three quotients: r, n times.
        assert_within(weight(float(n)), r**n, rel=12 * (abs(n) + 1) * U)
    for x in (0.5, 0.25, 0.125, -0.375):
        # Continuity carries the law from the integers to the fractions: f(x)^8 = f(8 x).
        assert_within(weight(x) ** 8, weight(8 * x), rel=12 * 9 * U)
    # 12 u in r is 12 u in its logarithm.
    assert_within(math.log(r), 1 / temperature, rel=(12 * temperature + 8) * U)


# luce-choice --------------------------------------------------------------------------------------


@pytest.mark.statement("luce-choice", "exact")
@given(rows(2, 8), temperatures())
def test_log_odds_are_the_difference_over_the_temperature(z: Tensor, temperature: float) -> None:
    log_p = log_softmax(z, temperature=temperature)
    odds = log_p.unsqueeze(-1) - log_p.unsqueeze(-2)
    expected = (z.unsqueeze(-1) - z.unsqueeze(-2)) / temperature
    bound = log_softmax_bound(z, temperature)
    assert_within(odds, expected, 2 * (bound.unsqueeze(-1) + bound.unsqueeze(-2)))
    # And from the shares themselves, against exact differences.
    p = softmax(z, temperature=temperature)
    exact = mp.exp((mp.mpf(z[0].item()) - mp.mpf(z[1].item())) / temperature)
    relative = softmax_bound(z, temperature)[:2] / p[:2]
    assert_within(mp.mpf(p[0].item()) / p[1].item(), exact, rel=1.1 * relative.sum().item())


@pytest.mark.statement("luce-choice", "exact")
@given(rows(1, 8), temperatures())
def test_nothing_but_softmax_has_these_log_odds(z: Tensor, temperature: float) -> None:
    # Odds against the first class and a sum of one determine p: p_i = odds_i p_1, sum p_i = 1.
    odds = [mp.exp((mp.mpf(x) - mp.mpf(z[0].item())) / temperature) for x in z.tolist()]
    first = 1 / mp.fsum(odds)
    expected = as_double([o * first for o in odds])
    assert_within(softmax(z, temperature=temperature), expected, softmax_bound(z, temperature))


@pytest.mark.statement("luce-choice")
@given(rows(2, 2, bound=10.0), rows(0, 6, bound=10.0), rows(0, 6, bound=10.0), temperatures(0.5))
def test_log_odds_of_two_classes_do_not_see_the_others(
    pair: Tensor, some: Tensor, others: Tensor, temperature: float
) -> None:
    ratios = []
    for rest in (some, others):
        p = softmax(torch.cat([pair, rest]), temperature=temperature)
        ratios.append((p[0] / p[1]).item())
    # Gaps of at most 20 / 0.5, rounded three times, in numerator and denominator, twice.
    assert_within(ratios[0], ratios[1], rel=(2 * 2 * 3 * 40 + 16) * U)


@pytest.mark.statement("luce-choice")
def test_log_odds_see_the_pair() -> None:
    # The control: what the test above holds fixed does move when the pair does.
    p = softmax(torch.tensor([1.0, 0.0, 5.0], dtype=torch.float64), temperature=2.0)
    q = softmax(torch.tensor([2.0, 0.0, 5.0], dtype=torch.float64), temperature=2.0)
    # Five exponentials, up to 8 u each, and seven quotients.
    assert_within(q[0] / q[1] / (p[0] / p[1]), math.exp(0.5), rel=48 * U)


@pytest.mark.statement("luce-choice")
@pytest.mark.parametrize(("gap", "dtype"), [(200.0, torch.float32), (2000.0, torch.float64)])
def test_log_odds_survive_where_the_share_does_not(gap: float, dtype: torch.dtype) -> None:
    z = torch.tensor([0.0, -gap, -gap - 1], dtype=dtype)
    assert softmax(z).tolist() == [1.0, 0.0, 0.0]
    log_p = log_softmax(z)
    assert (log_p[1] - log_p[2]).item() == 1.0


# base-is-temperature ------------------------------------------------------------------------------


@pytest.mark.statement("base-is-temperature", "exact")
@given(rows(1, 6, bound=10.0), st.floats(1.01, 1000.0))
def test_a_base_above_one_is_a_temperature(z: Tensor, base: float) -> None:
    powers = [mp.mpf(base) ** mp.mpf(x) for x in z.tolist()]
    expected = as_double([w / mp.fsum(powers) for w in powers])
    temperature = 1 / math.log(base)
    p = softmax(z, temperature=temperature)
    # log(base) and its reciprocal are rounded too; both act as a rounding of T.
    gap = (z.max() - z) / temperature
    bound = softmax_bound(z, temperature) + 2 * p * U * (gap + (p * gap).sum())
    assert_within(p, expected, bound)


@pytest.mark.statement("base-is-temperature", "exact")
@given(whole_rows(2, 6, bound=5), st.floats(0.05, 0.95))
def test_a_base_below_one_reverses_the_order(z: Tensor, base: float) -> None:
    powers = [mp.mpf(base) ** mp.mpf(x) for x in z.tolist()]
    expected = as_double([w / mp.fsum(powers) for w in powers])
    # The order first, without the package's help.
    for i in range(len(z)):
        for j in range(len(z)):
            assert (z[i] > z[j]).item() == (powers[i] < powers[j])
    temperature = -1 / math.log(base)
    p = softmax(-z, temperature=temperature)
    gap = (z - z.min()) / temperature
    bound = softmax_bound(-z, temperature) + 2 * p * U * (gap + (p * gap).sum())
    assert_within(p, expected, bound)


@pytest.mark.statement("base-is-temperature", "exact")
@given(whole_rows(2, 6, bound=5), st.floats(1.01, 1000.0))
def test_a_base_above_one_keeps_the_order(z: Tensor, base: float) -> None:
    powers = [mp.mpf(base) ** mp.mpf(x) for x in z.tolist()]
    p = softmax(z, temperature=1 / math.log(base))
    for i in range(len(z)):
        for j in range(len(z)):
            assert (z[i] > z[j]).item() == (powers[i] > powers[j])
            # Unequal scores differ by one; equal ones may meet two versions of exp.
            assert p[i] > p[j] or not z[i] > z[j]


@pytest.mark.statement("base-is-temperature")
@pytest.mark.parametrize(
    ("base", "temperature"), [(math.e, 1.0), (math.e**2, 0.5), (math.sqrt(math.e), 2.0)]
)
def test_base_e_is_temperature_one(base: float, temperature: float) -> None:
    z = torch.tensor(A, dtype=torch.float64)
    weights = base**z
    # The base is off by 4 u, over five points by 20 u, exponentials by 8 u; p e moves by at most
    # half the largest e, and sums and quotients take 4 u a side.
    assert_within(softmax(z, temperature=temperature), weights / weights.sum(), 32 * U)


@pytest.mark.statement("base-is-temperature")
@given(rows(1, 8))
def test_base_one_is_the_limit_of_infinite_temperature(z: Tensor) -> None:
    weights = 1.0**z
    # Gaps of 60 over 1e30 are lost beside 1.
    assert torch.equal(softmax(z, temperature=1e30), weights / weights.sum())


# max-shift ----------------------------------------------------------------------------------------


@pytest.mark.statement("max-shift")
@given(st.data())
def test_subtracting_the_maximum_changes_no_bit(data: st.DataObject) -> None:
    for dtype in SINGLE_DOUBLE:
        z = data.draw(finite_rows(dtype))
        # The second shift subtracts zero. (Far enough apart, z - max z is -inf, whose share is 0.)
        assert torch.equal(softmax(z), softmax(z - z.max()))


@pytest.mark.statement("max-shift")
@given(st.data(), temperatures(1e-3, 1e3))
def test_any_finite_logits_have_finite_shares(data: st.DataObject, temperature: float) -> None:
    for dtype in SINGLE_DOUBLE:
        # The largest there are, too, which any T below 1 takes beyond the format.
        extreme = torch.finfo(dtype).max * torch.tensor([1.0, -1.0, 0.5], dtype=dtype)
        for z in (extreme, data.draw(finite_rows(dtype))):
            p = softmax(z, temperature=temperature)
            assert not p.isnan().any()
            k, u = len(z), unit(dtype)
            # The sum that divides takes K - 1 roundings in any order, each quotient one.
            assert_within(total(exactly(p)), 1, (k + 2) * u)
            # exp(0) over a sum in [1, K].
            assert (1 - (k + 2) * u) / k <= p.max().item() <= 1


@pytest.mark.statement("max-shift")
@given(rows(bound=1e4), temperatures())
def test_shifted_exponentials_add_up_to_between_one_and_k(z: Tensor, temperature: float) -> None:
    exponents = (z - z.max()) / temperature
    assert bool((exponents <= 0).all())
    weights = exponents.exp()
    assert int((weights == 1).sum()) >= int((z == z.max()).sum()) >= 1
    added = weights.sum().item()
    assert 1 <= added <= len(z)
    # The package's largest share is one over that sum.
    p = softmax(z, temperature=temperature)
    # Two sums, in any order, and two quotients.
    relative = 2 * len(z) * U
    assert_within(p.max(), 1 / added, rel=relative)
    assert_within(p, weights / added, relative * p + 2 * smallest(z.dtype))


@pytest.mark.statement("max-shift", "exact")
@given(rows(bound=1e3), temperatures())
def test_the_shift_changes_nothing_in_exact_arithmetic(z: Tensor, temperature: float) -> None:
    plain = [mp.exp(mp.mpf(x) / temperature) for x in z.tolist()]
    shifted = [mp.exp((mp.mpf(x) - mp.mpf(z.max().item())) / temperature) for x in z.tolist()]
    sides = [[w / mp.fsum(weights) for w in weights] for weights in (plain, shifted)]
    assert_within(*sides, rel=mp.mpf(10) ** -45)
    assert min(shifted) > 0
    assert max(shifted) == 1
    assert 1 <= mp.fsum(shifted) <= len(z)


@pytest.mark.statement("max-shift")
def test_a_shifted_exponential_may_still_round_to_zero() -> None:
    b = torch.tensor(B, dtype=torch.float64)
    for z, zeros in ((b, 0), (b.float(), 3)):
        weights = (z - z.max()).exp()
        assert int((weights == 0).sum()) == int((softmax(z) == 0).sum()) == zeros


@pytest.mark.statement("max-shift", "exact")
@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        pytest.param(B, torch.float32, id="float32, exp(120)"),
        pytest.param([88.8, 0.0], torch.float32, id="float32, just above 88.72"),
        pytest.param([710.0, 0.0], torch.float64, id="float64, just above 709.78"),
        pytest.param([11.1, 0.0], torch.float16, id="float16, just above 11.09"),
        pytest.param([89.0, 0.0], torch.bfloat16, id="bfloat16, above 88.5"),
    ],
)
def test_without_the_shift_the_largest_share_is_nan(
    values: list[float], dtype: torch.dtype
) -> None:
    z = torch.tensor(values, dtype=dtype)
    weights = z.exp()
    assert (weights / weights.sum())[z.argmax()].isnan()
    assert_within(softmax(z), as_double(exact_softmax(z)), softmax_bound(z))


@pytest.mark.statement("max-shift")
@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        pytest.param([88.5, 88.5], torch.float32, id="float32"),
        pytest.param([709.5, 709.5], torch.float64, id="float64"),
        pytest.param([11.0, 11.0], torch.float16, id="float16"),
        pytest.param([88.5, 88.5], torch.bfloat16, id="bfloat16"),
    ],
)
def test_the_sum_overflows_before_its_terms_do(values: list[float], dtype: torch.dtype) -> None:
    z = torch.tensor(values, dtype=dtype)
    weights = z.exp()
    assert not weights.isinf().any()
    # Every term is finite, their sum is not, and all the mass is lost.
    assert (weights / weights.sum()).tolist() == [0.0, 0.0]
    assert softmax(z).tolist() == [0.5, 0.5]
