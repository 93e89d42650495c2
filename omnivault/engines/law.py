"""The law that an engine draws from, given logits and settings in its dialect.

Computed as a float32 engine would if it did not round on the way: logits and probabilities are
rounded to float32, and everything between is in float64, sums among it unless the dialect says that
the engine adds in float32. So borders that a few float32 numbers meet exactly are met, whatever
processor computes. Within a rounding of a border an engine may decide otherwise, on one machine and
not on the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omnivault._checks import check_integer, check_number, check_rows, shown
from omnivault.engines.dialect import DIALS, Dialect, dialect

Rule = Mapping[str, Any]
"""What a dialect says of one dial."""


def probs(
    logits: Tensor,
    engine: str,
    *,
    prompt: Sequence[int] = (),
    answer: Sequence[int] = (),
    order: Sequence[str] | None = None,
    intended: bool = False,
    **settings: Any,
) -> Tensor:
    """Return the probabilities with which an engine draws the next token.

    Parameters
    ----------
    logits
        Shape ``(V,)``, floating; -inf is a token that is ruled out.
    engine
        The name of its dialect, one of :data:`omnivault.engines.DIALECTS`; a version may follow, as
        in ``"onnxruntime-genai==0.13.0"``.
    prompt, answer
        Token indices that stand before, for ``repetition_penalty``.
    order
        Another order of the dials, where the engine lets a call say one.
    intended
        The law that the engine documents, where what it does is another.
    **settings
        Its dials: ``temperature``, ``top_k``, ``top_p``, ``min_p``, ``typical_p``,
        ``top_n_sigma``, ``xtc_probability`` with ``xtc_threshold``, ``repetition_penalty``; and
        its options, such as ``do_sample``. A dial that is not named is off, whatever the engine's
        defaults; ``**defaults(engine) | settings`` is what a call does that says no more.

    Returns
    -------
    Tensor
        float64 of shape ``(V,)``, with sum 1; 0 for a token that cannot be drawn.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or a dial holds no number.
    ValueError
        The row holds nan or ``+inf`` or nothing but ``-inf``, the engine does not have a dial,
        refuses its value, or was not run with such a value.

    Examples
    --------
    >>> row = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    >>> probs(row, "llama.cpp", temperature=2.0, top_p=0.65)  # cut before the division
    tensor([0.5359, 0.4641, 0.0000, 0.0000], dtype=torch.float64)
    >>> probs(row, "vllm", temperature=2.0, top_p=0.65)  # and after it
    tensor([0.3886, 0.3366, 0.2748, 0.0000], dtype=torch.float64)
    """
    check_rows(logits)
    if logits.ndim != 1:
        raise ValueError(
            f"logits must be one row of shape (V,), got {tuple(logits.shape)}; ask row by row"
        )
    spoken, settings = read_settings(engine, intended, settings)
    if order is not None:
        spoken = in_another_order(spoken, order)
    z = logits.detach().to("cpu", torch.float32).double()
    penalty = settings.pop("repetition_penalty", 1.0)
    z = _penalized(z, penalty, spoken.rules.get("repetition_penalty", {}), prompt, answer)
    if spoken.greedy:
        return _only(z, int(z.argmax()))
    share = settings.pop("xtc_probability", 0.0) if "xtc" in spoken.order else 0.0
    threshold = settings.pop("xtc_threshold", 1.0)
    law = _law(z, spoken, settings) if share < 1 else torch.zeros_like(z)
    if share:
        law = (1 - share) * law + share * _law(z, spoken, settings | {"xtc": threshold})
    return law


def kept(logits: Tensor, engine: str, **settings: Any) -> Tensor:
    """Return the tokens that an engine can draw.

    Parameters
    ----------
    logits, engine, settings
        As for :func:`probs`.

    Returns
    -------
    Tensor
        Their indices, int64 in rising order.

    Raises
    ------
    TypeError, ValueError
        As :func:`probs`.

    Examples
    --------
    >>> row = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    >>> kept(row, "vllm", top_k=3, top_p=0.75), kept(row, "sglang", top_k=3, top_p=0.75)
    (tensor([0, 1]), tensor([0, 1, 2]))
    """
    return probs(logits, engine, **settings).nonzero().flatten()


def read_settings(
    engine: str, intended: bool, settings: Mapping[str, Any]
) -> tuple[Dialect, dict[str, Any]]:
    """Return the dialect with the options that are set, and the dials by name."""
    plain = dialect(engine, intended=intended)
    options = {name: value for name, value in settings.items() if name in plain.options}
    dials = {name: value for name, value in settings.items() if name not in plain.options}
    for name in dials:
        if name not in plain.dials:
            known = ", ".join([*plain.dials, *plain.options])
            raise ValueError(f"{plain.name} has no dial {shown(name)}; it has {known}")
    set_options = {name: value for name, value in options.items() if value is not None}
    spoken = dialect(engine, intended=intended, **set_options)
    read = {name: _number(name, value) for name, value in dials.items() if value is not None}
    for name in UNORDERED & read.keys():
        _meaning(spoken, name, read[name], 0, read)  # none of them has another one
    return spoken, read


UNORDERED = {"repetition_penalty", "xtc_probability", "xtc_threshold"}
NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}
"""Values at which a dial changes nothing, in every dialect."""


def acting(spoken: Dialect, settings: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Return what the dials do, in a vocabulary of a size: numbers, or words such as ``greedy``."""
    done: dict[str, Any] = {}
    for name, value in settings.items():
        if name in spoken.without_effect:
            continue
        meaning = _meaning(spoken, name, value, size, settings)
        if meaning == "unfiltered":
            return {}
        if meaning not in ("off", NEUTRAL.get(name)):
            done[name] = meaning
    return done


