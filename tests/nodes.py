"""A Ray cluster of several nodes on this machine, in a process of its own: ``python -m tests.nodes CPUS...``.

Prints its address, then obeys lines on standard input: ``kill N`` takes node N away as if its plug were pulled (node 0
is the head), end of file ends it all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HEAD = "head"
"""A resource that only the head has: what asks for a little of it runs there."""


def main(*cpus: str) -> None:
    from ray.cluster_utils import Cluster

    head = {"num_cpus": float(cpus[0]), "resources": {HEAD: 1}, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.head_node]
    nodes += [cluster.add_node(num_cpus=float(count), object_store_memory=200_000_000) for count in cpus[1:]]
    print(f"address {cluster.address}", flush=True)
    for line in sys.stdin:
        cluster.remove_node(nodes[int(line.split()[1])], allow_graceful=False)
        print("killed", flush=True)
    cluster.shutdown()


class Nodes:
    """The process, from the test's side."""

    def __init__(self, folder: Path, *cpus: float, **environment: str) -> None:
        # Names of sockets must be short.
        self._temporary = tempfile.mkdtemp(prefix="tl-", dir="/tmp")
        # Ray writes the address of the newest cluster in there, for others to find: not in the folder that all share.
        (Path(self._temporary) / "ray").mkdir()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNELAB_"))},
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": self._temporary,
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        self._log = (folder / "nodes.log").open("wb")
        self._process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-m", "tests.nodes", *map(str, cpus)],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self.address = self._read("address")
        except AssertionError:
            self.close()
            raise

    def _read(self, word: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(word):
                return line.removeprefix(word).strip()
        raise AssertionError("the cluster ended")

    def kill(self, number: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"kill {number}\n")
        self._process.stdin.flush()
        self._read("killed")

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
