"""Distil the teachers into the encoder within a time budget, growing it from few blocks to all on the way."""

from __future__ import annotations

import csv
import json
import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tunelab.audio.mel import MelConfig
from tunelab.errors import SettingsError
from tunelab.training.config import PretrainConfig
from tunelab.training.curve import draw_curve
from tunelab.training.ema import Average
from tunelab.training.objectives import set_gradients
from tunelab.training.optimizer import Muon
from tunelab.training.student import AUXILIARY, Student
from tunelab.training.targets import Data, load_clips, prepare

log = logging.getLogger(__name__)

MAPS_INTO_PARTS = frozenset({"q_proj", "k_proj", "v_proj", "fc1"})
"""Layers whose rows belong to heads or hidden units; of the others it is the columns."""
CHECKPOINT, BEFORE, RUN = "checkpoint.pt", "before.json", "run.json"


def optimisers(
    student: Student, config: PretrainConfig, pool: ThreadPoolExecutor | None = None
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else, or for all where Muon's rate is 0.

    Muon takes attention head by head and the hidden units in groups of as many, 64: orthogonalising whole matrices
    would take longer than a batch's gradient.
    """
    matrices = {name: weight for name, weight in student.ast.layers.named_parameters() if weight.ndim == 2}
    if config.muon_lr == 0:
        matrices = {}
    known = {id(weight) for weight in matrices.values()}
    others = [weight for weight in student.parameters() if id(weight) not in known and weight.requires_grad]
    projectors = {id(weight) for name, weight in student.named_parameters() if name.startswith("to_")}
    inner = [weight for name, weight in matrices.items() if name.split(".")[-2] in MAPS_INTO_PARTS]
    outer = [weight for name, weight in matrices.items() if name.split(".")[-2] not in MAPS_INTO_PARTS]
    slow_and_quick: list[dict[str, Any]] = [
        {"params": [weight for weight in others if id(weight) not in projectors]},
        {"params": [weight for weight in others if id(weight) in projectors], "projectors": True},
    ]
    heads = student.ast.config.num_attention_heads
    groups = []
    for weights, side in ((inner, "rows"), (outer, "columns")):
        hidden = [weight for weight in weights if max(weight.shape) > min(weight.shape)]
        square = [weight for weight in weights if max(weight.shape) == min(weight.shape)]
        groups += [{"params": square, side: heads}, {"params": hidden, side: 4 * heads}]
    adam = torch.optim.AdamW(slow_and_quick, lr=config.adam_lr, betas=(0.9, 0.98), weight_decay=config.decay)
    if config.muon_lr == 0:
        return [adam]
    return [Muon(groups, lr=config.muon_lr, decay=config.decay, pool=pool), adam]


def pretrain(clips: Path, out: Path, config: PretrainConfig, data: Data | None = None) -> dict[str, Any]:
    """Train and write ``student.safetensors``, ``run.json``, ``curve.csv`` and its picture into ``out``.

    A run that was stopped goes on from its last checkpoint when called again with the same arguments; one that is
    finished stays as it is.

    Args:
        clips: folder of rendered clips.
        out: the run's folder.
        config: what the run does.
        data: the clips' targets, where they are prepared already.

    Returns:
        What ``run.json`` holds: the configuration, mel mean and std, steps, clip-steps, minutes and CPU seconds; of a
        run that goes on from a bundle also what had been done ``before``.

    Raises:
        SettingsError: there is a finished run with other settings in ``out``.
    """
    out.mkdir(parents=True, exist_ok=True)
    if (finished := _finished(out, config)) is not None:
        return finished
    data = data or prepare(load_clips(clips, "train"))
    log.info("%d clips", len(data.mels))
    torch.manual_seed(config.seed)
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(config.workers, initializer=torch.set_num_threads, initargs=(1,))
    generators = [torch.Generator().manual_seed(config.seed + worker) for worker in range(config.workers)]
    sizes = (data.dense.shape[-1], data.trunk.shape[-1], data.scores.shape[-1])
    student = Student(config.growth[0][1], *sizes, width=config.width, pooling=config.pooling)
    before: dict[str, Any] = {}
    if config.init:
        before = _before(Path(config.init), out / BEFORE, (out / CHECKPOINT).exists())
        student.start_from(Path(config.init))
        front_end = MelConfig.load(Path(config.init) / "preprocessor_config.json")
        data.mean, data.std = front_end.mean, front_end.std
    tools = optimisers(student, config, pool)
    step, spent, spent_cpu = 0, 0.0, 0.0
    average = Average(config.ema)
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
        average.weights, average.steps = saved.get("average", {}), saved["step"]
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
            for tool in tools:
                peak = config.muon_lr if isinstance(tool, Muon) else config.adam_lr
                for group in tool.param_groups:
                    after = 0.0 if group.get("projectors") else config.projectors_first
                    group["lr"] = peak * _rate(progress, after)
            few = len(data.mels) < config.batch
            index = torch.multinomial(data.weights, config.batch, replacement=few, generator=generators[0])
            crop = step % config.crop_every == 1
            loss = set_gradients(student, data, index, crop, generators, pool, config.objective)
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            for tool in tools:
                tool.step()
                tool.zero_grad()
            average.add(student)
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
                    "average": average.weights,
                    "step": step,
                    "seconds": seconds,
                    "cpu_seconds": time.process_time() - begin_cpu,
                }
                torch.save(state, checkpoint.with_suffix(".new"))
                checkpoint.with_suffix(".new").replace(checkpoint)
    student.load_state_dict(average.weights, strict=False)
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
    if config.init:
        run["before"] = before
    kept = {name: value for name, value in student.state_dict().items() if not name.startswith(AUXILIARY)}
    save_file({name: value.contiguous() for name, value in kept.items()}, out / "student.safetensors")
    text = json.dumps(run, indent=2)
    (out / RUN).write_text(text + "\n")
    checkpoint.unlink(missing_ok=True)
    draw_curve(out)
    # As it is read back: lists instead of tuples.
    written: dict[str, Any] = json.loads(text)
    return written


def _finished(out: Path, config: PretrainConfig) -> dict[str, Any] | None:
    """What ``run.json`` holds where there is one; settings are compared as they are written, lists for tuples."""
    if (out / CHECKPOINT).exists() or not (out / RUN).exists():
        return None
    run: dict[str, Any] = json.loads((out / RUN).read_text())
    if run["config"] != json.loads(json.dumps(asdict(config))):
        raise SettingsError(f"{out.name} is a finished run with other settings: choose another name")
    return run


def _before(bundle: Path, place: Path, resumed: bool) -> dict[str, Any]:
    """How the encoder that a run begins with was trained: what that cost belongs to the new one, too.

    Kept in ``place`` from the beginning, for the new bundle may take the old one's place before a resumed run is done.
    """
    if resumed and place.exists():
        kept: dict[str, Any] = json.loads(place.read_text())
        return kept
    card = bundle / "card.json"
    facts = json.loads(card.read_text()) if card.exists() else {}
    before = {"version": facts.get("version", "?"), **facts.get("training", {})}
    place.with_suffix(".new").write_text(json.dumps(before, indent=2) + "\n")
    place.with_suffix(".new").replace(place)
    return before


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
