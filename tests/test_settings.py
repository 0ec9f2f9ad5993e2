"""Settings refuse nonsense at start, by name and with the reason, and never show a secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from tunelab.errors import SettingsError
from tunelab.settings import Settings, load_settings

SECRET = "hunter2-do-not-print"


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TUNELAB_")]:
        monkeypatch.delenv(name)


def test_defaults() -> None:
    settings = load_settings()
    assert settings.max_upload_bytes == 50_000_000
    assert settings.database_url is None
    assert settings.decode_timeout_s < settings.request_timeout_s
    assert settings.analyze_credits == 5


def test_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNELAB_MAX_UPLOAD_MB", "0.5")
    monkeypatch.setenv("TUNELAB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TUNELAB_SIGNUP_TIER", "pro")
    settings = load_settings()
    assert settings.max_upload_bytes == 500_000
    assert settings.data_dir == tmp_path
    assert settings.signup_tier == "pro"


def test_arguments_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELAB_ANALYZE_CREDITS", "7")
    assert load_settings().analyze_credits == 7
    assert load_settings(analyze_credits=3).analyze_credits == 3


def test_data_folder_follows_the_desktop_standard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert load_settings().data_dir == tmp_path / "tunelab"
    monkeypatch.setenv("XDG_DATA_HOME", "")
    assert load_settings().data_dir == Path.home() / ".local" / "share" / "tunelab"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_UPLOAD_MB", "0"),
        ("MAX_UPLOAD_MB", "-5"),
        ("MAX_UPLOAD_MB", "nan"),
        ("MAX_UPLOAD_MB", "inf"),
        ("MAX_UPLOAD_MB", "many"),
        ("MAX_UPLOAD_MB", ""),
        ("MIN_DURATION_S", "0"),
        ("MIN_DURATION_S", "nan"),
        ("MAX_DURATION_S", "1e9"),
        ("MAX_DURATION_S", "nan"),
        ("REQUEST_TIMEOUT_S", "0"),
        ("REQUEST_TIMEOUT_S", "inf"),
        ("UPLOAD_TIMEOUT_S", "nan"),
        ("DECODE_TIMEOUT_S", "-1"),
        ("DATABASE_POOL_SIZE", "0"),
        ("DATABASE_POOL_SIZE", "1.5"),
        ("ANALYZE_CREDITS", "-1"),
        ("SIGNUP_CREDITS", "-1"),
        ("SIGNUP_TIER", "gold"),
        ("MAX_CONCURRENT_PER_ACCOUNT", "0"),
        ("DATABASE_URL", "mysql://localhost/tunelab"),
        ("DATABASE_URL", "sqlite:///tunelab.db"),
        ("DATABASE_URL", "localhost"),
    ],
)
def test_nonsense_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TUNELAB_{name}", value)
    with pytest.raises(SettingsError, match=f"TUNELAB_{name}: "):
        load_settings()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"MIN_DURATION_S": "30", "MAX_DURATION_S": "20"}, "min_duration_s must be below max_duration_s"),
        ({"DECODE_TIMEOUT_S": "30", "REQUEST_TIMEOUT_S": "30"}, "decode_timeout_s must be below request_timeout_s"),
    ],
)
def test_settings_that_contradict_each_other(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], message: str
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"TUNELAB_{name}", value)
    with pytest.raises(SettingsError, match=message):
        load_settings()


def test_every_fault_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELAB_MAX_UPLOAD_MB", "0")
    monkeypatch.setenv("TUNELAB_ANALYZE_CREDITS", "-1")
    with pytest.raises(SettingsError, match=r"MAX_UPLOAD_MB.*ANALYZE_CREDITS"):
        load_settings()


def test_unknown_arguments() -> None:
    with pytest.raises(SettingsError, match="TUNELAB_MAX_UPLAOD_MB"):
        load_settings(max_uplaod_mb=3)


def test_misspelt_names(monkeypatch: pytest.MonkeyPatch) -> None:
    # Names that are like none of ours may be anybody's: these are what Kubernetes sets beside a service.
    for name in ("SERVICE_HOST", "PORT_8000_TCP_ADDR", "MODELS_DIR", "max_upload_mb"):
        monkeypatch.setenv(f"TUNELAB_{name}", "3")
    assert load_settings().max_upload_mb == 3
    monkeypatch.setenv("TUNELAB_MAX_UPLAOD_MB", "77")
    monkeypatch.setenv("tunelab_singup_credits", "77")
    with pytest.raises(SettingsError, match=r"TUNELAB_MAX_UPLAOD_MB: .*; TUNELAB_MAX_UPLOAD_MB was meant") as caught:
        load_settings()
    assert "TUNELAB_SIGNUP_CREDITS was meant" in caught.value.message
    assert "77" not in caught.value.message


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_database_url_is_kept_secret(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    url = f"{scheme}://user:{SECRET}@localhost/tunelab"
    monkeypatch.setenv("TUNELAB_DATABASE_URL", url)
    settings = load_settings()
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == url
    for shown in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert SECRET not in shown


def test_refused_secrets_are_not_echoed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELAB_DATABASE_URL", f"mysql://user:{SECRET}@localhost/tunelab")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert SECRET not in caught.value.message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_contradictions_do_not_echo_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELAB_DATABASE_URL", f"postgresql://user:{SECRET}@localhost/tunelab")
    monkeypatch.setenv("TUNELAB_DECODE_TIMEOUT_S", "60")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert SECRET not in caught.value.message


def test_empty_database_url_means_the_embedded_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELAB_DATABASE_URL", "")
    assert load_settings().database_url is None


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().analyze_credits = 0
