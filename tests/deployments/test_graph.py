"""The real graph over HTTP, as shipped but for a small bundle and short queues."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import soundfile
from sqlalchemy import func, select

from tests.deployments.conftest import ROOT, Graph
from tunelab.analyzer import load
from tunelab.service.database import sync_session
from tunelab.service.tables import Account, LedgerEntry, StoredTimeline, Track
from tunelab.timeline.answer import to_json
from tunelab.types import HEADS

PRICE = 5


def song(seed: int, seconds: float = 3.0, rate: int = 22_050) -> bytes:
    """A FLAC file of noise: no two seeds give the same scores."""
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    soundfile.write(file, 0.1 * rng.normal(size=(int(seconds * rate), 2)), rate, format="FLAC")
    return file.getvalue()


def analyze(graph: Graph, key: str, data: bytes) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "audio/flac"}
    return httpx.post(f"{graph.url}/v1/analyze", content=data, headers=headers, timeout=60)


def all_at_once(graph: Graph, requests: list[tuple[str, bytes]]) -> list[httpx.Response]:
    async def main() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=graph.url, timeout=90, limits=limits) as client:
            return await asyncio.gather(
                *(
                    client.post(
                        "/v1/analyze",
                        content=data,
                        headers={"Authorization": f"Bearer {key}", "Content-Type": "audio/flac"},
                    )
                    for key, data in requests
                )
            )

    return asyncio.run(main())


def books(graph: Graph, name: str) -> tuple[int, int, int]:
    """Balance, sum of the ledger, stored tracks of an account."""
    with sync_session(graph.settings) as session:
        account = session.scalar(select(Account).where(Account.name == name))
        assert account is not None
        total = session.scalar(select(func.sum(LedgerEntry.delta)).where(LedgerEntry.account_id == account.id))
        tracks = session.scalar(select(func.count()).select_from(Track).where(Track.account_id == account.id))
        return account.balance, int(total or 0), int(tracks or 0)


def test_six_integers_and_meta(graph: Graph) -> None:
    key, data = graph.new_key("first"), song(1)
    answer = analyze(graph, key, data)
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == [*HEADS, "_meta"]
    assert all(isinstance(body[head], int) and 0 <= body[head] <= 100 for head in HEADS)
    assert body["_meta"]["id"] == hashlib.sha256(data).hexdigest()
    assert body["_meta"]["credits_used"] == PRICE
    assert answer.headers["x-trace-id"] == body["_meta"]["trace_id"]
    again = analyze(graph, key, data).json()
    assert again["_meta"]["credits_used"] == 0
    assert [again[head] for head in HEADS] == [body[head] for head in HEADS]


def test_free_and_pro(graph: Graph) -> None:
    data = song(2)
    for tier, status in (("free", 403), ("pro", 200)):
        key = graph.new_key(f"embedding-{tier}", tier=tier)
        track = analyze(graph, key, data).json()["_meta"]["id"]
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx.get(f"{graph.url}/v1/embedding/{track}", headers=headers, timeout=30)
        assert answer.status_code == status
        if status == 200:
            assert len(answer.json()["embedding"]) == 768


def test_a_wrong_file_among_good_ones_fails_alone_and_free(graph: Graph) -> None:
    key = graph.new_key("mixed", credits=100)
    files = [song(10), b"this is no music", song(11), song(12)[:900], song(13)]
    answers = all_at_once(graph, [(key, data) for data in files])
    assert [answer.status_code for answer in answers] == [200, 422, 200, 422, 200]
    for answer in (answers[1], answers[3]):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"].startswith("audio_")
    assert books(graph, "mixed") == (100 - 3 * PRICE, 100 - 3 * PRICE, 3)


def test_credits_under_twenty_requests_at_once(graph: Graph) -> None:
    """Credits for four, asked in rounds of eight (the limit of one account): exactly four are paid."""
    key = graph.new_key("poor", credits=4 * PRICE + 2)
    songs = [song(100 + number, 1.5) for number in range(20)]
    statuses: Counter[int] = Counter()
    while songs:
        answers = all_at_once(graph, [(key, data) for data in songs[:8]])
        # A full queue says nothing of the balance: these are asked again.
        songs = [data for data, answer in zip(songs, answers, strict=False) if answer.status_code == 503] + songs[8:]
        statuses += Counter(answer.status_code for answer in answers if answer.status_code != 503)
    assert statuses == {200: 4, 402: 16}
    assert books(graph, "poor") == (2, 2, 4)


def test_overload_is_503_with_retry_after_and_free(graph: Graph) -> None:
    names = [f"crowd-{number}" for number in range(8)]
    keys = [graph.new_key(name, credits=100) for name in names]
    requests = [(keys[number % 8], song(200 + number, 2.0)) for number in range(64)]
    answers = all_at_once(graph, requests)
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert answer.json()["code"] == "overloaded"
            assert int(answer.headers["retry-after"]) >= 1
    stored = [books(graph, name) for name in names]
    assert all(balance == total == 100 - PRICE * tracks for balance, total, tracks in stored)
    assert sum(tracks for _, _, tracks in stored) == statuses[200]
    # And it is over when the crowd is gone.
    assert analyze(graph, keys[0], song(300)).status_code == 200


def test_windows_are_batched_and_a_bad_one_fails_alone(graph: Graph) -> None:
    (replica,) = graph.replicas("Encoder")
    raylet = replica.parent()
    assert raylet is not None
    # By its address: `auto` may find another Ray on this machine.
    address = next(word.partition("=")[2] for word in raylet.cmdline() if word.startswith("--gcs-address="))
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "deployments" / "probe_encoder.py"), address, graph.revision],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "RAY_AUTH_MODE": "token",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    assert seen["single_batches"] == 2
    assert seen["windows"] == 5
    assert seen["batches"] < 5
    assert seen["bad_failed_alone"]
    assert seen["durations"] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert seen["same_as_alone"] == [True, True]


def test_killed_encoder_comes_back_and_nobody_pays_for_it(graph: Graph) -> None:
    key = graph.new_key("killer", credits=10_000)
    (replica,) = graph.replicas("Encoder")
    killed = replica.pid
    statuses: list[int] = []
    ends = time.monotonic() + 90
    number = 400
    while time.monotonic() < ends:
        answers = all_at_once(graph, [(key, song(number + extra, 1.5)) for extra in range(4)])
        number += 4
        statuses += [answer.status_code for answer in answers]
        if number == 408:
            replica.kill()
        alive = [process.pid for process in graph.replicas("Encoder")]
        if number > 412 and alive and killed not in alive and statuses[-4:] == [200] * 4:
            break
    else:
        raise AssertionError("no new encoder")
    # A few may have been refused while there was no encoder; none was lost in another way.
    assert set(statuses) <= {200, 503}
    assert statuses[-4:] == [200] * 4
    answered = statuses.count(200)
    assert books(graph, "killer") == (10_000 - PRICE * answered, 10_000 - PRICE * answered, answered)


def test_killed_decoder_is_not_noticed_by_customers(graph: Graph) -> None:
    """Its files are sent again, and the chain of stages does not hide that it was the decoder that died."""
    key = graph.new_key("decoding", credits=10_000)
    answers = []
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(analyze, graph, key, song(800 + number, 3.0)) for number in range(8)]
        time.sleep(0.02)
        for replica in graph.replicas("MelExtractor"):
            replica.kill()
        answers = [future.result() for future in running]
    codes = {answer.json().get("code") for answer in answers if answer.status_code != 200}
    assert codes <= {"overloaded", "unavailable"}
    answered = sum(answer.status_code == 200 for answer in answers)
    assert answered
    assert books(graph, "decoding") == (10_000 - PRICE * answered, 10_000 - PRICE * answered, answered)


def timeline(graph: Graph, key: str, data: bytes, **query: float) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "audio/flac"}
    return httpx.post(f"{graph.url}/v1/timeline", params=query, content=data, headers=headers, timeout=90)


def timelines(graph: Graph, name: str) -> int:
    with sync_session(graph.settings) as session:
        account = session.scalar(select(Account.id).where(Account.name == name))
        return int(
            session.scalar(select(func.count()).select_from(StoredTimeline).where(StoredTimeline.account_id == account))
            or 0
        )


def test_timeline_is_the_librarys_and_paid_by_the_minute(graph: Graph) -> None:
    key, data = graph.new_key("along", credits=12), song(700, 70.0)
    answer = timeline(graph, key, data, step=6)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert list(body) == ["start_s", "end_s", *HEADS, "sections", "track", "_meta"]
    assert body["start_s"] == [6.0 * number for number in range(12)]
    assert body["end_s"][-1] == 70.0
    assert body["_meta"]["credits_used"] == 2 * PRICE
    wanted = to_json(load(graph.bundle, engine="torch", precision="f32").timeline(data, 6.0))
    for head in HEADS:
        np.testing.assert_allclose(body[head], wanted[head], atol=2)
        assert abs(body["track"][head] - wanted["track"][head]) <= 2
    assert body["sections"] == wanted["sections"]
    again = timeline(graph, key, data, step=6.0).json()
    assert again["_meta"]["credits_used"] == 0
    assert {**again, "_meta": None} == {**body, "_meta": None}
    # What is left does not cover another started minute.
    refused = timeline(graph, key, data, step=7)
    assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_credits")
    assert books(graph, "along") == (12 - 2 * PRICE, 12 - 2 * PRICE, 0)
    assert timelines(graph, "along") == 1


def test_who_cannot_pay_for_the_whole_track_is_told_before_it_is_encoded(graph: Graph) -> None:
    key = graph.new_key("short of it", credits=2 * PRICE)
    refused = timeline(graph, key, song(701, 130.0, 8000))
    assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_credits")
    assert books(graph, "short of it") == (2 * PRICE, 2 * PRICE, 0)


def test_analyses_are_answered_beside_long_timelines(graph: Graph) -> None:
    """The windows of timelines wait in the same queue, a few at a time."""
    key = graph.new_key("beside", credits=10_000)
    # Long, but so that a slow machine has done the last of them within the time that a request may take.
    long = [song(710 + number, 150.0, 8000) for number in range(3)]
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(timeline, graph, key, data) for data in long]
        analysed = 0
        while not any(future.done() for future in running):
            assert analyze(graph, key, song(720 + analysed, 1.5)).status_code == 200
            analysed += 1
        answers = [future.result() for future in running]
    assert [answer.status_code for answer in answers] == [200] * 3, answers[0].text
    # They did not wait until the first of the timelines was done: then there would be one.
    assert analysed > 1
    assert timelines(graph, "beside") == 3


def test_a_timeline_survives_its_encoder(graph: Graph) -> None:
    key = graph.new_key("survivor", credits=1000)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(timeline, graph, key, song(730, 420.0, 8000))
        (replica,) = graph.replicas("Encoder")
        windows = replica.cpu_times().user
        while replica.cpu_times().user < windows + 0.5 and not running.done():
            time.sleep(0.02)
        replica.kill()
        answer = running.result()
    # A new encoder needs its time on a busy machine: then it is told, and nothing is taken.
    assert (answer.status_code, answer.json().get("code")) in ((200, None), (408, "timeout")), answer.text
    stored = timelines(graph, "survivor")
    assert stored == (answer.status_code == 200)
    assert books(graph, "survivor")[0] == 1000 - 7 * PRICE * stored


def test_too_large_a_body_is_told_and_not_taken_in(graph: Graph) -> None:
    key = graph.new_key("large")
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "audio/wav"}
    answer = httpx.post(f"{graph.url}/v1/analyze", headers=headers, content=bytes(57_000_000), timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (413, "audio_too_large")

    def chunks() -> Iterator[bytes]:
        for _ in range(900):
            sent.append(1)
            yield bytes(1 << 16)

    sent: list[int] = []
    # The answer comes while the client still sends: not every client looks for it then.
    with suppress(httpx.HTTPError):
        answer = httpx.post(f"{graph.url}/v1/analyze", headers=headers, content=chunks(), timeout=30)
        assert (answer.status_code, answer.json()["code"]) == (413, "audio_too_large")
    assert httpx.get(f"{graph.url}/healthz", timeout=30).status_code == 200
    assert books(graph, "large") == (1000, 1000, 0)


def test_clients_do_not_steer_ray(graph: Graph) -> None:
    key = graph.new_key("steering")
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "audio/wav",
        "X-Request-Timeout-Seconds": "0.001",
        "serve_multiplexed_model_id": "x",
    }
    answer = httpx.post(f"{graph.url}/v1/analyze", headers=headers, content=song(900), timeout=60)
    assert answer.status_code == 200


def test_log_lines_carry_the_trace_id_and_no_key(graph: Graph) -> None:
    key = graph.new_key("logged")
    trace = analyze(graph, key, song(500)).headers["x-trace-id"]
    (replica,) = graph.replicas("Ingress")
    folder = Path(replica.environ()["RAY_TMPDIR"]) / "ray" / "session_latest" / "logs" / "serve"
    deadline, lines = time.monotonic() + 10, []
    while not lines and time.monotonic() < deadline:
        text = "\n".join(path.read_text() for path in folder.glob("*Ingress*"))
        lines = [json.loads(line) for line in text.splitlines() if trace in line]
        time.sleep(0.1)
    assert lines
    assert lines[-1]["trace_id"] == trace
    assert lines[-1]["status"] == 200
    assert key not in text


def test_pages_and_probes(graph: Graph) -> None:
    for path in ("/", "/docs", "/openapi.json", "/healthz", "/readyz", "/v1/models", "/v1/limits"):
        assert httpx.get(f"{graph.url}{path}", timeout=30).status_code == 200, path
    # Under the name of its folder, as in answers, whatever it was called when its card was written.
    [card] = httpx.get(f"{graph.url}/v1/models", timeout=30).json()["models"]
    assert card["name"] == graph.bundle.name


def test_restart_keeps_accounts_results_and_credits(graph: Graph, start_graph: Callable[[], Graph]) -> None:
    """The last test of this file: it ends the graph of the session."""
    key, data = graph.new_key("faithful", credits=50), song(600)
    before = analyze(graph, key, data).json()
    again = start_graph()
    after = analyze(again, key, data).json()
    assert after["_meta"]["credits_used"] == 0
    assert after["_meta"]["credits_remaining"] == 45
    assert [after[head] for head in HEADS] == [before[head] for head in HEADS]
    graph.__dict__.update(again.__dict__)
