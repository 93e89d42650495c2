"""Live figure: reliability of a classifier under a temperature."""

from __future__ import annotations

from torch import Tensor

from omnivault._checks import check_labels, check_logits, some_values
from omnivault.live.figure import LiveFigure

MOST = 10_000
"""So many logits a page can hold, and the browser evaluate at every temperature."""


def reliability(logits: Tensor, labels: Tensor) -> LiveFigure:
    """Reliability diagram of predictions under a temperature, with NLL and ECE.

    Parameters
    ----------
    logits
        Shape ``(N, K)``, any floating dtype, finite, at most 10,000 numbers; rounded to three
        decimals. Take data that the model was not trained on.
    labels
        The true classes, int64 of shape ``(N,)`` in [0, K).

    Returns
    -------
    LiveFigure
        Its values: the ``counts`` of the bins, the mean confidence ``claimed`` in each, one minus
        it as ``doubted``, the share ``accurate``, and the standard ``errors`` that it would have if
        the claim were true (None where a bin is empty); ``accuracy``, mean ``confidence``, one
        minus it as ``doubt``, ``nll`` in nats and ``ece`` of all; the ``best`` temperature on
        offer, that of the smallest NLL; and for each temperature on offer both measures,
        ``nll_curve`` and ``ece_curve``.

    Raises
    ------
    TypeError
        ``logits`` are not floating, or ``labels`` are not int64.
    ValueError
        The shapes do not fit, there are too many logits, one is not finite, or a label is no
        class.

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[2.0, 0.0]]).expand(4, 2)
    >>> figure = reliability(logits, torch.tensor([0, 0, 0, 1]))
    >>> values, = figure.values({"bins": "5"})
    >>> values["counts"], values["accurate"], round(values["claimed"][4], 3)
    ([0, 0, 0, 0, 4], [None, None, None, None, 0.75], 0.881)
    """
    check_logits(logits, -1)
    check_labels(logits, labels)
    if logits.numel() > MOST:
        raise ValueError(
            f"at most {MOST:,} logits fit into a page, got {len(logits):,} rows of "
            f"{logits.shape[1]:,}; take the first {MOST // logits.shape[1]:,} rows, or a sample"
        )
    if not bool(logits.isfinite().all()):
        raise ValueError(
            f"logits must be finite, got {some_values(logits[~logits.isfinite()])}; "
            "leave the classes out that no row allows"
        )
    return LiveFigure(
        "reliability",
        "Reliability of a classifier under a temperature",
        {
            "logits": [[round(z, 3) for z in row] for row in logits.double().tolist()],
            "labels": labels.tolist(),
        },
    )
