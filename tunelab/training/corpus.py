"""The free corpus: unpacked package folders -> a manifest of music and speech files, split by package.

Music is what lies there as audio, what tracker modules and MIDI files play, and songs mixed from their stems; each
recording once.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import soundfile as sf

from tunelab.errors import SettingsError
from tunelab.training.duplicates import drop_duplicates
from tunelab.training.festival import PREFIX as SINGERS
from tunelab.training.midi import RENDERED as PLAYED
from tunelab.training.midi import render_midi
from tunelab.training.speech import DECODED, decode_prompts
from tunelab.training.stems import MIXED, STEM_PACKAGES, mix_stems
from tunelab.training.synthetic_voices import PREFIX as SYNTHETIC
from tunelab.training.tracker import MODULE_SUFFIXES, RENDERED, render_modules

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
    "asterisk-core-sounds-en-g722",
    "asterisk-core-sounds-es-g722",
    "asterisk-core-sounds-fr-g722",
    "asterisk-core-sounds-it-g722",
    "asterisk-core-sounds-ru-g722",
)
"""Packages whose short recordings are spoken; everything else is music when it is long enough."""

HELD_OUT_SPEECH = frozenset({"fillets-ng-data-nl", "klettres-data"})

DUPLICATES = "duplicates.csv"
UNPACKED = ".unpacked"
"""Added to the name of an archive: the folder of what was in it."""
SPLIT_MODULUS = 6
"""One music package in so many is held out."""


@dataclass(frozen=True, slots=True)
class Track:
    """One file of the corpus.

    Attributes:
        path: relative to the corpus folder.
        package: whose file it is.
        licence: path of the package's copyright file, or empty.
        seconds: its length.
        kind: ``music``, ``speech`` or ``singing``.
        split: ``train`` or ``heldout``.
        source: ``file``, ``archive`` (a member of one), ``tracker`` (a rendered module), ``score`` (a MIDI file that
            was played), ``stems`` (mixed) or ``prompt`` (of a telephone exchange, decoded).
        sha256: of the file's bytes.
    """

    path: str
    package: str
    licence: str
    seconds: float
    kind: str
    split: str
    source: str
    sha256: str


def split_of(package: str) -> str:
    """``heldout`` or ``train``, decided by the package's name alone, so that it never changes."""
    if package.startswith((SYNTHETIC, SINGERS)):
        return "train"  # what is measured is measured on people
    if package in SPEECH_PACKAGES:
        return "heldout" if package in HELD_OUT_SPEECH else "train"
    digest = hashlib.sha256(package.encode()).digest()
    return "heldout" if digest[0] % SPLIT_MODULUS == 0 else "train"


def package_number(package: str) -> int:
    """A number that clips know their package by, below 2 ** 24 so that float32 holds it; the name alone decides it."""
    return int.from_bytes(hashlib.sha256(package.encode()).digest()[:3], "big")


def unpack_archives(package: Path) -> None:
    """Unpack long audio members of zip containers beside them, once."""
    for archive in sorted(package.rglob("*")):
        if archive.suffix.lower() not in ARCHIVE_SUFFIXES or not archive.is_file():
            continue
        target = archive.with_name(archive.name + UNPACKED)
        if target.exists():
            continue
        partial = target.with_name(target.name + ".tmp")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            with zipfile.ZipFile(archive) as members:
                for number, member in enumerate(members.infolist()):
                    suffix = Path(member.filename).suffix.lower()
                    least = 1_000 if suffix in MODULE_SUFFIXES else 150_000
                    if suffix in AUDIO_SUFFIXES | MODULE_SUFFIXES and least < member.file_size < 50_000_000:
                        # A number instead of the member's own path: nothing can be written outside the folder.
                        (partial / f"{number:05d}{suffix}").write_bytes(members.read(member))
        except (zipfile.BadZipFile, NotImplementedError) as error:
            # It will not get any better: what was read of it stays.
            log.warning("%s: not unpacked to its end: %s", archive.name, error)
        partial.rename(target)


