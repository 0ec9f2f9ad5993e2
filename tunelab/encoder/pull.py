"""Published MAEST checkpoints: from the Hugging Face hub to a model bundle without heads.

Three files are ever asked for, two of them JSON and the third safetensors: no pickles, no code. Of the checkpoint's
``config.json`` only checked numbers go on, so that nothing in it can make a library load something else. The bundle
appears whole or not at all, and its card tells the commit that it came from.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, ValidationError

from tunelab.audio.mel import MelConfig
from tunelab.encoder.bundle import CARD, CONFIG, PREPROCESSOR, WEIGHTS, AstShape, Bundle
from tunelab.errors import BundleError, BundleInvalid, BundleNotFound, SettingsError

# PyTorch, transformers and the hub's client take seconds to import: each function imports what it needs, so that a
# question is asked, or a mistake told, at once.
if TYPE_CHECKING:
    import torch

Pooling = Literal["cls", "dist", "mean"]

LAYER = 6
"""Index of the last block that is kept: the paper found its embeddings the best for other tasks."""
PUBLISHER = "mtg-upf"
PAPER = (
    "P. Alonso-Jiménez, X. Serra, D. Bogdanov: Efficient Supervised Training of Audio Transformers for Music "
    "Representation Learning. ISMIR 2023. https://arxiv.org/abs/2309.16418"
)
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
_LICENCES = {
    "cc-by-nc-sa-4.0": (
        "CC BY-NC-SA 4.0",
        "https://creativecommons.org/licenses/by-nc-sa/4.0/: not for commercial use, name the authors, pass changed "
        "versions on under the same licence",
    )
}
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository: its size in bytes and SHA-256 (64 hexadecimal digits), where the hub tells them."""

    size: int | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A published checkpoint at one commit.

    Attributes:
        repository: ``owner/name``.
        commit: 40 hexadecimal digits; the same commit is always the same bytes.
        licence: as its authors state it, or ``not stated``.
        terms: where that licence is, and what it asks for in short; may be empty.
        files: what is to be downloaded, by name.
    """

    repository: str
    commit: str
    licence: str
    terms: str
    files: Mapping[str, HubFile]

    @property
    def size(self) -> int:
        """Bytes to download, as far as the hub tells."""
        return sum(file.size or 0 for file in self.files.values())


class _Config(AstShape):
    """All of a checkpoint's ``config.json`` that goes on into the bundle."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    model_type: Literal["audio-spectrogram-transformer"]
    num_mel_bins: Literal[96]
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    qkv_bias: bool = True


def full_name(repository: str) -> str:
    """``owner/name``; a name alone is one of the publisher's.

    Raises:
        SettingsError: it is no name of a repository.
    """
    full = repository if "/" in repository else f"{PUBLISHER}/{repository}"
    if not _REPOSITORY.fullmatch(full):
        raise SettingsError(
            f"{repository!r} is no name of a repository; an example: {PUBLISHER}/discogs-maest-30s-pw-129e"
        )
    return full


def default_target(repository: str) -> Path:
    """Where a repository's bundle goes by default: a folder in which :func:`~tunelab.encoder.find_bundle` searches."""
    data_home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data_home) / "tunelab" / "models" / full_name(repository).partition("/")[2]


def check_target(target: Path, *, force: bool = False) -> None:
    """Refuse a target that must not be written.

    Raises:
        BundleError: it exists and ``force`` is not given, or it is neither a bundle nor an empty folder.
    """
    if not os.path.lexists(target):
        return
    if not force:
        raise BundleError(f"{target.name} exists already; --force replaces it, --out names another folder")
    if target.is_dir() and not any(target.iterdir()):
        return
    try:
        Bundle.open(target)
    except BundleError as error:
        raise BundleError(f"{target.name} exists and is no model bundle; it is not replaced") from error


