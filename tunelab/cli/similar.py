"""``tunelab similar``: nearest tracks in what a batch job wrote."""

from __future__ import annotations

import typer

commands = typer.Typer()
