"""The commands that make a bundle, for its card."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunelab.training import festival, scores, synthetic_voices
from tunelab.training.clips import open_shard

CORPUS_STEPS = (
    ".venv/bin/pip install -e '.[train]' vibenet==0.1.0 'setuptools<81' pyworld",
    ".venv/bin/pip install --no-deps musicnn==0.1.0",
    "apt install openmpt123 fluidsynth fluid-soundfont-gm timgm6mb-soundfont musescore-general-soundfont mma espeak-ng",
    "apt install festival festvox-{kallpc16k,kdlpc16k,itapc16k,italp16k,suopuhe-mv,suopuhe-lj,czech-dita,czech-krb}",
    "tunelab corpus build CORPUS",
)
"""How a corpus begins, whatever is trained on it."""
MADE_UP = {
    "scores": re.compile(rf"{scores.PREFIX}(?!.*-grooves-)"),
    "grooves": re.compile(rf"{scores.PREFIX}.*-grooves-"),
    "voices": re.compile(synthetic_voices.PREFIX),
    "songs": re.compile(festival.PREFIX),
}
"""Commands that render into a corpus, and how the names of their packages begin."""
ANEW = "# some heads anew"
"""How a comment begins that stands before the commands of a refit."""


def steps(
    facts: Mapping[str, Any],
    made: Sequence[str],
    rendering: Sequence[str],
    run: str,
    bundle: str,
    version: str,
) -> list[str]:
    """The commands that make a bundle, for its card.

    Args:
        facts: what ``run.json`` holds.
        made: of :func:`made_up`.
        rendering: of :func:`rendered_by`.
        run: its name.
        bundle: name of the bundle.
        version: of the bundle.
    """
    config = facts["config"]
    init = f" --init models/{Path(config['init']).name}" if config["init"] else ""
    begun, before = [], facts.get("before", {})
    while before:
        begun.append(f"{before.get('version', '?')} ({before['minutes']:.0f} min)" if "minutes" in before else "?")
        before = before.get("before", {})
    return [
        *CORPUS_STEPS,
        *made,
        "tunelab corpus list CORPUS",
        f"# {facts['clips']} training clips",
        *rendering,
        "tunelab tag CORPUS",
        *([f"# from the encoder of {', which went on from that of '.join(begun)}"] if begun else []),
        f"tunelab pretrain CORPUS --minutes {config['minutes']:g} --run {run}{init}",
        f"tunelab bundle CORPUS --run {run} --out models/{bundle} --version {version}",
        f"tunelab quantise models/{bundle} CORPUS/clips",
        f"tunelab evaluate --bundle models/{bundle} --validation VALIDATION",
        f"tunelab compare-precisions --bundle models/{bundle} --validation VALIDATION",
        f"tunelab robustness --bundle models/{bundle} --clips CORPUS/clips",
        f"tunelab embedding --bundle models/{bundle} --clips CORPUS/clips --validation VALIDATION --corpus CORPUS",
        f"tunelab liveness CORPUS --bundle models/{bundle}",
    ]


def steps_again(
    commands: Sequence[str], learnt: Mapping[str, Any], rendering: Sequence[str], bundle: str, version: str
) -> list[str]:
    """The commands that made a bundle, with those that fitted some of its heads anew before what measures it.

    Where all heads of an earlier refit are fitted anew, the commands of that one are left out.

    Args:
        commands: of the card before.
        learnt: the names of the ``heads``, the number of ``clips`` that they learnt from, and what the ``corpus`` has.
        rendering: of :func:`rendered_by`.
        bundle: its name.
        version: of the changed bundle.
    """
    kept, block = [], []
    for command in commands:
        if command.startswith(ANEW):
            block = [command]
        elif block:
            block.append(command)
            if command.startswith("tunelab refit"):
                again = set(command.partition("--heads ")[2].split()[0].split(",")) <= set(learnt["heads"])
                kept += [] if again else block
                block = []
        else:
            kept.append(command)
    at = next((i for i, command in enumerate(kept) if command.startswith("tunelab evaluate")), len(kept))
    files = ", ".join(f"{counts['files']} of {kind}" for kind, counts in learnt["corpus"].items())
    return [
        *kept[:at],
        f"{ANEW}, in an empty CORPUS/clips: {learnt['clips']} training clips of a corpus with {files}",
        *rendering,
        "tunelab tag CORPUS",
        f"tunelab refit CORPUS --bundle models/{bundle} --heads {','.join(learnt['heads'])} --version {version}",
        *kept[at:],
    ]


def made_up(unpacked: Path) -> list[str]:
    """The commands that made up pieces, voices and songs for a corpus: none for what it does not have.

    Args:
        unpacked: folder of the packages. Files of what was made up are numbered from 0; how many were asked for is told
            by the highest number.
    """
    commands = []
    for name, begins in MADE_UP.items():
        packages = [folder for folder in unpacked.glob("*") if begins.match(folder.name)]
        stems = [path.stem for folder in packages for kind in ("flac", "wav") for path in folder.rglob(f"*.{kind}")]
        if numbers := [int(found[0]) for stem in stems if (found := re.search(r"\d+$", stem))]:
            commands.append(f"tunelab corpus {name} CORPUS --count {max(numbers) + 1}")
    return commands


def rendered_by(clips: Path) -> list[str]:
    """The commands that rendered the clips in a folder: one for each seed and kinds, the smallest seed first.

    Raises:
        SettingsError: some are of another front end.
    """
    counts: dict[tuple[int, str], Counter[str]] = {}
    for path in clips.glob("*-*-*.safetensors"):
        split, seed, _ = path.stem.split("-")
        with open_shard(path) as shard:
            count = shard.get_slice("known").get_shape()[0]
            counts.setdefault((int(seed), shard.metadata()["kinds"]), Counter())[split] += count
    return [
        f"tunelab clips CORPUS --seed {seed} --count {number['train']} --heldout-count {number['heldout']}"
        + (f" --kinds {kinds}" if kinds else "")
        for (seed, kinds), number in sorted(counts.items())
    ]
