from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import scipy.special
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from mpmath import mp
from strategies import (
    DTYPES,
    SINGLE_DOUBLE,
    arithmetic,
    as_double,
    assert_within,
    exact_softmax,
    finite_rows,
    log_softmax_bound,
    logsumexp_bound,
    row_pairs,
    rows,
    softmax_bound,
    temperatures,
    unit,
    whole_row_pairs,
    whole_rows,
)
from torch import Tensor

from omnivault.information import entropy
from omnivault.softmax import log_softmax, logsumexp, softmax, softmax_jacobian

U = unit(torch.float64)

EXAMPLE = torch.tensor([2.0, 1.0, 3.0, 5.0, 4.0], dtype=torch.float64)


def above(x: Tensor) -> Tensor:
    """Entry (i, j) says whether x_i > x_j."""
    return x.unsqueeze(-1) > x.unsqueeze(-2)


def is_constant(z: Tensor) -> bool:
    return bool((z == z[0]).all())


def svd_error(k: int) -> float:
    """Of singular values of K x K numbers, relative to the largest: some K^2 roundings."""
    return 8 * k * k * U


# order-preservation -------------------------------------------------------------------------------


@pytest.mark.statement("order-preservation")
@given(whole_rows(2, 8, bound=15), temperatures(1.0, 100.0))
def test_order_and_ties_are_kept_both_ways(z: Tensor, temperature: float) -> None:
    # Gaps between 1 / 100 and 30: far above rounding, far from underflow.
    p = softmax(z, temperature=temperature)
    assert torch.equal(above(p), above(z))
    # i above j in neither order means a tie: ties are exactly the ties.
    assert torch.equal(p.unsqueeze(-1) == p.unsqueeze(-2), z.unsqueeze(-1) == z.unsqueeze(-2))


@pytest.mark.statement("order-preservation", "exact")
@given(rows(2, 6, bound=50.0), temperatures())
def test_order_in_exact_arithmetic(z: Tensor, temperature: float) -> None:
    # Multiples of 2^-20: the least gap over the largest T is 1e-8, and 50 digits see 1e-50.
    z = (z * 2**20).round() / 2**20
    p = exact_softmax(z, temperature)
    computed = softmax(z, temperature=temperature)
    for i, j in itertools.permutations(range(len(z)), 2):
        assert (z[i] > z[j]).item() == (p[i] > p[j])
        assert (z[i] == z[j]).item() == (p[i] == p[j])
        if z[i] >= z[j]:
            assert computed[i] >= computed[j]


@pytest.mark.statement("order-preservation")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 8.0])
def test_the_example_keeps_its_ranking(dtype: torch.dtype, temperature: float) -> None:
    p = softmax(EXAMPLE.to(dtype), temperature=temperature)
    assert p.argsort().tolist() == EXAMPLE.argsort().tolist() == [1, 0, 2, 4, 3]
    assert len(set(p.tolist())) == 5


# argmax-invariance --------------------------------------------------------------------------------


@pytest.mark.statement("argmax-invariance")
@given(whole_rows(1, 8), st.lists(temperatures(0.01, 1e4), min_size=2, max_size=5))
def test_ranking_and_argmax_set_are_those_of_the_logits_at_every_temperature(
    z: Tensor, several: list[float]
) -> None:
    for temperature in several:
        log_p = log_softmax(z, temperature=temperature)
        # The logarithm does not underflow: gaps of 1e-4 to 2000.
        assert torch.equal(above(log_p), above(z))
        p = softmax(z, temperature=temperature)
        assert torch.equal(p == p.max(), z == z.max())


@pytest.mark.statement("argmax-invariance")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [1e-30, 1e-3, 0.7, 1.0, 20.0])
@pytest.mark.parametrize(
    ("values", "winners"),
    [
        pytest.param([2.0, 1.0, 3.0, 5.0, 4.0], [3], id="the example"),
        pytest.param([1.0, 3.0, 3.0], [1, 2], id="two tied"),
        pytest.param([4.0, 4.0, 4.0], [0, 1, 2], id="all tied"),
        pytest.param([-2.0, 7.0], [1], id="two classes"),
        pytest.param([5.0], [0], id="one class"),
        pytest.param([-math.inf, 0.0, -1.0], [1], id="masked"),
    ],
)
def test_winners_are_the_same_at_every_temperature(
    values: list[float], winners: list[int], temperature: float, dtype: torch.dtype
) -> None:
    p = softmax(torch.tensor(values, dtype=dtype), temperature=temperature)
    assert (p == p.max()).nonzero().flatten().tolist() == winners


@pytest.mark.statement("argmax-invariance")
@given(st.data(), temperatures(1e-30, 1e30))
def test_in_floating_point_the_winners_still_win_but_may_get_company(
    data: st.DataObject, temperature: float
) -> None:
    for dtype in DTYPES:
        z = data.draw(finite_rows(dtype))
        p = softmax(z, temperature=temperature)
        assert bool((p == p.max())[z == z.max()].all())


# rounding-order -----------------------------------------------------------------------------------


def never_falls(x: Tensor) -> bool:
    return bool((x[1:] >= x[:-1]).all())


def assert_never_inverted(z: Tensor, temperature: float) -> None:
    order = z.argsort()
    wide = z.to(arithmetic(z.dtype))
    exponents = (wide / 2 - wide.max() / 2) / (temperature / 2)
    assert never_falls(exponents[order])
    assert never_falls(log_softmax(z, temperature=temperature)[order])
    # The hypothesis, which no standard promises: where the exponential falls, so may softmax.
    if never_falls(exponents.exp()[order]):
        assert never_falls(softmax(z, temperature=temperature)[order])


