"""Every dialect agrees with everything that was seen of its engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import omnivault.engines
from omnivault.engines import DIALECTS, kept, probs

SEEN = json.loads(
    (Path(omnivault.engines.__file__).parent / "observations" / "by_hand.json").read_text("utf-8")
)
OBSERVATIONS: list[dict[str, Any]] = SEEN["observations"]
UNSEEN = 1e-9
"""No draw shows a token of so little probability, and no recorded digit."""
DEVIATIONS = 5.5
"""Of a frequency from its probability: 3.8e-8 for one of them, 3e-5 for the 700 that there are."""


def row_of(seen: dict[str, Any]) -> Tensor:
    count, value = seen.get("filler", (0, 0.0))
    return torch.tensor(SEEN["rows"][seen["row"]] + [value] * count, dtype=torch.float32)


def asked(seen: dict[str, Any]) -> dict[str, Any]:
    others = {key: seen[key] for key in ("order", "prompt") if key in seen}
    return {**seen["settings"], **others}


def name_of(seen: dict[str, Any]) -> str:
    filler = f"+{seen['filler'][0]}" if "filler" in seen else ""
    settings = ",".join(f"{k}={v}" for k, v in asked(seen).items())
    return f"{seen['engine']}-{seen['version']}-{seen['row']}{filler}-{settings}".replace(" ", "_")


LAWS = [seen for seen in OBSERVATIONS if "refused" not in seen]
REFUSALS = [seen for seen in OBSERVATIONS if "refused" in seen]


@pytest.mark.parametrize("seen", LAWS, ids=name_of)
def test_kept_sets_are_those_seen_and_probabilities_to_the_digits_recorded(
    seen: dict[str, Any],
) -> None:
    law = probs(row_of(seen), seen["engine"], **asked(seen))
    hidden = set(seen.get("unseen", ()))
    drawable = [i for i in (law > UNSEEN).nonzero().flatten().tolist() if i not in hidden]
    assert drawable == seen["kept"]
    if "probs" not in seen or seen["kept"][0] >= len(SEEN["rows"][seen["row"]]):
        return
    recorded = torch.tensor(seen["probs"], dtype=torch.float64)
    error = (law[: len(recorded)] - recorded).abs()
    if "draws" in seen:
        limit = DEVIATIONS * (law[: len(recorded)] / seen["draws"]).sqrt()
        assert (error <= limit + 10.0 ** -digits(seen["probs"])).all()
    else:
        # Half a unit of the last digit, and the float32 that the engine computed in.
        assert error.max() <= 0.5 * 10.0 ** -digits(seen["probs"]) + 4 * 2.0**-24


def digits(numbers: list[float]) -> int:
    """How many decimals were recorded."""
    return max(len(repr(float(x)).partition(".")[2]) for x in numbers)


@pytest.mark.parametrize("seen", REFUSALS, ids=name_of)
def test_what_an_engine_refused_its_dialect_refuses(seen: dict[str, Any]) -> None:
    name, value = next(iter((k, v) for k, v in seen["settings"].items() if k != "do_sample"))
    with pytest.raises(ValueError, match=rf"^{seen['engine']} .* refuses {name} = {value:g}: "):
        kept(row_of(seen), seen["engine"], **asked(seen))


def test_every_dialect_was_seen_and_every_observation_has_a_dialect() -> None:
    assert {seen["engine"] for seen in OBSERVATIONS} == set(DIALECTS)
    assert len(OBSERVATIONS) == 661
