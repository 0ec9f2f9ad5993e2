"""The ladder of callables in one process: each longer one is the shorter ones put together."""

from __future__ import annotations

import asyncio
import io
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support import make_bundle
from tunelab.analyzer import Analyzer, LocalPipeline, load
from tunelab.audio.decode import DecodeLimits, decode
from tunelab.encoder import Bundle
from tunelab.errors import (
    AudioTooLong,
    AudioTooShort,
    BundleInvalid,
    BundleNotFound,
    CorruptAudio,
    EngineError,
    SilentAudio,
    TimelineUnsupported,
    UnsupportedAudio,
)
from tunelab.types import HEADS, FloatArray

DATA = Path(__file__).parent / "data"
LOUD, CALM, ELECTRONIC = DATA / "loud.mp3", DATA / "calm.opus", DATA / "electronic.ogg"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "small", layers=1, frames=476)


@pytest.fixture(scope="module")
def analyzer(bundle: Path) -> Analyzer:
    return load(bundle, engine="torch", threads=2, precision="f32")


def test_each_rung_is_the_rungs_below(analyzer: Analyzer) -> None:
    features = analyzer.extract(LOUD)
    mel = analyzer.embed_mel(features.mel)
    assert mel.shape == (768,)
    assert mel.dtype == np.float32
    samples = decode(LOUD, window_s=analyzer.bundle.mel.window_s).samples
    np.testing.assert_array_equal(analyzer.embed_samples(samples), mel)
    np.testing.assert_array_equal(analyzer.embed(LOUD), mel)
    analysis = analyzer.analyze(LOUD)
    np.testing.assert_array_equal(analysis.embedding, mel)
    assert analysis.scores == analyzer.score(mel)
    assert analysis.duration_s == features.duration_s == 34.0
    assert analysis.model == "small"
    assert list(analysis.percent()) == list(HEADS)


@pytest.mark.parametrize("path", [LOUD, CALM, ELECTRONIC], ids=lambda path: path.stem)
def test_path_and_bytes_give_the_same_answer(analyzer: Analyzer, path: Path) -> None:
    by_path, by_name, by_bytes = (analyzer.analyze(source) for source in (path, str(path), path.read_bytes()))
    assert by_path.scores == by_name.scores == by_bytes.scores
    np.testing.assert_array_equal(by_path.embedding, by_bytes.embedding)
    assert by_path.duration_s == by_bytes.duration_s


def test_other_music_gives_other_answers(analyzer: Analyzer) -> None:
    assert analyzer.analyze(LOUD).scores != analyzer.analyze(CALM).scores


def test_middle_of_longer_audio_is_what_counts(analyzer: Analyzer) -> None:
    window = analyzer.bundle.mel.num_samples
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * window).astype(np.float32)
    np.testing.assert_array_equal(analyzer.embed_samples(samples), analyzer.embed_samples(samples[window : 2 * window]))
    assert analyzer.embed_samples(samples[:1000]).shape == (768,)


def test_repeated_and_from_many_threads_the_same(analyzer: Analyzer) -> None:
    wanted = {path: analyzer.analyze(path).scores for path in (LOUD, CALM, ELECTRONIC)}
    with ThreadPoolExecutor(4) as pool:
        for path, analysis in zip(3 * list(wanted), pool.map(analyzer.analyze, 3 * list(wanted)), strict=True):
            assert analysis.scores == wanted[path]


def test_errors_of_files_and_paths(analyzer: Analyzer, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedAudio):
        analyzer.analyze(b"no music")
    with pytest.raises(FileNotFoundError):
        analyzer.analyze(tmp_path / "missing")


