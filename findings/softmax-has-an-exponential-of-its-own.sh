#!/usr/bin/env bash
# torch 2.13.0 (CPU), Python 3.11, x86-64
#
# torch.softmax and torch.exp compute e^z in two ways: for one number in ten (processors with AVX2
# or AVX-512) the last digit differs, though both are within two units of roundoff. So a mass made
# of probabilities and one made of exponentials may fall on two sides of a border that exact
# arithmetic reaches. With ATEN_CPU_CAPABILITY=default fewer differ, since softmax is then computed
# in a third way, while torch.exp does not heed that variable.
#
# Seen: in the rows (0, z) with z from -87 to -18 the sum 1 + e^z is 1 in float32, so the second
# probability is softmax's exponential itself; of 100,000 such z, 9.4% differ from torch.exp(z)
# under avx2 and avx512, 1.2% under default.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6
cat > "$folder/two.py" <<'PY'
import torch

z = -18 - 69 * torch.rand(100_000, generator=torch.Generator().manual_seed(0))
rows = torch.stack([torch.zeros_like(z), z], -1)
p = rows.softmax(-1)
assert (p[:, 0] == 1).all()
mine, exp, exact = p[:, 1], z.exp(), z.double().exp()
for found in (mine, exp):
    normal = exact > 2.0**-126
    assert ((found.double() / exact - 1).abs()[normal] < 2 * 2.0**-24).all()
share = (mine != exp).double().mean().item()
print(f"{torch.backends.cpu.get_cpu_capability()}: {share:.1%} of the exponentials differ")
assert share > 0.001
PY
for capability in default avx2; do
    ATEN_CPU_CAPABILITY=$capability "$folder/venv/bin/python" "$folder/two.py"
done
