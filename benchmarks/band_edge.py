"""``python -m benchmarks.band_edge CORPUS``: what resampling leaves of music in the last mel bins below 8 kHz."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile as sf
import soxr
import typer

from benchmarks.report import Report
from tunelab.audio.decode import decode
from tunelab.audio.mel import LogMel, MelConfig
from tunelab.errors import SettingsError, TuneLabError
from tunelab.training.clips import FRONT_END
from tunelab.types import FloatArray

RATE = FRONT_END["sampling_rate"]
RATES = (44_100, 48_000)
QUALITIES = ("LQ", "MQ", "VHQ")
AUDIBLE_DB = 30.0
"""Above the floor, on average over the window: what is looked at below its edge."""


def edge_of(mel: FloatArray, bins: int) -> FloatArray:
    """Means over time of the last bins, in dB from the bin before them: ``(frames, n)`` -> ``(bins,)``."""
    means = mel.mean(axis=0)
    edge: FloatArray = means[-bins:] - means[-bins - 1]
    return edge


def edges(path: Path, mel: LogMel, bins: int) -> dict[str, FloatArray]:
    """:func:`edge_of` a file's middle 30 s by resampler; nothing where its rate, length or band is of no use."""
    samples, rate = sf.read(path, dtype="float32", always_2d=True)
    window = round(mel.config.window_s * rate)
    if rate not in RATES or len(samples) < window:
        return {}
    begin = (len(samples) - window) // 2
    mono = samples[begin : begin + window].mean(axis=1)
    resampled = {f"soxr {name}": soxr.resample(mono, rate, RATE, quality=name) for name in QUALITIES}
    windows = {"decoder": decode(path).samples, **resampled}
    mels = {name: mel(window) for name, window in windows.items()}
    # Of music that ends below, nothing is left on either side.
    if mels["decoder"][:, -bins - 1].mean() < mel.config.floor + AUDIBLE_DB:
        return {}
    return {name: edge_of(values, bins) for name, values in mels.items()}


def main(
    corpus: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A corpus with its manifest.")],
    count: Annotated[int, typer.Option(min=1, help="Recordings that are looked at.")] = 40,
) -> None:
    """Print medians over recordings of 44.1 and 48 kHz; those of the decoder are the front end's ``edge_db``."""
    import pandas as pd

    # As measured: nothing is put in their place.
    mel = LogMel(MelConfig(**{**FRONT_END, "edge_db": ()}, mean=0.0, std=1.0))
    bins = len(FRONT_END["edge_db"])
    table = pd.read_parquet(corpus / "manifest.parquet")
    table = table[(table.kind == "music") & (table.source == "file") & (table.seconds > mel.config.window_s)]
    found: list[dict[str, FloatArray]] = []
    for path in table.path.sample(frac=1, random_state=1):
        try:
            row = edges(corpus / "un" / path, mel, bins)
        except (TuneLabError, sf.LibsndfileError):
            continue
        if row:
            found.append(row)
        if len(found) == count:
            break
    if not found:
        raise SettingsError("no music of 44.1 or 48 kHz")
    names = list(found[0])
    medians = {name: np.median([row[name] for row in found], axis=0) for name in names}
    last = mel.config.num_mel_bins
    Report().section(
        f"The last bins, in dB from the one before them: medians over {len(found)} recordings",
        ["resampled by", *(f"bin {number}" for number in range(last - bins, last))],
        [[name, *(f"{value:.1f}" for value in medians[name])] for name in names],
        f"The front end puts {', '.join(f'{value:g}' for value in FRONT_END['edge_db'])} in their place.",
    )


if __name__ == "__main__":
    typer.run(main)
