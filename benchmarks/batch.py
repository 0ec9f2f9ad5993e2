"""A batch job beside the same work in one process, and how it grows from one worker to two."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import budgets
from benchmarks.inprocess import Track
from benchmarks.protocol import ROOT, Worker, WorkerError
from benchmarks.report import Report, progress

BLOCK = 8
"""Files that come at once: the first block tells when a job has started, and is not counted."""
_TIMEOUT_S = 900


def batch(report: Report, folder: Path, worker: Worker, tracks: Sequence[Track], files: int, turns: int) -> None:
    """In process and as a job in turns, on ``files`` names of the tracks.

    Args:
        report: takes the figures.
        folder: an empty one.
        worker: TuneLab in process, with a thread for each core.
        tracks: named again and again; each name is decoded and encoded by itself.
        files: how many names.
        turns: how often each is measured.
    """
    music = folder / "music"
    music.mkdir(parents=True)
    paths = []
    for number in range(files):
        track = tracks[number % len(tracks)].path
        paths.append(music / f"{number:04}{track.suffix}")
        paths[-1].symlink_to(track)
    own: list[float] = []
    jobs: list[dict[str, Any]] = []
    for turn in range(turns):
        progress(f"batch job: turn {turn + 1} of {turns}")
        # Who is first changes from turn to turn.
        for job in (False, True) if turn % 2 == 0 else (True, False):
            if job:
                jobs.append(_job(folder, music))
            else:
                own.append(_in_process(worker, paths))
    one, two = (_job(folder, music, "--workers", str(count), "--threads", "1") for count in (1, 2))
    rates = [job["files_per_s"] for job in jobs]
    ratio = statistics.mean(rates) / statistics.mean(own)
    report.figure(budgets.BATCH, ratio, faults=[], what="batch job, once it runs / the same files in one process")
    before = [job["seconds"] - files / job["files_per_s"] for job in jobs]
    report.section(
        f"Batch job over {files} files, in turns",
        ["", "files/s", "each turn"],
        [
            ["in process (`analyze_many`)", f"{statistics.mean(own):.2f}", _list(own)],
            ["job, as many workers as fit", f"{statistics.mean(rates):.2f}", _list(rates)],
            ["job, 1 worker of 1 thread", f"{one['files_per_s']:.2f}", "-"],
            [
                "job, 2 workers of 1 thread",
                f"{two['files_per_s']:.2f}",
                f"{two['files_per_s'] / one['files_per_s']:.2f} x",
            ],
        ],
        f"Jobs are counted from their first {BLOCK} files on. Until then, and to gather the rows at the end, they took "
        f"{_list(before)} s: starting Ray and loading the model.",
        report.verdict(budgets.BATCH),
    )


def _in_process(worker: Worker, paths: Sequence[Path]) -> float:
    answer = worker.ask("many", paths=[str(path) for path in paths])
    return len(paths) / float(answer["seconds"])


def _job(folder: Path, music: Path, *options: str) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("tunelab")), "batch", str(music), "--out", str(folder / "out")]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("TUNELAB_", "RAY_", "OMP_"))},
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    done = subprocess.run(
        [*command, "--force", "--json", *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_S,
    )
    if done.returncode:
        raise WorkerError(f"the batch job failed: {done.stderr.strip()[-500:]}")
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def _list(values: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)
