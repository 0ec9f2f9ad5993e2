"""Columns of a window: where they lie, that they keep to their place, and that the engines agree on them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tests.encoder.conftest import FRAMES
from tests.support import make_bundle
from tunelab.audio.extract import MelExtractor
from tunelab.encoder import Bundle, Engine, EngineName, load_engine
from tunelab.encoder.columns import ColumnEncoder, ColumnGrid, bound_to_position, bridge, column_grid, local_bias
from tunelab.errors import EngineError, TimelineUnsupported
from tunelab.types import FloatArray


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two blocks, every column: 29, of which each sees 8 to each side."""
    return Bundle.open(make_bundle(tmp_path_factory.mktemp("bundles") / "plain", frames=FRAMES))


@pytest.fixture(scope="module", params=["torch", "openvino"])
def engine(request: pytest.FixtureRequest, plain: Bundle) -> Engine:
    return load_engine(plain, request.param, threads=2, precision="f32")


def test_grid_of_the_shipped_bundle(shipped: Bundle) -> None:
    grid = column_grid(shipped)
    assert (grid.rows, grid.count, grid.context) == (8, 117, 8)
    assert grid.step_s == pytest.approx(16 * 256 / 16_000)
    # A patch is 16 frames, and frame 0 is centred on the first sample.
    assert grid.times_s[0] == pytest.approx(7.5 * 256 / 16_000)
    assert grid.times_s[-1] < shipped.mel.window_s
    assert grid.tokens == 2 + 8 * 117


def test_grid_comes_from_the_bundle(small: Bundle, plain: Bundle) -> None:
    assert column_grid(plain).count == 29
    every_second = column_grid(small)
    assert (every_second.count, every_second.context) == (15, 4)
    assert every_second.step_s == pytest.approx(0.512)
    mel = plain.mel.model_copy(update={"hop_length": 160, "center": False})
    other = column_grid(Bundle(plain.path, {**plain.ast, "time_stride": 10}, plain.pooling, mel))
    assert other.count == (FRAMES - 16) // 10 + 1
    assert other.step_s == pytest.approx(0.1)
    assert other.first_s == pytest.approx(0.075 + 512 / 16_000)


@pytest.mark.parametrize(("pooling", "name"), [("cls", "openvino"), ("dist", "torch")])
def test_an_embedding_of_one_token_has_no_columns(
    tmp_path: Path, mels: FloatArray, pooling: str, name: EngineName
) -> None:
    bundle = Bundle.open(make_bundle(tmp_path / "one", layers=1, frames=FRAMES, pooling=pooling))
    engine = load_engine(bundle, name, threads=1, precision="f32")
    assert engine(mels[:1]).shape == (1, 768)
    with pytest.raises(TimelineUnsupported, match="one"):
        engine.columns(mels[:1], local=True)
    with pytest.raises(TimelineUnsupported):
        ColumnEncoder(bundle, engine)


def test_who_sees_whom() -> None:
    grid = ColumnGrid(rows=2, count=9, first_s=0.0, step_s=1.0, context=2)
    seen = local_bias(grid)[0, 0] == 0
    assert seen.shape == (20, 20)
    assert seen[:2, :2].all()  # the special tokens see each other
    assert not seen[:2, 2:].any()  # and nothing else,
    assert seen[2:, :2].all()  # and are seen by all
    for row in range(2):
        for column in range(9):
            first = min(max(column - 2, 0), 4)
            for other in range(2):
                sees = seen[2 + 9 * row + column, 2 + 9 * other : 11 + 9 * other]
                assert np.flatnonzero(sees).tolist() == list(range(first, first + 5))


def test_a_window_shorter_than_the_context_is_seen_whole() -> None:
    assert not local_bias(ColumnGrid(rows=2, count=4, first_s=0.0, step_s=1.0, context=8))[0, 0, 2:].any()


def test_columns_are_what_the_embedding_is_the_mean_of(engine: Engine, mels: FloatArray) -> None:
    columns = engine.columns(mels, local=False)
    assert columns.shape == (3, 29, 768)
    assert columns.dtype == np.float32
    np.testing.assert_allclose(columns.mean(axis=1), engine(mels), atol=1e-4)


@pytest.mark.parametrize("local", [False, True])
def test_engines_agree(plain: Bundle, mels: FloatArray, local: bool) -> None:
    torch, openvino = (
        load_engine(plain, name, threads=2, precision="f32").columns(mels, local=local)  # type: ignore[arg-type]
        for name in ("torch", "openvino")
    )
    np.testing.assert_allclose(openvino, torch, atol=2e-3)


def test_local_columns_know_nothing_of_what_is_far(engine: Engine, mels: FloatArray) -> None:
    changed = mels[:1].copy()
    changed[:, 26 * 16 :] += 1.0
    # Column 0 sees 17 columns, the last of which sees 8 more: nothing of the 26th reaches it in two blocks.
    near, far = (engine.columns(each, local=True)[0] for each in (mels[:1], changed))
    np.testing.assert_allclose(near[0], far[0], atol=1e-6)
    assert np.abs(near[28] - far[28]).max() > 0.1
    near, far = (engine.columns(each, local=False)[0] for each in (mels[:1], changed))
    assert np.abs(near[0] - far[0]).max() > 1e-3


