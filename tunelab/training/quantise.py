"""Ranges for the 8-bit encoder, from training clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from tunelab.audio.mel import LogMel
from tunelab.encoder._openvino import ov
from tunelab.encoder.bundle import Bundle
from tunelab.encoder.openvino_engine import converted_graph
from tunelab.encoder.quantize import Ranges, measure_ranges, write_ranges
from tunelab.errors import SettingsError
from tunelab.training.clips import AUDIO


def quantise_bundle(folder: Path, clips: Path, count: int) -> Ranges:
    """Measure on ``count`` clips, spread over the training shards, and write ``int8.json``.

    Raises:
        SettingsError: no training clips were rendered.
    """
    bundle = Bundle.open(folder)
    shards = sorted((clips / AUDIO).glob("train-*.safetensors"))
    if not shards:
        raise SettingsError("no training clips: render them first")
    mel = LogMel(bundle.mel)
    chosen = [shards[number] for number in np.linspace(0, len(shards) - 1, count).astype(int)]
    windows = []
    for number, shard in enumerate(chosen):
        audio = load_file(shard)["audio"]
        windows.append(mel(audio[number * 7 % len(audio)].astype(np.float32) / 32767))
    ranges = measure_ranges(ov.Core().read_model(converted_graph(bundle)), windows)
    write_ranges(folder, ranges, f"{count} training clips of the corpus")
    return ranges
