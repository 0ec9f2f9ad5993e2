import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.training.rendered import write_clips
from tunelab.errors import SettingsError
from tunelab.training import objectives
from tunelab.training import pretrain as module
from tunelab.training.config import PretrainConfig
from tunelab.training.ema import Average
from tunelab.training.objectives import Objective, loss_of, set_gradients
from tunelab.training.pretrain import CHECKPOINT, pretrain
from tunelab.training.student import Student, choose_patches
from tunelab.training.targets import KEY_COLUMNS, TAG_COLUMNS, Data, head_labels, load_clips, prepare, token_times


def test_a_stopped_run_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clips(tmp_path / "clips")
    config = PretrainConfig(minutes=0.2, batch=2, growth=((0.0, 1), (0.6, 2)), checkpoint_s=0.0)
    calls, real = [], objectives.loss_of
    # However slow the machine is, the 12 s are over after a few steps: each looks at the clock twice.
    clock = itertools.count(step=1.25)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock), process_time=time.process_time))

    def stops(*args: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(objectives, "loss_of", stops)
    with pytest.raises(KeyboardInterrupt):
        pretrain(tmp_path / "clips", tmp_path / "run", config)
    assert (tmp_path / "run" / CHECKPOINT).exists()
    run = pretrain(tmp_path / "clips", tmp_path / "run", config)
    assert run["steps"] >= 3
    assert run["clip_steps"] == 2 * run["steps"]
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == run
    assert not (tmp_path / "run" / CHECKPOINT).exists()
    steps = [line.split(",")[0] for line in (tmp_path / "run" / "curve.csv").read_text().splitlines()]
    assert steps[:4] == ["step", "1", "2", "3"]
    # What is finished stays as it is, and is not mixed with anything else.
    made = (tmp_path / "run" / "student.safetensors").stat().st_mtime_ns
    assert pretrain(tmp_path / "clips", tmp_path / "run", config) == run
    assert (tmp_path / "run" / "student.safetensors").stat().st_mtime_ns == made
    with pytest.raises(SettingsError, match="finished run with other settings"):
        pretrain(tmp_path / "clips", tmp_path / "run", replace(config, batch=3))


def test_clips_without_tags_have_no_tag_loss(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips")
    data = prepare(load_clips(tmp_path / "clips", "train"))
    assert data.dense.shape == (16, 46, 307)
    assert torch.isnan(data.dense[8:, :, 194:]).all()
    assert not torch.isnan(data.dense[:8]).any()
    torch.manual_seed(0)
    student = Student(1, 307, 256, 14)
    pool = ThreadPoolExecutor(2)
    for crop in (False, True):
        generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        loss = set_gradients(student, data, torch.tensor([1, 9]), crop, generators, pool)
        assert 0 < loss < 100
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in student.parameters())


@pytest.mark.parametrize(("left_out", "columns"), [("tags", TAG_COLUMNS), ("tonal", KEY_COLUMNS)])
def test_each_target_is_where_it_is_said_to_be(tmp_path: Path, left_out: str, columns: slice) -> None:
    write_clips(tmp_path / "clips")
    clips = {name: values[:8] for name, values in load_clips(tmp_path / "clips", "train").items()}
    clips[left_out] = np.full_like(clips[left_out], np.nan)
    unknown = prepare(clips).dense.isnan()
    assert unknown[:, :, columns].all()
    assert unknown.sum() == unknown[:, :, columns].numel()


def test_a_clip_far_off_does_not_rule_the_step() -> None:
    told, wanted = torch.zeros(2, 5, 3), torch.full((2, 5, 3), 0.1)
    near = objectives._error(told, wanted)
    assert near == pytest.approx(0.01, rel=0.01)
    wanted[1] = 20.0
    output = told.clone().requires_grad_()
    far = objectives._error(output, wanted)
    assert 20 < far < 30  # in place of 200
    [gradient] = torch.autograd.grad(far, output)
    assert gradient[1].norm() < 0.1 * 2 * 20 / told.numel() * 15**0.5
    # What is not known does not count, whatever it is.
    wanted[1] = torch.nan
    assert objectives._error(told, wanted) == pytest.approx(0.01, rel=0.01)


def test_threads_give_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips")
    data, pool = prepare(load_clips(tmp_path / "clips", "train")), ThreadPoolExecutor(2)
    torch.manual_seed(0)
    student, index = Student(1, 307, 256, 14), torch.tensor([1, 2])
    set_gradients(student, data, index, False, [torch.Generator().manual_seed(seed) for seed in (3, 4)], pool)
    shared = student.to_trunk.weight.grad
    student.zero_grad()
    for number, seed in zip(index, (3, 4), strict=True):
        loss = loss_of(student, data, number[None], False, torch.Generator().manual_seed(seed))
        (loss / 2).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(shared, student.to_trunk.weight.grad, atol=1e-3, rtol=1e-2)


def test_of_so_many_batches_one_sees_crops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clips(tmp_path / "clips")
    clock, real, crops = itertools.count(step=1.0), module.set_gradients, []
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock), process_time=time.process_time))

    def seen(student: Student, data: Data, index: torch.Tensor, crop: bool, *others: object) -> float:
        crops.append(crop)
        return real(student, data, index, crop, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "set_gradients", seen)
    pretrain(
        tmp_path / "clips", tmp_path / "run", PretrainConfig(minutes=0.2, batch=2, growth=((0.0, 1),), crop_every=3)
    )
    assert crops[:5] == [False, True, False, False, True]