@pytest.mark.statement("rounding-order")
@given(st.data(), temperatures(1e-30, 1e30))
def test_no_finite_logits_are_inverted(data: st.DataObject, temperature: float) -> None:
    for dtype in DTYPES:
        assert_never_inverted(data.draw(finite_rows(dtype, 2, 40)), temperature)


@st.composite
def neighbors(draw: DrawFn, dtype: torch.dtype) -> Tensor:
    """Runs of consecutive floats, shuffled: the inputs that rounding is most likely to mix up."""
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    start = torch.tensor(draw(st.floats(2**-10, 50.0)), dtype=dtype).view(integers)
    run = (start + torch.arange(draw(st.integers(2, 300)), dtype=integers)).view(dtype)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    z = torch.cat([run, -run, torch.zeros(1, dtype=dtype)])
    return z[torch.randperm(len(z), generator=generator)]


@pytest.mark.statement("rounding-order")
@given(st.data(), temperatures(1e-3, 1e3))
def test_neighboring_floats_are_not_inverted(data: st.DataObject, temperature: float) -> None:
    for dtype in DTYPES:
        assert_never_inverted(data.draw(neighbors(dtype)), temperature)


@pytest.mark.statement("rounding-order")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("temperature", [1e-3, 0.1, 0.7, 1.0, 3.0, 100.0, 1e5])
def test_no_two_half_precision_numbers_are_inverted(dtype: torch.dtype, temperature: float) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every[every.isfinite()]
    assert_never_inverted(every, temperature)
    # Among all finite numbers the largest takes everything; look at a window of them as well.
    assert_never_inverted(every[every.abs() < 8], temperature)


@pytest.mark.statement("rounding-order")
def test_exp_of_no_larger_float32_is_smaller() -> None:
    # Subtraction, division and summation are correctly rounded or common to all classes, so order
    # can only be lost in exp. Every float32 from -0.0 down to -104, where exp is 0: read as
    # integers, the bit patterns of negative floats count away from zero.
    first, last = (torch.tensor(x).view(torch.int32).item() for x in (-0.0, -104.0))
    chunk = 2**24
    previous = torch.ones(1)
    for start in range(int(first), int(last) + 1, chunk):
        stop = min(start + chunk, int(last) + 1)
        values = torch.arange(start, stop, dtype=torch.int32).view(torch.float32).exp()
        # A mean of booleans would round; all() does not.
        assert bool((values[1:] <= values[:-1]).all())
        assert values[0] <= previous[-1]
        previous = values
    assert previous[-1].item() == 0.0


@pytest.mark.statement("rounding-order")
def test_exp_does_not_depend_on_where_a_number_stands() -> None:
    # A vectorized body and a scalar tail that disagreed in the last digit would invert neighbors.
    start = torch.tensor(-1.0).view(torch.int32)
    x = (start + torch.arange(4099, dtype=torch.int32)).view(torch.float32)
    together = x.exp()
    assert torch.equal(torch.stack([number.exp() for number in x]), together)
    for offset in range(1, 20):
        assert torch.equal(x[offset:].exp(), together[offset:])
    assert torch.equal(x[::3].exp(), together[::3])


@pytest.mark.statement("rounding-order")
@pytest.mark.parametrize(
    ("values", "dtype", "temperature"),
    [
        pytest.param([0.0, -1e-8], torch.float32, 1.0, id="gap below eps"),
        pytest.param([0.0, -1e-17], torch.float64, 1.0, id="gap below eps, float64"),
        pytest.param([2.0, 1.0], torch.float32, 1e9, id="huge T"),
        # Below 1/2: from 1 down, p would lie midway between two numbers of the format.
        pytest.param([0.5, 0.5 - 2**-12], torch.float16, 1.0, id="float16 neighbors"),
        pytest.param([0.5, 0.5 - 2**-9], torch.bfloat16, 1.0, id="bfloat16 neighbors"),
    ],
)
def test_rounding_creates_ties(values: list[float], dtype: torch.dtype, temperature: float) -> None:
    z = torch.tensor(values, dtype=dtype)
    assert z[0] > z[1]
    assert softmax(z, temperature=temperature).tolist() == [0.5, 0.5]


@pytest.mark.statement("rounding-order")
def test_a_created_tie_hides_the_winner_from_argmax() -> None:
    z = torch.tensor([-1e-9, 0.0])
    assert z.argmax().item() == 1
    p = softmax(z)
    assert p[0] == p[1]
    assert p.argmax().item() == 0


@pytest.mark.statement("rounding-order")
def test_underflow_creates_a_tie_at_zero_that_the_logarithm_does_not_have() -> None:
    z = torch.tensor([0.0, -200.0, -300.0])
    assert softmax(z).tolist() == [1.0, 0.0, 0.0]
    assert log_softmax(z).tolist() == [0.0, -200.0, -300.0]


# translation-invariance ---------------------------------------------------------------------------


@pytest.mark.statement("translation-invariance")
@given(rows(), st.floats(-1e3, 1e3), temperatures())
def test_adding_a_constant_changes_nothing(z: Tensor, c: float, temperature: float) -> None:
    moved = z + c
    # z + c is rounded, by u |z + c|, which exp turns into a relative error |z + c| u / T.
    p = softmax(z, temperature=temperature)
    drift = U * moved.abs().max() / temperature
    allowed = 2 * softmax_bound(z, temperature) + 3 * p * drift * (1 + drift)
    assert_within(softmax(moved, temperature=temperature), p, allowed)


