"""What the tests of the cuts share: every cut once more, of exact numbers.

No cut sees a shift of the logits, so each is told here from the probabilities alone: fractions, of
which borders and ties are exact, or numbers to 50 digits. A token that is ruled out has 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from mpmath import mp
from torch import Tensor

from omnivault.sampling import TRUNCATIONS
from tests.support.strategies import number, total, unit

Law = Sequence[Any]
Tokens = set[int]

U = unit(torch.float64)
ZERO = mp.mpf(10) ** -40
"""What 50 digits may leave of a difference that is none."""
NEAR = Fraction(1, 2**20)
"""Sums of eight terms in float64 round by some 2^-48 of what they are: a border is not so near."""


# Distributions ------------------------------------------------------------------------------------


def exact(x: Any) -> Any:
    return number(x) if isinstance(x, Fraction) else mp.mpf(x)


def shares(*weights: Any) -> list[Fraction]:
    return [Fraction(w) / sum(weights) for w in weights]


def renormalized(p: Law) -> list[Any]:
    return [x / sum(p) for x in p]


def entropy(p: Law) -> Any:
    return -mp.fsum(exact(x) * mp.log(exact(x)) for x in p if x)


def heated(p: Law, t: Any) -> list[Any]:
    """The distribution after a division of its logits by T: powers, renormalized."""
    powers = [(exact(x) / exact(max(p))) ** (1 / exact(t)) if x else mp.mpf(0) for x in p]
    return [x / mp.fsum(powers) for x in powers]


def ranking(p: Law) -> list[int]:
    """Most probable first; of equals the highest index."""
    return sorted(range(len(p)), key=lambda i: (-p[i], -i))


# Cuts ---------------------------------------------------------------------------------------------


def reaches(a: Any, b: Any) -> bool:
    """Whether a >= b; what 50 digits may lack of it is no lack."""
    if isinstance(a, Fraction | int) and isinstance(b, Fraction | int):
        return a >= b
    return bool(exact(a) >= exact(b) - ZERO * abs(exact(b)))


def at_least(p: Law, cutoff: Any) -> Tokens:
    return {i for i, x in enumerate(p) if x and reaches(x, cutoff)}


def keeps_order(p: Law, inside: Tokens) -> bool:
    """Whether every token more probable than one inside is inside."""
    return all(j in inside for i in inside for j, x in enumerate(p) if x > p[i])


def best(p: Law) -> Tokens:
    return {i for i, x in enumerate(p) if x == max(p)}


def top_k(p: Law, k: int) -> Tokens:
    return at_least(p, sorted(p)[len(p) - k])


def top_n_sigma(p: Law, n: Any) -> Tokens:
    gaps = {i: mp.log(exact(max(p)) / exact(x)) for i, x in enumerate(p) if x}
    mean = mp.fsum(gaps.values()) / len(gaps)
    sigma = mp.sqrt(mp.fsum((g - mean) ** 2 for g in gaps.values()) / len(gaps))
    return {i for i, g in gaps.items() if n == mp.inf or reaches(exact(n) * sigma, g)}


def top_p(p: Law, mass: Any) -> Tokens:
    order = [i for i in ranking(p) if p[i]]
    before = accumulate((p[i] for i in order[:-1]), initial=0)
    return {i for i, b in zip(order, before, strict=True) if mass == 1 or not reaches(b, mass)}


def min_p(p: Law, share: Any) -> Tokens:
    return at_least(p, share * max(p))


def distances(p: Law) -> dict[int, Any]:
    """Of each surprise from the entropy."""
    return {i: abs(mp.log(exact(x)) + entropy(p)) for i, x in enumerate(p) if x}


def typical_p(p: Law, mass: Any) -> Tokens:
    far = distances(p)
    order = sorted(far, key=lambda i: far[i])
    enough = (i for r, i in enumerate(order) if reaches(sum(p[j] for j in order[: r + 1]), mass))
    last = order[-1] if mass == 1 else next(enough)
    return {i for i in far if far[i] <= far[last] + ZERO}


def epsilon_cutoff(p: Law, epsilon: Any) -> Tokens:
    return at_least(p, epsilon) | best(p)


def eta_cutoff(p: Law, epsilon: Any) -> Tokens:
    return at_least(p, epsilon) | at_least(p, mp.sqrt(exact(epsilon)) * mp.exp(-entropy(p)))


def top_a(p: Law, a: Any) -> Tokens:
    return at_least(p, a * max(p) ** 2)


def renyi(p: Law, order: Any) -> Any:
    """The entropy of this order."""
    if order == 1:
        return entropy(p)
    if order == mp.inf:
        return -mp.log(exact(max(p)))
    power = mp.fsum(exact(x) ** exact(order) for x in p if x)
    return mp.log(power) / (1 - exact(order))


def p_less(p: Law, order: Any) -> Tokens:
    if order == mp.inf:
        return best(p)
    return at_least(p, total(x * x for x in p) if order == 2 else mp.exp(-renyi(p, order)))


def first_entropies(p: Law) -> list[Any]:
    """H(q_1), H(q_2), ..., of the first tokens of the ranking, renormalized."""
    falling = sorted((x for x in p if x), reverse=True)
    return [entropy(renormalized(falling[:r])) for r in range(1, len(falling) + 1)]


def top_h(p: Law, h: Any) -> Tokens:
    entropies = first_entropies(p)
    size = max(r for r, x in enumerate(entropies, 1) if reaches(exact(h) * entropies[-1], x))
    return set(ranking(p)[:size])


def turns(p: Law) -> list[Any]:
    """How much the ranked probabilities turn at the second, ..., the last but one."""
    falling = sorted(p, reverse=True)
    return [abs(a - 2 * b + c) for a, b, c in zip(falling, falling[1:], falling[2:], strict=False)]


def tail_free(p: Law, share: Any) -> Tokens:
    order, w = ranking(p), turns(p)
    if share == 1 or not any(w):
        return {i for i in order if p[i]}
    inside = [i for r, i in enumerate(order[1:-1], 1) if reaches(share * sum(w), sum(w[:r]))]
    return {order[0], *(i for i in inside if p[i])}


def xtc(p: Law, threshold: Any) -> Tokens:
    above = [i for i in ranking(p) if p[i] and reaches(p[i], threshold)]
    least = max((i for i in above if p[i] == p[above[-1]]), default=None)
    return {i for i, x in enumerate(p) if x and (i == least or i not in above)}


ORDERED = (
    *("top_k", "top_n_sigma", "top_p", "min_p", "epsilon_cutoff", "eta_cutoff"),
    *("top_a", "p_less", "top_h", "tail_free"),
)
SCALE_FREE = ("top_k", "top_n_sigma")
CUTS: dict[str, Callable[[Law, Any], Tokens]] = {
    cut.__name__: cut
    for cut in (
        *(top_k, top_n_sigma, top_p, min_p, typical_p),
        *(epsilon_cutoff, eta_cutoff, top_a, p_less, top_h, tail_free, xtc),
    )
}


def kept(name: str, p: Law, dial: Any) -> Tokens:
    """The tokens that a cut keeps of a distribution."""
    if not all(isinstance(x, Fraction | int) for x in p):
        p, dial = [exact(x) for x in p], dial if name == "top_k" else exact(dial)
    return CUTS[name](p, dial)


def is_clear(name: str, p: Law, dial: Any, near: Fraction = NEAR) -> bool:
    """Whether no border is so near that rounding may cross it."""
    if name == "top_k":
        return True
    if name == "typical_p":
        far = sorted(distances(p).items(), key=lambda pair: pair[1])
        if any(b - a < exact(near) for (i, a), (j, b) in pairwise(far) if p[i] != p[j]):
            return False
    if name == "p_less":
        above = (exact(x) * mp.exp(renyi(p, dial)) for x in p if x != max(p))
        return all(abs(x - 1) > exact(near) for x in above)
    # Of a straight line rounding makes a bent one, unless it is level.
    if (
        name == "tail_free"
        and len(set(p)) > 1
        and len(p) > 2
        and exact(sum(turns(p))) < exact(near)
    ):
        return False
    if dial in (0, mp.inf) or (dial == 1 and name in ("top_p", "typical_p", "top_h", "tail_free")):
        return True
    dials = [exact(dial) * (1 + exact(d)) for d in (-near, near)]
    return all(kept(name, [exact(x) for x in p], d) == kept(name, p, dial) for d in dials)


# What omnivault makes of it -----------------------------------------------------------------------


def row(p: Law, t: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
    """The logits of a distribution, divided by T and rounded."""
    return torch.tensor([float(mp.log(exact(x)) / t) if x else -torch.inf for x in p], dtype=dtype)


def tokens(z: Tensor) -> Tokens:
    return set(z.isfinite().nonzero().flatten().tolist())


def ours(name: str, z: Tensor, dial: Any) -> Tokens:
    """The tokens that omnivault keeps."""
    return tokens(TRUNCATIONS[name].function(z, dial if name == "top_k" else float(dial)))


# Inputs -------------------------------------------------------------------------------------------


@st.composite
def distributions(draw: DrawFn, min_size: int = 1, max_size: int = 6, least: int = 0) -> Any:
    """Fractions of whole weights up to 9, so that ties are common; 0 is a token ruled out."""
    weights = st.lists(st.integers(least, 9), min_size=min_size, max_size=max_size)
    return shares(*draw(weights.filter(any)))


def dials(name: str, size: int) -> st.SearchStrategy[Any]:
    """Settings of a cut, for rows of so many tokens: sixteenths, and what is special."""
    if name == "top_k":
        return st.integers(1, size)
    if name == "p_less":
        orders = [Fraction(1, 4), Fraction(1, 2), Fraction(3, 2), *map(Fraction, range(1, 9))]
        return st.sampled_from([*orders, mp.inf])
    sixteenths = st.integers(1, 16).map(lambda n: Fraction(n, 16))
    if name == "top_n_sigma":
        return st.one_of(sixteenths.map(lambda n: 4 * n), st.just(mp.inf))
    if name in ("min_p", "epsilon_cutoff", "eta_cutoff", "top_a"):
        return st.one_of(st.just(Fraction(0)), sixteenths)
    return sixteenths
