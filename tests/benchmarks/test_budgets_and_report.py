"""Verdicts on budgets, and the tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.budgets import ALL, ANALYZE, HTTP, MEMORY, THROUGHPUT, Budget
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


def test_a_difference_below_zero_has_no_margin() -> None:
    assert "%" not in HTTP.verdict(-8.0)
    assert HTTP.verdict(-8.0).startswith("met")
    assert HTTP.verdict(0.0) == "met, 100 % to spare"


def test_a_figure_with_a_fault_is_shown_but_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    report.figure(MEMORY, 2.0, faults=["3 of 9 requests failed"])
    assert report.verdict(MEMORY).endswith("2 GB; must be <= 4 GB: NOT JUDGED: 3 of 9 requests failed")
    report.budgets()
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "NOT JUDGED" in line]
    assert "2 GB" in row
    assert " met" not in row


def test_nothing_is_judged_on_a_machine_that_was_busy(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    report.figure(ANALYZE, 120.0)
    assert "met" in report.verdict(ANALYZE)
    report.disturb("busy")
    report.figure(MEMORY, 2.0, faults=["errors"])
    report.budgets()
    printed = capsys.readouterr().out
    assert printed.count("NOT JUDGED: ") == 2
    assert "NOT JUDGED: errors; busy" in printed
    assert "to spare" not in printed
    assert printed.count("not measured") == len(ALL) - 2


def test_a_figure_can_name_exactly_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    report.figure(THROUGHPUT, 0.9, what="8 clients / 5 workers")
    assert report.verdict(THROUGHPUT).startswith("Budget: 8 clients / 5 workers: 0.9 x;")
    report.budgets()
    printed = capsys.readouterr().out
    assert "8 clients / 5 workers" in printed
    assert THROUGHPUT.what not in printed


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
