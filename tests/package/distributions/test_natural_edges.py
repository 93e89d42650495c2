from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
import torch
from mpmath import mp

from omnivault.distributions import Bernoulli, Categorical, Multinomial
from tests.package.distributions.common_natural import (
    FAMILIES,
    INF,
    NAN,
    P3,
    Family,
    Function,
    assert_close,
    counts,
    dtypes,
    families,
    forms,
    index,
    logits_of,
    numbers,
)
from tests.support.strategies import (
    arithmetic,
    as_double,
    assert_within,
    exact_logsumexp,
    exact_softmax,
    smallest,
    unit,
)


@dtypes
def test_the_log_partition_of_one_event_keeps_its_digits(dtype: torch.dtype) -> None:
    eta = torch.tensor(
        [-700.0, -88.0, -30.0, -9.0, -0.1, 0.0, 0.1, 9.0, 19.0, 20.1, 22.0, 30.0, 37.0, 700.0]
    ).to(dtype)
    exact = as_double([mp.log1p(mp.exp(mp.mpf(x))) for x in eta.tolist()])
    # exp and log1p to 8 u each, and a sum.
    bound = exact * 20 * unit(dtype) + smallest(dtype)
    assert_within(Bernoulli.log_partition(eta), exact, bound)
    if dtype is torch.float64:
        softplus = torch.nn.functional.softplus(eta)
        assert ((softplus - exact).abs() > 1000 * bound)[9]  # the way not taken


@dtypes
def test_infinite_and_huge_log_odds(dtype: torch.dtype) -> None:
    most = torch.finfo(dtype).max
    for big in (1e4, most, *([1e300] if dtype is torch.float64 else [])):
        eta = torch.tensor([-INF, -big, 0.0, big, INF], dtype=dtype, requires_grad=True)
        coin = Bernoulli.from_natural(eta.detach())
        assert coin.probs.tolist() == [0, 0, 0.5, 1, 1]
        assert torch.equal(coin.to_natural(), eta.detach())
        partition = Bernoulli.log_partition(eta)
        assert partition[:2].tolist() == [0, 0]
        assert partition[3:].tolist() == eta[3:].tolist()
        (slope,) = torch.autograd.grad(partition.sum(), eta)
        assert slope.tolist() == [0, 0, 0.5, 1, 1]


@dtypes
@families
def test_huge_natural_parameters(dtype: torch.dtype, family: Family) -> None:
    most = torch.finfo(dtype).max
    for big in (1e4, most / 5, *([1e300] if dtype is torch.float64 else [])):
        eta = torch.tensor([[big, big], [-big, big], [-big, -big], [-INF, big]], dtype=dtype)
        p = [[0.5, 0.5], [0, 1], [0.5, 0.5], [0, 1]]
        assert family.from_natural(eta).probs.tolist() == p
        minimal = family.from_natural(eta, minimal=True)
        assert minimal.probs.tolist() == [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]
        for form in (False, True):
            exact = as_double(
                [family.n * exact_logsumexp(row) for row in logits_of(eta, form).double()]
            )
            partition = family.log_partition(eta, minimal=form)
            # The largest logit, rounded, n times it, and log 2 beside it.
            assert_within(partition, exact, 4 * unit(dtype) * exact.abs())
        # Twice the number may be beyond the dtype, and is then -inf there too.
        assert torch.equal(minimal.to_natural()[1, :2], torch.stack([2 * eta[1, 0], 0 * eta[1, 1]]))
        assert minimal.to_natural()[1, 2] == -eta[1, 1]


