#!/usr/bin/env bash
# xllamacpp 2026.10.11549 (llama.cpp, CPU), Python 3.11
#
# Typical-p keeps the tokens whose surprisal is nearest to the entropy. A token that is ruled out, at
# -inf, adds 0 * log 0 to the entropy, which becomes nan in llama.cpp's sampler, and then it keeps
# others: of (.5, .25, .125, .0625, .0625) at typical-p .2 the second, which is right, but the first
# where a masked token stands beside them; of 1,000 tokens 660 instead of 2. Grammars and logit
# biases mask tokens so. The default top-k of 40, which comes before, drops them and hides it.
#
# The sampler is asked through the C functions that the Python package exports.
#
# Seen, kept: [1] of five tokens, [0] with a sixth at -inf; 2 and 660 of 1,000.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet xllamacpp==2026.10.11549
"$folder/env/bin/python" - <<'PYTHON'
import math
from ctypes import CDLL, POINTER, Structure, byref
from ctypes import c_bool, c_float, c_int32, c_int64, c_size_t, c_void_p
from statistics import NormalDist

import xllamacpp.xllamacpp

library = CDLL(xllamacpp.xllamacpp.__file__)


class Candidate(Structure):
    _fields_ = [("id", c_int32), ("logit", c_float), ("p", c_float)]


class Candidates(Structure):
    _fields_ = [
        ("data", POINTER(Candidate)),
        ("size", c_size_t),
        ("selected", c_int64),
        ("sorted", c_bool),
    ]


def kept(logits, mass):
    row = (Candidate * len(logits))(*[(i, z, 0) for i, z in enumerate(logits)])
    candidates = Candidates(row, len(row), -1, False)
    make = library.llama_sampler_init_typical
    make.restype = c_void_p
    sampler = c_void_p(make(c_float(mass), c_size_t(1)))
    library.llama_sampler_apply(sampler, byref(candidates))
    library.llama_sampler_free(sampler)
    return sorted(row[i].id for i in range(candidates.size) if row[i].logit > -math.inf)


few = [math.log(p) for p in (0.5, 0.25, 0.125, 0.0625, 0.0625)]
many = [4 * NormalDist().inv_cdf((i * 387 % 1000 + 0.5) / 1000) for i in range(1000)]
found = {}
for name, logits, mass in (("5 tokens", few, 0.2), ("1,000 tokens", many, 0.2)):
    found[name] = kept(logits, mass), kept([*logits, -math.inf], mass)
    print(f"{name}: {len(found[name][0])} kept; {len(found[name][1])} beside a masked one")
print("of 5 tokens:", *found["5 tokens"])
assert found["5 tokens"] == ([1], [0]), "a masked token changes nothing now"
assert len(found["1,000 tokens"][1]) > 5 * len(found["1,000 tokens"][0])
PYTHON
