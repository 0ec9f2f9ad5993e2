"""The model card: every figure is computed here or handed in by the code that measured it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tunelab.evaluation.metrics import AGREEMENT, pearson, with_intervals
from tunelab.evaluation.robustness import table
from tunelab.types import FloatArray

MEANINGS: dict[str, str] = {
    "energy": "how intense and active the music is",
    "danceability": "how well it suits dancing: steady beat, tempo, strength of the beat",
    "happiness": "how positive the mood is (valence), from sad or angry to cheerful",
    "acousticness": "how likely it was played on acoustic instruments without electronic sound",
    "instrumentalness": "how likely it has no vocals",
    "speechiness": "how much of it is spoken word",
}
LIVENESS: dict[str, Any] = {
    "shipped": False,
    "meaning": "how likely it was recorded before an audience",
    "truth": "held-out tracks of an earlier trial",
    "pearson_r": 0.448,
    "why": "below the gate of 0.7 on the held-out tracks of an earlier trial",
}
"""A seventh head that was dropped before the first release."""
LIMITS: tuple[str, ...] = (
    "Trained for a few hours on a few cores, not the model that the design aims at.",
    "Its truth is agreement with two other models (vibenet 0.1.0, musicnn 0.1.0) and voice that was added, not with "
    "listeners; it shares their errors.",
    "It learnt from free game music, almost all of it instrumental, much of it played from scores with sound fonts, "
    "and from speech; hardly any real singing.",
    "Singing was made by re-pitching speech, and by synthesizers; real singing over dense music is often missed.",
    "Instrumentalness ranks songs better than its values suggest: sung pop and rock get middling values on average "
    "(the table of means below the listeners' rows).",
    "Western tonal music is over-represented; expect less on other traditions, odd metres and processed vocals.",
    "Scores spread on the corpus as published Echo Nest features do on the Free Music Archive; on other collections "
    "they need not: compare tracks, not values with other systems.",
    "Files whose band ends well below 7.5 kHz (telephone recordings, very low bit rates) may get somewhat other scores "
    "than full ones.",
    "The level of a file does not count (down to peaks of -40 dB of full scale): quiet and loud masters of one "
    "recording get the same scores.",
)


def head_row(
    head: str,
    score: FloatArray,
    label: FloatArray,
    groups: npt.NDArray[np.int64],
    music_only: npt.NDArray[np.bool_],
    labels: str,
    vibenet: FloatArray,
) -> dict[str, Any]:
    """Held-out figures of one head.

    Args:
        score: shape ``(n,)``, 0..1.
        label: shape ``(n,)``, 0..1.
        groups: shape ``(n,)``; resampled as wholes for the interval.
        music_only: shape ``(n,)``; true for music alone, not rendered from scores: its r is given as well.
        labels: what the labels were made from.
        vibenet: shape ``(n,)``; vibenet's own score, for comparison.
    """
    measures = with_intervals(AGREEMENT, score, label, groups)
    constructed = head in {"instrumentalness", "speechiness"}
    return {
        "meaning": MEANINGS[head],
        "loss": "binary cross-entropy" if constructed else "mean square error",
        "labels": labels,
        "truth": "construction and teachers" if constructed else "teacher agreement",
        "split": "held-out packages (music) and held-out packages (speakers)",
        "n": len(score),
        **{name: figure["value"] for name, figure in measures.items()},
        "ci95": measures["pearson_r"]["ci95"],
        "measures": measures,
        "pearson_r_music_only": round(pearson(score[music_only], label[music_only]), 4),
        "pearson_r_vibenet": round(pearson(score, vibenet), 4),
        "n_music_only": int(music_only.sum()),
    }


def groups_of(known: FloatArray) -> npt.NDArray[np.int64]:
    """Resampling groups of rendered clips ``(n, 4)``: the music's package; a clip of voice alone is its own."""
    packages = known[:, 1].astype(np.int64)
    return np.where(packages >= 0, packages, -1 - np.arange(len(packages)))


def make_card(
    *,
    encoder: Mapping[str, Any],
    training: Mapping[str, Any],
    heads: Mapping[str, Mapping[str, Any]],
    listeners: list[dict[str, Any]],
    every_2nd: Mapping[str, Any],
    reproduce: list[str],
    name: str,
    version: str,
) -> dict[str, Any]:
    """Assemble ``card.json`` from measured parts."""
    rows = {head: dict(row) for head, row in heads.items()} | {"liveness": LIVENESS}
    for row in rows.values():
        if not row["shipped"]:
            row.setdefault("why", "below the gate of 0.7 on the held-out split")
    return {
        "name": name,
        "version": version,
        "summary": "Mood scores and a 768-number embedding, distilled from vibenet and musicnn on free game music, "
        "speech and mixes of both; the truth behind the held-out figures is agreement with these teachers.",
        "licence": "Apache-2.0",
        "encoder": dict(encoder),
        "training": dict(training),
        "heads": rows,
        "listeners": listeners,
        "every_second_time_patch": dict(every_2nd),
        "dropped": dropped(rows),
        "limits": list(LIMITS),
        "reproduce": reproduce,
    }


