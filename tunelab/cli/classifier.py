"""``tunelab classifier``: customers' own classifiers on embeddings."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunelab.encoder.bundle import DEFAULT_BUNDLE

if TYPE_CHECKING:
    from tunelab.classifier import Classifier
    from tunelab.types import FloatArray

FORMATS = ("table", "json", "jsonl", "csv")
_NAMED = 5
"""Tracks that are named where some are left out."""

Record = Mapping[str, Any]
"""One track: what names it, then ``label`` or ``labels`` and ``probabilities``, or ``error``."""

commands = typer.Typer(help="Your own classifiers on embeddings.", no_args_is_help=True)


@commands.command("train")
def train(
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS.csv", dir_okay=False, help="Columns label, and id, path or row; group.")
    ],
    embeddings: Annotated[
        str,
        typer.Option(metavar="DIR_OR_NPY", help="Output of 'tunelab batch', or an array with a row for each track."),
    ],
    out: Annotated[Path, typer.Option(metavar="OUT.safetensors", dir_okay=False, help="The classifier to write.")],
    plot: Annotated[
        Path | None, typer.Option(metavar="OUT.png", dir_okay=False, help="Draw the figures on held-out tracks.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="OUT.json", dir_okay=False, help="Write the figures on held-out tracks.")
    ] = None,
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="A track may have several labels; so also if one holds a '|'.")
    ] = False,
    bundle: Annotated[str, typer.Option(help="Name or folder of the bundle that made an array.")] = DEFAULT_BUNDLE,
    seed: Annotated[int, typer.Option(min=0, help="Of split and weights.")] = 0,
) -> None:
    """Train a classifier on labelled embeddings, and say how good it is on tracks that were held out."""
    for path, option in ((out, "--out"), (plot, "--plot"), (report, "--report")):
        if path is not None and not path.parent.is_dir():
            raise typer.BadParameter("its folder does not exist", param_hint=option)
    from tunelab.classifier.sources import labelled

    # First what may be wrong with the input: PyTorch takes seconds to import.
    source = labelled(labels, embeddings, bundle=bundle, multilabel=True if multi_label else None)
    if source.missing:
        _left_out(source.missing, len(source.labels.keys) + len(source.missing))
    if source.labels.unlabelled:
        typer.echo(f"left out: {source.labels.unlabelled} of {source.labels.rows} rows, which have no label", err=True)
    from tunelab.classifier.train import train as fit

    trained = fit(
        source.embeddings,
        source.labels,
        model=source.model,
        revision=source.revision,
        left_out=len(source.missing),
        seed=seed,
    )
    trained.classifier.save(out)
    if report is not None:
        _write(report, json.dumps(trained.report, indent=2, ensure_ascii=False) + "\n")
    if plot is not None:
        from tunelab.classifier.plot import plot_report

        plot_report(trained.report, plot)
    _take_any_letter()
    typer.echo("\n".join(_lines(trained.report)))


@commands.command("predict")
def predict(
    classifier: Annotated[Path, typer.Argument(metavar="CLASSIFIER", dir_okay=False, help="A file of 'train'.")],
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="FILES_OR_FOLDERS...", help="Audio; folders are searched through.")
    ] = None,
    embeddings: Annotated[
        str | None, typer.Option(metavar="DIR_OR_NPY", help="Output of 'tunelab batch', or an array, and not audio.")
    ] = None,
    format: Annotated[str, typer.Option("--format", "-f", help="table, json, jsonl or csv.")] = "table",
    bundle: Annotated[
        str | None, typer.Option(help="Name or folder of the bundle for audio; by default what the classifier names.")
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, openvino or torch.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default every core.")] = None,
) -> None:
    """Classify tracks. Exit code 1 if any of them failed; the others are still done."""
    if format not in FORMATS:
        raise typer.BadParameter(f"choose from {', '.join(FORMATS)}", param_hint="--format")
    if engine not in ("auto", "openvino", "torch"):
        raise typer.BadParameter("choose from auto, openvino, torch", param_hint="--engine")
    if bool(paths) == (embeddings is not None):
        raise typer.BadParameter("name either audio files or --embeddings", param_hint="FILES_OR_FOLDERS")
    from tunelab.classifier import Classifier

    loaded = Classifier.load(classifier)
    if embeddings is not None:
        records = _of_embeddings(loaded, embeddings)
    else:
        records = _of_files(loaded, paths or [], bundle, engine, threads)
    try:
        failed = _print(records, loaded, format)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        failed = 0
    raise typer.Exit(1 if failed else 0)


def _of_embeddings(classifier: Classifier, source: str) -> Iterator[Record]:
    from tunelab.classifier.files import check_revision
    from tunelab.classifier.sources import all_rows

    for rows in all_rows(source):
        if rows.model:
            check_revision(classifier, rows.model, rows.revision)
        probabilities = classifier.probabilities(rows.embeddings)
        for name, answer in zip(rows.names, _decisions(classifier, probabilities), strict=True):
            yield {**name, **answer}


def _of_files(
    classifier: Classifier, paths: Sequence[Path], bundle: str | None, engine: str, threads: int | None
) -> Iterator[Record]:
    import numpy as np

    from tunelab.audio.files import find_files
    from tunelab.classifier.files import probabilities_of_files
    from tunelab.cli.output import reason

    unreadable: list[OSError] = []
    files = list(find_files(paths, unreadable.append))
    if not files and not unreadable:
        typer.echo("error: there is no audio file in what was named", err=True)
        raise typer.Exit(1)
    outcomes = probabilities_of_files(classifier, files, bundle=bundle, engine=engine, threads=threads)  # type: ignore[arg-type]  # checked above
    yield from ({"path": os.fsdecode(error.filename), "error": reason(error)} for error in unreadable)
    for path, outcome in outcomes:
        if isinstance(outcome, np.ndarray):
            yield {"path": path, **next(_decisions(classifier, outcome[np.newaxis]))}
        else:
            yield {"path": path, "error": reason(outcome)}


def _decisions(classifier: Classifier, probabilities: FloatArray) -> Iterator[Record]:
    decided = classifier.decide(probabilities)
    for chosen, row in zip(decided.tolist(), probabilities.tolist(), strict=True):
        names = [name for name, given in zip(classifier.classes, chosen, strict=True) if given]
        answer = {"labels": names} if classifier.kind == "multilabel" else {"label": names[0]}
        rounded = [round(value, 4) for value in row]
        yield {**answer, "probabilities": dict(zip(classifier.classes, rounded, strict=True))}


def _print(records: Iterator[Record], classifier: Classifier, format: str) -> int:
    """Print them, as they come where the format allows it; returns how many failed."""
    _take_any_letter()
    printer = {"table": _table, "json": _json, "jsonl": _json_lines, "csv": _csv}[format]
    failed = 0

    def counted() -> Iterator[Record]:
        nonlocal failed
        for record in records:
            failed += "error" in record
            yield record

    printer(counted(), classifier)
    return failed


def _as_json(record: Record) -> str:
    if "error" in record:
        code, message = record["error"]
        record = {**record, "error": {"code": code, "message": message}}
    return json.dumps(record)


def _json_lines(records: Iterator[Record], classifier: Classifier) -> None:
    for record in records:
        typer.echo(_as_json(record))


def _json(records: Iterator[Record], classifier: Classifier) -> None:
    begun = False
    for record in records:
        typer.echo(("[\n  " if not begun else ",\n  ") + _as_json(record), nl=False)
        begun = True
    typer.echo("\n]" if begun else "[]")


def _csv(records: Iterator[Record], classifier: Classifier) -> None:
    from tunelab.cli.output import printable

    writer = csv.writer(sys.stdout, lineterminator="\n")
    names: list[str] = []
    for record in records:
        if not names:
            names = [name for name in ("row", "path", "id") if name in record]
            writer.writerow([*names, "label", *(f"p({name})" for name in classifier.classes), "error_code", "error"])
        cells = [printable(str(record.get(name, ""))) for name in names]
        if "error" in record:
            writer.writerow([*cells, "", *[""] * len(classifier.classes), *record["error"]])
        else:
            writer.writerow([*cells, "|".join(_chosen(record)), *record["probabilities"].values(), "", ""])


def _table(records: Iterator[Record], classifier: Classifier) -> None:
    from rich.cells import cell_len

    from tunelab.cli.output import printable

    rows: list[tuple[str, str]] = []
    failed: list[str] = []
    for record in records:
        name = printable(str(record["path"] if "path" in record else record["row"]))
        if "error" in record:
            failed.append(f"failed: {name}: {printable(record['error'][1])}")
        else:
            chosen = [f"{label} {record['probabilities'][label]:.2f}" for label in _chosen(record)]
            rows.append((name, ", ".join(chosen) or "none"))
    width = max((cell_len(name) for name, _ in rows), default=0)
    for name, answer in rows:
        typer.echo(f"{name}{' ' * (width - cell_len(name))}  {answer}")
    for line in failed:
        typer.echo(line)


def _chosen(record: Record) -> list[str]:
    return list(record["labels"]) if "labels" in record else [record["label"]]


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    """A report for people."""
    from rich.cells import cell_len

    n, several = report["n"], report["kind"] == "multilabel"
    yield (
        f"{len(report['classes'])} classes, {sum(n.values())} tracks: {n['train']} to train on, {n['validation']} to "
        f"stop by (after {report['epochs']} epochs), {n['test']} held out"
    )
    yield ""
    width = max(12, *(cell_len(row["label"]) for row in report["per_class"]))
    yield f"{'class':<{width}}  tracks  held out  {'precision':<18}  {'recall':<18}  F1"
    for row in report["per_class"]:
        figures = "  ".join(_figure(row[name]) for name in ("precision", "recall", "f1"))
        yield f"{row['label']}{' ' * (width - cell_len(row['label']))}  {row['n']:6}  {row['n_test']:8}  {figures}"
    yield ""
    always = ", ".join(repr(name) for name in report["baseline"]["always"]) or "no label"
    baseline = report["baseline"]
    yield f"{'all labels right' if several else 'accuracy':<16}  {_figure(report['accuracy'])}"
    yield f"{'macro F1':<16}  {_figure(report['macro_f1'])}"
    yield f"always {always}: {baseline['accuracy']:.2f}, macro F1 {baseline['macro_f1']:.2f}"


def _figure(figure: Mapping[str, Any]) -> str:
    return f"{figure['value']:.2f} [{figure['ci95'][0]:.2f}, {figure['ci95'][1]:.2f}]"


def _take_any_letter() -> None:
    """Not every terminal's encoding has every label's letters."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _left_out(names: Sequence[str], among: int) -> None:
    from tunelab.cli.output import printable

    shown = ", ".join(printable(name) for name in names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    typer.echo(f"left out: {len(names)} of {among} labelled tracks, which have no embedding: {shown}{more}", err=True)


def _write(path: Path, text: str) -> None:
    from tunelab.errors import ClassifierError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ClassifierError(f"{path.name} cannot be written: {error.strerror}") from None
