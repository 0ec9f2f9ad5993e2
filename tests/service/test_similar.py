"""Similar tracks over HTTP, against brute force; whose they are, and what may be asked."""

from __future__ import annotations

import itertools
import re
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy.orm import Session

from tests.service.similar_support import (
    COSINE,
    IDS,
    INDEX,
    RNG,
    SCORES,
    SEED,
    UNKNOWN,
    VECTORS,
    cosine_to,
    from_seed,
    get,
    ids_of,
    is_best,
    post,
    shown,
    unit,
)
from tests.service.support import Api
from tunelab.service import similar
from tunelab.service.tables import Track
from tunelab.types import HEADS


def test_answer_is_exactly_the_documented_one(run_api: Any, add: Any) -> None:
    async def scenario(api: Api) -> httpx.Response:
        add("pro")
        answer = await get(api)
        assert await api.credits("pro") == 100
        return answer

    answer = run_api(scenario)
    body = answer.json()
    assert list(body) == ["model", "seeds", "similar", "trace_id"]
    assert (body["model"], body["seeds"]) == ("fake-v1", [SEED])
    assert body["trace_id"] == answer.headers["x-trace-id"]
    assert is_best(ids_of(answer), range(1, 60), from_seed, 10)
    for track in body["similar"]:
        number = IDS.index(track["id"])
        assert list(track) == ["id", "similarity", *HEADS, "duration_s"]
        assert track["similarity"] == pytest.approx(COSINE[number], abs=1e-4)
        assert re.fullmatch(r"-?[01]\.\d{1,4}", str(track["similarity"]))
        assert {head: track[head] for head in HEADS} == shown(number)
        assert track["duration_s"] == 100.0 + number


@pytest.mark.usefixtures("through_index")
def test_through_the_index_it_is_the_same(run_api: Any, add: Any) -> None:
    async def scenario(api: Api) -> None:
        add("pro", 200)
        for k in (1, 10, 100):
            assert is_best(ids_of(await get(api, k=k)), range(1, 200), from_seed, k)
        quiet = [number for number in range(1, 200) if shown(number)["energy"] <= 10]
        assert is_best(ids_of(await get(api, energy="..10", k=5)), quiet, from_seed, 5)

    run_api(scenario)


def test_index_that_gives_up_loses_nothing(
    run_api: Any, add: Any, monkeypatch: pytest.MonkeyPatch, session: Session
) -> None:
    """Many tracks of others are nearer than any of the account's own, and the index may not look at more than a few."""
    plan = {**similar._PLAN, **INDEX, "hnsw.ef_search": "2", "hnsw.max_scan_tuples": "1"}
    monkeypatch.setattr(similar, "EXACT", 0)
    monkeypatch.setattr(similar, "_PLAN", plan)
    asked: list[int] = []
    more_than = similar._more_than

    async def counted(*arguments: Any) -> bool:
        asked.append(1)
        return await more_than(*arguments)

    monkeypatch.setattr(similar, "_more_than", counted)

    async def scenario(api: Api) -> None:
        near = VECTORS[0] + 0.01 * RNG.normal(size=768)
        add("free", 100, 60, vector=near)
        add("pro")
        assert is_best(ids_of(await get(api, k=50)), range(1, 60), from_seed, 50)
        assert asked

    run_api(scenario)


@pytest.mark.parametrize("exact", [0, 10_000])
def test_filters_that_keep_few_lose_none(run_api: Any, add: Any, monkeypatch: pytest.MonkeyPatch, exact: int) -> None:
    monkeypatch.setattr(similar, "EXACT", exact)

    async def scenario(api: Api) -> None:
        add("pro", 200)
        for filters in ({"energy": "98..100"}, {"energy": "..1"}, {"energy": "90..", "happiness": "..15"}):
            kept = [number for number in range(1, 200) if matches(number, filters)]
            assert len(kept) < 10
            assert is_best(ids_of(await get(api, k=100, **filters)), kept, from_seed, 100)
        some = [number for number in range(1, 200) if matches(number, {"speechiness": "40..60"})]
        assert is_best(ids_of(await get(api, k=7, speechiness="40..60")), some, from_seed, 7)

    run_api(scenario)


