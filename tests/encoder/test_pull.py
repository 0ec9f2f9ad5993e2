"""Published checkpoints -> bundles, from a stand-in of the hub."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import ASTForAudioClassification
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from tests.hub import BLOCKS, COMMIT, FRAMES, MODULE, REPOSITORY, Hub, install, write_repository
from tests.hub import published as make_published
from tunelab.analyzer import Analyzer
from tunelab.audio.mel import LogMel
from tunelab.encoder import Bundle, find_bundle, load_engine
from tunelab.encoder.pull import Pooling, check_target, default_target, find_checkpoint, pull
from tunelab.errors import BundleError, BundleInvalid
from tunelab.types import FloatArray

BUNDLE_FILES = {"README.md", "card.json", "config.json", "model.safetensors", "preprocessor_config.json"}


@pytest.fixture(scope="module")
def model() -> ASTForAudioClassification:
    return make_published()


@pytest.fixture(scope="module")
def mels() -> FloatArray:
    return np.random.default_rng(1).standard_normal((2, FRAMES, 96)).astype(np.float32)


@pytest.fixture
def hub(model: ASTForAudioClassification, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    return install(Hub(write_repository(tmp_path / "repository", model)), monkeypatch)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "maest"


def _hidden(model: ASTForAudioClassification, mels: FloatArray, layer: int) -> torch.Tensor:
    """transformers' own hidden states after a block, float32 ``(n, tokens, width)``."""
    with torch.inference_mode():
        states = model.audio_spectrogram_transformer(torch.from_numpy(mels), output_hidden_states=True).hidden_states
    assert len(states) == BLOCKS + 1
    result: torch.Tensor = states[layer + 1]
    return result


def _embed(bundle: Bundle, mels: FloatArray) -> FloatArray:
    return load_engine(bundle, "torch", threads=1, precision="f32")(mels)


