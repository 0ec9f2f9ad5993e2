"""``python -m benchmarks.similar``: how good and how fast the search for similar tracks is.

The tracks are made up, in the structure of real ones: an artist's resemble each other more than a genre's, a few
directions hold most of the variance, and scores follow the embedding. On 400 songs tunelab-v1 has a participation ratio
of 7 and 82 dimensions that hold 99 %; these have 9 and 79.
"""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import typer
from sqlalchemy import Connection, create_engine, text

from benchmarks import machine
from benchmarks.protocol import ROOT
from benchmarks.report import Report, progress
from benchmarks.stats import percentile
from tunelab.catalog.rows import open_rows
from tunelab.catalog.schema import SCHEMA
from tunelab.catalog.store import Folder, Job, Rows, write_job
from tunelab.encoder.engine import available_cores
from tunelab.service import similar
from tunelab.service.accounts import create_account, find_account
from tunelab.service.database import Database, open_database, sync_session
from tunelab.service.importing import import_rows
from tunelab.service.similar import SimilarTracks, Wanted
from tunelab.settings import Settings, load_settings
from tunelab.similarity.exact import COLUMNS, nearest
from tunelab.similarity.ranges import Range
from tunelab.similarity.vectors import cosines
from tunelab.types import EMBEDDING_SIZE, HEADS

MODEL, REVISION = "made-up", "1"
SHARES = {"label": 0.64, "archive": 0.2, "radio": 0.1, "shop": 0.05, "studio": 0.01}
"""Accounts, and which part of the rows each has."""
K = 10
_WARM_UP = 5
_ADDED = 2000
_BATCH = 4096
_INDEX = "CREATE INDEX tracks_embedding ON tracks USING hnsw (embedding halfvec_cosine_ops)"


