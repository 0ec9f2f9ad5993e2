"""What an operator may set, read from ``TUNELAB_*`` environment variables. Imports only the errors of TuneLab."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tunelab.errors import SettingsError

PREFIX = "TUNELAB_"
_LIKENESS = 0.8
"""From which on a name counts as a misspelt one."""


def _default_data_dir() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "tunelab"


class Settings(BaseSettings):
    """Settings of the service; each refuses nonsense at start.

    Every field is an environment variable: ``max_upload_mb`` is ``TUNELAB_MAX_UPLOAD_MB``.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    data_dir: Path = Field(default_factory=_default_data_dir)
    """Where the embedded PostgreSQL keeps its files."""
    database_url: SecretStr | None = None
    """``postgresql://...`` of a real server; unset, an embedded PostgreSQL is started in ``data_dir``."""
    database_pool_size: Annotated[int, Field(ge=1, le=200)] = 8
    """Connections that one ingress replica may hold."""

    max_upload_mb: Annotated[float, Field(gt=0, le=2000)] = 50
    """Largest accepted file in megabytes (10^6 bytes); the body is not read past it."""
    max_uploads_mb: Annotated[float, Field(gt=0, le=1_000_000)] = 1000
    """All files in transit through one proxy in megabytes: more are answered 503 before they are read."""
    min_duration_s: Annotated[float, Field(ge=0.1, le=30)] = 1.0
    """Shortest accepted track, in seconds."""
    max_duration_s: Annotated[float, Field(gt=1, le=24 * 3600)] = 3600.0
    """Longest accepted track, in seconds."""
    request_timeout_s: Annotated[float, Field(ge=0.5, le=600)] = 30.0
    """Longest time from the last byte of a request to its answer, in seconds."""
    upload_timeout_s: Annotated[float, Field(ge=0.5, le=3600)] = 60.0
    """Longest time that a client may take to send a body, in seconds."""
    decode_timeout_s: Annotated[float, Field(ge=0.1, le=600)] = 10.0
    """Longest time that decoding one file may take, in seconds."""

    analyze_credits: Annotated[int, Field(ge=0, le=10_000)] = 5
    """Price of one analysis."""
    timeline_credits: Annotated[int, Field(ge=0, le=10_000)] = 5
    """Price of a timeline for each started minute of the track."""
    signup_credits: Annotated[int, Field(ge=0, le=10_000_000)] = 1000
    """Credits of the account that the very first start creates."""
    signup_tier: Literal["free", "pro"] = "free"
    """Tier of the account that the very first start creates."""
    max_concurrent: Annotated[int, Field(ge=1, le=100_000)] = 32
    """Analyses in progress in one ingress replica, uploads included; more are answered 503 before they are read."""
    max_concurrent_per_account: Annotated[int, Field(ge=1, le=1000)] = 8
    """Analyses, likewise searches and new classifiers, that one account may have in progress in one ingress replica;
    more get a 429."""
    max_timeline_s: Annotated[float, Field(ge=1, le=24 * 3600)] = 1200.0
    """Longest track of which a timeline is made, in seconds: it has to be ready within ``request_timeout_s``."""
    max_classifiers: Annotated[int, Field(ge=0, le=10_000)] = 20
    """Classifiers that one account may keep."""
    max_classifier_examples: Annotated[int, Field(ge=2, le=1_000_000)] = 20_000
    """Labelled tracks that one classifier may learn from."""

    @property
    def max_upload_bytes(self) -> int:
        return int(self.max_upload_mb * 1_000_000)

    @property
    def max_uploads_bytes(self) -> int:
        return int(self.max_uploads_mb * 1_000_000)

    @field_validator("database_url")
    @classmethod
    def _postgresql_only(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        if not value.get_secret_value().startswith(("postgresql://", "postgres://", "postgresql+psycopg://")):
            raise ValueError("must be a postgresql:// URL; no other database is supported")
        return value

    @model_validator(mode="after")
    def _durations_ordered(self) -> Settings:
        if self.min_duration_s >= self.max_duration_s:
            raise ValueError("min_duration_s must be below max_duration_s")
        if self.max_uploads_mb < 1.1 * self.max_upload_mb:
            raise ValueError("max_uploads_mb must have room for a file of max_upload_mb")
        if self.decode_timeout_s >= self.request_timeout_s:
            raise ValueError("decode_timeout_s must be below request_timeout_s")
        return self


def load_settings(**overrides: object) -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsError: a value is refused, or a variable's name looks like a misspelt one; the message names the
            variable and why, never its value.
    """
    if reasons := list(_misspelt()):
        raise SettingsError("; ".join(reasons))
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        reasons = []
        for item in error.errors(include_input=False, include_url=False):
            name = "_".join(str(part) for part in item["loc"]).upper()
            reasons.append(f"TUNELAB_{name}: {item['msg']}" if name else item["msg"])
        raise SettingsError("; ".join(reasons)) from None


def _misspelt() -> Iterator[str]:
    """What is wrong with names that are nearly those of settings.

    Others are let be: Kubernetes sets ``TUNELAB_SERVICE_HOST`` and the like for a service of that name.
    """
    known = {name.upper() for name in Settings.model_fields} | {"MODELS_DIR"}
    for variable in os.environ:
        prefix, name = variable.upper()[: len(PREFIX)], variable.upper()[len(PREFIX) :]
        if prefix == PREFIX and name not in known:
            for meant in difflib.get_close_matches(name, known, 1, _LIKENESS):
                yield f"{variable}: there is no such setting; {PREFIX}{meant} was meant?"
