r"""The distributions that a token is drawn from: Bernoulli, categorical and multinomial.

Each is one step from the last: one event of two outcomes, one of K, and n of K. ``probs`` may
have any batch shape; outcomes broadcast with it. Draws take a generator, or one for each row of
probabilities; without one they come from PyTorch's global generator. They are drawn in float64,
where the generator is, and returned where the probabilities are.

All three are exponential families, :math:`P(y) = h(y)\, e^{\langle\eta, t(y)\rangle - A(\eta)}`
with the natural parameter :math:`\eta`, the sufficient statistic t and the log-partition A, whose
gradient is the mean of t(Y) and whose Hessian is its covariance. With ``minimal=True`` the last of
the K outcomes is the one that the others are compared with: its natural parameter is fixed at 0
and left out, and what is left is determined by the distribution. Without it (the overcomplete
form) natural parameters are logits, determined up to a constant. See Wainwright and Jordan
(2008), section 3.

A distribution that is made of probabilities knows no more than these: where one is 0 or 1,
perhaps because it was rounded, ``to_natural`` is infinite, and the formula above is nan for the
outcome that is ruled out (``log_pmf`` is right). One that is made by ``from_natural`` keeps its
natural parameter, from which its logarithms and variances are computed, so they have their digits
where a probability is rounded to 0 or 1. Natural parameters must not hold nan; ``+inf`` is
accepted for a Bernoulli distribution alone, ``-inf`` everywhere, unless it leaves no outcome
possible. Other arguments that do not fit raise ``TypeError`` or ``ValueError``.

Probabilities and natural parameters are float16, bfloat16, float32 or float64: eight bits are too
few for rows that sum to one. Outcomes may be of any real dtype, those of a categorical distribution
of any integer one, and counts of draws are below 2^63.

Values are looked at to be refused, so ``torch.vmap`` and ``torch.compile(fullgraph=True)``, which
know none, do not take these classes: batch shapes do what ``vmap`` would. On the meta device
nothing is refused for its values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from omnivault._checks import (
    Generator,
    anywhere,
    at_least_float32,
    check_dense,
    check_distribution,
    check_floating,
    check_generator,
    check_integer,
    shown,
    some_values,
)
from omnivault._excess import excess
from omnivault.softmax import log_softmax, logsumexp, softmax

__all__ = ["Bernoulli", "Categorical", "Multinomial"]

_AT_ONCE = 2**22  # indices that are drawn to be counted, 32 MiB of them


@dataclass(frozen=True, eq=False)
class Bernoulli:
    r"""One event that happens with probability :math:`\pi`; outcomes 0 and 1.

    Parameters
    ----------
    probs
        :math:`\pi`, floating, of any shape, each in [0, 1].

    Raises
    ------
    TypeError
        ``probs`` is not a dense tensor of float16, bfloat16, float32 or float64.
    ValueError
        A probability lies outside [0, 1].

    Examples
    --------
    >>> coin = Bernoulli(torch.tensor(0.3))
    >>> coin.pmf(torch.tensor([0, 1])), coin.mean, coin.variance
    (tensor([0.7000, 0.3000]), tensor(0.3000), tensor(0.2100))
    >>> Bernoulli.from_natural(torch.tensor(0.0)).probs  # the sigmoid
    tensor(0.5000)
    """

    probs: Tensor
    _eta: Tensor | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        _check_dtype(self.probs, "probs")
        outside = ~((self.probs >= 0) & (self.probs <= 1))
        if anywhere(outside):
            raise ValueError(
                f"probs must lie in [0, 1], got {some_values(self.probs[outside])}; "
                "turn logits into probabilities with torch.sigmoid first"
            )

    def pmf(self, y: Tensor) -> Tensor:
        r""":math:`P(Y = y) = \pi^y (1 - \pi)^{1 - y}` for y in {0, 1}; 0 for any other number."""
        _check_outcomes(y, self.probs.shape)
        value = torch.where(y == 1, self.probs, self._complement())
        return torch.where((y == 0) | (y == 1), value, 0)

    def log_pmf(self, y: Tensor) -> Tensor:
        """Logarithm of :meth:`pmf` in nats; ``-inf`` where it is 0."""
        _check_outcomes(y, self.probs.shape)
        if self._eta is None:
            # Chosen before the logarithm: the derivative of the other one may be infinite.
            yes, no = torch.where(y == 1, self.probs, 1.0), torch.where(y == 0, self.probs, 0.0)
            value = yes.log() + (-no).log1p()
        else:
            value = -self.log_partition(torch.where(y == 1, -self._eta, self._eta))
        return torch.where((y == 0) | (y == 1), value, -torch.inf)

    @property
    def mean(self) -> Tensor:
        r""":math:`E[Y] = \pi`."""
        return self.probs

    @property
    def variance(self) -> Tensor:
        r""":math:`\pi (1 - \pi)`."""
        return self.probs * self._complement()

    def _complement(self) -> Tensor:
        return 1 - self.probs if self._eta is None else torch.sigmoid(-self._eta)

    def sample(self, draws: int, *, generator: Generator = None) -> Tensor:
        r"""Independent outcomes, int64 of shape ``(draws, *probs.shape)``.

        1 is drawn with the probability :math:`\pi`, rounded up to a multiple of :math:`2^{-53}`.
        """
        draws = _check_count(draws, "draws")
        # In float64: float32 has no uniform number between 0 and 2^-24, so that a smaller
        # probability would be drawn as if it were as large as that.
        own, shape = check_generator(generator, self.probs.numel()), self.probs.shape
        if isinstance(own, list):
            each = zip(self.probs.flatten(), own, strict=True)
            columns = [_beside(p, g).expand(draws).bernoulli(generator=g) for p, g in each]
            drawn = torch.stack([column.to(self.probs.device) for column in columns], -1)
        else:
            drawn = _beside(self.probs, own).expand(draws, *shape).bernoulli(generator=own)
        return drawn.long().reshape(draws, *shape).to(self.probs.device)

    @classmethod
    def from_natural(cls, eta: Tensor) -> Bernoulli:
        r"""Make the distribution with the log-odds :math:`\eta`: :math:`\pi = \sigma(\eta)`."""
        _check_log_odds(eta)
        return cls(torch.sigmoid(eta), _eta=eta)

    def to_natural(self) -> Tensor:
        r"""Log-odds :math:`\log\frac{\pi}{1 - \pi}`; ``-inf`` and ``inf`` at 0 and 1."""
        return torch.logit(self.probs) if self._eta is None else self._eta

    @staticmethod
    def log_partition(eta: Tensor) -> Tensor:
        r""":math:`A(\eta) = \log(1 + e^\eta)`, of the shape of ``eta``."""
        _check_log_odds(eta)
        # Not F.softplus, which returns eta itself above 20 and so is wrong by 2e-9 there; and not
        # logaddexp or logsigmoid, whose second derivatives are nan or 0 far out.
        smaller = torch.where(eta > 0, -eta, eta).exp()
        return torch.where(eta > 0, eta, 0.0) + smaller.log1p()

    def sufficient_statistic(self, y: Tensor) -> Tensor:
        r""":math:`t(y) = y` in the dtype of ``probs``, for outcomes y in {0, 1}."""
        _check_outcomes(y)
        if anywhere((y != 0) & (y != 1)):
            raise ValueError(f"outcomes must be 0 or 1, got {some_values(y)}")
        return y.to(self.probs.dtype)


@dataclass(frozen=True, eq=False)
class Categorical:
    r"""One event with K outcomes, of which k has the probability :math:`\pi_k`.

    Outcomes are indices 0, ..., K - 1. ``mean`` and ``covariance`` are those of the one-hot
    vector that an index stands for; an index itself has no mean that means anything.

    Parameters
    ----------
    probs
        :math:`\pi`, floating, of shape ``(..., K)``, non-negative, each row summing to one.

    Raises
    ------
    TypeError
        ``probs`` is not a dense tensor of float16, bfloat16, float32 or float64.
    ValueError
        A probability is negative, or a row does not sum to one (to 0.001; to 0.05 in half
        precision).

    Examples
    --------
    >>> die = Categorical(torch.tensor([0.5, 0.3, 0.2]))
    >>> die.pmf(torch.tensor([0, 2]))
    tensor([0.5000, 0.2000])
    >>> die.covariance  # the Jacobian of softmax, in other words
    tensor([[ 0.2500, -0.1500, -0.1000],
            [-0.1500,  0.2100, -0.0600],
            [-0.1000, -0.0600,  0.1600]])
    >>> Categorical.from_natural(torch.tensor([1.0, 3.0, 2.0])).probs  # softmax
    tensor([0.0900, 0.6652, 0.2447])
    >>> die.to_natural(minimal=True)  # log-odds against the last outcome
    tensor([0.9163, 0.4055])
    """

    probs: Tensor
    _eta: Tensor | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        _check_rows(self.probs)

    def pmf(self, y: Tensor) -> Tensor:
        r""":math:`P(Y = y) = \prod_k \pi_k^{[y = k]}` for indices y that broadcast with the batch.

        0 for an index outside 0, ..., K - 1.
        """
        return self._of_indices(y, self.probs, 0.0)

    def _of_indices(self, y: Tensor, values: Tensor, outside: float) -> Tensor:
        _check_outcomes(y, self.probs.shape[:-1])
        y = _indices(y)
        batch = torch.broadcast_shapes(y.shape, self.probs.shape[:-1])
        y = y.expand(batch)
        rows = values.expand(*batch, values.shape[-1])
        inside = (y >= 0) & (y < values.shape[-1])
        picked = rows.gather(-1, torch.where(inside, y, 0).unsqueeze(-1)).squeeze(-1)
        return torch.where(inside, picked, outside)

    def log_pmf(self, y: Tensor) -> Tensor:
        """Logarithm of :meth:`pmf` in nats; ``-inf`` where it is 0."""
        if self._eta is None:
            # Picked before the logarithm, whose derivative is infinite at any other 0.
            return self._of_indices(y, self.probs, 0.0).log()
        return self._of_indices(y, log_softmax(self._eta), -torch.inf)

    @property
    def mean(self) -> Tensor:
        r"""Mean of the one-hot vector, :math:`\pi`, of shape ``(..., K)``."""
        return self.probs

    @property
    def covariance(self) -> Tensor:
        r""":math:`\mathrm{diag}(\pi) - \pi \pi^\top`, of shape ``(..., K, K)``."""
        return _covariance(self.probs)

    def sample(self, draws: int, *, generator: Generator = None) -> Tensor:
        """Independent indices, int64 of shape ``(draws, ...)``.

        ``torch.multinomial``, which draws them, raises ``RuntimeError`` for K above 2^24.
        """
        draws = _check_count(draws, "draws")
        # In float64: torch.multinomial adds up the probabilities, where float32 may lose the tail.
        rows = self.probs.reshape(-1, self.probs.shape[-1])
        own = check_generator(generator, len(rows))
        if isinstance(own, list):
            each = zip(rows, own, strict=True)
            several = [_beside(row, g).multinomial(draws, True, generator=g) for row, g in each]
            drawn = torch.stack([indices.to(rows.device) for indices in several])
        else:
            drawn = _beside(rows, own).multinomial(draws, True, generator=own).to(rows.device)
        return drawn.T.reshape(draws, *self.probs.shape[:-1])

    @classmethod
    def from_natural(cls, eta: Tensor, *, minimal: bool = False) -> Categorical:
        r"""Make the distribution with the logits ``eta``, shape ``(..., K)``: their softmax.

        With ``minimal=True`` there are K - 1 of them, and the logit of the last outcome is 0.
        """
        logits = _natural(eta, minimal)
        return cls(softmax(logits), _eta=logits)

    def to_natural(self, *, minimal: bool = False) -> Tensor:
        r"""Natural parameters of this distribution.

        :math:`\log \pi_k`, of shape ``(..., K)``, to which any constant may be added; with
        ``minimal=True`` :math:`\log(\pi_k/\pi_K)`, of shape ``(..., K - 1)``, the only ones, which
        are those that :meth:`from_natural` was given. An outcome without probability has ``-inf``.

        Raises
        ------
        ValueError
            ``minimal=True``, and the last outcome has no probability.
        """
        return _to_natural(self.probs, self._eta, minimal)

    @staticmethod
    def log_partition(eta: Tensor, *, minimal: bool = False) -> Tensor:
        r""":math:`A(\eta) = \mathrm{LSE}(\eta)`, of shape ``(...)``.

        With ``minimal=True`` it is :math:`\log(1 + \sum_{k<K} e^{\eta_k})`.
        """
        return logsumexp(_natural(eta, minimal))

    def sufficient_statistic(self, y: Tensor, *, minimal: bool = False) -> Tensor:
        r"""One-hot vector :math:`t(y) = e_y` of indices y, of shape ``(*y.shape, K)``.

        With ``minimal=True`` without its last component. In the dtype of ``probs``.
        """
        classes = self.probs.shape[-1]
        _check_outcomes(y)
        indices = _indices(y)
        outside = (indices < 0) | (indices >= classes)
        if anywhere(outside):
            raise ValueError(
                f"outcomes must be indices from 0 to {classes - 1}, got {some_values(y[outside])}"
            )
        one_hot = torch.nn.functional.one_hot(indices, classes).to(self.probs.dtype)
        return one_hot[..., :-1] if minimal else one_hot


@dataclass(frozen=True, eq=False)
class Multinomial:
    r"""How often each of K outcomes came up in n independent categorical draws.

    Outcomes are vectors of K counts that sum to n.

    Parameters
    ----------
    n
        Number of draws, at least 1.
    probs
        :math:`\pi`, floating, of shape ``(..., K)``, non-negative, each row summing to one.

    Raises
    ------
    TypeError
        ``n`` is not an int, or ``probs`` is not a dense tensor of float16, bfloat16, float32 or
        float64.
    ValueError
        ``n`` is below 1 or not below 2^63, a probability is negative, or a row does not sum to one
        (to 0.001; to 0.05 in half precision).

    Examples
    --------
    >>> rolls = Multinomial(3, torch.tensor([0.5, 0.3, 0.2]))
    >>> rolls.pmf(torch.tensor([1, 1, 1]))  # 3! * 0.5 * 0.3 * 0.2
    tensor(0.1800)
    >>> rolls.mean
    tensor([1.5000, 0.9000, 0.6000])
    >>> Multinomial.log_partition(3, torch.zeros(3))  # 3 log 3
    tensor(3.2958)
    """

    n: int
    probs: Tensor
    _eta: Tensor | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", _check_count(self.n, "n"))
        _check_rows(self.probs)

    def pmf(self, y: Tensor) -> Tensor:
        r""":math:`P(Y = y) = \frac{n!}{\prod_k y_k!} \prod_k \pi_k^{y_k}` for counts ``(..., K)``.

        0 for counts that are negative, not whole, or do not sum to n.
        """
        value, zeros, counts = self._factors(y)
        return (value.exp() * (zeros**counts).prod(-1)).to(self.probs.dtype)

    def log_pmf(self, y: Tensor) -> Tensor:
        r"""Logarithm of :meth:`pmf` in nats; ``-inf`` where it is 0.

        Before it is rounded to the dtype of ``probs``, it is off by no more than some
        :math:`2^{-53} (32 L + 6 \sqrt{2 n L} + 2^{-24} n K)` and :math:`2^{-43}` for each count
        above 1, where L is ``|log_pmf|``, and :math:`n |\sum \pi_k - 1|` more for a row that does
        not sum to one.
        """
        value, zeros, counts = self._factors(y)
        return (value + (counts * zeros.log()).sum(-1)).to(self.probs.dtype)

    def _factors(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logarithm of the factors above 0, those that are 0 (or 1), and the counts.

        A factor that is 0 is kept apart because its logarithm has no derivative.
        """
        possible = self._possible(y)
        _check_outcomes(y, self.probs.shape)
        # In float64: float32 does not hold large counts.
        counts = torch.where(possible.unsqueeze(-1), y.double(), 0)
        n = counts.new_full((), self.n)
        if self._eta is None:
            p = self.probs.double()
            held, zero = (counts > 0) & (p > 0), p
            log_p, surplus = torch.where(held, p, 1.0).log(), n * _above_one(p.detach())
        else:
            logs = log_softmax(self._eta.double())
            held, zero = (counts > 0) & (logs > -torch.inf), torch.zeros_like(logs)
            p, log_p, surplus = logs.exp(), torch.where(held, logs, 0.0), 0 * n
        orders = _log_factorial_rest(n) - _log_factorial_rest(counts).sum(-1)
        deviance = _deviance(counts, n, p.detach(), log_p.detach())
        # It is 0, with the derivatives of the sum of c log p, which are those of the value.
        change = (counts * (log_p - log_p.detach())).sum(-1)
        value = orders - deviance.sum(-1) + surplus + change
        value = torch.where(possible, value, -torch.inf)
        return value, torch.where(held | (counts == 0), 1.0, zero), counts

    def _possible(self, y: Tensor) -> Tensor:
        """Whether each row of y holds counts of n draws."""
        _check_outcomes(y)
        if y.ndim == 0 or y.shape[-1] != self.probs.shape[-1]:
            raise ValueError(
                f"y must hold {self.probs.shape[-1]} counts in its last dimension, "
                f"got shape {tuple(y.shape)}"
            )
        if y.is_floating_point():
            wide = y.double()
            whole = (wide >= 0) & (wide < 2.0**63) & (wide == wide.round())
            counts = torch.where(whole, wide, 0).long()
        else:
            counts = y.long()
            whole = counts >= 0
        # As integers, whose sum is not rounded; but one that is larger by 2^64 would be the same.
        held = counts.double().sum(-1) < 1.5 * 2.0**63
        return whole.all(-1) & held & (counts.sum(-1) == self.n)

    @property
    def mean(self) -> Tensor:
        r""":math:`n \pi`, of shape ``(..., K)``, in at least float32."""
        return self.n * at_least_float32(self.probs)

    @property
    def covariance(self) -> Tensor:
        r""":math:`n (\mathrm{diag}(\pi) - \pi \pi^\top)`, ``(..., K, K)``, in at least float32."""
        return self.n * _covariance(at_least_float32(self.probs))

    def sample(self, draws: int, *, generator: Generator = None) -> Tensor:
        """Independent vectors of counts, int64 of shape ``(draws, ..., K)``.

        Each counts n indices that are drawn one by one, so the time is that of ``draws * n``
        indices a row. No more than some millions of them are held at once.
        """
        draws = _check_count(draws, "draws")
        classes = self.probs.shape[-1]
        rows = self.probs.reshape(-1, classes)
        own = check_generator(generator, len(rows))
        counts = torch.zeros(len(rows), draws, classes, dtype=torch.int64, device=rows.device)
        total = draws * self.n
        step, parts = max(1, _AT_ONCE // total), -(-total // _AT_ONCE)
        for first in range(0, len(rows), step):
            some = slice(first, first + step)
            source = own[some] if isinstance(own, list) else own
            for part in range(parts):
                start, stop = total * part // parts, total * (part + 1) // parts
                indices = Categorical(rows[some]).sample(stop - start, generator=source).T
                at = torch.arange(start, stop, device=rows.device) // self.n * classes + indices
                counts[some].flatten(1).scatter_add_(-1, at, torch.ones_like(at))
        return counts.movedim(1, 0).reshape(draws, *self.probs.shape)

    @classmethod
    def from_natural(cls, n: int, eta: Tensor, *, minimal: bool = False) -> Multinomial:
        """Make n draws of :meth:`Categorical.from_natural`."""
        logits = _natural(eta, minimal)
        return cls(n, softmax(logits), _eta=logits)

    def to_natural(self, *, minimal: bool = False) -> Tensor:
        """Natural parameters, those of :meth:`Categorical.to_natural`; they do not depend on n."""
        return _to_natural(self.probs, self._eta, minimal)

    @staticmethod
    def log_partition(n: int, eta: Tensor, *, minimal: bool = False) -> Tensor:
        r""":math:`A(\eta) = n\, \mathrm{LSE}(\eta)`, n times that of one draw."""
        return _check_count(n, "n") * logsumexp(_natural(eta, minimal))

    def sufficient_statistic(self, y: Tensor, *, minimal: bool = False) -> Tensor:
        r""":math:`t(y) = y` for counts ``(..., K)``, whose base :math:`h(y)` is n! / prod y_k!.

        With ``minimal=True`` without its last component. In the dtype of ``probs``, or in float32
        where that has half precision: it would round counts. So does float32 above 2^24.
        """
        possible = self._possible(y)
        if anywhere(~possible):
            raise ValueError(
                f"counts must be whole, >= 0 and sum to {self.n}, got a row "
                f"{some_values(y[~possible][0])}"
            )
        counts = y.to(torch.promote_types(self.probs.dtype, torch.float32))
        return counts[..., :-1] if minimal else counts


def _log_factorial_rest(m: Tensor) -> Tensor:
    r""":math:`\log m! - m \log m + m` of whole numbers in float64, without a derivative.

    From 16 on it is Stirling's series, which is off by less than the first term that it leaves out,
    :math:`691/(360360\, m^{11})`, and so by less than :math:`2^{-52}`.
    """
    w = 1 / m
    v = w * w
    series = w * (1 / 12 - v * (1 / 360 - v * (1 / 1260 - v * (1 / 1680 - v / 1188))))
    few = torch.lgamma(m + 1) - torch.xlogy(m, m) + m
    return torch.where(m < 16, few, (2 * math.pi * m).log() / 2 + series)


def _deviance(counts: Tensor, n: Tensor, p: Tensor, log_p: Tensor) -> Tensor:
    r"""Terms :math:`c \log \frac{c}{np} - c + np`, none of them negative, of counts c.

    With them the binomial probability of Loader (2000) and the multinomial one have no parts of the
    size of :math:`\log n!` to cancel. What rounding np to q changes is :math:`(q - c) \epsilon`,
    and :math:`\sum |q - c|` is at most :math:`\sqrt{2 n D}` for the sum D of the terms, by
    Pinsker's inequality.
    """
    q = n * p
    apart = counts * (counts.log() - n.log() - log_p) - counts + q
    underflow = (counts > 0) & (p < torch.finfo(p.dtype).tiny)
    return torch.where(underflow, apart, excess(counts, q))


def _above_one(p: Tensor) -> Tensor:
    """Sum of each row of float64, less 1: the leading 26 bits add up without rounding."""
    leading = (p * 2**26).round() / 2**26
    return (leading.sum(-1) - 1) + (p - leading).sum(-1)


def _beside(probs: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return probabilities in float64, where the generator is."""
    return probs.to(probs.device if generator is None else generator.device).double()


def _check_outcomes(y: Tensor, shape: torch.Size | None = None) -> None:
    """Raise unless y is a tensor that broadcasts with the shape, if there is one."""
    if not isinstance(y, Tensor):
        raise TypeError(f"outcomes must be a tensor, got {shown(y)}; torch.tensor(...) makes one")
    check_dense(y, "outcomes")
    if y.is_complex():
        raise TypeError(f"outcomes must be real numbers, got {y.dtype}; y.real takes their part")
    if shape is not None:
        try:
            torch.broadcast_shapes(y.shape, shape)
        except RuntimeError:
            raise ValueError(
                f"outcomes of shape {tuple(y.shape)} do not broadcast with {tuple(shape)}, the "
                "shape that probs give them"
            ) from None


def _indices(y: Tensor) -> Tensor:
    """Return indices in int64, where K fits; from 2^63 on they are negative there."""
    if y.is_floating_point() or y.dtype == torch.bool:
        raise TypeError(f"y must hold integer indices, got {y.dtype}: {some_values(y)}")
    return y.long()


def _check_dtype(p: Tensor, name: str) -> None:
    check_floating(p, name)
    if p.dtype.itemsize < 2:
        raise TypeError(
            f"{name} must be a tensor of float16, bfloat16, float32 or float64, got {p.dtype}; "
            f"{name}.float() makes one"
        )


def _check_log_odds(eta: Tensor) -> None:
    _check_dtype(eta, "eta")
    if anywhere(eta.isnan()):
        raise ValueError(f"eta must not hold nan, got {some_values(eta)}")


def _natural(eta: Tensor, minimal: bool) -> Tensor:
    """Raise unless eta holds natural parameters; append the 0 of the last outcome."""
    _check_dtype(eta, "eta")
    if eta.ndim == 0 or (eta.shape[-1] == 0 and not minimal):
        raise ValueError(
            "eta needs a last dimension that holds the natural parameters, got shape "
            f"{tuple(eta.shape)}"
        )
    if anywhere(eta.isnan() | (eta == torch.inf)):
        raise ValueError(f"eta must not hold nan or inf, got {some_values(eta)}")
    if not minimal and anywhere((eta == -torch.inf).all(-1)):
        raise ValueError(
            "a row of eta is -inf throughout, which leaves no outcome possible; keep one finite"
        )
    return torch.cat([eta, eta.new_zeros(*eta.shape[:-1], 1)], dim=-1) if minimal else eta


def _log_probs(probs: Tensor, eta: Tensor | None) -> Tensor:
    """Logarithms of the probabilities, from the natural parameter if it is known."""
    return probs.log() if eta is None else log_softmax(eta)


def _to_natural(probs: Tensor, eta: Tensor | None, minimal: bool) -> Tensor:
    if not minimal:
        return _log_probs(probs, eta)
    ruled_out = probs[..., -1] == 0 if eta is None else eta[..., -1] == -torch.inf
    if anywhere(ruled_out):
        raise ValueError(
            "the last outcome has the probability 0, or one that was rounded to 0, so there are no "
            "log-odds against it; put an outcome that can occur last, or use minimal=False"
        )
    logs = probs.double().log() if eta is None else eta  # the quotient itself may overflow
    return (logs[..., :-1] - logs[..., -1:]).to(probs.dtype)


def _covariance(probs: Tensor) -> Tensor:
    products = probs.unsqueeze(-1) * probs.unsqueeze(-2)
    others = products - torch.diag_embed(products.diagonal(dim1=-2, dim2=-1))
    # On the diagonal the sum of p_i p_j over the others: 1 - p_i is 0 where p_i is rounded to 1.
    return torch.diag_embed(others.sum(-1)) - others


def _check_rows(probs: Tensor) -> None:
    _check_dtype(probs, "probs")
    if probs.ndim == 0 or probs.shape[-1] == 0:
        raise ValueError(
            f"probs need a last dimension that holds at least one outcome, got shape "
            f"{tuple(probs.shape)}"
        )
    if anywhere(probs.isnan()):
        raise ValueError(f"probs hold nan: {some_values(probs)}")
    check_distribution(probs, -1)


def _check_count(n: int, name: str) -> int:
    count = check_integer(n, name, 10)
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {shown(count)}")
    if count >= 2**63:
        raise ValueError(
            f"{name} must be below 2^63, got {shown(count)}; counts are int64, so take fewer draws "
            "at a time"
        )
    return count
