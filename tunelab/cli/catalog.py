"""``tunelab catalog``: what a batch job wrote, in the service."""

from __future__ import annotations

import typer

commands = typer.Typer(help="What a batch job wrote.", no_args_is_help=True)
