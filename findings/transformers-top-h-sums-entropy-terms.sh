#!/usr/bin/env bash
# transformers 5.24.0, torch 2.13.0 (CPU), Python 3.11
#
# Top-h keeps the most probable tokens while the entropy of their renormalized distribution is at most
# h times that of all: so the paper (arXiv 2509.02510), and so the pull request that brought it (40837).
# The processor adds up the terms -p log p of the distribution as it came. Of weights 5, 4, 1 at h = .75
# the first two have an entropy of .687, which is within .75 * .943 = .707; their terms have .713, and
# one token is kept instead of two. Of weights 5, 4, 3, 2 at h = .8 the first three have 1.078, which is
# above .8 * 1.334 = 1.067; their terms have 1.056, and three are kept instead of two. Of nine equal
# tokens h = .5 keeps four, where the entropy of three, log 3, is half of log 9. And no more than the
# 100 most probable tokens are looked at, so h = 1, which should keep all, keeps 100 of 101.
#
# Seen, kept: 1 of 5, 4, 1; 3 of 5, 4, 3, 2; 4 of nine equals; 100 of 101 at h = 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet torch==2.13.0 transformers==5.24.0
"$folder/env/bin/python" - <<'PYTHON'
import math

import torch
from transformers import TopHLogitsWarper


def kept(weights, h):
    logits = torch.tensor([weights], dtype=torch.float64).log()
    return int((TopHLogitsWarper(h)(None, logits) > -math.inf).sum())


def entropy(weights):
    return -sum(w / sum(weights) * math.log(w / sum(weights)) for w in weights)


def intended(weights, h):
    bound = h * entropy(weights) + 1e-12
    return max(r for r in range(1, len(weights) + 1) if entropy(weights[:r]) <= bound)


cases = [([5, 4, 1], 0.75), ([5, 4, 3, 2], 0.8), ([1] * 9, 0.5), ([1] * 101, 1.0)]
seen = [(kept(*case), intended(*case)) for case in cases]
for (weights, h), (found, wanted) in zip(cases, seen):
    name = f"{len(weights)} equals" if len(weights) > 4 else weights
    print(f"{name} at h = {h}: {found} kept, by the paper {wanted}")
assert seen == [(1, 2), (3, 2), (4, 3), (100, 101)], "it keeps what the paper says now"
PYTHON
