"""The ladder of callables in one process: each longer one is the shorter ones put together."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.support import make_bundle
from tunelab.analyzer import Analyzer, LocalPipeline, load
from tunelab.audio.decode import DecodeLimits, decode
from tunelab.encoder import Bundle
from tunelab.errors import (
    AudioTooShort,
    BundleInvalid,
    BundleNotFound,
    CorruptAudio,
    EngineError,
    UnsupportedAudio,
)
from tunelab.types import HEADS

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
