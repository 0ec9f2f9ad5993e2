"""How rich embeddings are: their effective rank, what a linear probe reads from them, and whom they call neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunelab.types import FloatArray

Labels = npt.NDArray[Any]


def participation_ratio(embeddings: FloatArray) -> float:
    """Effective number of dimensions, 1 .. width: the squared sum of the eigenvalues of the covariance, over the sum of
    their squares.

    Args:
        embeddings: shape ``(n, width)``.
    """
    values = np.linalg.eigvalsh(np.cov(embeddings.astype(np.float64), rowvar=False)).clip(0)
    return float(values.sum() ** 2 / np.square(values).sum())


def probe_accuracy(features: FloatArray, labels: Labels, *, folds: int = 5, seed: int = 0) -> float:
    """Cross-validated accuracy of a linear classifier (logistic regression, L2) on standardised features.

    Args:
        features: shape ``(n, width)``.
        labels: shape ``(n,)``; every class has at least ``folds`` members.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return float(cross_val_score(probe, features, labels, cv=split).mean())


def neighbour_agreement(features: FloatArray, labels: Labels) -> float:
    """How often the nearest other clip (cosine, after the mean is taken away) has the same label, 0..1."""
    centred = features - features.mean(0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    return float(np.mean(labels[similarity.argmax(1)] == labels))


def compare(features: Mapping[str, FloatArray], labels: Labels) -> dict[str, dict[str, float]]:
    """Probe and neighbours of several features of the same clips: name -> ``{"probe": .., "neighbour": ..}``.

    Classes with fewer than ten clips are left out.
    """
    names, counts = np.unique(labels, return_counts=True)
    kept = np.isin(labels, names[counts >= 10])
    return {
        name: {
            "probe": round(probe_accuracy(values[kept], labels[kept]), 4),
            "neighbour": round(neighbour_agreement(values[kept], labels[kept]), 4),
        }
        for name, values in features.items()
    }


def mel_statistics(mel: FloatArray) -> FloatArray:
    """The plainest feature: mean and standard deviation of each mel band, shape ``(2 * bins,)``."""
    return np.concatenate([mel.mean(0), mel.std(0)]).astype(np.float32)


def embedding_report(bundle: Path, clips: Path, validation: Path, count: int = 600) -> dict[str, Any]:
    """The card's rows: genre of real songs, and package of origin of ``count`` clips of music from the corpus.

    The encoder heard the corpus's training clips, so the packages say less than the genres.
    """
    import soundfile as sf
    from safetensors.numpy import load_file

    from tunelab.audio.mel import LogMel
    from tunelab.encoder import load_engine
    from tunelab.encoder.bundle import Bundle
    from tunelab.evaluation.listeners import read_labels
    from tunelab.training.teachers import Vibenet

    opened = Bundle.open(bundle)
    encode, mel, vibenet = load_engine(opened), LogMel(opened.mel), Vibenet()

    def features(waves: list[FloatArray]) -> dict[str, FloatArray]:
        rows: dict[str, list[FloatArray]] = {"tunelab": [], "mel statistics": [], "vibenet": []}
        for samples in waves:
            window = mel(samples)
            rows["tunelab"].append(encode(window[None])[0])
            rows["mel statistics"].append(mel_statistics(window))
            rows["vibenet"].append(vibenet(samples).dense.mean(0))
        return {name: np.stack(values) for name, values in rows.items()}

    table = read_labels(validation)
    table = table[table.source == "emotify"]
    songs = []
    for path in table.path:
        samples, _ = sf.read(validation / path, dtype="float32")
        songs.append(np.resize(samples, opened.mel.num_samples))
    of_songs = features(songs)
    waves: list[FloatArray] = []
    packages: list[int] = []
    for path in sorted(clips.glob("train-*.safetensors")):
        known = load_file(path)["known"]
        audio = load_file(clips / "audio" / path.name)["audio"]
        for row in np.flatnonzero(known[:, 0] == 0):
            waves.append(audio[row].astype(np.float32) / 32767)
            packages.append(int(known[row, 1]))
    chosen = np.linspace(0, len(waves) - 1, min(count, len(waves))).astype(int)
    of_clips = features([waves[number] for number in chosen])
    return {
        "participation_ratio": {name: round(participation_ratio(values), 1) for name, values in of_songs.items()},
        "genre": {"n": len(songs), **compare(of_songs, table.genre.to_numpy())},
        "package": {"n": len(chosen), **compare(of_clips, np.array(packages)[chosen])},
    }
