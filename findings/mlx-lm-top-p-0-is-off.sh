#!/usr/bin/env bash
# mlx-lm 0.32.0, mlx 0.32.4 (CPU), Python 3.11
#
# The smaller top_p is, the fewer tokens make_sampler's sampler keeps, down to the most likely one at
# .01; at 0 it keeps all of them, as at 1. Elsewhere 0 keeps one token, or is refused. So a setting of
# 0, meant to be greedy, samples from the whole vocabulary.
#
# Seen, different tokens in 2,000 draws of (.5, .25, .125, .0625, .0625): top_p 1: 5, .7: 2, .01: 1,
#       0: 5.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet mlx-lm==0.32.0 "mlx[cpu]==0.32.4"
"$folder/env/bin/python" - <<'PYTHON'
import mlx.core as mx
from mlx_lm.sample_utils import make_sampler

mx.set_default_device(mx.cpu)
mx.random.seed(0)
logprobs = mx.broadcast_to(mx.log(mx.array([0.5, 0.25, 0.125, 0.0625, 0.0625])), (2_000, 5))
kept = {}
for top_p in (1.0, 0.7, 0.01, 0.0):
    kept[top_p] = sorted(set(make_sampler(temp=1.0, top_p=top_p)(logprobs).tolist()))
    print(f"top_p {top_p}: {kept[top_p]}")
assert kept[0.7] == [0, 1]
assert kept[0.01] == [0]
assert kept[0.0] == kept[1.0] == [0, 1, 2, 3, 4], "top_p 0 is not off now"
PYTHON
