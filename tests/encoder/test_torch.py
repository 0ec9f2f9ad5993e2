"""The PyTorch engine, which the others are measured by, against ``transformers`` itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ASTModel

from tests.encoder.conftest import FRAMES, cosines
from tests.support import make_bundle
from tunelab.encoder import Bundle, Engine, load_engine
from tunelab.encoder.maest import load_maest
from tunelab.errors import BundleInvalid, EngineError
from tunelab.types import FloatArray


def plain(bundle: Bundle) -> ASTModel:
    return ASTModel.from_pretrained(bundle.path, dtype=torch.float32, attn_implementation="eager").eval()


def test_embedding_is_the_mean_of_the_patches_after_the_last_block(tmp_path: Path, mels: FloatArray) -> None:
    bundle = Bundle.open(make_bundle(tmp_path / "whole", frames=FRAMES))
    got = load_engine(bundle, "torch", threads=2, precision="f32")(mels)
    with torch.inference_mode():
        hidden = plain(bundle)(torch.from_numpy(mels), output_hidden_states=True).hidden_states[2]
    assert hidden.shape == (3, 2 + 8 * 29, 768)
    np.testing.assert_allclose(got, hidden[:, 2:].mean(dim=1), atol=1e-4)
    assert got.shape == (3, 768)
    assert got.dtype == np.float32


@pytest.mark.parametrize(("pooling", "token"), [("cls", 0), ("dist", 1)])
def test_pooling_of_one_token(tmp_path: Path, mels: FloatArray, pooling: str, token: int) -> None:
    bundle = Bundle.open(make_bundle(tmp_path / "one", layers=1, frames=FRAMES, pooling=pooling))
    got = load_engine(bundle, "torch", threads=2, precision="f32")(mels[:1])
    with torch.inference_mode():
        hidden = plain(bundle)(torch.from_numpy(mels[:1]), output_hidden_states=True).hidden_states[1]
    np.testing.assert_allclose(got, hidden[:, token], atol=1e-4)


def test_time_patch_stride_keeps_every_nth_column(tmp_path: Path, mels: FloatArray) -> None:
    bundle = Bundle.open(make_bundle(tmp_path / "strided", layers=1, frames=FRAMES, time_patch_stride=3))
    got = load_engine(bundle, "torch", threads=2, precision="f32")(mels[:1])
    model = plain(bundle)
    with torch.inference_mode():
        hidden = model.embeddings(torch.from_numpy(mels[:1]))
        patches = hidden[:, 2:].reshape(1, 8, 29, 768)[:, :, ::3].reshape(1, 8 * 10, 768)
        tokens = torch.cat([hidden[:, :2], patches], dim=1)
        for layer in model.layers:
            tokens = layer(tokens)
    np.testing.assert_allclose(got, tokens[:, 2:].mean(dim=1), atol=1e-4)
    other = Bundle.open(make_bundle(tmp_path / "whole", layers=1, frames=FRAMES))
    assert not np.allclose(got, load_engine(other, "torch", threads=2, precision="f32")(mels[:1]), atol=1e-3)


def test_alone_or_in_any_batch_the_same_numbers(reference: Engine, mels: FloatArray, wanted: FloatArray) -> None:
    np.testing.assert_array_equal(reference(mels[:0:-1]), wanted[:0:-1])


def test_read_only_input(reference: Engine, mels: FloatArray, wanted: FloatArray) -> None:
    frozen = mels[:1].copy()
    frozen.setflags(write=False)
    np.testing.assert_array_equal(reference(frozen), wanted[:1])


def test_bf16_is_close(small: Bundle, mels: FloatArray, wanted: FloatArray) -> None:
    engine = load_engine(small, "torch", threads=2, precision="bf16")
    assert engine.name == "torch-cpu-bf16"
    got = engine(mels[:2])
    assert got.dtype == np.float32
    assert cosines(got, wanted[:2]).min() > 0.999


def test_names(reference: Engine) -> None:
    assert reference.name == "torch-cpu-f32"


class TestWeights:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return make_bundle(tmp_path / "bundle", layers=1, frames=FRAMES)

    @staticmethod
    def _refused(folder: Path, message: str) -> None:
        with pytest.raises(BundleInvalid, match=message) as caught:
            load_maest(Bundle.open(folder))
        assert str(folder) not in caught.value.message

    @pytest.mark.parametrize("data", [b"", b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 100, b"PK\x03\x04"])
    def test_no_safetensors(self, folder: Path, data: bytes) -> None:
        (folder / "model.safetensors").write_bytes(data)
        self._refused(folder, "model.safetensors")

    def test_cut_off(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        self._refused(folder, "cannot be read as safetensors")

    def test_a_tensor_is_missing(self, folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors.popitem()
        save_file(tensors, folder / "model.safetensors")
        self._refused(folder, "does not fit")

    def test_a_tensor_too_many(self, folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        save_file({**tensors, "classifier.weight": torch.zeros(2)}, folder / "model.safetensors")
        self._refused(folder, "does not fit")

    def test_another_width(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 384}))
        self._refused(folder, "does not fit")

    @pytest.mark.parametrize(
        "changes",
        [
            {"hidden_size": 100},
            {"hidden_size": "wide"},
            {"num_attention_heads": 0},
            {"patch_size": 0},
            {"time_stride": 0},
            {"patch_size": 4000},
            {"hidden_act": "magic"},
        ],
        ids=str,
    )
    def test_senseless_configuration(self, folder: Path, changes: dict[str, object]) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
        self._refused(folder, r"config\.json")

    def test_weights_that_are_not_finite(self, folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors[next(iter(tensors))].fill_(float("nan"))
        save_file(tensors, folder / "model.safetensors")
        self._refused(folder, "not finite")


class TestLoading:
    def test_unknown_engine(self, small: Bundle) -> None:
        with pytest.raises(EngineError, match="unknown engine 'onnx'"):
            load_engine(small, "onnx")  # type: ignore[arg-type]

    def test_unknown_precision(self, small: Bundle) -> None:
        with pytest.raises(EngineError, match="unknown precision 'int4'"):
            load_engine(small, precision="int4")

    @pytest.mark.parametrize("threads", [0, -1])
    def test_no_threads(self, small: Bundle, threads: int) -> None:
        with pytest.raises(EngineError, match="at least 1"):
            load_engine(small, threads=threads)

    def test_wrong_shape_is_an_engine_error(self, reference: Engine) -> None:
        with pytest.raises(EngineError):
            reference(np.zeros((1, FRAMES, 64), np.float32))

    def test_what_is_no_number_is_an_engine_error(self, reference: Engine, mels: FloatArray) -> None:
        with pytest.raises(EngineError, match="no numbers"):
            reference(mels[:1] * np.float32(np.nan))

    def test_no_window_at_all(self, reference: Engine) -> None:
        assert reference(np.zeros((0, FRAMES, 128), np.float32)).shape == (0, 768)
