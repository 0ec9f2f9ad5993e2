"""Which files of a folder are taken for audio."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

AUDIO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("mp3", "mp2", "aac", "m4a", "m4b", "mp4", "mov"),
        *("ogg", "oga", "opus", "webm", "mka", "mkv"),
        *("flac", "wav", "w64", "aif", "aiff", "aifc", "au", "caf"),
    )
)
"""What is taken from a folder. A file that is named itself is tried whatever its name."""


def find_files(paths: Iterable[Path], unreadable: Callable[[OSError], object] | None = None) -> Iterator[Path]:
    """Named files as they are, and the audio files of named folders, sorted; each once.

    Args:
        paths: files and folders.
        unreadable: is called with the error, its ``filename`` set, for each folder that cannot be searched.
    """
    seen = set()
    for path in paths:
        # os.path, because Path.is_dir() raises where a folder above may not be entered.
        found = sorted(_walk(path, unreadable)) if os.path.isdir(path) else [path]
        for file in found:
            if file not in seen:
                seen.add(file)
                yield file


def _walk(folder: Path, unreadable: Callable[[OSError], object] | None) -> Iterator[Path]:
    for root, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES:
                yield Path(root) / name
