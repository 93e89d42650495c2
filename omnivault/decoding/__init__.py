r"""From next-token logits to sequences: greedy search, beam search and sampling.

Every decoder here works on a function from token ids to next-token logits, int64 ``(B, N)`` to
floating ``(B, V)``: a lookup in a small table and a language model
(:meth:`omnivault.model.language_model.LanguageModel.cached`) are the same to it. What changes the
distribution goes around that function, as in
``greedy_search(lambda ids: mask(next_token_logits(ids)), ...)``.

Prompts of one length are the rows of a tensor. Prompts of several lengths are a list: those of one
length go through the function together, no padding is read, and what each gives is what it gives
alone. So with ``cached()`` keys and values are kept within a length.

The sequences are where the prompt is, whatever the device of the logits. A decoder looks at what
comes, token by token, so it is no function to compile or to vectorize; the model is.
"""

from omnivault.decoding import prompts
from omnivault.decoding.beams import Beams, beam_search
from omnivault.decoding.sequences import greedy_search, sample_sequence

__all__ = ["Beams", "NextTokenLogits", "beam_search", "greedy_search", "sample_sequence"]

NextTokenLogits = prompts.NextTokenLogits
"""Token ids, int64 ``(B, N)``, to the logits of the token that follows, ``(B, V)``."""
