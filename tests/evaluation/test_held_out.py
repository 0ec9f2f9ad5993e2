"""Bundles on the same held-out clips, from the command to the table."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.training.rendered import write_clips
from tunelab.analyzer import Analyzer
from tunelab.encoder import find_bundle
from tunelab.errors import SettingsError
from tunelab.evaluation import held_out
from tunelab.evaluation.cli import commands
from tunelab.evaluation.metrics import pearson
from tunelab.heads.mlp import load_heads
from tunelab.training.labels import Labeller
from tunelab.training.targets import load_clips
from tunelab.types import HEADS, FloatArray


class Bundle:
    """Says what it is told to for each head, in the order of the clips."""

    def __init__(self, scores: dict[str, FloatArray]) -> None:
        self.name, self.card, self.scores = "made-up-v1", {"version": "7"}, scores


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for split in ("train", "heldout"):
        write_clips(tmp_path / "clips", split=split, seed=len(split))
        (tmp_path / "clips" / f"{split}-0001-0001.safetensors").unlink()
    return tmp_path / "clips"


def test_a_bundle_that_says_the_labels_agrees_with_them(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {}
    for split in ("train", "heldout"):
        of_split = load_clips(clips, split)
        answers[split] = (of_split["scores"], of_split["tags"].astype(np.float32).mean(1), of_split["known"])
    labels = Labeller.measure(*answers["train"])(*answers["heldout"])
    noise = {head: np.random.default_rng(3).random(8).astype(np.float32) for head in HEADS}
    made = {"right": Bundle(labels), "noise": Bundle(noise)}
    monkeypatch.setattr(held_out.Bundle, "open", lambda path: made[path.name])
    monkeypatch.setattr(held_out, "_scores", lambda bundle, mels: bundle.scores)
    result = CliRunner().invoke(commands, ["compare-bundles", "right", "noise", "--clips", str(clips)])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[2] == f"| made-up-v1 7 |{' 1.000 / 1.000 |' * 6}"
    assert lines[3].split("|")[2].strip().startswith(f"{pearson(noise['energy'], labels['energy']):.3f} / ")
    assert lines[4] == "n = 8 held-out clips, 4 of them music alone"


def test_untagged_clips_are_refused(clips: Path) -> None:
    (clips / "tags" / "heldout-0001-0000.safetensors").unlink()
    with pytest.raises(SettingsError, match="tag"):
        held_out.compare_bundles(clips, [])


def test_scores_are_those_of_the_bundle(clips: Path) -> None:
    bundle = find_bundle()
    mels = load_clips(clips, "heldout")["mel"][:2]
    scores = held_out._scores(bundle, mels)
    assert set(scores) == set(HEADS)
    decibels = mels.astype(np.float32) * np.float32(0.6) - 100
    wanted = [Analyzer(bundle).embed_mel((window - bundle.mel.mean) / bundle.mel.std) for window in decibels]
    heads = load_heads(bundle)
    for head in HEADS:
        np.testing.assert_allclose(scores[head], [heads(embedding)[head] for embedding in wanted], atol=0.02)
