r"""Information measures of discrete distributions, in nats."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["entropy"]


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
    if not isinstance(p, Tensor) or not p.is_floating_point():
        raise TypeError(
            f"probabilities must be a tensor of a floating dtype, got {p!r}; "
            "torch.tensor(...) or p.float() makes one"
        )
    if not -p.ndim <= dim < p.ndim:
        raise ValueError(
            f"dim {dim} does not exist in probabilities of shape {tuple(p.shape)}; "
            "the last dimension is -1, a scalar has none"
        )
    half = p.dtype.itemsize < 4
    p32 = p.float() if half else p
    total = p32.sum(dim)
    wrong = ((total - 1).abs() > (0.05 if half else 1e-3)) | (p32 < 0).any(dim)
    if wrong.any():
        row = p.movedim(dim, -1)[wrong][0]
        raise ValueError(
            "probabilities must be >= 0 and sum to 1, got a row "
            f"{row[:6].tolist()}{' ...' if len(row) > 6 else ''} with sum {row.sum().item():.6g}; "
            "turn logits into probabilities with softmax(z) first"
        )
    terms: Tensor = torch.special.entr(p32)
    return terms.sum(dim).to(p.dtype)
