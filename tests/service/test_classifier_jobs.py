"""What a training survives: deletion, children that die, a service or a database that goes away."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import URL, select, text
from sqlalchemy.orm import Session

from tests.service.classifier_support import (
    DEATH,
    QUICK,
    REPORT,
    SLEEPER,
    Start,
    add_tracks,
    get,
    is_gone,
    pid_of,
    post,
    until,
)
from tests.service.support import Api, StartApi
from tunelab.service import classifier_jobs
from tunelab.service.classifier_jobs import MAX_TRIES, Trainer
from tunelab.service.database import Database
from tunelab.service.errors import DatabaseUnavailable
from tunelab.service.tables import StoredClassifier


def test_deleted_while_it_is_trained(run_api: Any, session: Session, child: Start, tmp_path: Path) -> None:
    child(SLEEPER, beat_s=60)

    async def scenario(api: Api) -> None:
        labels = add_tracks(session, "pro", 8)
        await post(api, "genre", labels)
        await until(api, "genre", "training")
        pid = await pid_of(tmp_path / "child.pid")
        assert (await api.client.delete("/v1/classifiers/genre", headers=api.auth("pro"))).status_code == 204
        assert await is_gone(pid)
        # The place is free for the next one.
        api.app.state.service.classifiers.trainer._command = (
            sys.executable,
            "-c",
            QUICK.replace("REPORT", repr(REPORT)),
        )
        await post(api, "genre", labels)
        await until(api, "genre", "ready")

    run_api(scenario)


def test_deleted_through_another_process(start_api: StartApi, session: Session, child: Start, tmp_path: Path) -> None:
    child(SLEEPER)

    async def main() -> None:
        async with start_api() as one:
            labels = add_tracks(session, "pro", 8)
            await post(one, "genre", labels)
            pid = await pid_of(tmp_path / "child.pid")
            session.execute(text("DELETE FROM classifiers"))
            session.commit()
            assert await is_gone(pid)

    asyncio.run(main())


def test_a_child_that_dies_is_tried_three_times(run_api: Any, session: Session, child: Start, caplog: Any) -> None:
    child(DEATH)

    async def scenario(api: Api) -> None:
        await post(api, "genre", add_tracks(session, "pro", 8))
        state = await until(api, "genre", "failed")
        assert "3 times without a result" in state["error"]
        assert state["finished_at"] is not None

    run_api(scenario)
    assert session.scalar(select(StoredClassifier.tries)) == MAX_TRIES
    assert sum("ended with -6" in record.message for record in caplog.records) == MAX_TRIES


def test_a_child_that_is_killed_once(run_api: Any, session: Session, child: Start, tmp_path: Path) -> None:
    first, then = (textwrap.indent(code, " ") for code in (SLEEPER, QUICK))
    child(f"import os, sys\nif not os.path.exists(sys.argv[1]):{first}\nelse:{then}")

    async def scenario(api: Api) -> None:
        await post(api, "genre", add_tracks(session, "pro", 8))
        psutil.Process(await pid_of(tmp_path / "child.pid")).kill()
        await until(api, "genre", "ready")

    run_api(scenario)
    assert session.scalar(select(StoredClassifier.tries)) == 2


def test_a_child_that_talks_nonsense(run_api: Any, session: Session, child: Start) -> None:
    child("import sys; sys.stdout.buffer.write(b'x' * 100)")

    async def scenario(api: Api) -> None:
        await post(api, "genre", add_tracks(session, "pro", 8))
        await until(api, "genre", "failed")

    run_api(scenario)


def test_a_child_need_not_know_the_database(
    run_api: Any, session: Session, child: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNELAB_DATABASE_URL", "postgresql://user:secret@host/db")
    child(
        "import os, sys; from tunelab.classifier.wire import json_frame; "
        "sys.stdout.buffer.write(json_frame({'error': repr([name for name in os.environ if 'DATABASE' in name])}))"
    )

    async def scenario(api: Api) -> None:
        await post(api, "genre", add_tracks(session, "pro", 8))
        assert (await until(api, "genre", "failed"))["error"] == "[]"

    run_api(scenario)


def test_a_training_that_takes_too_long(run_api: Any, session: Session, child: Start, tmp_path: Path) -> None:
    child(SLEEPER, limit_s=1.5)

    async def scenario(api: Api) -> None:
        await post(api, "genre", add_tracks(session, "pro", 8))
        assert "longer than 1.5 s" in (await until(api, "genre", "failed"))["error"]
        assert await is_gone(await pid_of(tmp_path / "child.pid"))

    run_api(scenario)


def test_a_child_that_does_not_even_read(run_api: Any, session: Session, child: Start) -> None:
    child("import time; time.sleep(60)", limit_s=1.0)

    async def scenario(api: Api) -> None:
        # More than fits into a pipe.
        await post(api, "genre", add_tracks(session, "pro", 100))
        assert "longer than 1 s" in (await until(api, "genre", "failed"))["error"]

    run_api(scenario)


def test_time_without_the_database_is_not_the_trainings(
    run_api: Any, session: Session, child: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    child(QUICK, limit_s=15)
    real, clock_s = classifier_jobs.embeddings, 0.0
    loop_time = asyncio.BaseEventLoop.time

    async def away(*arguments: Any) -> dict[str, bytes]:
        """Until the limit has passed; the event loop's clock makes the jumps that would take as long."""
        nonlocal clock_s
        if clock_s < 20:
            clock_s += 4
            raise DatabaseUnavailable("away")
        return await real(*arguments)

    monkeypatch.setattr(classifier_jobs, "embeddings", away)
    monkeypatch.setattr(asyncio.BaseEventLoop, "time", lambda self: loop_time(self) + clock_s)

    async def scenario(api: Api) -> None:
        await post(api, "genre", add_tracks(session, "pro", 8))
        await until(api, "genre", "ready", "failed")
        assert clock_s == 20

    run_api(scenario)
    row = session.scalars(select(StoredClassifier)).one()
    assert (row.status, row.tries, row.error) == ("ready", 1, None)


