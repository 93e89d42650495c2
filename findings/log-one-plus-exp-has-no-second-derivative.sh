#!/usr/bin/env bash
# torch 2.13.0 (CPU), Python 3.11
#
# log(1 + e^x) is the log-partition of a coin; its second derivative is the variance p(1 - p), which
# is positive wherever it can be held. Each of PyTorch's three ways to write it loses the variance
# somewhere, though values and first derivatives are right (to a smallest normal number): in float32
# `logaddexp(x, 0)` gives nan below -88.7, `-logsigmoid(-x)` gives 0 below -17, and `softplus`
# gives 0 above its threshold of 20. So Newton's method, Fisher information and Hessian-vector
# products may see no curvature, or nan, at a finite log-odds. Written as max(x, 0) + log1p(e^-|x|),
# with the branch taken at x > 0, all three are right.
#
# Seen, where the variance is 1.9e-22 (at -50), 1.9e-22 (at 50) and 8.2e-40 (at -90):
#       logaddexp  1.9e-22, 1.9e-22, nan; logsigmoid 0, 1.9e-22, 0; softplus 1.9e-22, 0, 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet torch==2.13.0 numpy
"$folder/env/bin/python" - <<'PYTHON'
import math

import torch
from torch.nn.functional import logsigmoid, softplus


def written_out(x):
    smaller = torch.where(x > 0, -x, x).exp()
    return torch.where(x > 0, x, 0.0) + smaller.log1p()


forms = {
    "logaddexp": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "logsigmoid": lambda x: -logsigmoid(-x),
    "softplus": softplus,
    "written out": written_out,
}
at = (-50.0, 50.0, -90.0)
variance = [math.exp(-abs(x)) / (1 + math.exp(-abs(x))) ** 2 for x in at]
second = {
    name: [torch.func.hessian(f)(torch.tensor(x)).item() for x in at] for name, f in forms.items()
}
for name, f in forms.items():
    values = [f(torch.tensor(x)).item() for x in at]
    print(f"{name:12} value {values}, second derivative {second[name]}")
    slopes = [torch.func.grad(f)(torch.tensor(x)).item() for x in at]
    for x, value, slope in zip(at, values, slopes):
        exact = max(x, 0) + math.log1p(math.exp(-abs(x)))
        assert math.isclose(value, exact, rel_tol=1e-5, abs_tol=1.2e-38)
        assert math.isclose(slope, 1 / (1 + math.exp(-x)), rel_tol=1e-4, abs_tol=1.2e-38)
for i in range(2):
    assert math.isclose(second["written out"][i], variance[i], rel_tol=1e-5)
changed = "a second derivative is right now"
assert math.isnan(second["logaddexp"][2]), changed
assert second["logsigmoid"][0] == 0, changed
assert second["softplus"][1] == 0, changed
PYTHON
