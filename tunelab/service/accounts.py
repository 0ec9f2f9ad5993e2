"""What an administrator does with accounts, keys and credits; synchronous, for commands and the first start."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tunelab.service.errors import AdminError
from tunelab.service.keys import digest, new_key, public_prefix
from tunelab.service.tables import TIERS, Account, ApiKey, LedgerEntry

MAX_CREDITS = 10**12
_FIRST_ACCOUNT_LOCK = 0x66697273744B6579


def create_account(session: Session, name: str, *, tier: str = "free", credits: int = 0) -> tuple[Account, str]:
    """Create an account with a balance and one key; returns both. The key cannot be read again later.

    Raises:
        AdminError: the name is taken or not 1 to 100 printable characters, the tier is unknown, or the credits are
            not in 0..10^12.
    """
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise AdminError("a name must have 1 to 100 printable characters")
    _check_tier(tier)
    if not 0 <= credits <= MAX_CREDITS:
        raise AdminError(f"credits must be from 0 to {MAX_CREDITS}")
    account = Account(name=name, tier=tier, balance=credits)
    try:
        with session.begin_nested():
            session.add(account)
            session.flush()
    except IntegrityError:
        raise AdminError(f"there is already an account named {name!r}") from None
    session.refresh(account)
    if credits:
        session.add(LedgerEntry(account_id=account.id, delta=credits, balance_after=credits, reason="signup"))
    return account, create_key(session, account)


def create_first_account(session: Session, *, tier: str, credits: int) -> str | None:
    """Create the account ``default`` if there is no account at all; returns its key, else None."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _FIRST_ACCOUNT_LOCK})
    if session.scalar(select(func.count()).select_from(Account)):
        return None
    return create_account(session, "default", tier=tier, credits=credits)[1]


def list_accounts(session: Session) -> Sequence[Account]:
    """All accounts by name."""
    return session.scalars(select(Account).order_by(Account.name)).all()


def find_account(session: Session, name_or_id: str) -> Account:
    """The account of that name or id.

    Raises:
        AdminError: there is none.
    """
    account = session.scalar(select(Account).where(Account.name == name_or_id))
    if account is None:
        try:
            account = session.get(Account, uuid.UUID(name_or_id))
        except ValueError:
            account = None
    if account is None:
        raise AdminError(f"there is no account {name_or_id!r}")
    return account


def set_tier(session: Session, account: Account, tier: str) -> None:
    """Change the tier; it holds from the next request on.

    Raises:
        AdminError: the tier is unknown.
    """
    _check_tier(tier)
    account.tier = tier
    session.flush()


def set_disabled(session: Session, account: Account, disabled: bool) -> None:
    """Switch an account off, or on again. Its data stays."""
    account.disabled_at = datetime.now(UTC) if disabled else None
    session.flush()


def create_key(session: Session, account: Account) -> str:
    """Add a key to an account and return it: the only time that it can be read."""
    key = new_key()
    session.add(ApiKey(account_id=account.id, prefix=public_prefix(key), digest=digest(key)))
    session.flush()
    return key


def list_keys(session: Session, account: Account) -> Sequence[ApiKey]:
    """Keys of an account, oldest first, with the revoked ones."""
    return session.scalars(select(ApiKey).where(ApiKey.account_id == account.id).order_by(ApiKey.id)).all()


def revoke_key(session: Session, prefix: str) -> ApiKey:
    """Revoke the key with that public prefix (``tl_live_`` and 8 characters); a whole key is accepted too.

    Raises:
        AdminError: there is none, or it was revoked before.
    """
    key = session.scalar(select(ApiKey).where(ApiKey.prefix == public_prefix(prefix)))
    if key is None:
        raise AdminError(f"there is no key {public_prefix(prefix)!r}; see 'tunelab keys list'")
    if key.revoked_at is not None:
        raise AdminError(f"key {key.prefix!r} was revoked before")
    key.revoked_at = datetime.now(UTC)
    session.flush()
    return key


def grant_credits(session: Session, account: Account, credits: int, reason: str) -> int:
    """Add credits (or take them, if negative) and write the ledger; returns the new balance.

    Raises:
        AdminError: 0 credits, too many, no reason, or the balance would go below zero.
    """
    if credits == 0 or abs(credits) > MAX_CREDITS:
        raise AdminError(f"credits must be from 1 to {MAX_CREDITS}, or negative to take some")
    if not reason.strip():
        raise AdminError("a reason is needed; it is kept in the ledger")
    balance = session.scalar(
        update(Account)
        .where(Account.id == account.id, Account.balance + credits >= 0)
        .values(balance=Account.balance + credits)
        .returning(Account.balance)
        .execution_options(synchronize_session=False)
    )
    if balance is None:
        raise AdminError(f"{account.name!r} has {account.balance} credits; the balance cannot go below zero")
    session.add(LedgerEntry(account_id=account.id, delta=credits, balance_after=balance, reason=reason.strip()))
    session.flush()
    return balance


def ledger(session: Session, account: Account, limit: int) -> Sequence[LedgerEntry]:
    """The newest ``limit`` changes of a balance, newest first."""
    entries = select(LedgerEntry).where(LedgerEntry.account_id == account.id)
    return session.scalars(entries.order_by(LedgerEntry.id.desc()).limit(limit)).all()


def _check_tier(tier: str) -> None:
    if tier not in TIERS:
        raise AdminError(f"there is no tier {tier!r}; choose from {', '.join(TIERS)}")