def _number(name: str, value: Any) -> float:
    if name == "top_k":
        return check_integer(value, name, 50)
    number = check_number(value, name, 0.9)
    if math.isinf(number):
        raise ValueError(f"{name} must be finite, got {number}; leave it out to switch it off")
    return number


def _meaning(
    spoken: Dialect, name: str, value: float, size: int, settings: Mapping[str, Any]
) -> Any:
    for case in spoken.rules.get(name, {}).get("meaning", ()):
        if not _applies(case, value, size, settings):
            continue
        if case["then"] == "refused":
            raise ValueError(
                f"{spoken.name} {spoken.version} refuses {name} = {value:g}: {case['says']}"
            )
        return case["then"]
    usual = DIALS.get(name, "[0, 1]")
    low, high = usual[1:-1].split(", ")
    least, most = float(low), {"inf": torch.inf, "V": torch.inf}.get(high) or float(high)
    if not (least < value or (usual[0] == "[" and value == least)) or not value <= most:
        raise ValueError(
            f"what {spoken.name} {spoken.version} makes of {name} = {value:g} was not seen; "
            f"take a value of {usual}"
        )
    return value


def _applies(case: Mapping[str, Any], value: float, size: int, settings: Mapping[str, Any]) -> bool:
    limit = {key: size if case[key] == "V" else case[key] for key in case.keys() & _COMPARE.keys()}
    if not all(_COMPARE[key](value, number) for key, number in limit.items()):
        return False
    if "with" in case and not settings.get(case["with"]):
        return False
    return not ("without" in case and settings.get(case["without"]))


_COMPARE: dict[str, Any] = {
    "at": lambda value, number: value == number,
    "below": lambda value, number: value < number,
    "above": lambda value, number: value > number,
    "at_most": lambda value, number: value <= number,
    "at_least": lambda value, number: value >= number,
}


def in_another_order(spoken: Dialect, order: Sequence[str]) -> Dialect:
    """Return a dialect whose dials act in the order that a call says."""
    if not spoken.order_is_free:
        raise ValueError(f"{spoken.name} has one order, {', '.join(spoken.order)}; leave order out")
    unknown = [part for part in order if part not in spoken.order]
    if unknown:
        raise ValueError(
            f"{spoken.name} has no {shown(unknown[0])} to order; it has {', '.join(spoken.order)}"
        )
    return Dialect(**{**vars(spoken), "order": tuple(order)})


