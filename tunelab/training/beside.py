"""Sound that is kept beside the file that it is made from: of tracker modules, scores and telephone prompts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from tunelab.training.parallel import parallel_map

log = logging.getLogger(__name__)


def beside(source: Path, suffix: str) -> Path:
    """Where the sound of ``source`` is kept."""
    return source.with_name(source.name + suffix)


def make_beside(sources: Iterable[Path], suffix: str, make: Callable[[Path, Path], str], done: str) -> int:
    """Make the sound of every source that has none yet, some at once, whole or not at all; call again to resume.

    Args:
        sources: files.
        suffix: is added to a source's name for that of its sound.
        make: source, file to write -> why it did not work, or nothing. An :class:`OSError` is a reason, too. It is
            called from several threads.
        done: what has been done with a source then, for the warning about those that it did not work with.

    Returns:
        How many have their sound now.
    """
    return sum(parallel_map(partial(_make_one, suffix=suffix, make=make, done=done), sources))


def _make_one(source: Path, suffix: str, make: Callable[[Path, Path], str], done: str) -> bool:
    """Whether a source has its sound then."""
    target = beside(source, suffix)
    if target.exists():
        return True
    if reason := _make(source, target, make):
        log.warning("%s: not %s: %s", source.name, done, reason)
    return not reason


def _make(source: Path, target: Path, make: Callable[[Path, Path], str]) -> str:
    # Hidden, so that a listing that runs meanwhile does not take it for music.
    partial = target.with_name("." + target.name)
    partial.unlink(missing_ok=True)
    try:
        reason = make(source, partial)
        if not reason:
            partial.rename(target)
    except OSError as error:
        return str(error)
    finally:
        partial.unlink(missing_ok=True)
    return reason
