"""Tables on the screen while the benchmark runs, and the same text in a file if one was asked for."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.budgets import ALL, Budget


def render(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, aligned; columns of numbers to the right.

    Raises:
        ValueError: a row has another number of cells than there are columns.
    """
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"a row of {len(row)} cells in a table of {len(columns)} columns")
    table = Table(box=box.MARKDOWN, pad_edge=True)
    for number, column in enumerate(columns):
        numeric = all(row[number][:1] in "+-0123456789" for row in rows)
        table.add_column(Text(column), justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    file = io.StringIO()
    Console(file=file, width=1000, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines() if line.strip())


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured for a budget.

    Attributes:
        value: in the unit of the budget; ``None`` if there is none.
        faults: why it must not be judged; empty if nothing speaks against it.
        what: was measured, if that can be said more exactly than the budget does.
    """

    value: float | None
    faults: tuple[str, ...]
    what: str

    def measured(self, budget: Budget) -> str:
        """Value and unit."""
        return "-" if self.value is None else f"{self.value:.3g} {budget.unit}"

    def verdict(self, budget: Budget) -> str:
        """What :meth:`Budget.verdict` says, or why nothing is said."""
        return f"NOT JUDGED: {'; '.join(self.faults)}" if self.faults else budget.verdict(self.value)


class Report:
    """Collects what was measured; prints each part as soon as it is there."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._figures: dict[str, Figure] = {}
        self._disturbed: tuple[str, ...] = ()

    def section(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *notes: str) -> None:
        """Print one table with what has to be known about it."""
        self._add("\n\n".join([f"## {title}", render(columns, rows), *notes]))

    def note(self, text: str) -> None:
        """Print a paragraph."""
        self._add(text)

    def disturb(self, why: str) -> None:
        """From now on nothing is judged, what was measured before included."""
        self._disturbed = (why,)

    def figure(self, budget: Budget, value: float | None, *, faults: Sequence[str] = (), what: str = "") -> None:
        """Keep a figure for the table of budgets; with ``faults`` it is shown, but not judged."""
        self._figures[budget.what] = Figure(value, tuple(faults), what or budget.what)

    def verdict(self, budget: Budget) -> str:
        """One line about a budget."""
        found = self._find(budget)
        measured = "" if found.value is None else f" {found.measured(budget)};"
        return f"Budget: {found.what}:{measured} must be {budget}: {found.verdict(budget)}"

    def budgets(self, *notes: str) -> None:
        """Print the table of all budgets."""
        rows = []
        for budget in ALL:
            found = self._find(budget)
            rows.append([found.what, str(budget), found.measured(budget), found.verdict(budget)])
        self.section("Budgets", ["what", "must be", "measured", "verdict"], rows, *notes)

    def write(self, path: Path) -> None:
        """Write everything printed so far as Markdown."""
        path.write_text("# Benchmark\n\n" + "\n\n".join(self._parts) + "\n", encoding="utf-8")

    def _find(self, budget: Budget) -> Figure:
        found = self._figures.get(budget.what)
        if found is None:
            return Figure(None, (), budget.what)
        return replace(found, faults=found.faults + self._disturbed)

    def _add(self, part: str) -> None:
        self._parts.append(part)
        print(f"\n{part}", flush=True)


def progress(message: str) -> None:
    """Tell on standard error what goes on."""
    print(f".. {message}", file=sys.stderr, flush=True)
