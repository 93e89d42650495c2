"""Necessary and sufficient: the checks of its exercises tell right answers from wrong ones."""

import math
from typing import Any

import torch

RIGHT: dict[str, Any] = {
    "ex-name-relation": lambda k: ("both", "neither", *["both" if k < 3 else "sufficient"] * 2),
    "ex-counterexample": ((3, 2, 1, 0), (3, math.log(8), math.log(math.e**2 + math.e - 8), 0)),
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-name-relation": {
        "two classes forgotten": lambda k: ["both", "neither", "sufficient", "sufficient"],
        "always as for two": lambda k: ["both", "neither", "both", "both"],
        "the arrow turned": lambda k: [
            "both",
            "neither",
            *["both" if k < 3 else "necessary"] * 2,
        ],
        "the level of the logits": lambda k: [
            "both",
            "sufficient",
            *["both" if k < 3 else "sufficient"] * 2,
        ],
        "one word": lambda k: "both",
        "an error": lambda k: ["both"][k],
    },
    "ex-counterexample": {
        "probabilities, not logits": [[0.4, 0.25, 0.25, 0.1], [0.4, 0.3, 0.2, 0.1]],
        "another order": torch.tensor([[3.0, 2.0, 1.0, 0.0], [3.0, 1.0, 2.0, 0.0]]),
        "a constant": [[3.0, 2.0, 1.0, 0.0], [4.0, 3.0, 2.0, 1.0]],
        "the same extreme logits": [[3.0, 2.0, 1.0, 0.0], [3.0, 2.0, 2.0, 0.0]],
        "the largest alone": [
            [math.log(p) for p in (0.4, 0.3, 0.2, 0.1)],
            [math.log(p) for p in (0.4, 0.25, 0.2, 0.15)],
        ],
        "three classes": [[3.0, 2.0, 1.0], [3.0, 1.0, 2.0]],
        "one vector": [3.0, 2.0, 1.0, 0.0],
        "a word": "none",
    },
}
