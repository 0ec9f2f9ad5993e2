"""Recorded speech in the corpus: who speaks, in which language, and telephone prompts turned into readable files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf

from tunelab.training.beside import make_beside

PROMPT_SUFFIX = ".g722"
"""Raw G.722, 16 kHz: prompts of telephone exchanges."""
DECODED = ".decoded.flac"
"""Added to a prompt's name: where its sound is kept."""
NOT_SPOKEN = re.compile(r"(?:^|/)(?:silence/|beep|(?:a|de)scending-2tone|dial-tone|tt-monkeys\.|ring\.)")
"""Signals among the prompts, and silence."""
DESCRIBED = re.compile(r"_desc(?:_([a-z]{2}(?:_[A-Z]{2})?))?\.")
"""Spoken names of pictures, with a language or, in English, without."""
FISH = re.compile(r"-([mv])-")
"""The two main characters of a dialogue; all others count as one more speaker."""


def find_prompts(folder: Path) -> Iterator[Path]:
    """Spoken prompts in a folder, in order of their paths; signals and silence are left out."""
    for path in sorted(folder.rglob(f"*{PROMPT_SUFFIX}")):
        inside = path.relative_to(folder)
        spoken = not NOT_SPOKEN.search(f"{inside.parent.name}/{inside.name}")
        if spoken and path.is_file() and not path.is_symlink():
            yield path


def decode_prompts(folder: Path) -> int:
    """Decode every prompt in a folder that is not decoded yet.

    ``NAME`` becomes ``NAME.decoded.flac``, whole or not at all. What cannot be decoded is logged as a warning.

    Returns:
        How many are decoded now.
    """
    return make_beside(find_prompts(folder), DECODED, _decode, "decoded")


def _decode(prompt: Path, target: Path) -> str:
    """Decode one prompt; why it did not work, or nothing."""
    import av

    try:
        with av.open(str(prompt), format="g722") as container:
            frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
            rate = container.streams.audio[0].rate
        if not frames:
            return "there is no sound in it"
        sf.write(target, np.concatenate(frames), rate)
    except (av.error.FFmpegError, ValueError, sf.LibsndfileError) as error:
        return str(error)
    return ""


def speaker_of(path: str) -> str:
    """Who speaks in a file, as far as its path tells: one name for all files of a speaker.

    Args:
        path: relative to the corpus, its first part the package.
    """
    package, name = Path(path).parts[0], Path(path).name
    if described := DESCRIBED.search(name):
        return f"{package}/{described[1] or 'en'}"
    if package.startswith("fillets-ng-data-"):
        fish = FISH.search(name)
        return f"{package}/{fish[1] if fish else 'others'}"
    if package.startswith("asterisk-"):
        return package
    return str(Path(path).parent)


def language_of(path: str) -> str:
    """Two letters of the language that is spoken in a file, or nothing where its path does not tell."""
    package, name = Path(path).parts[0], Path(path).name
    if described := DESCRIBED.search(name):
        return (described[1] or "en")[:2]
    if package.startswith("fillets-ng-data-"):
        return package.rsplit("-", 1)[1]
    if package.startswith("asterisk-"):
        return package.split("-")[3]
    if package.startswith("festvox-"):
        return package.split("-")[1]
    folders = [part[:2] for part in Path(path).parts[1:-1] if re.fullmatch(r"[a-z]{2}(?:[_@].+)?", part)]
    return folders[-1] if folders else ""