def matches(number: int, filters: dict[str, str]) -> bool:
    bounds = ((head, *wanted.split("..")) for head, wanted in filters.items())
    return all(int(low or 0) <= shown(number)[head] <= int(high or 100) for head, low, high in bounds)


def test_filters_see_the_scores_that_are_shown(run_api: Any, add: Any) -> None:
    async def scenario(api: Api) -> None:
        add("pro", 1)
        # 60.5 is shown as 60, as Python rounds halves to even numbers.
        for number, energy in enumerate((0.594999, 0.595, 0.6, 0.605, 0.605001, 0.0, 1.0, None), start=1):
            add("pro", 1, number, energy=energy)
        answer = await get(api, energy="60..60")
        assert sorted(track["energy"] for track in answer.json()["similar"]) == [60, 60, 60]
        everything = await get(api, k=100)
        for track in everything.json()["similar"]:
            if "energy" in track:
                only = f"{track['energy']}..{track['energy']}"
                assert track["id"] in ids_of(await get(api, energy=only))
        # A track without the score is in no range of it, not even in the widest.
        assert len(ids_of(await get(api, k=100))) == 8
        assert len(ids_of(await get(api, k=100, energy="0.."))) == 7

    run_api(scenario)


@pytest.mark.parametrize("exact", [0, 10_000])
def test_accounts_never_see_each_other(run_api: Any, add: Any, monkeypatch: pytest.MonkeyPatch, exact: int) -> None:
    monkeypatch.setattr(similar, "EXACT", exact)

    async def scenario(api: Api) -> None:
        add("pro", 20)
        add("free", 100, 20, vector=VECTORS[0])
        assert is_best(ids_of(await get(api, k=100)), range(1, 20), from_seed, 100)
        by_target = ids_of(await post(api, target={"energy": 50}, k=100))
        assert sorted(by_target) == sorted(IDS[:20])
        # Somebody else's track is exactly as unknown as one that nobody has.
        theirs, nobodys = await get(api, IDS[20]), await get(api, UNKNOWN)
        for one, other in ((theirs, nobodys), (await post(api, ids=[IDS[20]]), await post(api, ids=[UNKNOWN]))):
            problems = [answer.json() for answer in (one, other)]
            for problem, content_id in zip(problems, (IDS[20], UNKNOWN), strict=True):
                problem["detail"] = problem["detail"].replace(content_id, "ID")
                del problem["trace_id"]
            assert problems[0] == problems[1]
            assert (one.status_code, problems[0]["code"]) == (404, "not_found")

    run_api(scenario)


@pytest.mark.parametrize("exact", [0, 10_000])
def test_only_the_current_model_and_revision_compare(
    run_api: Any, add: Any, monkeypatch: pytest.MonkeyPatch, exact: int
) -> None:
    monkeypatch.setattr(similar, "EXACT", exact)

    async def scenario(api: Api) -> None:
        add("pro", 5)
        add("pro", 20, 5, revision="0", vector=VECTORS[0])
        add("pro", 20, 30, model="fake-v0", vector=VECTORS[0])
        assert is_best(ids_of(await get(api)), range(1, 5), from_seed, 10)
        old = await get(api, IDS[5])
        assert (old.status_code, old.json()["code"]) == (404, "not_found")
        assert "current model" in old.json()["detail"]
        api.pipeline.revision = "0"
        assert len(ids_of(await get(api, IDS[5], k=100))) == 19

    run_api(scenario)


def test_several_seeds_are_one_direction(run_api: Any, add: Any, session: Session) -> None:
    async def scenario(api: Api) -> None:
        add("pro")
        # One that is a hundred times as long counts no more than the others.
        long = np.asarray(100 * VECTORS[2], "<f4")
        changed = {"embedding": long.tolist(), "embedding_f32": long.tobytes()}
        session.execute(Track.__table__.update().where(Track.content_id == IDS[2]).values(**changed))
        session.commit()
        cosine = cosine_to((unit(0) + unit(1) + unit(2)) / 3)
        answer = await post(api, ids=[IDS[0], IDS[1], IDS[2], IDS[1]])
        assert answer.json()["seeds"] == IDS[:3]
        assert is_best(ids_of(answer), range(3, 60), lambda number: 1 - cosine[number], 10)
        first = answer.json()["similar"][0]
        assert first["similarity"] == pytest.approx(cosine[IDS.index(first["id"])], abs=1e-4)
        missing = await post(api, ids=[IDS[0], UNKNOWN])
        assert missing.status_code == 404
        assert UNKNOWN in missing.json()["detail"]

    run_api(scenario)


