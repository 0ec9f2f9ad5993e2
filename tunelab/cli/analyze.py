"""``tunelab analyze``: files and folders -> scores on standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from tunelab.encoder.bundle import DEFAULT_BUNDLE

AUDIO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("mp3", "mp2", "aac", "m4a", "m4b", "mp4", "mov"),
        *("ogg", "oga", "opus", "webm", "mka", "mkv"),
        *("flac", "wav", "w64", "aif", "aiff", "aifc", "au", "caf"),
    )
)
"""What is taken from a folder. A file that is named itself is tried whatever its name."""

T = TypeVar("T")

commands = typer.Typer()


@commands.command("analyze")
def analyze(
    paths: Annotated[list[Path], typer.Argument(metavar="FILES_OR_FOLDERS...", help="Folders are searched through.")],
    format: Annotated[str, typer.Option("--format", "-f", help="table, json, jsonl or csv.")] = "table",
    embeddings: Annotated[
        Path | None, typer.Option(metavar="OUT.npy", help="Write the embeddings, float32 (files, 768).")
    ] = None,
    bundle: Annotated[str, typer.Option(help="Name or folder of a model bundle.")] = DEFAULT_BUNDLE,
    engine: Annotated[str, typer.Option(help="auto, openvino or torch.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default every core.")] = None,
) -> None:
    """Score files. Exit code 1 if any of them failed; the others are still done.

    The rows of OUT.npy are the files that did not fail, in the order in which they are printed.
    """
    from tunelab.cli.output import FORMATS

    if format not in FORMATS:
        raise typer.BadParameter(f"choose from {', '.join(FORMATS)}", param_hint="--format")
    if engine not in ("auto", "openvino", "torch"):
        raise typer.BadParameter("choose from auto, openvino, torch", param_hint="--engine")
    if embeddings is not None and not embeddings.parent.is_dir():
        raise typer.BadParameter("its folder does not exist", param_hint="--embeddings")
    files = list(find_files(paths))
    if not files:
        typer.echo("error: there is no audio file in what was named", err=True)
        raise typer.Exit(1)
    try:
        failed = _analyze(files, format, embeddings, bundle, engine, threads)
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`). Python would complain again when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        failed = 0
    raise typer.Exit(1 if failed else 0)


def _analyze(
    files: list[Path], format: str, embeddings: Path | None, bundle: str, engine: str, threads: int | None
) -> int:
    """Analyse and print; returns how many files failed."""
    import numpy as np

    from tunelab.analyzer import load
    from tunelab.cli.output import make_writer

    analyzer = load(bundle, engine=engine, threads=threads)  # type: ignore[arg-type]  # checked by the caller
    writer = make_writer(format, analyzer.score.names, analyzer.bundle.name)
    kept, failed = [], 0
    for outcome in _with_progress(analyzer.analyze_many(files), len(files)):
        writer.write(outcome)
        if outcome.analysis is None:
            failed += 1
        elif embeddings is not None:
            kept.append(outcome.analysis.embedding)
    writer.close()
    if embeddings is not None:
        with embeddings.open("wb") as file:  # np.save would add a suffix to a name that has none
            np.save(file, np.array(kept, dtype=np.float32).reshape(len(kept), -1), allow_pickle=False)
    if failed and format != "table":
        typer.echo(f"{failed} of {len(files)} files failed", err=True)
    return failed


def find_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Named files as they are, and the audio files of named folders, sorted; each once."""
    seen = set()
    for path in paths:
        found = sorted(_walk(path)) if path.is_dir() else [path]
        for file in found:
            if file not in seen:
                seen.add(file)
                yield file


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES:
                yield Path(root) / name


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
