r"""From next-token logits to sequences: greedy search, beam search and sampling.

Every decoder here works on a function from token ids to next-token logits, int64 ``(B, N)`` to
floating ``(B, V)``: a lookup in a small table and a language model
(:meth:`omnivault.model.language_model.LanguageModel.cached`) are the same to it. What changes the
distribution goes around that function, as in
``greedy_search(lambda ids: mask(next_token_logits(ids)), ...)``.

The sequences are where the prompt is, whatever the device of the logits. A decoder looks at what
comes, token by token, so it is no function to compile or to vectorize; the model is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from omnivault import sampling
from omnivault._checks import (
    Generator,
    check_generator,
    check_integer,
    check_number,
    check_rows,
    check_temperature,
    shown,
)

__all__ = ["Beams", "NextTokenLogits", "beam_search", "greedy_search", "sample_sequence"]

NextTokenLogits = Callable[[Tensor], Tensor]
"""Token ids, int64 ``(B, N)``, to the logits of the token that follows, ``(B, V)``."""


def greedy_search(
    next_token_logits: NextTokenLogits,
    prompt: Tensor,
    *,
    max_new_tokens: int,
    end_token: int | None = None,
) -> Tensor:
    """Append the most probable token, again and again.

    It reads the order of the logits alone, so no temperature changes its output; and it need not
    find the most probable sequence.

    Parameters
    ----------
    next_token_logits
        Token ids ``(B, N)`` to logits ``(B, V)``.
    prompt
        Token ids to begin with, int64 of shape ``(N,)`` or ``(B, N)``.
    max_new_tokens
        How many tokens to append at most, at least 1.
    end_token
        The token that ends a sequence; None lets every sequence grow to its full length.

    Returns
    -------
    Tensor
        Prompt and new tokens, ``(N + M,)`` or ``(B, N + M)``, with M new tokens in the longest.
        Sequences that ended before the others are filled up with ``end_token``.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, shape or range, the function returns another shape than
        ``(B, V)``, or its logits have no softmax.

    Examples
    --------
    >>> follows = torch.tensor([[0.1, 0.9, 0.0], [0.0, 0.1, 0.9], [0.8, 0.1, 0.1]]).log()
    >>> greedy_search(lambda ids: follows[ids[:, -1]], torch.tensor([0]), max_new_tokens=5)
    tensor([0, 1, 2, 0, 1, 2])
    """

    def choose(logits: Tensor, _: Tensor) -> Tensor:
        return sampling.greedy(logits)

    return _extend(next_token_logits, prompt, choose, max_new_tokens, end_token)


def sample_sequence(
    next_token_logits: NextTokenLogits,
    prompt: Tensor,
    *,
    max_new_tokens: int,
    end_token: int | None = None,
    temperature: float | Tensor = 1.0,
    generator: Generator = None,
    **dials: Any,
) -> Tensor:
    """Append a token drawn by :func:`omnivault.sampling.sample`, again and again.

    With the defaults this draws a sequence from the model's own distribution, the product of the
    conditional ones (ancestral sampling).

    Parameters
    ----------
    next_token_logits, prompt, max_new_tokens, end_token
        As in :func:`greedy_search`.
    temperature
        As in :func:`omnivault.sampling.sample`, for all rows, or one for each row.
    generator
        One for all rows, or one for each row of the prompt.
    **dials
        Truncations, as in :func:`omnivault.sampling.sample`.

    Returns
    -------
    Tensor
        As :func:`greedy_search`.

    Raises
    ------
    TypeError, ValueError
        As :func:`greedy_search` and :func:`omnivault.sampling.sample`.

    Examples
    --------
    >>> follows = torch.tensor([[0.1, 0.9, 0.0], [0.0, 0.1, 0.9], [0.8, 0.1, 0.1]]).log()
    >>> sample_sequence(
    ...     lambda ids: follows[ids[:, -1]],
    ...     torch.tensor([0]),
    ...     max_new_tokens=5,
    ...     generator=torch.Generator().manual_seed(1),
    ... )
    tensor([0, 1, 2, 0, 1, 2])
    """
    prompts = _check_prompt(prompt, max_new_tokens, end_token)
    generator = check_generator(generator, len(prompts))
    # As float64, so that it has room for what the logits may turn out to be.
    as_rows = torch.empty(len(prompts), 1, dtype=torch.float64)
    temperatures = check_temperature(temperature, as_rows, zero=True)

    def choose(logits: Tensor, rows: Tensor) -> Tensor:
        return sampling.sample(
            logits,
            temperature=temperatures.squeeze(-1)[rows.cpu()] if temperatures.ndim else temperature,
            generator=[generator[row] for row in rows.tolist()]
            if isinstance(generator, list)
            else generator,
            **dials,
        )

    return _extend(next_token_logits, prompt, choose, max_new_tokens, end_token)


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


def beam_search(
    next_token_logits: NextTokenLogits,
    prompt: Tensor,
    *,
    width: int,
    max_new_tokens: int,
    end_token: int | None = None,
    length_penalty: float = 0.0,
) -> Beams:
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
        rules all others out), the rest have a log-probability of ``-inf``.

    Raises
    ------
    TypeError, ValueError
        As :func:`greedy_search`; ``width`` is below 1, or ``length_penalty`` is not in [-10, 10].

    Notes
    -----
    The rules are those of Transformers with ``early_stopping="never"``. A sequence that ends is
    set aside if it is among the ``width`` best candidates of its step, and the search is over when
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
    ids = _check_prompt(prompt, max_new_tokens, end_token)
    width = check_integer(width, "width", 4)
    if width < 1:
        raise ValueError(f"width must be at least 1, got {shown(width)}; 1 is greedy search")
    length_penalty = check_number(length_penalty, "length_penalty", 1.0)
    if not abs(length_penalty) <= 10:
        raise ValueError(
            f"length_penalty must lie in [-10, 10], got {shown(length_penalty)}; 0 leaves it out"
        )

    searches = [_Search(row, width, max_new_tokens, end_token, length_penalty) for row in ids]
    while any(len(search.running) for search in searches):
        rows = torch.cat([search.running for search in searches if len(search.running)])
        log_probs = _call(next_token_logits, rows).double().log_softmax(-1)
        parts = log_probs.split([len(search.running) for search in searches])
        for search, part in zip(searches, parts, strict=True):
            if len(part):
                search.step(part)

    beams = _gather([search.finished for search in searches], ids, end_token)
    return beams if prompt.ndim == 2 else Beams(*(part.squeeze(0) for part in beams))


class _Search:
    """Beam search from one prompt: what runs, and what has been set aside."""

    def __init__(
        self, prompt: Tensor, width: int, steps: int, end_token: int | None, length_penalty: float
    ) -> None:
        self.width, self.steps = width, steps
        self.end_token, self.length_penalty = end_token, length_penalty
        self.length = 0
        self.running = prompt.unsqueeze(0)
        self.running_log_probs = torch.zeros(1, dtype=torch.float64, device=prompt.device)
        self.finished: list[_Hypothesis] = []

    def step(self, log_probs: Tensor) -> None:
        """Extend every running sequence by one token and prune; log_probs is ``(H, V)``."""
        self.length += 1
        vocabulary = log_probs.shape[-1]
        totals = (self.running_log_probs.unsqueeze(-1) + log_probs).flatten()
        # Twice the width: if all of the best end here, as many are left to go on.
        best, index = totals.topk(min(2 * self.width, len(totals)))
        best, index = best[best > -torch.inf], index[best > -torch.inf]
        tokens = index % vocabulary
        ids = torch.cat([self.running[index // vocabulary], tokens.unsqueeze(-1)], dim=-1)

        last = self.length == self.steps
        ends = torch.full_like(tokens, last, dtype=torch.bool)
        if self.end_token is not None:
            ends |= tokens == self.end_token
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


def _gather(found: list[list[_Hypothesis]], prompt: Tensor, end_token: int | None) -> Beams:
    """Put the hypotheses of all prompts into tensors."""
    most = max(len(hypotheses) for hypotheses in found)
    longest = max(len(h.ids) for hypotheses in found for h in hypotheses)
    filler = 0 if end_token is None else end_token
    ids = torch.full((len(found), most, longest), filler, device=prompt.device)
    ids[:, :, : prompt.shape[1]] = prompt.unsqueeze(1)
    log_probs = torch.full_like(ids[..., 0], -torch.inf, dtype=torch.float64)
    scores = log_probs.clone()
    for i, hypotheses in enumerate(found):
        for j, h in enumerate(hypotheses):
            ids[i, j, : len(h.ids)] = h.ids
            log_probs[i, j], scores[i, j] = h.log_prob, h.score
    return Beams(ids, log_probs, scores)


def _extend(
    next_token_logits: NextTokenLogits,
    prompt: Tensor,
    choose: Callable[[Tensor, Tensor], Tensor],
    max_new_tokens: int,
    end_token: int | None,
) -> Tensor:
    """Append what ``choose`` takes from the logits of the rows that have not ended."""
    ids = _check_prompt(prompt, max_new_tokens, end_token)
    running = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
    for _ in range(max_new_tokens):
        rows = running.nonzero().flatten()
        new = torch.full((len(ids),), 0 if end_token is None else end_token, device=ids.device)
        new[rows] = choose(_call(next_token_logits, ids[rows]), rows)
        ids = torch.cat([ids, new.unsqueeze(-1)], dim=1)
        if end_token is not None:
            running &= new != end_token
            if not bool(running.any()):
                break
    return ids.reshape(*prompt.shape[:-1], -1)


def _call(next_token_logits: NextTokenLogits, ids: Tensor) -> Tensor:
    logits = next_token_logits(ids)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(ids):
        raise ValueError(
            f"next_token_logits must return logits of shape ({len(ids)}, V) for ids of shape "
            f"{tuple(ids.shape)}, got "
            f"{tuple(logits.shape) if isinstance(logits, Tensor) else shown(logits)}"
        )
    check_rows(logits)
    return logits.to(ids.device)


def _check_prompt(prompt: Tensor, max_new_tokens: int, end_token: int | None) -> Tensor:
    """Return the prompt as ``(B, N)``."""
    if not isinstance(prompt, Tensor) or prompt.dtype != torch.int64:
        raise TypeError(f"prompt must be an int64 tensor of token ids, got {shown(prompt)}")
    if prompt.ndim not in (1, 2) or (prompt.ndim == 2 and len(prompt) == 0):
        raise ValueError(
            f"prompt must have the shape (N,) or (B, N), B >= 1, got {tuple(prompt.shape)}"
        )
    if check_integer(max_new_tokens, "max_new_tokens", 20) < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {shown(max_new_tokens)}")
    if end_token is not None:
        check_integer(end_token, "end_token", 2)
    rows: Tensor = torch.atleast_2d(prompt)
    return rows
