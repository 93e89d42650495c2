from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import scipy.stats
import torch
from mpmath import mp
from torch import Tensor
from torch.nn.functional import one_hot

from omnivault.distributions import Bernoulli, Categorical, Multinomial
from tests.package.distributions.common import (
    INF,
    NAN,
    P3,
    chances,
    dtypes,
    generator,
    rows,
    vectors,
)
from tests.support.strategies import SINGLE_DOUBLE, arithmetic, exactly, unit

ROUNDING = 1024 * unit(torch.float64)  # hundreds of roundings, of numbers of size ten or less
batches = pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 3)], ids=str)


def assert_close(actual: Tensor, expected: Any, rel: float = ROUNDING) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.double(), expected, rtol=rel, atol=rel)


@batches
def test_bernoulli_is_that_of_scipy_and_torch(batch: tuple[int, ...]) -> None:
    probs = chances(*batch)
    ours, theirs = Bernoulli(probs), torch.distributions.Bernoulli(probs)
    y = torch.tensor([0, 1, 1, 0]).reshape(4, *[1] * len(batch)).expand(4, *batch)
    expected = scipy.stats.bernoulli(probs.numpy())
    assert_close(ours.log_pmf(y), expected.logpmf(y.numpy()))
    assert_close(ours.log_pmf(y), theirs.log_prob(y.double()))
    assert_close(ours.pmf(y), expected.pmf(y.numpy()))
    assert_close(ours.mean, expected.mean())
    assert_close(ours.mean, theirs.mean)
    assert_close(ours.variance, expected.var())
    assert_close(ours.variance, theirs.variance)


@batches
@pytest.mark.parametrize("k", [1, 2, 7])
def test_categorical_is_that_of_torch_and_one_draw_of_scipy(batch: tuple[int, ...], k: int) -> None:
    probs = rows(*batch, k)
    ours, theirs = Categorical(probs), torch.distributions.Categorical(probs)
    for shape in ((), batch, (5, *batch)):
        y = torch.randint(k, shape, generator=generator())
        assert_close(ours.log_pmf(y), theirs.log_prob(y))
        assert ours.log_pmf(y).shape == torch.broadcast_shapes(shape, batch)
        assert_close(ours.pmf(y), ours.log_pmf(y).exp())
        one = one_hot(y, k).expand(*torch.broadcast_shapes(shape, batch), k)
        assert_close(ours.pmf(y), scipy.stats.multinomial.pmf(one.numpy(), 1, probs.numpy()))
    vector = torch.distributions.OneHotCategorical(probs)
    assert_close(ours.mean, vector.mean)
    assert_close(ours.covariance.diagonal(dim1=-2, dim2=-1), vector.variance)


@batches
@pytest.mark.parametrize(("n", "k"), [(1, 3), (4, 2), (20, 5), (3, 1)])
def test_multinomial_is_that_of_scipy_and_torch(batch: tuple[int, ...], n: int, k: int) -> None:
    probs = rows(*batch, k)
    ours, theirs = Multinomial(n, probs), torch.distributions.Multinomial(n, probs)
    y = theirs.sample((6,))
    log_pmf = ours.log_pmf(y)
    assert log_pmf.shape == (6, *batch)
    # Logarithms of factorials up to log 20! = 42, and of as many probabilities.
    expected = scipy.stats.multinomial.logpmf(y.numpy(), n, probs.numpy())
    assert_close(log_pmf, theirs.log_prob(y), rel=8 * ROUNDING)
    assert_close(log_pmf, expected, rel=8 * ROUNDING)
    assert_close(ours.pmf(y), log_pmf.exp())
    # One vector for all rows, in integers.
    first = y.reshape(-1, k)[0].long()
    whole = ours.log_pmf(first.expand(*batch, k))
    assert_close(ours.log_pmf(first), whole, rel=8 * ROUNDING)
    assert_close(ours.mean, theirs.mean)
    assert_close(ours.covariance.diagonal(dim1=-2, dim2=-1), theirs.variance)
    for p, covariance in zip(probs.reshape(-1, k), ours.covariance.reshape(-1, k, k), strict=True):
        assert_close(covariance, scipy.stats.multinomial.cov(n, p.numpy() / p.numpy().sum()))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_moments_are_those_of_all_outcomes(n: int, k: int) -> None:
    probs = rows(2, 3, k)
    many = Multinomial(n, probs)
    y = vectors(n, k)
    pmf = many.pmf(y.reshape(-1, 1, 1, k)).movedim(0, -1)
    assert_close(pmf.sum(-1), torch.ones(2, 3))
    mean = pmf @ y.double()
    assert_close(many.mean, mean)
    second = torch.einsum("...o,oi,oj->...ij", pmf, y.double(), y.double())
    covariance = second - mean.unsqueeze(-1) * mean.unsqueeze(-2)
    assert_close(many.covariance, covariance, rel=8 * ROUNDING)  # second moments up to 25
    if n == 1:
        assert_close(Categorical(probs).covariance, covariance)


