"""What tests of similar tracks share: 200 tracks with known neighbours, and calls."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from tests.service.support import Api
from tunelab.service import similar
from tunelab.service.tables import Account, Track
from tunelab.types import HEADS

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(200, 768)).astype(np.float32) + 0.5
SCORES = RNG.random((200, 6))
IDS = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(200)]
SEED = IDS[0]
COSINE = VECTORS.astype(np.float64) @ VECTORS[0] / np.linalg.norm(VECTORS, axis=1) / np.linalg.norm(VECTORS[0])
UNKNOWN = "0" * 64


@pytest.fixture
def add(session: Session) -> Callable[..., None]:
    """Store tracks of an account; by default the first of those above, as results of the fake pipeline."""

    def add(account: str, count: int = 60, begin: int = 0, **values: Any) -> None:
        owner = session.scalar(select(Account.id).where(Account.name == account))
        session.execute(insert(Track), [row(owner, number, **values) for number in range(begin, begin + count)])
        session.commit()

    return add


def row(account: uuid.UUID | None, number: int, **values: Any) -> dict[str, Any]:
    vector = np.asarray(values.pop("vector", VECTORS[number]), "<f4")
    return {
        "account_id": account,
        "content_id": IDS[number],
        "model": "fake-v1",
        "revision": "1",
        **dict(zip(HEADS, SCORES[number].tolist(), strict=True)),
        "duration_s": 100.0 + number,
        "embedding": vector.tolist(),
        "embedding_f32": vector.tobytes(),
        **values,
    }


def cosine_to(direction: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    exact = VECTORS.astype(np.float64)
    found: np.ndarray[Any, Any] = exact @ direction / np.linalg.norm(exact, axis=1) / np.linalg.norm(direction)
    return found


def unit(number: int) -> np.ndarray[Any, Any]:
    vector = VECTORS[number].astype(np.float64)
    found: np.ndarray[Any, Any] = vector / np.linalg.norm(vector)
    return found


def shown(number: int) -> dict[str, int]:
    return {head: round(100 * score) for head, score in zip(HEADS, SCORES[number].tolist(), strict=True)}


def ids_of(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [track["id"] for track in answer.json()["similar"]]


def is_best(found: list[str], among: Iterable[int], distance: Callable[[int], float], k: int) -> bool:
    """Whether these are the k nearest in their order; the search is in half precision, so near ties may swap."""
    best = sorted(among, key=distance)[:k]
    numbers = [IDS.index(content_id) for content_id in found]
    return (
        len(found) == len(best) == len(set(found))
        and set(numbers) <= set(among)
        and all(abs(distance(one) - distance(other)) < 1e-4 for one, other in zip(numbers, best, strict=True))
    )


def from_seed(number: int) -> float:
    return float(1 - COSINE[number])


async def get(api: Api, content_id: str = SEED, account: str = "pro", **query: Any) -> httpx.Response:
    return await api.client.get(f"/v1/similar/{content_id}", params=query, headers=api.auth(account))


async def post(api: Api, account: str = "pro", **body: Any) -> httpx.Response:
    return await api.client.post("/v1/similar", json=body, headers=api.auth(account))


INDEX = {"enable_seqscan": "off", "enable_sort": "off", "enable_bitmapscan": "off"}
"""With so few rows the planner would rather sort them than walk the index."""


@pytest.fixture
def through_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search as among many tracks: through the index, and exactly only where it gives up."""
    monkeypatch.setattr(similar, "EXACT", 0)
    monkeypatch.setattr(similar, "_PLAN", {**similar._PLAN, **INDEX})
