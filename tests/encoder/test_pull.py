"""Published checkpoints -> bundles, from a stand-in of the hub."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import errors as hub_errors
from safetensors.torch import load_file, save_file
from transformers import ASTForAudioClassification
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from tests.hub import BLOCKS, COMMIT, FRAMES, MODULE, REPOSITORY, WIDTH, Hub, install, write_repository
from tests.hub import published as make_published
from tunelab.analyzer import Analyzer
from tunelab.audio.mel import LogMel
from tunelab.encoder import Bundle, find_bundle, load_engine
from tunelab.encoder.pull import Pooling, check_target, default_target, find_checkpoint, full_name, pull
from tunelab.errors import BundleError, BundleInvalid, BundleNotFound, SettingsError
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


class TestHub:
    def test_is_not_told_what_runs_here(self) -> None:
        code = (
            "from tunelab.encoder import pull; pull._hub_client(); from huggingface_hub import constants; "
            "raise SystemExit(0 if constants.HF_HUB_DISABLE_TELEMETRY else 'it is')"
        )
        environment = {key: value for key, value in os.environ.items() if "TELEMETRY" not in key}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)

    def test_is_asked_for_one_commit_and_three_files(self, hub: Hub, target: Path) -> None:
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

    def test_main_is_the_default(self, hub: Hub) -> None:
        find_checkpoint("discogs-maest-5s-pw-129e")
        assert hub.asked == [{"repo_id": REPOSITORY, "revision": "main", "files_metadata": True}]

    def test_a_commit_is_itself(self, hub: Hub) -> None:
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
    def test_licence(self, repository: str, stated: str | None, licence: str, hub: Hub, target: Path) -> None:
        hub.licence = stated
        found = find_checkpoint(repository)
        assert found.licence == licence
        assert ("not for commercial use" in found.terms) == (licence == "CC BY-NC-SA 4.0")

    def test_other_bytes_than_the_hub_has(self, hub: Hub, target: Path) -> None:
        hub.hashes["model.safetensors"] = "0" * 64
        with pytest.raises(BundleInvalid, match="SHA-256"):
            pull(find_checkpoint(REPOSITORY), target)
        assert list(target.parent.iterdir()) == []

    def test_a_file_that_does_not_arrive(self, hub: Hub, target: Path) -> None:
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
        self, error: type[Exception], expected: type[BundleError], message: str, monkeypatch: pytest.MonkeyPatch
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

    def test_failing_download_leaves_nothing(self, hub: Hub, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any, local_dir: Path, **__: Any) -> Any:
            Path(local_dir).mkdir()
            (Path(local_dir) / "model.safetensors.incomplete").write_bytes(b"half")
            raise ConnectionError("gone")

        found = find_checkpoint(REPOSITORY)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
        with pytest.raises(BundleError, match="could not be asked"):
            pull(found, target)
        assert list(target.parent.iterdir()) == []


def _response() -> Any:
    """A response of the class that the client's own errors carry."""
    module = __import__(hub_errors.Response.__module__.partition(".")[0])
    return module.Response(404, request=module.Request("GET", "https://huggingface.co/secret"))


def _edit(name: str, **values: Any) -> Callable[[Path], None]:
    def edit(repository: Path) -> None:
        path = repository / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return edit


