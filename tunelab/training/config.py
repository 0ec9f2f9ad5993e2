"""What a pre-training run does, from code or from a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tunelab.errors import SettingsError
from tunelab.training.objectives import PLAIN, Objective
from tunelab.training.student import POOLINGS, WIDTH


@dataclass(frozen=True, slots=True)
class PretrainConfig:
    """What one run does.

    Attributes:
        minutes: time budget; the learning rate follows its cosine.
        batch: clips a step.
        growth: shares of the time, and the number of blocks from then on.
        muon_lr: peak learning rate of the blocks' matrices; where it is 0, AdamW takes these, too.
        adam_lr: peak learning rate of everything else.
        decay: weight decay.
        seed: everything random follows from it.
        checkpoint_s: seconds between checkpoints.
        workers: threads that share each batch.
        objective: what is minimised.
        init: folder of a bundle whose encoder, mean and standard deviation the run begins with, or empty.
        projectors_first: share of the time in which only the new projectors of such a run learn: what they ask for
            before would undo a trained encoder.
        ema: share of the averaged weights that each step keeps, and which are what the run ends with; 0 for none.
        width: of tokens and embedding; bundles of this repository's shape have 768.
        pooling: ``mean``, ``cls`` or ``both``; bundles are pooled by the mean.
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
    objective: Objective = PLAIN
    init: str = ""
    projectors_first: float = 0.0
    ema: float = 0.0
    width: int = WIDTH
    pooling: str = "mean"


def going_on(bundle: Path, config: PretrainConfig) -> PretrainConfig:
    """The configuration of a run that begins with a bundle's encoder: all blocks from the start, smaller steps."""
    return replace(config, init=str(bundle), growth=((0.0, 6),), muon_lr=6e-4, projectors_first=0.03)


def read_config(path: Path, config: PretrainConfig) -> PretrainConfig:
    """Replace what a YAML file names, for example ``{batch: 64, objective: {masked: 0.5}}``.

    Raises:
        SettingsError: the file is no mapping of the fields of :class:`PretrainConfig`, or a value has the wrong type.
        OSError: it cannot be read.
    """
    import yaml

    try:
        changes = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name} is no YAML: {str(error).splitlines()[0]}") from None
    changes = {} if changes is None else changes
    _known(path, changes, PretrainConfig)
    if "objective" in changes:
        _known(path, changes["objective"], Objective)
        changes["objective"] = {**asdict(config.objective), **changes["objective"]}
    try:
        read = TypeAdapter(PretrainConfig).validate_python({**asdict(config), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(f"{path.name}: {where}: {first['msg']}") from None
    if "init" in changes:
        raise SettingsError(f"{path.name}: what a run begins with is not set here but by --init")
    if reason := _unusable(read):
        raise SettingsError(f"{path.name}: {reason}")
    return read


def _unusable(config: PretrainConfig) -> str:
    """Why no run can be made of it, or nothing."""
    shares = [share for share, _ in config.growth]
    blocks = [count for _, count in config.growth]
    reasons = {
        "minutes, batch and workers have to be above 0": min(config.minutes, config.batch, config.workers) > 0,
        "growth has to begin with a share of 0, and to rise": bool(blocks)
        and shares[0] == 0
        and shares == sorted(set(shares))
        and blocks == sorted(set(blocks))
        and blocks[0] > 0,
        "ema has to be at least 0 and below 1": 0 <= config.ema < 1,
        f"pooling is one of {', '.join(POOLINGS)}": config.pooling in POOLINGS,
        "width has to be a multiple of 64": config.width > 0 and config.width % 64 == 0,
        f"a run that begins with a bundle is {WIDTH} wide": not config.init or config.width == WIDTH,
    }
    return next((reason for reason, holds in reasons.items() if not holds), "")


def _known(path: Path, changes: Any, kind: type) -> None:
    names = [field.name for field in fields(kind)]
    if not isinstance(changes, Mapping):
        raise SettingsError(f"{path.name} has to map names to values")
    if unknown := sorted(str(name) for name in changes if name not in names):
        raise SettingsError(f"{path.name}: unknown: {', '.join(unknown)}; there are {', '.join(names)}")
