"""What a source names, and what is known of each file."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunelab.catalog.sources import list_source, local_name
from tunelab.errors import CatalogError


@pytest.fixture
def music(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    for name in ("b.mp3", "a.FLAC", "sub/c.ogg", "sub/deep/d.wav", ".hidden/e.mp3", "notes.txt", "cover.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def names(source: str, folder: Path) -> list[str]:
    return [os.path.relpath(path.removeprefix("file://"), folder) for path in list_source(source)["path"].to_pylist()]


def test_folder_is_searched_through(music: Path) -> None:
    assert names(str(music), music) == ["a.FLAC", "b.mp3", "sub/c.ogg", "sub/deep/d.wav"]


def test_uri_of_a_folder_finds_the_same(music: Path) -> None:
    assert sorted(names(f"file://{music}", music)) == ["a.FLAC", "b.mp3", "sub/c.ogg", "sub/deep/d.wav"]
    assert list_source(f"file://{music}")["path"].to_pylist()[0].startswith("file:///")


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*.mp3", ["b.mp3"]),
        ("sub/*", ["sub/c.ogg"]),
        ("**/*.wav", ["sub/deep/d.wav"]),
        ("**/*.mp3", ["b.mp3"]),
        ("sub/[cd].ogg", ["sub/c.ogg"]),
    ],
)
def test_globs(music: Path, scheme: str, pattern: str, wanted: list[str]) -> None:
    assert names(f"{scheme}{music}/{pattern}", music) == wanted


def test_lists_name_files_relative_to_their_folder(music: Path) -> None:
    wanted = ["b.mp3", "gone.mp3", "sub/c.ogg"]
    (music / "list.txt").write_text("# mine\nb.mp3\n\ngone.mp3\nb.mp3\n" + f"file://{music}/sub/c.ogg\n")
    (music / "list.csv").write_text("genre,path\nrock,b.mp3\npop,gone.mp3\nfolk,sub/c.ogg\n")
    pq.write_table(pa.table({"path": wanted}), music / "list.parquet")
    for suffix in ("txt", "csv", "parquet"):
        table = list_source(str(music / f"list.{suffix}"))
        assert [path.removeprefix("file://") for path in table["path"].to_pylist()] == [str(music / n) for n in wanted]
        assert table["size"].to_pylist() == [5, -1, 9]
        assert table["mtime_ns"].to_pylist()[0] == (music / "b.mp3").stat().st_mtime_ns
        assert table["mtime_ns"].to_pylist()[1] == -1
    assert names(f"file://{music}/list.txt", music) == wanted


def test_uris_that_nobody_can_open_are_rows_too(music: Path) -> None:
    (music / "list.txt").write_text(f"nosuch://host/x.mp3\nfile://{music}/gone.mp3\nb.mp3\n")
    table = list_source(str(music / "list.txt"))
    assert sorted(zip(table["path"].to_pylist(), table["size"].to_pylist(), strict=True)) == [
        (f"{music}/b.mp3", 5),
        (f"file://{music}/gone.mp3", -1),
        ("nosuch://host/x.mp3", -1),
    ]


def test_names_that_are_no_utf8_are_shown_and_opened(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.mp3"
    Path(os.fsdecode(raw)).write_bytes(b"x")
    (row,) = list_source(str(tmp_path)).to_pylist()
    assert row["path"].endswith("caf\\xe9.mp3")
    assert Path(local_name(row["path"], row["raw"])).read_bytes() == b"x"


def test_order_and_facts_stay_the_same(music: Path) -> None:
    assert list_source(str(music)).equals(list_source(str(music)))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{}/nothing-here", "there is no"),
        ("{}/sub/deep/*.mp3", "no audio file"),
        ("file://{}/nothing-here", "there is no"),
        ("nosuch://bucket/music", "cannot be opened"),
        ("{}/bad.csv", "no column 'path'"),
        ("{}/bad.parquet", "cannot be read as a list"),
        ("{}/empty", "no audio file"),
        ("{}/latin.txt", "cannot be read as a list"),
    ],
)
def test_sources_that_name_nothing_are_told(music: Path, source: str, reason: str) -> None:
    (music / "bad.csv").write_text("file\nx.mp3\n")
    (music / "bad.parquet").write_bytes(b"not parquet")
    (music / "latin.txt").write_bytes(b"caf\xe9.mp3\n")
    (music / "empty").mkdir()
    with pytest.raises(CatalogError, match=reason):
        list_source(source.format(music))
