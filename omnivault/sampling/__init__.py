r"""From the logits of one step to one token: temperature, truncation, and the draw.

Each truncation of :data:`TRUNCATIONS` takes logits and returns logits, with ``-inf`` where a token
is ruled out, so truncations compose. At least one token is kept; the probabilities of those that
are kept are renormalized by the softmax that follows. The last dimension is the vocabulary, every
other one is a batch dimension, and half-precision logits are compared in float32.

The kept sets are those of the logits processors of Hugging Face Transformers, which has no
top-n-sigma. Of ties it becomes:

=============== =================================================================================
``top_k``       every token whose logit equals the k-th largest is kept, so there may be more
                than k
``top_n_sigma`` equal logits are kept or ruled out together
``top_p``       of equal logits at the border, as many as are needed are kept, the highest
                indices (Transformers keeps as many, and leaves it to an unstable sort which)
``min_p``       equal probabilities are kept or ruled out together
``typical_p``   tokens equally far from the entropy are kept or ruled out together
=============== =================================================================================

Everything runs where the logits are; a temperature or a generator may be elsewhere. A draw is made
of float64 numbers, which Apple's GPUs do not have. Values are looked at, to refuse what is no
distribution, so ``torch.vmap`` and ``torch.compile(fullgraph=True)``, which know none, do not take
these functions: leading dimensions do what ``vmap`` would, and without ``fullgraph`` the checks
break the graph. Logits of 8 bits are refused, which have too few digits and not always a ``-inf``.
"""

from omnivault.sampling.draw import greedy, sample
from omnivault.sampling.nucleus import in_nucleus
from omnivault.sampling.plain import plain_sample
from omnivault.sampling.temperature import apply_temperature
from omnivault.sampling.truncation import (
    TRUNCATIONS,
    Truncation,
    min_p,
    top_k,
    top_n_sigma,
    top_p,
    typical_p,
)

__all__ = [
    "TRUNCATIONS",
    "Truncation",
    "apply_temperature",
    "greedy",
    "in_nucleus",
    "min_p",
    "plain_sample",
    "sample",
    "top_k",
    "top_n_sigma",
    "top_p",
    "typical_p",
]
