"""Clips are drawn from a manifest; what is known of them is what was mixed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from tunelab.errors import SettingsError
from tunelab.training.kinds import KINDS, LAYERED
from tunelab.training.labels import NOT_ORDINARY
from tunelab.training.renderer import Clip, Renderer
from tunelab.training.voice import SAMPLE_RATE

HERTZ = (700.0, 1900.0)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two packages of one tone each, train and held out alike."""
    folder = tmp_path_factory.mktemp("corpus")
    times = np.arange(40 * SAMPLE_RATE) / SAMPLE_RATE
    rows: list[dict[str, object]] = []
    for split in ("train", "heldout"):
        rows.append({"path": "nobody.wav", "package": "nobody", "kind": "speech", "split": split, "seconds": 1.0})
        for number, hertz in enumerate(HERTZ):
            path = f"{split}-{number}.wav"
            sf.write(folder / path, 0.2 * np.sin(2 * np.pi * hertz * times), SAMPLE_RATE)
            rows.append({"path": path, "package": path[:-4], "kind": "music", "split": split, "seconds": 40.0})
    pd.DataFrame(rows).to_parquet(folder / "manifest.parquet")
    return folder / "manifest.parquet"


def _draw(manifest: Path, split: str, count: int, **shares: float) -> list[Clip]:
    renderer = Renderer(manifest, manifest.parent, split, 3, shares)
    return [renderer.clip() for _ in range(count)]


def _tones(clip: Clip) -> list[float]:
    """Strong frequencies, in Hz."""
    spectrum = np.abs(np.fft.rfft(clip.samples[: 4 * SAMPLE_RATE] * np.hanning(4 * SAMPLE_RATE)))
    places = np.flatnonzero(spectrum > 0.1 * spectrum.max()) / 4
    return [float(group.mean()) for group in np.split(places, np.flatnonzero(np.diff(places) > 50) + 1)]


def test_layers_are_two_tracks_at_once_without_a_voice(manifest: Path) -> None:
    clips = _draw(manifest, "train", 12, layered=1.0)
    assert {clip.kind for clip in clips} == {KINDS[LAYERED]} <= set(NOT_ORDINARY)
    assert not any(clip.voice or clip.speech or clip.activity.any() for clip in clips)
    assert all(np.abs(clip.samples).max() == pytest.approx(1.0) for clip in clips)
    # Tracks are drawn apart from each other, at a speed of their own: mostly two tones, also of the same track.
    assert sum(len(_tones(clip)) == 2 for clip in clips) >= 8


def test_held_out_clips_are_music_as_people_make_it(manifest: Path) -> None:
    clips = _draw(manifest, "heldout", 6, music=0.01, layered=0.99)
    assert {clip.kind for clip in clips} == {KINDS["music"]}
    assert all([round(tone) for tone in _tones(clip)] in ([700], [1900]) for clip in clips)
    with pytest.raises(SettingsError, match="for training alone"):
        _draw(manifest, "heldout", 1, layered=1.0)
