"""Labels that people have: published datasets in their own formats, and any CSV.

Each loader gives :class:`Example`: a file, what is known of it in 0..1 for some of the heads, the group that must not
be torn apart by a split (an artist), and the split if the dataset has official ones. Files that do not exist are left
out.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tunelab.types import HEADS

COLUMN = {"happiness": "valence"}
"""Heads that published tables call by another name."""
SPLITS = ("train", "validation", "test")
AUDIO_SUFFIXES = (".mp3", ".flac", ".wav", ".ogg", ".opus", ".m4a", ".aac", ".webm", ".aiff")
MOODS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "energy": (
        frozenset({"energetic", "fast", "powerful", "action", "sport", "heavy"}),
        frozenset({"calm", "relaxing", "soft", "slow", "meditative", "soundscape"}),
    ),
    "happiness": (
        frozenset({"happy", "fun", "funny", "upbeat", "positive", "uplifting", "party", "summer"}),
        frozenset({"sad", "melancholic", "dark", "drama", "dramatic"}),
    ),
}
"""Head -> tags of MTG-Jamendo that stand for 1 and for 0. A track with both, or with neither, has no label."""


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled file. ``labels``: head -> 0..1; ``split``: one of :data:`SPLITS`, or ``None``."""

    path: Path
    labels: Mapping[str, float]
    group: str
    split: str | None = None


class DatasetError(ValueError):
    """A table that is not in the format that its name promises; the message says where."""


def read_csv(table: Path, audio: Path) -> list[Example]:
    """Any CSV with a column ``path`` and one or more columns named like a head (or ``valence``).

    Values are 0..1, or 0..100 when one of the column's is above 1. ``group`` (or ``artist``) and ``split`` are
    optional.

    Args:
        table: the CSV.
        audio: what relative paths are relative to.

    Raises:
        DatasetError: no such columns, or a value that is no number in range.
    """
    with _opened(table) as file:
        rows = list(csv.DictReader(file, restval=""))
    names = set(rows[0]) if rows else set()
    columns = {head: name for head in HEADS for name in (head, COLUMN.get(head, head)) if name in names}
    if "path" not in names or not columns:
        raise DatasetError(f"{table.name}: needs a column 'path' and at least one of {', '.join(HEADS)}")
    values: dict[str, list[float | None]] = {}
    for head, name in columns.items():
        column = [_number(table, line, row[name]) for line, row in enumerate(rows, start=2)]
        scale = 100.0 if any(value is not None and value > 1 for value in column) else 1.0
        values[head] = [None if value is None else value / scale for value in column]
    examples = []
    for number, row in enumerate(rows):
        labels = {head: value for head, column in values.items() if (value := column[number]) is not None}
        split = row.get("split") or None
        if split is not None and split not in SPLITS:
            raise DatasetError(f"{table.name}, line {number + 2}: split must be one of {', '.join(SPLITS)}")
        if not row["path"]:
            raise DatasetError(f"{table.name}, line {number + 2}: no path")
        path = audio / row["path"]
        examples.append(Example(path, labels, row.get("group") or row.get("artist") or str(path), split))
    return _existing(examples)


def read_fma(table: Path, audio: Path) -> list[Example]:
    """``echonest.csv`` of the FMA dataset (header of three rows); ``audio`` is a folder of ``ddd/dddddd.mp3``.

    Raises:
        DatasetError: the header is another one.
    """
    with _opened(table) as file:
        rows = csv.reader(file)
        header = [next(rows, []) for _ in range(3)]
        if len(header[2]) < 2 or header[0][1:2] != ["echonest"]:
            raise DatasetError(f"{table.name}: not the three-row header of echonest.csv")
        # The row below holds the name of the index.
        column = {name: place for place, (kind, name) in enumerate(zip(header[1], header[2], strict=True)) if kind}
        features = {name: place for name, place in column.items() if header[1][place] == "audio_features"}
        artist = next((place for place, name in enumerate(header[2]) if name == "artist_name"), None)
        if not {COLUMN.get(head, head) for head in HEADS} <= features.keys():
            raise DatasetError(f"{table.name}: the six audio features are not there")
        examples = []
        for row in rows:
            if not row or not row[0].isdecimal():
                continue
            if len(row) < len(header[0]):
                raise DatasetError(f"{table.name}, line {rows.line_num}: fewer columns than the header has")
            track = int(row[0])
            labels = _labels(table, rows.line_num, {name: row[place] for name, place in features.items()})
            group = row[artist] if artist is not None and row[artist] else str(track)
            examples.append(Example(audio / f"{track:06d}"[:3] / f"{track:06d}.mp3", labels, group))
    return _existing(examples)


