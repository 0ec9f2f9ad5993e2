"""A report in words and as JSON: figures against listeners and, where a run is at hand, against held-out labels."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunelab.encoder.bundle import Bundle

Rows = list[dict[str, Any]]
NOTEWORTHY = 0.005
"""A difference between a card's r and the measured one that no rounding explains."""


def lines(listeners: Rows, held_out: Rows) -> Iterator[str]:
    """One line of text for each row of ``listener_figures`` and of ``held_out_figures``."""
    for row in listeners:
        figure = with_interval(row)
        yield f"{row['head']:17} {figure}, vibenet {row['vibenet']:.3f}  {row['measure']}"
    for row in held_out:
        figures = ", ".join(f"{name} {with_interval(figure)}" for name, figure in row["measures"].items())
        yield f"{row['head']:17} {figures}  held-out labels, n = {row['n']}"


def mean_lines(means: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """One line of text for each kind of ``means_by_kind``."""
    for kind, row in means.items():
        points = ", ".join(f"{head} {value:.0f}" for head, value in row.items() if head != "n")
        yield f"{kind:17} {points}  mean points, n = {row['n']}"


def with_interval(figure: Mapping[str, Any]) -> str:
    """``0.595 [0.521, 0.665]``."""
    return f"{figure['value']:.3f} [{figure['ci95'][0]:.3f}, {figure['ci95'][1]:.3f}]"


def contradictions(card: Mapping[str, Any], held_out: Rows) -> Iterator[str]:
    """Heads whose held-out r is not what the card says: the run, or the labels, are not those that made the bundle."""
    for row in held_out:
        stated = card.get("heads", {}).get(row["head"], {}).get("pearson_r")
        measured = row["measures"]["pearson_r"]["value"]
        if stated is not None and not abs(stated - measured) <= NOTEWORTHY:
            yield f"{row['head']}: r = {measured:.3f} here, {stated:.3f} in the card: other clips or other labels"


def write_report(path: Path, bundle: Bundle, listeners: Rows, held_out: Rows) -> None:
    """Write all rows as JSON; what is not defined is ``null``."""
    report = {
        "bundle": bundle.name,
        "version": bundle.card.get("version"),
        "revision": bundle.revision,
        "listeners": listeners,
        "held_out": held_out,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_defined(report), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _defined(value: Any) -> Any:
    """The same with ``None`` for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _defined(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
