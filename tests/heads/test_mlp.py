"""The heads against PyTorch, and what their file may hold."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from tunelab.encoder import Bundle
from tunelab.errors import BundleInvalid
from tunelab.heads import Heads, load_heads, save_heads
from tunelab.types import HEADS, FloatArray

SHIPPED = Path(__file__).parents[2] / "models" / "tunelab-v1"
Tensors = dict[str, FloatArray]


def tensors(heads: tuple[str, ...] = HEADS, width: int = 768, hidden: int = 256, seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    made = {}
    for head in heads:
        made[f"{head}.hidden.weight"] = rng.normal(0, 0.05, (hidden, width)).astype(np.float32)
        made[f"{head}.hidden.bias"] = rng.normal(0, 0.1, hidden).astype(np.float32)
        made[f"{head}.output.weight"] = rng.normal(0, 0.2, (1, hidden)).astype(np.float32)
        made[f"{head}.output.bias"] = rng.normal(0, 0.1, 1).astype(np.float32)
    return made


def with_torch(weights: Tensors, head: str, embedding: FloatArray) -> float:
    shape = weights[f"{head}.hidden.weight"].shape
    mlp = nn.Sequential(nn.Linear(shape[1], shape[0]), nn.ReLU(), nn.Linear(shape[0], 1), nn.Sigmoid())
    state = {
        "0.weight": weights[f"{head}.hidden.weight"],
        "0.bias": weights[f"{head}.hidden.bias"],
        "2.weight": weights[f"{head}.output.weight"],
        "2.bias": weights[f"{head}.output.bias"],
    }
    mlp.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
    with torch.inference_mode():
        return float(mlp.double()(torch.from_numpy(embedding).double())[0])


def test_scores_are_those_of_a_torch_mlp() -> None:
    weights = tensors()
    heads = Heads(weights)
    for seed in range(5):
        embedding = np.random.default_rng(seed).standard_normal(768).astype(np.float32)
        scores = heads(embedding)
        assert tuple(scores) == HEADS
        for head, score in scores.items():
            assert score == pytest.approx(with_torch(weights, head, embedding), abs=1e-6)
            assert 0 < score < 1
            assert type(score) is float


def test_shipped_heads_too() -> None:
    heads, weights = load_heads(Bundle.open(SHIPPED)), load_file(SHIPPED / "heads.safetensors")
    embedding = np.random.default_rng(0).standard_normal(heads.width).astype(np.float32)
    for head, score in heads(embedding).items():
        assert score == pytest.approx(with_torch(weights, head, embedding), abs=1e-6)
    assert heads.names
    assert set(heads.names) <= set(HEADS)


@pytest.mark.parametrize(("bias", "score"), [(1e30, 1.0), (-1e30, 0.0), (0.0, 0.5), (200.0, 1.0)])
def test_extreme_logits_do_not_overflow(bias: float, score: float) -> None:
    weights = tensors(("energy",))
    weights["energy.output.weight"][:] = 0
    weights["energy.output.bias"][:] = bias
    assert Heads(weights)(np.ones(768, np.float32)) == {"energy": score}


def test_order_is_that_of_every_answer_and_only_shipped_heads_count() -> None:
    some = ("speechiness", "energy", "happiness")
    heads = Heads(tensors(some))
    assert heads.names == ("energy", "happiness", "speechiness")
    assert tuple(heads(np.ones(768, np.float32))) == heads.names


def test_other_sizes() -> None:
    heads = Heads(tensors(("energy",), width=10, hidden=3))
    assert heads.width == 10
    assert 0 < heads(np.ones(10, np.float32))["energy"] < 1


@pytest.mark.parametrize(
    "embedding",
    [
        np.ones(767, np.float32),
        np.ones((1, 768), np.float32),
        np.full(768, np.nan, np.float32),
        np.full(768, np.inf, np.float32),
    ],
    ids=["short", "batch", "nan", "inf"],
)
def test_embeddings_that_are_none(embedding: FloatArray) -> None:
    with pytest.raises(ValueError, match="768 finite numbers"):
        Heads(tensors())(embedding)


def _without(name: str) -> Callable[[Tensors], object]:
    return lambda weights: weights.pop(name)


def _with(name: str, value: FloatArray) -> Callable[[Tensors], object]:
    return lambda weights: weights.update({name: value})


DAMAGE: dict[str, Callable[[Tensors], object]] = {
    "empty": lambda weights: weights.clear(),
    "missing-bias": _without("energy.hidden.bias"),
    "missing-weight": _without("energy.hidden.weight"),
    "unknown-head": _with("loudness.hidden.weight", np.ones((2, 768), np.float32)),
    "unknown-tensor": _with("energy.norm.weight", np.ones(768, np.float32)),
    "other-width": _with("energy.hidden.weight", np.ones((256, 700), np.float32)),
    "other-hidden": _with("energy.hidden.bias", np.ones(255, np.float32)),
    "two-outputs": _with("energy.output.weight", np.ones((2, 256), np.float32)),
    "scalar-bias": _with("energy.output.bias", np.float32(1).reshape(())),
    "scalar-hidden-bias": _with("energy.hidden.bias", np.float32(1).reshape(())),
    "scalar-weight": _with("energy.hidden.weight", np.float32(1).reshape(())),
    "flat-weight": _with("energy.hidden.weight", np.ones(768, np.float32)),
    "no-hidden-units": _with("energy.hidden.weight", np.ones((0, 768), np.float32)),
    "nan": _with("energy.hidden.bias", np.full(256, np.nan, np.float32)),
    "inf": _with("energy.output.weight", np.full((1, 256), np.inf, np.float32)),
    "too-large": _with("energy.output.bias", np.array([1e300])),
    "whole-numbers": _with("energy.output.bias", np.array([1], np.int64)),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_tensors_that_do_not_fit(name: str, tmp_path: Path) -> None:
    weights = tensors()
    DAMAGE[name](weights)
    with pytest.raises(BundleInvalid, match=r"heads\.safetensors"):
        Heads(dict(weights))
    with pytest.raises(BundleInvalid):
        save_heads(tmp_path / "heads.safetensors", weights)
    assert not list(tmp_path.iterdir())


def test_half_precision_is_read() -> None:
    weights = tensors()
    halves = Heads({name: value.astype(np.float16) for name, value in weights.items()})  # type: ignore[misc]
    embedding = np.random.default_rng(0).standard_normal(768).astype(np.float32)
    for head, score in Heads(weights)(embedding).items():
        assert halves(embedding)[head] == pytest.approx(score, abs=2e-3)


class TestFile:
    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Bundle:
        folder = tmp_path / "bundle"
        folder.mkdir()
        for name in ("config.json", "preprocessor_config.json"):
            shutil.copy(SHIPPED / name, folder)
        (folder / "model.safetensors").touch()
        return Bundle.open(folder)

    def test_written_and_read(self, bundle: Bundle) -> None:
        weights = tensors()
        save_heads(bundle.path / "heads.safetensors", weights)
        embedding = np.random.default_rng(0).standard_normal(768).astype(np.float32)
        assert load_heads(bundle)(embedding) == Heads(weights)(embedding)

    def test_missing(self, bundle: Bundle) -> None:
        with pytest.raises(BundleInvalid, match="train heads"):
            load_heads(bundle)

    def test_in_a_type_that_numpy_has_not(self, bundle: Bundle) -> None:
        from safetensors.torch import save_file

        halves = {name: torch.from_numpy(value).bfloat16() for name, value in tensors().items()}
        save_file(halves, bundle.path / "heads.safetensors")
        with pytest.raises(BundleInvalid, match="must hold float32"):
            load_heads(bundle)

    @pytest.mark.parametrize("data", [b"", b"junk", b"\x80\x04K\x01."])
    def test_no_safetensors(self, bundle: Bundle, data: bytes) -> None:
        (bundle.path / "heads.safetensors").write_bytes(data)
        with pytest.raises(BundleInvalid, match="cannot be read as safetensors"):
            load_heads(bundle)

    def test_of_another_width_than_the_encoder(self, bundle: Bundle) -> None:
        save_file(tensors(width=512), bundle.path / "heads.safetensors")
        with pytest.raises(BundleInvalid, match="512"):
            load_heads(bundle)
