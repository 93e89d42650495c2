"""Live figure: greedy search and beam search in a tree of continuations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from omnivault.decoding import NextTokenLogits
from omnivault.live.figure import LiveFigure


def search_tree(
    next_token_logits: NextTokenLogits,
    prompt: Tensor,
    tokens: Sequence[str],
    *,
    depth: int = 3,
    branch: int = 4,
    end_token: int | None = None,
) -> LiveFigure:
    """Show what greedy search and beam search keep, drop, find and miss.

    At each node the tree has the ``branch`` most probable next tokens, with the probabilities that
    the model gives them; the others are cut, so those of siblings do not sum to one. The search in
    the tree finds what :func:`omnivault.decoding.beam_search` finds in the whole model as long as
    it has at most ``branch`` beams, or ``branch - 1`` where there is an end token. The best of all
    texts is the best in the tree: outside there may be better ones.

    Parameters
    ----------
    next_token_logits
        Token ids ``(B, N)`` to logits ``(B, V)``, as in :mod:`omnivault.decoding`; it is called
        once for each level of the tree.
    prompt
        Token ids to begin with, int64 of shape ``(N,)``.
    tokens
        The V tokens as text.
    depth
        New tokens in the longest text, from 2 to 4; with 4, tokens are cut short on a phone.
    branch
        Children of a node, from 2 to 4; fewer where the model rules the others out.
    end_token
        The token that ends a text. The reader may let texts go on after it, and choose the
        exponent of the length in the score, ``log_prob / length ** exponent``.

    Returns
    -------
    LiveFigure
        Its values: node ids ``kept`` in each step, and ``ended``, those set aside as complete; how
        many nodes were ``expanded``; ``hypotheses``, the texts found, the best score first, each
        with ``node``, ``tokens``, ``length``, ``log_prob`` and ``score``; ``best`` of all ``texts``
        in the tree; ``greedy``; and the step at which the best was ``lost``, 0 if it was found.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, shape or range, or the function returns another shape than
        ``(B, V)`` or logits that have no softmax.

    Examples
    --------
    >>> follows = torch.tensor([[0.0, 0.6, 0.4], [0.5, 0.25, 0.25], [0.0, 0.0, 1.0]]).log()
    >>> figure = search_tree(
    ...     lambda ids: follows[ids[:, -1]], torch.tensor([0]), ["a", "b", "c"], depth=2
    ... )
    >>> for values in figure.values({"beams": 1}, {"beams": 2}):
    ...     found = values["hypotheses"][0]
    ...     print(found["tokens"], round(found["log_prob"], 3), values["lost"])
    ['b', 'a'] -1.204 1
    ['c', 'c'] -0.916 0
    """
    for name, value in (("depth", depth), ("branch", branch)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an int such as 3, got {value!r}")
        if not 2 <= value <= 4:
            raise ValueError(f"{name} must be 2, 3 or 4, got {value}; more cannot be drawn")
    if not isinstance(prompt, Tensor) or prompt.dtype != torch.int64 or prompt.ndim != 1:
        got = (prompt.dtype, tuple(prompt.shape)) if isinstance(prompt, Tensor) else repr(prompt)
        raise TypeError(f"prompt must be an int64 tensor of token ids of shape (N,), got {got}")
    if end_token is not None and not 0 <= end_token < len(tokens):
        raise ValueError(
            f"end_token must be one of the {len(tokens)} tokens, 0 to {len(tokens) - 1}, or None, "
            f"got {end_token}"
        )

    nodes: list[tuple[int, str, float, int]] = [(-1, "", 0.0, 0)]
    level = [(0, prompt)]
    for _ in range(depth):
        ids = torch.stack([text for _, text in level])
        following: list[tuple[int, Tensor]] = []
        for (parent, text), row in zip(
            level, _log_probs(next_token_logits, ids, len(tokens)), strict=True
        ):
            values, order = row.sort(descending=True, stable=True)
            for value, token in zip(values[:branch].tolist(), order[:branch].tolist(), strict=True):
                if value > -torch.inf:
                    following.append((len(nodes), torch.cat([text, torch.tensor([token])])))
                    nodes.append((parent, tokens[token], _rounded(value), int(token == end_token)))
        level = following
    return LiveFigure(
        "search_tree",
        "Greedy search and beam search in a tree of continuations",
        {
            "prompt": "".join(tokens[token] for token in prompt.tolist()),
            "nodes": nodes,
            "depth": depth,
            "branch": branch,
            "end": None if end_token is None else tokens[end_token],
        },
    )


def _rounded(value: float) -> float:
    """Keep nine decimals, or four digits of what is nearer to 0, so that only 0 becomes 0."""
    return round(value, 9) if abs(value) > 1e-5 else float(f"{value:.4g}")


def _log_probs(next_token_logits: NextTokenLogits, ids: Tensor, vocabulary: int) -> Tensor:
    logits = next_token_logits(ids)
    if logits.shape != (len(ids), vocabulary):
        raise ValueError(
            f"next_token_logits must return logits of shape ({len(ids)}, {vocabulary}), one for "
            f"each of the tokens, for ids of shape {tuple(ids.shape)}, got {tuple(logits.shape)}"
        )
    log_probs = logits.double().log_softmax(-1)
    if bool(log_probs.isnan().any()):
        raise ValueError(
            "the logits have no softmax: one is NaN or +inf, or a row has only -inf; -inf rules "
            "a token out, but one must be left"
        )
    return log_probs
