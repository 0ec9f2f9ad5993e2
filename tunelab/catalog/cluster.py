"""A job's Ray, of its own on this machine or a cluster, and how the job's workers share it out."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from tunelab import errors
from tunelab.catalog.pools import Pools, Runner
from tunelab.encoder.engine import available_cores
from tunelab.errors import CatalogError, TuneLabError

if TYPE_CHECKING:
    from tunelab.catalog.job import JobOptions
    from tunelab.encoder import Bundle

_LOCAL_STORE_BYTES = 1_000_000_000
"""Ray's shared memory on this machine: hundreds of times what is in flight at once."""
_CPU_BATCH, _GPU_BATCH = 8, 32
"""Files in a block."""
_THREADS_ON_CLUSTER = 2
_OURS = re.compile(r"tunelab\.errors\.(\w+): (.*)")
_CONNECT_S = 10.0


class Cluster:
    """A running Ray with a job's workers; a context manager that ends what it began.

    Args:
        options: what the job was asked for.
        bundle: it must be on every node, at the same path and of the same revision.
    """

    def __init__(self, options: JobOptions, bundle: Bundle) -> None:
        self._options, self._bundle = options, bundle
        self.workers = 0

    def __enter__(self) -> Cluster:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Its libraries write to standard error by themselves, where the progress line is.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        import ray

        options = self._options
        if ray.is_initialized():
            raise CatalogError("this process already uses Ray")
        _check_reachable(options.address)
        cores = available_cores()
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
        try:
            with _no_standard_error():
                if options.address is not None:
                    ray.init(address=options.address, **quiet)
                else:
                    # More than there are: Ray Data needs some for its own tasks, and would wait for ever.
                    ray.init(
                        address="local",
                        num_cpus=cores + 2,
                        include_dashboard=False,
                        object_store_memory=_LOCAL_STORE_BYTES,
                        **quiet,
                    )
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            where = "on this machine" if options.address is None else f"at {options.address}"
            raise CatalogError(f"Ray cannot be used {where}: {str(error).splitlines()[0]}") from error
        self._pools = _measure(options, self._bundle, cores)
        self.workers = self._pools.encoders
        return self

    def __exit__(self, *error: object) -> None:
        import ray

        ray.shutdown()

    def run(self, files: pa.Table) -> Iterator[pa.Table]:
        """Decode and encode files, as :meth:`tunelab.catalog.pools.Pools.run` does.

        Raises:
            EngineError: the encoder failed.
            BundleError: a node lacks the bundle, or has another revision of it.
            CatalogError: the cluster is lost; what was yielded before is done.
        """
        import ray
        from ray.util.client import ray as client

        try:
            if client.is_connected():
                runner = ray.remote(num_cpus=0)(Runner).remote(self._pools, files)
                while (rows := ray.get(runner.next.remote())) is not None:
                    yield rows
            else:
                yield from self._pools.run(files)
        except Exception as error:  # of Ray's many libraries
            raise _translate(error) from None


def _measure(options: JobOptions, bundle: Bundle, cores: int) -> Pools:
    import ray

    local = options.address is None
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0)) if options.engine != "openvino" else 0
    cpus = cores if local else max(1, int(resources.get("CPU", 1)))
    threads = options.threads
    if gpus:
        encoders = options.workers or gpus
        # One encoder on a GPU takes what a dozen cores decode.
        decoders = options.decoders or max(2, cpus - encoders)
        encoder_cpus, decoder_cpus = min(0.5, 0.25 * cpus / encoders), min(1.0, 0.75 * cpus / decoders)
    else:
        per_encoder = cores if local else min(_THREADS_ON_CLUSTER, _largest_node() or _THREADS_ON_CLUSTER)
        encoders = options.workers or max(1, cpus // per_encoder)
        threads = threads or max(1, cores // encoders if local else per_encoder)
        # Decoding a file takes a quarter of what encoding it does; a second one bridges the slow files.
        decoders = options.decoders or max(2, encoders * -(-threads // 4))
        if local:
            # They only have to fit, however many were asked for; the operating system shares the cores out.
            encoder_cpus, decoder_cpus = 0.5 * cores / encoders, 0.25 * cores / decoders
        else:
            # They spread the encoders over the nodes; an autoscaler brings nodes for those that find no room.
            encoder_cpus, decoder_cpus = 0.75 * threads, 0.25 * threads * encoders / decoders
    return Pools(
        bundle=str(bundle.path),
        revision=bundle.revision,
        engine=options.engine,
        precision=options.precision,
        limits=options.limits,
        folder=os.getcwd(),
        encoders=encoders,
        decoders=decoders,
        threads=threads,
        encoder_cpus=encoder_cpus,
        encoder_gpus=min(1.0, gpus / encoders),
        decoder_cpus=decoder_cpus,
        batch=_GPU_BATCH if gpus else _CPU_BATCH,
    )


def _check_reachable(address: str | None) -> None:
    """Ray itself would try for minutes, and then end the process.

    Raises:
        CatalogError: nobody listens there.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "auto" and the like: Ray looks them up at once
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise CatalogError(f"Ray cannot be used at {address}: {error}") from error


@contextmanager
def _no_standard_error() -> Iterator[None]:
    """Ray's libraries say there, without being asked, what they log at; what goes wrong is raised."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _largest_node() -> int:
    """CPU cores of the largest node, 0 if there is none yet."""
    import ray

    return max((int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]), default=0)


def _translate(error: BaseException) -> Exception:
    """What a failed run means: an error of ours from inside a stage, or what Ray says last."""
    import ray

    cause: BaseException | None = error
    while isinstance(cause, ray.exceptions.RayTaskError):
        cause = cause.cause if isinstance(cause.cause, BaseException) and cause.cause is not cause else None
    if isinstance(cause, TuneLabError):
        return cause
    lines = str(cause or error).strip().splitlines() or [type(error).__name__]
    # Of a worker that could not begin there is only the text of its traceback.
    if (found := _OURS.match(lines[-1])) and (ours := getattr(errors, found[1], None)):
        return cast(TuneLabError, ours(found[2]))
    return CatalogError(f"a worker failed: {lines[0][:300]}")
