"""Live figure: where softmax overflows or loses a class, in four number formats."""

from __future__ import annotations

from omnivault.live.figure import LiveFigure


def overflow() -> LiveFigure:
    """Map where softmax of K logits, one z_1 and the others z_2, fails in a number format.

    Each operation is that of float64 with its result rounded to the format, to the nearest number
    and half to even, subnormal numbers kept; the K - 1 equal terms are summed by one
    multiplication.

    Returns
    -------
    LiveFigure
        Its values: the ``inputs`` of exp, the two ``exps``, their ``sum`` and both ``probs`` as
        computed in the format, where "inf" and "nan" stand for what no JSON number can be; the
        exact ``log_probs`` and, as ``log_rest``, those of all other classes together; the
        ``outcome``, which is "r" (all probabilities are finite and none is 0 or 1), "z" (some
        are), "o" (exp or the sum is infinite) or "n" (all exps are 0, and 0/0 is nan). The ``map``
        has the outcomes for logits between minus and plus ``reach``, rows from the largest z_2
        down, and ``shares`` says how much of it each has.

    Examples
    --------
    >>> raw, shifted = overflow().values({"z1": 90, "z2": 80}, {"z1": 90, "z2": 80, "shift": True})
    >>> raw["exps"][0], raw["probs"], raw["outcome"]
    ('inf', ['nan', 0], 'o')
    >>> [round(p, 6) for p in shifted["probs"]], shifted["outcome"]
    ([0.999592, 4.5e-05], 'r')
    """
    return LiveFigure("overflow", "Where softmax fails, in four number formats", {})
