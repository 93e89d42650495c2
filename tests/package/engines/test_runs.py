"""Every dialect agrees with what the engines answered to the programs that ask them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

import omnivault.engines
from omnivault.engines import DIALECTS, dialect, probs

FOLDER = Path(omnivault.engines.__file__).parent / "observations"
RUNS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text("utf-8"))
    for path in sorted(FOLDER.glob("*.json"))
    if path.stem != "by_hand"
}
RARE = 1e-10
"""Chance of a count, or of a token that is not drawn, that no right law has: about 1e-5 for all."""


def cases() -> list[Any]:
    return [
        pytest.param(run, seen, id=f"{name}-{seen['row']}-{seen['settings']}".replace(" ", ""))
        for name, run in RUNS.items()
        for seen in run["observations"]
    ]


def law_of(run: dict[str, Any], seen: dict[str, Any]) -> Tensor:
    row = torch.tensor([float(z) for z in run["rows"][seen["row"]]], dtype=torch.float32)
    if run["engine"] in DIALECTS:
        return probs(row, run["engine"], **seen["settings"])
    # JAX draws from logits; its program divides them.
    temperature: float = seen["settings"].get("temperature", 1.0)
    return (row.double() / temperature).softmax(0)


@pytest.mark.parametrize(("run", "seen"), cases())
def test_a_run_shows_the_law_of_the_dialect(run: dict[str, Any], seen: dict[str, Any]) -> None:
    if "refused" in seen and run["engine"] not in DIALECTS:
        assert seen["settings"]["temperature"] <= 0  # JAX has no temperature; its program refuses
        return
    if "refused" in seen:
        with pytest.raises(ValueError, match=" refuses "):
            law_of(run, seen)
        return
    masked = "-inf" in run["rows"][seen["row"]]
    if run["engine"] == "llama.cpp" and masked and seen["settings"].get("typical_p", 1) < 1:
        with pytest.raises(ValueError, match="computes a nan for typical_p beside"):
            law_of(run, seen)
        return
    law = law_of(run, seen)
    found = torch.zeros_like(law)
    if "counts" in seen:
        n = seen["draws"]
        assert sum(seen["counts"]) == n
        found[: len(seen["counts"])] = torch.tensor(seen["counts"], dtype=torch.float64)
        if (found * (law == 0)).any():
            found = _of_any_ties(run, seen, law, found)
        below = torch.from_numpy(stats.binom.cdf(found.numpy(), n, law.numpy()))
        above = torch.from_numpy(stats.binom.sf(found.numpy() - 1, n, law.numpy()))
        assert torch.minimum(below, above).min() > RARE
    else:
        found[seen["kept"]] = 1.0
        if "probs" in seen:
            found = torch.tensor(seen["probs"], dtype=torch.float64)
        if (found * (law == 0)).any():
            found = _of_any_ties(run, seen, law, found)
        # Six places, and float32.
        assert (found - law).abs().max() <= 0.5e-6 + 4 * 2.0**-24


def _of_any_ties(run: dict[str, Any], seen: dict[str, Any], law: Tensor, found: Tensor) -> Tensor:
    """Exchange equal tokens, of an engine that keeps any of those that tie at a border."""
    ties = {dialect(run["engine"]).rules[dial].get("ties") for dial in ("top_k", "top_p")}
    assert ties == {"some"}
    row = [float(z) for z in run["rows"][seen["row"]]]
    made = found.clone()
    for z in set(row):
        same = torch.tensor([i for i, other in enumerate(row) if other == z])
        # Those drawn most take the places of those that can be drawn.
        drawn = found[same].sort(descending=True).values
        made[same[law[same].argsort(descending=True, stable=True)]] = drawn
    return made


def test_at_least_six_engines_were_asked() -> None:
    assert len(RUNS) >= 6
    for name, run in RUNS.items():
        assert run["engine"] == name
        assert run["version"]
        assert run["how"]
