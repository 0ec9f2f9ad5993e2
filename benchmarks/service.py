"""The service as users start it, ``tunelab serve``, in folders of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Self, cast

import psutil  # type: ignore[import-untyped]

from benchmarks.protocol import ROOT, clean_environment
from tunelab.service.accounts import create_account
from tunelab.service.database import sync_session
from tunelab.settings import load_settings

CREDITS = 10**9
_START_TIMEOUT_S = 400.0
_STOP_TIMEOUT_S = 120.0
_KEY = re.compile(r"^\s+(tl_live_\S+)\s*$", re.MULTILINE)


class ServiceError(Exception):
    """The service did not start, or gave a wrong answer."""


class Service:
    """Starts and stops ``tunelab serve``. A context manager; leaving it stops every process of the service.

    Args:
        folder: everything of the service is kept below it. Its path must be short, for the sockets of Ray.
    """

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self._ray = folder / "r"
        self._temporary = folder / "t"
        for path in (self.data_dir, self._ray, self._temporary):
            path.mkdir(parents=True)
        self._environment = {
            # Without numbers of threads: they are the service's own decision.
            **clean_environment(),
            "TUNELAB_DATA_DIR": str(self.data_dir),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "RAY_TMPDIR": str(self._ray),
            "TMPDIR": str(self._temporary),
        }
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._ready = threading.Event()
        self.port = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> str | None:
        """Start and wait until the command says that it is ready; returns the key that it showed, if it did.

        Raises:
            ServiceError: it did not start.
        """
        self.port = free_port()
        self._lines.clear()
        self._ready.clear()
        self._process = subprocess.Popen(
            [str(Path(sys.executable).with_name("tunelab")), "serve", "--port", str(self.port)],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._ready.wait(0.05):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServiceError("tunelab serve did not start:\n" + "".join(self._lines[-30:]))
        found = _KEY.search("".join(self._lines))
        return found[1] if found else None

    def stop(self) -> None:
        """As Ctrl-C does it; then whatever is left of the service is killed."""
        process, self._process = self._process, None
        if process is None:
            return
        with _undisturbed():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_TIMEOUT_S)
            left = self.processes()
            for found in left:
                with suppress(psutil.Error):
                    found.kill()
            psutil.wait_procs(left, timeout=10)

    def new_key(self, name: str) -> str:
        """The key of a new account with :data:`CREDITS`; the service must be running."""
        with sync_session(load_settings(data_dir=self.data_dir, database_url=None)) as session:
            return create_account(session, name, tier="pro", credits=CREDITS)[1]

    def processes(self) -> list[psutil.Process]:
        """Every process of this service: ours, Ray's and PostgreSQL's, and no other's."""
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if self._owns(process):
                    for one in (process, *process.children(recursive=True)):
                        found[one.pid] = one
        return list(found.values())

    def _owns(self, process: psutil.Process) -> bool:
        if process.pid == os.getpid():
            return False
        # PostgreSQL writes its title over its environment, but works in the data folder.
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(self.data_dir):
                return True
        # Ray starts its processes away from ours, but they inherit the environment.
        with suppress(psutil.Error):
            if process.environ().get("TUNELAB_DATA_DIR") == str(self.data_dir):
                return True
        return str(self._ray) in " ".join(process.cmdline())

    def _listen(self, process: subprocess.Popen[str]) -> None:
        with cast(IO[str], process.stdout) as lines:
            for line in lines:
                self._lines.append(line)
                if "Ctrl-C ends it" in line:  # the last line of the greeting
                    self._ready.set()


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C must not leave half of the service behind."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
