"""XTC: the truncation that takes from the top."""

from __future__ import annotations

import torch
from torch import Tensor

from omnivault._checks import at_least_float32, check_rows
from omnivault.sampling.dials import as_logits, share
from omnivault.sampling.truncation import truncation


@truncation(
    label="XTC",
    interval="(0, 1]",
    keeps="of the tokens of at least this probability the last, and all below",
    commutes=False,
    values=(0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 1),
    off=1,
)
def xtc(logits: Tensor, threshold: float | Tensor) -> Tensor:
    r"""Exclude the top choices: of the tokens that reach a probability keep the least probable.

    Where two tokens or more have at least the threshold, all of them but the least probable one
    are ruled out, the best token among them (Weidmann, 2024); of equals the one with the highest
    index is kept. Elsewhere nothing is, as above one half.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    threshold
        The probability, in (0, 1]: a number, or a tensor of shape ``(...)`` with one for each row.
        Above 0.5 it keeps every token.

    Returns
    -------
    Tensor
        ``logits`` with ``-inf`` at the top choices.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``threshold`` holds no numbers.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, or ``threshold`` is not in
        (0, 1] or has another shape.

    Notes
    -----
    Engines apply it at each token with a probability, often one half. Thresholds for rows say so
    too: ``torch.where(torch.rand(rows, generator=generator) < 0.5, 0.1, 1.0)``.

    Examples
    --------
    >>> probs = torch.tensor([0.5, 0.25, 0.125, 0.125])
    >>> xtc(probs.log(), 0.2).exp()
    tensor([0.0000, 0.2500, 0.1250, 0.1250])
    >>> xtc(probs.log(), 0.3).exp()  # reached by one token alone
    tensor([0.5000, 0.2500, 0.1250, 0.1250])
    """
    check_rows(logits)
    threshold = share(threshold, logits, "xtc")
    probs = at_least_float32(logits).softmax(-1)
    # A threshold may round to 0, which what has no probability must not reach.
    above = (probs >= as_logits(threshold, probs)) & (probs > 0)
    least = logits.masked_fill(~above, torch.inf).amin(-1, keepdim=True)
    index = torch.arange(logits.shape[-1], device=logits.device)
    last = index.masked_fill(~(above & (logits == least)), -1).amax(-1, keepdim=True)
    return logits.masked_fill(above & (index != last), -torch.inf)
