"""Verdicts on budgets, and the tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.budgets import ALL, ANALYZE, THROUGHPUT, Budget
from benchmarks.report import Report, render


@pytest.mark.parametrize(
    ("value", "met", "verdict"),
    [
        (120.0, True, "met, 20 % to spare"),
        (150.0, True, "met, 0 % to spare"),
        (180.0, False, "MISSED by 20 %"),
    ],
)
def test_a_budget_that_is_an_upper_bound(value: float, met: bool, verdict: str) -> None:
    assert ANALYZE.met_by(value) is met
    assert ANALYZE.verdict(value) == verdict


def test_a_budget_that_is_a_lower_bound() -> None:
    budget = Budget("ratio", 4, "x", at_most=False)
    assert budget.verdict(5) == "met, 25 % to spare"
    assert budget.verdict(3) == "MISSED by 25 %"
    assert str(budget) == ">= 4 x"


def test_what_was_not_measured_is_not_met() -> None:
    assert ANALYZE.verdict(None) == "not measured"


def test_a_table_is_aligned_markdown_and_keeps_its_cells_as_they_are() -> None:
    lines = render(["file", "ms"], [["[bold]a.mp3", "7"], ["b", "1234"]]).splitlines()
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])] == [
        ["file", "ms"],
        ["[bold]a.mp3", "7"],
        ["b", "1234"],
    ]
    assert set(lines[1]) <= set("|-: ")
    assert len({len(line) for line in lines}) == 1


def test_a_row_with_a_missing_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="a row of 1 cells"):
        render(["a", "b"], [["1"]])


def test_the_report_writes_what_it_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    report.figure(ANALYZE, 120.0)
    report.figure(THROUGHPUT, 0.5)
    report.section("Part", ["file"], [["a.mp3"]], "A note.", report.verdict(ANALYZE))
    report.budgets("A warning.")
    report.write(tmp_path / "out.md")
    written, printed = (tmp_path / "out.md").read_text(), capsys.readouterr().out
    for text in ("## Part", "a.mp3", "A note.", "A warning.", "120 ms", "met, 20 % to spare", "MISSED by 41 %"):
        assert text in written
        assert text in printed
    assert written.count("not measured") == len(ALL) - 2