@pytest.mark.statement("translation-invariance")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(z=whole_rows(), c=st.integers(-100, 100), temperature=temperatures(0.01))
def test_integers_are_moved_without_changing_a_bit(
    dtype: torch.dtype, z: Tensor, c: int, temperature: float
) -> None:
    # Integers up to 128 are exact in every dtype, and so are their sums and differences.
    p = softmax(z.to(dtype), temperature=temperature)
    assert torch.equal(softmax((z + c).to(dtype), temperature=temperature), p)
    log_p = log_softmax(z.to(dtype), temperature=temperature)
    assert torch.equal(log_softmax((z + c).to(dtype), temperature=temperature), log_p)


@pytest.mark.statement("translation-invariance")
@given(whole_row_pairs(), temperatures(0.25, 20.0))
def test_equal_outputs_need_inputs_that_differ_by_a_constant(
    pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    u, v = pair
    p, q = (softmax(z, temperature=temperature) for z in pair)
    assert torch.equal(p, q) == is_constant(u - v)
    # And by how much they differ otherwise: the spread of log p - log q is that of (u - v) / T.
    change = log_softmax(u, temperature=temperature) - log_softmax(v, temperature=temperature)
    spread = ((u - v).max() - (u - v).min()) / temperature
    allowed = 4 * (log_softmax_bound(u, temperature) + log_softmax_bound(v, temperature)).max()
    assert_within(change.max() - change.min(), spread, allowed)


@pytest.mark.statement("translation-invariance")
@given(rows(2, 8), st.floats(-10.0, 10.0), temperatures())
def test_whatever_has_the_same_softmax_differs_by_a_constant(
    u: Tensor, c: float, temperature: float
) -> None:
    # Log-ratios recover the logits: v is built from the probabilities alone.
    v = temperature * log_softmax(u, temperature=temperature) + c
    assert_within(
        softmax(v, temperature=temperature),
        softmax(u, temperature=temperature),
        softmax_bound(u, temperature) * 4 + 8 * U * v.abs().max() / temperature,
    )
    difference = u - v
    allowed = temperature * log_softmax_bound(u, temperature) + 4 * U * (u.abs() + v.abs() + abs(c))
    assert_within(difference, difference.mean().expand_as(u), 2 * allowed.max())


@pytest.mark.statement("translation-invariance")
def test_in_floating_point_more_inputs_share_an_output() -> None:
    u, v = torch.tensor([0.0, -200.0]), torch.tensor([0.0, -300.0])
    assert torch.equal(softmax(u), softmax(v))
    assert not torch.equal(softmax(u.double()), softmax(v.double()))
    assert not torch.equal(log_softmax(u), log_softmax(v))


@pytest.mark.statement("translation-invariance")
def test_in_floating_point_a_constant_can_swallow_the_logits() -> None:
    # 1 is a quarter of the spacing of float32 at 5e7: the sum is rounded before any softmax.
    z = torch.tensor([0.0, 1.0])
    assert softmax(z + 5e7).tolist() == [0.5, 0.5]
    assert_within(softmax(z)[1], 1 / (1 + math.exp(-1)), softmax_bound(z)[1])


# sigmoid ------------------------------------------------------------------------------------------


@pytest.mark.statement("sigmoid", "torch", "scipy")
@given(st.data(), temperatures())
def test_two_classes_are_the_sigmoid_of_the_difference(
    data: st.DataObject, temperature: float
) -> None:
    for dtype in SINGLE_DOUBLE:
        z = data.draw(rows(2, 2, dtype=dtype))
        x = (z[0].double() - z[1].double()) / temperature
        p = softmax(z, temperature=temperature)
        expected = torch.stack([torch.sigmoid(x), torch.sigmoid(-x)])
        # The float64 oracle rounds x too, up to 600 of it.
        allowed = softmax_bound(z, temperature) + expected * U * (4 * x.abs() + 8)
        assert_within(p, expected, allowed)
        # Each has an exponential, of 4 units in the last place or of 1, a sum and a quotient.
        assert_within(expected[0], scipy.special.expit(x.item()), rel=16 * U)


@pytest.mark.statement("sigmoid")
@given(whole_rows(2, 8), temperatures())
def test_the_last_logit_can_be_fixed_at_zero(z: Tensor, temperature: float) -> None:
    reduced = z - z[-1]
    assert reduced[-1] == 0
    # Integers: not a bit changes.
    p = softmax(z, temperature=temperature)
    assert torch.equal(softmax(reduced, temperature=temperature), p)


@pytest.mark.statement("sigmoid")
@given(whole_rows(1, 8, bound=5), temperatures(1.0, 10.0))
def test_softmax_has_one_degree_of_freedom_less_than_classes(z: Tensor, temperature: float) -> None:
    k = len(z)
    jacobian = torch.func.jacrev(lambda x: softmax(x, temperature=temperature))(z)
    # The diagonal is T diag(p)^(1/2) (I - projection) diag(p)^(1/2): no nonzero eigenvalue is below
    # min p / T, at least exp(-10) / 8 / T = 6e-6 / T, and the zero one is of the size of rounding.
    singular = torch.linalg.svdvals(jacobian) * temperature
    assert int((singular > 1e-6).sum()) == k - 1
    assert_within(singular[-1], 0.0, svd_error(k))
    assert_within(jacobian @ torch.ones(k, dtype=z.dtype), 0.0, 8 * k * U / temperature)


@pytest.mark.statement("sigmoid", "exact")
@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=6),
    whole_rows(1, 6),
    temperatures(),
)
def test_every_distribution_has_one_vector_of_logits_that_ends_in_zero(
    weights: list[int], z: Tensor, temperature: float
) -> None:
    def logits(p: list[Any]) -> list[Any]:
        return [temperature * mp.log(x / p[-1]) for x in p]

    # Onto: that vector has the softmax which was asked for.
    p = [mp.mpf(w) / sum(weights) for w in weights]
    e = [mp.exp(x / temperature) for x in logits(p)]
    assert logits(p)[-1] == 0
    assert_within([x / mp.fsum(e) for x in e], p, mp.mpf(10) ** -45)
    # One to one: a vector that ends in zero comes back from its softmax.
    assert_within(logits(exact_softmax(z - z[-1], temperature)), z - z[-1], mp.mpf(10) ** -40)


