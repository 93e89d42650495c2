"""The distributions as exponential families, against sums over every outcome that there is."""

from __future__ import annotations

import math
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import pytest
import scipy.special
import torch
from torch import Tensor
from torch.func import jacrev

from omnivault.distributions import Bernoulli, Categorical, Multinomial
from tests.package.distributions.common_natural import (
    INF,
    ROUNDING,
    Family,
    Function,
    assert_close,
    dtypes,
    families,
    forms,
    logits_of,
    numbers,
)
from tests.support.strategies import (
    arithmetic,
    assert_within,
    logsumexp_bound,
    smallest,
    softmax_bound,
    unit,
)

sizes = pytest.mark.parametrize("k", [1, 2, 5])
batches = pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 3), (0, 2)], ids=str)


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
