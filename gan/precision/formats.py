"""Number formats of a training: Keras policies, rounding of weights, and support by this processor.

- `fp32`: everything in FP32.
- `bf16`: mixed precision. Convolutions and matrix products take BF16 operands and accumulate in FP32. Variables, their
  updates, batch normalization, losses and the exchange between ranks stay in FP32.
- `bf16-full`: like `bf16`, but the weights are also rounded to BF16 after every update, as in a training without FP32
  master weights. This format is for comparisons only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["describe", "layer_policy", "native_bf16", "round_weights", "vector_length"]

_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")
_LIMITS_WITHOUT_AVX512 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")
"""Values of ONEDNN_MAX_CPU_ISA without AVX-512 instructions."""
_LIMITS_WITHOUT_BF16 = (*_LIMITS_WITHOUT_AVX512, "AVX512_CORE", "AVX512_CORE_VNNI")
"""Values of ONEDNN_MAX_CPU_ISA without BF16 instructions."""
_POLICIES = {"fp32": "float32", "bf16": "mixed_bfloat16", "bf16-full": "mixed_bfloat16"}


def layer_policy(precision: str) -> Any:
    """Return the Keras policy of the layers."""
    import keras

    return keras.DTypePolicy(_POLICIES[precision])


def round_weights(variables: Sequence[Any], precision: str) -> None:
    """Round float32 variables to the nearest BF16 number if the precision keeps no FP32 master weights."""
    if precision != "bf16-full":
        return
    import tensorflow as tf

    for variable in variables:
        variable.assign(tf.cast(tf.cast(variable.value, tf.bfloat16), tf.float32))


def native_bf16(cpuinfo: str | None = None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the instruction set that multiplies BF16 on this processor, or None if BF16 must be emulated.

    Only oneDNN uses these instructions. TensorFlow's own kernels round every single addition to BF16. So BF16 does not
    count as native if the environment turns oneDNN off or excludes the instructions.

    Args:
        cpuinfo: text of /proc/cpuinfo; read from this machine by default.
        environment: variables that limit oneDNN: TF_ENABLE_ONEDNN_OPTS and ONEDNN_MAX_CPU_ISA.

    Returns:
        `amx_bf16` if the processor has it, else `avx512_bf16` or None.
    """
    limit = environment.get("ONEDNN_MAX_CPU_ISA", "").upper()
    if environment.get("TF_ENABLE_ONEDNN_OPTS", "").lower() in ("0", "false") or limit in _LIMITS_WITHOUT_BF16:
        return None
    flags = _flags(cpuinfo)
    allowed = _INSTRUCTIONS if limit in ("", "ALL", "DEFAULT") or "AMX" in limit else _INSTRUCTIONS[1:]
    return next((name for name in allowed if name in flags), None)


def vector_length(cpuinfo: str | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of float32 numbers in a vector register: 16 with AVX-512, otherwise 8.

    Args:
        cpuinfo: text of /proc/cpuinfo; read from this machine by default.
        environment: variables that limit oneDNN: ONEDNN_MAX_CPU_ISA.
    """
    limited = environment.get("ONEDNN_MAX_CPU_ISA", "").upper() in _LIMITS_WITHOUT_AVX512
    return 16 if "avx512f" in _flags(cpuinfo) and not limited else 8


def _flags(cpuinfo: str | None) -> list[str]:
    """Return the names of the features of this processor, or of the one in a text; none if they are unknown."""
    if cpuinfo is None:
        try:
            cpuinfo = Path("/proc/cpuinfo").read_text()
        except OSError:
            return []
    return next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "").split()


def describe(precision: str) -> dict[str, Any]:
    """Return the requested precision and its computation on this processor, for the record of a run.

    Returns:
        `requested`, `computed` (a description) and `native`: False if BF16 is emulated in FP32.
    """
    if precision == "fp32":
        return {"requested": precision, "computed": "fp32", "native": True}
    instructions = native_bf16()
    how = f"natively ({instructions})" if instructions else "rounded and multiplied in FP32, no BF16 instructions here"
    weights = ", weights in BF16 too" if precision == "bf16-full" else ""
    return {"requested": precision, "computed": f"bf16 {how}{weights}", "native": instructions is not None}