def test_moments_of_one_event_are_those_of_both_outcomes() -> None:
    coin = Bernoulli(torch.tensor([0.0, 0.25, 0.9, 1.0], dtype=torch.float64))
    no, yes = coin.pmf(torch.tensor([[0], [1]]))
    assert_close(no + yes, torch.ones(4))
    assert_close(coin.mean, yes)
    assert_close(coin.variance, no * yes**2 + yes * (1 - yes) ** 2)


@dtypes
def test_values_of_every_dtype(dtype: torch.dtype) -> None:
    # The exact answer for the very numbers that the dtype holds; log and exp are a few roundings,
    # and log n! and the sums are in float64.
    p = torch.tensor([0.4, 0.25, 0.35], dtype=dtype)
    f, rel = exactly(p), 16 * unit(dtype) + 128 * unit(torch.float64)
    y = vectors(4, 3)
    expected = []
    for a, b, c in y.tolist():
        orders = Fraction(24, math.factorial(a) * math.factorial(b) * math.factorial(c))
        expected.append(float(orders * f[0] ** a * f[1] ** b * f[2] ** c))
    index = torch.tensor([2, 0, 1])
    pairs: list[tuple[Tensor, Any]] = [
        (Multinomial(4, p).pmf(y), expected),
        (Multinomial(4, p).log_pmf(y), [math.log(q) for q in expected]),
        (Categorical(p).pmf(index), p[index]),
        (Categorical(p).log_pmf(index), p[index].double().log()),
        (Categorical(p).covariance[0], [float(f[0] * ((i == 0) - f[i])) for i in range(3)]),
        (
            Bernoulli(p).pmf(torch.tensor([0, 1, 0])),
            [float(1 - f[0]), float(f[1]), float(1 - f[2])],
        ),
        (Bernoulli(p).log_pmf(torch.zeros(3)), (1 - p.double()).log()),
        (Bernoulli(p).variance, [float(q * (1 - q)) for q in f]),
    ]
    for actual, exact in pairs:
        assert actual.dtype is dtype
        assert_close(actual, exact, rel)
    # Half precision may not hold n.
    for moment in (Multinomial(4, p).mean, Multinomial(9, p).covariance):
        assert moment.dtype is arithmetic(dtype)
    assert_close(Multinomial(4, p).mean, [4 * float(q) for q in f], rel)
    exact_row = [float(9 * f[1] * ((i == 1) - f[i])) for i in range(3)]
    assert_close(Multinomial(9, p).covariance[1], exact_row, rel)


def test_moments_of_many_draws_in_half_precision_are_finite() -> None:
    p = torch.tensor([0.5, 0.5], dtype=torch.float16)
    assert Multinomial(10**6, p).mean.tolist() == [5e5, 5e5]
    assert Multinomial(10**6, p).covariance.tolist() == [[2.5e5, -2.5e5], [-2.5e5, 2.5e5]]


