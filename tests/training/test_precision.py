from collections.abc import Iterator

import pytest
import torch

from tunelab.training import precision
from tunelab.training.precision import quick_arithmetic, quick_dtype


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    quick_dtype.cache_clear()
    yield
    quick_dtype.cache_clear()


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [({"avx512f", "avx512_vnni"}, torch.float32), ({"avx2", "amx_bf16"}, torch.bfloat16), (set(), torch.float32)],
)
def test_bfloat16_only_where_the_cpu_has_it(
    flags: set[str], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset(flags))
    assert quick_dtype() == dtype
    with quick_arithmetic():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
