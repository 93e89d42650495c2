"""Truncations that look along the ranking for the place where the tail begins."""

from __future__ import annotations

import torch
from torch import Tensor

from omnivault._checks import at_least_float32, check_rows
from omnivault.sampling.dials import as_logits, cuts, share
from omnivault.sampling.truncation import truncation


@truncation(
    label="top-h",
    interval="(0, 1]",
    keeps="the most probable tokens, while their entropy is at most h times that of all",
    commutes=False,
    values=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1),
    off=1,
)
def top_h(logits: Tensor, h: float | Tensor) -> Tensor:
    r"""Keep the most probable tokens while the entropy of their distribution is at most h times H.

    The entropy of the first tokens of the ranking, renormalized, increases with their number. The
    largest number is taken for which it is at most h times the entropy of the row (Potraghloo,
    Azizi, Kundu and Pedram, 2025). Of equal tokens at the border those with the highest indices
    are kept.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    h
        The share of the entropy, in (0, 1]: a number, or a tensor of shape ``(...)`` with one for
        each row. 1 keeps every token.

    Returns
    -------
    Tensor
        ``logits`` with ``-inf`` at every token after those.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``h`` holds no numbers.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, or ``h`` is not in (0, 1] or
        has another shape.

    Notes
    -----
    The processor of this name in Transformers 5.24 adds up :math:`-p \log p` of the first tokens
    without renormalizing them, and looks at no more than a hundred: other sets.

    Examples
    --------
    >>> probs = torch.tensor([0.5, 0.25, 0.125, 0.125])  # entropy 1.213, of the first two 0.637
    >>> top_h(probs.log(), 0.6).exp()
    tensor([0.5000, 0.2500, 0.0000, 0.0000])
    >>> top_h(probs.log(), 0.5).exp()
    tensor([0.5000, 0.0000, 0.0000, 0.0000])
    """
    check_rows(logits)
    h = share(h, logits, "top_h")
    ranked, order = _ranked(logits)
    gap = ranked[..., :1] - ranked
    weight = gap.neg().exp()
    none = weight == 0  # of which the gap may be infinite
    gap = gap.masked_fill(none, 0.0)
    weight[..., 0] = 0.0  # from 1, beside which the others would be rounded away
    others = weight.cumsum(-1)
    # Of the first r tokens: log of their sum, and the mean of what their logarithms lack of 0.
    entropy = others.log1p() + (weight * gap).cumsum(-1) / (1 + others)
    removed = none | (entropy > as_logits(h, entropy) * entropy[..., -1:])
    removed[..., 0] = False
    removed &= cuts(h, removed)
    return logits.masked_fill(removed.scatter(-1, order, removed), -torch.inf)


@truncation(
    label="tail-free",
    interval="(0, 1]",
    keeps="the most probable tokens, until their curve has made this share of its turns",
    commutes=False,
    values=(0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1),
    off=1,
)
def tail_free(logits: Tensor, z: float | Tensor) -> Tensor:
    r"""Keep the most probable tokens until the curve of their probabilities has become straight.

    How much the ranked probabilities turn at token r, :math:`|p_{(r-1)} - 2 p_{(r)} + p_{(r+1)}|`,
    is summed up from the second token to the last but one. The first token is kept, and each other
    one for which the sum, its own turn included, is at most the share z of the whole (Phénix and
    Egan, 2019). Of equal tokens at the border those with the highest indices are kept.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    z
        The share, in (0, 1]: a number, or a tensor of shape ``(...)`` with one for each row. 1
        keeps every token.

    Returns
    -------
    Tensor
        ``logits`` with ``-inf`` in the tail. Where nothing turns, as with two tokens or with equal
        ones, there is none.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``z`` holds no numbers.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, or ``z`` is not in (0, 1] or
        has another shape.

    Examples
    --------
    >>> probs = torch.tensor([0.5, 0.25, 0.125, 0.0625, 0.0625])  # turns .125, .0625, .0625
    >>> tail_free(probs.log(), 0.8).exp()
    tensor([0.5000, 0.2500, 0.1250, 0.0000, 0.0000])
    """
    check_rows(logits)
    z = share(z, logits, "tail_free")
    ranked, order = _ranked(logits)
    probs = ranked.softmax(-1)
    turns = probs.diff(dim=-1).diff(dim=-1).abs().cumsum(-1)
    removed = torch.ones_like(probs, dtype=torch.bool)
    removed[..., :1] = False
    if turns.shape[-1]:
        whole = turns[..., -1:]
        removed[..., 1:-1] = turns > as_logits(z, turns) * whole
        removed &= whole > 0
    else:
        removed[...] = False
    removed &= cuts(z, removed)
    return logits.masked_fill(removed.scatter(-1, order, removed), -torch.inf)


def _ranked(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits in falling order, of equals the highest index first, and the indices."""
    ascending, order = at_least_float32(logits).sort(dim=-1, stable=True)
    return ascending.flip(-1), order.flip(-1)
