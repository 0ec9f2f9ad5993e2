"""Scores of the validation clips by a bundle, with the reference encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile as sf
import torch

from tunelab.audio.mel import LogMel
from tunelab.encoder import load_engine
from tunelab.encoder.bundle import Bundle
from tunelab.encoder.maest import load_maest
from tunelab.errors import SettingsError
from tunelab.evaluation.listeners import read_labels
from tunelab.heads.mlp import load_heads
from tunelab.training.precision import quick_arithmetic
from tunelab.types import FloatArray


def score_folder(
    bundle: Bundle, validation: Path, *, time_stride: int | None = None, precision: str | None = None
) -> dict[str, FloatArray]:
    """Score every clip of a validation folder; shorter clips are tiled to the window, longer ones cut to their middle.

    Args:
        bundle: encoder and heads.
        validation: a folder with ``labels.csv`` and 16 kHz mono audio.
        time_stride: keep every n-th time patch instead of what the bundle says.
        precision: run OpenVINO in it, instead of the reference in PyTorch.

    Returns:
        head -> float32, shape ``(n,)``, 0..1, in the order of the labels.

    Raises:
        SettingsError: a clip cannot be read, or has another sampling rate than the bundle.
        EngineError: OpenVINO cannot run in that precision here.
        ValueError: both are given: OpenVINO runs what the bundle says.
    """
    if time_stride is not None and precision is not None:
        raise ValueError("a time stride is for the reference in PyTorch")
    if time_stride is not None:
        pooling = bundle.pooling.model_copy(update={"time_patch_stride": time_stride})
        bundle = replace(bundle, pooling=pooling)
    encode = _reference(bundle) if precision is None else load_engine(bundle, "openvino", precision=precision)
    heads, mel = load_heads(bundle), LogMel(bundle.mel)
    scores: dict[str, list[float]] = {head: [] for head in heads.names}
    size = bundle.mel.num_samples
    for path in read_labels(validation).path:
        window = middle(read_song(validation / path, bundle.mel.sampling_rate), size)
        for head, value in heads(encode(mel(window)[None])[0]).items():
            scores[head].append(value)
    return {head: np.array(values, np.float32) for head, values in scores.items()}


def read_song(path: Path, rate: int) -> FloatArray:
    """A validation clip as mono samples, float32, shape ``(n,)``.

    Raises:
        SettingsError: it cannot be read, or has another sampling rate.
    """
    try:
        samples, found = sf.read(path, dtype="float32", always_2d=True)
    except (OSError, sf.LibsndfileError) as error:
        raise SettingsError(f"{path.name} cannot be read: {error}") from None
    if found != rate:
        raise SettingsError(f"{path.name} has {found} Hz, the bundle wants {rate} Hz")
    mono: FloatArray = samples.mean(axis=1)
    return mono


def middle(samples: FloatArray, size: int) -> FloatArray:
    """The middle ``size`` samples of a song ``(n,)``, or all of a shorter one, repeated; shape ``(size,)``."""
    start = max(0, (len(samples) - size) // 2)
    return np.resize(samples[start : start + size], size)


def _reference(bundle: Bundle) -> Callable[[FloatArray], FloatArray]:
    encoder = load_maest(bundle)

    def encode(mels: FloatArray) -> FloatArray:
        with torch.inference_mode(), quick_arithmetic():
            embeddings: FloatArray = encoder(torch.from_numpy(mels)).float().numpy()
        return embeddings

    return encode


def compare_scores(exact: Mapping[str, FloatArray], other: Mapping[str, FloatArray]) -> dict[str, dict[str, float]]:
    """How far scores ``(n,)`` lie apart: head -> mean, 99th percentile and largest difference in points of 0 to 100."""
    rows = {}
    for head, wanted in exact.items():
        points = 100 * np.abs(other[head] - wanted)
        figures = {"mean": points.mean(), "p99": np.percentile(points, 99), "largest": points.max()}
        rows[head] = {name: round(float(value), 2) for name, value in figures.items()}
    return rows
