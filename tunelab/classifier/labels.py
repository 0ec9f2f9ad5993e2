"""Labels as people keep them: a CSV of tracks and classes, checked before anything is trained."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tunelab.classifier.model import LABEL_PATTERN, MAX_CLASSES, Kind
from tunelab.errors import ClassifierError

SEPARATOR = "|"
LEAST_EXAMPLES = 4
"""Fewer tracks than this make no class: two to train on, and one on either of the other sides of the split."""

_LABEL = re.compile(LABEL_PATTERN)


@dataclass(frozen=True, slots=True)
class Labels:
    """Labelled tracks.

    Attributes:
        kind: whether a track has one class or any number of labels.
        keys: what names each track.
        names: its class, or its labels.
        groups: what must stay on one side of the split (an artist, an album); ``None``: every track for itself.
        column: where the keys come from; ``None``: they are the numbers of the rows, from 0.
        rows: of the table, those without a class counted.
        unlabelled: rows that were left out because they have no class.
    """

    kind: Kind
    keys: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    groups: tuple[str, ...] | None = None
    column: str | None = None
    rows: int = 0
    unlabelled: int = 0

    def take(self, places: Sequence[int]) -> Labels:
        """The tracks at those places, in that order."""
        groups = None if self.groups is None else tuple(self.groups[place] for place in places)
        keys, names = tuple(self.keys[place] for place in places), tuple(self.names[place] for place in places)
        return replace(self, keys=keys, names=names, groups=groups)


def from_mapping(labels: Mapping[str, str | Sequence[str]]) -> Labels:
    """Labels by track; a list anywhere means that a track may have any number of them."""
    kind: Kind = "multiclass" if all(isinstance(value, str) for value in labels.values()) else "multilabel"
    names = ((value,) if isinstance(value, str) else tuple(dict.fromkeys(value)) for value in labels.values())
    return Labels(kind, tuple(labels), tuple(names))


def targets(labels: Labels) -> tuple[tuple[str, ...], npt.NDArray[np.bool_]]:
    """The classes by name, and which track has which, shape ``(n, classes)``.

    Raises:
        ClassifierError: fewer than two classes (or no label at all), more than 200, a class with fewer than 4 tracks,
            or a label that fewer than 4 tracks lack.
    """
    counts: dict[str, int] = {}
    for names in labels.names:
        for name in names:
            counts[name] = counts.get(name, 0) + 1
    if len(counts) < (2 if labels.kind == "multiclass" else 1):
        raise ClassifierError(f"a classifier needs at least 2 classes; the labelled tracks have {len(counts)}")
    if len(counts) > MAX_CLASSES:
        raise ClassifierError(f"a classifier may have {MAX_CLASSES} classes; the labelled tracks have {len(counts)}")
    few = {name: count for name, count in counts.items() if count < LEAST_EXAMPLES}
    if few:
        raise ClassifierError(f"every class needs at least {LEAST_EXAMPLES} tracks; too few: {_listed(few)}")
    if labels.kind == "multilabel":
        few = {name: lack for name, count in counts.items() if (lack := len(labels.names) - count) < LEAST_EXAMPLES}
        if few:
            raise ClassifierError(f"at least {LEAST_EXAMPLES} tracks must lack a label; too few lack: {_listed(few)}")
    classes = tuple(sorted(counts))
    place = {name: number for number, name in enumerate(classes)}
    has = np.zeros((len(labels.names), len(classes)), np.bool_)
    for row, names in enumerate(labels.names):
        has[row, [place[name] for name in names]] = True
    return classes, has


def _listed(counts: Mapping[str, int], most: int = 5) -> str:
    shown = [f"{name!r} ({count})" for name, count in sorted(counts.items())[:most]]
    return ", ".join(shown) + (f" and {len(counts) - most} more" if len(counts) > most else "")


def read_labels(table: Path, columns: Sequence[str], *, multilabel: bool | None = None) -> Labels:
    """Read a CSV with a column ``label``, one that names the track, and perhaps ``group``.

    A track may stand in several rows. Where a track may have several labels they are separated by ``|`` or stand in
    rows of their own, and an empty cell means none of them; otherwise a row with an empty cell is left out.

    Args:
        table: the CSV, UTF-8.
        columns: that may name the track, the best first; with ``row`` among them, a table without any of them is
            taken to be in the order of an array.
        multilabel: whether a track may have several; ``None``: if there is a ``|`` in a label.

    Raises:
        ClassifierError: it cannot be read, a column is missing, a label is no line of 1 to 100 characters, a track
            has two classes or two groups.
    """
    rows = list(_rows(table))
    there = set(rows[0][1]) if rows else set()
    column = next((name for name in columns if name in there), None)
    if "label" not in there or (column is None and "row" not in columns):
        wanted = " or ".join(repr(name) for name in columns)
        raise ClassifierError(f"{table.name}: needs the columns 'label' and {wanted}, and a row for each track")
    several = any(SEPARATOR in row["label"] for _, row in rows) if multilabel is None else multilabel
    found: dict[str, dict[str, None]] = {}
    groups: dict[str, str] = {}
    unlabelled = 0
    for number, (line, row) in enumerate(rows):
        place = f"{table.name}, line {line}"
        key = str(number) if column is None else row[column].strip()
        if not key:
            raise ClassifierError(f"{place}: {column!r} is empty")
        labels = [part.strip() for part in row["label"].split(SEPARATOR)] if several else [row["label"].strip()]
        labels = [_checked(label, place) for label in labels if label]
        if not labels and not several:
            unlabelled += 1
            continue
        have = found.setdefault(key, {})
        have.update(dict.fromkeys(labels))
        if len(have) > 1 and not several:
            both = " and ".join(repr(label) for label in list(have)[:2])
            raise ClassifierError(f"{place}: {key!r} is both {both}; --multi-label allows several labels a track")
        group = row.get("group", "").strip() or key
        if groups.setdefault(key, group) != group:
            raise ClassifierError(f"{place}: {key!r} is in two groups")
    kind: Kind = "multilabel" if several else "multiclass"
    names = tuple(tuple(labels) for labels in found.values())
    grouped = tuple(groups.values()) if "group" in there else None
    return Labels(kind, tuple(found), names, grouped, column, len(rows), unlabelled)


def _checked(label: str, place: str) -> str:
    if not _LABEL.fullmatch(label):
        raise ClassifierError(f"{place}: a label is one line of 1 to 100 characters")
    return label


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Number of the last line, and the cells by column; missing cells are empty."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            for row in reader:
                if None in row:
                    raise ClassifierError(f"{table.name}, line {reader.line_num}: more cells than columns")
                yield reader.line_num, row
    except OSError as error:
        raise ClassifierError(f"{table.name} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise ClassifierError(f"{table.name} is no CSV in UTF-8") from None
