"""``tunelab accounts|keys|credits`` on the embedded database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tunelab.cli import admin
from tunelab.service.database import open_database
from tunelab.service.keys import is_key
from tunelab.settings import load_settings

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder: Path = tmp_path_factory.mktemp("tunelab")
    app = typer.Typer()
    app.add_typer(admin.accounts, name="accounts")
    app.add_typer(admin.keys, name="keys")
    app.add_typer(admin.credits, name="credits")
    runner = CliRunner()
    environment = {"TUNELAB_DATA_DIR": str(folder), "TUNELAB_DATABASE_URL": "", "COLUMNS": "200"}

    def run(*arguments: str, code: int = 0, env: dict[str, str] | None = None) -> Any:
        result = runner.invoke(app, list(arguments), env={**environment, **(env or {})})
        assert result.exit_code == code, result.output
        return result

    lease = open_database(load_settings(data_dir=folder))
    yield run
    lease.close()


def test_life_of_an_account(run: Run) -> None:
    created = run("accounts", "create", "label [red]", "--tier", "pro", "--credits", "20")
    key = created.stdout.strip()
    assert is_key(key)
    listed = json.loads(run("accounts", "list", "--json").stdout)
    assert [(row["name"], row["tier"], row["credits"]) for row in listed] == [("label [red]", "pro", 20)]
    assert "label [red]" in run("accounts", "list").stdout
    account = listed[0]["id"]
    assert json.loads(run("accounts", "set-tier", account, "free", "--json").stdout)["tier"] == "free"
    assert json.loads(run("accounts", "disable", account, "--json").stdout)["disabled"]
    assert json.loads(run("accounts", "enable", account, "--json").stdout)["disabled"] is None
    assert json.loads(run("accounts", "show", account, "--json").stdout)["name"] == "label [red]"

    second = json.loads(run("keys", "create", account, "--json").stdout)["key"]
    assert is_key(second)
    assert second != key
    keys = run("keys", "list", account)
    assert key not in keys.stdout
    assert second not in keys.stdout
    assert json.loads(run("keys", "revoke", key[:16], "--json").stdout)[0]["revoked"]
    run("keys", "revoke", key[:16], code=1)
    rows = json.loads(run("keys", "list", account, "--json").stdout)
    assert [row["revoked"] is None for row in rows] == [False, True]

    assert json.loads(run("credits", "grant", account, "5", "--reason", "thanks", "--json").stdout)["credits"] == 25
    assert json.loads(run("credits", "grant", account, "-24", "--reason", "refund", "--json").stdout)["credits"] == 1
    assert "below zero" in run("credits", "grant", account, "-2", "--reason", "x", code=1).stderr
    ledger = json.loads(run("credits", "ledger", account, "--json").stdout)
    assert [(row["change"], row["balance"], row["reason"]) for row in ledger] == [
        (-24, 1, "refund"),
        (5, 25, "thanks"),
        (20, 20, "signup"),
    ]
    assert "refund" in run("credits", "ledger", account).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("accounts", "create", "twice"), "already"),
        (("accounts", "create", ""), "1 to 100"),
        (("accounts", "create", "a\nb"), "printable"),
        (("accounts", "create", "c", "--tier", "gold"), "no tier"),
        (("accounts", "show", "nobody"), "no account 'nobody'"),
        (("keys", "create", "nobody"), "no account"),
        (("keys", "revoke", "tl_live_nothing"), "no key"),
        (("credits", "grant", "twice", "0", "--reason", "x"), "from 1"),
        (("credits", "grant", "twice", "9999999999999999999", "--reason", "x"), "from 1"),
        (("credits", "grant", "twice", "1", "--reason", " "), "reason"),
    ],
)
def test_errors_are_one_line_and_exit_code_1(run: Run, arguments: tuple[str, ...], message: str) -> None:
    if not json.loads(run("accounts", "list", "--json").stdout) or "twice" not in run("accounts", "list").stdout:
        run("accounts", "create", "twice")
    result = run(*arguments, code=1)
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_wrong_usage_is_exit_code_2(run: Run) -> None:
    run("accounts", "create", code=2)
    run("credits", "grant", "twice", "many", "--reason", "x", code=2)
    run("credits", "grant", "twice", "1", code=2)


def test_unreachable_database_is_told_without_its_password(run: Run) -> None:
    url = "postgresql://tunelab:sekret@127.0.0.1:1/music"
    result = run("accounts", "list", code=1, env={"TUNELAB_DATABASE_URL": url})
    assert "127.0.0.1:1" in result.stderr
    assert "sekret" not in result.output
