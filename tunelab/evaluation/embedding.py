"""How rich embeddings are: their effective rank, what a linear probe reads from them, and whom they call neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunelab.errors import SettingsError
from tunelab.evaluation.probes import rendered, spoken
from tunelab.evaluation.scoring import read_song
from tunelab.types import FloatArray

if TYPE_CHECKING:
    from tunelab.encoder.bundle import Bundle

Labels = npt.NDArray[Any]
LEAST_OF_A_CLASS = 10
WAITING = 8
"""Songs that may wait for vibenet, so that they do not fill the memory."""


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


def can_compare(labels: Labels) -> bool:
    """Whether there are two classes with :data:`LEAST_OF_A_CLASS` clips each."""
    return bool((np.unique(labels, return_counts=True)[1] >= LEAST_OF_A_CLASS).sum() >= 2)


def compare(features: Mapping[str, FloatArray], labels: Labels) -> dict[str, Any]:
    """Probe and neighbours of several features of the same clips.

    Classes with fewer than :data:`LEAST_OF_A_CLASS` clips are left out.

    Returns:
        ``n``, ``classes`` and ``chance`` (the share of the largest class) of what is left, and for each feature, by its
        name, ``{"probe": .., "neighbour": ..}``.

    Raises:
        SettingsError: fewer than two classes are left.
    """
    names, counts = np.unique(labels, return_counts=True)
    frequent = counts >= LEAST_OF_A_CLASS
    if not can_compare(labels):
        raise SettingsError(f"there are fewer than two classes with {LEAST_OF_A_CLASS} clips each to tell apart")
    kept = np.isin(labels, names[frequent])
    facts = {
        "n": int(kept.sum()),
        "classes": int(frequent.sum()),
        "chance": round(float(counts[frequent].max() / kept.sum()), 4),
    }
    return facts | {
        name: {
            "probe": round(probe_accuracy(values[kept], labels[kept]), 4),
            "neighbour": round(neighbour_agreement(values[kept], labels[kept]), 4),
        }
        for name, values in features.items()
    }


def mel_statistics(mel: FloatArray) -> FloatArray:
    """The plainest feature: mean and standard deviation of each mel band, shape ``(2 * bins,)``."""
    return np.concatenate([mel.mean(0), mel.std(0)]).astype(np.float32)


def embedding_report(
    bundle: Path, clips: Path, validation: Path, count: int = 1200, corpus: Path | None = None
) -> dict[str, Any]:
    """The card's rows: genre of real songs, and package of origin of ``count`` clips of music from the corpus.

    With the corpus also the language of speech, and key, mode, tempo and instrument of rendered pieces, as far as there
    are enough of them. The encoder heard most of the corpus, so all these say less than the genres.

    Raises:
        SettingsError: no training clips are rendered.
    """
    from tunelab.encoder.bundle import Bundle
    from tunelab.evaluation.listeners import read_labels

    opened = Bundle.open(bundle)
    table = read_labels(validation)
    table = table[table.source == "emotify"]
    of_songs = song_features(opened, [validation / path for path in table.path])
    of_clips, packages = clip_features(opened, clips, count)
    rows = {
        "participation_ratio": {name: round(participation_ratio(values), 1) for name, values in of_songs.items()},
        "genre": compare(of_songs, table.genre.to_numpy()),
        "package": compare(of_clips, packages),
    }
    if corpus is not None:
        for known_clips in (spoken, rendered):
            known = known_clips(corpus, opened.mel.num_samples)
            labels = {name: values for name, values in known.labels.items() if can_compare(values)}
            if labels:
                features = window_features(opened, known.windows)
                rows |= {name: compare(features, values) for name, values in labels.items()}
    return rows


def song_features(bundle: Bundle, paths: list[Path]) -> dict[str, FloatArray]:
    """:func:`window_features` of audio files at the bundle's rate."""
    return window_features(bundle, (read_song(path, bundle.mel.sampling_rate) for path in paths))


def window_features(bundle: Bundle, windows: Iterable[FloatArray]) -> dict[str, FloatArray]:
    """Features of samples at the bundle's rate: the embedding, mel statistics, and vibenet's pooled feature.

    Samples are cut or repeated to the bundle's window. vibenet, which runs on one thread, works beside the encoder.
    """
    from tunelab.audio.mel import LogMel
    from tunelab.encoder import load_engine
    from tunelab.training.teachers import Vibenet

    encode, mel, vibenet = load_engine(bundle), LogMel(bundle.mel), Vibenet()

    def pooled(samples: FloatArray) -> FloatArray:
        feature: FloatArray = vibenet(samples).dense.mean(0)
        return feature

    embeddings, statistics, theirs = [], [], []
    with ThreadPoolExecutor(1) as beside:
        for audio in windows:
            samples = np.resize(audio, bundle.mel.num_samples)
            theirs.append(beside.submit(pooled, samples))
            if len(theirs) > WAITING:
                theirs[-WAITING].result()
            window = mel(samples)
            embeddings.append(encode(window[None])[0])
            statistics.append(mel_statistics(window))
        vibenets = [future.result() for future in theirs]
    return _features(embeddings, statistics, vibenets)


def clip_features(bundle: Bundle, clips: Path, count: int) -> tuple[dict[str, FloatArray], Labels]:
    """The same of ``count`` training clips of unmixed music, evenly spread, from their rendered spectrograms.

    Returns:
        The features, and the number of each clip's package.

    Raises:
        SettingsError: there are none, or some are of another front end.
    """
    from tunelab.encoder import load_engine
    from tunelab.training.clips import decibels_of, open_shard

    places: list[tuple[Path, int]] = []
    packages: list[int] = []
    for path in sorted(clips.glob("train-*.safetensors")):
        with open_shard(path) as shard:
            known = shard.get_tensor("known")
        rows = np.flatnonzero(known[:, 0] == 0)
        places += [(path, int(row)) for row in rows]
        packages += known[rows, 1].astype(int).tolist()
    if not places:
        raise SettingsError("no training clips: render them first")
    chosen = np.linspace(0, len(places) - 1, min(count, len(places))).astype(int)
    encode = load_engine(bundle)
    embeddings, statistics, vibenets = [], [], []
    for number in chosen:
        path, row = places[number]
        # One row at a time: a corpus of clips does not fit into memory.
        with open_shard(path) as shard:
            quantised, dense = (shard.get_slice(name)[row : row + 1][0] for name in ("mel", "dense"))
        window = (decibels_of(quantised) - np.float32(bundle.mel.mean)) / np.float32(bundle.mel.std)
        embeddings.append(encode(window[None])[0])
        statistics.append(mel_statistics(window))
        vibenets.append(dense.astype(np.float32).mean(0))
    return _features(embeddings, statistics, vibenets), np.array(packages)[chosen]


def _features(
    embeddings: list[FloatArray], statistics: list[FloatArray], vibenets: list[FloatArray]
) -> dict[str, FloatArray]:
    rows = {"tunelab": embeddings, "mel statistics": statistics, "vibenet": vibenets}
    return {name: np.stack(values) for name, values in rows.items()}