def _only(z: Tensor, index: int) -> Tensor:
    law = torch.zeros_like(z)
    law[index] = 1.0
    return law


def _penalized(
    z: Tensor,
    penalty: float,
    rule: Rule,
    prompt: Sequence[int],
    answer: Sequence[int],
) -> Tensor:
    """Divide positive logits of earlier tokens and multiply negative ones, once each."""
    counts = rule.get("counts", ())
    before = [*(prompt if "prompt" in counts else ()), *(answer if "answer" in counts else ())]
    if penalty == 1 or not before:
        return z
    outside = [token for token in before if not 0 <= check_integer(token, "a token", 50) < len(z)]
    if outside:
        raise ValueError(f"tokens must lie in [0, {len(z) - 1}], got {shown(outside[0])}")
    seen = torch.tensor(sorted(set(before[-rule.get("last", len(before)) :])))
    z = z.clone()
    z[seen] = torch.where(z[seen] > 0, z[seen] / penalty, z[seen] * penalty)
    return z


ONE_TOKEN: dict[Any, Callable[[Tensor], int]] = {
    "greedy": lambda z: int(z.argmax()),
    "token 0": lambda z: 0,
    "last token": lambda z: len(z) - 1,
}


def _law(z: Tensor, spoken: Dialect, settings: Mapping[str, Any]) -> Tensor:
    done = acting(spoken, settings, len(z))
    _check_entropy(z, spoken, done)
    for part in spoken.order:
        if part not in done:
            continue
        value = done[part]
        if value == "inverted until it overflows":
            value = "greedy" if _overflows(z, settings[part], done) else "inverted"
        if value in ONE_TOKEN:
            return _only(z, ONE_TOKEN[value](z))
        if value == "best":
            z = _without(z, torch.arange(len(z)) != z.argmax())
        elif part == "temperature":
            temperature = settings[part] if value == "inverted" else value
            z = _divided(z, temperature, spoken, done)
        else:
            rule = spoken.rules.get(part, {})
            if "top_k" in done:  # none of the faults is seen behind it
                rule = {key: rule[key] for key in rule if key != "fault"}
            z = CUTS[part](z, value, rule)
    return z.softmax(-1)


def _check_entropy(z: Tensor, spoken: Dialect, done: Mapping[str, Any]) -> None:
    rule = spoken.rules.get("typical_p", {})
    finite = int(z.isfinite().sum())
    # A top-k before it takes those tokens out of the array.
    if (
        rule.get("fault") == "nan beside -inf"
        and "typical_p" in done
        and finite < len(z)
        and done.get("top_k", len(z)) > finite
    ):
        raise ValueError(
            f"{spoken.name} {spoken.version} computes a nan for typical_p beside a token of -inf, "
            "and what it keeps then has no rule; intended=True gives the law that is meant"
        )


def _overflows(z: Tensor, temperature: float, done: Mapping[str, Any]) -> bool:
    """Whether an exponential of float32 does, less the logit that was the largest before."""
    left = z[z.isfinite()] if "top_k" in done else z
    return bool((left.min() - left.max()) / temperature > math.log(torch.finfo(torch.float32).max))


def _divided(z: Tensor, temperature: float, spoken: Dialect, done: Mapping[str, Any]) -> Tensor:
    if temperature > 0:
        return (z - z.max()) / temperature  # shifted, so that a tiny temperature makes no nan
    cut = bool(z.isneginf().any())
    if cut and not (spoken.order[0] == "top_k" and "top_k" in done):
        raise ValueError(
            f"temperature {temperature:g} makes +inf of a logit of -inf, and no law of the row; "
            f"{spoken.name} does not refuse it"
        )
    return torch.where(z.isfinite(), (z - z[z.isfinite()].min()) / temperature, -torch.inf)


def _float32_probs(z: Tensor) -> Tensor:
    """Probabilities rounded to float32; as float64, in which sums of few of them are exact."""
    return z.softmax(-1).float().double()


def _float32(value: float) -> float:
    return torch.tensor(value, dtype=torch.float32).item()


def _without(z: Tensor, removed: Tensor) -> Tensor:
    return z.masked_fill(removed, -torch.inf)


