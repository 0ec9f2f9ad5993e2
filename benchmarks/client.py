"""HTTP clients of the service: one that measures latency, and several in a closed loop."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.unique import unique_parts

CLIENTS = 8
"""In the closed loops."""
_TIMEOUT_S = 120
_PATIENCE_S = 0.5
"""How long a client of a closed loop waits after an answer that is an error."""


class RequestError(Exception):
    """An answer that is not a new analysis.

    Attributes:
        kind: a few words to count it by: the status, or what is wrong with an answer of 200.
    """

    def __init__(self, kind: str, content: bytes) -> None:
        super().__init__(f"{kind}: {content[:300].decode(errors='replace')}")
        self.kind = kind


class Client:
    """One connection that is kept alive.

    Args:
        port: of the service on this machine.
        key: of an account.
    """

    def __init__(self, port: int, key: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/octet-stream"}

    def analyze(self, data: bytes, tag: str) -> dict[str, Any]:
        """Send a file that was never sent before, and return the answer.

        Raises:
            RequestError: it is not 200, not an analysis in JSON, or was answered from the store.
            OSError, http.client.HTTPException: the connection broke.
        """
        parts = unique_parts(data, tag)
        headers = {**self._headers, "Content-Length": str(sum(map(len, parts)))}
        try:
            self._connection.request("POST", "/v1/analyze", body=parts, headers=headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next request opens it again
            raise
        if response.status != 200:
            raise RequestError(str(response.status), content)
        return scored(content)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def scored(content: bytes) -> dict[str, Any]:
    """The answer of status 200 to bytes that were new.

    Raises:
        RequestError: it is not an analysis in JSON, or nothing was computed for it.
    """
    try:
        answer: dict[str, Any] = json.loads(content)
        used = answer["_meta"]["credits_used"]
    except (ValueError, KeyError, TypeError):
        raise RequestError("200 without an analysis", content) from None
    if not used:
        raise RequestError("200 from the store", b"the bytes were not new")
    return answer


@dataclass
class Load:
    """What a closed loop saw: times on the monotonic clock in seconds, latencies in milliseconds."""

    begin: float = 0.0
    ends: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def answers(self) -> int:
        """Requests that were answered with an analysis."""
        return len(self.ends)

    def told(self) -> str:
        """Answers and errors in words."""
        return f"{self.answers} requests answered, errors: {tally(self.errors)}"

    def faults(self) -> list[str]:
        """Why nothing may be judged by it; empty if every request was answered, and there was one."""
        found = [] if self.answers else ["no request was answered"]
        if self.errors:
            found.append(f"{self.errors.total()} of {self.answers + self.errors.total()} requests failed")
        return found


def tally(errors: Mapping[str, int]) -> str:
    """Errors by kind, the commonest first, or ``none``."""
    return ", ".join(f"{count} x {name}" for name, count in Counter(errors).most_common()) or "none"


def closed_loop(port: int, keys: Sequence[str], bodies: Sequence[bytes], clients: int, seconds: float) -> Load:
    """Clients that each send the next request when the last was answered.

    Every client goes through all files in turn, each beginning with another; the accounts are shared out evenly.
    """
    load = Load(begin=time.monotonic())
    deadline = load.begin + seconds
    lock = threading.Lock()

    def run(number: int) -> None:
        client = Client(port, keys[number % len(keys)])
        order = itertools.islice(itertools.cycle(range(len(bodies))), number % len(bodies), None)
        for index in order:
            begin = time.monotonic()
            if begin >= deadline:
                break
            try:
                client.analyze(bodies[index], f"{number} {begin!r}")
            # Whatever it is: a client that died silently would make the load smaller than what is said.
            except Exception as error:
                with lock:
                    load.errors[error.kind if isinstance(error, RequestError) else type(error).__name__] += 1
                time.sleep(_PATIENCE_S)
                continue
            end = time.monotonic()
            with lock:
                load.ends.append(end)
                load.latencies.append(1000 * (end - begin))
        client.close()

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load
