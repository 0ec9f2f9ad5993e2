"""The head that waits: liveness, from whole tracks instead of one window, as a likelihood. Measured, and not shipped.

Its labels are vibenet's, averaged over a track: the corpus was hardly ever recorded before an audience, and nothing
else here knows. What comes out goes into the card either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

from tunelab.errors import SettingsError
from tunelab.evaluation import card
from tunelab.evaluation.metrics import AGREEMENT, with_intervals
from tunelab.training.heads import GATE, passes_gate, train_head
from tunelab.training.teachers import ATTRIBUTES
from tunelab.types import FloatArray

if TYPE_CHECKING:
    from tunelab.encoder.bundle import Bundle

COLUMN = ATTRIBUTES.index("liveness")
"""Of the teacher's scores."""
WINDOWS = 4
"""Windows of a track, evenly spread."""
DEVELOPMENT_MODULUS = 5
"""Every fifth package chooses the epoch."""


@dataclass(frozen=True, slots=True)
class Tracks:
    """Whole tracks.

    Attributes:
        embeddings: means over their windows, float32, shape ``(n, 768)``.
        labels: vibenet's liveness likewise, shape ``(n,)``, 0..1.
        packages: shape ``(n,)``.
    """

    embeddings: FloatArray
    labels: FloatArray
    packages: npt.NDArray[Any]


def whole_tracks(corpus: Path, split: str, count: int, bundle: Bundle, seed: int = 0) -> Tracks:
    """Embed and label at most ``count`` tracks of music of a split, drawn at random, of at least two windows each.

    Raises:
        SettingsError: they are of fewer than two packages.
    """
    import pandas as pd

    from tunelab.audio.mel import LogMel
    from tunelab.encoder import load_engine
    from tunelab.training.teachers import Vibenet

    seconds = bundle.mel.num_samples / bundle.mel.sampling_rate
    table = pd.read_parquet(corpus / "manifest.parquet")
    table = table[(table.kind == "music") & (table.split == split) & (table.seconds >= 2 * seconds)]
    if table.package.nunique() < 2:
        raise SettingsError(f"there are fewer than two packages of split {split!r} with tracks of {2 * seconds:.0f} s")
    table = table.sample(min(count, len(table)), random_state=seed).sort_values("path")
    encode, mel, vibenet = load_engine(bundle), LogMel(bundle.mel), Vibenet()
    embeddings, labels = [], []
    # vibenet, which runs on one thread, works beside the encoder.
    with ThreadPoolExecutor(1) as beside:
        for path in table.path:
            windows = list(read_windows(corpus / "un" / path, bundle.mel.num_samples, bundle.mel.sampling_rate))
            heard = beside.submit(lambda windows: [vibenet(window).scores[COLUMN] for window in windows], windows)
            embeddings.append(np.mean([encode(mel(window)[None])[0] for window in windows], axis=0))
            labels.append(np.mean(heard.result()))
    return Tracks(np.array(embeddings, np.float32), np.array(labels, np.float32), table.package.to_numpy(str))


def read_windows(path: Path, samples: int, rate: int) -> Iterator[FloatArray]:
    """:data:`WINDOWS` windows of a file, evenly spread from its first second to its last, mono, with a peak of 1.

    Files may end before their headers say so: what is missing of a window is filled by its beginning.
    """
    with sf.SoundFile(path) as file:
        length = int(np.ceil(samples / rate * file.samplerate))
        for start in np.linspace(0, max(file.frames - length, 0), WINDOWS).astype(int):
            file.seek(int(start))
            audio = file.read(length, dtype="float32", always_2d=True).mean(axis=1)
            window = np.resize(soxr.resample(audio, file.samplerate, rate, quality="MQ"), samples)
            yield np.asarray(window / max(float(np.abs(window).max(initial=0.0)), 1e-6), np.float32)


def judge(train: Tracks, heldout: Tracks) -> dict[str, Any]:
    """Train the head and hold it against the gate: the card's row."""
    names = np.unique(train.packages)
    development = np.isin(train.packages, names[::DEVELOPMENT_MODULUS])
    parts = [(train.embeddings[chosen], train.labels[chosen]) for chosen in (~development, development)]
    fitted = train_head("liveness", parts[0], parts[1], heldout.embeddings)
    groups = np.unique(heldout.packages, return_inverse=True)[1]
    measures = with_intervals(AGREEMENT, fitted.heldout, heldout.labels, groups)
    r, earlier = measures["pearson_r"]["value"], card.LIVENESS["pearson_r"]
    row = {
        "shipped": False,
        "meaning": card.LIVENESS["meaning"],
        "loss": "binary cross-entropy",
        "labels": f"vibenet 0.1.0, the mean over {WINDOWS} windows of each track",
        "truth": "teacher agreement, whole tracks",
        "split": "held-out packages",
        "n": len(heldout.labels),
        "n_train": len(train.labels),
        **{name: figure["value"] for name, figure in measures.items()},
        "ci95": measures["pearson_r"]["ci95"],
        "epochs": fitted.chosen_epoch,
    }
    if passes_gate(r):
        row["why"] = "it agrees with its teacher, but no recording of the corpus is known to be live"
    else:
        row["why"] = f"below the gate of {GATE} on whole held-out tracks ({r:.3f}); an earlier trial reached {earlier}"
    return row
