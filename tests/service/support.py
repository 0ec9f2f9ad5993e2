"""What the tests of the service share: a fake pipeline, settings, and a client that has keys."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI
from sqlalchemy import URL

from tunelab.errors import AudioTooLong
from tunelab.settings import Settings, load_settings
from tunelab.types import HEADS, Analysis, Section, Timeline

CARD = {"name": "fake-v1", "licence": "CC0-1.0", "heads": {"energy": {"r": 0.9, "ci": [0.8, 0.95], "n": 100}}}


class FakePipeline:
    """Scores and an embedding from the hash of the bytes; does what it is told to do instead."""

    def __init__(self) -> None:
        self.model, self.revision = "fake-v1", "1"
        self.calls = self.timelines = 0
        self.duration_s = 123.4
        self.is_ready = True
        self.behaviour: Callable[[bytes], Awaitable[None]] | None = None

    async def analyze(self, data: bytes) -> Analysis:
        self.calls += 1
        if self.behaviour is not None:
            await self.behaviour(data)
        return replace(fake_analysis(data, self.model), revision=self.revision)

    async def timeline(self, data: bytes, step_s: float, max_s: float) -> Timeline:
        """Counts those that get as far as an encoder would."""
        if self.duration_s > max_s:
            raise AudioTooLong(f"the track is {self.duration_s} s long; at most {max_s:g} s are accepted")
        self.timelines += 1
        if self.behaviour is not None:
            await self.behaviour(data)
        return replace(fake_timeline(data, step_s, self.duration_s, self.model), revision=self.revision)

    async def ready(self) -> bool:
        return self.is_ready


def fake_analysis(data: bytes, model: str = "fake-v1") -> Analysis:
    seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    scores = dict(zip(HEADS, rng.random(len(HEADS)).tolist(), strict=True))
    return Analysis(scores, rng.standard_normal(768).astype(np.float32), duration_s=123.4, model=model)


def fake_timeline(data: bytes, step_s: float, duration_s: float = 123.4, model: str = "fake-v1") -> Timeline:
    track = fake_analysis(data).scores
    edges = [*np.arange(0, duration_s, step_s).tolist(), duration_s]
    # The second segment is silent.
    scores = {head: tuple(None if n == 1 else track[head] for n in range(len(edges) - 1)) for head in HEADS}
    sections = (Section(0.0, 60.5, "A"), Section(60.5, duration_s, None))
    return Timeline(tuple(edges[:-1]), tuple(edges[1:]), scores, sections, track, step_s, duration_s, model)


def settings_for(database: URL, tmp_path: Path, **overrides: Any) -> Settings:
    values: dict[str, Any] = {
        "database_url": database.render_as_string(hide_password=False),
        "data_dir": tmp_path / "data",
        "max_upload_mb": 0.2,
        "max_concurrent": 1000,
        "max_concurrent_per_account": 100,
        **overrides,
    }
    return load_settings(**values)


@dataclass
class Api:
    """A running service and a client of it."""

    app: FastAPI
    client: httpx.AsyncClient
    pipeline: FakePipeline
    keys: dict[str, str] = field(default_factory=dict)

    def auth(self, account: str = "free") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[account]}"}

    async def analyze(self, data: bytes, account: str = "free", **headers: str) -> httpx.Response:
        sent = {"Content-Type": "audio/mpeg", **self.auth(account), **headers}
        return await self.client.post("/v1/analyze", content=data, headers=sent)

    async def timeline(self, data: bytes, account: str = "free", **query: Any) -> httpx.Response:
        sent = {"Content-Type": "audio/mpeg", **self.auth(account)}
        return await self.client.post("/v1/timeline", content=data, params=query, headers=sent)

    async def credits(self, account: str = "free") -> int:
        answer = await self.client.get("/v1/account", headers=self.auth(account))
        return int(answer.json()["credits"])


StartApi = Callable[..., AbstractAsyncContextManager[Api]]


@asynccontextmanager
async def on_a_socket(app: FastAPI) -> AsyncIterator[int]:
    """Serve an app, whose lifespan is running already, with uvicorn; gives the port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  uvicorn offers nothing to wait for
        await asyncio.sleep(0.01)
    try:
        yield int(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        await serving
