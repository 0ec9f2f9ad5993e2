"""Classifiers over HTTP: from labels to predictions, whose they are, their limits, and what a training survives."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from sqlalchemy import URL, func, select, text
from sqlalchemy.orm import Session

from tests.service.support import Api, StartApi
from tunelab.service import classifier_jobs
from tunelab.service.accounts import create_account, find_account
from tunelab.service.classifier_jobs import MAX_TRIES, Timing
from tunelab.service.classifier_schemas import training_body_limit
from tunelab.service.database import Database
from tunelab.service.errors import DatabaseUnavailable
from tunelab.service.tables import LedgerEntry, StoredClassifier, Track
from tunelab.settings import load_settings

# Reads its job, says so by its process id, and then waits for its service to go away.
SLEEPER = """
import os, sys
from tunelab.classifier.wire import read_frame
while read_frame(sys.stdin.buffer): pass
path = sys.argv[1]
open(path + ".new", "w").write(str(os.getpid())); os.rename(path + ".new", path)
os.read(0, 1)
"""
# Says that the first class is right, at once and without PyTorch.
QUICK = """
import json, sys
import numpy as np
from tunelab.classifier.model import Classifier
from tunelab.classifier.wire import frame, json_frame, read_frame
job = json.loads(read_frame(sys.stdin.buffer))
while read_frame(sys.stdin.buffer): pass
classes = tuple(sorted(set(job["labels"].values())))
shapes = {"hidden.weight": (1, 768), "hidden.bias": 1, "output.weight": (len(classes), 1), "output.bias": len(classes)}
tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
report = REPORT
classifier = Classifier("multiclass", classes, job["model"], job["revision"], tensors, {})
sys.stdout.buffer.write(json_frame({"report": report}) + frame(classifier.to_bytes()))
"""
FIGURE = {"value": 0.5, "ci95": [0.25, 0.75]}
REPORT = {
    "kind": "multiclass",
    "classes": ["a", "b"],
    "model": "fake-v1",
    "revision": "1",
    "n": {"train": 4, "validation": 2, "test": 2},
    "groups": None,
    "left_out": 0,
    "epochs": 1,
    "accuracy": FIGURE,
    "macro_f1": FIGURE,
    "baseline": {"always": ["a"], "accuracy": 0.5, "macro_f1": 0.3},
    "per_class": [],
    "confusion": None,
}
DEATH = "import os; os.abort()"

Start = Callable[..., None]


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Start:
    """Choose what stands in for the training process, and the timing; services that start afterwards have both."""
    monkeypatch.setattr(classifier_jobs, "TIMING", Timing(poll_s=0.05, beat_s=0.05, stale_s=60, limit_s=60))

    def choose(code: str | None, **timing: float) -> None:
        if code is not None:
            command = (sys.executable, "-c", code.replace("REPORT", repr(REPORT)), str(tmp_path / "child.pid"))
            monkeypatch.setattr(classifier_jobs, "COMMAND", command)
        values = {"poll_s": 0.05, "beat_s": 0.05, "stale_s": 60.0, "limit_s": 60.0, **timing}
        monkeypatch.setattr(classifier_jobs, "TIMING", Timing(**values))

    return choose


def add_tracks(session: Session, account: str, count: int, classes: int = 2, revision: str = "1") -> dict[str, str]:
    """Analysed tracks whose embeddings tell their class; id -> class (``a``, ``b``, ...)."""
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(classes, 768))
    labels = {}
    for number in range(count):
        content_id = hashlib.sha256(f"{account} {number}".encode()).hexdigest()
        vector = (centres[number % classes] + 0.5 * rng.normal(size=768)).astype("<f4")
        session.add(
            Track(
                account_id=find_account(session, account).id,
                content_id=content_id,
                model="fake-v1",
                revision=revision,
                duration_s=1.0,
                embedding=vector.tolist(),
                embedding_f32=vector.tobytes(),
            )
        )
        labels[content_id] = "abcdefgh"[number % classes]
    session.commit()
    return labels


async def post(api: Api, name: str, labels: Any, account: str = "pro") -> httpx.Response:
    return await api.client.post("/v1/classifiers", json={"name": name, "labels": labels}, headers=api.auth(account))


async def get(api: Api, path: str, account: str = "pro") -> httpx.Response:
    return await api.client.get(f"/v1/classifiers{path}", headers=api.auth(account))


async def ask(api: Api, name: str, ids: Any, account: str = "pro") -> httpx.Response:
    return await api.client.post(f"/v1/classifiers/{name}/predict", json={"ids": ids}, headers=api.auth(account))


async def until(api: Api, name: str, *statuses: str) -> dict[str, Any]:
    """Its state once it has one of the statuses."""
    async with asyncio.timeout(50):
        while True:
            state = (await get(api, f"/{name}")).json()
            if state["status"] in statuses:
                return dict(state)
            await asyncio.sleep(0.02)


async def pid_of(path: Path) -> int:
    """Of the sleeping child."""
    async with asyncio.timeout(50):
        while not path.exists():  # noqa: ASYNC110, ASYNC240  nothing to wait for
            await asyncio.sleep(0.02)
    return int(path.read_text())  # noqa: ASYNC240


async def is_gone(pid: int) -> bool:
    async with asyncio.timeout(10):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return True


def test_from_labels_to_predictions(run_api: Any, session: Session, child: Start) -> None:
    """With the real training process."""
    child(None)

    async def scenario(api: Api) -> None:
        labels = add_tracks(session, "pro", 60, classes=3)
        stranger = "f" * 64
        created = await post(api, "genre", {**labels, stranger: "a"})
        assert created.status_code == 202
        assert created.headers["location"] == "/v1/classifiers/genre"
        assert (created.json()["status"], created.json()["unknown"]) == ("queued", [stranger])
        assert (await ask(api, "genre", [stranger])).json()["code"] == "conflict"
        state = await until(api, "genre", "ready", "failed")
        assert state["error"] is None
        report = state["report"]
        assert report["n"] == {"train": 39, "validation": 9, "test": 12}
        assert (report["left_out"], report["classes"]) == (0, ["a", "b", "c"])
        assert report["accuracy"]["value"] == 1.0 > report["baseline"]["accuracy"]
        listed = (await get(api, "")).json()["classifiers"]
        assert [item["name"] for item in listed] == ["genre"]
        assert "report" not in listed[0]
        ids = list(labels)
        answer = (await ask(api, "genre", [ids[5], stranger, ids[0], ids[5]])).json()
        assert [item["id"] for item in answer["predictions"]] == [ids[5], ids[0]]
        assert [item["label"] for item in answer["predictions"]] == [labels[ids[5]], labels[ids[0]]]
        assert (answer["unknown"], answer["current"], answer["revision"]) == ([stranger], True, "1")
        for item in answer["predictions"]:
            assert sum(item["probabilities"].values()) == pytest.approx(1, abs=2e-4)
            assert max(item["probabilities"], key=item["probabilities"].get) == item["label"]
        assert await api.credits("pro") == 100

    run_api(scenario)
    assert session.scalar(select(func.count()).select_from(LedgerEntry).where(LedgerEntry.delta < 0)) == 0


def test_several_labels_a_track(run_api: Any, session: Session, child: Start) -> None:
    child(None)

    async def scenario(api: Api) -> None:
        labels: dict[str, list[str]] = {key: [name] for key, name in add_tracks(session, "pro", 60, 3).items()}
        both = {key: [*names, "quiet"] if names != ["a"] else [] for key, names in labels.items()}
        assert (await post(api, "tags", both)).json()["kind"] == "multilabel"
        state = await until(api, "tags", "ready", "failed")
        assert state["report"]["classes"] == ["b", "c", "quiet"]
        assert set(state["report"]["confusion"]) == {"tp", "fp", "fn", "tn"}
        answer = (await ask(api, "tags", list(both))).json()
        assert {item["id"]: item["labels"] for item in answer["predictions"]} == both

    run_api(scenario)


def test_what_others_have_is_not_there(run_api: Any, session: Session, child: Start) -> None:
    child(QUICK)

    async def scenario(api: Api) -> None:
        api.keys["other"] = create_account(session, "other", tier="pro", credits=0)[1]
        labels = add_tracks(session, "pro", 8)
        assert (await post(api, "mine", labels)).status_code == 202
        await until(api, "mine", "ready")
        assert (await get(api, "", "other")).json() == {"classifiers": []}
        deleted = await api.client.delete("/v1/classifiers/mine", headers=api.auth("other"))
        for answer in (
            await get(api, "/mine", "other"),
            await ask(api, "mine", list(labels), "other"),
            deleted,
            await post(api, "mine", labels, "other"),  # nor are tracks
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        theirs = add_tracks(session, "other", 8)
        assert (await post(api, "mine", theirs, "other")).status_code == 202
        answer = (await ask(api, "mine", [*labels, *theirs])).json()
        assert answer["unknown"] == list(theirs)
        for refused in (await post(api, "x", labels, "free"), await get(api, "", "free"), await get(api, "/x", "free")):
            assert (refused.status_code, refused.json()["code"]) == (403, "tier_required")
        assert (await api.client.get("/v1/classifiers")).status_code == 401

    run_api(scenario)


def test_names_are_taken_once_unless_it_failed(run_api: Any, session: Session, child: Start) -> None:
    child(QUICK)

    async def scenario(api: Api) -> None:
        labels = add_tracks(session, "pro", 8)
        answers = await asyncio.gather(*(post(api, "genre", labels) for _ in range(5)))
        assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409, 409]
        await until(api, "genre", "ready")
        assert (await post(api, "genre", labels)).json()["code"] == "conflict"
        session.execute(text("UPDATE classifiers SET status = 'failed', error = 'it was', weights = NULL"))
        session.commit()
        assert (await get(api, "/genre")).json()["error"] == "it was"
        assert (await ask(api, "genre", list(labels))).json()["code"] == "conflict"
        assert (await post(api, "genre", labels)).status_code == 202
        assert (await until(api, "genre", "ready"))["error"] is None
        assert (await api.client.delete("/v1/classifiers/genre", headers=api.auth("pro"))).status_code == 204
        assert (await get(api, "/genre")).status_code == 404

    run_api(scenario)


def test_limits(run_api: Any, session: Session, child: Start) -> None:
    child(QUICK)

    async def scenario(api: Api) -> None:
        labels = add_tracks(session, "pro", 10)
        answers = await asyncio.gather(*(post(api, f"number-{number}", labels) for number in range(4)))
        assert sorted(answer.status_code for answer in answers) == [202, 202, 409, 409]
        assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"limit_reached"}
        more = {**labels, "e" * 64: "a"}
        assert (await post(api, "big", more)).json()["code"] == "classifier_invalid"
        assert (await ask(api, "number-0", ["a" * 64] * 1001)).status_code == 422

    run_api(scenario, max_classifiers=2, max_classifier_examples=10)


def test_bodies_are_bounded(run_api: Any) -> None:
    limit = training_body_limit(load_settings(max_classifier_examples=10))
    taken = 0

    async def long() -> AsyncIterator[bytes]:
        nonlocal taken
        while taken < 50_000_000:
            taken += 1000
            yield b" " * 1000

    async def stuck() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    async def scenario(api: Api) -> None:
        headers = {**api.auth("pro"), "Content-Type": "application/json"}
        for path in ("", "/x/predict"):
            send = lambda body, path=path, **more: api.client.post(  # noqa: E731
                f"/v1/classifiers{path}", content=body, headers={**headers, **more}
            )
            for body in (b" " * 10_000_000, long()):
                answer = await send(body)
                assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
                assert answer.headers["connection"] == "close"
            assert (await send(stuck())).status_code == 408
            wrong = {"Content-Type": "text/plain"}
            assert (await send(b"{}", **wrong)).status_code == 415
            for body in (b"", b"{", b"[" * 100_0, b'{"a":' * 1000, b"\xff", b"null", b"{}", b'{"name": "\\ud800"}'):
                refused = await send(body)
                assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request"), body
        # Just as much as is allowed is read, and refused for what it says.
        assert (await api.client.post("/v1/classifiers", content=b" " * limit, headers=headers)).status_code == 422

    run_api(scenario, max_classifier_examples=10, upload_timeout_s=0.5)
    assert taken < 3 * limit + 300_000


def test_requests_that_make_no_sense(run_api: Any, session: Session) -> None:
    async def scenario(api: Api) -> None:
        labels = add_tracks(session, "pro", 8)
        one = next(iter(labels))
        ways: list[tuple[dict[str, Any], str]] = [
            ({"name": "Big", "labels": labels}, "name"),
            ({"name": "-x", "labels": labels}, "name"),
            ({"name": "x" * 65, "labels": labels}, "name"),
            ({"name": "x", "labels": {}}, "labels"),
            ({"name": "x", "labels": {"secret" * 9000: "a"}}, "labels"),
            ({"name": "x", "labels": {**labels, one: "secret\n" * 300}}, "labels"),
            ({"name": "x", "labels": {**labels, one: ""}}, "labels"),
            ({"name": "x", "labels": {**labels, one: ["a", 5]}}, "labels"),
            ({"name": "x", "labels": labels, "secret": 1}, "secret"),
        ]
        for body, place in ways:
            answer = await api.client.post("/v1/classifiers", json=body, headers=api.auth("pro"))
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
            assert place in answer.json()["detail"]
            assert len(answer.content) < 1000
            assert place == "secret" or "secret" not in answer.text
        for path in ("/UPPER", "/" + "x" * 65):
            assert (await get(api, path)).status_code == 422
        same = dict.fromkeys(labels, "a")
        few = {**same, one: "b"}
        for given, message in (
            (same, "at least 2 classes"),
            (few, "'b' (1)"),
            ({**few, "e" * 64: "b"}, "1 of the ids"),
        ):
            answer = await post(api, "x", given)
            assert (answer.status_code, answer.json()["code"]) == (422, "classifier_invalid")
            assert message in answer.json()["detail"]
        assert (await get(api, "")).json() == {"classifiers": []}

    run_api(scenario)


def test_a_classifier_keeps_to_its_revision(run_api: Any, session: Session, child: Start) -> None:
    child(QUICK)

    async def scenario(api: Api) -> None:
        labels = add_tracks(session, "pro", 8)
        await post(api, "genre", labels)
        await until(api, "genre", "ready")
        api.pipeline.revision = "2"
        await api.analyze(b"newer", "pro")
        newer = hashlib.sha256(b"newer").hexdigest()
        answer = (await ask(api, "genre", [*labels, newer])).json()
        assert len(answer["predictions"]) == 8
        assert (answer["unknown"], answer["revision"], answer["current"]) == ([newer], "1", False)
        assert (await get(api, "/genre")).json()["current"] is False
        assert (await post(api, "next", labels)).status_code == 404  # these are to be analysed again first

    run_api(scenario)


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


def test_ten_thousand_labels_fit_the_default_limit() -> None:
    labels = {hashlib.sha256(str(number).encode()).hexdigest(): ["lo-fi hip hop", "phonk"] for number in range(20_000)}
    body = json.dumps({"name": "genre", "labels": labels})
    assert len(body) < training_body_limit(load_settings())
