"""Run beside the graph, in a process of its own: a client of the Encoder's handle.

Takes Ray's address and the bundle's revision, prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys

import numpy as np
import ray
from ray import serve

from tunelab.errors import EngineError
from tunelab.types import Features


async def main() -> None:
    handle = serve.get_deployment_handle("Encoder", "tunelab")
    before = await handle.stats.remote()
    rng = np.random.default_rng(0)
    mels = [rng.normal(size=(1876, 128)).astype(np.float32) for _ in range(5)]
    revision = sys.argv[2]
    alone = [(await handle.remote(Features(mel, 1.0, revision))).embedding for mel in mels[:2]]
    single = await handle.stats.remote()
    calls = [handle.remote(Features(mel, float(number), revision)) for number, mel in enumerate(mels)]
    bad = handle.remote(Features(np.zeros((3, 3), np.float32), 9.0, revision))
    results = await asyncio.gather(*calls, bad, return_exceptions=True)
    after = await handle.stats.remote()
    answer = {
        "single_batches": single["batches"] - before["batches"],
        "batches": after["batches"] - single["batches"],
        "windows": after["windows"] - single["windows"],
        "bad_failed_alone": isinstance(results[-1], EngineError),
        "durations": [result.duration_s for result in results[:-1]],
        "same_as_alone": [bool(np.array_equal(one, result.embedding)) for one, result in zip(alone, results)],  # noqa: B905
    }
    print(json.dumps(answer))


ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
asyncio.run(main())
