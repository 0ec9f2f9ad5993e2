"""What the service answers, counted; and what may be judged by it."""

from __future__ import annotations

import http.server
import json
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from benchmarks import latency
from benchmarks.budgets import MEMORY
from benchmarks.client import Load, RequestError, closed_loop, scored, tally
from benchmarks.memory import tell
from benchmarks.processes import Memory
from benchmarks.report import Report
from benchmarks.throughput import Measured, cpu_rows

GOOD = json.dumps({"energy": 50, "_meta": {"credits_used": 1}}).encode()
NO_ANALYSES = [b"<html>busy</html>", b"[]", b"null", b"{}", b'{"_meta": 1}', b"\xff"]


def test_an_analysis_is_returned() -> None:
    assert scored(GOOD)["energy"] == 50


@pytest.mark.parametrize("content", NO_ANALYSES)
def test_an_answer_that_is_no_analysis_is_an_error(content: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        scored(content)
    assert caught.value.kind == "200 without an analysis"


def test_an_answer_from_the_store_is_an_error() -> None:
    with pytest.raises(RequestError) as caught:
        scored(json.dumps({"_meta": {"credits_used": 0}}).encode())
    assert caught.value.kind == "200 from the store"


class _Service(http.server.BaseHTTPRequestHandler):
    """Answers in turn with an analysis, no JSON, 503, and by breaking the connection."""

    protocol_version = "HTTP/1.1"
    numbers: Iterator[int]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        number = next(self.numbers)
        if number % 4 == 3:
            self.close_connection = True
            return
        content = b"<html>" if number % 4 == 1 else GOOD
        self.send_response(503 if number % 4 == 2 else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def test_clients_go_on_after_every_kind_of_error_and_count_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.client._PATIENCE_S", 0.01)
    _Service.numbers = iter(range(10**9))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        load = closed_loop(server.server_port, ["key"], [b"data"], clients=1, seconds=0.5)
        server.shutdown()
    assert load.answers == len(load.latencies) >= 2
    assert set(load.errors) == {"200 without an analysis", "503", "RemoteDisconnected"}
    assert min(load.errors.values()) >= 1
    assert load.faults() == [f"{load.errors.total()} of {load.answers + load.errors.total()} requests failed"]


def test_a_load_is_judged_only_with_answers_and_without_errors() -> None:
    good = Load(ends=[1.0], latencies=[5.0])
    assert good.faults() == []
    assert good.told() == "1 requests answered, errors: none"
    assert Load().faults() == ["no request was answered"]
    bad = Load(errors=Counter({"503": 3}))
    assert bad.faults() == ["no request was answered", "3 of 3 requests failed"]
    assert bad.told() == "0 requests answered, errors: 3 x 503"


def test_errors_are_tallied_with_the_commonest_first() -> None:
    assert tally({"OSError": 1, "503": 2}) == "2 x 503, 1 x OSError"


@pytest.mark.parametrize(
    ("load", "verdict"),
    [
        (Load(ends=[1.0], latencies=[5.0]), "met, 50 % to spare"),
        (Load(), "NOT JUDGED: no request was answered"),
        (Load(ends=[1.0], latencies=[5.0], errors=Counter({"503": 1})), "NOT JUDGED: 1 of 2 requests failed"),
    ],
)
def test_memory_is_judged_only_under_a_load_that_was_answered(
    load: Load, verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report()
    idle, less, most = (Memory(size, 2 * size, Counter({"Ray raylet": size}), 1) for size in (10**9, 10**9, 2 * 10**9))
    tell(report, idle, [less, most], load)
    assert report.verdict(MEMORY).endswith(verdict)
    assert load.told() in capsys.readouterr().out


def test_throughput_with_errors_or_without_answers_is_not_judged() -> None:
    good = Load(ends=[1.0], latencies=[5.0])
    assert Measured(own=[2.0], graph=[1.0], loads=[good]).faults() == []
    assert Measured(own=[2.0], graph=[1.0], loads=[good]).ratio == 0.5
    failed = Load(ends=[1.0], latencies=[5.0], errors=Counter({"503": 1}))
    assert Measured(own=[2.0] * 2, graph=[1.0] * 2, loads=[good, failed]).faults() == ["1 of 3 requests failed"]
    assert Measured(own=[2.0] * 2, graph=[1.0] * 2, loads=[good, Load()]).faults() == [
        "no request was answered in a segment"
    ]
    (fault,) = Measured(own=[2.0], graph=[3.0], loads=[good]).faults()
    assert "cannot be that much faster" in fault
    assert Measured(own=[2.0], graph=[2.1], loads=[good]).faults() == []
    nothing = Measured(own=[0.0], graph=[1.0], loads=[good])
    assert nothing.ratio is None
    assert nothing.faults() == ["the workers finished nothing in a segment"]


def test_processor_time_is_told_by_request_with_the_largest_part_first() -> None:
    loads = [Load(ends=[1.0, 2.0], latencies=[5.0, 5.0])] * 2
    used = Counter({"PostgreSQL": 100, "replica Encoder": 2000, "Ray raylet": 3})
    measured = Measured(own_cpu_ms=900.0, own_files=3, loads=loads, cpu_ms=used)
    assert cpu_rows(measured) == [
        ["workers, all", "300"],
        ["service, all", "526"],
        ["  replica Encoder", "500"],
        ["  PostgreSQL", "25"],
    ]
    assert cpu_rows(Measured()) == [["workers, all", "0"], ["service, all", "0"]]


@pytest.mark.parametrize(
    ("outside_ms", "equal", "faults"),
    [
        (130.0, 8, []),
        (95.0, 8, []),  # below zero, but within the noise
        (80.0, 8, ["the service cannot be 20 ms faster than the same work without it: something disturbed this"]),
        (130.0, 5, ["3 of 8 answers differ from the analysis in process"]),
    ],
)
def test_a_difference_over_http_is_judged_only_if_it_can_be_true(
    outside_ms: float, equal: int, faults: list[str]
) -> None:
    assert latency.faults(100.0, outside_ms, equal, 8) == faults
