"""``tunelab analyze``: files and folders -> scores on standard output."""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from tunelab.audio.files import find_files
from tunelab.audio.limits import DecodeLimits
from tunelab.encoder.bundle import DEFAULT_BUNDLE

if TYPE_CHECKING:
    from tunelab.types import FloatArray

_LIMITS = DecodeLimits()

T = TypeVar("T")

commands = typer.Typer()


@commands.command("analyze")
def analyze(
    paths: Annotated[list[Path], typer.Argument(metavar="FILES_OR_FOLDERS...", help="Folders are searched through.")],
    format: Annotated[str, typer.Option("--format", "-f", help="table, json, jsonl or csv.")] = "table",
    embeddings: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.npy", dir_okay=False, writable=True, help="Write the embeddings, float32 (files, 768)."
        ),
    ] = None,
    bundle: Annotated[str, typer.Option(help="Name or folder of a model bundle.")] = DEFAULT_BUNDLE,
    engine: Annotated[str, typer.Option(help="auto, openvino or torch.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default every core.")] = None,
    max_duration: Annotated[
        float, typer.Option(min=_LIMITS.min_duration_s, metavar="SECONDS", help="Refuse longer tracks.")
    ] = _LIMITS.max_duration_s,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Give a file up that takes longer to decode.")
    ] = _LIMITS.timeout_s,
) -> None:
    """Score files. Exit code 1 if any of them failed; the others are still done.

    The rows of OUT.npy are the files that did not fail, in the order in which they are printed.
    """
    from tunelab.cli.output import FORMATS

    if format not in FORMATS:
        raise typer.BadParameter(f"choose from {', '.join(FORMATS)}", param_hint="--format")
    if engine not in ("auto", "openvino", "torch"):
        raise typer.BadParameter("choose from auto, openvino, torch", param_hint="--engine")
    for value, option in ((max_duration, "--max-duration"), (timeout, "--timeout")):
        if not math.isfinite(value):
            raise typer.BadParameter("must be a finite number", param_hint=option)
    if embeddings is not None and not embeddings.parent.is_dir():
        raise typer.BadParameter("its folder does not exist", param_hint="--embeddings")
    unreadable: list[OSError] = []
    files = list(find_files(paths, unreadable.append))
    if not files and not unreadable:
        typer.echo("error: there is no audio file in what was named", err=True)
        raise typer.Exit(1)
    limits = DecodeLimits(max_duration_s=max_duration, timeout_s=timeout)
    failed = _analyze(files, unreadable, format, embeddings, bundle, engine, threads, limits)
    raise typer.Exit(1 if failed else 0)


def _analyze(
    files: list[Path],
    unreadable: list[OSError],
    format: str,
    embeddings: Path | None,
    bundle: str,
    engine: str,
    threads: int | None,
    limits: DecodeLimits,
) -> int:
    """Analyse and print; returns how many files, and folders that could not be searched, failed."""
    from tunelab.analyzer import Outcome, load
    from tunelab.cli.output import make_writer

    analyzer = load(bundle, engine=engine, threads=threads, limits=limits)  # type: ignore[arg-type]  # checked above
    writer = make_writer(format, analyzer.score.names, analyzer.bundle.name)
    kept: list[FloatArray] = []
    failed, read = 0, True
    outcomes = _with_progress(analyzer.analyze_many(files), len(files))
    folders = (Outcome(os.fsdecode(error.filename), None, error) for error in unreadable)
    for outcome in itertools.chain(folders, outcomes):
        if outcome.analysis is None:
            failed += 1
        elif embeddings is not None:
            kept.append(outcome.analysis.embedding)
        read = read and _reaches_its_reader(partial(writer.write, outcome))
        if not read and embeddings is None:
            return 0
    if embeddings is not None:
        _save(embeddings, kept, analyzer.bundle.shape.hidden_size)
    if read:
        _reaches_its_reader(writer.close)
    if failed and format != "table":
        typer.echo(f"{failed} of {len(files) + len(unreadable)} files failed", err=True)
    return failed


def _reaches_its_reader(write: Callable[[], None]) -> bool:
    """Write to standard output; false if whoever read it has seen enough (``| head``)."""
    try:
        write()
        sys.stdout.flush()
    except BrokenPipeError:
        # What Python still holds for the stream would fail again when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _save(path: Path, rows: list[FloatArray], width: int) -> None:
    import numpy as np

    table = np.array(rows, dtype=np.float32).reshape(len(rows), width)
    try:
        with path.open("wb") as file:  # np.save would add a suffix to a name that has none
            np.save(file, table, allow_pickle=False)
    except OSError as error:
        typer.echo(f"error: the embeddings cannot be written: {error.strerror}", err=True)
        raise typer.Exit(1) from error


def _with_progress(outcomes: Iterator[T], total: int) -> Iterator[T]:
    """A progress bar on standard error, if that is a terminal and there is something to wait for."""
    if total < 2 or not sys.stderr.isatty():
        return outcomes
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    def shown() -> Iterator[T]:
        columns = (TextColumn("analysing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("", total=total)
            for outcome in outcomes:
                progress.advance(task)
                yield outcome

    return shown()
