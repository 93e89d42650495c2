from __future__ import annotations

import math
from itertools import product

import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor
from torch.nn import functional

from omnivault.information import cross_entropy, entropy, kl_divergence
from omnivault.softmax import softmax
from tests.package.information.common import (
    Measure,
    both,
    dtypes,
    entropy_bound,
    other_probabilities,
    probabilities,
    rounded,
)
from tests.support.strategies import (
    DTYPES,
    HALF,
    SINGLE_DOUBLE,
    arithmetic,
    assert_within,
    log_softmax_bound,
    row_pairs,
    rows,
    smallest,
    softmax_bound,
    temperatures,
    unit,
)

pairs_of_dtypes = pytest.mark.parametrize(
    ("dtype_p", "dtype_q"), list(product(DTYPES, repeat=2)), ids=str
)


def precision(p: Tensor, q: Tensor) -> torch.dtype:
    """The dtype in which a pair is computed."""
    return torch.promote_types(arithmetic(p.dtype), arithmetic(q.dtype))


def pair_bound(measure: Measure, p: Tensor, q: Tensor, dim: int = -1) -> Tensor:
    """Logarithm (8 u), product, difference and a sum of K terms in cascade; half rounds again.

    The divergence is a sum of terms p log(p/q) - p + q, none below 0. For p/q between 1/3 and 3
    each is a series without cancellation; elsewhere its three parts are at most 4.1 times as large
    as it is, the most at p/q = 3: 3 log 3 + 2 beside 3 log 3 - 2.
    """
    computed, returned = precision(p, q), torch.result_type(p, q)
    # A logarithm near 0 is rounded as little as it is large. Infinite terms are not rounded.
    if measure is kl_divergence:
        terms = torch.as_tensor(scipy.special.kl_div(p.double().numpy(), q.double().numpy()))
        size = 4.1 * terms.sum(dim).nan_to_num(posinf=0.0)
    else:
        size = torch.xlogy(p.double(), q.double()).abs().sum(dim).nan_to_num(posinf=0.0)
    factor = 12 + 4 * math.log2(p.shape[dim] + 1)
    bound = unit(computed) * factor * size + p.shape[dim] * smallest(computed)
    return bound + (unit(returned) * size + smallest(returned) if returned in HALF else 0.0)


def scipy_measure(measure: Measure, p: Tensor, q: Tensor, dim: int = -1) -> Tensor:
    """From SciPy, which takes the logarithm of the quotient and not two of them."""
    a, b = p.double().numpy(), q.double().numpy()
    if measure is cross_entropy:
        return torch.as_tensor((scipy.special.rel_entr(a, b) + scipy.special.entr(a)).sum(dim))
    return torch.as_tensor(scipy.special.kl_div(a, b).sum(dim))


def scipy_bound(measure: Measure, p: Tensor, q: Tensor, dim: int = -1) -> Tensor:
    """What SciPy's three parts of a term lose where they cancel: 8 u of each, and of their sum."""
    parts = torch.xlogy(p.double(), p.double()).abs() + torch.xlogy(p.double(), q.double()).abs()
    size = (parts + p.double() + q.double()).sum(dim).nan_to_num(posinf=0.0)
    factor = 12 + 4 * math.log2(p.shape[dim] + 1)
    return factor * unit(torch.float64) * size * (measure is kl_divergence)


def test_scipy_has_the_zeros_of_the_definition() -> None:
    assert scipy.special.rel_entr([0.0, 0.0, 0.5], [0.0, 0.5, 0.0]).tolist() == [0.0, 0.0, math.inf]