# not-scale-invariant ------------------------------------------------------------------------------


@pytest.mark.statement("not-scale-invariant")
@given(
    whole_rows(1, 8, bound=5),
    st.floats(0.01, 10.0).filter(lambda c: abs(c - 1) > 1e-3),
    temperatures(1.0, 10.0),
)
def test_scaling_leaves_only_constant_logits_alone(z: Tensor, c: float, temperature: float) -> None:
    p = softmax(z, temperature=temperature)
    scaled = softmax(c * z, temperature=temperature)
    if is_constant(z):
        assert torch.equal(scaled, p)
        assert torch.equal(p, torch.full_like(p, 1 / len(z)))
        return
    assert not torch.equal(scaled, p)
    # log p(c z) - log p(z) is (c - 1) z / T up to a constant, so some entry of it is at least
    # half its spread.
    change = log_softmax(c * z, temperature=temperature) - log_softmax(z, temperature=temperature)
    spread = abs(c - 1) * (z.max() - z.min()).item() / temperature
    allowed = log_softmax_bound(c * z, temperature) + log_softmax_bound(z, temperature)
    # c z is rounded, and the spread.
    allowed = allowed + U * (2 * (c * z).abs().max() / temperature + 4 * spread)
    assert change.abs().max().item() >= spread / 2 - allowed.max().item()


@pytest.mark.statement("not-scale-invariant")
@pytest.mark.parametrize(
    ("values", "c", "before", "after"),
    [
        (
            [10.0, 20.0, 30.0],
            0.01,
            [2.06e-9, 4.54e-5, 0.99995],
            [0.3006, 0.3322, 0.3672],
        ),
        (
            [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0],
            0.1,
            [0.0236, 0.0643, 0.1747, 0.4748, 0.0236, 0.0643, 0.1747],
            [0.1250, 0.1381, 0.1526, 0.1687, 0.1250, 0.1381, 0.1526],
        ),
    ],
)
def test_the_examples_in_numbers(
    values: list[float], c: float, before: list[float], after: list[float]
) -> None:
    z = torch.tensor(values, dtype=torch.float64)
    # Written with three digits or four: half a unit of the last of them, at most.
    assert softmax(z).tolist() == pytest.approx(before, rel=2.5e-3)
    assert softmax(c * z).tolist() == pytest.approx(after, rel=5e-4)


@pytest.mark.statement("not-scale-invariant")
@given(whole_rows(1, 8), st.integers(-10, 10), temperatures())
def test_dividing_by_the_norm_first_makes_it_scale_invariant(
    z: Tensor, exponent: int, temperature: float
) -> None:
    assume(bool(z.any()))
    # A power of two scales every step exactly.
    scaled = 2.0**exponent * z
    assert torch.equal(scaled / scaled.norm(), z / z.norm())
    # Without the division the same two are told apart.
    same = torch.equal(
        softmax(scaled, temperature=temperature), softmax(z, temperature=temperature)
    )
    assert same == (exponent == 0 or is_constant(z))


# scaling-odds -------------------------------------------------------------------------------------


@pytest.mark.statement("scaling-odds")
@given(rows(1, 8), st.floats(0.01, 10.0), temperatures())
def test_scaling_the_logits_is_dividing_the_temperature(
    z: Tensor, c: float, temperature: float
) -> None:
    scaled = softmax(c * z, temperature=temperature)
    p = softmax(z, temperature=temperature / c)
    # c z and T / c are rounded.
    gap = c * (z.max() - z) / temperature
    size = c * z.abs().max() / temperature
    allowed = 2 * softmax_bound(c * z, temperature) + p * U * (2 * gap + 4 * size + 4)
    assert_within(scaled, p, allowed)


@pytest.mark.statement("scaling-odds")
@given(rows(2, 6, bound=10.0), st.floats(0.01, 10.0), temperatures(0.5, 10.0))
def test_scaling_raises_the_odds_to_a_power(z: Tensor, c: float, temperature: float) -> None:
    p = softmax(z, temperature=temperature)
    scaled = softmax(c * z, temperature=temperature)
    for i, j in itertools.permutations(range(len(z)), 2):
        odds = mp.mpf(p[i].item()) / mp.mpf(p[j].item())
        after = mp.mpf(scaled[i].item()) / mp.mpf(scaled[j].item())
        # Exponents up to 40 with c = 1, 400 with c = 10; four of them, three roundings each, the
        # odds' own error times c, and the product c z.
        allowed = (2 * 3 * (c + 1) * 40 + c * 40 + 32 * (c + 1)) * 2 * U
        assert_within(after, odds ** mp.mpf(c), rel=allowed)


