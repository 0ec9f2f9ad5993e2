"""``tunelab classifier``: from tables and embeddings to a file, and from the file to classes."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from tests.classifier.support import made
from tests.cli.conftest import Command
from tests.similarity.support import failed_rows, rows_of, write_output
from tunelab.classifier import Classifier
from tunelab.encoder.bundle import Bundle

TUNELAB = Path(sys.executable).with_name("tunelab")
ON_TORCH = ("--engine", "torch")


@pytest.fixture(scope="module")
def array(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A table and an array in the same order: 60 tracks of three classes that are told easily."""
    folder = tmp_path_factory.mktemp("array")
    embeddings, truth, _ = made(60, 3, distance=2.0)
    np.save(folder / "e.npy", embeddings)
    rows = [f"{number}.mp3,{('lo-fi', 'drill', 'phonk')[value]}" for number, value in enumerate(truth)]
    (folder / "labels.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    return folder / "labels.csv", folder / "e.npy"


@pytest.fixture(scope="module")
def trained(command: Command, array: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "genre.safetensors"
    command("classifier", "train", array[0], "--embeddings", array[1], "--out", out, "--bundle", "small-v1")
    return out


def refused(command: Command, *arguments: str | Path) -> str:
    """The message of the error that the command ends with."""
    return str(command("classifier", *arguments, code=1).exception)


def test_train_tells_how_good_it_is(command: Command, array: tuple[Path, Path], tmp_path: Path, models: Path) -> None:
    out, plot, report = (tmp_path / name for name in ("g.safetensors", "g.png", "g.json"))
    asked = ("train", array[0], "--embeddings", array[1], "--out", out, "--bundle", "small-v1")
    result = command("classifier", *asked, "--plot", plot, "--report", report)
    assert re.search(r"^drill +\d+ +\d+  1\.00 \[1\.00, 1\.00\]", result.stdout, re.MULTILINE)
    assert "accuracy          1.00 [1.00, 1.00]" in result.stdout
    assert re.search(r"always '[a-z-]+': 0\.\d\d, macro F1 0\.\d\d", result.stdout)
    figures = json.loads(report.read_text())
    assert (figures["model"], figures["revision"]) == ("small-v1", Bundle.open(models / "small-v1").revision)
    assert imread(plot).shape[0] > 300
    first = out.read_bytes()
    assert Classifier.from_bytes(first).classes == ("drill", "lo-fi", "phonk")
    command("classifier", *asked)
    assert out.read_bytes() == first


def test_predict_from_an_array_in_each_format(command: Command, array: tuple[Path, Path], trained: Path) -> None:
    asked = ("classifier", "predict", trained, "--embeddings", array[1])
    truth = [row["label"] for row in csv.DictReader(io.StringIO(array[0].read_text()))]
    lines = [json.loads(line) for line in command(*asked, "-f", "jsonl").stdout.splitlines()]
    assert [line["label"] for line in lines] == truth
    assert [line["row"] for line in lines] == list(range(60))
    assert json.loads(command(*asked, "-f", "json").stdout) == lines
    rows = list(csv.DictReader(io.StringIO(command(*asked, "-f", "csv").stdout)))
    assert list(rows[0]) == ["row", "label", "p(drill)", "p(lo-fi)", "p(phonk)", "error_code", "error"]
    assert [row["label"] for row in rows] == truth
    assert float(rows[0][f"p({truth[0]})"]) == lines[0]["probabilities"][truth[0]] > 0.5
    table = command(*asked).stdout.splitlines()
    assert len(table) == 60
    assert re.fullmatch(rf"0 +{truth[0]} [01]\.\d\d", table[0])


def test_from_a_batch_job_and_back(command: Command, tmp_path: Path) -> None:
    embeddings, truth, _ = made(48, 2, distance=2.0)
    names = [f"n{number}" for number in range(48)]
    rows = rows_of(names, embeddings.astype(np.float16))
    catalogue = write_output(tmp_path / "catalogue", rows.slice(0, 30), rows.slice(30), failed_rows(["broken"]))
    table = tmp_path / "decades.csv"
    labels = [
        f"/music/{name}.mp3,{1980 + 10 * value}s|{'old' * (1 - value)}"
        for name, value in zip(names, truth, strict=True)
    ]
    table.write_text("path,label\n" + "\n".join(labels) + "\n/music/broken.mp3,1990s\n/music/elsewhere.mp3,1980s\n")
    out, report = tmp_path / "decades.safetensors", tmp_path / "decades.json"
    asked = ("classifier", "train", table, "--embeddings", catalogue, "--out", out, "--report", report)
    result = command(*asked)
    told = "left out: 2 of 50 labelled tracks, which have no embedding: /music/broken.mp3, /music/elsewhere.mp3\n"
    assert result.stderr == told
    assert json.loads(report.read_text())["left_out"] == 2
    loaded = Classifier.load(out)
    assert (loaded.kind, loaded.classes) == ("multilabel", ("1980s", "1990s", "old"))
    assert (loaded.model, loaded.revision) == ("fake-v1", "1")
    answers = [
        json.loads(line)
        for line in command("classifier", "predict", out, "--embeddings", catalogue, "-f", "jsonl").stdout.splitlines()
    ]
    assert len(answers) == 48
    assert {answer["path"]: answer["labels"] for answer in answers} == {
        f"/music/{name}.mp3": ["1990s"] if value else ["1980s", "old"] for name, value in zip(names, truth, strict=True)
    }
    assert set(answers[0]) == {"path", "id", "labels", "probabilities"}
    # The same tracks by their content give the same file.
    ids = [f"{rows['id'][number]},{line.partition(',')[2]}" for number, line in enumerate(labels)]
    table.write_text("id,label\n" + "\n".join(ids) + "\n")
    first = out.read_bytes()
    command(*asked)
    assert out.read_bytes() == first
    other = write_output(tmp_path / "other", rows_of(["x"], revision="2"))
    message = refused(command, "predict", out, "--embeddings", other)
    assert "reads embeddings of fake-v1, revision 1; these are of fake-v1, revision 2" in message
    mixed = write_output(
        tmp_path / "mixed", rows.slice(0, 24), rows_of(names[24:], rows["embedding"].to_pylist()[24:], revision="2")
    )
    table.write_text("path,label\n" + "\n".join(labels) + "\n")
    assert "of several models" in refused(command, "train", table, "--embeddings", mixed, "--out", out)


def test_paths_from_another_folder(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, truth, _ = made(24, 2, distance=2.0)
    paths = [str(tmp_path / "music" / f"{number}.mp3") for number in range(24)]
    catalogue = write_output(tmp_path / "catalogue", rows_of(paths, embeddings.astype(np.float16), path=paths))
    table = tmp_path / "labels.csv"
    table.write_text("path,label\n" + "".join(f"music/{number}.mp3,c{value}\n" for number, value in enumerate(truth)))
    out = tmp_path / "x.safetensors"
    monkeypatch.chdir(tmp_path)
    assert command("classifier", "train", table, "--embeddings", catalogue, "--out", out).stderr == ""


def test_audio_is_analysed_with_the_same_bundle(
    command: Command, trained: Path, music: Path, models: Path, tmp_path: Path
) -> None:
    result = command("classifier", "predict", trained, music, *ON_TORCH, "-f", "jsonl", code=1)
    good, other, broken = (json.loads(line) for line in result.stdout.splitlines())
    assert [Path(item["path"]).name for item in (good, other, broken)] == ["a.flac", "b [live].ogg", "broken.mp3"]
    assert good["label"] in good["probabilities"]
    assert broken["error"]["code"] == "audio_unsupported"
    table = command("classifier", "predict", trained, music / "a.flac", *ON_TORCH).stdout
    assert re.fullmatch(rf"{re.escape(str(music / 'a.flac'))}  {good['label']} [01]\.\d\d\n", table)
    rows = list(
        csv.DictReader(
            io.StringIO(command("classifier", "predict", trained, music, *ON_TORCH, "-f", "csv", code=1).stdout)
        )
    )
    assert (rows[2]["label"], rows[2]["error_code"]) == ("", "audio_unsupported")
    # A bundle needs no heads for this, and another one is told apart by its files.
    changed = tmp_path / "small-v1"
    shutil.copytree(models / "small-v1", changed)
    (changed / "heads.safetensors").unlink()
    message = refused(command, "predict", trained, music, "--bundle", changed)
    assert "train it again" in message
    assert Bundle.open(changed).revision in message


def test_what_makes_no_sense(command: Command, array: tuple[Path, Path], trained: Path, tmp_path: Path) -> None:
    table, embeddings = array
    out = tmp_path / "x.safetensors"
    asked = ("train", table, "--bundle", "small-v1", "--out", out, "--embeddings")
    (tmp_path / "text.npy").write_text("not an array")
    np.save(tmp_path / "pickled.npy", np.array([{}]), allow_pickle=True)
    np.save(tmp_path / "flat.npy", np.zeros(60, np.float32))
    np.save(tmp_path / "whole.npy", np.zeros((60, 8), np.int64))
    np.save(tmp_path / "short.npy", np.zeros((59, 768), np.float32))
    for name, message in (
        ("missing.npy", r"cannot be read: No such file"),
        ("text.npy", "no array of NumPy's"),
        ("pickled.npy", "no array of NumPy's"),
        ("flat.npy", "floating-point numbers, one row"),
        ("whole.npy", "floating-point numbers, one row"),
        ("short.npy", "has 59 rows and the labels have 60"),
        (".", "is not the output of a batch job"),
    ):
        assert re.search(message, refused(command, *asked, tmp_path / name)), name
    assert "no model bundle" in refused(
        command, "train", table, "--out", out, "--embeddings", embeddings, "--bundle", "no"
    )
    (tmp_path / "few.csv").write_text("row,label\n0,a\n1,b\n2,a\n59,b\n99,b\n")
    result = command("classifier", "train", tmp_path / "few.csv", *asked[2:], embeddings, code=1)
    assert "every class needs at least 4 tracks" in str(result.exception)
    assert result.stderr == "left out: 1 of 5 labelled tracks, which have no embedding: 99\n"
    (tmp_path / "odd.csv").write_text("row,label\n-1,a\n")
    assert "'-1' is no row" in refused(command, "train", tmp_path / "odd.csv", *asked[2:], embeddings)
    assert not out.exists()
    assert "no classifier" in refused(command, "predict", embeddings, "--embeddings", embeddings)
    np.save(tmp_path / "narrow.npy", np.zeros((3, 5), np.float32))
    assert "embeddings of 768" in refused(command, "predict", trained, "--embeddings", tmp_path / "narrow.npy")
    for arguments in (
        ("train", table, "--embeddings", embeddings, "--out", tmp_path / "nowhere" / "x"),
        ("predict", trained),
        ("predict", trained, table, "--embeddings", embeddings),
        ("predict", trained, table, "--format", "xml"),
        ("predict", trained, table, "--engine", "abacus"),
    ):
        command("classifier", *arguments, code=2)
    assert "no audio file" in command("classifier", "predict", trained, tmp_path, code=1).stderr


def test_one_line_tells_what_was_wrong(array: tuple[Path, Path], tmp_path: Path) -> None:
    command: list[Any] = [TUNELAB, "classifier", "predict", array[0], "--embeddings", array[1]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: the file is no classifier: not safetensors, or with too large a header\n"


def test_a_reader_that_has_seen_enough(array: tuple[Path, Path], trained: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", np.tile(np.load(array[1]), (200, 1)))
    command = f"{TUNELAB} classifier predict {trained} --embeddings {tmp_path / 'many.npy'} -f jsonl | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["row"] == 0
