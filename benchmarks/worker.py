"""Worker process: TuneLab in process. ``python -m benchmarks.worker [THREADS]``."""

from __future__ import annotations

import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import tunelab
from benchmarks.protocol import answer_requests
from benchmarks.unique import unique_parts
from tunelab.analyzer import Analyzer
from tunelab.audio._source import Source
from tunelab.audio.decode import DecodeLimits, decode
from tunelab.audio.sniff import sniff
from tunelab.encoder.bundle import Bundle


@cache
def _read(path: str) -> bytes:
    return Path(path).read_bytes()


def _unique(path: str, text: str) -> bytes:
    return b"".join(unique_parts(_read(path), text))


def token_count(bundle: Bundle) -> int:
    """Tokens that the blocks of a bundle compute: the patches that are kept, class and distillation token."""
    shape = bundle.shape
    rows = (shape.num_mel_bins - shape.patch_size) // shape.frequency_stride + 1
    columns = (shape.max_length - shape.patch_size) // shape.time_stride + 1
    return 2 + rows * len(range(0, columns, bundle.pooling.time_patch_stride))


class Worker:
    """The requests that the benchmark may send.

    Args:
        threads: of the analyser; ``None``: every core.
    """

    def __init__(self, threads: int | None) -> None:
        self._analyzer: Analyzer = tunelab.load(threads=threads)

    def hello(self) -> dict[str, Any]:
        """What runs here."""
        bundle = self._analyzer.bundle
        return {
            "engine": self._analyzer.encode.name,
            "threads": self._analyzer.threads,
            "bundle": bundle.name,
            "version": str(bundle.card.get("version", "without a version")),
            "fingerprint": bundle.fingerprint[:12],
            "blocks": bundle.pooling.layer,
            "tokens": token_count(bundle),
        }

    def probe(self, path: str) -> dict[str, Any]:
        """Format and length of a file, and whether what makes its bytes new changes what the encoder sees."""
        with Source(path, DecodeLimits()) as source:
            found = sniff(source).format.value
        features = self._analyzer.extract(path)
        tagged = self._analyzer.extract(_unique(path, "0"))
        same = bool(np.array_equal(features.mel, tagged.mel)) and features.duration_s == tagged.duration_s
        return {"format": found, "duration_s": features.duration_s, "same_when_unique": same}

    def analyze(self, path: str) -> dict[str, Any]:
        """Milliseconds from the path of a file to its scores."""
        begin = time.perf_counter()
        self._analyzer.analyze(path)
        return {"ms": 1000 * (time.perf_counter() - begin)}

    def analyze_bytes(self, path: str, tag: str) -> dict[str, Any]:
        """The same from the bytes of a file in memory, as the service gets them; with the scores."""
        data = _unique(path, tag)
        begin = time.perf_counter()
        analysis = self._analyzer.analyze(data)
        return {"ms": 1000 * (time.perf_counter() - begin), "scores": analysis.percent()}

    def stages(self, path: str) -> dict[str, Any]:
        """Milliseconds of each stage alone."""
        extract = self._analyzer.extract
        times = [time.perf_counter()]
        waveform = decode(
            path, sample_rate=extract.config.sampling_rate, window_s=extract.config.window_s, limits=extract.limits
        )
        times.append(time.perf_counter())
        mel = extract.from_samples(waveform.samples)
        times.append(time.perf_counter())
        embedding = self._analyzer.embed_mel(mel)
        times.append(time.perf_counter())
        self._analyzer.score(embedding)
        times.append(time.perf_counter())
        names = ("decode", "log-mel", "encoder", "heads")
        return {name: 1000 * (end - begin) for name, begin, end in zip(names, times, times[1:], strict=False)}

    def loop(self, paths: list[str], seconds: float) -> dict[str, Any]:
        """Analyse one file after the other for a while.

        Answers when each was done, on the clock of all processes, and the processor time of all of them.
        """
        ends: list[float] = []
        begin, before_s = time.monotonic(), time.process_time()
        while (now := time.monotonic()) < begin + seconds:
            path = paths[len(ends) % len(paths)]
            self._analyzer.analyze(_unique(path, str(now)))
            ends.append(time.monotonic())
        return {"begin": begin, "ends": ends, "cpu_ms": 1000 * (time.process_time() - before_s)}

    def many(self, paths: list[str]) -> dict[str, Any]:
        """Seconds that files take as ``analyze_many`` takes them, some decoded while others are encoded."""
        begin = time.perf_counter()
        for outcome in self._analyzer.analyze_many(paths):
            if outcome.error is not None:
                raise outcome.error
        return {"seconds": time.perf_counter() - begin}


def main() -> None:
    """Load the model, then answer."""
    worker = Worker(int(sys.argv[1]) if len(sys.argv) > 1 else None)
    answer_requests(
        {
            "hello": worker.hello,
            "probe": worker.probe,
            "analyze": worker.analyze,
            "analyze_bytes": worker.analyze_bytes,
            "stages": worker.stages,
            "loop": worker.loop,
            "many": worker.many,
        }
    )


if __name__ == "__main__":
    main()
