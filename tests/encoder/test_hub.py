"""What the hub is asked for, what it answers, and what comes of it; from a stand-in of the hub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pytest
from huggingface_hub import errors as hub_errors

from tests.hub import COMMIT, REPOSITORY, Hub, install, published, write_repository
from tunelab.encoder.hub import find_checkpoint, full_name
from tunelab.encoder.pull import pull
from tunelab.errors import BundleError, BundleInvalid, BundleNotFound, SettingsError


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    return install(Hub(write_repository(tmp_path / "repository", published())), monkeypatch)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "maest"


def test_is_not_told_what_runs_here() -> None:
    code = (
        "from tunelab.encoder import hub; hub._hub_client(); from huggingface_hub import constants; "
        "raise SystemExit(0 if constants.HF_HUB_DISABLE_TELEMETRY else 'it is')"
    )
    environment = {key: value for key, value in os.environ.items() if "TELEMETRY" not in key}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_is_asked_for_one_commit_and_three_files(hub: Hub, target: Path) -> None:
    found = find_checkpoint(REPOSITORY, "v1")
    assert hub.asked == [{"repo_id": REPOSITORY, "revision": "v1", "files_metadata": True}]
    assert found.commit == COMMIT
    assert found.size == sum((hub.folder / name).stat().st_size for name in found.files)
    assert hub.downloaded == []
    pull(found, target)
    [call] = hub.downloaded
    scratch = Path(call.pop("local_dir"))
    assert call == {
        "repo_id": REPOSITORY,
        "revision": COMMIT,
        "allow_patterns": ["config.json", "preprocessor_config.json", "model.safetensors"],
    }
    assert not scratch.exists()


def test_main_is_the_default(hub: Hub) -> None:
    find_checkpoint("discogs-maest-5s-pw-129e")
    assert hub.asked == [{"repo_id": REPOSITORY, "revision": "main", "files_metadata": True}]


def test_a_commit_is_itself(hub: Hub) -> None:
    assert find_checkpoint(REPOSITORY, COMMIT).commit == COMMIT
    with pytest.raises(BundleInvalid, match="commit"):
        find_checkpoint(REPOSITORY, "f" * 40)


@pytest.mark.parametrize(
    ("repository", "stated", "licence"),
    [
        (REPOSITORY, "cc-by-nc-sa-4.0", "CC BY-NC-SA 4.0"),
        (REPOSITORY, None, "CC BY-NC-SA 4.0"),
        ("somebody/else", None, "not stated"),
        ("somebody/else", "mit", "mit"),
    ],
)
def test_licence(repository: str, stated: str | None, licence: str, hub: Hub, target: Path) -> None:
    hub.licence = stated
    found = find_checkpoint(repository)
    assert found.licence == licence
    assert ("not for commercial use" in found.terms) == (licence == "CC BY-NC-SA 4.0")


def test_other_bytes_than_the_hub_has(hub: Hub, target: Path) -> None:
    hub.hashes["model.safetensors"] = "0" * 64
    with pytest.raises(BundleInvalid, match="SHA-256"):
        pull(find_checkpoint(REPOSITORY), target)
    assert list(target.parent.iterdir()) == []


def test_a_file_that_does_not_arrive(hub: Hub, target: Path) -> None:
    found = find_checkpoint(REPOSITORY)
    (hub.folder / "config.json").unlink()
    with pytest.raises(BundleInvalid, match=r"config\.json did not arrive"):
        pull(found, target)


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (hub_errors.RepositoryNotFoundError, BundleNotFound, "no public repository"),
        (hub_errors.GatedRepoError, BundleNotFound, "asked for access"),
        (hub_errors.RevisionNotFoundError, BundleNotFound, "no revision 'main'"),
        (hub_errors.OfflineModeIsEnabled, BundleError, "could not be asked"),
        (httpx.ConnectError, BundleError, "ConnectError"),
        (OSError, BundleError, "No space left"),
    ],
)
def test_what_it_answers_instead(
    error: type[Exception], expected: type[BundleError], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        if issubclass(error, hub_errors.HfHubHTTPError):
            raise error("/secret", response=_response())
        raise error(28, "No space left on device") if error is OSError else error("/secret")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    with pytest.raises(expected, match=message) as caught:
        find_checkpoint(REPOSITORY)
    assert type(caught.value) is expected
    assert "/secret" not in caught.value.message


def test_failing_download_leaves_nothing(hub: Hub, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, local_dir: Path, **__: Any) -> Any:
        Path(local_dir).mkdir()
        (Path(local_dir) / "model.safetensors.incomplete").write_bytes(b"half")
        raise ConnectionError("gone")

    found = find_checkpoint(REPOSITORY)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(BundleError, match="could not be asked"):
        pull(found, target)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_repository_without_a_file(name: str, hub: Hub) -> None:
    (hub.folder / name).unlink()
    with pytest.raises(BundleInvalid, match=f"has no {name}"):
        find_checkpoint(REPOSITORY)
    assert hub.downloaded == []


@pytest.mark.parametrize("name", ["", "a/b/c", "../models", "mtg-upf/..", "mtg-upf/a b", "/etc", "mtg-upf/", "a/b\n"])
def test_names(name: str, hub: Hub) -> None:
    with pytest.raises(SettingsError, match="no name of a repository"):
        find_checkpoint(name)
    assert hub.asked == []


@pytest.mark.parametrize("name", [REPOSITORY, "mtg-upf/discogs-maest-30s-pw-129e-519l", "somebody/my_maest.2"])
def test_names_that_are_some(name: str) -> None:
    assert full_name(name) == name


def test_no_revision(hub: Hub) -> None:
    with pytest.raises(SettingsError, match="revision"):
        find_checkpoint(REPOSITORY, " ")
    assert hub.asked == []


def _response() -> Any:
    """A response of the class that the client's own errors carry."""
    module = __import__(hub_errors.Response.__module__.partition(".")[0])
    return module.Response(404, request=module.Request("GET", "https://huggingface.co/secret"))
