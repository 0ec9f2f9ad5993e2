"""``tunelab models``: what is installed, and how far it can be trusted."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

commands = typer.Typer(help="Model bundles.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@commands.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the installed bundles."""
    from tunelab.encoder.bundle import Bundle, list_bundles
    from tunelab.errors import BundleError

    rows: list[dict[str, Any]] = []
    for folder in list_bundles():
        try:
            card = Bundle.open(folder).card
        except BundleError as error:
            rows.append({"name": folder.name, "error": error.message})
            continue
        shipped = [head for head, row in card.get("heads", {}).items() if row.get("shipped")]
        facts = {key: card.get(key) for key in ("version", "licence")}
        rows.append({"name": folder.name, **facts, "heads": shipped})
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table()
    for column in ("name", "version", "licence", "heads"):
        table.add_column(column, overflow="fold")
    for row in rows:
        heads = row.get("heads") or [f"broken: {row['error']}" if "error" in row else "none"]
        table.add_row(str(row["name"]), str(row.get("version", "-")), str(row.get("licence", "-")), ", ".join(heads))
    Console().print(table)


@commands.command("show")
def show(name: Annotated[str, typer.Argument(help="Name or folder of a bundle.")], as_json: AsJson = False) -> None:
    """Show a bundle's model card: data, accuracy of each head, limits, licence."""
    from tunelab.encoder.bundle import find_bundle

    bundle = find_bundle(name)
    if as_json:
        typer.echo(json.dumps(bundle.card, indent=2))
        return
    card = bundle.card
    console = Console()
    console.print(f"{bundle.name} {card.get('version', '')}", style="bold")
    for key in ("summary", "licence"):
        if key in card:
            console.print(f"{key}: {card[key]}", markup=False)
    console.print(f"folder: {bundle.path}", markup=False)
    if card.get("heads"):
        console.print(_heads_table(card["heads"]))
    if card.get("listeners"):
        console.print(_listeners_table(card["listeners"]))
    for limit in card.get("limits", ()):
        console.print(f"- {limit}", markup=False)


@commands.command("pull")
def pull(
    repository: Annotated[str, typer.Argument(metavar="REPOSITORY", help="A MAEST checkpoint, as owner/name.")],
    revision: Annotated[str, typer.Option(help="Branch, tag or commit; the commit goes into the card.")] = "main",
    layer: Annotated[int, typer.Option(min=0, max=47, help="Index of the last block to keep.")] = 6,
    pooling: Annotated[Literal["cls", "dist", "mean"], typer.Option(help="How the embedding is read.")] = "cls",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The bundle's folder; by default among the user's models.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the bundle that is there, with all in it.")] = False,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the licence of the weights without being asked.")
    ] = False,
) -> None:
    """Make a bundle of a published MAEST checkpoint on the Hugging Face hub: its encoder, without heads.

    For example mtg-upf/discogs-maest-30s-pw-129e. Only safetensors are loaded, no pickles and no code. The weights are
    under a licence of their authors, which is shown and must be accepted.
    """
    from tunelab.encoder import pull as pulling
    from tunelab.errors import SettingsError

    repository = pulling.full_name(repository)
    target = (out or pulling.default_target(repository)).expanduser().resolve()
    pulling.check_target(target, force=force)
    if not accept_licence and not _at_a_terminal():
        raise SettingsError(
            "nothing was downloaded: the licence of the weights (the published ones: CC BY-NC-SA 4.0, not for "
            "commercial use) must be accepted at a terminal, or with --accept-licence"
        )
    checkpoint = pulling.find_checkpoint(repository, revision)
    typer.echo(f"{repository} at commit {checkpoint.commit}, {checkpoint.size / 1e6:.0f} MB")
    terms = f", {checkpoint.terms}" if checkpoint.terms else "; see its page on the hub"
    typer.echo(f"Licence of the weights: {checkpoint.licence}{terms}.")
    if not accept_licence and not typer.confirm("Do you accept this licence?"):
        typer.echo("nothing was downloaded", err=True)
        raise typer.Exit(1)
    bundle = pulling.pull(checkpoint, target, layer=layer, pooling=pooling, force=force)
    typer.echo(f"wrote {bundle.path}")
    typer.echo(f"the same again: {bundle.card['reproduce'][0]}")
    typer.echo(f"It has no heads yet: `tunelab train --encoder {out or bundle.name}` makes them.")


@commands.command("patchout")
def patchout(
    name: Annotated[str, typer.Argument(help="Name or folder of a bundle with heads.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new bundle's folder.")],
) -> None:
    """Make a copy of a bundle that leaves out every second time patch: quicker, a little less accurate.

    For CPUs that have neither 8-bit integers nor bfloat16. Its scores are not those of the whole bundle: do not mix
    the two in one catalogue. The new card has the accuracy that was measured so.
    """
    from tunelab.encoder.bundle import find_bundle
    from tunelab.training.patchout import leave_out_patches

    bundle = leave_out_patches(find_bundle(name), out.expanduser().resolve())
    for head, row in bundle.card["heads"].items():
        typer.echo(f"{head:17} r {row['pearson_r']:.3f} {'shipped' if row['shipped'] else 'dropped'}")
    typer.echo(f"wrote {bundle.path}")


def _at_a_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()


def _heads_table(heads: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title="Held-out figures")
    for column in ("head", "shipped", "Pearson r", "95 % interval", "n", "truth"):
        table.add_column(column)
    for head, row in heads.items():
        shipped = "yes" if row.get("shipped") else "no"
        r = row.get("pearson_r", float("nan"))
        # A head that was dropped long ago has a figure and no interval.
        interval = "{:.2f} to {:.2f}".format(*row["ci95"]) if "ci95" in row else "-"
        table.add_row(head, shipped, f"{r:.2f}", interval, str(row.get("n", "-")), str(row.get("truth", "-")))
    return table


def _listeners_table(rows: list[Mapping[str, Any]]) -> Table:
    table = Table(title="Real songs, judged by listeners")
    for column in ("head", "measure", "value", "95 % interval", "n", "vibenet 0.1.0"):
        table.add_column(column)
    for row in rows:
        low, high = row["ci95"]
        values = (f"{row['value']:.3f}", f"{low:.3f} to {high:.3f}", str(row["n"]), f"{row['vibenet']:.3f}")
        table.add_row(row["head"], row["measure"], *values)
    return table
