r"""Information measures of discrete distributions, in nats."""

from __future__ import annotations

import torch
from torch import Tensor

from omnivault._checks import check_dim, check_distribution, check_floating

__all__ = ["cross_entropy", "entropy", "kl_divergence", "perplexity"]


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
    Shannon (1948). The terms are :func:`torch.special.entr`, whose gradient at 0 is the one-sided
    derivative, +inf. The gradient of ``entropy(softmax(z))`` is therefore nan once a probability
    has underflowed to 0; ``-(softmax(z) * log_softmax(z)).sum(-1)`` is safe there.

    Examples
    --------
    >>> entropy(torch.tensor([0.5, 0.5, 0.0]))  # log 2: the impossible outcome adds nothing
    tensor(0.6931)
    """
    p32 = check_distribution(p, dim)
    terms: Tensor = torch.special.entr(p32)
    return terms.sum(dim).to(p.dtype)


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
    Where ``q`` comes from logits, ``-(p * log_softmax(z)).sum(-1)`` is more accurate: a ``q``
    that has underflowed to 0 has an infinite cost, and where ``p`` is 0 too the gradient for
    ``q`` is nan. The identity H(p, q) = H(p) + KL(p || q) is
    that of Cover and Thomas (2006), chapter 5.

    Examples
    --------
    >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.75, 0.25])
    >>> cross_entropy(p, q), entropy(p) + kl_divergence(p, q)
    (tensor(0.8370), tensor(0.8370))
    """
    p_wide, q_wide = _check_pair(p, q, dim)
    return -torch.xlogy(p_wide, q_wide).sum(dim).to(torch.result_type(p, q))


def kl_divergence(p: Tensor, q: Tensor, dim: int = -1) -> Tensor:
    r"""Kullback-Leibler divergence :math:`\mathrm{KL}(p \,\|\, q) = \sum_i p_i \log (p_i / q_i)`.

    What coding for ``q`` costs more than coding for ``p`` when the outcomes come from ``p``. It
    is zero only if the two are equal, and it is not symmetric. Parameters, errors and shapes are
    those of :func:`cross_entropy`.

    Returns
    -------
    Tensor
        In nats; ``inf`` where some :math:`q_i = 0 < p_i`. It is at least 0 up to rounding: of two
        nearly equal distributions it may come out as a tiny negative number.

    Notes
    -----
    Kullback and Leibler (1951). The first argument is the one the mean is taken under;
    :func:`torch.nn.functional.kl_div` has its arguments the other way around, and the first of
    them as a logarithm.

    Examples
    --------
    >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.75, 0.25])
    >>> kl_divergence(p, q), kl_divergence(q, p)
    (tensor(0.1438), tensor(0.1308))
    """
    p_wide, q_wide = _check_pair(p, q, dim)
    terms = torch.xlogy(p_wide, p_wide) - torch.xlogy(p_wide, q_wide)
    return terms.sum(dim).to(torch.result_type(p, q))


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
    if (log_probs > 0).any():
        wrong = log_probs[log_probs > 0]
        raise ValueError(
            f"log-probabilities must be <= 0, got {wrong[:6].tolist()}"
            f"{' ...' if len(wrong) > 6 else ''}; take the logarithm of probabilities first, or "
            "log_softmax(z) of logits"
        )
    precise = log_probs.float() if log_probs.dtype.itemsize < 4 else log_probs
    return (-precise.mean(dim)).exp().to(log_probs.dtype)


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
    wide = torch.promote_types(torch.result_type(p, q), torch.float32)
    return p.to(wide), q.to(wide)
