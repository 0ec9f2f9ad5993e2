import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from tunelab.errors import SettingsError
from tunelab.training.corpus import build_manifest
from tunelab.training.renderer import SYNTHETIC_SHARE, limit_share
from tunelab.training.speech import language_of, speaker_of
from tunelab.training.synthetic_voices import LANGUAGES, PROGRAM, SPEAKERS, render_voices, sentence

needs_program = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=f"needs {PROGRAM}")


def _stand_in(command: list[str], **_: Any) -> None:
    """Writes a second of noise where the program would write."""
    [target] = [argument[2:] for argument in command if argument.startswith("-w")]
    noise = 0.1 * np.random.default_rng(zlib.crc32(target.encode())).normal(size=16_000)
    sf.write(target, noise, 16_000, format="WAV")


def test_a_few_speakers_of_each_language_are_listed_as_speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", _stand_in)
    assert render_voices(tmp_path / "un", 6) == 6 * len(LANGUAGES)
    assert render_voices(tmp_path / "un", 7) == len(LANGUAGES)
    build_manifest(tmp_path / "un", tmp_path / "manifest.parquet")
    table = pd.read_parquet(tmp_path / "manifest.parquet")
    assert set(table.kind) == {"speech"}
    # What is measured is measured on people, and no probe asks a robot for its language.
    assert set(table.split) == {"train"}
    assert not any(language_of(path) for path in table.path)
    assert table.path.map(speaker_of).nunique() == SPEAKERS * len(LANGUAGES)
    assert table.licence.str.endswith("copyright").all()


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_are_of_the_letters_of_a_language(language: str) -> None:
    one, other = (sentence(language, np.random.default_rng(seed)) for seed in (1, 2))
    assert one != other
    assert one == sentence(language, np.random.default_rng(1))
    words = one.rstrip(".").replace(",", "").split()
    assert 8 <= len(words) <= 16
    assert set("".join(words)) <= set("".join(LANGUAGES[language]).replace(" ", ""))


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SettingsError, match=PROGRAM):
        render_voices(tmp_path, 1)
    assert not list(tmp_path.iterdir())


@needs_program
def test_the_program_speaks(tmp_path: Path) -> None:
    render_voices(tmp_path, 1)
    files = sorted(tmp_path.rglob("*.wav"))
    assert len(files) == len(LANGUAGES)
    for file in files:
        samples, rate = sf.read(file)
        assert 1.5 < len(samples) / rate < 25
        assert np.abs(samples).max() > 0.1


def test_people_are_heard_more_often_than_robots() -> None:
    shares = limit_share(np.array([1.0, 3.0, 5.0, 7.0]), np.array([False, False, True, True]))
    assert shares.sum() == pytest.approx(1.0)
    assert shares[2:].sum() == pytest.approx(SYNTHETIC_SHARE)
    assert shares[1] / shares[0] == pytest.approx(3.0)
    assert shares[3] / shares[2] == pytest.approx(1.4)
    few = limit_share(np.array([9.0, 1.0]), np.array([False, True]))
    assert few == pytest.approx([0.9, 0.1])
    for synthetic in (True, False):
        assert limit_share(np.array([1.0, 1.0]), np.full(2, synthetic)) == pytest.approx([0.5, 0.5])
