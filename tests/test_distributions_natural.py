"""The distributions as exponential families, against sums over every outcome that there is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import pytest
import scipy.special
import torch
from mpmath import mp
from strategies import (
    DTYPES,
    arithmetic,
    as_double,
    assert_within,
    exact_logsumexp,
    exact_softmax,
    logsumexp_bound,
    smallest,
    softmax_bound,
    unit,
)
from torch import Tensor
from torch.func import jacrev

from omnivault.distributions import Bernoulli, Categorical, Multinomial

INF, NAN = math.inf, math.nan
Function = Callable[..., Any]

pytestmark = pytest.mark.usefixtures("one_thread")


class Family(NamedTuple):
    n: int
    make: Function
    from_natural: Function
    log_partition: Function


FAMILIES = [Family(1, Categorical, Categorical.from_natural, Categorical.log_partition)]
for n in (1, 4):
    functions = (Multinomial, Multinomial.from_natural, Multinomial.log_partition)
    FAMILIES.append(Family(n, *(partial(f, n) for f in functions)))
families = pytest.mark.parametrize("family", FAMILIES, ids=["one", "1 draw", "4 draws"])
forms = pytest.mark.parametrize("minimal", [False, True], ids=["overcomplete", "minimal"])
sizes = pytest.mark.parametrize("k", [1, 2, 5])
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
batches = pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 3), (0, 2)], ids=str)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 1.5 * torch.randn(shape, generator=generator, dtype=torch.float64)


def logits_of(eta: Tensor, minimal: bool) -> Tensor:
    """K logits of as many, or of one fewer, natural parameters."""
    return torch.nn.functional.pad(eta, (0, 1)) if minimal else eta


class Outcomes(NamedTuple):
    y: Tensor  # as the distribution takes them
    t: Tensor  # counts, one row an outcome
    h: Tensor  # n! / prod y_k!
    pmf: Tensor  # over outcomes in the last dimension
    log_partition: Tensor


def every_outcome(family: Family, logits: Tensor) -> Outcomes:
    """What the definition says: P(y) is h(y) exp <eta, t(y)> over the sum of that."""
    n, k = family.n, logits.shape[-1]
    counts = [y for y in product(range(n + 1), repeat=k) if sum(y) == n]
    h = torch.tensor(
        [math.factorial(n) / math.prod(map(math.factorial, y)) for y in counts],
        dtype=torch.float64,
    )
    t = torch.tensor(counts)
    weights = h * (logits.double() @ t.double().T).exp()
    total = weights.sum(-1, keepdim=True)
    y = t.argmax(-1) if family.make is Categorical else t
    return Outcomes(y, t, h, weights / total, total.squeeze(-1).log())


def moments(all_of_them: Outcomes) -> tuple[Tensor, Tensor]:
    t = all_of_them.t.double()
    mean = all_of_them.pmf @ t
    off = t - mean.unsqueeze(-2)
    return mean, torch.einsum("...o,...oi,...oj->...ij", all_of_them.pmf, off, off)


def hessian(f: Function) -> Function:
    return jacrev(jacrev(f))  # torch.func.hessian goes by torch.jit, which warns


ROUNDING = 1024 * unit(torch.float64)  # hundreds of roundings, of numbers of size ten or less


def assert_close(actual: Tensor, expected: Any, rel: float = ROUNDING) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.double(), expected, rtol=rel, atol=rel)


# The exponential form -----------------------------------------------------------------------------


@dtypes
@batches
@sizes
@forms
@families
def test_the_exponential_form_is_the_pmf(
    dtype: torch.dtype, batch: tuple[int, ...], k: int, minimal: bool, family: Family
) -> None:
    eta = numbers(*batch, k - minimal).to(dtype)
    logits, n, u = logits_of(eta, minimal), family.n, unit(dtype)
    exact = every_outcome(family, logits)
    distribution = family.from_natural(eta, minimal=minimal)
    assert distribution.probs.shape == (*batch, k)
    # Rounding of the float64 exponents up to 16, and of sums of 70 terms, here; it matters only
    # beside float64 results.
    here = 256 * unit(torch.float64)
    partition = family.log_partition(eta, minimal=minimal)
    assert partition.dtype is distribution.probs.dtype is dtype
    off = n * logsumexp_bound(logits) + u * exact.log_partition.abs() + here
    assert_within(partition, exact.log_partition, off)
    y = exact.y.reshape(len(exact.y), *[1] * len(batch), *exact.y.shape[1:])
    t = distribution.sufficient_statistic(y, minimal=minimal)
    assert t.shape == (len(y), *[1] * len(batch), k - minimal)
    one_hot = family.make is Categorical  # counts would be rounded in half precision
    assert t.dtype is (dtype if one_hot else torch.promote_types(dtype, torch.float32))
    scores = (eta.double() * t.double()).sum(-1) - partition.double()
    form = exact.h.reshape(scores.shape[0], *[1] * len(batch)) * scores.exp()
    pmf = exact.pmf.movedim(-1, 0)
    # An error of A is a relative one of exp(-A); one of a probability comes n times.
    assert_within(form, pmf, pmf * (1.1 * off + here))
    p = logits.double().softmax(-1)
    relative = (softmax_bound(logits) / p).amax(-1)
    actual = distribution.pmf(y)
    assert actual.dtype is dtype
    assert_within(actual, pmf, pmf * (1.1 * n * relative + u + here) + smallest(dtype))


@dtypes
@batches
def test_the_exponential_form_of_one_event(dtype: torch.dtype, batch: tuple[int, ...]) -> None:
    eta = numbers(*batch).to(dtype)
    coin = Bernoulli.from_natural(eta)
    y = torch.tensor([0, 1]).reshape(2, *[1] * len(batch))
    t, partition = coin.sufficient_statistic(y), Bernoulli.log_partition(eta)
    assert t.dtype is partition.dtype is coin.probs.dtype is coin.to_natural().dtype is dtype
    assert torch.equal(t, y.to(dtype))
    assert partition.shape == coin.probs.shape == batch
    odds = eta.double().exp()
    exact = torch.stack([1 / (1 + odds), odds / (1 + odds)])
    # exp and log1p to 8 u, eta up to 5; and the same here, in float64.
    rel = 16 * unit(dtype) + 32 * unit(torch.float64)
    form = (eta.double() * t.double() - partition.double()).exp()
    assert_close(form, exact, rel)
    assert_close(coin.pmf(y), exact, rel)


# Derivatives of the log-partition are moments -----------------------------------------------------


@sizes
@forms
@families
def test_derivatives_of_the_log_partition_are_moments(
    k: int, minimal: bool, family: Family
) -> None:
    eta = numbers(2, 3, k - minimal)
    mean, covariance = moments(every_outcome(family, logits_of(eta, minimal)))
    kept = k - minimal
    log_partition = partial(family.log_partition, minimal=minimal)
    for i, j in product(range(2), range(3)):
        assert_close(jacrev(log_partition)(eta[i, j]), mean[i, j, :kept])
        curve = hessian(log_partition)(eta[i, j])
        assert_close(curve, covariance[i, j, :kept, :kept], 8 * ROUNDING)  # of counts up to 4
    leaf = eta.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(log_partition(leaf).sum(), leaf)
    assert_close(gradient, mean[..., :kept])
    distribution = family.from_natural(eta, minimal=minimal)
    assert_close(distribution.mean, mean)
    assert_close(distribution.covariance, covariance, 8 * ROUNDING)
    if kept:
        assert torch.autograd.gradcheck(log_partition, (leaf,))
        assert torch.autograd.gradgradcheck(log_partition, (leaf,))


def test_derivatives_of_the_log_partition_of_one_event_are_moments() -> None:
    eta = torch.cat([numbers(6), torch.tensor([-50.0, 50.0])]).requires_grad_()
    (slope,) = torch.autograd.grad(Bernoulli.log_partition(eta).sum(), eta, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), eta)
    yes, no = [(eta * s).detach().exp() / (1 + (eta * s).detach().exp()) for s in (1, -1)]
    torch.testing.assert_close(slope.detach(), yes, rtol=32 * unit(torch.float64), atol=0)
    assert_close(curvature, yes * no)
    assert torch.autograd.gradcheck(Bernoulli.log_partition, (eta,))
    assert torch.autograd.gradgradcheck(Bernoulli.log_partition, (eta,))
    coin = Bernoulli.from_natural(eta.detach())
    assert_close(slope.detach(), coin.mean)
    assert_close(curvature, coin.variance)


@forms
@families
def test_an_impossible_outcome_has_no_derivative(minimal: bool, family: Family) -> None:
    eta = torch.tensor([0.5, -INF, 1.5], dtype=torch.float64)
    possible = eta[[0, 2]]
    mean, covariance = moments(every_outcome(family, logits_of(possible, minimal)))
    log_partition = partial(family.log_partition, minimal=minimal)
    assert_close(log_partition(eta), log_partition(possible))
    slope, curvature = (f(log_partition)(eta) for f in (jacrev, hessian))
    assert slope[1].item() == 0
    assert curvature[1].count_nonzero() == curvature[:, 1].count_nonzero() == 0
    assert_close(slope[[0, 2]], mean[:2])
    assert_close(curvature[[0, 2]][:, [0, 2]], covariance[:2, :2])


# There and back -----------------------------------------------------------------------------------


@dtypes
@batches
@sizes
@forms
@families
def test_there_and_back(
    dtype: torch.dtype, batch: tuple[int, ...], k: int, minimal: bool, family: Family
) -> None:
    eta = numbers(*batch, k - minimal, seed=1).to(dtype)
    logits, u, of_log = logits_of(eta, minimal), unit(dtype), 8 * unit(arithmetic(dtype))
    p = family.from_natural(eta, minimal=minimal).probs
    assert_within(p, logits.double().softmax(-1), softmax_bound(logits))
    back = family.make(p).to_natural(minimal=minimal)
    assert back.dtype is dtype
    assert back.shape == eta.shape
    # A natural parameter off by 8 u of it, besides its own rounding, moves the probability by that
    # in proportion, and the mean by as much; the softmax takes 3 u of either.
    again = family.from_natural(back, minimal=minimal).probs
    largest = back.double().abs().amax() if back.numel() else 0.0
    moved = u * (4 * largest + 16) + of_log * (3 * largest + 4)
    assert_within(again, p.double(), p.double() * moved + 2 * smallest(dtype))
    relative = softmax_bound(logits) / logits.double().softmax(-1)
    if minimal:
        logs = logits.double().log_softmax(-1).abs()  # in float64, to 8 u
        logs = 8 * unit(torch.float64) * (logs[..., :-1] + logs[..., -1:])
        off = relative[..., :-1] + relative[..., -1:] + logs + u * eta.double().abs()
        assert_within(back, eta.double(), 1.1 * off)
    else:
        off = relative + (2 * u + of_log) * back.double().abs() + u
        assert_within(back, logits.double().log_softmax(-1), 1.1 * off)


@families
def test_only_the_overcomplete_form_ignores_a_constant(family: Family) -> None:
    eta = numbers(3, 4)
    plain, shifted = family.from_natural(eta), family.from_natural(eta + 7)
    assert_close(plain.probs, shifted.probs)
    assert_close(family.log_partition(eta + 7), family.log_partition(eta) + 7 * family.n)
    constant = plain.to_natural() - eta
    assert_close(constant, constant[..., :1].expand(3, 4))
    against = family.from_natural(eta, minimal=True).probs
    assert not torch.allclose(against, family.from_natural(eta + 7, minimal=True).probs)
    assert_close(plain.to_natural(minimal=True), eta[..., :-1] - eta[..., -1:])


# What other libraries compute ---------------------------------------------------------------------


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)], ids=str)  # theirs fail without rows
def test_natural_parameters_are_the_logits_of_torch(batch: tuple[int, ...]) -> None:
    eta = numbers(*batch, 4)
    theirs: Any = torch.distributions.Bernoulli(logits=eta)
    coin = Bernoulli.from_natural(eta)
    y = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    assert_close(coin.log_pmf(y), theirs.log_prob(y))
    assert_close(coin.probs, scipy.special.expit(eta.numpy()))
    assert_close(coin.to_natural(), scipy.special.logit(coin.probs.numpy()))
    assert_close(coin.to_natural(), eta)
    assert_close(Bernoulli.from_natural(coin.to_natural()).probs, coin.probs)
    partition = scipy.special.logsumexp(eta.numpy(), -1)
    assert_close(Categorical.log_partition(eta), partition)
    assert_close(Multinomial.log_partition(6, eta), 6 * partition)
    counts = torch.tensor([2, 0, 3, 1], dtype=torch.float64)
    for minimal in (False, True):
        natural = eta[..., :-1] - eta[..., -1:] if minimal else eta
        die = Categorical.from_natural(natural, minimal=minimal)
        many = Multinomial.from_natural(6, natural, minimal=minimal)
        assert many.n == 6
        assert_close(many.probs, scipy.special.softmax(eta.numpy(), -1))
        theirs = torch.distributions.Categorical(logits=eta)
        assert_close(die.to_natural(), theirs.logits)
        for y in torch.arange(4):
            assert_close(die.log_pmf(y), theirs.log_prob(y))
        theirs = torch.distributions.Multinomial(6, logits=eta)
        expected = theirs.log_prob(counts.expand(*batch, 4))
        assert_close(many.log_pmf(counts), expected, 8 * ROUNDING)  # of six draws


# The edges ----------------------------------------------------------------------------------------


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
        assert coin.to_natural().tolist() == [-INF, -INF, 0, INF, INF]
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
        assert minimal.to_natural()[1].tolist() == [-INF, 0, -INF]


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


P3 = torch.tensor([0.5, 0.25, 0.25])


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


# Bad input ----------------------------------------------------------------------------------------

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
to_minimal: list[Function] = [lambda p: Categorical(p).to_natural(minimal=True)]
to_minimal += [lambda p: Multinomial(3, p).to_natural(minimal=True)]
draws: list[Function] = [lambda n: Multinomial.from_natural(n, GOOD)]
draws += [lambda n: Multinomial.log_partition(n, GOOD)]
event = [Bernoulli(T(0.5)).sufficient_statistic]
index, counts = [Categorical(P3).sufficient_statistic], [Multinomial(2, P3).sufficient_statistic]
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
    (draws, 2.0, TypeError, "n must be an int, got 2.0", 2),
    (draws, True, TypeError, "n must be an int, got True", 1),
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
