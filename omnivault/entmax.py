r"""Sparsemax and entmax: distributions from logits, with exact zeros.

Both solve the problem that softmax solves, with another regularizer. For logits
:math:`z \in \mathbb{R}^K`, a temperature :math:`T > 0` and :math:`\alpha > 1`

.. math::

    \mathrm{entmax}_{\alpha, T}(z) = \arg\max_{p} \;\langle p, z\rangle
        - T\, \frac{\sum_i p_i^\alpha - 1}{\alpha(\alpha - 1)},

over the distributions p on the K classes. For :math:`\alpha = 2` that is sparsemax, the
distribution nearest to z / T; for :math:`\alpha \to 1` the regularizer tends to the negative
entropy, and entmax to softmax. The larger :math:`\alpha`, the smaller a lead of the first class,
:math:`T / (\alpha - 1)`, gives it everything.

Logits in half precision or in eight bits are computed in float32 and rounded once at the end. A
logit of ``-inf`` rules its class out. A row with nan or ``+inf``, or of ``-inf`` alone, gives nan,
as in :func:`omnivault.softmax.softmax`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from omnivault._checks import (
    at_least_float32,
    check_logits,
    check_number,
    check_temperature,
    shown,
)
from omnivault.softmax import softmax

__all__ = ["entmax", "sparsemax"]


def sparsemax(logits: Tensor, temperature: float | Tensor = 1.0, dim: int = -1) -> Tensor:
    r"""Distribution nearest to z / T: :math:`p_i = \max(z_i / T - \tau, 0)`.

    With the logits sorted, :math:`z_{(1)} \ge z_{(2)} \ge \dots`, the k largest have the
    probability, where k is the largest number with
    :math:`z_{(1)} + \dots + z_{(k)} - k z_{(k)} < T`.

    Parameters
    ----------
    logits
        Logits z of any shape and floating dtype.
    temperature
        T > 0, in the units of the logits: a number, or a tensor with one for each row, of the shape
        of ``logits`` without ``dim`` (or one that broadcasts to it).
    dim
        The dimension that holds the K classes; the others are batch dimensions.

    Returns
    -------
    Tensor
        Probabilities, shape and dtype of ``logits``, summing to one along ``dim``. They have
        gradients for the logits and for a tensor of temperatures, and second ones. With S the
        classes of positive probability, the Jacobian is
        :math:`(\mathrm{diag}(1_S) - 1_S 1_S^\top / |S|) / T`; where a class is about to enter or to
        leave S, it is that of S without this class.

    Raises
    ------
    TypeError
        ``logits`` is not a dense tensor of a floating dtype, or an argument is not a number.
    ValueError
        ``dim`` does not exist or is empty, or ``temperature`` has another shape or is not positive,
        finite and within what the dtype can hold.

    Notes
    -----
    Name, formula and Jacobian are from Martins and Astudillo (2016).

    Examples
    --------
    >>> sparsemax(torch.tensor([0.5, 0.25, -1.0]))
    tensor([0.6250, 0.3750, 0.0000])
    >>> sparsemax(torch.tensor([2.0, 1.0, 0.0]), temperature=torch.tensor(4.0))
    tensor([0.5833, 0.3333, 0.0833])
    """
    return _solution(logits, temperature, dim, 2.0, _by_sorting)


def entmax(
    logits: Tensor,
    alpha: float | Tensor = 1.5,
    temperature: float | Tensor = 1.0,
    dim: int = -1,
) -> Tensor:
    r"""Between softmax and sparsemax, and beyond: :math:`\alpha`-entmax.

    .. math::

        p_i = \max\bigl((\alpha - 1) z_i / T - \tau, 0\bigr)^{1 / (\alpha - 1)}

    with the one :math:`\tau` for which they add up to one. It is found by bisection.

    Parameters
    ----------
    logits
        Logits z of any shape and floating dtype.
    alpha
        :math:`\alpha \ge 1`, a number: 1 is softmax, 2 is :func:`sparsemax`. No gradient is taken
        for it.
    temperature
        T > 0, a number or one for each row, as in :func:`sparsemax`.
    dim
        The dimension that holds the K classes.

    Returns
    -------
    Tensor
        Probabilities, shape and dtype of ``logits``, with gradients as in :func:`sparsemax`. With
        :math:`s_i = p_i^{2 - \alpha}` where :math:`p_i > 0`, and 0 elsewhere, the Jacobian is
        :math:`(\mathrm{diag}(s) - s s^\top / \sum_k s_k) / T`.

    Raises
    ------
    TypeError
        As :func:`sparsemax`, or ``alpha`` is not a number.
    ValueError
        As :func:`sparsemax`, or ``alpha`` is below 1 or not finite.

    Notes
    -----
    Formula and bisection: Peters, Niculae and Martins (2019). The Jacobian, for any regularizer
    that is a sum over the classes: Blondel, Martins and Niculae (2020). For :math:`\alpha > 2` it
    has no bound: where a class enters, logits rounded by u move p by up to the order of
    :math:`u^{1/(\alpha - 1)}`.

    Examples
    --------
    >>> z = torch.tensor([1.0, 0.0, -1.0])
    >>> entmax(z)
    tensor([0.8307, 0.1693, 0.0000])
    >>> entmax(z, alpha=1), entmax(z, alpha=2)
    (tensor([0.6652, 0.2447, 0.0900]), tensor([1., 0., 0.]))
    """
    order = check_number(alpha, "alpha", 1.5)
    if not 1 <= order < math.inf:
        raise ValueError(
            f"alpha must be >= 1 and finite, got {shown(alpha)}; 1 is softmax, 2 is sparsemax"
        )
    if order == 1:
        check_logits(logits, dim)
        return softmax(logits, dim, temperature=temperature)
    return _solution(logits, temperature, dim, order, _by_bisection)


Solver = Callable[[Tensor, float], Tensor]
"""From (z - max z) / T, classes last, and alpha to probabilities."""


def _solution(
    logits: Tensor, temperature: float | Tensor, dim: int, alpha: float, solve: Solver
) -> Tensor:
    check_logits(logits, dim)
    divisor = check_temperature(temperature, logits, dim)
    z = at_least_float32(logits)
    alpha = min(alpha, torch.finfo(z.dtype).max)  # beyond it inf, and inf / inf
    largest = z.detach().amax(dim, keepdim=True)
    # The first class has 1 at most: what is 1 / (alpha - 1) below it has nothing. What is not
    # computed with has no slope, and no infinity that makes one nan.
    below = _scaled(z.detach(), largest, divisor.detach())
    outside = (alpha - 1) * below <= -1
    scaled = _scaled(torch.where(outside, largest, z), largest, divisor)
    x = torch.where(outside, -torch.inf, scaled)
    p: Tensor = _Implicit.apply(x.movedim(dim, -1), alpha, solve)  # type: ignore[no-untyped-call]
    return p.movedim(-1, dim).to(logits.dtype)


def _scaled(z: Tensor, largest: Tensor, temperature: Tensor) -> Tensor:
    # Halves: the difference of two finite numbers may overflow, that of their halves cannot.
    return (z / 2 - largest / 2) / temperature * 2


def _by_sorting(x: Tensor, alpha: float) -> Tensor:
    """Sparsemax of rows whose largest is 0; ``alpha`` is 2."""
    ranked = x.sort(-1, descending=True).values
    # By how much the k largest together exceed the k-th, for each k: a sum of gaps, none of which
    # is negative, so that no digits cancel.
    gaps = ranked[..., :-1] - ranked[..., 1:]
    count = torch.arange(1, x.shape[-1], dtype=x.dtype, device=x.device)
    excess = torch.nn.functional.pad((count * gaps).cumsum(-1), (1, 0))
    last = (excess < 1).sum(-1, keepdim=True) - 1
    least = ranked.gather(-1, last)
    share = (1 - excess.gather(-1, last)) / (last + 1)
    return torch.where(x < least, 0.0, x - least + share)


def _by_bisection(x: Tensor, alpha: float) -> Tensor:
    """Entmax of rows whose largest is 0.

    The unknown is the logarithm of the largest probability m, between -log K and 0: tau is
    -m^(alpha - 1), and m to a relative accuracy is worth more than tau to an absolute one.
    """
    low = torch.full_like(x[..., :1], -math.log(x.shape[-1]))
    high = torch.zeros_like(low)
    # More halvings than the dtype has digits: the last ones change nothing.
    for _ in range(torch.finfo(x.dtype).bits):
        middle = (low + high) / 2
        total = middle.exp() * _relative(x, alpha - 1, middle).sum(-1, keepdim=True)
        low, high = (
            torch.where(total < 1, middle, low),
            torch.where(total < 1, high, middle),
        )
    ratios = _relative(x, alpha - 1, high)
    return ratios / ratios.sum(-1, keepdim=True)


def _relative(x: Tensor, a: float, log_m: Tensor) -> Tensor:
    """p_i / m = max(1 + a x_i / m^a, 0)^(1/a), with a = alpha - 1; for a -> 0 it tends to e^x."""
    # Where m^a underflows, 0 / m^a is 0 all the same.
    base = torch.where(x < 0, a * x * (-a * log_m).exp(), x)
    return (base.clamp(min=-1).log1p() / a).exp()


class _Implicit(torch.autograd.Function):
    """The solution, with the derivative that the conditions for it imply.

    On the support p^(alpha - 1) = (alpha - 1) x - tau, where tau keeps the sum at 1.
    """

    @staticmethod
    def forward(x: Tensor, alpha: float, solve: Solver) -> Tensor:
        return solve(x, alpha)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, Solver], output: Tensor) -> None:
        ctx.alpha = inputs[1]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, None, None]:
        (p,) = ctx.saved_tensors
        inside = p > 0
        s = torch.where(inside, torch.where(inside, p, 1.0) ** (2 - ctx.alpha), 0.0)
        # Beyond alpha 2 it may overflow; what is added up may not.
        s = s.clamp(max=torch.finfo(p.dtype).max / (2 * p.shape[-1]))
        # Any number may be subtracted from v: with that of the largest s nothing cancels where it
        # is nearly all of their sum.
        v = v - v.gather(-1, s.argmax(-1, keepdim=True))
        share = s / s.sum(-1, keepdim=True)
        return s * (v - (share * v).sum(-1, keepdim=True)), None, None
