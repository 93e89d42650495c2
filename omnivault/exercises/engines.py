"""Checks for the chapter *The same dials in other engines*."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch

from omnivault.engines import probs
from omnivault.exercises.checking import (
    Case,
    WrongAnswerError,
    agree,
    called,
    claim,
    exercise,
    returns,
    tensor_of,
)

BY_HAND = {
    "T = 2, top-p 0.65 in llama.cpp": 2,
    "T = 2, top-p 0.65 in vLLM": 3,
    "top-k 3, top-p 0.75 in vLLM": 2,
    "top-k 3, top-p 0.75 in SGLang": 3,
    "min-p 0.6, top-p 0.55 in vLLM": 1,
    "min-p 0.6, top-p 0.55 in Transformers": 2,
}


@exercise(
    "ex-kept-in-engines",
    hint="a cut that comes first leaves the others probabilities that sum to one again.",
)
def kept_in_engines(numbers: Any, generator: torch.Generator) -> Iterator[Case]:
    got = tensor_of(numbers)
    yield claim(
        got is not None and got.shape == (len(BY_HAND),),
        "six numbers are wanted, in the order of the question.",
    )
    for number, (what, size) in zip(numbers, BY_HAND.items(), strict=True):
        yield claim(agree(number, size), f"{what}: another number of tokens can be drawn.")


@exercise("ex-port-share", hint="write both rules as a gap between logits that are not divided.")
def port_share(functions: Any, generator: torch.Generator) -> Iterator[Case]:
    to_first, to_last = _pair(functions, "the two functions")
    for share in (0.02, 0.1, 0.35, 0.8):
        for temperature in (0.4, 0.9, 1.0, 1.7, 3.0):
            # In logits: the gap that each rule allows, before the division.
            gap = -torch.tensor(share).double().log()
            first, last = (-gap / temperature).exp(), (-gap * temperature).exp()
            yield returns(to_first, share, temperature, expected=first, abs=1e-9)
            yield returns(to_last, share, temperature, expected=last, abs=1e-9)


@exercise("ex-first-or-last", hint="find the nucleus both ways, and see which of them it is.")
def first_or_last(side: Any, generator: torch.Generator) -> Iterator[Case]:
    for number in range(24):
        z = 2 * torch.randn(8, generator=generator)
        temperature = (0.5, 2.0, 1.2)[number % 3]
        cold, hot = (_sizes(z, t) for t in (1.0, temperature))
        # Between two sums of either law, so that rounding cannot move the border. The sums of all
        # tokens are 1, however they are rounded: one border.
        borders = sorted([0.0, *cold[:-1], *hot[:-1], 1.0])
        gaps = [b - a for a, b in itertools.pairwise(borders)]
        place = sorted(range(len(gaps)), key=gaps.__getitem__)[-1 - number % 3]
        rho = borders[place] + gaps[place] / 2
        sizes = [1 + sum(s < rho for s in sums) for sums in (hot, cold)]
        ranked = z.argsort(descending=True).tolist()
        for name, size in zip(("first", "last"), sizes, strict=True):
            expected = "either" if sizes[0] == sizes[1] else name
            yield returns(side, z, temperature, rho, set(ranked[:size]), expected=expected)


@exercise(
    "ex-number-for-row",
    hint="how many tokens are to be kept? Which masses do so many have at T, and one fewer?",
)
def number_for_row(ported_top_p: Any, generator: torch.Generator) -> Iterator[Case]:
    for number in range(20):
        z = (1 + number % 3) * torch.randn(10, generator=generator)
        temperature = (0.6, 1.6, 2.5)[number % 3]
        cold, hot = _sizes(z, 1.0), _sizes(z, temperature)
        size = 1 + number % 6
        rho = (cold[size - 1] + (cold[size - 2] if size > 1 else 0.0)) / 2
        got, told = called(ported_top_p, z, temperature, rho)
        share = tensor_of(got)
        yield claim(share is not None and share.ndim == 0, f"{told} no number.")
        assert share is not None
        low, high = hot[size - 2] if size > 1 else 0.0, hot[size - 1]
        yield claim(
            low < share <= high + 1e-9,
            f"{told} {share:.4g}, which keeps another number of tokens than {size}; a number "
            f"between {low:.4g} and {high:.4g} keeps so many.",
        )


@exercise(
    "ex-two-rows",
    hint="each row needs a number from an interval; make the two intervals lie apart.",
)
def two_rows(rows: Any, generator: torch.Generator) -> Iterator[Case]:
    intervals = []
    for row in _pair(rows, "two rows"):
        p = tensor_of(row)
        if p is None or p.ndim != 1 or len(p) < 2:
            raise WrongAnswerError("each of the two is a row of probabilities.")
        yield claim(
            bool((p > 0).all()) and abs(p.sum().item() - 1) < 1e-5,
            "the probabilities of a row are positive and sum to 1.",
        )
        cold, hot = _sizes(p.log(), 1.0), _sizes(p.log(), 2.0)
        yield claim(
            min(abs(mass - 0.6) for mass in cold) > 1e-6,
            "a sum of a row is 0.6 exactly, where rounding decides; move it a little.",
        )
        size = sum(mass < 0.6 for mass in cold)
        intervals.append((hot[size - 1] if size else 0.0, hot[size]))
    (low, high), (other_low, other_high) = intervals
    common = max(low, other_low), min(high, other_high)
    yield claim(
        common[0] >= common[1] + 1e-9,
        f"a top-p between {common[0]:.4g} and {common[1]:.4g} after the division does for both.",
    )


@exercise("ex-bound-kept", hint="rank the tokens, and count the last one taken as taken.")
def bound_kept(kept_by_bound: Any, generator: torch.Generator) -> Iterator[Case]:
    for size in (1, 2, 5, 12, 40, 200):
        for spread in (0.5, 1.5, 3.0):
            p = (spread * torch.randn(size, generator=generator)).softmax(0)
            ranked = sorted(p.tolist(), reverse=True)
            shares = [
                sum(ranked[:k]) / (sum(ranked[:k]) + (size - k) * ranked[k - 1])
                for k in range(1, size + 1)
            ]
            # Halfway between what one step reached and what the next does.
            reached = sorted({0.0, *(max(shares[:k]) for k in range(1, size + 1))})
            steps = [(b - a, (a + b) / 2) for a, b in itertools.pairwise(reached)]
            rho = max(step for step in steps if step[1] < 1)[1]
            expected = next(k for k, share in enumerate(shares, 1) if share >= rho)
            yield returns(kept_by_bound, p, rho, expected=expected)


@exercise(
    "ex-whose-draws",
    hint="a token that was drawn has no probability 0; and a larger set gives each one less.",
)
def whose_draws(whose: Any, generator: torch.Generator) -> Iterator[Case]:
    engines = ("llama.cpp", "transformers", "vllm", "sglang")
    settings = {"temperature": 1.6, "top_k": 9, "top_p": 0.8, "min_p": 0.12}
    asked = 0
    while asked < 12:
        z = 2 * torch.randn(14, generator=generator)
        laws = {name: probs(z, name, **settings) for name in engines}  # type: ignore[arg-type]
        name = engines[asked % len(engines)]
        others = [law for other, law in laws.items() if other != name]
        # 2,000 draws from laws this far apart are mistaken with a chance below 1e-12.
        if any(1 - (law * laws[name]).sqrt().sum() < 0.015 for law in others):
            continue
        asked += 1
        draws = torch.multinomial(laws[name], 2000, replacement=True, generator=generator)
        yield returns(whose, z, dict(settings), draws.tolist(), expected=name)


@exercise(
    "ex-finds-fault",
    hint="compare both laws, the new tokens too; what does a comparison with nan say?",
)
def finds_fault(passes: Any, generator: torch.Generator) -> Iterator[Case]:
    def right(z: torch.Tensor) -> torch.Tensor:
        return z.softmax(0)

    def counts_them(z: torch.Tensor) -> torch.Tensor:
        return probs(z, "onnxruntime-genai", top_p=0.5).to(z)

    def becomes_nan(z: torch.Tensor) -> torch.Tensor:
        p = z.softmax(0)
        entropy = -(p * p.log()).sum()
        return torch.where(p.log().neg() < entropy + 9, p, p) + 0 * entropy

    def revives_them(z: torch.Tensor) -> torch.Tensor:
        return (z.softmax(0) + 1e-4) / (1 + 1e-4 * len(z))

    def is_a_little_off(z: torch.Tensor) -> torch.Tensor:
        return z.softmax(0) * (1 + 1e-3 * bool(z.isinf().any()))

    samplers = {
        "the softmax": (right, True),
        "one that counts tokens that are ruled out": (counts_them, False),
        "one whose entropy is nan": (becomes_nan, False),
        "one that revives them": (revives_them, False),
        "one that is a thousandth off": (is_a_little_off, False),
    }
    for what, (sampler, expected) in samplers.items():
        for _ in range(2):  # of 64 tokens, from which on one more makes a difference
            z = torch.linspace(0, -4, 64) + 0.01 * torch.rand(64, generator=generator)
            got, _ = called(passes, sampler, z)
            verb = "passes" if expected else "does not pass"
            yield claim(agree(bool(got), expected), f"{what} {verb}, and your test disagrees.")


def _pair(answer: Any, what: str) -> tuple[Any, Any]:
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise WrongAnswerError(f"{what} are wanted.")
    return answer[0], answer[1]


def _sizes(z: torch.Tensor, temperature: float) -> list[float]:
    """Return the masses of the most probable token, of the two most probable, and so on."""
    total, sums = 0.0, []
    for p in sorted((z.double() / temperature).softmax(0).tolist(), reverse=True):
        total += p
        sums.append(total)
    return sums
