"""How far the logits of a row lie below its largest, without an overflow on the way."""

from __future__ import annotations

import torch
from torch import Tensor

from omnivault._checks import at_least_float32, extremes
from omnivault._parts import LONG, in_parts


def below_largest(logits: Tensor, largest: Tensor, divisor: Tensor | None = None) -> Tensor:
    """Return (z - max z) / T in at least float32, which is never above 0.

    Softmax does not see the shift, and a quotient of a number that is at most 0 cannot become
    +inf, however small T is.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    largest
        The largest of each row, finite, of shape ``(...)``.
    divisor
        T > 0, of a shape that broadcasts to ``(..., 1)``; None is 1.

    Examples
    --------
    >>> z = torch.tensor([3e38, -3e38])
    >>> below_largest(z, z.amax(-1), torch.tensor(1e38)), (z - z.amax(-1)) / 1e38
    (tensor([ 0., -6.]), tensor([0., -inf]))
    """
    top = at_least_float32(largest).unsqueeze(-1)
    # A difference overflows only if the largest is more than half a unit in the last place of the
    # largest number. Those of such rows are taken in halves, which are exact there; of others
    # halves may be subnormal.
    limit = torch.finfo(top.dtype).max * torch.finfo(top.dtype).eps / 8
    least, most = extremes(top)
    if least < -limit or most > limit:
        half = torch.where(top.abs() > limit, 0.5, 1.0).to(top.dtype)
        shifted = at_least_float32(logits) * half - top * half
        return (shifted if divisor is None else shifted.div_(divisor)).div_(half)
    if logits.ndim != 2 or logits.shape[-1] < LONG:
        shifted = logits - top
        return shifted if divisor is None else shifted.div_(divisor)
    shifted = torch.empty_like(logits, dtype=top.dtype)
    divisor = top.new_ones(()) if divisor is None else divisor
    four = in_parts(logits, shifted, top, divisor.expand(len(top), 1))
    for part, result, largest, number in four:
        torch.sub(part, largest, out=result).div_(number)
    return shifted
