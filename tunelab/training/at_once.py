"""Do something with many things at once, in threads: for work that other programs do, or the network, or NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tunelab.encoder.engine import available_cores

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def at_once(
    function: Callable[[Thing], Result], things: Iterable[Thing], workers: int | None = None
) -> Iterator[Result]:
    """What ``function`` gives for each thing, in their order, some of them worked on at once.

    All are begun, whether or not the results are asked for one by one. The first failure is raised in its place, and
    what has not been begun then never is.

    Args:
        function: is called from several threads.
        things: all of them are drawn first.
        workers: threads; by default as many as there are cores.
    """
    with ThreadPoolExecutor(workers or available_cores()) as pool:
        jobs = [pool.submit(function, thing) for thing in things]
        try:
            for job in jobs:
                yield job.result()
        finally:
            for job in jobs:
                job.cancel()
