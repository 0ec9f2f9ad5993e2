"""``tunelab catalog``: what a batch job wrote, in the service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tunelab.encoder.bundle import DEFAULT_BUNDLE

if TYPE_CHECKING:
    from tunelab.service.importing import Imported

commands = typer.Typer(help="What a batch job wrote.", no_args_is_help=True)


@commands.command("import")
def import_output(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Output folder of a batch job.")],
    account: Annotated[str, typer.Option(metavar="NAME", help="Name or id of the account that gets the tracks.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a line.")] = False,
    bundle: Annotated[str, typer.Option(help="Bundle that the service answers with.")] = DEFAULT_BUNDLE,
) -> None:
    """Load a batch job's results into the service, as tracks of an account; it charges no credits.

    They are served at once: stored analyses, embeddings, similar tracks.

    What the account has already stays as it is: the same import again adds only what is missing.

    Rows of files that failed are skipped.
    """
    from tunelab.catalog.rows import open_job, open_rows
    from tunelab.service.importing import import_rows
    from tunelab.settings import load_settings

    open_job(folder)  # a wrong folder is told before a database is started
    # Shown on a terminal only.
    with Console(stderr=True).status("importing") as status:
        counts = import_rows(
            load_settings(),
            account,
            open_rows(folder, failed=True),
            lambda done: status.update(f"importing: {done.new + done.known} rows"),
        )
    if as_json:
        typer.echo(json.dumps(_record(counts), indent=2))
    else:
        skipped = f"skipped {counts.failed + counts.unusable}"
        typer.echo(f"imported {counts.new}, already there {counts.known}, {skipped}; no credits were charged")
    if counts.unusable:
        typer.echo(f"note: {counts.unusable} of the rows that were skipped hold no error, but make no sense", err=True)
    _tell_other_versions(counts, bundle)


def _record(counts: Imported) -> Mapping[str, object]:
    return {
        "imported": counts.new,
        "already_there": counts.known,
        "skipped": counts.failed + counts.unusable,
        "failed": counts.failed,
        "unusable": counts.unusable,
        "versions": [
            {"model": model, "revision": revision, "rows": rows}
            for (model, revision), rows in sorted(counts.versions.items())
        ],
    }


def _tell_other_versions(counts: Imported, bundle: str) -> None:
    from tunelab.encoder.bundle import find_bundle
    from tunelab.errors import BundleError

    try:
        installed = find_bundle(bundle)
    except BundleError as error:
        typer.echo(f"note: whether the rows are of the current model is not known: {error.message}", err=True)
        return
    for (model, revision), rows in sorted(counts.versions.items()):
        if (model, revision) != (installed.name, installed.revision):
            typer.echo(
                f"note: {rows} rows are of {model} (revision {revision}), not of {installed.name} (revision "
                f"{installed.revision}): they are stored, but similar tracks are searched among the latter's only",
                err=True,
            )
