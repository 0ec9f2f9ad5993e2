"""The arithmetic of large catalogues."""

from __future__ import annotations

import pytest

from benchmarks.estimate import Rates, table

RATES = Rates(2.5, 20, 96, 0.5, 10, 8, 0.05, 2)


def test_rates_follow_from_the_measures() -> None:
    assert RATES.per_gpu == pytest.approx(500)
    assert RATES.cores_per_gpu == pytest.approx(25)
    assert RATES.network_files_per_s == pytest.approx(100)


def test_the_narrowest_place_bounds_a_catalogue() -> None:
    cpu, gpu, *_ = table(RATES, cores=8, gpus=1, gpu_cores=4)[2:]
    # 8 cores x 2.5 files/s = 20; a million files take 13.9 h and 8 x $0.05 an hour.
    assert cpu == "| 1,000,000 | 8 cores | 20 | encoding on CPUs | 13.9 h | $6 |"
    assert gpu == "| 1,000,000 | 1 GPUs, 4 cores | 80 | decoding on CPUs | 3.5 h | $8 |"
    assert "| the network | 2.8 h |" in table(RATES, cores=80, gpus=1, gpu_cores=4)[2]
    assert "| the GPUs | " in table(Rates(2.5, 20, 9.6, 0.5, 10, 80, 0.05, 2), 8, 1, 25)[3]
