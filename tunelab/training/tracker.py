"""Tracker modules, scores with their own samples -> FLAC files beside them, played by ``openmpt123``."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import soundfile as sf

from tunelab.training.beside import beside, make_beside

log = logging.getLogger(__name__)

MODULE_SUFFIXES = frozenset({".mod", ".xm", ".it", ".s3m", ".stm"})
RENDERED = ".rendered.flac"
"""Added to a module's name: where its sound is kept."""
PLAYER = "openmpt123"
RATE = 32_000
"""Hertz, mono: all that the 16 kHz of a clip need, also where it is played a fifth faster."""
GAIN_DB = -10
"""Modules know no full scale: many would be clipped at the player's own level."""
LONGEST_S = 600
TIMEOUT_S = 120.0


def find_modules(folder: Path) -> Iterator[Path]:
    """Tracker modules in a folder, in order of their paths."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in MODULE_SUFFIXES and path.is_file() and not path.is_symlink():
            yield path


def render_modules(folder: Path, *, timeout_s: float = TIMEOUT_S) -> int:
    """Render every module in a folder that is not rendered yet, some at once; call again to resume.

    Each ``NAME`` becomes ``NAME.rendered.flac``, whole or not at all: 16 bits, mono, :data:`RATE`, at most
    :data:`LONGEST_S`. What cannot be rendered, and a missing player, is logged as a warning.

    Args:
        folder: searched with all folders in it.
        timeout_s: the player is ended after so many seconds.

    Returns:
        How many are rendered now.
    """
    modules = list(find_modules(folder))
    waiting = sum(not rendered(module).exists() for module in modules)
    player = shutil.which(PLAYER)
    if waiting and player is None:
        log.warning("%s: %d tracker modules are left out: %s is not installed", folder.name, waiting, PLAYER)
        return len(modules) - waiting
    return make_beside(modules, RENDERED, partial(_render, player or "", timeout_s), "rendered")


def rendered(module: Path) -> Path:
    """Where a module's sound is kept."""
    return beside(module, RENDERED)


def _render(player: str, timeout_s: float, module: Path, target: Path) -> str:
    """Render one module; why it did not work, or nothing."""
    # Without dither, which is random: the same module gives the same bytes. Absolute paths: a name that begins with a
    # dash is none of the player's options.
    options = (
        f"--batch --quiet --no-float --dither 0 --channels 1 --samplerate {RATE} --gain {GAIN_DB} "
        f"--end-time {LONGEST_S}"
    )
    command = [player, *options.split(), "--output", str(target.absolute()), "--", str(module.absolute())]
    try:
        played = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)  # noqa: S603
        if played.returncode:
            return f"{PLAYER} ended with code {played.returncode}"
        if sf.info(target).frames == 0:
            return "no sound"
    except subprocess.TimeoutExpired:
        return f"not done within {timeout_s:.0f} s"
    except sf.LibsndfileError as error:
        return str(error)
    return ""
