"""The free corpus: unpacked package folders -> a manifest of music and speech files, split by package."""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import soundfile as sf

log = logging.getLogger(__name__)

AUDIO_SUFFIXES = frozenset({".ogg", ".oga", ".mp3", ".wav", ".flac", ".opus"})
ARCHIVE_SUFFIXES = frozenset({".zip", ".pk3"})
MIN_MUSIC_S = 20.0
MIN_SPEECH_S = 0.6

SPEECH_PACKAGES: tuple[str, ...] = (
    "tuxpaint-stamps-default",
    "fillets-ng-data-cs",
    "fillets-ng-data-nl",
    "festvox-ru",
    "klettres-data",
    "ktuberling-data",
    "qabcs-data",
)
"""Packages whose short recordings are spoken; everything else is music when it is long enough."""

HELD_OUT_SPEECH = frozenset({"fillets-ng-data-nl", "klettres-data"})

STEM_PACKAGES = ("fretsonfire-",)
"""Packages that hold single stems of a song; a stem alone is not music that a user would send."""

SPLIT_MODULUS = 6
"""One music package in so many is held out."""


@dataclass(frozen=True, slots=True)
class Track:
    """One file of the corpus. ``path`` is relative to the corpus folder; ``kind`` is ``music`` or ``speech``."""

    path: str
    package: str
    licence: str
    seconds: float
    kind: str
    split: str


def split_of(package: str) -> str:
    """``heldout`` or ``train``, decided by the package's name alone, so that it never changes."""
    if package in SPEECH_PACKAGES:
        return "heldout" if package in HELD_OUT_SPEECH else "train"
    digest = hashlib.sha256(package.encode()).digest()
    return "heldout" if digest[0] % SPLIT_MODULUS == 0 else "train"


def unpack_archives(package: Path) -> None:
    """Unpack long audio members of zip containers beside them, once."""
    for archive in sorted(package.rglob("*")):
        if archive.suffix.lower() not in ARCHIVE_SUFFIXES or not archive.is_file():
            continue
        target = archive.with_name(archive.name + ".unpacked")
        if target.exists():
            continue
        target.mkdir()
        try:
            with zipfile.ZipFile(archive) as members:
                for number, member in enumerate(members.infolist()):
                    suffix = Path(member.filename).suffix.lower()
                    if suffix in AUDIO_SUFFIXES and 150_000 < member.file_size < 50_000_000:
                        # A number instead of the member's own path: nothing can be written outside the folder.
                        (target / f"{number:05d}{suffix}").write_bytes(members.read(member))
        except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
            log.warning("%s: not unpacked: %s", archive.name, error)


def list_package(root: Path, package: str) -> Iterator[Track]:
    """Tracks of one unpacked package, duplicates within it dropped by content hash."""
    folder = root / package
    speech = package in SPEECH_PACKAGES
    seen: set[bytes] = set()
    unpack_archives(folder)
    licence = next(iter(sorted(folder.glob("usr/share/doc/*/copyright"))), None)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in AUDIO_SUFFIXES or path.is_symlink() or not path.is_file():
            continue
        if package == "tuxpaint-stamps-default" and "_desc" not in path.name:
            continue  # the others are noises of the pictured things
        try:
            info = sf.info(path)
            seconds = info.frames / info.samplerate
        except sf.LibsndfileError:
            continue
        if seconds < (MIN_SPEECH_S if speech else MIN_MUSIC_S) or (speech and seconds > 60):
            continue
        digest = hashlib.sha256(path.read_bytes()).digest()
        if digest in seen:
            continue
        seen.add(digest)
        yield Track(
            path=str(path.relative_to(root)),
            package=package,
            licence=str(licence.relative_to(root)) if licence else "",
            seconds=round(seconds, 3),
            kind="speech" if speech else "music",
            split=split_of(package),
        )


def build_manifest(root: Path, out: Path) -> int:
    """List every unpacked package under ``root`` into the Parquet file ``out``.

    Returns:
        The number of tracks.
    """
    import pandas as pd

    rows = [
        asdict(track)
        for folder in sorted(root.iterdir())
        if folder.is_dir() and not folder.name.startswith(STEM_PACKAGES) and folder.suffix != ".tmp"
        for track in list_package(root, folder.name)
    ]
    pd.DataFrame(rows).to_parquet(out, index=False)
    return len(rows)
