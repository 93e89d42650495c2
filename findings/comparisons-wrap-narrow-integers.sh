#!/usr/bin/env bash
# torch 2.13.0 (CPU), numpy 2.4.6, Python 3.11
#
# A tensor of a narrow integer dtype that is compared with a Python number outside the range of the
# dtype is compared with that number modulo 2^bits, without a word. Token ids are often stored in 16
# bits; for these `ids < 50257`, the check against the vocabulary of GPT-2, is false for every id
# below 32,768, and `bytes < 256` is false for every byte. NumPy compares the values, and PyTorch's
# own clamp and fill refuse the same numbers.
#
# Seen: ids < 50257 -> [False, False]; bytes < 256 -> [False, False]; bytes == 263 -> [False, True]
#       for 0 and 7; the same in NumPy: [True, True], [True, True], [False, False]; clamp raises.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import numpy as np
import torch

for dtype, compared in (
    ("int16", {"< 50257": lambda x: x < 50257}),
    ("uint8", {"< 256": lambda x: x < 256, "== 263": lambda x: x == 263}),
):
    ids = torch.tensor([0, 7], dtype=getattr(torch, dtype))
    for text, compare in compared.items():
        found, expected = compare(ids).tolist(), compare(ids.numpy()).tolist()
        print(f"{dtype} {text}: {found} in PyTorch, {expected} in NumPy")
        assert expected == compare(np.array([0, 7])).tolist()
        assert found != expected, "the values are compared now"
    try:
        ids.clamp(max=100_000)
    except RuntimeError as error:
        print(f"{dtype} clamp: {error}")
    else:
        raise AssertionError("clamp takes a number outside the range now")
PYTHON
