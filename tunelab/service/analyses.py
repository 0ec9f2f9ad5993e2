"""An analysis from bytes to a stored and paid result."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tunelab.errors import PipelineOverloaded, PipelineTimeout
from tunelab.service.errors import TooManyRequests
from tunelab.service.flights import SingleFlight
from tunelab.service.store import Result, Store, out_of_credits
from tunelab.service.tracing import current_trace_id, logger
from tunelab.settings import Settings
from tunelab.types import Pipeline, content_id

_Key = tuple[uuid.UUID, str, str, str]
"""Account, content id, model, revision: what is computed and charged once."""


class Analyses:
    """Analyses of one process. What must hold across processes is in the transactions of the store."""

    def __init__(self, pipeline: Pipeline, store: Store, settings: Settings) -> None:
        self._pipeline = pipeline
        self._store = store
        self._settings = settings
        self._flights: SingleFlight[Result] = SingleFlight()
        self._saving: dict[_Key, asyncio.Task[Result]] = {}
        self._running: Counter[uuid.UUID] = Counter()

    @contextmanager
    def slot(self, account: uuid.UUID) -> Iterator[None]:
        """Holds one of the account's places in this process, so that one customer cannot take all of them.

        Raises:
            TooManyRequests: all are taken.
            PipelineOverloaded: other accounts have taken as many as the pipeline should be given.
        """
        limit = self._settings.max_concurrent_per_account
        if self._running.total() >= self._settings.max_concurrent:
            raise PipelineOverloaded("every place is taken; try again in a moment")
        if self._running[account] >= limit:
            raise TooManyRequests(f"at most {limit} analyses of one account may be in progress")
        self._running[account] += 1
        try:
            yield
        finally:
            self._running[account] -= 1
            if not self._running[account]:
                del self._running[account]

    async def analyze(self, account: uuid.UUID, data: bytes) -> Result:
        """The result for a file: stored, paid, and computed only if it was not stored before.

        Raises:
            AudioError, PipelineError: see :class:`~tunelab.types.Pipeline`.
            InsufficientCredits: the balance does not cover it.
            PipelineTimeout: it took longer than ``request_timeout_s``.
            DatabaseUnavailable: the database cannot be reached.

        Whatever is raised, nothing was charged, with one exception: the answer may be late although the result was
        stored and paid in time. Asking again then costs nothing.
        """
        # Hashing 50 MB takes about 30 ms, during which the event loop should serve others.
        name = content_id(data) if len(data) < 1 << 20 else await asyncio.to_thread(content_id, data)
        key = (account, name, self._pipeline.model, self._pipeline.revision)
        limit = self._settings.request_timeout_s
        # One deadline from here on, however often somebody else who worked on it goes away.
        deadline = asyncio.get_running_loop().time() + limit

        try:
            result, mine = await self._flights.run(key, lambda: self._compute(key, data), deadline)
        except TimeoutError:
            raise PipelineTimeout(f"no result within {limit:g} s; try again") from None
        return result if mine else replace(result, charged=0)

    async def _compute(self, key: _Key, data: bytes) -> Result:
        account, name, model, revision = key
        if (saving := self._saving.get(key)) is not None:
            await asyncio.wait([saving])  # somebody computed it and went away
        price = self._settings.analyze_credits
        found = await self._store.lookup(account, name, model, revision)
        if found.result is not None:
            return found.result
        if found.balance < price:
            raise out_of_credits(price)
        analysis = await self._pipeline.analyze(data)
        # Finishing the transaction although the client went away costs a few milliseconds and saves computing again;
        # it could also be cut off and rolled back without harm.
        task = asyncio.create_task(self._store.save(account, name, analysis, price, current_trace_id()))
        self._saving[key] = task
        task.add_done_callback(lambda done: self._saved(key, done))
        return await asyncio.shield(task)

    def _saved(self, key: _Key, task: asyncio.Task[Result]) -> None:
        del self._saving[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.info("a result was not stored: %s", type(error).__name__)

    async def drain(self) -> None:
        """Wait for the transactions that are being finished for clients that went away."""
        await asyncio.gather(*self._saving.values(), return_exceptions=True)
