"""``tunelab timeline``: scores along a track."""

from __future__ import annotations

import typer

commands = typer.Typer()
