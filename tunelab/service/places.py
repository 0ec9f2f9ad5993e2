"""Places at the database for searches, so that one customer's do not keep everybody from their keys."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tunelab.service.errors import DatabaseUnavailable, TooManyRequests

_PATIENCE_S = 5.0
"""As long as a request waits for a connection."""


class Places:
    """Searches of one process: so many at once, the others wait without a connection; so many of one account at most.

    Args:
        at_once: searches that run; there should be more connections.
        per_account: searches of one account that run or wait.
    """

    def __init__(self, at_once: int, per_account: int) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._per_account = per_account
        self._held: Counter[uuid.UUID] = Counter()

    @asynccontextmanager
    async def one(self, account: uuid.UUID) -> AsyncIterator[None]:
        """A place for a search, as soon as there is one.

        Raises:
            TooManyRequests: the account holds, or waits for, as many as it may.
            DatabaseUnavailable: none became free in time.
        """
        if self._held[account] >= self._per_account:
            raise TooManyRequests(f"at most {self._per_account} searches of one account may be in progress")
        self._held[account] += 1
        try:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._free.acquire()
            except TimeoutError:
                raise DatabaseUnavailable("too many searches at this moment; try again") from None
            try:
                yield
            finally:
                self._free.release()
        finally:
            self._held[account] -= 1
            if not self._held[account]:
                del self._held[account]
