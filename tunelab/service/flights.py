"""Single flight: of several that want the same thing at once, one works and the others wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Flight(Generic[T]):
    """Settled with a result, with an error, or with neither: then whoever flew it was cancelled, or out of time."""

    def __init__(self) -> None:
        self.settled = asyncio.Event()
        self.result: T | None = None
        self.error: Exception | None = None


class SingleFlight(Generic[T]):
    """Runs work once per key at a time, in the task of the first that asks.

    Working in that task, and not in one of its own, lets a cancelled request cancel its work. The others are not
    cancelled with it, nor does its deadline hold for them: the next of them takes over.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T]], deadline: float) -> tuple[T, bool]:
        """The result of ``work``, and whether this call did the work. Errors reach everyone who waits.

        Raises:
            TimeoutError: there is none at ``deadline``, a time of the event loop's clock. Whoever may wait longer is
                not told, but works on it.
        """
        while (flight := self._flights.get(key)) is not None:
            async with asyncio.timeout_at(deadline):
                await flight.settled.wait()
            if flight.error is not None:
                raise flight.error
            if flight.result is not None:
                return flight.result, False
        flight = self._flights[key] = _Flight()
        try:
            async with asyncio.timeout_at(deadline):
                flight.result = await work()
            return flight.result, True
        except TimeoutError:
            raise  # of this call alone
        except Exception as error:
            flight.error = error
            raise
        finally:
            del self._flights[key]
            flight.settled.set()
