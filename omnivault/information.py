r"""Information measures of discrete distributions, in nats.

Each is a sum of terms such as :math:`-p \log p`, where :math:`0 \log 0 = 0`. A probability that is
0 in floating point may be any number too small for it, and the slope of a term is taken there as at
the smallest normal number: it is large, and finite, so a gradient that reaches logits through
:func:`omnivault.softmax.softmax` is 0 at the tokens that are ruled out, and nowhere nan.

Where logits are at hand, :func:`entropy_from_logits` and :func:`kl_divergence_from_logits` know
more: a probability that has been rounded to 0 or 1 still has its logarithm there.

Those two may be vectorized by ``torch.vmap`` and compiled with ``fullgraph=True``, at a temperature
that is a number. The others look whether their rows are probabilities: for them leading dimensions
do what ``vmap`` would, and a compiled function is one of several graphs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from omnivault._checks import (
    anywhere,
    at_least_float32,
    check_dim,
    check_distribution,
    check_floating,
    check_logits,
    check_temperature,
    promoted,
    some_values,
)
from omnivault._excess import Row, excess, excess_of_logits
from omnivault.softmax import log_softmax, softmax

__all__ = [
    "cross_entropy",
    "entropy",
    "entropy_from_logits",
    "kl_divergence",
    "kl_divergence_from_logits",
    "perplexity",
]


def entropy(p: Tensor, dim: int = -1) -> Tensor:
    r"""Shannon entropy :math:`H(p) = -\sum_i p_i \log p_i`, with :math:`0 \log 0 = 0`.

    Parameters
    ----------
    p
        Probabilities of any shape and any floating dtype, summing to one along ``dim``.
    dim
        The dimension that holds the K outcomes.

    Returns
    -------
    Tensor
        Entropy in nats, between 0 and :math:`\log K`; shape of ``p`` without ``dim``, dtype of
        ``p``. A row that holds nan gives nan.

    Raises
    ------
    TypeError
        ``p`` is not a tensor of a floating dtype.
    ValueError
        ``dim`` does not exist, a probability is negative, or a row does not sum to one (to 0.001;
        to 0.05 in half precision). Logits passed by mistake end here.

    Notes
    -----
    Shannon (1948). Of logits, :func:`entropy_from_logits` is more accurate.

    Examples
    --------
    >>> entropy(torch.tensor([0.5, 0.5, 0.0]))  # log 2: the impossible outcome adds nothing
    tensor(0.6931)
    """
    p32 = check_distribution(p, dim)
    return (-(p32 * _log(p32)).sum(dim)).to(p.dtype)


def entropy_from_logits(z: Tensor, dim: int = -1, *, temperature: float | Tensor = 1.0) -> Tensor:
    r"""Entropy of the softmax of logits, which never sees a rounded probability.

    Parameters
    ----------
    z
        Logits, any floating dtype; ``-inf`` rules an outcome out.
    dim, temperature
        The dimension that holds the outcomes, one alone, and T as in
        :func:`omnivault.softmax.softmax`.

    Returns
    -------
    Tensor
        Entropy in nats; shape of ``z`` without ``dim``, dtype of ``z``. Its first and second
        derivatives are finite wherever the logits are, or are ``-inf``.

    Raises
    ------
    TypeError, ValueError
        As :func:`omnivault.softmax.softmax`.

    Examples
    --------
    >>> z = torch.tensor([0.0, -20.0])  # the larger probability is 1 in float32
    >>> entropy_from_logits(z), entropy(softmax(z))
    (tensor(4.3284e-08), tensor(4.1223e-08))
    """
    check_logits(z, dim)
    p, log_p = _both(at_least_float32(z), dim, temperature)
    return (-(p * _finite(log_p)).sum(dim)).to(z.dtype)


def cross_entropy(p: Tensor, q: Tensor, dim: int = -1) -> Tensor:
    r"""Cross-entropy :math:`H(p, q) = -\sum_i p_i \log q_i` of two distributions.

    The mean cost, in nats, of outcomes drawn from ``p`` under the code that is best for ``q``.
    :func:`torch.nn.functional.cross_entropy` is something else: it takes logits and a label, and
    is :func:`cross_entropy` of the one-hot distribution and their softmax.

    Parameters
    ----------
    p, q
        Probabilities of shapes that broadcast and any floating dtype, summing to one along
        ``dim``.
    dim
        The dimension that holds the K outcomes.

    Returns
    -------
    Tensor
        In nats, at least the entropy of ``p``; ``inf`` where some :math:`q_i = 0 < p_i`. A term
        with :math:`p_i = 0` is 0. Shape of the broadcast ``p`` and ``q`` without ``dim``, and the
        dtype that the two promote to.

    Raises
    ------
    TypeError, ValueError
        As :func:`entropy`, or the shapes do not broadcast.

    Notes
    -----
    Where ``q`` comes from logits, :func:`torch.nn.functional.cross_entropy` of the logits and p is
    more accurate: a ``q`` that has underflowed to 0 has an infinite cost. The identity
    H(p, q) = H(p) + KL(p || q) is that of Cover and Thomas (2006), chapter 5.

    Examples
    --------
    >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.75, 0.25])
    >>> cross_entropy(p, q), entropy(p) + kl_divergence(p, q)
    (tensor(0.8370), tensor(0.8370))
    """
    p_wide, q_wide = _check_pair(p, q, dim)
    terms = _impossible(-p_wide * _log(q_wide), p_wide, q_wide)
    return terms.sum(dim).to(promoted(p, q))


def kl_divergence(p: Tensor, q: Tensor, dim: int = -1) -> Tensor:
    r"""Kullback-Leibler divergence :math:`\mathrm{KL}(p \,\|\, q) = \sum_i p_i \log (p_i / q_i)`.

    What coding for ``q`` costs more than coding for ``p`` when the outcomes come from ``p``. It
    is zero only if the two are equal, and it is not symmetric. Parameters, errors and shapes are
    those of :func:`cross_entropy`.

    Returns
    -------
    Tensor
        In nats, at least 0, and 0 for equal arguments; ``inf`` where some :math:`q_i = 0 < p_i`.

    Notes
    -----
    Kullback and Leibler (1951). Of nearly equal distributions the terms of the definition cancel,
    and what is left is rounding. Computed is :math:`\sum_i (p_i \log (p_i / q_i) - p_i + q_i)`,
    which is the same if both sum to one, and has no term below 0. The first argument is the one
    the mean is taken under; :func:`torch.nn.functional.kl_div` has its arguments the other way
    around, and the first of them as a logarithm.

    Examples
    --------
    >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.75, 0.25])
    >>> kl_divergence(p, q), kl_divergence(q, p)
    (tensor(0.1438), tensor(0.1308))
    """
    p_wide, q_wide = torch.broadcast_tensors(*_check_pair(p, q, dim))
    terms = _with_gradient_of(
        excess(p_wide.detach(), q_wide.detach()),
        p_wide * (_log(p_wide) - _log(q_wide)) - p_wide + q_wide,
    )
    return _impossible(terms, p_wide, q_wide).sum(dim).to(promoted(p, q))


def kl_divergence_from_logits(
    z: Tensor, w: Tensor, dim: int = -1, *, temperature: float | Tensor = 1.0
) -> Tensor:
    r"""Kullback-Leibler divergence of the softmax of z from that of w.

    Parameters
    ----------
    z, w
        Logits of one shape, any floating dtypes; ``-inf`` rules an outcome out.
    dim, temperature
        As in :func:`entropy_from_logits`, for both.

    Returns
    -------
    Tensor
        In nats, at least 0; ``inf`` where w rules out what z does not. Shape of ``z`` without
        ``dim``, and the dtype that the two promote to. Its first and second derivatives are finite
        wherever it is.

    Raises
    ------
    TypeError, ValueError
        As :func:`omnivault.softmax.softmax`, or the shapes differ.

    Examples
    --------
    >>> z, w = torch.tensor([0.0, 0.0]), torch.tensor([0.0, -200.0])
    >>> kl_divergence_from_logits(z, w), kl_divergence(softmax(z), softmax(w))
    (tensor(99.3069), tensor(inf))
    """
    for logits in (z, w):
        check_logits(logits, dim)
    if z.shape != w.shape:
        raise ValueError(
            f"z and w must have one shape, got {tuple(z.shape)} and {tuple(w.shape)}; "
            "expand the smaller one"
        )
    dtype = promoted(z, w)
    z, w = (at_least_float32(x.to(dtype)) for x in (z, w))
    (p, log_p), (q, log_q) = (_both(x, dim, temperature) for x in (z, w))
    first, second = Row(z, p, log_p).detach(), Row(w, q, log_q).detach()
    divisor = check_temperature(temperature, z, dim)
    plain = p * (_finite(log_p) - _finite(log_q))
    terms = _with_gradient_of(excess_of_logits(first, second, divisor.detach(), dim), plain)
    ruled_out = (log_q == -torch.inf) & (log_p > -torch.inf)
    return terms.masked_fill(ruled_out, torch.inf).sum(dim).to(dtype)


def perplexity(log_probs: Tensor, dim: int = -1) -> Tensor:
    r"""Perplexity :math:`\exp\bigl(-\frac{1}{N} \sum_n \log p(y_n)\bigr)` of what occurred.

    The number of equally likely outcomes that would have been as hard to predict.

    Parameters
    ----------
    log_probs
        Log-probability, in nats, that the model gave to each of the N outcomes that occurred; for
        a text, those of its tokens. Any shape and floating dtype.
    dim
        The dimension that holds the N outcomes.

    Returns
    -------
    Tensor
        At least 1, ``inf`` where an outcome had been ruled out; shape of ``log_probs`` without
        ``dim``. Perplexities beyond the range of the dtype are ``inf`` too.

    Raises
    ------
    TypeError
        ``log_probs`` is not a tensor of a floating dtype.
    ValueError
        ``dim`` does not exist or is empty, or a log-probability is above 0. Probabilities passed
        by mistake end here.

    Notes
    -----
    Jelinek, Mercer, Bahl and Baker (1977). It is the exponential of the mean negative
    log-likelihood; for a distribution ``p``, ``entropy(p).exp()`` plays the same role.

    Examples
    --------
    >>> round(perplexity(torch.tensor([0.5, 0.125]).log()).item(), 4)
    4.0
    """
    check_floating(log_probs, "log-probabilities")
    check_dim(log_probs, dim, "log-probabilities")
    if log_probs.shape[dim] == 0:
        raise ValueError(
            f"dimension {dim} of the log-probabilities is empty (shape {tuple(log_probs.shape)}); "
            "a perplexity needs at least one outcome"
        )
    wide = at_least_float32(log_probs)
    if anywhere(wide > 0):
        raise ValueError(
            f"log-probabilities must be <= 0, got {some_values(wide[wide > 0])}; "
            "take the logarithm of probabilities first, or "
            "log_softmax(z) of logits"
        )
    return (-wide.mean(dim)).exp().to(log_probs.dtype)


def _log(p: Tensor) -> Tensor:
    """Logarithm; of 0 that of the smallest normal number, and no slope."""
    return torch.where(p == 0, torch.finfo(p.dtype).tiny, p).log()


def _both(z: Tensor, dim: int, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """Softmax and its logarithm: the exponential of the latter has lost digits."""
    return (
        softmax(z, dim, temperature=temperature),
        log_softmax(z, dim, temperature=temperature),
    )


def _finite(log_p: Tensor) -> Tensor:
    """Replace the logarithm of 0, of which no multiple by 0 is a number."""
    return torch.where(log_p == -torch.inf, 0.0, log_p)


def _impossible(terms: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """Infinity where q rules out what p does not."""
    return terms.masked_fill((q == 0) & (p > 0), torch.inf)


def _with_gradient_of(value: Tensor, plain: Tensor) -> Tensor:
    """Give the value of one form the derivatives, of any order, of another."""
    return value + (plain - plain.detach())


def _check_pair(p: Tensor, q: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Raise unless p and q are distributions over the same outcomes."""
    for distribution in (p, q):
        check_distribution(distribution, dim)
    if dim >= 0 and p.ndim != q.ndim:
        raise ValueError(
            f"dim {dim} is counted from the front, and p of shape {tuple(p.shape)} and q of shape "
            f"{tuple(q.shape)} have not as many dimensions; count it from the back, as in dim=-1"
        )
    try:
        torch.broadcast_shapes(p.shape, q.shape)
        fit = p.shape[dim] == q.shape[dim]
    except RuntimeError:
        fit = False
    if not fit:
        raise ValueError(
            f"p of shape {tuple(p.shape)} and q of shape {tuple(q.shape)} must have as many "
            f"outcomes along dim {dim} and broadcast otherwise; add dimensions with unsqueeze"
        )
    dtype = promoted(p, q)
    wide = torch.float32 if dtype.itemsize < 4 else dtype
    return p.to(wide), q.to(wide)
