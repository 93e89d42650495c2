"""Live figure: temperature and cuts in an order of the reader's own, beside another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from omnivault.live.figure import LiveFigure
from omnivault.live.rows import dials_of, summaries


def cuts(
    logits: Mapping[str, Tensor],
    tokens: Sequence[str],
    cards: Sequence[str] = ("top_k", "top_p", "min_p", "typical_p", "xtc"),
) -> LiveFigure:
    """Show what a model's next token becomes when temperature and cuts change places.

    Each card acts on what the cards before it left: the temperature divides the logits where it
    stands, and a cut after it sees the divided ones. A card whose dial is off does nothing, as the
    temperature 1. The same cards are played a second time in another order, and the total variation
    distance of the two laws is shown. The vocabulary is held as :func:`next_token` holds it.

    Parameters
    ----------
    logits
        For each prompt, by its text, the logits of the next token, shape ``(V,)``, V > 100.
    tokens
        The V tokens as text.
    cards
        Names of truncations, of :data:`omnivault.sampling.TRUNCATIONS`, that get a card, in their
        order at the start; the temperature has the first one.

    Returns
    -------
    LiveFigure
        Its values: for the reader's ``own`` order and for the ``other`` one, the ``order``; the
        ``steps``, each card that is on with the number of tokens it leaves; how many are ``kept``
        in the end, and their ``ranks`` from 0 as intervals without their ends; ``probs`` of the
        eight tokens that the model finds most probable and ``rest`` of all others, and
        ``log_probs`` of these nine (None where nothing is left). Then the total variation
        ``distance``, and ``log_distance``, its logarithm and that of 1 minus it.

    Raises
    ------
    ValueError
        There is no prompt, or the shapes do not fit, or a logit is not finite, or a card is no
        truncation or is there twice.

    Examples
    --------
    Top-k and min-p change places without a trace, top-p and the temperature do not.

    >>> import torch
    >>> logits = torch.linspace(3.0, -3.0, 400, dtype=torch.float64)
    >>> figure = cuts({"Once": logits}, [f"token {i}" for i in range(400)])
    >>> off = {"temperature": 1, "top_p": 1, "min_p": 0}
    >>> for state in off | {"top_k": 100, "min_p": 0.5}, off | {"top_p": 0.5, "temperature": 2}:
    ...     (values,) = figure.values(state)
    ...     values["own"]["kept"], values["other"]["kept"], round(values["distance"], 3)
    (47, 47, 0)
    (86, 46, 0.386)
    """
    dials = {dial["name"]: dial for dial in dials_of(cards)}
    if len(dials) < len(cards):
        raise ValueError(f"each card may be there once, got {list(cards)}")
    return LiveFigure(
        "cuts",
        "Temperature and cuts, in an order of your own and in another one",
        {
            "prompts": summaries(logits, tokens),
            "vocabulary": len(tokens),
            "cards": [dials[name] for name in cards],
        },
    )
