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
) -> None:
    """Print the listener table; write it into the card unless told otherwise."""
    from tunelab.encoder.bundle import Bundle
    from tunelab.evaluation.listeners import listener_figures, read_labels
    from tunelab.evaluation.scoring import score_folder
    from tunelab.training.finish import add_listeners

    # As it is served; every n-th patch is something that only the reference can do.
    precision = None if time_stride else "auto"
    scores = score_folder(Bundle.open(bundle), validation, time_stride=time_stride or None, precision=precision)
    if write and not time_stride:
        add_listeners(bundle, validation, scores)
    for row in listener_figures(read_labels(validation), scores):
        low, high = row["ci95"]
        figure = f"{row['value']:.3f} [{low:.3f}, {high:.3f}], vibenet {row['vibenet']:.3f}"
        typer.echo(f"{row['head']:17} {figure}  {row['measure']}")


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


@commands.command("embedding")
def embedding(
    bundle: Annotated[Path, typer.Option(help="The bundle's folder.")],
    clips: Annotated[Path, typer.Option(help="A folder of rendered clips.")],
    validation: Annotated[Path, typer.Option(help="A folder with labels.csv and audio.")],
    write: Annotated[bool, typer.Option(help="Write the rows into the bundle's card.")] = True,
) -> None:
    """Print how rich the embedding is, beside mel statistics and vibenet's pooled feature."""
    from tunelab.evaluation.embedding import embedding_report
    from tunelab.training.finish import update_card

    rows = embedding_report(bundle, clips, validation)
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
    """Print how far level, coding, sampling rate and the window's start move scores."""
    from tunelab.evaluation.robustness import robustness as measure_robustness
    from tunelab.evaluation.robustness import table
    from tunelab.training.finish import update_card

    rows = measure_robustness(bundle, clips, count)
    if write:
        update_card(bundle, {"robustness": rows})
    typer.echo("\n".join(table(rows["points"])))


if __name__ == "__main__":
    commands()