def find_checkpoint(repository: str, revision: str = "main") -> Checkpoint:
    """Look a checkpoint up, and settle on one commit. Nothing is downloaded.

    Args:
        repository: ``owner/name``, or the name of one of the publisher's.
        revision: a branch, a tag or a commit.

    Raises:
        SettingsError: no such name or revision is possible.
        BundleNotFound: the hub has no such repository or revision, or does not show it.
        BundleInvalid: it has no ``config.json`` or no ``model.safetensors``.
        BundleError: the hub did not answer.
    """
    repository = full_name(repository)
    if not revision.strip():
        raise SettingsError("the revision must be a branch, a tag or a commit")
    with _hub_errors(repository, revision):
        info = _hub_client().HfApi().model_info(repository, revision=revision, files_metadata=True)
    commit = info.sha or ""
    if not _COMMIT.fullmatch(commit) or (_COMMIT.fullmatch(revision) and commit != revision):
        raise BundleInvalid(f"the hub did not name the commit of {repository} at {revision!r}")
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    if WEIGHTS not in siblings:
        raise BundleInvalid(f"{repository} has no {WEIGHTS}; other formats, pickles above all, are not loaded")
    if CONFIG not in siblings:
        raise BundleInvalid(f"{repository} has no {CONFIG}")
    files = {}
    for name in (CONFIG, PREPROCESSOR, WEIGHTS):
        if sibling := siblings.get(name):
            files[name] = HubFile(sibling.size, sibling.lfs.sha256 if sibling.lfs else None)
    stated = getattr(info.card_data, "license", None)
    if stated is None and repository.startswith(f"{PUBLISHER}/"):
        stated = "cc-by-nc-sa-4.0"
    licence, terms = _LICENCES.get(str(stated), (str(stated or "not stated"), ""))
    return Checkpoint(repository=repository, commit=commit, licence=licence, terms=terms, files=files)