def test_tracks_that_are_gone_when_it_is_trained(start_api: StartApi, session: Session, child: Start) -> None:
    child(None)

    async def main() -> None:
        async with start_api() as api:
            await api.app.state.service.classifiers.trainer.__aexit__(None, None, None)
            labels = add_tracks(session, "pro", 10)
            await post(api, "genre", labels)
        session.execute(text("DELETE FROM tracks WHERE content_id = :id"), {"id": next(iter(labels))})
        session.execute(text("DELETE FROM tracks WHERE content_id = :id"), {"id": list(labels)[2]})
        session.commit()
        async with start_api() as api:
            state = await until(api, "genre", "failed")
            assert "every class needs at least 4 tracks; too few: 'a' (3)" in state["error"]

    asyncio.run(main())


def test_shutdown_ends_the_child_and_gives_the_job_back(
    start_api: StartApi, session: Session, child: Start, tmp_path: Path
) -> None:
    child(SLEEPER)

    async def main() -> None:
        async with start_api() as api:
            await post(api, "genre", add_tracks(session, "pro", 8))
            pid = await pid_of(tmp_path / "child.pid")
        assert not psutil.pid_exists(pid)
        row = session.scalars(select(StoredClassifier)).one()
        assert (row.status, row.tries, row.claimed_at) == ("queued", 0, None)
        child(QUICK)
        async with start_api() as api:
            await until(api, "genre", "ready")

    asyncio.run(main())


KILLED_SERVICE = """
import asyncio, sys
from tests.service.support import FakePipeline
from tunelab.service import classifier_jobs
from tunelab.service.app import create_app
classifier_jobs.COMMAND = (sys.executable, "-c", sys.argv[1], sys.argv[2])
async def main():
    app = create_app(FakePipeline)
    async with app.router.lifespan_context(app):
        await asyncio.sleep(60)
asyncio.run(main())
"""


