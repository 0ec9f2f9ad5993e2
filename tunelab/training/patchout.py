"""A bundle that leaves out patches: a quicker copy of another one, with the accuracy that was measured so.

Patchout at inference (Koutini et al., Interspeech 2022): of the columns of patches every second one is not computed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from tunelab.encoder.bundle import CONFIG, HEADS_FILE, Bundle
from tunelab.errors import SettingsError
from tunelab.evaluation.card import card_markdown, dropped
from tunelab.training.derived import derived_bundle
from tunelab.training.export import write_heads, write_json
from tunelab.training.finish import OF_SCORES
from tunelab.training.heads import GATE, passes_gate

STRIDE = 2
MEASURED = "every_second_time_patch"
"""In a card: what its heads reach so."""
_KEPT = ("meaning", "loss", "labels", "truth", "split", "n", "n_train", "n_development", "epochs")
"""Of a head's row: what is not measured with all patches."""


def leave_out_patches(source: Bundle, out: Path) -> Bundle:
    """Write a copy of a bundle that looks at every second time patch.

    Its card has the agreement on held-out clips that the source's card tells of such a copy, and nothing of what was
    measured with all patches. A head that is below the gate then is left out.

    Args:
        source: the bundle; a card of ``tunelab bundle`` or ``refit`` has these figures.
        out: the new bundle's folder.

    Raises:
        SettingsError: ``out`` exists, the source leaves out patches already, or its card lacks the figures.
    """
    if source.pooling.time_patch_stride != 1:
        raise SettingsError(f"{source.name} leaves out patches already")
    if MEASURED not in source.card:
        raise SettingsError(f"the card of {source.name} does not say what its heads reach without every second patch")
    card, heads = _card(source, out.name), load_file(source.path / HEADS_FILE)
    shipped = {head for head, row in card["heads"].items() if row["shipped"]}
    section = {**source.ast["tunelab"], "time_patch_stride": STRIDE}
    with derived_bundle(source, out) as folder:
        write_json(folder / CONFIG, {**source.ast, "tunelab": section})
        write_heads({name: values for name, values in heads.items() if name.split(".")[0] in shipped}, folder)
        write_json(folder / "card.json", card)
        (folder / "README.md").write_text(card_markdown(card), encoding="utf-8")
    return Bundle.open(out)


def _card(source: Bundle, name: str) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = {}
    for head, row in source.card["heads"].items():
        if not row["shipped"]:
            rows[head] = dict(row)
            continue
        rows[head] = {key: row[key] for key in _KEPT if key in row}
        rows[head]["pearson_r"] = r = source.card[MEASURED][head]["pearson_r_every_2nd"]
        rows[head]["shipped"] = passes_gate(r)
        if not passes_gate(r):
            rows[head]["why"] = f"r below the gate of {GATE} on the held-out split, without every second time patch"
    left = {MEASURED, "embedding", *OF_SCORES}
    return {
        **{key: value for key, value in source.card.items() if key not in left},
        "name": name,
        "summary": f"{source.name} {source.card['version']} without every second time patch, which makes it quicker. "
        + source.card["summary"],
        "heads": rows,
        "listeners": [],
        "dropped": dropped(rows),
        "limits": [
            f"Its agreement on held-out clips was measured without every second time patch; what else the card of "
            f"{source.name} tells was not.",
            *source.card["limits"],
        ],
        "reproduce": [f"tunelab models patchout {source.name} --out models/{name}"],
    }
