#!/usr/bin/env bash
# numpy 2.4.6, Python 3.11
#
# Generator.choice checks that probabilities sum to 1 with a tolerance that it takes from their
# dtype: the square root of its rounding unit. A softmax computed in float32 is taken as it stands; the
# same numbers in float64, which hold every one of them exactly, are refused for most rows. So a cast
# to the more precise dtype, or a round trip through a list, makes a sampler fail, now and then.
#
# Seen, 200 rows of 1,000 float32 probabilities: all are drawn from; as float64, 153 raise
#       "Probabilities do not sum to 1".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import numpy as np

rng = np.random.default_rng(0)
refused = {"float32": 0, "float64": 0}
for _ in range(200):
    weights = np.exp(rng.normal(scale=3.0, size=1_000)).astype(np.float32)
    probs = weights / weights.sum()
    for dtype in refused:
        same = probs.astype(dtype)
        assert (same == probs).all()
        try:
            rng.choice(1_000, p=same)
        except ValueError as error:
            refused[dtype] += 1
            words = error
print(f"refused of 200 rows: {refused}; {words}")
assert refused["float32"] == 0, "float32 is refused now"
assert refused["float64"] > 50, "float64 is taken now"
PYTHON
