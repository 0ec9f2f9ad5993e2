import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tunelab.errors import SettingsError
from tunelab.training.average import average_run
from tunelab.training.embed import load_student
from tunelab.training.export import write_encoder
from tunelab.training.student import AUXILIARY, Student

MEAN, STD = -60.0, 20.0


def _student(seed: int, layers: int = 1) -> Student:
    torch.manual_seed(seed)
    student = Student(layers, 3, 4, 5)
    with torch.no_grad():
        # As in a run, whose table of all positions is not used.
        student.ast.embeddings.position_embeddings.zero_()
        # A table of the two, read back from a bundle, gives the frequencies without their mean.
        student.frequency.sub_(student.frequency.mean(0))
    return student


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    weights = {n: v.contiguous() for n, v in _student(1).state_dict().items() if not n.startswith(AUXILIARY)}
    save_file(weights, folder / "student.safetensors")
    (folder / "run.json").write_text(json.dumps({"mean": MEAN, "std": STD, "config": {}, "steps": 7}))
    write_encoder(_student(2), MEAN, STD, tmp_path / "bundle")
    return folder


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_each_weight_lies_between(run: Path, share: float) -> None:
    average_run(run, run.parent / "bundle", share, run.parent / "out")
    after, before, between = _student(1), _student(2), load_student(run.parent / "out")
    for name, weight in between.named_parameters():
        if name.startswith(AUXILIARY):
            continue
        own, other = (student.get_parameter(name) for student in (after, before))
        # A bundle has half precision, and the projectors are the run's.
        wanted = own if name.startswith("to_") else share * own + (1 - share) * other
        torch.testing.assert_close(weight, wanted.detach(), atol=1e-3, rtol=0, check_device=False)
    facts = json.loads((run.parent / "out" / "run.json").read_text())
    assert facts["steps"] == 7
    assert facts["averaged"] == {"share_of_the_run": share, "with": "bundle"}
    assert load_file(run / "student.safetensors").keys() == load_file(run.parent / "out" / "student.safetensors").keys()


def test_others_cannot_be_averaged(run: Path) -> None:
    bundle, out = run.parent / "bundle", run.parent / "out"
    with pytest.raises(SettingsError, match=r"0\.\.1, not 1\.5"):
        average_run(run, bundle, 1.5, out)
    write_encoder(_student(2, layers=2), MEAN, STD, bundle)
    with pytest.raises(SettingsError, match="other shapes"):
        average_run(run, bundle, 0.5, out)
    write_encoder(_student(2), MEAN + 1, STD, bundle)
    with pytest.raises(SettingsError, match="did not begin with bundle"):
        average_run(run, bundle, 0.5, out)
    assert not out.exists()