class TestMany:
    @pytest.fixture
    def paths(self, tmp_path: Path) -> list[Path]:
        """Music, and between it what is none."""
        made = [tmp_path / f"{number:02}" for number in range(12)]
        for path, source in zip(made, 4 * (LOUD, CALM, ELECTRONIC), strict=True):
            shutil.copy(source, path)
        made[3].write_text("no music")
        made[4].write_bytes(LOUD.read_bytes()[:300])
        made[5].unlink()
        made[11].unlink()
        made[11].mkdir()
        return made

    def test_order_and_errors(self, analyzer: Analyzer, paths: list[Path]) -> None:
        outcomes = list(analyzer.analyze_many(paths))
        assert [outcome.path for outcome in outcomes] == [str(path) for path in paths]
        wanted = [analyzer.analyze(source).scores for source in (LOUD, CALM, ELECTRONIC)]
        for number, outcome in enumerate(outcomes):
            assert (outcome.analysis is None) == (number in (3, 4, 5, 11))
            assert (outcome.error is None) == (outcome.analysis is not None)
            if outcome.analysis:
                assert outcome.analysis.scores == wanted[number % 3]
        assert isinstance(outcomes[3].error, UnsupportedAudio)
        assert isinstance(outcomes[4].error, (CorruptAudio, AudioTooShort, UnsupportedAudio))
        assert isinstance(outcomes[5].error, FileNotFoundError)
        assert isinstance(outcomes[11].error, IsADirectoryError)

    def test_nothing(self, analyzer: Analyzer) -> None:
        assert list(analyzer.analyze_many([])) == []

    def test_only_errors(self, analyzer: Analyzer, paths: list[Path]) -> None:
        assert all(outcome.error for outcome in analyzer.analyze_many([paths[3], paths[5]] * 10))

    def test_looks_ahead_but_not_far(self, analyzer: Analyzer, paths: list[Path]) -> None:
        taken = 0

        def endless() -> Iterator[Path]:
            nonlocal taken
            while True:
                taken += 1
                yield paths[3]

        many = analyzer.analyze_many(endless())
        for given in range(1, 30):
            next(many)
            assert given < taken <= given + 4 * analyzer.threads
        many.close()  # type: ignore[attr-defined]
        assert taken <= 29 + 4 * analyzer.threads

    def test_leaving_early_stops_the_work(self, analyzer: Analyzer, paths: list[Path]) -> None:
        for outcome in analyzer.analyze_many(str(path) for path in paths * 100):
            assert outcome.path == str(paths[0])
            break

    def test_a_list_of_paths_that_fails(self, analyzer: Analyzer, paths: list[Path]) -> None:
        def broken() -> Iterator[Path]:
            yield paths[0]
            raise RuntimeError("the catalogue is gone")

        with pytest.raises(RuntimeError, match="catalogue is gone"):
            list(analyzer.analyze_many(broken()))


def wav(samples: FloatArray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="FLOAT")
    return file.getvalue()