@pytest.mark.statement("scaling-odds")
@given(
    whole_rows(1, 6, bound=5),
    st.lists(st.integers(0, 20), min_size=2, max_size=6, unique=True),
    temperatures(1.0, 4.0),
)
def test_the_largest_share_grows_and_the_smallest_shrinks(
    z: Tensor, tenths: list[int], temperature: float
) -> None:
    # Gaps up to 10, c up to 2: the largest share stays 2e-9 below 1, and steps of 0.1 in c move
    # it by a thousandth of that or more.
    factors = [n / 10 for n in sorted(tenths)]
    shares = torch.stack([softmax(c * z, temperature=temperature) for c in factors])
    largest, smallest = shares.amax(-1), shares.amin(-1)
    if is_constant(z):
        assert bool((shares == 1 / len(z)).all())
        return
    tied = int((z == z.max()).sum())
    assert bool((largest[1:] > largest[:-1]).all()), f"{tied} tied at the top"
    assert bool((smallest[1:] < smallest[:-1]).all())
    # The m tied at the top share what the others lose, and never more than 1 / m each.
    assert bool((largest <= 1 / tied).all())


@pytest.mark.statement("scaling-odds")
def test_in_floating_point_the_growth_ends_at_one() -> None:
    z = torch.tensor([0.0, -1.0])
    # exp(-17) is below half of float32's eps, so strictness is over from there on.
    assert softmax(16 * z)[0] < 1
    assert softmax(17 * z)[0] == softmax(34 * z)[0] == 1
    assert softmax(17 * z)[1] > softmax(34 * z)[1] > 0


# smooth-max-bounds --------------------------------------------------------------------------------


@pytest.mark.statement("smooth-max-bounds")
@given(rows(2, 8, bound=15.0), temperatures(1.0, 10.0))
def test_strictly_above_the_maximum_and_at_most_t_log_k_above(
    z: Tensor, temperature: float
) -> None:
    value = logsumexp(z, temperature=temperature)
    # Gaps of at most 30 over a T of at least 1: the excess is at least 1e-13, the spacing of
    # float64 at 15 is 2e-15.
    assert value > z.max()
    allowed = logsumexp_bound(z, temperature).item()
    assert value.item() <= z.max().item() + temperature * math.log(len(z)) + allowed


@pytest.mark.statement("smooth-max-bounds")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(data=st.data(), temperature=temperatures(1e-30, 1e3))
def test_no_rounding_puts_it_below_the_maximum(
    dtype: torch.dtype, data: st.DataObject, temperature: float
) -> None:
    # The sum contains exp(0) = 1, so its logarithm is not negative.
    z = data.draw(finite_rows(dtype))
    assert logsumexp(z, temperature=temperature) >= z.max()


@pytest.mark.statement("smooth-max-bounds")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [1e-30, 0.3, 1.0, 1e30])
@pytest.mark.parametrize("logit", [-3.0, 0.0, 1e4])
def test_of_one_logit_it_is_the_logit(logit: float, temperature: float, dtype: torch.dtype) -> None:
    z = torch.tensor([logit], dtype=dtype)
    assert torch.equal(logsumexp(z, temperature=temperature), z[0])


@pytest.mark.statement("smooth-max-bounds")
@given(whole_rows(1, 8), temperatures(0.5, 10.0))
def test_the_upper_bound_is_met_by_constant_logits_alone(z: Tensor, temperature: float) -> None:
    k = len(z)
    slack = (
        z.max().item() + temperature * math.log(k) - logsumexp(z, temperature=temperature).item()
    )
    allowed = 2 * logsumexp_bound(z, temperature).item()
    if is_constant(z):
        assert_within(slack, 0.0, allowed)
    else:
        # At least one logit lies one or more below the maximum.
        least = temperature * math.log(k / (k - 1 + math.exp(-1 / temperature)))
        assert slack >= least - allowed
        assert least > 100 * allowed


@pytest.mark.statement("smooth-max-bounds")
@given(whole_rows(1, 6), st.integers(1, 5), temperatures(0.1, 10.0))
def test_an_m_way_tie_at_the_top_adds_t_log_m(z: Tensor, copies: int, temperature: float) -> None:
    tied = torch.cat([z, z.max().repeat(copies)])
    m = int((tied == tied.max()).sum())
    value = logsumexp(tied, temperature=temperature).item()
    least = tied.max().item() + temperature * math.log(m)
    allowed = logsumexp_bound(tied, temperature).item()
    assert value >= least - allowed
    # What is added beyond comes from the others, each at least one below.
    rest = (len(tied) - m) * math.exp(-1 / temperature)
    assert value <= tied.max().item() + temperature * math.log(m + rest) + allowed


@pytest.mark.statement("smooth-max-bounds")
@given(whole_rows(1, 8), temperatures(1.0, 10.0))
def test_the_lower_bound_is_met_by_constant_logits_alone(z: Tensor, temperature: float) -> None:
    m = int((z == z.max()).sum())
    excess = (logsumexp(z, temperature=temperature) - z.max()).item() - temperature * math.log(m)
    allowed = 2 * logsumexp_bound(z, temperature).item()
    if is_constant(z):
        assert_within(excess, 0.0, allowed)
    else:
        # Even the smallest of the others adds exp(-20) to the sum of m ones.
        spread = (z.max() - z.min()).item()
        least = temperature * math.log1p(math.exp(-spread / temperature) / m)
        assert excess >= least - allowed
        assert least > 100 * allowed


@pytest.mark.statement("smooth-max-bounds")
@given(rows(1, 8))
def test_it_falls_to_the_maximum_as_t_falls_to_zero(z: Tensor) -> None:
    excess = []
    for temperature in (10.0, 1.0, 0.1, 1e-2, 1e-4, 1e-30):
        value = logsumexp(z, temperature=temperature)
        excess.append((value - z.max()).item())
        assert excess[-1] <= temperature * math.log(len(z)) + logsumexp_bound(z, temperature).item()
    assert all(later <= earlier for earlier, later in itertools.pairwise(excess))
    assert excess[-1] <= 2 * U * z.max().abs().item() + 1e-29


