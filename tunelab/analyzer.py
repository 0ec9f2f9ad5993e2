"""The whole road of a track in one process, as callables that get longer step by step.

mel -> embedding      Analyzer.embed_mel
audio -> embedding    Analyzer.embed_samples
file -> embedding     Analyzer.embed
file -> analysis      Analyzer.analyze
files -> analyses     Analyzer.analyze_many
file -> timeline      Analyzer.timeline
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from tunelab.audio.decode import DecodeLimits
from tunelab.audio.extract import MelExtractor
from tunelab.audio.track import TrackExtractor
from tunelab.encoder import DEFAULT_BUNDLE, Bundle, EngineName, find_bundle, load_engine
from tunelab.encoder.columns import ColumnEncoder, column_grid
from tunelab.encoder.engine import available_cores
from tunelab.errors import TuneLabError
from tunelab.heads import load_heads
from tunelab.timeline import make_plan, make_timeline
from tunelab.types import LEAST_STEP_S, MOST_STEP_S, STEP_S, Analysis, Features, FloatArray, Timeline

Source = bytes | str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file of many: an analysis, or the reason why there is none."""

    path: str
    analysis: Analysis | None
    error: TuneLabError | OSError | None


class Analyzer:
    """A loaded bundle. Safe to call from several threads.

    Args:
        bundle: which model.
        engine: ``auto``, ``openvino`` or ``torch``.
        threads: CPU threads, at least 1; ``None`` takes every core this process may use.
        precision: ``auto``, ``f32``, ``bf16`` or ``int8``.
        limits: what the decoder refuses.

    Raises:
        BundleInvalid: the weights or heads do not fit the bundle's configuration.
        EngineError: the engine cannot start here.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        engine: EngineName = "auto",
        threads: int | None = None,
        precision: str = "auto",
        limits: DecodeLimits | None = None,
    ) -> None:
        self.bundle = bundle
        self.threads = threads or available_cores()
        self.extract = MelExtractor(bundle.mel, limits)
        self.extract_track = TrackExtractor(bundle.mel, limits)
        self.encode = load_engine(bundle, engine, threads=threads, precision=precision)
        self.score = load_heads(bundle)
        self._columns: ColumnEncoder | None = None
        self._making_columns = threading.Lock()

    def embed_mel(self, mel: FloatArray) -> FloatArray:
        """Standardised log-mel window -> embedding.

        Args:
            mel: float32, shape ``(max_length, num_mel_bins)`` of the bundle.

        Returns:
            float32, shape ``(768,)``.

        Raises:
            EngineError: the engine failed; a wrong shape is one reason.
        """
        embedding: FloatArray = self.encode(mel[np.newaxis])[0]
        return embedding

    def embed_samples(self, samples: FloatArray) -> FloatArray:
        """Audio -> embedding of its middle window.

        Args:
            samples: mono float32, shape ``(n,)``, n >= 1, at the bundle's sampling rate. Less than a window is
                repeated.

        Returns:
            float32, shape ``(768,)``.

        Raises:
            EmptyAudio: there are no samples.
            ValueError: ``samples`` is not one-dimensional.
            EngineError: the engine failed.
        """
        return self.embed_mel(self.extract.from_samples(samples))

    def embed(self, source: Source) -> FloatArray:
        """File (path or bytes) -> embedding of its middle window.

        Returns:
            float32, shape ``(768,)``.

        Raises:
            AudioError: the file is at fault; the subclass says how.
            OSError: the path cannot be read.
            EngineError: the engine failed.
        """
        return self.embed_mel(self.extract(source).mel)

    def analyze(self, source: Source) -> Analysis:
        """File (path or bytes) -> scores and embedding.

        Returns:
            Scores in 0..1 by head, the embedding (float32, shape ``(768,)``), the track's length in seconds.

        Raises:
            AudioError: the file is at fault; the subclass says how.
            OSError: the path cannot be read.
            EngineError: the engine failed.
        """
        features = self.extract(source)
        return self._assemble(features, self.embed_mel(features.mel))

    def timeline(self, source: Source, step_s: float = STEP_S, max_s: float = math.inf) -> Timeline:
        """File (path or bytes) -> scores and sections along its whole length.

        The encoder sees each window once and one of them twice. The whole track is held in memory, about 8 MB a minute.

        Args:
            source: path, or bytes of a file.
            step_s: length of a segment in seconds, 1 to 30.
            max_s: refuse longer tracks, in seconds, beside what the limits say.

        Raises:
            ValueError: ``step_s`` is out of range.
            TimelineUnsupported: the bundle's embedding is not pooled from patches.
            AudioError: the file is at fault; the subclass says how.
            OSError: the path cannot be read.
            EngineError: the engine failed.
        """
        if not LEAST_STEP_S <= step_s <= MOST_STEP_S:
            raise ValueError(f"step_s must be {LEAST_STEP_S:g} to {MOST_STEP_S:g} seconds, not {step_s}")
        grid = column_grid(self.bundle)
        track = self.extract_track(source, max_s)
        plan = make_plan(track.outline, self.bundle.mel.window_s, grid)
        encode = self._column_encoder()
        windows: dict[int, FloatArray] = {}
        for begin in range(0, len(plan.windows), self.threads):
            numbers = plan.windows[begin : begin + self.threads]
            windows |= zip(numbers, encode(track.mels[list(numbers)]), strict=True)
        return make_timeline(
            plan,
            windows,
            self.embed_mel(track.mels[plan.level]),
            self.score,
            step_s=step_s,
            model=self.bundle.name,
        )

    def _column_encoder(self) -> ColumnEncoder:
        """Made when it is first needed: it costs a pass of the encoder."""
        with self._making_columns:
            if self._columns is None:
                self._columns = ColumnEncoder(self.bundle, self.encode)
            return self._columns

    def analyze_many(self, paths: Iterable[str | os.PathLike[str]]) -> Iterator[Outcome]:
        """Analyse many files; one bad file does not stop the others.

        Files are decoded ahead on threads while the encoder works, at most ``4 x threads`` of them, so memory stays
        bounded however long ``paths`` is.

        Yields:
            One :class:`Outcome` a path, in the order of ``paths``. An ``AudioError`` of the file, or the ``OSError`` of
            a path that cannot be read, is in there and is not raised.

        Raises:
            EngineError: the engine failed; no file is at fault, and the rest is not analysed.
        """
        ahead: deque[tuple[str, Future[Features]]] = deque()
        remaining = (os.fspath(path) for path in paths)
        with ThreadPoolExecutor(self.threads, thread_name_prefix="tunelab-decode") as pool:
            try:
                while True:
                    for path in itertools.islice(remaining, 4 * self.threads - len(ahead)):
                        ahead.append((path, pool.submit(self.extract, path)))
                    if not ahead:
                        return
                    group = [ahead.popleft() for _ in range(min(self.threads, len(ahead)))]
                    yield from self._finish(group)
            finally:
                for _, future in ahead:
                    future.cancel()

    def _finish(self, group: list[tuple[str, Future[Features]]]) -> Iterator[Outcome]:
        outcomes: list[Features | TuneLabError | OSError] = []
        for _, future in group:
            try:
                outcomes.append(future.result())
            except (TuneLabError, OSError) as error:
                outcomes.append(error)
        decoded = [outcome for outcome in outcomes if isinstance(outcome, Features)]
        embeddings = iter(self.encode(np.stack([features.mel for features in decoded])) if decoded else ())
        for (path, _), outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Features):
                yield Outcome(path, self._assemble(outcome, next(embeddings)), None)
            else:
                yield Outcome(path, None, outcome)

    def _assemble(self, features: Features, embedding: FloatArray) -> Analysis:
        return Analysis(
            scores=self.score(embedding), embedding=embedding, duration_s=features.duration_s, model=self.bundle.name
        )


class LocalPipeline:
    """An :class:`Analyzer` behind the :class:`~tunelab.types.Pipeline` protocol, for a service in one process."""

    def __init__(self, analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        self.model, self.revision = analyzer.bundle.name, analyzer.bundle.revision

    async def analyze(self, data: bytes) -> Analysis:
        """Analyse one file on a worker thread."""
        return replace(await asyncio.to_thread(self._analyzer.analyze, data), revision=self.revision)

    async def timeline(self, data: bytes, step_s: float, max_s: float) -> Timeline:
        """Score one file along its length, on a worker thread."""
        timeline = await asyncio.to_thread(self._analyzer.timeline, data, step_s, max_s)
        return replace(timeline, revision=self.revision)

    async def ready(self) -> bool:
        """Always: the model is loaded before this object exists."""
        return True


def load(
    bundle: str | os.PathLike[str] = DEFAULT_BUNDLE,
    *,
    engine: EngineName = "auto",
    threads: int | None = None,
    precision: str = "auto",
    limits: DecodeLimits | None = None,
) -> Analyzer:
    """Load a bundle by name or path.

    Example:
        >>> import tunelab
        >>> analyzer = tunelab.load()
        >>> analyzer.analyze("track.mp3").percent()["energy"]
        82

    Raises:
        BundleError: there is no such bundle, or it is broken.
        EngineError: the engine cannot start here.
    """
    return Analyzer(find_bundle(bundle), engine=engine, threads=threads, precision=precision, limits=limits)
