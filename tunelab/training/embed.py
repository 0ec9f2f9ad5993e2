"""Embeddings of rendered clips by a pre-trained student, kept as arrays so that heads fit in seconds."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file
from safetensors.torch import load_file
from safetensors.torch import save_file as save_torch

from tunelab.audio.mel import MelConfig
from tunelab.errors import SettingsError
from tunelab.training.clips import MEL_FLOOR_DB, MEL_STEP_DB
from tunelab.training.config import PretrainConfig
from tunelab.training.musicnn import TAGS_FOLDER
from tunelab.training.precision import quick_arithmetic
from tunelab.training.student import AUXILIARY, FREQUENCY_PATCHES, TIME_PATCHES, WIDTH, Student
from tunelab.training.targets import ANSWERS, answers_of, load_clips
from tunelab.types import FloatArray

BATCH, WORKERS = 4, 2
WEIGHTS, EMBEDDINGS = "student.safetensors", "embeddings.safetensors"


def load_student(run: Path) -> Student:
    """The student of a finished run, in evaluation mode.

    Raises:
        ValueError: the weights are not such a student's.
    """
    weights = load_file(run / WEIGHTS)
    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("ast.layers."))
    sizes = [weights[f"{name}.bias"].shape[0] for name in ("to_dense", "to_trunk", "to_scores.2")]
    # Runs of before know neither: theirs are the shape of the bundle.
    config = json.loads((run / "run.json").read_text()).get("config", {})
    student = Student(layers, *sizes, width=config.get("width", WIDTH), pooling=config.get("pooling", "mean"))
    missing, unexpected = student.load_state_dict(weights, strict=False)
    if unexpected or any(not name.startswith(AUXILIARY) for name in missing):
        raise ValueError(f"{run.name} holds another kind of encoder")
    # All tokens at once: the fused attention is the quicker one here.
    student.ast.config._attn_implementation = "sdpa"
    return student.eval().requires_grad_(False)


def run_of_bundle(bundle: Path, run: Path) -> None:
    """Write a run whose student is a bundle's encoder, so that its clips can be embedded and heads fitted anew.

    Raises:
        RuntimeError: the bundle's encoder has another shape.
        SettingsError: ``run`` is a pre-training run.
    """
    facts_file = run / "run.json"
    if facts_file.exists() and "steps" in json.loads(facts_file.read_text()):
        raise SettingsError(f"{run.name} is a pre-training run: choose another name")
    front_end = MelConfig.load(bundle / "preprocessor_config.json")
    # The projectors are of no use here; one of each is enough.
    student = Student(1, 1, 1, 1)
    student.start_from(bundle)
    kept = {name: value for name, value in student.state_dict().items() if not name.startswith(AUXILIARY)}
    # The same bundle gives the same file, by which embeddings are known again.
    kept = {name: torch.zeros_like(value) if name.startswith("to_") else value for name, value in kept.items()}
    run.mkdir(parents=True, exist_ok=True)
    save_torch({name: value.contiguous() for name, value in kept.items()}, run / WEIGHTS)
    facts = {"mean": front_end.mean, "std": front_end.std, "config": asdict(PretrainConfig(init=str(bundle)))}
    facts_file.write_text(json.dumps(facts, indent=2) + "\n")


def patches_kept(time_stride: int) -> torch.Tensor:
    """Patch numbers when every ``time_stride``-th time patch is kept, shape ``(k,)``."""
    rows = torch.arange(FREQUENCY_PATCHES)[:, None] * TIME_PATCHES
    return (rows + torch.arange(0, TIME_PATCHES, time_stride)[None]).reshape(-1)


def embed_mels(student: Student, mels: npt.NDArray[np.uint8], mean: float, std: float, time_stride: int) -> FloatArray:
    """Quantised mels ``(n, 1876, 128)`` -> embeddings, float32 ``(n, 768)``, in :func:`quick_arithmetic`."""
    kept = patches_kept(time_stride)[None]

    def embed(start: int) -> FloatArray:
        decibels = torch.from_numpy(mels[start : start + BATCH]).float() * MEL_STEP_DB + MEL_FLOOR_DB
        with torch.inference_mode(), quick_arithmetic():
            embedded = student.embed((decibels - mean) / std, kept.expand(len(decibels), -1))
            embeddings: FloatArray = embedded.float().numpy()
        return embeddings

    torch.set_num_threads(1)
    with ThreadPoolExecutor(WORKERS, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return np.concatenate(list(pool.map(embed, range(0, len(mels), BATCH))))


def embed_clips(clips: Path, run: Path) -> None:
    """Write ``embeddings.safetensors`` into ``run``, with the teachers' answers and what is known of each clip.

    Nothing is done where they are there already, of the same encoder and the same clips. Held-out clips are embedded
    with all patches and with every second time patch; training clips take turns between every second and every fourth,
    so that a head depends on neither.

    Raises:
        SettingsError: a clip has no tags yet.
    """
    stamp = _stamp(clips, run)
    if _stamp_of(run / EMBEDDINGS) == stamp:
        return
    student = load_student(run)
    facts = json.loads((run / "run.json").read_text())
    mean, std = facts["mean"], facts["std"]
    heldout, train = (load_clips(clips, split, ("mel", *ANSWERS)) for split in ("heldout", "train"))
    answers = {"heldout": answers_of(heldout), "train": answers_of(train)}
    arrays = {
        "heldout": embed_mels(student, heldout["mel"], mean, std, 1),
        "heldout_every_2nd": embed_mels(student, heldout["mel"], mean, std, 2),
        "train": np.zeros((len(train["mel"]), student.ast.config.hidden_size), np.float32),
    }
    for turn, stride in ((0, 2), (1, 4), (2, 4)):
        arrays["train"][turn::3] = embed_mels(student, train["mel"][turn::3], mean, std, stride)
    for split, (scores, tags, known) in answers.items():
        arrays |= {f"{split}_scores": scores, f"{split}_tags": tags, f"{split}_known": known}
    save_file(arrays, run / EMBEDDINGS, stamp)


def load_embeddings(run: Path) -> dict[str, FloatArray]:
    """What :func:`embed_clips` wrote.

    Raises:
        SettingsError: there is nothing, or it is of another encoder than the run's.
    """
    stamp = _stamp_of(run / EMBEDDINGS)
    if stamp is None:
        raise SettingsError(f"{run.name} has no embeddings: its clips are embedded after pre-training")
    if stamp.get("encoder") != _digest(run / WEIGHTS):
        raise SettingsError(f"the embeddings in {run.name} are of another encoder than the one there")
    arrays: dict[str, FloatArray] = load_arrays(run / EMBEDDINGS)
    return arrays


def _stamp(clips: Path, run: Path) -> dict[str, str]:
    """What embeddings belong to: the encoder, and clips and tags by their files' names, sizes and times of change."""
    files = [*clips.glob("*.safetensors"), *(clips / TAGS_FOLDER).glob("*.safetensors")]
    found = [(path.relative_to(clips), path.stat()) for path in sorted(files)]
    shards = [f"{path} {facts.st_size} {facts.st_mtime_ns}" for path, facts in found]
    return {"encoder": _digest(run / WEIGHTS), "clips": hashlib.sha256("\n".join(shards).encode()).hexdigest()}


def _stamp_of(embeddings: Path) -> dict[str, str] | None:
    """What embeddings say that they belong to; None where there are none."""
    try:
        with safe_open(embeddings, "numpy") as file:
            stamp: dict[str, str] = file.metadata() or {}
            return stamp
    except (OSError, SafetensorError):
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
