"""Model bundles: a folder with everything that turns a log-mel window into scores (see ``docs/design.md``)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tunelab.audio.mel import MelConfig
from tunelab.errors import BundleInvalid, BundleNotFound

DEFAULT_BUNDLE = "tunelab-v1"

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
WEIGHTS = "model.safetensors"
HEADS_FILE = "heads.safetensors"
RANGES = "int8.json"
CARD = "card.json"

_HASH_CHUNK = 1 << 20


class AstShape(BaseModel):
    """The sizes in ``config.json``, with the defaults that ``transformers``' ASTConfig has for them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    num_mel_bins: int
    max_length: int
    num_hidden_layers: int
    hidden_size: Annotated[int, Field(ge=16, le=8192)] = 768
    intermediate_size: Annotated[int, Field(ge=16, le=65_536)] = 3072
    num_attention_heads: Annotated[int, Field(ge=1, le=256)] = 12
    patch_size: Annotated[int, Field(ge=1, le=512)] = 16
    frequency_stride: Annotated[int, Field(ge=1, le=512)] = 10
    time_stride: Annotated[int, Field(ge=1, le=512)] = 10

    @model_validator(mode="after")
    def _consistent(self) -> AstShape:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size must be a multiple of num_attention_heads")
        if self.patch_size > min(self.num_mel_bins, self.max_length):
            raise ValueError("patch_size must not exceed num_mel_bins and max_length")
        return self


class PoolingConfig(BaseModel):
    """The ``tunelab`` section of ``config.json``: where in the encoder the embedding is read, and how."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    layer: Annotated[int, Field(ge=1, le=48)]
    """Transformer blocks that run before the embedding is read; later blocks are not in the weights."""
    pooling: Literal["mean", "cls", "dist"] = "mean"
    """``mean`` of the patch tokens, or the class or distillation token alone."""
    time_patch_stride: Annotated[int, Field(ge=1, le=8)] = 1
    """Keep every n-th patch along time (patchout at inference, Koutini et al. 2022); 1 keeps all."""


@dataclass(frozen=True)
class Bundle:
    """One model bundle on disk.

    Attributes:
        path: the folder.
        ast: the ``transformers`` ASTConfig values of ``config.json``.
        pooling: where and how the embedding is read.
        mel: the mel front end.
    """

    path: Path
    ast: Mapping[str, Any]
    pooling: PoolingConfig
    mel: MelConfig

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Read and check a bundle's small files; weights are only looked at when an engine loads them.

        Raises:
            BundleNotFound: there is no bundle in that folder.
            BundleInvalid: a file is missing or contradicts another.
        """
        if not (path / CONFIG).is_file():
            raise BundleNotFound(f"no model bundle named {path.name!r}")
        ast = _read_json(path / CONFIG)
        try:
            pooling = PoolingConfig.model_validate(ast.get("tunelab"))
        except ValidationError as error:
            raise BundleInvalid(f"{CONFIG}: section 'tunelab': {_first(error)}") from error
        mel = MelConfig.load(path / PREPROCESSOR)
        if ast.get("model_type") != "audio-spectrogram-transformer":
            raise BundleInvalid(f"{CONFIG}: model_type must be 'audio-spectrogram-transformer'")
        bundle = cls(path=path, ast=ast, pooling=pooling, mel=mel)
        for key in ("num_mel_bins", "max_length"):
            if getattr(bundle.shape, key) != getattr(mel, key):
                raise BundleInvalid(f"{CONFIG} and {PREPROCESSOR} disagree on {key}")
        if pooling.layer != bundle.shape.num_hidden_layers:
            raise BundleInvalid(f"{CONFIG}: 'layer' must equal num_hidden_layers; blocks after it are cut off")
        if not (path / WEIGHTS).is_file():
            raise BundleInvalid(f"{WEIGHTS} is missing")
        return bundle

    @property
    def name(self) -> str:
        """Name of the bundle, as it appears in answers."""
        return self.path.name

    @cached_property
    def shape(self) -> AstShape:
        """The sizes of the encoder, checked.

        Raises:
            BundleInvalid: they make no sense.
        """
        try:
            return AstShape.model_validate(self.ast)
        except ValidationError as error:
            raise BundleInvalid(f"{CONFIG}: {_first(error)}") from error

    @cached_property
    def card(self) -> Mapping[str, Any]:
        """The model card: data, accuracy per head, licence. Empty when the bundle has none."""
        path = self.path / CARD
        return _read_json(path) if path.is_file() else {}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the files that decide a score, 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for name in (CONFIG, PREPROCESSOR, WEIGHTS, HEADS_FILE, RANGES):
            path = self.path / name
            digest.update(name.encode())
            if path.is_file():
                with path.open("rb") as file:
                    while chunk := file.read(_HASH_CHUNK):
                        digest.update(chunk)
        return digest.hexdigest()

    @property
    def revision(self) -> str:
        """The first 12 digits of the fingerprint: tells the bundle from earlier and later ones of its name."""
        return self.fingerprint[:12]


def find_bundle(name: str | os.PathLike[str] = DEFAULT_BUNDLE) -> Bundle:
    """Open a bundle by name, or by the path of its folder.

    A name without ``/`` is a path only if that folder holds a bundle. Names are looked up in ``$TUNELAB_MODELS_DIR``,
    beside the package (the repository's ``models/``), and in ``~/.local/share/tunelab/models`` (under
    ``$XDG_DATA_HOME`` if that is set).

    Raises:
        BundleNotFound: nowhere; the message lists the names that exist. Or ``$TUNELAB_MODELS_DIR`` is no folder.
        BundleInvalid: found, but not usable.
    """
    path = Path(name)
    is_name = path.name == os.fspath(name) != ".."
    if (path / CONFIG).is_file() or (path.is_dir() and not is_name):
        return Bundle.open(path.resolve())
    if is_name:
        for folder in _model_folders():
            if (folder / path / CONFIG).is_file():
                return Bundle.open(folder / path)
    known = ", ".join(found.name for found in list_bundles()) or "none"
    raise BundleNotFound(f"no model bundle named {path.name!r}; installed: {known}")


def list_bundles() -> list[Path]:
    """Folders of all bundles that :func:`find_bundle` can find by name, without opening them.

    Raises:
        BundleNotFound: ``$TUNELAB_MODELS_DIR`` is no folder.
    """
    found: dict[str, Path] = {}
    for folder in _model_folders():
        for config in sorted(folder.glob(f"*/{CONFIG}")):
            found.setdefault(config.parent.name, config.parent)
    return list(found.values())


def _model_folders() -> Iterator[Path]:
    if configured := os.environ.get("TUNELAB_MODELS_DIR"):
        folder = Path(configured).expanduser().resolve()
        if not folder.is_dir():
            raise BundleNotFound("there is no folder where TUNELAB_MODELS_DIR says")
        yield folder
    yield Path(__file__).resolve().parents[2] / "models"
    data_home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    yield Path(data_home) / "tunelab" / "models"


def _first(error: ValidationError) -> str:
    """The first of a configuration's faults, with the name of the value."""
    fault = error.errors()[0]
    return ": ".join([*(str(part) for part in fault["loc"]), fault["msg"]])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleInvalid(f"{path.name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BundleInvalid(f"{path.name} is not valid JSON") from error
    if not isinstance(value, dict):
        raise BundleInvalid(f"{path.name} must hold a JSON object")
    return value
