"""Truncations that compare each probability with a cutoff, which the row itself may set."""

from __future__ import annotations

import torch
from torch import Tensor

from omnivault._checks import at_least_float32, check_rows
from omnivault.sampling.dials import BEST_ALONE, as_logits, reach, share
from omnivault.sampling.truncation import truncation


@truncation(
    label="epsilon",
    interval="[0, 1]",
    keeps="tokens of at least this probability",
    commutes=False,
    values=(0, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1),
    off=0,
)
def epsilon_cutoff(logits: Tensor, epsilon: float | Tensor) -> Tensor:
    r"""Keep tokens of at least a given probability (Hewitt, Manning and Liang, 2022).

    The most probable tokens are kept even if they are below it.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    epsilon
        The probability to reach, in [0, 1]: a number, or a tensor of shape ``(...)`` with one for
        each row. 0 keeps every token.

    Returns
    -------
    Tensor
        ``logits`` with ``-inf`` at every token below it.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``epsilon`` holds no numbers.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, or ``epsilon`` is not in
        [0, 1] or has another shape.

    Examples
    --------
    >>> probs = torch.tensor([0.5, 0.25, 0.125, 0.125])
    >>> epsilon_cutoff(probs.log(), 0.2).exp()
    tensor([0.5000, 0.2500, 0.0000, 0.0000])
    >>> epsilon_cutoff(probs.log(), 0.6).exp()
    tensor([0.5000, 0.0000, 0.0000, 0.0000])
    """
    largest = check_rows(logits)
    epsilon = share(epsilon, logits, "epsilon_cutoff", zero=True)
    probs = at_least_float32(logits).softmax(-1)
    return _keep(logits, largest, probs >= as_logits(epsilon, probs))


@truncation(
    label="eta",
    interval="[0, 1]",
    keeps="tokens of at least this probability, or of at least its root over the effective number",
    commutes=False,
    values=(0, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1),
    off=0,
)
def eta_cutoff(logits: Tensor, epsilon: float | Tensor) -> Tensor:
    r"""Keep tokens of probability at least epsilon, or fewer where the row is flat.

    The cutoff is :math:`\min(\varepsilon, \sqrt{\varepsilon}\, e^{-H})` with the entropy H of the
    row in nats (Hewitt, Manning and Liang, 2022, who let the factor of the second be a dial of its
    own and set it to the root). It is never above the largest probability.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    epsilon
        In [0, 1]: a number, or a tensor of shape ``(...)`` with one for each row. 0 keeps every
        token.

    Returns
    -------
    Tensor
        ``logits`` with ``-inf`` at every token below the cutoff.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``epsilon`` holds no numbers.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, or ``epsilon`` is not in
        [0, 1] or has another shape.

    Examples
    --------
    >>> probs = torch.tensor([0.5, 0.25, 0.125, 0.125])  # entropy 1.21, e^-1.21 = 0.297
    >>> eta_cutoff(probs.log(), 0.2).exp()  # 0.133 = sqrt(0.2) * 0.297
    tensor([0.5000, 0.2500, 0.0000, 0.0000])
    >>> eta_cutoff(probs.log(), 0.1).exp()  # 0.094
    tensor([0.5000, 0.2500, 0.1250, 0.1250])
    """
    largest = check_rows(logits)
    epsilon = share(epsilon, logits, "eta_cutoff", zero=True)
    log_probs = at_least_float32(logits).log_softmax(-1)
    probs = log_probs.exp()
    minus_entropy = (probs * log_probs).nansum(-1, keepdim=True)
    fixed = as_logits(epsilon, probs)
    flat = as_logits(epsilon**0.5, probs) * minus_entropy.exp()
    return _keep(logits, largest, (probs >= fixed) | (probs >= flat))


