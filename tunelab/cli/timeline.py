"""``tunelab timeline``: scores along a track."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunelab.audio.limits import DecodeLimits
from tunelab.encoder.bundle import DEFAULT_BUNDLE
from tunelab.types import LEAST_STEP_S, MOST_STEP_S, STEP_S, clock

if TYPE_CHECKING:
    from tunelab.types import Timeline

_LIMITS = DecodeLimits()
_TIMEOUT_S = 60.0
"""A whole track takes longer to decode than the window of an analysis."""
_HEADINGS = {
    "energy": "energy",
    "danceability": "dance",
    "happiness": "happy",
    "acousticness": "acoust",
    "instrumentalness": "instr",
    "speechiness": "speech",
}
_TIME_WIDTH = len("999:59")
_SILENT = "-"

commands = typer.Typer()


@commands.command("timeline")
def timeline(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A track.")],
    step: Annotated[
        float, typer.Option(min=LEAST_STEP_S, max=MOST_STEP_S, metavar="SECONDS", help="Length of a segment.")
    ] = STEP_S,
    format: Annotated[str, typer.Option("--format", "-f", help="table or json.")] = "table",
    plot: Annotated[
        Path | None, typer.Option(metavar="OUT.png", dir_okay=False, writable=True, help="Draw it, too.")
    ] = None,
    bundle: Annotated[str, typer.Option(help="Name or folder of a model bundle.")] = DEFAULT_BUNDLE,
    engine: Annotated[str, typer.Option(help="auto, openvino or torch.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default every core.")] = None,
    max_duration: Annotated[
        float, typer.Option(min=_LIMITS.min_duration_s, metavar="SECONDS", help="Refuse a longer track.")
    ] = _LIMITS.max_duration_s,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Give up if decoding takes longer.")
    ] = _TIMEOUT_S,
) -> None:
    """Score a track along its length, and find its sections.

    The six scores of each segment, the sections that sound alike (A, B, ...) and, last, the scores of the whole track.
    """
    if format not in ("table", "json"):
        raise typer.BadParameter("choose from table, json", param_hint="--format")
    if engine not in ("auto", "openvino", "torch"):
        raise typer.BadParameter("choose from auto, openvino, torch", param_hint="--engine")
    for value, option in ((step, "--step"), (max_duration, "--max-duration"), (timeout, "--timeout")):
        if not math.isfinite(value):
            raise typer.BadParameter("must be a finite number", param_hint=option)
    if plot is not None and not plot.parent.is_dir():
        raise typer.BadParameter("its folder does not exist", param_hint="--plot")
    from tunelab.analyzer import load
    from tunelab.cli.output import printable

    limits = DecodeLimits(max_duration_s=max_duration, timeout_s=timeout)
    analyzer = load(bundle, engine=engine, threads=threads, limits=limits)  # type: ignore[arg-type]  # checked above
    try:
        found = analyzer.timeline(file, step)
    except OSError as error:
        typer.echo(f"error: {printable(str(file))}: {error.strerror or type(error).__name__}", err=True)
        raise typer.Exit(1) from error
    if plot is not None:
        _draw(found, plot, printable(file.name))
    _print(found, format, file)


def _draw(found: Timeline, path: Path, title: str) -> None:
    from tunelab.timeline.plot import save_plot

    try:
        save_plot(found, path, title)
    except OSError as error:
        typer.echo(f"error: the picture cannot be written: {error.strerror}", err=True)
        raise typer.Exit(1) from error


def _print(found: Timeline, format: str, file: Path) -> None:
    from tunelab.timeline.answer import to_json

    if format == "json":
        answer = {"path": str(file), **to_json(found), "duration_s": round(found.duration_s, 3), "model": found.model}
        typer.echo(json.dumps(answer))
    else:
        typer.echo("\n".join(_table(found)))


def _table(found: Timeline) -> list[str]:
    """A line a segment, with the label of the section that its middle is in; the whole track; the sections."""
    from tunelab.types import percent

    points = found.percent()
    widths = [max(len(_HEADINGS[head]), len("100")) for head in points]

    def row(time: str, cells: Iterable[object], label: str) -> str:
        padded = [str(cell).rjust(width) for cell, width in zip(cells, widths, strict=True)]
        return "  ".join([time.ljust(_TIME_WIDTH), *padded, label]).rstrip()

    lines = [row("time", (_HEADINGS[head] for head in points), "section")]
    for number, (start_s, end_s) in enumerate(zip(found.start_s, found.end_s, strict=True)):
        scores = (points[head][number] for head in points)
        cells = (_SILENT if score is None else score for score in scores)
        lines.append(row(clock(start_s), cells, _label_at(found, (start_s + end_s) / 2)))
    lines.append(row("track", percent(found.track).values(), ""))
    sections = ", ".join(
        f"{section.label or 'silence'} {clock(section.start_s)}-{clock(section.end_s)}" for section in found.sections
    )
    return [*lines, f"sections: {sections}"]


def _label_at(found: Timeline, time_s: float) -> str:
    return next((section.label or "" for section in found.sections if time_s < section.end_s), "")
