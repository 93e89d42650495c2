"""How far rounding may move the cross-entropy of a last layer, and its gradients."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.support.strategies import smallest, unit


def bounds(
    x: Tensor, w: Tensor, y: Tensor, *, blocks: int, arithmetic: torch.dtype, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Largest errors of the loss, and of its gradients for x and W, which are float64 and exact.

    With the unit roundoff u of the arithmetic, and sums in any order (``sums-in-any-order``), which
    the signs of their terms do not help:

    - a logit is off by gamma_D <|x|, |w|>, A at most in its row, so a gap by 2 A, and the odds by
      the factor exp(2 A);
    - an exponential is off by 8 u, and by u for each unit of its gap; the sum of those of a block
      by gamma of its length; each combination is an exponential, a product and a sum: 10 u;
    - the quotient, the factor 1 / N and the difference from the one-hot are a rounding each;
    - so are those of the products with W and x, of V and N terms.

    A hundredth is for what the errors add to one another; they are below it. A result is rounded to
    ``dtype`` at last.
    """
    u = unit(arithmetic)
    (n, d), v = x.shape, len(w)

    def gamma(terms: int) -> float:
        return terms * u / (1 - terms * u)

    z = x @ w.T
    shift = 2 * gamma(d) * (x.abs() @ w.abs().T).amax(1, keepdim=True)
    gap = z.amax(1, keepdim=True) - z
    p = z.softmax(1)
    total = shift + gamma(v) + u * ((p * gap).sum(1, keepdim=True) + 8 + 10 * blocks)
    relative = 1.01 * (shift + total + u * (gap + 8 + 4))
    assert relative[p > smallest(arithmetic)].max() < 0.01

    label = torch.nn.functional.one_hot(y, v).double()
    losses = -(p.log() * label).sum(1)
    gap_of_label = (gap * label).sum(1)
    log_total = (z.logsumexp(1) - z.amax(1)).abs()
    each = shift.squeeze(1) + total.squeeze(1) + u * (gap_of_label + 8 * log_total + losses)
    loss = 1.01 * (each.mean() + gamma(n + 1) * losses.mean())

    g = (p - label) / n
    off = (relative * p + 3 * u * label) / n + u * g.abs()
    for_x = off @ w.abs() + gamma(v + 1) * (g.abs() @ w.abs())
    for_w = off.T @ x.abs() + gamma(n + 1) * (g.abs().T @ x.abs())
    if dtype is not arithmetic:
        last = unit(dtype) * (1 + math.sqrt(u))
        loss = loss + last * losses.mean()
        for_x = for_x + last * (g @ w).abs() + smallest(dtype)
        for_w = for_w + last * (g.T @ x).abs() + smallest(dtype)
    return loss, for_x, for_w
