"""Other work on the machine, what was measured, and runs that stop half-way."""

from __future__ import annotations

import http.client
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import benchmarks.__main__ as command
from benchmarks.client import RequestError
from benchmarks.machine import BUSY, OtherWork, commit, share
from benchmarks.report import Report
from benchmarks.service import ServiceError
from benchmarks.worker import token_count
from tunelab.encoder.bundle import find_bundle


def test_other_work_is_relative_to_the_cores_of_this_process_without_its_own() -> None:
    assert share(busy_s=1.0, own_s=0.0, seconds=2.0, cores=2) == 25.0
    assert share(busy_s=1.0, own_s=0.0, seconds=2.0, cores=1) == 50.0
    assert share(busy_s=1.0, own_s=0.5, seconds=2.0, cores=1) == 25.0
    assert share(busy_s=1.0, own_s=1.1, seconds=2.0, cores=1) == 0.0  # clocks are coarse
    assert share(busy_s=9.0, own_s=0.0, seconds=2.0, cores=1) == 100.0


def test_the_worst_part_decides_whether_the_machine_was_busy() -> None:
    others = OtherWork()
    others.add("start", 3.0)
    others.add("memory", BUSY)
    assert others.notes() == ["Other work on the cores of this process, before each part: start 3 %, memory 10 %."]
    others.add("throughput", 40.0)
    others.add("end", 1.0)
    told, busy = others.notes()
    assert "throughput 40 %" in told
    assert "BUSY" in busy
    assert "40 % of these cores before: throughput" in busy


def test_processes_of_the_benchmark_are_no_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.machine._LOOK_S", 0.3)
    # As if the only core were busy with nothing but this child, which never sleeps.
    monkeypatch.setattr("benchmarks.machine._cores", lambda: {0})
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        try:
            monkeypatch.setattr("benchmarks.machine._busy_s", lambda _: _used_s(child.pid))
            assert OtherWork().look("part") < 10
            monkeypatch.setattr("benchmarks.machine.cpu_s", lambda _: {})
            assert OtherWork().look("part") > 10
        finally:
            child.kill()


def _used_s(pid: int) -> float:
    import psutil  # type: ignore[import-untyped]

    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def test_the_commit_is_told_with_changes_and_only_of_the_repository_itself(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    (tmp_path / "folder").mkdir()
    assert commit(tmp_path) == "none"
    git("init")
    git("commit", "--allow-empty", "--message", "first")
    assert commit(tmp_path) == git("rev-parse", "--short=12", "HEAD")
    (tmp_path / "new").touch()
    assert commit(tmp_path).endswith(" with changes")
    assert commit(tmp_path / "folder") == "none"


def test_tokens_are_what_the_encoder_makes() -> None:
    # 128 mel bins and 1876 frames in patches of 16 without overlap, and two tokens more.
    assert token_count(find_bundle()) == 2 + 8 * 117


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConnectionResetError("gone"), "the service broke off the connection: ConnectionResetError: gone"),
        (http.client.RemoteDisconnected("x"), "the service broke off the connection: RemoteDisconnected: x"),
        (RequestError("503", b"busy"), "the service did not analyse a file: 503: busy"),
        (ServiceError("tunelab serve did not start"), "tunelab serve did not start"),
        (FileNotFoundError(2, "No such file", "a"), "FileNotFoundError: [Errno 2] No such file: 'a'"),
    ],
)
def test_an_error_is_one_line_and_what_was_measured_before_is_written(
    error: Exception,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, written = _run(error, tmp_path, monkeypatch)
    assert code == 1
    assert capsys.readouterr().err == f"error: {message}\n"
    assert "## Done" in written
    assert f"NOT COMPLETE (error: {message})" in written


def test_a_run_that_is_stopped_writes_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, written = _run(KeyboardInterrupt(), tmp_path, monkeypatch)
    assert code == 130
    assert "## Done" in written
    assert "NOT COMPLETE (stopped)" in written


def test_a_fault_of_the_benchmark_is_not_hidden_and_what_was_measured_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ZeroDivisionError):
        _run(ZeroDivisionError(), tmp_path, monkeypatch)
    assert "NOT COMPLETE" in (tmp_path / "out.md").read_text()


def test_a_complete_run_says_nothing_of_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, written = _run(None, tmp_path, monkeypatch)
    assert code == 0
    assert "NOT COMPLETE" not in written


def test_a_folder_that_does_not_exist_is_told_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="there is no folder"):
        command.main(peers=False, write=tmp_path / "missing" / "out.md")


def _run(error: BaseException | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    def run(report: Report, *_: object) -> None:
        report.section("Done", ["a"], [["1"]])
        if error is not None:
            raise error

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    with pytest.raises(typer.Exit) as caught:
        command.main(peers=False, write=folder / "out.md")
    return caught.value.exit_code, (folder / "out.md").read_text()
