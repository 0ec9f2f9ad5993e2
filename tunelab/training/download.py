"""Fetch the corpus's Debian packages without installing them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tunelab.errors import SettingsError
from tunelab.training.corpus import SPEECH_PACKAGES

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


def download_packages(
    root: Path, scratch: Path, packages: tuple[str, ...] = MUSIC_PACKAGES + SPEECH_PACKAGES
) -> Iterator[str]:
    """Unpack each package into ``root/PACKAGE`` unless it is there; an interrupted one is fetched again.

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
    for package in packages:
        target = root / package
        if target.exists():
            continue
        fetched = subprocess.run([apt, "download", package], cwd=scratch, capture_output=True, check=False)  # noqa: S603
        archives = sorted(scratch.glob(f"{package}_*.deb"))
        if fetched.returncode or not archives or not unpack(archives[-1], target, dpkg):
            yield package
        for archive in archives:
            archive.unlink()


def missing_packages(root: Path, packages: tuple[str, ...] = MUSIC_PACKAGES + SPEECH_PACKAGES) -> list[str]:
    """Packages that are not unpacked in ``root``: not fetched yet, or no longer in the distribution."""
    return [package for package in packages if not (root / package).is_dir()]


def unpack(archive: Path, target: Path, dpkg: str = "dpkg") -> bool:
    """Unpack a ``.deb`` into ``target``, whole or not at all; whether it worked."""
    partial = target.with_name(target.name + ".tmp")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    done = subprocess.run([dpkg, "-x", str(archive), str(partial)], capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        shutil.rmtree(partial, ignore_errors=True)
        return False
    partial.rename(target)
    return True
