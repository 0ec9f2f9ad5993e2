"""Average a run's encoder with the one that it began with.

What an encoder learns on a few thousand clips costs it some of what it knew of other music; halfway between the weights
of before and after both are mostly there (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tunelab.audio.mel import MelConfig
from tunelab.errors import SettingsError
from tunelab.training.student import Student


@torch.no_grad()
def average_run(run: Path, bundle: Path, share: float, out: Path) -> None:
    """Write a run whose encoder is ``share`` of the run's and the rest of the bundle's; it has no embeddings yet.

    The projectors are the run's own. ``run.json`` tells what was averaged.

    Args:
        run: a finished run that went on from ``bundle``.
        bundle: folder of the encoder that it began with.
        share: of the run, 0..1.
        out: the new run's folder.

    Raises:
        SettingsError: ``share`` is outside, or the two have other shapes or front ends: there is nothing to average.
    """
    if not 0 <= share <= 1:
        raise SettingsError(f"the share of the run lies in 0..1, not {share}")
    facts = json.loads((run / "run.json").read_text())
    front_end = MelConfig.load(bundle / "preprocessor_config.json")
    if (facts["mean"], facts["std"]) != (front_end.mean, front_end.std):
        raise SettingsError(f"{run.name} did not begin with {bundle.name}: they see spectrograms on other scales")
    before = Student(1, 1, 1, 1)
    try:
        before.start_from(bundle)
    except RuntimeError:
        raise SettingsError(f"the encoder of {bundle.name} has another shape") from None
    weights = load_file(run / "student.safetensors")
    ours = {name: value for name, value in before.named_parameters() if not name.startswith("to_")}
    theirs = {name: value for name, value in weights.items() if not name.startswith("to_")}
    if {name: value.shape for name, value in ours.items()} != {name: value.shape for name, value in theirs.items()}:
        raise SettingsError(f"the encoders of {run.name} and {bundle.name} have other shapes")
    weights |= {name: ours[name].lerp(value, share).contiguous() for name, value in theirs.items()}
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, out / "student.safetensors")
    averaged = {"share_of_the_run": share, "with": bundle.name}
    (out / "run.json").write_text(json.dumps({**facts, "averaged": averaged}, indent=2) + "\n")
