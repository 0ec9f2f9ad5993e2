"""The OpenVINO engine against the PyTorch reference, its batches and threads, and its cache on disk."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.encoder.conftest import FRAMES, cosines
from tunelab.encoder import Bundle, Engine, load_engine, openvino_engine
from tunelab.encoder._openvino import ov
from tunelab.encoder.openvino_engine import OpenVinoEngine, converted_graph
from tunelab.errors import BundleInvalid, EngineError
from tunelab.types import FloatArray

NATIVE_BF16 = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture(scope="module", params=["f32", "bf16"])
def engine(request: pytest.FixtureRequest, small: Bundle) -> Engine:
    if request.param == "bf16" and not NATIVE_BF16:
        pytest.skip("this CPU has no bf16")
    return load_engine(small, "openvino", threads=2, precision=request.param)


def test_agrees_with_the_reference(engine: Engine, mels: FloatArray, wanted: FloatArray) -> None:
    got = engine(mels)
    assert got.shape == (3, 768)
    assert got.dtype == np.float32
    if engine.name == "openvino-f32":
        # Weights are kept in half precision, which is what the bundle has.
        np.testing.assert_allclose(got, wanted, atol=2e-3)
        assert cosines(got, wanted).min() > 0.99999
    else:
        assert engine.name == "openvino-bf16"
        assert cosines(got, wanted).min() > 0.999


def test_alone_repeated_or_in_any_batch_the_same_numbers(engine: Engine, mels: FloatArray) -> None:
    alone = np.concatenate([engine(mel[None]) for mel in mels])
    np.testing.assert_array_equal(engine(mels), alone)
    np.testing.assert_array_equal(engine(mels[::-1]), alone[::-1])
    np.testing.assert_array_equal(engine(mels[[0, 0, 2, 0, 1]]), alone[[0, 0, 2, 0, 1]])


def test_many_threads_at_once(engine: Engine, mels: FloatArray) -> None:
    alone = np.concatenate([engine(mel[None]) for mel in mels])
    batches = [[0], [1, 2], [2], [0, 1, 2], [2, 0], [1], [1, 1, 1, 0], [2]]
    with ThreadPoolExecutor(len(batches)) as pool:
        for rows, got in zip(batches, pool.map(lambda rows: engine(mels[rows]), batches), strict=True):
            np.testing.assert_array_equal(got, alone[rows])


def test_results_are_not_overwritten_by_the_next_call(engine: Engine, mels: FloatArray) -> None:
    first = engine(mels[:1])
    kept = first.copy()
    engine(mels[1:2])
    np.testing.assert_array_equal(first, kept)


def test_other_layouts_of_the_input(engine: Engine, mels: FloatArray) -> None:
    wanted = engine(mels[:1])
    frozen = np.asfortranarray(mels[:1])
    frozen.setflags(write=False)
    np.testing.assert_array_equal(engine(frozen), wanted)
    np.testing.assert_array_equal(engine(mels[:1].astype(np.float64)), wanted)
    assert engine(mels[:0]).shape == (0, 768)


def test_what_is_no_number_is_an_engine_error(engine: Engine, mels: FloatArray) -> None:
    broken = mels[:2].copy()
    broken[1, 7, 7] = np.nan
    for call in (engine, partial(engine.columns, local=True)):
        with pytest.raises(EngineError, match="no numbers"):
            call(broken)


def test_wrong_shape_is_an_engine_error_and_does_no_harm(engine: Engine, mels: FloatArray) -> None:
    wanted = engine(mels[:2])
    for count in (1, 2, 3):
        with pytest.raises(EngineError):
            engine(np.zeros((count, FRAMES, 64), np.float32))
    np.testing.assert_array_equal(engine(mels[:2]), wanted)


def test_one_thread_and_two_give_the_same(small: Bundle, mels: FloatArray) -> None:
    one = load_engine(small, "openvino", threads=1, precision="f32")
    two = load_engine(small, "openvino", threads=2, precision="f32")
    np.testing.assert_allclose(one(mels[:1]), two(mels[:1]), atol=1e-5)


@pytest.fixture(scope="module")
def filled(small: Bundle, cache_home: Path) -> Path:
    """The cache folder, with the small bundle and what the engine compiled of it."""
    load_engine(small, "openvino", threads=2, precision="f32")
    return cache_home / "tunelab" / "openvino"


class TestCache:
    @pytest.fixture
    def cache(self, filled: Path, tmp_path: Path) -> Path:
        """A copy of it, without what other tests put there."""
        for path in filled.glob("small-[0-9a-f]*"):
            shutil.copytree(path, tmp_path / "cache" / path.name)
        shutil.copy(filled / ".lock", tmp_path / "cache")
        return tmp_path / "cache"

    def test_entries(self, filled: Path) -> None:
        entries = list(filled.glob("small-[0-9a-f]*"))
        assert len(entries) == 1
        assert (entries[0] / "encoder.xml").is_file()
        assert not list(filled.glob(".unfinished-*"))

    def test_second_start_converts_nothing_and_imports_no_torch(self, small: Bundle, cache_home: Path) -> None:
        load_engine(small, "openvino", threads=1)
        code = (
            "import sys, numpy as np\n"
            "from pathlib import Path\n"
            "from tunelab.encoder import Bundle, load_engine\n"
            "engine = load_engine(Bundle.open(Path(sys.argv[1])), 'openvino', threads=1)\n"
            "assert engine(np.zeros((1, 476, 128), np.float32)).shape == (1, 768)\n"
            "assert not {'torch', 'transformers'} & set(sys.modules), 'imported'\n"
            "assert not [name for name in sys.modules if name.startswith('openvino_telemetry.')], 'telemetry'\n"
        )
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache_home)}
        before = {path: path.stat().st_mtime_ns for path in cache_home.rglob("*") if path.is_file()}
        done = subprocess.run(
            [sys.executable, "-c", code, str(small.path)], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        after = {path: path.stat().st_mtime_ns for path in cache_home.rglob("*") if path.is_file()}
        assert {path.suffix for path in after if before.get(path) != after[path]} <= {""}  # the lock file

    @pytest.mark.usefixtures("copies")
    @pytest.mark.parametrize(
        ("pattern", "data"),
        [
            ("*/encoder.xml", b""),
            ("*/encoder.xml", b"<net"),
            ("*/encoder.bin", b""),
            ("*/encoder.bin", None),
            ("*/*/*.blob", b""),
            ("*/*/*.blob", b"\0" * 1000),
            ("*/*/*.blob", None),
        ],
        ids=["xml-empty", "xml-cut", "bin-empty", "bin-gone", "blobs-empty", "blobs-zeros", "blobs-gone"],
    )
    def test_broken_entry_is_made_again(
        self,
        small: Bundle,
        cache: Path,
        mels: FloatArray,
        wanted: FloatArray,
        pattern: str,
        data: bytes | None,
    ) -> None:
        files = list(cache.glob(pattern))
        assert files
        for path in files:
            path.unlink()
            if data is not None:
                path.write_bytes(data)
        engine = OpenVinoEngine(small, threads=2, precision="f32", cache_dir=cache)
        np.testing.assert_allclose(engine(mels[:1]), wanted[:1], atol=2e-3)

    @pytest.fixture
    def copies(self, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def convert(bundle: Bundle, graph: Path) -> None:  # the real one takes seconds
            for path in filled.glob("small-[0-9a-f]*/encoder.*"):
                shutil.copy(path, graph.parent)

        monkeypatch.setattr(openvino_engine, "convert", convert)

    @pytest.mark.usefixtures("copies")
    def test_entry_without_its_graph_is_made_again(
        self, small: Bundle, cache: Path, mels: FloatArray, wanted: FloatArray
    ) -> None:
        (graph,) = cache.glob("*/encoder.xml")
        graph.unlink()
        assert list(graph.parent.glob("*/*.blob"))
        engine = OpenVinoEngine(small, threads=2, precision="f32", cache_dir=cache)
        np.testing.assert_allclose(engine(mels[:1]), wanted[:1], atol=2e-3)
        assert graph.is_file()
        assert not list(cache.glob(".unfinished-*"))

    def test_precisions_and_cpus_share_nothing_compiled(
        self, small: Bundle, cache: Path, mels: FloatArray, wanted: FloatArray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def compiled() -> set[Path]:
            return {path.parent for path in cache.glob("*/*/*.blob")}

        default = OpenVinoEngine(small, threads=1, cache_dir=cache)
        np.testing.assert_allclose(cosines(default(mels), wanted), 1, atol=1e-3)
        before = compiled()
        assert {folder.name.partition("-")[0] for folder in before} >= {"f32", "auto"}

        read = Path.read_text
        monkeypatch.setattr(
            Path,
            "read_text",
            lambda path, **kinds: "flags\t: another\n" if path.name == "cpuinfo" else read(path, **kinds),
        )
        OpenVinoEngine(small, threads=1, cache_dir=cache)
        (other,) = compiled() - before
        assert other.name.startswith("auto-")

    @pytest.mark.usefixtures("copies")
    def test_entry_may_be_read_by_other_users(self, small: Bundle, tmp_path: Path) -> None:
        assert converted_graph(small, tmp_path).parent.stat().st_mode & 0o777 == 0o755

    @pytest.mark.parametrize("lock_exists", [True, False])
    def test_whole_cache_on_a_read_only_file_system(
        self, small: Bundle, cache: Path, mels: FloatArray, lock_exists: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lock, opened = cache / ".lock", os.open
        assert lock.exists()
        if not lock_exists:
            lock.unlink()

        def refuse_to_write(path: Path, flags: int, mode: int = 0o777) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return opened(path, flags, mode)

        monkeypatch.setattr(openvino_engine.os, "open", refuse_to_write)
        engine = OpenVinoEngine(small, threads=2, precision="f32", cache_dir=cache)
        assert engine(mels[:1]).shape == (1, 768)
        assert lock.exists() == lock_exists
        # But a graph is only made under the lock.
        (graph,) = cache.glob("*/encoder.xml")
        graph.write_text("broken")
        if not lock_exists:
            with pytest.raises(EngineError, match="model cache cannot be written"):
                OpenVinoEngine(small, threads=2, precision="f32", cache_dir=cache)

    @pytest.mark.parametrize("readable", [True, False])
    def test_what_another_user_compiled_is_used_only_if_it_may_be_read(
        self, small: Bundle, cache: Path, mels: FloatArray, readable: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The superuser, as whom tests may run, could read any file.
        monkeypatch.setattr(openvino_engine.os, "access", lambda path, mode: readable or Path(path).suffix != ".blob")
        engine = OpenVinoEngine(small, threads=2, precision="f32", cache_dir=cache)
        assert (engine._core.get_property("CACHE_DIR") != "") == readable
        assert engine(mels[:1]).shape == (1, 768)

    def test_entry_of_other_weights_or_settings_is_not_used(
        self, small: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(openvino_engine, "convert", lambda bundle, graph: graph.write_text(str(bundle.path)))
        first = converted_graph(small, tmp_path)
        assert converted_graph(small, tmp_path) == first
        for name in ("model.safetensors", "config.json"):
            changed = tmp_path / name / "small"
            shutil.copytree(small.path, changed)
            data = (changed / name).read_bytes()
            (changed / name).write_bytes(data[:-2] + (b" }}" if name == "config.json" else b"xx"))
            other = converted_graph(Bundle.open(changed), tmp_path)
            assert other != first
            assert other.read_text() == str(changed)

    def test_cache_that_cannot_be_written(self, small: Bundle, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(EngineError, match="model cache cannot be written") as caught:
            OpenVinoEngine(small, threads=1, cache_dir=tmp_path / "file" / "cache")
        assert str(tmp_path) not in caught.value.message

    def test_weights_that_do_not_fit(self, small: Bundle, tmp_path: Path) -> None:
        folder = tmp_path / "broken"
        shutil.copytree(small.path, folder)
        (folder / "model.safetensors").write_bytes(b"nothing")
        with pytest.raises(BundleInvalid, match=r"model\.safetensors"):
            OpenVinoEngine(Bundle.open(folder), threads=1, cache_dir=tmp_path / "cache")
        assert not [path for path in (tmp_path / "cache").iterdir() if path.name != ".lock"]


def test_nothing_is_reported_to_openvinos_makers(small: Bundle, tmp_path: Path) -> None:
    """OpenVINO's own telemetry reports every import and every conversion; converted here is what `convert` runs."""
    code = (
        "import socket, sys\n"
        "from pathlib import Path\n"
        "def refuse(*_): raise AssertionError('a connection is opened')\n"
        "socket.socket.connect = refuse\n"
        "from tunelab.encoder import Bundle\n"
        "from tunelab.encoder.convert import _trace\n"
        "_trace(Bundle.open(Path(sys.argv[1])), Path(sys.argv[2]))\n"
        "import openvino.tools.ovc.telemetry_utils as utils\n"
        "assert utils.tm.__name__ == 'openvino.tools.ovc.telemetry_stub', utils.tm\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry.')]\n"
    )
    graph = tmp_path / "encoder.xml"
    done = subprocess.run([sys.executable, "-c", code, small.path, graph], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert graph.is_file()


def test_openvino_is_imported_in_one_place() -> None:
    package = Path(openvino_engine.__file__).parents[1]
    importing = {
        path.name
        for path in package.rglob("*.py")
        if any(
            line.split()[:2] in (["import", "openvino"], ["from", "openvino"]) for line in path.read_text().splitlines()
        )
    }
    assert importing == {"_openvino.py"}
