"""Similar tracks where there is no direction, a vector of zeros or seeds that cancel out: the similarity is 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.service.similar_support import IDS, INDEX, SCORES, SEED, VECTORS, from_seed, get, ids_of, is_best, post
from tests.service.support import Api
from tunelab.service import similar

pytestmark = pytest.mark.usefixtures("every_way")


@pytest.fixture(params=[(0, INDEX), (0, {}), (10_000, {})], ids=["index", "index that the planner leaves", "all"])
def every_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    exact, plan = request.param
    monkeypatch.setattr(similar, "EXACT", exact)
    monkeypatch.setattr(similar, "_PLAN", {**similar._PLAN, **plan})


def test_seeds_that_cancel_out_and_vectors_of_zeros(run_api: Any, add: Any) -> None:
    async def scenario(api: Api) -> None:
        add("pro", 20)
        add("pro", 1, 20, vector=-VECTORS[0])
        add("pro", 1, 21, vector=np.zeros(768))
        answer = await post(api, ids=[IDS[0], IDS[20]], k=100)
        assert len(ids_of(answer)) == 20
        assert {track["similarity"] for track in answer.json()["similar"]} == {0.0}
        found = {track["id"]: track["similarity"] for track in (await get(api, k=100)).json()["similar"]}
        assert (found[IDS[20]], found[IDS[21]]) == (-1.0, 0.0)
        assert len(ids_of(await get(api, IDS[21], k=100))) == 21

    run_api(scenario)


def test_where_seeds_cancel_out_the_target_decides(run_api: Any, add: Any) -> None:
    def off_target(number: int) -> float:
        return abs(SCORES[number, 0] - 0.1)

    async def scenario(api: Api) -> None:
        add("pro", 50)
        add("pro", 1, 50, vector=-VECTORS[0])
        for k in (1, 3, 10):
            found = ids_of(await post(api, ids=[SEED, IDS[50]], target={"energy": 10}, k=k))
            assert is_best(found, range(1, 50), off_target, k)
        # Nor has a single seed of zeros a direction.
        add("pro", 1, 51, vector=np.zeros(768))
        found = ids_of(await post(api, ids=[IDS[51]], target={"energy": 10}, k=3))
        assert is_best(found, range(51), off_target, 3)

    run_api(scenario)


def test_zeros_are_nearer_than_what_points_the_other_way(run_api: Any, add: Any) -> None:
    async def scenario(api: Api) -> None:
        add("pro", 1)
        add("pro", 1, 1, vector=np.zeros(768))
        add("pro", 5, 2, vector=-VECTORS[0])
        assert ids_of(await get(api, k=1)) == [IDS[1]]
        both = ids_of(await post(api, ids=[SEED], target={"energy": 100 * SCORES[1, 0]}, k=1))
        assert both == [IDS[1]]
        # And farther than what does not.
        add("pro", 1, 7)
        assert ids_of(await get(api, k=2)) == [IDS[7], IDS[1]]
        assert [track["similarity"] for track in (await get(api, k=3)).json()["similar"]][1:] == [0.0, -1.0]

    run_api(scenario)


def test_zeros_among_many_are_where_they_belong(run_api: Any, add: Any) -> None:
    """Half of the tracks point the other way."""

    def distance(number: int) -> float:
        return 1.0 if number == 199 else 2 - from_seed(number) if number >= 100 else from_seed(number)

    async def scenario(api: Api) -> None:
        add("pro", 100)
        for number in range(100, 199):
            add("pro", 1, number, vector=-VECTORS[number])
        add("pro", 1, 199, vector=np.zeros(768))
        for k in (50, 99, 100):
            assert is_best(ids_of(await get(api, k=k)), range(1, 200), distance, k)
        assert ids_of(await get(api, k=100))[-1] == IDS[199]

    run_api(scenario)
