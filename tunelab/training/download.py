"""Fetch the corpus's Debian packages without installing them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tunelab.errors import SettingsError
from tunelab.training.corpus import SPEECH_PACKAGES
from tunelab.training.parallel import parallel_map

MUSIC_PACKAGES: tuple[str, ...] = (
    "warzone2100-music",
    "ufoai-music",
    "planetblupi-music-ogg",
    "wesnoth-1.16-music",
    "naev-data",
    "supertux-data",
    "hedgewars-data",
    "nexuiz-music",
    "colobot-common-sounds",
    "singularity-music",
    "marsshooter-data",
    "tecnoballz-data",
    "drascula-music",
    "flare-game",
    "trackballs-data",
    "pushover-data",
    "pekka-kana-2-data",
    "heroes-sound-tracks",
    "starfighter-data",
    "warmux-data",
    "fretsonfire-songs-sectoid",
    "fretsonfire-songs-muldjord",
    "wizznic-data",
    "fillets-ng-data",
    "hyperrogue-music",
    "pingus-data",
    "davegnukem-data",
    "rafkill-data",
    "biniax2-data",
    "enigma-data",
    "pachi-data",
    "zaz-data",
    "asc-music",
    "ardentryst",
    "open-invaders-data",
    "freedink-data",
    "wordwarvi-sound",
    "bomberclone-data",
    "tuxmath-data",
    "lordsawar-data",
    "adonthell-data",
    "madbomber-data",
    "btanks-data",
    "frozen-bubble-data",
    "xmoto-data",
    "tuxtype-data",
    "miceamaze",
    "noiz2sa-data",
    "neverball-common",
    "hex-a-hop-data",
    "plee-the-bear-data",
    "amoebax-data",
    "gl-117-data",
    "pathological",
    "pinball-data",
    "bugsquish",
    "circuslinux-data",
    "njam-data",
    "powermanga-data",
    "gigalomania-data",
    "tomatoes-data",
    "gltron",
    "criticalmass-data",
    "seahorse-adventures",
    "angrydd",
    "tumiki-fighters-data",
    "mu-cade-data",
    "pax-britannica-data",
    "mazeofgalious-data",
    "torus-trooper-data",
    "parsec47-data",
    "solarwolf",
    "titanion-data",
    "gunroar-data",
    "brainparty-data",
    "fb-music-high",
    "a7xpg-data",
    "hannah-data",
    "blockout2",
    "rrootage-data",
    "0ad-data",
    "widelands-data",
    "supertuxkart-data",
    "freedroidrpg-data",
    "unknown-horizons",
    "megaglest-data",
    "freecol",
    "berusky2-data",
    "freeorion-data",
    "freeciv-data",
    "openclonk-data",
    "extremetuxracer-data",
    "krank",
    "glob2-data",
    "renpy-demo",
    "asterisk-moh-opsound-g722",
    "cavepacker-data",
    "gnujump-data",
    "funnyboat",
    "bumprace-data",
    "caveexpress-data",
    "pink-pony-data",
    "flobopuyo",
    "freedroid-data",
    "liquidwar-data",
    "bb",
    "lincity-ng-data",
    "raincat-data",
    "toppler",
    "tuxfootball",
    "photofilmstrip",
    "lugaru-data",
    "orbital-eunuchs-sniper-data",
    "scorched3d-data",
    "redeclipse-data",
    "openttd-openmsx",
    "simutrans-data",
    "pianobooster",
    "freedoom",
    "freedm",
    "mma",
    "faust-common",
    "abe-data",
    "vonsh",
    "renpy-thequestion",
    "instead-data",
    "cuyo-data",
    "ceferino-data",
    "ironseed-data",
    "endless-sky-data",
    "penguin-command",
    "ri-li-data",
    "gemdropx",
    "monsterz-data",
)
"""Packages of Debian main with music, as recordings, tracker modules or MIDI files."""

DOWNLOADS = 4
"""Packages that are fetched at once: one connection rarely fills the line."""


def download_packages(
    root: Path, scratch: Path, packages: tuple[str, ...] = MUSIC_PACKAGES + SPEECH_PACKAGES
) -> Iterator[str]:
    """Unpack each package into ``root/PACKAGE`` unless it is there, :data:`DOWNLOADS` at once.

    An interrupted one is fetched again.

    Args:
        root: the unpacked packages.
        scratch: where the archives lie while they are unpacked; each is deleted afterwards.

    Yields:
        Names of packages that could not be fetched or unpacked.

    Raises:
        SettingsError: ``apt-get`` or ``dpkg`` is not installed.
    """
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg")
    if apt is None or dpkg is None:
        raise SettingsError("the corpus needs apt-get and dpkg")
    scratch.mkdir(parents=True, exist_ok=True)
    root.mkdir(parents=True, exist_ok=True)
    missing = missing_packages(root, packages)
    done = parallel_map(partial(_fetch, root=root, scratch=scratch, apt=apt, dpkg=dpkg), missing, DOWNLOADS)
    yield from (package for package, there in zip(missing, done, strict=True) if not there)


def _fetch(package: str, root: Path, scratch: Path, apt: str, dpkg: str) -> bool:
    """Download and unpack one package; whether it worked."""
    fetched = subprocess.run([apt, "download", package], cwd=scratch, capture_output=True, check=False)  # noqa: S603
    archives = sorted(scratch.glob(f"{package}_*.deb"))
    there = not fetched.returncode and bool(archives) and unpack(archives[-1], root / package, dpkg)
    for archive in archives:
        archive.unlink()
    return there


def missing_packages(root: Path, packages: tuple[str, ...] = MUSIC_PACKAGES + SPEECH_PACKAGES) -> list[str]:
    """Packages that are not unpacked in ``root``: not fetched yet, or no longer in the distribution."""
    return [package for package in packages if not (root / package).is_dir()]


def unpack(archive: Path, target: Path, dpkg: str = "dpkg") -> bool:
    """Unpack a ``.deb`` into ``target``, whole or not at all; whether it worked."""
    unfinished = target.with_name(target.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    done = subprocess.run([dpkg, "-x", str(archive), str(unfinished)], capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        shutil.rmtree(unfinished, ignore_errors=True)
        return False
    unfinished.rename(target)
    return True
