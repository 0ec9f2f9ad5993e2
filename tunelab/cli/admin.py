"""``tunelab accounts|keys|credits``: who may use the service, and with how much."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tunelab.errors import TuneLabError

Row = Mapping[str, Any]

accounts = typer.Typer(help="Accounts of the service.", no_args_is_help=True)
keys = typer.Typer(help="Keys of an account. A key is shown once, when it is made.", no_args_is_help=True)
credits = typer.Typer(help="Credits of an account.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
AccountName = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Name or id of the account.")]


@contextmanager
def _admin() -> Iterator[Any]:
    """A session on the service's database; errors of ours end the command with one line and exit code 1."""
    # SQLAlchemy takes a quarter of a second to import, which `tunelab analyze` should not wait for.
    from tunelab.service.database import sync_session
    from tunelab.settings import load_settings

    try:
        with sync_session(load_settings()) as session:
            yield session
    except TuneLabError as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(1) from None


@accounts.command("create")
def create_account(
    name: Annotated[str, typer.Argument(help="1 to 100 characters; no two accounts share one.")],
    tier: Annotated[str, typer.Option(help="free or pro.")] = "free",
    credits: Annotated[int, typer.Option("--credits", min=0, help="Credits to begin with.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Create an account with one key, and show the key: it cannot be shown again."""
    from tunelab.service.accounts import create_account

    with _admin() as session:
        account, key = create_account(session, name, tier=tier, credits=credits)
        row = {**_account(account), "key": key}
    _show_key(row, as_json)


@accounts.command("list")
def list_accounts(as_json: AsJson = False) -> None:
    """List the accounts."""
    from tunelab.service.accounts import list_accounts

    with _admin() as session:
        rows = [_account(account) for account in list_accounts(session)]
    _show(rows, as_json)


@accounts.command("show")
def show_account(account: AccountName, as_json: AsJson = False) -> None:
    """Show one account."""
    _change(account, lambda session, found: None, as_json)


@accounts.command("set-tier")
def set_tier(
    account: AccountName, tier: Annotated[str, typer.Argument(help="free or pro.")], as_json: AsJson = False
) -> None:
    """Change an account's tier; it holds from its next request on."""
    from tunelab.service.accounts import set_tier

    _change(account, lambda session, found: set_tier(session, found, tier), as_json)


@accounts.command("disable")
def disable(account: AccountName, as_json: AsJson = False) -> None:
    """Switch an account off: its requests are answered 403. Nothing is deleted."""
    from tunelab.service.accounts import set_disabled

    _change(account, lambda session, found: set_disabled(session, found, True), as_json)


@accounts.command("enable")
def enable(account: AccountName, as_json: AsJson = False) -> None:
    """Switch an account on again."""
    from tunelab.service.accounts import set_disabled

    _change(account, lambda session, found: set_disabled(session, found, False), as_json)


@keys.command("create")
def create_key(account: AccountName, as_json: AsJson = False) -> None:
    """Make another key for an account, and show it: it cannot be shown again."""
    from tunelab.service.accounts import create_key, find_account

    with _admin() as session:
        found = find_account(session, account)
        row = {**_account(found), "key": create_key(session, found)}
    _show_key(row, as_json)


@keys.command("list")
def list_keys(account: AccountName, as_json: AsJson = False) -> None:
    """List the keys of an account, by their first characters."""
    from tunelab.service.accounts import find_account, list_keys

    with _admin() as session:
        found = list_keys(session, find_account(session, account))
        rows = [{"key": key.prefix, "created": key.created_at, "revoked": key.revoked_at} for key in found]
    _show(rows, as_json)


@keys.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(help="First characters of the key, as 'keys list' shows them.")],
    as_json: AsJson = False,
) -> None:
    """Revoke a key; it stops working with the next request."""
    from tunelab.service.accounts import revoke_key

    with _admin() as session:
        revoked = revoke_key(session, key)
        row = {"key": revoked.prefix, "created": revoked.created_at, "revoked": revoked.revoked_at}
    _show([row], as_json)


# A negative number would otherwise be taken for an option.
@credits.command("grant", context_settings={"ignore_unknown_options": True})
def grant(
    account: AccountName,
    amount: Annotated[int, typer.Argument(metavar="N", help="Credits to add; negative takes some.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger.")],
    as_json: AsJson = False,
) -> None:
    """Add credits to an account, or take some."""
    from tunelab.service.accounts import grant_credits

    _change(account, lambda session, found: grant_credits(session, found, amount, reason), as_json)


@credits.command("ledger")
def show_ledger(
    account: AccountName,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many of the newest changes.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the changes of an account's balance, newest first."""
    from tunelab.service.accounts import find_account, ledger

    with _admin() as session:
        rows = [
            {
                "time": entry.created_at,
                "change": entry.delta,
                "balance": entry.balance_after,
                "reason": entry.reason,
                "track": entry.content_id,
                "model": entry.model,
                "trace": entry.trace_id,
            }
            for entry in ledger(session, find_account(session, account), limit)
        ]
    _show(rows, as_json)


def _change(account: str, change: Callable[[Any, Any], object], as_json: bool) -> None:
    from tunelab.service.accounts import find_account

    with _admin() as session:
        found = find_account(session, account)
        change(session, found)
        session.refresh(found)
        row = _account(found)
    _show([row], as_json, one=True)


def _account(account: Any) -> Row:
    return {
        "name": account.name,
        "id": str(account.id),
        "tier": account.tier,
        "credits": account.balance,
        "created": account.created_at,
        "disabled": account.disabled_at,
    }


def _show_key(row: Row, as_json: bool) -> None:
    if as_json:
        _show([row], as_json, one=True)
        return
    typer.echo(
        f"account {row['name']} ({row['tier']}), {row['credits']} credits; its new key, shown only now:", err=True
    )
    # Alone on standard output, so that KEY=$(tunelab keys create NAME) works.
    typer.echo(row["key"])


def _show(rows: Sequence[Row], as_json: bool, *, one: bool = False) -> None:
    if as_json:
        typer.echo(json.dumps(rows[0] if one else rows, default=_json_value, indent=2))
        return
    if not rows:
        typer.echo("none", err=True)
        return
    table = Table()
    for name, value in rows[0].items():
        # Long ids are folded and never cut: what is shown can be copied.
        table.add_column(name, justify="right" if isinstance(value, int) else "left", overflow="fold")
    for row in rows:
        # As Text, because a name may hold what rich takes for markup.
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    Console().print(table)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return str(value)


def _json_value(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
