import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from tunelab.training import pretrain as module
from tunelab.training.pretrain import (
    CHECKPOINT,
    PretrainConfig,
    load_clips,
    loss_of,
    prepare,
    pretrain,
    set_gradients,
    token_times,
)
from tunelab.training.student import Student


def _clips(folder: Path, n: int = 8) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir()
    arrays = {
        "mel": rng.integers(0, 255, (n, 1876, 128)).astype(np.uint8),
        "dense": rng.normal(size=(n, 46, 1280)).astype(np.float16),
        "trunk": rng.normal(size=(n, 256)).astype(np.float32),
        "scores": rng.random((n, 7)).astype(np.float32),
        "activity": rng.random((n, 46)).astype(np.float32),
        "known": np.stack([rng.integers(0, 2, n), rng.integers(0, 4, n), rng.random(n), rng.random(n)], 1),
    }
    arrays["known"] = arrays["known"].astype(np.float32)
    save_file(arrays, folder / "train-0001-0000.safetensors")
    save_file(arrays, folder / "train-0001-0001.safetensors")
    # The second shard has not been tagged.
    (folder / "tags").mkdir()
    tags = rng.normal(size=(n, 10, 100)).astype(np.float16)
    save_file({"tags": tags}, folder / "tags" / "train-0001-0000.safetensors")


def test_a_stopped_run_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _clips(tmp_path / "clips")
    config = PretrainConfig(minutes=0.2, batch=2, growth=((0.0, 1), (0.6, 2)), checkpoint_s=0.0)
    calls, real = [], module.loss_of
    # However slow the machine is, the 12 s are over after a few steps: each looks at the clock twice.
    clock = itertools.count(step=1.25)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock), process_time=time.process_time))

    def stops(*args: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "loss_of", stops)
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


def test_clips_without_tags_have_no_tag_loss(tmp_path: Path) -> None:
    _clips(tmp_path / "clips")
    data = prepare(load_clips(tmp_path / "clips", "train"))
    assert data.dense.shape == (16, 46, 294)
    assert torch.isnan(data.dense[8:, :, 194:]).all()
    assert not torch.isnan(data.dense[:8]).any()
    torch.manual_seed(0)
    student = Student(1, 294, 256, 8)
    pool = ThreadPoolExecutor(2)
    for crop in (False, True):
        generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        loss = set_gradients(student, data, torch.tensor([1, 9]), crop, generators, pool)
        assert 0 < loss < 100
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in student.parameters())


def test_threads_give_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    _clips(tmp_path / "clips")
    data, pool = prepare(load_clips(tmp_path / "clips", "train")), ThreadPoolExecutor(2)
    torch.manual_seed(0)
    student, index = Student(1, 294, 256, 8), torch.tensor([1, 2])
    set_gradients(student, data, index, False, [torch.Generator().manual_seed(seed) for seed in (3, 4)], pool)
    shared = student.to_trunk.weight.grad
    student.zero_grad()
    for number, seed in zip(index, (3, 4), strict=True):
        loss = loss_of(student, data, number[None], False, torch.Generator().manual_seed(seed))
        (loss / 2).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(shared, student.to_trunk.weight.grad, atol=1e-3, rtol=1e-2)


def test_tokens_know_their_time() -> None:
    times = token_times()
    assert times.shape == (936,)
    assert times[0] == times[117] == 0
    assert times[116] == 45


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
        id(w) for part in ("to_dense", "to_trunk", "to_scores") for w in getattr(student, part).parameters()
    }
    every = groups[0] | groups[1] | {id(weight) for group in muon.param_groups for weight in group["params"]}
    assert every == {id(weight) for weight in student.parameters() if weight.requires_grad}