class TestTimeline:
    def test_segments_from_the_beginning_to_the_end(self, analyzer: Analyzer) -> None:
        timeline = analyzer.timeline(LOUD)
        assert timeline.start_s == (0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0)
        assert timeline.end_s == (*timeline.start_s[1:], 34.0)
        assert (timeline.duration_s, timeline.step_s, timeline.model, timeline.revision) == (34.0, 5.0, "small", "")
        assert list(timeline.scores) == list(timeline.track) == list(HEADS)
        assert all(len(scores) == 7 for scores in timeline.scores.values())
        assert timeline.sections[0].start_s == 0.0
        assert timeline.sections[-1].end_s == 34.0
        assert len(analyzer.timeline(LOUD, 2.0).start_s) == 17

    def test_path_bytes_and_threads_give_the_same(self, analyzer: Analyzer) -> None:
        wanted = analyzer.timeline(CALM)
        with ThreadPoolExecutor(3) as pool:
            for got in pool.map(analyzer.timeline, (str(CALM), CALM.read_bytes(), CALM)):
                assert got == wanted

    def test_a_track_of_one_window_has_the_scores_of_its_analysis(self, analyzer: Analyzer) -> None:
        rng = np.random.default_rng(0)
        data = wav(rng.uniform(-0.3, 0.3, analyzer.bundle.mel.num_samples).astype(np.float32))
        timeline, analysis = analyzer.timeline(data, 2.0), analyzer.analyze(data)
        for head in HEADS:
            assert timeline.track[head] == pytest.approx(analysis.scores[head], abs=1e-4)

    def test_silence_has_no_scores(self, analyzer: Analyzer) -> None:
        samples = np.random.default_rng(0).uniform(-0.3, 0.3, 40 * 16_000).astype(np.float32)
        samples[10 * 16_000 : 21 * 16_000] = 0.0
        timeline = analyzer.timeline(wav(samples))
        for points in timeline.percent().values():
            assert [score is None for score in points] == [False, False, True, True, False, False, False, False]
        assert [(each.start_s, each.end_s) for each in timeline.sections if each.label is None] == [(10.0, 21.0)]
        # A whole window of it is not even encoded, and changes nothing elsewhere.
        with pytest.raises(SilentAudio):
            analyzer.timeline(wav(np.zeros(40 * 16_000, np.float32)))

    def test_refusals(self, analyzer: Analyzer, tmp_path: Path) -> None:
        for step_s in (0.99, 30.1, float("nan"), -5.0):
            with pytest.raises(ValueError, match="1 to 30"):
                analyzer.timeline(LOUD, step_s)
        with pytest.raises(AudioTooLong):
            analyzer.timeline(LOUD, max_s=33.9)
        with pytest.raises(FileNotFoundError):
            analyzer.timeline(tmp_path / "missing")
        with pytest.raises(UnsupportedAudio):
            analyzer.timeline(b"no music")
        bundle = make_bundle(tmp_path / "token", layers=1, frames=476, pooling="cls")
        with pytest.raises(TimelineUnsupported):
            load(bundle, engine="torch", threads=1).timeline(LOUD)


class TestPipeline:
    def test_answers_are_the_analyzers(self, analyzer: Analyzer) -> None:
        pipeline = LocalPipeline(analyzer)

        async def run() -> None:
            assert await pipeline.ready()
            assert pipeline.model == "small"
            sources = [path.read_bytes() for path in (LOUD, CALM, ELECTRONIC)]
            analyses = await asyncio.gather(*(pipeline.analyze(data) for data in sources))
            for data, analysis in zip(sources, analyses, strict=True):
                assert analysis.scores == analyzer.analyze(data).scores
            with pytest.raises(UnsupportedAudio):
                await pipeline.analyze(b"no music")
            timeline = await pipeline.timeline(sources[0], 5.0, 60.0)
            assert timeline.revision == pipeline.revision == analyzer.bundle.revision
            assert timeline.scores == analyzer.timeline(sources[0]).scores
            with pytest.raises(AudioTooLong):
                await pipeline.timeline(sources[0], 5.0, 30.0)

        asyncio.run(run())


class TestLoading:
    def test_by_name_or_path(self, bundle: Path, monkeypatch: pytest.MonkeyPatch, analyzer: Analyzer) -> None:
        monkeypatch.setenv("TUNELAB_MODELS_DIR", str(bundle.parent))
        by_name = load("small", engine="torch", threads=1)
        assert by_name.bundle.path == analyzer.bundle.path
        assert by_name.threads == 1

    def test_errors(self, bundle: Path, tmp_path: Path) -> None:
        with pytest.raises(BundleNotFound):
            load("missing")
        with pytest.raises(EngineError):
            load(bundle, engine="torch", threads=0)
        without = tmp_path / "without"
        shutil.copytree(bundle, without)
        (without / "heads.safetensors").unlink()
        with pytest.raises(BundleInvalid, match="train heads"):
            load(without, engine="torch")

    def test_limits(self, bundle: Path) -> None:
        strict = Analyzer(Bundle.open(bundle), engine="torch", limits=DecodeLimits(min_duration_s=20))
        with pytest.raises(AudioTooShort):
            strict.analyze(ELECTRONIC)
        assert strict.analyze(LOUD).scores

    def test_example_of_the_package(self) -> None:
        import tunelab

        assert tunelab.load is load
