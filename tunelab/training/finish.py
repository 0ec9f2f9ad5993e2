"""Embeddings of a run -> heads, gate, bundle and card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from tunelab.audio.mel import MelConfig
from tunelab.encoder.bundle import PREPROCESSOR
from tunelab.errors import SettingsError
from tunelab.evaluation.card import LIMITS, card_markdown, dropped, groups_of, head_row, make_card
from tunelab.evaluation.metrics import pearson
from tunelab.training.embed import load_embeddings, load_student
from tunelab.training.export import write_attribution, write_encoder, write_front_end, write_heads, write_json
from tunelab.training.heads import GATE, development_clips, match_spread, passes_gate, predict, train_head
from tunelab.training.labels import NOT_ORDINARY, SCORE_COLUMN, Labeller, learnt_from, sources
from tunelab.training.steps import made_up, rendered_by, steps, steps_again
from tunelab.training.student import WIDTH
from tunelab.types import HEADS, FloatArray

OF_SCORES = frozenset({"listeners", "means", "int8", "robustness"})
"""Parts of a card that other heads make untrue."""
OF_TRAINING = frozenset({"labels", "n_train", "n_development", "epochs"})
"""What a head's row says of how it was fitted, and not of how it was measured."""


def fit_heads(
    arrays: dict[str, FloatArray], kept: Mapping[str, FloatArray] = MappingProxyType({})
) -> tuple[dict[str, FloatArray], dict[str, Any], dict[str, Any]]:
    """Train all heads on kept embeddings, and measure them on those of held-out clips.

    Args:
        arrays: of :func:`tunelab.training.embed.load_embeddings`.
        kept: tensors of heads that are measured as they are.

    Returns:
        The tensors of the heads that passed the gate, the card's rows of all heads, and the comparison with every
        second time patch.
    """
    known, held = arrays["train_known"], arrays["heldout_known"]
    labeller = Labeller.measure(arrays["train_scores"], arrays["train_tags"], known)
    labels = labeller(arrays["train_scores"], arrays["train_tags"], known)
    truth = labeller(arrays["heldout_scores"], arrays["heldout_tags"], held)
    music = held[:, 0] == 0
    tensors: dict[str, FloatArray] = {}
    rows: dict[str, Any] = {}
    halves: dict[str, Any] = {}
    for head in HEADS:
        head_tensors = {name: value for name, value in kept.items() if name.split(".")[0] == head}
        facts: dict[str, int] = {}
        if not head_tensors:
            head_tensors, facts = _fitted(head, arrays["train"], labels[head], known)
        heldout = predict(head_tensors, head, arrays["heldout"])
        vibenet = arrays["heldout_scores"][:, SCORE_COLUMN[head]]
        row = head_row(head, heldout, truth[head], groups_of(held), music, sources(head), vibenet)
        rows[head] = {"shipped": passes_gate(row["pearson_r"]), **row, **facts}
        half = predict(head_tensors, head, arrays["heldout_every_2nd"])
        halves[head] = {
            "pearson_r_all": row["pearson_r"],
            "pearson_r_every_2nd": round(pearson(half, truth[head]), 4),
            "mean_change": round(float(np.abs(half - heldout).mean()), 4),
            "largest_change": round(float(np.abs(half - heldout).max()), 4),
        }
        if rows[head]["shipped"]:
            tensors |= head_tensors
    return tensors, rows, halves


def _fitted(
    head: str, embeddings: FloatArray, labels: FloatArray, known: FloatArray
) -> tuple[dict[str, FloatArray], dict[str, int]]:
    """The tensors of a new head, and what the card says of its fit: the clips of either part, and the epochs."""
    learnt = learnt_from(head, known)
    development = learnt.copy()
    development[learnt] = development_clips(known[learnt])
    train = learnt & ~development
    parts = [(embeddings[chosen], labels[chosen]) for chosen in (train, development)]
    fitted = train_head(head, parts[0], parts[1], embeddings[development])
    ordinary = development & (known[:, 3] == 0) & ~np.isin(known[:, 0], NOT_ORDINARY)
    facts = {"n_train": int(train.sum()), "n_development": int(development.sum()), "epochs": fitted.chosen_epoch}
    return match_spread(fitted.tensors, head, embeddings[ordinary], labels[ordinary]), facts


