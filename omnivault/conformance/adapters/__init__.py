"""Programs through which real engines answer the questions of the conformance suite.

Each ``run_*`` file asks one engine in an environment of its own, whose packages stand, pinned, at
its top. ``python -m omnivault.conformance.adapters`` makes those environments and saves what the
engines answer.
"""
