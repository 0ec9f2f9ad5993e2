"""How tests are shared out where two processes run them (``make test``): file by file, all of Ray's in one process."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
WITH_RAY = frozenset({"catalog", "deployments"})
"""Folders whose tests start a Ray: one after the other, or two of them would want the same cores."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        inside = item.path.relative_to(TESTS)
        group = "ray" if inside.parts[0] in WITH_RAY else str(inside)
        item.add_marker(pytest.mark.xdist_group(group))
