"""Distil the teachers into the encoder within a time budget, growing it from few blocks to all on the way."""

from __future__ import annotations

import csv
import json
import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch.nn import functional

from tunelab.audio.mel import MelConfig
from tunelab.training.clips import DENSE_ROWS, MEL_FLOOR_DB, MEL_STEP_DB
from tunelab.training.curve import draw_curve
from tunelab.training.musicnn import PATCH_FRAMES, TAGS, TAGS_FOLDER
from tunelab.training.musicnn import PATCHES as TAG_PATCHES
from tunelab.training.optimizer import Muon
from tunelab.training.student import PATCHES, TIME_PATCHES, Student, choose_patches

log = logging.getLogger(__name__)

MAPS_INTO_PARTS = frozenset({"q_proj", "k_proj", "v_proj", "fc1"})
"""Layers whose rows belong to heads or hidden units; of the others it is the columns."""
DENSE_PCA = 192
DENSE_LIMIT = 16.0
"""vibenet's feature is below this in 99 of 100 clips and goes to 200 in a few, which would rule the whole loss."""
VOICE_SHARE, TAG_SHARE = 48.0, 150.0
"""Variance of the voice and tag columns of the dense target; vibenet's sum to :data:`DENSE_PCA`."""
CHECKPOINT = "checkpoint.pt"
FOLLOWED = [2, 1, 6, 0, 3, 5]
"""Columns of the teacher's scores in the order of the six heads."""


@dataclass(frozen=True, slots=True)
class PretrainConfig:
    """What one run does. Learning rates are peaks; ``growth`` holds shares of the time and the number of blocks from
    then on; ``checkpoint_s`` is the seconds between checkpoints; ``workers`` threads share each batch; levels vary by
    up to ``gain_db``; ``init`` is the folder of a bundle whose encoder, mean and std the run begins with. Then for a
    share ``projectors_first`` of the time only the new projectors learn: what they ask for before would undo a trained
    encoder.
    """

    minutes: float = 44.0
    batch: int = 32
    growth: tuple[tuple[float, int], ...] = ((0.0, 2), (0.7, 4), (0.93, 6))
    muon_lr: float = 1.3e-3
    adam_lr: float = 1e-3
    decay: float = 0.05
    seed: int = 1
    checkpoint_s: float = 120.0
    workers: int = 2
    gain_db: float = 4.0
    init: str = ""
    projectors_first: float = 0.0


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
    """All rendered shards of a split, concatenated, with their tags: NaN where a shard has not been tagged."""
    shards = []
    for path in sorted(folder.glob(f"{split}-*.safetensors")):
        shard, tags = load_file(path), folder / TAGS_FOLDER / path.name
        missing = np.full((len(shard["mel"]), TAG_PATCHES, len(TAGS)), np.nan, np.float16)
        shards.append(shard | (load_file(tags) if tags.exists() else {"tags": missing}))
    if not shards:
        raise FileNotFoundError(f"no rendered clips of split {split!r}")
    return {key: np.concatenate([shard[key] for shard in shards]) for key in shards[0]}


def prepare(clips: dict[str, np.ndarray[Any, Any]]) -> Data:
    """Reduce and standardise the targets: dense by PCA, then voice and speech activity, then the tags as columns."""
    dense = torch.from_numpy(clips["dense"]).float().clamp(max=DENSE_LIMIT)
    flat = dense.reshape(-1, dense.shape[-1])
    centre = flat.mean(0)
    torch.manual_seed(0)
    _, _, basis = torch.pca_lowrank(flat[torch.randperm(len(flat))[:20_000]] - centre, q=DENSE_PCA, center=False)
    reduced = (dense - centre) @ basis
    # One scale for all components: the small ones must not weigh as much as the large ones.
    reduced = reduced / reduced.reshape(-1, DENSE_PCA).std(0).square().mean().sqrt()
    activity = torch.from_numpy(clips["activity"])
    spoken = activity * torch.from_numpy(clips["known"][:, 3:4] > 0).float()
    voice = torch.stack([activity, spoken], -1)
    # Each row of the dense target takes the tags of the patch of 3 s at its middle.
    rows = ((np.arange(DENSE_ROWS) + 0.5) * 0.64 / (PATCH_FRAMES * 0.016)).astype(int).clip(0, TAG_PATCHES - 1)
    tags = torch.from_numpy(clips["tags"][:, rows]).float()
    trunk = torch.from_numpy(clips["trunk"])
    teacher = torch.from_numpy(clips["scores"])[:, FOLLOWED].clamp(0.02, 0.98).logit()
    scores = torch.cat([teacher, torch.from_numpy(clips["known"][:, 2:4])], 1)
    cells = (clips["scores"][:, 3] * 4).astype(int).clip(0, 3) * 4 + (clips["scores"][:, 5] * 8).astype(int).clip(0, 3)
    counts = np.bincount(cells, minlength=16)
    levels = clips["mel"][::7].astype(np.float32) * MEL_STEP_DB + MEL_FLOOR_DB
    return Data(
        mels=torch.from_numpy(clips["mel"]),
        dense=torch.cat([reduced, _standard(voice, VOICE_SHARE), _standard(tags, TAG_SHARE)], -1),
        trunk=(trunk - trunk.mean(0)) / (trunk.std(0) + 1e-3),
        scores=(scores - scores.mean(0)) / (scores.std(0) + 1e-6),
        weights=torch.from_numpy(counts[cells] ** -0.4),
        mean=round(float(levels.mean()), 3),
        std=round(float(levels.std()), 3),
    )


