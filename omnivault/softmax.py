r"""Softmax with temperature, its logarithm, its normalizer and its derivatives.

For logits :math:`z \in \mathbb{R}^K` and a temperature :math:`T > 0`

.. math::

    \mathrm{softmax}_T(z)_i = \frac{e^{z_i / T}}{\sum_k e^{z_k / T}}, \qquad
    \mathrm{LSE}_T(z) = T \log \sum_k e^{z_k / T}.

Every function here subtracts the largest logit first. By the translation property this changes
nothing in exact arithmetic, and in floating point it keeps every exponent at or below zero, so
no exponential overflows. Half-precision logits (float16, bfloat16) are computed in float32 and
rounded once at the end, as PyTorch does.

What is not a finite logit is treated as PyTorch treats it:

================== ============ ================ =============
logits             ``softmax``  ``log_softmax``  ``logsumexp``
================== ============ ================ =============
some ``-inf``      0 there      ``-inf`` there   left out
all ``-inf``       all nan      all nan          ``-inf``
any ``+inf``       all nan      all nan          ``+inf``
any nan            all nan      all nan          nan
================== ============ ================ =============

A row of ``-inf`` alone rules every class out, and no distribution does that: nan says so.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from omnivault._checks import (
    at_least_float32,
    broadcasts_to,
    check_logits,
    check_temperature,
    shown,
)

__all__ = [
    "Softmax",
    "SoftmaxFunction",
    "log_softmax",
    "logsumexp",
    "softmax",
    "softmax_hessian",
    "softmax_jacobian",
    "softmax_vjp",
]


def softmax(z: Tensor, dim: int = -1, *, temperature: float | Tensor = 1.0) -> Tensor:
    r"""Turn logits into probabilities.

    Parameters
    ----------
    z
        Logits of any shape and any floating dtype.
    dim
        The dimension that holds the K classes; the others are batch dimensions.
    temperature
        T > 0, in the units of the logits: a number, or a tensor with one for each row, of the shape
        of ``z`` without ``dim`` (or one that broadcasts to it). Below 1 it sharpens, above 1 it
        flattens. For its gradient see :class:`SoftmaxFunction`.

    Returns
    -------
    Tensor
        Probabilities, shape and dtype of ``z``, summing to one along ``dim``.

    Raises
    ------
    TypeError
        ``z`` is not a tensor of a floating dtype, or an argument is not a number.
    ValueError
        ``dim`` does not exist or is empty, or ``temperature`` has another shape or is not positive,
        finite and within what the dtype can hold.

    Notes
    -----
    The name and the use as an output layer are from Bridle (1990); the temperature is that of
    Boltzmann's distribution, brought to neural networks by Ackley, Hinton and Sejnowski (1985).

    Examples
    --------
    >>> softmax(torch.tensor([1.0, 5.0, 6.0, 3.0]))
    tensor([0.0047, 0.2583, 0.7020, 0.0350])
    >>> softmax(torch.tensor([1.0, 5.0, 6.0, 3.0]), temperature=5.0)
    tensor([0.1345, 0.2993, 0.3656, 0.2006])
    >>> softmax(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), temperature=torch.tensor([0.5, 2.0]))
    tensor([[0.1192, 0.8808],
            [0.3775, 0.6225]])
    """
    weights = _shifted(z, dim, temperature).exp()
    return (weights / weights.sum(dim, keepdim=True)).to(z.dtype)


def log_softmax(z: Tensor, dim: int = -1, *, temperature: float | Tensor = 1.0) -> Tensor:
    r"""Logarithm of :func:`softmax`, accurate where the probability itself underflows to zero.

    Computes :math:`z_i / T - \log \sum_k e^{z_k / T}` and never the logarithm of a rounded
    probability. Parameters and errors are those of :func:`softmax`.

    Returns
    -------
    Tensor
        Log-probabilities in nats, shape and dtype of ``z``.

    Examples
    --------
    >>> z = torch.tensor([0.0, -200.0])
    >>> softmax(z).log(), log_softmax(z)
    (tensor([0., -inf]), tensor([   0., -200.]))
    """
    shifted = _shifted(z, dim, temperature)
    return (shifted - shifted.exp().sum(dim, keepdim=True).log()).to(z.dtype)


def logsumexp(z: Tensor, dim: int = -1, *, temperature: float | Tensor = 1.0) -> Tensor:
    r"""Smooth maximum :math:`\mathrm{LSE}_T(z) = T \log \sum_k e^{z_k / T}`.

    It exceeds the maximum by at most :math:`T \log K`, and its gradient is
    :func:`softmax` at the same temperature. Parameters and errors are those of :func:`softmax`.

    Returns
    -------
    Tensor
        Shape of ``z`` without ``dim``, dtype of ``z``, units of the logits.

    Notes
    -----
    The shifted form and its error analysis: Blanchard, Higham and Higham (2021).

    Examples
    --------
    >>> logsumexp(torch.tensor([1000.0, 1000.0]))  # 1000 + log 2
    tensor(1000.6932)
    """
    check_logits(z, dim)
    divisor = check_temperature(temperature, z, dim)
    z32 = at_least_float32(z)
    largest = z32.detach().amax(dim, keepdim=True)
    # An infinite maximum (all -inf, or some +inf) cannot be subtracted: inf - inf is nan.
    largest = torch.where(largest.isinf(), 0.0, largest)
    total = ((z32 / 2 - largest / 2) / (divisor / 2)).exp().sum(dim, keepdim=True)
    return (largest + divisor * total.log()).squeeze(dim).to(z.dtype)


def softmax_jacobian(z: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    r"""Jacobian :math:`J_{ij} = \partial p_i / \partial z_j = p_i (\delta_{ij} - p_j) / T`.

    Parameters
    ----------
    z
        Logits of shape ``(..., K)``, any floating dtype.
    temperature
        T > 0, a number or one for each row, as in :func:`softmax`.

    Returns
    -------
    Tensor
        Shape ``(..., K, K)``, dtype of ``z``: symmetric, positive semidefinite, rows summing to
        zero.

    Raises
    ------
    TypeError, ValueError
        As :func:`softmax`.

    Examples
    --------
    >>> softmax_jacobian(torch.tensor([0.0, 0.0]))
    tensor([[ 0.2500, -0.2500],
            [-0.2500,  0.2500]])
    """
    check_logits(z)
    divisor = check_temperature(temperature, z)
    p = softmax(at_least_float32(z), temperature=temperature)
    products = p.unsqueeze(-1) * p.unsqueeze(-2)
    off_diagonal = products - torch.diag_embed(products.diagonal(dim1=-2, dim2=-1))
    # On the diagonal p_i (1 - p_i) = sum of p_i p_j over j != i. The sum keeps its digits where
    # p_i rounds to 1 and 1 - p_i to 0.
    jacobian = torch.diag_embed(off_diagonal.sum(-1)) - off_diagonal
    return (jacobian / _for_each_row(divisor, 1)).to(z.dtype)


def softmax_hessian(z: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    r"""Second derivatives :math:`\partial^2 p_i / \partial z_j \partial z_k` of softmax.

    With p = softmax_T(z) they are

    .. math::

        H_{ijk} = \frac{p_i}{T^2} \bigl[(\delta_{ij} - p_j)(\delta_{ik} - p_k)
                  - p_j (\delta_{jk} - p_k)\bigr],

    which is also the third derivative of :func:`logsumexp`.

    Parameters
    ----------
    z
        Logits of shape ``(..., K)``, any floating dtype.
    temperature
        T > 0, a number or one for each row, as in :func:`softmax`.

    Returns
    -------
    Tensor
        Shape ``(..., K, K, K)``, dtype of ``z``: unchanged when its three last dimensions are
        permuted, and summing to zero along each. It has K^3 entries; for training take
        :func:`softmax_vjp`, which has K.

    Raises
    ------
    TypeError, ValueError
        As :func:`softmax`.

    Examples
    --------
    >>> softmax_hessian(torch.tensor([0.0, 0.0])).abs().max()  # p(1 - p) is flat at 1/2
    tensor(0.)
    >>> softmax_hessian(torch.tensor([0.0, -20.0]))[0, 0]
    tensor([-2.0612e-09,  2.0612e-09])
    """
    check_logits(z)
    divisor = _for_each_row(check_temperature(temperature, z), 2)
    p = softmax(at_least_float32(z), temperature=temperature)
    others = p.unsqueeze(-2).expand(*p.shape, p.shape[-1])
    others = others - torch.diag_embed(others.diagonal(dim1=-2, dim2=-1))
    # The matrix delta_ij - p_j, with 1 - p_i as the sum of the others, as in the Jacobian.
    moved = torch.diag_embed(others.sum(-1)) - others
    products = moved.unsqueeze(-1) * moved.unsqueeze(-2)
    pairs = (p.unsqueeze(-1) * moved).unsqueeze(-3)
    hessian = p[..., None, None] * (products - pairs) / divisor / divisor
    return hessian.to(z.dtype)


def softmax_vjp(
    p: Tensor, v: Tensor, dim: int = -1, *, temperature: float | Tensor = 1.0
) -> Tensor:
    r"""Vector-Jacobian product :math:`v^\top J = p \odot (v - \langle p, v\rangle) / T`.

    What backpropagation needs: if ``v`` is the gradient of a loss for the probabilities, this is
    its gradient for the logits. It takes O(K) operations and numbers; the Jacobian itself, which
    is never built, has K^2.

    Parameters
    ----------
    p
        Probabilities :func:`softmax` has returned, of any shape and floating dtype.
    v
        The vector, of the shape of ``p`` or one that broadcasts to it.
    dim
        The dimension that holds the K classes.
    temperature
        T > 0, that at which ``p`` was computed, a number or one for each row.

    Returns
    -------
    Tensor
        Shape and dtype of ``p``, summing to zero along ``dim``.

    Raises
    ------
    TypeError
        ``p`` or ``v`` is not a tensor of a floating dtype.
    ValueError
        As :func:`softmax`, or ``v`` does not broadcast to the shape of ``p``.

    Examples
    --------
    >>> p = softmax(torch.tensor([1.0, 2.0, 3.0]))
    >>> softmax_vjp(p, torch.tensor([0.0, 1.0, 0.0]))  # the second row of the Jacobian
    tensor([-0.0220,  0.1848, -0.1628])
    """
    check_logits(p, dim, "probabilities")
    divisor = check_temperature(temperature, p, dim)
    if not isinstance(v, Tensor) or not v.is_floating_point():
        raise TypeError(
            f"v must be a tensor of a floating dtype, got {shown(v)}; try v.to(p.dtype)"
        )
    if not broadcasts_to(v.shape, p.shape):
        raise ValueError(
            f"v of shape {tuple(v.shape)} does not broadcast to p of shape {tuple(p.shape)}; "
            "give one number for each probability"
        )
    p32 = at_least_float32(p)
    v32 = v.to(p32.dtype)
    mean = (p32 * v32).sum(dim, keepdim=True)
    return (p32 * (v32 - mean) / divisor).to(p.dtype)


class SoftmaxFunction(torch.autograd.Function):
    r"""Softmax along the last dimension with its gradients written out, that for T included.

    ``SoftmaxFunction.apply(z, temperature)`` takes the temperature as a tensor: a scalar, or one
    number a row, of the shape of ``z`` without its last dimension (or one that broadcasts to it).
    With v the gradient of a loss for the probabilities,

    .. math::

        \frac{\partial L}{\partial z} = g = \frac{p \odot (v - \langle p, v\rangle)}{T}, \qquad
        \frac{\partial L}{\partial T} = -\frac{\langle g, z\rangle}{T}.

    The backward pass is made of differentiable operations, so second derivatives work too. What
    is rejected, and how, is as in :func:`softmax`.

    Examples
    --------
    >>> z = torch.tensor([[1.0, 2.0, 3.0]])
    >>> T = torch.tensor(0.5, requires_grad=True)
    >>> SoftmaxFunction.apply(z, T)[0, 2].backward()  # warming takes from the leader
    >>> T.grad
    tensor(-0.5168)
    """

    @staticmethod
    def forward(z: Tensor, temperature: Tensor) -> Tensor:
        """Probabilities of the shape and dtype of ``z``."""
        if not isinstance(temperature, Tensor) or not temperature.is_floating_point():
            raise TypeError(
                f"temperature must be a tensor of a floating dtype, got {shown(temperature)}; "
                "torch.tensor(0.7) makes one"
            )
        weights = _shifted(z, -1, temperature).exp()
        return (weights / weights.sum(-1, keepdim=True)).to(z.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Keep what the gradients need: the output, and the inputs for the temperature's."""
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients for the logits and for the temperature."""
        z, temperature, p = ctx.saved_tensors
        p32, v32 = at_least_float32(p), v.to(at_least_float32(p).dtype)
        divisor = check_temperature(temperature, z)
        g = p32 * (v32 - (p32 * v32).sum(-1, keepdim=True)) / divisor
        # g sums to zero, so z may be shifted. Where p is 0, so are g and the term; the logit, which
        # may be -inf, is replaced before anything is done to it that has a derivative.
        z32 = at_least_float32(z)
        kept = torch.where(p == 0, z32.detach().amax(-1, keepdim=True), z32)
        shifted = _shift_and_divide(kept, -1, divisor)
        slope = -(g * shifted).sum(-1)
        return g.to(z.dtype), slope.sum_to_size(temperature.shape).to(temperature.dtype)


class Softmax:
    """Softmax along one dimension as an object: call it for probabilities, ask for its gradient.

    Parameters
    ----------
    dim
        The dimension that holds the K classes.

    Examples
    --------
    >>> layer = Softmax(dim=-1)
    >>> layer(torch.tensor([[0.0, 0.0]]))
    tensor([[0.5000, 0.5000]])
    >>> layer.gradient(torch.tensor([[0.0, 0.0]])).shape  # a batch of one stays a batch
    torch.Size([1, 2, 2])
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def __call__(self, z: Tensor) -> Tensor:
        """Probabilities of the shape and dtype of ``z``; see :func:`softmax`."""
        return softmax(z, self.dim)

    def gradient(self, z: Tensor) -> Tensor:
        """Jacobian of each row; see :func:`softmax_jacobian`.

        The two class dimensions come last whatever ``dim`` is: logits of shape ``(2, 5, 3)``
        with ``dim=1`` give ``(2, 3, 5, 5)``.
        """
        check_logits(z, self.dim)
        return softmax_jacobian(z.movedim(self.dim, -1))


def _shifted(z: Tensor, dim: int, temperature: float | Tensor) -> Tensor:
    """Return ``(z - max z) / T``, at most zero, in at least float32."""
    check_logits(z, dim)
    return _shift_and_divide(at_least_float32(z), dim, check_temperature(temperature, z, dim))


def _for_each_row(divisor: Tensor, more: int) -> Tensor:
    """Give a divisor with one dimension for the classes so many more."""
    return divisor.reshape(*divisor.shape, *more * [1]) if divisor.ndim else divisor


def _shift_and_divide(z: Tensor, dim: int, temperature: Tensor) -> Tensor:
    # Detached: the result does not depend on the shift, so neither does the gradient. Dividing
    # last: z / T may overflow for a small T, (z - max z) / T only goes to -inf, where exp is 0.
    # Halves: the difference of two finite numbers may overflow, that of their halves cannot.
    return (z / 2 - z.detach().amax(dim, keepdim=True) / 2) / (temperature / 2)
