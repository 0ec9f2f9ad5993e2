"""Batch outputs in the service: once, whole, for nothing, and served at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import URL, create_engine, func, select, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from tests.service.support import Api, settings_for
from tests.similarity.support import content_id_of, embeddings_of, failed_rows, rows_of, write_output
from tunelab.service import importing
from tunelab.service.accounts import create_account
from tunelab.service.errors import AdminError, DatabaseUnavailable
from tunelab.service.importing import Imported, import_rows
from tunelab.service.tables import Account, LedgerEntry, Track
from tunelab.settings import Settings
from tunelab.types import HEADS

NAMES = [f"track {number}" for number in range(40)]


@pytest.fixture
def label(session: Session) -> str:
    """An account."""
    create_account(session, "label", tier="pro", credits=7)
    session.commit()
    return "label"


def count(session: Session) -> int:
    session.rollback()
    return session.scalar(select(func.count()).select_from(Track)) or 0


def test_rows_become_tracks_that_are_served_at_once(run_api: Any, session: Session, settings: Settings) -> None:
    vectors = embeddings_of(40)
    rows = rows_of(NAMES, vectors)

    async def scenario(api: Api) -> None:
        counts = import_rows(settings, "pro", [rows])
        assert (counts.new, counts.known, counts.failed, counts.unusable) == (40, 0, 0, 0)
        assert counts.versions == {("fake-v1", "1"): 40}
        headers = api.auth("pro")
        first = content_id_of(NAMES[0])
        raw = {**headers, "Accept": "application/octet-stream"}
        embedding = await api.client.get(f"/v1/embedding/{first}", headers=raw)
        np.testing.assert_array_equal(np.frombuffer(embedding.content, "<f4"), vectors[0].astype(np.float32))
        stored = (await api.client.get(f"/v1/analyze/{first}", headers=headers)).json()
        row = rows.slice(0, 1).to_pylist()[0]
        assert {head: stored[head] for head in HEADS} == {head: round(100 * row[head]) for head in HEADS}
        similar = (await api.client.get(f"/v1/similar/{first}?k=100", headers=headers)).json()["similar"]
        assert {track["id"] for track in similar} == {content_id_of(name) for name in NAMES[1:]}
        assert {track["duration_s"] for track in similar} == {123.5}
        # For nobody else, and for nothing.
        other = await api.client.get(f"/v1/analyze/{first}", headers=api.auth())
        assert other.status_code == 404
        assert await api.credits("pro") == 100

    run_api(scenario)
    reasons = session.scalars(select(LedgerEntry.reason)).all()
    assert set(reasons) == {"signup"}
    track = session.scalar(select(Track).where(Track.content_id == content_id_of(NAMES[0])))
    assert track is not None
    np.testing.assert_array_equal(np.float16(track.embedding), vectors[0])


def test_importing_twice_changes_nothing(session: Session, settings: Settings, label: str) -> None:
    import_rows(settings, label, [rows_of(NAMES)])
    before = session.execute(select(Track.id, Track.created_at, Track.energy).order_by(Track.id)).all()
    again = import_rows(settings, label, [rows_of(NAMES[:20]), rows_of(NAMES[20:], energy=0.5)])
    assert (again.new, again.known) == (0, 40)
    session.rollback()
    assert session.execute(select(Track.id, Track.created_at, Track.energy).order_by(Track.id)).all() == before
    more = import_rows(settings, label, [rows_of([*NAMES, "new"])])
    assert (more.new, more.known) == (1, 40)


def test_accounts_have_their_own(session: Session, settings: Settings, label: str) -> None:
    other, _ = create_account(session, "other")
    session.commit()
    import_rows(settings, label, [rows_of(NAMES)])
    assert import_rows(settings, str(other.id), [rows_of(NAMES)]).new == 40
    assert count(session) == 80


@pytest.mark.parametrize("transaction_rows", [3, 1000])
def test_the_same_content_twice_is_one_track(
    session: Session, settings: Settings, label: str, monkeypatch: pytest.MonkeyPatch, transaction_rows: int
) -> None:
    monkeypatch.setattr(importing, "TRANSACTION_ROWS", transaction_rows)
    ids = [content_id_of(name) for name in "aababcabcd"]
    rows = rows_of([f"file {number}" for number in range(10)], id=ids)
    counts = import_rows(settings, label, [rows])
    assert (counts.new, counts.known) == (4, 6)
    assert count(session) == 4


def test_failed_rows_are_skipped(session: Session, settings: Settings, label: str) -> None:
    batches = [failed_rows(["bad 1", "bad 2"]), rows_of(NAMES), failed_rows(["bad 3"])]
    counts = import_rows(settings, label, batches)
    assert (counts.new, counts.failed, counts.unusable) == (40, 3, 0)
    assert import_rows(settings, label, []) == Imported()


def test_rows_that_make_no_sense_are_skipped(session: Session, settings: Settings, label: str) -> None:
    vectors = list(embeddings_of(15))
    vectors[0] = None
    vectors[1] = np.full(768, np.nan, np.float16)
    vectors[2] = np.full(768, np.inf, np.float16)
    good = [content_id_of(name) for name in NAMES[:15]]
    rows = rows_of(
        NAMES[:15],
        vectors,
        id=[*good[:3], None, "short", "A" * 64, *good[6:]],
        energy=[*[0.5] * 6, 1.5, -0.1, float("nan"), *[None] * 6],
        duration_s=[*[1.0] * 9, None, float("inf"), -1.0, *[1.0] * 3],
        model=[*["fake-v1"] * 12, "nul\0", "fake-v1", "x" * 201],
    )
    counts = import_rows(settings, label, [rows])
    assert (counts.new, counts.unusable) == (1, 14)
    track = session.scalars(select(Track)).one()
    assert (track.content_id, track.energy) == (good[13], None)


def test_every_revision_is_stored(session: Session, settings: Settings, label: str) -> None:
    counts = import_rows(settings, label, [rows_of(NAMES, revision="1"), rows_of(NAMES, revision="2")])
    assert counts.versions == {("fake-v1", "1"): 40, ("fake-v1", "2"): 40}
    assert count(session) == 80


def test_unknown_account_and_lost_database(session: Session, settings: Settings, tmp_path: Path, label: str) -> None:
    with pytest.raises(AdminError, match="no account 'nobody'"):
        import_rows(settings, "nobody", [rows_of(NAMES)])
    with pytest.raises(DatabaseUnavailable):
        import_rows(settings_for(URL.create("postgresql", "u", "sekret", "127.0.0.1", 1), tmp_path), label, [])

    def batches() -> Iterator[pa.RecordBatch]:
        yield rows_of(NAMES[:10])
        session.rollback()
        kill = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        session.execute(kill)
        yield rows_of(NAMES[10:])

    with pytest.raises(DatabaseUnavailable, match="already is whole"):
        import_rows(settings, label, batches())
    assert count(session) == 10


def test_rows_that_cannot_be_read_end_it_between_transactions(
    session: Session, settings: Settings, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "TRANSACTION_ROWS", 10)
    rows = importing._rows

    def broken(batch: pa.RecordBatch) -> Iterator[tuple[object, ...]]:
        for number, row in enumerate(rows(batch)):
            if count(session) == 20 and number == 5:
                raise RuntimeError("in the middle of a transaction")
            yield row

    with monkeypatch.context() as patch:
        patch.setattr(importing, "_rows", broken)
        with pytest.raises(RuntimeError, match="in the middle"):
            import_rows(settings, label, [rows_of(NAMES)])
    assert count(session) == 20
    again = import_rows(settings, label, [rows_of(NAMES)])
    assert (again.new, again.known) == (20, 20)


KILLED = """
import sys
from tunelab.catalog.rows import open_rows
from tunelab.service import importing
from tunelab.settings import load_settings

