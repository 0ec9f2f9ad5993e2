import itertools
import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.training.rendered import write_clips
from tunelab.errors import SettingsError
from tunelab.training import ablation, pretrain
from tunelab.training.ablation import VARIANTS, ablate, table
from tunelab.training.cli import commands
from tunelab.training.config import PretrainConfig
from tunelab.training.targets import Data
from tunelab.training.tonality import TONAL_COLUMNS
from tunelab.types import HEADS


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for split in ("train", "heldout"):
        write_clips(tmp_path / "clips", n=6, split=split)
    for path in (tmp_path / "clips").glob("*-0001.safetensors"):
        path.unlink()
    # Whatever the speed of the machine: a run of a minute is over after one step.
    clock = itertools.count(step=25.0)
    fake = SimpleNamespace(monotonic=lambda: next(clock), process_time=time.process_time)
    monkeypatch.setattr(pretrain, "time", fake)
    return tmp_path


def test_runs_are_kept_and_told_in_a_table(corpus: Path) -> None:
    result = CliRunner().invoke(commands, ["ablate", str(corpus), "--minutes", "1", "--only", "plain,384x6"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.strip().splitlines()
    assert len(lines) == 4
    plain, wide = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:])
    assert plain[0] == VARIANTS["plain"].about
    assert float(plain[1]) == pytest.approx(3.6, abs=0.6)
    assert float(wide[1]) == pytest.approx(11.5, abs=1.5)
    assert int(plain[2].replace(",", "")) >= PretrainConfig().batch
    run = json.loads((corpus / "ablation" / "1 min" / "384x6" / "run.json").read_text())
    assert run["config"]["width"] == 384
    before = (corpus / "ablation" / "1 min" / "plain" / "run.json").stat().st_mtime_ns
    [row] = ablate(corpus / "clips", corpus / "ablation", 1, ("plain",))
    assert set(row["r"]) == set(HEADS)
    assert (corpus / "ablation" / "1 min" / "plain" / "run.json").stat().st_mtime_ns == before
    assert table([row]).splitlines()[-1] == lines[2]


def test_an_unknown_run_is_told(corpus: Path) -> None:
    result = CliRunner().invoke(commands, ["ablate", str(corpus), "--only", "plain,deeper"])
    assert result.exit_code == 2
    assert "deeper" in result.output


def test_targets_that_are_left_out() -> None:
    data = Data(
        torch.zeros(3, 4, 2, dtype=torch.uint8),
        torch.zeros(3, 46, 307),
        torch.zeros(3, 256),
        torch.arange(3.0)[:, None].expand(3, 14).clone(),
        torch.ones(3),
        0.0,
        1.0,
    )
    clips = {"known": np.array([[0, 1, 0.0, 0], [4, 1, 0.4, 0], [8, 2, 0.0, 0]], np.float32)}
    silent = ablation._targets(data, clips, VARIANTS["no-voice"])
    assert silent.scores[:, 0].tolist() == [0.0, 2.0]
    unlayered = ablation._targets(data, clips, VARIANTS["no-layers"])
    assert unlayered.scores[:, 0].tolist() == [0.0, 1.0]
    keyless = ablation._targets(data, clips, VARIANTS["no-keys"])
    assert keyless.dense.isnan().all((0, 1)).sum() == keyless.dense.isnan().any((0, 1)).sum() == TONAL_COLUMNS
    untagged = ablation._targets(data, clips, VARIANTS["no-musicnn"])
    assert untagged.dense[:, :, -100:].isnan().all()
    assert not untagged.dense[:, :, :-100].isnan().any()
    assert untagged.scores[:, 8:].isnan().all()
    assert not untagged.scores[:, :8].isnan().any()
    assert not data.dense.isnan().any()
    assert not data.scores.isnan().any()


def test_clips_without_tags_are_refused(tmp_path: Path) -> None:
    for split in ("train", "heldout"):
        write_clips(tmp_path / "clips", n=2, split=split)
    with pytest.raises(SettingsError, match="tag"):
        next(ablate(tmp_path / "clips", tmp_path / "out", 1))
