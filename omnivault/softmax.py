r"""Softmax with temperature, its logarithm, its normalizer and its derivatives.

For logits :math:`z \in \mathbb{R}^K` and a temperature :math:`T > 0`

.. math::

    \mathrm{softmax}_T(z)_i = \frac{e^{z_i / T}}{\sum_k e^{z_k / T}}, \qquad
    \mathrm{LSE}_T(z) = T \log \sum_k e^{z_k / T}.

Every function here subtracts the largest logit first. By the translation property this changes
nothing in exact arithmetic, and in floating point it keeps every exponent at or below zero, so
no exponential overflows. Logits in half precision or in eight bits are computed in float32 and
rounded once at the end, as PyTorch does for float16 and bfloat16. Integers are taken for numbers
of PyTorch's default dtype.

The sum that is divided by has a term that is known, the 1 of the largest logit. The logarithm
leaves it out, :math:`\log(1 + s)` with s the sum of the others, so it keeps its digits where s is
small: ``log_softmax([0, -20])`` begins with -2.06e-9, and not with 0.

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

No function looks at a logit to decide what it does, so each may be vectorized by ``torch.vmap``,
differentiated by ``torch.func``, and compiled with ``fullgraph=True``. The numbers in tensors of
temperatures or of weights are checked: ``vmap`` cannot run over these, and with them a compiled
function is one of several graphs. ``SoftmaxFunction`` is for reverse mode alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from omnivault._checks import (
    at_least_float32,
    broadcasts_to,
    check_dense,
    check_dims,
    check_logits,
    check_temperature,
    check_weights,
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


def softmax(
    z: Tensor,
    dim: int | tuple[int, ...] = -1,
    *,
    temperature: float | Tensor = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    r"""Turn logits into probabilities.

    Parameters
    ----------
    z
        Logits of any shape and any floating or integer dtype.
    dim
        The dimension that holds the K classes, or several that hold them together; the others are
        batch dimensions.
    temperature
        T > 0, in the units of the logits: a number, or a tensor with one for each row, of the shape
        of ``z`` without ``dim`` (or one that broadcasts to it). Below 1 it sharpens, above 1 it
        flattens. For its gradient see :class:`SoftmaxFunction`.
    weights
        :math:`w_i \ge 0`, of the shape of ``z`` or one that broadcasts to it, for
        :math:`p_i \propto w_i e^{z_i/T}`; booleans say which classes there are. No gradient is
        taken for them. Where nothing else is said, all are 1.

    Returns
    -------
    Tensor
        Probabilities, shape and dtype of ``z``, summing to one along ``dim``.

    Raises
    ------
    TypeError
        ``z`` is not a dense tensor of a real dtype, or an argument is not a number.
    ValueError
        ``dim`` does not exist or is empty; ``temperature`` has another shape or is not positive,
        finite and within what the dtype can hold; or ``weights`` have another shape, or one is
        negative or not finite.

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
    >>> softmax(torch.tensor([1.0, 5.0, 6.0]), weights=torch.tensor([True, True, False]))
    tensor([0.0180, 0.9820, 0.0000])
    """
    rows = _Rows(z, dim, temperature, weights)
    terms = rows.exponents.exp()
    return rows.back(terms / terms.sum(rows.dim, keepdim=True))


def log_softmax(
    z: Tensor,
    dim: int | tuple[int, ...] = -1,
    *,
    temperature: float | Tensor = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    r"""Logarithm of :func:`softmax`, accurate where the probability is rounded to 0 or to 1.

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
    >>> log_softmax(torch.tensor([0.0, -20.0]))[0]
    tensor(-2.0612e-09)
    """
    rows = _Rows(z, dim, temperature, weights)
    return rows.back(rows.exponents - rows.log_total())


def logsumexp(
    z: Tensor,
    dim: int | tuple[int, ...] = -1,
    *,
    temperature: float | Tensor = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    r"""Smooth maximum :math:`\mathrm{LSE}_T(z) = T \log \sum_k e^{z_k / T}`.

    It exceeds the maximum by at most :math:`T \log K`, and its gradient is
    :func:`softmax` at the same temperature. With weights it is
    :math:`T \log \sum_k w_k e^{z_k / T}`. Parameters and errors are those of :func:`softmax`.

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
    >>> logsumexp(torch.tensor([0.0, -20.0]))
    tensor(2.0612e-09)
    """
    rows = _Rows(z, dim, temperature, weights, infinite=True)
    smooth = rows.largest + rows.temperature * rows.log_total()
    return smooth.squeeze(rows.dim).to(rows.dtype)


def softmax_jacobian(z: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    r"""Jacobian :math:`J_{ij} = \partial p_i / \partial z_j = p_i (\delta_{ij} - p_j) / T`.

    Parameters
    ----------
    z
        Logits of shape ``(..., K)``, any floating or integer dtype.
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
    z = _numbers(z)
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
        Logits of shape ``(..., K)``, any floating or integer dtype.
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
    z = _numbers(z)
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
    check_dense(v, "v")
    if not broadcasts_to(v.shape, p.shape):
        raise ValueError(
            f"v of shape {tuple(v.shape)} does not broadcast to p of shape {tuple(p.shape)}; "
            "give one number for each probability"
        )
    p32 = at_least_float32(p)
    return (_centered(p32, v.to(p32.dtype).expand(p.shape), dim) / divisor).to(p.dtype)


