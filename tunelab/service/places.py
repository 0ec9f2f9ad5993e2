"""Places for what takes a while, such as searches, so that one customer's do not keep everybody from their keys."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from tunelab.service.errors import DatabaseUnavailable, TooManyRequests

_PATIENCE_S = 5.0
"""As long as a request waits for a connection."""


class Places:
    """Searches of one process: so many at once, the others wait without a connection; so many of one account at most.

    Args:
        at_once: searches that run; there should be more connections.
        per_account: searches of one account that run or wait.
        what: the name of what are no searches.
    """

    def __init__(self, at_once: int, per_account: int, what: str = "searches") -> None:
        self._free = asyncio.Semaphore(at_once)
        self._per_account = per_account
        self._what = what
        self._held: Counter[uuid.UUID] = Counter()

    @asynccontextmanager
    async def one(self, account: uuid.UUID) -> AsyncIterator[None]:
        """A place for a search, as soon as there is one.

        Raises:
            TooManyRequests: the account holds, or waits for, as many as it may.
            DatabaseUnavailable: none became free in time.
        """
        with self.held(account):
            async with self.turn():
                yield

    @contextmanager
    def held(self, account: uuid.UUID) -> Iterator[None]:
        """One of the account's places, for what comes before its turn.

        Raises:
            TooManyRequests: the account holds as many as it may.
        """
        if self._held[account] >= self._per_account:
            raise TooManyRequests(f"at most {self._per_account} {self._what} of one account may be in progress")
        self._held[account] += 1
        try:
            yield
        finally:
            self._held[account] -= 1
            if not self._held[account]:
                del self._held[account]

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """To be one of those that run, as soon as there is room; whoever comes here holds a place.

        Raises:
            DatabaseUnavailable: there was none in time.
        """
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._free.acquire()
        except TimeoutError:
            raise DatabaseUnavailable(f"too many {self._what} at this moment; try again") from None
        try:
            yield
        finally:
            self._free.release()
