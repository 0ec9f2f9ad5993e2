"""Training, off the path of requests: a loop in each process of the service, and a child process for each classifier.

The row of a classifier is its job. A process claims one that is queued, or whose claim is stale because whoever had it
is gone; ``claimed_at`` is its sign of life. ``tries`` grows with each claim and so tells one claim from the next: what
a process writes under a claim that it has lost, or to a row that was deleted, changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import IO, Any, TypeVar

import numpy as np
from sqlalchemy import ARRAY, Select, Text, any_, func, literal, select, update
from sqlalchemy.sql.elements import ColumnElement

from tunelab.classifier.model import Classifier
from tunelab.classifier.wire import embeddings_frame, frame, json_frame, read_frame
from tunelab.errors import ClassifierError
from tunelab.service.database import Database
from tunelab.service.errors import DatabaseUnavailable
from tunelab.service.tables import StoredClassifier, Track
from tunelab.service.tracing import logger

MAX_TRIES = 3
"""Claims without a result after which a classifier has failed."""
COMMAND = (sys.executable, "-m", "tunelab.classifier.worker")
_AT_ONCE = 500
"""Embeddings that are read from the database at once: 1.5 MB."""
_GIVE_BACK_S = 2.0
_STDERR_BYTES = 4000

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds: how often a process without work looks for some, how often one with work shows that it lives, when a
    claim is stale, and the longest time that a training may take, waiting for the database not counted.
    """

    poll_s: float = 5.0
    beat_s: float = 10.0
    stale_s: float = 60.0
    limit_s: float = 900.0


TIMING = Timing()


@dataclass(frozen=True, slots=True)
class _Job:
    id: int
    account_id: uuid.UUID
    model: str
    revision: str
    labels: Mapping[str, str | Sequence[str]]
    tries: int


def analysed(account: uuid.UUID, model: str, revision: str, ids: Sequence[str], *columns: Any) -> Select[Any]:
    """Columns of those of the account's tracks that were analysed with exactly that revision of the model."""
    return select(*columns).where(
        Track.account_id == account,
        Track.model == model,
        Track.revision == revision,
        Track.content_id == any_(literal(ids, ARRAY(Text))),
    )


async def embeddings(
    database: Database, account: uuid.UUID, model: str, revision: str, ids: Sequence[str]
) -> dict[str, bytes]:
    """Content id -> embedding, 768 x float32, little-endian, for those of the ids that have one."""
    query = analysed(account, model, revision, ids, Track.content_id, Track.embedding_f32)
    async with database.reading() as session:
        return {row.content_id: row.embedding_f32 for row in (await session.execute(query)).all()}


