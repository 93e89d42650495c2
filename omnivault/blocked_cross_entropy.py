r"""Cross-entropy of a last layer, block by block: the logits of all classes never stand together.

With the hidden rows :math:`x \in \mathbb{R}^{N \times D}` and the weights
:math:`W \in \mathbb{R}^{V \times D}` of a last layer, the loss is

.. math::

    L = \frac{1}{N} \sum_n \bigl(\operatorname{LSE}(z_n) - z_{n y_n}\bigr), \qquad z = x W^\top .

For a vocabulary of 50,000 the N V numbers of z, of their logarithms and of their gradients are most
of what training a small model holds. None of them is needed whole. The pairs of
:mod:`omnivault.online_softmax` gather LSE from blocks of classes; and with
:math:`G = (p - \text{one-hot}(y)) / N`, the gradients are

.. math::

    \frac{\partial L}{\partial x} = \sum_B G_B W_B, \qquad
    \frac{\partial L}{\partial W_B} = G_B^\top x,

where a block B asks for its own logits alone, which are multiplied out a second time. Sources:
Milakov and Gimelshein (2018) for the pairs; Wijmans et al. (2024), "Cut your losses in
large-vocabulary language models", for the loss, there as one fused kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from omnivault._checks import (
    anywhere,
    check_dense,
    check_floating,
    check_integer,
    promoted,
    shown,
    some_values,
)
from omnivault.online_softmax import SoftmaxStatistics, block_statistics, combine

__all__ = ["blocked_cross_entropy"]


def blocked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    block: int = 1024,
    ignore_index: int = -100,
) -> Tensor:
    r"""Mean cross-entropy of the logits ``hidden @ weight.T``, which are never held at once.

    The same number as ``F.cross_entropy(hidden @ weight.T, labels)``, with the same gradients, up
    to rounding, for rows in a matrix. Beside the gradients themselves, the backward pass holds one
    block of N ``block`` numbers, and the forward pass a few; the usual loss holds three times N V.

    Parameters
    ----------
    hidden
        The inputs of the last layer, shape ``(..., D)``, any floating dtype.
    weight
        Its weights, shape ``(V, D)``, any floating dtype: one row for each class. A bias is one
        more column, beside one more 1 in every row of ``hidden``.
    labels
        A class for each row of ``hidden``, int64 of shape ``(...)``, in ``[0, V - 1]``; or
        ``ignore_index``.
    block
        Classes a block, at least 1; the last block may be shorter. It changes memory and time, and
        the result in its last digits.
    ignore_index
        Rows with this label are left out: of the mean, and of the computation.

    Returns
    -------
    Tensor
        The mean over the N rows that count, in nats: a scalar, of the dtype to which those of
        ``hidden`` and ``weight`` promote. It is computed in float32 at least, logits included, in
        ``torch.autocast`` too; its gradients have the dtypes of their tensors.

    Raises
    ------
    TypeError
        ``hidden`` or ``weight`` is no dense tensor of a floating dtype, ``labels`` none of int64,
        or ``block`` or ``ignore_index`` no int.
    ValueError
        The shapes do not fit, a label is no class, every row is to be ignored (the usual loss
        returns nan), ``block`` is less than 1, or ``ignore_index`` is no int64.
    RuntimeError
        A second derivative is asked for (``create_graph=True``), a forward one, or a transform of
        ``torch.func``: only the gradients of ``backward`` are written out.

    Examples
    --------
    >>> hidden = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> labels = torch.tensor([0, 2])
    >>> blocked_cross_entropy(hidden, weight, labels, block=2)
    tensor(0.8103)
    >>> torch.nn.functional.cross_entropy(hidden @ weight.T, labels)
    tensor(0.8103)
    """
    _check(hidden, weight, labels)
    block = check_integer(block, "block", 1024)
    if block < 1:
        raise ValueError(f"block must be at least 1, got {shown(block)}; 1024 is common")
    ignore_index = check_integer(ignore_index, "ignore_index", -100)
    if not -(2**63) <= ignore_index < 2**63:
        raise ValueError(
            f"ignore_index must lie in [-2**63, 2**63), as labels do, got {shown(ignore_index)}; "
            "-100 is usual"
        )
    rows, labels = hidden.reshape(labels.numel(), hidden.shape[-1]), labels.flatten()
    ignored = labels == ignore_index
    if anywhere(ignored):
        rows, labels = rows[~ignored], labels[~ignored]
    if len(labels) == 0:
        raise ValueError(
            f"no row is left to average, got {len(ignored)} labels, each of them ignore_index = "
            f"{ignore_index}; leave such a batch out"
        )
    wrong = (labels < 0) | (labels >= len(weight))
    if anywhere(wrong):
        raise ValueError(
            f"labels must lie in [0, {len(weight) - 1}] or be ignore_index = {ignore_index}, got "
            f"{some_values(labels[wrong])}; classes count from 0"
        )
    loss: Tensor = _MeanLoss.apply(rows, weight, labels, block)  # type: ignore[no-untyped-call]
    return loss


class _MeanLoss(torch.autograd.Function):
    """Loss of checked rows; kept for the gradients are two numbers a row instead of V."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, labels: Tensor, block: int) -> Tensor:
        dtype = promoted(rows, weight)
        x = rows.to(torch.float32 if dtype.itemsize < 4 else dtype)
        # The identity of the monoid, and no logit of a label yet.
        pair = SoftmaxStatistics(x.new_full((len(x),), -torch.inf), x.new_zeros(len(x)))
        of_label = x.new_zeros(len(x))
        for start in range(0, len(weight), block):
            z = _product(x, weight[start : start + block].to(x.dtype).T)
            pair = combine(pair, block_statistics(z))
            inside, place = _in_block(labels, start, z)
            of_label = torch.where(inside, z.gather(1, place).squeeze(1), of_label)
        ctx.save_for_backward(rows, weight, labels, *pair)
        ctx.block = block
        # A difference of logits first: their level may be high, and the loss is not.
        return ((pair.maximum - of_label) + pair.total.log()).mean().to(dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # PyTorch would take the gradients for constants
            raise RuntimeError(
                "blocked_cross_entropy has first derivatives only, and was differentiated with "
                "create_graph=True; F.cross_entropy(hidden @ weight.T, labels) has others"
            )
        rows, weight, labels, maximum, total = ctx.saved_tensors
        x = rows.to(maximum.dtype)
        for_rows, for_weight = ctx.needs_input_grad[:2]
        of_rows = torch.zeros_like(x) if for_rows else None
        of_weight = torch.empty_like(weight) if for_weight else None
        share = upstream.to(x.dtype) / len(x)
        for start in range(0, len(weight), ctx.block):
            w = weight[start : start + ctx.block].to(x.dtype)
            g = _product(x, w.T)
            inside, place = _in_block(labels, start, g)
            # From here on g is (p - one-hot) / N, in the memory of the logits.
            g.sub_(maximum.unsqueeze(1)).exp_().mul_((share / total).unsqueeze(1))
            g.scatter_add_(1, place, torch.where(inside, -share, 0.0).unsqueeze(1))
            if of_rows is not None:
                of_rows.addmm_(g, w)
            if of_weight is not None:
                of_weight[start : start + ctx.block] = _product(g.T, x)
            del g  # or it would be held until the next one is there
        return None if of_rows is None else of_rows.to(rows.dtype), of_weight, None, None


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product in the dtype of its factors: torch.autocast spares one that has an ``out``."""
    return torch.mm(a, b, out=a.new_empty(a.shape[0], b.shape[1]))


def _in_block(labels: Tensor, start: int, z: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each label lies in a block of logits, and a column of it: the label's, if it does."""
    column = labels - start
    inside = (column >= 0) & (column < z.shape[1])
    return inside, column.clamp(0, z.shape[1] - 1).unsqueeze(1)


def _check(hidden: Tensor, weight: Tensor, labels: Tensor) -> None:
    for x, name in ((hidden, "hidden"), (weight, "weight")):
        check_floating(x, name)
    if not isinstance(labels, Tensor) or labels.dtype is not torch.int64:
        raise TypeError(
            f"labels must be a tensor of dtype torch.int64, got {shown(labels)}; "
            "one class index for each row, labels.long()"
        )
    check_dense(labels, "labels")
    fit = hidden.ndim > 0 and weight.ndim == 2 and len(weight) > 0
    if not fit or hidden.shape[-1] != weight.shape[1] or hidden.shape[:-1] != labels.shape:
        raise ValueError(
            "needed are hidden rows (..., D), a weight (V, D) with V >= 1 and labels (...), got "
            f"shapes {tuple(hidden.shape)}, {tuple(weight.shape)} and {tuple(labels.shape)}; "
            "weight is that of torch.nn.Linear(D, V)"
        )
