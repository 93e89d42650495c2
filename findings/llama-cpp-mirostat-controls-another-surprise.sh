#!/usr/bin/env bash
# xllamacpp 2026.10.11549 (llama.cpp, CPU), Python 3.11
#
# Mirostat (arXiv 2007.14966) holds the mean surprise of a text near a target tau: the surprise by the
# model's own probabilities, as in its authors' program. llama.cpp takes the surprise by what is left
# of them after the cut, renormalized, which is smaller. Four tokens of 2^-7 are kept at the limit
# 2 tau = 8.5 bits, and one of them is drawn. By the model it surprises by 7 bits, and the limit should
# go down to 8.5 - (7 - 4.25) = 5.75; it goes up to 8.5 - (2 - 4.25) = 10.75, and of a row of 1/2, 1/4,
# 1/8, ... the next step keeps ten tokens instead of five. So at tau = 5, rate .1 (the defaults) texts
# have a higher surprise by the model, which is what perplexity measures, than was asked for: of
# probabilities proportional to 1, 1/2, ..., 1/50000 by more than one bit.
#
# The samplers are asked through the C functions that the Python package exports.
#
# Seen: 4 kept, then 10; mean surprises of 2,000 tokens 5.00 bits by what was left, 6.23 by the model.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet xllamacpp==2026.10.11549
"$folder/env/bin/python" - <<'PYTHON'
import math
from ctypes import CDLL, POINTER, Structure, byref
from ctypes import c_bool, c_float, c_int32, c_int64, c_size_t, c_uint32, c_void_p, memmove, sizeof

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


def mirostat(target, rate):
    make = library.llama_sampler_init_mirostat_v2
    make.restype = c_void_p
    return c_void_p(make(c_uint32(1), c_float(target), c_float(rate)))


class Row:
    def __init__(self, weights):
        self.probs = [w / sum(weights) for w in weights]
        each = [(i, math.log(p), 0) for i, p in enumerate(self.probs)]
        self.fresh = (Candidate * len(each))(*each)
        self.candidates = (Candidate * len(each))()

    def draw(self, sampler):
        """How many are kept, and two surprises of the token drawn: among them, by the model."""
        memmove(self.candidates, self.fresh, sizeof(self.fresh))
        found = Candidates(self.candidates, len(self.candidates), -1, False)
        library.llama_sampler_apply(sampler, byref(found))
        drawn = found.data[found.selected]
        return found.size, -math.log2(drawn.p), -math.log2(self.probs[drawn.id])


sampler = mirostat(4.25, 1.0)
rest = 1 - 4 * 2**-7
first = Row([2**-7] * 4 + [rest / 2000] * 2000).draw(sampler)
then = Row([2**-n for n in range(1, 13)] + [2**-12]).draw(sampler)
print(f"{first[0]} kept, of {first[1]:g} bits among them and {first[2]:g} by the model")
print(f"then {then[0]} kept; 5 would be, by the surprise of the model")
assert (first[0], then[0]) == (4, 10), "the limit moves by another surprise now"

sampler, row = mirostat(5.0, 0.1), Row([1 / n for n in range(1, 50001)])
steps = [row.draw(sampler) for _ in range(2000)]
own, model = (sum(step[which] for step in steps) / len(steps) for which in (1, 2))
print(f"mean surprise at a target of 5 bits: {own:.2f} among what was left, {model:.2f} by the model")
assert abs(own - 5) < 0.1 and model > 6, "the mean surprise by the model is the target now"
PYTHON