def write_bundle(corpus: Path, run: Path, bundle: Path, version: str = "1") -> dict[str, Any]:
    """Write the whole bundle but the card's rows of listeners, which ``tunelab evaluate`` fills in.

    Args:
        corpus: folder with ``manifest.parquet`` and the unpacked packages in ``un``.
        run: a finished run with ``embeddings.safetensors``.
        bundle: the folder to write; its name is the bundle's.
        version: of the bundle.

    Raises:
        SettingsError: the run's encoder is pooled otherwise or has another width than bundles have, the embeddings are
            not its own, or the clips of another front end; nothing is written.
    """
    student = load_student(run)
    if student.pooling != "mean" or student.ast.config.hidden_size != WIDTH:
        raise SettingsError(f"{run.name} cannot become a bundle: that takes pooling by the mean and a width of {WIDTH}")
    facts = json.loads((run / "run.json").read_text())
    reproduce = steps(facts, made_up(corpus / "un"), rendered_by(corpus / "clips"), run.name, bundle.name, version)
    tensors, rows, halves = fit_heads(load_embeddings(run))
    write_encoder(student, facts["mean"], facts["std"], bundle)
    write_heads(tensors, bundle)
    counts = write_attribution(corpus / "manifest.parquet", corpus / "un", bundle)
    encoder = {
        "parameters": sum(weight.numel() for weight in student.ast.parameters()),
        "layers": len(student.ast.layers),
        "width": 768,
        "tokens": 938,
        "embedding_size": 768,
    }
    training = {key: value for key, value in facts.items() if key not in {"mean", "std"}}
    if facts["config"]["init"]:
        # Where it lay on the machine that trained it is nobody's business.
        training["config"] = facts["config"] | {"init": Path(facts["config"]["init"]).name}
    training |= {
        "machine": f"{facts['config']['workers']} threads on a CPU",
        "teachers": ["vibenet 0.1.0", "musicnn 0.1.0"],
        "corpus": counts,
    }
    card = make_card(
        encoder=encoder,
        training=training,
        heads=rows,
        listeners=[],
        every_2nd=halves,
        reproduce=reproduce,
        name=bundle.name,
        version=version,
    )
    _write_card(bundle, card)
    return card


def refit(corpus: Path, run: Path, bundle: Path, names: Sequence[str], version: str) -> dict[str, Any]:
    """Fit some heads of a bundle anew, on embeddings by its own encoder; encoder and other heads stay as they are.

    All heads are measured on the held-out clips. The mel front end becomes that of the clips, in the encoder's own mean
    and standard deviation. What the card says of scores (listeners, means, 8-bit integers, robustness) was measured
    with the old heads and is taken out, and what it says of the embedding where the front end is another one than
    before: measure it again.

    Args:
        corpus: folder with ``manifest.parquet`` and the unpacked packages in ``un``.
        run: of :func:`tunelab.training.embed.run_of_bundle`, with ``embeddings.safetensors``.
        bundle: the folder that is changed: its heads' weights, their rows and commands of the card, the packages that
            it names, and the front end.
        names: of :data:`tunelab.types.HEADS`.
        version: of the changed bundle.

    Returns:
        The card's new rows by head: of all, those that stay as they are included.

    Raises:
        SettingsError: a head is below the gate, one that stays as it is included, or the embeddings are not of the
            run's encoder, or the clips of another front end; nothing is written.
    """
    arrays, rendering = load_embeddings(run), rendered_by(corpus / "clips")
    facts, card = (json.loads(path.read_text()) for path in (run / "run.json", bundle / "card.json"))
    shipped = load_file(bundle / "heads.safetensors")
    kept = {name: value for name, value in shipped.items() if name.split(".")[0] not in names}
    tensors, rows, halves = fit_heads(arrays, kept)
    stay = {name.split(".")[0] for name in kept}
    new = {name: row for name, row in rows.items() if name in stay or name in names}
    if failed := [name for name, row in new.items() if not row["shipped"]]:
        raise SettingsError(f"below the gate of {GATE}: {', '.join(failed)}")
    for name in stay & new.keys():
        new[name] |= {part: card["heads"][name][part] for part in OF_TRAINING & card["heads"][name].keys()}
    write_heads(kept | {name: value for name, value in tensors.items() if name.split(".")[0] in names}, bundle)
    before = MelConfig.load(bundle / PREPROCESSOR)
    write_front_end(facts["mean"], facts["std"], bundle)
    stale = OF_SCORES if MelConfig.load(bundle / PREPROCESSOR) == before else OF_SCORES | {"embedding"}
    counts = write_attribution(corpus / "manifest.parquet", corpus / "un", bundle, add=True)
    learnt = {"heads": list(names), "clips": len(arrays["train"]), "corpus": counts}
    parts = {
        "listeners": [],
        "training": card["training"] | {"fitted_anew": learnt},
        "reproduce": steps_again(card["reproduce"], learnt, rendering, bundle.name, version),
        "version": version,
        "heads": card["heads"] | new,
        "every_second_time_patch": card["every_second_time_patch"] | {name: halves[name] for name in new},
        "dropped": dropped(card["heads"] | new),
        "limits": list(LIMITS),
    }
    still_true = {name: value for name, value in card.items() if name not in stale}
    _write_card(bundle, still_true | parts)
    return new


def update_card(bundle: Path, parts: dict[str, Any]) -> dict[str, Any]:
    """Replace parts of a bundle's card, and write its tables anew."""
    card: dict[str, Any] = json.loads((bundle / "card.json").read_text())
    card |= parts
    _write_card(bundle, card)
    return card


def update_liveness(bundle: Path, row: dict[str, Any]) -> None:
    """Put what a head for liveness reached into a bundle's card."""
    rows = json.loads((bundle / "card.json").read_text())["heads"] | {"liveness": row}
    update_card(bundle, {"heads": rows, "dropped": dropped(rows)})


def _write_card(bundle: Path, card: dict[str, Any]) -> None:
    write_json(bundle / "card.json", card)
    (bundle / "README.md").write_text(card_markdown(card), encoding="utf-8")
