"""What a run finds left to do."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tests.catalog.support import make_rows, paths_in
from tunelab.catalog.plan import Plan, finish, make_plan
from tunelab.catalog.schema import SCHEMA
from tunelab.catalog.sources import MANIFEST_SCHEMA, UNREACHED
from tunelab.catalog.stages import STORAGE
from tunelab.catalog.store import Folder, read_job
from tunelab.errors import CatalogError


def manifest(names: str, mtime_ns: int = 1, **changed: int) -> pa.Table:
    return pa.Table.from_pylist(
        [{"path": n, "raw": None, "size": 1, "mtime_ns": changed.get(n, mtime_ns)} for n in names], MANIFEST_SCHEMA
    )


def todo(plan: Plan) -> str:
    return "".join(plan.todo["path"].to_pylist())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def finished(folder: Folder) -> Folder:
    """A finished job over a, b and c, of which b failed."""
    plan = make_plan(folder, manifest("abc"), "m", "r")
    assert todo(plan) == "abc"
    plan.rows.add(make_rows("abc", failed="b"))
    finish(folder, plan)
    return folder


def test_nothing_is_left_of_an_unchanged_catalogue(finished: Folder) -> None:
    plan = make_plan(finished, manifest("abc"), "m", "r")
    assert (todo(plan), plan.total, plan.failed) == ("", 3, 1)
    assert plan.job.finished


def test_only_what_was_not_committed_is_left_after_a_kill(folder: Folder) -> None:
    plan = make_plan(folder, manifest("abcd"), "m", "r")
    plan.rows.add(make_rows("bd", failed="d"))
    again = make_plan(folder, manifest("abcd"), "m", "r")
    assert (todo(again), again.failed) == ("ac", 1)


def test_new_changed_and_vanished_files(finished: Folder, tmp_path: Path) -> None:
    plan = make_plan(finished, manifest("bcd", c=2), "m", "r")
    assert todo(plan) == "cd"
    # Rows that no longer tell the truth are gone before their files are looked at again.
    assert paths_in(tmp_path) == ["b"]
    plan.rows.add(make_rows("cd", mtime_ns=2))
    finish(finished, plan)
    assert paths_in(tmp_path) == ["b", "c", "d"]


def test_failed_files_are_tried_again_on_demand(finished: Folder, tmp_path: Path) -> None:
    plan = make_plan(finished, manifest("abc"), "m", "r", retry_errors=True)
    assert (todo(plan), plan.failed) == ("b", 0)
    plan.rows.add(make_rows("b"))
    finish(finished, plan)
    assert paths_in(tmp_path) == ["a", "b", "c"]


def test_files_whose_storage_failed_are_tried_again_by_themselves(folder: Folder, tmp_path: Path) -> None:
    plan = make_plan(folder, manifest("abc"), "m", "r")
    rows = make_rows("abc", failed="bc").to_pylist()
    rows[2]["error_code"] = STORAGE
    plan.rows.add(pa.Table.from_pylist(rows, SCHEMA))
    finish(folder, plan)
    plan = make_plan(folder, manifest("abc"), "m", "r")
    assert (todo(plan), plan.failed) == ("c", 1)
    plan.rows.add(make_rows("c"))
    finish(folder, plan)
    assert paths_in(tmp_path) == ["a", "b", "c"]
    assert todo(make_plan(folder, manifest("abc"), "m", "r")) == ""


@pytest.mark.parametrize("source", ["xyz", ""])
def test_rows_of_another_source_are_not_taken_out_unasked(finished: Folder, tmp_path: Path, source: str) -> None:
    for revision in ("r", "s"):
        with pytest.raises(CatalogError, match="none of this source's"):
            make_plan(finished, manifest(source), "m", revision)
    assert paths_in(tmp_path) == ["a", "b", "c"]
    assert todo(make_plan(finished, manifest("abc"), "m", "r")) == ""
    plan = make_plan(finished, manifest(source), "m", "r", force=True)
    assert todo(plan) == source
    finish(finished, plan)
    assert paths_in(tmp_path) == []


def test_rows_stay_of_files_that_could_not_be_looked_for(finished: Folder, tmp_path: Path) -> None:
    plan = make_plan(finished, manifest("bcd", c=2), "m", "r", keep_missing=True)
    assert (todo(plan), plan.total, plan.failed) == ("cd", 3, 1)
    assert paths_in(tmp_path) == ["a", "b"], "c has changed, a may still be there"
    plan.rows.add(make_rows("cd", mtime_ns=2))
    finish(finished, plan)
    # When it can be searched again, nothing is computed twice.
    whole = pa.concat_tables([manifest("ab"), manifest("cd", 2)])
    assert todo(make_plan(finished, whole, "m", "r")) == ""


def test_rows_go_once_what_could_not_be_searched_is_gone_for_good(finished: Folder, tmp_path: Path) -> None:
    finish(finished, make_plan(finished, manifest("bc"), "m", "r", keep_missing=True))
    assert paths_in(tmp_path) == ["a", "b", "c"]
    # The same files as last time, but now all that there is has been seen.
    finish(finished, make_plan(finished, manifest("bc"), "m", "r"))
    assert paths_in(tmp_path) == ["b", "c"]


def test_rows_of_no_job_are_not_deleted_unasked(tmp_path: Path, folder: Folder) -> None:
    (tmp_path / "rows" / "mine").mkdir(parents=True)
    (tmp_path / "rows" / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(CatalogError, match=r"no job\.json"):
        make_plan(folder, manifest("abc"), "m", "r")
    assert [path.name for path in tmp_path.rglob("*.*")] == ["thesis.txt"]
    assert todo(make_plan(folder, manifest("abc"), "m", "r", force=True)) == "abc"


def test_another_bundle_computes_everything_and_readers_keep_the_old_rows_meanwhile(
    finished: Folder, tmp_path: Path
) -> None:
    plan = make_plan(finished, manifest("abc"), "m", "s")
    assert todo(plan) == "abc"
    plan.rows.add(make_rows("a"))
    assert paths_in(tmp_path) == ["a", "b", "c"]
    again = make_plan(finished, manifest("abc"), "m", "s")
    assert todo(again) == "bc"
    again.rows.add(make_rows("bc"))
    finish(finished, again)
    assert paths_in(tmp_path) == ["a", "b", "c"]
    assert [path.name for path in (tmp_path / "rows").iterdir()] == ["m-s-2"]


def test_force_begins_once_and_goes_on_after_a_kill(finished: Folder, tmp_path: Path) -> None:
    plan = make_plan(finished, manifest("abc"), "m", "r", force=True)
    assert todo(plan) == "abc"
    plan.rows.add(make_rows("a"))
    again = make_plan(finished, manifest("abc"), "m", "r", force=True)
    assert todo(again) == "bc"
    again.rows.add(make_rows("bc"))
    finish(finished, again)
    assert todo(make_plan(finished, manifest("abc"), "m", "r", force=True)) == "abc"


def test_a_third_bundle_in_a_row_leaves_the_finished_rows(finished: Folder, tmp_path: Path) -> None:
    make_plan(finished, manifest("abc"), "m", "s").rows.add(make_rows("a"))
    plan = make_plan(finished, manifest("abc"), "m", "t")
    assert todo(plan) == "abc"
    assert paths_in(tmp_path) == ["a", "b", "c"]
    job = read_job(finished)
    assert job is not None
    assert (job.generation, job.previous, job.finished) == ("m-t-3", "m-r-1", False)
    assert sorted(path.name for path in (tmp_path / "rows").iterdir()) == ["m-r-1"]


def hidden(names: str, unseen: str) -> pa.Table:
    """A list of which some files cannot be looked at."""
    rows = manifest(names).to_pylist()
    changes = {"size": UNREACHED, "mtime_ns": UNREACHED}
    return pa.Table.from_pylist(
        [{**row, **(changes if row["path"] in unseen else {})} for row in rows], MANIFEST_SCHEMA
    )


def test_rows_stay_of_files_that_cannot_be_looked_at(finished: Folder, tmp_path: Path) -> None:
    plan = make_plan(finished, hidden("abc", unseen="bc"), "m", "r")
    # b had failed before: its new error takes the old one's place.
    assert (todo(plan), plan.unreached) == ("b", 1)
    assert paths_in(tmp_path) == ["a", "c"]
    plan.rows.add(make_rows("b", failed="b", size=UNREACHED, mtime_ns=UNREACHED))
    finish(finished, plan)
    for _ in range(2):  # the second time nothing is compared
        again = make_plan(finished, hidden("abc", unseen="bc"), "m", "r")
        assert (todo(again), again.unreached, again.failed) == ("", 1, 1)
        finish(finished, again)
    # When they are there again, what was kept counts.
    assert todo(make_plan(finished, manifest("abc"), "m", "r")) == "b"


def test_a_disk_that_is_not_there_costs_nothing(finished: Folder, tmp_path: Path) -> None:
    for revision in ("r", "s"):
        with pytest.raises(CatalogError, match="none of the source's files can be looked at"):
            make_plan(finished, hidden("abc", unseen="abc"), "m", revision)
    assert paths_in(tmp_path) == ["a", "b", "c"]
    assert todo(make_plan(finished, manifest("abc"), "m", "r")) == ""


def test_a_list_of_nothing_but_missing_files_gives_errors(folder: Folder) -> None:
    plan = make_plan(folder, hidden("abc", unseen="abc"), "m", "r")
    assert (todo(plan), plan.unreached) == ("abc", 0)
    plan.rows.add(make_rows("abc", failed="abc", size=UNREACHED, mtime_ns=UNREACHED))
    finish(folder, plan)
    again = make_plan(folder, hidden("abc", unseen="abc"), "m", "r")
    assert (todo(again), again.unreached, again.failed) == ("", 0, 3)


def test_a_slip_after_a_new_bundle_was_begun_loses_nothing(finished: Folder, tmp_path: Path) -> None:
    begun = make_plan(finished, manifest("abc"), "m", "s")
    assert todo(begun) == "abc"
    with pytest.raises(CatalogError, match="none of this source's"):
        make_plan(finished, manifest("xyz"), "m", "s")
    assert paths_in(tmp_path) == ["a", "b", "c"]


def test_a_store_that_says_nothing_of_its_files_resumes(folder: Folder) -> None:
    plan = make_plan(folder, hidden("abc", unseen="abc"), "m", "r")
    plan.rows.add(make_rows("ab", size=UNREACHED, mtime_ns=UNREACHED))
    again = make_plan(folder, hidden("abcd", unseen="abcd"), "m", "r")
    assert (todo(again), again.unreached) == ("cd", 0)
    again.rows.add(make_rows("cd", size=UNREACHED, mtime_ns=UNREACHED))
    finish(folder, again)
    last = make_plan(folder, hidden("abcd", unseen="abcd"), "m", "r")
    assert (todo(last), last.unreached, last.failed) == ("", 0, 0)


def test_errors_of_a_new_bundle_do_not_stand_before_the_rows_of_the_old_one(finished: Folder, tmp_path: Path) -> None:
    begun = make_plan(finished, manifest("abc"), "m", "s")
    begun.rows.add(make_rows("ab", failed="ab", size=UNREACHED, mtime_ns=UNREACHED))
    with pytest.raises(CatalogError, match="can be looked at"):
        make_plan(finished, hidden("abc", unseen="abc"), "m", "s")
    assert paths_in(tmp_path) == ["a", "b", "c"]
