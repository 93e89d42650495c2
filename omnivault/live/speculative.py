"""Live figure: speculative sampling from a target by the proposals of a draft."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from omnivault.live.figure import LiveFigure


def speculative(target: Tensor, draft: Tensor, tokens: Sequence[str]) -> LiveFigure:
    """Draw from a target distribution p with the proposals of a draft distribution q.

    A token x drawn from q is accepted with probability min(1, p(x) / q(x)); otherwise one is drawn
    from the residual, the positive part of p - q normalized. The token that comes out has the
    distribution p (Leviathan et al., 2023; Chen et al., 2023), and the probability of acceptance
    is the sum of min(p, q), one minus the total variation distance.

    Parameters
    ----------
    target, draft
        Logits of the two models for the same K tokens, shape ``(K,)``, K from 2 to 8.
    tokens
        The K tokens as text.

    Returns
    -------
    LiveFigure
        Its values: ``p`` and ``q``; their ``overlap``, the probability of acceptance; the
        ``residual``, all zeros if p = q; counts for each token of the draws in which it was
        ``accepted``, ``rejected`` and ``redrawn`` from the residual, and ``emitted``, accepted
        plus redrawn; and the ``last`` draw, ``proposed`` and ``emitted`` by index.

    Raises
    ------
    TypeError, ValueError
        The logits are no floating-point tensors, the shapes do not fit, or a logit is not finite.

    Examples
    --------
    >>> import torch
    >>> target, draft = torch.tensor([0.5, 0.3, 0.2]).log(), torch.tensor([0.2, 0.3, 0.5]).log()
    >>> values, = speculative(target, draft, ["a", "b", "c"]).values({"draws": 1000})
    >>> round(values["overlap"], 3), [round(float(r), 3) for r in values["residual"]]
    (0.7, [1.0, 0.0, 0.0])
    >>> values["emitted"]
    [494, 301, 205]
    """
    for name, logits in (("target", target), ("draft", draft)):
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor of logits, got {logits!r}")
        if logits.shape != (len(tokens),) or not 2 <= len(tokens) <= 8:
            raise ValueError(
                f"{name} must have the shape ({len(tokens)},) of the tokens, of which there must "
                f"be 2 to 8; got {tuple(logits.shape)}"
            )
        if not bool(logits.isfinite().all()):
            raise ValueError(
                f"the logits of {name} must be finite, got {logits.tolist()}; leave out a token "
                "that is ruled out, or give it a logit of -30"
            )
    return LiveFigure(
        "speculative",
        "Speculative sampling from a target by the proposals of a draft",
        {
            "target": target.double().tolist(),
            "draft": draft.double().tolist(),
            "tokens": list(tokens),
        },
    )