def test_embeddings_stay_what_they_are_beside_columns(engine: Engine, mels: FloatArray) -> None:
    wanted, along = engine(mels), engine.columns(mels, local=True)
    with ThreadPoolExecutor(4) as pool:
        whole = [pool.submit(engine, mels[:count]) for count in (1, 2, 3, 1)]
        local = [pool.submit(engine.columns, mels[:count], local=True) for count in (1, 3, 2, 1)]
    for future in whole:
        np.testing.assert_array_equal(future.result(), wanted[: len(future.result())])
    for future in local:
        np.testing.assert_array_equal(future.result(), along[: len(future.result())])


def test_no_window_and_wrong_windows(engine: Engine) -> None:
    assert engine.columns(np.zeros((0, FRAMES, 128), np.float32), local=True).shape == (0, 29, 768)
    with pytest.raises(EngineError):
        engine.columns(np.zeros((1, FRAMES, 64), np.float32), local=True)


def test_what_is_bound_to_its_position_is_bridged() -> None:
    columns = np.arange(10, dtype=np.float32)[None, :, None] * np.ones((2, 10, 3), np.float32)
    columns[1] += 100
    spoilt, bound = columns.copy(), np.zeros(10, bool)
    bound[[0, 4, 5, 9]] = True
    spoilt[:, bound] = -1000
    bridged = bridge(spoilt, bound)
    np.testing.assert_allclose(bridged[:, 1:9], columns[:, 1:9], rtol=1e-6)
    # At the ends there is but one neighbour.
    np.testing.assert_array_equal(bridged[:, 0], columns[:, 1])
    np.testing.assert_array_equal(bridged[:, 9], columns[:, 8])
    np.testing.assert_array_equal(bridge(columns, np.zeros(10, bool)), columns)


def test_columns_far_from_the_others_are_bound() -> None:
    columns = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    assert not bound_to_position(columns).any()
    columns[[3, 4, 40]] += 20
    assert np.flatnonzero(bound_to_position(columns)).tolist() == [3, 4, 40]
    assert not bound_to_position(np.ones((50, 20), np.float32)).any()


def test_positions_that_drown_the_sound_are_found(plain: Bundle, tmp_path: Path, mels: FloatArray) -> None:
    bundle = Bundle.open(make_bundle(tmp_path / "planted", frames=FRAMES))
    path = bundle.path / "model.safetensors"
    tensors = load_file(path)
    table = tensors["embeddings.position_embeddings"]
    table[:, 2:] *= 0.1
    table[:, 2:].view(8, 29, 768)[:, [7, 8, 20]] += 30.0
    save_file(tensors, path)
    engine = load_engine(bundle, "torch", threads=2, precision="f32")
    encode = ColumnEncoder(bundle, engine)
    assert np.flatnonzero(encode.bound).tolist() == [7, 8, 20]
    got, raw = encode(mels), engine.columns(mels, local=True)
    np.testing.assert_array_equal(got[:, ~encode.bound], raw[:, ~encode.bound])
    np.testing.assert_allclose(got[:, 20], (raw[:, 19] + raw[:, 21]) / 2, atol=1e-4)


def test_two_pieces_in_one_window_of_the_shipped_bundle_are_kept_apart(shipped: Bundle) -> None:
    """What timelines stand on. With attention to the whole window the two can hardly be told apart."""
    data = Path(__file__).parents[1] / "data"
    extract = MelExtractor(shipped.mel)
    loud, calm = (extract(data / name).mel for name in ("loud.mp3", "calm.opus"))
    both = np.concatenate([loud[:944], calm[944:]])  # 59 columns, 58 columns
    engine = load_engine(shipped, "openvino", threads=1)  # with more, OpenVINO would compile a second model
    encode = ColumnEncoder(shipped, engine)
    assert 0 < encode.bound.sum() < 117 / 3  # what is bridged has to stay the smaller part by far

    def shares(columns: FloatArray) -> tuple[float, float]:
        """How much of each half comes from the other piece: 0 nothing, 0.5 as much as from its own."""
        of_loud, of_calm, of_both = (each[~encode.bound] for each in columns)
        axis = of_calm.mean(axis=0) - of_loud.mean(axis=0)
        at = np.arange(117)[~encode.bound]
        left, right = at < 59 - 10, at >= 59 + 10
        first = (of_both[left] - of_loud[left]).mean(axis=0) @ axis / (axis @ axis)
        second = (of_calm[right] - of_both[right]).mean(axis=0) @ axis / (axis @ axis)
        return float(first), float(second)

    windows = np.stack([loud, calm, both])
    assert max(map(abs, shares(encode(windows)))) < 0.05
    assert sum(shares(engine.columns(windows, local=False))) > 0.5
