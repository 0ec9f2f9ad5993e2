"""Commands of the training room; some need the ``train`` extra, and say so when they run without it."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from tunelab.training import corpus_cli
from tunelab.training.corpus_cli import Corpus

commands = typer.Typer(no_args_is_help=True, help="Build the corpus, pre-train the encoder, train the heads.")
commands.add_typer(corpus_cli.commands)


@commands.command("pretrain")
def pretrain(
    corpus: Corpus,
    minutes: Annotated[float, typer.Option(min=0.01, help="Time budget.")] = 44.0,
    run: Annotated[str, typer.Option(help="Name of the run, a folder in CORPUS.")] = "run1",
    init: Annotated[Path | None, typer.Option(help="A bundle whose encoder to go on from.")] = None,
    masked: Annotated[float, typer.Option(min=0, help="Weight of the masked objective.")] = 0.0,
    contrast: Annotated[float, typer.Option(min=0, help="Weight of the contrastive objective.")] = 0.0,
    ema: Annotated[float, typer.Option(min=0, max=0.9999, help="Share that averaged weights keep; 0: none.")] = 0.0,
    config_file: Annotated[
        Path | None,
        typer.Option("--config", exists=True, dir_okay=False, help="A YAML file with any of the run's settings."),
    ] = None,
) -> None:
    """Pre-train the encoder and keep the embeddings of all clips. Call again to resume."""
    from tunelab.training.config import PretrainConfig, going_on, read_config
    from tunelab.training.embed import embed_clips
    from tunelab.training.objectives import Objective
    from tunelab.training.pretrain import pretrain as run_pretraining

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    objective = Objective(masked=masked, contrast=contrast)
    config = PretrainConfig(minutes=minutes, objective=objective, ema=ema)
    if init is not None:
        config = going_on(init, config)
    if config_file is not None:
        config = read_config(config_file, config)
    run_pretraining(corpus / "clips", corpus / run, config)
    embed_clips(corpus / "clips", corpus / run)


@commands.command("average")
def average(
    corpus: Corpus,
    run: Annotated[str, typer.Option(help="Name of a finished run, a folder in CORPUS.")],
    init: Annotated[Path, typer.Option(help="The bundle that it went on from.")],
    out: Annotated[str, typer.Option(help="Name of the run to write.")],
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the run; the rest is the bundle's.")] = 0.5,
) -> None:
    """Average a run's encoder with the one that it began with, and keep the embeddings of all clips."""
    from tunelab.training.average import average_run
    from tunelab.training.embed import embed_clips

    average_run(corpus / run, init, share, corpus / out)
    embed_clips(corpus / "clips", corpus / out)


@commands.command("ablate")
def ablate(
    corpus: Corpus,
    minutes: Annotated[float, typer.Option(min=0.01, help="Time budget of each run.")] = 5.0,
    only: Annotated[str, typer.Option(help="Names of the runs, comma-separated; by default all.")] = "",
) -> None:
    """Short runs from nothing that differ in one choice each, and a table of what they reach. Call again to resume."""
    from tunelab.training.ablation import VARIANTS, table
    from tunelab.training.ablation import ablate as run_variants

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    names = tuple(name.strip() for name in only.split(",")) if only else tuple(VARIANTS)
    if unknown := [name for name in names if name not in VARIANTS]:
        raise typer.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(VARIANTS)}", param_hint="--only")
    rows = []
    for row in run_variants(corpus / "clips", corpus / "ablation", minutes, names):
        typer.echo(f"{row['name']}: {row['clip_steps']} clip-steps, mean r {row['mean_r']:.3f}", err=True)
        rows.append(row)
    typer.echo(table(rows))


@commands.command("curve")
def curve(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, finished or not.")],
    out: Annotated[Path | None, typer.Option(metavar="PNG", help="Where to; by default curve.png in the run.")] = None,
) -> None:
    """Draw the loss of a pre-training run, which may still be going on."""
    from tunelab.training.curve import draw_curve

    typer.echo(draw_curve(run, out))


