import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch

from tunelab.errors import SettingsError
from tunelab.training.clips import stamp
from tunelab.training.embed import embed_clips, load_embeddings, patches_kept
from tunelab.training.student import PATCHES, TIME_PATCHES, Student


def _clips(folder: Path, split: str, n: int) -> None:
    rng = np.random.default_rng(n)
    name = f"{split}-0001-0000.safetensors"
    folder.mkdir(exist_ok=True)
    mels = rng.integers(0, 255, (n, 1876, 128)).astype(np.uint8)
    answers = {"scores": rng.random((n, 7)).astype(np.float32), "known": np.zeros((n, 4), np.float32)}
    save_file({"mel": mels} | answers, folder / name, stamp())
    (folder / "tags").mkdir(exist_ok=True)
    save_file({"tags": rng.normal(size=(n, 10, 100)).astype(np.float16)}, folder / "tags" / name)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    run = tmp_path / "run"
    run.mkdir()
    save_torch(dict(Student(1, 10, 12, 8).state_dict()), run / "student.safetensors")
    (run / "run.json").write_text(json.dumps({"mean": -27.0, "std": 21.0, "config": {"width": 768, "pooling": "mean"}}))
    _clips(tmp_path / "clips", "train", 4)
    _clips(tmp_path / "clips", "heldout", 2)
    return run


def test_all_clips_are_embedded_beside_their_answers(run: Path) -> None:
    clips = run.parent / "clips"
    embed_clips(clips, run)
    arrays = load_file(run / "embeddings.safetensors")
    assert arrays["train"].shape == (4, 768)
    assert arrays["heldout"].shape == arrays["heldout_every_2nd"].shape == (2, 768)
    assert np.all(np.isfinite(arrays["train"]))
    assert (np.abs(arrays["train"]).sum(1) > 0).all()
    tags = load_file(clips / "tags" / "train-0001-0000.safetensors")["tags"]
    np.testing.assert_allclose(arrays["train_tags"], tags.astype(np.float32).mean(1), atol=1e-6)


def test_untagged_clips_are_refused(run: Path) -> None:
    clips = run.parent / "clips"
    (clips / "tags" / "heldout-0001-0000.safetensors").unlink()
    with pytest.raises(SettingsError, match="tag"):
        embed_clips(clips, run)


def test_embeddings_are_made_again_where_encoder_or_clips_changed(run: Path) -> None:
    clips = run.parent / "clips"
    with pytest.raises(SettingsError, match="no embeddings"):
        load_embeddings(run)
    embed_clips(clips, run)
    made = (run / "embeddings.safetensors").stat().st_mtime_ns
    embed_clips(clips, run)
    assert (run / "embeddings.safetensors").stat().st_mtime_ns == made
    # Other tags of the same size are others.
    tags = clips / "tags" / "train-0001-0000.safetensors"
    save_file({"tags": np.ones((4, 10, 100), np.float16)}, tags)
    embed_clips(clips, run)
    assert (load_embeddings(run)["train_tags"] == 1).all()
    _clips(clips, "train", 5)
    embed_clips(clips, run)
    before = load_embeddings(run)["train"]
    assert before.shape == (5, 768)
    torch.manual_seed(1)
    save_torch(dict(Student(1, 10, 12, 8).state_dict()), run / "student.safetensors")
    with pytest.raises(SettingsError, match="another encoder"):
        load_embeddings(run)
    embed_clips(clips, run)
    assert not np.allclose(load_embeddings(run)["train"], before)


def test_every_nth_time_patch_is_kept_in_all_rows() -> None:
    kept = patches_kept(2)
    assert len(kept) == PATCHES // TIME_PATCHES * 59
    assert set((kept % TIME_PATCHES).tolist()) == set(range(0, TIME_PATCHES, 2))
