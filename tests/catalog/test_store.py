"""Rows on the disk: killed at any moment, each counts exactly once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.catalog.support import make_rows, paths_in
from tunelab.catalog import store
from tunelab.catalog.rows import open_rows
from tunelab.catalog.store import Folder, Job, Rows, read_job, write_job
from tunelab.errors import CatalogError


class Killed(BaseException):
    """Stands for a kill: nothing after it runs, not even what handles errors."""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path)
    write_job(folder, Job("m", "r", "m-r-1"))
    return folder


def test_rows_come_back_as_they_were(folder: Folder, tmp_path: Path) -> None:
    rows, table = Rows(folder, "m-r-1"), make_rows("ab", failed="b")
    rows.add(table)
    assert pa.Table.from_batches(list(open_rows(tmp_path, failed=True))).equals(table)
    (good,) = open_rows(tmp_path, ["path", "embedding"])
    assert good.schema.names == ["path", "embedding"]
    assert good["path"].to_pylist() == ["a"]
    assert np.array_equal(np.stack(good["embedding"].to_pylist()), np.stack(table["embedding"].to_pylist()[:1]))


def test_uris_work_as_paths_do(folder: Folder, tmp_path: Path) -> None:
    Rows(Folder(f"file://{tmp_path}"), "m-r-1").add(make_rows("ab"))
    assert paths_in(f"file://{tmp_path}") == paths_in(tmp_path) == ["a", "b"]


def steps_of(action: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, dies_at: int) -> bool:
    """Run an action that is killed at its n-th write or deletion, before or in the middle of it; whether it was."""
    count = 0

    def hook(name: str) -> None:
        real = getattr(Folder, name)

        def step(self: Folder, *arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == dies_at:
                if name == "write":  # half of it is on the disk
                    target = Path(self.path(*arguments[1:]) + ".tmp")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(arguments[0][: len(arguments[0]) // 2])
                raise Killed
            return real(self, *arguments)

        monkeypatch.setattr(Folder, name, step)

    with monkeypatch.context() as patch:
        monkeypatch = patch
        for name in ("write", "delete"):
            hook(name)
        try:
            action()
        except Killed:
            return True
    return False


@pytest.mark.parametrize("dies_at", range(1, 14))
def test_gathering_may_be_killed_at_every_step(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    monkeypatch.setattr(store, "SHARD_ROWS", 4)
    rows = Rows(folder, "m-r-1")
    for names in ("abc", "de", "f"):
        rows.add(make_rows(names))
    killed = steps_of(rows.gather, monkeypatch, dies_at)
    assert killed == (dies_at <= 6)  # two shards, the index, three parts
    assert paths_in(tmp_path) == list("abcdef")
    again = Rows(folder, "m-r-1")
    again.sweep()
    again.add(make_rows("gh"))
    assert paths_in(tmp_path) == list("abcdefgh")
    again.gather()
    assert paths_in(tmp_path) == list("abcdefgh")
    files = {path.name for path in (tmp_path / "rows" / "m-r-1").iterdir()}
    assert files == {"index.json", *json.loads((tmp_path / "rows/m-r-1/index.json").read_text())["shards"]}


@pytest.mark.parametrize("dies_at", range(1, 8))
def test_taking_rows_out_happens_at_once_or_not(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    rows = Rows(folder, "m-r-1")
    rows.add(make_rows("abc"))
    rows.add(make_rows("de"))

    def kept() -> Iterator[pa.RecordBatch]:
        for batch in rows.batches():
            yield batch.filter(pa.array([path not in "bd" for path in batch["path"].to_pylist()]))

    killed = steps_of(lambda: rows.replace(kept()), monkeypatch, dies_at)
    assert paths_in(tmp_path) == (list("abcde") if killed and dies_at <= 2 else list("ace"))


def test_large_shards_are_left_alone(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SHARD_ROWS", 4)
    rows = Rows(folder, "m-r-1")
    rows.add(make_rows("abcd"))
    rows.gather()
    (first,) = rows.live()
    written = (tmp_path / "rows" / "m-r-1" / first).stat().st_mtime_ns
    rows.add(make_rows("e"))
    rows.gather()
    assert rows.live()[0] == first
    assert (tmp_path / "rows" / "m-r-1" / first).stat().st_mtime_ns == written
    assert paths_in(tmp_path) == list("abcde")


def test_readers_get_the_last_finished_generation(folder: Folder, tmp_path: Path) -> None:
    Rows(folder, "m-r-1").add(make_rows("ab"))
    write_job(folder, Job("m", "s", "m-s-2", previous="m-r-1"))
    Rows(folder, "m-s-2").add(make_rows("a"))
    assert paths_in(tmp_path) == ["a", "b"]
    write_job(folder, Job("m", "s", "m-s-2", finished=True))
    assert paths_in(tmp_path) == ["a"]


def test_readers_miss_nothing_while_rows_are_gathered(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Rows(folder, "m-r-1")
    writer.add(make_rows("abc"))
    reader = Rows(folder, "m-r-1")
    for name in ("_names", "_read_index"):  # the writer is done with it all between the reader's two looks
        real = getattr(reader, name)

        def look(real: Callable[[], Any] = real) -> Any:
            found = real()
            writer.gather()
            return found

        monkeypatch.setattr(reader, name, look)
    assert sum(batch.num_rows for batch in reader.batches(["path"])) == 3


def test_readers_miss_nothing_while_a_generation_is_replaced(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Rows(folder, "m-r-1").add(make_rows("ab"))
    Rows(folder, "m-s-2").add(make_rows("abc"))
    write_job(folder, Job("m", "s", "m-s-2", previous="m-r-1"))
    real = Rows.live

    def live(self: Rows) -> list[str]:
        if self._generation == "m-r-1":
            write_job(folder, Job("m", "s", "m-s-2", finished=True))
            folder.delete_folder("rows", "m-r-1")
        return real(self)

    monkeypatch.setattr(Rows, "live", live)
    assert paths_in(tmp_path) == ["a", "b", "c"]


def test_two_jobs_do_not_share_a_folder(folder: Folder, tmp_path: Path) -> None:
    with folder.locked(), pytest.raises(CatalogError, match="another batch job"), Folder(tmp_path).locked():
        pass


def test_what_is_no_output_is_told(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="not the output"):
        list(open_rows(tmp_path / "nothing"))
    for text in ("{", "[]", '{"format": 1}', '{"format": 9, "model": "m"}', '{"format": 1, "model": "m", "x": 1}'):
        (tmp_path / "job.json").write_text(text)
        with pytest.raises(CatalogError, match=r"damaged|another version"):
            read_job(Folder(tmp_path))


def test_damaged_rows_are_told(folder: Folder, tmp_path: Path) -> None:
    Rows(folder, "m-r-1").add(make_rows("a"))
    (part,) = (tmp_path / "rows" / "m-r-1").glob("part-*")
    data = part.read_bytes()
    for damaged in (data[:100], data[:4] + bytes(len(data) // 2) + data[4 + len(data) // 2 :]):
        part.write_bytes(damaged)
        with pytest.raises(CatalogError, match="damaged"):
            paths_in(tmp_path)
    (tmp_path / "rows" / "m-r-1" / "index.json").write_text('{"shards": ["../../x"], "absorbed": 0}')
    with pytest.raises(CatalogError, match="damaged"):
        paths_in(tmp_path)