@dataclass(frozen=True, slots=True)
class Tracks:
    """Made-up tracks.

    Attributes:
        embeddings: float16, shape ``(n, 768)``.
        scores: float32 in 0..1, shape ``(n, 6)``.
    """

    embeddings: npt.NDArray[np.float16]
    scores: npt.NDArray[np.float32]

    def part(self, begin: int, end: int) -> Tracks:
        return Tracks(self.embeddings[begin:end], self.scores[begin:end])


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of search: in whose tracks, and with which filters."""

    name: str
    account: str
    filters: Mapping[str, Range]


def make_tracks(count: int, seed: int) -> Tracks:
    """Tracks of 30 genres, with about 12 by an artist."""
    rng = np.random.default_rng(seed)
    places = np.arange(1, EMBEDDING_SIZE + 1)
    variance = np.exp(-places / 40) / places
    spread = np.sqrt(variance / variance.sum()).astype(np.float32)
    turn = np.linalg.qr(rng.standard_normal((EMBEDDING_SIZE, EMBEDDING_SIZE)))[0].astype(np.float32)
    mean = rng.standard_normal(EMBEDDING_SIZE).astype(np.float32)
    mean *= np.sqrt(0.15) / np.linalg.norm(mean)
    artists = max(1, count // 12)
    of_genre, of_artist = (
        np.sqrt(share) * rng.standard_normal((number, EMBEDDING_SIZE), dtype=np.float32)
        for share, number in ((0.35, 30), (0.3, artists))
    )
    genre, artist = rng.integers(0, 30, artists), rng.integers(0, artists, count)
    toward = rng.standard_normal((EMBEDDING_SIZE, len(HEADS))).astype(np.float32)
    toward /= np.linalg.norm(toward * spread[:, np.newaxis], axis=0)
    embeddings = np.empty((count, EMBEDDING_SIZE), np.float16)
    scores = np.empty((count, len(HEADS)), np.float32)
    for begin in range(0, count, _BATCH):
        whose = artist[begin : begin + _BATCH]
        own = np.sqrt(0.35) * rng.standard_normal((len(whose), EMBEDDING_SIZE), dtype=np.float32)
        place = (of_genre[genre[whose]] + of_artist[whose] + own) * spread
        noise = 0.5 * rng.standard_normal((len(whose), len(HEADS)))
        scores[begin : begin + _BATCH] = 1 / (1 + np.exp(-1.5 * (place @ toward) - noise))
        embeddings[begin : begin + _BATCH] = 15 * (place @ turn + mean)
    return Tracks(embeddings, scores)


def content_id(number: int) -> str:
    """Identity of a made-up track."""
    return hashlib.sha256(b"%d" % number).hexdigest()


def batches(tracks: Tracks, first: int) -> Iterator[pa.RecordBatch]:
    """The tracks as a batch job writes them, numbered from ``first`` on."""
    for begin in range(0, len(tracks.scores), _BATCH):
        part = tracks.part(begin, begin + _BATCH)
        count = len(part.scores)
        names = range(first + begin, first + begin + count)
        values: dict[str, Any] = {
            "path": [f"{number}.mp3" for number in names],
            "id": [content_id(number) for number in names],
            **{head: part.scores[:, column] for column, head in enumerate(HEADS)},
            "duration_s": [200.0] * count,
            "model": [MODEL] * count,
            "revision": [REVISION] * count,
            "error_code": [None] * count,
            "error": [None] * count,
            "size": [0] * count,
            "mtime_ns": [0] * count,
        }
        flat = pa.array(part.embeddings.ravel())
        arrays = [
            pa.FixedSizeListArray.from_arrays(flat, EMBEDDING_SIZE)
            if field.name == "embedding"
            else pa.array(values[field.name], field.type)
            for field in SCHEMA
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def fill(report: Report, settings: Settings, connection: Connection, tracks: Tracks) -> dict[str, tuple[int, int]]:
    """Make the accounts, store their tracks, build the index; returns which tracks each account has."""
    with sync_session(settings) as session:
        for name in SHARES:
            create_account(session, name, tier="pro")
    connection.execute(text("DROP INDEX tracks_embedding"))
    ends = np.round(np.cumsum(list(SHARES.values())) * len(tracks.scores)).astype(int).tolist()
    parts = dict(zip(SHARES, zip([0, *ends], ends, strict=False), strict=True))
    begin = time.perf_counter()
    for name, (first, end) in parts.items():
        progress(f"storing {end - first} tracks of {name!r}")
        import_rows(settings, name, batches(tracks.part(first, end), first))
    stored_s = time.perf_counter() - begin
    progress("building the index")
    connection.execute(text("SET maintenance_work_mem = '1GB'"))
    begin = time.perf_counter()
    connection.execute(text(_INDEX))
    index_s = time.perf_counter() - begin
    progress(f"importing {_ADDED} more")
    begin = time.perf_counter()
    import_rows(settings, "studio", batches(make_tracks(_ADDED, seed=1), 10**9))
    added_s = time.perf_counter() - begin
    connection.execute(
        text("DELETE FROM tracks WHERE id IN (SELECT id FROM tracks ORDER BY id DESC LIMIT :n)"), {"n": _ADDED}
    )
    connection.execute(text("VACUUM ANALYZE tracks"))
    sizes = [_size(connection, name) for name in ("tracks", "tracks_embedding", "tracks_scores")]
    report.section(
        f"{len(tracks.scores)} tracks in {len(SHARES)} accounts",
        ["what", ""],
        [
            ["import without the index", f"{len(tracks.scores) / stored_s:.0f} rows/s"],
            ["building the index at once", f"{index_s:.1f} s"],
            [f"import of {_ADDED} more, with the index", f"{_ADDED / added_s:.0f} rows/s"],
            ["rows; index of embeddings; of scores", "; ".join(f"{size / 1e6:.0f} MB" for size in sizes)],
        ],
        "`tunelab catalog import` never drops the index: its rate is the last one.",
    )
    return parts


def search_output(report: Report, folder: Path, tracks: Tracks) -> None:
    """The tracks as a batch job's output on the disk, searched without the service."""
    progress("searching a batch job's output")
    output = Folder(folder)
    write_job(output, Job(MODEL, REVISION, "g", finished=True))
    stored = Rows(output, "g")
    for batch in batches(tracks, 0):
        stored.add(pa.Table.from_batches([batch]))
    times = []
    for seed in range(3):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        direction = tracks.embeddings[seed].astype(np.float32)
        nearest(open_rows(folder, COLUMNS), direction, K, revision=REVISION)
        times.append((time.perf_counter() - begin, time.process_time() - begin_cpu))
    wall_s, cpu_s = min(times)
    count = len(tracks.scores)
    report.section(
        f"Exact search of {count} rows of a batch job's output (`tunelab similar`), the best of {len(times)}",
        ["seconds", "CPU seconds", "rows/s"],
        [[f"{wall_s:.2f}", f"{cpu_s:.2f}", f"{count / wall_s:.0f}"]],
    )


def cases(tracks: Tracks, parts: Mapping[str, tuple[int, int]]) -> list[Case]:
    """Searches without a filter, and with ones that keep about 10 %, 1 % and 3 in 1000."""
    own = tracks.part(*parts["label"]).scores

    def upper(head: str, percent: float) -> Range:
        return Range(round(100 * float(np.percentile(own[:, HEADS.index(head)], 100 - percent))), 100)

    none: dict[str, Range] = {}
    return [
        Case("64 % of the rows", "label", none),
        Case("64 %, filter keeps 10 %", "label", {"energy": upper("energy", 10)}),
        Case("64 %, filter keeps 1 %", "label", {"energy": upper("energy", 1)}),
        Case("64 %, filter keeps 3 in 1000", "label", {"speechiness": upper("speechiness", 0.1)}),
        Case("20 % of the rows", "archive", none),
        Case("20 %, filter keeps 60 %", "archive", {"energy": upper("energy", 60)}),
        Case("10 % of the rows", "radio", none),
        Case("1 % of the rows", "studio", none),
    ]