@commands.command("train")
def train(
    labels: Annotated[Path, typer.Option(help="A table of labels, or the dataset's folder.")],
    out: Annotated[Path, typer.Option(help="The bundle to write.")],
    encoder: Annotated[str, typer.Option(help="The bundle whose encoder is used.")] = "tunelab-v1",
    kind: Annotated[str, typer.Option("--format", help="csv, fma, spotify, jamendo or gtzan-speech.")] = "csv",
    audio: Annotated[Path | None, typer.Option(help="Folder of the audio; by default that of the table.")] = None,
    store: Annotated[Path, typer.Option(help="Where embeddings are kept.")] = Path("embeddings"),
) -> None:
    """Train heads on your own labels, and write a bundle that can be served at once.

    Embeddings are computed once and kept; after that it takes seconds.
    """
    from tunelab.encoder.bundle import find_bundle
    from tunelab.training.datasets import LOADERS, DatasetError
    from tunelab.training.embedding_store import EmbeddingStore
    from tunelab.training.own_heads import embed_examples, embedder, fit, write_own_bundle

    if kind not in LOADERS:
        raise typer.BadParameter(f"one of {', '.join(LOADERS)}", param_hint="--format")
    if out.exists():
        raise typer.BadParameter(f"{out.name} exists", param_hint="--out")
    try:
        examples = LOADERS[kind](labels, audio or (labels if labels.is_dir() else labels.parent))
    except (DatasetError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="--labels") from None
    bundle = find_bundle(encoder)
    with typer.progressbar(length=len(examples), label=f"{len(examples)} files", file=sys.stderr) as bar:
        kept, embeddings, failures = embed_examples(
            examples, embedder(bundle), EmbeddingStore(store, bundle.name, bundle.revision), lambda done: bar.update(1)
        )
    for path, reason in failures.items():
        typer.echo(f"{path}: {reason}", err=True)
    tensors, rows = fit(kept, embeddings)
    for head, row in rows.items():
        figures = str(row.get("why"))
        if "pearson_r" in row:
            figures = f"r {row['pearson_r']:.3f} {row.get('ci95', '(no interval: one group)')}, n = {row['n']}"
        typer.echo(f"{head:17} {figures} {'shipped' if row['shipped'] else 'dropped'}")
    if not tensors:
        typer.echo("no head passed the gate: nothing was written", err=True)
        raise typer.Exit(1)
    write_own_bundle(bundle, out, tensors, rows, f"{labels.name} ({len(kept)} files)")
    typer.echo(f"wrote {out}")


@commands.command("bundle")
def write(
    corpus: Corpus,
    out: Annotated[Path, typer.Option(help="The bundle to write.")],
    run: Annotated[str, typer.Option(help="Name of the pre-training run.")] = "run1",
    version: Annotated[str, typer.Option(help="Of the bundle, for its card.")] = "1",
) -> None:
    """Train the shipped heads on the corpus and write the bundle with its card."""
    from tunelab.training.finish import write_bundle

    card = write_bundle(corpus, corpus / run, out, version)
    for head, row in card["heads"].items():
        interval = row.get("ci95", "")
        typer.echo(f"{head:17} r {row['pearson_r']:.3f} {interval} {'shipped' if row['shipped'] else 'dropped'}")


@commands.command("refit")
def refit(
    corpus: Corpus,
    bundle: Annotated[Path, typer.Option(help="The bundle's folder; it is changed.")],
    heads: Annotated[str, typer.Option(help="Which heads, comma-separated.")],
    version: Annotated[str, typer.Option(help="Of the changed bundle, for its card.")],
    run: Annotated[str, typer.Option(help="Name of a run, a folder in CORPUS, for the embeddings.")] = "refit",
) -> None:
    """Fit some heads of a bundle anew on the rendered clips; its encoder and the other heads stay as they are."""
    from tunelab.training.embed import embed_clips, run_of_bundle
    from tunelab.training.finish import refit as fit_again
    from tunelab.types import HEADS

    names = [name.strip() for name in heads.split(",")]
    if unknown := [name for name in names if name not in HEADS]:
        raise typer.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(HEADS)}", param_hint="--heads")
    run_of_bundle(bundle, corpus / run)
    embed_clips(corpus / "clips", corpus / run)
    for head, row in fit_again(corpus, corpus / run, bundle, names, version).items():
        typer.echo(f"{head:17} r {row['pearson_r']:.3f} {row['ci95']}")


@commands.command("liveness")
def liveness(
    corpus: Corpus,
    bundle: Annotated[Path, typer.Option(help="The bundle's folder.")],
    count: Annotated[int, typer.Option(min=20, help="Tracks to train on; a third as many judge.")] = 180,
    write: Annotated[bool, typer.Option(help="Write the row into the bundle's card.")] = True,
) -> None:
    """Train a head for liveness on whole tracks, and hold it against the gate."""
    from tunelab.encoder.bundle import Bundle
    from tunelab.training.finish import update_liveness
    from tunelab.training.liveness import judge, whole_tracks

    opened = Bundle.open(bundle)
    row = judge(*(whole_tracks(corpus, split, n, opened) for split, n in (("train", count), ("heldout", count // 3))))
    if write:
        update_liveness(bundle, row)
    typer.echo(f"liveness r {row['pearson_r']:.3f} {row['ci95']}, n = {row['n']}: {row['why']}")


@commands.command("quantise")
def quantise(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    clips: Annotated[Path, typer.Argument(help="A folder of rendered clips; training clips are used.")],
    count: Annotated[int, typer.Option(min=8, help="Windows to look at.")] = 64,
) -> None:
    """Measure the ranges with which the encoder runs in 8-bit integers, and write them into the bundle."""
    from tunelab.training.quantise import quantise_bundle

    typer.echo(f"{len(quantise_bundle(bundle, clips, count))} layers")


if __name__ == "__main__":
    commands()
