r"""How real engines read the dials: temperature, top-k, top-p, min-p and their kin.

The same settings are another law in another engine: the dials act in another order, a border that
is met belongs to the set or does not, a value of 0 switches a dial off or turns it full on. A
*dialect* holds what was seen of one engine, as data; :func:`probs` and :func:`kept` compute the law
that it draws from, :func:`compare` puts all of them side by side, and :func:`translate` finds the
settings with which another engine draws from the same one.

On the command line, with the model of this book, if it is installed, and a prompt::

    python -m omnivault.engines compare "The capital of France is" --temperature 1.5 --top-p 0.95
    python -m omnivault.engines translate llama.cpp vllm --temperature 1.5 --min-p 0.05

Every dialect is tested against what was seen of the engine, line by line, in ``observations/``.
"""

from omnivault.engines.comparison import Line, compare
from omnivault.engines.dialect import DIALECTS, DIALS, Dialect, defaults, dialect
from omnivault.engines.law import kept, probs
from omnivault.engines.translation import NoTranslationError, Translation, translate

__all__ = [
    "DIALECTS",
    "DIALS",
    "Dialect",
    "Line",
    "NoTranslationError",
    "Translation",
    "compare",
    "defaults",
    "dialect",
    "kept",
    "probs",
    "translate",
]
