"""The arithmetic of convolutions: how this processor multiplies and adds numbers of a format.

A processor without BF16 instructions would convert numbers inside every BF16 kernel, which takes five times as long as
FP32. On such a processor operands are rounded to BF16 and multiplied by FP32 kernels instead. The products are the
same, because a product of two BF16 numbers is exact in FP32. Both ways add in FP32, but in different orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gan.precision.formats import native_bf16

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Arithmetic"]

_STRIDES = [1, 1, 1, 1, 1]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Arithmetic of convolutions without padding.

    Cells are (batch, x, y, depth, in), kernels float32 (x, y, depth, in, out), results (batch, x, y, depth, out).
    """

    format: str = "float32"
    """Format of operands and results: float32 or bfloat16."""
    products: str = "float32"
    """Format of the numbers that the processor multiplies: `format`, or float32 for rounded operands."""
    multiplier: tuple[int, int] = (1, 16)
    """Input and output channels that the processor multiplies at a time. With fewer channels, a part is wasted."""

    @classmethod
    def of(cls, policy: Any) -> Arithmetic:
        """Return the arithmetic for layers with this Keras policy on this processor."""
        if policy.compute_dtype == "float32":
            return cls()
        instructions = native_bf16()
        # An AMX tile multiplies 32 by 16. AVX-512 BF16 multiplies pairs, which any kernel of more than one cell has.
        return cls(
            format=policy.compute_dtype,
            products=policy.compute_dtype if instructions else "float32",
            multiplier=(32, 16) if instructions == "amx_bf16" else (1, 16),
        )

    def forward(self, cells: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Return the convolution of cells with a kernel, in `format`."""
        import tensorflow as tf

        product = tf.raw_ops.Conv3D(
            input=self._operand(cells), filter=self._operand(kernel), strides=_STRIDES, padding="VALID"
        )
        return tf.cast(product, self.format)

    def input_gradient(self, shape: Sequence[int], kernel: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
        """Return the gradient of cells of this shape, in `format`."""
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
        """Return the gradient of a kernel of this shape: rounded to `format`, held in float32."""
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
        """Round values to `format` and hold them in the format of the products."""
        import tensorflow as tf

        return tf.cast(tf.cast(values, self.format), self.products)
