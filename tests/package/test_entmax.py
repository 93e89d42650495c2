"""Sparsemax and entmax against the package `entmax`, a convex solver, 50 digits and softmax."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import entmax as peer
import numpy as np
import pytest
import torch
from mpmath import mp
from scipy.optimize import minimize
from torch import Tensor

from omnivault.entmax import entmax, sparsemax
from omnivault.softmax import softmax
from tests.support.strategies import HALF, arithmetic, assert_within, double, smallest, unit

INF, NAN = math.inf, math.nan
U = unit(torch.float64)
ALPHAS = [1.05, 1.5, 2.0, 3.0, 5.0]
MAPS: dict[str, Callable[..., Tensor]] = {
    "sparsemax": sparsemax,
    "entmax": entmax,
    "entmax, 1.05": lambda z, **named: entmax(z, 1.05, **named),
    "entmax, 3": lambda z, **named: entmax(z, 3, **named),
}
every_map = pytest.mark.parametrize("name", MAPS)
every_alpha = pytest.mark.parametrize("alpha", ALPHAS)

ROWS = {
    "some": [0.5, 0.25, -1.0, 0.3],
    "all": [0.1, 0.0, 0.2],
    "ties": [1.5, 1.5, -2.0, 1.5],
    "ties at the border": [1.0, 0.0, 0.0],
    "all tied": [2.0, 2.0, 2.0, 2.0, 2.0],
    "one class": [3.0],
    "two classes": [0.0, -0.75],
    "far apart": [-12.0, 120.0, -203.0, 2.0],
    "far from zero": [10000.0, 10000.5, 9999.75],
    "one ruled out": [0.0, -INF, 0.25],
    "all but one ruled out": [-INF, 0.5, -INF],
}
every_row = pytest.mark.parametrize("values", ROWS.values(), ids=ROWS.keys())


def some_logits(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def gradient(subject: Callable[[Tensor], Tensor], z: Tensor, v: Tensor) -> Tensor:
    z = z.clone().requires_grad_()
    (found,) = torch.autograd.grad(subject(z), z, v)
    return found


def bound(k: int, alpha: float, u: float) -> float:
    """How far rounding may move entmax of K classes, in the sum of the absolute values.

    With a = alpha - 1 and w_i = a x_i / m^a in [-1, 0], each m (1 + w_i)^(1/a) is off by e at most:
    w has the errors of x, three, of a product, of a quotient and of exp(-a log m), and the power
    1/a makes of an error d at most d if a <= 1, and d^(1/a) if not; log1p and exp are within four
    units in the last place. All K terms rise with m, so that where their sum, computed, passes 1
    they are together as far from the solution as that sum is wrong; dividing by their sum doubles
    it, and so do the errors of the terms themselves. For sparsemax, that sorts, less would do.
    """
    a = alpha - 1
    term: float = ((16 + a * math.log(k)) * u) ** min(1, 1 / a) + 12 * u
    return 4 * (k * term + (8 + math.log(k) + 4 * math.log2(k + 1)) * u)


def by_fifty_digits(values: list[float], alpha: float, temperature: float) -> list[Any]:
    """The threshold by bisection, of the very numbers."""
    a, t = mp.mpf(alpha) - 1, mp.mpf(temperature)
    u = [a * mp.mpf(x) / t for x in values]
    low, high = max(u) - 1, max(u)
    for _ in range(170):
        tau = (low + high) / 2
        p = [max(x - tau, mp.mpf(0)) ** (1 / a) for x in u]
        low, high = (tau, high) if mp.fsum(p) > 1 else (low, tau)
    # A power below 1 leaves less than 50 digits, and a sum to divide by.
    return [x / mp.fsum(p) for x in p]


@every_row
@every_alpha
@pytest.mark.parametrize("temperature", [1.0, 0.3, 2.5, 40.0])
@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64], ids=str)
def test_fifty_digits_find_the_same(
    values: list[float], alpha: float, temperature: float, dtype: torch.dtype
) -> None:
    z = torch.tensor(values, dtype=dtype)
    expected = by_fifty_digits(z.tolist(), alpha, temperature)
    allowed = bound(len(z), alpha, unit(arithmetic(dtype)))
    if dtype in HALF:
        allowed += unit(dtype) + smallest(dtype)
    maps = [entmax(z, alpha, temperature)] + [sparsemax(z, temperature)] * (alpha == 2)
    for p in maps:
        assert p.dtype == dtype
        assert p.shape == z.shape
        assert_within(p, expected, allowed)
        assert_within(p.double().sum(), 1, len(z) * (unit(dtype) + 4 * U))
        # Equal logits have one probability, and the order is kept.
        assert (p[z.argsort()].diff() >= 0).all()
        assert p[z == z.max()].unique().numel() == 1


def test_the_package_finds_the_same() -> None:
    z = 2 * some_logits(60, 9)
    k = z.shape[-1]
    assert_within(sparsemax(z), peer.sparsemax(z, -1), 2 * bound(k, 2, U))
    # The closed form of the peer takes a root of what is left of 1, which is 1/k^3 at least.
    assert_within(entmax(z), peer.entmax15(z, -1), bound(k, 1.5, U) + 16 * k**2.5 * U)
    for alpha in ALPHAS:
        # 100 halvings leave the rounding of tau, of which a power and a sum are taken.
        power = 1 / (alpha - 1)
        other = 2 * k * max(1, power) * (8 * U) ** min(1, power)
        found = peer.entmax_bisect(z, alpha, n_iter=100)
        assert_within(entmax(z, alpha), found, bound(k, alpha, U) + other)


@pytest.mark.parametrize("temperature", [1.0, 0.25, 3.0])
def test_the_package_finds_the_same_gradients(temperature: float) -> None:
    z = some_logits(40, 6)
    v = some_logits(41, 6)[1:]
    others: dict[float, Callable[[Tensor], Tensor]] = {
        1.05: lambda x: peer.entmax_bisect(x, 1.05, n_iter=100),
        1.5: lambda x: peer.entmax15(x, -1),
        2.0: lambda x: peer.sparsemax(x, -1),
    }
    for alpha, other in others.items():
        expected = gradient(other, z / temperature, v) / temperature
        p = entmax(z, alpha, temperature)
        # s = p^(2 - alpha) of a p that is off by d: by d^(2 - alpha), or by the slope times d.
        d = 2 * bound(6, alpha, U) + 16 * 6**2.5 * U + 12 * max(1, 1 / (alpha - 1)) * 8 * U
        off = torch.where(p > 2 * d, 2 * d * p ** (1 - alpha), d ** (2 - alpha))
        s = torch.where(p > 0, p ** (2 - alpha), 0.0)
        off = off + s * (off.sum(-1, keepdim=True) / s.sum(-1, keepdim=True) + 16 * U)
        allowed = 2 * v.abs().amax(-1, keepdim=True) * off / temperature
        found = [gradient(partial(entmax, alpha=alpha, temperature=temperature), z, v)]
        if alpha == 2:
            found.append(gradient(partial(sparsemax, temperature=temperature), z, v))
        for one in found:
            assert_within(one, expected, allowed)


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_a_convex_solver_finds_nothing_better_and_ends_nearby(
    alpha: float, temperature: float
) -> None:
    def objective(p: Any, z: Any) -> Any:
        return p @ z - temperature * (np.sum(p**alpha) - 1) / (alpha * (alpha - 1))

    def slope(p: Any, z: Any) -> Any:
        return z - temperature * p ** (alpha - 1) / (alpha - 1)

    for z in some_logits(6, 5).numpy():
        solved = minimize(
            lambda p, z=z: -objective(p.clip(0), z),
            np.full(5, 0.2),
            jac=lambda p, z=z: -slope(p.clip(0), z),
            method="SLSQP",
            bounds=[(0, 1)] * 5,
            constraints={"type": "eq", "fun": lambda p: p.sum() - 1, "jac": np.ones_like},
            options={"ftol": 1e-13, "maxiter": 500},
        )
        assert solved.success
        q = solved.x.clip(0) / solved.x.clip(0).sum()
        p = entmax(torch.tensor(z), alpha, temperature).numpy()
        rounding = 32 * U * (abs(z).max() + temperature / (alpha * (alpha - 1)))
        ahead = objective(p, z) - objective(q, z)
        assert -rounding <= ahead <= 1e-6
        # On the simplex the regularizer is 1-strongly convex, since p^(alpha - 2) >= 1.
        assert np.sum((p - q) ** 2) <= 2 * (ahead + rounding) / temperature


@every_map
def test_derivatives_are_those_of_differences(name: str) -> None:
    z = torch.tensor(
        [[0.3, 0.1, -0.2, -3.0], [0.0, 0.05, 0.1, 0.12]], dtype=torch.float64, requires_grad=True
    )
    t = torch.tensor([0.7, 1.6], dtype=torch.float64, requires_grad=True)
    subject = MAPS[name]
    assert torch.autograd.gradcheck(lambda z, t: subject(z, temperature=t), (z, t))
    assert torch.autograd.gradgradcheck(lambda z, t: subject(z, temperature=t), (z, t))


def test_the_jacobian_is_that_of_the_support() -> None:
    z = double([0.5, 0.25, -1.0, 0.3])
    jacobian = torch.func.jacrev(lambda z: sparsemax(z, 2.0))(double([0.5, 0.25, -9.0, 0.3]))
    one = double([1.0, 1.0, 0.0, 1.0])
    assert_within(jacobian, (one.diag() - one.outer(one) / 3) / 2, 4 * U)
    for alpha in ALPHAS:
        jacobian = torch.func.jacrev(lambda z, alpha=alpha: entmax(z, alpha, 2.0))(z)
        p = entmax(z, alpha, 2.0)
        s = torch.where(p > 0, p ** (2 - alpha), 0.0)
        expected = (s.diag() - s.outer(s) / s.sum()) / 2
        assert_within(jacobian, expected, 32 * U * s.sum().item())


@pytest.mark.parametrize("alpha", [1.2, 2.0, 3.0, 6.0, 10.0])
def test_gradients_keep_their_digits_where_the_jacobian_is_large(alpha: float) -> None:
    k, u = 6, unit(torch.float32)
    z = (some_logits(300, k) / (2 * max(1, alpha - 1))).float()
    v = some_logits(301, k)[1:].float()
    found = gradient(partial(entmax, alpha=alpha), z, v)
    p = entmax(z, alpha).double()
    s = torch.where(p > 0, p ** (2 - alpha), 0.0)
    # From the v of the largest s: its own term is 0, so that s does not multiply the rounding of
    # a mean that is near v.
    apart = v.double() - v.double().gather(-1, s.argmax(-1, keepdim=True))
    mean = (s * apart).sum(-1, keepdim=True) / s.sum(-1, keepdim=True)
    size = apart.abs() + (s * apart.abs()).sum(-1, keepdim=True) / s.sum(-1, keepdim=True)
    # A power is within four units; sums and quotients of k terms do the rest.
    assert_within(found, s * (apart - mean), (2 * k + 16) * u * s * size)


def test_a_jacobian_that_overflows_makes_no_gradient_nan() -> None:
    # Of 100 equal logits s is 100^28, more than float32 holds.
    z = torch.zeros(100)
    z[7] = -INF
    for v in (torch.zeros(100), torch.ones(100)):
        assert not gradient(partial(entmax, alpha=30.0), z, v).any()
    found = gradient(partial(entmax, alpha=30.0), z, torch.linspace(-9, 9, 100))
    assert not found.isnan().any()
    assert found[0] < 0 == found[7] < found[-1]


@every_map
def test_what_is_ruled_out_has_no_gradient_and_makes_none_nan(name: str) -> None:
    for values in ([0.0, -INF, 0.25], [0.0, -3e38, 0.25], [0.0, -1e30, 0.25]):
        z = torch.tensor(values, requires_grad=True)
        t = torch.tensor(1e-3, requires_grad=True)
        p = MAPS[name](z, temperature=t)
        first = torch.autograd.grad(p[2] + z[2] ** 2, (z, t), create_graph=True)
        second = torch.autograd.grad(first[0].sum() + first[1], (z, t))
        assert p[1] == first[0][1] == second[0][1] == 0
        assert all(g.isfinite().all() for g in (*first, *second))


@every_map
def test_what_is_ruled_out_might_as_well_not_be_there(name: str) -> None:
    z = some_logits(20, 4)
    wider = torch.cat([z[:, :2], torch.full_like(z[:, :1], -INF), z[:, 2:]], -1)
    p = MAPS[name](wider)
    assert (p[:, 2] == 0).all()
    alpha = {"entmax, 3": 3, "entmax, 1.05": 1.05}.get(name, 2)
    assert_within(p[:, [0, 1, 3, 4]], MAPS[name](z), 2 * bound(5, alpha, U))


@every_map
@pytest.mark.parametrize(
    "values",
    [[NAN, 0.0, 1.0], [INF, 0.0, 1.0], [INF, -INF], [-INF, -INF], [INF], [NAN], [-INF], [0.0, 1.0]],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_nan_is_where_softmax_has_it(name: str, values: list[float], dtype: torch.dtype) -> None:
    z = torch.tensor([values, [0.0] * len(values)], dtype=dtype)
    assert torch.equal(MAPS[name](z).isnan(), softmax(z).isnan())


@every_map
def test_any_dimension_and_batch(name: str) -> None:
    z = some_logits(2, 3, 4, 5)
    subject = MAPS[name]
    last = subject(z)
    for dim in range(-4, 4):
        moved = z.movedim(-1, dim)
        assert torch.equal(subject(moved, dim=dim), last.movedim(-1, dim))
    assert torch.equal(subject(z.expand(3, 2, 3, 4, 5))[1], last)
    assert torch.equal(subject(z[1, 2, 3]), last[1, 2, 3])
    assert torch.equal(subject(z[..., ::2]), subject(z[..., ::2].contiguous()))
    assert subject(z[:0]).shape == (0, 3, 4, 5)
    assert subject(torch.empty(2, 3, 4, device="meta")).shape == (2, 3, 4)


@every_map
def test_a_temperature_for_each_row(name: str) -> None:
    z, subject = some_logits(3, 4), MAPS[name]
    several = double([0.2, 1.0, 5.0])
    each = torch.stack(
        [subject(row, temperature=t.item()) for row, t in zip(z, several, strict=True)]
    )
    assert torch.equal(subject(z, temperature=several), each)
    assert torch.equal(subject(z.T, temperature=several, dim=0), each.T)
    assert torch.equal(subject(z, temperature=double(2.0)), subject(z, temperature=2))


@every_map
def test_tiny_and_huge_temperatures(name: str) -> None:
    subject = MAPS[name]
    for dtype in (torch.float32, torch.float64):
        limits, third = torch.finfo(dtype), torch.full((3,), 1 / 3, dtype=dtype)
        z = torch.tensor([1.0, 1.0, 0.5], dtype=dtype)
        assert subject(z, temperature=limits.tiny).tolist() == [0.5, 0.5, 0]
        assert_within(subject(z, temperature=limits.max), third, 4 * unit(dtype))
        # The difference of these overflows, and that is 2 where it is divided by T.
        z = limits.max * torch.tensor([1.0, -1.0], dtype=dtype)
        assert subject(z, temperature=limits.tiny).tolist() == [1, 0]
        expected = subject(torch.tensor([1.0, -1.0], dtype=dtype))
        assert torch.equal(subject(z, temperature=limits.max), expected)


def test_many_classes_in_single_precision_lose_no_digits() -> None:
    # A threshold near -0.9 is rounded by 2^-25, and 10^5 classes have 10^-6 each.
    z = torch.full((100_000,), -0.9)
    z[7] = 0
    p = sparsemax(z)
    each = (1 - 0.9) / len(z)
    assert_within(p[8].double(), double(each), 4 * unit(torch.float32) * 0.9 / 1e5 + 1e-12)
    assert_within(p.double().sum(), 1, 1e-6)


def test_alpha_from_softmax_to_sparsemax() -> None:
    z = some_logits(30, 5)
    assert torch.equal(entmax(z, 1, 0.7), softmax(z, temperature=0.7))
    assert_within(entmax(z, 2, 0.7), sparsemax(z, 0.7), 2 * bound(5, 2, U))
    # log(1 + a x) / a is x - a x^2 / 2 + ..., with x below 10 here.
    for alpha in (1 + 1e-6, 1 + 1e-10, 1 + 2.0**-52):
        assert_within(entmax(z, alpha), softmax(z), 200 * (alpha - 1) + bound(5, alpha, U))
    for two in (2, torch.tensor(2.0)):
        assert torch.equal(entmax(z, two), entmax(z, 2.0))
    # Largest alpha: the best have everything, in equal parts. 1e300 is more than float32 holds.
    for dtype in (torch.float32, torch.float64):
        z = torch.tensor([[1.0, 1.0, 0.9], [1.0, 0.0, -INF]], dtype=dtype)
        assert entmax(z, 1e300).tolist() == [[0.5, 0.5, 0], [1, 0, 0]]


LOGITS = torch.tensor([[0.0, 1.0]])
BAD: dict[str, tuple[Callable[[], Tensor], type[Exception], str]] = {
    "a list": (
        lambda: sparsemax([1.0, 2.0]),  # type: ignore[arg-type]
        TypeError,
        "logits must be a torch.Tensor, got [1.0, 2.0]; wrap them in torch.tensor(...)",
    ),
    "integers": (
        lambda: entmax(torch.tensor([1, 2])),
        TypeError,
        "logits must have a floating dtype, got torch.int64 with values [1, 2]; "
        "convert them with z.float()",
    ),
    "integers, for alpha = 1": (
        lambda: entmax(torch.tensor([1, 2]), 1),
        TypeError,
        "logits must have a floating dtype, got torch.int64 with values [1, 2]; "
        "convert them with z.float()",
    ),
    "no such dimension": (
        lambda: sparsemax(LOGITS, dim=2),
        ValueError,
        "dim must lie in [-2, 1] for logits of shape (1, 2), got 2",
    ),
    "several dimensions": (
        lambda: entmax(LOGITS, 1, dim=(0, 1)),  # type: ignore[arg-type]
        TypeError,
        "dim must be an int such as -1, got (0, 1)",
    ),
    "no classes": (
        lambda: entmax(LOGITS[:, :0]),
        ValueError,
        "dimension -1 of the logits is empty (shape (1, 0)); a softmax needs at least one class",
    ),
    "temperature 0": (
        lambda: sparsemax(LOGITS, 0),
        ValueError,
        "temperature must be > 0, got 0; for T -> 0 take the largest logit: logits.argmax(-1), "
        "or greedy(logits)",
    ),
    "three temperatures for a row": (
        lambda: entmax(LOGITS, temperature=torch.ones(3)),
        ValueError,
        "temperature must be a number or have the shape (1,) of the rows, got (3,); "
        "give one number for each row",
    ),
    "alpha below 1": (
        lambda: entmax(LOGITS, 0.5),
        ValueError,
        "alpha must be >= 1 and finite, got 0.5; 1 is softmax, 2 is sparsemax",
    ),
    "alpha infinite": (
        lambda: entmax(LOGITS, INF),
        ValueError,
        "alpha must be >= 1 and finite, got inf; 1 is softmax, 2 is sparsemax",
    ),
    "alpha nan": (
        lambda: entmax(LOGITS, NAN),
        ValueError,
        "alpha must be >= 1 and finite, got nan; 1 is softmax, 2 is sparsemax",
    ),
    "alpha a word": (
        lambda: entmax(LOGITS, "1.5"),  # type: ignore[arg-type]
        TypeError,
        "alpha must be a number such as 1.5, got '1.5'",
    ),
    "alphas": (
        lambda: entmax(LOGITS, torch.tensor([1.5, 2.0])),
        TypeError,
        "alpha must be a number such as 1.5, got tensor([1.5, 2.0])",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_shown(name: str) -> None:
    call, kind, message = BAD[name]
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        call()
