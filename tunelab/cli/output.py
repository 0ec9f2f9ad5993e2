"""How ``tunelab analyze`` prints: a table for people, JSON, JSON Lines or CSV for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tunelab.analyzer import Outcome
from tunelab.errors import TuneLabError
from tunelab.types import percent

FORMATS = ("table", "json", "jsonl", "csv")


class Writer(Protocol):
    """Takes outcomes one by one; what can be printed at once is printed at once."""

    def write(self, outcome: Outcome) -> None: ...

    def close(self) -> None: ...


def make_writer(name: str, heads: Sequence[str], model: str, out: TextIO | None = None) -> Writer:
    """A writer of one of :data:`FORMATS`.

    Raises:
        ValueError: no such format.
    """
    stream = out or sys.stdout
    match name:
        case "table":
            return _TableWriter(heads, stream)
        case "json":
            return _JsonWriter(stream)
        case "jsonl":
            return _JsonLinesWriter(stream)
        case "csv":
            return _CsvWriter(heads, model, stream)
    raise ValueError(f"unknown format {name!r}; choose from {', '.join(FORMATS)}")


def reason(error: TuneLabError | OSError) -> tuple[str, str]:
    """Code and message of a failure."""
    if isinstance(error, TuneLabError):
        return error.code, error.message
    return "file_unreadable", error.strerror or type(error).__name__


def record(outcome: Outcome) -> dict[str, Any]:
    """One JSON object a file: scores, or the error."""
    if outcome.analysis is None:
        assert outcome.error is not None  # noqa: S101  one of the two is there
        code, message = reason(outcome.error)
        return {"path": outcome.path, "error": {"code": code, "message": message}}
    analysis = outcome.analysis
    return {
        "path": outcome.path,
        **percent(analysis.scores),
        "duration_s": round(analysis.duration_s, 3),
        "model": analysis.model,
    }


class _JsonLinesWriter:
    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, outcome: Outcome) -> None:
        self._out.write(json.dumps(record(outcome)) + "\n")
        self._out.flush()

    def close(self) -> None:
        pass


class _JsonWriter:
    """One array; its elements are written as they come."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._count = 0

    def write(self, outcome: Outcome) -> None:
        self._out.write(("[\n  " if self._count == 0 else ",\n  ") + json.dumps(record(outcome)))
        self._count += 1

    def close(self) -> None:
        self._out.write("\n]\n" if self._count else "[]\n")


class _CsvWriter:
    def __init__(self, heads: Sequence[str], model: str, out: TextIO) -> None:
        columns = ["path", *heads, "duration_s", "model", "error_code", "error"]
        self._rows = csv.DictWriter(out, columns, lineterminator="\n")
        self._rows.writeheader()
        self._model = model

    def write(self, outcome: Outcome) -> None:
        row = record(outcome)
        if "error" in row:
            error = row.pop("error")
            row |= {"model": self._model, "error_code": error["code"], "error": error["message"]}
        self._rows.writerow(row)

    def close(self) -> None:
        pass


class _TableWriter:
    def __init__(self, heads: Sequence[str], out: TextIO) -> None:
        self._console = Console(file=out)
        self._heads = heads
        self._table = Table()
        self._table.add_column("file", overflow="fold")
        for head in heads:
            self._table.add_column(head, justify="right")
        self._failed: list[Outcome] = []

    def write(self, outcome: Outcome) -> None:
        if outcome.analysis is None:
            self._failed.append(outcome)
            return
        scores = percent(outcome.analysis.scores)
        # As Text: a file name may hold what rich takes for markup.
        self._table.add_row(Text(outcome.path), *(str(scores[head]) for head in self._heads))

    def close(self) -> None:
        if self._table.row_count:
            self._console.print(self._table)
        for outcome in self._failed:
            assert outcome.error is not None  # noqa: S101  these failed
            self._console.print(Text(f"failed: {outcome.path}: {reason(outcome.error)[1]}", style="red"))
