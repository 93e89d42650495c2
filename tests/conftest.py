from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from browser import SITE, Readers, serve
from hypothesis import settings

# The same examples on every run and machine: a failure seen once can be seen again. No deadline,
# since how long one example takes depends on the machine.
settings.register_profile("book", derandomize=True, deadline=None)
settings.load_profile("book")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For thousands of small operations: on a busy machine threads wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def site() -> Path:
    if not (SITE / "index.html").is_file():
        pytest.fail("there is no built book: run `make book` first", pytrace=False)
    return SITE


@pytest.fixture(scope="session")
def reader(site: Path) -> Iterator[Readers]:
    """The built book, served and in a browser."""
    with ExitStack() as stack:
        yield Readers(site, stack.enter_context(serve(site)), stack)
