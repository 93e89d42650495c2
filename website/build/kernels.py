"""Kernels that start with the large libraries loaded.

Loading PyTorch, Matplotlib and what they bring takes five seconds and more, a third of the time of
most chapters. Here one process loads them once, and the kernel of each chapter is forked from it,
before anything has been computed. In all else it is the kernel that Jupyter starts: a process of
its own, that shares nothing with that of another chapter.

To Jupyter the command of such a kernel is this file. It asks the process that listens at a socket
for a kernel, passes signals on, and ends when the kernel does; and the kernel ends when it does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

LIBRARIES = (
    *("torch", "torch.distributed.tensor", "transformers", "scipy.stats", "sklearn", "mpmath"),
    *("matplotlib.pyplot", "matplotlib.backends.backend_svg", "myst_nb", "ipykernel.kernelapp"),
)

# A fork of what Apple's libraries have started is not safe.
POSSIBLE = sys.platform == "linux"


@contextmanager
def server(
    environment: Mapping[str, str], python: Path | str = sys.executable
) -> Iterator[list[str] | None]:
    """Start the process that loads the libraries, and give the first words of a kernel's command.

    PyTorch reads some variables when it is loaded, so the environment is that of all kernels;
    ``python`` is the program that they run in. Without a server, where none is possible, gives
    None.
    """
    if not POSSIBLE:
        yield None
        return
    with TemporaryDirectory(prefix="k") as folder:
        address = f"{folder}/s"
        # -P: what lies beside this file is not to be imported by cells.
        command = [str(python), "-P", "-W", "ignore", __file__, "serve", address]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                # It says one word when it listens, and none if it cannot load the libraries.
                ready = process.stdout.readline()
                yield [sys.executable, "-S", "-E", __file__, "ask", address] if ready else None
            finally:
                process.terminate()


def serve(address: str) -> None:
    """Load the libraries, and fork a kernel for everyone who asks."""
    import gc
    import importlib

    # What a kernel sets before its first cell imports Matplotlib.
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    for name in LIBRARIES:
        with suppress(ImportError):  # then the chapter that needs it says so
            importlib.import_module(name)
    if threading.active_count() > 1:
        return  # a library has started one, and a fork would not have it
    gc.freeze()  # all that is loaded: no collection looks at it again
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the kernels
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        while True:
            asking, _ = listening.accept()
            folder, arguments = json.loads(asking.makefile().readline())
            if os.fork() == 0:
                listening.close()
                be_kernel(asking, folder, arguments)
            asking.close()


def be_kernel(asking: socket.socket, folder: str, arguments: list[str]) -> None:
    """Run a kernel in a process that was forked for it."""
    from ipykernel.kernelapp import IPKernelApp

    try:
        os.setsid()
        os.chdir(folder)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        asking.sendall(f"{os.getpid()}\n".encode())
        threading.Thread(target=end_with, args=(asking,), daemon=True).start()
        IPKernelApp.launch_instance(argv=arguments)
    finally:
        os._exit(0)


def end_with(asking: socket.socket) -> None:
    """End the kernel when the one who asked for it is gone."""
    asking.recv(1)
    os._exit(1)


def ask(address: str, *arguments: str) -> None:
    """Ask for a kernel, and stand for it as long as it lives."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        server.sendall(f"{json.dumps([os.getcwd(), arguments])}\n".encode())
        answers = server.makefile()
        kernel = int(answers.readline())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: os.kill(kernel, number))
        answers.read()  # until the kernel ends


if __name__ == "__main__":
    {"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
