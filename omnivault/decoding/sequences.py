"""Sequences token by token: the most probable one, or one that is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import torch
from torch import Tensor

from omnivault import sampling
from omnivault._checks import Generator, check_end_token, check_generator
from omnivault.decoding.prompts import (
    EndToken,
    NextTokenLogits,
    by_length,
    call,
    check_prompt,
)
from omnivault.sampling.dials import for_each_row

Choose = Callable[[Tensor, list[int]], Tensor]
"""From the logits of some rows, and which rows they are, to a token for each."""


@overload
def greedy_search(
    next_token_logits: NextTokenLogits,
    prompt: Tensor,
    *,
    max_new_tokens: int,
    end_token: EndToken = None,
) -> Tensor: ...


@overload
def greedy_search(
    next_token_logits: NextTokenLogits,
    prompt: Sequence[Tensor],
    *,
    max_new_tokens: int,
    end_token: EndToken = None,
) -> list[Tensor]: ...


def greedy_search(
    next_token_logits: NextTokenLogits,
    prompt: Tensor | Sequence[Tensor],
    *,
    max_new_tokens: int,
    end_token: EndToken = None,
) -> Tensor | list[Tensor]:
    """Append the most probable token, again and again.

    It reads the order of the logits alone, so no temperature changes its output; and it need not
    find the most probable sequence.

    Parameters
    ----------
    next_token_logits
        Token ids ``(B, N)`` to logits ``(B, V)``.
    prompt
        Token ids to begin with, int64 of shape ``(N,)`` or ``(B, N)``, or a list of tensors of
        shape ``(N,)``, each with its own N. It is passed on as it is, also with N = 0; whether
        something follows the empty prompt is for the function to say.
    max_new_tokens
        How many tokens to append at most, at least 1.
    end_token
        The token that ends a sequence, or a list of several, each in [0, V); None lets every
        sequence grow to its full length.

    Returns
    -------
    Tensor
        Prompt and new tokens, ``(N + M,)`` or ``(B, N + M)``, with M new tokens in the longest.
        Sequences that ended before the others are filled up with ``end_token``, the first of
        several. For a list of prompts a list of tensors ``(N + M,)``, each with its own N and M.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, shape or range, the function returns another shape than
        ``(B, V)``, its logits have no softmax, or an end token is none of their V tokens.

    Examples
    --------
    >>> follows = torch.tensor([[0.1, 0.9, 0.0], [0.0, 0.1, 0.9], [0.8, 0.1, 0.1]]).log()
    >>> greedy_search(lambda ids: follows[ids[:, -1]], torch.tensor([0]), max_new_tokens=5)
    tensor([0, 1, 2, 0, 1, 2])
    >>> prompts = [torch.tensor([0]), torch.tensor([0, 2])]
    >>> greedy_search(lambda ids: follows[ids[:, -1]], prompts, max_new_tokens=5, end_token=[1, 2])
    [tensor([0, 1]), tensor([0, 2, 0, 1])]
    """

    def choose(logits: Tensor, _: list[int]) -> Tensor:
        return sampling.greedy(logits)

    prompts = check_prompt(prompt, max_new_tokens)
    return _extended(next_token_logits, prompt, prompts, choose, max_new_tokens, end_token)


@overload
def sample_sequence(
    next_token_logits: NextTokenLogits,
    prompt: Tensor,
    *,
    max_new_tokens: int,
    end_token: EndToken = None,
    temperature: float | Tensor = 1.0,
    generator: Generator = None,
    **dials: Any,
) -> Tensor: ...


@overload
def sample_sequence(
    next_token_logits: NextTokenLogits,
    prompt: Sequence[Tensor],
    *,
    max_new_tokens: int,
    end_token: EndToken = None,
    temperature: float | Tensor = 1.0,
    generator: Generator = None,
    **dials: Any,
) -> list[Tensor]: ...


def sample_sequence(
    next_token_logits: NextTokenLogits,
    prompt: Tensor | Sequence[Tensor],
    *,
    max_new_tokens: int,
    end_token: EndToken = None,
    temperature: float | Tensor = 1.0,
    generator: Generator = None,
    **dials: Any,
) -> Tensor | list[Tensor]:
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
        Truncations, as in :func:`omnivault.sampling.sample`, for all rows, or one for each row.

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
    ...     generator=torch.Generator().manual_seed(0),
    ... )
    tensor([0, 1, 2, 0, 1, 2])
    """
    prompts = check_prompt(prompt, max_new_tokens)
    own = check_generator(generator, len(prompts))
    # Whether they are in range is for the first logits to say, by their dtype and vocabulary.
    shape = torch.empty(len(prompts), 1)
    dials = {"temperature": temperature, **dials}
    dials = {name: _for_rows(value, shape, name) for name, value in dials.items()}

    def choose(logits: Tensor, rows: list[int]) -> Tensor:
        return sampling.sample(
            logits,
            generator=[own[row] for row in rows] if isinstance(own, list) else own,
            **{name: _of_rows(value, rows) for name, value in dials.items()},
        )

    return _extended(next_token_logits, prompt, prompts, choose, max_new_tokens, end_token)


def _for_rows(value: Any, rows: Tensor, name: str) -> Any:
    several = isinstance(value, Tensor) and value.ndim > 0
    return for_each_row(value, rows, name) if several else value


def _of_rows(value: Any, rows: list[int]) -> Any:
    return value[rows] if isinstance(value, Tensor) and value.ndim else value


def _extended(
    next_token_logits: NextTokenLogits,
    prompt: Tensor | Sequence[Tensor],
    prompts: list[Tensor],
    choose: Choose,
    max_new_tokens: int,
    end_token: EndToken,
) -> Tensor | list[Tensor]:
    """Extend prompts, and give them the form in which they came."""
    ends = check_end_token(end_token)

    def decode(ids: Tensor, rows: list[int]) -> Sequence[Tensor]:
        return list(_extend(next_token_logits, ids, rows, choose, max_new_tokens, ends))

    texts = by_length(prompts, decode)
    if isinstance(prompt, Tensor):
        return torch.stack(texts) if prompt.ndim == 2 else texts[0]
    last = frozenset(ends)
    return [_without_filler(text, len(own), last) for text, own in zip(texts, prompts, strict=True)]


def _without_filler(text: Tensor, start: int, ends: frozenset[int]) -> Tensor:
    at = [n for n, token in enumerate(text[start:].tolist()) if token in ends]
    return text[: start + at[0] + 1] if at else text


def _extend(
    next_token_logits: NextTokenLogits,
    ids: Tensor,
    numbers: list[int],
    choose: Choose,
    max_new_tokens: int,
    ends: list[int],
) -> Tensor:
    """Append what ``choose`` takes from the logits of the rows that have not ended."""
    running = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
    last = torch.tensor(ends, dtype=torch.int64, device=ids.device)
    for _ in range(max_new_tokens):
        rows = running.nonzero().flatten()
        new = torch.full((len(ids),), ends[0] if ends else 0, device=ids.device)
        chosen = [numbers[row] for row in rows.tolist()]
        new[rows] = choose(call(next_token_logits, ids[rows], ends), chosen)
        ids = torch.cat([ids, new.unsqueeze(-1)], dim=1)
        running &= ~torch.isin(new, last)
        if not bool(running.any()):
            break
    return ids