@dtypes
def test_the_smallest_probabilities_have_natural_parameters(dtype: torch.dtype) -> None:
    tiny, u, of_log = smallest(dtype), unit(dtype), 8 * unit(arithmetic(dtype))
    p = torch.tensor(
        [[0.5, 0.5, tiny], [tiny, 1.0, tiny], [tiny, 0.75, 0.25], [0.0, tiny, 1.0]], dtype=dtype
    )
    assert (p[0, 0] / p[0, 2]).isinf()  # or the table below would ask for too little
    logs = [[mp.log(mp.mpf(x)) if x else -mp.inf for x in row] for row in p.tolist()]
    exact = torch.stack([as_double(row) for row in logs])
    odds = torch.stack([as_double([x - row[-1] for x in row[:-1]]) for row in logs])
    for distribution in (Categorical(p), Multinomial(3, p)):
        assert_within(distribution.to_natural(), exact, (2 * u + of_log) * exact.abs())
        actual = distribution.to_natural(minimal=True)
        assert actual.dtype is dtype
        # Differences of logarithms up to 745, taken in float64, to 8 u each.
        assert_within(actual, odds, u * odds.abs() + 16 * 745 * unit(torch.float64))
    chance = torch.tensor([tiny, 0.25, 0.5, 0.75, 1 - torch.finfo(dtype).eps], dtype=dtype)
    log_odds = as_double([mp.log(mp.mpf(x) / (1 - mp.mpf(x))) for x in chance.tolist()])
    # 1 - p, the quotient, and a logarithm to 8 u.
    off = (2 * u + of_log) * (1 + log_odds.abs())
    assert_within(Bernoulli(chance).to_natural(), log_odds, off)


@forms
@families
def test_the_layout_in_memory_does_not_matter(minimal: bool, family: Family) -> None:
    for eta in (numbers(5, 3).T, numbers(3, 10)[:, ::2], numbers(1, 5).expand(4, 5)):
        assert not eta.is_contiguous()
        exact = as_double([family.n * exact_logsumexp(logits_of(z, minimal)) for z in eta])
        assert_close(family.log_partition(eta, minimal=minimal), exact)
        p = family.from_natural(eta, minimal=minimal).probs
        for row, z in zip(p, eta, strict=True):
            assert_close(row, as_double(exact_softmax(logits_of(z, minimal))))
        back = family.make(p.T.contiguous().T).to_natural(minimal=minimal)
        assert_close(back, family.make(p.contiguous()).to_natural(minimal=minimal))


def test_sufficient_statistics_count() -> None:
    die, many, coin = Categorical(P3), Multinomial(2, P3), Bernoulli(torch.tensor(0.5))
    for dtype in (torch.uint8, torch.int8, torch.int32, torch.int64):
        index = torch.tensor([[0, 2], [1, 1]], dtype=dtype)
        one_hot = torch.tensor([[[1.0, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 1, 0]]])
        assert torch.equal(die.sufficient_statistic(index), one_hot)
        assert torch.equal(die.sufficient_statistic(index, minimal=True), one_hot[..., :2])
        counts = torch.tensor([[2, 0, 0], [0, 1, 1]], dtype=dtype)
        assert torch.equal(many.sufficient_statistic(counts), counts.float())
        assert torch.equal(many.sufficient_statistic(counts, minimal=True), counts[:, :2].float())
    for y in (torch.tensor([0, 1]), torch.tensor([-0.0, 1.0]), torch.tensor([False, True])):
        assert torch.equal(coin.sufficient_statistic(y), torch.tensor([0.0, 1.0]))
    none = torch.zeros(0, 3)
    assert die.sufficient_statistic(none.long(), minimal=True).shape == (0, 3, 2)
    assert many.sufficient_statistic(none, minimal=True).shape == (0, 2)
    assert coin.sufficient_statistic(none).shape == (0, 3)


