r"""Calibration: what a classifier calls 80% probable should happen in 80% of the cases.

A classifier with probabilities p claims its choice, the class of the largest probability, with
the *confidence* max p. In a group of claims the mean confidence should be the share that is right;
the reliability data and the expected calibration error measure by how much it is not, and one
number, the temperature, mends most of it (Guo, Pleiss, Sun and Weinberger, 2017).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from omnivault._checks import (
    at_least_float32,
    check_dense,
    check_distribution,
    check_floating,
    check_integer,
    check_labels,
    check_logits,
    shown,
    some_values,
)

__all__ = ["ReliabilityBins", "expected_calibration_error", "fit_temperature", "reliability_bins"]


class ReliabilityBins(NamedTuple):
    """Claims grouped by their size, in tensors of shape ``(bins,)``.

    Where a group is empty, ``counts`` is 0 and the others are nan.
    """

    counts: Tensor
    """Claims in the group, int64."""
    claimed: Tensor
    """Their mean probability."""
    frequency: Tensor
    """The share of them that came true."""


def reliability_bins(claimed: Tensor, came_true: Tensor, bins: int = 15) -> ReliabilityBins:
    """Group claims by their probability and compare each group with what happened.

    Parameters
    ----------
    claimed
        Probabilities claimed for N events, shape ``(N,)``, floating; for a classifier, those of
        its choices, ``probs.amax(-1)``.
    came_true
        Whether each event happened, booleans of shape ``(N,)``.
    bins
        Number of groups of equal width: [0, 1/bins), [1/bins, 2/bins), ..., the last with its
        upper end. The borders are rounded to the dtype of the claims, as a claim of 0.29 is.

    Returns
    -------
    ReliabilityBins
        ``counts``, ``claimed`` and ``frequency`` of each group, the last two in float64.

    Raises
    ------
    TypeError
        ``claimed`` is not floating, ``came_true`` is not boolean, or ``bins`` is not an int.
    ValueError
        The shapes differ or are empty, a claim lies outside [0, 1], or ``bins`` is not a positive
        integer.

    Notes
    -----
    The data of a reliability diagram: DeGroot and Fienberg (1983), Niculescu-Mizil and Caruana
    (2005).

    Examples
    --------
    >>> claimed = torch.tensor([0.75, 0.75, 0.75, 0.75, 0.25])
    >>> came_true = torch.tensor([True, True, True, False, False])
    >>> reliability_bins(claimed, came_true, bins=2)._asdict()  # doctest: +NORMALIZE_WHITESPACE
    {'counts': tensor([1, 4]), 'claimed': tensor([0.2500, 0.7500], dtype=torch.float64),
     'frequency': tensor([0.0000, 0.7500], dtype=torch.float64)}
    """
    for name, value in (("claimed", claimed), ("came_true", came_true)):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{name} must be a torch.Tensor, got {shown(value)}; use torch.tensor(...)"
            )
        check_dense(value, name)
    if not claimed.is_floating_point():
        raise TypeError(f"claimed must have a floating dtype, got {claimed.dtype}; try .float()")
    if came_true.dtype is not torch.bool:
        raise TypeError(
            f"came_true must be boolean, got {came_true.dtype} with values "
            f"{some_values(came_true)}; compare the choice with the label, probs.argmax(-1) == "
            "labels"
        )
    if claimed.ndim != 1 or claimed.shape != came_true.shape or len(claimed) == 0:
        raise ValueError(
            "claimed and came_true must be two vectors of one length >= 1, got shapes "
            f"{tuple(claimed.shape)} and {tuple(came_true.shape)}; flatten them"
        )
    bins = check_integer(bins, "bins", 10)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {shown(bins)}")
    wide = at_least_float32(claimed.detach())
    outside = wide[~((wide >= 0) & (wide <= 1))]
    if len(outside):
        raise ValueError(
            f"claims must lie in [0, 1], got {some_values(outside)}; "
            "turn logits into probabilities with softmax(z) first"
        )
    # Not the product of claim and bins, which rounds 0.29 * 100 to below 29.
    borders = torch.arange(1, bins, dtype=torch.float64, device=claimed.device) / bins
    borders = borders.to(claimed.dtype).double()
    claimed = wide.double()
    group = torch.bucketize(claimed.contiguous(), borders, right=True)
    counts = torch.bincount(group, minlength=bins)
    return ReliabilityBins(
        counts,
        torch.bincount(group, claimed, bins) / counts,
        torch.bincount(group, came_true.double(), bins) / counts,
    )


def expected_calibration_error(probs: Tensor, labels: Tensor, bins: int = 15) -> float:
    r"""Mean distance of confidence and accuracy over groups of equal confidence.

    .. math::

        \mathrm{ECE} = \sum_b \frac{n_b}{N} \, \lvert \mathrm{acc}_b - \mathrm{conf}_b \rvert,

    where group b holds the :math:`n_b` inputs whose confidence max p falls in it,
    :math:`\mathrm{conf}_b` is their mean confidence and :math:`\mathrm{acc}_b` the share of them
    whose label is the class of the largest probability.

    Parameters
    ----------
    probs
        Probabilities, shape ``(N, K)``, any floating dtype.
    labels
        The true classes, int64 of shape ``(N,)`` in [0, K).
    bins
        Number of groups.

    Returns
    -------
    float
        Between 0 and 1. It measures the confidence of the choice and nothing else, it changes
        with ``bins``, and for a finite sample it is above 0 even for a calibrated model.

    Raises
    ------
    TypeError, ValueError
        ``probs`` is no distribution, ``labels`` are no classes, or as :func:`reliability_bins`.

    Notes
    -----
    Naeini, Cooper and Hauskrecht (2015), in the form of Guo et al. (2017).

    Examples
    --------
    >>> probs = torch.tensor([[0.9, 0.1], [0.9, 0.1]])
    >>> round(expected_calibration_error(probs, torch.tensor([0, 1])), 4)  # sure, and half right
    0.4
    """
    check_floating(probs, "probabilities")
    wide = at_least_float32(probs)
    one = wide.ndim == 1 or (wide.ndim == 2 and wide.shape[1] == 1)
    if one and bool(((wide.sum(-1) - 1).abs() > 0.05).any()):
        raise ValueError(
            f"probs must have the shape (N, K), got {tuple(probs.shape)} with values "
            f"{some_values(probs)}; of one probability p for each input make two classes, "
            "torch.stack([1 - p, p], -1)"
        )
    check_distribution(probs, -1)
    check_labels(probs, labels)
    confidence, choice = wide.max(-1)
    # A rounded probability may exceed 1 by a unit in the last place. In the format of probs, in
    # which the borders of the groups are rounded too.
    claimed = confidence.clamp(max=1.0).to(probs.dtype)
    groups = reliability_bins(claimed, choice == labels, bins)
    gaps = (groups.frequency - groups.claimed).abs().nan_to_num()
    return float((groups.counts * gaps).sum() / len(labels))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    r"""Temperature at which the labels are most likely.

    Minimizes the mean negative log-likelihood of ``labels`` under softmax_T(logits), with LBFGS
    and, for the last digits, Newton's method on its derivative. In :math:`\beta = 1/T` it is
    convex, and its derivative is the mean over the rows of
    :math:`\mathbb{E}_p[z] - z_y`. A minimum at a positive finite T therefore exists, and is the
    only one, if and only if the mean logit of the labels lies strictly between the mean logit of
    all classes and the mean of the largest logits.

    Parameters
    ----------
    logits
        Shape ``(N, K)``, any floating dtype, finite; computed in float64. Take data that the
        model was not trained on.
    labels
        The true classes, int64 of shape ``(N,)`` in [0, K).

    Returns
    -------
    float
        T > 0, in the units of the logits.

    Raises
    ------
    TypeError
        ``logits`` are not floating, or ``labels`` are not int64.
    ValueError
        The shapes do not fit, a logit is not finite, the rows are probabilities, a label is no
        class, or there is no finite positive optimum: the labels have the largest logits (T -> 0
        is best), or no temperature makes them likelier than uniform guessing (T -> infinity).

    Notes
    -----
    Guo, Pleiss, Sun and Weinberger (2017).

    Examples
    --------
    >>> logits = torch.tensor([[4.0, 0.0]]).expand(4, 2)
    >>> round(fit_temperature(logits, torch.tensor([0, 0, 0, 1])), 4)  # 4 / log 3
    3.641
    """
    check_logits(logits, -1)
    check_labels(logits, labels)
    logits = at_least_float32(logits)
    if not logits.isfinite().all():
        raise ValueError(
            f"logits must be finite, got {some_values(logits[~logits.isfinite()])}; "
            "leave the classes out that no row allows"
        )
    if _are_probabilities(logits):
        raise ValueError(
            f"every row is >= 0 and sums to 1, as probabilities do, got a row "
            f"{some_values(logits[0])}; pass the logits, or probs.log(). Logits that happen to be "
            "like that may have any constant added"
        )
    # Also inside torch.inference_mode, whose tensors autograd refuses.
    with torch.inference_mode(False), torch.enable_grad():
        return _most_likely_temperature(logits.detach().clone().double(), labels.clone())


def _are_probabilities(rows: Tensor) -> bool:
    """Whether all rows sum to 1; rows of zeros and ones may be logits of an example."""
    sums = (rows >= 0).all() & ((rows.double().sum(-1) - 1).abs() < 1e-2).all()
    return bool(sums & ((rows > 0) & (rows < 1)).any())


def _most_likely_temperature(z: Tensor, labels: Tensor) -> float:
    # Halves, and then numbers up to 1: differences and sums of the largest numbers overflow. By
    # powers of two, so that nothing is rounded.
    z = z / 2 - z.amax(-1, keepdim=True) / 2
    exponent = max(int(torch.frexp(z.abs().amax()).exponent), -1000)
    z = z * 2.0**-exponent
    of_labels, of_all = z.gather(-1, labels.unsqueeze(-1)).mean(), z.mean()
    if of_labels == 0:
        raise ValueError(
            "every label has a largest logit of its row, so the likelihood does not fall as T -> 0 "
            "and no temperature is best; fit on held-out data where the model errs"
        )
    if of_labels <= of_all:
        below, all_below = (-math.ldexp(mean, exponent + 1) for mean in (of_labels, of_all))
        raise ValueError(
            f"the labels' logits, on average {below:.6g} below the largest, are not above "
            f"those of all classes, {all_below:.6g} below: no temperature makes the labels "
            "likelier than uniform guessing (T -> infinity); check that labels and logits are of "
            "the same rows"
        )
    # The first step of Newton's method from 1/T = 0: exact where the labels are nearly uniform,
    # and of the right order elsewhere. In this unit the fit starts at 1.
    unit = z.var(-1, correction=0).mean() / (of_labels - of_all)
    z = z / unit
    log_beta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_beta],
        max_iter=200,
        tolerance_grad=1e-12,
        tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(z * log_beta.exp(), labels)
        value.backward()
        return value

    optimizer.step(loss)
    beta = log_beta.detach().exp()
    # LBFGS stops where the loss no longer changes. Its derivative, which has a simple zero, still
    # does, and Newton's method uses up its digits: in a step or two, unless the loss is very flat.
    step = math.inf
    for _ in range(1000):
        p = torch.softmax(beta * z, -1)
        mean = (p * z).sum(-1, keepdim=True)
        slope = mean.mean() - z.gather(-1, labels.unsqueeze(-1)).mean()
        curvature = (p * (z - mean) ** 2).sum(-1).mean()
        before, beta = beta, (beta - slope / curvature).clamp(beta / 2, beta * 2)
        # A small step that is not smaller than the last one is rounding.
        last, step = step, float((beta - before).abs() / beta)
        if step <= 1e-12 or (step < 1e-3 and step >= last):
            break
    return math.ldexp(float(unit / beta), exponent + 1)
