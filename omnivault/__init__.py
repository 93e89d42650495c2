"""The helper package of the book *From Logits to Tokens*.

One idea a module; import from the module that holds it:

- ``omnivault.softmax``: softmax, log-softmax and log-sum-exp with temperature; derivatives
- ``omnivault.entmax``: sparsemax and entmax, softmax's relatives with exact zeros
- ``omnivault.online_softmax``: softmax block by block
- ``omnivault.blocked_cross_entropy``: the loss of a last layer, without all of its logits
- ``omnivault.information``: entropy, cross-entropy, divergence, perplexity
- ``omnivault.calibration``: reliability, calibration error, a temperature fitted to data
- ``omnivault.distributions``: Bernoulli, categorical, multinomial
- ``omnivault.sampling``: temperature, truncations, and the draw of a token
- ``omnivault.inverse_cdf``: one index from each row of weights
- ``omnivault.engines``: what the dials mean in real engines, and translations between them
- ``omnivault.conformance``: is a sampler right? Cases for that of any engine, in any language
- ``omnivault.decoding``: greedy search, beam search and sampling of texts
- ``omnivault.speculative``: a cheap model, or a lookup, writes ahead of an expensive model
- ``omnivault.model``: a real language model, and texts that people wrote
- ``omnivault.experiments``: the decoding experiment with its data, and a benchmark
- ``omnivault.figures``: the figures of the book
- ``omnivault.live``: figures that answer the reader's hand
- ``omnivault.exercises``: checks of the reader's answers
"""

__version__ = "0.1.0"
