r"""The terms :math:`p \log (p/q) - p + q` of a divergence, none of which is negative.

Of two distributions they add up to :math:`\mathrm{KL}(p \,\|\, q)`, and as none is below 0,
nothing cancels in the sum. Each of them is of second order in the difference, as
:math:`(p - q)^2 / 2p`, where p and q are close; the three parts of it are not, so there it is
a series.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

# Up to where series are taken; beyond, what cancels costs a few units in the last place.
NEAR, NEAR_LOGS = 0.5, 1.5


def excess(p: Tensor, q: Tensor) -> Tensor:
    r"""Terms of probabilities of one shape, float32 or float64; q where p is 0.

    With :math:`v = (p - q)/(p + q)` it is :math:`\log(p/q) = 2 \operatorname{artanh} v`, so the
    term is :math:`(p - q) v + 2 p (\operatorname{artanh} v - v)`. The form is that of Loader (2000)
    for the deviance of a binomial distribution.

    Examples
    --------
    >>> p, q = torch.tensor([0.3, 0.7]), torch.tensor([0.3001, 0.6999])
    >>> excess(p, q).sum()  # rounded, the terms of the definition add up to 0
    tensor(2.3804e-08)
    """
    difference, total = p - q, p + q
    v = difference / torch.where(total > 0, total, 1.0)
    near = difference * v + 2 * p * v * _artanh_rest(v)
    ratio = p / torch.where(q > 0, q, 1.0)
    limits = torch.finfo(p.dtype)
    held = (ratio >= limits.tiny) & (ratio <= limits.max)
    # A quotient that overflows is far from 1, and the difference of logarithms has its digits.
    log_ratio = torch.where(held, ratio.log(), p.log() - q.log())
    far = torch.where(p > 0, p * log_ratio - difference, q)
    return torch.where(v.abs() < NEAR, near, far)


class Row(NamedTuple):
    """Logits, and what is known of them."""

    z: Tensor
    p: Tensor
    log_p: Tensor

    def detach(self) -> Row:
        """Return the same without its gradients."""
        return Row(self.z.detach(), self.p.detach(), self.log_p.detach())


def excess_of_logits(first: Row, second: Row, temperature: Tensor, dim: int) -> Tensor:
    r"""Terms of p and q, the softmax of two rows of logits.

    With :math:`d = \log p - \log q` they are :math:`p\,(e^{-d} - 1 + d)`. Where d is small it is
    taken from the difference of the logits, which has more digits than that of the logarithms:
    :math:`d = c - \log(1 + \sum_i q_i (e^{c_i} - 1))`, with c the difference of the logits less
    that at the most probable outcome.

    Examples
    --------
    >>> z = torch.tensor([1.0, 2.0])
    >>> w = z + torch.tensor([0.0, 2.0**-12])
    >>> first, second = (Row(x, x.softmax(-1), x.log_softmax(-1)) for x in (z, w))
    >>> excess_of_logits(first, second, torch.tensor(1.0), -1).sum()
    tensor(5.8593e-09)
    """
    (z, p, log_p), (w, q, log_q) = first, second
    far = torch.where(log_p == -torch.inf, 0.0, log_p - log_q)
    possible = (log_p > -torch.inf) & (log_q > -torch.inf)
    c = _less_at(log_p.argmax(dim, keepdim=True), z, w, possible, dim) / temperature
    change = torch.where(c <= 1, q * c.expm1(), (log_q + c).exp() - q)
    change = torch.where(possible, change, -q)
    normalizer = change.sum(dim, keepdim=True).log1p()
    close = (far.abs() < NEAR_LOGS) & (normalizer.abs() < NEAR) & possible
    d = torch.where(close, c - normalizer, far)
    near = (d.abs() < NEAR_LOGS) & possible
    return torch.where(near, p * _exp_rest(d), torch.where(p > 0, p * d - p + q, q))


def _less_at(place: Tensor, z: Tensor, w: Tensor, possible: Tensor, dim: int) -> Tensor:
    """Return z - w, less what it is at one place of each row; 0 where it is not asked for.

    Rows at different levels have differences that round off what tells them apart. What is lost is
    a number of the format (Knuth, 1998, section 4.2.2), and is subtracted too.
    """
    difference = z - w
    back = difference - z
    lost = (z - (difference - back)) - (w + back)
    parts = (torch.where(possible, part, 0.0) for part in (difference, lost))
    first, second = (part - part.gather(dim, place) for part in parts)
    return first + second


def _artanh_rest(v: Tensor) -> Tensor:
    r""":math:`\operatorname{artanh}(v)/v - 1 = \sum_{j \ge 1} v^{2j}/(2j + 1)` for |v| < 1/2."""
    square, terms = v * v, _bits(v) // 2
    rest = torch.full_like(v, 1 / (2 * terms + 1))
    for j in range(terms - 1, 0, -1):
        rest = rest * square + 1 / (2 * j + 1)
    return rest * square


def _exp_rest(d: Tensor) -> Tensor:
    r""":math:`e^{-d} - 1 + d = \sum_{j \ge 2} (-d)^j / j!` for |d| < 3/2."""
    terms = 6 + _bits(d) // 3
    rest = torch.full_like(d, 1 / math.factorial(terms))
    for j in range(terms - 1, 1, -1):
        rest = 1 / math.factorial(j) - rest * d
    return rest * d * d


def _bits(x: Tensor) -> int:
    return 2 - round(math.log2(torch.finfo(x.dtype).eps))
