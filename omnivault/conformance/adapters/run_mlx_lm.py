# /// script
# requires-python = ">=3.11"
# dependencies = ["mlx-lm==0.32.0", "mlx[cpu]==0.32.4"]
# ///
"""mlx-lm: the sampler that ``make_sampler`` returns, on the logprobs that it is given there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

# Standard name, the engine's name, type.
NAMES = {
    "temperature": ("temp", float),
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
    "min_p": ("min_p", float),
}


class MlxLm:
    """Draws of the engine; the sampler shows no probabilities."""

    name = "mlx-lm"
    dials = tuple(NAMES)

    def __init__(self) -> None:
        self.version = f"{version('mlx-lm')} (mlx {version('mlx')}, CPU)"

    def draw(
        self, logits: Sequence[float], settings: Mapping[str, Any], n: int, seed: int
    ) -> list[int]:
        """Draw n tokens from a batch of equal rows; the engine's own temperature is 0."""
        import mlx.core as mx
        from mlx_lm.sample_utils import make_sampler

        mx.set_default_device(mx.cpu)
        chosen = {NAMES[dial][0]: NAMES[dial][1](value) for dial, value in settings.items()}
        sampler = make_sampler(**{"temp": 1.0, **chosen})
        row = mx.array(logits, dtype=mx.float32)
        mx.random.seed(seed)
        rows = mx.broadcast_to(row - mx.logsumexp(row), (n, len(logits)))
        return sampler(rows).tolist()  # type: ignore[no-any-return]


if __name__ == "__main__":
    from serving import serve

    serve(MlxLm)
