"""The helper package of the book *From Logits to Tokens*.

One idea a module; import from the module that holds it:

- ``omnivault.softmax``: softmax, log-softmax and log-sum-exp with temperature, and the Jacobian
- ``omnivault.information``: entropy
- ``omnivault.plotting``: the figures of the book
"""

__version__ = "0.1.0"
