from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

from website import ROOT

if TYPE_CHECKING:
    from tests.support.browser import Readers

pytest_plugins = ["tests.support.run_report", "tests.support.unchanged"]

# The same examples on every run and machine: a failure seen once can be seen again. No deadline,
# since how long one example takes depends on the machine.
settings.register_profile("book", derandomize=True, deadline=None)
# A mutant has to fail, no matter on how small an example.
settings.register_profile(
    "mutant",
    settings.get_profile("book"),
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("book")


# Begun first, so that at the end one worker does not wait for the other.
LONG = ("test_notebooks_run.py", "test_site_access.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For thousands of small operations: on a busy machine threads wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def two_searches() -> Iterator[None]:
    """Short rows are searched like long ones, so that small weights can be chosen for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("omnivault.inverse_cdf.SHORT", 128)
        yield


@pytest.fixture(scope="session")
def site() -> Path:
    site = ROOT / "_build" / "html"
    if not (site / "index.html").is_file():
        pytest.fail("there is no built book: run `make book` first", pytrace=False)
    return site


@pytest.fixture(scope="session")
def reader(site: Path) -> Iterator[Readers]:
    """The built book, served and in a browser."""
    from tests.support.browser import (  # slow to import, and not for the statements' tests
        Readers,
        serve,
    )

    with ExitStack() as stack:
        yield Readers(site, stack.enter_context(serve(site)), stack)
