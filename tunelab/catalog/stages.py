"""The two stages of a job as Ray Data runs them: plain classes, the same code on a track as everywhere else."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from tunelab.audio.decode import DecodeLimits
from tunelab.audio.extract import MelExtractor
from tunelab.catalog.filesystems import find_file, is_uri
from tunelab.catalog.schema import SCHEMA
from tunelab.catalog.sources import local_name
from tunelab.encoder import Bundle, EngineName, find_bundle, load_engine
from tunelab.errors import AudioTooLarge, BundleInvalid, TuneLabError, UnsupportedAudio
from tunelab.heads import load_heads
from tunelab.types import EMBEDDING_SIZE, HEADS, Features, FloatArray, content_id

MEL = "mel"
_PIECE = 1 << 20
_HALF_LIMIT = 65504.0
"""The largest float16."""
UNREADABLE = "file_unreadable"
"""Code of a file that is not there, or may not be opened."""
STORAGE = "storage_failed"
"""Code of a file that could not be read because of what it is on: a network, a service, a disk. The next run tries it
again by itself."""
INTERNAL = "internal_error"
"""Code of a file at which a library failed in a way that nobody foresaw."""
WORKER_DIED = "worker_died"
"""Code of a file that took its decoder's process with it again and again."""
_TRIES = 3
_FILE_AT_FAULT = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG)
)


class Attempts:
    """How often each file was begun and not ended. One actor of Ray, asked by all decoders.

    Ray gives the files of a decoder that died to the next one: a file that kills its decoder would go round for ever.
    """

    def __init__(self) -> None:
        self._begun: dict[str, int] = {}

    def begin(self, path: str) -> int:
        """Count one more attempt; how many there are now."""
        self._begun[path] = self._begun.get(path, 0) + 1
        return self._begun[path]

    def end(self, path: str) -> None:
        """The process lives: forget the file."""
        self._begun.pop(path, None)


class DecodeStage:
    """Paths -> log-mel windows, or what is wrong with a file. It never raises for a file.

    Args:
        bundle: name or path of the bundle.
        revision: that it must have.
        limits: what is refused.
        attempts: handle of an actor of :class:`Attempts`.
        folder: what relative paths start from: where the job began, which need not be where a worker runs.

    Raises:
        BundleError: there is no such bundle here.
    """

    def __init__(self, bundle: str, revision: str, limits: DecodeLimits, attempts: Any, folder: str) -> None:
        self._extract = MelExtractor(_open(bundle, revision).mel, limits)
        self._limits, self._attempts, self._folder = limits, attempts, folder

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Decode a batch of rows of the manifest, one row at a time."""
        for row in batch.to_pylist():
            if self._begin(row["path"]) > _TRIES:
                yield _row(row, error=(WORKER_DIED, f"decoding it ended the process {_TRIES} times"))
                continue
            yield self._decode(row)
            self._attempts.end.remote(row["path"])

    def _begin(self, path: str) -> int:
        import ray

        try:
            count: int = ray.get(self._attempts.begin.remote(path))
            return count
        except ray.exceptions.RayActorError:
            return 1  # who counts is gone: the job goes on without

    def _decode(self, row: dict[str, Any]) -> pa.Table:
        identity = None
        try:
            source, identity = self._read(row["path"], row["raw"])
            return _row(row, identity, self._extract(source))
        except Exception as error:
            # Whatever it is, the other files of the batch, and the job, do not suffer from it.
            return _row(row, identity, error=_reason(error))

    def _read(self, path: str, raw: bytes | None) -> tuple[bytes | str, str]:
        """What the decoder takes, and the file's identity."""
        name = local_name(path, raw)
        if raw is None and is_uri(path):
            files, name = find_file(path)
            if not isinstance(files, pafs.LocalFileSystem):
                data = self._fetch(files, name)
                return data, content_id(data)
        name = os.path.join(self._folder, name)
        if os.path.exists(name) and not os.path.isfile(name):
            # A pipe, say: opening it would wait for ever.
            raise UnsupportedAudio("not a regular file")
        with open(name, "rb") as file:
            return name, hashlib.file_digest(file, "sha256").hexdigest()

    def _fetch(self, files: pafs.FileSystem, path: str) -> bytes:
        limit, pieces, size = self._limits.max_bytes, [], 0
        # As it is stored: by default pyarrow unpacks what is named *.gz, and the hash would not be the file's.
        with files.open_input_stream(path, compression=None) as stream:
            while piece := stream.read(_PIECE):
                size += len(piece)
                if limit is not None and size > limit:
                    raise AudioTooLarge(f"the file is larger than {limit} bytes")
                pieces.append(piece)
        return b"".join(pieces)