@pytest.mark.statement("smooth-max-bounds")
def test_in_floating_point_the_lower_bound_is_met() -> None:
    # exp(-20) = 2e-9 is below half of float32's eps: 1 + exp(-20) is 1, whose logarithm is 0.
    z = torch.tensor([0.0, -20.0])
    assert logsumexp(z).item() == 0.0
    assert_within(logsumexp(z.double()), math.exp(-20), 2 * U)
    # And far from zero sooner: log 2 is less than half of float32's spacing at 1e8, which is 8.
    assert logsumexp(torch.tensor([1e8, 1e8])).item() == 1e8


# lse-gradient -------------------------------------------------------------------------------------


@pytest.mark.statement("lse-gradient", "exact", "torch")
@given(rows(1, 8), temperatures())
def test_the_gradient_of_the_smooth_maximum_is_softmax(z: Tensor, temperature: float) -> None:
    gradient = torch.func.grad(lambda x: logsumexp(x, temperature=temperature))(z)
    expected = as_double(exact_softmax(z, temperature))
    assert_within(gradient, expected, 2 * softmax_bound(z, temperature))
    # And the other way round: the gradient of torch's own is the package's softmax.
    p = torch.func.grad(lambda x: temperature * torch.logsumexp(x / temperature, -1))(z)
    # torch divides before it shifts, so that |z| / T is rounded where a gap was counted.
    drift = 4 * U * p * z.abs().max() / temperature
    assert_within(softmax(z, temperature=temperature), p, 2 * softmax_bound(z, temperature) + drift)


@pytest.mark.statement("lse-gradient")
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(
    "values",
    [[1.0, 5.0, 6.0, 3.0], [2.0, 2.0], [0.0, 0.0, 0.0], [3.0], [4.0, 4.0, -1.0]],
    ids=["distinct", "two tied", "three tied", "one class", "tie at the top"],
)
def test_the_gradient_is_a_difference_quotient(values: list[float], temperature: float) -> None:
    z = torch.tensor(values, dtype=torch.float64)
    h = 1e-5
    quotient = torch.stack(
        [
            (
                logsumexp(z + h * e, temperature=temperature)
                - logsumexp(z - h * e, temperature=temperature)
            )
            / (2 * h)
            for e in torch.eye(len(z), dtype=z.dtype)
        ]
    )
    # Third derivative at most 1 / T^2, times h^2 / 6; over h, rounding of values and of z + h.
    rounding = logsumexp_bound(z, temperature).item() + U * (z.abs().max().item() + h)
    allowed = h**2 / (6 * temperature**2) + rounding / h + 2 * U
    assert_within(softmax(z, temperature=temperature), quotient, allowed)


@pytest.mark.statement("lse-gradient", "exact", "torch")
@given(rows(1, 6, bound=10.0), temperatures(0.5, 10.0))
def test_the_hessian_of_the_smooth_maximum_is_the_jacobian_of_softmax(
    z: Tensor, temperature: float
) -> None:
    def smooth_maximum(x: Tensor) -> Tensor:
        return logsumexp(x, temperature=temperature)

    hessian = torch.func.jacrev(torch.func.grad(smooth_maximum))(z)
    # Autograd subtracts products of size p / T, with relative errors of gaps up to 40.
    allowed = (6 * 40 + 64) * U / temperature
    assert_within(hessian, softmax_jacobian(z, temperature=temperature), allowed)
    p = exact_softmax(z, temperature)
    exact = torch.stack(
        [
            as_double([((i == j) * a - a * b) / mp.mpf(temperature) for j, b in enumerate(p)])
            for i, a in enumerate(p)
        ]
    )
    assert_within(hessian, exact, allowed)


@pytest.mark.statement("lse-gradient", "exact")
@given(row_pairs(1, 8, bound=10.0), temperatures(0.5, 10.0))
def test_the_quadratic_form_is_a_variance(pair: tuple[Tensor, Tensor], temperature: float) -> None:
    z, v = pair
    form = (v @ softmax_jacobian(z, temperature=temperature) @ v).item()
    p = exact_softmax(z, temperature)
    mean = mp.fsum(a * b for a, b in zip(p, v.tolist(), strict=True))
    variance = mp.fsum(a * (mp.mpf(b) - mean) ** 2 for a, b in zip(p, v.tolist(), strict=True))
    # Products of size v^2 / T that cancel; p has relative errors of gaps up to 40.
    allowed = (6 * 40 + 64) * U * 100 / temperature
    assert_within(form, variance / temperature, allowed)
    assert form >= -allowed


@pytest.mark.statement("lse-gradient")
@given(row_pairs(1, 8), st.floats(0.0, 1.0), temperatures())
def test_the_smooth_maximum_is_convex(
    pair: tuple[Tensor, Tensor], weight: float, temperature: float
) -> None:
    u, v = pair
    between = logsumexp(weight * u + (1 - weight) * v, temperature=temperature).item()
    ends = [logsumexp(z, temperature=temperature).item() for z in pair]
    # The point between is rounded by 3 u |z|, and its value moves by no more than it does.
    allowed = sum(logsumexp_bound(z, temperature).item() for z in pair) * 2 + 8 * U * 30
    assert between <= weight * ends[0] + (1 - weight) * ends[1] + allowed


# variational --------------------------------------------------------------------------------------


