"""Embeddings as people have them: an array, or what a batch job wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.format import MAGIC_PREFIX

from tunelab.classifier.labels import Labels, read_labels
from tunelab.encoder.bundle import find_bundle
from tunelab.errors import ClassifierError
from tunelab.groups import joined
from tunelab.types import EMBEDDING_SIZE, FloatArray

_ROWS = 4096
"""Rows of an array that are read at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Labelled tracks that have an embedding.

    Attributes:
        labels: of them.
        embeddings: float32, shape ``(n, width)``, in the same order.
        model: bundle that made the embeddings.
        revision: of it.
        missing: labelled tracks without an embedding, by the names that the labels gave them.
    """

    labels: Labels
    embeddings: FloatArray
    model: str
    revision: str
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Some tracks of a source: what names each, and their embeddings, shape ``(n, width)``.

    ``names`` are columns of an answer: ``row``, or ``path`` and ``id``. ``model`` and ``revision`` are empty where the
    source does not tell.
    """

    names: list[Mapping[str, Any]]
    embeddings: npt.NDArray[np.floating[Any]]
    model: str = ""
    revision: str = ""


def is_array(source: str) -> bool:
    """Whether it is taken for a ``.npy`` file, and not for the output folder of a batch job."""
    return source.lower().endswith(".npy") and not Path(source).is_dir()


def labelled(table: Path, source: str, *, bundle: str, multilabel: bool | None = None) -> Labelled:
    """Join labels with embeddings.

    Args:
        table: see :func:`~tunelab.classifier.labels.read_labels`; for a batch job with a column ``id`` or ``path``,
            for an array with a column ``row`` (from 0), or with its rows in the order of the array.
        source: ``.npy`` of shape ``(n, width)``, or the output folder of a batch job, which may be a URI.
        bundle: which made the embeddings of an array; a batch job's output tells itself.
        multilabel: whether a track may have several labels; ``None``: if the labels say so.

    Raises:
        ClassifierError: table or array cannot be used, or the embeddings are of several models.
        CatalogError: the folder is no output of a batch job.
        BundleError: there is no such bundle.
    """
    if is_array(source):
        return _from_array(read_labels(table, ("row",), multilabel=multilabel), Path(source), bundle)
    return _from_job(read_labels(table, ("id", "path"), multilabel=multilabel), source)


def all_rows(source: str) -> Iterator[Rows]:
    """Every track of an array or a batch job, some at a time.

    Raises:
        ClassifierError, CatalogError: it cannot be read.
    """
    if is_array(source):
        array = _open_array(Path(source))
        for begin in range(0, len(array), _ROWS):
            part = np.asarray(array[begin : begin + _ROWS])
            yield Rows([{"row": begin + number} for number in range(len(part))], part)
        return
    from tunelab.catalog.rows import open_rows

    for batch in open_rows(source, ["path", "id", "embedding", "model", "revision"]):
        made_by = set(zip(batch["model"].to_pylist(), batch["revision"].to_pylist(), strict=True))
        if len(made_by) > 1:
            raise _several(made_by)
        vectors = batch["embedding"].flatten().to_numpy(zero_copy_only=False).reshape(batch.num_rows, -1)
        yield Rows(batch.select(["path", "id"]).to_pylist(), vectors, *made_by.pop())


def _from_array(labels: Labels, source: Path, bundle: str) -> Labelled:
    array = _open_array(source)
    if labels.column is None and labels.rows != len(array):
        raise ClassifierError(
            f"{source.name} has {len(array)} rows and the labels have {labels.rows}; without a column 'row' they must "
            "be the same tracks in the same order"
        )
    found = find_bundle(bundle)
    there = [place for place, key in enumerate(labels.keys) if _row(key) < len(array)]
    missing = tuple(key for key in labels.keys if _row(key) >= len(array))
    with np.errstate(over="ignore"):  # what single precision cannot hold is refused as not finite
        vectors = np.asarray(array[[_row(labels.keys[place]) for place in there]], np.float32)
    return Labelled(labels.take(there), vectors, found.name, found.revision, missing)


def _row(key: str) -> int:
    if not (key.isascii() and key.isdigit()) or len(key) > 18:
        raise ClassifierError(f"{key!r} is no row of an array; rows are counted from 0")
    return int(key)


def _from_job(labels: Labels, source: str) -> Labelled:
    wanted = dict(zip(labels.keys, range(len(labels.keys)), strict=True))
    if labels.column == "path":
        # A table may name a file from another folder than the job did.
        for number, key in enumerate(labels.keys):
            wanted.setdefault(os.path.abspath(key), number)
    vectors: dict[int, FloatArray] = {}
    ids: dict[int, str] = {}
    made_by: set[tuple[str, str]] = set()
    for rows in all_rows(source):
        for name, vector in zip(rows.names, rows.embeddings, strict=True):
            key = name[str(labels.column)]
            place: int | None = wanted.get(key)
            if place is None and labels.column == "path" and "://" not in key:
                place = wanted.get(os.path.abspath(key))
            if place is not None and place not in vectors:
                vectors[place] = vector.astype(np.float32)
                ids[place] = str(name["id"])
                made_by.add((rows.model, rows.revision))
    if len(made_by) > 1:
        raise _several(made_by)
    there = sorted(vectors)
    missing = tuple(key for place, key in enumerate(labels.keys) if place not in vectors)
    model, revision = made_by.pop() if made_by else ("", "")
    embeddings = np.stack([vectors[place] for place in there]) if there else np.zeros((0, EMBEDDING_SIZE), np.float32)
    taken = _copies_together(labels.take(there), [ids[place] for place in there])
    return Labelled(taken, embeddings, model, revision, missing)


def _copies_together(labels: Labels, ids: list[str]) -> Labels:
    """A table may name copies of a file: they are of one group, or what is measured would have been trained on."""
    if labels.groups is not None:
        return replace(labels, groups=tuple(joined(labels.groups, ids)))
    return labels if len(set(ids)) == len(ids) else replace(labels, groups=tuple(ids))


def _open_array(source: Path) -> npt.NDArray[np.floating[Any]]:
    try:
        with source.open("rb") as file:
            if file.read(len(MAGIC_PREFIX)) != MAGIC_PREFIX:  # archives and pickles are not even looked into
                raise ValueError
        array = np.load(source, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise ClassifierError(f"{source.name} cannot be read: {error.strerror or 'it is empty'}") from None
    except (ValueError, EOFError, OverflowError, SyntaxError, TokenError):
        # What NumPy says of a header that is damaged, or that somebody made up.
        raise ClassifierError(f"{source.name} is no array of NumPy's .npy format") from None
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise ClassifierError(f"{source.name} must hold floating-point numbers, one row of them a track")
    return array


def _several(made_by: set[tuple[str, str]]) -> ClassifierError:
    names = " and ".join(f"{model} (revision {revision})" for model, revision in sorted(made_by)[:2])
    return ClassifierError(f"the embeddings are of several models: {names}; a classifier reads those of one")
