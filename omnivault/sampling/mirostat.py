"""Mirostat: a cutoff that a controller moves, so that the mean surprise meets a target."""

from __future__ import annotations

import torch
from torch import Tensor

from omnivault._checks import (
    Generator,
    at_least_float32,
    check_number,
    check_rows,
    shown,
)
from omnivault.sampling.cutoffs import epsilon_cutoff
from omnivault.sampling.draw import sample


class Mirostat:
    r"""Draw token after token and hold their mean surprise near a target.

    Tokens whose surprise :math:`-\log p` is at most the limit are kept, as by
    :func:`epsilon_cutoff`; the most probable ones if there is no such token. One is drawn, of
    surprise s among those kept, and the limit becomes :math:`\mu - \eta\,(s - \tau)`: after a
    token that surprised too much it is lower.

    The idea is that of Basu, Ramachandran, Keskar and Varshney (2021), who find out how many tokens
    are kept from an estimate of Zipf's exponent. This is the second version, without it, as in
    llama.cpp, and as there s is the surprise in the distribution that the token was drawn from.
    The program of the authors takes that of the model, which is larger.

    Parameters
    ----------
    target
        The surprise to hold in nats, :math:`\tau > 0`. llama.cpp counts in bits, of which one is
        0.693 nats.
    rate
        How much of a deviation is made up for at once, :math:`\eta` in (0, 1].

    Attributes
    ----------
    limit
        :math:`\mu` in nats, float64 on the CPU: at first a number for all rows, twice the target,
        then of the shape ``(...)`` of the rows that were drawn from.

    Raises
    ------
    TypeError
        ``target`` or ``rate`` is no number.
    ValueError
        ``target`` is not positive and finite, or ``rate`` is not in (0, 1].

    Notes
    -----
    llama.cpp keeps one of several most probable tokens where none is within the limit. Here all
    are kept, and a surprise of their number's logarithm may bring the limit below 0, where the
    most probable are kept as at 0.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> mirostat = Mirostat(target=1.0)
    >>> logits = torch.zeros(2, 4)  # a surprise of log 4 = 1.386, whatever is drawn
    >>> mirostat.draw(logits, generator).shape
    torch.Size([2])
    >>> mirostat.limit  # 2 - 0.1 * (1.386 - 1)
    tensor([1.9614, 1.9614], dtype=torch.float64)
    """

    def __init__(self, target: float, rate: float = 0.1) -> None:
        self.target = check_number(target, "target", 3.0)
        if not 0 < self.target < float("inf"):
            raise ValueError(f"target must be > 0 and finite, got {shown(target)}; 3.0 is usual")
        self.rate = check_number(rate, "rate", 0.1)
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate must lie in (0, 1], got {shown(rate)}; 0.1 is usual")
        self.limit = torch.tensor(2 * self.target, dtype=torch.float64)

    def draw(self, logits: Tensor, generator: Generator = None) -> Tensor:
        """Draw one token for each row, and move the limit of each row.

        Parameters
        ----------
        logits
            Shape ``(..., V)``, floating; the same batch shape at each call.
        generator
            As in :func:`sample`.

        Returns
        -------
        Tensor
            Token indices, int64 of shape ``(...)``.

        Raises
        ------
        TypeError, ValueError
            As :func:`sample`; or the rows are others than those that have limits.
        """
        check_rows(logits)
        rows = logits.shape[:-1]
        if self.limit.shape not in ((), rows):  # () at first
            raise ValueError(
                f"the limits have the shape {tuple(self.limit.shape)} of the rows before, got "
                f"rows of shape {tuple(rows)}; begin each batch with a Mirostat of its own"
            )
        kept = epsilon_cutoff(logits.detach(), self.limit.clamp(min=0).neg().exp())
        token = sample(kept, generator=generator)
        log_probs = at_least_float32(kept).log_softmax(-1)
        surprise = -log_probs.gather(-1, token.unsqueeze(-1)).squeeze(-1)
        self.limit = self.limit - self.rate * (surprise.cpu().double() - self.target)
        return token
