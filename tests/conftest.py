from __future__ import annotations

from hypothesis import settings

# The same examples on every run and machine: a failure seen once can be seen again. No deadline,
# since how long one example takes depends on the machine.
settings.register_profile("book", derandomize=True, deadline=None)
settings.load_profile("book")
