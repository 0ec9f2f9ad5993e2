"""Users of an embedded server in processes of their own, and the servers that run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


def servers_of(folder: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == "postgres" and str(folder) in (process.info["cmdline"] or [])
    ]


USER = """
import sys, pathlib
from tunelab.settings import load_settings
from tunelab.service.database import open_database
lease = open_database(load_settings(data_dir=pathlib.Path(sys.argv[1])))
print("open", flush=True)
sys.stdin.read()
lease.close()
"""


def start_user(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", USER, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def finish(process: subprocess.Popen[str], *, kill: bool = False) -> None:
    if kill:
        process.kill()
    process.communicate("", timeout=30)


def kill(server: psutil.Process) -> None:
    server.kill()
    server.wait(10)


@contextmanager
def no_server_left(folder: Path) -> Iterator[None]:
    """Afterwards no server of the data folder runs; one that does is killed, and a failure."""
    yield
    left = servers_of(folder / "postgres")
    for server in left:
        kill(server)
    assert left == []


def unused_pid() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid
