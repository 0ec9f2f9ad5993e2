from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from tunelab.evaluation import probes
from tunelab.evaluation.probes import rendered, spoken

SECOND = 16_000


def _speech(corpus: Path, path: str, level: float) -> str:
    file = corpus / "un" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    sf.write(file, np.full(8000, level), 8000, subtype="FLOAT")
    return path


def test_spoken_clips_are_of_one_speaker_and_used_once(tmp_path: Path) -> None:
    paths = [_speech(tmp_path, f"qabcs-data/abcs/{folder}/w{n}.wav", level)
             for folder, level in (("de", 0.1), ("pl", 0.2)) for n in range(6)]  # fmt: skip
    paths += [_speech(tmp_path, f"asterisk-core-sounds-de-g722/{n}.wav", 0.4) for n in range(3)]
    paths += [_speech(tmp_path, f"qabcs-data/hello{n}.wav", 0.3) for n in range(9)]
    pd.DataFrame({"path": paths, "kind": "speech"}).to_parquet(tmp_path / "manifest.parquet")
    known = spoken(tmp_path, 3 * SECOND)
    # Three recordings of a second, with their pauses, fill a clip; nine of an unknown language fill none.
    assert known.labels["language"].tolist() == ["de", "de", "de", "pl", "pl"]
    levels = [round(float(np.median(window[window > 0.05])), 1) for window in known.windows]
    assert sorted(levels[:3]) == [0.1, 0.1, 0.4]
    assert levels[3:] == [0.2, 0.2]
    assert {len(window) for window in known.windows} == {3 * SECOND}


def test_a_language_has_only_so_many_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [_speech(tmp_path, f"qabcs-data/de/w{n}.wav", 0.1) for n in range(8)]
    pd.DataFrame({"path": paths, "kind": "speech"}).to_parquet(tmp_path / "manifest.parquet")
    assert len(list(spoken(tmp_path, SECOND).windows)) == 8
    monkeypatch.setattr(probes, "OF_A_LANGUAGE", 5)
    assert len(list(spoken(tmp_path, SECOND).windows)) == 5


def test_what_is_known_of_rendered_pieces(tmp_path: Path) -> None:
    for number, programs in enumerate(["(0, 1, 2)", "(40, 48, 42)"]):
        folder = tmp_path / "un" / f"rendered-acoustic-{number}"
        folder.mkdir(parents=True)
        rows = []
        for piece in range(4):
            sf.write(folder / f"{piece}.flac", np.zeros((64_000, 2)), 32_000)
            rows.append({"file": f"{piece}.flac", "tempo": 60 + 20 * piece, "tonic": piece, "mode": "minor"})
        pd.DataFrame(rows).assign(programs=programs).to_csv(folder / "pieces.csv", index=False)
    known = rendered(tmp_path, SECOND)
    assert [len(window) for window in known.windows] == [SECOND] * 8
    assert known.labels["key"].tolist() == [0, 1, 2, 3] * 2
    assert known.labels["tempo"].tolist() == [0, 1, 2, 3] * 2
    assert known.labels["instrument"].tolist() == ["piano"] * 4 + ["strings"] * 4
    assert set(known.labels["mode"]) == {"minor"}


def test_a_corpus_without_rendered_pieces(tmp_path: Path) -> None:
    assert list(rendered(tmp_path, SECOND).windows) == []
