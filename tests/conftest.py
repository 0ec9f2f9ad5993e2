"""How tests are shared out where two processes run them (``make test``): file by file, all of Ray's in one process."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
WITH_RAY = frozenset({"catalog", "deployments"})
"""Folders whose tests start a Ray: one after the other, or two of them would want the same cores."""


class Teller:
    """Tells of a failure when it happens: what is said at the end is lost where a run is stopped before."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._terminal.ensure_newline()
            self._terminal.write_line(f"{report.nodeid} ({report.when}):\n{report.longreprtext}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Teller(terminal))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        inside = item.path.relative_to(TESTS)
        group = "ray" if inside.parts[0] in WITH_RAY else str(inside)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(ids: list[str]) -> None:
    """Two Rays at once, or a file's tests in both processes, fail now and then, and elsewhere than at their cause."""
    if any("@" not in name for name in ids):
        pytest.exit("this pytest-xdist does not keep groups of tests together with this pytest", 1)
