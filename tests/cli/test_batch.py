"""What ``tunelab batch`` prints and how it ends; the jobs themselves are in tests/catalog."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command
from tunelab.catalog import job
from tunelab.catalog.job import JobOptions, Progress
from tunelab.cli import batch
from tunelab.errors import EngineError

Job = Callable[..., Progress]


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> Callable[[Job], None]:
    """Puts another job in the place of the real one."""
    return lambda other: monkeypatch.setattr(job, "run_job", other)


def ended(**facts: Any) -> Job:
    return lambda options, report, unreadable: Progress(**{"total": 3, "before": 1, "done": 2, **facts})


def test_exit_code_tells_whether_files_failed(command: Command, replaced: Callable[[Job], None]) -> None:
    replaced(ended())
    assert "3 files in out: 2 now" in command("batch", "music", "--out", "out").stdout
    replaced(ended(failed=1, errors=Counter(audio_empty=1)))
    assert "1 audio_empty" in command("batch", "music", "--out", "out", code=1).stdout
    command("batch", "music", "--out", "out", "--accept-failures", code=0)
    replaced(ended(unsearched=1))
    command("batch", "music", "--out", "out", code=1)
    command("batch", "music", "--out", "out", "--accept-failures", code=1)
    replaced(ended(unreached=2))
    assert "2 could not be looked at" in command("batch", "music", "--out", "out", code=1).stdout
    command("batch", "music", "--out", "out", "--accept-failures", code=0)


def test_summary_as_json(command: Command, replaced: Callable[[Job], None]) -> None:
    replaced(ended(failed=2, errors=Counter(audio_empty=1), seconds=9.0, steady_s=2.0, steady_files=5))
    assert json.loads(command("batch", "music", "--out", "out", "--json", code=1).stdout) == {
        "files": 3,
        "done_before": 1,
        "done_now": 2,
        "failed": 2,
        "folders_not_searched": 0,
        "files_not_reached": 0,
        "errors_now": {"audio_empty": 1},
        "seconds": 9.0,
        "files_per_s": 2.5,
        "out": "out",
    }


def test_options_reach_the_job(command: Command, replaced: Callable[[Job], None]) -> None:
    seen: list[JobOptions] = []

    def run(options: JobOptions, *rest: object) -> Progress:
        seen.append(options)
        return Progress(1, 1)

    replaced(run)
    counts = ("--workers", "3", "--decoders", "7", "--threads", "2")
    command("batch", "music", "--out", "out", *counts, "--address", "ray://head:1", "--force", "--retry-errors")
    (options,) = seen
    assert (options.source, options.out, options.address) == ("music", "out", "ray://head:1")
    assert (options.workers, options.decoders, options.threads) == (3, 7, 2)
    assert options.force
    assert options.retry_errors


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (EngineError("no engine"), 3, "error: no engine"),
        (RuntimeError("unforeseen"), 3, "RuntimeError: unforeseen"),
        (KeyboardInterrupt(), 130, "goes on where it was"),
    ],
)
def test_failed_jobs_have_a_code_of_their_own(
    command: Command, replaced: Callable[[Job], None], error: BaseException, code: int, said: str
) -> None:
    def run(*arguments: object) -> Progress:
        raise error

    replaced(run)
    assert said in command("batch", "music", "--out", "out", code=code).stderr


STOPPED = """
import signal
from tunelab.catalog import job
from tunelab.cli import app

def run(*arguments):
    signal.raise_signal(signal.SIGTERM)
    raise AssertionError("the signal did nothing")

job.run_job, before = run, signal.getsignal(signal.SIGTERM)
try:
    app(["batch", "music", "--out", "out"])
finally:
    assert signal.getsignal(signal.SIGTERM) is before
"""


def test_what_stops_a_service_stops_a_job_as_ctrl_c_does() -> None:
    """In a process of its own: a signal that goes astray would end all tests."""
    done = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert "goes on where it was" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["{}/nowhere", "--out", "{}/out"], 3, "there is no"),
        (["{}/empty", "--out", "{}/out"], 3, "no audio file"),
        (["{}/a.mp3", "--out", "{}/out", "--bundle", "no-such-bundle"], 3, "no-such-bundle"),
        (["{}/a.mp3", "--out", "{}/out", "--bundle", "headless-v1"], 3, "no heads.safetensors"),
        (["{}/a.mp3", "--out", "{}/a.mp3/out"], 3, "cannot be written"),
        (["{}/a.mp3", "--out", "nosuch://bucket/x"], 3, "cannot be opened"),
        (["nosuch://bucket/x", "--out", "{}/out"], 3, "cannot be opened"),
        (["{}/a.mp3", "--out", "{}/out", "--address", "127.0.0.1:1"], 3, "Ray cannot be used"),
        (["{}/a.mp3"], 2, "--out"),
        (["{}/a.mp3", "--out", "{}/out", "--engine", "magic"], 2, "--engine"),
        (["{}/a.mp3", "--out", "{}/out", "--commit", "inf"], 2, "finite"),
        (["{}/a.mp3", "--out", "{}/out", "--decoders", "0"], 2, "--decoders"),
    ],
)
def test_jobs_that_cannot_begin_say_why(
    command: Command, models: Path, tmp_path: Path, arguments: list[str], code: int, reason: str
) -> None:
    (tmp_path / "a.mp3").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    headless = models / "headless-v1"
    if not headless.exists():
        headless.mkdir()
        for path in (models / "small-v1").iterdir():
            if path.name != "heads.safetensors":
                (headless / path.name).symlink_to(path)
    options = [] if "--bundle" in arguments else ["--bundle", "small-v1"]
    result = command("batch", *(argument.format(tmp_path) for argument in arguments), *options, code=code)
    assert reason in result.stderr
    assert "Traceback" not in result.stderr


def test_progress_line() -> None:
    assert batch.line(Progress(12_000, 1000)) == "1,000 of 12,000 files, 0 failed"
    progress = Progress(12_000, 1000, done=1000, failed=3, steady_s=100.0, steady_files=1000)
    assert batch.line(progress) == "2,000 of 12,000 files, 3 failed, 10.0 files/s, 16 min 40 s left"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(7.4, "7 s"), (59.6, "1 min 00 s"), (306, "5 min 06 s"), (11_040, "3 h 04 min"), (93_600, "1 d 2 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert batch.duration(seconds) == text


def test_terminals_get_one_line_and_logs_some(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(batch.time, "monotonic", lambda: now)
    for terminal, lines in ((True, 7), (False, 2)):
        out = io.StringIO()
        monkeypatch.setattr("sys.stderr", out)
        shown = batch._Shown(terminal=terminal)
        for _ in range(33):
            now += 1.0 if not terminal else 0.06
            shown.show(Progress(2, 1))
        shown.end()
        assert out.getvalue().count("1 of 2 files") == lines
        assert out.getvalue().count("\n") == (1 if terminal else lines)
