"""``tunelab evaluate`` as a command: its lines, its JSON, its pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.evaluation.runs import write_run
from tests.support import make_bundle
from tunelab.cli import app
from tunelab.encoder.bundle import Bundle
from tunelab.evaluation import metrics, scoring
from tunelab.evaluation.report import contradictions, write_report
from tunelab.types import HEADS

EMOTIONS = ("calmness", "joyful_activation", "power", "sadness", "tenderness", "tension")


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are tested elsewhere."""
    monkeypatch.setattr(metrics, "interval", partial(metrics.interval, draws=50))


@pytest.fixture
def validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Labels, and scores that are made up: no audio is read."""
    rng = np.random.default_rng(0)
    songs = pd.DataFrame({"path": [f"{n}.opus" for n in range(40)], "source": "emotify"})
    songs["genre"] = ["classical", "rock", "electronic", "pop"] * 10
    for emotion in EMOTIONS:
        songs[emotion] = rng.random(40)
    voices = pd.DataFrame({"path": [f"v{n}.opus" for n in range(20)], "source": "mir1k", "vocals": [0.0, 1.0] * 10})
    (tmp_path / "validation").mkdir()
    pd.concat([songs, voices]).to_csv(tmp_path / "validation" / "labels.csv", index=False)
    scores = {head: rng.random(60).astype(np.float32) for head in HEADS}
    monkeypatch.setattr(scoring, "score_folder", lambda *_, **__: scores)
    return tmp_path / "validation"


def _evaluate(*arguments: str | Path) -> Any:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return result


def test_all_of_it(validation: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "small-v1", layers=1)
    card = (bundle / "card.json").read_bytes()
    plots = tmp_path / "new" / "plots"
    options = ("--json", tmp_path / "report.json", "--plot", plots, "--embeddings", write_run(tmp_path / "run"))
    result = _evaluate("--bundle", bundle, "--validation", validation, "--no-write", *options)
    assert (bundle / "card.json").read_bytes() == card
    assert sum("vibenet" in line for line in result.stdout.splitlines()) == 6
    assert sum("ccc" in line and "held-out" in line for line in result.stdout.splitlines()) == 6
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["revision"] == Bundle.open(bundle).revision
    assert [row["head"] for row in report["held_out"]] == list(HEADS)
    assert len(report["listeners"]) == 6
    # A head has a picture where listeners have said something about it.
    names = {"energy", "danceability", "happiness", "acousticness", "instrumentalness", "calibration"}
    assert {path.stem for path in plots.iterdir()} == names
    for path in plots.iterdir():
        picture = matplotlib.image.imread(path)
        assert min(picture.shape[:2]) > 300
        assert picture[..., :3].std() > 0.05  # not an empty page


def test_without_a_run_there_is_no_calibration(
    validation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path / "small-v1", layers=1)
    scores = scoring.score_folder(Bundle.open(bundle), validation)
    monkeypatch.setattr(scoring, "score_folder", lambda *_, **__: {"energy": scores["energy"]})
    for folder in ("plots", "again"):
        _evaluate("--bundle", bundle, "--validation", validation, "--no-write", "--plot", tmp_path / folder)
        assert [path.name for path in (tmp_path / folder).iterdir()] == ["energy.png"]
    pictures = [(tmp_path / folder / "energy.png").read_bytes() for folder in ("plots", "again")]
    assert pictures[0] == pictures[1]


def test_pictures_leave_matplotlib_alone() -> None:
    code = (
        "import sys; from pathlib import Path; from tunelab.evaluation.plots import new_figure, save_figure; "
        "assert 'matplotlib' not in sys.modules; figure = new_figure(2, 2); figure.subplots(); "
        "save_figure(figure, Path(sys.argv[1])); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, "/dev/null"], check=True)


def test_another_run_than_the_cards_is_told() -> None:
    rows = [{"head": "energy", "measures": {"pearson_r": {"value": 0.7, "ci95": [0.6, 0.8]}}}]
    assert list(contradictions({"heads": {"energy": {"pearson_r": 0.7004}}}, rows)) == []
    [line] = contradictions({"heads": {"energy": {"pearson_r": 0.94}}}, rows)
    assert line.startswith("energy: r = 0.700 here, 0.940 in the card")
    assert list(contradictions({}, rows)) == []


def test_undefined_figures_are_null(tmp_path: Path) -> None:
    bundle = Bundle.open(make_bundle(tmp_path / "small-v1", layers=1))
    write_report(tmp_path / "report.json", bundle, [], [{"head": "energy", "bins": [{"low": float("nan"), "n": 1}]}])
    text = (tmp_path / "report.json").read_text()
    assert json.loads(text)["held_out"] == [{"head": "energy", "bins": [{"low": None, "n": 1}]}]
    assert "NaN" not in text
