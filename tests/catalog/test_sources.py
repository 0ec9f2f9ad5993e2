"""What a source names, and what is known of each file."""

from __future__ import annotations

import errno
import glob
import os
import posixpath
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from tunelab.catalog import filesystems
from tunelab.catalog.filesystems import find_file, open_uri, split_uri
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


@pytest.mark.parametrize(
    "pattern",
    [
        "**",
        "**/*",
        "*",
        "*/*",
        "sub/**/d.*",
        "**/deep/*.wav",
        ".hid*/*.mp3",
        "**/.hidden/*",
        "[ab].*",
        "s?b/*.ogg",
        "sub/c.ogg*",
        "*/c.ogg",
        "*/nothing.ogg",
        "*/deep",
        "li*/dangling.mp3",
    ],
)
def test_globs_are_those_of_python(music: Path, pattern: str) -> None:
    (music / "link").symlink_to(music / "sub")
    (music / "broken.mp3").symlink_to(music / "nowhere")
    (music / "sub" / "dangling.mp3").symlink_to(music / "nowhere")
    wanted = {path for path in glob.glob(f"{music}/{pattern}", recursive=True) if not os.path.isdir(path)}
    try:
        found = list_source(f"{music}/{pattern}")["path"].to_pylist()
    except CatalogError:
        found = []
    assert found == sorted(wanted)


