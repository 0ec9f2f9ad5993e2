"""``python -m benchmarks``: every comparison in one run on one machine."""

from __future__ import annotations

import http.client
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil  # type: ignore[import-untyped]
import typer
from sqlalchemy.exc import SQLAlchemyError

from benchmarks import inprocess, machine
from benchmarks.batch import batch
from benchmarks.client import RequestError
from benchmarks.files import MADE, make_tracks, own_tracks
from benchmarks.latency import latency
from benchmarks.memory import memory
from benchmarks.protocol import ROOT, Worker, WorkerError
from benchmarks.report import Report, progress
from benchmarks.service import Service, ServiceError
from benchmarks.start import start
from benchmarks.throughput import Lengths, throughput
from tunelab.encoder.engine import available_cores
from tunelab.errors import TuneLabError

_PEERS_PYTHON = ROOT / "benchmarks" / ".venv" / "bin" / "python"
_REPEATS, _QUICK_REPEATS = 5, 2
_ROUNDS, _QUICK_ROUNDS = 7, 2
_QUICK_TRACKS = 3
_LENGTHS = Lengths(warm_up_s=20, segment_s=12, segments=4)
_QUICK_LENGTHS = Lengths(warm_up_s=4, segment_s=6, segments=1)
_QUICK_NOTE = "--quick: too few repeats for a figure or a verdict that is worth keeping."
_MEMORY_S, _QUICK_MEMORY_S = 15.0, 5.0
_BATCH_FILES, _QUICK_BATCH_FILES = 120, 24
_BATCH_TURNS, _QUICK_BATCH_TURNS = 3, 1
_BUDGETED_CORES = 2


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    quick: bool
    http: bool
    peers: bool
    batch: bool
    files: Path | None


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Few repeats: shows that everything runs.")] = False,
    http: Annotated[bool, typer.Option("--http/--no-http", help="Start the service and measure it.")] = True,
    peers: Annotated[bool, typer.Option("--peers/--no-peers", help="Measure the peers.")] = True,
    jobs: Annotated[bool, typer.Option("--batch/--no-batch", help="Measure batch jobs.")] = True,
    files: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="A folder of tracks, instead of synthetic ones.")
    ] = None,
    write: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the tables to this file, too.")] = None,
) -> None:
    """Measure TuneLab beside its peers, and its service beside itself in process; everything in one run.

    Variables TUNELAB_*, RAY_* and *_NUM_THREADS of the environment are ignored.
    """
    if peers and not _PEERS_PYTHON.exists():
        raise typer.BadParameter("the peers are not installed: use `make bench`, or --no-peers")
    if write is not None and not write.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {write.parent}")
    signal.signal(signal.SIGTERM, _interrupt)
    report = Report()
    code = 0
    try:
        with tempfile.TemporaryDirectory(prefix="tlb-", dir=_short_folder(), ignore_cleanup_errors=True) as folder:
            run(report, Path(folder), Options(quick, http, peers, jobs, files))
    except KeyboardInterrupt:
        code = _stopped(report, 130, "stopped")
    except EXPECTED as error:
        code = _stopped(report, 1, f"error: {explain(error)}")
    except BaseException:
        _stopped(report, 1, "error: a fault of the benchmark itself")
        raise
    finally:
        if write is not None:
            report.write(write)
    raise typer.Exit(code)


EXPECTED = (
    ServiceError,
    WorkerError,
    RequestError,
    TuneLabError,
    SQLAlchemyError,
    OSError,
    http.client.HTTPException,
    ValueError,
)
"""What can go wrong without a fault of the benchmark."""


def explain(error: BaseException) -> str:
    """One line for an error; those of a connection often have no text of their own."""
    if isinstance(error, RequestError):
        return f"the service did not analyse a file: {error}"
    if isinstance(error, ConnectionError | TimeoutError | http.client.HTTPException):
        return f"the service broke off the connection: {type(error).__name__}: {error}"
    if isinstance(error, OSError | SQLAlchemyError):
        return f"{type(error).__name__}: {error}"
    return str(error)


