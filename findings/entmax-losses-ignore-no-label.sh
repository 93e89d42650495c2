#!/usr/bin/env bash
# entmax 1.3, torch 2.13.0 (CPU), Python 3.11
#
# The losses of this package take `ignore_index`, by default -100, like torch's cross-entropy, with
# which they are meant to change places. But a negative one is no option: only if it is 0 or more
# are labels compared with it. With the default, a label of -100 (padding, as collators write it)
# raises an IndexError or RuntimeError deep in a scatter. With a number from 0 on, the class of that
# number can be no label any more; and if there is no such class, the error is the same. And a class
# that is ruled out by a logit of -inf makes the loss nan, though its probability is 0 and the
# gradient, p - y, is right and finite; cross-entropy gives the loss without the class.
#
# Seen: "index -100 is out of bounds for dimension 1 with size 3"; ignore_index=2 ignores every
#       label 2; loss nan, gradient (1, 0, -1) for the logits (3, -inf, 0) and the label 2.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet torch==2.13.0 numpy
"$folder/env/bin/python" -m pip install --quiet --no-deps entmax==1.3
"$folder/env/bin/python" - <<'PYTHON'
import torch
import torch.nn.functional as F
from entmax import Entmax15Loss, SparsemaxLoss

changed = "the losses behave otherwise now"
logits = torch.tensor([[0.3, 0.1, 0.0], [0.0, 0.2, 0.1]])
for Loss in (Entmax15Loss, SparsemaxLoss):
    assert Loss().ignore_index == -100, changed
    for padding in (-100, 3):
        padded = torch.tensor([1, padding])
        usual = F.cross_entropy(logits, padded, ignore_index=padding)
        print(f"cross-entropy, one label {padding}: {usual.item()}")
        try:
            value = Loss(ignore_index=padding)(logits, padded)
        except (IndexError, RuntimeError) as error:
            print(f"{Loss.__name__}: {error}")
            assert "out of bounds" in str(error), changed
        else:
            raise AssertionError(f"{changed}: {value}")

    labels = torch.tensor([1, 2])
    one = Loss(reduction="none")(logits, labels)[0]
    assert torch.allclose(Loss(ignore_index=2)(logits, labels), one), changed

    masked = torch.tensor([[3.0, -torch.inf, 0.0]], requires_grad=True)
    loss = Loss()(masked, torch.tensor([2]))
    (gradient,) = torch.autograd.grad(loss, masked)
    print(f"{Loss.__name__} beside -inf: {loss.item()}, gradient {gradient.tolist()}")
    assert loss.isnan(), changed
    assert torch.allclose(gradient, torch.tensor([[1.0, 0.0, -1.0]])), changed
    assert F.cross_entropy(masked, torch.tensor([2])).isfinite()
PYTHON
