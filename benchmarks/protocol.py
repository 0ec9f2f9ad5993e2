"""JSON lines between the benchmark and its workers. Standard library only: the peers' environment imports it too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self, cast

ROOT = Path(__file__).parents[1]
_CLOSE_TIMEOUT_S = 10
_STDERR_LINES = 15

Handler = Callable[..., dict[str, Any]]


def clean_environment() -> dict[str, str]:
    """The environment without what would configure TuneLab, Ray or the threads of a library behind our back."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "TUNELAB_")) and not name.endswith("_NUM_THREADS")
    }


class WorkerError(Exception):
    """A worker could not do what it was asked for; the message says why."""


def answer_requests(handlers: Mapping[str, Handler]) -> None:
    """Answer requests from standard input until it ends: ``{"op": NAME, ...}`` -> what the handler returns.

    An exception becomes ``{"error": MESSAGE}``. What libraries print goes to standard error.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr  # written line by line: these are a worker's last words, if it dies
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = handlers[request.pop("op")](**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


class Worker:
    """A worker process, asked one thing at a time. A context manager; leaving it ends the process.

    Args:
        name: for messages.
        python: the interpreter that runs it.
        module: what it runs.
        arguments: command line arguments.
        environment: variables set for it, beside :func:`clean_environment`.
        log: where its standard error goes.
    """

    def __init__(
        self,
        name: str,
        python: Path,
        module: str,
        *,
        log: Path,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as output:
            # A session of its own: Ctrl-C reaches only the benchmark, which then ends its workers.
            self._process = subprocess.Popen(
                [str(python), "-m", module, *arguments],
                cwd=ROOT,
                env={**clean_environment(), **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                encoding="utf-8",
                start_new_session=True,
            )
        # Both were asked for as pipes.
        self._requests = cast(IO[str], self._process.stdin)
        self._answers = cast(IO[str], self._process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            WorkerError: the worker answered with an error, or died.
        """
        self.send(op, **request)
        return self.receive()

    def send(self, op: str, **request: Any) -> None:
        """Send a request; its answer is fetched with :meth:`receive`.

        Raises:
            WorkerError: the worker died.
        """
        try:
            print(json.dumps({"op": op, **request}), file=self._requests, flush=True)
        except OSError:
            raise self._died() from None

    def receive(self) -> dict[str, Any]:
        """Wait for the answer to the oldest request that was sent.

        Raises:
            WorkerError: the worker answered with an error, or died.
        """
        line = self._answers.readline()
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self.name}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        process = self._process
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_CLOSE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for stream in (self._requests, self._answers):
            with suppress(OSError):  # a request that was never read is lost with the process
                stream.close()

    def _died(self) -> WorkerError:
        lines = self._log.read_text(errors="replace").splitlines()[-_STDERR_LINES:]
        return WorkerError("\n".join([f"{self.name} died:", *lines]))