def _replace(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda repository: (repository / name).write_bytes(data) and None


def _weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def edit(repository: Path) -> None:
        weights = load_file(repository / "model.safetensors")
        change(weights)
        save_file(weights, repository / "model.safetensors")

    return edit


CLS = MODULE + "embeddings.cls_token"
QUERY = MODULE + "encoder.layer.{}.attention.attention.query.weight"


def _poison(value: float, name: str) -> Callable[[Path], None]:
    return _weights(lambda weights: weights[name].view(-1)[0:1].fill_(value))


class TestRefusals:
    @pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
    def test_a_repository_without_a_file(self, name: str, hub: Hub) -> None:
        (hub.folder / name).unlink()
        with pytest.raises(BundleInvalid, match=f"has no {name}"):
            find_checkpoint(REPOSITORY)
        assert hub.downloaded == []

    def test_the_front_ends_file_may_be_missing(self, hub: Hub, target: Path) -> None:
        (hub.folder / "preprocessor_config.json").unlink()
        assert pull(find_checkpoint(REPOSITORY), target).mel.num_mel_bins == 96

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (_edit("config.json", model_type="wav2vec2"), "model_type"),
            (_edit("config.json", num_mel_bins=128), "num_mel_bins"),
            (_edit("config.json", max_length=10**9), "max_length"),
            (_edit("config.json", hidden_size="wide"), "hidden_size"),
            (_edit("config.json", hidden_act="no such function"), "does not fit"),
            (_edit("config.json", max_length=626), "does not fit"),
            (_edit("config.json", hidden_size=64), "does not fit"),
            (_edit("config.json", num_hidden_layers=8), "layers.8."),
            (_replace("config.json", b"{"), "not valid JSON"),
            (_replace("config.json", b"\xff\xfe"), "not valid JSON"),
            (_replace("config.json", b"[]"), "JSON object"),
            (_edit("preprocessor_config.json", hop_length=160), "hop_length must be 256"),
            (_edit("preprocessor_config.json", std=2.5), "std must be"),
            (_edit("preprocessor_config.json", log_compression="log"), "log_compression"),
            (_edit("preprocessor_config.json", mean="2"), "mean must be"),
            (_replace("model.safetensors", b"\x80\x04not safetensors"), "safetensors"),
            (_poison(float("nan"), CLS), "cls_token holds numbers that are not finite"),
            (_poison(float("inf"), QUERY.format(8)), "not finite"),
            (_poison(1e6, QUERY.format(0)), "half precision"),
            (_weights(lambda weights: weights.pop(CLS)), r"has no .*cls_token"),
            (_weights(lambda weights: weights.pop(QUERY.format(3))), r"has no .*layers\.3\.attention\.q_proj"),
            (_weights(lambda weights: weights.update({"extra.weight": torch.zeros(1)})), "extra.weight"),
            (_weights(lambda weights: weights.update({CLS: torch.zeros(1, 1, WIDTH, dtype=torch.int8)})), "floating"),
            (_weights(lambda weights: weights.update({CLS: torch.zeros(1, 1, WIDTH + 1)})), "does not fit"),
        ],
    )
    def test_what_is_no_maest_checkpoint(
        self, edit: Callable[[Path], None], message: str, hub: Hub, target: Path
    ) -> None:
        edit(hub.folder)
        with pytest.raises(BundleInvalid, match=message) as caught:
            pull(find_checkpoint(REPOSITORY), target)
        assert str(target.parent) not in caught.value.message
        assert list(target.parent.iterdir()) == []

    def test_a_block_that_there_is_not(self, hub: Hub, target: Path) -> None:
        with pytest.raises(SettingsError, match="blocks 0 to 8, no block 9"):
            pull(find_checkpoint(REPOSITORY), target, layer=BLOCKS)
        assert list(target.parent.iterdir()) == []

    @pytest.mark.parametrize(
        "name", ["", "a/b/c", "../models", "mtg-upf/..", "mtg-upf/a b", "/etc", "mtg-upf/", "a/b\n"]
    )
    def test_names(self, name: str, hub: Hub) -> None:
        with pytest.raises(SettingsError, match="no name of a repository"):
            find_checkpoint(name)
        assert hub.asked == []

    @pytest.mark.parametrize("name", [REPOSITORY, "mtg-upf/discogs-maest-30s-pw-129e-519l", "somebody/my_maest.2"])
    def test_names_that_are_some(self, name: str) -> None:
        assert full_name(name) == name

    def test_no_revision(self, hub: Hub) -> None:
        with pytest.raises(SettingsError, match="revision"):
            find_checkpoint(REPOSITORY, " ")
        assert hub.asked == []


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
        _poison(float("nan"), CLS)(hub.folder)
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
