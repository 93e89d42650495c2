"""Live figure: the next token of a language model under temperature, truncation and draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from omnivault.live.figure import LiveFigure
from omnivault.sampling import TRUNCATIONS

SINGLE = 100
"""So many of the most probable tokens are kept one by one; no slider tells the others apart."""

WIDTH = 1 / 16
"""Of a bin of the tail, in logits. Its tokens all get the mean of their logits, which changes the
sum of their weights by about a factor 1 + (WIDTH / T)^2 / 24."""


def next_token(
    logits: Mapping[str, Tensor],
    tokens: Sequence[str],
    dials: Sequence[str] = ("top_k", "top_p", "min_p"),
) -> LiveFigure:
    """Show next-token distributions of a language model, the whole vocabulary accounted for.

    The 100 largest logits of each prompt are kept as they are. The others are summed up in bins
    one sixteenth wide, each with its mean logit and the number of its tokens, so that the
    probabilities of the shown tokens are right to three digits at every temperature.

    Parameters
    ----------
    logits
        For each prompt, by its text, the logits of the next token, shape ``(V,)``, V > 100.
    tokens
        The V tokens as text.
    dials
        Names of truncations, of :data:`omnivault.sampling.TRUNCATIONS`, that get a slider.

    Returns
    -------
    LiveFigure
        Its values: ``probs`` of the ten most probable tokens, and ``rest`` of all others; the
        same as ``full`` and ``rest_full`` before truncation; ``log_probs`` of the ten and of the
        others together, after truncation (None where nothing is left); ``entropy`` in nats; how
        many tokens are ``kept``, the ``mass`` they had, and ``log_mass``, its logarithm and that of
        the mass of the others; ``counts`` and ``rest_count`` of the draws.

    Raises
    ------
    ValueError
        There is no prompt, or the shapes do not fit, a logit is not finite, or there is no such
        truncation.

    Examples
    --------
    >>> logits = torch.linspace(3.0, -3.0, 400, dtype=torch.float64)
    >>> figure = next_token({"Once": logits}, [f"token {i}" for i in range(400)])
    >>> values, = figure.values({"temperature": 1, "top_k": 2})
    >>> [round(p, 3) for p in values["probs"]][:3], values["kept"]
    ([0.504, 0.496, 0], 2)
    """
    if not logits:
        raise ValueError("at least one prompt is needed, got none")
    for prompt, z in logits.items():
        if z.shape != (len(tokens),) or len(tokens) <= SINGLE:
            raise ValueError(
                f"logits must have the shape ({len(tokens)},) of the tokens, which must be more "
                f"than {SINGLE}; those after {prompt!r} have {tuple(z.shape)}"
            )
        if not bool(z.isfinite().all()):
            raise ValueError(f"logits must be finite; those after {prompt!r} are not")
    unknown = [name for name in dials if name not in TRUNCATIONS]
    if unknown:
        raise ValueError(
            f"there is no truncation {unknown[0]!r}; there are {', '.join(TRUNCATIONS)}"
        )
    shown = [
        {"name": name, "label": rule.label, "values": rule.values, "off": rule.off}
        for name, rule in TRUNCATIONS.items()
        if name in dials
    ]
    prompts = [_summary(prompt, z.double(), tokens) for prompt, z in logits.items()]
    return LiveFigure(
        "next_token",
        "The next token of a language model, under temperature and truncation",
        {"prompts": prompts, "vocabulary": len(tokens), "dials": shown},
    )


def _summary(prompt: str, z: Tensor, tokens: Sequence[str]) -> dict[str, object]:
    values, order = z.sort(descending=True, stable=True)
    tail = values[SINGLE:]
    bins = ((tail[0] - tail) / WIDTH).floor().long()
    counts = torch.bincount(bins)
    means = torch.bincount(bins, weights=tail) / counts.clamp(min=1)
    return {
        "text": prompt,
        "tokens": [tokens[i] for i in order[:SINGLE].tolist()],
        "logits": [round(v, 6) for v in values[:SINGLE].tolist()],
        "tail": [
            [round(m, 4), n] for m, n in zip(means.tolist(), counts.tolist(), strict=True) if n
        ],
    }