def _row(
    row: dict[str, Any],
    identity: str | None = None,
    features: Features | None = None,
    error: tuple[str | None, str | None] = (None, None),
) -> pa.Table:
    return pa.table(
        {
            "path": [row["path"]],
            "size": [row["size"]],
            "mtime_ns": [row["mtime_ns"]],
            "id": pa.array([identity], pa.string()),
            "duration_s": pa.array([None if features is None else features.duration_s], pa.float32()),
            "error_code": pa.array([error[0]], pa.string()),
            "error": pa.array([error[1]], pa.string()),
            MEL: pa.array([None if features is None else features.mel.ravel()], pa.large_list(pa.float32())),
        }
    )


def _open(bundle: str, revision: str) -> Bundle:
    opened = find_bundle(bundle)
    if opened.revision != revision:
        # Its rows would stand among those of the other one.
        raise BundleInvalid(f"{opened.name} has revision {opened.revision} here, and {revision} where the job began")
    return opened


class EncodeStage:
    """Log-mel windows -> rows of :data:`tunelab.catalog.schema.SCHEMA`; rows with an error pass through.

    Args:
        bundle: name or path of the bundle.
        revision: that it must have.
        engine: ``auto``, ``openvino`` or ``torch``.
        threads: CPU threads; ``None``: every core that the process may use.
        precision: ``auto``, ``f32``, ``bf16`` or ``int8``.

    Raises:
        BundleError: there is no such bundle here.
        EngineError: the engine cannot start here.
    """

    def __init__(self, bundle: str, revision: str, engine: EngineName, threads: int | None, precision: str) -> None:
        opened = _open(bundle, revision)
        self._model, self._revision = opened.name, opened.revision
        self._shape = (opened.mel.max_length, opened.mel.num_mel_bins)
        self._encode = load_engine(opened, engine, threads=threads, precision=precision)
        self._score = load_heads(opened)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Encode and score a batch."""
        mels = batch[MEL].combine_chunks()
        good = np.flatnonzero(np.asarray(mels.is_valid()))
        stacked = np.stack([self._mel(mels[index]) for index in good]) if good.size else None
        embeddings = self._encode(stacked) if stacked is not None else np.zeros((0, EMBEDDING_SIZE), np.float32)
        count = batch.num_rows
        vectors: list[FloatArray | None] = [None] * count
        scores: list[dict[str, float]] = [{} for _ in range(count)]
        for index, embedding in zip(good, embeddings, strict=True):
            vectors[index] = np.clip(embedding, -_HALF_LIMIT, _HALF_LIMIT).astype(np.float16)
            scores[index] = dict(self._score(embedding))
        columns = {name: batch[name] for name in batch.column_names if name != MEL}
        columns |= {head: pa.array([row.get(head) for row in scores], pa.float32()) for head in HEADS}
        columns["embedding"] = pa.array(vectors, SCHEMA.field("embedding").type)
        columns["model"] = pa.array([self._model] * count, pa.string())
        columns["revision"] = pa.array([self._revision] * count, pa.string())
        return pa.table({name: columns[name] for name in SCHEMA.names}).cast(SCHEMA)

    def _mel(self, row: pa.Scalar) -> FloatArray:
        mel: FloatArray = row.values.to_numpy(zero_copy_only=True).reshape(self._shape)
        return mel


def _reason(error: Exception) -> tuple[str, str]:
    """Code and message of what happened to a file; the message without paths of the machine."""
    if isinstance(error, TuneLabError):
        return error.code, error.message
    if isinstance(error, OSError) and error.errno:
        return UNREADABLE if error.errno in _FILE_AT_FAULT else STORAGE, os.strerror(error.errno)
    text = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
    if isinstance(error, OSError):  # from a library that knows no number
        return STORAGE, text
    if isinstance(error, (ValueError, NotImplementedError)):  # no such filesystem, no such name
        return UNREADABLE, text
    return INTERNAL, f"{type(error).__name__}: {text}"
