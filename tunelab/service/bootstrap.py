"""The very first start."""

from __future__ import annotations

from tunelab.service.accounts import create_first_account
from tunelab.service.database import sync_session
from tunelab.settings import Settings


def ensure_first_key(settings: Settings) -> str | None:
    """Make sure that somebody can use the service; safe to call at every start, and by several at once.

    Returns:
        The key of the account ``default``, with ``signup_credits`` credits, if there was no account and it was
        created now: show it to the operator, it cannot be read again. None if there are accounts.

    Raises:
        SettingsError, DatabaseUnavailable: the database cannot be used.
    """
    with sync_session(settings) as session:
        return create_first_account(session, tier=settings.signup_tier, credits=settings.signup_credits)
