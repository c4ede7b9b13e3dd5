"""Number formats: what the layers compute in, how they multiply, and whether this processor does so natively.

`bf16` is mixed precision: convolutions and matrix products take BF16 operands and accumulate in FP32; variables, their
updates, batch normalization, losses and the exchange between ranks stay FP32. `bf16-full` rounds the networks'
weights to BF16 after every update as well, as a training without FP32 master weights would: for comparison.

A processor without BF16 instructions would convert inside every kernel, five times slower than FP32. There the operands
of convolutions are rounded to BF16 and multiplied by FP32 kernels instead: the same products, which are exact in FP32,
and sums in FP32, if in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Arithmetic", "describe", "layer_policy", "native_bf16", "round_weights"]

_POLICIES = {"fp32": "float32", "bf16": "mixed_bfloat16", "bf16-full": "mixed_bfloat16"}
_STRIDES = [1, 1, 1, 1, 1]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How convolutions without padding multiply and add."""

    format: str = "float32"
    """Of operands and results, float32 or bfloat16."""
    products: str = "float32"
    """What the processor multiplies in: `format`, or float32 for rounded operands."""
    multiplier: tuple[int, int] = (1, 16)
    """Channels in and out that its kernels take at a time; fewer leave a part of it idle."""

    @classmethod
    def of(cls, policy: Any) -> Arithmetic:
        """What a Keras policy's layers use on this processor."""
        if policy.compute_dtype == "float32":
            return cls()
        instructions = native_bf16()
        # A tile of AMX multiplies 32 by 16; pairs of AVX-512 BF16 are had in any kernel of more than one cell.
        return cls(
            format=policy.compute_dtype,
            products=policy.compute_dtype if instructions else "float32",
            multiplier=(32, 16) if instructions == "amx_bf16" else (1, 16),
        )

    def forward(self, cells: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The convolution of (batch, x, y, z, in) with a float32 kernel (x, y, z, in, out), without padding."""
        import tensorflow as tf

        product = tf.raw_ops.Conv3D(
            input=self._operand(cells), filter=self._operand(kernel), strides=_STRIDES, padding="VALID"
        )
        return tf.cast(product, self.format)

    def input_gradient(self, shape: Sequence[int], kernel: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
        """The gradient of cells of that shape."""
        import tensorflow as tf

        gradient = tf.raw_ops.Conv3DBackpropInputV2(
            input_sizes=shape,
            filter=self._operand(kernel),
            out_backprop=self._operand(upstream),
            strides=_STRIDES,
            padding="VALID",
        )
        return tf.cast(gradient, self.format)

    def kernel_gradient(self, cells: tf.Tensor, shape: Sequence[int], upstream: tf.Tensor) -> tf.Tensor:
        """The gradient of a kernel of that shape, float32."""
        import tensorflow as tf

        gradient = tf.raw_ops.Conv3DBackpropFilterV2(
            input=self._operand(cells),
            filter_sizes=shape,
            out_backprop=self._operand(upstream),
            strides=_STRIDES,
            padding="VALID",
        )
        return tf.cast(tf.cast(gradient, self.format), tf.float32)

    def _operand(self, values: tf.Tensor) -> tf.Tensor:
        """Rounded to the format, in the type that is multiplied."""
        import tensorflow as tf

        return tf.cast(tf.cast(values, self.format), self.products)


def layer_policy(precision: str) -> Any:
    """The Keras policy that layers are built with."""
    import keras

    return keras.DTypePolicy(_POLICIES[precision])


def round_weights(variables: Sequence[Any], precision: str) -> None:
    """Leave in float32 variables what BF16 can hold of them, where the precision keeps no FP32 master weights."""
    if precision != "bf16-full":
        return
    import tensorflow as tf

    for variable in variables:
        variable.assign(tf.cast(tf.cast(variable.value, tf.bfloat16), tf.float32))


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
    how = f"natively ({instructions})" if instructions else "rounded and multiplied in FP32, for want of instructions"
    weights = ", weights in BF16 too" if precision == "bf16-full" else ""
    return {"requested": precision, "computed": f"bf16 {how}{weights}", "native": instructions is not None}