DTYPE = "eta must be a tensor of a floating dtype, got {}; torch.tensor(...) or p.float() makes one"
EMPTY = "eta needs a last dimension that holds the natural parameters, got shape {}"
LAST = (
    "the last outcome has the probability 0, or one that was rounded to 0, so there are no "
    "log-odds against it; put an outcome that can occur last, or use minimal=False"
)
Y_DTYPE = "y must hold integer indices, got torch.{}"
OUTCOMES = "outcomes must be indices from 0 to 2, got [{}]"
LENGTH = "y must hold 3 counts in its last dimension, got shape (2,)"
NUMBER = "eta must not hold nan or inf, got {}"
T = torch.tensor
GOOD, ONES = T([0.5, -INF]), [1.0, 1.0, 0.0]
scalar = Bernoulli.from_natural, Bernoulli.log_partition
overcomplete = [f for family in FAMILIES[::2] for f in family[2:]]
minimal_too = [*overcomplete, *(partial(f, minimal=True) for f in overcomplete)]
to_minimal: list[Function] = [
    lambda p: Categorical(p).to_natural(minimal=True),
    lambda p: Multinomial(3, p).to_natural(minimal=True),
]
draws: list[Function] = [
    lambda n: Multinomial.from_natural(n, GOOD),
    lambda n: Multinomial.log_partition(n, GOOD),
]
event = [Bernoulli(T(0.5)).sufficient_statistic]
Error = type[Exception]
BAD: list[tuple[Any, Any, Error, str, Any]] = [
    ([*scalar, *minimal_too], [0.5], TypeError, DTYPE.format([0.5]), T([0.5])),
    ([*scalar, *minimal_too], T([1, 2]), TypeError, DTYPE.format("tensor([1, 2])"), T([1.0, 2.0])),
    (minimal_too, T(0.5), ValueError, EMPTY.format(()), T([0.5])),
    (overcomplete, torch.zeros(2, 0), ValueError, EMPTY.format((2, 0)), torch.zeros(0, 2)),
    (minimal_too, T([0.5, NAN]), ValueError, NUMBER.format([0.5, NAN]), GOOD),
    (minimal_too, T([[0.5], [INF]]), ValueError, NUMBER.format([0.5, INF]), T([[0.5], [-9.0]])),
    (scalar, T([NAN, 1]), ValueError, "eta must not hold nan, got [nan, 1.0]", T([INF, -INF])),
    (to_minimal, T([[0.5, 0.5], [1, 0]]), ValueError, LAST, T([[0.5, 0.5], [0, 1]])),
    (index, T([0, 3]), ValueError, OUTCOMES.format(3), T([0, 2])),
    (index, T([0, -1]), ValueError, OUTCOMES.format(-1), T([0, 0])),
    (index, T([1.0]), TypeError, Y_DTYPE.format("float32: [1.0]"), T([1])),
    (index, T([True]), TypeError, Y_DTYPE.format("bool: [True]"), T([1])),
    (counts, T([1, 1]), ValueError, LENGTH, T([1, 1, 0])),
    (draws, 0, ValueError, "n must be at least 1, got 0", 1),
    (draws, 2.0, TypeError, "n must be an int such as 10, got 2.0", 2),
    (draws, True, TypeError, "n must be an int such as 10, got True", 1),
]
for bad in (2.0, -1.0, 0.5, NAN, INF):
    message = f"outcomes must be 0 or 1, got [0.0, {bad}]"
    BAD.append((event, T([0, bad]), ValueError, message, T([0, 1])))
for row in ([1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [3.0, -1.0, 0.0], [0.5, 1.5, 0.0], [NAN, 1.0, 1.0]):
    message = f"counts must be whole, >= 0 and sum to 2, got a row {row}"
    BAD.append((counts, T([ONES, row]), ValueError, message, T([ONES, ONES])))


@pytest.mark.parametrize(("functions", "bad", "error", "message", "good"), BAD)
def test_what_is_rejected_is_shown_beside_what_is_not(
    functions: list[Function], bad: Any, error: Error, message: str, good: Any
) -> None:
    for function in functions:
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            function(bad)
        function(good)


@families
def test_logits_of_minus_infinity_alone_need_another_outcome(family: Family) -> None:
    nothing = torch.full((2,), -INF)
    message = "^a row of eta is -inf throughout, which leaves no outcome possible; keep one finite$"
    for function in (family.from_natural, family.log_partition):
        with pytest.raises(ValueError, match=message):
            function(torch.stack([torch.zeros(2), nothing]))
    # The last outcome is there when minimal=True leaves it out.
    assert family.from_natural(nothing, minimal=True).probs.tolist() == [0, 0, 1]
    assert family.log_partition(nothing, minimal=True).item() == 0
    assert family.log_partition(torch.zeros(2, 0), minimal=True).tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_counts_keep_their_sum_in_half_precision(dtype: torch.dtype) -> None:
    y = torch.tensor([70_001, 257])
    coin = Multinomial(70_258, torch.tensor([0.5, 0.5], dtype=dtype))
    assert torch.equal(coin.sufficient_statistic(y), y.float())
