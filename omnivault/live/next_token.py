"""Live figure: the next token of a language model under temperature, truncation and draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from omnivault.live.figure import LiveFigure
from omnivault.live.rows import dials_of, summaries


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
    >>> import torch
    >>> logits = torch.linspace(3.0, -3.0, 400, dtype=torch.float64)
    >>> figure = next_token({"Once": logits}, [f"token {i}" for i in range(400)])
    >>> values, = figure.values({"temperature": 1, "top_k": 2})
    >>> [round(p, 3) for p in values["probs"]][:3], values["kept"]
    ([0.504, 0.496, 0], 2)
    """
    return LiveFigure(
        "next_token",
        "The next token of a language model, under temperature and truncation",
        {
            "prompts": summaries(logits, tokens),
            "vocabulary": len(tokens),
            "dials": dials_of(dials),
        },
    )
