"""``tunelab catalog import`` on the embedded database."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.similarity.support import failed_rows, rows_of, write_output
from tests.support import make_bundle
from tunelab.cli import app
from tunelab.encoder.bundle import find_bundle
from tunelab.errors import CatalogError
from tunelab.service.database import open_database
from tunelab.service.errors import AdminError
from tunelab.settings import load_settings

Run = Callable[..., Any]
NAMES = [f"track {number}" for number in range(12)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run ``tunelab ARGUMENTS`` on a database with the account ``label``, with one small bundle installed."""
    folder = tmp_path_factory.mktemp("tunelab")
    bundle = make_bundle(folder / "models" / "small-v1", layers=1)
    runner = CliRunner()
    environment = {
        "TUNELAB_DATA_DIR": str(folder),
        "TUNELAB_DATABASE_URL": "",
        "TUNELAB_MODELS_DIR": str(bundle.parent),
        "COLUMNS": "200",
    }

    def run(*arguments: str | Path, error: type[Exception] | None = None) -> Any:
        result = runner.invoke(app, [str(argument) for argument in arguments], env=environment)
        if error is None:
            assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
        else:
            assert isinstance(result.exception, error), result.output
            assert result.exit_code == 1
        return result

    lease = open_database(load_settings(data_dir=folder, database_url=None))
    run("accounts", "create", "label", "--tier", "pro", "--credits", "7")
    yield run
    lease.close()


def test_import_prints_what_became_of_the_rows(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_output(tmp_path / "out", rows_of([*NAMES, NAMES[0]]), failed_rows(["bad"]))
    first = run("catalog", "import", folder, "--account", "label", "--bundle", "small-v1")
    assert first.stdout == "imported 12, already there 1, skipped 1; no credits were charged\n"
    # They are stored, but the service answers with another model.
    assert re.fullmatch(r"note: 13 rows are of fake-v1 \(revision 1\), not of small-v1 .*\n", first.stderr)
    again = run("catalog", "import", folder, "--account", "label", "--bundle", "small-v1", "--json")
    assert json.loads(again.stdout) == {
        "imported": 0,
        "already_there": 13,
        "skipped": 1,
        "failed": 1,
        "unusable": 0,
        "versions": [{"model": "fake-v1", "revision": "1", "rows": 13}],
    }
    account = json.loads(run("accounts", "show", "label", "--json").stdout)
    assert account["credits"] == 7


def test_rows_of_the_current_model_need_no_note(run: Run, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNELAB_MODELS_DIR", str(tmp_path))
        bundle = find_bundle(make_bundle(tmp_path / "small-v1", layers=1))
    rows = rows_of(NAMES, model="small-v1", revision=bundle.revision, energy=[*[0.5] * 11, 7.0])
    folder = write_output(tmp_path / "out", rows)
    result = run("catalog", "import", folder, "--account", "label", "--bundle", "small-v1")
    assert result.stdout.startswith("imported 11, already there 0, skipped 1;")
    assert result.stderr == "note: 1 of the rows that were skipped hold no error, but make no sense\n"
    unknown = run("catalog", "import", folder, "--account", "label", "--bundle", "no-such-bundle")
    assert "whether the rows are of the current model is not known" in unknown.stderr


def test_what_cannot_be_imported_is_one_line(run: Run, tmp_path: Path) -> None:
    folder = write_output(tmp_path / "out", rows_of(NAMES))
    result = run("catalog", "import", folder, "--account", "nobody", error=AdminError)
    assert str(result.exception) == "there is no account 'nobody'"
    for wrong in (tmp_path / "nowhere", tmp_path):
        run("catalog", "import", wrong, "--account", "label", error=CatalogError)
    for part in folder.glob("rows/*/*.parquet"):
        part.write_bytes(b"PAR1, and nothing more")
    run("catalog", "import", folder, "--account", "label", error=CatalogError)
