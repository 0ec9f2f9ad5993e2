"""``tunelab batch``: a whole catalogue, resumably, on Ray."""

from __future__ import annotations

import typer

commands = typer.Typer()
