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

    scores = score_folder(Bundle.open(bundle), validation, time_stride=time_stride or None)
    if write and not time_stride:
        add_listeners(bundle, validation, scores)
    for row in listener_figures(read_labels(validation), scores):
        low, high = row["ci95"]
        figure = f"{row['value']:.3f} [{low:.3f}, {high:.3f}], vibenet {row['vibenet']:.3f}"
        typer.echo(f"{row['head']:17} {figure}  {row['measure']}")


if __name__ == "__main__":
    commands()
