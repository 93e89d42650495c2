"""What the loss measures: the checks of its exercises tell right answers from wrong ones."""

import math
from typing import Any

import torch
from torch.nn.functional import cross_entropy, one_hot

Tensor = torch.Tensor


def right_gradient(z: Tensor, y: int) -> Tensor:
    z = z.requires_grad_()
    cross_entropy(z.softmax(0), torch.tensor(y)).backward()
    assert z.grad is not None
    return z.grad


def one_softmax(z: Tensor, y: int) -> Tensor:
    return z.softmax(0) - one_hot(torch.tensor(y), len(z))


def in_u(z: Tensor, y: int) -> Tensor:
    return one_softmax(z.softmax(0), y)


def diagonal_alone(z: Tensor, y: int) -> Tensor:
    u = z.softmax(0)
    return u * (1 - u) * in_u(z, y)


def kl(p: Tensor, q: Tensor) -> Any:
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum()


def right_divergence(p: Tensor, q: Tensor) -> Any:
    m = (p + q) / 2
    return (kl(p, m) + kl(q, m)) / 2


def to_the_sum(p: Tensor, q: Tensor) -> Any:
    return (kl(p, p + q) + kl(q, p + q)) / 2


def from_the_middle(p: Tensor, q: Tensor) -> Any:
    m = (p + q) / 2
    return (kl(m, p) + kl(m, q)) / 2


def zeros_not_cared_for(p: Tensor, q: Tensor) -> Tensor:
    m = (p + q) / 2
    return ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2


def right_pull(z: Tensor, y: int, strength: float) -> Tensor:
    return one_softmax(z, y) + 2 * strength * z.logsumexp(0) * z.softmax(0)


def blocked_numbers(n: int, v: int, d: int, b: int) -> int:
    return n * (2 + d + min(b, v)) + v * d


RIGHT: dict[str, Any] = {
    "ex-double-gradient": right_gradient,
    "ex-perplexity-mean": lambda perplexities: math.exp(
        perplexities.log().sum() / len(perplexities)
    ),
    "ex-jensen-shannon": right_divergence,
    "ex-pinsker": lambda divergence: math.sqrt(2 * divergence) / 2,
    "ex-z-loss": right_pull,
    "ex-blocked-loss": blocked_numbers,
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-double-gradient": {
        "one softmax": one_softmax,
        "the gradient in u": in_u,
        "the diagonal of the Jacobian": diagonal_alone,
        "1/K everywhere": lambda z, y: one_softmax(z, y) / len(z),
        "downhill": lambda z, y: -right_gradient(z, y),
        "its length": lambda z, y: right_gradient(z, y).norm(),
    },
    "ex-perplexity-mean": {
        "the arithmetic mean": lambda perplexities: perplexities.mean(),
        "the harmonic mean": lambda perplexities: 1 / (1 / perplexities).mean(),
        "the product": lambda perplexities: perplexities.prod(),
        "the root of the product": lambda perplexities: perplexities.prod() ** 0.5,
        "the loss": lambda perplexities: perplexities.log().mean(),
    },
    "ex-jensen-shannon": {
        "not halved": lambda p, q: 2 * right_divergence(p, q),
        "without the middle": lambda p, q: (kl(p, q) + kl(q, p)) / 2,
        "the sum for the mean": to_the_sum,
        "from the middle": from_the_middle,
        "nan at zeros": zeros_not_cared_for,
        "in bits": lambda p, q: right_divergence(p, q) / math.log(2),
        "the distance": lambda p, q: right_divergence(p, q).clamp(min=0).sqrt(),
    },
    "ex-pinsker": {
        "no root": lambda divergence: divergence / 2,
        "the norm": lambda divergence: math.sqrt(2 * divergence),
        "the half outside": lambda divergence: math.sqrt(divergence) / 2,
        "in the other direction": lambda divergence: 2 * divergence**2,
    },
    "ex-z-loss": {
        "no penalty": lambda z, y, strength: one_softmax(z, y),
        "no 2": lambda z, y, strength: one_softmax(z, y) + strength * z.logsumexp(0) * z.softmax(0),
        "the same for all": lambda z, y, strength: (
            one_softmax(z, y) + 2 * strength * z.logsumexp(0) / len(z)
        ),
        "the level of the mean": lambda z, y, strength: (
            one_softmax(z, y) + 2 * strength * z.mean() * z.softmax(0)
        ),
        "the penalty alone": lambda z, y, strength: right_pull(z, y, strength) - one_softmax(z, y),
    },
    "ex-blocked-loss": {
        "all logits": lambda n, v, d, b: blocked_numbers(n, v, d, v),
        "a block longer than the vocabulary": lambda n, v, d, b: n * (2 + d + b) + v * d,
        "no gradient for W": lambda n, v, d, b: blocked_numbers(n, v, d, b) - v * d,
        "no gradient for x": lambda n, v, d, b: blocked_numbers(n, v, d, b) - n * d,
        "one number a row": lambda n, v, d, b: blocked_numbers(n, v, d, b) - n,
    },
}
