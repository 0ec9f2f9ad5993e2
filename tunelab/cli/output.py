"""How ``tunelab analyze`` prints: a table for people, JSON, JSON Lines or CSV for programs."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any, Protocol, TextIO

import typer
from rich.cells import cell_len
from rich.console import Console

from tunelab.analyzer import Outcome
from tunelab.errors import TuneLabError
from tunelab.types import percent

FORMATS = ("table", "json", "jsonl", "csv")

_HEADINGS = {
    "energy": "energy",
    "danceability": "dance",
    "happiness": "happy",
    "acousticness": "acoust",
    "instrumentalness": "instr",
    "speechiness": "speech",
}
"""Short enough for six scores and a file name in 80 columns."""
_GAP = "  "
_LEAST_NAME = 12
"""Columns that a file name gets in however narrow a terminal."""


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
    if isinstance(stream, io.TextIOWrapper):
        # Not every terminal's encoding has every file name's letters.
        stream.reconfigure(errors="backslashreplace")
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


def printable(text: str) -> str:
    """A file name as it can be printed: control characters, and bytes that are no UTF-8, as ``\\x1b``."""
    return "".join(_escape(char) if unicodedata.category(char) in ("Cc", "Cs") else char for char in text)


def _escape(char: str) -> str:
    code = ord(char)
    # Python stands U+DC80 to U+DCFF for the bytes 80 to FF of a name that it cannot decode.
    byte = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code
    return f"\\x{byte:02x}" if byte < 0x100 else f"\\u{code:04x}"


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
        self._begun = False
        self._model = model

    def write(self, outcome: Outcome) -> None:
        self._begin()
        row = record(outcome)
        # Line breaks and the like may stay, they are quoted; a lone surrogate is no text.
        row["path"] = "".join(_escape(char) if unicodedata.category(char) == "Cs" else char for char in row["path"])
        if "error" in row:
            error = row.pop("error")
            row |= {"model": self._model, "error_code": error["code"], "error": error["message"]}
        self._rows.writerow(row)

    def close(self) -> None:
        self._begin()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._rows.writeheader()


class _TableWriter:
    """Columns without borders; the widest is the file name, which is cut at its start if the terminal is too narrow."""

    def __init__(self, heads: Sequence[str], out: TextIO) -> None:
        self._out = out
        self._heads = heads
        self._rows: list[tuple[str, dict[str, int]]] = []
        self._failed: list[str] = []

    def write(self, outcome: Outcome) -> None:
        path = printable(outcome.path)
        if outcome.analysis is not None:
            self._rows.append((path, percent(outcome.analysis.scores)))
        else:
            assert outcome.error is not None  # noqa: S101  one of the two is there
            self._failed.append(f"failed: {path}: {printable(reason(outcome.error)[1])}")

    def close(self) -> None:
        console = Console(file=self._out)
        headings = [_HEADINGS.get(head, head) for head in self._heads]
        widths = [max(len(heading), len("100")) for heading in headings]
        name_width = max((cell_len(path) for path, _ in self._rows), default=0)
        if console.is_terminal or "COLUMNS" in os.environ:  # in a file or a pipe, names stay whole
            name_width = min(name_width, max(_LEAST_NAME, console.width - sum(widths) - len(_GAP) * len(widths)))
        name_width = max(name_width, len("file"))

        def print_row(name: str, cells: Sequence[str]) -> None:
            name = _cut(name, name_width)
            padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
            self._out.write(_GAP.join([name + " " * (name_width - cell_len(name)), *padded]).rstrip() + "\n")

        if self._rows:
            print_row("file", headings)
        for path, scores in self._rows:
            print_row(path, [str(scores[head]) for head in self._heads])
        for line in self._failed:
            self._out.write((typer.style(line, fg="red") if console.color_system else line) + "\n")
        self._out.flush()


def _cut(text: str, width: int) -> str:
    """The end of a text, at most ``width`` columns of a terminal."""
    if cell_len(text) <= width:
        return text
    used, begin = 1, len(text)
    while begin and used + cell_len(text[begin - 1]) <= width:
        begin -= 1
        used += cell_len(text[begin])
    return "…" + text[begin:]