# Each row: p, q, the dimension of the outcomes, the shape that is returned.
PAIRS: dict[str, tuple[Tensor, Tensor, int, tuple[int, ...]]] = {
    "rows": (probabilities(5), other_probabilities(5), -1, ()),
    "rows, dim 0": (probabilities(5), other_probabilities(5), 0, ()),
    "one outcome": (probabilities(3, 1), other_probabilities(3, 1), -1, (3,)),
    "a batch": (probabilities(4, 5), other_probabilities(4, 5), -1, (4,)),
    "columns": (probabilities(5, 4, dim=0), other_probabilities(5, 4, dim=0), 0, (4,)),
    "columns, -2": (probabilities(5, 4, dim=0), other_probabilities(5, 4, dim=0), -2, (4,)),
    "dim 1 of four": (
        probabilities(2, 3, 4, 5, dim=1),
        other_probabilities(2, 3, 4, 5, dim=1),
        1,
        (2, 4, 5),
    ),
    "one p, many q": (probabilities(5), other_probabilities(4, 5), -1, (4,)),
    "many p, one q": (probabilities(4, 5), other_probabilities(5), -1, (4,)),
    "every p with every q": (probabilities(4, 1, 5), other_probabilities(3, 5), -1, (4, 3)),
    "one column, many": (probabilities(5, 1, dim=0), other_probabilities(5, 3, dim=0), 0, (3,)),
    "dim -2, broadcast": (
        probabilities(5, 1, dim=0),
        other_probabilities(2, 5, 3, dim=1),
        -2,
        (2, 3),
    ),
    "a vocabulary": (probabilities(2, 50257), other_probabilities(2, 50257), -1, (2,)),
    "transposed": (probabilities(5, 4, dim=0).T, other_probabilities(4, 5), -1, (4,)),
    "expanded": (probabilities(5).expand(4, 5), other_probabilities(5, 4, dim=0).T, -1, (4,)),
    "every other row": (probabilities(8, 5)[::2], other_probabilities(4, 5), -1, (4,)),
    "uniform": (
        torch.full((3, 4), 0.25, dtype=torch.float64),
        torch.full((3, 4), 0.25, dtype=torch.float64),
        -1,
        (3,),
    ),
    "certain": (torch.eye(4, dtype=torch.float64), other_probabilities(4), -1, (4,)),
    "certain and ruled out": (
        torch.eye(4, dtype=torch.float64),
        torch.eye(4, dtype=torch.float64),
        -1,
        (4,),
    ),
    "q rules some out": (
        probabilities(4),
        torch.tensor([[0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64),
        -1,
        (2,),
    ),
    "an empty batch": (probabilities(0, 5), other_probabilities(0, 5), -1, (0,)),
    "an empty batch, one q": (probabilities(2, 0, 5), other_probabilities(5), -1, (2, 0)),
}


@both
@pairs_of_dtypes
@pytest.mark.parametrize(("p", "q", "dim", "shape"), PAIRS.values(), ids=PAIRS.keys())
def test_of_two_distributions_is_scipy(
    p: Tensor,
    q: Tensor,
    dim: int,
    shape: tuple[int, ...],
    dtype_p: torch.dtype,
    dtype_q: torch.dtype,
    measure: Measure,
) -> None:
    p, q = p.to(dtype_p), q.to(dtype_q)
    value = measure(p, q, dim)
    assert value.shape == shape
    assert value.dtype is torch.result_type(p, q)
    bound = 2 * pair_bound(measure, p, q, dim) + scipy_bound(measure, p, q, dim)
    assert_within(value, scipy_measure(measure, p, q, dim), bound)


@given(st.data(), temperatures())
def test_of_two_distributions_against_fifty_digits(data: st.DataObject, temperature: float) -> None:
    for dtype in SINGLE_DOUBLE:
        z = data.draw(rows(dtype=dtype))
        p = softmax(z, temperature=temperature)
        q = softmax(data.draw(rows(len(z), len(z), dtype=dtype)))
        numbers = [(mp.mpf(a), mp.mpf(b)) for a, b in zip(p.tolist(), q.tolist(), strict=True)]
        # All positive: e^-60 does not underflow in float32, and e^-600 is not below 1e-308.
        exact = -mp.fsum(a * mp.log(b) for a, b in numbers if a > 0)
        expected = torch.tensor(float(exact), dtype=torch.float64)
        assert_within(cross_entropy(p, q), expected, pair_bound(cross_entropy, p, q))
        exact = mp.fsum(a * mp.log(a / b) - a + b if a > 0 else b for a, b in numbers)
        expected = torch.tensor(float(exact), dtype=torch.float64)
        assert_within(kl_divergence(p, q), expected, pair_bound(kl_divergence, p, q))


@pytest.mark.parametrize(
    ("p", "q", "h_pq", "kl"),
    [
        ([0.5, 0.5], [0.75, 0.25], math.log(4) - math.log(3) / 2, math.log(2) - math.log(3) / 2),
        ([0.75, 0.25], [0.5, 0.5], math.log(2), 0.75 * math.log(3) - math.log(2)),
        ([0.5, 0.5], [0.5, 0.5], math.log(2), 0.0),
        ([0.5, 0.5, 0.0], [0.25, 0.25, 0.5], math.log(4), math.log(2)),
        ([0.5, 0.5, 0.0], [0.5, 0.5, 0.0], math.log(2), 0.0),
        ([0.5, 0.5], [1.0, 0.0], math.inf, math.inf),
        ([1.0, 0.0], [0.5, 0.5], math.log(2), math.log(2)),
        ([1.0, 0.0], [0.0, 1.0], math.inf, math.inf),
        ([0.0, 1.0, 0.0], [0.0, 1.0, 0.0], 0.0, 0.0),
        ([-0.0, 1.0], [-0.0, 1.0], 0.0, 0.0),
        ([1.0], [1.0], 0.0, 0.0),
    ],
)
@dtypes
def test_closed_forms_of_pairs(
    p: list[float], q: list[float], h_pq: float, kl: float, dtype: torch.dtype
) -> None:
    first, second = torch.tensor(p, dtype=dtype), torch.tensor(q, dtype=dtype)
    for measure, expected in ((cross_entropy, h_pq), (kl_divergence, kl)):
        bound = 2 * pair_bound(measure, first, second) * (expected != 0.0)
        exact = torch.tensor(expected, dtype=torch.float64)
        assert_within(measure(first, second), exact, bound)


@pairs_of_dtypes
def test_cross_entropy_is_entropy_and_divergence(
    dtype_p: torch.dtype, dtype_q: torch.dtype
) -> None:
    p = probabilities(16, 9).to(dtype_p)
    q = other_probabilities(16, 9).to(dtype_q)
    # Exactly so if both sum to one, which numbers in half precision do not.
    apart = entropy(p).double() + kl_divergence(p, q).double()
    apart += p.double().sum(-1) - q.double().sum(-1)
    bound = pair_bound(cross_entropy, p, q) + pair_bound(kl_divergence, p, q) + entropy_bound(p)
    assert_within(cross_entropy(p, q), apart, bound)


@given(row_pairs(1, 8), temperatures())
def test_gibbs(pair: tuple[Tensor, Tensor], temperature: float) -> None:
    p, q = softmax(pair[0], temperature=temperature), softmax(pair[1])
    assert kl_divergence(p, q).item() >= 0
    # Both sum to one up to a few u for each outcome.
    allowance = 8 * len(p) * unit(p.dtype)
    least = entropy(p).item() - entropy_bound(p).item()
    assert cross_entropy(p, q).item() >= least - allowance - pair_bound(cross_entropy, p, q).item()
    # Pinsker: what is not equal is apart, by half the squared L1 distance.
    squared = (p - q).abs().sum().item() ** 2
    slack = allowance + pair_bound(kl_divergence, p, q).item()
    assert kl_divergence(p, q).item() >= squared / 2 - slack


@dtypes
def test_a_tiny_divergence_has_its_digits(dtype: torch.dtype) -> None:
    # Rounded, the terms of the definition add up to 0 in float32, where the sum is 2.38e-8.
    p, q = torch.tensor([0.3, 0.7], dtype=dtype), torch.tensor([0.3001, 0.6999], dtype=dtype)
    exact = mp.fsum(
        a * mp.log(a / b) - a + b
        for a, b in zip(map(mp.mpf, p.tolist()), map(mp.mpf, q.tolist()), strict=True)
    )
    expected = torch.tensor(float(exact), dtype=torch.float64)
    assert_within(kl_divergence(p, q), expected, pair_bound(kl_divergence, p, q))
    if dtype is torch.float32:
        assert kl_divergence(p, q).item() == pytest.approx(2.38e-8, rel=1e-3)


def test_divergences_of_near_distributions_are_positive_and_have_their_gradients() -> None:
    p = probabilities(500, 6)
    # 1e-9 apart the divergence is 1e-18: nearly half of the 500 were below 0 by the definition.
    q = p * (1 + 1e-9 * other_probabilities(500, 6))
    q = (q / q.sum(-1, keepdim=True)).requires_grad_()
    divergence = kl_divergence(p, q)
    assert divergence.min().item() > 0
    (gradient,) = torch.autograd.grad(divergence.sum(), q)
    assert_within(gradient, 1 - p / q.detach(), 4 * unit(p.dtype))


@given(rows(1, 8), temperatures())
def test_nothing_diverges_from_itself(z: Tensor, temperature: float) -> None:
    for dtype in DTYPES:
        p = softmax(z.to(dtype), temperature=temperature)
        assert kl_divergence(p, p).item() == 0.0
        size = pair_bound(cross_entropy, p, p) + entropy_bound(p)
        assert_within(cross_entropy(p, p), entropy(p).double(), size)


def test_the_order_matters() -> None:
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.25, 0.5])
    rel = rounded(p.dtype)
    assert kl_divergence(p, q).item() == pytest.approx(math.log(2), rel=rel)
    assert kl_divergence(q, p).item() == math.inf
    assert cross_entropy(p, q).item() == pytest.approx(math.log(4), rel=rel)
    assert cross_entropy(q, p).item() == math.inf


