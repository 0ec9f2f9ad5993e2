"""Opening bundles: what is found, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunelab.encoder import Bundle, find_bundle, list_bundles
from tunelab.errors import BundleError, BundleInvalid, BundleNotFound

Damage = Callable[[Path], object]


@pytest.fixture
def folder(small: Bundle, tmp_path: Path) -> Path:
    """A copy of a good bundle; weights are linked, because opening does not read them."""
    path = tmp_path / "copy"
    shutil.copytree(small.path, path, copy_function=lambda source, target: Path(target).symlink_to(source))
    for name in ("config.json", "preprocessor_config.json", "card.json"):
        (path / name).unlink()
        shutil.copy(small.path / name, path / name)
    return path


def edit(name: str, **changes: Any) -> Damage:
    """Set values of a JSON file, by dotted path; ``...`` removes one."""

    def damage(folder: Path) -> None:
        values = json.loads((folder / name).read_text())
        for key, value in changes.items():
            *path, last = key.split("__")
            inner = values
            for part in path:
                inner = inner[part]
            if value is ...:
                del inner[last]
            else:
                inner[last] = value
        (folder / name).write_text(json.dumps(values))

    return damage


def write(name: str, data: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(data)


def remove(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def test_a_good_bundle(folder: Path) -> None:
    bundle = Bundle.open(folder)
    assert bundle.name == "copy"
    assert bundle.pooling.layer == 2
    assert bundle.pooling.pooling == "mean"
    assert bundle.mel.num_mel_bins == 128
    assert bundle.card["name"] == "small"


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (remove("config.json"), BundleNotFound, "no model bundle named 'copy'"),
        (remove("preprocessor_config.json"), BundleInvalid, r"preprocessor_config\.json cannot be read"),
        (remove("model.safetensors"), BundleInvalid, "model.safetensors is missing"),
        (write("config.json", b"{"), BundleInvalid, r"config\.json is not valid JSON"),
        (write("config.json", b"\xff\xfe"), BundleInvalid, r"config\.json is not valid JSON"),
        (write("config.json", b"[1]"), BundleInvalid, r"config\.json must hold a JSON object"),
        (write("preprocessor_config.json", b"{}"), BundleInvalid, "preprocessor_config"),
        (edit("config.json", tunelab=...), BundleInvalid, "section 'tunelab'"),
        (edit("config.json", tunelab=None), BundleInvalid, "section 'tunelab'"),
        (edit("config.json", tunelab__layer=...), BundleInvalid, "section 'tunelab'.*layer"),
        (edit("config.json", tunelab__layer=0), BundleInvalid, "section 'tunelab'.*layer"),
        (edit("config.json", tunelab__layer=3), BundleInvalid, "num_hidden_layers"),
        (edit("config.json", tunelab__pooling="max"), BundleInvalid, "section 'tunelab'.*pooling"),
        (edit("config.json", tunelab__time_patch_stride=0), BundleInvalid, "section 'tunelab'.*time_patch_stride"),
        (edit("config.json", model_type="bert"), BundleInvalid, "model_type"),
        (edit("config.json", model_type=...), BundleInvalid, "model_type"),
        (edit("config.json", num_mel_bins=96), BundleInvalid, "disagree on num_mel_bins"),
        (edit("config.json", max_length=...), BundleInvalid, "max_length: Field required"),
        (edit("preprocessor_config.json", max_length=1000), BundleInvalid, "disagree on max_length"),
        (edit("preprocessor_config.json", std=0), BundleInvalid, "std"),
    ],
)
def test_broken_bundles(folder: Path, damage: Damage, error: type[BundleError], message: str) -> None:
    damage(folder)
    with pytest.raises(error, match=message) as caught:
        Bundle.open(folder)
    assert str(folder.parent) not in caught.value.message


def test_card_may_be_missing_but_not_broken(folder: Path) -> None:
    (folder / "card.json").unlink()
    assert Bundle.open(folder).card == {}
    (folder / "card.json").write_text("{")
    with pytest.raises(BundleInvalid, match=r"card\.json"):
        _ = Bundle.open(folder).card


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors", "heads.safetensors"])
def test_fingerprint_covers_what_decides_a_score(folder: Path, name: str) -> None:
    before = Bundle.open(folder).fingerprint
    data = (folder / name).read_bytes()
    (folder / name).unlink()
    (folder / name).write_bytes(data.replace(b"}", b" }", 1) if name.endswith("json") else data[:-1] + b"\x99")
    after = Bundle.open(folder).fingerprint
    assert len(before) == 64
    assert before != after


def test_fingerprint_leaves_the_card_out(folder: Path) -> None:
    before = Bundle.open(folder).fingerprint
    edit("card.json", version="2")(folder)
    assert Bundle.open(folder).fingerprint == before


class TestFinding:
    @pytest.fixture(autouse=True)
    def _no_models_of_this_machine(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        monkeypatch.delenv("TUNELAB_MODELS_DIR", raising=False)

    def test_default_is_the_shipped_one(self) -> None:
        assert find_bundle().name == "tunelab-v1"

    def test_by_path(self, folder: Path) -> None:
        assert find_bundle(folder).path == folder.resolve()
        assert find_bundle(str(folder)).name == "copy"

    def test_relative_path_has_a_name(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        assert find_bundle(".").name == "copy"

    def test_by_name_in_the_configured_folder(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TUNELAB_MODELS_DIR", str(folder.parent))
        assert find_bundle("copy").path == folder
        assert "copy" in [path.name for path in list_bundles()]

    def test_by_name_in_the_data_folder(self, folder: Path, tmp_path: Path) -> None:
        target = tmp_path / "data" / "tunelab" / "models" / "mine"
        target.parent.mkdir(parents=True)
        folder.rename(target)
        assert find_bundle("mine").path == target

    def test_configured_folder_comes_first(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TUNELAB_MODELS_DIR", str(folder.parent))
        folder.rename(folder.with_name("tunelab-v1"))
        assert find_bundle("tunelab-v1").path == folder.with_name("tunelab-v1")
        assert [path.name for path in list_bundles()].count("tunelab-v1") == 1

    def test_a_folder_of_that_name_does_not_hide_the_installed_bundle(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = tmp_path / "here"
        (here / "copy").mkdir(parents=True)
        (here / "copy" / "notes.txt").touch()
        monkeypatch.chdir(here)
        monkeypatch.setenv("TUNELAB_MODELS_DIR", str(folder.parent))
        assert find_bundle("copy").path == folder
        # With a bundle in it, it comes first.
        shutil.copytree(folder, here / "copy", dirs_exist_ok=True)
        assert find_bundle("copy").path == here / "copy"

    @pytest.mark.parametrize("models", ["missing", "file"])
    def test_configured_folder_that_is_none(
        self, models: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("TUNELAB_MODELS_DIR", str(tmp_path / models))
        for search in (find_bundle, list_bundles):
            with pytest.raises(BundleNotFound, match="TUNELAB_MODELS_DIR") as caught:
                search()
            assert str(tmp_path) not in caught.value.message
        assert find_bundle(folder).path == folder  # a path asks nobody

    @pytest.mark.parametrize("name", ["missing", "../tunelab-v1", "/nowhere/else", "", "a/b"])
    def test_not_found_tells_what_there_is(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(BundleNotFound) as caught:
            find_bundle(name)
        if name:
            assert "tunelab-v1" in caught.value.message
        assert "/" not in caught.value.message

    def test_a_folder_that_is_no_bundle(self, tmp_path: Path) -> None:
        with pytest.raises(BundleNotFound):
            find_bundle(tmp_path)