@st.composite
def simplex_points(draw: DrawFn, size: int) -> Tensor:
    """Any point of the simplex: faces, vertices and the center included."""
    weights = draw(
        st.lists(st.integers(0, 8), min_size=size, max_size=size).filter(lambda w: sum(w) > 0)
    )
    p = torch.tensor(weights, dtype=torch.float64)
    return p / p.sum()


def objective(p: Tensor, z: Tensor, temperature: float) -> Tensor:
    return (p * z).sum() + temperature * entropy(p)


@pytest.mark.statement("variational", "exact")
@given(st.data(), temperatures(0.1, 20.0))
def test_the_gap_is_t_times_the_divergence_from_softmax(
    data: st.DataObject, temperature: float
) -> None:
    z = data.draw(rows(1, 6, bound=20.0))
    q = data.draw(simplex_points(len(z)))
    gap = logsumexp(z, temperature=temperature) - objective(q, z, temperature)
    # KL from exact logarithms: log p is (z - LSE) / T and underflows nowhere.
    log_p = [mp.log(x) for x in exact_softmax(z, temperature)]
    divergence = mp.fsum(
        mp.mpf(a) * (mp.log(mp.mpf(a)) - b) for a, b in zip(q.tolist(), log_p, strict=True) if a > 0
    )
    # Terms up to |z| + T log K, a few roundings each; q sums to 1 only to K u, which the gap
    # multiplies by LSE.
    size = z.abs().max().item() + temperature * (math.log(len(z)) + 1)
    allowed = (4 * len(z) + 32) * U * size
    assert_within(gap, temperature * divergence, allowed)
    assert gap.item() >= -allowed


@pytest.mark.statement("variational")
@given(rows(1, 8, bound=20.0), temperatures(0.1, 20.0))
def test_softmax_attains_the_maximum(z: Tensor, temperature: float) -> None:
    p = softmax(z, temperature=temperature)
    size = z.abs().max().item() + temperature * (math.log(len(z)) + 1)
    # The objective is flat at the top: the error of p enters squared, the sum of p once.
    allowed = (4 * len(z) + 32) * U * size
    attained = objective(p, z, temperature)
    assert_within(attained, logsumexp(z, temperature=temperature), allowed)


@pytest.mark.statement("variational")
@given(st.data(), temperatures(0.1, 20.0))
def test_nothing_else_attains_it(data: st.DataObject, temperature: float) -> None:
    z = data.draw(whole_rows(2, 6, bound=5))
    q = data.draw(simplex_points(len(z)))
    distance = (q - softmax(z, temperature=temperature)).abs().sum().item()
    gap = logsumexp(z, temperature=temperature) - objective(q, z, temperature)
    # Pinsker: KL is at least half the squared L1 distance.
    size = 5 + temperature * (math.log(len(z)) + 1)
    allowed = (4 * len(z) + 32) * U * size
    assert gap.item() >= temperature * distance**2 / 2 - allowed
    assume(distance > 1e-3)
    assert gap.item() > 0


@pytest.mark.statement("variational")
@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
def test_corners_and_center(temperature: float) -> None:
    z = torch.tensor([1.0, 3.0, 3.0], dtype=torch.float64)
    center = torch.full((3,), 1 / 3, dtype=torch.float64)
    value = logsumexp(z, temperature=temperature).item()
    for corner, logit in zip(torch.eye(3, dtype=torch.float64), z.tolist(), strict=True):
        assert objective(corner, z, temperature).item() == logit
        assert logit < value
    at_center = objective(center, z, temperature).item()
    # Logarithms of 4 units in the last place, products and sums of three.
    assert_within(at_center, 7 / 3 + temperature * math.log(3), rel=16 * U)
    assert at_center < value


# lipschitz ----------------------------------------------------------------------------------------


@pytest.mark.statement("lipschitz")
@given(row_pairs(1, 8), temperatures())
def test_softmax_moves_at_most_the_distance_over_2t(
    pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    u, v = pair
    moved = softmax(u, temperature=temperature) - softmax(v, temperature=temperature)
    # Rounding: the error of each end, which matters when the ends are close.
    rounding = (softmax_bound(u, temperature) + softmax_bound(v, temperature)).norm().item()
    # Either norm has eight differences, squares, a sum of them and a root.
    limit = (u - v).norm().item() / (2 * temperature)
    assert moved.norm().item() <= limit * (1 + 16 * U) + rounding


@pytest.mark.statement("lipschitz")
@pytest.mark.statement("lipschitz-sharp")
@given(st.floats(-5.0, 5.0), st.floats(1e-9, 1.0), st.integers(0, 6), temperatures())
def test_even_where_it_moves_fastest(
    level: float, step: float, others: int, temperature: float
) -> None:
    # Two tied logits pulled apart, the others far below: the direction of the largest slope.
    rest = torch.full((others,), level - 40 * temperature, dtype=torch.float64)
    u = torch.cat([torch.tensor([level, level], dtype=torch.float64), rest])
    v = u.clone()
    v[0] += step
    v[1] -= step
    moved = softmax(u, temperature=temperature) - softmax(v, temperature=temperature)
    rounding = (softmax_bound(u, temperature) + softmax_bound(v, temperature)).norm().item()
    limit = (u - v).norm().item() / (2 * temperature)
    assert moved.norm().item() <= limit * (1 + 16 * U) + rounding
    # The bound is not idle: tanh(x) >= x - x^3 / 3 with x = step / T. The others have e^-40 each.
    assert (
        moved.norm().item() >= limit * (1 - (step / temperature) ** 2 / 3) * (1 - 24 * U) - rounding
    )


@pytest.mark.statement("lipschitz")
def test_in_floating_point_neighbors_can_break_the_bound() -> None:
    # The logits are one float apart; their images are rounded each for itself.
    ratios = []
    for start in torch.linspace(0.1, 3.0, 500):
        u = torch.stack([start, torch.tensor(0.0)])
        v = torch.stack([torch.nextafter(start, torch.tensor(9.0)), torch.tensor(0.0)])
        moved = (softmax(u).double() - softmax(v).double()).norm()
        ratios.append((moved / ((v.double() - u.double()).norm() / 2)).item())
    assert max(ratios) > 1
    # In float64 the same pairs keep it.
    u, v = torch.tensor([1.0, 0.0]).double(), torch.tensor([1.0 + 2**-23, 0.0]).double()
    assert (softmax(u) - softmax(v)).norm() < (u - v).norm() / 2


# lipschitz-sharp ----------------------------------------------------------------------------------


def spectral_norm(z: Tensor, temperature: float) -> float:
    return float(torch.linalg.svdvals(softmax_jacobian(z, temperature=temperature))[0])


@pytest.mark.statement("lipschitz-sharp")
@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0, 50.0])
@pytest.mark.parametrize("level", [-7.0, 0.0, 2.0])
def test_two_equal_logits_have_slope_1_over_2t(level: float, temperature: float) -> None:
    z = torch.full((2,), level, dtype=torch.float64)
    assert_within(spectral_norm(z, temperature), 1 / (2 * temperature), rel=svd_error(2))


