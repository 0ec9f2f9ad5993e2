"""Embeddings of rendered clips by a pre-trained student, kept as arrays so that heads fit in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file

from tunelab.training.clips import MEL_FLOOR_DB, MEL_STEP_DB
from tunelab.training.pretrain import load_clips
from tunelab.training.student import FREQUENCY_PATCHES, TIME_PATCHES, Student
from tunelab.types import FloatArray


def load_student(run: Path) -> Student:
    """The student of a finished run, in evaluation mode."""
    weights = load_file(run / "student.safetensors")
    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("ast.layers."))
    sizes = [weights[f"{name}.bias"].shape[0] for name in ("to_dense", "to_trunk", "to_scores.2")]
    student = Student(layers, *sizes)
    student.load_state_dict(weights)
    # All tokens at once: the fused attention is the quicker one here.
    student.ast.config._attn_implementation = "sdpa"
    return student.eval().requires_grad_(False)


def patches_kept(time_stride: int) -> torch.Tensor:
    """Patch numbers when every ``time_stride``-th time patch is kept, shape ``(k,)``."""
    rows = torch.arange(FREQUENCY_PATCHES)[:, None] * TIME_PATCHES
    return (rows + torch.arange(0, TIME_PATCHES, time_stride)[None]).reshape(-1)


def embed_mels(student: Student, mels: npt.NDArray[np.uint8], mean: float, std: float, time_stride: int) -> FloatArray:
    """Quantised mels ``(n, 1876, 128)`` -> embeddings, float32 ``(n, 768)``, in bf16 arithmetic."""
    kept = patches_kept(time_stride)[None]
    out = []
    for start in range(0, len(mels), 4):
        decibels = torch.from_numpy(mels[start : start + 4]).float() * MEL_STEP_DB + MEL_FLOOR_DB
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            tokens = student.tokens((decibels - mean) / std, kept.expand(len(decibels), -1))
            out.append(tokens.float().mean(1).numpy())
    return np.concatenate(out)


def embed_clips(clips: Path, run: Path) -> None:
    """Write ``embeddings.safetensors`` into ``run``: held-out clips with all patches and with every second time patch.

    Training clips take turns between the two: a head that has seen both depends on neither.
    """
    student = load_student(run)
    facts = json.loads((run / "run.json").read_text())
    mean, std = facts["mean"], facts["std"]
    heldout, train = load_clips(clips, "heldout"), load_clips(clips, "train")
    arrays = {
        "heldout": embed_mels(student, heldout["mel"], mean, std, 1),
        "heldout_every_2nd": embed_mels(student, heldout["mel"], mean, std, 2),
        "train": np.zeros((len(train["mel"]), 768), np.float32),
    }
    for turn, stride in ((0, 1), (1, 2), (2, 2)):
        arrays["train"][turn::3] = embed_mels(student, train["mel"][turn::3], mean, std, stride)
    for split, data in (("heldout", heldout), ("train", train)):
        arrays |= {f"{split}_scores": data["scores"], f"{split}_known": data["known"]}
    save_file(arrays, run / "embeddings.safetensors")
