"""``tunelab analyze`` in each format, and what it does with files that fail."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from rich.cells import cell_len

from tests.cli.conftest import Command
from tunelab.analyzer import Outcome
from tunelab.audio.limits import DecodeLimits
from tunelab.cli import analyze
from tunelab.cli.analyze import find_files
from tunelab.cli.output import FORMATS, make_writer
from tunelab.errors import CorruptAudio
from tunelab.types import HEADS, Analysis

_TUNELAB = Path(sys.executable).with_name("tunelab")
SMALL = ("--bundle", "small-v1", "--engine", "torch")


def test_folders_are_searched_and_names_are_taken_as_they_are(music: Path) -> None:
    found = list(find_files([music]))
    assert [path.name for path in found] == ["a.flac", "b [live].ogg", "broken.mp3"]
    assert list(find_files([music / "notes.txt"])) == [music / "notes.txt"]
    assert list(find_files([music / "a.flac", music])) == found  # each once


def test_table(command: Command, music: Path) -> None:
    result = command("analyze", *SMALL, music / "a.flac", music / "inner" / "b [live].ogg")
    assert "b [live].ogg" in result.stdout
    assert result.stdout.splitlines()[0].split() == ["file", "energy", "dance", "happy", "acoust", "instr", "speech"]


def _outcome(path: str, score: float = 1.0) -> Outcome:
    analysis = Analysis(
        scores=dict.fromkeys(HEADS, score), embedding=np.zeros(768, np.float32), duration_s=1.0, model="small-v1"
    )
    return Outcome(path, analysis, None)


def _printed(format: str, *outcomes: Outcome, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    writer = make_writer(format, HEADS, "small-v1", out)
    for outcome in outcomes:
        writer.write(outcome)
    writer.close()
    out.flush()
    return raw.getvalue().decode(encoding)


LONG = "/home/someone/Music/An Artist With a Long Name/An Album (2019)/07 - the end of the name.flac"
WIDE = "/音楽/" + 30 * "長い名前" + "/the end of the name.flac"


def test_table_fits_into_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    paths = ["short.mp3", LONG, WIDE]
    header, *rows = _printed("table", *(_outcome(path) for path in paths)).splitlines()
    assert header.split() == ["file", "energy", "dance", "happy", "acoust", "instr", "speech"]
    assert len(rows) == 3
    assert [cell_len(line) for line in (header, *rows)] == 4 * [80]
    for row in rows:
        assert row.split()[-6:] == 6 * ["100"]
    assert rows[0].startswith("short.mp3 ")
    for row in rows[1:]:
        assert row.startswith("…")
        assert "/the end of the name.flac  " in row.replace(" - ", "/")
    # Each score ends where its heading does.
    for word in header.split()[1:]:
        end = header.index(word) + len(word)
        assert rows[0][:end].endswith("100")


def test_names_are_whole_in_a_pipe_and_on_a_wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert LONG in _printed("table", _outcome(LONG))
    monkeypatch.setenv("COLUMNS", "200")
    assert LONG in _printed("table", _outcome(LONG))
    monkeypatch.setenv("COLUMNS", "20")
    assert _printed("table", _outcome(LONG)).splitlines()[1].startswith("…e name.flac  ")


NAMES = {"latin-1": b"\xe9t\xe9.flac", "escape": b"a\x1b[2Jb.flac"}


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("format", FORMATS)
def test_names_that_no_encoding_has(format: str, encoding: str) -> None:
    odd = [os.fsdecode(name) for name in NAMES.values()]
    error = CorruptAudio("not \udce9 good")
    printed = _printed(
        format, *map(_outcome, odd), Outcome(odd[0], None, error), _outcome("ünï.flac"), encoding=encoding
    )
    if format == "table":
        assert printed.count("\\xe9t\\xe9.flac") == 2
        assert "a\\x1b[2Jb.flac" in printed
        assert "\x1b" not in printed
        assert len(printed.splitlines()) == 5
    if format == "csv":
        rows = list(csv.DictReader(io.StringIO(printed)))
        assert [row["path"] for row in rows[:3]] == ["\\xe9t\\xe9.flac", odd[1], "\\xe9t\\xe9.flac"]
        assert rows[3]["path"] == ("ünï.flac" if encoding == "utf-8" else "\\xfcn\\xef.flac")
    if format == "json":
        assert [row["path"] for row in json.loads(printed)][:2] == odd
    if format == "jsonl":
        assert [json.loads(line)["path"] for line in printed.splitlines()][:2] == odd


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_whose_name_is_no_utf8_is_analysed(command: Command, music: Path, tmp_path: Path, format: str) -> None:
    odd = tmp_path / os.fsdecode(NAMES["latin-1"])
    try:
        odd.symlink_to(music / "a.flac")
    except OSError:
        pytest.skip("this file system has no such names")
    assert "t\\" in command("analyze", *SMALL, tmp_path, "-f", format).stdout


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


def test_embeddings_of_nothing_have_no_rows(command: Command, music: Path, tmp_path: Path) -> None:
    out = tmp_path / "embeddings.npy"
    command("analyze", *SMALL, music / "inner" / "broken.mp3", "--embeddings", out, code=1)
    embeddings = np.load(out, allow_pickle=False)
    assert embeddings.shape == (0, 768)
    assert embeddings.dtype == np.float32


def test_embeddings_onto_a_folder_are_refused_before_the_work(command: Command, music: Path, tmp_path: Path) -> None:
    assert "directory" in command("analyze", *SMALL, music, "--embeddings", tmp_path, code=2).stderr


def test_embeddings_that_cannot_be_written(command: Command, music: Path) -> None:
    result = command("analyze", *SMALL, music / "a.flac", "--embeddings", "/dev/full", code=1)
    assert "the embeddings cannot be written: No space left" in result.stderr


@pytest.mark.parametrize("format", FORMATS)
def test_embeddings_are_written_though_nobody_reads_the_output(
    music: Path, models: Path, tmp_path: Path, format: str
) -> None:
    out = tmp_path / "embeddings.npy"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [
            _TUNELAB,
            "analyze",
            *SMALL,
            "-f",
            format,
            music / "a.flac",
            music / "inner" / "b [live].ogg",
            "--embeddings",
            out,
        ],
        env={**os.environ, "TUNELAB_MODELS_DIR": str(models)},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 0
    assert np.load(out, allow_pickle=False).shape == (2, 768)


def test_limits_of_the_decoder(command: Command, music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = music / "a.flac"  # of 2 s
    assert "at most 1.5 s" in command("analyze", *SMALL, one, "--max-duration", "1.5", code=1).stdout
    command("analyze", *SMALL, one, "--max-duration", "2")
    seen = []

    def load(*_: object, limits: DecodeLimits, **__: object) -> None:
        seen.append(limits)
        raise typer.Exit(0)

    monkeypatch.setattr("tunelab.analyzer.load", load)
    for options in ((), ("--max-duration", "8000", "--timeout", "60.5")):
        command("analyze", *SMALL, one, *options)
    assert seen == [DecodeLimits(), DecodeLimits(max_duration_s=8000, timeout_s=60.5)]


def test_folder_that_cannot_be_searched_is_a_failure(
    command: Command, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, walk = music / "inner", os.walk

    def refuse(folder: Path, onerror: Callable[[OSError], object]) -> Iterator[tuple[str, list[str], list[str]]]:
        # The superuser, as whom tests may run, could read any folder.
        for root, folders, names in walk(folder, onerror=onerror):
            if closed.name in folders:
                folders.remove(closed.name)
                onerror(PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(closed)))
            yield root, folders, names

    monkeypatch.setattr(analyze.os, "walk", refuse)
    result = command("analyze", *SMALL, music, "-f", "jsonl", code=1)
    refused, good = (json.loads(line) for line in result.stdout.splitlines())
    assert refused == {"path": str(closed), "error": {"code": "file_unreadable", "message": "Permission denied"}}
    assert Path(good["path"]).name == "a.flac"
    assert "1 of 2 files failed" in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may enter any folder")
def test_file_in_a_folder_that_may_not_be_entered(command: Command, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    try:
        assert "Permission denied" in command("analyze", *SMALL, closed / "a.mp3", code=1).stdout
        assert "Permission denied" in command("analyze", *SMALL, tmp_path, code=1).stdout
    finally:
        closed.chmod(0o700)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--max-duration", "0"), 2, "--max-duration"),
        (("--max-duration", "nan"), 2, "--max-duration"),
        (("--timeout", "inf"), 2, "finite"),
        (("--timeout", "-1"), 2, "--timeout"),
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
    environment = {**os.environ, "TUNELAB_MODELS_DIR": str(models)}
    failed = subprocess.run(
        [_TUNELAB, "analyze", "--bundle", "nowhere", music / "a.flac"], env=environment, capture_output=True, text=True
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: no model bundle named 'nowhere'")
    assert "Traceback" not in failed.stderr
    version = subprocess.run([_TUNELAB, "--version"], env=environment, capture_output=True, text=True)
    assert version.stdout.startswith("tunelab ")
    piped = subprocess.run(
        ["sh", "-c", f"'{_TUNELAB}' analyze {' '.join(SMALL)} -f jsonl '{music}' | head -c 1"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert piped.stdout == "{"
    assert "Traceback" not in piped.stderr
