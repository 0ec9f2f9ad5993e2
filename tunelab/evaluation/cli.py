"""``tunelab evaluate``: a bundle against real songs, next to vibenet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

commands = typer.Typer(help="Measure a bundle.")


@commands.command("evaluate")
def evaluate(
    bundle: Annotated[Path, typer.Option(help="The bundle's folder.")],
    validation: Annotated[Path, typer.Option(help="A folder with labels.csv and audio.")],
    write: Annotated[bool, typer.Option(help="Write the rows into the bundle's card.")] = True,
    time_stride: Annotated[int, typer.Option(min=0, help="Keep every n-th time patch; 0 = as the bundle says.")] = 0,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all measures with their intervals here, too.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Draw a PNG for each head with listeners, and calibration.")
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="The pre-training run behind the bundle: measure on its held-out clips, too."),
    ] = None,
) -> None:
    """Print the listener table; write it into the card unless told otherwise.

    With --embeddings also Pearson r, Spearman, CCC and RMSE against the labels of the held-out clips. Intervals are
    95 %, from resamples of whole groups (singers, packages).
    """
    from tunelab.encoder.bundle import Bundle
    from tunelab.evaluation.calibration import held_out, held_out_figures
    from tunelab.evaluation.listeners import listener_figures, means_by_kind, read_labels, samples
    from tunelab.evaluation.plots import plot_calibration, plot_listeners
    from tunelab.evaluation.report import contradictions, lines, mean_lines, write_report
    from tunelab.evaluation.scoring import score_folder
    from tunelab.training.finish import update_card

    opened = Bundle.open(bundle)
    clips = held_out(opened, embeddings) if embeddings else {}
    # As it is served; every n-th patch is something that only the reference can do.
    precision = None if time_stride else "auto"
    scores = score_folder(opened, validation, time_stride=time_stride or None, precision=precision)
    table = read_labels(validation)
    rows, on_labels = listener_figures(table, scores), held_out_figures(clips)
    means = means_by_kind(table, scores)
    if write and not time_stride:
        update_card(bundle, {"listeners": rows, "means": means})
    for line in (*lines(rows, on_labels), *mean_lines(means)):
        typer.echo(line)
    for line in contradictions(opened.card, on_labels):
        typer.echo(line, err=True)
    if as_json is not None:
        write_report(as_json, opened, rows, on_labels)
    if plot is not None:
        plot.mkdir(parents=True, exist_ok=True)
        plot_listeners(list(samples(table, scores)), rows, plot)
        if clips:
            plot_calibration(clips, on_labels, plot / "calibration.png")


@commands.command("compare-precisions")
def compare_precisions(
    bundle: Annotated[Path, typer.Option(help="The bundle's folder.")],
    validation: Annotated[Path, typer.Option(help="A folder with labels.csv and audio.")],
    write: Annotated[bool, typer.Option(help="Write the rows into the bundle's card.")] = True,
) -> None:
    """Print how far int8 moves scores and listener figures from float32, both on OpenVINO."""
    from tunelab.encoder.bundle import Bundle
    from tunelab.evaluation.listeners import listener_figures, read_labels
    from tunelab.evaluation.scoring import compare_scores, score_folder
    from tunelab.training.finish import update_card

    opened = Bundle.open(bundle)
    exact, integers = (score_folder(opened, validation, precision=precision) for precision in ("f32", "int8"))
    points = compare_scores(exact, integers)
    table = read_labels(validation)
    figures = [
        {"head": one["head"], "measure": one["measure"], "f32": one["value"], "int8": other["value"]}
        for one, other in zip(listener_figures(table, exact), listener_figures(table, integers), strict=True)
    ]
    if write:
        update_card(bundle, {"int8": {"n": len(table), "points": points, "listeners": figures}})
    for head, row in points.items():
        typer.echo(
            f"{head:17} moved by {row['mean']:.2f} points, 99 % by at most {row['p99']:.2f}, {row['largest']:.2f}"
        )
    for row in figures:
        typer.echo(f"{row['head']:17} {row['f32']:.4f} -> {row['int8']:.4f}  {row['measure']}")


@commands.command("compare-bundles")
def compare_bundles(
    bundles: Annotated[list[Path], typer.Argument(help="Folders of bundles.")],
    clips: Annotated[Path, typer.Option(help="A folder of rendered and tagged clips.")],
) -> None:
    """Print how well bundles follow the labels of the same held-out clips: r over all, and over music alone."""
    from tunelab.evaluation.held_out import compare_bundles as compare
    from tunelab.evaluation.held_out import table

    rows = compare(clips, bundles)
    typer.echo("\n".join(table(rows)))
    typer.echo(f"n = {rows[0]['n']} held-out clips, {rows[0]['n_music']} of them music alone")


@commands.command("embedding")
def embedding(
    bundle: Annotated[Path, typer.Option(help="The bundle's folder.")],
    clips: Annotated[Path, typer.Option(help="A folder of rendered clips.")],
    validation: Annotated[Path, typer.Option(help="A folder with labels.csv and audio.")],
    count: Annotated[int, typer.Option(min=50, help="How many clips of music from the corpus.")] = 1200,
    corpus: Annotated[
        Path | None, typer.Option(help="The corpus folder, for language, key, mode, tempo and instrument.")
    ] = None,
    write: Annotated[bool, typer.Option(help="Write the rows into the bundle's card.")] = True,
) -> None:
    """Print how rich the embedding is, beside mel statistics and vibenet's pooled feature."""
    from tunelab.evaluation.embedding import embedding_report
    from tunelab.training.finish import update_card

    rows = embedding_report(bundle, clips, validation, count, corpus)
    if write:
        update_card(bundle, {"embedding": rows})
    for name, row in rows.items():
        typer.echo(f"{name}: {row}")


@commands.command("robustness")
def robustness(
    bundle: Annotated[Path, typer.Option(help="The bundle's folder.")],
    clips: Annotated[Path, typer.Option(help="A folder of rendered clips.")],
    count: Annotated[int, typer.Option(min=1, help="How many held-out clips.")] = 60,
    write: Annotated[bool, typer.Option(help="Write the rows into the bundle's card.")] = True,
) -> None:
    """Print how far level, coding, sampling rate and the window's start move scores, and vibenet's."""
    from tunelab.evaluation.robustness import robustness as measure_robustness
    from tunelab.evaluation.robustness import table
    from tunelab.training.finish import update_card

    rows = measure_robustness(bundle, clips, count)
    if write:
        update_card(bundle, {"robustness": rows})
    typer.echo("\n".join(table(rows["points"], rows["vibenet"])))


if __name__ == "__main__":
    commands()
