"""Commands of the card: what rendered the clips, and what a refit adds and replaces."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tunelab.errors import SettingsError
from tunelab.training.clips import stamp
from tunelab.training.kinds import KIND_WEIGHTS
from tunelab.training.steps import made_up, rendered_by, steps, steps_again

BEFORE = ["tunelab corpus build CORPUS", "tunelab bundle CORPUS", "tunelab evaluate --bundle models/b"]
MUSIC = {"music": {"files": 12}, "speech": {"files": 3}}


def again(commands: list[str], heads: list[str], version: str) -> list[str]:
    learnt = {"heads": heads, "clips": 7, "corpus": MUSIC}
    return steps_again(commands, learnt, [f"tunelab clips CORPUS --seed {version}"], "b", version)


def block(heads: str, version: str) -> list[str]:
    return [
        "# some heads anew, in an empty CORPUS/clips: 7 training clips of a corpus with 12 of music, 3 of speech",
        f"tunelab clips CORPUS --seed {version}",
        "tunelab tag CORPUS",
        f"tunelab refit CORPUS --bundle models/b --heads {heads} --version {version}",
    ]


def test_a_refit_comes_before_what_measures() -> None:
    assert again(BEFORE, ["energy"], "2") == [*BEFORE[:2], *block("energy", "2"), BEFORE[2]]


def test_a_refit_replaces_an_earlier_one_of_its_heads_and_no_other() -> None:
    once = again(again(BEFORE, ["energy", "happiness"], "2"), ["speechiness"], "3")
    assert once == [*BEFORE[:2], *block("energy,happiness", "2"), *block("speechiness", "3"), BEFORE[2]]
    # Happiness is still that of version 2 here.
    assert again(once, ["energy", "speechiness"], "4") == [
        *BEFORE[:2],
        *block("energy,happiness", "2"),
        *block("energy,speechiness", "4"),
        BEFORE[2],
    ]
    assert again(once, ["happiness", "energy"], "4") == [
        *BEFORE[:2],
        *block("speechiness", "3"),
        *block("happiness,energy", "4"),
        BEFORE[2],
    ]


def test_what_was_made_up_tells_how_much_was_asked_for(tmp_path: Path) -> None:
    assert made_up(tmp_path) == []
    names = (
        "rendered-acoustic-0/000.flac",
        "rendered-electronic-1/049.flac",
        "rendered-mixed-grooves-2/0089.flac",
        "synthetic-singers-kal-diphone/11-minor-0029.wav",
        "synthetic-singers-kal-diphone/usr/share/doc/kal/recorded-1999.txt",
        "heroes-music/0999.flac",
    )
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    made = made_up(tmp_path)
    assert made == [
        "tunelab corpus scores CORPUS --count 50",
        "tunelab corpus grooves CORPUS --count 90",
        "tunelab corpus songs CORPUS --count 30",
    ]
    facts = {"config": {"init": "", "minutes": 5.0}, "clips": 7}
    commands = steps(facts, made, ["tunelab clips CORPUS"], "run1", "b", "1")
    at = commands.index("tunelab corpus build CORPUS")
    assert commands[at + 1 : at + 5] == [*made, "tunelab corpus list CORPUS"]
    assert commands[at + 6] == "tunelab clips CORPUS"


def write(folder: Path, name: str, metadata: dict[str, str], count: int = 1) -> None:
    save_file({"known": np.zeros((count, 4), np.float32)}, folder / f"{name}.safetensors", metadata)


def test_clips_tell_the_commands_that_rendered_them(tmp_path: Path) -> None:
    for name, count in (
        ("heldout-0041-0000", 3),
        ("train-0041-0000", 64),
        ("train-0041-0001", 5),
        ("train-0042-0000", 7),
        ("heldout-0043-0000", 2),
    ):
        write(tmp_path, name, stamp(KIND_WEIGHTS), count)
    write(tmp_path, "train-0009-0000", stamp({"music": 0.7, "layered": 0.3}), 8)
    write(tmp_path, "heldout-0009-0000", stamp(KIND_WEIGHTS), 4)
    assert rendered_by(tmp_path) == [
        "tunelab clips CORPUS --seed 9 --count 0 --heldout-count 4",
        "tunelab clips CORPUS --seed 9 --count 8 --heldout-count 0 --kinds music=0.7,layered=0.3",
        "tunelab clips CORPUS --seed 41 --count 69 --heldout-count 3",
        "tunelab clips CORPUS --seed 42 --count 7 --heldout-count 0",
        "tunelab clips CORPUS --seed 43 --count 0 --heldout-count 2",
    ]


@pytest.mark.parametrize("metadata", [{}, {**stamp(), "front_end": "{}"}], ids=["unstamped", "another"])
def test_clips_of_another_front_end_are_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    write(tmp_path, "train-0001-0000", metadata)
    with pytest.raises(SettingsError, match=r"train-0001-0000\.safetensors was rendered with another mel front end"):
        rendered_by(tmp_path)
