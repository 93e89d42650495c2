#!/usr/bin/env bash
# torch 2.13.0 (CPU), Python 3.11
#
# The first call of torch.testing.assert_close in a process, on two plain CPU tensors, imports some
# 500 modules: torch.distributed with its DTensor, and through it SymPy. It takes about a third of
# the processor time of `import torch`; torch.allclose imports nothing. In a notebook the whole
# price is paid by the first cell that compares two tensors.
#
# Seen: 520 modules, 419 of them of SymPy; 0.7 s, where `import torch` took 2.2 s.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet torch==2.13.0 numpy
"$folder/env/bin/python" - <<'PYTHON'
import sys
import time

start = time.process_time()
import torch

loading = time.process_time() - start
one, other = torch.ones(2), torch.ones(2) + 1e-7

before = set(sys.modules)
torch.allclose(one, other)
assert set(sys.modules) == before, "torch.allclose imports something now"

start = time.process_time()
torch.testing.assert_close(one, other)
took = time.process_time() - start
new = set(sys.modules) - before
sympy = [name for name in new if name.partition(".")[0] == "sympy"]
print(f"import torch: {loading:.1f} s; first assert_close: {took:.1f} s")
print(f"{len(new)} modules, {len(sympy)} of them of SymPy")
assert len(sympy) > 50, "assert_close no longer imports SymPy"
assert "torch.distributed.tensor" in new
PYTHON