def run(report: Report, folder: Path, options: Options) -> None:
    """Everything, in order; ``folder`` is a temporary one."""
    begin = time.monotonic()
    cores = available_cores()
    others = machine.OtherWork()

    def look(part: str, processes: Sequence[psutil.Process] = ()) -> float:
        found = others.look(part, processes)
        if found > machine.BUSY:
            report.disturb("the machine was busy with other work")
        return found

    before = look("in process")
    repeats = _QUICK_REPEATS if options.quick else _REPEATS
    lengths = _QUICK_LENGTHS if options.quick else _LENGTHS
    if options.files is None:
        progress("making tracks")
        (folder / "tracks").mkdir()
        paths = make_tracks(folder / "tracks", count=_QUICK_TRACKS if options.quick else len(MADE))
    else:
        paths = own_tracks(options.files)
    with ExitStack() as stack:
        worker = stack.enter_context(_worker(folder, "worker", cores))
        progress("loading the model")
        hello = worker.ask("hello")
        tracks = inprocess.probe(worker, paths)
        with ExitStack() as peers_stack:
            peers = peers_stack.enter_context(_peers(folder, cores)) if options.peers else None
            versions = peers.ask("hello")["versions"] if peers is not None else None
            report.section("Machine", ["", ""], machine.describe(hello, versions, before), _about(options, tracks))
            inprocess.compare(report, worker, peers, tracks, repeats)
        look("stages")
        inprocess.stages(report, worker, tracks, repeats)
        if options.batch:
            look("batch job")
            files, turns = (_QUICK_BATCH_FILES, _QUICK_BATCH_TURNS) if options.quick else (_BATCH_FILES, _BATCH_TURNS)
            batch(report, folder / "batch", worker, tracks, files, turns)
        if options.http:
            service = stack.enter_context(Service(folder / "s"))
            look("start")
            start(report, service, tracks)
            keys = [service.new_key(name) for name in ("bench-1", "bench-2")]
            look("HTTP latency", service.processes())
            latency(report, worker, service.port, keys[0], tracks, _QUICK_ROUNDS if options.quick else _ROUNDS)
            worker.close()
            with ExitStack() as workers_stack:
                workers = [
                    workers_stack.enter_context(_worker(folder, f"worker-{number}", 1)) for number in range(cores)
                ]
                for one in workers:
                    one.ask("hello")  # loaded, and quiet
                look("throughput", service.processes())
                throughput(report, service, workers, keys, tracks, lengths)
            look("memory", service.processes())
            memory(report, service, keys, tracks, _QUICK_MEMORY_S if options.quick else _MEMORY_S)
    took = f"The whole run took {(time.monotonic() - begin) / 60:.1f} minutes."
    report.budgets(took, *others.notes(), *([_QUICK_NOTE] if options.quick else []))


def _stopped(report: Report, code: int, message: str) -> int:
    print(message, file=sys.stderr)
    report.note(f"NOT COMPLETE ({message}): what should follow was not measured.")
    return code


def _peers(folder: Path, threads: int) -> Worker:
    return Worker(
        "the peers",
        _PEERS_PYTHON,
        "benchmarks.peer_worker",
        arguments=[str(threads)],
        environment={"OMP_NUM_THREADS": str(threads)},
        log=folder / "peers.log",
    )


def _worker(folder: Path, name: str, threads: int) -> Worker:
    return Worker(
        name,
        Path(sys.executable),
        "benchmarks.worker",
        arguments=[str(threads)],
        # A cache of its own: the service should find its own one cold, and share no pages with the workers.
        environment={"XDG_CACHE_HOME": str(folder / "worker-cache"), "OMP_NUM_THREADS": str(threads)},
        log=folder / f"{name}.log",
    )


def _about(options: Options, tracks: list[inprocess.Track]) -> str:
    notes = ["Synthetic tracks, stereo, 44.1 kHz." if options.files is None else "Tracks of the user."]
    if len(tracks) < 3 or any(abs(track.duration_s - 240) > 60 for track in tracks):
        notes.append("The budgets speak of tracks of 4 minutes, at least three: these are others.")
    if available_cores() != _BUDGETED_CORES:
        notes.append(f"The budgets speak of {_BUDGETED_CORES} cores: these are {available_cores()}.")
    if options.quick:
        notes.append(_QUICK_NOTE)
    return " ".join(notes)


def _short_folder() -> str | None:
    """Ray's sockets need a path below 108 characters."""
    return "/tmp" if os.access("/tmp", os.W_OK) else None  # noqa: S108


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(main)
