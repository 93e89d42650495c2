"""The helper package of the book *From Logits to Tokens*.

One idea a module; import from the module that holds it:

- ``omnivault.softmax``: softmax, log-softmax and log-sum-exp with temperature; derivatives
- ``omnivault.online_softmax``: softmax block by block
- ``omnivault.information``: entropy, cross-entropy, divergence, perplexity
- ``omnivault.calibration``: reliability, calibration error, a temperature fitted to data
- ``omnivault.distributions``: Bernoulli, categorical, multinomial
- ``omnivault.sampling``: temperature, truncations, and the draw of a token
- ``omnivault.decoding``: greedy search, beam search and sampling of texts
- ``omnivault.language_model``: a real language model, from an installed package
- ``omnivault.news``: texts that people wrote
- ``omnivault.degeneration``: the decoding experiment, its data and its replay
- ``omnivault.plotting``: the figures of the book
- ``omnivault.explore``: figures that answer the reader's hand
- ``omnivault.exercises``: checks of the reader's answers
"""

__version__ = "0.1.0"
