from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ASTModel

from tunelab.encoder.bundle import Bundle
from tunelab.encoder.maest import load_maest
from tunelab.training.export import write_encoder
from tunelab.training.optimizer import Muon, orthogonalise, orthogonalise_blocks
from tunelab.training.student import PATCHES, TIME_PATCHES, Student, choose_patches


@pytest.fixture(scope="module")
def student() -> Student:
    torch.manual_seed(0)
    return Student(1, 10, 12, 8).eval()


def test_growth_keeps_outputs_exactly(student: Student) -> None:
    grown = Student(1, 10, 12, 8).eval()
    grown.load_state_dict(student.state_dict())
    grown.grow(3)
    mels, kept = torch.randn(2, 1876, 128), choose_patches(2, False, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(student.tokens(mels, kept), grown.tokens(mels, kept))


def test_crops_are_contiguous_and_draws_have_no_repetition() -> None:
    generator = torch.Generator().manual_seed(0)
    crop = choose_patches(4, True, generator)
    times = (crop % TIME_PATCHES).unique(sorted=True)
    assert crop.shape == (4, 136)
    one = (crop[0] % TIME_PATCHES).unique()
    assert int(one.max() - one.min()) == 16
    assert times.max() < TIME_PATCHES
    drawn = choose_patches(4, False, generator)
    assert all(len(set(row.tolist())) == 136 for row in drawn)
    assert int(drawn.max()) < PATCHES


def test_exported_encoder_gives_the_students_embedding(student: Student, tmp_path: Path) -> None:
    write_encoder(student, -27.0, 21.0, tmp_path)
    bundle = Bundle.open(tmp_path)
    mels = torch.randn(1, 1876, 128)
    with torch.inference_mode():
        wanted = student.tokens(mels, torch.arange(PATCHES)[None]).mean(1)
        served = load_maest(bundle)(mels)
        hidden = ASTModel.from_pretrained(tmp_path, dtype=torch.float32)(mels, output_hidden_states=True).hidden_states
    # Half-precision weights: about three digits.
    np.testing.assert_allclose(served, wanted, atol=2e-3)
    np.testing.assert_allclose(hidden[1][:, 2:].mean(1), wanted, atol=2e-3)
    assert bundle.mel.mean == -27.0


def test_orthogonalised_singular_values_are_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((32, 64), (64, 32)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.min() > 0.5
        assert values.max() < 1.3


def test_muon_step_goes_downhill_by_the_set_amount() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(32, 32))
    target = torch.randn(32, 32)
    before = weight.detach().clone()
    muon = Muon([weight], lr=0.01, decay=0.0)
    loss = (weight - target).square().sum()
    loss.backward()
    muon.step()
    assert float((weight - target).square().sum().detach()) < loss.item()
    # RMS-matched: an orthogonal 32 x 32 update has RMS 1 / sqrt(32), scaled by 0.2 sqrt(32).
    size = float((weight.detach() - before).square().mean().sqrt())
    assert size == pytest.approx(0.01 * 0.2, rel=0.3)


@pytest.mark.parametrize(("rows", "columns"), [(4, 1), (1, 4)])
def test_blocks_are_orthogonalised_for_themselves(rows: int, columns: int) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(64, 64)
    whole = orthogonalise_blocks(matrix, rows, columns)
    block = whole[:16] if rows > 1 else whole[:, :16]
    alone = orthogonalise(matrix[:16] if rows > 1 else matrix[:, :16])
    torch.testing.assert_close(block, alone, atol=0.02, rtol=0.05)
    assert torch.linalg.svdvals(block).min() > 0.5


def test_a_student_goes_on_from_a_bundle(tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = Student(2, 4, 4, 2)
    write_encoder(before, -30.0, 20.0, tmp_path)
    after = Student(1, 4, 4, 2)
    after.start_from(tmp_path)
    assert len(after.ast.layers) == 2
    mels, kept = torch.randn(2, 1876, 128), torch.arange(0, 936, 7)[None].expand(2, -1)
    # Half precision in between.
    assert torch.allclose(before.tokens(mels, kept), after.tokens(mels, kept), atol=2e-2)
    assert not torch.equal(before.to_dense.weight, after.to_dense.weight)
