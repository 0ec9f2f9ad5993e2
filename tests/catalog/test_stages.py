"""What the stages make of single files, without Ray."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import soundfile

from tests.audio.make import notes
from tests.support import make_bundle
from tunelab.audio.decode import DecodeLimits
from tunelab.catalog import filesystems
from tunelab.catalog.filesystems import open_uri
from tunelab.catalog.schema import SCHEMA
from tunelab.catalog.sources import MANIFEST_SCHEMA
from tunelab.catalog.stages import INTERNAL, STORAGE, UNREADABLE, DecodeStage, EncodeStage
from tunelab.encoder import find_bundle
from tunelab.errors import BundleInvalid


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("models") / "small-v1", layers=1, frames=64)


@pytest.fixture
def stage(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> DecodeStage:
    monkeypatch.setattr(DecodeStage, "_begin", lambda self, path: 1)
    attempts = SimpleNamespace(end=SimpleNamespace(remote=lambda path: None))
    return DecodeStage(str(bundle), find_bundle(bundle).revision, DecodeLimits(max_bytes=100_000), attempts, "/")


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "My song #1.wav"
    soundfile.write(path, notes(2, 16_000), 16_000)
    return path


def decode(stage: DecodeStage, *paths: str, raw: bytes | None = None) -> list[dict[str, Any]]:
    rows = [{"path": path, "raw": raw, "size": 1, "mtime_ns": 1} for path in paths]
    return [row for table in stage(pa.Table.from_pylist(rows, MANIFEST_SCHEMA)) for row in table.to_pylist()]


def codes(rows: list[dict[str, Any]]) -> list[str | None]:
    return [row["error_code"] for row in rows]


def test_paths_and_uris_give_the_same(stage: DecodeStage, song: Path) -> None:
    filesystems._filesystem.cache_clear()
    files, _ = open_uri("mock:///")
    with files.open_output_stream("a b.wav") as stream:
        stream.write(song.read_bytes())
    rows = decode(stage, str(song), f"file://{song}", "mock:///a b.wav")
    filesystems._filesystem.cache_clear()
    assert codes(rows) == [None, None, None]
    assert {row["id"] for row in rows} == {hashlib.sha256(song.read_bytes()).hexdigest()}
    assert rows[0]["mel"] == rows[1]["mel"] == rows[2]["mel"]


def test_files_are_read_as_they_are_stored(stage: DecodeStage, song: Path, tmp_path: Path) -> None:
    filesystems._filesystem.cache_clear()
    files, _ = open_uri("mock:///")
    # Whatever their names say; where pyarrow opens a file and where Python does.
    for name, data in (("song.gz", song.read_bytes()), ("packed.wav.gz", gzip.compress(song.read_bytes()))):
        (tmp_path / name).write_bytes(data)
        with files.open_output_stream(name, compression=None) as stream:
            stream.write(data)
        rows = decode(stage, str(tmp_path / name), f"file://{tmp_path}/{name}", f"mock:///{name}")
        assert {row["id"] for row in rows} == {hashlib.sha256(data).hexdigest()}
        assert codes(rows) == [None if name == "song.gz" else "audio_unsupported"] * 3
    filesystems._filesystem.cache_clear()


def test_relative_paths_start_where_the_job_began(stage: DecodeStage, song: Path) -> None:
    stage._folder = str(song.parent)
    assert codes(decode(stage, song.name, f"./{song.name}", str(song))) == [None, None, None]


def test_what_cannot_be_opened_is_a_row(stage: DecodeStage, song: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.mp3").mkdir()
    os.mkfifo(tmp_path / "pipe.mp3")
    (tmp_path / "empty.mp3").touch()
    names = ("gone.mp3", "folder.mp3", "pipe.mp3", "empty.mp3", "nul\0.mp3", "x" * 300 + ".mp3")
    rows = decode(
        stage, *(f"{tmp_path}/{name}" for name in names), "nosuch://host/x.mp3", "file://elsewhere/x", str(song)
    )
    assert codes(rows) == [
        UNREADABLE,
        "audio_unsupported",
        "audio_unsupported",
        "audio_empty",
        *[UNREADABLE] * 4,
        None,
    ]
    assert all(row["error"] and str(tmp_path) not in row["error"] for row in rows[:-1])


def test_names_that_are_no_utf8_are_opened(stage: DecodeStage, song: Path) -> None:
    raw = os.fsencode(song.parent) + b"/caf\xe9.wav"
    os.rename(song, os.fsdecode(raw))
    assert codes(decode(stage, "shown", raw=raw)) == [None]


def test_files_that_fail_keep_their_identity(stage: DecodeStage, tmp_path: Path) -> None:
    (tmp_path / "junk.mp3").write_bytes(b"no music" * 50)
    (row,) = decode(stage, str(tmp_path / "junk.mp3"))
    assert (row["error_code"], row["id"]) == ("audio_unsupported", hashlib.sha256(b"no music" * 50).hexdigest())


def test_remote_files_are_read_up_to_a_limit(stage: DecodeStage) -> None:
    filesystems._filesystem.cache_clear()
    files, _ = open_uri("mock:///")
    with files.open_output_stream("big.wav") as stream:
        stream.write(bytes(100_001))
    assert codes(decode(stage, "mock:///big.wav", "mock:///gone.wav")) == ["audio_too_large", UNREADABLE]
    filesystems._filesystem.cache_clear()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.EIO, "Input/output error"), STORAGE),
        (OSError("AWS Error NETWORK_CONNECTION"), STORAGE),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), STORAGE),
        (PermissionError(errno.EACCES, "Permission denied"), UNREADABLE),
        (RuntimeError("a library's own"), INTERNAL),
        (MemoryError(), INTERNAL),
    ],
)
def test_whatever_happens_to_a_file_the_others_are_done(
    stage: DecodeStage, song: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    real = stage._extract

    def extract(source: Any) -> Any:
        if "bad" in source:
            raise error
        return real(source)

    bad = song.with_name("bad.wav")
    bad.write_bytes(b"x")
    monkeypatch.setattr(stage, "_extract", extract)
    assert codes(decode(stage, str(song), str(bad), str(song))) == [None, code, None]


def test_encoder_passes_failures_through(bundle: Path, stage: DecodeStage, song: Path, tmp_path: Path) -> None:
    encode = EncodeStage(str(bundle), find_bundle(bundle).revision, "torch", 1, "f32")
    rows = [{"path": path, "raw": None, "size": 1, "mtime_ns": 1} for path in ("/gone", str(song), "/gone2")]
    decoded = pa.concat_tables(stage(pa.Table.from_pylist(rows, MANIFEST_SCHEMA)))
    for count in (1, 3):  # a batch of failures alone, too
        table = encode(decoded.slice(0, count))
        assert table.schema == SCHEMA
        assert [score is None for score in table["energy"].to_pylist()] == [True, False, True][:count]


def test_workers_refuse_another_revision_of_the_bundle(bundle: Path) -> None:
    with pytest.raises(BundleInvalid, match="revision"):
        EncodeStage(str(bundle), "other", "torch", 1, "f32")
    with pytest.raises(BundleInvalid, match="revision"):
        DecodeStage(str(bundle), "other", DecodeLimits(), None, "/")
