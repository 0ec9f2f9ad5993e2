"""Which numbers to multiply in: bfloat16 where the CPU has it in hardware, float32 where it would be emulated."""

from __future__ import annotations

from functools import cache

import torch

from tunelab.encoder.quantize import cpu_flags

_BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
"""As Linux names them on x86 and on Arm. Emulated products took four times as long as float32."""


@cache
def quick_dtype() -> torch.dtype:
    """``torch.bfloat16`` or ``torch.float32``."""
    return torch.float32 if _BF16_FLAGS.isdisjoint(cpu_flags()) else torch.bfloat16


def quick_arithmetic() -> torch.autocast:
    """A context in which matrix products are taken in :func:`quick_dtype`."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=quick_dtype() == torch.bfloat16)
