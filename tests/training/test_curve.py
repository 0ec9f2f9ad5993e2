"""The curve of a run, as it is written: still growing, begun anew, gone on from a checkpoint."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from typer.testing import CliRunner

from tunelab.cli import app
from tunelab.errors import SettingsError
from tunelab.training.curve import draw_curve, read_curve

HEADER = "step,seconds,layers,loss\n"


def _rows(first: int, last: int, loss: float = 2.0, layers: int = 2) -> str:
    return "".join(f"{step},{step / 2},{layers},{loss}\n" for step in range(first, last + 1))


def _run(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "curve.csv").write_text(text)
    return folder


def test_an_unfinished_line_is_left_out(tmp_path: Path) -> None:
    curve = read_curve(_run(tmp_path, HEADER + _rows(1, 5) + "6,3.0,2,1"))
    assert curve.step.tolist() == [1, 2, 3, 4, 5]
    assert curve.seconds[-1] == 2.5


def test_after_a_checkpoint_the_later_steps_count(tmp_path: Path) -> None:
    curve = read_curve(_run(tmp_path, HEADER + _rows(1, 8, loss=2.0) + _rows(6, 7, loss=1.0)))
    assert curve.step.tolist() == list(range(1, 8))
    assert curve.loss.tolist() == [2.0] * 5 + [1.0] * 2


def test_a_run_that_began_anew(tmp_path: Path) -> None:
    curve = read_curve(_run(tmp_path, HEADER + _rows(1, 8) + HEADER + _rows(1, 2, loss=1.5)))
    assert (curve.step.tolist(), curve.loss.tolist()) == ([1, 2], [1.5, 1.5])


@pytest.mark.parametrize("text", ["", HEADER, HEADER + "1,0.5,2,nan\n", "no table\nat all\n"])
def test_nothing_to_draw(text: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no step"):
        draw_curve(_run(tmp_path / "run", text))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["curve.csv"]


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no curve\.csv") as caught:
        read_curve(tmp_path / "nowhere")
    assert str(tmp_path) not in caught.value.message


def test_smoothing_is_geometric_and_keeps_its_length(tmp_path: Path) -> None:
    # Batches of two kinds in turn, as they are.
    text = HEADER + "".join(f"{step},{step},2,{4.0 if step % 2 else 1.0}\n" for step in range(1, 201))
    smoothed = read_curve(_run(tmp_path, text)).smoothed()
    assert smoothed.shape == (200,)
    np.testing.assert_allclose(smoothed[20:-20], 2.0, rtol=0.05)


def test_growth_is_told(tmp_path: Path) -> None:
    curve = read_curve(_run(tmp_path, HEADER + _rows(1, 5) + _rows(6, 9, layers=4) + _rows(10, 12, layers=6)))
    assert curve.growth() == [(6, 4), (10, 6)]
    assert "6 blocks" in str(curve)


def _orange(picture: Path) -> int:
    """Pixels in about the colour that marks growth."""
    colours = matplotlib.image.imread(picture)[..., :3]
    return int((np.abs(colours - np.array([0xD5, 0x5E, 0x00]) / 255) < 0.15).all(axis=-1).sum())


def test_command_draws_a_picture(tmp_path: Path) -> None:
    run = _run(tmp_path / "first", HEADER + _rows(1, 60) + _rows(61, 100, loss=1.0, layers=4) + "101,")
    result = CliRunner().invoke(app, ["curve", str(run)])
    assert result.exit_code == 0, result.output
    assert "step 100" in result.stdout
    assert "4 blocks" in result.stdout
    assert _orange(run / "curve.png") > 100
    plain = tmp_path / "plain.png"
    draw_curve(_run(tmp_path / "second", HEADER + _rows(1, 60)), plain)
    assert _orange(plain) == 0