def test_divergence_from_uniform_is_what_entropy_lacks() -> None:
    p = probabilities(6, 7)
    uniform = torch.full((7,), 1 / 7, dtype=torch.float64)
    assert_within(
        kl_divergence(p, uniform),
        math.log(7) - entropy(p),
        pair_bound(kl_divergence, p, uniform) + entropy_bound(p) + 4 * unit(p.dtype),
    )
    assert_within(
        cross_entropy(p, uniform),
        torch.full((6,), math.log(7), dtype=torch.float64),
        # The p of each row sum to one but for rounding.
        pair_bound(cross_entropy, p, uniform) + 16 * unit(p.dtype),
    )


@dtypes
def test_certain_outcomes_cost_their_surprise(dtype: torch.dtype) -> None:
    q = other_probabilities(6).to(dtype)
    certain = torch.eye(6, dtype=dtype)
    expected = -q.double().log()
    assert_within(cross_entropy(certain, q), expected, pair_bound(cross_entropy, certain, q))
    expected = expected - 1 + q.double().sum(-1)
    # A label that is nearly certain costs little, and what the others are given is as much.
    assert_within(kl_divergence(certain, q), expected, 2 * pair_bound(kl_divergence, certain, q))


def test_torch_cross_entropy_takes_logits_and_labels() -> None:
    generator = torch.Generator().manual_seed(2)
    z = 3 * torch.randn(32, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(6, (32,), generator=generator)
    certain = functional.one_hot(labels, 6).double()
    q = softmax(z)
    # An error of q in proportion is one of its logarithm, and torch's own has as large a one.
    off = (softmax_bound(z) / q + log_softmax_bound(z)).amax(-1)
    bound = pair_bound(cross_entropy, certain, q) + off
    assert_within(
        cross_entropy(certain, q), functional.cross_entropy(z, labels, reduction="none"), bound
    )
    soft = probabilities(32, 6)
    bound = 2 * pair_bound(cross_entropy, soft, q) + off
    assert_within(
        cross_entropy(soft, q), functional.cross_entropy(z, soft, reduction="none"), bound
    )


def test_torch_kl_div_takes_them_the_other_way_around_and_a_logarithm() -> None:
    p, q = probabilities(32, 6), other_probabilities(32, 6)
    terms = functional.kl_div(q.log(), p, reduction="none").sum(-1)
    assert_within(kl_divergence(p, q), terms, 2 * pair_bound(kl_divergence, p, q))
    # Not a test of both orders if they were equal.
    assert ((kl_divergence(p, q) - kl_divergence(q, p)).abs() > 1e-3).all()


def test_torch_distributions_agree() -> None:
    p, q = probabilities(32, 6), other_probabilities(32, 6)
    first, second = torch.distributions.Categorical(p), torch.distributions.Categorical(q)
    expected = torch.distributions.kl_divergence(first, second)
    # It divides by the sum, which is 1 up to 6 u, and clamps p and q, which none is near.
    bound = 2 * pair_bound(kl_divergence, p, q) + 32 * unit(p.dtype)
    assert_within(kl_divergence(p, q), expected, bound)


@both
def test_outcomes_have_no_order(measure: Measure) -> None:
    p, q = probabilities(4, 9), other_probabilities(4, 9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    bound = 2 * pair_bound(measure, p, q)
    assert_within(measure(p[:, order], q[:, order]), measure(p, q), bound)


@both
def test_what_both_rule_out_adds_nothing(measure: Measure) -> None:
    p, q = probabilities(4, 5), other_probabilities(4, 5)
    zeros = torch.zeros(4, 2, dtype=p.dtype)
    padded = measure(torch.cat([zeros, p], -1), torch.cat([zeros, q], -1))
    assert_within(padded, measure(p, q), 2 * pair_bound(measure, p, q))


@both
def test_nan_in_either_is_not_hidden(measure: Measure) -> None:
    p = torch.tensor([[0.5, math.nan], [0.5, 0.5], [0.0, 1.0]])
    q = torch.tensor([[0.5, 0.5], [math.nan, 0.5], [math.nan, 1.0]])
    whole = torch.full((3, 2), 0.5)
    assert measure(p, whole).isnan().tolist() == [True, False, False]
    assert measure(whole, q).isnan().tolist() == [False, True, True]
    # Not even where p is 0: 0 log 0 is 0, 0 log nan is not.
    assert measure(p, q).isnan().tolist() == [True, True, True]


@both
def test_inputs_are_left_alone(measure: Measure) -> None:
    p, q = probabilities(4, 5), other_probabilities(4, 5)
    before = p.clone(), q.clone()
    measure(p, q)
    assert torch.equal(p, before[0])
    assert torch.equal(q, before[1])


@pytest.mark.parametrize(("dtype_p", "dtype_q"), list(product(HALF, repeat=2)), ids=str)
def test_a_pair_in_half_precision_is_rounded_once_if_at_all(
    dtype_p: torch.dtype, dtype_q: torch.dtype
) -> None:
    p, q = probabilities(16, 300).to(dtype_p), other_probabilities(16, 300).to(dtype_q)
    # Neither half precision holds the numbers of the other, so a pair of the two is float32.
    dtype = dtype_p if dtype_p is dtype_q else torch.float32
    cost = torch.xlogy(p.float(), q.float())
    own = torch.xlogy(p.float(), p.float())
    for value, expected in (
        (cross_entropy(p, q), -cost.sum(-1)),
        (kl_divergence(p, q), (own - cost - p.float() + q.float()).sum(-1)),
    ):
        assert value.dtype is dtype
        bound = unit(dtype) * expected.double() + 64 * unit(torch.float32)
        assert_within(value, expected.double(), bound)


@pytest.mark.parametrize("dtype", [*HALF, torch.float32], ids=str)
def test_a_pair_is_computed_in_the_wider_dtype(dtype: torch.dtype) -> None:
    p = torch.tensor([[0.7, 0.3], [0.9, 0.1]], dtype=dtype)
    q = p.double() / p.double().sum(-1, keepdim=True)
    bound = 2 * pair_bound(kl_divergence, p, q) + scipy_bound(kl_divergence, p, q)
    assert bound.dtype is torch.float64
    assert_within(kl_divergence(p, q), scipy_measure(kl_divergence, p, q), bound)


def test_gradient_of_cross_entropy_and_divergence() -> None:
    # No p or q so small that a difference quotient's step of 1e-6 is not small beside it.
    p = (0.2 + 0.2 * probabilities(3, 4)).requires_grad_()
    q = (0.2 + 0.2 * other_probabilities(3, 4)).requires_grad_()
    for measure in (cross_entropy, kl_divergence):
        assert torch.autograd.gradcheck(measure, (p, q))
        assert torch.autograd.gradgradcheck(measure, (p, q))
    # Logarithms of size log 5 or less, to 8 u: four on the two sides.
    bound = 64 * unit(torch.float64)
    to_p, to_q = torch.autograd.grad(cross_entropy(p, q).sum(), (p, q))
    assert_within(to_p, -q.detach().log(), bound)
    assert_within(to_q, -(p / q).detach(), bound)
    to_p, to_q = torch.autograd.grad(kl_divergence(p, q).sum(), (p, q))
    assert_within(to_p, (p / q).detach().log(), bound)
    assert_within(to_q, 1 - (p / q).detach(), bound)


@both
@given(pair=row_pairs(2, 6, bound=5.0), temperature=temperatures(0.5, 5.0))
def test_gradient_for_the_logits_is_q_minus_p(
    measure: Measure, pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    p, z = softmax(pair[0]), pair[1].requires_grad_()
    (gradient,) = torch.autograd.grad(measure(p, softmax(z, temperature=temperature)), z)
    q = torch.softmax(z.detach() / temperature, -1)
    # Both p and q are off by a few dozen u; a quotient p / q <= e^20 loses u of the product p.
    assert_within(gradient, (q - p) / temperature, 256 * unit(torch.float64) / temperature)


# Each row: rejected p, q and dim, the whole message, accepted p, q and dim.
