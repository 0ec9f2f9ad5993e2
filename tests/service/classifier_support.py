"""What tests of classifiers share: children that train at once or never, labelled tracks, and calls."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from sqlalchemy.orm import Session

from tests.service.support import Api
from tunelab.service import classifier_jobs
from tunelab.service.accounts import find_account
from tunelab.service.classifier_jobs import Timing
from tunelab.service.tables import Track

# Reads its job, says so by its process id, and then waits for its service to go away.
SLEEPER = """
import os, sys
from tunelab.classifier.wire import read_frame
while read_frame(sys.stdin.buffer): pass
path = sys.argv[1]
open(path + ".new", "w").write(str(os.getpid())); os.rename(path + ".new", path)
os.read(0, 1)
"""
# Says that the first class is right, at once and without PyTorch.
QUICK = """
import json, sys
import numpy as np
from tunelab.classifier.model import Classifier
from tunelab.classifier.wire import frame, json_frame, read_frame
job = json.loads(read_frame(sys.stdin.buffer))
while read_frame(sys.stdin.buffer): pass
classes = tuple(sorted(set(job["labels"].values())))
shapes = {"hidden.weight": (1, 768), "hidden.bias": 1, "output.weight": (len(classes), 1), "output.bias": len(classes)}
tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
report = REPORT
classifier = Classifier("multiclass", classes, job["model"], job["revision"], tensors, {})
sys.stdout.buffer.write(json_frame({"report": report}) + frame(classifier.to_bytes()))
"""
FIGURE = {"value": 0.5, "ci95": [0.25, 0.75]}
REPORT = {
    "kind": "multiclass",
    "classes": ["a", "b"],
    "model": "fake-v1",
    "revision": "1",
    "n": {"train": 4, "validation": 2, "test": 2},
    "groups": None,
    "left_out": 0,
    "epochs": 1,
    "accuracy": FIGURE,
    "macro_f1": FIGURE,
    "baseline": {"always": ["a"], "accuracy": 0.5, "macro_f1": 0.3},
    "per_class": [],
    "confusion": None,
}
DEATH = "import os; os.abort()"

Start = Callable[..., None]


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Start:
    """Choose what stands in for the training process, and the timing; services that start afterwards have both."""
    monkeypatch.setattr(classifier_jobs, "TIMING", Timing(poll_s=0.05, beat_s=0.05, stale_s=60, limit_s=60))

    def choose(code: str | None, **timing: float) -> None:
        if code is not None:
            command = (sys.executable, "-c", code.replace("REPORT", repr(REPORT)), str(tmp_path / "child.pid"))
            monkeypatch.setattr(classifier_jobs, "COMMAND", command)
        values = {"poll_s": 0.05, "beat_s": 0.05, "stale_s": 60.0, "limit_s": 60.0, **timing}
        monkeypatch.setattr(classifier_jobs, "TIMING", Timing(**values))

    return choose


def add_tracks(session: Session, account: str, count: int, classes: int = 2, revision: str = "1") -> dict[str, str]:
    """Analysed tracks whose embeddings tell their class; id -> class (``a``, ``b``, ...)."""
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(classes, 768))
    labels = {}
    for number in range(count):
        content_id = hashlib.sha256(f"{account} {number}".encode()).hexdigest()
        vector = (centres[number % classes] + 0.5 * rng.normal(size=768)).astype("<f4")
        session.add(
            Track(
                account_id=find_account(session, account).id,
                content_id=content_id,
                model="fake-v1",
                revision=revision,
                duration_s=1.0,
                embedding=vector.tolist(),
                embedding_f32=vector.tobytes(),
            )
        )
        labels[content_id] = "abcdefgh"[number % classes]
    session.commit()
    return labels


async def post(api: Api, name: str, labels: Any, account: str = "pro") -> httpx.Response:
    return await api.client.post("/v1/classifiers", json={"name": name, "labels": labels}, headers=api.auth(account))


async def get(api: Api, path: str, account: str = "pro") -> httpx.Response:
    return await api.client.get(f"/v1/classifiers{path}", headers=api.auth(account))


async def ask(api: Api, name: str, ids: Any, account: str = "pro") -> httpx.Response:
    return await api.client.post(f"/v1/classifiers/{name}/predict", json={"ids": ids}, headers=api.auth(account))


async def until(api: Api, name: str, *statuses: str) -> dict[str, Any]:
    """Its state once it has one of the statuses."""
    async with asyncio.timeout(50):
        while True:
            state = (await get(api, f"/{name}")).json()
            if state["status"] in statuses:
                return dict(state)
            await asyncio.sleep(0.02)


async def pid_of(path: Path) -> int:
    """Of the sleeping child."""
    async with asyncio.timeout(50):
        while not path.exists():  # noqa: ASYNC110, ASYNC240  nothing to wait for
            await asyncio.sleep(0.02)
    return int(path.read_text())  # noqa: ASYNC240


async def is_gone(pid: int) -> bool:
    async with asyncio.timeout(10):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return True
