"""The track to start from, in what a batch job wrote or in a file beside it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunelab.catalog.rows import open_rows
from tunelab.catalog.sources import shown_name
from tunelab.encoder.bundle import DEFAULT_BUNDLE
from tunelab.errors import CatalogError
from tunelab.similarity.vectors import embeddings
from tunelab.types import FloatArray

if TYPE_CHECKING:
    from tunelab.encoder import EngineName


@dataclass(frozen=True, slots=True)
class Seed:
    """A track and its embedding.

    Attributes:
        content_id: SHA-256 of the bytes.
        embedding: float32, shape ``(768,)``.
        revision: of the bundle that it was computed with.
    """

    content_id: str
    embedding: FloatArray
    revision: str


def find_seed(folder: str, name: str, *, bundle: str = DEFAULT_BUNDLE, engine: EngineName = "auto") -> Seed:
    """The track that a path or content id of the output names, or the file of that name.

    A file that is in the output under whatever path is not analysed again.

    Args:
        folder: output of a batch job.
        name: path or id of a row, or path of an audio file.
        bundle: name or folder of the model bundle that analyses a file that is not in the output.
        engine: that runs it.

    Raises:
        CatalogError: there is neither such a row nor such a file, or the file cannot be read, or the output is of
            another revision of the model, or is no output.
        AudioError, BundleError, EngineError: the file has to be analysed, and cannot be.
    """
    own_id = _content_id(name) if os.path.isfile(name) else None
    shown = shown_name(name)
    revisions: set[str] = set()
    for batch in open_rows(folder, ("path", "id", "revision")):
        found = pc.or_(pc.equal(batch["path"], shown), pc.is_in(batch["id"], pa.array([shown, own_id], pa.string())))
        row = pc.index(found, True).as_py()
        if row >= 0:
            return _stored(folder, batch["path"][row].as_py())
        revisions.update(pc.unique(batch["revision"]).to_pylist())
    if own_id is None:
        raise CatalogError("there is neither a row nor a file of that name: name a path or an id as the output has it")
    return _analysed(name, own_id, bundle, engine, revisions)


def _content_id(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CatalogError(f"the file cannot be read: {error.strerror}") from None


def _stored(folder: str, path: str) -> Seed:
    for batch in open_rows(folder, ("path", "id", "embedding", "revision")):
        row = pc.index(batch["path"], path).as_py()
        if row >= 0:
            embedding = embeddings(batch["embedding"].slice(row, 1))[0].astype(np.float32)
            return Seed(batch["id"][row].as_py(), embedding, batch["revision"][row].as_py())
    raise CatalogError("the rows were replaced while they were read; try again")


def _analysed(path: str, content_id: str, bundle: str, engine: EngineName, revisions: Iterable[str]) -> Seed:
    # Loading the encoder takes a second, which a track of the output does not need.
    from tunelab.analyzer import load
    from tunelab.encoder import find_bundle

    found = find_bundle(bundle)
    if found.revision not in revisions:
        others = ", ".join(sorted(revisions)) or "none, as it has no rows"
        raise CatalogError(
            f"the output has embeddings of revision {others}, which do not compare with those of {found.name} "
            f"(revision {found.revision}): run the batch job again, or choose its bundle with --bundle"
        )
    try:
        embedding = load(bundle, engine=engine).embed(path)
    except OSError as error:
        raise CatalogError(f"the file cannot be read: {error.strerror}") from None
    return Seed(content_id, embedding, found.revision)
