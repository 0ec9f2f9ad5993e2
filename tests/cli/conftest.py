"""A small bundle, a few files, and a runner of the whole ``tunelab`` command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from tests.support import make_bundle
from tunelab.cli import app

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bundles with one in it."""
    folder = tmp_path_factory.mktemp("models")
    make_bundle(folder / "small-v1", layers=1)
    return folder


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good files, a broken one, a text file, and a hidden folder."""
    folder = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    (folder / "inner").mkdir()
    soundfile.write(folder / "a.flac", 0.1 * rng.normal(size=44_100), 22_050)
    soundfile.write(folder / "inner" / "b [live].ogg", 0.1 * rng.normal(size=(44_100, 2)), 22_050)
    (folder / "inner" / "broken.mp3").write_bytes(b"ID3, and nothing more")
    (folder / "notes.txt").write_text("not for the analyser")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "c.flac").write_bytes((folder / "a.flac").read_bytes())
    return folder


@pytest.fixture(scope="module")
def command(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Run ``tunelab ARGUMENTS`` and check its exit code."""
    runner = CliRunner()
    environment = {
        "TUNELAB_MODELS_DIR": str(models),
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
        "COLUMNS": "200",
    }

    def run(*arguments: str | Path, code: int = 0) -> Any:
        result = runner.invoke(app, [str(argument) for argument in arguments], env=environment)
        assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
        return result

    return run