def pull(
    checkpoint: Checkpoint, target: Path, *, layer: int = LAYER, pooling: Pooling = "cls", force: bool = False
) -> Bundle:
    """Download a checkpoint, check it, cut it, and write the bundle.

    Args:
        checkpoint: what :func:`find_checkpoint` found.
        target: the bundle's folder; its parents are made.
        layer: index of the last block to keep, from 0.
        pooling: the class token, the distillation token, or the mean of the patch tokens.
        force: replace the bundle that is there, with everything in it.

    Raises:
        SettingsError: the checkpoint has no such block.
        BundleInvalid: the files are not a MAEST checkpoint, are damaged, or are not what the hub said.
        BundleError: the hub did not answer, or ``target`` may not or cannot be written.
    """
    target = target.expanduser().resolve()
    check_target(target, force=force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that one renaming brings it there; one folder deeper than where bundles are looked for.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            unfinished = Path(scratch) / "bundle"
            unfinished.mkdir()
            source = _download(checkpoint, Path(scratch) / "download")
            _write(checkpoint, source, unfinished, target.name, layer, pooling)
            _replace(target, unfinished, Path(scratch) / "old" if force else None)
    except OSError as error:
        raise BundleError(f"{target.name} cannot be written: {error.strerror}") from error
    return Bundle.open(target)


def _replace(target: Path, unfinished: Path, old: Path | None) -> None:
    """Bring the bundle to its place; what is there goes to ``old``, and comes back if that fails."""
    moved = old is not None and target.exists()
    if old is not None and moved:
        target.rename(old)
    try:
        # Fails where another process has just made a folder with something in it.
        unfinished.rename(target)
    except OSError:
        if old is not None and moved:
            old.rename(target)
        raise


def _download(checkpoint: Checkpoint, folder: Path) -> Path:
    """Fetch the checkpoint's few files into ``folder``, and check them against what the hub said."""
    with _hub_errors(checkpoint.repository, checkpoint.commit):
        _hub_client().snapshot_download(
            checkpoint.repository, revision=checkpoint.commit, allow_patterns=list(checkpoint.files), local_dir=folder
        )
    for name, file in checkpoint.files.items():
        if not (folder / name).is_file():
            raise BundleInvalid(f"{name} did not arrive")
        if file.sha256 is not None and _sha256(folder / name) != file.sha256:
            raise BundleInvalid(f"{name} is not the file that the hub has (SHA-256 differs); try again")
    return folder


def _write(checkpoint: Checkpoint, source: Path, bundle: Path, name: str, layer: int, pooling: Pooling) -> None:
    from safetensors.torch import save
    from transformers import ASTConfig

    from tunelab.encoder.maest import load_maest

    config = _read_config(source / CONFIG)
    _check_front_end(source / PREPROCESSOR)
    if not 0 <= layer < config.num_hidden_layers:
        raise SettingsError(f"{checkpoint.repository} has blocks 0 to {config.num_hidden_layers - 1}, no block {layer}")
    kept = {**config.model_dump(exclude={"model_type"}), "num_hidden_layers": layer + 1}
    weights = _cut(_read_weights(source / WEIGHTS), ASTConfig(**kept), config.num_hidden_layers)
    section = {"layer": layer + 1, "pooling": pooling, "time_patch_stride": 1}
    written = {**ASTConfig(**kept).to_dict(), "architectures": ["ASTModel"], "tunelab": section}
    written.pop("_name_or_path", None)
    _write_json(bundle / CONFIG, written)
    _write_json(bundle / PREPROCESSOR, {**FRONT_END, "max_length": config.max_length})
    # Not `save_file`, whose files only their owner can read: the service may run as another user.
    (bundle / WEIGHTS).write_bytes(save(weights, metadata={"format": "pt"}))
    tokens = weights["embeddings.position_embeddings"].shape[1]
    card = _card(checkpoint, name, config, section, sum(value.numel() for value in weights.values()), tokens)
    card["source"]["sha256"] = _sha256(source / WEIGHTS)
    _write_json(bundle / CARD, card)
    (bundle / "README.md").write_text(_markdown(card), encoding="utf-8")
    # The same checks that will be made whenever it is used.
    load_maest(Bundle.open(bundle))


def _read_config(path: Path) -> _Config:
    try:
        config = _Config.model_validate(_read_json(path))
        MelConfig(**FRONT_END, max_length=config.max_length)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise BundleInvalid(f"{path.name} is not that of a MAEST checkpoint: {where}: {fault['msg']}") from error
    return config


def _check_front_end(path: Path) -> None:
    """Another front end than the one that the bundle gets would make wrong embeddings without a word."""
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


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    """All tensors, of which every value is a finite floating-point number."""
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


def _cut(weights: dict[str, torch.Tensor], config: Any, blocks: int) -> dict[str, torch.Tensor]:
    """The tensors of an ASTModel of ``config``, in half precision, from those of a checkpoint with ``blocks`` blocks.

    ``transformers`` itself translates the names that older releases gave, with and without a classifier around them.
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


def _hub_client() -> Any:
    """``huggingface_hub``, told not to report what runs here along with each request, unless the user wants that."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read at its import
    import huggingface_hub

    return huggingface_hub


@contextmanager
def _hub_errors(repository: str, revision: str) -> Iterator[None]:
    """Turn what the hub's client raises into errors of ours."""
    errors = _hub_client().errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise BundleNotFound(f"{repository} is only shown to who has asked for access on the hub") from error
    except errors.RepositoryNotFoundError as error:
        raise BundleNotFound(f"the hub has no public repository {repository}") from error
    except errors.RevisionNotFoundError as error:
        raise BundleNotFound(f"{repository} has no revision {revision!r}") from error
    except Exception as error:  # the client passes on errors of several transports, which have no base in common
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise BundleError(f"the Hugging Face hub could not be asked for {repository}: {reason}") from error


def _card(
    checkpoint: Checkpoint, name: str, config: _Config, section: Mapping[str, Any], parameters: int, tokens: int
) -> dict[str, Any]:
    kept, blocks = section["layer"], config.num_hidden_layers
    again = f"tunelab models pull {checkpoint.repository} --revision {checkpoint.commit}"
    options = f" --layer {kept - 1} --pooling {section['pooling']}"
    return {
        "name": name,
        "version": checkpoint.commit[:12],
        "summary": f"The first {kept} of {blocks} blocks of MAEST, published as {checkpoint.repository}: "
        f"an embedding of {config.hidden_size} numbers for each track, and no heads yet.",
        "licence": checkpoint.licence,
        "source": {"repository": checkpoint.repository, "commit": checkpoint.commit, "file": WEIGHTS, "paper": PAPER},
        "changes": [
            f"{blocks - kept} of {blocks} blocks cut off: those after index {kept - 1}",
            "classifier cut off",
            "weights rounded to half precision",
        ],
        "encoder": {
            "parameters": parameters,
            "layers": kept,
            "width": config.hidden_size,
            "tokens": tokens,
            "embedding_size": config.hidden_size,
            "pooling": section["pooling"],
        },
        "heads": {},
        "limits": [
            f"Licence of the weights: {checkpoint.licence}" + (f" ({checkpoint.terms})." if checkpoint.terms else "."),
            "No heads: it gives embeddings; scores need heads trained for it (`tunelab train`).",
        ],
        "reproduce": [again + options],
    }


def _markdown(card: Mapping[str, Any]) -> str:
    source, encoder = card["source"], card["encoder"]
    lines = [
        f"# {card['name']}",
        "",
        card["summary"],
        "",
        f"- Source: https://huggingface.co/{source['repository']} at commit `{source['commit']}`,",
        f"  `{source['file']}` with SHA-256 `{source['sha256']}`.",
        f"- Paper: {source['paper']}",
        f"- Changes: {'; '.join(card['changes'])}.",
        f"- Embedding: {encoder['embedding_size']} numbers, pooling `{encoder['pooling']}`, read after block index "
        f"{encoder['layers'] - 1}, before the final norm.",
        *(f"- {limit}" for limit in card["limits"]),
        "",
        "To make it again:",
        "",
        *(f"    {command}" for command in card["reproduce"]),
    ]
    return "\n".join(lines) + "\n"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleInvalid(f"{path.name} is not valid JSON") from error
    if not isinstance(value, dict):
        raise BundleInvalid(f"{path.name} must hold a JSON object")
    return value


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
