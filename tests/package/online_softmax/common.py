"""What several of these tests share."""

from __future__ import annotations

import math

import pytest

INF, NAN = math.inf, math.nan
MASKED = {
    "a chunk in front": [-INF, -INF, 1.0, 2.0, 0.5],
    "a chunk in the middle": [1.0, 2.0, -INF, -INF, 0.5, 3.0],
    "a chunk at the end": [0.5, 1.0, -INF],
    "all but one": [-INF, -INF, -INF, 4.0, -INF],
    "one in each chunk": [1.0, -INF, -INF, 2.0],
}
masked = pytest.mark.parametrize("values", MASKED.values(), ids=MASKED.keys())
