"""``tunelab models``."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Command


def test_list_names_every_bundle(command: Command, models: Path) -> None:
    broken = models / "broken-v1"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    rows = {row["name"]: row for row in json.loads(command("models", "list", "--json").stdout)}
    assert {"small-v1", "broken-v1", "tunelab-v1"} <= set(rows)
    assert rows["broken-v1"]["error"]
    assert rows["tunelab-v1"]["heads"]
    assert "broken-v1" in command("models", "list").stdout


def test_show_prints_the_card(command: Command) -> None:
    card = json.loads(command("models", "show", "tunelab-v1", "--json").stdout)
    text = command("models", "show", "tunelab-v1").stdout
    for head, row in card["heads"].items():
        assert head in text
        assert f"{row['pearson_r']:.2f}" in text
    assert card["licence"] in text
    for limit in card["limits"]:
        assert limit.split()[-1] in text
