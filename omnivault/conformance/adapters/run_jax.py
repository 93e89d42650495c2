# /// script
# requires-python = ">=3.11"
# dependencies = ["jax==0.10.2"]
# ///
"""JAX: ``jax.random.categorical`` in float32.

It has no dials. The logits are divided by the temperature here, as its users do, so a temperature
that is not positive is refused here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Jax:
    """Draws by the largest of logits and Gumbel noise."""

    name = "jax"
    dials = ("temperature",)

    def __init__(self) -> None:
        import jax

        jax.config.update("jax_platforms", "cpu")
        self.version = jax.__version__

    def draw(
        self, logits: Sequence[float], settings: Mapping[str, Any], n: int, seed: int
    ) -> list[int]:
        """Draw n tokens with one key."""
        import jax

        temperature = float(settings.get("temperature", 1.0))
        if temperature <= 0:
            raise ValueError(
                f"temperature must be > 0, got {temperature}: the logits are divided by it"
            )
        row = jax.numpy.array(logits, dtype=jax.numpy.float32) / temperature
        tokens = jax.random.categorical(jax.random.key(seed), row, shape=(n,))
        return tokens.tolist()  # type: ignore[no-any-return]


if __name__ == "__main__":
    from serving import serve

    serve(Jax)