@truncation(
    label="top-a",
    interval="[0, 1]",
    keeps="tokens with at least a times the square of the largest probability",
    commutes=False,
    values=(0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1),
    off=0,
)
def top_a(logits: Tensor, a: float | Tensor) -> Tensor:
    r"""Keep tokens with at least a times the square of the largest probability.

    Where the best token is sure this is min-p with the share a, where it is not the share falls
    with its probability (BlinkDL, 2022).

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    a
        In [0, 1]: a number, or a tensor of shape ``(...)`` with one for each row. 0 keeps every
        token.

    Returns
    -------
    Tensor
        ``logits`` with ``-inf`` at every token below.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``a`` holds no numbers.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, or ``a`` is not in [0, 1] or
        has another shape.

    Examples
    --------
    >>> probs = torch.tensor([0.5, 0.25, 0.125, 0.125])
    >>> top_a(probs.log(), 0.6).exp()  # 0.15
    tensor([0.5000, 0.2500, 0.0000, 0.0000])
    """
    largest = check_rows(logits)
    a = share(a, logits, "top_a", zero=True)
    probs = at_least_float32(logits).softmax(-1)
    cutoff = as_logits(a, probs) * probs.amax(-1, keepdim=True).square()
    return _keep(logits, largest, probs >= cutoff)


@truncation(
    label="p-less",
    interval="(0, inf]",
    keeps="tokens at least as probable as two draws are to agree (order 2)",
    commutes=False,
    values=(0, 0.25, 0.5, 1, 2, 4, 8),
    off=0,
)
def p_less(logits: Tensor, order: float | Tensor = 2) -> Tensor:
    r"""Keep tokens at least as probable as two draws of the row are to agree.

    That is :math:`\sum_j p_j^2` (Tan, Wu and Howard, 2025), the mean of p under p, so it is never
    above the largest probability, and there is nothing to set. It is :math:`e^{-H_2}`, with the
    Rényi entropy of order 2. Another order puts its entropy there, which for order 1 is the mean
    of log p in place of the logarithm of the mean; the larger the order, the fewer are kept.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    order
        Of the Rényi entropy, positive: a number, or a tensor of shape ``(...)`` with one for each
        row. 2 is p-less as published; infinity keeps the most probable tokens alone.

    Returns
    -------
    Tensor
        ``logits`` with ``-inf`` at every token below the cutoff.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``order`` holds no numbers.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, or ``order`` is not positive
        or has another shape.

    Examples
    --------
    >>> probs = torch.tensor([0.5, 0.25, 0.125, 0.125])
    >>> p_less(probs.log()).exp()  # 0.344
    tensor([0.5000, 0.0000, 0.0000, 0.0000])
    >>> p_less(torch.tensor([0.3, 0.3, 0.3, 0.1]).log()).exp()  # 0.28
    tensor([0.3000, 0.3000, 0.3000, 0.0000])
    """
    largest = check_rows(logits)
    order = reach(order, logits, "p_less", keeps=BEST_ALONE)
    log_probs = at_least_float32(logits).log_softmax(-1)
    numbers = torch.as_tensor(as_logits(order, log_probs)).to(log_probs)
    return _keep(logits, largest, log_probs >= _minus_renyi(log_probs, numbers))


def _minus_renyi(log_probs: Tensor, order: Tensor) -> Tensor:
    """Return -H of an order, which broadcasts to ``(..., 1)``, of each row, ``(..., 1)``."""
    beyond = order - 1
    probs = log_probs.exp()
    # Near 1 a sum of p^order is 1 and a little, of which the logarithm is wanted.
    near = beyond.abs() <= 0.5
    small = torch.where(near & (beyond != 0), beyond, 1.0)
    gain = (probs * torch.expm1(small * log_probs)).nansum(-1, keepdim=True)
    large = torch.where(near | (beyond == torch.inf), 1.0, beyond)
    # The largest is taken out of the sum, in which an order may overflow, and what is ruled out
    # stays so with an order that rounds to 0.
    largest = log_probs.amax(-1, keepdim=True)
    gap = log_probs - largest
    power = (order * gap).masked_fill(gap == -torch.inf, -torch.inf)
    far = torch.logsumexp(power, -1, keepdim=True) / large + order / large * largest
    mean = (probs * log_probs).nansum(-1, keepdim=True)
    result = torch.where(near, torch.log1p(gain) / small, far)
    result = torch.where(beyond == 0, mean, result)
    return torch.where(beyond == torch.inf, largest, result)


def _keep(logits: Tensor, largest: Tensor, kept: Tensor) -> Tensor:
    """Rule out what is not kept, but never the most probable, whatever rounding says."""
    return logits.masked_fill(~kept & (logits < largest.unsqueeze(-1)), -torch.inf)
