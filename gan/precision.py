"""Number formats: which of them the layers compute in, and whether this processor does so natively.

`bf16` is mixed precision: convolutions and matrix products take BF16 operands and accumulate in FP32; variables, their
updates, batch normalization, losses and the exchange between ranks stay FP32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["describe", "layer_policy", "native_bf16"]

_POLICIES = {"fp32": "float32", "bf16": "mixed_bfloat16"}


def layer_policy(precision: str) -> Any:
    """The Keras policy that layers are built with."""
    import keras

    return keras.DTypePolicy(_POLICIES[precision])


def native_bf16(cpuinfo: str | None = None) -> str | None:
    """The instruction set that multiplies BF16 here (`amx_bf16` before `avx512_bf16`), None where there is none."""
    if cpuinfo is None:
        try:
            cpuinfo = Path("/proc/cpuinfo").read_text()
        except OSError:
            return None
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "").split()
    return next((name for name in ("amx_bf16", "avx512_bf16") if name in flags), None)


def describe(precision: str) -> dict[str, Any]:
    """For the record: what was asked for and how it is computed."""
    if precision == "fp32":
        return {"requested": precision, "computed": "fp32", "native": True}
    instructions = native_bf16()
    how = f"natively ({instructions})" if instructions else "by conversion: this processor has no BF16 instructions"
    return {"requested": precision, "computed": f"bf16 {how}", "native": instructions is not None}
