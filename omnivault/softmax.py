r"""Softmax with temperature, its logarithm, its normalizer and its Jacobian.

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

from numbers import Real

import torch
from torch import Tensor

__all__ = ["Softmax", "log_softmax", "logsumexp", "softmax", "softmax_jacobian"]


def softmax(z: Tensor, dim: int = -1, *, temperature: float = 1.0) -> Tensor:
    r"""Turn logits into probabilities.

    Parameters
    ----------
    z
        Logits of any shape and any floating dtype.
    dim
        The dimension that holds the K classes; the others are batch dimensions.
    temperature
        T > 0, in the units of the logits. Below 1 it sharpens, above 1 it flattens.

    Returns
    -------
    Tensor
        Probabilities, shape and dtype of ``z``, summing to one along ``dim``.

    Raises
    ------
    TypeError
        ``z`` is not a tensor of a floating dtype, or an argument is not a number.
    ValueError
        ``dim`` does not exist or is empty, or ``temperature`` is not a positive finite number
        that the dtype can hold.

    Notes
    -----
    The name and the use as an output layer are from Bridle (1990); the temperature is that of
    Boltzmann's distribution, brought to neural networks by Hinton, Vinyals and Dean (2015).

    Examples
    --------
    >>> softmax(torch.tensor([1.0, 5.0, 6.0, 3.0]))
    tensor([0.0047, 0.2583, 0.7020, 0.0350])
    >>> softmax(torch.tensor([1.0, 5.0, 6.0, 3.0]), temperature=5.0)
    tensor([0.1345, 0.2993, 0.3656, 0.2006])
    """
    weights = _shifted(z, dim, temperature).exp()
    return (weights / weights.sum(dim, keepdim=True)).to(z.dtype)


def log_softmax(z: Tensor, dim: int = -1, *, temperature: float = 1.0) -> Tensor:
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


def logsumexp(z: Tensor, dim: int = -1, *, temperature: float = 1.0) -> Tensor:
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
    temperature = _check(z, dim, temperature)
    z32 = _at_least_float32(z)
    largest = z32.detach().amax(dim, keepdim=True)
    # An infinite maximum (all -inf, or some +inf) cannot be subtracted: inf - inf is nan.
    largest = torch.where(largest.isinf(), 0.0, largest)
    total = ((z32 / 2 - largest / 2) / (temperature / 2)).exp().sum(dim)
    return (largest.squeeze(dim) + temperature * total.log()).to(z.dtype)


def softmax_jacobian(z: Tensor, *, temperature: float = 1.0) -> Tensor:
    r"""Jacobian :math:`J_{ij} = \partial p_i / \partial z_j = p_i (\delta_{ij} - p_j) / T`.

    Parameters
    ----------
    z
        Logits of shape ``(..., K)``, any floating dtype.
    temperature
        T > 0.

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
    temperature = _check(z, -1, temperature)
    p = softmax(_at_least_float32(z), temperature=temperature)
    products = p.unsqueeze(-1) * p.unsqueeze(-2)
    off_diagonal = products - torch.diag_embed(products.diagonal(dim1=-2, dim2=-1))
    # On the diagonal p_i (1 - p_i) = sum of p_i p_j over j != i. The sum keeps its digits where
    # p_i rounds to 1 and 1 - p_i to 0.
    jacobian = torch.diag_embed(off_diagonal.sum(-1)) - off_diagonal
    return (jacobian / temperature).to(z.dtype)


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
        _check(z, self.dim, 1.0)
        return softmax_jacobian(z.movedim(self.dim, -1))


def _shifted(z: Tensor, dim: int, temperature: float) -> Tensor:
    """Return ``(z - max z) / T``, at most zero, in at least float32."""
    temperature = _check(z, dim, temperature)
    z = _at_least_float32(z)
    # Detached: the result does not depend on the shift, so neither does the gradient. Dividing
    # last: z / T may overflow for a small T, (z - max z) / T only goes to -inf, where exp is 0.
    # Halves: the difference of two finite numbers may overflow, that of their halves cannot.
    return (z / 2 - z.detach().amax(dim, keepdim=True) / 2) / (temperature / 2)


def _at_least_float32(z: Tensor) -> Tensor:
    return z.float() if z.dtype.itemsize < 4 else z


def _check(z: Tensor, dim: int, temperature: float) -> float:
    """Raise on input that has no softmax; return the temperature as a float."""
    if not isinstance(z, Tensor):
        raise TypeError(f"logits must be a torch.Tensor, got {z!r}; wrap them in torch.tensor(...)")
    if not z.is_floating_point():
        raise TypeError(
            f"logits must have a floating dtype, got {z.dtype} with values {_some_values(z)}; "
            "convert them with z.float()"
        )
    shape = tuple(z.shape)
    if z.ndim == 0:
        raise ValueError(
            f"logits need a dimension that holds the classes, got the scalar {z.item()}; "
            "z.reshape(1) makes it one logit"
        )
    if isinstance(dim, bool) or not isinstance(dim, int):
        raise TypeError(f"dim must be an int such as -1, got {dim!r}")
    if not -z.ndim <= dim < z.ndim:
        raise ValueError(
            f"dim must lie in [{-z.ndim}, {z.ndim - 1}] for logits of shape {shape}, got {dim}"
        )
    if z.shape[dim] == 0:
        raise ValueError(
            f"dimension {dim} of the logits is empty (shape {shape}); "
            "a softmax needs at least one logit"
        )
    return _check_temperature(temperature, torch.float32 if z.dtype.itemsize < 4 else z.dtype)


def _check_temperature(temperature: float, dtype: torch.dtype) -> float:
    """Return T as a float that is positive, finite and representable in ``dtype``."""
    if isinstance(temperature, bool) or not isinstance(temperature, Real):
        raise TypeError(f"temperature must be a real number such as 0.7, got {temperature!r}")
    if not temperature > 0:
        raise ValueError(
            f"temperature must be > 0, got {temperature}; "
            "for deterministic decoding (T -> 0) use logits.argmax(dim)"
        )
    limits = torch.finfo(dtype)
    if not limits.tiny <= temperature <= limits.max:
        raise ValueError(
            f"temperature must lie in [{limits.tiny:.4g}, {limits.max:.4g}] to be computed in "
            f"{dtype}, got {temperature}; convert the logits with z.double(), or take the limit: "
            "logits.argmax(dim) for T -> 0, the uniform distribution for T -> infinity"
        )
    return float(temperature)


def _some_values(z: Tensor, most: int = 6) -> str:
    values = ", ".join(str(v) for v in z.flatten()[:most].tolist())
    return f"[{values}{', ...' if z.numel() > most else ''}]"
