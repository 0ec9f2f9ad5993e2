"""The ``tunelab`` command. Commands import what they need when they run, so that ``--help`` answers at once."""

from __future__ import annotations

import sys

import typer

from tunelab import __version__
from tunelab.cli import admin, analyze, batch, catalog, classifier, models, serve, similar, timeline
from tunelab.errors import TuneLabError
from tunelab.evaluation import cli as evaluation
from tunelab.training import cli as training

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Six mood scores from 0 to 100 and an embedding for any track.",
)
app.add_typer(analyze.commands)
app.add_typer(batch.commands)
app.add_typer(similar.commands)
app.add_typer(timeline.commands)
app.add_typer(catalog.commands, name="catalog")
app.add_typer(classifier.commands, name="classifier")
app.add_typer(serve.commands)
app.add_typer(models.commands, name="models")
app.add_typer(admin.accounts, name="accounts")
app.add_typer(admin.keys, name="keys")
app.add_typer(admin.credits, name="credits")
app.add_typer(training.commands)
app.add_typer(evaluation.commands)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tunelab {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Six mood scores from 0 to 100 and an embedding for any track."""


def main() -> None:
    """Run the command; errors of ours, and missing extras, are one line and exit code 1."""
    try:
        app()
    except TuneLabError as error:
        sys.exit(f"error: {error.message}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("tunelab", "deployments"):
            raise
        sys.exit(f"error: this command needs {error.name!r}, see docs/training.md")