def _centered(p: Tensor, v: Tensor, dim: int) -> Tensor:
    """Return p (v - <p, v>).

    Any number may be subtracted from v. With that of the most probable class nothing cancels in
    the mean where one class has nearly everything, nor where v is far from zero.
    """
    v = v - v.gather(dim, p.argmax(dim, keepdim=True))
    centered: Tensor = p * (v - (p * v).sum(dim, keepdim=True))
    return centered


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
        check_logits(z)
        return softmax(z, temperature=temperature)

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
        g = _centered(p32, v32, -1) / divisor
        # g sums to zero, so z may be shifted. Where p is 0, so are g and the term; the logit, which
        # may be -inf, is replaced before anything is done to it that has a derivative.
        z32 = at_least_float32(z)
        largest = z32.detach().amax(-1, keepdim=True)
        shifted = _shift_and_divide(torch.where(p == 0, largest, z32), largest, divisor)
        slope = -(g * shifted).sum(-1)
        return g.to(z.dtype), slope.sum_to_size(temperature.shape).to(temperature.dtype)


class Softmax(torch.nn.Module):
    """Softmax with a temperature as a layer: call it for probabilities, ask for its Jacobian.

    Parameters
    ----------
    dim
        The dimension that holds the K classes.
    temperature
        T > 0, as in :func:`softmax`. A ``torch.nn.Parameter`` is learned with the other ones of a
        model; another tensor moves with it from device to device.

    Examples
    --------
    >>> layer = Softmax(dim=-1, temperature=2.0)
    >>> layer
    Softmax(dim=-1, temperature=2.0)
    >>> layer(torch.tensor([[0.0, 0.0]]))
    tensor([[0.5000, 0.5000]])
    >>> layer.jacobian(torch.tensor([[0.0, 0.0]]))  # a batch of one stays a batch
    tensor([[[ 0.1250, -0.1250],
             [-0.1250,  0.1250]]])
    """

    temperature: float | Tensor

    def __init__(self, dim: int = -1, temperature: float | Tensor = 1.0) -> None:
        super().__init__()
        self.dim = dim
        if isinstance(temperature, Tensor) and not isinstance(temperature, torch.nn.Parameter):
            self.register_buffer("temperature", temperature)
        else:
            self.temperature = temperature

    def forward(self, z: Tensor) -> Tensor:
        """Probabilities of the shape and dtype of ``z``; see :func:`softmax`."""
        return softmax(z, self.dim, temperature=self.temperature)

    def jacobian(self, z: Tensor) -> Tensor:
        """Jacobian of each row; see :func:`softmax_jacobian`.

        The two class dimensions come last whatever ``dim`` is: logits of shape ``(2, 5, 3)``
        with ``dim=1`` give ``(2, 3, 5, 5)``.
        """
        z = _numbers(z)
        check_logits(z, self.dim)
        return softmax_jacobian(z.movedim(self.dim, -1), temperature=self.temperature)

    gradient = jacobian
    """The same, by the name that it had at first."""

    def extra_repr(self) -> str:
        """Dimension and temperature, for what the layer prints of itself."""
        return f"dim={self.dim}, temperature={shown(self.temperature)}"


