"""What a pre-training run does, from code or from a YAML file."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from tunelab.errors import SettingsError
from tunelab.training.objectives import PLAIN, Objective
from tunelab.training.student import WIDTH


def _rising(growth: tuple[tuple[float, int], ...]) -> tuple[tuple[float, int], ...]:
    shares, blocks = [share for share, _ in growth], [count for _, count in growth]
    if not growth or shares[0] != 0 or shares != sorted(set(shares)) or blocks != sorted(set(blocks)):
        raise ValueError("growth has to begin with a share of 0, and to rise")
    return growth


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class PretrainConfig:
    """What one run does. Values are checked where they come from, in code as in a file.

    Attributes:
        minutes: time budget; the learning rate follows its cosine.
        batch: clips a step.
        crop_every: of so many batches, one sees crops of 4.35 s; the others, patches of the whole 30 s.
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

    minutes: PositiveFloat = 44.0
    batch: PositiveInt = 32
    crop_every: Annotated[int, Field(ge=2)] = 2
    growth: Annotated[tuple[tuple[float, PositiveInt], ...], AfterValidator(_rising)] = ((0.0, 2), (0.7, 4), (0.93, 6))
    muon_lr: NonNegativeFloat = 1.3e-3
    adam_lr: PositiveFloat = 1e-3
    decay: NonNegativeFloat = 0.05
    seed: int = 1
    checkpoint_s: NonNegativeFloat = 120.0
    workers: PositiveInt = 2
    objective: Objective = PLAIN
    init: str = ""
    projectors_first: Annotated[float, Field(ge=0, lt=1)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    width: Annotated[int, Field(gt=0, multiple_of=64)] = WIDTH
    pooling: Literal["mean", "cls", "both"] = "mean"


def going_on(bundle: Path, config: PretrainConfig) -> PretrainConfig:
    """The configuration of a run that begins with a bundle's encoder.

    All blocks from the start, smaller steps; whole clips, and what is told of them, count more than at first.
    """
    objective = replace(config.objective, scores=5.0)
    begun = replace(config, init=str(bundle), growth=((0.0, 6),), muon_lr=6e-4, projectors_first=0.03)
    return replace(begun, crop_every=3, objective=objective)


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
    if changes is None:
        return config
    if not isinstance(changes, dict) or not isinstance(changes.get("objective", {}), dict):
        raise SettingsError(f"{path.name} has to map names to values")
    if "init" in changes:
        raise SettingsError(f"{path.name}: what a run begins with is not set here but by --init")
    if "objective" in changes:
        changes["objective"] = {**asdict(config.objective), **changes["objective"]}
    try:
        read = TypeAdapter(PretrainConfig).validate_python({**asdict(config), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(f"{path.name}: {where}: {first['msg']}") from None
    if read.init and read.width != WIDTH:
        raise SettingsError(f"{path.name}: a run that begins with a bundle is {WIDTH} wide")
    return read