def test_another_process_takes_over_from_one_that_was_killed(
    start_api: StartApi, session: Session, child: Start, tmp_path: Path, database: URL
) -> None:
    async def main() -> None:
        child(SLEEPER, poll_s=60)
        async with start_api() as api:
            await api.app.state.service.classifiers.trainer.__aexit__(None, None, None)
            await post(api, "genre", add_tracks(session, "pro", 8))
        environment = {**os.environ, "TUNELAB_DATABASE_URL": database.render_as_string(hide_password=False)}
        command = [sys.executable, "-c", KILLED_SERVICE, SLEEPER, str(tmp_path / "child.pid")]
        root = Path(__file__).parents[2]
        service = subprocess.Popen(command, env=environment, cwd=root)  # noqa: ASYNC220
        pid = await pid_of(tmp_path / "child.pid")
        service.kill()
        service.wait()
        assert await is_gone(pid)
        assert session.scalar(select(StoredClassifier.status)) == "training"
        session.rollback()
        child(QUICK, stale_s=60)
        async with start_api() as api:
            await asyncio.sleep(0.2)
            assert (await get(api, "/genre")).json()["status"] == "training"  # its owner might still be there
        child(QUICK, stale_s=0.1)
        async with start_api() as api:
            await until(api, "genre", "ready")
        assert session.scalar(select(StoredClassifier.tries)) == 2

    asyncio.run(main())


def test_one_job_is_for_one_process(start_api: StartApi, session: Session, child: Start, tmp_path: Path) -> None:
    child(f"open({str(tmp_path / 'started')!r}, 'a').write('x'){QUICK}")

    async def main() -> None:
        async with start_api() as one, start_api() as _, start_api() as _:
            labels = add_tracks(session, "pro", 8)
            for number in range(6):
                assert (await post(one, f"n{number}", labels)).status_code == 202
            for number in range(6):
                await until(one, f"n{number}", "ready")

    asyncio.run(main())
    assert (tmp_path / "started").read_text() == "x" * 6


def test_a_slow_process_changes_nothing_that_another_has_taken(
    start_api: StartApi, session: Session, child: Start
) -> None:
    child(QUICK)

    async def main() -> None:
        async with start_api() as api:
            trainer = api.app.state.service.classifiers.trainer
            await trainer.__aexit__(None, None, None)
            await post(api, "genre", add_tracks(session, "pro", 8))
            slow = await trainer._claim()
            assert await trainer._claim() is None
            session.execute(text("UPDATE classifiers SET claimed_at = now() - interval '61 s'"))
            session.commit()
            quick = await trainer._claim()
            assert (slow.tries, quick.tries) == (1, 2)
            assert not await trainer._write(slow, status="failed")
            assert await trainer._write(quick, status="ready")

    asyncio.run(main())


def test_the_loop_survives_the_database(
    start_api: StartApi, session: Session, child: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    child(QUICK)
    real, away = Database.transaction, 0

    def transaction(self: Database) -> Any:
        nonlocal away
        if away > 0:
            away -= 1
            raise DatabaseUnavailable("away")
        return real(self)

    monkeypatch.setattr(Database, "transaction", transaction)

    async def main() -> None:
        nonlocal away
        async with start_api() as api:
            labels = add_tracks(session, "pro", 8)
            await post(api, "genre", labels)
            away = 5  # while it claims, shows that it lives, or writes its result
            await until(api, "genre", "ready")
            assert away == 0
            monkeypatch.setattr(Database, "transaction", lambda self: 1 / 0)
            await asyncio.sleep(0.2)
            monkeypatch.setattr(Database, "transaction", real)
            await post(api, "again", labels)
            await until(api, "again", "ready")

    asyncio.run(main())


def test_a_service_that_ends_while_a_child_is_taken_leave_of(monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[subprocess.Popen[bytes]] = []
    real = classifier_jobs._start

    def start(*arguments: Any) -> subprocess.Popen[bytes]:
        children.append(real(*arguments))
        return children[-1]

    monkeypatch.setattr(classifier_jobs, "_start", start)

    async def main() -> None:
        trainer: Any = Trainer(Database.__new__(Database))
        trainer._command, trainer._threads = (sys.executable, "-c", "input()"), ThreadPoolExecutor(1)
        ending = asyncio.Event()

        async def talk(child: object, job: object) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ending.set()
                await asyncio.sleep(0.2)

        async def beat(job: object) -> None:
            """Returns at once: the job was deleted."""

        trainer._talk, trainer._beat = talk, beat
        attempt = asyncio.create_task(trainer._attempt(None))
        await ending.wait()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        trainer._threads.shutdown()

    asyncio.run(main())
    [child] = children
    assert child.returncode is not None
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdin.closed
    assert child.stdout.closed
