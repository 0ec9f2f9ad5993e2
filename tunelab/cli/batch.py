"""``tunelab batch``: a whole catalogue, resumably, on Ray."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
import traceback
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunelab.audio.limits import DecodeLimits
from tunelab.encoder.bundle import DEFAULT_BUNDLE

if TYPE_CHECKING:
    from tunelab.catalog.job import Progress

_LIMITS = DecodeLimits()
_TERMINAL_S, _LOG_S = 0.3, 30.0
JOB_FAILED, INTERRUPTED = 3, 130
"""Exit codes, beside 0 (every file has its scores), 1 (some files failed) and 2 (the command makes no sense)."""

commands = typer.Typer()


@commands.command("batch")
def batch(
    source: Annotated[str, typer.Argument(help="Folder, glob, file or list (.txt, .csv, .parquet); or a URI.")],
    out: Annotated[str, typer.Option(help="Folder or URI of the output.")],
    bundle: Annotated[str, typer.Option(help="Name or folder of a model bundle.")] = DEFAULT_BUNDLE,
    workers: Annotated[int | None, typer.Option(min=1, help="Encoders; by default what there is room for.")] = None,
    decoders: Annotated[
        int | None, typer.Option(min=1, help="Decoders; more of them help where files come over a slow network.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of an encoder.")] = None,
    engine: Annotated[str, typer.Option(help="auto, openvino or torch.")] = "auto",
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster (auto, HOST:PORT, ray://HOST:PORT); by default this machine.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Compute everything anew.")] = False,
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="Try files again that failed before.")] = False,
    max_duration: Annotated[
        float, typer.Option(min=_LIMITS.min_duration_s, metavar="SECONDS", help="Refuse longer tracks.")
    ] = _LIMITS.max_duration_s,
    commit: Annotated[
        float,
        typer.Option(min=0.05, metavar="SECONDS", help="Commit rows so often; what a killed job repeats at most."),
    ] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    accept_failures: Annotated[
        bool, typer.Option(help="Exit with 0 where only files failed: for schedulers that would begin anew.")
    ] = False,
) -> None:
    """Score a catalogue into Parquet. Stopped at any moment, the same command goes on where it was.

    Exit code 0: every file has its scores; 1: some files failed, and their rows say why, or a folder could not be
    searched, or files with rows of before could not be looked at; 3: the job failed.
    """
    from tunelab.catalog.job import JobOptions, run_job
    from tunelab.errors import TuneLabError

    if not (math.isfinite(max_duration) and math.isfinite(commit)):
        raise typer.BadParameter("must be a finite number", param_hint="--max-duration or --commit")
    if engine not in ("auto", "openvino", "torch"):
        raise typer.BadParameter("choose from auto, openvino, torch", param_hint="--engine")
    options = JobOptions(
        source=source,
        out=out,
        bundle=bundle,
        engine=engine,  # type: ignore[arg-type]  # checked above
        workers=workers,
        decoders=decoders,
        threads=threads,
        address=address,
        force=force,
        retry_errors=retry_errors,
        commit_s=commit,
        limits=DecodeLimits(max_duration_s=max_duration),
    )
    shown = _Shown()
    # What stops a service stops a job as Ctrl-C does: what has come is committed.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # Ray prints what its workers suffer; standard output is for the summary.
        with redirect_stdout(sys.stderr):
            progress = run_job(options, shown.show, _tell_unreadable)
    except KeyboardInterrupt:
        shown.end()
        typer.echo("stopped; the same command goes on where it was", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except TuneLabError as error:
        shown.end()
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(JOB_FAILED) from None
    except Exception:
        # Nobody foresaw it, and an exit code of 1 would say that the job is done.
        shown.end()
        traceback.print_exc()
        raise typer.Exit(JOB_FAILED) from None
    finally:
        signal.signal(signal.SIGTERM, before)
    shown.end()
    _summarise(progress, out, as_json)
    failed = (progress.failed or progress.unreached) and not accept_failures
    raise typer.Exit(1 if failed or progress.unsearched else 0)


def _tell_unreadable(error: OSError) -> None:
    typer.echo(f"not searched: {os.fsdecode(error.filename)}: {error.strerror}", err=True)


@dataclass
class _Shown:
    """The progress line: rewritten on a terminal, a line now and then in a log."""

    terminal: bool = field(default_factory=sys.stderr.isatty)
    last: float = -math.inf
    open: bool = False

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self.last < (_TERMINAL_S if self.terminal else _LOG_S):
            return
        self.last = now
        text = line(progress)
        if self.terminal:
            sys.stderr.write(f"\r\x1b[K{text}")
            self.open = True
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def end(self) -> None:
        if self.open:
            sys.stderr.write("\n")
            self.open = False


def line(progress: Progress) -> str:
    """Files done, throughput, failures, and the time that is left."""
    have = progress.before + progress.done
    parts = [f"{have:,} of {progress.total:,} files", f"{progress.failed:,} failed"]
    if rate := progress.files_per_s:
        parts += [f"{rate:.1f} files/s", f"{duration((progress.total - have) / rate)} left"]
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """``1 d 2 h``, ``3 h 04 min``, ``5 min 06 s``, ``7 s``."""
    whole = round(seconds)
    if whole >= 86_400:
        return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole} s"


def _summarise(progress: Progress, out: str, as_json: bool) -> None:
    facts: dict[str, Any] = {
        "files": progress.total,
        "done_before": progress.before,
        "done_now": progress.done,
        "failed": progress.failed,
        "folders_not_searched": progress.unsearched,
        "files_not_reached": progress.unreached,
        "errors_now": dict(progress.errors.most_common()),
        "seconds": round(progress.seconds, 3),
        "files_per_s": round(progress.files_per_s, 3) or None,
        "out": out,
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    typer.echo(
        f"{progress.total:,} files in {out}: {progress.done:,} now in {duration(progress.seconds)}, "
        f"{progress.before:,} before; {progress.failed:,} failed"
    )
    for code, count in progress.errors.most_common():
        typer.echo(f"  {count:,} {code}")
    if progress.unreached:
        typer.echo(f"  {progress.unreached:,} could not be looked at today: their rows of before stay")