def off_target(number: int, target: dict[str, float]) -> float:
    scores = dict(zip(HEADS, SCORES[number].tolist(), strict=True))
    return sum(abs(scores[head] - value / 100) for head, value in target.items()) / len(target)


def test_target_alone_orders_by_scores(run_api: Any, add: Any) -> None:
    target = {"energy": 30, "happiness": 72.5}

    async def scenario(api: Api) -> None:
        add("pro")
        answer = await post(api, target=target, k=20)
        assert is_best(ids_of(answer), range(60), lambda number: off_target(number, target), 20)
        track = answer.json()["similar"][0]
        assert list(track) == ["id", "off_target", *HEADS, "duration_s"]
        assert track["off_target"] == pytest.approx(100 * off_target(IDS.index(track["id"]), target), abs=0.006)
        assert answer.json()["seeds"] == []
        loud = await post(api, target=target, filters={"energy": "80.."}, k=5)
        some = [number for number in range(60) if shown(number)["energy"] >= 80]
        assert is_best(ids_of(loud), some, lambda number: off_target(number, target), 5)
        # What a model does not score is as far away as can be, and does no harm.
        add("pro", 1, 60, energy=None)
        assert ids_of(await post(api, target={"energy": 0}, k=100))[-1] == IDS[60]

    run_api(scenario)


def test_target_with_seeds_orders_by_both(run_api: Any, add: Any) -> None:
    target = {"energy": 10}

    async def scenario(api: Api) -> None:
        add("pro")
        answer = await post(api, ids=[SEED], target=target)
        assert is_best(ids_of(answer), range(1, 60), lambda number: from_seed(number) + off_target(number, target), 10)
        track = answer.json()["similar"][0]
        assert list(track)[:3] == ["id", "similarity", "off_target"]
        assert ids_of(answer) not in (ids_of(await get(api)), ids_of(await post(api, target=target)))

    run_api(scenario)


@pytest.mark.usefixtures("through_index")
def test_target_with_seeds_among_many_orders_the_nearest(
    run_api: Any, add: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similar, "POOL", 20)
    monkeypatch.setattr(similar, "_SPARE", 0)
    target = {"energy": 10}

    async def scenario(api: Api) -> None:
        add("pro", 200)
        pool = sorted(range(1, 200), key=from_seed)[:20]
        found = ids_of(await post(api, ids=[SEED], target=target))
        assert is_best(found, pool, lambda number: from_seed(number) + off_target(number, target), 10)

    run_api(scenario)


def test_order_is_strict_and_ties_are_by_id(run_api: Any, add: Any) -> None:
    async def scenario(api: Api) -> None:
        add("pro", 40)
        add("pro", 20, 40, vector=VECTORS[1])
        body = (await get(api, k=100)).json()["similar"]
        for one, other in itertools.pairwise(body):
            assert one["similarity"] >= other["similarity"]
        twins = [track["id"] for track in body if track["id"] in {IDS[1], *IDS[40:60]}]
        assert twins == sorted(twins)
        assert len(twins) == 21

    run_api(scenario)


def test_analysed_tracks_are_found_at_once(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        ids = [(await api.analyze(b"song %d" % number, "pro")).json()["_meta"]["id"] for number in range(4)]
        assert ids_of(await get(api, ids[0])) != []
        assert set(ids_of(await get(api, ids[0]))) == set(ids[1:])

    run_api(scenario)


def test_one_track_alone_has_nothing_beside_it(run_api: Any, add: Any) -> None:
    async def scenario(api: Api) -> None:
        add("pro", 1)
        assert ids_of(await get(api)) == []

    run_api(scenario)