def test_rare_events_keep_their_digits() -> None:
    rare = Bernoulli(torch.tensor([1e-30, 1e-10], dtype=torch.float64))
    assert_close(1e30 * rare.pmf(torch.tensor(1)), [1.0, 1e20])
    # log(1 - p) = -p - p^2 / 2 - ..., which is 0 to whoever subtracts first.
    no = rare.log_pmf(torch.tensor(0)) * torch.tensor([1e30, 1e10], dtype=torch.float64)
    assert_close(no, [-1.0, -1 - 5e-11])


@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
def test_a_hundred_thousand_draws_keep_their_digits(dtype: torch.dtype) -> None:
    n = 100_000
    p = torch.tensor([0.5, 0.25, 0.2, 0.05], dtype=dtype)
    y = torch.tensor(
        [[50_000, 25_000, 20_000, 5_000], [1, 0, 99_998, 1], [49_500, 25_500, 24_999, 1]]
    )
    expected = [
        float(
            mp.loggamma(n + 1)
            - sum(mp.loggamma(c + 1) for c in counts)
            + sum(c * mp.log(mp.mpf(q)) for c, q in zip(counts, p.tolist(), strict=True))
        )
        for counts in y.tolist()
    ]
    assert expected[0] > -20 > -5000 > expected[2]  # likely, next to impossible
    log_pmf = Multinomial(n, p).log_pmf(y)
    # Terms of two million in all, good to 8 u, and five sums of that size.
    absolute = 16 * 2e6 * unit(torch.float64)
    torch.testing.assert_close(
        log_pmf.double(),
        torch.tensor(expected, dtype=torch.float64),
        rtol=2 * unit(dtype),
        atol=absolute,
    )
    if dtype is torch.float64:  # SciPy warns of a sum that is 1 only to float32
        theirs = scipy.stats.multinomial.logpmf(y.numpy(), n, p.numpy())
        torch.testing.assert_close(log_pmf, torch.tensor(theirs), rtol=0, atol=2 * absolute)


@dtypes
def test_certain_and_impossible(dtype: torch.dtype) -> None:
    coin = Bernoulli(torch.tensor([0.0, 1.0], dtype=dtype))
    assert coin.pmf(torch.tensor([[0], [1]])).tolist() == [[1, 0], [0, 1]]
    assert coin.log_pmf(torch.tensor([[0], [1]])).tolist() == [[0, -INF], [-INF, 0]]
    assert coin.variance.tolist() == [0, 0]
    assert coin.sample(50, generator=generator()).tolist() == [[0, 1]] * 50
    p = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]], dtype=dtype)
    die = Categorical(p)
    assert die.pmf(torch.tensor([[0], [1], [2]])).tolist() == p.T.tolist()
    assert die.log_pmf(torch.tensor([1, 1])).tolist() == [0, -INF]
    assert die.covariance[0].count_nonzero() == 0
    for draws in (1, 500):
        y = die.sample(draws, generator=generator())
        assert bool((y[:, 0] == 1).all() and (y[:, 1] != 1).all())
    many = Multinomial(2, p)
    assert many.pmf(torch.tensor([0, 2, 0])).tolist() == [1, 0]
    never, sometimes = many.pmf(torch.tensor([1, 0, 1]))
    assert never.item() == 0
    assert_close(sometimes, 0.5)
    assert many.log_pmf(torch.tensor([1, 1, 0])).tolist() == [-INF, -INF]
    assert many.sample(20, generator=generator())[:, 0].tolist() == [[0, 2, 0]] * 20


