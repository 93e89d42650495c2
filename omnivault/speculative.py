r"""Speculative sampling: a cheap model proposes tokens, an expensive one disposes of them.

What comes out has exactly the distribution of the expensive model, the target, however bad the
cheap one is, the draft. That only decides how often a proposal is accepted (Leviathan, Kalman and
Matias, 2023; Chen, Borgeaud, Irving, Lespiau, Sifre and Jumper, 2023).

Logits in half precision are computed with in float32. How many tokens are kept is a matter of
values, so there is nothing here to compile or to vectorize but the models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from omnivault._checks import (
    Generator,
    at_least_float32,
    check_dense,
    check_end_token,
    check_generator,
    check_integer,
    check_temperature,
    shown,
    some_values,
)
from omnivault.inverse_cdf import inverse_cdf, uniforms
from omnivault.sampling.dials import at_most, number_of_tokens
from omnivault.sampling.temperature import scaled
from omnivault.sampling.truncation import in_order, truncate

__all__ = ["SpeculativeText", "accept_or_redraw", "speculative_sequence"]

Logits = Callable[[Tensor], Tensor]
"""From token ids (N,) to the logits (N, V) of the token after each of them."""


@dataclass(frozen=True)
class SpeculativeText:
    """What :func:`speculative_sequence` wrote, and what it took."""

    ids: Tensor
    """Prompt and continuation, int64 of shape ``(N,)``."""
    proposed: int
    """Tokens of the draft that the target looked at, up to the first that it rejected."""
    accepted: int
    """How many of these were accepted."""
    rounds: int
    """How often the draft proposed and the target read. The target is called once in each, and in
    the first up to three times if it raises ``IndexError`` at what it does not know."""


def accept_or_redraw(
    p: Tensor, q: Tensor, drafted: Tensor, *, generator: Generator = None
) -> tuple[Tensor, Tensor]:
    r"""Turn draws from q into draws from p, and keep as many of them as possible.

    A draw x is accepted with probability :math:`\min(1, p_x/q_x)`. Instead of one that is not,
    a token is drawn with probabilities proportional to :math:`\max(0, p - q)`.

    Parameters
    ----------
    p, q
        Probabilities of target and draft, shape ``(..., V)``; in half precision they are converted
        to float32 and divided by their sum.
    drafted
        One draw from each row of q, int64 of shape ``(...)``.
    generator
        Source of randomness, or one for each row in order. None takes PyTorch's global one.

    Returns
    -------
    tokens
        Draws from p, int64 of shape ``(...)``, where p is.
    accepted
        Which of them are the drafted ones, bool of shape ``(...)``.

    Raises
    ------
    TypeError
        ``p`` or ``q`` is not floating or has but 8 bits, ``drafted`` is not int64, or one of them
        is sparse.
    ValueError
        The shapes do not match, a row is negative somewhere or does not sum to 1, or a drafted
        token is not in [0, V) or has the probability 0 under q.

    Examples
    --------
    >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])
    >>> drafted = torch.zeros(10_000, dtype=torch.int64)
    >>> rows = p.expand(10_000, 2), q.expand(10_000, 2)
    >>> tokens, accepted = accept_or_redraw(*rows, drafted, generator=torch.manual_seed(0))
    >>> bool((tokens[accepted] == 0).all()), bool((tokens[~accepted] == 1).all())
    (True, True)
    >>> round(tokens.double().mean().item(), 2)
    0.5
    """
    p, q = _distribution(p, "p"), _distribution(q, "q")
    _check_tokens(drafted, "drafted")
    if p.shape != q.shape or drafted.shape != p.shape[:-1]:
        raise ValueError(
            f"p, q and drafted must have the shapes (..., V), (..., V) and (...), got "
            f"{tuple(p.shape)}, {tuple(q.shape)} and {tuple(drafted.shape)}"
        )
    q, drafted = q.to(p.device), drafted.to(p.device)  # the models may be on two devices
    outside = (drafted < 0) | (drafted >= p.shape[-1])
    if bool(outside.any()):
        raise ValueError(
            f"drafted must lie in [0, {p.shape[-1]}), got {some_values(drafted[outside])}"
        )
    at = drafted.unsqueeze(-1)
    p_drafted, q_drafted = (x.gather(-1, at).squeeze(-1).double() for x in (p, q))
    if not bool((q_drafted > 0).all()):
        raise ValueError(
            f"the draft cannot have drawn {some_values(drafted[~(q_drafted > 0)])}, to which it "
            "gives probability 0; pass the probabilities that it was drawn from"
        )
    u = uniforms(drafted.numel(), 1, generator, p.device).reshape(drafted.shape)
    accepted = u * q_drafted < p_drafted
    rest = (p - q).clamp(min=0)
    # Where nothing is left, p is q, and nothing is rejected: any weights will do.
    rest = torch.where(rest.sum(-1, keepdim=True) > 0, rest, p)
    redrawn = inverse_cdf(rest, generator=generator)
    return torch.where(accepted, drafted, redrawn), accepted


def _check_tokens(ids: Tensor, name: str) -> None:
    if not isinstance(ids, Tensor) or ids.dtype != torch.int64:
        raise TypeError(f"{name} must be an int64 tensor of token ids, got {shown(ids)}")
    check_dense(ids, name)


def _distribution(p: Tensor, name: str) -> Tensor:
    """Return rows of probabilities in float32 or float64; raise unless they are some."""
    if not isinstance(p, Tensor) or not p.is_floating_point() or p.dtype.itemsize < 2:
        raise TypeError(
            f"{name} must be a tensor of float16, bfloat16, float32 or float64, got "
            f"{p.dtype if isinstance(p, Tensor) else shown(p)}; softmax(z.float()) makes one of "
            "logits z"
        )
    check_dense(p, name)
    if p.ndim == 0:
        raise ValueError(f"{name} must have the shape (..., V), got ()")
    half = p.dtype.itemsize < 4
    wide = at_least_float32(p)
    total = wide.sum(-1, keepdim=True)
    # Written so that nan is wrong. Half precision rounds each by up to 1 in 256.
    right = ((total - 1).abs() <= (0.05 if half else 1e-3)) & (wide >= 0).all(-1, keepdim=True)
    if not bool(right.all()):
        row = wide[~right.squeeze(-1)][0]
        raise ValueError(
            f"{name} must have rows of probabilities, >= 0 and with the sum 1, got "
            f"{some_values(row)}, sum {row.sum().item():.6g}; x / x.sum(-1, keepdim=True) divides "
            "by it, softmax(z) takes logits"
        )
    return wide / total if half else wide


def speculative_sequence(
    target: Logits,
    draft: Logits,
    ids: Tensor,
    *,
    max_new_tokens: int,
    lookahead: int = 4,
    end_token: int | Sequence[int] | None = None,
    temperature: float | Tensor = 1.0,
    generator: Generator = None,
    **dials: Any,
) -> SpeculativeText:
    """Write a text with the distribution of the target, several tokens for each of its calls.

    In each round the draft writes ``lookahead`` tokens, one after the other. The target reads them
    all at once. They are accepted from left to right up to the first rejection, in whose place a
    token is drawn; if there is none, the target's last row of logits gives one more token.

    Parameters
    ----------
    target, draft
        From token ids ``(N,)`` to logits ``(N, V)`` of the tokens after each of them, such as
        :meth:`omnivault.model.language_model.LanguageModel.logits`. Of the draft the last row is
        read, and it may return that row alone, ``(1, V)``.
    ids
        The prompt, int64 of shape ``(N,)``, N >= 1.
    max_new_tokens
        How many tokens to write at most.
    lookahead
        How many tokens the draft proposes in a round.
    end_token
        The token that ends the text, or a list of several, each in [0, V) of the target; None lets
        it grow to its full length.
    temperature
        T >= 0 of both models, a number, or a tensor with one for the only row; at 0 either takes
        its largest logit.
    generator
        Source of randomness, or a list of one for the only row. None takes PyTorch's global one.
    **dials
        Truncations of both models, as in :func:`omnivault.sampling.sample`: the text has the
        distribution of the truncated target. Of vocabularies of two sizes ``top_k`` may be up to
        the larger; the other model keeps all of its own.

    Returns
    -------
    SpeculativeText
        The text, and how many proposals and rounds it took.

    Raises
    ------
    TypeError
        ``ids`` is not int64, ``max_new_tokens``, ``lookahead`` or an end token is not an int, T is
        not a number, or a model returns no tensor.
    ValueError
        A model returns logits of another shape, a row of which holds nan or ``+inf`` or nothing but
        ``-inf``; ``ids`` is not one row of tokens, ``max_new_tokens`` or ``lookahead`` is not
        positive, an end token is none of the target's, T is negative or not finite, or a truncation
        is out of its range.

    Notes
    -----
    Vocabularies may be padded to different sizes: beyond its own a model gives a token the
    probability 0. So the target rejects what it does not know, and is not asked to read it. In the
    first round, when its size is not known yet, it is asked, and if it raises ``IndexError`` asked
    again without; a model on a GPU may not survive that, so cut its draft to the target's size.

    Examples
    --------
    >>> always = lambda token: lambda ids: 50 * torch.eye(3)[token].expand(len(ids), 3)
    >>> prompt = torch.tensor([0])
    >>> good = speculative_sequence(always(1), always(1), prompt, max_new_tokens=10)
    >>> good.ids.tolist(), good.rounds
    ([0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], 2)
    >>> bad = speculative_sequence(always(1), always(2), prompt, max_new_tokens=10)
    >>> bad.ids.tolist(), bad.rounds
    ([0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], 10)
    """
    _check_tokens(ids, "ids")
    if ids.ndim != 1 or len(ids) == 0:
        raise ValueError(f"ids must have the shape (N,) with N >= 1, got {tuple(ids.shape)}")
    for name, number in (("max_new_tokens", max_new_tokens), ("lookahead", lookahead)):
        if check_integer(number, name, 4) < 1:
            raise ValueError(f"{name} must be at least 1, got {shown(number)}")
    last_tokens = frozenset(check_end_token(end_token))
    one_row = torch.zeros(1, 1, dtype=torch.float64)
    temperature = check_temperature(temperature, one_row, zero=True).reshape(())
    generator = check_generator(generator, 1)
    dials = in_order(dials)
    end = len(ids) + max_new_tokens
    known: float = math.inf  # the size of the target's vocabulary, from its first answer on
    proposed = accepted = rounds = 0
    while len(ids) < end:
        start = len(ids)
        q = []
        for _ in range(min(lookahead, end - start)):
            q.append(_probabilities(_last_logits(draft, ids), temperature, dials)[0])
            token = inverse_cdf(q[-1], generator=generator)
            ids = torch.cat([ids, token.reshape(1).to(ids.device)])
            # Nothing follows an end, and nothing a token that is rejected for certain.
            if int(token) in last_tokens or int(token) >= known:
                break
        read = ids[:-1] if int(ids[-1]) >= known else ids
        p = _probabilities(_read(target, read, start)[start - 1 :], temperature, dials)
        rounds += 1
        known = p.shape[-1]
        if max(last_tokens, default=0) >= known:
            raise ValueError(
                f"end_token must lie in [0, {known}), the vocabulary, got {max(last_tokens)}"
            )
        p, q = _in_one_vocabulary(p, q)
        if "top_k" in dials:  # either model keeps all of its own, but k is at most the larger size
            number_of_tokens(dials["top_k"], p[:1], "top_k")
        for n in range(len(q)):
            token, kept = accept_or_redraw(p[n], q[n], ids[start + n], generator=generator)
            proposed += 1
            accepted += int(kept)
            if not kept:
                ids = torch.cat([ids[: start + n], token.reshape(1).to(ids.device)])
                break
        else:
            if len(ids) < end and int(ids[-1]) not in last_tokens:
                token = inverse_cdf(p[-1], generator=generator)
                ids = torch.cat([ids, token.reshape(1).to(ids.device)])
        if int(ids[-1]) in last_tokens:
            break
    return SpeculativeText(ids, proposed, accepted, rounds)


def _last_logits(draft: Logits, ids: Tensor) -> Tensor:
    return _logits("draft", draft, ids, f"({len(ids)}, V) or (1, V)", {len(ids), 1})[-1:]


def _all_logits(target: Logits, ids: Tensor) -> Tensor:
    return _logits("target", target, ids, f"({len(ids)}, V)", {len(ids)})


def _logits(name: str, model: Logits, ids: Tensor, shape: str, rows: set[int]) -> Tensor:
    logits = model(ids)
    error = f"the {name} must return logits of the shape {shape} for {len(ids)} tokens, got"
    if not isinstance(logits, Tensor):
        raise TypeError(f"{error} {shown(logits)}")
    if logits.ndim != 2 or len(logits) not in rows:
        raise ValueError(f"{error} {tuple(logits.shape)}")
    return logits


def _read(target: Logits, ids: Tensor, start: int) -> Tensor:
    """Ask the target, if it must be up to the first proposal that is no token of its own."""
    try:
        return _all_logits(target, ids)
    except IndexError:
        size = _all_logits(target, ids[:start]).shape[-1]
        unknown = (ids[start:] >= size).nonzero()
        if len(unknown) == 0:
            raise
        return _all_logits(target, ids[: start + int(unknown[0])])


def _probabilities(logits: Tensor, temperature: Tensor, dials: Mapping[str, Any]) -> Tensor:
    if "top_k" in dials:
        dials = {**dials, "top_k": at_most(dials["top_k"], logits.shape[-1])}
    z, later, cold = scaled(logits, temperature, dials)
    if bool(cold.all()):
        return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).to(z.dtype)
    return truncate(z, later).softmax(-1)


def _in_one_vocabulary(p: Tensor, q: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Give tokens that a model does not know the probability 0."""
    size = max(rows.shape[-1] for rows in (p, *q))
    pad = torch.nn.functional.pad
    return pad(p, (0, size - p.shape[-1])), [pad(row, (0, size - len(row))) for row in q]
