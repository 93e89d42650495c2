#!/usr/bin/env bash
# jax 0.10.2 (CPU), Python 3.11
#
# jax.random.categorical adds Gumbel noise in the dtype of the logits and takes the largest sum. In
# bfloat16 the noise has 128 different values, so the largest of them is met once in 128 tokens, and
# of equal sums the first wins. Of 32,000 tokens with equal logits only those among the first
# thousand or two are ever drawn, and of two tokens at a gap of 9.5 the rarer never. Nothing is said;
# the same logits in float32 are drawn as they should be.
#
# Seen, equal logits: largest index in 2,000 draws 1,072 in bfloat16, 31,994 in float32; gap 9.5 in
#       4,000,000 draws, 299 due: 0 in bfloat16, 321 in float32.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet jax==0.10.2
JAX_PLATFORMS=cpu "$folder/env/bin/python" - <<'PYTHON'
import math

import jax
import jax.numpy as jnp

size, gap, draws = 32_000, 9.5, 4_000_000
due = draws / (1 + math.exp(gap))
largest, rare = {}, {}
for dtype in ("bfloat16", "float32"):
    one, other = jax.random.split(jax.random.key(0))
    equal = jax.random.categorical(one, jnp.zeros(size, dtype), shape=(2_000,))
    two = jax.random.categorical(other, jnp.array([0.0, -gap], dtype), shape=(draws,))
    largest[dtype], rare[dtype] = int(equal.max()), int(two.sum())
    print(f"{dtype}: largest index of equal tokens {largest[dtype]:,} of {size - 1:,};")
    print(f"    gap {gap}: {rare[dtype]} drawn, {due:.0f} due")
assert largest["float32"] > 0.99 * size
assert abs(rare["float32"] - due) < 6 * math.sqrt(due)
assert largest["bfloat16"] < size / 8, "later tokens are drawn now"
assert rare["bfloat16"] == 0, "the rarer token is drawn now"
PYTHON