async def measure(
    report: Report, database: Database, accounts: Mapping[str, uuid.UUID], tracks: Tracks,
    parts: Mapping[str, tuple[int, int]], queries: int,
) -> None:  # fmt: skip
    """Search for random tracks of each account, beside exact search in the database and in memory."""
    rows = []
    rng = np.random.default_rng(2)
    for case in cases(tracks, parts):
        progress(case.name)
        first, end = parts[case.account]
        numbers = first + np.flatnonzero(_kept(tracks.part(first, end), case.filters))
        seeds = rng.integers(first, end, queries + _WARM_UP).tolist()
        found: dict[str, list[float]] = {"recall": [], "ms": [], "exact ms": []}
        for turn, seed in enumerate(seeds):
            wanted = Wanted((content_id(seed),), filters=case.filters, k=K)
            values: dict[str, float] = {}
            for name, exact in (("ms", similar.EXACT), ("exact ms", len(tracks.scores))):
                begin = time.perf_counter()
                neighbours = await SimilarTracks(database, exact=exact).find(
                    accounts[case.account], MODEL, REVISION, wanted
                )
                values[name] = 1000 * (time.perf_counter() - begin)
                if name == "ms":
                    best = _best(tracks, numbers, seed)
                    if len(neighbours) != len(best):
                        raise ValueError(f"{len(neighbours)} tracks were found instead of {len(best)}")
                    shared = {content_id(number) for number in best} & {track.content_id for track in neighbours}
                    values["recall"] = len(shared) / len(best)
            if turn >= _WARM_UP:
                for name, value in values.items():
                    found[name].append(value)
        rows.append(
            [
                case.name,
                str(len(numbers)),
                "exact" if len(numbers) <= similar.EXACT else "index",
                f"{statistics.mean(found['recall']):.3f}",
                *(f"{statistics.median(found[n]):.1f} ({percentile(found[n], 95):.1f})" for n in ("ms", "exact ms")),
            ]
        )
    report.section(
        f"{queries} searches each for the {K} nearest of a random track of the account: ms, median (95th percentile)",
        ["account has", "matching", "search", f"recall@{K}", "ms", "exact ms"],
        rows,
        "Recall is counted against float32 products over all matching rows. The search compares up to "
        f"{similar.EXACT} matching tracks one by one; above that the index is walked (ef_search "
        f"{similar._PLAN['hnsw.ef_search']}).",
    )


def main(
    rows: Annotated[int, typer.Option(min=2000, max=5_000_000, help="Tracks in the database.")] = 100_000,
    queries: Annotated[int, typer.Option(min=1, max=10_000, help="Searches of each kind.")] = 100,
    write: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the tables to this file, too.")] = None,
) -> None:
    """Measure the search for similar tracks in a batch job's output, and in an embedded PostgreSQL of its own."""
    report = Report()
    others = machine.OtherWork()
    others.look("filling")
    with tempfile.TemporaryDirectory(prefix="tls-", ignore_cleanup_errors=True) as folder:
        settings = load_settings(data_dir=Path(folder), database_url=None)
        lease = open_database(settings)
        engine = create_engine(lease.url, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                report.section("Machine", ["", ""], _machine(connection))
                tracks = make_tracks(rows, seed=0)
                search_output(report, Path(folder) / "output", tracks)
                parts = fill(report, settings, connection, tracks)
            with sync_session(settings) as session:
                accounts = {name: find_account(session, name).id for name in SHARES}
            others.look("searching")

            async def search() -> None:
                database = Database(lease.url, 1)
                try:
                    await measure(report, database, accounts, tracks, parts, queries)
                finally:
                    await database.dispose()

            asyncio.run(search())
        finally:
            engine.dispose()
            lease.close()
    report.note("\n".join(others.notes()))
    if write is not None:
        report.write(write)


def _kept(tracks: Tracks, filters: Mapping[str, Range]) -> npt.NDArray[np.bool_]:
    kept = np.ones(len(tracks.scores), bool)
    for head, wanted in filters.items():
        lower, upper = wanted.bounds
        scores = tracks.scores[:, HEADS.index(head)].astype(np.float64)
        kept &= (scores >= lower) & (scores < upper)
    return kept


def _best(tracks: Tracks, numbers: npt.NDArray[np.int64], seed: int) -> list[int]:
    others = numbers[numbers != seed]
    near = np.empty(len(others), np.float32)
    for begin in range(0, len(others), _BATCH):
        part = tracks.embeddings[others[begin : begin + _BATCH]]
        near[begin : begin + _BATCH] = cosines(part, tracks.embeddings[seed].astype(np.float32))
    best: list[int] = others[np.argsort(-near)[:K]].tolist()
    return best


def _size(connection: Connection, name: str) -> int:
    return int(connection.execute(text("SELECT pg_relation_size(:name)"), {"name": name}).scalar_one())


def _machine(connection: Connection) -> list[list[str]]:
    server = connection.execute(text("SHOW server_version")).scalar_one()
    vector = connection.execute(text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")).scalar_one()
    buffers = connection.execute(text("SHOW shared_buffers")).scalar_one()
    return [
        ["processor", f"{machine.processor()}, {available_cores()} cores for this process"],
        ["memory", f"{psutil.virtual_memory().total / 1e9:.1f} GB"],
        ["database", f"embedded PostgreSQL {server}, pgvector {vector}, shared_buffers {buffers}"],
        ["commit", machine.commit(ROOT)],
    ]


if __name__ == "__main__":
    typer.run(main)
