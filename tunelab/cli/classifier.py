"""``tunelab classifier``: customers' own classifiers on embeddings."""

from __future__ import annotations

import typer

commands = typer.Typer(help="Your own classifiers on embeddings.", no_args_is_help=True)
