"""Every command of ``docs/guides/classifiers.md``, in its order, on music that this test makes."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib.image import imread
from sqlalchemy import URL
from sqlalchemy.orm import Session

from tests.service.conftest import _admin, database, server, session  # noqa: F401  fixtures
from tests.service.support import on_a_socket, settings_for
from tests.similarity.support import rows_of, write_output
from tests.support import make_bundle
from tunelab.analyzer import Analyzer, LocalPipeline, load
from tunelab.classifier import Classifier
from tunelab.service import classifier_jobs
from tunelab.service.accounts import create_account
from tunelab.service.app import create_app
from tunelab.service.classifier_jobs import Timing

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guides" / "classifiers.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CLASSES = ("lo-fi", "drill", "phonk")
RATE = 16_000

# `tunelab batch` starts a Ray and has tests of its own: here it finds its work done. Audio is analysed with PyTorch,
# which need not convert the small bundle first. Everything else is the real command.
TUNELAB = """#!/bin/sh
[ "$1" = batch ] && exec cp -r "{profiles}" "$4"
case "$* " in *" music/new.mp3 ") set -- "$@" --engine torch ;; esac
exec "{tunelab}" "$@"
"""


def blocks(*languages: str) -> list[str]:
    return [code for language, code in BLOCK.findall(GUIDE.read_text()) if language in languages]


def clip(kind: int, rng: np.random.Generator) -> np.ndarray:
    """Two seconds of one of three sounds that nobody confuses: a soft chord in hiss, a sliding bass, a harsh square."""
    t = np.arange(2 * RATE) / RATE
    pitch = rng.uniform(0.9, 1.1)
    if kind == 0:
        chord = sum(np.sin(2 * np.pi * pitch * tone * t) for tone in (220, 277, 330))
        return 0.1 * chord + 0.05 * rng.normal(size=len(t))
    if kind == 1:
        slide = np.sin(2 * np.pi * pitch * (60 * t - 8 * t**2))
        return 0.6 * slide * (1 + np.sign(np.sin(2 * np.pi * 3 * t)))
    square = np.sign(np.sin(2 * np.pi * pitch * 880 * t))
    return 0.3 * square * (np.sin(2 * np.pi * 8 * t) > 0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle under the name of the shipped one."""
    folder = tmp_path_factory.mktemp("models")
    make_bundle(folder / "tunelab-v1", layers=1)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the guide takes for granted: ``music``, and the tables beside it."""
    rng = np.random.default_rng(0)
    music = tmp_path / "music"
    music.mkdir()
    tables: dict[str, list[list[str]]] = {"labels": [["path", "label"]], "moods": [["path", "label"]]}
    tables["decades"] = [["path", "label", "group"]]
    for number in range(24):
        kind = number % 3
        path = f"music/{number:02}.wav"
        soundfile.write(tmp_path / path, clip(kind, rng), RATE)
        tables["labels"].append([path, CLASSES[kind]])
        tables["decades"].append([path, ("1990s", "2010s")[kind > 0], f"artist {number // 6}.{kind}"])
        tables["moods"].append([path, ("calm|night", "night", "")[kind]])
    for name, rows in tables.items():
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    soundfile.write(music / "new.mp3", clip(0, rng), RATE, format="WAV")
    return tmp_path


@dataclass
class Site:
    """A running service: its address, a key, and the analyser behind it."""

    url: str
    key: str
    analyzer: Analyzer


@pytest.fixture
def site(
    database: URL,  # noqa: F811
    session: Session,  # noqa: F811
    models: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Site]:
    """The service on a socket, with the small bundle in its own process."""
    monkeypatch.setattr(classifier_jobs, "TIMING", Timing(poll_s=0.2))
    key = create_account(session, "guide", tier="pro", credits=1000)[1]
    session.commit()
    analyzer = load(models / "tunelab-v1", engine="torch")
    started, found = threading.Event(), {}
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def main() -> None:
        app = create_app(
            lambda: LocalPipeline(analyzer), settings_for(database, tmp_path_factory.mktemp("data"), max_upload_mb=5)
        )
        async with app.router.lifespan_context(app), on_a_socket(app) as port:
            found["url"] = f"http://127.0.0.1:{port}"
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    assert started.wait(30)
    yield Site(found["url"], key, analyzer)
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def batch_output(analyzer: Analyzer, music: Path, out: Path) -> Path:
    """What ``tunelab batch music`` writes."""
    outcomes = list(analyzer.analyze_many(sorted(music.iterdir())))
    analyses = [outcome.analysis for outcome in outcomes if outcome.analysis is not None]
    rows = rows_of(
        [outcome.path for outcome in outcomes],
        [analysis.embedding.astype(np.float16) for analysis in analyses],
        path=[outcome.path for outcome in outcomes],
        model=analyzer.bundle.name,
        revision=analyzer.bundle.revision,
    )
    return write_output(out, rows)


def environment(site: Site, models: Path, folder: Path, scratch: Path) -> dict[str, str]:
    """Where ``tunelab`` is the one above, and ``python`` as it is where TuneLab is installed."""
    profiles = batch_output(site.analyzer, folder / "music", scratch / "profiles")
    here = Path(sys.executable).parent
    (scratch / "bin").mkdir()
    (scratch / "bin" / "tunelab").write_text(TUNELAB.format(profiles=profiles, tunelab=here / "tunelab"))
    (scratch / "bin" / "tunelab").chmod(0o755)
    return {
        **os.environ,
        "URL": site.url,
        "KEY": site.key,
        "PATH": os.pathsep.join([str(scratch / "bin"), str(here), os.environ["PATH"]]),
        "TUNELAB_MODELS_DIR": str(models),
        "XDG_CACHE_HOME": str(scratch / "cache"),
    }


@pytest.mark.skipif(shutil.which("curl") is None, reason="the guide uses curl")
def test_every_command(site: Site, models: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = environment(site, models, folder, tmp_path_factory.mktemp("scratch"))
    said = []
    for language, code in BLOCK.findall(GUIDE.read_text()):
        if language == "csv":
            continue
        program = [sys.executable, "-c", code] if language == "python" else ["bash", "-euo", "pipefail", "-c", code]
        done = subprocess.run(program, cwd=folder, env=settings, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout)

    state = json.loads((folder / "genre.json").read_text())
    assert (state["status"], sorted(state["report"]["classes"])) == ("ready", sorted(CLASSES))
    assert state["report"]["accuracy"]["value"] > state["report"]["baseline"]["accuracy"]
    predicted = next(json.loads(text) for text in said if '"predictions"' in text)
    assert predicted["predictions"][0]["label"] == "lo-fi"
    assert predicted["unknown"] == []
    assert any(re.search(r"^music/new\.mp3  lo-fi [01]\.\d\d$", text, re.MULTILINE) for text in said)
    assert json.loads((folder / "report.json").read_text())["n"] == state["report"]["n"]
    assert imread(folder / "genre.png").ndim == 3
    assert Classifier.load(folder / "decade.safetensors").classes == ("1990s", "2010s")
    with (folder / "decades-of-all.csv").open() as file:
        rows = {Path(row["path"]).name: row["label"] for row in csv.DictReader(file)}
    assert (len(rows), rows["new.mp3"], rows["01.wav"]) == (25, "1990s", "2010s")
    moods = [json.loads(line) for text in said for line in text.splitlines() if '"labels"' in line]
    assert {Path(mood["path"]).name: mood["labels"] for mood in moods}["new.mp3"] == ["calm", "night"]
    assert set(json.loads(said[-1].replace("'", '"'))) == set(CLASSES)


def test_languages_are_those_that_are_run() -> None:
    assert {language for language, _ in BLOCK.findall(GUIDE.read_text())} == {"bash", "python", "csv"}
    assert len(blocks("bash", "python")) >= 8


def test_tables_of_the_guide_can_be_read(tmp_path: Path) -> None:
    from tunelab.classifier.labels import read_labels

    kinds = []
    for number, code in enumerate(blocks("csv")):
        table = tmp_path / f"{number}.csv"
        table.write_text(code)
        kinds.append(read_labels(table, ("id", "path")).kind)
    assert kinds == ["multiclass", "multiclass", "multilabel"]
