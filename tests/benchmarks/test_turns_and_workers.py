"""Measuring in turns, workers, and telling the processes of the service apart."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.client import Load
from benchmarks.inprocess import TUNELAB, Track, judged, pooled, take_turns
from benchmarks.processes import cpu_between, cpu_by_kind, kind
from benchmarks.protocol import Worker, WorkerError
from benchmarks.throughput import settled, turn

A, B = Track(Path("a.mp3"), "MP3", 240.0), Track(Path("b.flac"), "FLAC", 240.0)


def test_subjects_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[tuple[str, str]] = []

    def subject(name: str, value: float) -> object:
        def measure(path: str) -> float:
            calls.append((name, path))
            return value if len(calls) > 4 else 1000.0

        return measure

    times, failed = take_turns({"x": subject("x", 1.0), "y": subject("y", 2.0)}, [A, B], 2, pause_s=0)  # type: ignore[dict-item]
    assert calls == 3 * [("x", "a.mp3"), ("y", "a.mp3"), ("x", "b.flac"), ("y", "b.flac")]
    assert times == {("x", "a.mp3"): [1.0, 1.0], ("x", "b.flac"): [1.0, 1.0]} | {
        ("y", "a.mp3"): [2.0, 2.0],
        ("y", "b.flac"): [2.0, 2.0],
    }
    assert failed == {}


def test_a_peer_that_cannot_read_a_file_is_told_and_not_tried_again() -> None:
    tried: list[str] = []

    def peer(path: str) -> float:
        tried.append(path)
        if path == "b.flac":
            raise WorkerError("cannot read it")
        return 5.0

    times, failed = take_turns({TUNELAB: lambda _: 1.0, "peer": peer}, [A, B], 2, pause_s=0)
    assert failed == {("peer", "b.flac"): "cannot read it"}
    assert tried.count("b.flac") == 1
    assert pooled(times, "peer", [A]) == 5.0
    assert pooled(times, "peer", [A, B]) is None


def test_budgets_speak_of_mp3() -> None:
    assert judged([A, B]) == [A]
    assert judged([B]) == [B]


def test_latencies_of_the_ramp_are_left_out() -> None:
    assert settled(Load(begin=10.0, ends=[10.1, 13.0], latencies=[100.0, 50.0])) == [50.0]


def test_who_is_measured_first_changes_from_segment_to_segment() -> None:
    assert [turn(segment, "own", "graph")[0] for segment in range(4)] == ["own", "graph", "own", "graph"]
    assert all(set(turn(segment, "own", "graph")) == {"own", "graph"} for segment in range(2))


def test_processor_time_counts_new_processes_and_never_falls() -> None:
    assert cpu_between({1: 10.0, 2: 5.0}, {1: 12.0, 3: 0.5}) == 2.5  # 2 ended, 3 is new
    assert cpu_between({1: 10.0}, {1: 9.0}) == 0.0  # the number of a process was used again
    names = {1: "replica Encoder", 2: "PostgreSQL", 3: "PostgreSQL"}
    after = {1: 12.0, 2: 4.0, 3: 0.5, 4: 0.25}
    assert cpu_by_kind({1: 10.0, 2: 3.5}, after, names) == {"replica Encoder": 2000, "PostgreSQL": 1000, "other": 250}


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    (tmp_path / "tunelab_echo_worker.py").write_text(
        "import os\n"
        "from benchmarks.protocol import answer_requests\n"
        "def fail(): raise ValueError('no such thing')\n"
        "def say(text):\n"
        "    print('noise of a library')\n"
        "    return {'text': text}\n"
        "def environment(): return dict(os.environ)\n"
        "handlers = {'say': say, 'fail': fail, 'environment': environment, 'die': lambda: os._exit(3)}\n"
        "answer_requests(handlers)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])]))
    return Worker("echo", Path(sys.executable), "tunelab_echo_worker", log=tmp_path / "log")


def test_a_worker_answers_fails_and_answers_again(echo: Worker) -> None:
    with echo:
        assert echo.ask("say", text="é") == {"text": "é"}
        with pytest.raises(WorkerError, match="echo: ValueError: no such thing"):
            echo.ask("fail")
        echo.send("say", text="1")
        echo.send("say", text="2")
        assert [echo.receive()["text"], echo.receive()["text"]] == ["1", "2"]


def test_a_worker_gets_nothing_of_the_environment_that_configures_what_is_measured(
    echo: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    echo.close()
    for name in ("TUNELAB_MODELS_DIR", "RAY_ADDRESS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "7")
    with Worker(
        "echo",
        Path(sys.executable),
        "tunelab_echo_worker",
        environment={"OMP_NUM_THREADS": "2"},
        log=tmp_path / "log",
    ) as worker:
        seen = worker.ask("environment")
    assert "PATH" in seen
    assert {name: seen[name] for name in seen if name.startswith(("TUNELAB_", "RAY_")) or "NUM_THREADS" in name} == {
        "OMP_NUM_THREADS": "2"
    }


def test_a_worker_that_dies_is_told_with_its_last_words(echo: Worker, tmp_path: Path) -> None:
    with echo:
        echo.ask("say", text="x")
        with pytest.raises(WorkerError, match=r"(?s)echo died:.*noise of a library"):
            echo.ask("die")
    echo.close()  # twice does no harm


@pytest.mark.parametrize(
    ("name", "command", "expected"),
    [
        ("ray::ServeRepli", "ray::ServeReplica:tunelab:Encoder", "replica Encoder"),
        ("ray::ProxyActor", "ray::ProxyActor.receive", "Ray ProxyActor"),
        ("postgres", "postgres: checkpointer", "PostgreSQL"),
        ("raylet", "/x/raylet/raylet --raylet_socket_name=/y", "Ray raylet"),
        ("gcs_server", "/x/gcs/gcs_server --log_dir=/y", "Ray gcs_server"),
        ("serve", "/x/python /x/bin/serve run --address local c.yaml", "tunelab serve, serve run"),
    ],
)
def test_processes_are_named_by_what_they_do(name: str, command: str, expected: str) -> None:
    assert kind(name, command) == expected
