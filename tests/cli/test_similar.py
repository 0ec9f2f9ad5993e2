"""``tunelab similar``: where it starts from, and in each format."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Command
from tests.similarity.support import content_id_of, embeddings_of, rows_of, write_output
from tunelab.analyzer import load
from tunelab.errors import CatalogError, UnsupportedAudio
from tunelab.types import HEADS, content_id

SMALL = ("--bundle", "small-v1", "--engine", "torch")
NAMES = [f"track {number}" for number in range(30)]
_TUNELAB = Path(sys.executable).with_name("tunelab")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, models: Path, music: Path) -> Path:
    """Thirty tracks of the small bundle's revision; the last is nearest to ``a.flac``, and one is ``b [live].ogg``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNELAB_MODELS_DIR", str(models))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        analyzer = load("small-v1", engine="torch")
        nearest = analyzer.embed(music / "a.flac")
    vectors = embeddings_of(30)
    vectors[29] = nearest.astype(np.float16)
    ids = [content_id_of(name) for name in NAMES]
    ids[3] = content_id((music / "inner" / "b [live].ogg").read_bytes())
    rows = rows_of(NAMES, vectors, id=ids, model="small-v1", revision=analyzer.bundle.revision)
    return write_output(tmp_path_factory.mktemp("out"), rows)


def paths(result: object) -> list[str]:
    return [record["path"] for record in json.loads(result.stdout)]  # type: ignore[attr-defined]


def test_path_and_id_of_the_output_are_the_same_track(command: Command, output: Path) -> None:
    by_path = command("similar", "/music/track 5.mp3", "--in", output, "-f", "json")
    by_id = command("similar", content_id_of("track 5"), "--in", output, "-f", "json")
    assert by_path.stdout == by_id.stdout
    assert len(paths(by_path)) == 10
    vectors = embeddings_of(30).astype(np.float64)
    cosine = vectors @ vectors[5] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[5])
    best = sorted(set(range(29)) - {5}, key=lambda number: -cosine[number])
    without_file = [path for path in paths(by_path) if path != "/music/track 29.mp3"]
    assert without_file == [f"/music/{NAMES[number]}.mp3" for number in best[: len(without_file)]]


def test_file_that_is_not_in_the_output_is_analysed(command: Command, output: Path, music: Path) -> None:
    result = command("similar", music / "a.flac", "--in", output, "-k", "3", *SMALL, "-f", "json")
    records = json.loads(result.stdout)
    assert records[0]["path"] == "/music/track 29.mp3"
    assert records[0]["similarity"] == pytest.approx(1, abs=0.01)
    assert len(records) == 3


def test_file_that_is_in_the_output_is_not_analysed_again(command: Command, output: Path, music: Path) -> None:
    file = music / "inner" / "b [live].ogg"
    # There is no such bundle, so it cannot have been.
    found = command("similar", file, "--in", output, "--bundle", "none", "-f", "json")
    assert found.stdout == command("similar", "/music/track 3.mp3", "--in", output, "-f", "json").stdout


def test_formats(command: Command, output: Path) -> None:
    arguments = ("similar", "/music/track 5.mp3", "--in", output, "-k", "4")
    records = json.loads(command(*arguments, "-f", "json").stdout)
    assert list(records[0]) == ["path", "id", "similarity", *HEADS, "duration_s"]
    lines = command(*arguments, "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == records
    rows = list(csv.DictReader(io.StringIO(command(*arguments, "-f", "csv").stdout)))
    assert [{name: str(value) for name, value in record.items()} for record in records] == rows
    heading, *table = command(*arguments).stdout.splitlines()
    assert heading.split() == ["similarity", "energy", "dance", "happy", "acoust", "instr", "speech", "file"]
    for record, line in zip(records, table, strict=True):
        cells = [f"{record['similarity']:.4f}", *(str(record[head]) for head in HEADS)]
        assert line.split()[:7] == cells
        assert line.endswith(f"  {record['path']}")


def test_filters(command: Command, output: Path) -> None:
    arguments = ("similar", "/music/track 5.mp3", "--in", output, "-k", "30", "-f", "json")
    everything = json.loads(command(*arguments).stdout)
    wanted = [track for track in everything if 20 <= track["energy"] <= 80 and track["happiness"] >= 40]
    assert 0 < len(wanted) < 20
    result = command(*arguments, "--filter", "energy=20..80", "--filter", "happiness=40..")
    assert json.loads(result.stdout) == wanted
    nothing = ("--filter", "energy=..0", "--filter", "happiness=100..")
    assert json.loads(command(*arguments, *nothing).stdout) == []
    assert command(*arguments[:-2], *nothing).stderr == "none\n"


@pytest.mark.parametrize(
    "options",
    [
        ("--filter", "energy=70..60"),
        ("--filter", "tempo=60..100"),
        ("--filter", "energy"),
        ("--filter", "energy=1..", "--filter", "energy=..9"),
        ("-k", "0"),
        ("-f", "xml"),
        ("--engine", "onnx"),
    ],
)
def test_options_that_make_no_sense(command: Command, output: Path, options: tuple[str, ...]) -> None:
    assert options[0] in command("similar", "x", "--in", output, *options, code=2).stderr.replace("'", "")


def test_what_cannot_be_searched(command: Command, output: Path, music: Path, tmp_path: Path, models: Path) -> None:
    result = command("similar", "nowhere.mp3", "--in", output, code=1)
    assert isinstance(result.exception, CatalogError)
    assert "neither a row nor a file" in result.exception.message
    broken = command("similar", music / "inner" / "broken.mp3", "--in", output, *SMALL, code=1)
    assert isinstance(broken.exception, UnsupportedAudio)
    assert isinstance(command("similar", "x", "--in", tmp_path, code=1).exception, CatalogError)
    other = write_output(tmp_path / "other", rows_of(NAMES))
    result = command("similar", music / "a.flac", "--in", other, *SMALL, code=1)
    assert isinstance(result.exception, CatalogError)
    assert "revision 1, which do not compare with those of small-v1" in result.exception.message


def test_an_error_is_one_line(output: Path) -> None:
    arguments = [_TUNELAB, "similar", "nowhere.mp3", "--in", output]
    result = subprocess.run(arguments, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: there is neither a row nor a file of that name")
    assert result.stderr.count("\n") == 1


def test_names_are_printed_as_they_can_be(command: Command, tmp_path: Path) -> None:
    rows = rows_of(NAMES[:2], path=["/music/evil\x1b[31m.mp3", "/music/b.mp3"])
    folder = write_output(tmp_path / "out", rows)
    assert "\x1b" not in command("similar", "/music/b.mp3", "--in", folder).stdout
    assert paths(command("similar", "/music/b.mp3", "--in", folder, "-f", "json")) == ["/music/evil\x1b[31m.mp3"]
