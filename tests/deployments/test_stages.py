"""Each stage as a plain class, without Ray."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from deployments.encoder import EncoderBatch, EncoderStage, Window
from deployments.heads import HeadsStage
from deployments.mel_extractor import MelExtractorStage, decode_limits
from tests.support import make_bundle
from tunelab.analyzer import load
from tunelab.encoder import find_bundle
from tunelab.errors import AudioTooLong, EngineError, PipelineUnavailable, TimelineUnsupported
from tunelab.settings import load_settings
from tunelab.types import HEADS, Columns, Embedded, Features, FloatArray

LOUD = (Path(__file__).parents[1] / "data" / "loud.mp3").read_bytes()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "small-v1", layers=1)


@pytest.fixture(scope="module")
def encoder(bundle: Path) -> EncoderBatch:
    return EncoderBatch(str(bundle), "torch", 1, "f32")


def window(seed: int) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(1876, 128)).astype(np.float32)


def test_a_batch_keeps_its_order_and_durations(encoder: EncoderBatch) -> None:
    batch = [Window(Features(window(seed), float(seed), encoder.revision)) for seed in range(3)]
    together = encoder(batch)
    assert [embedded.duration_s for embedded in together if isinstance(embedded, Embedded)] == [0.0, 1.0, 2.0]
    for features, embedded in zip(batch, together, strict=True):
        (alone,) = encoder([features])
        assert isinstance(alone, Embedded)
        assert isinstance(embedded, Embedded)
        assert np.array_equal(alone.embedding, embedded.embedding)


def test_windows_of_timelines_and_of_analyses_share_batches(encoder: EncoderBatch) -> None:
    features = [Features(window(seed), 1.0, encoder.revision) for seed in range(2)]
    kinds = [(0, True), (0, False), (1, False), (1, True)]
    before = encoder.batches, encoder.windows
    together = encoder([Window(features[seed], columns=columns) for seed, columns in kinds])
    assert (encoder.batches, encoder.windows) == (before[0] + 1, before[1] + 4)
    assert [isinstance(each, Columns) for each in together] == [columns for _, columns in kinds]
    assert all(each.revision == encoder.revision for each in together)
    for (seed, columns), each in zip(kinds, together, strict=True):
        (alone,) = encoder([Window(features[seed], columns=columns)])
        if isinstance(each, Columns) and isinstance(alone, Columns):
            assert each.embeddings.shape == (117, 768)
            assert np.array_equal(each.embeddings, alone.embeddings)
        elif isinstance(each, Embedded) and isinstance(alone, Embedded):
            assert np.array_equal(each.embedding, alone.embedding)
        else:
            raise AssertionError(seed)


@pytest.mark.parametrize(
    "mel",
    [
        np.zeros((1875, 128), np.float32),
        np.zeros((1876, 128), np.float64),
        np.full((1876, 128), np.nan, np.float32),
    ],
)
def test_what_would_fail_a_whole_batch_is_refused_before(encoder: EncoderBatch, mel: FloatArray) -> None:
    for columns in (False, True):
        with pytest.raises(EngineError):
            encoder.check(Window(Features(mel, 1.0, encoder.revision), columns=columns))


class _OneByOne(EncoderStage):
    """Without the queue, which only a replica of Serve has."""

    def __init__(self, bundle: str) -> None:
        self._run = EncoderBatch(bundle, "torch", 1, "f32")

    async def _encode(self, window: Window) -> Embedded | Columns:
        (result,) = self._run([window])
        return result


def test_an_engine_that_is_broken_for_good_makes_its_replica_unhealthy(bundle: Path) -> None:
    async def scenario() -> None:
        stage = _OneByOne(str(bundle))
        whole = stage._run._encode
        features = Features(window(0), 1.0, stage._run.revision)

        def broken(mels: FloatArray) -> FloatArray:
            raise EngineError("the encoder failed on cuda")

        async def fail(times: int, features: Features = features) -> None:
            for _ in range(times):
                with pytest.raises(EngineError):
                    await stage(features)

        await stage.check_health()
        stage._run._encode = broken  # type: ignore[assignment]
        await fail(2)
        # Windows that are refused say nothing of the engine, and one that it encodes says that it works.
        await fail(5, Features(np.zeros((3, 3), np.float32), 1.0, stage._run.revision))
        await stage.check_health()
        stage._run._encode = whole
        await stage(features)
        stage._run._encode = broken  # type: ignore[assignment]
        await fail(2)
        await stage.check_health()
        await fail(1)
        for _ in range(2):
            with pytest.raises(EngineError, match="3 batches in a row"):
                await stage.check_health()
        assert await stage.stats() == {"windows": 1, "batches": 1}

    asyncio.run(scenario())


def test_heads_answer_with_the_bundles_name(bundle: Path) -> None:
    embedding = np.linspace(-1, 1, 768, dtype=np.float32)
    analysis = asyncio.run(HeadsStage(str(bundle))(Embedded(embedding, 12.5, find_bundle(bundle).revision)))
    assert analysis.model == "small-v1"
    assert analysis.duration_s == 12.5
    assert tuple(analysis.scores) == HEADS
    assert np.array_equal(analysis.embedding, embedding)


def test_decoder_takes_the_operators_limits(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELAB_MAX_UPLOAD_MB", "1.5")
    monkeypatch.setenv("TUNELAB_MAX_DURATION_S", "60")
    stage = MelExtractorStage(str(bundle))
    assert stage._extract.limits == decode_limits(load_settings())
    assert stage._extract.limits.max_bytes == 1_500_000
    assert stage._extract.limits.max_duration_s == 60
    asyncio.run(stage.check_health())


def test_replicas_of_two_bundles_do_not_work_together(bundle: Path, encoder: EncoderBatch) -> None:
    with pytest.raises(PipelineUnavailable):
        encoder.check(Window(Features(window(0), 1.0, "another")))
    heads = HeadsStage(str(bundle))
    with pytest.raises(PipelineUnavailable):
        asyncio.run(heads(Embedded(np.zeros(768, np.float32), 1.0, "another")))
    for encoded in (Embedded(np.zeros(768, np.float32), 1.0, "another"), Columns(np.zeros((117, 768), np.float32), "")):
        with pytest.raises(PipelineUnavailable):
            asyncio.run(heads.received(encoded))
    with pytest.raises(PipelineUnavailable):
        asyncio.run(heads.plan(asyncio.run(MelExtractorStage.track(_OtherExtractor(str(bundle)), LOUD, 60.0))))


class _OtherExtractor(MelExtractorStage):
    def __init__(self, bundle: str) -> None:
        super().__init__(bundle)
        self._revision = "another"


def test_stages_put_together_the_timeline_of_the_library(bundle: Path, encoder: EncoderBatch) -> None:
    async def scenario() -> None:
        extractor, heads = MelExtractorStage(str(bundle)), HeadsStage(str(bundle))
        track = await extractor.track(LOUD, 34.0)
        assert track.mels.shape == (2, 1876, 128)
        plan = await heads.plan(track)
        features = [Features(mel, 0.0, track.outline.revision) for mel in track.mels]
        (level,) = encoder([Window(features[plan.level])])
        columns = encoder([Window(features[number], columns=True) for number in plan.windows])
        assert isinstance(level, Embedded)
        assert all([await heads.received(encoded) for encoded in (level, *columns)])
        timeline = await heads.timeline(plan, 4.0, level, *columns)  # type: ignore[arg-type]
        wanted = load(bundle, engine="torch", threads=1, precision="f32").timeline(LOUD, 4.0)
        assert timeline.revision == find_bundle(bundle).revision
        assert (timeline.start_s, timeline.end_s) == (wanted.start_s, wanted.end_s)
        for head in HEADS:
            np.testing.assert_allclose(timeline.scores[head], wanted.scores[head], atol=1e-4)  # type: ignore[arg-type]
        assert timeline.sections == wanted.sections

    asyncio.run(scenario())


def test_a_track_that_is_too_long_is_refused_by_the_decoder(bundle: Path) -> None:
    with pytest.raises(AudioTooLong, match="33"):
        asyncio.run(MelExtractorStage(str(bundle)).track(LOUD, 33.0))


def test_a_bundle_without_columns_serves_analyses_and_no_timelines(tmp_path: Path) -> None:
    bundle = str(make_bundle(tmp_path / "cls-v1", layers=1, pooling="cls"))
    encoder = EncoderBatch(bundle, "torch", 1, "f32")
    features = Features(window(0), 1.0, encoder.revision)
    encoder.check(Window(features))
    assert isinstance(encoder([Window(features)])[0], Embedded)
    with pytest.raises(TimelineUnsupported):
        encoder.check(Window(features, columns=True))
    # Told before anything is decoded.
    with pytest.raises(TimelineUnsupported):
        asyncio.run(MelExtractorStage(bundle).track(b"no music", 60.0))


def test_cancelled_files_hold_no_more_than_the_stages_own_threads(bundle: Path) -> None:
    async def scenario() -> None:
        stage = MelExtractorStage(str(bundle), threads=1)
        begun, release = [], threading.Event()

        def slow(data: bytes) -> Features:
            begun.append(data)
            release.wait(10)
            return Features(window(0), 1.0)

        stage._extract = slow  # type: ignore[assignment]
        tasks = [asyncio.create_task(stage(bytes([number]))) for number in range(5)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        last = asyncio.create_task(stage(b"last"))
        await asyncio.sleep(0.05)
        assert begun == [b"\0"]
        release.set()
        assert (await last).revision == find_bundle(bundle).revision
        assert begun == [b"\0", b"last"]

    asyncio.run(scenario())
