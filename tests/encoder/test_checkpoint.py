"""What is no MAEST checkpoint is told, and nothing is left behind; from a stand-in of the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.hub import BLOCKS, MODULE, REPOSITORY, WIDTH, Hub, install, published, write_repository
from tunelab.encoder.hub import find_checkpoint
from tunelab.encoder.pull import pull
from tunelab.errors import BundleInvalid, SettingsError


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    return install(Hub(write_repository(tmp_path / "repository", published())), monkeypatch)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "maest"


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


def test_the_front_ends_file_may_be_missing(hub: Hub, target: Path) -> None:
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
def test_what_is_no_maest_checkpoint(edit: Callable[[Path], None], message: str, hub: Hub, target: Path) -> None:
    edit(hub.folder)
    with pytest.raises(BundleInvalid, match=message) as caught:
        pull(find_checkpoint(REPOSITORY), target)
    assert str(target.parent) not in caught.value.message
    assert list(target.parent.iterdir()) == []


def test_a_block_that_there_is_not(hub: Hub, target: Path) -> None:
    with pytest.raises(SettingsError, match="blocks 0 to 8, no block 9"):
        pull(find_checkpoint(REPOSITORY), target, layer=BLOCKS)
    assert list(target.parent.iterdir()) == []
