"""The Hugging Face hub: which commit of a published checkpoint there is, and its files.

Three files are ever asked for, two of them JSON and the third safetensors: no pickles, no code.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunelab.encoder.bundle import CONFIG, PREPROCESSOR, WEIGHTS
from tunelab.errors import BundleError, BundleInvalid, BundleNotFound, SettingsError

PUBLISHER = "mtg-upf"
"""Whose checkpoints can be named without an owner."""
_LICENCES = {
    "cc-by-nc-sa-4.0": (
        "CC BY-NC-SA 4.0",
        "https://creativecommons.org/licenses/by-nc-sa/4.0/: not for commercial use, name the authors, pass changed "
        "versions on under the same licence",
    )
}
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


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


def download(checkpoint: Checkpoint, folder: Path) -> Path:
    """Fetch the checkpoint's few files into ``folder``, and check them against what the hub said.

    Returns:
        ``folder``.

    Raises:
        BundleInvalid: a file did not arrive, or is not what the hub said.
        BundleError: the hub did not answer.
    """
    with _hub_errors(checkpoint.repository, checkpoint.commit):
        _hub_client().snapshot_download(
            checkpoint.repository, revision=checkpoint.commit, allow_patterns=list(checkpoint.files), local_dir=folder
        )
    for name, file in checkpoint.files.items():
        if not (folder / name).is_file():
            raise BundleInvalid(f"{name} did not arrive")
        if file.sha256 is not None and sha256_of(folder / name) != file.sha256:
            raise BundleInvalid(f"{name} is not the file that the hub has (SHA-256 differs); try again")
    return folder


def _hub_client() -> Any:
    """``huggingface_hub``, told not to report what runs here along with each request, unless the user wants that."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read at its import, which takes a second: only here
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


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
