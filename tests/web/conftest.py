"""The pages on a socket, with the card of the shipped model and a browser beside it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL
from sqlalchemy.orm import Session

from tests.service.conftest import _admin, database, server, session  # noqa: F401  fixtures
from tests.service.support import FakePipeline, fake_analysis, on_a_socket, settings_for
from tests.web.chromium import CHROMIUM, Tab, browser
from tunelab.errors import CorruptAudio
from tunelab.service.accounts import create_account
from tunelab.service.app import create_app
from tunelab.types import Analysis

CARD = json.loads((Path(__file__).parents[2] / "models" / "tunelab-v1" / "card.json").read_text())
BROKEN = b"no audio"
PRICE = 5


class ShippedHeads(FakePipeline):
    """Scores only for the heads that the card ships, as the real pipeline does; refuses ``BROKEN``."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.revision = CARD["name"], "1"
        self.behaviour = self._refuse

    async def analyze(self, data: bytes) -> Analysis:
        analysis = await super().analyze(data)
        scores = {head: value for head, value in analysis.scores.items() if CARD["heads"][head]["shipped"]}
        return Analysis(scores, analysis.embedding, analysis.duration_s, analysis.model, analysis.revision)

    async def _refuse(self, data: bytes) -> None:
        if data == BROKEN:
            raise CorruptAudio("this cannot be decoded <b>at all</b>")


def expected_scores(data: bytes) -> dict[str, int]:
    """What the page should show for a file."""
    scores = fake_analysis(data, CARD["name"]).percent()
    return {head: value for head, value in scores.items() if CARD["heads"][head]["shipped"]}


@dataclass
class Site:
    """A running service: its address, keys of a rich and of a poor account, and its pipeline."""

    url: str
    key: str
    poor_key: str
    pipeline: ShippedHeads


@pytest.fixture
def site(database: URL, session: Session, tmp_path: Path) -> Iterator[Site]:  # noqa: F811
    key = create_account(session, "rich", credits=1000)[1]
    poor_key = create_account(session, "poor", credits=PRICE)[1]
    session.commit()
    pipeline = ShippedHeads()
    started, stop = threading.Event(), threading.Event()
    found: list[str] = []

    async def main() -> None:
        settings = settings_for(database, tmp_path, analyze_credits=PRICE)
        app = create_app(lambda: pipeline, settings, cards=[CARD])
        async with app.router.lifespan_context(app), on_a_socket(app) as port:
            found.append(f"http://127.0.0.1:{port}")
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert started.wait(30)
        yield Site(found[0], key, poor_key, pipeline)
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="session")
def open_tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Tab]]:
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}")
    with browser(tmp_path_factory.mktemp("profile")) as new_tab:
        yield new_tab
