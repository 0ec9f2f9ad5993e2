"""Loading what a batch job wrote into an account's tracks: an operator's work, which takes no credits."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from pgvector import HalfVector
from pgvector.psycopg import register_vector
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from tunelab.service.accounts import find_account
from tunelab.service.database import open_database
from tunelab.service.errors import DatabaseUnavailable
from tunelab.settings import Settings
from tunelab.similarity.vectors import embeddings
from tunelab.types import HEADS

TRANSACTION_ROWS = 500
"""Rows in one transaction: about 2 s, for which an analysis of the same content waits; it would give up after 5 s."""

_COLUMNS = ("content_id", "model", "revision", *HEADS, "duration_s", "embedding", "embedding_f32")
_TYPES = ("text", "text", "text", *("float8" for _ in HEADS), "float8", "halfvec", "bytea")
_LONGEST_NAME = 200
_LIST = ", ".join(_COLUMNS)
_TEMPORARY = text(f"CREATE TEMP TABLE incoming ON COMMIT DELETE ROWS AS SELECT {_LIST} FROM tracks WITH NO DATA")  # noqa: S608
_COPY = f"COPY incoming ({_LIST}) FROM STDIN (FORMAT BINARY)"
# In order, so that two imports at once wait for each other's rows in turn and never crosswise.
_INSERT = text(
    f"INSERT INTO tracks (account_id, {_LIST}) SELECT :account, {_LIST} FROM incoming "  # noqa: S608
    "ORDER BY content_id, model, revision ON CONFLICT ON CONSTRAINT tracks_once DO NOTHING"
)


@dataclass(slots=True)
class Imported:
    """What became of the rows so far.

    Attributes:
        new: stored as tracks.
        known: the account had that content by that model and revision, or the output holds it twice.
        failed: rows that tell of an error.
        unusable: rows without an error that make no sense, such as a score that is no number.
        versions: rows by model and revision, those that were known included.
    """

    new: int = 0
    known: int = 0
    failed: int = 0
    unusable: int = 0
    versions: Counter[tuple[str, str]] = field(default_factory=Counter)


def import_rows(
    settings: Settings,
    account: str,
    batches: Iterable[pa.RecordBatch],
    tell: Callable[[Imported], object] | None = None,
) -> Imported:
    """Store rows of a batch job as tracks of an account; what the account has already stays as it is.

    Rows are stored in transactions of :data:`TRANSACTION_ROWS`: whatever ends an import, the rows of those before are
    there whole, and the same import again adds the others.

    Args:
        settings: where the database is.
        account: name or id.
        batches: rows as :data:`tunelab.catalog.schema.SCHEMA` says, the failed ones included.
        tell: is called after each transaction with the counts so far.

    Raises:
        AdminError: there is no such account.
        SettingsError, DatabaseUnavailable: the database cannot be used, or the connection to it was lost.
    """
    counts = Imported()
    with _connection(settings) as connection:
        with Session(connection) as session, session.begin():
            account_id = find_account(session, account).id
        with connection.begin():
            register_vector(_driver(connection))
            connection.execute(_TEMPORARY)
        for batch in batches:
            for offset in range(0, batch.num_rows, TRANSACTION_ROWS):
                with connection.begin():
                    _store(connection, account_id, batch.slice(offset, TRANSACTION_ROWS), counts)
                if tell is not None:
                    tell(counts)
        with connection.begin():
            # Searches are planned by how many rows an account has.
            connection.execute(text("ANALYZE tracks"))
    return counts


@contextmanager
def _connection(settings: Settings) -> Iterator[Connection]:
    lease = open_database(settings)
    engine = create_engine(lease.url, poolclass=NullPool, hide_parameters=True)
    try:
        with engine.connect() as connection:
            yield connection
    except (OperationalError, InterfaceError, psycopg.OperationalError):
        raise DatabaseUnavailable("the connection to the database was lost; what is there already is whole") from None
    finally:
        engine.dispose()
        lease.close()


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _store(connection: Connection, account: uuid.UUID, batch: pa.RecordBatch, counts: Imported) -> None:
    whole = batch.filter(pc.is_null(batch["error_code"]))
    usable = whole.filter(pa.array(_usable(whole)))
    counts.failed += batch.num_rows - whole.num_rows
    counts.unusable += whole.num_rows - usable.num_rows
    if not usable.num_rows:
        return
    with _driver(connection).cursor().copy(_COPY) as copy:
        copy.set_types(_TYPES)
        for row in _rows(usable):
            copy.write_row(row)
    stored = connection.execute(_INSERT, {"account": account}).rowcount
    counts.new += stored
    counts.known += usable.num_rows - stored
    counts.versions.update(zip(usable["model"].to_pylist(), usable["revision"].to_pylist(), strict=True))


def _usable(batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    """Which rows the table takes; what others wrote is not trusted."""
    good = np.array(pc.match_substring_regex(batch["id"], "^[0-9a-f]{64}$").fill_null(False))
    for name in ("model", "revision"):
        # PostgreSQL has no text with a NUL; names have nothing below a blank.
        good &= np.array(pc.match_substring_regex(batch[name], f"^[^[:cntrl:]]{{0,{_LONGEST_NAME}}}$").fill_null(False))
    for head in HEADS:
        scores = batch[head].to_numpy(zero_copy_only=False)
        good &= ((scores >= 0) & (scores <= 1)) | np.array(batch[head].is_null())
    duration_s = batch["duration_s"].to_numpy(zero_copy_only=False)
    good &= np.isfinite(duration_s) & (duration_s >= 0)
    there = np.array(batch["embedding"].is_valid())
    finite = np.isfinite(embeddings(batch["embedding"].filter(pa.array(there)))).all(axis=1)
    good[~there] = False
    good[there] &= finite
    return good


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[object, ...]]:
    """Rows as :data:`_COLUMNS` says."""
    vectors = embeddings(batch["embedding"])
    exact = vectors.astype("<f4")
    names = ("id", "model", "revision", *HEADS, "duration_s")
    rest = zip(*(batch[name].to_pylist() for name in names), strict=True)
    for number, row in enumerate(rest):
        yield (*row, HalfVector(vectors[number]), exact[number].tobytes())
