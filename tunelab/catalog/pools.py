"""Decoders and encoders as two pools of Ray Data, and rows that come out of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from tunelab.audio.decode import DecodeLimits
from tunelab.catalog.stages import Attempts, DecodeStage, EncodeStage
from tunelab.encoder import EngineName


@dataclass(frozen=True, slots=True)
class Pools:
    """How many workers there are of each kind, and what each of them takes.

    Attributes:
        bundle: path of the bundle on every node.
        revision: that it must have there.
        engine, precision: see :func:`tunelab.encoder.load_engine`.
        limits: what the decoder refuses.
        folder: what relative paths start from.
        encoders, decoders: workers.
        threads: CPU threads of one encoder; ``None``: every core.
        encoder_cpus, encoder_gpus, decoder_cpus: what Ray sets aside for one worker.
        batch: files in a block. The decoder hands on so many windows (1 MB each) at once, and the encoder takes them
            together.
    """

    bundle: str
    revision: str
    engine: EngineName
    precision: str
    limits: DecodeLimits
    folder: str
    encoders: int
    decoders: int
    threads: int | None
    encoder_cpus: float
    encoder_gpus: float
    decoder_cpus: float
    batch: int

    def run(self, files: pa.Table) -> Iterator[pa.Table]:
        """Decode and encode files. The process has to be a driver of Ray, or a worker, and no client.

        Args:
            files: rows of the manifest.

        Yields:
            Rows of :data:`tunelab.catalog.schema.SCHEMA`, some at a time, in the order in which they are done.

        A worker that dies is started again, and what it had is given to another.
        """
        import ray
        from ray.data import ActorPoolStrategy, DataContext

        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # What goes wrong is raised, with its reason; here it would stand between the lines of progress, page by page.
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()
        blocks = [files.slice(start, self.batch) for start in range(0, files.num_rows, self.batch)]
        rows = (
            ray.data.from_arrow(blocks)
            .map_batches(
                DecodeStage,
                fn_constructor_args=(self.bundle, self.revision, self.limits, attempts, self.folder),
                batch_size=None,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=min(self.decoders, len(blocks))),
                num_cpus=self.decoder_cpus,
            )
            .map_batches(
                EncodeStage,
                fn_constructor_args=(self.bundle, self.revision, self.engine, self.threads, self.precision),
                batch_size=None,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=min(self.encoders, len(blocks))),
                num_cpus=self.encoder_cpus,
                num_gpus=self.encoder_gpus,
            )
        )
        yield from rows.iter_batches(batch_size=None, batch_format="pyarrow")


class Runner:
    """Runs the pools as an actor inside a cluster, for a client outside: Ray Data knows no clients.

    Args:
        pools: what to run.
        files: rows of the manifest.
    """

    def __init__(self, pools: Pools, files: pa.Table) -> None:
        self._rows = pools.run(files)

    def next(self) -> pa.Table | None:
        """The next rows; ``None``: that was all."""
        return next(self._rows, None)
