from __future__ import annotations

import re

import IPython
import pytest
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.terminal.interactiveshell import TerminalInteractiveShell
from traitlets import Any as AnyTrait
from traitlets import HasTraits
from transformers.utils import logging

from omnivault.model import language_model
from omnivault.model.language_model import load_language_model
from tests.package.language_model.common import NAME


def test_in_a_terminal_the_bar_goes_to_stderr_and_stays(
    conversions: list[None], capfd: pytest.CaptureFixture[str]
) -> None:
    language_model._checkpoint()
    out, err = capfd.readouterr()
    assert out == ""
    assert re.search(f"Converting {NAME}, once: 100%.* 4/4 .*done", err)


class KernelShell(HasTraits):
    kernel = AnyTrait()


class TerminalShell(HasTraits):
    pass


def test_a_kernel_is_told_by_its_trait() -> None:
    assert ZMQInteractiveShell.class_traits().keys() >= {"kernel"}
    assert "kernel" not in TerminalInteractiveShell.class_traits()


@pytest.mark.parametrize("shell", [KernelShell, TerminalShell])
def test_in_a_notebook_nothing_is_left(
    conversions: list[None],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    shell: type[HasTraits],
) -> None:
    """What goes to stderr would stay in a saved notebook; stdout is cleared at the end."""
    written = []
    monkeypatch.setattr(IPython, "get_ipython", shell)
    monkeypatch.setattr("IPython.display.clear_output", lambda: written.append(capfd.readouterr()))
    language_model._checkpoint()
    rest = capfd.readouterr()
    if shell is KernelShell:
        [before] = written
        assert f"Converting {NAME}, once: " in before.out
        assert before.err == rest.out == rest.err == ""
    else:
        assert not written
        assert rest.out == ""
        assert "once: 100%" in rest.err


@pytest.mark.parametrize("enabled", [True, False])
def test_loading_draws_no_bar_and_leaves_the_setting_as_it_was(
    conversions: list[None], capfd: pytest.CaptureFixture[str], enabled: bool
) -> None:
    language_model._checkpoint()
    capfd.readouterr()
    if not enabled:
        logging.disable_progress_bar()
    try:
        load_language_model.__wrapped__()
        assert logging.is_progress_bar_enabled() is enabled
    finally:
        logging.enable_progress_bar()
    assert capfd.readouterr() == ("", "")
