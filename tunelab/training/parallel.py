"""Do something with many things at once, in threads: for work that other programs do, or the network, or NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tunelab.encoder.engine import available_cores

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Thing], Result], things: Iterable[Thing], workers: int | None = None
) -> Iterator[Result]:
    """What ``function`` gives for each thing, in their order, some of them worked on at once.

    The first result that is asked for sets all of it going. The first failure is raised in its place, and what has not
    been begun then never is.

    Args:
        function: is called from several threads.
        things: all of them are drawn at the beginning.
        workers: threads; by default as many as there are cores.
    """
    with ThreadPoolExecutor(workers or available_cores()) as pool:
        yield from pool.map(function, things)
