"""How much faster a text is written ahead: speculative sampling beside plain decoding.

Both write texts of the same law with the same model, each with its keys and values kept, in turns
in this process. The time is that of the whole text, the reading of the prompt included. Absolute
times belong to the machine; ratios travel better.

``python -m omnivault.experiments.ahead FILE`` prints the table and saves the run. The one that the
book shows is kept in ``data``.
"""

from __future__ import annotations

import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omnivault.decoding import sample_sequence
from omnivault.experiments.saving import processor, save
from omnivault.model.language_model import LanguageModel, load_language_model
from omnivault.model.news import articles
from omnivault.speculative import prompt_lookup, speculative_sequence

__all__ = ["compare", "prompts", "reading", "saved", "without_layers"]

SAVED = Path(__file__).with_name("data") / "ahead.json"
TEMPERATURES = (0.0, 0.7, 1.0)
LENGTH = 96
"""How many tokens are written."""
LOOKAHEAD = {"lookup": 10, "layers": 4}
"""How many each draft proposes: those of a lookup cost nothing but their reading."""


def prompts() -> dict[str, list[str]]:
    """Return the beginnings of texts, three of each kind.

    Returns
    -------
    dict
        ``copy``: a passage of the news, and its first words once more. ``records``: the first three
        of a list, in Python, HTML and SQL. ``news``: the beginning of an article.

    Examples
    --------
    >>> {kind: len(texts) for kind, texts in prompts().items()}
    {'copy': 3, 'records': 3, 'news': 3}
    """
    people = [("Alice", 31, "Paris"), ("Bruno", 27, "Rome"), ("Clara", 45, "Berlin")]
    forms = {
        "users = [\n": '    {{"name": "{}", "age": {}, "city": "{}"}},\n',
        "<table>\n": "  <tr><td>{}</td><td>{}</td><td>{}</td></tr>\n",
        "CREATE TABLE users (name TEXT, age INTEGER, city TEXT);\n": (
            "INSERT INTO users (name, age, city) VALUES ('{}', {}, '{}');\n"
        ),
    }
    news = [text.split() for text in articles()[:3]]
    return {
        "copy": [
            f"{' '.join(words[:90])}\n\nThe same text once more, word for word:\n\n"
            f"{' '.join(words[:6])}"
            for words in news
        ],
        "records": [
            start + "".join(form.format(*person) for person in people)
            for start, form in forms.items()
        ],
        "news": [" ".join(words[:60]) for words in news],
    }


def without_layers(model: LanguageModel) -> LanguageModel:
    """Return the model without its 13th to 18th layer, a draft; the weights are shared."""
    own = {id(weight): weight for weight in model.network.parameters()}
    draft = LanguageModel(copy.deepcopy(model.network, own), model.tokenizer)
    layers = draft.network.model.layers
    draft.network.model.layers = layers[:12] + layers[18:]
    return draft


def compare(ids: Tensor, temperature: float, seed: int, length: int = LENGTH) -> dict[str, Any]:
    """Write a text three times: token by token, with a lookup, and with a model as the draft.

    Parameters
    ----------
    ids
        The prompt, int64 of shape ``(N,)``.
    temperature
        T >= 0.
    seed
        Of each.
    length
        How many tokens to write.

    Returns
    -------
    dict
        ``plain``: its ``seconds``. ``lookup`` and ``layers``, the latter with
        :func:`without_layers`: ``seconds``, ``rounds``, ``proposed`` and ``accepted``.

    Examples
    --------
    >>> ids = load_language_model().encode("One, two, three, one, two, three,")
    >>> found = compare(ids, 0.0, seed=1, length=4)
    >>> sorted(found), sorted(found["lookup"])
    (['layers', 'lookup', 'plain'], ['accepted', 'proposed', 'rounds', 'seconds'])
    """
    model = load_language_model()
    settings: dict[str, Any] = {"max_new_tokens": length, "temperature": temperature}

    def write(draft: Callable[[Tensor], Tensor], lookahead: int) -> dict[str, Any]:
        target = model.cached_logits(lookahead + 1)
        source = torch.Generator().manual_seed(seed)
        start = time.perf_counter()
        text = speculative_sequence(
            target, draft, ids, lookahead=lookahead, generator=source, **settings
        )
        return {
            "seconds": time.perf_counter() - start,
            "rounds": text.rounds,
            "proposed": text.proposed,
            "accepted": text.accepted,
        }

    source = torch.Generator().manual_seed(seed)
    start = time.perf_counter()
    sample_sequence(model.cached(), ids, generator=source, **settings)
    plain = {"seconds": time.perf_counter() - start}
    lookup = write(prompt_lookup, LOOKAHEAD["lookup"])
    layers = write(without_layers(model).cached_logits(1), LOOKAHEAD["layers"])
    return {"plain": plain, "lookup": lookup, "layers": layers}


def reading(numbers: Sequence[int] = (1, 2, 5, 11), times: int = 9) -> dict[str, float]:
    """Time calls that read several tokens behind a text of 128.

    Parameters
    ----------
    numbers
        How many tokens a call reads.
    times
        How often each is measured, in turns.

    Returns
    -------
    dict
        From the number, as text, to the median in milliseconds.

    Examples
    --------
    >>> list(reading((1, 2), times=1))
    ['1', '2']
    """
    model = load_language_model()
    ids = model.encode(articles()[0])[: 128 + max(numbers)]
    read = model.cached_logits(max(numbers))
    seconds: dict[str, list[float]] = {str(number): [] for number in numbers}
    for _ in range(times):
        for number in numbers:
            read(ids[:128])
            start = time.perf_counter()
            read(ids[: 128 + number])
            seconds[str(number)].append(time.perf_counter() - start)
    return {number: 1000 * statistics.median(some) for number, some in seconds.items()}


def saved() -> dict[str, Any]:
    """Return the run that the book shows.

    Returns
    -------
    dict
        ``machine``: what it ran on. ``length``: how many tokens each text has. ``reading``: what
        :func:`reading` returns. ``texts``: for each kind, T and prompt what :func:`compare` does.

    Examples
    --------
    >>> sorted(saved())
    ['length', 'machine', 'reading', 'texts']
    """
    run: dict[str, Any] = json.loads(SAVED.read_text(encoding="utf-8"))
    return run


def _machine() -> dict[str, str]:
    """Describe the machine, without its name."""
    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        **{name: version(name) for name in ("torch", "transformers")},
    }


def main() -> None:
    """Measure, print, and save in the file that is named on the command line."""
    target = Path(sys.argv[1])
    model = load_language_model()
    texts = []
    compare(model.encode("A first text, which does not count."), 1.0, seed=0, length=8)
    print(f"tokens a second over {LENGTH} tokens: plain, with a lookup, with a model as draft")
    for temperature in TEMPERATURES:
        for kind, several in prompts().items():
            of_kind = []
            for number, text in enumerate(several):
                found = compare(model.encode(text), temperature, seed=number)
                of_kind.append({"kind": kind, "T": temperature, "prompt": number, **found})
            texts += of_kind
            speeds = [
                statistics.median(LENGTH / text[how]["seconds"] for text in of_kind)
                for how in ("plain", "lookup", "layers")
            ]
            print(
                f"T = {temperature}  {kind:8}", *(f"{speed:6.1f}" for speed in speeds), flush=True
            )
    run = {"machine": _machine(), "length": LENGTH, "reading": reading(), "texts": texts}
    save(run, target)


if __name__ == "__main__":
    main()
