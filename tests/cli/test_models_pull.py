"""``tunelab models pull``: consent, what is printed, what is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.cli.conftest import Command
from tests.hub import COMMIT, REPOSITORY, Hub, install, published, write_repository
from tunelab.cli import app
from tunelab.cli import models as cli
from tunelab.encoder import Bundle
from tunelab.errors import BundleError, SettingsError

NAME = REPOSITORY.partition("/")[2]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("hub") / "repository", published())


@pytest.fixture
def hub(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    return install(Hub(repository), monkeypatch)


@pytest.fixture(autouse=True)
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``$XDG_DATA_HOME``, where bundles go by default."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


def test_pull_list_show(command: Command, hub: Hub, data_home: Path) -> None:
    output = command("models", "pull", REPOSITORY, "--accept-licence").stdout
    folder = data_home / "tunelab" / "models" / NAME
    for part in (COMMIT, "CC BY-NC-SA 4.0", "not for commercial use", str(folder), f"--revision {COMMIT}", "no heads"):
        assert part in output
    [row] = [row for row in json.loads(command("models", "list", "--json").stdout) if row["name"] == NAME]
    assert row == {"name": NAME, "version": COMMIT[:12], "licence": "CC BY-NC-SA 4.0", "heads": []}
    shown = command("models", "show", NAME).stdout
    assert "CC BY-NC-SA 4.0" in shown
    assert "No heads" in shown


def test_options(command: Command, hub: Hub, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    options = ("--layer", "2", "--pooling", "mean", "--revision", "v2", "--out", out, "--accept-licence")
    command("models", "pull", NAME, *options)
    assert (hub.asked[0]["repo_id"], hub.asked[0]["revision"]) == (REPOSITORY, "v2")
    pooling = Bundle.open(out).pooling
    assert (pooling.layer, pooling.pooling) == (3, "mean")
    # The command that the card gives makes it again.
    again = Bundle.open(out).card["reproduce"][0].split()[1:]
    command(*again, "--out", tmp_path / "again", "--accept-licence")
    assert hub.asked[1]["revision"] == COMMIT
    assert Bundle.open(tmp_path / "again").revision == Bundle.open(out).revision


def test_without_a_terminal_and_without_consent(command: Command, hub: Hub, data_home: Path) -> None:
    result = command("models", "pull", REPOSITORY, code=1)
    assert isinstance(result.exception, SettingsError)
    assert "--accept-licence" in str(result.exception)
    assert hub.asked == hub.downloaded == []
    assert not data_home.exists()


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_refused_consent(answer: str, hub: Hub, data_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_at_a_terminal", lambda: True)
    result = CliRunner().invoke(app, ["models", "pull", REPOSITORY], input=answer)
    assert result.exit_code == 1
    assert "CC BY-NC-SA 4.0" in result.stdout
    assert "Do you accept" in result.stdout
    assert hub.downloaded == []
    assert not data_home.exists()


def test_consent(hub: Hub, data_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_at_a_terminal", lambda: True)
    result = CliRunner().invoke(app, ["models", "pull", REPOSITORY], input="y\n")
    assert result.exit_code == 0
    assert len(hub.downloaded) == 1
    assert (data_home / "tunelab" / "models" / NAME / "model.safetensors").is_file()


def test_existing_folder(command: Command, hub: Hub, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    command("models", "pull", REPOSITORY, "--out", out, "--accept-licence")
    result = command("models", "pull", REPOSITORY, "--out", out, "--accept-licence", code=1)
    assert isinstance(result.exception, BundleError)
    assert len(hub.asked) == len(hub.downloaded) == 1
    command("models", "pull", REPOSITORY, "--out", out, "--accept-licence", "--force", "--layer", "0")
    assert Bundle.open(out).pooling.layer == 1


def test_analyze_says_that_there_are_no_heads(command: Command, hub: Hub, music: Path) -> None:
    command("models", "pull", REPOSITORY, "--accept-licence")
    result = command("analyze", music / "a.flac", "--bundle", NAME, "--engine", "torch", code=1)
    assert isinstance(result.exception, BundleError)
    assert "has no heads.safetensors; train heads for it first" in result.exception.message


@pytest.mark.parametrize("options", [("--layer", "-1"), ("--pooling", "max"), ("--layer", "48")])
def test_impossible_options(options: tuple[str, str], command: Command, hub: Hub) -> None:
    command("models", "pull", REPOSITORY, "--accept-licence", *options, code=2)
    assert hub.asked == []
