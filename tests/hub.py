"""A stand-in for the Hugging Face hub: a checkpoint of the published layout with random weights, out of a folder."""

from __future__ import annotations

import fnmatch
import hashlib
import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.hf_api import ModelInfo
from safetensors.torch import save_file
from transformers import ASTConfig, ASTForAudioClassification

REPOSITORY = "mtg-upf/discogs-maest-5s-pw-129e"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
BLOCKS, WIDTH, FRAMES = 9, 32, 316
MODULE = "audio_spectrogram_transformer."
OLD_NAMES = (
    ("layers.", "encoder.layer."),
    ("attention.q_proj", "attention.attention.query"),
    ("attention.k_proj", "attention.attention.key"),
    ("attention.v_proj", "attention.attention.value"),
    ("attention.o_proj", "attention.output.dense"),
    ("mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "output.dense"),
)
"""Names of tensors now, and in the releases that the checkpoints were published with."""
PREPROCESSOR = {
    "do_normalize": True,
    "feature_extractor_type": "MAESTFeatureExtractor",
    "hop_length": 256,
    "log_compression": "logC",
    "max_length": FRAMES,
    "mean": 2.06755686098554,
    "n_fft": 512,
    "num_mel_bins": 96,
    "sampling_rate": 16_000,
    "std": 1.268292820667291,
}


def published(seed: int = 0) -> ASTForAudioClassification:
    """A model of the published layout, but small; its weights are numbers that half precision holds exactly."""
    torch.manual_seed(seed)
    config = ASTConfig(
        num_mel_bins=96,
        max_length=FRAMES,
        num_hidden_layers=BLOCKS,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_attention_heads=4,
        layer_norm_eps=1e-6,
        num_labels=5,
    )
    model = ASTForAudioClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter + 0.1 * torch.randn_like(parameter)).half())
    return model


def write_repository(
    folder: Path, model: ASTForAudioClassification, *, old: bool = True, bare: bool = False, **config: Any
) -> Path:
    """Write a repository's files, with things beside them that must not be downloaded.

    ``old`` gives the tensors the names that they were published with, ``bare`` leaves the classifier out, ``config``
    goes into ``config.json``.
    """
    folder.mkdir(parents=True)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    if bare:
        weights = {name.removeprefix(MODULE): value for name, value in weights.items() if name.startswith(MODULE)}
    if old:
        for now, then in OLD_NAMES:
            weights = {name.replace(now, then): value for name, value in weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    kept = {key: value for key, value in model.config.to_dict().items() if value is not None}
    extra = {"auto_map": {"AutoConfig": "evil.Config"}, "torch_dtype": "float16"}
    (folder / "config.json").write_text(json.dumps({**kept, **extra, **config}))
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "evil.py").write_text("raise SystemExit('code of the repository ran')\n")
    (folder / "README.md").write_text("its card\n")
    return folder


class Hub:
    """Answers for the hub's client, and keeps how it was called.

    Attributes:
        folder: the repository's files.
        asked, downloaded: keyword arguments of each call.
        licence: what the repository's card says, or ``None``.
        commit: what any revision stands for.
        hashes: SHA-256 by name instead of the true ones.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[dict[str, Any]] = []
        self.downloaded: list[dict[str, Any]] = []
        self.licence: str | None = "cc-by-nc-sa-4.0"
        self.commit = COMMIT
        self.hashes: dict[str, str] = {}
        # What the true client would not take, this one does not take either.
        self._asking = inspect.signature(huggingface_hub.HfApi.model_info)
        self._downloading = inspect.signature(huggingface_hub.snapshot_download)

    def model_info(self, repo_id: str, **options: Any) -> ModelInfo:
        self._asking.bind(None, repo_id, **options)
        self.asked.append({"repo_id": repo_id, **options})
        return ModelInfo(
            id=repo_id,
            sha=self.commit,
            cardData=None if self.licence is None else {"license": self.licence},
            siblings=[self._sibling(path) for path in sorted(self.folder.iterdir())],
        )

    def snapshot_download(self, repo_id: str, **options: Any) -> str:
        self._downloading.bind(repo_id, **options)
        self.downloaded.append({"repo_id": repo_id, **options})
        target = Path(options["local_dir"])
        target.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in options["allow_patterns"]):
                shutil.copy(path, target)
        return str(target)

    def _sibling(self, path: Path) -> dict[str, Any]:
        data = path.read_bytes()
        sibling: dict[str, Any] = {"rfilename": path.name, "size": len(data), "blobId": "0" * 40}
        if path.suffix in (".safetensors", ".bin"):
            sha256 = self.hashes.get(path.name, hashlib.sha256(data).hexdigest())
            sibling["lfs"] = {"size": len(data), "sha256": sha256, "pointerSize": 134}
        return sibling


def install(hub: Hub, patch: pytest.MonkeyPatch) -> Hub:
    """Let the hub's client ask ``hub``."""
    patch.setattr(huggingface_hub.HfApi, "model_info", lambda _, repo_id, **options: hub.model_info(repo_id, **options))
    patch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    return hub
