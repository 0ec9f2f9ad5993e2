"""API keys: how they are made, and what is kept of them."""

from __future__ import annotations

import hashlib
import re
import secrets
import string

PREFIX = "tl_live_"
_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 43
_PUBLIC = 8
_FORM = re.compile(rf"{PREFIX}[A-Za-z0-9]{{{_LENGTH}}}")


def new_key() -> str:
    """A fresh key: ``tl_live_`` and 43 random letters and digits, 256 bits."""
    # Letters and digits only: a double click selects all of it, and no shell takes it for an option.
    return PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def is_key(value: str) -> bool:
    """Whether ``value`` has the form of a key, so that asking the database makes sense."""
    return _FORM.fullmatch(value) is not None


def public_prefix(key: str) -> str:
    """The part of a key that may be shown: it names the key, and leaves more than 200 bits unknown."""
    return key[: len(PREFIX) + _PUBLIC]


def digest(key: str) -> bytes:
    """What is stored instead of the key, 32 bytes.

    Plain SHA-256, on purpose: slow, salted hashes make guessable passwords expensive to guess. A key of 256 random
    bits cannot be guessed however fast the hash, and this one is computed for every request. The database compares
    hashes, which an attacker cannot steer byte by byte, so timing tells nothing.
    """
    return hashlib.sha256(key.encode()).digest()
