"""``python -m benchmarks``: every comparison in one run on one machine."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import graph, inprocess, machine
from benchmarks.files import MADE, make_tracks, own_tracks
from benchmarks.graph import Lengths
from benchmarks.protocol import ROOT, Worker, WorkerError
from benchmarks.report import Report, progress
from benchmarks.service import Service, ServiceError
from tunelab.encoder.engine import available_cores
from tunelab.errors import TuneLabError

_PEERS_PYTHON = ROOT / "benchmarks" / ".venv" / "bin" / "python"
_REPEATS, _QUICK_REPEATS = 7, 2
_QUICK_TRACKS = 3
_LENGTHS = Lengths(warm_up_s=20, segment_s=20, segments=2, memory_s=15, rounds=7)
_QUICK_LENGTHS = Lengths(warm_up_s=4, segment_s=6, segments=1, memory_s=5, rounds=2)


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    quick: bool
    http: bool
    peers: bool
    files: Path | None


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Few repeats: shows that everything runs.")] = False,
    http: Annotated[bool, typer.Option("--http/--no-http", help="Start the service and measure it.")] = True,
    peers: Annotated[bool, typer.Option("--peers/--no-peers", help="Measure the peers.")] = True,
    files: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="A folder of tracks, instead of synthetic ones.")
    ] = None,
    write: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the tables to this file, too.")] = None,
) -> None:
    """Measure TuneLab beside its peers, and its service beside itself in process; everything in one run."""
    if peers and not _PEERS_PYTHON.exists():
        raise typer.BadParameter("the peers are not installed: use `make bench`, or --no-peers")
    signal.signal(signal.SIGTERM, _interrupt)
    report = Report()
    try:
        with tempfile.TemporaryDirectory(prefix="tlb-", dir=_short_folder(), ignore_cleanup_errors=True) as folder:
            run(report, Path(folder), Options(quick, http, peers, files))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise typer.Exit(130) from None
    except (ServiceError, WorkerError, TuneLabError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if write is not None:
        report.write(write)


def run(report: Report, folder: Path, options: Options) -> None:
    """Everything, in order; ``folder`` is a temporary one."""
    cores = available_cores()
    others = machine.other_work()
    os.environ["OMP_NUM_THREADS"] = str(cores)
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
            peers = None
            if options.peers:
                peers = peers_stack.enter_context(
                    Worker(
                        "the peers",
                        _PEERS_PYTHON,
                        "benchmarks.peer_worker",
                        arguments=[str(cores)],
                        log=folder / "peers.log",
                    )
                )
            versions = peers.ask("hello")["versions"] if peers is not None else None
            about = machine.describe(hello["engine"], versions, others)
            report.section("Machine", ["", ""], about, _about(options, tracks))
            inprocess.compare(report, worker, peers, tracks, repeats)
        inprocess.stages(report, worker, tracks, repeats)
        if options.http:
            service = stack.enter_context(Service(folder / "s"))
            graph.start(report, service, tracks)
            keys = [service.new_key(name) for name in ("bench-1", "bench-2")]
            graph.latency(report, worker, service.port, keys[0], tracks, lengths.rounds)
            worker.close()
            with ExitStack() as workers_stack:
                workers = [
                    workers_stack.enter_context(_worker(folder, f"worker-{number}", 1)) for number in range(cores)
                ]
                graph.throughput(report, service, workers, keys, tracks, lengths)
            graph.memory(report, service, keys, tracks, lengths.memory_s)
    busy = f"The machine was busy with other work ({others:.0f} % of it): no figure and no verdict is worth keeping."
    report.budgets(*([busy] if others > machine.BUSY else []))


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
    if options.quick:
        notes.append("--quick: too few repeats for figures worth keeping.")
    return " ".join(notes)


def _short_folder() -> str | None:
    """Ray's sockets need a path below 108 characters."""
    return "/tmp" if os.access("/tmp", os.W_OK) else None  # noqa: S108


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(main)
