"""The files of a MAEST checkpoint: its checked configuration, and its weights cut after a block.

Of the checkpoint's ``config.json`` only checked numbers go on, so that nothing in it can make a library load something
else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, ValidationError

from tunelab.audio.mel import MelConfig
from tunelab.encoder.bundle import CONFIG, WEIGHTS, AstShape
from tunelab.errors import BundleInvalid

# PyTorch and transformers take seconds to import: each function imports what it needs.
if TYPE_CHECKING:
    import torch

FRONT_END: Mapping[str, Any] = {
    "sampling_rate": 16_000,
    "n_fft": 512,
    "hop_length": 256,
    "win_length": 512,
    "window": "hann",
    "center": True,
    "pad_mode": "constant",
    "num_mel_bins": 96,
    "fmin": 0.0,
    "fmax": 8000.0,
    "mel_scale": "slaney",
    "mel_norm": "slaney",
    "power": 2.0,
    "log": "log10_1p",
    "log_scale": 10_000.0,
    "mean": 2.06755686098554,
    # The published front end divides by twice the deviation that its configuration names.
    "std": 2 * 1.268292820667291,
}
"""The mel front end of all published checkpoints; ``max_length`` is the checkpoint's own."""

_PUBLISHED: Mapping[str, Any] = {
    "sampling_rate": 16_000,
    "n_fft": 512,
    "hop_length": 256,
    "num_mel_bins": 96,
    "log_compression": "logC",
    "do_normalize": True,
    "mean": 2.06755686098554,
    "std": 1.268292820667291,
}
"""What a checkpoint's own ``preprocessor_config.json`` must not contradict."""
_FLOATS = ("float16", "bfloat16", "float32", "float64")


class CheckpointConfig(AstShape):
    """All of a checkpoint's ``config.json`` that goes on into the bundle."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    model_type: Literal["audio-spectrogram-transformer"]
    num_mel_bins: Literal[96]
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    qkv_bias: bool = True


def read_config(path: Path) -> CheckpointConfig:
    """A checkpoint's ``config.json``, checked.

    Raises:
        BundleInvalid: it is not that of a MAEST checkpoint.
    """
    try:
        config = CheckpointConfig.model_validate(_read_json(path))
        MelConfig(**FRONT_END, max_length=config.max_length)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise BundleInvalid(f"{path.name} is not that of a MAEST checkpoint: {where}: {fault['msg']}") from error
    return config


def check_front_end(path: Path) -> None:
    """Refuse a ``preprocessor_config.json`` that contradicts :data:`FRONT_END`; it may be missing.

    Another front end than the one that the bundle gets would make wrong embeddings without a word.

    Raises:
        BundleInvalid: a value differs.
    """
    if not path.is_file():
        return
    given = _read_json(path)
    for key, wanted in _PUBLISHED.items():
        value = given.get(key, wanted)
        if isinstance(wanted, float) and isinstance(value, int | float):
            fits = math.isclose(value, wanted, rel_tol=1e-6)
        else:
            fits = value == wanted
        if not fits:
            raise BundleInvalid(f"{path.name} is not that of a MAEST checkpoint: {key} must be {wanted!r}")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file.

    Raises:
        BundleInvalid: it is no such file, or a value is no finite floating-point number.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise BundleInvalid(f"{path.name} cannot be read as safetensors") from error
    for name, value in weights.items():
        if str(value.dtype).removeprefix("torch.") not in _FLOATS:
            raise BundleInvalid(f"{path.name}: {name} must hold floating-point numbers")
        if not bool(value.isfinite().all()):
            raise BundleInvalid(f"{path.name}: {name} holds numbers that are not finite")
    return weights


def cut(weights: dict[str, torch.Tensor], config: Any, blocks: int) -> dict[str, torch.Tensor]:
    """The tensors of an ASTModel of ``config``, in half precision, from those of a checkpoint with ``blocks`` blocks.

    ``transformers`` itself translates the names that older releases gave, with and without a classifier around them.

    Args:
        weights: of the checkpoint.
        config: an ASTConfig whose ``num_hidden_layers`` is the number of blocks to keep.
        blocks: how many blocks the checkpoint has.

    Raises:
        BundleInvalid: a tensor is missing, has another shape, is unknown, or is too large for half precision.
    """
    import torch
    from transformers import ASTModel

    try:
        with _quiet_transformers():
            model, report = ASTModel.from_pretrained(
                None, config=config, state_dict=weights, dtype=torch.float32, output_loading_info=True
            )
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise BundleInvalid(f"{WEIGHTS} does not fit {CONFIG}") from error
    if report["missing_keys"]:
        raise BundleInvalid(f"{WEIGHTS} has no {min(report['missing_keys'])}")
    beyond = tuple(f"layers.{block}." for block in range(config.num_hidden_layers, blocks))
    for name in sorted(report["unexpected_keys"]):
        if not name.removeprefix("audio_spectrogram_transformer.").startswith(("classifier.", *beyond)):
            raise BundleInvalid(f"{WEIGHTS} has {name}, which no MAEST checkpoint has")
    halves = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    if not all(bool(value.isfinite().all()) for value in halves.values()):
        raise BundleInvalid(f"{WEIGHTS} has weights too large for half precision")
    return halves


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without the table of tensors that are left out: here, most of them are meant to be."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleInvalid(f"{path.name} is not valid JSON") from error
    if not isinstance(value, dict):
        raise BundleInvalid(f"{path.name} must hold a JSON object")
    return value