def list_package(root: Path, package: str) -> Iterator[Track]:
    """Tracks of one unpacked package; its modules and scores are played and its stems mixed first, if not yet."""
    folder = root / package
    speech = package in SPEECH_PACKAGES or package.startswith(SYNTHETIC)
    kind = "speech" if speech else "singing" if package.startswith(SINGERS) else "music"
    stems = package.startswith(STEM_PACKAGES)
    unpack_archives(folder)
    decode_prompts(folder)
    if kind == "music":
        render_modules(folder)
        render_midi(folder)
    if stems:
        mix_stems(folder)
    licence = next(iter(sorted(folder.glob("usr/share/doc/*/copyright"))), None)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in AUDIO_SUFFIXES or path.is_symlink() or not path.is_file():
            continue
        if path.name.startswith(".") or (stems and path.name != MIXED):
            continue
        if package == "tuxpaint-stamps-default" and "_desc" not in path.name:
            continue  # the others are noises of the pictured things
        if package == "qabcs-data" and "noises" in path.parts:
            continue
        try:
            info = sf.info(path)
            seconds = info.frames / info.samplerate
        except sf.LibsndfileError:
            continue
        if seconds < (MIN_MUSIC_S if kind == "music" else MIN_SPEECH_S) or (speech and seconds > 60):
            continue
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        yield Track(
            path=str(path.relative_to(root)),
            package=package,
            licence=str(licence.relative_to(root)) if licence else "",
            seconds=round(seconds, 3),
            kind=kind,
            split=split_of(package),
            source=source_of(path),
            sha256=digest,
        )


def source_of(path: Path) -> str:
    """How a file came to be, as in :attr:`Track.source`."""
    if path.name.endswith(RENDERED):
        return "tracker"
    if path.name.endswith(PLAYED):
        return "score"
    if path.name.endswith(DECODED):
        return "prompt"
    if path.name == MIXED and path.with_name("song.ogg").exists():
        return "stems"
    return "archive" if path.parent.suffix == UNPACKED else "file"


def build_manifest(root: Path, out: Path) -> int:
    """List every unpacked package under ``root`` into the Parquet file ``out``, each recording once.

    What was left out as a duplicate goes to ``duplicates.csv`` beside it, fingerprints into the folder ``fingerprints``
    there, so that a second call is quick.

    Returns:
        The number of tracks.

    Raises:
        SettingsError: there is no folder ``root``.
    """
    import pandas as pd

    if not root.is_dir():
        raise SettingsError(f"there is no folder {root.name} with unpacked packages")
    packages = [folder.name for folder in sorted(root.iterdir()) if folder.is_dir() and folder.suffix != ".tmp"]
    tracks = [track for package in packages for track in list_package(root, package)]
    kept, dropped = drop_duplicates(tracks, root, out.with_name("fingerprints"))
    columns = [field.name for field in fields(Track)]
    pd.DataFrame([asdict(track) for track in kept], columns=columns).to_parquet(out, index=False)
    names = ["path", "same_as", "share", "offset_s"]
    pd.DataFrame([asdict(row) for row in dropped], columns=names).to_csv(out.with_name(DUPLICATES), index=False)
    return len(kept)


def summary(manifest: Path) -> Iterator[str]:
    """What a manifest holds, one line a kind, and how many duplicates were left out."""
    import pandas as pd

    table = pd.read_parquet(manifest)
    dropped = pd.read_csv(manifest.with_name(DUPLICATES)).same_as.map(table.set_index("path").kind)
    for kind, rows in table.groupby("kind"):
        sources = ", ".join(f"{count} {name}" for name, count in rows.source.value_counts().items())
        yield (
            f"{kind}: {len(rows)} tracks, {rows.seconds.sum() / 3600:.1f} h ({sources}) of {rows.package.nunique()} "
            f"packages, {(rows.split == 'heldout').sum()} held out; {(dropped == kind).sum()} duplicates left out"
        )
