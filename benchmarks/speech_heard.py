"""``python -m benchmarks.speech_heard CORPUS``: who hears speech in music, by what is known of how clips were mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from safetensors.numpy import load_file

from benchmarks.report import Report
from tunelab.errors import SettingsError
from tunelab.evaluation.metrics import auc
from tunelab.training.clips import AUDIO
from tunelab.training.kinds import KINDS
from tunelab.training.labels import SCORE_COLUMN, Labeller, axis
from tunelab.training.silero import SileroVad
from tunelab.training.targets import ANSWERS, answers_of, load_clips
from tunelab.types import FloatArray

PAIRS = (("speech+music", "music"), ("rapped+music", "music"), ("sung+music", "music"), ("rapped+music", "sung+music"))
"""Kinds of clips: the first of a pair should get more than the second; not so in the third: singing is no speech."""


def silero(folder: Path, split: str) -> FloatArray:
    """Mean probability of speech in each clip of a split, float32 ``(n,)``, in the order of :func:`load_clips`."""
    detector = SileroVad()
    means = [
        detector(clip.astype(np.float32) / 32767).mean()
        for path in sorted((folder / AUDIO).glob(f"{split}-*.safetensors"))
        for clip in load_file(path)["audio"]
    ]
    return np.array(means, np.float32)


def told_apart(scores: FloatArray, kinds: npt.NDArray[np.int64]) -> list[float]:
    """AUC of each of :data:`PAIRS`; NaN where there are no clips of a kind.

    Args:
        scores: shape ``(n,)``, larger where more is spoken.
        kinds: shape ``(n,)``, numbers of :data:`tunelab.training.kinds.KINDS`.
    """
    values = []
    for more, less in PAIRS:
        chosen = np.isin(kinds, (KINDS[more], KINDS[less]))
        values.append(auc(scores[chosen], (kinds[chosen] == KINDS[more]).astype(float)))
    return values


def main(
    corpus: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A corpus whose clips have tags.")],
    split: Annotated[str, typer.Option(help="heldout or train.")] = "heldout",
) -> None:
    """Print AUC by kinds of clips for vibenet, musicnn's axis and silero-vad (the wheel silero-vad 6.2.3)."""
    clips = load_clips(corpus / "clips", split, ANSWERS)
    scores, tags, known = answers_of(clips)
    heard = silero(corpus / "clips", split)
    if len(heard) != len(known):
        raise SettingsError("some clips have no audio beside them")
    labeller = Labeller.measure(scores, tags, known)
    standard = (tags - labeller.tag_mean) / labeller.tag_std
    kinds = known[:, 0].astype(int)
    sources = {
        "vibenet's speechiness": scores[:, SCORE_COLUMN["speechiness"]],
        "an axis of musicnn's tags": axis(standard, "speechiness"),
        "silero-vad, mean probability": heard,
    }
    counts = {name: int((kinds == number).sum()) for name, number in KINDS.items()}
    Report().section(
        f"AUC of who hears more speech, {split} clips ({', '.join(f'{n} {name}' for name, n in counts.items() if n)})",
        ["", *(f"{more} over {less}" for more, less in PAIRS)],
        [[name, *(f"{value:.2f}" for value in told_apart(values, kinds))] for name, values in sources.items()],
        f"Of music alone silero-vad hears speech in {(heard[kinds == KINDS['music']] > 0.25).mean():.1%} of the clips"
        " (mean probability above .25).",
    )


if __name__ == "__main__":
    typer.run(main)
