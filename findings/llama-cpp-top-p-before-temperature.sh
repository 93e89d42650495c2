#!/usr/bin/env bash
# xllamacpp 2026.10.11549 (llama.cpp, CPU), Python 3.11
#
# llama.cpp divides by the temperature last, after top-k, top-p and min-p, so what these keep does not
# depend on it: of probabilities .4 .3 .2 .1, top-p .65 keeps two tokens at T = .25, 1 and 2 alike. By
# the order that papers and most other engines have, temperature first, it keeps 1, 2 and 3. So the
# same two numbers give another text here: at T = 2 the third token is never drawn.
#
# The samplers are asked through the C functions that the Python package exports.
#
# Seen, tokens kept with the temperature last and first: at T = .25 2 and 1, at 1 2 and 2, at 2 2
#       and 3; the default order: penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet xllamacpp==2026.10.11549
"$folder/env/bin/python" - <<'PYTHON'
import math
from ctypes import CDLL, POINTER, Structure, byref
from ctypes import c_bool, c_float, c_int32, c_int64, c_size_t, c_uint32, c_void_p

import xllamacpp.xllamacpp
from xllamacpp import CommonParams

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


def sampler(name, *arguments):
    make = getattr(library, f"llama_sampler_init_{name}")
    make.restype = c_void_p
    return c_void_p(make(*arguments))


def kept(logits, samplers):
    row = (Candidate * len(logits))(*[(i, z, 0) for i, z in enumerate(logits)])
    candidates = Candidates(row, len(row), -1, False)
    for one in (*samplers, sampler("dist", c_uint32(0))):
        library.llama_sampler_apply(one, byref(candidates))
        library.llama_sampler_free(one)
    return sorted(row[i].id for i in range(candidates.size) if row[i].p > 0)


order = CommonParams().sampling.samplers
print("default order:", order)
logits = [math.log(p) for p in (0.4, 0.3, 0.2, 0.1)]
found = []
for t in (0.25, 1.0, 2.0):
    dials = [("top_p", c_float(0.65), c_size_t(1)), ("temp", c_float(t))]
    last = kept(logits, [sampler(*dial) for dial in dials])
    first = kept(logits, [sampler(*dial) for dial in reversed(dials)])
    print(f"T = {t}: temperature last keeps {last}, first {first}")
    found.append((len(last), len(first)))
assert order.endswith("temperature"), "temperature is not last now"
assert found == [(2, 1), (2, 2), (2, 3)]
PYTHON
