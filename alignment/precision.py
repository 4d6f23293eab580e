"""Which number format the TRL stages compute in, and on what device.

Knows nothing of models. TRL turns bfloat16 on by default wherever it runs; a CPU without the instructions emulates it, several
times slower than float32. Weights and optimiser state are float32 either way: this decides the matrix products only.
"""

from __future__ import annotations

from typing import Literal

Precision = Literal["auto", "float32", "bfloat16"]


def device_name() -> str:
    """`cuda` when there is a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def uses_bfloat16(precision: Precision) -> bool:
    """Whether to multiply in bfloat16: when asked to, or on `auto` when the hardware does it natively."""
    import torch

    if precision != "auto":
        return precision == "bfloat16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("amx_bf16") or abilities.get("avx512_bf16"))