def test_a_folder_that_a_glob_cannot_search_is_told(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(folder: str) -> Iterator[os.DirEntry[str]]:
        if folder.endswith("deep"):
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    for pattern in ("**/*.[ow][ga][gv]", "**/**/*.[ow][ga][gv]", "s*/**/*.[ow][ga][gv]"):
        told: list[OSError] = []
        paths = list_source(f"{music}/{pattern}", told.append)["path"].to_pylist()
        assert paths == [str(music / "sub" / "c.ogg")]
        assert [error.filename for error in told] == [str(music / "sub" / "deep")]


def test_a_named_file_in_a_folder_that_is_closed_is_told(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (music / "other").mkdir()
    (music / "other" / "c.ogg").touch()
    real = os.lstat

    def lstat(path: str) -> os.stat_result:
        if path.endswith("sub/c.ogg"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "lstat", lstat)
    told: list[OSError] = []
    assert list_source(f"{music}/*/c.ogg", told.append)["path"].to_pylist() == [str(music / "other" / "c.ogg")]
    assert [error.filename for error in told] == [str(music / "sub" / "c.ogg")]


def test_lists_name_files_relative_to_their_folder(music: Path) -> None:
    wanted = ["b.mp3", "gone.mp3", "sub/c.ogg"]
    (music / "list.txt").write_text("b.mp3\n\ngone.mp3\r\nb.mp3\n" + f"file://{music}/sub/c.ogg\n")
    (music / "list.csv").write_text("genre,path\nrock,b.mp3\npop,gone.mp3\nfolk,sub/c.ogg\n")
    pq.write_table(pa.table({"path": wanted}), music / "list.parquet")
    for suffix in ("txt", "csv", "parquet"):
        table = list_source(str(music / f"list.{suffix}"))
        assert [path.removeprefix("file://") for path in table["path"].to_pylist()] == [str(music / n) for n in wanted]
        assert table["size"].to_pylist() == [5, -1, 9]
        assert table["mtime_ns"].to_pylist()[0] == (music / "b.mp3").stat().st_mtime_ns
        assert table["mtime_ns"].to_pylist()[1] == -1
    assert names(f"file://{music}/list.txt", music) == wanted


ODD_NAMES = ("My song.mp3", "100% hit.mp3", "#1.mp3", "what?.mp3", "a%20b.mp3", "caf\u00e9.mp3", "live [2001]/x.mp3")


@pytest.fixture
def store() -> Iterator[pafs.FileSystem]:
    """A filesystem that is none of this machine's: ``mock:///``."""
    filesystems._filesystem.cache_clear()
    files, _ = open_uri("mock:///")
    for name in ODD_NAMES:
        files.create_dir(f"music/{posixpath.dirname(name)}")
        with files.open_output_stream(f"music/{name}") as stream:
            stream.write(name.encode())
    yield files
    filesystems._filesystem.cache_clear()


@pytest.mark.parametrize("source", ["mock:///music", "mock:///music/", "mock:///mus*/**/*.mp3"])
def test_remote_names_are_taken_as_they_are(store: pafs.FileSystem, source: str) -> None:
    paths = list_source(source)["path"].to_pylist()
    assert sorted(paths) == sorted(f"mock:///music/{name}" for name in ODD_NAMES)
    for path in paths:
        files, name = find_file(path)
        assert files.open_input_stream(name).read() == path.removeprefix("mock:///music/").encode()


def test_remote_folder_may_have_the_name_of_a_glob(store: pafs.FileSystem) -> None:
    assert list_source("mock:///music/live [2001]")["path"].to_pylist() == ["mock:///music/live [2001]/x.mp3"]


def test_remote_lists_may_hold_escapes_and_one_bad_name_hides_no_other(store: pafs.FileSystem) -> None:
    with store.open_output_stream("music/list.txt") as stream:
        stream.write(b"My%20song.mp3\nmock:///music/what?.mp3\nmock:///music/nul\0.mp3\ncaf\xe9.mp3\n#1.mp3\n")
    rows = list_source("mock:///music/list.txt").to_pylist()
    assert {row["path"].removeprefix("mock:///music/"): row["size"] for row in rows} == {
        "My%20song.mp3": 11,
        "what?.mp3": 9,
        "nul\0.mp3": -1,
        "caf\\xe9.mp3": -1,
        "#1.mp3": 6,
    }
    files, name = find_file("mock:///music/My%20song.mp3")
    assert files.open_input_stream(name).read() == b"My song.mp3"


def test_options_of_a_filesystem_go_with_each_name() -> None:
    options = "?region=eu-west-1&endpoint_override=127.0.0.1:9&scheme=http"
    assert split_uri(f"s3://bucket/a?b/c.mp3{options}") == ("s3://bucket", "a?b/c.mp3", options)
    assert split_uri("s3://bucket/why?.mp3") == ("s3://bucket", "why?.mp3", "")
    assert split_uri("s3://bucket") == ("s3://bucket", "", "")
    files, path = open_uri(f"s3://bucket/a b.mp3{options}")
    assert path == "bucket/a b.mp3"
    assert open_uri(f"s3://bucket/c.mp3{options}")[0] is files, "each file would connect anew"


def test_text_lists_may_hold_any_name(music: Path) -> None:
    for name in (b"#1.mp3", b" blank .mp3", b"caf\xe9.mp3", b"page\x0cbreak.mp3"):
        Path(os.fsdecode(os.fsencode(music) + b"/" + name)).write_bytes(name)
    (music / "list.txt").write_bytes(b"\xef\xbb\xbf#1.mp3\n blank .mp3\ncaf\xe9.mp3\npage\x0cbreak.mp3\n")
    rows = list_source(str(music / "list.txt")).to_pylist()
    assert [row["size"] for row in rows] == [6, 11, 8, 14]
    assert Path(local_name(rows[2]["path"], rows[2]["raw"])).read_bytes() == b"caf\xe9.mp3"


def test_links_to_nowhere_are_files_that_fail(music: Path) -> None:
    (music / "gone.mp3").symlink_to("nowhere")
    for source in (str(music), f"{music}/g*.mp3", f"file://{music}"):
        sizes = {os.path.basename(row["path"]): row["size"] for row in list_source(source).to_pylist()}
        assert sizes["gone.mp3"] == -1


def test_folders_that_cannot_be_searched_are_told(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(path: str) -> object:
        if os.path.basename(path) == "deep":
            raise PermissionError(errno.EACCES, "no", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    told: list[OSError] = []
    assert len(list_source(str(music), told.append)) == 3
    assert [os.path.basename(error.filename) for error in told] == ["deep"]


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
    for source in (str(tmp_path), f"file://{tmp_path}"):
        (row,) = list_source(source).to_pylist()
        assert row["path"] == f"{source}/caf\\xe9.mp3"
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
        ("{}/latin.csv", "cannot be read as a list"),
    ],
)
def test_sources_that_name_nothing_are_told(music: Path, source: str, reason: str) -> None:
    (music / "bad.csv").write_text("file\nx.mp3\n")
    (music / "bad.parquet").write_bytes(b"not parquet")
    (music / "latin.csv").write_bytes(b"path\ncaf\xe9.mp3\n")
    (music / "empty").mkdir()
    with pytest.raises(CatalogError, match=reason):
        list_source(source.format(music))
