"""Distil the teacher into the encoder within a time budget, growing it from few blocks to all on the way."""

from __future__ import annotations

import csv
import json
import logging
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch.nn import functional

from tunelab.training.clips import MEL_FLOOR_DB, MEL_STEP_DB
from tunelab.training.optimizer import Muon
from tunelab.training.student import PATCHES, TIME_PATCHES, Student, choose_patches

log = logging.getLogger(__name__)

DENSE_PCA = 192
CHECKPOINT = "checkpoint.pt"
FOLLOWED = [2, 1, 6, 0, 3, 5]
"""Columns of the teacher's scores in the order of the six heads."""


@dataclass(frozen=True, slots=True)
class PretrainConfig:
    """What one run does. Learning rates are peaks; ``grow_at`` is the share of the time at which blocks are added;
    ``checkpoint_s`` the seconds between checkpoints.
    """

    minutes: float = 5.0
    batch: int = 32
    start_layers: int = 2
    layers: int = 6
    grow_at: float = 0.9
    muon_lr: float = 1.3e-3
    adam_lr: float = 1e-3
    decay: float = 0.05
    seed: int = 1
    checkpoint_s: float = 120.0


@dataclass(slots=True)
class Data:
    """All training clips in memory, targets standardised."""

    mels: torch.Tensor
    dense: torch.Tensor
    trunk: torch.Tensor
    scores: torch.Tensor
    weights: torch.Tensor
    mean: float
    std: float


def load_clips(folder: Path, split: str) -> dict[str, np.ndarray[Any, Any]]:
    """All rendered shards of a split, concatenated."""
    shards = [load_file(path) for path in sorted(folder.glob(f"{split}-*.safetensors"))]
    if not shards:
        raise FileNotFoundError(f"no rendered clips of split {split!r}")
    return {key: np.concatenate([shard[key] for shard in shards]) for key in shards[0]}


def prepare(clips: dict[str, np.ndarray[Any, Any]]) -> Data:
    """Reduce and standardise the targets: dense by PCA, then voice and speech activity as two more columns."""
    dense = torch.from_numpy(clips["dense"]).float()
    flat = dense.reshape(-1, dense.shape[-1])
    centre = flat.mean(0)
    torch.manual_seed(0)
    _, _, basis = torch.pca_lowrank(flat[torch.randperm(len(flat))[:20_000]] - centre, q=DENSE_PCA, center=False)
    reduced = (dense - centre) @ basis
    # One scale for all components: the small ones must not weigh as much as the large ones.
    reduced = reduced / reduced.reshape(-1, DENSE_PCA).std(0).square().mean().sqrt()
    activity = torch.from_numpy(clips["activity"])
    spoken = activity * torch.from_numpy(clips["known"][:, 3:4] > 0).float()
    # The two known columns count as much as 24 components of the teacher's each.
    voice = torch.stack([activity, spoken], -1)
    voice = (voice - voice.mean((0, 1))) / voice.std((0, 1)) * math.sqrt(24)
    trunk = torch.from_numpy(clips["trunk"])
    teacher = torch.from_numpy(clips["scores"])[:, FOLLOWED].clamp(0.02, 0.98).logit()
    scores = torch.cat([teacher, torch.from_numpy(clips["known"][:, 2:4])], 1)
    cells = (clips["scores"][:, 3] * 4).astype(int).clip(0, 3) * 4 + (clips["scores"][:, 5] * 8).astype(int).clip(0, 3)
    counts = np.bincount(cells, minlength=16)
    levels = clips["mel"][::7].astype(np.float32) * MEL_STEP_DB + MEL_FLOOR_DB
    return Data(
        mels=torch.from_numpy(clips["mel"]),
        dense=torch.cat([reduced, voice], -1),
        trunk=(trunk - trunk.mean(0)) / (trunk.std(0) + 1e-3),
        scores=(scores - scores.mean(0)) / scores.std(0),
        weights=torch.from_numpy(counts[cells] ** -0.4),
        mean=round(float(levels.mean()), 3),
        std=round(float(levels.std()), 3),
    )


def token_times() -> torch.Tensor:
    """For each patch, the row of the dense target (0.64 s each) at its middle, shape ``(936,)``."""
    patches = torch.arange(PATCHES) % TIME_PATCHES
    return ((patches + 0.5) * 0.256 / 0.64).long().clamp(max=45)


