"""Commands of the corpus: fetch it, render what is made up, list it, and make labelled clips of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

commands = typer.Typer(no_args_is_help=True, help="From packages to labelled clips.")
corpus_commands = typer.Typer(no_args_is_help=True, help="The free corpus.")
commands.add_typer(corpus_commands, name="corpus")

Corpus = Annotated[Path, typer.Argument(help="The corpus folder.")]


@corpus_commands.command("build")
def corpus_build(corpus: Corpus) -> None:
    """Download and unpack the packages, then write manifest.parquet. Call again to resume."""
    from tunelab.training.download import download_packages

    for package in download_packages(corpus / "un", corpus / "debs"):
        typer.echo(f"not available: {package}", err=True)
    _list_corpus(corpus)


@corpus_commands.command("list")
def corpus_list(corpus: Corpus) -> None:
    """Write manifest.parquet from packages that are already unpacked in CORPUS/un.

    Tracker modules are rendered where openmpt123 is installed, songs mixed from their stems, and each recording is
    listed once: duplicates.csv tells what was left out. Call again to resume.
    """
    from tunelab.training.download import missing_packages

    if missing := missing_packages(corpus / "un"):
        typer.echo(f"not there: {', '.join(missing)}", err=True)
    _list_corpus(corpus)


def _list_corpus(corpus: Path) -> None:
    from tunelab.training.corpus import build_manifest, summary

    build_manifest(corpus / "un", corpus / "manifest.parquet")
    for line in summary(corpus / "manifest.parquet"):
        typer.echo(line)


@corpus_commands.command("scale")
def corpus_scale(
    features: Annotated[Path, typer.Argument(help="A CSV of Echo Nest features, one header row.")],
    out: Annotated[Path, typer.Argument(help="The table of percentiles to write.")],
) -> None:
    """Measure how published features spread on ordinary music: labels are mapped onto that."""
    from tunelab.training.scale import measure_scale

    measure_scale(features, out)


@corpus_commands.command("scores")
def corpus_scores(
    corpus: Corpus, count: Annotated[int, typer.Option(min=1, help="Pieces for each of seven packages.")] = 50
) -> None:
    """Render made-up pieces with sound fonts into CORPUS/un; list the corpus again afterwards. Call again to resume."""
    from tunelab.training.scores import find_sound_fonts, render_scores

    typer.echo(f"{render_scores(corpus / 'un', count, find_sound_fonts())} pieces rendered")


@corpus_commands.command("grooves")
def corpus_grooves(
    corpus: Corpus, count: Annotated[int, typer.Option(min=1, help="Accompaniments in all.")] = 200
) -> None:
    """Render accompaniments by MMA into CORPUS/un; list the corpus again afterwards. Call again to resume."""
    from tunelab.training.grooves import render_grooves
    from tunelab.training.scores import find_sound_fonts

    typer.echo(f"{render_grooves(corpus / 'un', count, find_sound_fonts())} accompaniments rendered")


@corpus_commands.command("voices")
def corpus_voices(
    corpus: Corpus, count: Annotated[int, typer.Option(min=1, help="Sentences of each language.")] = 24
) -> None:
    """Speak made-up words with espeak-ng into CORPUS/un; list the corpus again afterwards. Call again to resume."""
    from tunelab.training.synthetic_voices import render_voices

    typer.echo(f"{render_voices(corpus / 'un', count)} sentences spoken")


@corpus_commands.command("songs")
def corpus_songs(corpus: Corpus, count: Annotated[int, typer.Option(min=1, help="Songs of each voice.")] = 48) -> None:
    """Have festival sing made-up songs into CORPUS/un; list the corpus again afterwards. Call again to resume."""
    from tunelab.training.festival import render_songs

    typer.echo(f"{render_songs(corpus / 'un', count)} songs sung")


@commands.command("clips")
def clips(
    corpus: Corpus,
    count: Annotated[int, typer.Option(min=0, help="Training clips.")] = 4480,
    heldout_count: Annotated[int, typer.Option(min=0, help="Held-out clips.")] = 704,
    seed: Annotated[int, typer.Option(min=0, max=9999, help="What they are drawn by; another one for others.")] = 1,
    kinds: Annotated[str, typer.Option(help="Kinds and shares, as in music=0.5,rapped+music=0.5. [default: all]")] = "",
    processes: Annotated[int | None, typer.Option(min=1, help="At once. [default: as many as cores]")] = None,
) -> None:
    """Render clips with vibenet's labels into CORPUS/clips, in shards of 64. Call again to resume, or for more."""
    from tunelab.encoder.engine import available_cores
    from tunelab.training.clips import render
    from tunelab.training.kinds import kinds_from
    from tunelab.training.rap import compile_ahead

    shares = kinds_from(kinds)
    compile_ahead()
    for split, number in (("heldout", heldout_count), ("train", count)):
        made = render(corpus, split, seed, number, shares=shares, processes=processes or available_cores())
        typer.echo(f"{split}: {made} clips rendered")


@commands.command("tag")
def tag(
    corpus: Corpus,
    processes: Annotated[int | None, typer.Option(min=1, help="One thread each. [default: as many as cores]")] = None,
) -> None:
    """Label the rendered clips with musicnn's tags. Call again to resume."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    from tunelab.encoder.engine import available_cores
    from tunelab.training.clips import AUDIO
    from tunelab.training.musicnn import tag_shard

    shards = sorted((corpus / "clips" / AUDIO).glob("*.safetensors"))
    with ProcessPoolExecutor(processes or available_cores(), multiprocessing.get_context("spawn")) as pool:
        for _ in pool.map(tag_shard, shards):
            pass
