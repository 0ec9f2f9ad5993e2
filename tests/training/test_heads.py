from pathlib import Path

import numpy as np
import pytest

from tunelab.evaluation.metrics import pearson, spearman
from tunelab.heads.mlp import Heads
from tunelab.training import heads
from tunelab.training.export import licences_named
from tunelab.training.finish import fit_heads
from tunelab.training.heads import development_clips, match_spread, passes_gate, predict, train_head
from tunelab.training.musicnn import TAGS
from tunelab.types import HEADS, FloatArray


def _embeddings(n: int, seed: int) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 768)).astype(np.float32)
    direction = np.random.default_rng(9).normal(size=768)
    return x, (1 / (1 + np.exp(-(x @ direction) / 14))).astype(np.float32)


@pytest.mark.parametrize("head", ["energy", "speechiness"])
def test_training_twice_gives_the_same_head_and_it_learns(head: str) -> None:
    train, development, heldout = _embeddings(600, 0), _embeddings(200, 1), _embeddings(100, 2)
    first = train_head(head, train, development, heldout[0], epochs=4)
    second = train_head(head, train, development, heldout[0], epochs=4)
    assert all(np.array_equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    assert first.development_r > 0.5
    served = [Heads(first.tensors)(embedding)[head] for embedding in heldout[0]]
    np.testing.assert_allclose(served, first.heldout, atol=1e-5)


def _without_linear_half(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(head: str, train: tuple[FloatArray, FloatArray], development: object) -> tuple[FloatArray, float]:
        return np.zeros(train[0].shape[1], np.float32), 0.0

    monkeypatch.setattr(heads, "_linear_half", nothing)


def test_crowded_labels_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of these labels most are above .98, as acousticness has them: ranks among those, with and without the line."""

    def crowded(n: int, seed: int) -> tuple[FloatArray, FloatArray]:
        x, labels = _embeddings(n, seed)
        return x, (1 / (1 + np.exp(-(3.5 * np.log(labels / (1 - labels)) + 5)))).astype(np.float32)

    train, development, heldout = crowded(1500, 0), crowded(300, 1), crowded(500, 2)
    high = heldout[1] > 0.98
    assert 0.5 < high.mean() < 0.8
    whole = train_head("acousticness", train, development, heldout[0], epochs=8)
    _without_linear_half(monkeypatch)
    half = train_head("acousticness", train, development, heldout[0], epochs=8)
    assert spearman(*(values[high] for values in (whole.heldout, heldout[1]))) > 0.75
    assert spearman(*(values[high] for values in (half.heldout, heldout[1]))) < 0.7


@pytest.mark.parametrize("head", ["energy", "speechiness"])
def test_few_labels_are_enough_for_a_line(monkeypatch: pytest.MonkeyPatch, head: str) -> None:
    train, development, heldout = _embeddings(300, 0), _embeddings(60, 1), _embeddings(300, 2)
    whole = train_head(head, train, development, heldout[0])
    _without_linear_half(monkeypatch)
    half = train_head(head, train, development, heldout[0])
    assert pearson(whole.heldout, heldout[1]) > pearson(half.heldout, heldout[1]) + 0.02


def test_labels_of_zero_and_one_do_not_make_it_sure_of_itself() -> None:
    """Wrong labels, a tenth of them, cost those who are too sure the most."""
    x, labels = _embeddings(1500, 0)
    wrong = np.random.default_rng(3).random(len(x)) < 0.1
    known = ((labels > 0.5) ^ wrong).astype(np.float32)
    fitted = train_head("speechiness", (x[:1000], known[:1000]), (x[1000:1200], known[1000:1200]), x[1200:])
    told, truth = fitted.heldout.astype(np.float64), known[1200:]
    # Whoever knows nothing, and says one half to everything, has a cross-entropy of log 2.
    assert -np.mean(np.log(np.where(truth == 1, told, 1 - told))) < np.log(2)


def test_development_clips_are_of_whole_packages_and_never_all_or_none() -> None:
    def chosen(*packages: int) -> list[bool]:
        known = np.zeros((len(packages), 4), np.float32)
        known[:, 1] = packages
        return development_clips(known).tolist()

    assert chosen(7, 8, 7, 9, 14) == [True, False, True, False, True]
    assert chosen(8, 9, 8, 10) == [True, False, True, False]
    assert chosen(7, 14) == [True, False]
    assert chosen(*[8] * 9) == chosen(*[7] * 9) == [True, *[False] * 6, True, False]
    assert chosen(*[-1] * 9) == [True, *[False] * 6, True, False]


def test_without_a_development_r_the_last_average_has_to_do() -> None:
    train, (x, _) = _embeddings(600, 0), _embeddings(50, 1)
    fitted = train_head("energy", train, (x, np.full(50, 0.5, np.float32)), x, epochs=5)
    assert np.isnan(fitted.development_r)
    assert fitted.chosen_epoch == 5
    asked = train_head("energy", train, _embeddings(200, 1), x, epochs=5)
    # What it says is what a head says that was chosen on purpose, more or less.
    assert np.corrcoef(fitted.heldout, asked.heldout)[0, 1] > 0.9


@pytest.mark.parametrize(("r", "passes"), [(0.7, True), (0.699, False), (float("nan"), False)])
def test_gate(r: float, passes: bool) -> None:
    assert passes_gate(r) is passes


def test_clips_with_added_voice_do_not_teach_what_is_told_of_music() -> None:
    """Two thirds of the training clips have a voice, where the teacher says the opposite of what it says of music."""
    arrays: dict[str, FloatArray] = {}
    for split, n in (("train", 900), ("heldout", 120)):
        x, y = _embeddings(n, n)
        voice = (np.arange(n) % 3 > 0) & (split == "train")
        scores = np.repeat(np.where(voice, 1 - y, y)[:, None], 7, 1)
        known = np.stack([4.0 * voice, np.arange(n) % 12, 0.5 * voice, np.zeros(n)], 1)
        arrays |= {split: x, f"{split}_scores": scores, f"{split}_known": known.astype(np.float32)}
        arrays[f"{split}_tags"] = np.zeros((n, len(TAGS)), np.float32)
    arrays["heldout_every_2nd"] = arrays["heldout"]
    _, rows, _ = fit_heads(arrays)
    assert all(rows[head]["pearson_r"] > 0.4 for head in ("energy", "danceability", "happiness", "acousticness"))
    # This one has heard them, and believes the majority.
    assert rows["speechiness"]["pearson_r"] < 0


def test_a_head_without_agreement_is_not_exported() -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, FloatArray] = {}
    for split, n in (("train", 200), ("heldout", 60)):
        x, y = _embeddings(n, n)
        scores = np.repeat(y[:, None], 7, 1)
        scores[:, 6] = rng.random(n)  # valence: noise
        arrays[f"{split}_tags"] = np.zeros((n, len(TAGS)), np.float32)
        packages = np.arange(n) % 12
        arrays[split] = x * np.array([1.0], np.float32)
        arrays[f"{split}_scores"] = scores
        arrays[f"{split}_known"] = np.stack([np.zeros(n), packages, np.zeros(n), np.zeros(n)], 1).astype(np.float32)
    arrays["heldout_every_2nd"] = arrays["heldout"]
    tensors, rows, halves = fit_heads(arrays)
    assert set(rows) == set(halves) == set(HEADS)
    assert not rows["happiness"]["shipped"]
    assert "happiness.hidden.weight" not in tensors
    assert halves["energy"]["largest_change"] == 0.0


def test_licences_named(tmp_path: Path) -> None:
    path = tmp_path / "copyright"
    path.write_text("Files: *\nLicense: GPL-2+\n text\n\nFiles: music\nLicense: CC-BY-SA-3.0\nLicense: GPL-2+\n")
    assert licences_named(path) == ["CC-BY-SA-3.0", "GPL-2+"]


def test_spread_is_matched_and_ranks_stay() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 8)).astype(np.float32)
    tensors = {
        "energy.hidden.weight": rng.normal(size=(16, 8)).astype(np.float32),
        "energy.hidden.bias": np.zeros(16, np.float32),
        "energy.output.weight": (0.05 * rng.normal(size=(1, 16))).astype(np.float32),
        "energy.output.bias": np.zeros(1, np.float32),
    }
    before = predict(tensors, "energy", x)
    # Labels of 1.5 times the spread, half a unit higher.
    labels = 1 / (1 + np.exp(-(1.5 * np.log(before / (1 - before)) + 0.5)))
    stretched = match_spread(tensors, "energy", x, labels.astype(np.float32))
    after = predict(stretched, "energy", x)
    assert after == pytest.approx(labels, abs=1e-3)
    assert np.array_equal(np.argsort(after, kind="stable"), np.argsort(before, kind="stable"))
    assert match_spread(tensors, "energy", x[:0], labels[:0].astype(np.float32)) == tensors
    # Never pressed together: a head that is sure of itself stays so.
    narrow = match_spread(tensors, "energy", x, np.full(400, 0.5, np.float32) + 0.001 * x[:, 0])
    assert predict(narrow, "energy", x).std() == pytest.approx(before.std(), rel=0.05)
