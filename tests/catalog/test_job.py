"""Real jobs on a real Ray, as the command runs them: killed twice, with bad files among the good ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile

from tests.audio.make import encode, notes
from tests.catalog.support import paths_in
from tests.nodes import ROOT, Nodes
from tests.support import make_bundle
from tunelab import load
from tunelab.catalog.rows import open_rows
from tunelab.catalog.stages import UNREADABLE, WORKER_DIED
from tunelab.types import HEADS

DATA = ROOT / "tests" / "data"
DEADLY = """
import os, signal, sys

def die(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)) and os.fsdecode(arguments[0]).endswith("/killer.wav"):
        if sys.argv[0].endswith("default_worker.py"):
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(die)
"""
"""Python's own start-up runs it in every process of a job: one that reads a certain file is gone, as with a decoder's
bug."""
BROKEN = {
    "junk.mp3": "audio_unsupported",
    "empty.wav": "audio_empty",
    "short.wav": "audio_too_short",
    "gone.ogg": UNREADABLE,
    "killer.wav": WORKER_DIED,
}
TIMEOUT_S = 240


def make_music(folder: Path) -> None:
    """A few dozen small files in several formats, and broken ones."""
    folder.mkdir()
    for path in DATA.glob("*.*"):
        if path.suffix != ".md":
            shutil.copy(path, folder)
    for number in range(40):
        sound = notes(2.5, 16_000, seed=number)
        match number % 5:
            case 0:
                soundfile.write(folder / f"{number:02}.flac", sound, 16_000)
            case 1:
                (folder / f"{number:02}.mp3").write_bytes(encode(sound, 16_000, "mp3", "mp3", bit_rate=64_000))
            case 2:
                (folder / f"{number:02}.m4a").write_bytes(encode(sound, 16_000, "mp4", "aac"))
            case 3:
                soundfile.write(folder / f"{number:02}.ogg", sound, 16_000)
            case _:
                (folder / "sub").mkdir(exist_ok=True)
                soundfile.write(folder / "sub" / f"{number:02}.wav", sound, 16_000)
    (folder / "junk.mp3").write_text("no music at all\n" * 50)
    (folder / "empty.wav").touch()
    soundfile.write(folder / "short.wav", notes(0.2, 16_000), 16_000)
    (folder / "gone.ogg").symlink_to(folder / "nowhere.ogg")
    (folder / "folder.mp3").mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mp3")).write_bytes(b"not music either")


@dataclass
class Command:
    """Runs ``tunelab batch`` in a session of its own."""

    folder: Path
    temporary: Path
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str | Path, cwd: Path | None = None, **variables: str) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNELAB_"))}
        environment |= {"RAY_TMPDIR": str(self.temporary), "XDG_CACHE_HOME": str(self.folder / "cache")}
        environment |= variables
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("tunelab")), "batch", *map(str, arguments)],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.running.append(process)
        return process

    def run(self, *arguments: str | Path) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, out, err

    def workers(self, stage: str = "") -> Iterator[psutil.Process]:
        """The workers of our Ray."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if f"MapWorker(MapBatches({stage}" in " ".join(process.cmdline()) and self.owns(process):
                    yield process

    def owns(self, process: psutil.Process) -> bool:
        """Whether a process is of our Ray."""
        with suppress(psutil.Error):
            return process.environ().get("RAY_TMPDIR") == str(self.temporary)
        return False

    def kill_everything(self, process: subprocess.Popen[str]) -> None:
        """As if the machine lost its power."""
        victims = [process.pid, *(other.pid for other in psutil.process_iter() if self.owns(other))]
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    temporary = Path(tempfile.mkdtemp(prefix="tl-", dir="/tmp"))
    found = Command(tmp_path_factory.mktemp("batch"), temporary)
    yield found
    for process in found.running:
        if process.poll() is None:
            found.kill_everything(process)
    shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture(scope="module")
def bundle(command: Command) -> Path:
    return make_bundle(command.folder / "small-v1", layers=1)


def wait_for_rows(out: Path, count: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if (out / "job.json").exists() and len(paths_in(out)) >= count:
            return
        time.sleep(0.02)
    raise AssertionError("no rows came")


def all_rows(out: Path) -> dict[str, dict[str, Any]]:
    rows = [row for batch in open_rows(out, failed=True) for row in batch.to_pylist()]
    found = {row["path"]: row for row in rows}
    assert len(found) == len(rows), "a file has two rows"
    return found


def test_killed_twice_a_job_ends_with_one_row_a_file(command: Command, bundle: Path, tmp_path: Path) -> None:
    music, out = tmp_path / "music", tmp_path / "out"
    make_music(music)
    arguments = (music, "--out", out, "--bundle", bundle, "--commit", "0.05", "--json")

    # The machine goes down with the job half done.
    process = command.start(*arguments)
    wait_for_rows(out, 8)
    command.kill_everything(process)
    before = all_rows(out)
    # What is done is not read again: rubbish of the same size and age takes its place.
    originals = {}
    for path, row in before.items():
        if row["error_code"] is None:
            source = Path(path)
            originals[path] = source.read_bytes()
            facts = source.stat()
            source.write_bytes(bytes(facts.st_size))
            os.utime(source, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    # Then a decoder and an encoder die, and one file, which was not there before, kills its decoder each time.
    soundfile.write(music / "killer.wav", notes(3, 16_000), 16_000)
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    process = command.start(*arguments, PYTHONPATH=str(tmp_path))
    wait_for_rows(out, len(before) + 4)
    for stage in ("Decode", "Encode"):
        with suppress(psutil.Error, StopIteration):
            next(command.workers(stage)).kill()
    printed, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1, errors
    rows = all_rows(out)
    for path, row in before.items():
        assert rows[path] == row
    wanted = {str(path) for path in music.rglob("*") if path.suffix != ".md" and not path.is_dir()}
    assert {name for name in rows if "\\x" not in name} == {name for name in wanted if "\udce9" not in name}
    (odd,) = (row for name, row in rows.items() if "caf\\xe9" in name)
    assert odd["error_code"] == "audio_unsupported"
    codes = {Path(name).name: row["error_code"] for name, row in rows.items() if row["error_code"]}
    assert codes == {**BROKEN, Path(odd["path"]).name: "audio_unsupported"}
    summary = json.loads(printed)
    assert summary["files"] == len(rows)
    assert summary["done_before"] == len(before)
    assert summary["done_now"] == len(rows) - len(before)
    assert summary["failed"] == len(codes)

    # Scores are those of the library for the same bytes.
    analyzer = load(str(bundle))
    for name in ("loud.mp3", "calm.opus", "01.mp3", "02.m4a", "sub/04.wav"):
        path = str(music / name)
        analysis, row = analyzer.analyze(originals.get(path) or Path(path).read_bytes()), rows[path]
        for head in HEADS:
            assert row[head] == pytest.approx(analysis.scores[head], abs=1e-5)
        np.testing.assert_array_equal(np.array(row["embedding"]), analysis.embedding.astype(np.float16))
        assert row["duration_s"] == pytest.approx(analysis.duration_s, abs=1e-3)

    # Nothing is left: no Ray is started, whose folder would be here.
    shutil.rmtree(command.temporary)
    code, printed, _ = command.run(*arguments)
    assert code == 1
    assert json.loads(printed)["done_now"] == 0
    assert not command.temporary.exists()
    command.temporary.mkdir()


def test_job_spreads_over_nodes_and_survives_the_loss_of_one(bundle: Path, tmp_path: Path) -> None:
    music, out = tmp_path / "music", tmp_path / "out"
    music.mkdir()
    for number in range(40):
        soundfile.write(music / f"{number:02}.wav", notes(2.5, 16_000, seed=number), 16_000)
    with Nodes(tmp_path, 1, 2, 2, XDG_CACHE_HOME=str(tmp_path / "cache")) as nodes:
        command = Command(tmp_path, Path(nodes.environment["RAY_TMPDIR"]))
        options = ("--bundle", bundle, "--commit", "0.05", "--address", nodes.address, "--json")
        # By a relative path: the workers run in another folder.
        process = command.start("music", "--out", out, *options, cwd=tmp_path)
        try:
            wait_for_rows(out, 1)
            homes = {worker.parents()[0].pid for worker in command.workers("Encode")}
            nodes.kill(2)
            printed, errors = process.communicate(timeout=TIMEOUT_S)
        finally:
            if process.poll() is None:
                command.kill_everything(process)
    assert process.returncode == 0, errors
    assert len(homes) == 2, "the encoders were all on one node"
    assert json.loads(printed)["done_now"] == 40
    assert paths_in(out) == sorted(f"music/{path.name}" for path in music.iterdir())
