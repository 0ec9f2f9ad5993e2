"""A bundle made from another one: its encoder is copied, and the new folder appears whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunelab.encoder.bundle import CONFIG, PREPROCESSOR, RANGES, WEIGHTS, Bundle
from tunelab.errors import SettingsError

_OF_ENCODER = (CONFIG, PREPROCESSOR, WEIGHTS, RANGES, "ATTRIBUTION.md")


@contextmanager
def derived_bundle(source: Bundle, out: Path) -> Iterator[Path]:
    """A folder with the encoder of ``source``, to write heads and card into; it becomes ``out`` if the block ends well.

    Args:
        source: the bundle.
        out: the new bundle's folder.

    Raises:
        SettingsError: ``out`` exists.
    """
    if out.exists():
        raise SettingsError(f"{out.name} exists")
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name in _OF_ENCODER:
        if (source.path / name).is_file():
            shutil.copyfile(source.path / name, unfinished / name)
    yield unfinished
    unfinished.rename(out)