@pytest.mark.parametrize(
    ("distribution", "possible", "impossible"),
    [
        (Bernoulli(torch.tensor(0.5)), [0, 1], [-1, 2]),
        (Bernoulli(torch.tensor(0.5)), [0.0, -0.0, 1.0], [0.5, NAN, INF, -INF]),
        (Bernoulli(torch.tensor(0.5)), [False, True], [2.0]),
        (Categorical(P3), [0, 1, 2], [-1, -3, 3, 10**12]),
        (Multinomial(2, P3), [[1, 1, 0]], [[1, 1, 1], [1, 0, 0], [0, 0, 0], [3, -1, 0]]),
        (Multinomial(2, P3), [[1.0, 0.0, 1.0]], [[0.5, 1.5, 0.0], [NAN, 1, 1], [INF, 0, -INF]]),
    ],
)
def test_off_the_support_the_probability_is_zero(
    distribution: Any, possible: list[Any], impossible: list[Any]
) -> None:
    assert bool((distribution.pmf(torch.tensor(possible)) > 0).all())
    y = torch.tensor(impossible)
    assert distribution.pmf(y).tolist() == [0] * len(y)
    assert distribution.log_pmf(y).tolist() == [-INF] * len(y)


INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64)
UNSIGNED = (torch.uint8, torch.uint16, torch.uint32, torch.uint64)


@pytest.mark.parametrize("dtype", [*INTEGERS, *UNSIGNED], ids=str)
@pytest.mark.parametrize("k", [3, 128, 256, 300, 65_536])
def test_an_index_may_be_narrower_than_the_number_of_outcomes(dtype: torch.dtype, k: int) -> None:
    p = torch.arange(1, k + 1).double() / (k * (k + 1) / 2)
    last = min(k, torch.iinfo(dtype).max)  # as an outcome there is none, if it is k
    y = torch.tensor([0, 2, 100, last]).clamp(max=last).to(dtype)
    expected = [p[i].item() if i < k else 0 for i in y.tolist()]
    die = Categorical(p)
    assert die.pmf(y).tolist() == expected
    assert_close(die.log_pmf(y).exp(), expected)
    inside = torch.tensor([i for i in y.tolist() if i < k])
    one_hot_rows = die.sufficient_statistic(inside.to(dtype))
    assert torch.equal(one_hot_rows.argmax(-1), inside)
    assert one_hot_rows.sum().item() == len(inside)


def test_the_largest_indices_are_outside() -> None:
    y = torch.tensor([2**63, 2**64 - 1, 1], dtype=torch.uint64)
    assert Categorical(P3).pmf(y).tolist() == [0, 0, 0.25]
    with pytest.raises(ValueError, match=r"from 0 to 2, got \[9223372036854775808, 184467"):
        Categorical(P3).sufficient_statistic(y)


def test_small_integers_index_too() -> None:
    for dtype in (torch.uint8, torch.int8, torch.int32):
        assert Categorical(P3).pmf(torch.tensor([0, 2, 3], dtype=dtype)).tolist() == [0.5, 0.25, 0]
        y = torch.tensor([1, 1, 0], dtype=dtype)
        assert Multinomial(2, P3).pmf(y).item() == pytest.approx(0.25)


def test_one_draw_is_a_one_hot_category() -> None:
    p = rows(2, 3, 4)
    one, die = Multinomial(1, p), Categorical(p)
    for y in range(4):
        assert_close(one.pmf(one_hot(torch.tensor(y), 4)), die.pmf(torch.tensor(y)))
    assert torch.equal(one.mean, die.mean)
    assert torch.equal(one.covariance, die.covariance)
    # The four p sum to one to 5 u; then products and sums.
    assert_close(die.covariance.sum(-1), torch.zeros(2, 3, 4), rel=16 * unit(torch.float64))
    drawn = one.sample(50, generator=generator())
    assert torch.equal(drawn, one_hot(die.sample(50, generator=generator()), 4))


@batches
def test_an_empty_batch_and_the_shapes_of_draws(batch: tuple[int, ...]) -> None:
    for shape in (batch, (*batch, 0), (0, *batch)):
        p = torch.full((*shape, 2), 0.5)
        for draws in (1, 3):
            for drawn, event in (
                (Bernoulli(p[..., 0]).sample(draws), ()),
                (Categorical(p).sample(draws), ()),
                (Multinomial(4, p).sample(draws), (2,)),
            ):
                assert drawn.shape == (draws, *shape, *event)
                assert drawn.dtype is torch.int64
        assert Categorical(p).covariance.shape == (*shape, 2, 2)