def test_what_is_told_of_the_clip_counts_as_much_as_it_is_said_to(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips")
    data = prepare(load_clips(tmp_path / "clips", "train"))
    torch.manual_seed(0)
    student, index = Student(1, 307, 256, 14), torch.tensor([1, 2])

    def loss(crop: bool, scores: float) -> float:
        generator = torch.Generator().manual_seed(3)
        return loss_of(student, data, index, crop, generator, Objective(scores=scores)).item()

    told = loss(False, 1.0) - loss(False, 0.0)
    assert told > 0.1
    assert loss(False, 5.0) - loss(False, 0.0) == pytest.approx(5 * told, rel=0.01)
    # A crop of four seconds tells little of the whole.
    assert loss(True, 5.0) == loss(True, 0.0)


def test_tokens_know_their_time() -> None:
    plain, shifted, far = token_times(torch.tensor([0, 8, 1000]), 1876)
    assert plain.shape == (936,)
    assert plain[0] == plain[117] == 0
    assert plain[116] == 45
    # Its middle is frame 80 in place of frame 72.
    assert (plain[4], shifted[4]) == (1, 2)
    # What was at the beginning comes after the end, where the last columns are.
    assert (far[0], far[54], far[55]) == (25, 45, 0)
    assert far[116] == (116 * 16 + 8 + 1000 - 1876) // 40


def test_a_shifted_clip_is_asked_for_what_is_heard_there(tmp_path: Path) -> None:
    data = _small_data(tmp_path / "clips")
    index, shifts = torch.tensor([0, 3]), torch.tensor([0, 200])
    mels = objectives.rolled(data.mels, index, shifts)
    assert mels.dtype == torch.uint8
    assert torch.equal(mels[0], data.mels[0])
    assert torch.equal(mels[1, :1676], data.mels[3, 200:])
    assert torch.equal(mels[1, 1676:], data.mels[3, :200])
    # 200 frames are five rows of the targets.
    assert torch.equal(token_times(shifts, 1876)[1, :90], token_times(shifts, 1876)[0, :90] + 5)


@pytest.mark.parametrize(("shifted", "drawn"), [(False, 1), (True, 1876)])
def test_whether_clips_begin_anywhere_can_be_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shifted: bool, drawn: int
) -> None:
    data, seen = _small_data(tmp_path / "clips"), []
    real = objectives.rolled
    index = torch.arange(16)

    def roll(mels: torch.Tensor, index: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
        seen.append(shifts)
        return real(mels, index, shifts)

    monkeypatch.setattr(objectives, "rolled", roll)
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        loss_of(Student(1, 307, 256, 14), data, index, False, generator, Objective(shifted=shifted))
    shifts = torch.cat(seen)
    assert ((shifts >= 0) & (shifts < drawn)).all()
    assert len(shifts.unique()) > 40 if shifted else len(shifts.unique()) == 1


def test_the_encoder_waits_until_the_projectors_have_learnt() -> None:
    assert module._rate(0.02, 0.03) == 0.0
    assert 0 < module._rate(0.031, 0.03) < 0.05
    assert module._rate(0.02, 0.0) > 0.3
    assert module._rate(0.12, 0.03) == pytest.approx(module._rate(0.12, 0.0))
    assert module._rate(1.0, 0.03) == pytest.approx(0.01, abs=1e-3)
    config = PretrainConfig(growth=((0.0, 1),))
    student = Student(1, 10, 12, 8)
    muon, adam = module.optimisers(student, config)
    groups = [{id(weight) for weight in group["params"]} for group in adam.param_groups]
    assert groups[1] == {
        id(w)
        for part in ("to_dense", "to_trunk", "to_scores", "to_patches", "to_view")
        for w in getattr(student, part).parameters()
    }
    every = groups[0] | groups[1] | {id(weight) for group in muon.param_groups for weight in group["params"]}
    assert every == {id(weight) for weight in student.parameters() if weight.requires_grad}


def _small_data(folder: Path) -> Data:
    write_clips(folder)
    return prepare(load_clips(folder, "train"))


def test_targets_hold_the_labels_of_the_heads_where_there_are_tags(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips")
    clips = load_clips(tmp_path / "clips", "train")
    labels = head_labels(clips)
    assert labels.shape == (16, 6)
    assert np.isnan(labels[8:]).all()
    assert ((labels[:8] > 0) & (labels[:8] < 1)).all()
    scores = prepare(clips).scores
    assert scores.shape == (16, 14)
    assert not scores[:8].isnan().any()
    assert not scores[:, :8].isnan().any()
    clips["tags"][:] = np.nan
    assert prepare(clips).scores[:, 8:].isnan().all()


@pytest.mark.parametrize(("name", "part"), [("masked", "to_patches"), ("contrast", "to_view")])
def test_a_further_objective_teaches_its_own_part_and_the_encoder(tmp_path: Path, name: str, part: str) -> None:
    data = _small_data(tmp_path / "clips")
    torch.manual_seed(0)
    student = Student(1, 307, 256, 14)
    index, projection = torch.tensor([0, 1, 2, 3]), student.ast.embeddings.patch_embeddings.projection.weight

    def run(objective: Objective, crop: bool = False) -> tuple[float, bool, torch.Tensor]:
        student.zero_grad()
        loss = loss_of(student, data, index, crop, torch.Generator().manual_seed(1), objective)
        loss.backward()  # type: ignore[no-untyped-call]
        taught = any(weight.grad is not None for weight in getattr(student, part).parameters())
        assert projection.grad is not None
        return loss.item(), taught, projection.grad.clone()

    plain, taught, without = run(Objective())
    assert not taught
    more, taught, with_it = run(Objective(**{name: 1.0}))
    assert taught
    assert more > plain
    assert not torch.allclose(without, with_it)
    # A crop of 4 s tells nothing of the rest of the clip.
    assert not run(Objective(**{name: 1.0}), crop=True)[1]


def test_masked_patches_are_never_those_that_were_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    student, asked = Student(1, 10, 12, 8), []
    real = student.patches
    monkeypatch.setattr(student, "patches", lambda mels, kept: asked.append(kept) or real(mels, kept))
    kept = choose_patches(3, False, torch.Generator().manual_seed(0))
    objectives.masked_loss(student, torch.randn(3, 1876, 128), kept, torch.zeros(3, 768), torch.Generator())
    for seen, hidden in zip(kept.tolist(), asked[0].tolist(), strict=True):
        assert len(set(hidden)) == objectives.HIDDEN_PATCHES
        assert not set(seen) & set(hidden)


def test_views_that_find_each_other_cost_nothing() -> None:
    same = torch.eye(8)[:, None].expand(8, 2, 8)
    assert objectives.contrastive_loss(same).item() < 0.01
    assert objectives.contrastive_loss(torch.ones(8, 2, 8)).item() == pytest.approx(1.0)
    assert objectives.contrastive_loss(torch.stack([torch.eye(8), torch.eye(8).roll(1, 0)], 1)).item() > 2


def test_averaged_weights_lag_behind() -> None:
    student, average = Student(1, 10, 12, 8), Average(0.75)
    average.steps = 100
    weight = student.to_trunk.weight
    with torch.no_grad():
        weight.fill_(0.0)
        average.add(student)
        weight.fill_(1.0)
        average.add(student)
        assert torch.allclose(average.weights["to_trunk.weight"], torch.tensor(0.25))
        # Blocks that grow later begin with their first values.
        student.grow(2)
        average.add(student)
    assert "ast.layers.1.mlp.fc1.weight" in average.weights
    # At first it forgets sooner.
    young = Average(0.99)
    with torch.no_grad():
        for value in (0.0, *[1.0] * 20):
            weight.fill_(value)
            young.add(student)
    assert young.weights["to_trunk.weight"].mean() > 0.99
    none = Average(0.0)
    none.add(student)
    assert none.weights == {}


def test_without_muon_all_weights_are_adams() -> None:
    student = Student(1, 10, 12, 8)
    [adam] = module.optimisers(student, PretrainConfig(muon_lr=0.0))
    known = {id(weight) for group in adam.param_groups for weight in group["params"]}
    assert known == {id(weight) for weight in student.parameters() if weight.requires_grad}
