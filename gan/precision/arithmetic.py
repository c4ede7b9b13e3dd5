"""The arithmetic of convolutions: how this processor multiplies and adds numbers of a format.

A processor without BF16 instructions would convert numbers inside every BF16 kernel, which takes five times as long as
FP32. On such a processor operands are rounded to BF16 and multiplied by FP32 kernels instead. The products are the
same, because a product of two BF16 numbers is exact in FP32. Both ways add in FP32, but in different orders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gan.precision.formats import native_bf16, vector_length

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Arithmetic"]

_OPERATIONS = {
    4: ("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"),
    5: ("Conv3D", "Conv3DBackpropInputV2", "Conv3DBackpropFilterV2"),
}
"""TensorFlow's operations by the number of axes of a kernel: the convolution and its gradients."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Arithmetic of convolutions without padding, in two or three dimensions.

    Cells are (batch, x, y, depth, in), kernels float32 (x, y, depth, in, out), results (batch, x, y, depth, out). In
    two dimensions, there is no `depth`.
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
            return cls(multiplier=(1, vector_length()))
        instructions = native_bf16()
        if instructions is None:
            return cls(format=policy.compute_dtype, multiplier=(1, vector_length()))
        # An AMX tile multiplies 32 by 16. AVX-512 BF16 multiplies pairs, which any kernel of more than one cell has.
        return cls(
            format=policy.compute_dtype,
            products=policy.compute_dtype,
            multiplier=(32, 16) if instructions == "amx_bf16" else (1, 16),
        )

    def forward(self, cells: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Return the convolution of cells with a kernel, in `format`."""
        import tensorflow as tf

        convolve, _, _ = _operations(kernel.shape)
        product = convolve(
            input=self._operand(cells), filter=self._operand(kernel), strides=_strides(kernel.shape), padding="VALID"
        )
        return tf.cast(product, self.format)

    def input_gradient(self, shape: Sequence[int], kernel: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
        """Return the gradient of cells of this shape, in `format`."""
        import tensorflow as tf

        _, input_gradient, _ = _operations(kernel.shape)
        gradient = input_gradient(
            input_sizes=shape,
            filter=self._operand(kernel),
            out_backprop=self._operand(upstream),
            strides=_strides(kernel.shape),
            padding="VALID",
        )
        return tf.cast(gradient, self.format)

    def kernel_gradient(self, cells: tf.Tensor, shape: Sequence[int], upstream: tf.Tensor) -> tf.Tensor:
        """Return the gradient of a kernel of this shape: rounded to `format`, held in float32."""
        import tensorflow as tf

        _, _, kernel_gradient = _operations(shape)
        gradient = kernel_gradient(
            input=self._operand(cells),
            filter_sizes=shape,
            out_backprop=self._operand(upstream),
            strides=_strides(shape),
            padding="VALID",
        )
        return tf.cast(tf.cast(gradient, self.format), tf.float32)

    def transposed(self, images: tf.Tensor, kernel: tf.Tensor, stride: int) -> tf.Tensor:
        """Return the transposed convolution of images, (batch, stride * x, stride * y, out), in `format`.

        Args:
            images: (batch, x, y, in).
            kernel: float32 (x, y, out, in), in the order of Keras' `Conv2DTranspose`.
            stride: number of results for each image cell and axis.
        """
        import tensorflow as tf

        batch, x, y, _ = images.shape
        product = tf.nn.conv2d_transpose(
            self._operand(images),
            self._operand(kernel),
            output_shape=[tf.shape(images)[0] if batch is None else batch, stride * x, stride * y, kernel.shape[2]],
            strides=stride,
        )
        return tf.cast(product, self.format)

    def _operand(self, values: tf.Tensor) -> tf.Tensor:
        """Round values to `format` and hold them in the format of the products."""
        import tensorflow as tf

        return tf.cast(tf.cast(values, self.format), self.products)


def _operations(kernel: Sequence[int]) -> Iterator[Callable[..., tf.Tensor]]:
    """Return TensorFlow's convolution and its gradients for a kernel of this shape."""
    import tensorflow as tf

    return (getattr(tf.raw_ops, name) for name in _OPERATIONS[len(kernel)])


def _strides(kernel: Sequence[int]) -> list[int]:
    return [1] * len(kernel)