class Trainer:
    """The loop of one process; runs within ``async with``, and trains at most one classifier at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._timing, self._command = TIMING, COMMAND
        self._work, self._look = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> Trainer:
        # A thread of its own: it waits for the child for minutes, and the loop's threads have work to do.
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="tunelab-classifier")
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End at once: the child is killed, and its job given back to whoever comes next."""
        self._task.cancel()
        await asyncio.wait((self._task,))
        self._threads.shutdown()

    def wake(self) -> None:
        """There is work."""
        self._work.set()

    def look(self) -> None:
        """The job in progress may have been deleted."""
        self._look.set()

    async def _run(self) -> None:
        while True:
            busy = False
            try:
                busy = await self._train_one()
            except DatabaseUnavailable:
                pass  # requests tell of it, and the next round may find it back
            except Exception:
                logger.exception("training a classifier failed")
            if not busy:
                await _wait(self._work, self._timing.poll_s)

    async def _train_one(self) -> bool:
        """Train the next classifier; false if there is none, or if it should not be tried again at once."""
        job = await self._claim()
        if job is None:
            return False
        try:
            outcome = await self._attempt(job)
        except asyncio.CancelledError:
            # Not a try of the classifier's: nothing was wrong with it.
            with suppress(DatabaseUnavailable, TimeoutError):
                async with asyncio.timeout(_GIVE_BACK_S):
                    await self._write(job, status="queued", claimed_at=None, tries=job.tries - 1)
            raise
        if outcome is None:
            again = {"status": "queued", "claimed_at": None}
            await self._patiently(lambda: self._write(job, **(again if job.tries < MAX_TRIES else _given_up())))
            return False
        if outcome:
            await self._patiently(lambda: self._write(job, **outcome))
        return True

    async def _claim(self) -> _Job | None:
        stale = func.now() - timedelta(seconds=self._timing.stale_s)
        table = StoredClassifier
        due = (table.status == "queued") | ((table.status == "training") & (table.claimed_at < stale))
        columns = (table.id, table.account_id, table.model, table.revision, table.labels, table.tries)
        query = select(*columns).where(due).order_by(table.created_at, table.id).limit(1)
        async with self._database.transaction() as session:
            row = (await session.execute(query.with_for_update(skip_locked=True))).one_or_none()
            if row is None:
                return None
            job = _Job(**{**row._asdict(), "tries": row.tries + 1})
            again = row.tries < MAX_TRIES
            mine = {"status": "training", "claimed_at": func.now(), "tries": job.tries}
            await session.execute(update(table).where(table.id == job.id).values(mine if again else _given_up()))
        return job if again else await self._claim()

    async def _attempt(self, job: _Job) -> Mapping[str, Any] | None:
        """Train once. Returns what to write into the row; ``None``: the child ended without an answer."""
        with tempfile.TemporaryFile() as errors:
            child = _start(self._command, errors)
            talk, beat = asyncio.create_task(self._talk(child, job)), asyncio.create_task(self._beat(job))
            try:
                await asyncio.wait((talk, beat), return_when=asyncio.FIRST_COMPLETED)
                if talk.done():
                    return talk.result()
                beat.result()
                return {}  # deleted, or another process's: what would be written would change nothing
            except TimeoutError:
                return _failed(f"training took longer than {self._timing.limit_s:g} s")
            except (EOFError, OSError, ValueError, ClassifierError):
                await self._in_thread(_end, child)
                logger.warning("the training of a classifier ended with %s: %s", child.returncode, _tail(errors))
                return None
            finally:
                child.kill()
                for task in (talk, beat):
                    task.cancel()
                try:
                    # What the thread still reads or writes ends with the child.
                    await asyncio.gather(talk, beat, return_exceptions=True)
                    await self._in_thread(_end, child)
                finally:
                    # Where a second cancellation comes between, or no thread is left, it is still taken leave of.
                    _end(child)

    async def _talk(self, child: subprocess.Popen[bytes], job: _Job) -> Mapping[str, Any]:
        """Give the child its work, and take its answer.

        Raises:
            TimeoutError: it took longer than it may.
            EOFError, OSError, ValueError: it died, or does not say what it should.
        """
        async with asyncio.timeout(self._timing.limit_s) as limit:
            await self._send(child, job, limit)
            return await self._answer(child)

    async def _send(self, child: subprocess.Popen[bytes], job: _Job, limit: asyncio.Timeout) -> None:
        outgoing = child.stdin
        assert outgoing is not None  # noqa: S101  a pipe, see _start
        send = outgoing.write
        work = {"labels": job.labels, "model": job.model, "revision": job.revision}
        await self._in_thread(lambda: send(json_frame(work)))
        ids = list(job.labels)
        for begin in range(0, len(ids), _AT_ONCE):
            some = ids[begin : begin + _AT_ONCE]
            read = partial(embeddings, self._database, job.account_id, job.model, job.revision, some)
            found = await self._uncounted(limit, read)
            places = [place for place, content_id in enumerate(some, start=begin) if content_id in found]
            if places:
                vectors = np.frombuffer(b"".join(found[ids[place]] for place in places), "<f4")
                await self._in_thread(send, embeddings_frame(places, vectors.reshape(len(places), -1)))
        await self._in_thread(send, frame(b""))
        await self._in_thread(outgoing.flush)

    async def _answer(self, child: subprocess.Popen[bytes]) -> Mapping[str, Any]:
        incoming = child.stdout
        assert incoming is not None  # noqa: S101  a pipe, see _start
        answer = json.loads(await self._in_thread(read_frame, incoming))
        if "error" in answer:
            return _failed(answer["error"])
        weights = await self._in_thread(read_frame, incoming)
        Classifier.from_bytes(weights)
        return {"status": "ready", "report": answer["report"], "weights": weights, "finished_at": func.now()}

    async def _beat(self, job: _Job) -> None:
        """Show that somebody works on it; returns when it is no longer this process's to work on."""
        while True:
            await _wait(self._look, self._timing.beat_s)
            with suppress(DatabaseUnavailable):
                if not await self._write(job, claimed_at=func.now()):
                    return

    async def _write(self, job: _Job, **values: Any) -> bool:
        """Change the row; false if it is gone, or another process's by now."""
        table = StoredClassifier
        mine: ColumnElement[bool] = (table.id == job.id) & (table.tries == job.tries) & (table.status == "training")
        async with self._database.transaction() as session:
            changed = await session.scalar(update(table).where(mine).values(values).returning(table.id))
        return changed is not None

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of ``work``, however long the database is away."""
        while True:
            try:
                return await work()
            except DatabaseUnavailable:
                await asyncio.sleep(self._timing.poll_s)

    async def _uncounted(self, limit: asyncio.Timeout, work: Callable[[], Awaitable[T]]) -> T:
        """As :meth:`_patiently`; the limit comes no nearer meanwhile, since a database's fault is not the child's."""
        clock = asyncio.get_running_loop().time
        left = (limit.when() or 0.0) - clock()
        limit.reschedule(None)
        result = await self._patiently(work)
        limit.reschedule(clock() + left)
        return result

    async def _in_thread(self, work: Callable[..., R], *arguments: Any) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def _failed(why: str) -> dict[str, Any]:
    return {"status": "failed", "error": why, "finished_at": func.now()}


def _given_up() -> dict[str, Any]:
    return _failed(f"the training ended {MAX_TRIES} times without a result; ask for it again")


def _start(command: Sequence[str], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    # It needs no database, so it is not told where that is. A session of its own: Ctrl-C in a terminal is for the
    # service, which then ends it.
    environment = {name: value for name, value in os.environ.items() if name != "TUNELAB_DATABASE_URL"}
    return subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=environment,
        start_new_session=True,
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill it, unless it has ended, and take leave of it; the second time does nothing."""
    child.kill()
    for pipe in (child.stdin, child.stdout):
        with suppress(OSError):  # what was not sent cannot be any more
            if pipe is not None:
                pipe.close()
    child.wait()


def _tail(errors: IO[bytes]) -> str:
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - _STDERR_BYTES))
    return errors.read().decode(errors="replace").strip() or "nothing on standard error"


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until the event, which is then over, or so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    event.clear()
