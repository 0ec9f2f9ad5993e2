"""Each stage as a plain class, without Ray."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from deployments.encoder import EncoderBatch
from deployments.heads import HeadsStage
from deployments.mel_extractor import MelExtractorStage, decode_limits
from tests.support import make_bundle
from tunelab.encoder import find_bundle
from tunelab.errors import EngineError, PipelineUnavailable
from tunelab.settings import load_settings
from tunelab.types import HEADS, Embedded, Features, FloatArray


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "small-v1", layers=1)


@pytest.fixture(scope="module")
def encoder(bundle: Path) -> EncoderBatch:
    return EncoderBatch(str(bundle), "torch", 1, "f32")


def window(seed: int) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(1876, 128)).astype(np.float32)


def test_a_batch_keeps_its_order_and_durations(encoder: EncoderBatch) -> None:
    batch = [Features(window(seed), float(seed), encoder.revision) for seed in range(3)]
    together = encoder(batch)
    assert [embedded.duration_s for embedded in together] == [0.0, 1.0, 2.0]
    for features, embedded in zip(batch, together, strict=True):
        assert np.array_equal(encoder([features])[0].embedding, embedded.embedding)


@pytest.mark.parametrize(
    "mel",
    [
        np.zeros((1875, 128), np.float32),
        np.zeros((1876, 128), np.float64),
        np.full((1876, 128), np.nan, np.float32),
    ],
)
def test_what_would_fail_a_whole_batch_is_refused_before(encoder: EncoderBatch, mel: FloatArray) -> None:
    with pytest.raises(EngineError):
        encoder.check(Features(mel, 1.0, encoder.revision))


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
        encoder.check(Features(window(0), 1.0, "another"))
    with pytest.raises(PipelineUnavailable):
        asyncio.run(HeadsStage(str(bundle))(Embedded(np.zeros(768, np.float32), 1.0, "another")))


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
