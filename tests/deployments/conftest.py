"""One real Ray a session, started as users do: ``serve run`` with the shipped configuration and a small bundle."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from tests.support import make_bundle
from tunelab.encoder import find_bundle
from tunelab.service.accounts import create_account
from tunelab.service.database import sync_session
from tunelab.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 180


@dataclass
class Graph:
    """A running service."""

    process: subprocess.Popen[bytes]
    url: str
    settings: Settings
    log: Path
    bundle: Path
    revision: str

    def new_key(self, name: str, *, credits: int = 1000, tier: str = "free") -> str:
        with sync_session(self.settings) as session:
            return create_account(session, name, tier=tier, credits=credits)[1]

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """Processes of a deployment's replicas; only those of this graph."""
        found = []
        # Ray starts its processes away from ours: they are told by the folder in their environment.
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if f"ServeReplica:tunelab:{deployment}" in " ".join(process.cmdline()) and process.environ().get(
                    "TUNELAB_DATA_DIR"
                ) == str(self.settings.data_dir):
                    found.append(process)
        return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def shipped_config() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "serve_config.yaml").read_text()))


def start(folder: Path, temporary: Path, bundle: Path) -> Graph:
    """``serve run`` the shipped configuration on a free port, and wait until it is ready."""
    config, port = shipped_config(), free_port()
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    (application,) = config["applications"]
    application["args"]["bundle"] = str(bundle)
    # The small bundle is done with a window before a busy machine has sent the next: it waits longer than as shipped.
    application["args"]["batch_wait_timeout_s"] = 0.05
    for deployment in application["deployments"]:
        if deployment["name"] in ("MelExtractor", "Encoder"):
            deployment["max_queued_requests"] = 6  # so that a few dozen requests are too many
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config))
    data_dir = folder / "data"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNELAB_"))},
        "TUNELAB_DATA_DIR": str(data_dir),
        # A Ray of our own, whatever else runs on this machine. Its sockets need a short path.
        "RAY_TMPDIR": str(temporary),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "deployments.front:middlewares",
        "PYTHONPATH": str(ROOT),
    }
    log = folder / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("serve")), "run", "--address", "local", str(path)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Whoever runs the tests in the background makes them, and their children, deaf to SIGINT.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    settings = load_settings(data_dir=data_dir, database_url=None)
    graph = Graph(process, f"http://127.0.0.1:{port}", settings, log, bundle, find_bundle(bundle).revision)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{graph.url}/readyz", timeout=5).status_code == 200:
                return graph
        time.sleep(0.3)
    stop(graph)
    raise AssertionError("the graph did not start:\n" + log.read_text(errors="replace")[-4000:])


def stop(graph: Graph) -> None:
    """As Ctrl-C does; then whatever is left."""
    graph.process.send_signal(signal.SIGINT)
    try:
        graph.process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(graph.process.pid, signal.SIGKILL)
        graph.process.wait()


@pytest.fixture(scope="session")
def start_graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Graph]]:
    """Start the graph, or start it again, on one data folder."""
    folder = tmp_path_factory.mktemp("graph")
    temporary = Path(tempfile.mkdtemp(prefix="tl-", dir="/tmp"))
    bundle = make_bundle(folder / "small-v1")
    running: list[Graph] = []

    def begin() -> Graph:
        if running:
            stop(running.pop())
        running.append(start(folder, temporary, bundle))
        return running[-1]

    yield begin
    for graph in running:
        stop(graph)
    shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture(scope="session")
def graph(start_graph: Callable[[], Graph]) -> Graph:
    return start_graph()