importing.TRANSACTION_ROWS = 10
rows, seen = importing._rows, 0

def stopping(batch):
    global seen
    for number, row in enumerate(rows(batch)):
        yield row
        seen += 1
        if seen == 25:
            print("in the middle", flush=True)
            sys.stdin.read()

importing._rows = stopping
importing.import_rows(load_settings(database_url=sys.argv[1]), "label", open_rows(sys.argv[2], failed=True))
"""


def test_killed_in_the_middle_leaves_whole_transactions(
    session: Session, settings: Settings, label: str, database: URL, tmp_path: Path
) -> None:
    folder = write_output(tmp_path / "out", rows_of(NAMES))
    url = database.render_as_string(hide_password=False)
    arguments = [sys.executable, "-c", KILLED, url, str(folder)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in the middle\n"
        # Whoever reads while it runs sees the finished transactions, and waits for nothing.
        assert count(session) == 20
        os.kill(process.pid, signal.SIGKILL)
    assert count(session) == 20
    counts = import_rows(settings, label, [rows_of(NAMES)])
    assert (counts.new, counts.known) == (20, 20)


def test_reading_while_importing(
    run_api: Any, session: Session, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "TRANSACTION_ROWS", 10)
    first = content_id_of(NAMES[0])

    async def scenario(api: Api) -> None:
        begun, go_on = threading.Event(), threading.Event()
        rows = importing._rows

        def waiting(batch: pa.RecordBatch) -> Iterator[tuple[object, ...]]:
            for number, row in enumerate(rows(batch)):
                yield row
                if number == 5 and count(session) == 20:
                    begun.set()
                    assert go_on.wait(30)

        monkeypatch.setattr(importing, "_rows", waiting)
        thread = threading.Thread(target=import_rows, args=(settings, "pro", [rows_of(NAMES)]))
        thread.start()
        assert begun.wait(30)
        headers = api.auth("pro")
        answer = await api.client.get(f"/v1/similar/{first}?k=100", headers=headers)
        assert len(answer.json()["similar"]) == 19
        assert (await api.analyze(b"song", "pro")).status_code == 200
        go_on.set()
        thread.join()
        answer = await api.client.get(f"/v1/similar/{first}?k=100", headers=headers)
        assert len(answer.json()["similar"]) == 40

    run_api(scenario)


def test_two_imports_at_once_do_not_lock_each_other_out(
    session: Session, settings: Settings, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = threading.Barrier(2)
    rows = importing._rows

    def together(batch: pa.RecordBatch) -> Iterator[tuple[object, ...]]:
        yield from rows(batch)
        barrier.wait(30)

    monkeypatch.setattr(importing, "_rows", together)
    found: list[Imported] = []

    def run(names: Sequence[str]) -> None:
        found.append(import_rows(settings, label, [rows_of(names)]))

    threads = [threading.Thread(target=run, args=(names,)) for names in (NAMES, NAMES[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts.new + counts.known for counts in found) == [40, 40]
    assert sum(counts.new for counts in found) == 40
    assert count(session) == 40


def test_progress_is_told_after_each_transaction(
    session: Session, settings: Settings, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "TRANSACTION_ROWS", 15)
    told: list[tuple[int, int]] = []
    import_rows(settings, label, [rows_of(NAMES)], lambda counts: told.append((counts.new, count(session))))
    assert told == [(15, 15), (30, 30), (40, 40)]


def test_search_is_planned_with_what_came(session: Session, settings: Settings, label: str, database: URL) -> None:
    import_rows(settings, label, [rows_of(NAMES)])
    engine = create_engine(database, poolclass=NullPool)
    with engine.connect() as connection:
        known = connection.scalar(text("SELECT reltuples FROM pg_class WHERE relname = 'tracks'"))
    engine.dispose()
    assert known == 40
    assert session.scalar(select(Account.balance).where(Account.name == label)) == 7
