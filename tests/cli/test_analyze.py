"""``tunelab analyze`` in each format, and what it does with files that fail."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Command
from tunelab.cli.analyze import find_files
from tunelab.types import HEADS

SMALL = ("--bundle", "small-v1", "--engine", "torch")


def test_folders_are_searched_and_names_are_taken_as_they_are(music: Path) -> None:
    found = list(find_files([music]))
    assert [path.name for path in found] == ["a.flac", "b [live].ogg", "broken.mp3"]
    assert list(find_files([music / "notes.txt"])) == [music / "notes.txt"]
    assert list(find_files([music / "a.flac", music])) == found  # each once


def test_table(command: Command, music: Path) -> None:
    result = command("analyze", *SMALL, music / "a.flac", music / "inner" / "b [live].ogg")
    assert "b [live].ogg" in result.stdout
    for head in HEADS:
        assert head in result.stdout


def test_one_bad_file_is_told_and_the_others_are_done(command: Command, music: Path) -> None:
    result = command("analyze", *SMALL, music, code=1)
    assert "a.flac" in result.stdout
    failures = [line for line in result.stdout.splitlines() if line.startswith("failed: ")]
    assert len(failures) == 1
    assert "broken.mp3: " in failures[0]


def test_json_lines_and_json_say_the_same(command: Command, music: Path) -> None:
    lines = command("analyze", *SMALL, music, "--format", "jsonl", code=1)
    rows = [json.loads(line) for line in lines.stdout.splitlines()]
    assert rows == json.loads(command("analyze", *SMALL, music, "--format", "json", code=1).stdout)
    assert "1 of 3 files failed" in lines.stderr
    good, _, bad = rows
    assert list(good) == ["path", *HEADS, "duration_s", "model"]
    assert all(isinstance(good[head], int) for head in HEADS)
    assert good["duration_s"] == 2.0
    assert good["model"] == "small-v1"
    assert bad["error"]["code"].startswith("audio_")


def test_csv_has_a_row_for_every_file(command: Command, music: Path) -> None:
    missing = music / "missing.wav"
    result = command("analyze", *SMALL, music, missing, "-f", "csv", code=1)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [Path(row["path"]).name for row in rows] == ["a.flac", "b [live].ogg", "broken.mp3", "missing.wav"]
    assert [row["error_code"] != "" for row in rows] == [False, False, True, True]
    assert rows[3]["error_code"] == "file_unreadable"
    assert rows[3]["energy"] == ""


def test_embeddings_are_the_rows_that_did_not_fail(command: Command, music: Path, tmp_path: Path) -> None:
    out = tmp_path / "embeddings.npy"
    command("analyze", *SMALL, music, "--embeddings", out, code=1)
    embeddings = np.load(out, allow_pickle=False)
    assert embeddings.shape == (2, 768)
    assert embeddings.dtype == np.float32
    assert not np.array_equal(embeddings[0], embeddings[1])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--format", "xml"), 2, "choose from table"),
        (("--engine", "magic"), 2, "choose from auto"),
        (("--embeddings", "/no/such/folder/x.npy"), 2, "does not exist"),
    ],
)
def test_wrong_options(command: Command, music: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    assert message in command("analyze", music, *arguments, code=code).stderr


def test_a_folder_without_audio_is_an_error(command: Command, tmp_path: Path) -> None:
    assert "no audio file" in command("analyze", tmp_path, code=1).stderr


def test_program_with_an_error_of_ours_and_with_a_reader_that_leaves(music: Path, models: Path) -> None:
    """As a program of its own: one line for an error, and silence when `head` has read enough."""
    tunelab = Path(sys.executable).with_name("tunelab")
    environment = {**os.environ, "TUNELAB_MODELS_DIR": str(models)}
    failed = subprocess.run(
        [tunelab, "analyze", "--bundle", "nowhere", music / "a.flac"], env=environment, capture_output=True, text=True
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: no model bundle named 'nowhere'")
    assert "Traceback" not in failed.stderr
    version = subprocess.run([tunelab, "--version"], env=environment, capture_output=True, text=True)
    assert version.stdout.startswith("tunelab ")
    piped = subprocess.run(
        ["sh", "-c", f"'{tunelab}' analyze {' '.join(SMALL)} -f jsonl '{music}' | head -c 1"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert piped.stdout == "{"
    assert "Traceback" not in piped.stderr