@pytest.mark.statement("lipschitz-sharp")
@given(st.integers(-15, 15), temperatures(1.0, 10.0))
def test_of_two_classes_only_equal_logits_have_it(gap: int, temperature: float) -> None:
    z = torch.tensor([float(gap), 0.0], dtype=torch.float64)
    # J = s (1 - s) [[1, -1], [-1, 1]] / T has norm 2 s (1 - s) / T = 1 / (2 T cosh(gap / 2T)^2).
    expected = 1 / (2 * temperature * math.cosh(gap / (2 * temperature)) ** 2)
    assert_within(spectral_norm(z, temperature), expected, rel=(6 * 15 + 64) * U)
    # A gap of 1 at T = 10 lowers it by 1 / 400.
    assert (spectral_norm(z, temperature) < 1 / (2 * temperature) * (1 - 1e-6)) == (gap != 0)


@pytest.mark.statement("lipschitz-sharp")
@given(whole_rows(3, 8, bound=5), temperatures(1.0, 10.0))
def test_of_more_classes_none_has_it(z: Tensor, temperature: float) -> None:
    # In each class there is at least exp(-10) / 8 = 6e-6, which keeps J that far from the limit.
    assert spectral_norm(z, temperature) < 1 / (2 * temperature) * (1 - 1e-7)


@pytest.mark.statement("lipschitz-sharp")
@pytest.mark.parametrize("k", [3, 4, 10])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_of_more_classes_it_is_approached(k: int, temperature: float) -> None:
    for m in (0.0, 1.0, 3.0, 10.0, 20.0, 30.0):
        z = torch.tensor([0.0, 0.0] + [-m * temperature] * (k - 2), dtype=torch.float64)
        # (1, -1, 0, ..., 0) is an eigenvector, with eigenvalue p_1 / T.
        share = 1 / (2 + (k - 2) * math.exp(-m))
        norm = spectral_norm(z, temperature)
        # p_1 twice, off by 24 u, a few operations, and the norm.
        error = 64 * U + svd_error(k)
        assert norm >= share / temperature * (1 - error)
        # No other eigenvalue is larger from m = 1 on: they are at most max of p, 2 p (1 - 2 p).
        if m >= 3:
            assert_within(norm, share / temperature, rel=error)
        # At m = 30 the others have (k - 2) e^-30 / 2, twice the error or more.
        assert norm < 1 / (2 * temperature)
    assert norm > (1 - k * math.exp(-m)) / (2 * temperature)


@pytest.mark.statement("lipschitz-sharp")
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_slope_of_the_chord_is_attained_in_the_limit_only(temperature: float) -> None:
    center = torch.zeros(2, dtype=torch.float64)
    ratios = []
    for step in (4.0, 1.0, 0.25, 1e-2, 1e-4):
        direction = step * torch.tensor([1.0, -1.0], dtype=torch.float64)
        moved = softmax(center + direction, temperature=temperature) - softmax(
            center, temperature=temperature
        )
        ratio = (moved.norm() / direction.norm()).item() * 2 * temperature
        x = step / temperature
        # p_1 - 1/2 = tanh(x) / 2, of which p is off by 16 u, over x; two norms, the quotient.
        assert_within(ratio, math.tanh(x) / x, rel=32 * U * (1 + 1 / x))
        ratios.append(ratio)
    # 1 - x^2 / 3 at the last, with x down to 2.5e-5: the error is two thirds of that.
    assert all(earlier < later < 1 for earlier, later in itertools.pairwise(ratios))
    assert ratios[-1] > 1 - x**2


@pytest.mark.statement("lipschitz")
@given(whole_row_pairs(1, 6, bound=5), temperatures(0.5, 10.0))
def test_chords_are_strictly_shorter(pair: tuple[Tensor, Tensor], temperature: float) -> None:
    u, v = pair
    assume(not torch.equal(u, v))
    moved = softmax(u, temperature=temperature) - softmax(v, temperature=temperature)
    # At most tanh(x) / x of the limit with x = |u - v| / (2 sqrt(2) T), at least 1 / 29.
    assert moved.norm().item() < (u - v).norm().item() / (2 * temperature) * (1 - 1e-5)
