from dataclasses import replace
from pathlib import Path

import pytest

from tunelab.errors import SettingsError
from tunelab.training.config import PretrainConfig, going_on, read_config
from tunelab.training.objectives import Objective


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("batch: 64\ngrowth: [[0, 2], [0.5, 6]]\nobjective: {masked: 0.5}\npooling: cls\n")
    base = PretrainConfig(minutes=7, objective=Objective(contrast=0.2))
    wanted = replace(
        base, batch=64, growth=((0.0, 2), (0.5, 6)), objective=Objective(masked=0.5, contrast=0.2), pooling="cls"
    )
    assert read_config(path, base) == wanted
    path.write_text("# nothing\n")
    assert read_config(path, base) == base


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("batches: 64", "batches: Unexpected keyword"),
        ("objective: {mask: 1}", "objective.mask: Unexpected keyword"),
        ("objective: 1", "map names to values"),
        ("- batch", "map names to values"),
        ("batch: many", "batch: Input should be a valid integer"),
        ("batch: [", "is no YAML"),
        ("batch: 0", "batch: Input should be greater than 0"),
        ("minutes: 0", "minutes: Input should be greater than 0"),
        ("growth: []", "begin with a share of 0"),
        ("growth: [[0.5, 2]]", "begin with a share of 0"),
        ("growth: [[0, 4], [0.5, 2]]", "to rise"),
        ("ema: 1", "ema: Input should be less than 1"),
        ("pooling: max", "pooling: Input should be 'mean', 'cls' or 'both'"),
        ("crop_every: 1", "crop_every: Input should be greater than or equal to 2"),
        ("width: 100", "width: Input should be a multiple of 64"),
        ("init: models/some", "--init"),
    ],
)
def test_what_is_wrong_in_a_file_is_told(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(SettingsError, match=reason):
        read_config(tmp_path / "run.yaml", PretrainConfig())


def test_a_run_that_goes_on_keeps_its_width(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("width: 384")
    with pytest.raises(SettingsError, match="768 wide"):
        read_config(tmp_path / "run.yaml", going_on(Path("models/some"), PretrainConfig()))


def test_a_run_that_goes_on_has_all_blocks_and_waits_for_its_projectors() -> None:
    config = going_on(Path("models/some"), PretrainConfig(minutes=3))
    assert (config.init, config.minutes, config.growth) == ("models/some", 3, ((0.0, 6),))
    assert config.projectors_first > 0
    assert config.objective.scores > PretrainConfig().objective.scores
    assert config.crop_every > PretrainConfig().crop_every
