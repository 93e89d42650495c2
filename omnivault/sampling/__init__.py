r"""From the logits of one step to one token: temperature, truncation, and the draw.

Each truncation of :data:`TRUNCATIONS` takes logits and returns logits, with ``-inf`` where a token
is ruled out, so truncations compose. At least one token is kept; the probabilities of those that
are kept are renormalized by the softmax that follows. The last dimension is the vocabulary, every
other one is a batch dimension, and half-precision logits are compared in float32.

The kept sets of ``top_k``, ``top_p``, ``min_p``, ``typical_p``, ``epsilon_cutoff`` and
``eta_cutoff`` are those of the logits processors of Hugging Face Transformers; ``top_h`` is that of
its paper, which is another than there. Of ties it becomes:

=============== =================================================================================
``top_k``       every token whose logit equals the k-th largest is kept, so there may be more
                than k
``top_n_sigma`` equal logits are kept or ruled out together
``top_p``       of equal logits at the border, as many as are needed are kept, the highest
                indices (Transformers keeps as many, and leaves it to an unstable sort which)
``min_p``       equal probabilities are kept or ruled out together
``typical_p``   tokens equally far from the entropy are kept or ruled out together
``top_h``       as with ``top_p``; so with ``tail_free``, and with ``xtc``, which keeps one token
``epsilon_...`` equal logits are kept or ruled out together; so with ``eta_cutoff``, ``top_a`` and
                ``p_less``
=============== =================================================================================

Everything runs where the logits are; a temperature or a generator may be elsewhere. A draw is made
of float64 numbers, which Apple's GPUs do not have. Values are looked at, to refuse what is no
distribution, so ``torch.vmap`` and ``torch.compile(fullgraph=True)``, which know none, do not take
these functions: leading dimensions do what ``vmap`` would, and without ``fullgraph`` the checks
break the graph. Logits of 8 bits are refused, which have too few digits and not always a ``-inf``.
"""

from omnivault.sampling.cutoffs import epsilon_cutoff, eta_cutoff, p_less, top_a
from omnivault.sampling.draw import greedy, sample
from omnivault.sampling.mirostat import Mirostat
from omnivault.sampling.nucleus import in_nucleus
from omnivault.sampling.penalties import (
    dry_penalty,
    frequency_penalty,
    presence_penalty,
    repetition_penalty,
)
from omnivault.sampling.plain import plain_sample
from omnivault.sampling.tails import tail_free, top_h
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
from omnivault.sampling.xtc import xtc

__all__ = [
    "TRUNCATIONS",
    "Mirostat",
    "Truncation",
    "apply_temperature",
    "dry_penalty",
    "epsilon_cutoff",
    "eta_cutoff",
    "frequency_penalty",
    "greedy",
    "in_nucleus",
    "min_p",
    "p_less",
    "plain_sample",
    "presence_penalty",
    "repetition_penalty",
    "sample",
    "tail_free",
    "top_a",
    "top_h",
    "top_k",
    "top_n_sigma",
    "top_p",
    "typical_p",
    "xtc",
]
