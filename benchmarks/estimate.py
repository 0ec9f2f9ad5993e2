"""``python -m benchmarks.estimate``: time and cost of large catalogues, by arithmetic from what was measured.

Nothing is measured here. Rates come from ``make bench`` (the batch job and the stages); prices and the GPU's share of
its peak are assumptions, to be replaced by one's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

ENCODER_GFLOP = 96
"""Of one window through tunelab-v1 (938 tokens, 6 blocks)."""
CATALOGUES = (1_000_000, 100_000_000)


@dataclass(frozen=True, slots=True)
class Rates:
    """What one machine does.

    Attributes:
        files_per_core: files a second that a batch job does on one core, decoding and encoding.
        decoded_per_core: files a second that one core decodes and turns into windows.
        gpu_tflops: peak of a GPU in bf16.
        gpu_share: of it that the encoder reaches.
        megabytes: of a file.
        network_gbit: that reaches the cluster's nodes together.
        core_price, gpu_price: for an hour.
    """

    files_per_core: float
    decoded_per_core: float
    gpu_tflops: float
    gpu_share: float
    megabytes: float
    network_gbit: float
    core_price: float
    gpu_price: float

    @property
    def per_gpu(self) -> float:
        """Windows a second that a GPU encodes."""
        return 1000 * self.gpu_tflops * self.gpu_share / ENCODER_GFLOP

    @property
    def cores_per_gpu(self) -> float:
        """Cores that decode what one GPU encodes."""
        return self.per_gpu / self.decoded_per_core

    @property
    def network_files_per_s(self) -> float:
        """Files a second that the network brings."""
        return 125 * self.network_gbit / self.megabytes


def table(rates: Rates, cores: int, gpus: int, gpu_cores: int) -> list[str]:
    """Rows of a Markdown table: each catalogue on CPU nodes and on nodes with GPUs."""
    rows = [
        "| catalogue | nodes | files/s | bound by | time | cost |",
        "|---|---|---|---|---|---|",
    ]
    for count in CATALOGUES:
        by_cpu = {"encoding on CPUs": cores * rates.files_per_core, "the network": rates.network_files_per_s}
        by_gpu = {
            "the GPUs": gpus * rates.per_gpu,
            "decoding on CPUs": gpu_cores * rates.decoded_per_core,
            "the network": rates.network_files_per_s,
        }
        for name, limits, price in (
            (f"{cores} cores", by_cpu, cores * rates.core_price),
            (f"{gpus} GPUs, {gpu_cores} cores", by_gpu, gpus * rates.gpu_price + gpu_cores * rates.core_price),
        ):
            bound = min(limits, key=lambda limit: limits[limit])
            hours = count / limits[bound] / 3600
            time = f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
            rows.append(f"| {count:,} | {name} | {limits[bound]:,.0f} | {bound} | {time} | ${hours * price:,.0f} |")
    return rows


def main(
    files_per_core: Annotated[float, typer.Option(help="Files/s a core: batch job of `make bench` / its cores.")],
    decode_ms: Annotated[float, typer.Option(help="Decode and log-mel of one file, ms: `make bench`, stages.")],
    gpu_tflops: Annotated[float, typer.Option(help="Peak of a GPU, bf16, dense.")] = 312.0,
    gpu_share: Annotated[float, typer.Option(help="Share of it that is reached. Assumed.")] = 0.25,
    megabytes: Annotated[float, typer.Option(help="Of a file.")] = 8.0,
    network_gbit: Annotated[float, typer.Option(help="To all nodes together.")] = 40.0,
    core_price: Annotated[float, typer.Option(help="$ for an hour of a core. Assumed.")] = 0.04,
    gpu_price: Annotated[float, typer.Option(help="$ for an hour of a GPU. Assumed.")] = 2.0,
    cores: Annotated[int, typer.Option(help="Of the cluster without GPUs.")] = 256,
    gpus: Annotated[int, typer.Option(help="Of the cluster with GPUs.")] = 2,
    gpu_cores: Annotated[int, typer.Option(help="Beside them.")] = 96,
) -> None:
    """Print the estimate as Markdown."""
    rates = Rates(
        files_per_core, 1000 / decode_ms, gpu_tflops, gpu_share, megabytes, network_gbit, core_price, gpu_price
    )
    print("\n".join(table(rates, cores, gpus, gpu_cores)))
    print(
        f"\nA GPU of {gpu_tflops:g} Tflop/s at {gpu_share:.0%} encodes {rates.per_gpu:,.0f} windows/s, "
        f"which {rates.cores_per_gpu:,.0f} cores decode."
    )


if __name__ == "__main__":
    typer.run(main)