class TestBundle:
    @pytest.mark.parametrize("pooling", ["cls", "dist", "mean"])
    def test_embeddings_are_the_hidden_states_of_transformers(
        self, pooling: Pooling, hub: Hub, target: Path, model: ASTForAudioClassification, mels: FloatArray
    ) -> None:
        hidden = _hidden(model, mels, 6)
        wanted = {"cls": hidden[:, 0], "dist": hidden[:, 1], "mean": hidden[:, 2:].mean(1)}
        bundle = pull(find_checkpoint(REPOSITORY), target, pooling=pooling)
        got = _embed(bundle, mels)
        np.testing.assert_allclose(got, wanted[pooling].numpy(), atol=1e-4)
        # Each of the others, and the blocks beside it, would be told from it.
        for name, other in wanted.items():
            assert name == pooling or np.abs(got - other.numpy()).max() > 0.01
        for layer in (5, 7):
            state = _hidden(model, mels, layer)
            other = {"cls": state[:, 0], "dist": state[:, 1], "mean": state[:, 2:].mean(1)}[pooling]
            assert np.abs(got - other.numpy()).max() > 0.01

    @pytest.mark.parametrize("layer", [0, 3, BLOCKS - 1])
    def test_other_blocks(
        self, layer: int, hub: Hub, target: Path, model: ASTForAudioClassification, mels: FloatArray
    ) -> None:
        bundle = pull(find_checkpoint(REPOSITORY), target, layer=layer)
        assert bundle.pooling.layer == bundle.shape.num_hidden_layers == layer + 1
        np.testing.assert_allclose(_embed(bundle, mels), _hidden(model, mels, layer)[:, 0].numpy(), atol=1e-4)

    @pytest.mark.parametrize("bare", [False, True], ids=["with classifier", "without"])
    @pytest.mark.parametrize("old", [False, True], ids=["new names", "old names"])
    def test_every_layout_gives_the_same_bundle(
        self,
        old: bool,
        bare: bool,
        model: ASTForAudioClassification,
        mels: FloatArray,
        target: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        repository = write_repository(tmp_path / "other", model, old=old, bare=bare)
        names = set(load_file(repository / "model.safetensors"))
        prefix = "" if bare else MODULE
        first = "encoder.layer.0.attention.attention.query.weight" if old else "layers.0.attention.q_proj.weight"
        assert prefix + first in names
        assert ("classifier.dense.weight" in names) != bare
        install(Hub(repository), monkeypatch)
        bundle = pull(find_checkpoint(REPOSITORY), target)
        np.testing.assert_allclose(_embed(bundle, mels), _hidden(model, mels, 6)[:, 0].numpy(), atol=1e-4)
        kept = load_file(bundle.path / "model.safetensors")
        assert {value.dtype for value in kept.values()} == {torch.float16}
        assert not any(name.startswith(("layers.7.", "classifier.", MODULE)) for name in kept)

    def test_front_end_is_the_published_one(self, hub: Hub, target: Path) -> None:
        mel = pull(find_checkpoint(REPOSITORY), target).mel
        samples = np.random.default_rng(2).uniform(-0.5, 0.5, mel.num_samples).astype(np.float32)
        power = spectrogram(
            samples.astype(np.float64),
            window_function(512, "hann"),
            frame_length=512,
            hop_length=256,
            power=2.0,
            pad_mode="constant",
            mel_filters=mel_filter_bank(257, 96, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney"),
            mel_floor=1e-30,
        )
        wanted = (np.log10(1 + 10_000 * power.T) - 2.06755686098554) / (1.268292820667291 * 2)
        assert wanted.shape == (FRAMES, 96)
        np.testing.assert_allclose(LogMel(mel)(samples), wanted, atol=1e-4)

    def test_files_and_card(self, hub: Hub, target: Path) -> None:
        bundle = pull(find_checkpoint(REPOSITORY), target)
        assert {path.name for path in target.iterdir()} == BUNDLE_FILES
        assert [path.name for path in target.parent.iterdir()] == [target.name]
        # Whoever may read the configuration may read the weights.
        assert len({path.stat().st_mode for path in target.iterdir()}) == 1
        config = json.loads((target / "config.json").read_text())
        assert config["tunelab"] == {"layer": 7, "pooling": "cls", "time_patch_stride": 1}
        assert config["layer_norm_eps"] == 1e-6
        assert "auto_map" not in config
        card = bundle.card
        assert card["name"] == "maest"
        assert card["licence"] == "CC BY-NC-SA 4.0"
        sha256 = hashlib.sha256((hub.folder / "model.safetensors").read_bytes()).hexdigest()
        source = card["source"]
        assert (source["repository"], source["commit"], source["sha256"]) == (REPOSITORY, COMMIT, sha256)
        assert "ISMIR 2023" in source["paper"]
        assert card["heads"] == {}
        tokens = 2 + 9 * 31
        weights = load_file(target / "model.safetensors")
        assert card["encoder"]["tokens"] == weights["embeddings.position_embeddings"].shape[1] == tokens
        assert card["encoder"]["parameters"] == sum(value.numel() for value in weights.values())
        again = f"tunelab models pull {REPOSITORY} --revision {COMMIT} --layer 6 --pooling cls"
        assert card["reproduce"] == [again]
        text = (target / "README.md").read_text()
        for part in (REPOSITORY, COMMIT, sha256, "CC BY-NC-SA 4.0", "2 of 9 blocks cut off", "No heads", "2309.16418"):
            assert part in text

    def test_the_same_checkpoint_gives_the_same_revision(self, hub: Hub, tmp_path: Path) -> None:
        found = find_checkpoint(REPOSITORY)
        first, second = (pull(found, tmp_path / "models" / name) for name in "ab")
        assert first.revision == second.revision

    def test_is_found_by_name(self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        pull(find_checkpoint(REPOSITORY), default_target(REPOSITORY))
        assert find_bundle("discogs-maest-5s-pw-129e").mel.max_length == FRAMES

    def test_without_heads_there_are_no_scores(self, hub: Hub, target: Path) -> None:
        bundle = pull(find_checkpoint(REPOSITORY), target)
        with pytest.raises(BundleInvalid, match=r"maest has no heads\.safetensors"):
            Analyzer(bundle, engine="torch", threads=1)


class TestTarget:
    def test_what_is_there_stays(self, hub: Hub, target: Path) -> None:
        target.mkdir(parents=True)
        (target / "mine").touch()
        found = find_checkpoint(REPOSITORY)
        for force in (False, True):  # the latter because it is no bundle
            with pytest.raises(BundleError, match="maest exists"):
                pull(found, target, force=force)
        assert [path.name for path in target.iterdir()] == ["mine"]
        assert hub.downloaded == []

    def test_a_bundle_is_replaced_as_a_whole(self, hub: Hub, target: Path) -> None:
        found = find_checkpoint(REPOSITORY)
        before = pull(found, target).revision
        (target / "heads.safetensors").touch()
        with pytest.raises(BundleError, match="--force"):
            pull(found, target, layer=2)
        assert Bundle.open(target).pooling.layer == 7
        assert pull(found, target, layer=2, force=True).revision != before
        assert {path.name for path in target.iterdir()} == BUNDLE_FILES
        assert [path.name for path in target.parent.iterdir()] == [target.name]

    def test_a_failure_leaves_the_bundle_that_was_there(self, hub: Hub, target: Path) -> None:
        before = pull(find_checkpoint(REPOSITORY), target).revision
        (hub.folder / "config.json").write_text("{")
        with pytest.raises(BundleInvalid):
            pull(find_checkpoint(REPOSITORY), target, force=True)
        assert Bundle.open(target).revision == before
        assert [path.name for path in target.parent.iterdir()] == [target.name]

    def test_a_failing_renaming_brings_it_back(self, hub: Hub, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = pull(find_checkpoint(REPOSITORY), target).revision
        rename = Path.rename

        def fail(self: Path, to: Path) -> Path:
            if self.name == "bundle":
                raise PermissionError(13, "Permission denied")
            return rename(self, to)

        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(BundleError, match="maest cannot be written: Permission denied"):
            pull(find_checkpoint(REPOSITORY), target, force=True)
        assert Bundle.open(target).revision == before

    def test_empty_folders_links_and_files(self, tmp_path: Path) -> None:
        check_target(tmp_path / "nothing")
        (tmp_path / "empty").mkdir()
        with pytest.raises(BundleError):
            check_target(tmp_path / "empty")
        check_target(tmp_path / "empty", force=True)
        (tmp_path / "file").touch()
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        for name in ("file", "link"):
            for force in (False, True):
                with pytest.raises(BundleError):
                    check_target(tmp_path / name, force=force)

    def test_a_parent_that_is_a_file(self, hub: Hub, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(BundleError, match="cannot be written") as caught:
            pull(find_checkpoint(REPOSITORY), tmp_path / "file" / "maest")
        assert str(tmp_path) not in caught.value.message
        assert hub.downloaded == []

    def test_default(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        assert default_target(REPOSITORY) == tmp_path / "tunelab" / "models" / "discogs-maest-5s-pw-129e"
        monkeypatch.delenv("XDG_DATA_HOME")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        expected = tmp_path / "home" / ".local" / "share" / "tunelab" / "models" / "discogs-maest-5s-pw-129e"
        assert default_target(REPOSITORY) == expected
