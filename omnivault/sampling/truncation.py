"""Truncations: rules that keep some tokens, each set by one number, its dial.

A truncation is a function of logits and of its dial that puts ``-inf`` where a token is ruled out.
``@truncation`` registers it, and whatever offers dials takes them from the registry:
:func:`omnivault.sampling.sample` under the function's name, the live figure, the decoding
experiment, the reference.

Here are the registry and its first five. Those that compare probabilities with a cutoff are in
``cutoffs.py``, those that look along the ranking in ``tails.py``, and XTC, which takes from the
top, in ``xtc.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from omnivault._checks import (
    at_least_float32,
    check_rows,
    shown,
)
from omnivault.sampling.dials import as_logits, cuts, number_of_tokens, reach, share
from omnivault.sampling.distances import below_largest

Function = TypeVar("Function", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class Truncation:
    """What is known of a truncation besides its name, which is that of its dial."""

    function: Callable[..., Tensor]
    """From logits ``(..., V)`` and a value of the dial to logits."""
    label: str
    """The name as it is written in words."""
    interval: str
    """The values that the dial takes; V is the size of the vocabulary."""
    keeps: str
    """Which tokens are kept."""
    commutes: bool
    """Whether it keeps the same tokens before the division by a temperature as after it."""
    values: tuple[float, ...]
    """Values for a slider, in falling order of what they keep or in rising; one is ``off``."""
    off: float
    """The value of a slider that stands for no truncation."""


TRUNCATIONS: dict[str, Truncation] = {}
"""By name, in the order in which ``sample`` applies them: first those that commute with T."""


def truncation(**known: Any) -> Callable[[Function], Function]:
    """Register a function under its name, with the other fields of :class:`Truncation`."""

    def register(function: Function) -> Function:
        TRUNCATIONS[function.__name__] = Truncation(function, **known)
        return function

    return register


def in_order(dials: Mapping[str, Any]) -> dict[str, Any]:
    """Return those dials that are set, in the order of the registry."""
    unknown = [name for name in dials if name not in TRUNCATIONS]
    if unknown:
        raise TypeError(
            f"there is no truncation {shown(unknown[0])}; there are {', '.join(TRUNCATIONS)}"
        )
    return {name: dials[name] for name in TRUNCATIONS if dials.get(name) is not None}


def truncate(logits: Tensor, dials: Mapping[str, Any]) -> Tensor:
    """Apply truncations one after the other."""
    for name, value in dials.items():
        logits = TRUNCATIONS[name].function(logits, value)
    return logits


@truncation(
    label="top-k",
    interval="[1, V]",
    keeps="the k largest logits",
    commutes=True,
    values=(1, 2, 3, 5, 10, 20, 40, 100, 1000, 0),
    off=0,
)
def top_k(logits: Tensor, k: int | Tensor) -> Tensor:
    """Keep the k largest logits (Fan, Lewis and Dauphin, 2018).

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    k
        How many to keep, from 1 to V: an int, or an integer tensor of shape ``(...)`` with one for
        each row. V keeps every token.

    Returns
    -------
    Tensor
        ``logits`` with ``-inf`` at every token whose logit is below the k-th largest.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``k`` holds no integers.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, or ``k`` is not in [1, V] or
        has another shape.

    Examples
    --------
    >>> top_k(torch.tensor([3.0, 1.0, 2.0, 2.0]), 2)  # the tie at the second place is kept whole
    tensor([3., -inf, 2., 2.])
    """
    check_rows(logits)
    k = number_of_tokens(k, logits, "top_k")
    smallest_kept = _kth_largest(logits, k)
    return logits.masked_fill(logits < smallest_kept, -torch.inf)


def _kth_largest(logits: Tensor, k: int | Tensor) -> Tensor:
    if not isinstance(k, Tensor):
        return logits.topk(k).values[..., -1:]
    largest_k = logits.shape[-1] if k.is_meta or k.numel() == 0 else int(k.max())
    return logits.topk(largest_k).values.gather(-1, k - 1)


@truncation(
    label="top-n-sigma",
    interval="(0, inf]",
    keeps="logits at most n standard deviations below the largest",
    commutes=True,
    values=(0, 0.25, 0.5, 1, 1.5, 2, 3, 4),
    off=0,
)
def top_n_sigma(logits: Tensor, n: float | Tensor) -> Tensor:
    r"""Keep logits at most n standard deviations below the largest (Tang et al., 2024).

    The standard deviation is that of the logits of the row that are not ``-inf``, around their
    mean, divided by their number. Scaled logits have a scaled one, so no temperature changes which
    tokens are kept.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    n
        How many standard deviations, positive: a number, or a tensor of shape ``(...)`` with one
        for each row. Infinity keeps every token.

    Returns
    -------
    Tensor
        ``logits`` with ``-inf`` at every token further below.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``n`` holds no numbers.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, or ``n`` is not positive or
        has another shape.

    Examples
    --------
    >>> top_n_sigma(torch.tensor([4.0, 3.0, 0.0, 1.0]), 1.0)  # mean 2, standard deviation 1.58
    tensor([4., 3., -inf, -inf])
    """
    largest = check_rows(logits)
    n = reach(n, logits, "top_n_sigma")
    # Shifted, so that the squares are of distances and not of levels; scaled, so that no square
    # overflows or vanishes.
    # Halved, if they might overflow.
    kept = logits.isfinite()
    unit = torch.where(largest.abs() > 1, 2.0, 1.0).unsqueeze(-1)
    below = torch.where(kept, below_largest(logits, largest, unit), 0.0)
    farthest = below.amin(-1, keepdim=True).neg().clamp(min=torch.finfo(below.dtype).tiny)
    distance = below / farthest
    count = kept.sum(-1, keepdim=True)
    mean = distance.sum(-1, keepdim=True) / count
    square = torch.where(kept, distance - mean, 0.0).square().sum(-1, keepdim=True) / count
    # An infinity of no deviations is nan, which nothing is below.
    removed = distance < -as_logits(n, distance) * square.sqrt()
    return logits.masked_fill(~kept | removed, -torch.inf)


@truncation(
    label="top-p",
    interval="(0, 1]",
    keeps="the most probable tokens, until their mass reaches p",
    commutes=False,
    values=(0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1),
    off=1,
)
def top_p(logits: Tensor, p: float | Tensor) -> Tensor:
    r"""Keep the nucleus: the most probable tokens, down to the one that brings the mass to p.

    Tokens are taken in falling order of probability while the mass before them is below p, so the
    one that crosses p is kept (Holtzman, Buys, Du, Forbes and Choi, 2020). Of equal tokens at the
    border those with the highest indices are kept.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    p
        The mass to reach, in (0, 1]: a number, or a tensor of shape ``(...)`` with one for each
        row. 1 keeps every token.

    Returns
    -------
    Tensor
        ``logits`` with ``-inf`` outside the nucleus.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``p`` holds no numbers.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, or ``p`` is not in (0, 1] or
        has another shape.

    Notes
    -----
    Decided, as in Transformers, by the mass of a token and all those less probable than it, which
    must exceed 1 - p: the small numbers are added first. With p = 1 every token stays, as where
    Transformers generates, also one whose probability rounds to zero.

    Examples
    --------
    >>> probs = torch.tensor([0.5, 0.25, 0.125, 0.125])
    >>> top_p(probs.log(), 0.7).exp()  # reached by the second
    tensor([0.5000, 0.2500, 0.0000, 0.0000])
    >>> top_p(probs.log(), 0.76).exp()  # crossed by one of two equals
    tensor([0.5000, 0.2500, 0.0000, 0.1250])
    """
    check_rows(logits)
    p = share(p, logits, "top_p")
    ascending, order = at_least_float32(logits).sort(dim=-1, stable=True)
    removed = ascending.softmax(-1).cumsum(-1) <= as_logits(1 - p, ascending)
    removed[..., -1] = False
    removed &= cuts(p, removed)
    return logits.masked_fill(removed.scatter(-1, order, removed), -torch.inf)


@truncation(
    label="min-p",
    interval="[0, 1]",
    keeps="tokens at least p times as probable as the best",
    commutes=False,
    values=(0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5),
    off=0,
)
def min_p(logits: Tensor, p: float | Tensor) -> Tensor:
    r"""Keep tokens at least p times as probable as the most probable one.

    In logits: those at most log(1/p) below the largest (Nguyen et al., 2025).

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    p
        The share of the largest probability that a token must reach, in [0, 1]: a number, or a
        tensor of shape ``(...)`` with one for each row. 0 keeps every token.

    Returns
    -------
    Tensor
        ``logits`` with ``-inf`` at every token below the share.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``p`` holds no numbers.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, or ``p`` is not in [0, 1] or
        has another shape.

    Notes
    -----
    Decided in probabilities, as in Transformers: where p is the very ratio of two of them, the
    logarithms are rounded too, and more tokens that reach it would be lost. Below the root of the
    smallest normal number, 1e-19 in float32, it is decided in logits, which do not underflow.

    Examples
    --------
    >>> min_p(torch.tensor([0.5, 0.25, 0.125, 0.125]).log(), 0.4).exp()
    tensor([0.5000, 0.2500, 0.0000, 0.0000])
    """
    largest = check_rows(logits)
    exact = share(p, logits, "min_p", zero=True)
    probs = at_least_float32(logits).softmax(-1)
    p = as_logits(exact, probs)
    removed = probs < p * probs.amax(-1, keepdim=True)
    # A share so small may underflow, or a token that reaches it; a logarithm does not.
    small = torch.finfo(probs.dtype).tiny ** 0.5
    if isinstance(exact, Tensor):
        far = below_largest(logits, largest) < as_logits(exact.log(), probs)
        removed = torch.where((exact < small).to(far.device), far, removed)
    elif exact < small:
        removed = below_largest(logits, largest) < (math.log(exact) if exact else -torch.inf)
    return logits.masked_fill(removed, -torch.inf)


@truncation(
    label="typical-p",
    interval="(0, 1]",
    keeps="the tokens of most typical surprise, until their mass reaches p",
    commutes=False,
    values=(0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1),
    off=1,
)
def typical_p(logits: Tensor, p: float | Tensor) -> Tensor:
    r"""Keep the locally typical tokens: those whose surprise is nearest to the entropy.

    Ordered by :math:`|-\log p_i - H|`, tokens are kept until their mass reaches p, together with
    any as near as the last of them (Meister, Pimentel, Wiher and Cotterell, 2023). The most
    probable token may be ruled out.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    p
        The mass to reach, in (0, 1]: a number, or a tensor of shape ``(...)`` with one for each
        row. 1 keeps every token.

    Returns
    -------
    Tensor
        ``logits`` with ``-inf`` outside the typical set.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``p`` holds no numbers.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, or ``p`` is not in (0, 1] or
        has another shape.

    Notes
    -----
    Decided, as :func:`top_p`, by the mass that is left: a token stays if it and those farther from
    the entropy have more than 1 - p. The sum from the other side, as in Transformers, rounds near
    1 and is far from exact for what is left: of a large vocabulary it loses tokens in float32.

    Examples
    --------
    >>> probs = torch.tensor([0.4, 0.3, 0.1, 0.1, 0.1])  # entropy 1.42, surprises .92, 1.20, 2.30
    >>> typical_p(probs.log(), 0.2).exp()  # the most probable token is not the most typical
    tensor([0.0000, 0.3000, 0.0000, 0.0000, 0.0000])
    """
    check_rows(logits)
    p = share(p, logits, "typical_p")
    z = at_least_float32(logits)
    log_probs = z.log_softmax(-1)
    entropy = -(log_probs.exp() * log_probs).nansum(-1, keepdim=True)
    distance, order = (-log_probs - entropy).abs().sort(dim=-1, stable=True)
    left = z.gather(-1, order).softmax(-1).flip(-1).cumsum(-1).flip(-1)
    last = (left > as_logits(1 - p, z)).sum(-1, keepdim=True).sub(1).clamp(min=0)
    removed = distance > distance.gather(-1, last)
    removed &= cuts(p, removed)
    return logits.masked_fill(removed.scatter(-1, order, removed), -torch.inf)
