"""``tunelab similar``: nearest tracks in what a batch job wrote."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunelab.encoder.bundle import DEFAULT_BUNDLE

if TYPE_CHECKING:
    from tunelab.similarity.exact import Neighbour
    from tunelab.similarity.ranges import Range

commands = typer.Typer()

_HEADINGS = ("energy", "dance", "happy", "acoust", "instr", "speech")
"""Of the six scores, short as in ``tunelab analyze``."""


@commands.command("similar")
def similar(
    track: Annotated[
        str, typer.Argument(metavar="FILE_OR_ID", help="An audio file, or a path or id as the output has it.")
    ],
    folder: Annotated[str, typer.Option("--in", metavar="DIR", help="Output folder of a batch job.")],
    k: Annotated[int, typer.Option("-k", min=1, max=10_000, help="Tracks wanted.")] = 10,
    filter: Annotated[
        list[str] | None,
        typer.Option(metavar="HEAD=LOW..HIGH", help="Only tracks with a score in a range; may be repeated."),
    ] = None,
    format: Annotated[str, typer.Option("--format", "-f", help="table, json, jsonl or csv.")] = "table",
    bundle: Annotated[
        str, typer.Option(help="Bundle that analyses a file which is not in the output.")
    ] = DEFAULT_BUNDLE,
    engine: Annotated[str, typer.Option(help="auto, openvino or torch.")] = "auto",
) -> None:
    """Find the tracks of a batch job's output that are most similar to one.

    Exact: every row is compared. Similarity is the cosine of two embeddings, from -1 to 1.

    The track itself is left out, and files with the same content are one.
    """
    from tunelab.cli.output import FORMATS

    if format not in FORMATS:
        raise typer.BadParameter(f"choose from {', '.join(FORMATS)}", param_hint="--format")
    if engine not in ("auto", "openvino", "torch"):
        raise typer.BadParameter("choose from auto, openvino, torch", param_hint="--engine")
    filters = _filters(filter or [])

    from tunelab.catalog.rows import open_rows
    from tunelab.similarity.exact import COLUMNS, nearest
    from tunelab.similarity.seeds import find_seed

    seed = find_seed(folder, track, bundle=bundle, engine=engine)  # type: ignore[arg-type]  # checked above
    rows = open_rows(folder, COLUMNS)
    found = nearest(
        rows, seed.embedding, k, revision=seed.revision, filters=filters, without=frozenset([seed.content_id])
    )
    _print(found, format)


def _filters(texts: Sequence[str]) -> dict[str, Range]:
    from tunelab.similarity.ranges import parse_filter

    found: dict[str, Range] = {}
    for text in texts:
        try:
            head, wanted = parse_filter(text)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--filter") from None
        if head in found:
            raise typer.BadParameter(f"there are two ranges for {head}", param_hint="--filter")
        found[head] = wanted
    return found


def _print(found: Sequence[Neighbour], format: str) -> None:
    records = [_record(track) for track in found]
    match format:
        case "json":
            typer.echo(json.dumps(records, indent=2))
        case "jsonl":
            for record in records:
                typer.echo(json.dumps(record))
        case "csv":
            from tunelab.types import HEADS

            columns = ["path", "id", "similarity", *HEADS, "duration_s"]
            writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(records)
        case _:
            _print_table(records)


def _record(track: Neighbour) -> dict[str, Any]:
    from tunelab.types import percent

    return {
        "path": track.path,
        "id": track.content_id,
        "similarity": round(track.similarity, 4),
        **percent(track.scores),
        "duration_s": round(track.duration_s, 3),
    }


def _print_table(records: Sequence[dict[str, Any]]) -> None:
    """The name comes last and whole: it can be copied, and is the widest."""
    from tunelab.cli.output import printable
    from tunelab.types import HEADS

    if not records:
        typer.echo("none", err=True)
        return
    headings = ["similarity", *_HEADINGS]
    typer.echo("  ".join([*headings, "file"]))
    for record in records:
        cells = [f"{record['similarity']:.4f}", *(str(record.get(head, "-")) for head in HEADS)]
        padded = [cell.rjust(len(heading)) for cell, heading in zip(cells, headings, strict=True)]
        typer.echo("  ".join([*padded, printable(record["path"])]))