class _Rows:
    """The exponents (z - max z) / T + log w of rows of logits, none above 0 but for log w.

    ``back`` brings what has the shape of the exponents into shape and dtype of the logits.
    """

    def __init__(
        self,
        z: Tensor,
        dim: int | tuple[int, ...],
        temperature: float | Tensor,
        weights: Tensor | None,
        *,
        infinite: bool = False,
    ) -> None:
        z = _numbers(z)
        self.dtype, self.shape = z.dtype, z.shape
        self.dims = None if isinstance(dim, int) else check_dims(z, dim)
        if weights is not None:
            weights = check_weights(weights, z)
        if self.dims is None:
            assert isinstance(dim, int)
            self.dim = dim
        else:
            # The classes of several dimensions stand in one, the last.
            self.dim = -1
            z = self._flat(z)
            weights = self._flat(weights) if weights is not None else None
        check_logits(z, self.dim)
        self.temperature = check_temperature(temperature, z, self.dim)
        z = at_least_float32(z)
        if weights is not None:
            z = z.masked_fill(weights == 0, -torch.inf)
        self.largest = z.detach().amax(self.dim, keepdim=True)
        if infinite:
            # An infinite maximum (all -inf, or some +inf) cannot be subtracted: inf - inf is nan.
            self.largest = torch.where(self.largest.isinf(), 0.0, self.largest)
        if isinstance(temperature, Tensor):
            # An infinite exponent has no slope in T: where a class is ruled out, or divided by a
            # small T, it comes last.
            fixed = _shift_and_divide(z.detach(), self.largest, self.temperature.detach())
            out = (z == -torch.inf) | (fixed == -torch.inf)
            some = torch.where(out, self.largest.clamp(min=torch.finfo(z.dtype).min), z)
            exponents = _shift_and_divide(some, self.largest, self.temperature)
            self.exponents = torch.where(out, -torch.inf, exponents)
        else:
            self.exponents = _shift_and_divide(z, self.largest, self.temperature)
        if weights is not None:
            # Shifted again: a weight may be so small that no class with it counts. The logarithm is
            # that of the weight as it came: in float32 it might be 0 or infinite.
            wide = weights if weights.dtype is torch.float64 else weights.to(z.dtype)
            logs = wide.log().to(z.dtype)
            weighted = torch.where(weights == 0, -torch.inf, self.exponents + logs)
            more = weighted.detach().amax(self.dim, keepdim=True)
            more = torch.where(more.isinf(), 0.0, more) if infinite else more
            self.exponents = weighted - more
            self.largest = self.largest + self.temperature * more

    def log_total(self) -> Tensor:
        """Logarithm of the sum of the exponentials, in each row."""
        first = self.exponents.detach().argmax(self.dim, keepdim=True)
        terms = self.exponents.exp()
        # The first of the largest is 1; without it the sum of the others keeps its digits. It is
        # subtracted, and not left out, so that the gradient sees it.
        others = terms.scatter_add(self.dim, first, -torch.ones_like(first, dtype=terms.dtype))
        return others.sum(self.dim, keepdim=True).log1p()

    def back(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        if self.dims is None:
            return x
        last = range(-len(self.dims), 0)
        apart: Tensor = x.unflatten(-1, [self.shape[d] for d in self.dims])
        return apart.movedim(tuple(last), self.dims)

    def _flat(self, x: Tensor) -> Tensor:
        assert self.dims is not None
        return x.movedim(self.dims, tuple(range(-len(self.dims), 0))).flatten(-len(self.dims))


def _numbers(z: Tensor) -> Tensor:
    """Integers as floating-point numbers, of the dtype that PyTorch takes by default."""
    if not isinstance(z, Tensor):
        check_logits(z)
    return z.to(torch.get_default_dtype()) if z.dtype in _INTEGERS else z


_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def _for_each_row(divisor: Tensor, more: int) -> Tensor:
    """Give a divisor with one dimension for the classes so many more."""
    return divisor.reshape(*divisor.shape, *more * [1]) if divisor.ndim else divisor


def _shift_and_divide(z: Tensor, largest: Tensor, temperature: Tensor) -> Tensor:
    # Detached: the result does not depend on the shift, so neither does the gradient. Dividing
    # last: z / T may overflow for a small T, (z - max z) / T only goes to -inf, where exp is 0.
    # Halves: the difference of two finite numbers may overflow, that of their halves cannot. They
    # are taken where this matters alone, since half of the smallest numbers is no number.
    scale = torch.where((largest.abs() > 1) & (temperature >= 1), 0.5, 1.0).to(z.dtype)
    return (z * scale - largest * scale) / (temperature * scale)
