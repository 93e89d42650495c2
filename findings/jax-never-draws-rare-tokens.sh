#!/usr/bin/env bash
# jax 0.10.2 (CPU), Python 3.11
#
# jax.random.categorical adds Gumbel noise, made from uniform numbers of the dtype of the logits, and
# takes the largest sum. The noise ends where the uniform numbers do. In float32 that is at 15.9, so
# a token at a gap of 17.5 below the best comes up far too rarely, and one at a gap of 25 never. With
# bfloat16 logits there are 128 different values of noise: of 32,000 equal tokens only the first ones
# are ever drawn, since the largest value is met early and the first of equals wins. There
# mode="high" makes the noise of two uniform numbers, and is near enough in float32.
#
# Seen: gap 17.5, 4 * 10^8 draws: 10.0 due, 0 drawn ("high": 9); equal tokens in bfloat16, 20,000
#       draws: the largest index drawn is 1,084 of 31,999 (float32: 31,997).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet jax==0.10.2
JAX_PLATFORMS=cpu "$folder/env/bin/python" - <<'PYTHON'
import math

import jax
import jax.numpy as jnp

gap, size, times = 15.0, 4_000_000, 25


def rare(mode):
    @jax.jit
    def count(key):
        return jax.random.categorical(key, jnp.array([0.0, -gap]), shape=(size,), mode=mode).sum()
    return sum(int(count(key)) for key in jax.random.split(jax.random.key(0), times))

import time
for gap in (12.,14.,15.,16.,16.5,17.,17.5):
    t=time.time()
    due = size * times / (1 + math.exp(gap))
    print(gap, due, rare("low"), rare("high"), time.time()-t, flush=True)
for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
    d=jax.random.categorical(jax.random.key(0), jnp.zeros(32000,dtype), shape=(20,1000)[1:])
    print(dtype, int(d.max()), len(set(d.tolist())))
    g=jax.random.gumbel(jax.random.key(1),(1_000_000,),dtype); print(len(set(g.tolist())), g.max(), g.min())
print(jax.random.categorical.__doc__[:2500])
PYTHON
