"""``tunelab models``: what is installed, and how far it can be trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

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


def _heads_table(heads: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title="Held-out figures")
    for column in ("head", "shipped", "Pearson r", "95 % interval", "n", "truth"):
        table.add_column(column)
    for head, row in heads.items():
        low, high = row.get("ci95", (float("nan"), float("nan")))
        shipped = "yes" if row.get("shipped") else "no"
        r = row.get("pearson_r", float("nan"))
        interval = f"{low:.2f} to {high:.2f}"
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
