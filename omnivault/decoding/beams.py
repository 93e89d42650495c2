"""Beam search: several beginnings at a time, the most probable ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, overload

import torch
from torch import Tensor

from omnivault._checks import check_end_token, check_integer, check_number, shown
from omnivault.decoding.prompts import EndToken, NextTokenLogits, by_length, call, check_prompt


class Beams(NamedTuple):
    """The sequences that a beam search found for each prompt, the best score first.

    There are H of them for each prompt, at most the width of the search.
    """

    ids: Tensor
    """Prompt and new tokens, int64 ``(H, N + M)`` or ``(B, H, N + M)``; sequences that ended early
    are filled up with the end token."""
    log_probs: Tensor
    """Log-probability of the new tokens in nats, float64 ``(H,)`` or ``(B, H)``."""
    scores: Tensor
    """``log_probs / length ** length_penalty``, by which the sequences are ranked."""


class _Hypothesis(NamedTuple):
    ids: Tensor
    log_prob: float
    score: float


@overload
def beam_search(
    next_token_logits: NextTokenLogits,
    prompt: Tensor,
    *,
    width: int,
    max_new_tokens: int,
    end_token: EndToken = None,
    length_penalty: float = 0.0,
) -> Beams: ...


@overload
def beam_search(
    next_token_logits: NextTokenLogits,
    prompt: Sequence[Tensor],
    *,
    width: int,
    max_new_tokens: int,
    end_token: EndToken = None,
    length_penalty: float = 0.0,
) -> list[Beams]: ...


def beam_search(
    next_token_logits: NextTokenLogits,
    prompt: Tensor | Sequence[Tensor],
    *,
    width: int,
    max_new_tokens: int,
    end_token: EndToken = None,
    length_penalty: float = 0.0,
) -> Beams | list[Beams]:
    r"""Keep the ``width`` most probable beginnings and extend each, again and again.

    Parameters
    ----------
    next_token_logits, prompt, max_new_tokens, end_token
        As in :func:`greedy_search`.
    width
        Number of beginnings that are kept, at least 1. With 1, no length penalty and no ties
        this is greedy search; with :math:`V^M` it is exhaustive search.
    length_penalty
        Exponent :math:`\alpha` of the score :math:`\log p(y) / |y|^\alpha`, with :math:`|y|` the
        number of new tokens, the end token included. A log-probability is negative, so dividing
        brings it nearer to zero: :math:`\alpha > 0` favors long sequences.

    Returns
    -------
    Beams
        At most ``width`` sequences a prompt. Where a prompt has fewer than another (the model
        rules all others out), the rest have a log-probability of ``-inf``. For a list of prompts a
        list of ``Beams``.

    Raises
    ------
    TypeError, ValueError
        As :func:`greedy_search`; ``width`` is below 1, or ``length_penalty`` is not in [-10, 10].

    Notes
    -----
    The rules are those of Transformers with ``early_stopping="never"``, whatever the
    number of end tokens. A sequence that ends is set aside if it is among the ``width`` best
    candidates of its step; the ``width`` best that do not end go on; and the search is over when
    no beginning can still overtake the worst of ``width`` sequences set aside.

    Examples
    --------
    >>> follows = torch.tensor([[0.0, 0.6, 0.4], [0.5, 0.25, 0.25], [0.0, 0.0, 1.0]]).log()
    >>> beams = beam_search(
    ...     lambda ids: follows[ids[:, -1]], torch.tensor([0]), width=2, max_new_tokens=2
    ... )
    >>> beams.ids, beams.log_probs.exp()  # greedy search begins with 1 and ends at 0.3
    (tensor([[0, 2, 2],
            [0, 1, 0]]), tensor([0.4000, 0.3000], dtype=torch.float64))
    """
    prompts = check_prompt(prompt, max_new_tokens)
    ends = check_end_token(end_token)
    width = check_integer(width, "width", 4)
    if width < 1:
        raise ValueError(f"width must be at least 1, got {shown(width)}; 1 is greedy search")
    length_penalty = check_number(length_penalty, "length_penalty", 1.0)
    if not abs(length_penalty) <= 10:
        raise ValueError(
            f"length_penalty must lie in [-10, 10], got {shown(length_penalty)}; 0 leaves it out"
        )

    def decode(ids: Tensor, _: list[int]) -> list[_Search]:
        searches = [_Search(row, width, max_new_tokens, ends, length_penalty) for row in ids]
        _search_together(next_token_logits, searches)
        return searches

    searches = by_length(prompts, decode)
    if isinstance(prompt, Tensor) and prompt.ndim == 2:
        return _gather(searches)
    each = [Beams(*(part.squeeze(0) for part in _gather([search]))) for search in searches]
    return each[0] if isinstance(prompt, Tensor) else each


def _search_together(next_token_logits: NextTokenLogits, searches: list[_Search]) -> None:
    """Search from prompts of one length."""
    while any(len(search.running) for search in searches):
        rows = torch.cat([search.running for search in searches if len(search.running)])
        log_probs = call(next_token_logits, rows, searches[0].ends).double().log_softmax(-1)
        parts = log_probs.split([len(search.running) for search in searches])
        for search, part in zip(searches, parts, strict=True):
            if len(part):
                search.step(part)


class _Search:
    """Beam search from one prompt: what runs, and what has been set aside."""

    def __init__(
        self, prompt: Tensor, width: int, steps: int, ends: list[int], length_penalty: float
    ) -> None:
        self.prompt, self.width, self.steps = prompt, width, steps
        self.ends, self.length_penalty = ends, length_penalty
        self.end_tokens = torch.tensor(ends, dtype=torch.int64, device=prompt.device)
        self.length = 0
        self.running = prompt.unsqueeze(0)
        self.running_log_probs = torch.zeros(1, dtype=torch.float64, device=prompt.device)
        self.finished: list[_Hypothesis] = []

    def step(self, log_probs: Tensor) -> None:
        """Extend every running sequence by one token and prune; log_probs is ``(H, V)``."""
        self.length += 1
        vocabulary = log_probs.shape[-1]
        totals = (self.running_log_probs.unsqueeze(-1) + log_probs).flatten()
        # As Transformers does: if every end of every beginning is among them, the width is left.
        best, index = totals.topk(min(max(2, 1 + len(self.ends)) * self.width, len(totals)))
        best, index = best[best > -torch.inf], index[best > -torch.inf]
        tokens = index % vocabulary
        ids = torch.cat([self.running[index // vocabulary], tokens.unsqueeze(-1)], dim=-1)

        last = self.length == self.steps
        ends = torch.isin(tokens, self.end_tokens) | last
        for i in ends[: self.width].nonzero().flatten().tolist():
            score = self._score(best[i].item(), self.length)
            self.finished.append(_Hypothesis(ids[i], best[i].item(), score))
        self.finished.sort(key=lambda hypothesis: -hypothesis.score)
        del self.finished[self.width :]

        goes_on = (~ends).nonzero().flatten()[: self.width]
        self.running, self.running_log_probs = ids[goes_on], best[goes_on]
        if len(goes_on) and len(self.finished) == self.width and not self._can_improve():
            self.running = self.running[:0]

    def _can_improve(self) -> bool:
        # More tokens only lower the log-probability; the length that forgives most is the longest
        # for a positive exponent, the shortest for a negative one.
        length = self.steps if self.length_penalty > 0 else self.length + 1
        best = self._score(self.running_log_probs[0].item(), length)
        return best > self.finished[-1].score

    def _score(self, log_prob: float, length: int) -> float:
        return float(log_prob / length**self.length_penalty)


def _gather(searches: list[_Search]) -> Beams:
    """Put what was found from prompts of one length into tensors."""
    most = max(len(search.finished) for search in searches)
    longest = max(len(h.ids) for search in searches for h in search.finished)
    prompts, ends = torch.stack([search.prompt for search in searches]), searches[0].ends
    shape = len(searches), most, longest
    ids = torch.full(shape, ends[0] if ends else 0, device=prompts.device)
    ids[:, :, : prompts.shape[1]] = prompts.unsqueeze(1)
    log_probs = torch.full_like(ids[..., 0], -torch.inf, dtype=torch.float64)
    scores = log_probs.clone()
    for i, search in enumerate(searches):
        for j, h in enumerate(search.finished):
            ids[i, j, : len(h.ids)] = h.ids
            log_probs[i, j], scores[i, j] = h.log_prob, h.score
    return Beams(ids, log_probs, scores)