def loss_of(student: Student, data: Data, index: torch.Tensor, crop: bool, generator: torch.Generator) -> torch.Tensor:
    """Variance-normalised distance to the targets of one batch; clip-level targets only when 30 s are seen."""
    kept = choose_patches(len(index), crop, generator)
    gain = torch.rand(len(index), 1, 1, generator=generator) * 12 - 6
    decibels = data.mels[index].float() * MEL_STEP_DB + MEL_FLOOR_DB
    mels = ((decibels + gain).clamp(min=MEL_FLOOR_DB) - data.mean) / data.std
    wanted = data.dense[index].gather(1, token_times()[kept][:, :, None].expand(-1, -1, data.dense.shape[-1]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        dense, pooled, trunk, scores = (output.float() for output in student(mels, kept))
    spread = data.dense.shape[-1] / (DENSE_PCA + 48)
    loss = (functional.mse_loss(dense, wanted) + 4 * functional.mse_loss(pooled, wanted.mean(1))) * spread
    if not crop:
        loss = loss + functional.mse_loss(trunk, data.trunk[index]) + functional.mse_loss(scores, data.scores[index])
    return loss


def optimisers(student: Student, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else."""
    matrices = [weight for weight in student.ast.layers.parameters() if weight.ndim == 2]
    known = {id(weight) for weight in matrices}
    others = [weight for weight in student.parameters() if id(weight) not in known and weight.requires_grad]
    return [
        Muon(matrices, lr=config.muon_lr, decay=config.decay),
        torch.optim.AdamW(others, lr=config.adam_lr, betas=(0.9, 0.98), weight_decay=config.decay),
    ]


def pretrain(clips: Path, out: Path, config: PretrainConfig) -> dict[str, Any]:
    """Train and write ``student.safetensors``, ``run.json`` and ``curve.csv`` into ``out``.

    A run that was stopped goes on from its last checkpoint when called again with the same arguments.

    Returns:
        What ``run.json`` holds: the configuration, mel mean and std, steps, clip-steps, minutes and CPU seconds.
    """
    out.mkdir(parents=True, exist_ok=True)
    data = prepare(load_clips(clips, "train"))
    log.info("%d clips", len(data.mels))
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    student = Student(config.start_layers, data.dense.shape[-1], data.trunk.shape[-1], data.scores.shape[-1])
    tools = optimisers(student, config)
    step, spent, spent_cpu = 0, 0.0, 0.0
    checkpoint = out / CHECKPOINT
    if checkpoint.exists():
        # Plain tensors and numbers only: nothing in the file is run.
        saved = torch.load(checkpoint, weights_only=True)
        student.grow(saved["layers"])
        student.load_state_dict(saved["student"])
        tools = optimisers(student, config)
        for tool, state in zip(tools, saved["tools"], strict=True):
            tool.load_state_dict(state)
        generator.set_state(saved["generator"])
        step, spent, spent_cpu = saved["step"], saved["seconds"], saved["cpu_seconds"]
    begin, begin_cpu, last = time.monotonic() - spent, time.process_time() - spent_cpu, spent
    with (out / "curve.csv").open("a", newline="") as file:
        curve = csv.writer(file)
        if step == 0:
            curve.writerow(["step", "seconds", "layers", "loss"])
        while (progress := (time.monotonic() - begin) / (60 * config.minutes)) < 1:
            if progress > config.grow_at and len(student.ast.layers) < config.layers:
                student.grow(config.layers)
                tools = _carry_over(tools, optimisers(student, config))
            rate = min(1.0, (progress + 1e-3) / 0.06) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
            for tool, peak in zip(tools, (config.muon_lr, config.adam_lr), strict=True):
                tool.param_groups[0]["lr"] = peak * rate
            index = torch.multinomial(data.weights, config.batch, generator=generator)
            loss = loss_of(student, data, index, step % 2 == 1, generator)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            for tool in tools:
                tool.step()
                tool.zero_grad()
            step += 1
            seconds = time.monotonic() - begin
            curve.writerow([step, round(seconds, 1), len(student.ast.layers), round(loss.item(), 4)])
            if step % 20 == 0:
                file.flush()
                log.info("step %d loss %.3f %.0f s", step, loss.item(), seconds)
            if seconds - last > config.checkpoint_s:
                last = seconds
                state = {
                    "layers": len(student.ast.layers),
                    "student": student.state_dict(),
                    "tools": [tool.state_dict() for tool in tools],
                    "generator": generator.get_state(),
                    "step": step,
                    "seconds": seconds,
                    "cpu_seconds": time.process_time() - begin_cpu,
                }
                torch.save(state, checkpoint.with_suffix(".new"))
                checkpoint.with_suffix(".new").replace(checkpoint)
    student.grow(config.layers)
    run = {
        "config": asdict(config),
        "clips": len(data.mels),
        "mean": data.mean,
        "std": data.std,
        "steps": step,
        "clip_steps": step * config.batch,
        "minutes": round((time.monotonic() - begin) / 60, 2),
        "cpu_seconds": round(time.process_time() - begin_cpu),
    }
    save_file({name: value.contiguous() for name, value in student.state_dict().items()}, out / "student.safetensors")
    (out / "run.json").write_text(json.dumps(run, indent=2) + "\n")
    checkpoint.unlink(missing_ok=True)
    return run


def _carry_over(old: list[torch.optim.Optimizer], new: list[torch.optim.Optimizer]) -> list[torch.optim.Optimizer]:
    """Keep the state of parameters that both know."""
    for before, after in zip(old, new, strict=True):
        for group in after.param_groups:
            for weight in group["params"]:
                if weight in before.state:
                    after.state[weight] = before.state[weight]
    return new