def _standard(columns: torch.Tensor, variance: float) -> torch.Tensor:
    """Standardise ``(clips, rows, columns)`` so that all columns have the same variance and the given sum."""
    present = columns[~columns.isnan().any(-1)]
    # A small corpus may have no speech at all: that column is then zero.
    return (columns - present.mean(0)) / (present.std(0) + 1e-6) * math.sqrt(variance / columns.shape[-1])


def token_times() -> torch.Tensor:
    """For each patch, the row of the dense target (0.64 s each) at its middle, shape ``(936,)``."""
    patches = torch.arange(PATCHES) % TIME_PATCHES
    return ((patches + 0.5) * 0.256 / 0.64).long().clamp(max=DENSE_ROWS - 1)


def _error(output: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean square error over the targets that are known (not NaN)."""
    known = ~wanted.isnan()
    return (output - wanted).where(known, 0.0).square().sum() / known.sum()


def loss_of(
    student: Student, data: Data, index: torch.Tensor, crop: bool, generator: torch.Generator, gain_db: float = 4.0
) -> torch.Tensor:
    """Variance-normalised distance to the targets of one batch; clip-level targets only when 30 s are seen."""
    kept = choose_patches(len(index), crop, generator)
    gain = (torch.rand(len(index), 1, 1, generator=generator) * 2 - 1) * gain_db
    decibels = data.mels[index].float() * MEL_STEP_DB + MEL_FLOOR_DB
    mels = ((decibels + gain).clamp(min=MEL_FLOOR_DB) - data.mean) / data.std
    wanted = data.dense[index].gather(1, token_times()[kept][:, :, None].expand(-1, -1, data.dense.shape[-1]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        dense, pooled, trunk, scores = (output.float() for output in student(mels, kept))
    spread = data.dense.shape[-1] / (DENSE_PCA + VOICE_SHARE + TAG_SHARE)
    loss = (_error(dense, wanted) + 4 * _error(pooled, wanted.mean(1))) * spread
    if not crop:
        loss = loss + functional.mse_loss(trunk, data.trunk[index]) + functional.mse_loss(scores, data.scores[index])
    return loss


def set_gradients(
    student: Student,
    data: Data,
    index: torch.Tensor,
    crop: bool,
    generators: list[torch.Generator],
    pool: ThreadPoolExecutor,
    gain_db: float = 4.0,
) -> float:
    """Set every weight's gradient for one batch, cut into one part per generator; the parts run side by side.

    Threads that meet once a step lose less on a busy machine than operators that are parallel inside.

    Returns:
        The loss.
    """
    weights = [weight for weight in student.parameters() if weight.requires_grad]

    def part(numbers: torch.Tensor, generator: torch.Generator) -> tuple[float, tuple[torch.Tensor | None, ...]]:
        loss = loss_of(student, data, numbers, crop, generator, gain_db)
        return loss.item(), torch.autograd.grad(loss, weights, allow_unused=True)

    losses, parts = zip(*pool.map(part, index.chunk(len(generators)), generators), strict=True)
    for weight, *gradients in zip(weights, *parts, strict=True):
        present = [gradient for gradient in gradients if gradient is not None]
        weight.grad = torch.stack(present).mean(0) if present else None
    return float(np.mean(losses))


def optimisers(
    student: Student, config: PretrainConfig, pool: ThreadPoolExecutor | None = None
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else.

    Muon takes attention head by head and the hidden units in as many groups: orthogonalising whole matrices would take
    longer than a batch's gradient.
    """
    matrices = {name: weight for name, weight in student.ast.layers.named_parameters() if weight.ndim == 2}
    known = {id(weight) for weight in matrices.values()}
    others = [weight for weight in student.parameters() if id(weight) not in known and weight.requires_grad]
    projectors = {
        id(weight) for part in (student.to_dense, student.to_trunk, student.to_scores) for weight in part.parameters()
    }
    inner = [weight for name, weight in matrices.items() if name.split(".")[-2] in MAPS_INTO_PARTS]
    outer = [weight for name, weight in matrices.items() if name.split(".")[-2] not in MAPS_INTO_PARTS]
    slow_and_quick: list[dict[str, Any]] = [
        {"params": [weight for weight in others if id(weight) not in projectors]},
        {"params": [weight for weight in others if id(weight) in projectors], "projectors": True},
    ]
    parts = student.ast.config.num_attention_heads
    groups = [{"params": inner, "rows": parts}, {"params": outer, "columns": parts}]
    return [
        Muon(groups, lr=config.muon_lr, decay=config.decay, pool=pool),
        torch.optim.AdamW(
            slow_and_quick,
            lr=config.adam_lr,
            betas=(0.9, 0.98),
            weight_decay=config.decay,
        ),
    ]


def pretrain(clips: Path, out: Path, config: PretrainConfig) -> dict[str, Any]:
    """Train and write ``student.safetensors``, ``run.json``, ``curve.csv`` and its picture into ``out``.

    A run that was stopped goes on from its last checkpoint when called again with the same arguments.

    Returns:
        What ``run.json`` holds: the configuration, mel mean and std, steps, clip-steps, minutes and CPU seconds.
    """
    out.mkdir(parents=True, exist_ok=True)
    data = prepare(load_clips(clips, "train"))
    log.info("%d clips", len(data.mels))
    torch.manual_seed(config.seed)
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(config.workers, initializer=torch.set_num_threads, initargs=(1,))
    generators = [torch.Generator().manual_seed(config.seed + worker) for worker in range(config.workers)]
    student = Student(config.growth[0][1], data.dense.shape[-1], data.trunk.shape[-1], data.scores.shape[-1])
    if config.init:
        student.start_from(Path(config.init))
        front_end = MelConfig.load(Path(config.init) / "preprocessor_config.json")
        data.mean, data.std = front_end.mean, front_end.std
    tools = optimisers(student, config, pool)
    step, spent, spent_cpu = 0, 0.0, 0.0
    checkpoint = out / CHECKPOINT
    if checkpoint.exists():
        # Plain tensors and numbers only: nothing in the file is run.
        saved = torch.load(checkpoint, weights_only=True)
        student.grow(saved["layers"])
        student.load_state_dict(saved["student"])
        tools = optimisers(student, config, pool)
        for tool, state in zip(tools, saved["tools"], strict=True):
            tool.load_state_dict(state)
        for generator, state in zip(generators, saved["generators"], strict=True):
            generator.set_state(state)
        step, spent, spent_cpu = saved["step"], saved["seconds"], saved["cpu_seconds"]
    begin, begin_cpu, last = time.monotonic() - spent, time.process_time() - spent_cpu, spent
    with (out / "curve.csv").open("a", newline="") as file:
        curve = csv.writer(file)
        if step == 0:
            curve.writerow(["step", "seconds", "layers", "loss"])
        while (progress := (time.monotonic() - begin) / (60 * config.minutes)) < 1:
            wanted = max(layers for share, layers in config.growth if progress >= share)
            if len(student.ast.layers) < wanted:
                student.grow(wanted)
                tools = _carry_over(tools, optimisers(student, config, pool))
            for tool, peak in zip(tools, (config.muon_lr, config.adam_lr), strict=True):
                for group in tool.param_groups:
                    after = 0.0 if group.get("projectors") else config.projectors_first
                    group["lr"] = peak * _rate(progress, after)
            index = torch.multinomial(data.weights, config.batch, generator=generators[0])
            loss = set_gradients(student, data, index, step % 2 == 1, generators, pool, config.gain_db)
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            for tool in tools:
                tool.step()
                tool.zero_grad()
            step += 1
            seconds = time.monotonic() - begin
            curve.writerow([step, round(seconds, 1), len(student.ast.layers), round(loss, 4)])
            if step % 20 == 0:
                file.flush()
                log.info("step %d loss %.3f %.0f s", step, loss, seconds)
            if seconds - last > config.checkpoint_s:
                last = seconds
                state = {
                    "layers": len(student.ast.layers),
                    "student": student.state_dict(),
                    "tools": [tool.state_dict() for tool in tools],
                    "generators": [generator.get_state() for generator in generators],
                    "step": step,
                    "seconds": seconds,
                    "cpu_seconds": time.process_time() - begin_cpu,
                }
                torch.save(state, checkpoint.with_suffix(".new"))
                checkpoint.with_suffix(".new").replace(checkpoint)
    student.grow(config.growth[-1][1])
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
    text = json.dumps(run, indent=2)
    (out / "run.json").write_text(text + "\n")
    checkpoint.unlink(missing_ok=True)
    draw_curve(out)
    # As it is read back: lists instead of tuples.
    written: dict[str, Any] = json.loads(text)
    return written


def _rate(progress: float, after: float) -> float:
    """Share of the peak learning rate: zero until ``after``, a warm-up of 6 % of the time, then a cosine to 1 %."""
    warm_up = min(1.0, max(0.0, progress - after + 1e-3) / 0.06) if progress >= after else 0.0
    return warm_up * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def _carry_over(old: list[torch.optim.Optimizer], new: list[torch.optim.Optimizer]) -> list[torch.optim.Optimizer]:
    """Keep the state of parameters that both know."""
    for before, after in zip(old, new, strict=True):
        for group in after.param_groups:
            for weight in group["params"]:
                if weight in before.state:
                    after.state[weight] = before.state[weight]
    return new