def _top_k(z: Tensor, k: int, rule: Rule) -> Tensor:
    if k >= len(z):
        return z
    smallest = z.topk(k).values[-1]
    if rule["ties"] == "all":
        return _without(z, z < smallest)
    tied = z == smallest
    spare = k - int((z > smallest).sum())
    return _without(z, (z < smallest) | (tied & (tied.cumsum(-1) > spare)))


def _top_p(z: Tensor, p: float, rule: Rule) -> Tensor:
    if p == 1:
        return z
    here = z.isfinite().nonzero().flatten()  # after another cut few are left to sort
    probs = _float32_probs(z)[here]
    if rule["ties"] == "last":
        # From the other end, as where the tail is summed up.
        ascending = probs.sort(stable=True)
        removed = ascending.values.cumsum(-1) <= _float32(1 - p)
        removed[-1] = False
        return _only_those(z, here[ascending.indices[~removed]])
    descending = probs.sort(descending=True, stable=True)
    before = _sums_before(descending.values, rule)
    if rule.get("fault") == "upper bound" and len(z) > 64:
        # The tail is taken for as many tokens as are left, each like the last one kept.
        through = before + descending.values
        left = len(z) - torch.arange(1, len(here) + 1)
        below = through < _float32(p) * (through + left * descending.values)
        return _only_those(z, here[descending.indices[: int(below.sum()) + 1]])
    removed = before > _float32(p) if rule["reached"] == "one more" else before >= _float32(p)
    removed[0] = False
    if rule["ties"] == "all":
        removed = descending.values < descending.values[~removed].min()
    return _only_those(z, here[descending.indices[~removed]])


def _min_p(z: Tensor, p: float, rule: Rule) -> Tensor:
    probs = _float32_probs(z)
    share = _float32(p) * probs.max()
    dropped = rule["border"] == "dropped"
    return _without(z, probs <= share if dropped and p else probs < share)


def _typical_p(z: Tensor, p: float, rule: Rule) -> Tensor:
    if p == 1:
        return z
    probs = _float32_probs(z)
    entropy = torch.special.entr(probs).sum()
    distance = (z.log_softmax(-1).neg() - entropy).abs().float()
    nearest = distance.sort(stable=True)
    before = _sums_before(probs[nearest.indices], rule)
    removed = before > _float32(p) if rule["reached"] == "one more" else before >= _float32(p)
    removed[0] = False
    if rule["ties"] == "all":
        removed = nearest.values > nearest.values[~removed].max()
    return _only_those(z, nearest.indices[~removed])


def _top_n_sigma(z: Tensor, n: float, rule: Rule) -> Tensor:
    deviation = z[z.isfinite()].std(correction=0)
    return _without(z, z < z.max() - n * deviation)


def _xtc(z: Tensor, threshold: float, rule: Rule) -> Tensor:
    """Remove every token of the threshold or more but the least probable of them."""
    probs = _float32_probs(z)
    above = (probs >= _float32(threshold)).nonzero().flatten()
    if len(above) < 2:
        return z
    removed = torch.zeros_like(z, dtype=torch.bool)
    removed[above] = True
    removed[above[probs[above].flip(0).argmin().neg() - 1]] = False  # of equals the last
    return _without(z, removed)


def _sums_before(probs: Tensor, rule: Rule) -> Tensor:
    """Return the mass before each token."""
    if rule.get("sums") == "float32":
        # One after the other, each sum rounded: NumPy's way, and no vector unit changes it.
        sums = torch.from_numpy(np.cumsum(probs.float().numpy(), dtype=np.float32)).double()
    else:
        sums = probs.cumsum(-1)
    return torch.cat([sums.new_zeros(1), sums[:-1]])


def _only_those(z: Tensor, tokens: Tensor) -> Tensor:
    return torch.full_like(z, -torch.inf).scatter(0, tokens, z[tokens])


CUTS = {
    "top_k": _top_k,
    "top_p": _top_p,
    "min_p": _min_p,
    "typical_p": _typical_p,
    "top_n_sigma": _top_n_sigma,
    "xtc": _xtc,
}