def dropped(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Heads of a card that are not shipped: their r, and why."""
    return {head: {key: row[key] for key in ("pearson_r", "why")} for head, row in rows.items() if "why" in row}


def card_markdown(card: Mapping[str, Any]) -> str:
    """The card's README: the same figures as tables."""
    lines = [
        f"# {card['name']} {card['version']}",
        "",
        card["summary"],
        "",
        f"Licence of the weights: {card['licence']}. The corpus and its licences: ATTRIBUTION.md.",
        "",
        "## Held-out agreement",
        "",
        *_heads_rows(card["heads"]),
    ]
    if card["listeners"]:
        lines += ["", "## Listeners", "", *_listener_rows(card["name"], card["listeners"])]
    if card.get("means"):
        lines += ["", *_mean_rows(card["means"])]
    if "embedding" in card:
        lines += ["", "## The embedding", "", *_embedding_rows(card["embedding"])]
    if "int8" in card:
        lines += ["", "## In 8-bit integers", "", *_int8_rows(card["int8"])]
    if "robustness" in card:
        lines += [
            "",
            "## Robustness",
            "",
            f"Changes of the scores in points, mean / 95th percentile, on {card['robustness']['n']} held-out clips.",
            "",
            *table(card["robustness"]["points"], card["robustness"].get("vibenet")),
        ]
    lines += ["", "## Limits", "", *(f"- {limit}" for limit in card["limits"])]
    lines += ["", "## Reproduce", "", "```", *card["reproduce"], "```", ""]
    return "\n".join(lines)


def _heads_rows(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        "| head | shipped | learnt from | truth | n | Pearson r | 95 % interval | Spearman | CCC | RMSE "
        "| r, music only | r, vibenet |",
        "|---" * 12 + "|",
    ]
    for head, row in rows.items():
        interval = "{:.3f} to {:.3f}".format(*row["ci95"]) if "ci95" in row else "-"
        names = ("spearman", "ccc", "rmse", "pearson_r_music_only", "pearson_r_vibenet")
        # Development clips choose the epoch and set the spread: a head has learnt from them, too.
        learnt = row["n_train"] + row.get("n_development", 0) if "n_train" in row else "-"
        others = " | ".join(f"{row[name]:.3f}" if name in row else "-" for name in names)
        lines.append(
            f"| {head} | {'yes' if row['shipped'] else 'no'} | {learnt} | {row.get('truth', '-')} "
            f"| {row.get('n', '-')} | {row['pearson_r']:.3f} | {interval} | {others} |"
        )
    dropped = [
        f"- Not shipped: {head}, {row['why']}." for head, row in rows.items() if not row["shipped"] and "why" in row
    ]
    return [*lines, "", *dropped] if dropped else lines


def _listener_rows(name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        "Real songs that were never trained on, scored as the service does. A look at the teachers' answers for them",
        "helped to set how much tags and genres count in the labels, so these rows are not blind.",
        "",
        f"| head | measure | {name} | 95 % interval | n | vibenet 0.1.0 |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row['head']} | {row['measure']} | {row['value']:.3f} | {row['ci95'][0]:.3f} to {row['ci95'][1]:.3f} "
            f"| {row['n']} | {row['vibenet']:.3f} |"
            for row in rows
        ),
    ]


def _mean_rows(means: Mapping[str, Mapping[str, float]]) -> list[str]:
    heads = [name for name in next(iter(means.values())) if name != "n"]
    lines = [
        "Mean scores of the same songs, in points. No truth stands beside these; they show what to expect.",
        "",
        f"| songs | n | {' | '.join(heads)} |",
        "|---" * (2 + len(heads)) + "|",
    ]
    for kind, row in means.items():
        lines.append(f"| {kind} | {row['n']} | {' | '.join(f'{row[head]:.0f}' for head in heads)} |")
    return lines


PROBES = {
    "genre": "genre of real songs",
    "package": "package of origin",
    "language": "language spoken",
    "key": "tonic of rendered scores",
    "mode": "major or minor of rendered scores",
    "tempo": "quarter of the tempos of rendered scores",
    "instrument": "family of the leading instrument of rendered pieces",
}
"""What the embedding is probed for: names in the card."""


def _embedding_rows(rows: Mapping[str, Any]) -> list[str]:
    names = list(rows["participation_ratio"])
    lines = [
        "What the embedding holds beyond the six scores, beside plainer features of the same clips. Probe: accuracy of",
        "a linear classifier in 5-fold cross-validation. Neighbour: how often the nearest other clip has the same",
        "label. Effective dimensions: the participation ratio of the real songs' embeddings. The songs were never",
        "trained on, most of the rest was; languages are of few speakers each, so that row is about voices, too.",
        "",
        f"| clips | measure | chance | {' | '.join(names)} |",
        "|---" * (3 + len(names)) + "|",
    ]
    for label, title in PROBES.items():
        if (row := rows.get(label)) is None:
            continue
        classes = f", {row['classes']} classes" if "classes" in row else ""
        for key, measure in (("probe", "probe"), ("neighbour", "neighbour")):
            cells = [f"{row[name][key]:.3f}" for name in names]
            chance = f"{row['chance']:.3f}" if "chance" in row else "-"
            lines.append(f"| {title} (n = {row['n']}{classes}) | {measure} | {chance} | {' | '.join(cells)} |")
    ratios = [f"{rows['participation_ratio'][name]:.1f}" for name in names]
    return [*lines, f"| real songs (n = {rows['genre']['n']}) | effective dimensions | - | {' | '.join(ratios)} |"]


def _int8_rows(rows: Mapping[str, Any]) -> list[str]:
    lines = [
        f"Scores of {rows['n']} real songs against float32, in points, and what becomes of the listeners' rows.",
        "",
        "| head | mean | 99 % at most | largest |",
        "|---|---|---|---|",
    ]
    for head, row in rows["points"].items():
        lines.append(f"| {head} | {row['mean']:.2f} | {row['p99']:.2f} | {row['largest']:.2f} |")
    lines += ["", "| head | measure | float32 | int8 |", "|---|---|---|---|"]
    for row in rows["listeners"]:
        lines.append(f"| {row['head']} | {row['measure']} | {row['f32']:.4f} | {row['int8']:.4f} |")
    return lines