def read_spotify(table: Path, audio: Path) -> list[Example]:
    """The Spotify tracks dataset of 114,000 rows, with files named by ``track_id`` in ``audio``.

    Raises:
        DatasetError: a column is missing.
    """
    with _opened(table) as file:
        rows = csv.DictReader(file, restval="")
        needed = {"track_id", "artists", *(COLUMN.get(head, head) for head in HEADS)}
        if missing := needed - set(rows.fieldnames or ()):
            raise DatasetError(f"{table.name}: columns are missing: {', '.join(sorted(missing))}")
        files = {path.stem: path for path in audio.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES}
        examples: dict[str, Example] = {}
        for row in rows:
            # A track stands there once for each of its genres.
            if (path := files.get(row["track_id"])) is not None:
                labels = _labels(table, rows.line_num, row)
                examples[row["track_id"]] = Example(path, labels, row["artists"].split(";")[0])
    return list(examples.values())


def read_jamendo(table: Path, audio: Path) -> list[Example]:
    """``autotagging_moodtheme*.tsv`` of MTG-Jamendo, whole or one of an official split's three files.

    Of a split, the other files beside it are read, too, and examples keep their part. Tags become labels as
    :data:`MOODS` says.

    Raises:
        DatasetError: it is no such table, or the split's other files are missing.
    """
    split = next((name for name in SPLITS if table.stem.endswith(f"-{name}")), None)
    if split is None:
        return _existing(_jamendo(table, audio, None))
    parts = {name: table.with_name(table.name.replace(f"-{split}.", f"-{name}.")) for name in SPLITS}
    if missing := [part.name for part in parts.values() if not part.is_file()]:
        raise DatasetError(f"{table.name} is a part of a split, and beside it there is no {' and no '.join(missing)}")
    return _existing([example for name, part in parts.items() for example in _jamendo(part, audio, name)])


def _jamendo(table: Path, audio: Path, split: str | None) -> list[Example]:
    examples = []
    with _opened(table) as file:
        header = next(file, "").rstrip("\r\n").split("\t")
        if header[:4] != ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH"]:
            raise DatasetError(f"{table.name}: not a table of MTG-Jamendo")
        for number, line in enumerate(file, start=2):
            if not line.strip():
                continue
            # The last column goes on as long as there are tags.
            columns = line.rstrip("\r\n").split("\t")
            if len(columns) < 5:
                raise DatasetError(f"{table.name}, line {number}: fewer than five columns")
            _, artist, _, path, _, *tags = columns
            names = {tag.rpartition("---")[2] for tag in tags}
            labels = {}
            for head, (high, low) in MOODS.items():
                if bool(names & high) != bool(names & low):
                    labels[head] = 1.0 if names & high else 0.0
            if labels:
                examples.append(Example(audio / path, labels, artist, split))
    return examples


def read_gtzan_speech(folder: Path, audio: Path | None = None) -> list[Example]:
    """GTZAN music/speech: ``music_wav/*.wav`` is no speech, ``speech_wav/*.wav`` is nothing else.

    Raises:
        DatasetError: the folders are not there.
    """
    examples = []
    for name, value in (("music_wav", 0.0), ("speech_wav", 1.0)):
        if not (folder / name).is_dir():
            raise DatasetError(f"no folder {name} in {folder.name}")
        examples += [Example(path, {"speechiness": value}, path.stem) for path in sorted((folder / name).glob("*.wav"))]
    return examples


LOADERS: dict[str, Callable[[Path, Path], list[Example]]] = {
    "csv": read_csv,
    "fma": read_fma,
    "spotify": read_spotify,
    "jamendo": read_jamendo,
    "gtzan-speech": read_gtzan_speech,
}
"""Name of the format -> loader, called with the table (or folder) and the folder of the audio."""


@contextmanager
def _opened(table: Path) -> Iterator[TextIO]:
    """A table as text, with a byte order mark or without; what is no such text is told."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            yield file
    except UnicodeDecodeError:
        raise DatasetError(f"{table.name}: it is not UTF-8; save it as UTF-8 first") from None
    except csv.Error as error:
        raise DatasetError(f"{table.name}: {error}") from None


def _labels(table: Path, line: int, row: Mapping[str, str]) -> dict[str, float]:
    """Labels of the heads from a row of published features, 0..1; an empty cell is none."""
    values = {head: _number(table, line, row[COLUMN.get(head, head)]) for head in HEADS}
    if too_much := [head for head, value in values.items() if value is not None and value > 1]:
        raise DatasetError(f"{table.name}, line {line}: {', '.join(too_much)} above 1")
    return {head: value for head, value in values.items() if value is not None}


def _number(table: Path, line: int, text: str | None) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise DatasetError(f"{table.name}, line {line}: {text!r} is no number from 0 to 1 or to 100")
    return value


def _existing(examples: list[Example]) -> list[Example]:
    return [example for example in examples if example.labels and example.path.is_file()]


def by_head(examples: list[Example]) -> Iterator[tuple[str, list[int]]]:
    """Head -> numbers of the examples that have a label for it; heads without any are left out."""
    for head in HEADS:
        numbers = [number for number, example in enumerate(examples) if head in example.labels]
        if numbers:
            yield head, numbers
