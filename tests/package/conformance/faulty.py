"""A right sampler whose parts can be replaced, and the faults that the cases have to catch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivault.conformance import Sampler

Array = NDArray[Any]
DIALS = ("temperature", "top_k", "top_p", "min_p", "typical_p", "top_n_sigma")

# What the right sampler below promises.
DIALECT = {
    "temperature": "first",
    "top-k ties": "first",
    "top-p ties": "first",
    "top-p exactly": "stops",
    "top-p of": "the rest",
    "min-p and top-p": "top-p first",
}


def softmax(z: Array) -> Array:
    weights = np.exp(z - z.max())
    result: Array = weights / weights.sum()
    return result


def top_k(z: Array, k: int) -> Array:
    order = np.argsort(-z, kind="stable")
    return keep(z, order[:k])


def top_p(z: Array, p: float) -> Array:
    if p >= 1:
        return z
    probs = softmax(z)
    order = np.argsort(-probs, kind="stable")
    before = np.cumsum(probs[order]) - probs[order]
    # Sums that are equal but for their rounding count as equal.
    return keep(z, order[: max(1, int((before < p - 1e-9).sum()))])


def min_p(z: Array, p: float) -> Array:
    probs = softmax(z)
    return keep(z, np.flatnonzero(probs >= p * probs.max() * (1 - 1e-9)))


def typical_p(z: Array, p: float) -> Array:
    probs = softmax(z)
    there = probs > 0
    surprise = -np.log(np.where(there, probs, 1.0))
    entropy = (probs * surprise).sum()
    order = np.argsort(np.where(there, np.abs(surprise - entropy), np.inf), kind="stable")
    before = np.cumsum(probs[order]) - probs[order]
    return keep(z, order[before < p])


def top_n_sigma(z: Array, n: float) -> Array:
    finite = z[np.isfinite(z)]
    return keep(z, np.flatnonzero(z >= z.max() - n * finite.std()))


def keep(z: Array, tokens: Array) -> Array:
    kept = np.full_like(z, -np.inf)
    kept[tokens] = z[tokens]
    return kept


def inversion(probs: Array, n: int, rng: np.random.Generator) -> Array:
    total = np.cumsum(probs)
    drawn: Array = np.searchsorted(total, rng.random(n) * total[-1], side="right")
    return drawn


def temperature(z: Array, t: float) -> Array:
    if t < 0:
        raise ValueError("T < 0")
    return z / t if t > 0 else keep(z, np.array([z.argmax()]))


Cut = Callable[[Array, Any], Array]


@dataclass(frozen=True)
class Parts:
    """A right sampler, in float64."""

    softmax: Callable[[Array], Array] = softmax
    top_k: Cut = top_k
    top_p: Cut = top_p
    min_p: Cut = min_p
    typical_p: Cut = typical_p
    top_n_sigma: Cut = top_n_sigma
    temperature: Cut = temperature
    order: Sequence[str] = ("temperature", "top_n_sigma", "top_k", "typical_p", "top_p", "min_p")
    draw: Callable[[Array, int, np.random.Generator], Array] = inversion
    seed: Callable[[int], int] = lambda seed: seed
    row: Callable[[Array], Array] = lambda z: z
    """What happens to the logits first."""

    def probs(self, logits: Sequence[float], settings: Mapping[str, Any]) -> Array:
        z = self.row(np.array(logits))
        for dial in self.order:
            if dial in settings:
                z = getattr(self, dial)(z, settings[dial])
        return self.softmax(z)

    def draws(
        self, logits: Sequence[float], settings: Mapping[str, Any], n: int, seed: int
    ) -> Array:
        rng = np.random.default_rng(self.seed(seed))
        return self.draw(self.probs(logits, settings), n, rng)

    def draws_of_rows(
        self,
        rows: Sequence[Sequence[float]],
        settings: Sequence[Mapping[str, Any]],
        n: int,
        seed: int,
    ) -> list[Array]:
        rng = np.random.default_rng(self.seed(seed))
        return [
            self.draw(self.probs(z, dials), n, rng) for z, dials in zip(rows, settings, strict=True)
        ]

    def sampler(self) -> Sampler:
        def probs_batch(rows: Any, settings: Any) -> list[Array]:
            return [self.probs(z, dials) for z, dials in zip(rows, settings, strict=True)]

        return Sampler(
            "parts",
            DIALS,
            probs=self.probs,
            draw=self.draws,
            probs_batch=probs_batch,
            draw_batch=self.draws_of_rows,
        )


RIGHT = Parts()


def float32_sums(probs: Array, n: int, rng: np.random.Generator) -> Array:
    total = np.cumsum(probs.astype(np.float32), dtype=np.float32)
    drawn: Array = np.searchsorted(total, rng.random(n) * total[-1], side="right")
    return drawn.clip(0, len(probs) - 1)


def float32_sums_to_the_end(probs: Array, n: int, rng: np.random.Generator) -> Array:
    """What lies beyond the last sum falls to the last token."""
    total = np.cumsum(probs.astype(np.float32), dtype=np.float32)
    drawn: Array = np.searchsorted(total, rng.random(n), side="right").clip(max=len(probs) - 1)
    return drawn


def uniform_of(bits: int) -> Callable[[Array, int, np.random.Generator], Array]:
    def draw(probs: Array, n: int, rng: np.random.Generator) -> Array:
        total = np.cumsum(probs)
        u = rng.integers(2**bits, size=n) / 2.0**bits
        drawn: Array = np.searchsorted(total, u * total[-1], side="right")
        return drawn

    return draw


def left_search(probs: Array, n: int, rng: np.random.Generator) -> Array:
    """A uniform number of 8 bits is 0 often, and finds a first token of probability 0."""
    u = rng.integers(2**8, size=n) / 2.0**8
    drawn: Array = np.searchsorted(np.cumsum(probs), u, side="left")
    return drawn.clip(0, len(probs) - 1)


def off_by_one(probs: Array, n: int, rng: np.random.Generator) -> Array:
    exclusive = np.cumsum(probs) - probs
    drawn: Array = np.searchsorted(exclusive, rng.random(n) * probs.sum(), side="left")
    return drawn.clip(0, len(probs) - 1)


def float32_gumbel(probs: Array, n: int, rng: np.random.Generator) -> Array:
    """The race, one by one only between the leader and the best of each group of equal tokens."""
    with np.errstate(divide="ignore"):
        logits = np.log(probs)
    # The largest of m noises of 24 bits: its uniform is the m-th root of one, rounded to the grid.
    values, which, counts = np.unique(logits, return_inverse=True, return_counts=True)
    u = rng.random((n, len(values))) ** (1 / counts)
    u = np.floor(u * 2.0**24).clip(1) / 2.0**24
    winner = (values - np.log(-np.log(u))).argmax(-1)
    drawn = np.empty(n, np.int64)
    for group in np.unique(winner):
        members = np.flatnonzero(which == group)
        drawn[winner == group] = rng.choice(members, (winner == group).sum())
    return drawn


def ties_kept(z: Array, k: int) -> Array:
    return keep(z, np.flatnonzero(z >= np.sort(z)[-min(k, len(z))]))


def ties_dropped(z: Array, k: int) -> Array:
    """Only what is above the first token that is left out."""
    if k >= len(z):
        return z
    return keep(z, np.flatnonzero(z > np.sort(z)[-k - 1]))


def upper_bound(z: Array, p: float) -> Array:
    """The smallest k with S_k >= p (S_k + (V - k) p_k): as if the tail were flat."""
    probs = softmax(z)
    order = np.argsort(-probs, kind="stable")
    s, left = np.cumsum(probs[order]), len(z) - 1 - np.arange(len(z))
    enough = s >= p * (s + left * probs[order])
    return keep(z, order[: int(enough.argmax()) + 1])


def crossing_dropped(z: Array, p: float) -> Array:
    """Keep while the sum is at most p: the token that crosses is lost."""
    probs = softmax(z)
    order = np.argsort(-probs, kind="stable")
    return keep(z, order[: max(1, int((np.cumsum(probs[order]) <= p).sum()))])


def crossing_late(z: Array, p: float) -> Array:
    """Keep a token more where the border is reached exactly."""
    if p >= 1:
        return z
    probs = softmax(z)
    order = np.argsort(-probs, kind="stable")
    before = np.cumsum(probs[order]) - probs[order]
    return keep(z, order[: int((before <= p + 1e-9).sum())])


def strict_min_p(z: Array, p: float) -> Array:
    probs = softmax(z)
    return keep(z, np.flatnonzero(probs > p * probs.max() * (1 + 1e-9)))


def min_p_of_one(z: Array, p: float) -> Array:
    probs = softmax(z)
    return keep(z, np.union1d(np.flatnonzero(probs >= p), [z.argmax()]))


def nan_entropy(z: Array, p: float) -> Array:
    """0 log 0 is nan, every comparison with it is false, and everything stays."""
    return typical_p(z, p) if np.isfinite(z).all() else z


def sigma_of_all(z: Array, n: float) -> Array:
    """A token that is ruled out counts as a very small logit."""
    return keep(z, np.flatnonzero(z >= z.max() - n * z.clip(-100).std()))


def nan_softmax(z: Array) -> Array:
    return softmax(z) if np.isfinite(z).all() else np.full_like(z, np.nan)


def masked_as(value: float) -> Callable[[Array], Array]:
    return lambda z: np.where(np.isfinite(z), z, value)


def unshifted(z: Array) -> Array:
    weights = np.exp(z.astype(np.float32))
    result: Array = weights / weights.sum()
    return result


def half(kind: str) -> Callable[[Array], Array]:
    def round_half(z: Array) -> Array:
        if kind == "float16":
            return z.astype(np.float16).astype(np.float64)
        mantissa, exponent = np.frexp(z)
        return np.where(np.isfinite(z), np.ldexp(np.round(mantissa * 256) / 256, exponent), z)

    def half_softmax(z: Array) -> Array:
        return round_half(softmax(round_half(z)))

    return half_softmax


def not_renormalized(z: Array, k: int) -> Array:
    """Marks what it rules out by a large negative number that T brings back."""
    return np.where(np.isfinite(top_k(z, k)), z, z - 4.0)


class _Forgets(Parts):
    """What is kept keeps its share of the whole row."""

    def probs(self, logits: Sequence[float], settings: Mapping[str, Any]) -> Array:
        warm = {k: v for k, v in settings.items() if k == "temperature"}
        return np.where(super().probs(logits, settings) > 0, super().probs(logits, warm), 0.0)


class _Speculates(Parts):
    """Accepts a draft at T by the odds of a target whose division by T is forgotten."""

    def draws(
        self, logits: Sequence[float], settings: Mapping[str, Any], n: int, seed: int
    ) -> Array:
        dials = {dial: value for dial, value in settings.items() if dial != "temperature"}
        target = self.probs(logits, dials)
        draft = self.probs([z / 2 for z in logits], settings)
        rng = np.random.default_rng(seed)
        drawn = inversion(draft, n, rng)
        accepted = rng.random(n) < target[drawn] / draft[drawn]
        residual = (target - draft).clip(0)
        if residual.sum() == 0:
            return drawn
        return np.where(accepted, drawn, inversion(residual / residual.sum(), n, rng))


class _RowsShare(Parts):
    """Every row of a batch is drawn with the same numbers."""

    def draws_of_rows(
        self,
        rows: Sequence[Sequence[float]],
        settings: Sequence[Mapping[str, Any]],
        n: int,
        seed: int,
    ) -> list[Array]:
        return [self.draws(z, dials, n, seed) for z, dials in zip(rows, settings, strict=True)]


class _FirstRowDials(Parts):
    """A batch whose rows all get the dials of the first."""

    def draws_of_rows(
        self,
        rows: Sequence[Sequence[float]],
        settings: Sequence[Mapping[str, Any]],
        n: int,
        seed: int,
    ) -> list[Array]:
        return super().draws_of_rows(rows, [settings[0]] * len(rows), n, seed)


def repeated(probs: Array, n: int, rng: np.random.Generator) -> Array:
    """Each draw of a call from a generator with the same seed, twice."""
    return np.repeat(inversion(probs, n // 2, rng), 2)


def clamped(least: float, most: float) -> Cut:
    return lambda z, t: temperature(z, min(max(t, least), most) if t > 0 else t)


def changed(**parts: Any) -> Parts:
    return replace(RIGHT, **parts)


@dataclass(frozen=True)
class Fault:
    parts: Parts
    case: str
    """Must catch it, among others."""
    kind: str


def order(*names: str) -> Parts:
    return changed(order=names)


FAULTS: dict[str, Fault] = {
    # Against the dialect that the sampler promises.
    "temperature last": Fault(
        order("top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "temperature"),
        "top-p-temperature",
        "probs",
    ),
    "min-p before top-p": Fault(
        order("temperature", "top_n_sigma", "top_k", "typical_p", "min_p", "top_p"),
        "min-p-top-p",
        "probs",
    ),
    "top-k after top-p": Fault(
        order("temperature", "top_n_sigma", "top_p", "top_k", "typical_p", "min_p"),
        "top-p-top-k",
        "probs",
    ),
    "ties kept at top-k": Fault(changed(top_k=ties_kept), "top-k-all-tie", "probs"),
    "one more at an exact border": Fault(changed(top_p=crossing_late), "top-p-exact-four", "probs"),
    # Against every dialect.
    "ties dropped at top-k": Fault(changed(top_k=ties_dropped), "top-k-tie", "probs"),
    "the crossing token dropped": Fault(changed(top_p=crossing_dropped), "top-p", "probs"),
    "a nucleus by an upper bound": Fault(changed(top_p=upper_bound), "size-65-top-p", "probs"),
    "strict min-p": Fault(changed(min_p=strict_min_p), "min-p-one", "probs"),
    "min-p of one": Fault(changed(min_p=min_p_of_one), "min-p", "probs"),
    "top-k one too many": Fault(changed(top_k=lambda z, k: top_k(z, k + 1)), "top-k-one", "probs"),
    "top-k of the first tokens": Fault(
        changed(top_k=lambda z, k: keep(z, np.arange(k))), "top-k-permuted", "probs"
    ),
    "nan entropy": Fault(changed(typical_p=nan_entropy), "masked-typical-p", "probs"),
    "a deviation of masked tokens": Fault(
        changed(top_n_sigma=sigma_of_all), "masked-top-n-sigma", "probs"
    ),
    "nan on one -inf": Fault(changed(softmax=nan_softmax), "one-masked", "probs"),
    "a mask of -10": Fault(changed(row=masked_as(-10.0)), "one-masked", "probs"),
    "a mask that T brings back": Fault(
        changed(top_k=not_renormalized), "top-k-temperature", "probs"
    ),
    "renormalization forgotten": Fault(_Forgets(), "top-k-two", "probs"),
    "temperature ignored": Fault(changed(temperature=lambda z, t: z), "temperature-half", "probs"),
    "temperature multiplied": Fault(
        changed(temperature=lambda z, t: z * t), "temperature-half", "probs"
    ),
    "temperature after the softmax": Fault(
        changed(
            temperature=lambda z, t: np.log(softmax(z) ** 2) / 2 / t + 1e-3 * np.arange(len(z))
        ),
        "temperature-two",
        "probs",
    ),
    "temperature clamped below": Fault(
        changed(temperature=clamped(0.01, math.inf)), "temperature-1e-3", "probs"
    ),
    "temperature clamped above": Fault(
        changed(temperature=clamped(0.0, 100.0)), "temperature-1e3", "probs"
    ),
    "inverted below zero": Fault(
        changed(temperature=lambda z, t: z / t), "temperature-negative", "probs"
    ),
    "no shift": Fault(changed(softmax=unshifted), "far-above-zero", "probs"),
    "half precision": Fault(changed(softmax=half("float16")), "float16-logits", "probs"),
    "bfloat16": Fault(changed(softmax=half("bfloat16")), "bfloat16-logits-temperature", "probs"),
    # Only draws show it.
    "float32 cumulative sums": Fault(changed(draw=float32_sums), "far-tail", "draw"),
    "float32 cumulative sums, to the last token": Fault(
        changed(draw=float32_sums_to_the_end), "far-tail", "draw"
    ),
    "a uniform of 15 bits": Fault(changed(draw=uniform_of(15)), "numbers-suffice", "draw"),
    "a uniform of 24 bits": Fault(changed(draw=uniform_of(24)), "fine-tail", "draw"),
    "a uniform of 8 bits": Fault(changed(draw=uniform_of(8)), "every-residue", "draw"),
    "Gumbel noise of 24 bits": Fault(changed(draw=float32_gumbel), "far-tail", "draw"),
    "a left search of zero": Fault(changed(draw=left_search), "first-masked", "draw"),
    "off by one": Fault(changed(draw=off_by_one), "plain", "draw"),
    "greedy": Fault(
        changed(draw=lambda probs, n, rng: np.full(n, probs.argmax())), "two-tokens", "draw"
    ),
    "one draw for all": Fault(
        changed(draw=lambda probs, n, rng: np.repeat(inversion(probs, 1, rng), n)),
        "draws-differ",
        "draw",
    ),
    "every draw twice": Fault(changed(draw=repeated), "draws-differ", "draw"),
    "a seed that is ignored": Fault(changed(seed=lambda seed: 7), "seeds-differ", "draw"),
    "temperature forgotten in speculation": Fault(_Speculates(), "temperature-half", "draw"),
    "rows that share a draw": Fault(_RowsShare(), "rows-differ", "draw"),
    "dials of the first row": Fault(_FirstRowDials(), "batch-of-dials", "draw"),
}
